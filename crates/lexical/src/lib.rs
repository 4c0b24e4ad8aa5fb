//! Bigram and word BM25.
//!
//! [`Analyzer`] turns text into terms, character bigrams or tokenizer pieces; [`Bm25Index`] holds documents by terms in
//! memory: the trainer mines negatives with it and evaluation prints it beside every model. [`LexicalBuilder`] and [`ShardedIndex`] are the
//! same index in the small files of a bundle: a query reads a few kilobytes, and scores are equal to the last bit. On JSQuAD bigrams at k1 0.9, b 0.4
//! reach R@1 .911, on JaQuAD dev .860; pieces of the default tokenizer .894 and .857.

#![forbid(unsafe_code)]

/// BM25's saturation: the best of eight pairs with [`BM25_B`] on JaQuAD dev, within a point of the best on its training part.
pub const BM25_K1: f32 = 0.9;
/// BM25's damping by length, beside [`BM25_K1`].
pub const BM25_B: f32 = 0.6;

mod analyzer;
mod bm25;
mod builder;
mod error;
mod query;
mod romaji;
mod shards;
mod variants;

pub use analyzer::{Analyzer, Pieces, Term};
pub use bm25::Bm25Index;
pub use builder::LexicalBuilder;
pub use error::LexicalError;
pub use query::{Held, Phrases};
pub use shards::{ShardedIndex, WordScores};
