//! Records of any table a data set may come as: JSON lines, TSV (both plain, `.gz` or `.zst`) and parquet.
//!
//! A record is a JSON value: an object by column for parquet, an array of strings for TSV. Files are read one record at a time.

use super::{DataError, lines};
use parquet::file::reader::SerializedFileReader;
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use serde_json::{Map, Number, Value};
use std::path::{Path, PathBuf};

/// Where a record stands in its file, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// Line of a text file.
    Line(usize),
    /// Row of a parquet file.
    Row(usize),
}

impl At {
    /// The error that the record here is not what was expected.
    pub(crate) fn error(self, path: &Path, what: impl Into<String>) -> DataError {
        let (path, what) = (path.to_owned(), what.into());
        match self {
            Self::Line(line) => DataError::Row { path, line, what },
            Self::Row(row) => DataError::Record { path, row, what },
        }
    }
}

type Records = Box<dyn Iterator<Item = Result<(At, Value), DataError>>>;

/// What a file holds, by its name without compression suffix.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Tsv,
    Parquet,
}

fn kind(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix(".gz").or(name.strip_suffix(".zst")).unwrap_or(name);
    match Path::new(name).extension()?.to_str()? {
        "jsonl" | "json" | "ndjson" => Some(Kind::Json),
        "tsv" => Some(Kind::Tsv),
        "parquet" => Some(Kind::Parquet),
        _ => None,
    }
}

/// The records of one file. Items that are errors of one row ([`DataError::is_row`]) can be passed over; any other error ends the file.
pub(crate) fn records(path: &Path) -> Result<Records, DataError> {
    let Some(kind) = kind(path) else {
        return Err(DataError::Format {
            path: path.to_owned(),
            what: "expected a name that ends in .jsonl, .tsv (either may be .gz or .zst) or .parquet"
                .to_owned(),
        });
    };
    let owned = path.to_owned();
    Ok(match kind {
        Kind::Json => Box::new(lines(path)?.filter_map(move |line| match line {
            Ok((_, text)) if text.trim().is_empty() => None,
            Ok((line, text)) => {
                let at = At::Line(line);
                Some(
                    serde_json::from_str(&text).map(|v| (at, v)).map_err(|e| at.error(&owned, e.to_string())),
                )
            }
            Err(e) => Some(Err(e)),
        })),
        Kind::Tsv => Box::new(lines(path)?.filter_map(|line| match line {
            Ok((_, text)) if text.trim().is_empty() => None,
            Ok((line, text)) => {
                let fields = text.split('\t').map(|f| Value::String(f.to_owned())).collect();
                Some(Ok((At::Line(line), Value::Array(fields))))
            }
            Err(e) => Some(Err(e)),
        })),
        Kind::Parquet => Box::new(Parquet::open(path)?),
    })
}

/// The files that hold the table `stem` of a data set's folder: one file, numbered parts (`stem-00000-of-00002.parquet`), or a folder of files.
pub(crate) fn table(folder: &Path, stems: &[&str]) -> Result<Vec<PathBuf>, DataError> {
    let io = |source| DataError::Io { path: folder.to_owned(), source };
    for stem in stems {
        let inner = folder.join(stem);
        if inner.is_dir() {
            let found = files(&inner)?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let mine =
                name.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.') || rest.starts_with("-0"));
            if mine && path.is_file() && kind(&path).is_some() {
                found.push(path);
            }
        }
        found.sort();
        // One table in several formats is one table: the first by name.
        if found
            .iter()
            .any(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n[stem.len()..].starts_with('.')))
        {
            found.truncate(1);
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(DataError::NoTable {
        folder: folder.to_owned(),
        stem: stems.first().copied().unwrap_or_default().to_owned(),
    })
}

/// A file itself, or the readable files of a folder in order of their names.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let io = |source| DataError::Io { path: path.to_owned(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(io)? {
        let file = entry.map_err(io)?.path();
        if file.is_file() && kind(&file).is_some() {
            found.push(file);
        }
    }
    found.sort();
    Ok(found)
}

/// Every file that lists in `path`, a file or a folder of tables, may be read from.
///
/// # Errors
/// A folder that cannot be read.
pub fn list_files(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut found = files(path)?;
    if path.is_dir() {
        let io = |source| DataError::Io { path: path.to_owned(), source };
        for entry in std::fs::read_dir(path).map_err(io)? {
            let folder = entry.map_err(io)?.path();
            if folder.is_dir() {
                found.extend(files(&folder)?);
            }
        }
        found.sort();
    }
    Ok(found)
}

/// Rows of a parquet file. The reader's own panics on damaged files become errors.
struct Parquet {
    path: PathBuf,
    rows: Option<RowIter<'static>>,
    row: usize,
}

impl Parquet {
    fn open(path: &Path) -> Result<Self, DataError> {
        let file =
            std::fs::File::open(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
        let rows = guarded(|| {
            SerializedFileReader::new(file).map(|reader| RowIter::from_file_into(Box::new(reader)))
        })
        .map_err(|what| DataError::Format { path: path.to_owned(), what })?;
        Ok(Self { path: path.to_owned(), rows: Some(rows), row: 0 })
    }
}

impl Iterator for Parquet {
    type Item = Result<(At, Value), DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = self.rows.as_mut()?;
        self.row += 1;
        match guarded(|| rows.next().transpose()) {
            Ok(Some(row)) => Some(Ok((At::Row(self.row), object(row)))),
            Ok(None) => {
                self.rows = None;
                None
            }
            Err(what) => {
                self.rows = None;
                let what = format!("row {}: {what}", self.row);
                Some(Err(DataError::Format { path: self.path.clone(), what }))
            }
        }
    }
}

fn guarded<T>(read: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T, String> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err("the file is damaged".to_owned()),
    }
}

fn object(row: Row) -> Value {
    Value::Object(
        row.into_columns().into_iter().map(|(name, field)| (name, value(field))).collect::<Map<_, _>>(),
    )
}

/// Numbers that are not finite become null, which no column of ours takes.
fn value(field: Field) -> Value {
    let float = |v: f64| Number::from_f64(v).map_or(Value::Null, Value::Number);
    match field {
        Field::Bool(v) => v.into(),
        Field::Byte(v) => v.into(),
        Field::Short(v) => v.into(),
        Field::Int(v) => v.into(),
        Field::Long(v) => v.into(),
        Field::UByte(v) => v.into(),
        Field::UShort(v) => v.into(),
        Field::UInt(v) => v.into(),
        Field::ULong(v) => v.into(),
        Field::Float16(v) => float(v.to_f64()),
        Field::Float(v) => float(f64::from(v)),
        Field::Double(v) => float(v),
        Field::Str(v) => v.into(),
        Field::Bytes(v) => String::from_utf8_lossy(v.data()).into_owned().into(),
        Field::Group(row) => object(row),
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect(),
        // Dates, decimals and maps hold nothing that is read here.
        _ => Value::Null,
    }
}
