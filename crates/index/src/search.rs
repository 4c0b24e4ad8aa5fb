//! From a query to documents in three stages, each on what the one before it left:
//!
//! 1. *probe*: the documents with a token near a query token, by an inverted file over centroids (PLAID, Santhanam et al. 2022, section 4);
//! 2. *approximate*: centroid scores as bytes, no residuals, twenty to forty times as fast as exact;
//! 3. *exact*: MaxSim of the best `n_candidates`, and of what the caller adds (documents that share words with the query).
//!
//! A small index starts at stage 3, a middling one at stage 2: [`SCAN_TOKENS`] is where `npm run bench -- crossover` saw the times cross, and [`EXACT_TOKENS`]
//! well above where it did. A filter leaves documents out before anything is scored.

use crate::index::{Index, best, select};
use crate::{IndexError, PreparedQuery, ScoredDocument};
use shirube_core::DocId;
use shirube_kernels::TokenRange;

/// Up to this many stored tokens, some two thousand sections, every document is scored exactly. A scan is faster from a quarter as many on, but exact takes five
/// milliseconds at most here, which nobody sees, and loses nothing: of jaquad/dev (165,000 tokens) a scan keeps 99.9 % of the nDCG@10 of MaxSim alone.
pub const EXACT_TOKENS: usize = 1 << 18;

/// Up to this many stored tokens every document is scored approximately; above, only those that are probed.
pub const SCAN_TOKENS: usize = 1 << 20;

/// Where a search starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SearchMode {
    /// By the size of the index.
    #[default]
    Auto,
    /// All documents exactly: the reference for checks.
    Exact,
    /// All documents approximately, then the best exactly.
    Scan,
    /// All three stages.
    Probe,
}

/// A set of documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DocumentSet {
    words: Vec<u64>,
}

/// Settings of a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchOptions<'a> {
    /// Documents wanted.
    pub top_k: usize,
    /// Where to start.
    pub mode: SearchMode,
    /// Centroids probed for each query token; more finds more and takes longer.
    pub n_probe: usize,
    /// Share, 0 to 1, of a query token's best centroid score below which a centroid is not probed; 0 probes all `n_probe`, 1 only the best.
    pub centroid_score_threshold: f32,
    /// Documents scored exactly after the approximate stage, at least `top_k`.
    pub n_candidates: usize,
    /// Only these are considered; `None` is all.
    pub filter: Option<&'a DocumentSet>,
    /// Documents scored exactly in any case, if the filter lets them.
    pub also: &'a [DocId],
}

/// Documents by their approximate scores: sums of bytes, of no unit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Approximate {
    /// What a document that is not in `found` scores.
    pub others: f32,
    /// Documents looked at, ascending, with their scores, all at or above `others`.
    pub found: Vec<ScoredDocument>,
}

/// What a search found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SearchOutcome {
    /// Best first, ties to the lower id.
    pub hits: Vec<ScoredDocument>,
    /// Documents scored approximately.
    pub n_approximate: usize,
    /// Documents scored exactly.
    pub n_exact: usize,
}

impl Default for SearchOptions<'_> {
    fn default() -> Self {
        Self {
            top_k: 10,
            mode: SearchMode::Auto,
            n_probe: 4,
            centroid_score_threshold: 0.5,
            n_candidates: 512,
            filter: None,
            also: &[],
        }
    }
}

impl DocumentSet {
    /// Adds a document; whether it was new.
    pub fn insert(&mut self, document: DocId) -> bool {
        let (word, bit) = (document.0 as usize / 64, 1 << (document.0 % 64));
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        new
    }

    /// Whether a document is in the set.
    pub fn contains(&self, document: DocId) -> bool {
        self.words.get(document.0 as usize / 64).is_some_and(|word| word >> (document.0 % 64) & 1 == 1)
    }

    /// The documents, ascending.
    pub fn iter(&self) -> impl Iterator<Item = DocId> {
        self.words.iter().enumerate().flat_map(|(w, &word)| {
            let mut word = word;
            core::iter::from_fn(move || {
                (word != 0).then(|| {
                    let bit = word.trailing_zeros();
                    word &= word - 1;
                    DocId(64 * w as u32 + bit)
                })
            })
        })
    }
}

impl FromIterator<DocId> for DocumentSet {
    fn from_iter<T: IntoIterator<Item = DocId>>(documents: T) -> Self {
        let mut set = Self::default();
        documents.into_iter().for_each(|d| {
            set.insert(d);
        });
        set
    }
}

/// For each centroid, the documents with a token there.
#[derive(Debug)]
pub(crate) struct Ivf {
    /// `[n_centroids + 1]`.
    starts: Vec<u32>,
    /// Ascending inside a centroid.
    documents: Vec<u32>,
}

impl Ivf {
    pub(crate) fn build(codes: &[u16], documents: &[TokenRange], n_centroids: usize) -> Self {
        // Each document counts once a centroid: `last` remembers the latest, plus one.
        let mut last = vec![0_u32; n_centroids];
        let mut starts = vec![0_u32; n_centroids + 1];
        let each = |last: &mut [u32], f: &mut dyn FnMut(usize, u32)| {
            for (d, range) in documents.iter().enumerate() {
                for &code in &codes[range.start as usize..range.end as usize] {
                    let code = usize::from(code);
                    if last[code] != d as u32 + 1 {
                        last[code] = d as u32 + 1;
                        f(code, d as u32);
                    }
                }
            }
        };
        each(&mut last, &mut |code, _| starts[code + 1] += 1);
        for c in 0..n_centroids {
            starts[c + 1] += starts[c];
        }
        let mut next = starts.clone();
        let mut postings = vec![0; starts[n_centroids] as usize];
        last.fill(0);
        each(&mut last, &mut |code, d| {
            postings[next[code] as usize] = d;
            next[code] += 1;
        });
        Self { starts, documents: postings }
    }

    pub(crate) fn of(&self, centroid: u16) -> &[u32] {
        let c = usize::from(centroid);
        &self.documents[self.starts[c] as usize..self.starts[c + 1] as usize]
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        4 * (self.starts.len() + self.documents.len())
    }
}

impl Index {
    /// The best documents by the stages of this module. Documents without tokens are left out, and so is every document of a query without
    /// tokens.
    ///
    /// # Errors
    /// [`IndexError::Parts`] if the query was prepared for another index, [`IndexError::UnknownDocument`] for an id in `also` that does not exist.
    pub fn search_with(
        &self,
        query: &PreparedQuery,
        options: &SearchOptions<'_>,
    ) -> Result<SearchOutcome, IndexError> {
        if query.n_tokens() == 0 || options.top_k == 0 {
            return Ok(SearchOutcome::default());
        }
        let (candidates, n_approximate) = self.candidates(query, options)?;
        let scores = self.score(query, &candidates)?;
        let n_exact = candidates.len();
        let scored =
            candidates.into_iter().zip(scores).map(|(document, score)| ScoredDocument { document, score });
        Ok(SearchOutcome { hits: best(scored.collect(), options.top_k), n_approximate, n_exact })
    }

    /// The documents that the approximate stage looks at, with their scores there; `None` where the mode has no such stage and every document that the
    /// filter lets through is scored exactly. For callers that mix MaxSim with another score before they choose candidates.
    ///
    /// # Errors
    /// [`IndexError::Parts`] if the query was prepared for another index.
    pub fn estimate(
        &self,
        query: &PreparedQuery,
        options: &SearchOptions<'_>,
    ) -> Result<Option<Approximate>, IndexError> {
        let pool: Vec<DocId> = match self.mode(options.mode) {
            SearchMode::Exact => return Ok(None),
            SearchMode::Scan | SearchMode::Auto => self.all(options.filter).collect(),
            SearchMode::Probe => {
                let ivf = self.ivf();
                let mut found = DocumentSet::default();
                for centroid in self.scorer().probe(query, options.n_probe, options.centroid_score_threshold)
                {
                    ivf.of(centroid).iter().for_each(|&d| {
                        found.insert(DocId(d));
                    });
                }
                found.iter().filter(|&d| self.wanted(d, options.filter)).collect()
            }
        };
        let scores = self.approximate(query, &pool)?;
        let others = match self.mode(options.mode) {
            SearchMode::Probe => scores.iter().copied().min().unwrap_or(0),
            _ => 0,
        };
        let found = pool.into_iter().zip(scores);
        let found = found.map(|(document, score)| ScoredDocument { document, score: score as f32 });
        Ok(Some(Approximate { others: others as f32, found: found.collect() }))
    }

    /// The documents to score exactly, ascending, and how many were scored approximately to find them.
    fn candidates(
        &self,
        query: &PreparedQuery,
        options: &SearchOptions<'_>,
    ) -> Result<(Vec<DocId>, usize), IndexError> {
        let Some(Approximate { found, .. }) = self.estimate(query, options)? else {
            return Ok((self.all(options.filter).collect(), 0));
        };
        let n_approximate = found.len();
        let mut kept: DocumentSet =
            select(found, options.n_candidates.max(options.top_k)).into_iter().map(|d| d.document).collect();
        for &document in options.also {
            self.range(document)?;
            if self.wanted(document, options.filter) {
                kept.insert(document);
            }
        }
        Ok((kept.iter().collect(), n_approximate))
    }

    /// The mode that `Auto` stands for here.
    fn mode(&self, mode: SearchMode) -> SearchMode {
        match mode {
            SearchMode::Auto if self.n_tokens() <= EXACT_TOKENS => SearchMode::Exact,
            SearchMode::Auto if self.n_tokens() <= SCAN_TOKENS => SearchMode::Scan,
            SearchMode::Auto => SearchMode::Probe,
            mode => mode,
        }
    }

    fn wanted(&self, document: DocId, filter: Option<&DocumentSet>) -> bool {
        filter.is_none_or(|set| set.contains(document)) && self.has_tokens(document)
    }

    fn all<'a>(&'a self, filter: Option<&'a DocumentSet>) -> impl Iterator<Item = DocId> + 'a {
        (0..self.n_documents() as u32).map(DocId).filter(move |&d| self.wanted(d, filter))
    }
}
