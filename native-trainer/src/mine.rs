//! Hard negatives: the documents that BM25 and the student rank high and that are no answer.

use crate::data::{List, Lists, RetrievalSet, ScoreKind};
use crate::eval::{encode, maxsim_scores, top_k};
use crate::recipe::MineStep;
use crate::student::Student;
use anyhow::{Result, ensure};
use shirube_core::{InputRules, Role};
use shirube_lexical::{Analyzer, Bm25Index};
use shirube_text::Tokenizer;

/// Queries scored at once by the student: bounds the score matrix.
const QUERIES: usize = 256;

/// A student that searches.
#[derive(Clone, Copy, Debug)]
pub struct Searcher<'a> {
    /// The student.
    pub student: &'a Student,
    /// Blocks used.
    pub depth: usize,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Input rules of queries and documents.
    pub rules: (&'a InputRules, &'a InputRules),
}

/// The candidates of one ranking, best first, without positives and without those above `max_share` of the best positive's score.
fn filtered(scores: &[f32], relevant: &[usize], top: usize, max_share: f32) -> Vec<usize> {
    let positive = relevant.iter().map(|&d| scores[d]).fold(f32::NEG_INFINITY, f32::max);
    top_k(scores, top)
        .into_iter()
        .filter(|d| !relevant.contains(d) && scores[*d] > 0.0 && scores[*d] <= max_share * positive)
        .collect()
}

/// Lists of `n_way` documents, the positive first. Negatives are taken in turn from the student's and BM25's filtered rankings; a candidate that
/// either of them holds for a likely positive is dropped. Queries with too few candidates are left out. `say` hears the queries done and all.
///
/// # Errors
/// Device errors, or an `n_way` below 2.
pub fn mine(
    set: &RetrievalSet,
    step: &MineStep,
    searcher: Option<Searcher<'_>>,
    mut say: impl FnMut(usize, usize),
) -> Result<Lists> {
    ensure!(step.n_way >= 2, "step {}: n_way is {}, expected 2 or more", step.name, step.n_way);
    let n = step.queries.unwrap_or(usize::MAX).min(set.queries.len());
    let texts: Vec<String> = set.passages.iter().map(crate::data::Passage::document_text).collect();
    let bm25 = Bm25Index::build(&texts, Analyzer::bigrams(), 0.9, 0.4)?;
    let documents = searcher
        .map(|s| encode(s.student, s.depth, s.tokenizer, s.rules.1, Role::Document, &texts))
        .transpose()?;
    let mut lists = Vec::new();
    for from in (0..n).step_by(QUERIES) {
        let range = from..(from + QUERIES).min(n);
        let by_student = match (searcher, &documents) {
            (Some(s), Some(documents)) => {
                let questions: Vec<String> =
                    set.queries[range.clone()].iter().map(|q| q.text.clone()).collect();
                let queries = encode(s.student, s.depth, s.tokenizer, s.rules.0, Role::Query, &questions)?;
                Some(maxsim_scores(&queries, documents)?)
            }
            _ => None,
        };
        for q in range.clone() {
            let relevant = &set.relevant[q];
            let mut scores = vec![0.0; texts.len()];
            for (d, score) in bm25.search(&set.queries[q].text, texts.len()) {
                scores[d.0 as usize] = score;
            }
            let mut rankings = vec![filtered(&scores, relevant, step.top, step.max_share)];
            if let Some(rows) = &by_student {
                let row = &rows[q - from];
                let positive = relevant.iter().map(|&d| row[d]).fold(f32::NEG_INFINITY, f32::max);
                rankings[0].retain(|&d| row[d] <= step.max_share * positive);
                rankings.insert(0, filtered(row, relevant, step.top, step.max_share));
            }
            let Some(&positive) = relevant.first() else { continue };
            let mut documents = vec![positive];
            let longest = rankings.iter().map(Vec::len).max().unwrap_or(0);
            for rank in 0..longest {
                for ranking in &rankings {
                    if let Some(d) = ranking.get(rank)
                        && documents.len() < step.n_way
                        && !documents.contains(d)
                    {
                        documents.push(*d);
                    }
                }
            }
            if documents.len() == step.n_way {
                let mut labels = vec![0.0; step.n_way];
                labels[0] = 1.0;
                lists.push(List { query: q, documents, labels, scores: Vec::new() });
            }
        }
        say(range.end, n);
    }
    Ok(Lists {
        queries: set.queries.iter().map(|q| (q.id.clone(), q.text.clone())).collect(),
        documents: set.passages.iter().zip(texts).map(|(p, text)| (p.id.clone(), text)).collect(),
        lists,
        score_kind: ScoreKind::None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Passage, QueryText};

    #[test]
    fn candidates_near_or_above_the_positive_are_dropped() {
        assert_eq!(filtered(&[10.0, 9.8, 5.0, 12.0, 0.0], &[0], 5, 0.95), [2]);
        assert_eq!(filtered(&[10.0, 9.0, 5.0], &[0, 2], 5, 0.95), [1]);
    }

    #[test]
    fn bm25_negatives_share_words_with_the_query_and_are_no_answers() {
        let passages = ["京都の寺と庭の歴史", "京都の駅", "東京の塔", "寺の鐘"];
        let set = RetrievalSet {
            passages: passages
                .iter()
                .enumerate()
                .map(|(i, t)| Passage { id: format!("p{i}"), title: String::new(), text: (*t).to_owned() })
                .collect(),
            queries: vec![QueryText { id: "q".into(), text: "京都の寺の庭".into() }],
            relevant: vec![vec![0]],
            grades: Vec::new(),
        };
        let step: MineStep =
            toml::from_str("name = 'mine'\nset = 'x'\nn_way = 3").expect("a step with defaults");
        let lists = mine(&set, &step, None, |_, _| ()).expect("lists");
        assert_eq!(lists.lists.len(), 1);
        assert_eq!(lists.lists[0].documents[0], 0);
        assert!(lists.lists[0].documents[1..].iter().all(|d| [1, 3].contains(d)));
        assert_eq!(lists.lists[0].labels, [1.0, 0.0, 0.0]);
    }
}
