//! The bundle folder: what a site serves so that its pages can be searched.
//!
//! | File | Content | Type |
//! |---|---|---|
//! | `shirube.json` | entry: versions, model, counts, codec, table of the files below that are not shards of a directory | [`BundleEntry`] |
//! | `lexical.{hash}.bin`, `lexical/{hash}.bin` | documents by words: directory and shards | [`LexicalDirectory`] |
//! | `sections.{hash}.bin`, `sections/{hash}.bin` | what is shown for a hit, and the token maps: directory and shards | [`SectionsDirectory`] |
//! | `centroids.{hash}.bin` | codec tables and centroids | [`CodecTables`] |
//! | `codes/{hash}.bin` | document-major token codes and packed residuals, several shards | [`CodesShard`] |
//!
//! Only the entry has a fixed name; every other name holds the start of the file's SHA-256, so it may be cached forever and a new build never
//! overwrites a file that a visitor of the old one still needs. All integers and floats are little-endian. A reader checks, in this order,
//! length and digest against the entry ([`FileEntry::check`](crate::model::FileEntry::check)), magic and version, the lengths that the header
//! implies against the file's own, and only then allocates. Equal inputs give equal bytes.
//!
//! A visitor's first words are answered from the entry, two directories, the shards of the query's terms and those of the hits on view; codes
//! and model follow. Codes do not compress; everything else is compressed inside its file, because not every static host does it on the wire.

mod base64;
mod blocks;
mod bytes;
mod codes;
mod compressed;
mod entry;
mod facets;
mod lexical;
mod sections;
mod tables;
mod whole;

pub mod folder;

pub use blocks::{BlockTable, MAX_SHARDS, Need};
pub use codes::{CodesShard, code_bits};
pub use entry::{BundleCounts, BundleEntry, BundleFile, CodecInfo, CodecKind, ModelRef, PartKind};
pub use facets::FacetTable;
pub use lexical::{
    ANALYZER, LexicalBlock, LexicalDirectory, LexicalPart, MAX_TERM_BYTES, Postings, TermPostings,
    push_posting,
};
pub use sections::{DocumentText, Section, SectionPart, SectionsDirectory, StoredSection, parse_sections};
pub use tables::{CentroidForm, CodecTables};
pub use whole::{Bundle, shard_paths};

/// The newest bundle format this build reads and the one it writes.
pub const BUNDLE_FORMAT: u32 = 2;

/// The oldest bundle format this build reads: format 1 has no words and is built again in a minute.
pub const OLDEST_BUNDLE_FORMAT: u32 = 2;

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
