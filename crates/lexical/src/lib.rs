//! Bigram and word BM25.

#![forbid(unsafe_code)]

mod analyzer;
mod bm25;
mod error;

pub use analyzer::{Analyzer, Term};
pub use bm25::Bm25Index;
pub use error::LexicalError;
