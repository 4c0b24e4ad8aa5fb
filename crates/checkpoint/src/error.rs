//! The one error type of this crate.

use shirube_encoder::EncoderError;
use shirube_format::FormatError;
use shirube_text::TextError;
use std::path::{Path, PathBuf};

/// Why a checkpoint was not read or not converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A file or folder could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that every checkpoint of this layout has is not there.
    #[error("{}: no {name}; {cure}", folder.display())]
    Missing {
        /// The checkpoint's folder.
        folder: PathBuf,
        /// The file, or several of which one is needed.
        name: String,
        /// What to do.
        cure: String,
    },
    /// A file is not what its name says.
    #[error("{}: {what}; fetch or save the checkpoint again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the place.
        what: String,
    },
    /// A JSON file that cannot be read as what it is.
    #[error("{}: {source}; fetch or save the checkpoint again", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Place and reason.
        source: serde_json::Error,
    },
    /// The checkpoint needs something that is not built.
    #[error("{}: {what} is not supported; supported: {supported}", path.display())]
    Unsupported {
        /// The file that says so.
        path: PathBuf,
        /// Field and value.
        what: String,
        /// What can be converted.
        supported: String,
    },
    /// A pickle that does more than describe tensors.
    #[error(
        "{}: byte {offset} of its pickle: {what}; only plain tensors are read, nothing is executed: save it as safetensors",
        path.display()
    )]
    Pickle {
        /// The file.
        path: PathBuf,
        /// Byte of the pickle program.
        offset: usize,
        /// Operation or class found.
        what: String,
    },
    /// Fields of several files contradict each other.
    #[error("{}: {what}: expected {expected}, found {found}; the folder holds files of two checkpoints", path.display())]
    Mismatch {
        /// Where it was noticed.
        path: PathBuf,
        /// What is compared.
        what: String,
        /// By the configuration.
        expected: String,
        /// In the file.
        found: String,
    },
    /// A model that a layout has no words for.
    #[error("the layout of {layout} cannot say this model, {what}: the model {ours}, the folder {theirs}")]
    Inexpressible {
        /// The layout.
        layout: &'static str,
        /// What would be lost.
        what: String,
        /// In the model.
        ours: String,
        /// In the folder.
        theirs: String,
    },
    /// The tokenizer cannot be converted.
    #[error("{}: {source}", path.display())]
    Tokenizer {
        /// The tokenizer's file.
        path: PathBuf,
        /// Why.
        source: TextError,
    },
    /// The converted model was refused by the encoder.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// The model folder could not be written or read back.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// For `map_err`: an [`CheckpointError::Io`] about `path`.
pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> CheckpointError + '_ {
    move |source| CheckpointError::Io { path: path.to_owned(), source }
}

/// A [`CheckpointError::Damaged`] about `path`.
pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> CheckpointError {
    CheckpointError::Damaged { path: path.to_owned(), what: what.into() }
}

/// A [`CheckpointError::Unsupported`] about `path`.
pub(crate) fn unsupported(path: &Path, what: impl Into<String>, supported: &str) -> CheckpointError {
    CheckpointError::Unsupported { path: path.to_owned(), what: what.into(), supported: supported.to_owned() }
}
