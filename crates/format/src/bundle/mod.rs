//! The bundle folder: what a site serves so that its pages can be searched.
//!
//! | File | Content | Type |
//! |---|---|---|
//! | `shirube.json` | entry: versions, model, counts, codec, table of the files below that are not shards of a directory | [`BundleEntry`] |
//! | `lexical.{hash}.bin`, `lexical/{hash}.bin` | documents by words: directory and shards | [`LexicalDirectory`] |
//! | `sections.{hash}.bin`, `sections/{hash}.bin` | what is shown for a hit, and the token maps: directory and shards | [`SectionsDirectory`] |
//! | `centroids.{hash}.bin` | codec tables and centroids | [`CodecTables`] |
//! | `codes.{hash}.bin`, `codes/{hash}.bin` | document-major token codes and packed residuals: directory and shards | [`CodesDirectory`] |
//! | `ivf.{hash}.bin`, `ivf/{hash}.bin` | for each centroid the documents with a token there: directory and shards; large bundles only | [`IvfDirectory`] |
//!
//! Only the entry has a fixed name; every other name holds the start of the file's SHA-256, so it may be cached forever and a new build never
//! overwrites a file that a visitor of the old one still needs. All integers and floats are little-endian. A reader checks, in this order,
//! length and digest against the entry ([`FileEntry::check`](crate::model::FileEntry::check)), magic and version, the lengths that the header
//! implies against the file's own, and only then allocates. Equal inputs give equal bytes.
//!
//! A visitor's first words are answered from the entry, two directories, the shards of the query's terms and those of the hits on view; model
//! and codes follow: all codes of a small site (*resident*), of a large one only those of a query's candidates, which the lists of `ivf` find (*lazy*).
//! Everything is compressed inside its file, because not every static host does it on the wire.

pub mod base64;
mod blocks;
mod bytes;
mod codes;
mod compressed;
mod documents;
mod entry;
mod facets;
mod ivf;
mod lexical;
mod part;
mod sections;
mod streams;
mod tables;
mod whole;

pub mod folder;

pub use blocks::{BlockTable, MAX_SHARDS, Need};
pub use codes::{CodesBlock, CodesDirectory, code_bits};
pub use documents::DocumentBlocks;
pub use entry::{BundleCounts, BundleEntry, BundleFile, CodecInfo, CodecKind, ModelRef, PartKind};
pub use facets::FacetTable;
pub use ivf::IvfDirectory;
pub use lexical::{
    ANALYZER, LexicalBlock, LexicalDirectory, LexicalPart, MAX_TERM_BYTES, Postings, TermPostings,
    push_posting,
};
pub use sections::{DocumentText, Section, SectionPart, SectionsDirectory, StoredSection, parse_sections};
pub use streams::Streams;
pub use tables::{CentroidForm, CodecTables};
pub use whole::{Bundle, shard_paths};

/// The newest bundle format this build reads and the one it writes.
pub const BUNDLE_FORMAT: u32 = 3;

/// The oldest bundle format this build reads: format 2 names shards of codes in the entry and knows no lists; it is built again in a minute.
pub const OLDEST_BUNDLE_FORMAT: u32 = 3;

/// Name of the entry inside the bundle folder.
pub const ENTRY_NAME: &str = "shirube.json";

/// Fewest bytes of a shard of codes or lists, but for the last; most have about twice, none much over four times as many: large enough that a whole
/// index is few files, small enough to fetch some for a query where the host does not know ranges.
pub const SHARD_BYTES: usize = 64 * 1024;

/// A bundle with more bytes of codes than this holds lists too, so that it can be searched without all of them. Below, one query would move more than
/// half of it.
pub const LISTS_FROM_BYTES: u64 = 1 << 20;

/// Most bytes of codes that a search by meaning loads whole unless the caller says otherwise: about what a small model takes, which the visitor loads
/// too. After that no search waits for a host, and every document is looked at.
pub const RESIDENT_BYTES: u64 = 8 << 20;

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
