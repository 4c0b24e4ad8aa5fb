//! Questions with their passages.

use super::{DataError, find, json_lines, lines, read_pairs, read_sections, read_written};
use serde::Deserialize;
use serde_json::json;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A unit that is retrieved.
#[derive(Clone, Debug, Deserialize)]
pub struct Passage {
    /// Id in the set.
    pub id: String,
    /// Title of the article or page; may be empty.
    #[serde(default)]
    pub title: String,
    /// Text.
    pub text: String,
}

/// A question.
#[derive(Clone, Debug, Deserialize)]
pub struct QueryText {
    /// Id in the set.
    pub id: String,
    /// Text.
    pub text: String,
}

/// `passages.jsonl`, `queries.jsonl` and `qrels.tsv` (query id, passage id, grade; no header) of one folder.
#[derive(Clone, Debug, Default)]
pub struct RetrievalSet {
    /// Passages, in file order.
    pub passages: Vec<Passage>,
    /// Questions, in file order.
    pub queries: Vec<QueryText>,
    /// For each question, the indices of its relevant passages, in ascending order.
    pub relevant: Vec<Vec<usize>>,
}

impl Passage {
    /// What is encoded and indexed: title, line break, text.
    pub fn document_text(&self) -> String {
        if self.title.is_empty() { self.text.clone() } else { format!("{}\n{}", self.title, self.text) }
    }
}

impl RetrievalSet {
    /// The sections of `files` as passages, with the keyword queries of `pairs` on them.
    ///
    /// # Errors
    /// [`DataError`] with file and line.
    pub fn from_pairs(root: &Path, files: &[String]) -> Result<Self, DataError> {
        let mut set = Self::default();
        let mut place = HashMap::new();
        for file in files {
            for section in read_sections(&root.join(file))? {
                place.insert(section.id.clone(), set.passages.len());
                let title = section.head_text();
                set.passages.push(Passage { id: section.id, title, text: section.text });
            }
        }
        for (i, (_, text, id)) in
            read_pairs(&find(&root.join("pairs"), "pairs.tsv")?)?.into_iter().enumerate()
        {
            if let Some(&at) = place.get(&id) {
                set.queries.push(QueryText { id: i.to_string(), text });
                set.relevant.push(vec![at]);
            }
        }
        Ok(set)
    }

    /// The sections of `files` as passages, with the questions written for them (`section id <tab> question`).
    ///
    /// # Errors
    /// [`DataError`] with file and line; a question on a section that no file holds is an error too.
    pub fn from_written(files: &[PathBuf], questions: &Path) -> Result<Self, DataError> {
        let mut set = Self::default();
        let mut place = HashMap::new();
        for file in files {
            for section in read_sections(file)? {
                place.insert(section.id.clone(), set.passages.len());
                let title = section.head_text();
                set.passages.push(Passage { id: section.id, title, text: section.text });
            }
        }
        for (line, id, text) in read_written(questions)? {
            let at = *place.get(&id).ok_or_else(|| DataError::Row {
                path: questions.to_owned(),
                line,
                what: format!("section {id} is in none of the section files"),
            })?;
            set.queries.push(QueryText { id: format!("q{line}"), text });
            set.relevant.push(vec![at]);
        }
        Ok(set)
    }

    /// Writes `passages.jsonl`, `queries.jsonl` and `qrels.tsv` into a folder, which is made if absent.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub fn write(&self, folder: &Path) -> Result<(), DataError> {
        let write = |name: &str, rows: String| {
            let path = folder.join(name);
            std::fs::write(&path, rows).map_err(|source| DataError::Io { path, source })
        };
        std::fs::create_dir_all(folder)
            .map_err(|source| DataError::Io { path: folder.to_owned(), source })?;
        let passages = self.passages.iter().map(|p| json!({"id": p.id, "title": p.title, "text": p.text}));
        let queries = self.queries.iter().map(|q| json!({"id": q.id, "text": q.text}));
        let judgments = self.queries.iter().zip(&self.relevant).flat_map(|(query, relevant)| {
            relevant.iter().map(|&at| format!("{}\t{}\t1\n", query.id, self.passages[at].id))
        });
        write("passages.jsonl", passages.map(|row| format!("{row}\n")).collect())?;
        write("queries.jsonl", queries.map(|row| format!("{row}\n")).collect())?;
        write("qrels.tsv", judgments.collect())
    }

    /// Reads a folder.
    ///
    /// # Errors
    /// [`DataError`] with file and line; a judgment that names an unknown id, or a question without any relevant passage, is an error too.
    pub fn read(folder: &Path) -> Result<Self, DataError> {
        let passages: Vec<Passage> = json_lines(&find(folder, "passages.jsonl")?)?;
        let queries: Vec<QueryText> = json_lines(&find(folder, "queries.jsonl")?)?;
        let passage_of: HashMap<&str, usize> =
            passages.iter().enumerate().map(|(i, p)| (p.id.as_str(), i)).collect();
        let query_of: HashMap<&str, usize> =
            queries.iter().enumerate().map(|(i, q)| (q.id.as_str(), i)).collect();
        let mut relevant = vec![Vec::new(); queries.len()];
        let path = find(folder, "qrels.tsv")?;
        for row in lines(&path)? {
            let (line, text) = row?;
            let bad = |what: String| DataError::Row { path: path.clone(), line, what };
            let fields: Vec<&str> = text.split('\t').collect();
            let [query, passage, grade] = fields[..] else {
                return Err(bad(format!(
                    "{} fields, expected query, passage and grade between tabs",
                    fields.len()
                )));
            };
            let q =
                *query_of.get(query).ok_or_else(|| bad(format!("query {query} is not in queries.jsonl")))?;
            let p = *passage_of
                .get(passage)
                .ok_or_else(|| bad(format!("passage {passage} is not in passages.jsonl")))?;
            let grade: f64 =
                grade.trim().parse().map_err(|_| bad(format!("grade {grade:?} is not a number")))?;
            if grade > 0.0 {
                relevant[q].push(p);
            }
        }
        for list in &mut relevant {
            list.sort_unstable();
            list.dedup();
        }
        if let Some(i) = relevant.iter().position(Vec::is_empty) {
            return Err(DataError::Row {
                path,
                line: 0,
                what: format!("query {} has no relevant passage", queries[i].id),
            });
        }
        Ok(Self { passages, queries, relevant })
    }
}
