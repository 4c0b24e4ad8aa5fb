//! Scored lists from elsewhere.
//!
//! A data set is three tables: lists, texts of queries, texts of documents; or one, where the lists hold the texts themselves. Each table is one
//! file or several, as JSON lines, TSV or parquet (`rows`), and its rows come in several forms (`forms`). The lists are read first, so that of a
//! collection of millions only the texts that some list names are kept.

use super::forms::{Columns, Scored, text_row};
use super::rows::{At, files, records, table};
use super::{DataError, List, Lists, ScoreKind};
use std::collections::HashMap;
use std::path::PathBuf;

/// Bad rows that are kept to be shown; more are only counted.
const SHOWN: usize = 1000;

/// First fields of a header line.
const HEADERS: &[&str] = &["id", "_id", "query_id", "document_id", "qid", "pid", "docid", "passage_id"];

/// Ids and texts.
type Texts = Vec<(String, String)>;

/// What to read, and how strictly.
#[derive(Clone, Debug)]
pub struct Import {
    /// Files of lists, or one folder with the tables `train` (or `triples`), `queries` and `documents` (or `collection`).
    pub lists: Vec<PathBuf>,
    /// File or folder of the queries' texts; absent where the lists hold texts or stand in a folder with them.
    pub queries: Option<PathBuf>,
    /// File or folder of the documents' texts; as `queries`.
    pub documents: Option<PathBuf>,
    /// What the scores are, where the rows do not say.
    pub score_kind: ScoreKind,
    /// Names of columns, where they are not among those known.
    pub columns: Columns,
    /// Lists at most, the first.
    pub n_lists: Option<usize>,
    /// Share of rows that may be wrong and are passed over; 0 stops at the first.
    pub max_bad_rows: f64,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Imported {
    /// The lists.
    pub lists: Lists,
    /// Rows that were wrong, the first thousand.
    pub bad: Vec<DataError>,
    /// How many rows were wrong.
    pub n_bad: usize,
    /// Rows read.
    pub n_rows: usize,
}

/// Keys by the order in which they were first seen.
#[derive(Default)]
struct Interned(HashMap<String, usize>);

impl Interned {
    fn number(&mut self, key: String) -> usize {
        let next = self.0.len();
        *self.0.entry(key).or_insert(next)
    }

    fn into_texts(self) -> Texts {
        let mut texts: Vec<(usize, String)> =
            self.0.into_iter().map(|(text, number)| (number, text)).collect();
        texts.sort_unstable();
        texts.into_iter().map(|(number, text)| (number.to_string(), text)).collect()
    }
}

impl Import {
    /// A strict reading of `lists`.
    pub fn new(lists: Vec<PathBuf>) -> Self {
        Self {
            lists,
            queries: None,
            documents: None,
            score_kind: ScoreKind::None,
            columns: Columns::default(),
            n_lists: None,
            max_bad_rows: 0.0,
        }
    }

    /// Reads everything.
    ///
    /// # Errors
    /// [`DataError`]: files that cannot be read, or more bad rows than [`Self::max_bad_rows`] allows.
    pub fn read(&self) -> Result<Imported, DataError> {
        let mut queries_at = self.queries.as_deref().map(files);
        let mut documents_at = self.documents.as_deref().map(files);
        let mut list_files = Vec::new();
        for path in &self.lists {
            if path.is_dir() && self.lists.len() == 1 {
                let whole = queries_at.is_none() && documents_at.is_none();
                list_files = match table(path, &["train", "triples"]) {
                    Ok(found) => found,
                    // A folder of list files alone, where the texts stand elsewhere.
                    Err(_) if !whole => files(path)?,
                    Err(e) => return Err(e),
                };
                queries_at = queries_at.or_else(|| Some(table(path, &["queries"])));
                documents_at =
                    documents_at.or_else(|| Some(table(path, &["documents", "collection", "corpus"])));
            } else {
                list_files.extend(files(path)?);
            }
        }
        let (queries_at, documents_at) = (queries_at.transpose()?, documents_at.transpose()?);

        let mut out = Imported::default();
        let (mut queries, mut documents) = (Interned::default(), Interned::default());
        let mut places: Vec<(usize, At)> = Vec::new();
        'all: for (i, path) in list_files.iter().enumerate() {
            for record in records(path)? {
                if self.n_lists.is_some_and(|n| out.lists.lists.len() >= n) {
                    break 'all;
                }
                out.n_rows += 1;
                let read = record.and_then(|(at, value)| {
                    let row = Scored::read(&value, &self.columns).map_err(|what| at.error(path, what))?;
                    let found = [(queries_at.is_none(), &row.query)]
                        .into_iter()
                        .chain(row.documents.iter().map(|d| (documents_at.is_none(), d)))
                        .find(|(inline, key)| *inline && key.is_number);
                    if let Some((_, key)) = found {
                        return Err(at.error(
                            path,
                            format!(
                                "{} is a number, so it is no text; name the files of queries and documents",
                                key.text
                            ),
                        ));
                    }
                    self.fits(&out.lists, &row).map_err(|what| at.error(path, what))?;
                    Ok((at, row))
                });
                match read {
                    Ok((at, row)) => {
                        out.lists.score_kind = row.kind.unwrap_or(self.score_kind);
                        places.push((i, at));
                        out.lists.lists.push(List {
                            query: queries.number(row.query.text),
                            documents: row.documents.into_iter().map(|d| documents.number(d.text)).collect(),
                            labels: row.labels,
                            scores: row.scores,
                        });
                    }
                    Err(e) => out.pass_over(e, self.max_bad_rows)?,
                }
            }
        }

        let (texts, query_place) = self.resolve(queries, queries_at, &mut out)?;
        out.lists.queries = texts;
        let (texts, document_place) = self.resolve(documents, documents_at, &mut out)?;
        out.lists.documents = texts;
        for (mut list, (file, at)) in std::mem::take(&mut out.lists.lists).into_iter().zip(places) {
            let query = query_place[list.query].as_ref().map_err(|id| format!("query id {id:?} has no text"));
            let documents = list.documents.iter().map(|&d| {
                document_place[d].as_ref().copied().map_err(|id| format!("document id {id:?} has no text"))
            });
            match query.and_then(|&q| Ok((q, documents.collect::<Result<Vec<_>, _>>()?))) {
                Ok((query, documents)) => {
                    (list.query, list.documents) = (query, documents);
                    out.lists.lists.push(list);
                }
                Err(what) => out.pass_over(at.error(&list_files[file], what), self.max_bad_rows)?,
            }
        }
        if out.n_bad as f64 > self.max_bad_rows * out.n_rows as f64 {
            return Err(DataError::TooManyBad {
                n_bad: out.n_bad,
                n_rows: out.n_rows,
                max_bad: self.max_bad_rows,
                first: Box::new(out.bad.swap_remove(0)),
            });
        }
        Ok(out)
    }

    /// Ids and texts in file order, and for each key its place among them, or the key itself where it has no text. Without files the keys are the
    /// texts.
    fn resolve(
        &self,
        keys: Interned,
        paths: Option<Vec<PathBuf>>,
        out: &mut Imported,
    ) -> Result<(Texts, Vec<Result<usize, String>>), DataError> {
        let Some(paths) = paths else {
            let texts = keys.into_texts();
            let place = (0..texts.len()).map(Ok).collect();
            return Ok((texts, place));
        };
        let mut texts: Texts = Vec::new();
        let mut place: Vec<Option<usize>> = vec![None; keys.0.len()];
        for path in paths {
            for (i, record) in records(&path)?.enumerate() {
                out.n_rows += 1;
                let read = record.and_then(|(at, value)| {
                    // A TSV may have a header.
                    if i == 0 && value.get(0).and_then(|v| v.as_str()).is_some_and(|f| HEADERS.contains(&f)) {
                        return Ok(());
                    }
                    let (id, text) = text_row(&value).map_err(|what| at.error(&path, what))?;
                    let Some(&key) = keys.0.get(&id) else { return Ok(()) };
                    if place[key].is_some() {
                        return Err(at.error(&path, format!("id {id:?} stands here for the second time")));
                    }
                    place[key] = Some(texts.len());
                    texts.push((id, text));
                    Ok(())
                });
                if let Err(e) = read {
                    out.pass_over(e, self.max_bad_rows)?;
                }
            }
        }
        let mut place: Vec<Result<usize, String>> =
            place.into_iter().map(|p| p.ok_or_else(String::new)).collect();
        for (key, number) in keys.0 {
            if let Err(missing) = &mut place[number] {
                *missing = key;
            }
        }
        Ok((texts, place))
    }

    /// Whether a row agrees with those before it.
    fn fits(&self, lists: &Lists, row: &Scored) -> Result<(), String> {
        let kind = row.kind.unwrap_or(self.score_kind);
        if kind == ScoreKind::Sigmoid
            && let Some(v) = row.scores.iter().find(|v| !(0.0..=1.0).contains(*v))
        {
            return Err(format!("score {v} is no sigmoid, which lies from 0 to 1"));
        }
        let Some(first) = lists.lists.first() else { return Ok(()) };
        if first.scores.is_empty() != row.scores.is_empty() {
            return Err("some lists have scores and some do not".to_owned());
        }
        if lists.score_kind != kind {
            return Err(format!(
                "score kind {kind:?} after {:?}; scores of different kinds cannot be mixed",
                lists.score_kind
            ));
        }
        Ok(())
    }
}

impl Imported {
    /// Notes a row that is wrong.
    ///
    /// # Errors
    /// The error itself where no row may be wrong, or where it is not one row's.
    fn pass_over(&mut self, error: DataError, max_bad: f64) -> Result<(), DataError> {
        if max_bad <= 0.0 || !error.is_row() {
            return Err(error);
        }
        self.n_bad += 1;
        if self.bad.len() < SHOWN {
            self.bad.push(error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn golden() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/scores")
    }

    /// Texts and scores of the golden lists, with ids resolved.
    fn resolved(lists: &Lists) -> Vec<(String, Vec<(String, f32)>)> {
        lists
            .lists
            .iter()
            .map(|l| {
                let documents = l.documents.iter().map(|&d| lists.documents[d].1.clone());
                (lists.queries[l.query].1.clone(), documents.zip(l.scores.iter().copied()).collect())
            })
            .collect()
    }

    fn temporary() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    #[test]
    fn every_layout_of_the_same_scores_gives_the_same_lists() {
        let golden = golden();
        let expected = resolved(&Lists::read(&golden.join("pylate-jsonl")).expect("JSON lines"));
        assert_eq!(expected.len(), 4);
        assert_eq!(expected[0].1.len(), 4);
        assert!(expected.iter().all(|(q, d)| !q.is_empty() && d.iter().all(|(text, _)| text.contains(' '))));
        // PyLate's three parquet tables as a hub folder has them, lists as arrays and as strings.
        for folder in ["pylate-parquet", "pylate-parquet-strings"] {
            assert_eq!(resolved(&Lists::read(&golden.join(folder)).expect(folder)), expected, "{folder}");
        }
        // Scored triples with MMARCO's texts beside them, shards in order, in both shapes of the column.
        for name in ["mmarco-lists", "mmarco-pairs"] {
            let import = Import {
                queries: Some(golden.join("mmarco/queries.tsv")),
                documents: Some(golden.join("mmarco/collection.tsv")),
                ..Import::new(vec![golden.join(name)])
            };
            assert_eq!(resolved(&import.read().expect(name).lists), expected, "{name}");
        }
        let triples = Lists::read(&golden.join("mmarco")).expect("ColBERT's folder");
        assert_eq!(resolved(&triples), expected);
        assert_eq!(triples.lists[0].labels, [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(resolved(&Lists::read(&golden.join("inline.parquet")).expect("texts inside")), expected);
    }

    #[test]
    fn only_the_texts_that_lists_name_are_kept() {
        let mut import = Import::new(vec![golden().join("pylate-parquet")]);
        import.n_lists = Some(1);
        let lists = import.read().expect("one list").lists;
        assert_eq!((lists.lists.len(), lists.queries.len(), lists.documents.len()), (1, 1, 4));
    }

    #[test]
    fn bad_rows_are_passed_over_up_to_the_share_allowed_and_named() {
        let folder = temporary();
        let good = |q: usize| format!(r#"{{"query": "q{q}", "documents": ["x", "y"], "scores": [1, 0]}}"#);
        let mut rows: Vec<String> = (0..18).map(good).collect();
        rows.insert(3, "{\"query\": 1".to_owned());
        rows.push(r#"{"query": "q", "documents": ["x", "y"], "scores": [1]}"#.to_owned());
        let file = folder.path().join("lists.jsonl");
        std::fs::write(&file, rows.join("\n")).expect("written");
        let strict = Import::new(vec![file]);
        let message = strict.read().expect_err("strict").to_string();
        assert!(message.contains("lists.jsonl, line 4") && message.contains("mend"), "{message}");
        let read = Import { max_bad_rows: 0.1, ..strict.clone() }.read().expect("two of twenty");
        assert_eq!((read.lists.lists.len(), read.n_bad, read.n_rows), (18, 2, 20));
        assert!(read.bad[1].to_string().contains("line 20: 1 scores for 2 documents"), "{}", read.bad[1]);
        let message = Import { max_bad_rows: 0.09, ..strict }.read().expect_err("too many").to_string();
        assert!(message.contains("2 of 20 rows") && message.contains("max_bad_rows"), "{message}");
    }

    #[test]
    fn ids_without_text_are_bad_rows_of_the_lists() {
        let golden = golden();
        let folder = temporary();
        let texts = std::fs::read_to_string(golden.join("mmarco/collection.tsv")).expect("golden");
        let (_, fewer) = texts.split_once('\n').expect("two lines");
        std::fs::write(folder.path().join("collection.tsv"), fewer).expect("written");
        let import = Import {
            queries: Some(golden.join("mmarco/queries.tsv")),
            documents: Some(folder.path().join("collection.tsv")),
            max_bad_rows: 0.9,
            ..Import::new(vec![golden.join("mmarco-lists")])
        };
        let read = import.read().expect("most rows");
        assert!(read.n_bad > 0 && read.lists.lists.len() + read.n_bad == 4, "{} bad", read.n_bad);
        let message = read.bad[0].to_string();
        assert!(
            message.contains("part-0")
                && message.contains("row 1: document id")
                && message.contains("no text"),
            "{message}"
        );
    }

    #[test]
    fn ids_in_place_of_texts_and_unknown_files_say_what_to_name() {
        let golden = golden();
        let message = Import::new(vec![golden.join("mmarco-lists/part-00000-of-00002.parquet")])
            .read()
            .expect_err("no texts")
            .to_string();
        assert!(message.contains("name the files of queries and documents"), "{message}");
        let message = Import::new(vec![golden.join("README.md")]).read().expect_err("no data").to_string();
        assert!(message.contains(".parquet"), "{message}");
        let empty = temporary();
        let message =
            Import::new(vec![empty.path().to_owned()]).read().expect_err("nothing there").to_string();
        assert!(message.contains("no train"), "{message}");
    }

    #[test]
    fn a_damaged_parquet_file_is_an_error_and_no_panic() {
        let bytes = std::fs::read(golden().join("inline.parquet")).expect("golden");
        let damaged = temporary();
        let file = damaged.path().join("damaged.parquet");
        let mut errors = 0;
        for cut in (0..bytes.len()).step_by(97) {
            std::fs::write(&file, &bytes[..cut]).expect("written");
            errors += usize::from(Import::new(vec![file.clone()]).read().is_err());
        }
        assert_eq!(errors, bytes.len().div_ceil(97), "a file that was cut was read");
        for at in (0..bytes.len()).step_by(11) {
            let mut bent = bytes.clone();
            bent[at] ^= 0x55;
            std::fs::write(&file, &bent).expect("written");
            // Some bytes are padding or statistics, or a letter of a text: the file may still read.
            let _ = Import::new(vec![file.clone()]).read();
        }
    }
}
