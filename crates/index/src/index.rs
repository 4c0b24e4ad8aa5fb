//! The index in memory: all documents' compressed tokens, and MaxSim over some or all of them.

use crate::builder::BuiltIndex;
use crate::codec::ResidualCodec;
use crate::error::IndexError;
use crate::scorer::{PreparedQuery, Scorer};
use crate::search::{Ivf, SCAN_TOKENS};
use shirube_core::DocId;
use shirube_format::bundle::{Bundle, CodecTables};
use shirube_kernels::{CompressedTokens, Kernels, TokenMatch, TokenRange};
use std::sync::OnceLock;

/// A document and its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredDocument {
    /// Document.
    pub document: DocId,
    /// MaxSim; higher is better.
    pub score: f32,
}

/// An index held in memory (resident mode).
#[derive(Debug)]
pub struct Index {
    scorer: Scorer,
    codes: Vec<u16>,
    residuals: Vec<u8>,
    inverse_norms: Vec<f32>,
    documents: Vec<TokenRange>,
    /// Made by [`Self::open`] where searches probe, otherwise by the first one that is told to.
    ivf: OnceLock<Ivf>,
}

impl Index {
    /// The index inside a bundle. Norms are recomputed here: `n_tokens * dim` additions against four bytes a token to download.
    ///
    /// # Errors
    /// [`IndexError::Parts`] if lengths do not fit together, which a checked bundle excludes.
    pub fn open(bundle: Bundle, kernels: Kernels) -> Result<Self, IndexError> {
        Self::from_parts(
            ResidualCodec::new(bundle.tables),
            &bundle.lengths,
            bundle.codes,
            bundle.residuals,
            kernels,
        )
    }

    /// The index just built.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_built(built: &BuiltIndex, kernels: Kernels) -> Result<Self, IndexError> {
        let packed = built.packed.clone();
        Self::from_parts(built.codec.clone(), &built.lengths, packed.codes, packed.residuals, kernels)
    }

    fn from_parts(
        codec: ResidualCodec,
        lengths: &[u16],
        codes: Vec<u16>,
        residuals: Vec<u8>,
        kernels: Kernels,
    ) -> Result<Self, IndexError> {
        let parts = |what: String| Err(IndexError::Parts { what });
        let mut documents = Vec::with_capacity(lengths.len());
        let mut start = 0_u32;
        for &n in lengths {
            let Some(end) = start.checked_add(u32::from(n)) else {
                return parts("more than 2^32 tokens".to_owned());
            };
            documents.push(TokenRange { start, end });
            start = end;
        }
        if start as usize != codes.len() || residuals.len() != codes.len() * codec.row_bytes() {
            return parts(format!(
                "lengths add up to {start}, {} codes, {} residual bytes",
                codes.len(),
                residuals.len()
            ));
        }
        let n_centroids = codec.tables().n_centroids();
        if let Some(code) = codes.iter().find(|&&c| usize::from(c) >= n_centroids) {
            return parts(format!("code {code} of {n_centroids} centroids"));
        }
        let inverse_norms = codec.inverse_norms(&codes, &residuals);
        let scorer = Scorer::new(codec, kernels);
        let index = Self { scorer, codes, residuals, inverse_norms, documents, ivf: OnceLock::new() };
        if index.n_tokens() > SCAN_TOKENS {
            // Not left to the first search, which would wait for it.
            index.ivf();
        }
        Ok(index)
    }

    /// Documents.
    pub fn n_documents(&self) -> usize {
        self.documents.len()
    }

    /// Stored tokens.
    pub fn n_tokens(&self) -> usize {
        self.codes.len()
    }

    /// Width of a token embedding.
    pub fn dim(&self) -> usize {
        self.scorer.codec().dim()
    }

    /// Centroids and bucket tables.
    pub fn tables(&self) -> &CodecTables {
        self.scorer.codec().tables()
    }

    /// Bytes this index takes in memory.
    pub fn memory_bytes(&self) -> usize {
        4 * self.tables().centroids.len()
            + 2 * self.codes.len()
            + self.residuals.len()
            + 4 * self.inverse_norms.len()
            + 8 * self.documents.len()
            + self.ivf.get().map_or(0, Ivf::memory_bytes)
    }

    /// Rebuilt embeddings `[n_tokens, dim]` of one document; for tools and tests, scoring never rebuilds.
    ///
    /// # Errors
    /// [`IndexError::UnknownDocument`].
    pub fn document_embeddings(&self, document: DocId) -> Result<Vec<f32>, IndexError> {
        let range = self.range(document)?;
        let (dim, bytes) = (self.dim(), self.scorer.codec().row_bytes());
        let mut out = vec![0.0; (range.end - range.start) as usize * dim];
        for (row, t) in out.chunks_exact_mut(dim).zip(range.start as usize..) {
            self.scorer.codec().unpack(self.codes[t], &self.residuals[t * bytes..(t + 1) * bytes], row);
        }
        Ok(out)
    }

    /// What another device needs to score: stored tokens, and each document's range among them.
    pub fn compressed(&self) -> (CompressedTokens<'_>, &[TokenRange]) {
        (self.tokens(), &self.documents)
    }

    /// Codec and kernels, to score tokens that lie elsewhere.
    pub fn scorer(&self) -> &Scorer {
        &self.scorer
    }

    /// Prepares `query_embeddings [n_query_tokens, dim]`.
    ///
    /// # Errors
    /// [`IndexError::Shape`] or [`IndexError::NotFinite`].
    pub fn prepare(&self, query_embeddings: &[f32]) -> Result<PreparedQuery, IndexError> {
        self.scorer.prepare(query_embeddings)
    }

    /// MaxSim of every document, `[n_documents]`.
    ///
    /// # Errors
    /// [`IndexError::Parts`] if the query was prepared for another index.
    pub fn score_all(&self, query: &PreparedQuery) -> Result<Vec<f32>, IndexError> {
        self.scorer.score(query, self.tokens(), &self.documents)
    }

    /// MaxSim of some documents, in their order.
    ///
    /// # Errors
    /// As [`Self::score_all`], and [`IndexError::UnknownDocument`].
    pub fn score(&self, query: &PreparedQuery, documents: &[DocId]) -> Result<Vec<f32>, IndexError> {
        self.scorer.score(query, self.tokens(), &self.ranges(documents)?)
    }

    /// MaxSim of the best window of some documents, in their order; see [`Scorer::best_windows`].
    ///
    /// # Errors
    /// As [`Self::score`].
    pub fn best_windows(&self, query: &PreparedQuery, documents: &[DocId]) -> Result<Vec<f32>, IndexError> {
        self.scorer.best_windows(query, self.tokens(), &self.ranges(documents)?)
    }

    /// Approximate scores of some documents, in their order; see [`Scorer::approximate`].
    ///
    /// # Errors
    /// As [`Self::score`].
    pub fn approximate(&self, query: &PreparedQuery, documents: &[DocId]) -> Result<Vec<u32>, IndexError> {
        self.scorer.approximate(query, &self.codes, &self.ranges(documents)?)
    }

    /// The `top_k` documents with the highest scores, best first, ties to the lower id. Documents without tokens are left out, and so is
    /// every document of a query without tokens.
    ///
    /// # Errors
    /// As [`Self::score_all`].
    pub fn search(&self, query: &PreparedQuery, top_k: usize) -> Result<Vec<ScoredDocument>, IndexError> {
        if query.n_tokens() == 0 {
            return Ok(Vec::new());
        }
        let scores = self.score_all(query)?;
        let scored =
            self.documents.iter().zip(scores).enumerate().filter(|(_, (range, _))| range.start < range.end);
        Ok(best(
            scored.map(|(i, (_, score))| ScoredDocument { document: DocId(i as u32), score }).collect(),
            top_k,
        ))
    }

    /// For each query token, the stored token of `document` that it matched best, the first of equals.
    ///
    /// # Errors
    /// [`IndexError::UnknownDocument`]; [`IndexError::Parts`] as [`Self::score_all`].
    pub fn matches(&self, query: &PreparedQuery, document: DocId) -> Result<Vec<TokenMatch>, IndexError> {
        self.scorer.matches(query, self.tokens(), self.range(document)?)
    }

    pub(crate) fn ivf(&self) -> &Ivf {
        self.ivf.get_or_init(|| Ivf::build(&self.codes, &self.documents, self.tables().n_centroids()))
    }

    pub(crate) fn has_tokens(&self, document: DocId) -> bool {
        self.documents.get(document.0 as usize).is_some_and(|range| range.start < range.end)
    }

    fn ranges(&self, documents: &[DocId]) -> Result<Vec<TokenRange>, IndexError> {
        documents.iter().map(|&d| self.range(d)).collect()
    }

    fn tokens(&self) -> CompressedTokens<'_> {
        CompressedTokens {
            codes: &self.codes,
            residuals: &self.residuals,
            inverse_norms: &self.inverse_norms,
        }
    }

    pub(crate) fn range(&self, document: DocId) -> Result<TokenRange, IndexError> {
        self.documents
            .get(document.0 as usize)
            .copied()
            .ok_or(IndexError::UnknownDocument { document, n_documents: self.documents.len() })
    }
}

fn order(a: &ScoredDocument, b: &ScoredDocument) -> core::cmp::Ordering {
    b.score.total_cmp(&a.score).then(a.document.cmp(&b.document))
}

/// The `n` best, in no order: a partial selection.
pub(crate) fn select(mut scored: Vec<ScoredDocument>, n: usize) -> Vec<ScoredDocument> {
    if n < scored.len() && n > 0 {
        scored.select_nth_unstable_by(n - 1, order);
    }
    scored.truncate(n);
    scored
}

/// The `top_k` best, best first, ties to the lower id.
pub(crate) fn best(scored: Vec<ScoredDocument>, top_k: usize) -> Vec<ScoredDocument> {
    let mut scored = select(scored, top_k);
    scored.sort_unstable_by(order);
    scored
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::{IndexBuilder, IndexOptions};
    use crate::codec::{CodecKind, CodecOptions};
    use crate::search::{DocumentSet, SearchMode, SearchOptions};
    use proptest::prelude::*;

    fn unit_rows(seed: u64, n: usize, dim: usize) -> Vec<f32> {
        use rand_chacha::rand_core::{Rng, SeedableRng};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let mut out = Vec::with_capacity(n * dim);
        for _ in 0..n {
            let row: Vec<f32> = (0..dim).map(|_| rng.next_u32() as f32 / u32::MAX as f32 - 0.5).collect();
            let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
            out.extend(row.iter().map(|v| v / norm));
        }
        out
    }

    fn build(lengths: &[usize], dim: usize, options: IndexOptions) -> BuiltIndex {
        let mut builder = IndexBuilder::new(dim, options).unwrap();
        for (i, &n) in lengths.iter().enumerate() {
            builder.push(&unit_rows(i as u64, n, dim)).unwrap();
        }
        builder.finish(|_| {}).unwrap()
    }

    /// `Σ_i max_j q_i · d_j` by its definition, over rebuilt vectors.
    fn reference(query: &[f32], document: &[f32], dim: usize) -> f64 {
        query
            .chunks_exact(dim)
            .map(|q| {
                document
                    .chunks_exact(dim)
                    .map(|d| q.iter().zip(d).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>())
                    .fold(f64::MIN, f64::max)
            })
            .sum()
    }

    /// The query is rounded to 8 bits for the residual part of each product: its error is at most half a step in `dim` values times the
    /// largest residual weight, far below what was seen here (0.004 for a token); the bound leaves room without hiding a wrong table.
    const PER_QUERY_TOKEN: f64 = 0.01;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn search_agrees_with_maxsim_over_rebuilt_vectors(
            lengths in prop::collection::vec(0_usize..20, 1..30), n_query in 1_usize..9, pool_factor in 1_usize..=4, seed in 0_u64..1000, kind in 0_usize..8,
        ) {
            prop_assume!(lengths.iter().any(|&n| n > 0));
            let dim = 16;
            let codec = CodecOptions { kind: CodecKind::ALL[kind], ..CodecOptions::default() };
            let built = build(&lengths, dim, IndexOptions { pool_factor, codec, ..IndexOptions::default() });
            for kernels in Kernels::all() {
                let index = Index::from_built(&built, kernels).unwrap();
                let query = unit_rows(seed + 5000, n_query, dim);
                let prepared = index.prepare(&query).unwrap();
                let hits = index.search(&prepared, lengths.len()).unwrap();
                prop_assert_eq!(hits.len(), lengths.iter().filter(|&&n| n > 0).count(), "empty documents are left out");
                prop_assert!(hits.windows(2).all(|w| (w[0].score, w[1].document) > (w[1].score, w[0].document) || w[0].score > w[1].score));
                for hit in &hits {
                    let document = index.document_embeddings(hit.document).unwrap();
                    let expected = reference(&query, &document, dim);
                    prop_assert!((f64::from(hit.score) - expected).abs() < PER_QUERY_TOKEN * n_query as f64);
                    let sum: f64 = index.matches(&prepared, hit.document).unwrap().iter().map(|m| f64::from(m.similarity)).sum();
                    prop_assert!((f64::from(hit.score) - sum).abs() < 1e-4, "matches add up to the score");
                }
            }
        }

        #[test]
        fn partial_selection_equals_a_full_sort(scores in prop::collection::vec(-3_i8..3, 0..40), top_k in 0_usize..45) {
            let scored = |i: usize, s: i8| ScoredDocument { document: DocId(i as u32), score: f32::from(s) };
            let all: Vec<_> = scores.iter().enumerate().map(|(i, &s)| scored(i, s)).collect();
            let mut sorted = all.clone();
            sorted.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.document.cmp(&b.document)));
            sorted.truncate(top_k);
            prop_assert_eq!(best(all, top_k), sorted);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// With room for all candidates and every centroid probed, the stages lose nothing; a filter and the caller's own documents hold in every mode.
        #[test]
        fn every_mode_finds_the_same_documents_when_nothing_is_cut(
            lengths in prop::collection::vec(0_usize..12, 2..60), n_query in 1_usize..6, seed in 0_u64..1000, odd: bool,
        ) {
            prop_assume!(lengths.iter().any(|&n| n > 0));
            let built = build(&lengths, 16, IndexOptions::default());
            let index = Index::from_built(&built, Kernels::detect()).unwrap();
            let prepared = index.prepare(&unit_rows(seed + 5000, n_query, 16)).unwrap();
            let set: DocumentSet = (0..lengths.len() as u32).filter(|d| d % 2 == u32::from(odd)).map(DocId).collect();
            let search = |mode, filter| {
                let n_probe = index.tables().n_centroids();
                let options = SearchOptions {
                    mode, filter, n_probe, top_k: 7, n_candidates: lengths.len(), centroid_score_threshold: 0.0, also: &[],
                };
                index.search_with(&prepared, &options).unwrap()
            };
            let exact = search(SearchMode::Exact, None);
            prop_assert_eq!(&exact.hits, &index.search(&prepared, 7).unwrap());
            prop_assert_eq!(&search(SearchMode::Scan, None).hits, &exact.hits);
            prop_assert_eq!(&search(SearchMode::Auto, None).hits, &exact.hits);
            let filtered = search(SearchMode::Exact, Some(&set));
            prop_assert!(filtered.hits.iter().all(|h| set.contains(h.document)));
            prop_assert_eq!(&search(SearchMode::Scan, Some(&set)).hits, &filtered.hits);
            // Probing leaves out documents that no query token comes near; what it finds has the same scores.
            for (found, filter) in [(search(SearchMode::Probe, None), None), (search(SearchMode::Probe, Some(&set)), Some(&set))] {
                for hit in found.hits {
                    prop_assert!(filter.is_none_or(|set| set.contains(hit.document)));
                    prop_assert_eq!(index.score(&prepared, &[hit.document]).unwrap(), vec![hit.score]);
                }
            }
            // One candidate only, and one that the caller adds.
            let last = (0..lengths.len()).rev().find(|&d| lengths[d] > 0).unwrap();
            let also = [DocId(last as u32)];
            let options = SearchOptions { mode: SearchMode::Scan, top_k: 1, n_candidates: 1, also: &also, ..SearchOptions::default() };
            let found = index.search_with(&prepared, &options).unwrap();
            prop_assert_eq!(found.n_approximate, lengths.iter().filter(|&&n| n > 0).count());
            // The filter lets the added one through, and holds for it too.
            prop_assert!(found.n_exact == 1 || found.n_exact == 2);
            let alone: DocumentSet = also.into_iter().collect();
            let options = SearchOptions { filter: Some(&alone), ..options };
            prop_assert_eq!(index.search_with(&prepared, &options).unwrap().hits[0].document, also[0]);
            let none = DocumentSet::default();
            let options = SearchOptions { filter: Some(&none), ..options };
            prop_assert!(index.search_with(&prepared, &options).unwrap().hits.is_empty());
        }

        #[test]
        fn probing_takes_the_best_centroids_of_each_token(n_query in 1_usize..40, n_probe in 1_usize..5, seed in 0_u64..1000) {
            let built = build(&[40, 50, 30], 16, IndexOptions { n_centroids: Some(30), ..IndexOptions::default() });
            let index = Index::from_built(&built, Kernels::detect()).unwrap();
            let query = unit_rows(seed, n_query, 16);
            let prepared = index.prepare(&query).unwrap();
            let probed = index.scorer().probe(&prepared, n_probe, 0.0);
            prop_assert!(probed.windows(2).all(|w| w[0] < w[1]) && probed.len() <= n_query * n_probe);
            // By plain arithmetic: nothing left out scores clearly above what was taken; bytes are good to 1/255 of the largest score.
            let dot = |c: usize, q: &[f32]| -> f32 { index.tables().centroids[c * 16..][..16].iter().zip(q).map(|(a, b)| a * b).sum() };
            for token in query.chunks_exact(16) {
                let mut scores: Vec<(f32, u16)> = (0..30).map(|c| (dot(c, token), c as u16)).collect();
                scores.sort_by(|a, b| b.0.total_cmp(&a.0));
                for (i, &(score, centroid)) in scores.iter().enumerate().take(n_probe) {
                    let near_tie = scores.get(n_probe).is_some_and(|next| score - next.0 < 0.01);
                    prop_assert!(probed.contains(&centroid) || near_tie || score < 0.12, "rank {i}: {score}");
                }
            }
        }

        #[test]
        fn a_document_set_holds_what_was_put_in(ids in prop::collection::btree_set(0_u32..400, 0..50)) {
            let set: DocumentSet = ids.iter().copied().map(DocId).collect();
            prop_assert_eq!(set.iter().map(|d| d.0).collect::<Vec<_>>(), ids.iter().copied().collect::<Vec<_>>());
            prop_assert!((0..500).all(|d| set.contains(DocId(d)) == ids.contains(&d)));
        }
    }

    #[test]
    fn a_document_finds_itself_first() {
        let lengths: Vec<usize> = (0..60).map(|i| 3 + i % 15).collect();
        let built = build(&lengths, 32, IndexOptions { pool_factor: 1, ..IndexOptions::default() });
        let index = Index::from_built(&built, Kernels::detect()).unwrap();
        for (i, &n) in lengths.iter().enumerate() {
            let prepared = index.prepare(&unit_rows(i as u64, n, 32)).unwrap();
            assert_eq!(index.search(&prepared, 1).unwrap()[0].document, DocId(i as u32));
        }
    }

    #[test]
    fn building_twice_gives_the_same_index() {
        let lengths: Vec<usize> = (0..40).map(|i| i % 30).collect();
        assert_eq!(
            build(&lengths, 16, IndexOptions::default()),
            build(&lengths, 16, IndexOptions::default())
        );
    }

    #[test]
    fn bad_input_is_refused_with_its_place() {
        let mut builder = IndexBuilder::new(4, IndexOptions::default()).unwrap();
        assert!(matches!(builder.push(&[0.0; 7]), Err(IndexError::Shape { dim: 4, found: 7, .. })));
        assert!(matches!(builder.push(&[0.0, 1.0, f32::NAN, 0.0]), Err(IndexError::NotFinite { at: 2, .. })));
        assert!(matches!(builder.finish(|_| {}), Err(IndexError::Empty)));
        for (dim, pool_factor) in [(3, 2), (0, 2), (4, 0), (4, 5), (1 << 20, 1)] {
            let options = IndexOptions { pool_factor, ..IndexOptions::default() };
            assert!(
                matches!(IndexBuilder::new(dim, options), Err(IndexError::Setting { .. })),
                "{dim} {pool_factor}"
            );
        }
        let built = build(&[3], 8, IndexOptions::default());
        let index = Index::from_built(&built, Kernels::detect()).unwrap();
        assert!(matches!(index.prepare(&[0.0; 7]), Err(IndexError::Shape { .. })));
        assert!(matches!(index.document_embeddings(DocId(1)), Err(IndexError::UnknownDocument { .. })));
        let empty = index.prepare(&[]).unwrap();
        assert!(index.search(&empty, 5).unwrap().is_empty());
    }
}
