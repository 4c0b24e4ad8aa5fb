//! Reading training and evaluation data.
//!
//! Three layouts: *retrieval sets* in BEIR's spirit (`passages`, `queries`, `qrels`), *sections*, raw text cut at headings, and *lists* of a
//! query with scored documents. Files may be plain, `.gz` or `.zst`, lists also parquet. A bad row is reported with file and line; only
//! [`Import`] may pass over some, and counts them.

mod forms;
mod glossary;
mod groups;
mod import;
mod input;
mod lists;
mod retrieval_set;
mod rows;
mod sections;

pub use forms::Columns;
pub use glossary::Glossary;
pub use groups::{Document, Group, GroupSource, Sampler, SourceKind, TokenBatch, packed};
pub(crate) use groups::{below, dropped, unit};
pub use import::{Import, Imported};
pub use input::Sequence;
pub use lists::{List, Lists, ScoreKind};
pub use retrieval_set::{Passage, QueryText, RetrievalSet};
pub use rows::list_files;
pub use sections::{Section, pairs_file, read_pairs, read_sections, read_written};

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Why data could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file is absent or unreadable.
    #[error("{path}: {source}")]
    Io {
        /// File.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A row does not have the expected form.
    #[error("{path}, line {line}: {what}; mend or remove the row")]
    Row {
        /// File.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// A row of a parquet file does not have the expected form.
    #[error("{path}, row {row}: {what}; mend or remove the row")]
    Record {
        /// File.
        path: PathBuf,
        /// Row, from 1.
        row: usize,
        /// What is wrong.
        what: String,
    },
    /// A file is not of a kind that is read, or is damaged.
    #[error("{path}: {what}")]
    Format {
        /// File.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A folder lacks a table of a scored data set.
    #[error(
        "{folder}: no {stem}; expected {stem}.jsonl or {stem}.tsv (either may be .gz or .zst), {stem}.parquet, its parts {stem}-00000-of-..., or a folder {stem} with such files"
    )]
    NoTable {
        /// Folder searched.
        folder: PathBuf,
        /// Name of the table.
        stem: String,
    },
    /// More rows are wrong than an import may pass over.
    #[error(
        "{n_bad} of {n_rows} rows are wrong, more than the share of {max_bad} that may be passed over; the first: {first}; mend the data, or raise max_bad_rows"
    )]
    TooManyBad {
        /// Rows that are wrong.
        n_bad: usize,
        /// Rows in all.
        n_rows: usize,
        /// Largest share allowed.
        max_bad: f64,
        /// The first of them.
        first: Box<DataError>,
    },
    /// None of the names a file may have exists.
    #[error(
        "{folder}: no {stem}, {stem}.gz or {stem}.zst; a retrieval set needs passages.jsonl (or corpus.jsonl), queries.jsonl and qrels.tsv (or qrels/test.tsv)"
    )]
    Absent {
        /// Folder searched.
        folder: PathBuf,
        /// File name without compression suffix.
        stem: String,
    },
}

impl DataError {
    /// Whether one row is wrong and the file can be read on.
    pub fn is_row(&self) -> bool {
        matches!(self, Self::Row { .. } | Self::Record { .. })
    }
}

/// Lines of a plain, gzip or zstd file, with their numbers from 1.
pub(crate) fn lines(
    path: &Path,
) -> Result<impl Iterator<Item = Result<(usize, String), DataError>> + use<>, DataError> {
    let io = |source| DataError::Io { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(io)?;
    let reader: Box<dyn Read> = match path.extension().and_then(|e| e.to_str()) {
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Some("zst") => Box::new(zstd::Decoder::new(file).map_err(io)?),
        _ => Box::new(file),
    };
    let path = path.to_owned();
    Ok(BufReader::new(reader).lines().enumerate().map(move |(i, line)| {
        line.map(|l| (i + 1, l)).map_err(|source| DataError::Io { path: path.clone(), source })
    }))
}

/// The file `stem`, `stem.gz` or `stem.zst` in `folder`, whichever exists.
pub(crate) fn find(folder: &Path, stem: &str) -> Result<PathBuf, DataError> {
    ["", ".gz", ".zst"]
        .iter()
        .map(|suffix| folder.join(format!("{stem}{suffix}")))
        .find(|p| p.is_file())
        .ok_or_else(|| DataError::Absent { folder: folder.to_owned(), stem: stem.to_owned() })
}

/// Parses every line of a JSON-lines file.
pub(crate) fn json_lines<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>, DataError> {
    lines(path)?
        .filter(|l| !matches!(l, Ok((_, text)) if text.trim().is_empty()))
        .map(|l| {
            let (line, text) = l?;
            serde_json::from_str(&text).map_err(|e| DataError::Row {
                path: path.to_owned(),
                line,
                what: e.to_string(),
            })
        })
        .collect()
}
