//! A site's pages to a bundle: reading sources, encoding, writing.
//!
//! ```text
//! files ─▶ FileRules ─▶ Reader (HTML, Markdown) ─▶ Site ─▶ sections ─▶ passages ─▶ build ─▶ bundle
//!                       read_jsonl ──────────────────────▶ sections
//! ```
//!
//! [`Reader`] takes one file's bytes and needs no file system, so that the same code reads pages in the browser's package. [`Site::gather`] decides what
//! only shows across pages. [`build`] encodes the sections that an earlier bundle does not know, compresses the index and replaces the bundle folder in one step;
//! [`build_over`], [`shard`] and [`merge`] build a large set in parts, [`Building`] leaves
//! the encoding to others.

#![forbid(unsafe_code)]

#[cfg(feature = "arguments")]
pub mod arguments;
mod build;
mod collect;
mod error;
mod front_matter;
mod html;
mod inspection;
mod jsonl;
mod markdown;
mod merge;
mod offline;
mod outline;
mod package;
mod page;
mod passages;
mod plan;
mod reader;
mod reuse;
mod samples;
mod settings;
mod site;
mod steps;
mod summary;

pub use build::{
    Assembly, BuildOptions, BuildReport, Earlier, Progress, Spill, build, build_fresh, build_on, build_over,
    make_bundle, read_bundle, shard,
};
pub use collect::{FileOptions, FileRules, SourceKind, list, read_site};
pub use error::SiteError;
pub use inspection::Inspection;
pub use jsonl::{read_jsonl, read_jsonl_bytes};
pub use merge::{merge, remove};
pub use offline::{PRECACHE_NAME, SINGLE_FILE_NAME, is_inlined, is_precached, precache, single_file};
pub use package::{gzip_bytes, is_chunk, is_meaning_code, is_package_file, is_page_code};
pub use page::{DropReason, Page, PageSection, UrlRules, decode_path};
pub use passages::{KnownPassages, passages, passages_by, passages_with};
pub use plan::{Plan, SourceLook};
pub use reader::{ReadOptions, Reader};
pub use reuse::NotReused;
pub use samples::Samples;
pub use settings::{SETTINGS_NAME, Settings};
pub use site::{LANGUAGE_FILTER, Site};
pub use steps::{Building, Built};
pub use summary::{BundleSummary, Download, PackageBytes, SourceSummary, size, thousands};
