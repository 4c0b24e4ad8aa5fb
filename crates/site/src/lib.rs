//! Sections to bundle: reading sources, encoding, writing.
//!
//! Sources so far: JSON Lines ([`read_jsonl`]). [`build`] encodes every section, compresses the index and replaces the bundle folder in one step.

#![forbid(unsafe_code)]

mod build;
mod error;
mod jsonl;

pub use build::{BuildOptions, BuildReport, Progress, build, make_bundle};
pub use error::SiteError;
pub use jsonl::read_jsonl;
