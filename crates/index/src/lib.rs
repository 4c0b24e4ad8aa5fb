//! Token embeddings to and from the compressed index.
//!
//! The problem: a token embedding of 64 floats takes 256 bytes, and a site of a thousand sections has hundreds of thousands of them. The way taken:
//! pool similar tokens of a document ([`pool`]), name each by its nearest centroid, keep what is left in a few bits a value ([`ResidualCodec`]), and
//! score without rebuilding vectors ([`Index`]), small sites exhaustively, large ones in stages ([`SearchOptions`]).
//!
//! ```
//! use shirube_index::{Index, IndexBuilder, IndexOptions};
//! use shirube_kernels::Kernels;
//!
//! let mut builder = IndexBuilder::new(2, IndexOptions { pool_factor: 1, ..IndexOptions::default() })?;
//! builder.push(&[1.0, 0.0, 0.6, 0.8])?; // document 0: two tokens
//! builder.push(&[0.0, 1.0])?; // document 1: one
//! let built = builder.finish(|_| {})?;
//!
//! let index = Index::from_built(&built, Kernels::detect())?;
//! let query = index.prepare(&[0.0, 1.0])?;
//! let hits = index.search(&query, 1)?;
//! assert_eq!(hits[0].document.0, 1);
//! # Ok::<(), shirube_index::IndexError>(())
//! ```

#![forbid(unsafe_code)]

mod builder;
mod codec;
mod error;
mod index;
mod kmeans;
mod lazy;
mod order;
mod parallel;
mod pooling;
mod runs;
mod scorer;
mod search;
mod store;

pub use builder::{BuildStage, BuiltIndex, IndexBuilder, IndexOptions};
pub use codec::{BucketRule, CodecKind, CodecOptions, Packed, Packer, ResidualCodec};
pub use error::IndexError;
pub use index::{Index, ScoredDocument};
pub use kmeans::n_centroids_for;
pub use lazy::{LazyIndex, LazyOptions, Step};
pub use pooling::{MAX_POOL_FACTOR, Pooled, pool};
pub use scorer::{PreparedQuery, Scorer, WINDOW, windows};
pub use search::{
    Approximate, DocumentSet, EXACT_TOKENS, SCAN_TOKENS, SearchMode, SearchOptions, SearchOutcome,
};
