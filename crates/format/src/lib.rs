//! Model and bundle files: what stands on disk, how it is checked, how it is written.
//!
//! Readers take bytes that are already in memory, because the browser has no file system; only `model::folder` and
//! writers of native tools touch paths.

#![forbid(unsafe_code)]

mod digest;
mod error;
pub mod model;

pub use digest::Sha256Hex;
pub use error::FormatError;
