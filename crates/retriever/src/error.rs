//! The one error type of this crate.

use shirube_encoder::EncoderError;
use shirube_format::FormatError;
use shirube_index::IndexError;

/// Why a model or bundle was not opened, or a query not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RetrieverError {
    /// A query of nothing but spaces and characters that normalisation drops.
    #[error("the query is empty; type at least one letter, digit or symbol")]
    EmptyQuery,
    /// A search setting outside its range.
    #[error("{name} is {found}, expected {low} to {high}")]
    Setting {
        /// Which setting.
        name: &'static str,
        /// Value given.
        found: usize,
        /// Lowest allowed.
        low: usize,
        /// Highest allowed.
        high: usize,
    },
    /// What another device computed for a query is not of its shape.
    #[error(
        "{found} {what} were computed elsewhere, expected {expected}; compute them from `query_input` of the same query"
    )]
    Computed {
        /// Embeddings or scores.
        what: &'static str,
        /// Numbers given.
        found: usize,
        /// Numbers of this query and index.
        expected: usize,
    },
    /// A lexical weight outside its range.
    #[error("lexical_weight is {found}, expected 0 (meaning alone) to 10")]
    LexicalWeight {
        /// Value given.
        found: f32,
    },
    /// A filter that no section has.
    #[error("no section has the filter {name:?}; this bundle knows {}", list(known))]
    UnknownFilter {
        /// Name given.
        name: String,
        /// Names that the bundle has.
        known: Vec<String>,
    },
    /// An order by a value that no section has.
    #[error("no section has the sort value {name:?}; this bundle knows {}", list(known))]
    UnknownSort {
        /// Name given.
        name: String,
        /// Names that the bundle has.
        known: Vec<String>,
    },
    /// A search by meaning before a model was attached.
    #[error("no model is attached, only words can be searched; attach a model first")]
    NoModel,
    /// The lexical index was refused.
    #[error(transparent)]
    Lexical(#[from] shirube_lexical::LexicalError),
    /// A file that neither manifest nor entry names.
    #[error("{path}: no manifest names this file; provide the files that `required` lists")]
    UnknownFile {
        /// Path given.
        path: String,
    },
    /// A file of the model or the bundle was refused.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The encoder was refused or failed.
    #[error(transparent)]
    Encoder(EncoderError),
    /// The index was refused.
    #[error(transparent)]
    Index(#[from] IndexError),
}

fn list(known: &[String]) -> String {
    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
}

impl From<EncoderError> for RetrieverError {
    /// A refused file is one kind of error, whether this crate or the encoder refused it.
    fn from(error: EncoderError) -> Self {
        match error {
            EncoderError::Format(error) => Self::Format(error),
            error => Self::Encoder(error),
        }
    }
}
