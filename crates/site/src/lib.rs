//! A site's pages to a bundle: reading sources, encoding, writing.
//!
//! ```text
//! files ─▶ FileRules ─▶ Reader (HTML, Markdown) ─▶ Site ─▶ sections ─▶ passages ─▶ build ─▶ bundle
//!                       read_jsonl ──────────────────────▶ sections
//! ```
//!
//! [`Reader`] takes one file's bytes and needs no file system, so that the same code reads pages in the browser's package. [`Site::gather`] decides what
//! only shows across pages. [`build`] encodes the sections that an earlier bundle does not know, compresses the index and replaces the bundle folder in one step;
//! [`build_over`], [`shard`] and [`merge`] build a large set in parts.

#![forbid(unsafe_code)]

mod build;
mod collect;
mod error;
mod front_matter;
mod html;
mod jsonl;
mod markdown;
mod merge;
mod outline;
mod page;
mod passages;
mod reader;
mod reuse;
mod settings;
mod site;
mod summary;

pub use build::{
    Assembly, BuildOptions, BuildReport, Progress, build, build_fresh, build_over, make_bundle, read_bundle,
    shard,
};
pub use collect::{FileOptions, FileRules, SourceKind, list, read_site};
pub use error::SiteError;
pub use jsonl::read_jsonl;
pub use merge::{merge, remove};
pub use page::{DropReason, Page, PageSection, UrlRules, decode_path};
pub use passages::passages;
pub use reader::{ReadOptions, Reader};
pub use reuse::NotReused;
pub use settings::{SETTINGS_NAME, Settings};
pub use site::{LANGUAGE_FILTER, Site};
pub use summary::{BundleSummary, Download, SourceSummary, size, thousands};
