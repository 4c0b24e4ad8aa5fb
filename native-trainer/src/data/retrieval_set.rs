//! Questions with their passages.

use super::{DataError, find, json_lines, lines, pairs_file, read_pairs, read_sections, read_written};
use crate::metrics::QueryMetrics;
use serde::Deserialize;
use serde_json::json;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// First fields of a header above judgments.
const BEIR_HEADER: [&str; 3] = ["query-id", "query_id", "qid"];

/// A unit that is retrieved.
#[derive(Clone, Debug, Deserialize)]
pub struct Passage {
    /// Id in the set.
    #[serde(alias = "_id")]
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
    #[serde(alias = "_id")]
    pub id: String,
    /// Text.
    pub text: String,
}

/// `passages.jsonl`, `queries.jsonl` and `qrels.tsv` (query id, passage id, grade) of one folder, or BEIR's `corpus.jsonl`, `queries.jsonl` and
/// `qrels/test.tsv` (with a header). Grades above 0 are relevant.
#[derive(Clone, Debug, Default)]
pub struct RetrievalSet {
    /// Passages, in file order.
    pub passages: Vec<Passage>,
    /// Questions, in file order.
    pub queries: Vec<QueryText>,
    /// For each question, the indices of its relevant passages, in ascending order.
    pub relevant: Vec<Vec<usize>>,
    /// Their grades in the same order; empty where all are 1.
    pub grades: Vec<Vec<f64>>,
}

impl Passage {
    /// What is encoded and indexed: title, line break, text.
    pub fn document_text(&self) -> String {
        if self.title.is_empty() { self.text.clone() } else { format!("{}\n{}", self.title, self.text) }
    }
}

impl RetrievalSet {
    /// Metrics of a ranking of passages (best first) for question `i`.
    pub fn metrics(&self, i: usize, ranking: &[usize]) -> QueryMetrics {
        QueryMetrics::graded(ranking, &self.relevant[i], self.grades.get(i).map_or(&[], Vec::as_slice))
    }

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
        for (i, (_, text, id)) in read_pairs(&pairs_file(root)?)?.into_iter().enumerate() {
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
        let judgments =
            self.queries.iter().zip(&self.relevant).enumerate().flat_map(|(i, (query, relevant))| {
                relevant.iter().enumerate().map(move |(j, &at)| {
                    let grade = self.grades.get(i).map_or(1.0, |grades| grades[j]);
                    format!("{}\t{}\t{grade}\n", query.id, self.passages[at].id)
                })
            });
        write("passages.jsonl", passages.map(|row| format!("{row}\n")).collect())?;
        write("queries.jsonl", queries.map(|row| format!("{row}\n")).collect())?;
        write("qrels.tsv", judgments.collect())
    }

    /// Files of passages, queries and judgments of a set: a folder, or one of several judgment files of BEIR's layout (`FOLDER/qrels/dev.tsv`).
    ///
    /// # Errors
    /// [`DataError::Absent`] with the names looked for.
    pub fn files(set: &Path) -> Result<[PathBuf; 3], DataError> {
        let named = set.is_file() && set.parent().is_some_and(|p| p.ends_with("qrels"));
        let folder = match set.ancestors().nth(2) {
            Some(folder) if named => folder,
            _ => set,
        };
        let either = |own: &str, beir: &str| find(folder, own).or_else(|e| find(folder, beir).map_err(|_| e));
        let judgments = if named { set.to_owned() } else { either("qrels.tsv", "qrels/test.tsv")? };
        Ok([either("passages.jsonl", "corpus.jsonl")?, find(folder, "queries.jsonl")?, judgments])
    }

    /// Reads a set, of either layout. BEIR's `queries.jsonl` holds the queries of all splits: those that the judgments do not name are left out there.
    ///
    /// # Errors
    /// [`DataError`] with file and line; a judgment that names an unknown id, or a question without any relevant passage, is an error too.
    pub fn read(set: &Path) -> Result<Self, DataError> {
        let [passages, queries, path] = Self::files(set)?;
        let passages: Vec<Passage> = json_lines(&passages)?;
        let mut queries: Vec<QueryText> = json_lines(&queries)?;
        let of_split = path.parent().is_some_and(|p| p.ends_with("qrels"));
        let passage_of: HashMap<&str, usize> =
            passages.iter().enumerate().map(|(i, p)| (p.id.as_str(), i)).collect();
        let query_of: HashMap<&str, usize> =
            queries.iter().enumerate().map(|(i, q)| (q.id.as_str(), i)).collect();
        let mut relevant: Vec<Vec<(usize, f64)>> = vec![Vec::new(); queries.len()];
        for row in lines(&path)? {
            let (line, text) = row?;
            let bad = |what: String| DataError::Row { path: path.clone(), line, what };
            let fields: Vec<&str> = text.split('\t').collect();
            if line == 1 && fields.len() == 3 && BEIR_HEADER.contains(&fields[0]) {
                continue;
            }
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
                relevant[q].push((p, grade));
            }
        }
        for list in &mut relevant {
            // A passage judged twice has its higher grade.
            list.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
            list.dedup_by_key(|(passage, _)| *passage);
        }
        if of_split {
            // pytrec_eval, BEIR's tool, does not count questions without a relevant passage either.
            let mut keep = relevant.iter().map(|list| !list.is_empty());
            queries.retain(|_| keep.next().unwrap_or(false));
            relevant.retain(|list| !list.is_empty());
        }
        if queries.is_empty() {
            return Err(DataError::Format { path, what: "no query has a relevant passage".to_owned() });
        }
        if let Some(i) = relevant.iter().position(Vec::is_empty) {
            return Err(DataError::Row {
                path,
                line: 0,
                what: format!("query {} has no relevant passage", queries[i].id),
            });
        }
        let alike = relevant.iter().flatten().all(|&(_, grade)| grade == 1.0);
        let of = |list: &Vec<(usize, f64)>| list.iter().map(|(_, grade)| *grade).collect();
        let grades = if alike { Vec::new() } else { relevant.iter().map(of).collect() };
        let relevant = relevant.into_iter().map(|list| list.into_iter().map(|(p, _)| p).collect()).collect();
        Ok(Self { passages, queries, relevant, grades })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir_all(folder.path().join("qrels")).expect("a folder of judgements");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        folder
    }

    const BEIR: [(&str, &str); 4] = [
        (
            "corpus.jsonl",
            "{\"_id\": \"a\", \"title\": \"題\", \"text\": \"文\"}\n{\"_id\": \"b\", \"title\": \"\", \"text\": \"他\"}\n",
        ),
        (
            "queries.jsonl",
            "{\"_id\": \"1\", \"text\": \"問\", \"metadata\": {}}\n{\"_id\": \"2\", \"text\": \"別\"}\n",
        ),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n1\tb\t2\n1\ta\t0\n"),
        ("qrels/dev.tsv", "query-id\tcorpus-id\tscore\n2\ta\t1\n"),
    ];

    #[test]
    fn a_folder_of_beir_is_read_split_by_split() {
        let folder = folder(&BEIR);
        let test = RetrievalSet::read(folder.path()).expect("the test split");
        assert_eq!((test.passages.len(), test.queries.len()), (2, 1));
        assert_eq!((test.queries[0].id.as_str(), &test.relevant), ("1", &vec![vec![1]]));
        assert_eq!(test.grades, [[2.0]]);
        let dev = RetrievalSet::read(&folder.path().join("qrels/dev.tsv")).expect("the other split");
        assert_eq!((dev.queries[0].id.as_str(), &dev.relevant), ("2", &vec![vec![0]]));
    }

    #[test]
    fn judgments_that_name_nothing_and_absent_files_are_refused() {
        let folder = folder(&BEIR);
        let bad = folder.path();
        std::fs::write(bad.join("qrels/test.tsv"), "1\tb\t1\n1\tz\t1\n").expect("written");
        let message = RetrievalSet::read(bad).expect_err("an unknown passage").to_string();
        assert!(message.contains("line 2") && message.contains("passage z"), "{message}");
        std::fs::write(bad.join("qrels/test.tsv"), "1\tb\t0\n").expect("written");
        let message = RetrievalSet::read(bad).expect_err("nothing to find").to_string();
        assert!(message.contains("no query has a relevant passage"), "{message}");
        let empty = tempfile::tempdir().expect("a temporary folder");
        let message = RetrievalSet::read(empty.path()).expect_err("no files").to_string();
        assert!(message.contains("passages.jsonl") && message.contains("corpus.jsonl"), "{message}");
    }
}
