//! Raw text cut at headings, and keyword queries made from it.

use super::{DataError, find, json_lines, lines};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// One section of a page.
#[derive(Clone, Debug, Deserialize)]
pub struct Section {
    /// Id over all files.
    pub id: String,
    /// Title of the page or article.
    #[serde(default)]
    pub title: String,
    /// Path of headings inside the page, outermost first; one joined string in `pretrain`, a list in `docs`.
    #[serde(default, alias = "heading", deserialize_with = "joined")]
    pub headings: String,
    /// Text.
    pub text: String,
}

fn joined<'de, D: serde::Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(d)? {
        OneOrMany::One(s) => s,
        OneOrMany::Many(list) => list.join(" > "),
    })
}

impl Section {
    /// Title and headings, as they stand above the text in a document.
    pub fn head_text(&self) -> String {
        match (self.title.is_empty(), self.headings.is_empty()) {
            (false, false) => format!("{}\n{}", self.title, self.headings),
            (false, true) => self.title.clone(),
            (true, _) => self.headings.clone(),
        }
    }
}

/// Reads sections of one file.
///
/// # Errors
/// [`DataError`] with file and line.
pub fn read_sections(path: &Path) -> Result<Vec<Section>, DataError> {
    json_lines(path)
}

/// The file of keyword queries of a data folder, `pairs/pairs.tsv`.
///
/// # Errors
/// When it is not there.
pub fn pairs_file(root: &Path) -> Result<PathBuf, DataError> {
    find(&root.join("pairs"), "pairs.tsv")
}

/// Reads keyword queries: `(kind, query, section id)`.
///
/// # Errors
/// [`DataError`] with file and line.
pub fn read_pairs(path: &Path) -> Result<Vec<(String, String, String)>, DataError> {
    lines(path)?
        .map(|row| {
            let (line, text) = row?;
            let fields: Vec<&str> = text.split('\t').collect();
            match fields[..] {
                [kind, query, id] => Ok((kind.to_owned(), query.to_owned(), id.to_owned())),
                _ => Err(DataError::Row {
                    path: path.to_owned(),
                    line,
                    what: format!(
                        "{} fields, expected kind, query and section id between tabs",
                        fields.len()
                    ),
                }),
            }
        })
        .collect()
}

/// Reads questions written for sections: `(line, section id, question)`, from lines `section id <tab> question`.
///
/// # Errors
/// [`DataError`] with file and line.
pub fn read_written(path: &Path) -> Result<Vec<(usize, String, String)>, DataError> {
    lines(path)?
        .map(|row| {
            let (line, text) = row?;
            match text.split_once('\t') {
                Some((id, question)) if !id.is_empty() && !question.trim().is_empty() => {
                    Ok((line, id.to_owned(), question.to_owned()))
                }
                _ => Err(DataError::Row {
                    path: path.to_owned(),
                    line,
                    what: "expected a section id, a tab and a question".to_owned(),
                }),
            }
        })
        .collect()
}
