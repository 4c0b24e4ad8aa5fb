//! Browser face: two classes over [`shirube_retriever`], plain objects out, errors as `{code, message, cure}`.
//!
//! JavaScript fetches the files, because it has `fetch`, progress and Cache Storage; this side says which files it needs and refuses
//! those that are not what their manifest promises. Nothing here computes: the crates below do.
//!
//! A page's first words are found without it: `pkg/src/words` searches by words in JavaScript, and gives the same answers.
//!
//! Strings arrive through `TextEncoder`, which turns lone surrogates into U+FFFD, so no JavaScript string can be refused.

#![forbid(unsafe_code)]

mod engine;
mod error;
mod meaning;
mod reranker;

#[cfg(feature = "bench")]
pub mod bench;
#[cfg(feature = "conformance")]
mod conformance;

#[cfg(feature = "conformance")]
pub use conformance::{conformance, normalized};
pub use engine::Engine;
pub use reranker::Reranker;
