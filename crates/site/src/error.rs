//! The one error type of this crate.

use shirube_encoder::EncoderError;
use shirube_format::FormatError;
use shirube_index::IndexError;

/// Why no bundle was built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SiteError {
    /// The operating system refused.
    #[error("{path}: {source}")]
    Read {
        /// File.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line that is not a section.
    #[error(
        "{path}:{line}: {source}; each line is one JSON object with at least \"id\" and \"text\" or \"title\""
    )]
    Line {
        /// File.
        path: String,
        /// Line, from 1.
        line: usize,
        /// What serde found.
        source: serde_json::Error,
    },
    /// A setting that is not understood.
    #[error("{path}: {what}")]
    Settings {
        /// File or variable.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// A CSS selector that does not parse.
    #[error("{text:?} is no CSS selector: {what}")]
    Selector {
        /// Selector given.
        text: String,
        /// What is wrong.
        what: String,
    },
    /// No source was named.
    #[error("nothing to build from: name a folder of built HTML, or set `source` in {file}")]
    NoSource {
        /// The settings file.
        file: &'static str,
    },
    /// Sections in a file have no folder that a bundle could go into.
    #[error("--out DIR is needed: {from} is no folder to put a bundle in")]
    NoOut {
        /// The source.
        from: String,
    },
    /// Nothing to index.
    #[error(
        "{path}: nothing to search was found; give a folder of built HTML or of Markdown, or a JSON Lines file of sections"
    )]
    NoSections {
        /// File, or what was given instead.
        path: String,
    },
    /// The encoder failed on a section.
    #[error("section {id}: {source}")]
    Encode {
        /// Id of the section.
        id: String,
        /// What the encoder said.
        source: EncoderError,
    },
    /// The index was refused.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Bundles over different centroids were to be merged without a model.
    #[error(
        "the bundles have different centroids, so all but the first must be encoded again; give the model, or build the parts over one bundle's centroids"
    )]
    ModelNeeded,
    /// The words were refused.
    #[error(transparent)]
    Lexical(#[from] shirube_lexical::LexicalError),
    /// The bundle was not written.
    #[error(transparent)]
    Format(#[from] FormatError),
}
