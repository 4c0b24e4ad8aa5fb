//! The kernel conformance suite, callable from a test page.
