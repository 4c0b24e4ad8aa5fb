//! The bundle folder: what a site serves so that its pages can be searched.
//!
//! | File | Content | Type |
//! |---|---|---|
//! | `shirube.json` | entry: versions, model, counts, codec, table of all other files | [`BundleEntry`] |
//! | `centroids.{hash}.bin` | codec tables and centroids | [`CodecTables`] |
//! | `codes/{hash}.bin` | document-major token codes and packed residuals, several shards | [`CodesShard`] |
//! | `sections/{hash}.bin` | what is shown for a hit, and the token maps, several shards | [`SectionsShard`] |
//!
//! Only the entry has a fixed name; every other name holds the start of the file's SHA-256, so it may be cached forever and a new build never
//! overwrites a file that a visitor of the old one still needs. All integers and floats are little-endian. A reader checks, in this order,
//! length and digest against the entry ([`FileEntry::check`](crate::model::FileEntry::check)), magic and version, the lengths that the header
//! implies against the file's own, and only then allocates. Equal inputs give equal bytes.
//!
//! Shards of [`SHARD_BYTES`] rather than one file: a later lazy mode fetches only the shards of candidates, and a browser shows progress.
//! Sections are compressed inside their files, because not every static host compresses on the wire; codes do not compress.

mod base64;
mod bytes;
mod codes;
mod entry;
mod sections;
mod tables;
mod whole;

pub mod folder;

pub use codes::{CodesShard, code_bits};
pub use entry::{BundleCounts, BundleEntry, BundleFile, CodecInfo, CodecKind, ModelRef, PartKind};
pub use sections::{DocumentText, Section, SectionPart, SectionsShard};
pub use tables::{CentroidForm, CodecTables};
pub use whole::Bundle;

/// The newest bundle format this build reads and the one it writes.
pub const BUNDLE_FORMAT: u32 = 2;

/// Name of the entry inside the bundle folder.
pub const ENTRY_NAME: &str = "shirube.json";

/// A shard is closed at the first document that takes it to this length: large enough that headers and requests cost little, small enough to
/// fetch a few for one query.
pub const SHARD_BYTES: usize = 128 * 1024;

/// Digits of its SHA-256 in a file's name.
pub const NAME_DIGITS: usize = 16;

/// Longest file a reader accepts.
pub const MAX_FILE_BYTES: u64 = 64 << 20;

/// Largest number of documents in one bundle.
pub const MAX_DOCUMENTS: u32 = 1 << 24;

/// Largest width of a token embedding.
pub const MAX_DIM: usize = 512;

/// Most levels of a residual value: four bits.
pub const N_BUCKETS: usize = 16;
