//! Node face: what `npx shirube` computes. Files, folders and threads are left to JavaScript (`pkg/node`).
//!
//! ```text
//! main thread     command ─▶ settings ─▶ plan ─▶ pages ─▶ Build.page … ─▶ gather ─▶ earlier … ─▶ start ─▶ push … ─▶ finish ─▶ files, report
//! worker threads                                  PageReader.read                                     Encoder.encode
//! ```
//!
//! Each thread has an instance of its own: WebAssembly without shared memory runs everywhere. Structures cross as JSON, embeddings as one
//! `Float32Array` a batch. Everything here calls `shirube_site` and `shirube_retriever`, so that this build and the native one agree byte for byte.

#![forbid(unsafe_code)]

mod build;
mod command;
mod encoder;
mod error;
mod package;
mod reader;
mod search;

pub use build::{Build, OutFile};
pub use command::{command, plan, settings};
pub use encoder::{Encoded, Encoder, ModelFiles};
pub use error::NodeError;
pub use package::{gzip_bytes, is_chunk, is_meaning_code, is_package_file, is_page_code};
pub use reader::{PageReader, pages};
pub use search::{Searcher, inspect};
