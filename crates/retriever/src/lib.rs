//! Query to hits: the one crate that the browser face and the command line both search with.
//!
//! [`ModelLoader`] and [`BundleLoader`] take files as they arrive and refuse damaged ones; [`Retriever`] answers by words from a few kilobytes and,
//! with a model, encodes the query, scores every document by MaxSim and says for each hit which words matched where. Nothing here reads a file or a clock: the browser has neither.

#![forbid(unsafe_code)]

mod downloads;
mod error;
mod facets;
mod fusion;
mod loader;
mod marks;
mod matches;
pub mod report;
mod reranker;
mod results;
mod retriever;
mod store;
mod vectors;

pub use downloads::query_bytes;
pub use error::RetrieverError;
pub use facets::{FilterCount, Filters, SortBy};
pub use fusion::{LEXICAL_WEIGHT, N_WINDOWED, WINDOW_WEIGHT, add_windows, fuse, top_k};
pub use loader::{BundleLoader, ModelLoader};
pub use reranker::Reranker;
pub use results::{
    Answer, Highlight, Highlights, Hit, Match, PartName, Place, QueryToken, SearchOptions, SearchResults,
    Stage, Timings,
};
pub use retriever::{BackendChoice, Clock, Computed, Retriever, Status};
pub use vectors::Vectors;
// Callers need these beside a retriever.
pub use shirube_encoder::{Model, PreparedText};
pub use shirube_format::{
    FormatError,
    bundle::{Need, RESIDENT_BYTES, Section},
};
pub use shirube_index::{Index, LazyIndex, LazyOptions, SearchMode, SearchOptions as IndexSearchOptions};
pub use shirube_kernels::Kernels;
pub use shirube_lexical::{BM25_B, BM25_K1};
