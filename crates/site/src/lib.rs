//! Sections to bundle: reading sources, encoding, writing
