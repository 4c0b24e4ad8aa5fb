//! The one error type of this crate.

use crate::Sha256Hex;

/// Why a model or bundle file was refused. Each message says what, where, and how to mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The file's version is newer than this build reads.
    #[error(
        "{path}: format {found} is newer than {newest}, the newest this build reads; update shirube or rebuild the file"
    )]
    Newer {
        /// File.
        path: String,
        /// Version in the file.
        found: u32,
        /// Newest version this build reads.
        newest: u32,
    },
    /// The file's version is older than this build reads.
    #[error(
        "{path}: format {found} is older than {oldest}, the oldest this build reads; build it again with `shirube build`"
    )]
    Older {
        /// File.
        path: String,
        /// Version in the file.
        found: u32,
        /// Oldest version this build reads.
        oldest: u32,
    },
    /// A path that no table of the bundle names.
    #[error("{path}: no table of the bundle names this file; provide what was asked for")]
    Unknown {
        /// Path given.
        path: String,
    },
    /// A file named by a manifest was not provided.
    #[error("{path}: the file is missing; copy the whole folder again")]
    Missing {
        /// File.
        path: String,
    },
    /// A file is shorter or longer than its manifest says.
    #[error(
        "{path}: {found} bytes, but the manifest says {expected}; the copy is incomplete, fetch it again"
    )]
    Length {
        /// File.
        path: String,
        /// Bytes in the manifest.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// A file's content is not what its manifest says.
    #[error(
        "{path}: SHA-256 {found} differs from the manifest's {expected}; the file is damaged, fetch it again"
    )]
    Digest {
        /// File.
        path: String,
        /// Digest in the manifest.
        expected: Sha256Hex,
        /// Digest of the content.
        found: Sha256Hex,
    },
    /// A web page stands where a data file should be.
    #[error(
        "{path}: an HTML page stands in place of the file; the server answers missing files with a page, check the path"
    )]
    Html {
        /// File.
        path: String,
    },
    /// JSON that does not parse or lacks fields.
    #[error("{path}: {source}; the file is not a manifest of this version, build it again")]
    Json {
        /// File.
        path: String,
        /// What serde found.
        source: serde_json::Error,
    },
    /// A structure that breaks the format's rules.
    #[error(
        "{path}, byte {offset}: {what}; the file is damaged or was written by another tool, build it again"
    )]
    Invalid {
        /// File.
        path: String,
        /// Where, in bytes from the start.
        offset: u64,
        /// Which rule was broken, with expected and found.
        what: String,
    },
    /// A tensor is absent or has another shape or type.
    #[error("tensor {name}: expected {expected}, found {found}; the weights do not belong to this manifest")]
    Tensor {
        /// Tensor name.
        name: String,
        /// Expected type and shape.
        expected: String,
        /// Found type and shape.
        found: String,
    },
    /// Two parts that must belong together do not.
    #[error("{what}: expected {expected}, found {found}; {cure}")]
    Mismatch {
        /// Which property.
        what: String,
        /// Expected value.
        expected: String,
        /// Found value.
        found: String,
        /// How to mend.
        cure: String,
    },
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// File.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}
