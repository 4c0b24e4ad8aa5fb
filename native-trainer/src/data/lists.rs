//! N-way lists: a query with documents, labels and teacher scores.
//!
//! Written as PyLate's knowledge-distillation layout in JSON lines: `queries.jsonl` (`query_id`, `text`), `documents.jsonl` (`document_id`,
//! `text`) and `train.jsonl` (`query_id`, `document_ids`, and any of `labels`, `scores`, `score_kind`). What can be read is in [`super::Import`].

use super::{DataError, Import};
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::path::Path;

/// What a teacher's scores are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreKind {
    /// Not said; taken as they are.
    #[default]
    None,
    /// Raw outputs of a cross-encoder.
    Logit,
    /// Outputs after a sigmoid, 0 to 1. Turned back into logits before use: min-max of sigmoids is not min-max of logits.
    Sigmoid,
}

/// One query's list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct List {
    /// Index of the query.
    pub query: usize,
    /// Indices of its documents.
    pub documents: Vec<usize>,
    /// One label a document, above 0 for a right answer; empty if not known.
    pub labels: Vec<f32>,
    /// One score a document; empty if not scored.
    pub scores: Vec<f32>,
}

/// Lists with their texts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lists {
    /// Ids and texts of queries.
    pub queries: Vec<(String, String)>,
    /// Ids and texts of documents.
    pub documents: Vec<(String, String)>,
    /// Lists, in file order.
    pub lists: Vec<List>,
    /// Kind of all scores.
    pub score_kind: ScoreKind,
}

impl Lists {
    /// Reads a folder or a file, and stops at the first row that is wrong. [`Import`] reads more layouts and can pass over bad rows.
    ///
    /// # Errors
    /// [`DataError`] with file and line: unknown ids, lengths that do not fit, scores that are not finite or not of the kind they claim, score
    /// kinds that are mixed.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        Ok(Import::new(vec![path.to_owned()]).read()?.lists)
    }

    /// Writes a folder that [`Self::read`] reads; texts that no list uses are left out.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), DataError> {
        let io = |source| DataError::Io { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(io)?;
        let mut used = (vec![false; self.queries.len()], vec![false; self.documents.len()]);
        for list in &self.lists {
            used.0[list.query] = true;
            list.documents.iter().for_each(|&d| used.1[d] = true);
        }
        for (name, key, texts, used) in [
            ("queries.jsonl", "query_id", &self.queries, &used.0),
            ("documents.jsonl", "document_id", &self.documents, &used.1),
        ] {
            let mut file = std::io::BufWriter::new(std::fs::File::create(folder.join(name)).map_err(io)?);
            for ((id, text), _) in texts.iter().zip(used).filter(|(_, used)| **used) {
                writeln!(file, "{}", serde_json::json!({key: id, "text": text})).map_err(io)?;
            }
            file.flush().map_err(io)?;
        }
        let mut file =
            std::io::BufWriter::new(std::fs::File::create(folder.join("train.jsonl")).map_err(io)?);
        for list in &self.lists {
            let ids: Vec<&str> = list.documents.iter().map(|&d| self.documents[d].0.as_str()).collect();
            let mut row = serde_json::json!({"query_id": self.queries[list.query].0, "document_ids": ids});
            if !list.labels.is_empty() {
                row["labels"] = serde_json::json!(list.labels);
            }
            if !list.scores.is_empty() {
                row["scores"] = serde_json::json!(list.scores);
                row["score_kind"] = serde_json::json!(self.score_kind);
            }
            writeln!(file, "{row}").map_err(io)?;
        }
        file.flush().map_err(io)
    }

    /// The scores of a list as they are trained on: sigmoids become logits.
    pub fn logits(&self, list: &List) -> Vec<f32> {
        let logit = |p: f32| {
            let p = p.clamp(1e-6, 1.0 - 1e-6);
            (p / (1.0 - p)).ln()
        };
        match self.score_kind {
            ScoreKind::Sigmoid => list.scores.iter().map(|&p| logit(p)).collect(),
            ScoreKind::None | ScoreKind::Logit => list.scores.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    #[test]
    fn lists_written_are_read_again() {
        let lists = Lists {
            queries: vec![("q".into(), "問い".into())],
            documents: vec![("a".into(), "答え".into()), ("b".into(), "他".into())],
            lists: vec![List {
                query: 0,
                documents: vec![1, 0],
                labels: vec![0.0, 1.0],
                scores: vec![-1.5, 2.0],
            }],
            score_kind: ScoreKind::Logit,
        };
        let folder = temporary();
        lists.write(folder.path()).expect("written");
        assert_eq!(Lists::read(folder.path()).expect("read"), lists);
    }

    #[test]
    fn a_file_with_texts_and_quoted_lists_is_read() {
        let folder = temporary();
        let file = folder.path().join("lists.jsonl");
        std::fs::write(
            &file,
            r#"{"query": "q", "documents": ["x", "y"], "scores": "[0.5, 0.25]", "score_kind": "sigmoid"}"#,
        )
        .expect("written");
        let lists = Lists::read(&file).expect("read");
        assert_eq!(lists.documents[1].1, "y");
        let logits = lists.logits(&lists.lists[0]);
        assert!(logits[0].abs() < 1e-6 && (logits[1] + 3f32.ln()).abs() < 1e-5);
    }

    #[test]
    fn mixed_score_kinds_and_unknown_ids_are_refused_with_their_line() {
        let folder = temporary();
        let file = folder.path().join("mixed.jsonl");
        let row = |kind: &str| {
            format!(r#"{{"query": "q", "documents": ["x", "y"], "scores": [1, 0], "score_kind": "{kind}"}}"#)
        };
        std::fs::write(&file, format!("{}\n{}\n", row("logit"), row("sigmoid"))).expect("written");
        let message = Lists::read(&file).expect_err("mixed").to_string();
        assert!(message.contains("line 2") && message.contains("mixed"), "{message}");
        for (name, text) in [
            ("queries.jsonl", r#"{"query_id": 1, "text": "q"}"#),
            ("documents.jsonl", r#"{"document_id": 1, "text": "d"}"#),
            ("train.jsonl", r#"{"query_id": 1, "document_ids": [1, 7], "scores": [1, 0]}"#),
        ] {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        let message = Lists::read(folder.path()).expect_err("unknown").to_string();
        assert!(message.contains("\"7\""), "{message}");
    }
}
