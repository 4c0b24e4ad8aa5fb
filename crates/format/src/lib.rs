//! Model and bundle files: what stands on disk, how it is checked, how it is written.
//!
//! Readers take bytes that are already in memory, because the browser has no file system; only `model::folder` and
//! `bundle::folder` touch paths.

#![forbid(unsafe_code)]

pub mod bundle;
mod digest;
mod error;
pub mod model;

pub use digest::Sha256Hex;
pub use error::FormatError;

/// A file as a folder holds it: its `/`-separated path inside the folder and its content.
pub type NamedFile = (String, Vec<u8>);
