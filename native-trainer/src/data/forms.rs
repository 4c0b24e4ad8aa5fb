//! The forms that a scored list comes in, row by row.
//!
//! | form | columns |
//! |---|---|
//! | lists of ids or texts (PyLate's knowledge distillation, ours) | `query_id`, `document_ids`, `scores`; any of `labels`, `score_kind` |
//! | triples of ColBERT and JaColBERTv2.5 | an array `[query, [document, score], ...]` or `[query, document, ...]`, the first document the positive; or the pairs as a list column |
//! | positive and negatives | `query`, `pos`, `neg` with `pos_score` and `neg_score`, each one value or a list |
//! | one column a document (Sentence-Transformers) | `query`, `document_1` to `document_N`, `scores` |
//!
//! A list may be a string that holds one, as JSON or as Python prints it.

use super::ScoreKind;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Names of columns where they are not among those known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// Column of the query's id or text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// Column of the list of documents' ids or texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documents: Option<String>,
    /// Column of the list of scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<String>,
}

const QUERY: &[&str] = &["query_id", "qid", "query", "anchor", "anc"];
const DOCUMENTS: &[&str] =
    &["document_ids", "doc_ids", "passage_ids", "pids", "documents", "passages", "document", "document_id"];
const SCORES: &[&str] = &["scores", "teacher_scores", "score", "label"];
const POSITIVE: &[&str] = &[
    "positive",
    "positives",
    "pos",
    "pos_id",
    "pos_ids",
    "positive_id",
    "positive_ids",
    "pos_text",
    "pos_pid",
];
const NEGATIVE: &[&str] =
    &["negatives", "negative", "neg", "negs", "neg_id", "neg_ids", "negative_ids", "negs_text", "neg_text"];
const POSITIVE_SCORE: &[&str] = &["pos_score", "pos.score", "positive_score", "positive_scores"];
const NEGATIVE_SCORE: &[&str] =
    &["negs_score", "neg_score", "neg.score", "negative_score", "negative_scores"];
const NUMBERED: &[&str] = &["document_", "doc_", "passage_", "negative_", "neg_"];

/// An id or a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) text: String,
    /// It was a number, so it is no text.
    pub(crate) is_number: bool,
}

/// One row, whatever its form was.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scored {
    pub(crate) query: Key,
    pub(crate) documents: Vec<Key>,
    /// One a document, or none.
    pub(crate) labels: Vec<f32>,
    /// One a document, or none.
    pub(crate) scores: Vec<f32>,
    pub(crate) kind: Option<ScoreKind>,
}

/// Reads an id: a string, or a number without fraction (pairs of id and score make floats of ids).
pub(crate) fn key(value: &Value) -> Result<Key, String> {
    match value {
        Value::String(s) => Ok(Key { text: s.clone(), is_number: false }),
        Value::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(n), _) => Ok(Key { text: n.to_string(), is_number: true }),
            (None, Some(f)) if f.fract() == 0.0 && f.abs() < 9e15 => {
                Ok(Key { text: (f as i64).to_string(), is_number: true })
            }
            _ => Err(format!("{n} is no id")),
        },
        other => Err(format!("expected an id or a text, found {}", short(other))),
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

fn number(value: &Value) -> Result<f32, String> {
    let found = match value {
        Value::Number(n) => n.as_f64(),
        Value::String(s) => s.trim().parse().ok(),
        _ => None,
    };
    match found {
        Some(v) if v.is_finite() && (v as f32).is_finite() => Ok(v as f32),
        _ => Err(format!("expected a finite number, found {}", short(value))),
    }
}

/// A list, or a string that holds one.
fn list(value: &Value) -> Result<Vec<Value>, String> {
    match value {
        Value::Array(items) => Ok(items.clone()),
        Value::String(text) if text.trim_start().starts_with(['[', '(']) => {
            if let Ok(Value::Array(items)) = serde_json::from_str(text) {
                return Ok(items);
            }
            python_list(text).ok_or_else(|| format!("the string {} does not hold a list", short(value)))
        }
        other => Err(format!("expected a list, found {}", short(other))),
    }
}

/// A list, or one value that stands for a list of one.
fn one_or_many(value: &Value) -> Result<Vec<Value>, String> {
    match value {
        Value::Array(_) => list(value),
        Value::Null => Ok(Vec::new()),
        one => Ok(vec![one.clone()]),
    }
}

/// Reads `['a', "b", 1, 2.5]`: flat, strings in either quote with backslash escapes, numbers.
fn python_list(text: &str) -> Option<Vec<Value>> {
    let text = text.trim();
    let inner = text.strip_prefix(['[', '('])?.strip_suffix([']', ')'])?;
    let mut items = Vec::new();
    let mut rest = inner.trim_start();
    while !rest.is_empty() {
        let first = rest.chars().next()?;
        if first == '\'' || first == '"' {
            let mut out = String::new();
            let mut chars = rest[1..].char_indices();
            let end = loop {
                match chars.next()? {
                    (at, c) if c == first => break at + 2,
                    (_, '\\') => match chars.next()?.1 {
                        'n' => out.push('\n'),
                        't' => out.push('\t'),
                        'r' => out.push('\r'),
                        c @ ('\\' | '\'' | '"') => out.push(c),
                        _ => return None,
                    },
                    (_, c) => out.push(c),
                }
            };
            items.push(Value::String(out));
            rest = &rest[end..];
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            items.push(Value::Number(rest[..end].trim().parse().ok()?));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
        rest = match rest.strip_prefix(',') {
            Some(more) => more.trim_start(),
            None if rest.is_empty() => rest,
            None => return None,
        };
    }
    Some(items)
}

/// Documents of a list column: ids, or pairs of id and score as arrays or objects.
fn documents(items: &[Value]) -> Result<(Vec<Key>, Vec<f32>), String> {
    let (mut keys, mut scores) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            Value::Array(pair) => {
                let [id, score] = pair.as_slice() else {
                    return Err(format!("expected a pair of document and score, found {}", short(item)));
                };
                keys.push(key(id)?);
                scores.push(number(score)?);
            }
            Value::Object(fields) => {
                let id = find(fields, &["document_id", "pid", "id", "doc_id", "passage_id", "text"])
                    .ok_or_else(|| format!("a document without id: {}", short(item)))?;
                keys.push(key(id)?);
                if let Some(score) = find(fields, &["score"]) {
                    scores.push(number(score)?);
                }
            }
            id => keys.push(key(id)?),
        }
    }
    if !scores.is_empty() && scores.len() != keys.len() {
        return Err(format!("{} scores for {} documents", scores.len(), keys.len()));
    }
    Ok((keys, scores))
}

fn find<'a>(row: &'a Map<String, Value>, names: &[&str]) -> Option<&'a Value> {
    names.iter().find_map(|name| row.get(*name)).filter(|v| !v.is_null())
}

fn named<'a>(
    row: &'a Map<String, Value>,
    own: Option<&String>,
    known: &[&str],
) -> Result<Option<&'a Value>, String> {
    match own {
        Some(name) => match row.get(name) {
            Some(value) => Ok(Some(value)),
            None => Err(format!("no column {name}; the row has {}", columns_of(row))),
        },
        None => Ok(find(row, known)),
    }
}

fn columns_of(row: &Map<String, Value>) -> String {
    row.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Columns `prefix1`, `prefix2`, ... in the order of their numbers.
fn numbered<'a>(row: &'a Map<String, Value>, prefix: &str) -> Vec<&'a Value> {
    let mut found: Vec<(usize, &Value)> = row
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(prefix)?.parse().ok()?, value)))
        .filter(|(_, value)| !value.is_null())
        .collect();
    found.sort_by_key(|(number, _)| *number);
    found.into_iter().map(|(_, value)| value).collect()
}

/// The first document is the answer, the others are not.
fn first_is_right(n: usize) -> Vec<f32> {
    (0..n).map(|i| f32::from(u8::from(i == 0))).collect()
}

impl Scored {
    /// Reads a row of any form.
    ///
    /// # Errors
    /// What does not fit, for people.
    pub(crate) fn read(value: &Value, columns: &Columns) -> Result<Self, String> {
        let out = match value {
            Value::Array(items) => Self::triple(items)?,
            Value::Object(row) => Self::object(row, columns)?,
            other => return Err(format!("expected an object or an array, found {}", short(other))),
        };
        let n = out.documents.len();
        if n < 2 {
            return Err(format!("{n} documents, a list needs two or more"));
        }
        for (what, given) in [("labels", out.labels.len()), ("scores", out.scores.len())] {
            if given != 0 && given != n {
                return Err(format!("{given} {what} for {n} documents"));
            }
        }
        if out.kind == Some(ScoreKind::Sigmoid)
            && let Some(v) = out.scores.iter().find(|v| !(0.0..=1.0).contains(*v))
        {
            return Err(format!("score {v} is no sigmoid, which lies from 0 to 1"));
        }
        Ok(out)
    }

    fn triple(items: &[Value]) -> Result<Self, String> {
        let (query, rest) = items.split_first().ok_or("an empty array")?;
        let (documents, scores) = documents(rest)?;
        Ok(Self {
            query: key(query)?,
            labels: first_is_right(documents.len()),
            documents,
            scores,
            kind: None,
        })
    }

    fn object(row: &Map<String, Value>, columns: &Columns) -> Result<Self, String> {
        let query = named(row, columns.query.as_ref(), QUERY)?.ok_or_else(|| {
            format!("no query column ({}); the row has {}", QUERY.join(", "), columns_of(row))
        })?;
        let query = key(query)?;
        let numbers = |value: Option<&Value>| -> Result<Vec<f32>, String> {
            value.map_or(Ok(Vec::new()), |v| list(v)?.iter().map(number).collect())
        };
        let kind = match row.get("score_kind") {
            None | Some(Value::Null) => None,
            Some(value) => Some(
                serde_json::from_value(value.clone())
                    .map_err(|_| format!("score_kind {}; expected none, logit or sigmoid", short(value)))?,
            ),
        };
        let scores_column = named(row, columns.scores.as_ref(), SCORES)?;
        if let Some(value) = named(row, columns.documents.as_ref(), DOCUMENTS)? {
            let (documents, mut scores) = documents(&list(value)?)?;
            if scores.is_empty() {
                scores = numbers(scores_column)?;
            }
            let labels = numbers(row.get("labels").filter(|v| !v.is_null()))?;
            return Ok(Self { query, documents, labels, scores, kind });
        }
        let keys = |values: &[Value]| values.iter().map(key).collect::<Result<Vec<_>, _>>();
        let mut negatives = match find(row, NEGATIVE) {
            Some(value) => one_or_many(value)?,
            None => Vec::new(),
        };
        if negatives.is_empty() {
            negatives = NUMBERED
                .iter()
                .map(|prefix| numbered(row, prefix))
                .find(|found| !found.is_empty())
                .unwrap_or_default()
                .into_iter()
                .cloned()
                .collect();
        }
        let Some(positive) = find(row, POSITIVE) else {
            if negatives.is_empty() {
                return Err(format!(
                    "no documents ({}, positive with negatives, or document_1 and so on); the row has {}",
                    DOCUMENTS.join(", "),
                    columns_of(row)
                ));
            }
            let scores = numbers(scores_column)?;
            return Ok(Self { query, documents: keys(&negatives)?, labels: Vec::new(), scores, kind });
        };
        let positives = one_or_many(positive)?;
        let mut labels = vec![1.0; positives.len()];
        labels.resize(positives.len() + negatives.len(), 0.0);
        let mut scores = Vec::new();
        match (find(row, POSITIVE_SCORE), find(row, NEGATIVE_SCORE)) {
            (Some(p), Some(n)) => {
                let (p, n) = (one_or_many(p)?, one_or_many(n)?);
                if (p.len(), n.len()) != (positives.len(), negatives.len()) {
                    return Err(format!(
                        "{} and {} scores for {} positives and {} negatives",
                        p.len(),
                        n.len(),
                        positives.len(),
                        negatives.len()
                    ));
                }
                scores = p.iter().chain(&n).map(number).collect::<Result<_, _>>()?;
            }
            (None, None) => scores.extend(numbers(scores_column)?),
            _ => return Err("scores of the positive and of the negatives must both be there".to_owned()),
        }
        let mut documents = keys(&positives)?;
        documents.extend(keys(&negatives)?);
        Ok(Self { query, documents, labels, scores, kind })
    }
}

/// Id and text of a row of queries or documents: named columns, or the two fields of a TSV line. A title goes before the text.
pub(crate) fn text_row(value: &Value) -> Result<(String, String), String> {
    match value {
        Value::Array(fields) => match fields.as_slice() {
            [id, Value::String(text)] => Ok((key(id)?.text, text.clone())),
            other => Err(format!("{} fields, expected id and text between tabs", other.len())),
        },
        Value::Object(row) => {
            let id =
                find(row, &["query_id", "document_id", "id", "_id", "qid", "pid", "doc_id", "passage_id"])
                    .ok_or_else(|| format!("no id column; the row has {}", columns_of(row)))?;
            let text = find(row, &["text", "query", "document", "passage", "contents", "content"])
                .ok_or_else(|| format!("no text column; the row has {}", columns_of(row)))?;
            let Value::String(text) = text else {
                return Err(format!("the text is {}", short(text)));
            };
            let title = match find(row, &["title"]) {
                Some(Value::String(title)) if !title.is_empty() => format!("{title}\n"),
                _ => String::new(),
            };
            Ok((key(id)?.text, title + text))
        }
        other => Err(format!("expected an object, found {}", short(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: &Value) -> Result<Scored, String> {
        Scored::read(value, &Columns::default())
    }

    fn ids(row: &Scored) -> Vec<&str> {
        row.documents.iter().map(|k| k.text.as_str()).collect()
    }

    #[test]
    fn every_published_form_gives_the_same_list() {
        for row in [
            json!({"query_id": 7, "document_ids": [3, 4], "scores": [0.5, -1.0]}),
            json!({"query_id": "7", "document_ids": "['3', '4']", "scores": "[0.5, -1]"}),
            json!([7, [3, 0.5], [4, -1.0]]),
            json!({"qid": 7, "passages": [[3.0, 0.5], [4.0, -1.0]]}),
            json!({"qid": 7, "passages": [{"pid": 3, "score": 0.5}, {"pid": 4, "score": -1}]}),
            json!({"qid": 7, "pos": 3, "neg": [4], "pos.score": 0.5, "neg.score": [-1.0]}),
            json!({"query": "7", "pos_text": "3", "negs_text": ["4"], "pos_score": 0.5, "negs_score": [-1.0], "negs_count": 1}),
            json!({"query": "7", "document_1": "3", "document_2": "4", "scores": [0.5, -1.0]}),
            json!({"query": "7", "positive": "3", "negative_1": "4", "scores": [0.5, -1.0]}),
        ] {
            let out = read(&row).expect("a list");
            assert_eq!(out.query.text, "7", "{row}");
            assert_eq!(ids(&out), ["3", "4"], "{row}");
            assert_eq!(out.scores, [0.5, -1.0], "{row}");
            assert!(out.labels.is_empty() || out.labels == [1.0, 0.0], "{row}");
        }
        let mapped =
            Columns { query: Some("a".into()), documents: Some("b".into()), scores: Some("c".into()) };
        let out = Scored::read(&json!({"a": 7, "b": [3, 4], "c": [0.5, -1]}), &mapped).expect("a list");
        assert_eq!(ids(&out), ["3", "4"]);
        assert_eq!(out.scores, [0.5, -1.0]);
    }

    #[test]
    fn numbered_columns_stand_in_the_order_of_their_numbers() {
        let row: Map<String, Value> =
            (1..=12).map(|i| (format!("document_{i}"), json!(i.to_string()))).collect();
        let mut row = row;
        row.insert("query".to_owned(), json!("q"));
        let out = read(&Value::Object(row)).expect("a list");
        assert_eq!(ids(&out), (1..=12).map(|i: i32| i.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn rows_that_do_not_fit_say_what_is_wrong() {
        for (row, word) in [
            (json!({"document_ids": [1, 2]}), "no query column"),
            (json!({"query_id": 1, "other": 2}), "the row has other, query_id"),
            (json!({"query_id": 1, "document_ids": [1, 2], "scores": [1]}), "1 scores for 2 documents"),
            (
                json!({"query_id": 1, "document_ids": [1, 2], "scores": [1, null]}),
                "finite number, found null",
            ),
            (json!({"query_id": 1, "document_ids": [1, 2.5]}), "2.5 is no id"),
            (json!({"query_id": 1, "document_ids": "['a"}), "does not hold a list"),
            (json!({"query_id": 1, "document_ids": [1]}), "two or more"),
            (json!({"query_id": 1, "document_ids": [1, 2], "score_kind": "odd"}), "score_kind"),
            (json!({"qid": 1, "pos": 1, "neg": [2], "pos_score": 1}), "both be there"),
            (json!([1, [2, 3, 4]]), "pair of document and score"),
            (json!([]), "an empty array"),
            (json!("text"), "expected an object"),
        ] {
            let message = read(&row).expect_err("refused");
            assert!(message.contains(word), "{row}: {message}");
        }
    }

    #[test]
    fn python_lists_keep_their_quotes_and_escapes() {
        assert_eq!(
            python_list(r#"['it\'s', "a, b", 3, -2.5]"#),
            Some(vec![json!("it's"), json!("a, b"), json!(3), json!(-2.5)])
        );
        for bad in ["['a' 'b']", "['a", "[nan]", "a"] {
            assert_eq!(python_list(bad), None, "{bad}");
        }
        assert_eq!(python_list("[]"), Some(vec![]));
    }
}
