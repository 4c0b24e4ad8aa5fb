//! The index of meaning, in memory or on its host, and the scores of a query over either.

use crate::RetrieverError;
use crate::facets::Facets;
use crate::fusion::{fuse_among, top_k};
use shirube_core::DocId;
use shirube_format::FormatError;
use shirube_format::bundle::{BlockTable, Need};
use shirube_index::{
    Approximate, DocumentSet, Index, LazyIndex, LazyOptions, PreparedQuery, SearchMode, SearchOptions, Step,
};
use shirube_kernels::TokenMatch;

/// The token embeddings of a bundle.
#[derive(Debug)]
pub enum Vectors {
    /// All in memory: every document is scored, of a large index those that look best.
    Resident(Box<Index>),
    /// On their host: a search asks for what it needs, and scores the documents that look best.
    Lazy(Box<LazyIndex>),
}

impl From<Index> for Vectors {
    fn from(index: Index) -> Self {
        Self::Resident(Box::new(index))
    }
}

impl From<LazyIndex> for Vectors {
    fn from(index: LazyIndex) -> Self {
        Self::Lazy(Box::new(index))
    }
}

/// MaxSim of a query.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Scores {
    /// `[n_documents]`; for documents that were not scored an estimate on the same scale.
    pub(crate) maxsim: Vec<f32>,
    /// Which were scored; `None` is all.
    pub(crate) scored: Option<Vec<bool>>,
}

/// What decides which documents are scored, beside the query's embeddings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) facets: &'a Facets,
    /// `[n_documents]` BM25.
    pub(crate) lexical: &'a [f32],
    pub(crate) lexical_weight: f32,
    /// Documents that pass the filters; `None` is all.
    pub(crate) allowed: Option<&'a [bool]>,
    /// Hits wanted.
    pub(crate) limit: usize,
    /// Which of those that pass are scored exactly.
    pub(crate) mode: SearchMode,
}

impl Wanted<'_> {
    /// What documents are ranked by: words and meaning in one score, then the weights of the site.
    pub(crate) fn fused(&self, maxsim: &[f32]) -> Vec<f32> {
        let mut fused = fuse_among(maxsim, self.lexical, self.lexical_weight, self.allowed);
        self.facets.weigh(&mut fused, self.allowed);
        fused
    }

    fn passes(&self, document: u32) -> bool {
        self.allowed.is_none_or(|allowed| allowed[document as usize])
    }

    /// The `n` best documents by estimates of their MaxSim `[n_documents]`, best first: those with the query's words come up here too.
    fn ranked(&self, maxsim: &[f32], n: usize) -> impl Iterator<Item = DocId> {
        let all = (0..maxsim.len() as u32).filter(|&d| self.passes(d));
        top_k(all, &self.fused(maxsim), n).into_iter().map(DocId)
    }

    /// Exact scores of the `candidates` among the estimates of all others, which are brought to the same scale: they spread the weights of a site, and
    /// are never ranked.
    fn settle(&self, mut maxsim: Vec<f32>, candidates: Vec<DocId>, exact: Vec<f32>) -> Scores {
        let best = |scores: &[f32]| scores.iter().copied().fold(0.0, f32::max);
        let estimated_best = best(&maxsim);
        let ratio = if estimated_best > 0.0 { best(&exact) / estimated_best } else { 0.0 };
        maxsim.iter_mut().for_each(|score| *score *= ratio);
        let mut scored = vec![false; maxsim.len()];
        for (document, score) in candidates.into_iter().zip(exact) {
            maxsim[document.0 as usize] = score;
            // Of an index on its host some came along with their block though the filter leaves them out.
            scored[document.0 as usize] = self.passes(document.0);
        }
        Scores { maxsim, scored: Some(scored) }
    }
}

/// `[n_documents]` scores of the approximate stage.
fn estimates(approximate: &Approximate, n_documents: usize) -> Vec<f32> {
    let mut maxsim = vec![approximate.others; n_documents];
    approximate.found.iter().for_each(|found| maxsim[found.document.0 as usize] = found.score);
    maxsim
}

impl Vectors {
    pub(crate) fn n_documents(&self) -> usize {
        match self {
            Self::Resident(index) => index.n_documents(),
            Self::Lazy(index) => index.n_documents(),
        }
    }

    pub(crate) fn dim(&self) -> usize {
        match self {
            Self::Resident(index) => index.dim(),
            Self::Lazy(index) => index.dim(),
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        match self {
            Self::Resident(index) => index.memory_bytes(),
            Self::Lazy(index) => index.memory_bytes(),
        }
    }

    pub(crate) fn prepare(&self, query_embeddings: &[f32]) -> Result<PreparedQuery, RetrieverError> {
        Ok(match self {
            Self::Resident(index) => index.prepare(query_embeddings)?,
            Self::Lazy(index) => index.prepare(query_embeddings)?,
        })
    }

    /// The tables whose shards searches ask for.
    pub(crate) fn block_tables(&self) -> Vec<&BlockTable> {
        match self {
            Self::Resident(_) => Vec::new(),
            Self::Lazy(index) => index.block_tables().to_vec(),
        }
    }

    /// Takes bytes of a shard of one of these tables.
    pub(crate) fn provide(&mut self, path: &str, start: u64, bytes: &[u8]) -> Result<(), RetrieverError> {
        match self {
            Self::Resident(_) => Err(FormatError::Unknown { path: path.to_owned() }.into()),
            Self::Lazy(index) => Ok(index.provide(path, start, bytes)?),
        }
    }

    /// What a query needs before anything is known of its words.
    pub(crate) fn first_needs(&self, query: &PreparedQuery, options: &LazyOptions) -> Vec<Need> {
        match self {
            Self::Resident(_) => Vec::new(),
            Self::Lazy(index) => index.list_needs(query, options),
        }
    }

    /// Scores every document that passes, or those that look best by centroids and words together.
    pub(crate) fn score(
        &mut self,
        query: &PreparedQuery,
        options: &LazyOptions,
        wanted: Wanted<'_>,
    ) -> Result<Step<Scores>, RetrieverError> {
        match self {
            Self::Resident(index) => Ok(Step::Done(score_in_memory(index, query, wanted)?)),
            Self::Lazy(index) => score_on_host(index, query, options, wanted),
        }
    }

    /// MaxSim of the best window of some documents, in their order.
    pub(crate) fn best_windows(
        &mut self,
        query: &PreparedQuery,
        options: &LazyOptions,
        documents: &[DocId],
    ) -> Result<Step<Vec<f32>>, RetrieverError> {
        Ok(match self {
            Self::Resident(index) => Step::Done(index.best_windows(query, documents)?),
            Self::Lazy(index) => index.best_windows(query, options, documents)?,
        })
    }

    /// For each query token, the stored token of a scored document that it matched best.
    pub(crate) fn matches(
        &self,
        query: &PreparedQuery,
        document: DocId,
    ) -> Result<Vec<TokenMatch>, RetrieverError> {
        Ok(match self {
            Self::Resident(index) => index.matches(query, document)?,
            Self::Lazy(index) => index.matches(query, document)?.unwrap_or_default(),
        })
    }

    /// After an answer: drops what was not used for longest.
    pub(crate) fn tidy(&mut self) {
        if let Self::Lazy(index) = self {
            index.tidy();
        }
    }
}

fn score_in_memory(
    index: &Index,
    query: &PreparedQuery,
    wanted: Wanted<'_>,
) -> Result<Scores, RetrieverError> {
    let passing =
        |allowed: &[bool]| (0..allowed.len() as u32).filter(|&d| allowed[d as usize]).map(DocId).collect();
    let filter: Option<DocumentSet> = wanted.allowed.map(passing);
    let options = SearchOptions { mode: wanted.mode, filter: filter.as_ref(), ..SearchOptions::default() };
    let n = index.n_documents();
    let (maxsim, candidates) = match (index.estimate(query, &options)?, &filter) {
        (None, None) => return Ok(Scores { maxsim: index.score_all(query)?, scored: None }),
        (None, Some(filter)) => (vec![0.0; n], filter.iter().collect()),
        (Some(approximate), _) => {
            let maxsim = estimates(&approximate, n);
            // A short query says little to the approximate stage, and costs little in the exact one: what one of 32 tokens is allowed. Several
            // passages of a section make one hit.
            let n_candidates =
                (options.n_candidates * 32 / query.n_tokens().clamp(1, 32)).max(2 * wanted.limit);
            let mut candidates: Vec<DocId> = wanted.ranked(&maxsim, n_candidates).collect();
            // In the order in which they lie in memory.
            candidates.sort_unstable();
            (maxsim, candidates)
        }
    };
    let exact = index.score(query, &candidates)?;
    Ok(wanted.settle(maxsim, candidates, exact))
}

fn score_on_host(
    index: &mut LazyIndex,
    query: &PreparedQuery,
    options: &LazyOptions,
    wanted: Wanted<'_>,
) -> Result<Step<Scores>, RetrieverError> {
    let approximate = match index.approximate(query, options)? {
        Step::Done(approximate) => approximate,
        Step::Needs(needs) => return Ok(Step::Needs(needs)),
    };
    let maxsim = estimates(&approximate, index.n_documents());
    let ranked = wanted.ranked(&maxsim, options.n_full_scores.max(wanted.limit));
    let candidates = index.affordable(query, options, ranked, wanted.limit)?;
    Ok(match index.score(query, options, &candidates)? {
        Step::Done(exact) => Step::Done(wanted.settle(maxsim, candidates, exact)),
        Step::Needs(needs) => Step::Needs(needs),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use shirube_format::bundle::{FacetTable, Section};
    use shirube_index::ScoredDocument;

    #[test]
    fn candidates_come_by_centroids_and_by_words_and_none_that_a_filter_leaves_out() {
        let sections = vec![Section::default(); 6];
        let facets = Facets::new(FacetTable::of(&sections), 6);
        let found = |document, score| ScoredDocument { document: DocId(document), score };
        let approximate =
            Approximate { others: 10.0, found: vec![found(1, 40.0), found(2, 30.0), found(4, 20.0)] };
        let maxsim = estimates(&approximate, 6);
        assert_eq!(maxsim, [10.0, 40.0, 30.0, 10.0, 20.0, 10.0]);
        let lexical = [0.0, 0.0, 0.0, 8.0, 0.0, 1.0];
        let wanted = |lexical_weight, allowed| Wanted {
            facets: &facets,
            lexical: &lexical,
            lexical_weight,
            allowed,
            limit: 2,
            mode: SearchMode::Probe,
        };
        let ranked = |wanted: Wanted<'_>, n| wanted.ranked(&maxsim, n).map(|d| d.0).collect::<Vec<_>>();
        assert_eq!(ranked(wanted(0.0, None), 3), [1, 2, 4]);
        // No list names document 3; the query's words bring it.
        assert_eq!(ranked(wanted(1.0, None), 2), [3, 1]);
        let allowed = [true, false, true, false, true, true];
        assert_eq!(ranked(wanted(1.0, Some(&allowed)), 3), [5, 2, 4]);
    }
}
