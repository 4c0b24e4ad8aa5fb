//! The one error type of this crate.

use shirube_core::DocId;

/// Why embeddings were not indexed or a query not searched.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// A buffer is not a whole number of embeddings.
    #[error("{what}: {found} values are not rows of {dim}; give [n, {dim}] row-major")]
    Shape {
        /// Which buffer.
        what: &'static str,
        /// Width of an embedding.
        dim: usize,
        /// Values found.
        found: usize,
    },
    /// A value is NaN or infinite.
    #[error("{what}: value {at} is not finite; the encoder's output is damaged")]
    NotFinite {
        /// Which buffer.
        what: &'static str,
        /// Position.
        at: usize,
    },
    /// A document has too many tokens.
    #[error("document {} has {found} tokens, more than {most}; split it into sections", .document.0)]
    TooLong {
        /// Document.
        document: DocId,
        /// Tokens found.
        found: usize,
        /// Largest number.
        most: usize,
    },
    /// An index without any token.
    #[error("no document has any token; give at least one section with text")]
    Empty,
    /// A setting outside its range.
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
    /// A document id outside the index.
    #[error("document {} does not exist; the index holds {n_documents}", .document.0)]
    UnknownDocument {
        /// Id given.
        document: DocId,
        /// Documents in the index.
        n_documents: usize,
    },
    /// A file that embeddings wait in could not be made, written or read.
    #[error("{path}: {what}; give another folder or more room")]
    Io {
        /// File.
        path: String,
        /// What the system said.
        what: String,
    },
    /// Parts that do not fit together.
    #[error("index parts: {what}; build the bundle again")]
    Parts {
        /// Which rule was broken, with expected and found.
        what: String,
    },
}

/// Checks that `values` are finite rows of `dim`; the number of rows.
pub(crate) fn rows(what: &'static str, values: &[f32], dim: usize) -> Result<usize, IndexError> {
    if dim == 0 || !values.len().is_multiple_of(dim) {
        return Err(IndexError::Shape { what, dim, found: values.len() });
    }
    match values.iter().position(|v| !v.is_finite()) {
        Some(at) => Err(IndexError::NotFinite { what, at }),
        None => Ok(values.len() / dim),
    }
}
