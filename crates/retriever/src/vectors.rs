//! The index of meaning, in memory or on its host, and the scores of a query over either.

use crate::RetrieverError;
use crate::facets::Facets;
use crate::fusion::{fuse, top_k};
use shirube_core::DocId;
use shirube_format::FormatError;
use shirube_format::bundle::{BlockTable, Need};
use shirube_index::{Index, LazyIndex, LazyOptions, PreparedQuery, Step};
use shirube_kernels::TokenMatch;

/// The token embeddings of a bundle.
#[derive(Debug)]
pub enum Vectors {
    /// All in memory: every document is scored.
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

/// What a search that stays lazy must know of a query's other half.
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

    /// Scores every document, or those that look best by centroids and words together.
    pub(crate) fn score(
        &mut self,
        query: &PreparedQuery,
        options: &LazyOptions,
        wanted: Wanted<'_>,
    ) -> Result<Step<Scores>, RetrieverError> {
        let index = match self {
            Self::Resident(index) => {
                return Ok(Step::Done(Scores { maxsim: index.score_all(query)?, scored: None }));
            }
            Self::Lazy(index) => index,
        };
        let approximate = match index.approximate(query, options)? {
            Step::Done(approximate) => approximate,
            Step::Needs(needs) => return Ok(Step::Needs(needs)),
        };
        let mut maxsim = vec![approximate.others; index.n_documents()];
        approximate.found.iter().for_each(|found| maxsim[found.document.0 as usize] = found.score);
        let mut fused = fuse(&maxsim, wanted.lexical, wanted.lexical_weight);
        wanted.facets.weigh(&mut fused);
        let passes = |&d: &u32| wanted.allowed.is_none_or(|allowed| allowed[d as usize]);
        let all = (0..maxsim.len() as u32).filter(passes).collect();
        let ranked = top_k(all, &fused, options.n_full_scores.max(wanted.limit)).into_iter().map(DocId);
        let candidates = index.affordable(query, options, ranked, wanted.limit)?;
        let exact = match index.score(query, options, &candidates)? {
            Step::Done(exact) => exact,
            Step::Needs(needs) => return Ok(Step::Needs(needs)),
        };
        // Estimates on the scale of the exact scores: they spread weights, and are never ranked.
        let best = |scores: &[f32]| scores.iter().copied().fold(0.0, f32::max);
        let approximate_best = best(&maxsim);
        let ratio = if approximate_best > 0.0 { best(&exact) / approximate_best } else { 0.0 };
        maxsim.iter_mut().for_each(|score| *score *= ratio);
        let mut scored = vec![false; maxsim.len()];
        for (document, score) in candidates.into_iter().zip(exact) {
            maxsim[document.0 as usize] = score;
            // Some came along with their block though the filter leaves them out: their scores only tell the scale.
            scored[document.0 as usize] = passes(&document.0);
        }
        Ok(Step::Done(Scores { maxsim, scored: Some(scored) }))
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
