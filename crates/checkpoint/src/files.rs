//! JSON files of a checkpoint.

use crate::error::{CheckpointError, damaged, io};
use serde::de::DeserializeOwned;
use std::path::Path;

/// Largest JSON file that is read; a tokenizer of 256,000 pieces has 35 MB.
const MAX_JSON: u64 = 128 << 20;

/// The text of a file.
pub(crate) fn text(path: &Path) -> Result<String, CheckpointError> {
    let bytes = std::fs::metadata(path).map_err(io(path))?.len();
    if bytes > MAX_JSON {
        return Err(damaged(path, format!("{bytes} bytes, expected at most {MAX_JSON}")));
    }
    std::fs::read_to_string(path).map_err(io(path))
}

/// A file as JSON.
pub(crate) fn json<T: DeserializeOwned>(path: &Path) -> Result<T, CheckpointError> {
    serde_json::from_str(&text(path)?)
        .map_err(|source| CheckpointError::Json { path: path.to_owned(), source })
}

/// A file as JSON, `None` where it is absent.
pub(crate) fn json_if_there<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, CheckpointError> {
    if path.is_file() { json(path).map(Some) } else { Ok(None) }
}
