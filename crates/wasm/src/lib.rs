//! Browser face: one class over [`shirube_retriever`], plain objects out, errors as `{code, message, cure}`.
//!
//! JavaScript fetches the files, because it has `fetch`, progress and Cache Storage; this side says which files it needs and refuses
//! those that are not what their manifest promises. Nothing here computes: the crates below do.
//!
//! Without the feature `meaning` it is a module of about half the size that searches by words alone: what a page needs first, and all that it needs
//! where the model is never loaded.
//!
//! Strings arrive through `TextEncoder`, which turns lone surrogates into U+FFFD, so no JavaScript string can be refused.

#![forbid(unsafe_code)]

mod engine;
mod error;
#[cfg(feature = "meaning")]
mod meaning;

#[cfg(feature = "bench")]
pub mod bench;
#[cfg(feature = "conformance")]
mod conformance;

#[cfg(feature = "conformance")]
pub use conformance::conformance;
pub use engine::Engine;
