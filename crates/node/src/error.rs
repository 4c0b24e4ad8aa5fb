//! Errors on their way to JavaScript, where they become an `Error` with the message.

use shirube_format::FormatError;
use shirube_retriever::RetrieverError;
use shirube_site::SiteError;
use wasm_bindgen::JsError;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// Reading, building.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// The model, the predicted downloads.
    #[error(transparent)]
    Retriever(#[from] RetrieverError),
    /// The earlier bundle.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Something that should have been JSON of ours.
    #[error("{what} is not what this version writes: {source}; are all files of one version of the package?")]
    Json {
        /// What was parsed.
        what: &'static str,
        /// What serde found.
        source: serde_json::Error,
    },
    /// A bundle too small for `--lazy`.
    #[error("{0}: too small for --lazy, it has no lists; leave the option out")]
    NoLists(String),
    /// Steps out of order: a mistake in `pkg/node`.
    #[error("{0}")]
    Order(&'static str),
}

/// For [`Result::map_err`] at the boundary.
pub(crate) fn js(error: impl Into<NodeError>) -> JsError {
    JsError::new(&error.into().to_string())
}

pub(crate) fn parse<'a, T: serde::Deserialize<'a>>(
    what: &'static str,
    text: &'a str,
) -> Result<T, NodeError> {
    serde_json::from_str(text).map_err(|source| NodeError::Json { what, source })
}

pub(crate) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("these structures hold only what JSON can say")
}
