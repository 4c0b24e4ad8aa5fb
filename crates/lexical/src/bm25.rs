//! BM25 over an inverted index in memory.
//!
//! ```text
//! score(q, d) = sum over terms t of q: idf(t) * tf / (tf + k1 * (1 - b + b * length(d) / mean length))
//! idf(t)      = ln(1 + (N - df + 0.5) / (df + 0.5))
//! ```
//!
//! Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework", with Lucene's idf, which is never negative, and
//! without the constant factor `k1 + 1`, which changes no order. A term that the query repeats counts again. Lengths are exact
//! (Lucene rounds them to a byte). Each posting holds its finished share of the score, so a search only adds.

use crate::query::{Postings, Query};
use crate::{Analyzer, LexicalError, Term};
use shirube_core::DocId;
use std::cmp::Ordering;
use std::collections::HashMap;

/// Documents by terms.
///
/// ```
/// use shirube_lexical::{Analyzer, Bm25Index};
/// let index = Bm25Index::build(["京都の寺", "東京の駅"], Analyzer::bigrams(), 0.9, 0.4)?;
/// assert_eq!(index.search("東京駅", 1)[0].0.0, 1);
/// # Ok::<(), shirube_lexical::LexicalError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Bm25Index {
    analyzer: Analyzer,
    terms: HashMap<Term, u32>,
    /// Postings of term `t`: `postings[starts[t]..starts[t + 1]]`, by ascending document.
    starts: Vec<usize>,
    postings: Vec<(u32, f32)>,
    n_docs: usize,
}

impl Bm25Index {
    /// The index of `texts`, numbered from 0. `k1` (0.9 to 1.5 usual) sets how fast repetitions saturate, 0 counts presence
    /// alone; `b` (0 to 1) how much long documents are damped.
    ///
    /// # Errors
    /// [`LexicalError::Parameter`] for `k1` or `b` out of range, [`LexicalError::TooManyDocuments`] above 2^32 - 1.
    pub fn build<T: AsRef<str>>(
        texts: impl IntoIterator<Item = T>,
        analyzer: Analyzer,
        k1: f32,
        b: f32,
    ) -> Result<Self, LexicalError> {
        check_parameters(k1, b)?;
        let mut terms: HashMap<Term, u32> = HashMap::new();
        // (term, document, tf), by document
        let mut counts: Vec<(u32, u32, u32)> = Vec::new();
        let mut lengths: Vec<u32> = Vec::new();
        let mut of_one: Vec<u32> = Vec::new();
        for text in texts {
            let doc = u32::try_from(lengths.len())
                .ok()
                .filter(|&doc| doc < u32::MAX)
                .ok_or(LexicalError::TooManyDocuments)?;
            of_one.clear();
            analyzer.terms(text.as_ref(), |term| {
                let next = terms.len() as u32;
                of_one.push(*terms.entry(term).or_insert(next));
            });
            lengths.push(of_one.len() as u32);
            of_one.sort_unstable();
            counts.extend(of_one.chunk_by(|a, b| a == b).map(|same| (same[0], doc, same.len() as u32)));
        }
        let n_docs = lengths.len();
        let mean = lengths.iter().map(|&l| f64::from(l)).sum::<f64>() / n_docs.max(1) as f64;
        let mut starts = vec![0usize; terms.len() + 1];
        for &(term, ..) in &counts {
            starts[term as usize + 1] += 1;
        }
        for t in 0..terms.len() {
            starts[t + 1] += starts[t];
        }
        let mut at = starts.clone();
        let mut postings = vec![(0u32, 0f32); counts.len()];
        for (term, doc, tf) in counts {
            let term = term as usize;
            let share = Share::new(k1, b, n_docs, mean, starts[term + 1] - starts[term]);
            postings[at[term]] = (doc, share.of(tf, lengths[doc as usize]));
            at[term] += 1;
        }
        Ok(Self { analyzer, terms, starts, postings, n_docs })
    }

    /// The `k` best documents for `query`, best first, ties to the lower id. Documents without a term of the query never
    /// appear, so there can be fewer than `k`.
    ///
    /// With [`Analyzer::grams`] other spellings of the query's words count too, below what is spelled as typed (module `query`); the other analyses
    /// are BM25 as written above.
    pub fn search(&self, query: &str, k: usize) -> Vec<(DocId, f32)> {
        let (scores, _) = Query::new(&self.analyzer, query).score(self);
        // Shares are positive: zero means without any term.
        let found = (0..scores.len() as u32).filter(|&doc| scores[doc as usize] > 0.0).collect();
        best(found, &scores, k)
    }

    fn postings_of(&self, term: &Term) -> &[(u32, f32)] {
        match self.terms.get(term) {
            Some(&term) => &self.postings[self.starts[term as usize]..self.starts[term as usize + 1]],
            None => &[],
        }
    }

    /// Number of documents.
    pub fn n_docs(&self) -> usize {
        self.n_docs
    }

    /// Number of distinct terms.
    pub fn n_terms(&self) -> usize {
        self.terms.len()
    }
}

impl Postings for Bm25Index {
    fn n_docs(&self) -> usize {
        self.n_docs
    }

    fn n_documents(&self, term: &Term) -> u32 {
        self.postings_of(term).len() as u32
    }

    fn for_each(&self, term: &Term, each: &mut dyn FnMut(usize, f32)) {
        self.postings_of(term).iter().for_each(|&(document, share)| each(document as usize, share));
    }
}

/// The rarity of a term that `n_documents` of `n_docs` hold.
pub(crate) fn idf(n_docs: usize, n_documents: usize) -> f64 {
    let df = n_documents as f64;
    (1.0 + (n_docs as f64 - df + 0.5) / (df + 0.5)).ln()
}

/// Refuses parameters out of range.
pub(crate) fn check_parameters(k1: f32, b: f32) -> Result<(), LexicalError> {
    if !(0.0..=100.0).contains(&k1) {
        return Err(LexicalError::Parameter { name: "k1", value: k1, expected: "a number from 0 to 100" });
    }
    if !(0.0..=1.0).contains(&b) {
        return Err(LexicalError::Parameter { name: "b", value: b, expected: "a number from 0 to 1" });
    }
    Ok(())
}

/// The share of one term in the scores, as the formula above says.
pub(crate) struct Share {
    idf: f64,
    k1: f64,
    b: f64,
    mean: f64,
}

impl Share {
    pub(crate) fn new(k1: f32, b: f32, n_docs: usize, mean: f64, n_documents: usize) -> Self {
        Self { idf: idf(n_docs, n_documents), k1: f64::from(k1), b: f64::from(b), mean }
    }

    /// For a document of `length` terms that holds this one `count` times.
    pub(crate) fn of(&self, count: u32, length: u32) -> f32 {
        let tf = f64::from(count);
        let damping = 1.0 - self.b + self.b * f64::from(length) / self.mean;
        (self.idf * tf / (tf + self.k1 * damping)) as f32
    }
}

/// The `k` best of `found` by `scores`, best first, ties to the lower id.
pub(crate) fn best(mut found: Vec<u32>, scores: &[f32], k: usize) -> Vec<(DocId, f32)> {
    let order = |&a: &u32, &b: &u32| -> Ordering {
        scores[b as usize].total_cmp(&scores[a as usize]).then(a.cmp(&b))
    };
    if k == 0 {
        return Vec::new();
    }
    if found.len() > k {
        found.select_nth_unstable_by(k - 1, order);
        found.truncate(k);
    }
    found.sort_unstable_by(order);
    found.into_iter().map(|doc| (DocId(doc), scores[doc as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(texts: &[&str]) -> Bm25Index {
        Bm25Index::build(texts, Analyzer::bigrams(), 0.9, 0.4).expect("parameters are in range")
    }

    #[test]
    fn the_score_is_the_formula_written_out() {
        let index = index(&["ruby ruby rust", "rust", "python"]);
        let found = index.search("ruby", 10);
        let idf = (1.0f64 + 2.5 / 1.5).ln();
        let expected = idf * 2.0 / (2.0 + 0.9 * (0.6 + 0.4 * 3.0 / (5.0 / 3.0)));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, DocId(0));
        assert!((f64::from(found[0].1) - expected).abs() < 1e-6, "{} and {expected}", found[0].1);
    }

    #[test]
    fn ties_go_to_the_lower_id_at_every_cut() {
        let index = index(&["花", "鳥", "花", "花", "月"]);
        for k in 0..5 {
            let ids: Vec<u32> = index.search("花", k).iter().map(|hit| hit.0.0).collect();
            assert_eq!(ids, [0, 2, 3][..k.min(3)]);
        }
    }

    #[test]
    fn a_repeated_query_term_counts_again() {
        let index = index(&["赤い花", "青い空"]);
        let (once, twice) = (index.search("赤い", 1)[0].1, index.search("赤い 赤い", 1)[0].1);
        assert!((twice - 2.0 * once).abs() < 1e-6);
    }

    #[test]
    fn empty_collections_documents_and_queries_give_no_hits() {
        assert!(index(&[]).search("何か", 5).is_empty());
        assert!(index(&["", "。"]).search("何か", 5).is_empty());
        assert!(index(&["何か"]).search("", 5).is_empty());
    }

    #[test]
    fn parameters_out_of_range_are_refused() {
        for (k1, b) in [(-0.1, 0.4), (f32::NAN, 0.4), (f32::INFINITY, 0.4), (0.9, 1.1), (0.9, f32::NAN)] {
            assert!(matches!(
                Bm25Index::build(["x"], Analyzer::bigrams(), k1, b),
                Err(LexicalError::Parameter { .. })
            ));
        }
    }
}
