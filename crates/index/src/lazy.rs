//! Search over an index that stays on its host: a query reads some lists of documents, then the codes of the few documents that look best.
//!
//! ```text
//! query token i ─▶ its nearest centroids, as far as the budget goes ─▶ blocks of lists (ivf): which documents have a token there
//! approximate(d) = Σ_i (best score s of a centroid read that d has, if s > u_i; else b_i)
//!                      u_i: best score of a centroid not read; b_i: what documents score that have nothing to do with i
//! the best n_full_scores ─▶ blocks of codes ─▶ MaxSim, exactly as in memory
//! ```
//!
//! Candidates by centroids alone are PLAID's (Santhanam et al. 2022, section 4); a value assumed for what was not read is WARP's (Scheerer et al. 2025,
//! section 4.2), here from the distribution of the centroids' scores. A score at or below u_i says nothing: other documents may have it from lists that
//! were not read. The unit of cost is another than theirs: not documents scored but requests and bytes. So whole blocks are read, every centroid in
//! them counts for every query token, and a centroid in a block already chosen costs nothing; blocks that lie near each other are one request
//! ([`crate::runs`]); requests that the lists leave over go to documents; and every document of a block of codes that came is scored, asked for or not.
//!
//! Nothing here reads a file or a network. Each step answers, or says what it [needs](Step::Needs): whoever has the files fetches that, gives it to
//! [`LazyIndex::provide`], and asks again. What one query brought stays for the next.
//!
//! Not taken: residuals inside the lists (WARP's layout), which saves the second round of requests and moves five times the bytes of a list; an order
//! of documents by content, which would put candidates together, because sections and words are in document order too and would need a table between.

use crate::codec::ResidualCodec;
use crate::error::IndexError;
use crate::index::{ScoredDocument, best};
use crate::runs::Runs;
use crate::scorer::{PreparedQuery, Scorer};
use crate::search::Approximate;
use shirube_core::DocId;
use shirube_format::FormatError;
use shirube_format::bundle::{BlockTable, CodecTables, CodesBlock, CodesDirectory, IvfDirectory, Need};
use shirube_kernels::{CompressedTokens, EMPTY_DOCUMENT, Kernels, TokenMatch, TokenRange};
use std::collections::{BTreeMap, HashMap};

/// Bytes of lists and codes kept between queries; what was not used for longest goes first.
const CACHE_BYTES: usize = 32 << 20;

/// See [`LazyOptions::list_bytes_per_root`].
const LEAST_LIST_BYTES: u64 = 88 << 10;

/// How much a query may ask for. [`Self::default`] is what `npm run bench -- lazy` measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LazyOptions {
    /// Centroids that a query token probes at most.
    pub n_probe: usize,
    /// Share, 0 to 1, of a query token's best centroid score below which a centroid is not probed.
    pub centroid_score_threshold: f32,
    /// Requests for lists at most.
    pub n_list_requests: usize,
    /// Bytes of lists read at most; the first block is read in any case.
    pub list_bytes: u64,
    /// Bytes of lists read at most for the root of the bytes of all lists, but not below 88 KiB: a smaller index is better served by more documents.
    pub list_bytes_per_root: u64,
    /// Bytes between two blocks of one shard that are read along, up to which one request fetches both.
    pub gap_bytes: u64,
    /// Requests for lists and codes at most, counted as if nothing were here yet, so that an answer does not depend on what came before.
    pub n_requests: usize,
    /// Documents whose codes are asked for at most.
    pub n_full_scores: usize,
}

impl Default for LazyOptions {
    fn default() -> Self {
        Self {
            n_probe: 64,
            centroid_score_threshold: 0.4,
            n_list_requests: 16,
            list_bytes: 320 << 10,
            list_bytes_per_root: 41,
            gap_bytes: 3 << 10,
            n_requests: 40,
            n_full_scores: 32,
        }
    }
}

impl LazyOptions {
    /// Without any bound: every list and every document found, for checks.
    pub const UNBOUNDED: Self = Self {
        n_probe: usize::MAX,
        centroid_score_threshold: f32::MIN,
        n_list_requests: usize::MAX,
        list_bytes: u64::MAX,
        list_bytes_per_root: u64::MAX,
        gap_bytes: 0,
        n_requests: usize::MAX,
        n_full_scores: usize::MAX,
    };
}

/// An answer, or what must be here first.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<T> {
    /// The answer.
    Done(T),
    /// Bytes to fetch, all at once, and to [`LazyIndex::provide`] before asking again.
    Needs(Vec<Need>),
}

/// An index of which only tables and directories are in memory.
#[derive(Debug)]
pub struct LazyIndex {
    scorer: Scorer,
    ivf: IvfDirectory,
    codes: CodesDirectory,
    lists: Held<Vec<Vec<u32>>>,
    blocks: Held<ScoredBlock>,
    clock: u64,
    /// `[n_documents]` place of a document in the sums of one query, plus one; all 0 between queries.
    places: Vec<u32>,
}

/// Blocks by number, with their bytes in memory and when they were last used.
#[derive(Debug)]
struct Held<T> {
    blocks: HashMap<usize, (T, usize, u64)>,
    bytes: usize,
}

/// A block of codes, ready to be scored.
#[derive(Debug)]
struct ScoredBlock {
    tokens: CodesBlock,
    inverse_norms: Vec<f32>,
    documents: Vec<TokenRange>,
}

impl LazyIndex {
    /// An index of a bundle's tables and the two directories of its vectors.
    ///
    /// # Errors
    /// [`IndexError::Parts`] for parts of different bundles.
    pub fn new(
        tables: CodecTables,
        ivf: IvfDirectory,
        codes: CodesDirectory,
        kernels: Kernels,
    ) -> Result<Self, IndexError> {
        let n_documents = codes.documents.n_documents();
        let expected = (tables.n_centroids(), tables.n_centroids(), tables.dim, tables.packing, n_documents);
        let found = (ivf.n_centroids(), codes.n_centroids, codes.dim, codes.packing, ivf.n_documents());
        if expected != found {
            return Err(IndexError::Parts {
                what: format!(
                    "centroids of lists and codes, dim, packing, documents are {found:?}, expected {expected:?}"
                ),
            });
        }
        Ok(Self {
            scorer: Scorer::new(ResidualCodec::new(tables), kernels),
            ivf,
            codes,
            lists: Held::default(),
            blocks: Held::default(),
            clock: 0,
            places: vec![0; n_documents],
        })
    }

    /// Documents.
    pub fn n_documents(&self) -> usize {
        self.places.len()
    }

    /// Width of a token embedding.
    pub fn dim(&self) -> usize {
        self.scorer.codec().dim()
    }

    /// Centroids and bucket tables.
    pub fn tables(&self) -> &CodecTables {
        self.scorer.codec().tables()
    }

    /// Bytes in memory now: tables, and the blocks kept.
    pub fn memory_bytes(&self) -> usize {
        4 * (self.tables().centroids.len() + self.places.len()) + self.lists.bytes + self.blocks.bytes
    }

    /// The tables of blocks whose shards [`Self::provide`] takes: lists and codes.
    pub fn block_tables(&self) -> [&BlockTable; 2] {
        [&self.ivf.table, &self.codes.documents.table]
    }

    /// Prepares `query_embeddings [n_query_tokens, dim]`.
    ///
    /// # Errors
    /// [`IndexError::Shape`] or [`IndexError::NotFinite`].
    pub fn prepare(&self, query_embeddings: &[f32]) -> Result<PreparedQuery, IndexError> {
        self.scorer.prepare(query_embeddings)
    }

    /// Takes the bytes from `start` of a shard: the range of a [`Need`], or the whole file.
    ///
    /// # Errors
    /// As [`BlockTable::split`] and the blocks' readers; nothing of what was refused is kept.
    pub fn provide(&mut self, path: &str, start: u64, bytes: &[u8]) -> Result<(), FormatError> {
        self.clock += 1;
        if self.ivf.table.owns(path) {
            for (block, bytes) in self.ivf.table.split(path, start, bytes)? {
                let lists = self.ivf.parse_block(block, bytes)?;
                let size = lists.iter().map(|list| 24 + 4 * list.len()).sum();
                self.lists.insert(block, lists, size, self.clock);
            }
        } else {
            for (block, bytes) in self.codes.documents.table.split(path, start, bytes)? {
                let tokens = self.codes.parse_block(block, bytes)?;
                let inverse_norms = self.scorer.inverse_norms(&tokens.codes, &tokens.residuals);
                let documents: Vec<TokenRange> = tokens.ranges().map(TokenRange::from).collect();
                let size = tokens.residuals.len() + 6 * tokens.codes.len() + 10 * documents.len();
                let block_of = ScoredBlock { tokens, inverse_norms, documents };
                self.blocks.insert(block, block_of, size, self.clock);
            }
        }
        Ok(())
    }

    /// The blocks of lists that a query reads.
    fn plan(&self, query: &PreparedQuery, options: &LazyOptions) -> Runs<'_> {
        let mut runs = Runs::new(&self.ivf.table, options.gap_bytes);
        let root = self.ivf.table.total_bytes().isqrt();
        let least = LEAST_LIST_BYTES.min(options.list_bytes);
        let most_bytes = options.list_bytes_per_root.saturating_mul(root).clamp(least, options.list_bytes);
        for centroid in self.scorer.ranked(query, options.n_probe, options.centroid_score_threshold) {
            let block = self.ivf.block_of(centroid);
            let (n_requests, bytes) = runs.with(block);
            let fits = n_requests <= options.n_list_requests && bytes <= most_bytes;
            if fits || runs.n_requests() == 0 {
                runs.insert(block);
            }
        }
        runs
    }

    /// What of the lists is not here yet; asking for it beside other needs saves a round.
    pub fn list_needs(&self, query: &PreparedQuery, options: &LazyOptions) -> Vec<Need> {
        self.plan(query, options).needs(|block| self.lists.has(block))
    }

    /// What of the codes of `documents` is not here yet.
    ///
    /// # Errors
    /// [`IndexError::UnknownDocument`].
    pub fn code_needs(&self, documents: &[DocId], options: &LazyOptions) -> Result<Vec<Need>, IndexError> {
        let mut runs = Runs::new(&self.codes.documents.table, options.gap_bytes);
        for &document in documents {
            runs.insert(self.block_of(document)?);
        }
        Ok(runs.needs(|block| self.blocks.has(block)))
    }

    /// The documents to score exactly, ascending, of documents `ranked` best first: the first ones, as many as the requests that the lists left over
    /// fetch, but `least` in any case; and all that share a block of codes with one of them, for those cost nothing more.
    ///
    /// # Errors
    /// [`IndexError::UnknownDocument`].
    pub fn affordable(
        &self,
        query: &PreparedQuery,
        options: &LazyOptions,
        ranked: impl IntoIterator<Item = DocId>,
        least: usize,
    ) -> Result<Vec<DocId>, IndexError> {
        let left = options.n_requests.saturating_sub(self.plan(query, options).n_requests());
        let mut runs = Runs::new(&self.codes.documents.table, options.gap_bytes);
        let most = options.n_full_scores.max(least);
        for (rank, document) in ranked.into_iter().take(most).enumerate() {
            let block = self.block_of(document)?;
            if rank >= least && runs.with(block).0 > left {
                break;
            }
            runs.insert(block);
        }
        Ok(runs.blocks().flat_map(|block| self.codes.documents.documents_of(block)).map(DocId).collect())
    }

    /// Every document that a list read names, by its centroids alone.
    ///
    /// # Errors
    /// [`IndexError::Parts`] if the query was prepared for another index.
    pub fn approximate(
        &mut self,
        query: &PreparedQuery,
        options: &LazyOptions,
    ) -> Result<Step<Approximate>, IndexError> {
        let needs = self.list_needs(query, options);
        if !needs.is_empty() {
            return Ok(Step::Needs(needs));
        }
        let plan: Vec<usize> = self.plan(query, options).blocks().collect();
        self.clock += 1;
        let mut read = vec![false; self.tables().n_centroids()];
        for &block in &plan {
            self.ivf.centroids_of(block).for_each(|c| read[c as usize] = true);
        }
        let assumed = self.scorer.assumed(query, &read)?;
        let n = query.n_tokens();
        // `[n_found, n]` how far each document is above what is assumed of others.
        let (mut found, mut above): (Vec<u32>, Vec<u8>) = (Vec::new(), Vec::new());
        for &block in &plan {
            let first = self.ivf.centroids_of(block).start;
            let Some(lists) = self.lists.get(block, self.clock) else { continue };
            for (centroid, list) in (first as u16..).zip(lists) {
                let row = self.scorer.centroid_row(query, centroid);
                let tokens =
                    row.iter().zip(&assumed).enumerate().filter(|(_, (score, (unread, _)))| *score > unread);
                let gains: Vec<(usize, u8)> =
                    tokens.map(|(token, (score, (_, background)))| (token, score - background)).collect();
                for &document in list {
                    let place = &mut self.places[document as usize];
                    if *place == 0 {
                        found.push(document);
                        above.resize(found.len() * n, 0);
                        *place = found.len() as u32;
                    }
                    let row = &mut above[(*place as usize - 1) * n..][..n];
                    for &(token, gain) in &gains {
                        row[token] = row[token].max(gain);
                    }
                }
            }
        }
        found.iter().for_each(|&document| self.places[document as usize] = 0);
        let sum = |bytes: &[u8]| bytes.iter().map(|&b| u32::from(b)).sum::<u32>();
        let others: u32 = assumed.iter().map(|&(_, background)| u32::from(background)).sum();
        let mut found: Vec<ScoredDocument> = found
            .into_iter()
            .zip(above.chunks_exact(n.max(1)))
            .map(|(document, row)| ScoredDocument {
                document: DocId(document),
                score: (others + sum(row)) as f32,
            })
            .collect();
        found.sort_unstable_by_key(|scored| scored.document);
        Ok(Step::Done(Approximate { others: others as f32, found }))
    }

    /// MaxSim of some documents, in their order: what [`Index::score`](crate::Index::score) gives, to the bit.
    ///
    /// # Errors
    /// [`IndexError::UnknownDocument`]; [`IndexError::Parts`] if the query was prepared for another index.
    pub fn score(
        &mut self,
        query: &PreparedQuery,
        options: &LazyOptions,
        documents: &[DocId],
    ) -> Result<Step<Vec<f32>>, IndexError> {
        self.each(options, documents, |scorer, tokens, ranges| scorer.score(query, tokens, ranges))
    }

    /// MaxSim of the best window of some documents, in their order: what [`Index::best_windows`](crate::Index::best_windows) gives, to the bit.
    ///
    /// # Errors
    /// As [`Self::score`].
    pub fn best_windows(
        &mut self,
        query: &PreparedQuery,
        options: &LazyOptions,
        documents: &[DocId],
    ) -> Result<Step<Vec<f32>>, IndexError> {
        self.each(options, documents, |scorer, tokens, ranges| scorer.best_windows(query, tokens, ranges))
    }

    /// `score` over the documents of each block, put together in the order of `documents`.
    fn each(
        &mut self,
        options: &LazyOptions,
        documents: &[DocId],
        score: impl Fn(&Scorer, CompressedTokens<'_>, &[TokenRange]) -> Result<Vec<f32>, IndexError>,
    ) -> Result<Step<Vec<f32>>, IndexError> {
        let needs = self.code_needs(documents, options)?;
        if !needs.is_empty() {
            return Ok(Step::Needs(needs));
        }
        self.clock += 1;
        let mut by_block: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (i, &document) in documents.iter().enumerate() {
            by_block.entry(self.block_of(document)?).or_default().push(i);
        }
        let mut scores = vec![0.0; documents.len()];
        for (block, members) in by_block {
            let first = self.codes.documents.documents_of(block).start;
            let Some(held) = self.blocks.get(block, self.clock) else { continue };
            let ranges: Vec<TokenRange> =
                members.iter().map(|&i| held.documents[(documents[i].0 - first) as usize]).collect();
            for (i, score) in members.into_iter().zip(score(&self.scorer, held.tokens(), &ranges)?) {
                scores[i] = score;
            }
        }
        Ok(Step::Done(scores))
    }

    /// The `top_k` documents with the highest scores among those looked at, best first, ties to the lower id. Documents without tokens are left out, and
    /// so is every document of a query without tokens.
    ///
    /// # Errors
    /// As [`Self::approximate`] and [`Self::score`].
    pub fn search(
        &mut self,
        query: &PreparedQuery,
        options: &LazyOptions,
        top_k: usize,
    ) -> Result<Step<Vec<ScoredDocument>>, IndexError> {
        if query.n_tokens() == 0 {
            return Ok(Step::Done(Vec::new()));
        }
        let found = match self.approximate(query, options)? {
            Step::Done(approximate) => approximate.found,
            Step::Needs(needs) => return Ok(Step::Needs(needs)),
        };
        let ranked = best(found, options.n_full_scores.max(top_k));
        let ranked = ranked.iter().map(|scored| scored.document);
        let candidates = self.affordable(query, options, ranked, top_k)?;
        Ok(match self.score(query, options, &candidates)? {
            Step::Needs(needs) => Step::Needs(needs),
            Step::Done(scores) => {
                // A block may hold documents without tokens, which no list names.
                let scored = candidates.into_iter().zip(scores).filter(|(_, score)| *score > EMPTY_DOCUMENT);
                Step::Done(best(
                    scored.map(|(document, score)| ScoredDocument { document, score }).collect(),
                    top_k,
                ))
            }
        })
    }

    /// For each query token, the stored token of `document` that it matched best, the first of equals; `None` while the document's codes are not here.
    ///
    /// # Errors
    /// [`IndexError::UnknownDocument`]; [`IndexError::Parts`] as [`Self::score`].
    pub fn matches(
        &self,
        query: &PreparedQuery,
        document: DocId,
    ) -> Result<Option<Vec<TokenMatch>>, IndexError> {
        let block = self.block_of(document)?;
        let Some((held, ..)) = self.blocks.blocks.get(&block) else { return Ok(None) };
        let range = held.documents[(document.0 - self.codes.documents.documents_of(block).start) as usize];
        self.scorer.matches(query, held.tokens(), range).map(Some)
    }

    /// Drops everything that was provided.
    pub fn clear(&mut self) {
        (self.lists, self.blocks) = Default::default();
    }

    /// Drops what was not used for longest. Between a query's needs and its answer nothing may go, so callers say when.
    pub fn tidy(&mut self) {
        self.lists.tidy(CACHE_BYTES / 2);
        self.blocks.tidy(CACHE_BYTES / 2);
    }

    fn block_of(&self, document: DocId) -> Result<usize, IndexError> {
        let n_documents = self.n_documents();
        if document.0 as usize >= n_documents {
            return Err(IndexError::UnknownDocument { document, n_documents });
        }
        Ok(self.codes.documents.block_of(document.0))
    }
}

impl ScoredBlock {
    fn tokens(&self) -> CompressedTokens<'_> {
        CompressedTokens {
            codes: &self.tokens.codes,
            residuals: &self.tokens.residuals,
            inverse_norms: &self.inverse_norms,
        }
    }
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { blocks: HashMap::new(), bytes: 0 }
    }
}

impl<T> Held<T> {
    fn has(&self, block: usize) -> bool {
        self.blocks.contains_key(&block)
    }

    fn get(&mut self, block: usize, now: u64) -> Option<&T> {
        let (held, _, used) = self.blocks.get_mut(&block)?;
        *used = now;
        Some(held)
    }

    fn insert(&mut self, block: usize, content: T, bytes: usize, now: u64) {
        self.bytes += bytes;
        if let Some((_, old, _)) = self.blocks.insert(block, (content, bytes, now)) {
            self.bytes -= old;
        }
    }

    fn tidy(&mut self, most: usize) {
        if self.bytes <= most {
            return;
        }
        let mut ages: Vec<(u64, usize)> = self.blocks.iter().map(|(&block, held)| (held.2, block)).collect();
        ages.sort_unstable();
        for (_, block) in ages {
            if self.bytes <= most {
                break;
            }
            self.bytes -= self.blocks.remove(&block).map_or(0, |held| held.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::{IndexBuilder, IndexOptions};
    use crate::codec::{CodecKind, CodecOptions};
    use crate::index::Index;
    use proptest::prelude::*;
    use shirube_format::NamedFile;

    const DIM: usize = 16;

    fn rows(seed: u64, n: usize) -> Vec<f32> {
        use rand_chacha::rand_core::{Rng, SeedableRng};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let mut row = || -> Vec<f32> {
            let row: Vec<f32> = (0..DIM).map(|_| rng.next_u32() as f32 / u32::MAX as f32 - 0.5).collect();
            let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
            row.iter().map(|v| v / norm).collect()
        };
        (0..n).flat_map(|_| row()).collect()
    }

    /// The same index in memory and on a host, and the host's files.
    fn both(lengths: &[usize], kind: CodecKind) -> (Index, LazyIndex, Vec<NamedFile>) {
        let codec = CodecOptions { kind, ..CodecOptions::default() };
        let options = IndexOptions { pool_factor: 1, codec, ..IndexOptions::default() };
        let mut builder = IndexBuilder::new(DIM, options).unwrap();
        for (i, &n) in lengths.iter().enumerate() {
            builder.push(&rows(i as u64, n)).unwrap();
        }
        let built = builder.finish(|_| {}).unwrap();
        let tables = built.codec.tables().clone();
        let all = CodesBlock {
            lengths: built.lengths.clone(),
            codes: built.packed.codes.clone(),
            residuals: built.packed.residuals.clone(),
        };
        let (_, codes, mut files) = CodesDirectory::pack(DIM, tables.packing, tables.n_centroids(), &all);
        let (_, ivf, lists) = IvfDirectory::pack(&all.lengths, &all.codes, tables.n_centroids());
        files.extend(lists);
        let lazy = LazyIndex::new(tables, ivf, codes, Kernels::detect()).unwrap();
        (Index::from_built(&built, Kernels::detect()).unwrap(), lazy, files)
    }

    /// Asks until there is an answer; `fetched` hears of each need.
    fn ask<T>(
        lazy: &mut LazyIndex,
        files: &[NamedFile],
        fetched: &mut Vec<Need>,
        mut step: impl FnMut(&mut LazyIndex) -> Result<Step<T>, IndexError>,
    ) -> T {
        loop {
            match step(lazy).unwrap() {
                Step::Done(found) => return found,
                Step::Needs(needs) => {
                    assert!(!needs.is_empty());
                    for need in needs {
                        let (_, bytes) = files.iter().find(|(path, _)| *path == need.path).unwrap();
                        let range = need.range.start as usize..need.range.end as usize;
                        lazy.provide(&need.path, need.range.start, &bytes[range]).unwrap();
                        assert!(!fetched.contains(&need), "nothing is asked for twice");
                        fetched.push(need);
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn without_bounds_the_hits_and_scores_are_those_of_the_index_in_memory(
            lengths in prop::collection::vec(0_usize..30, 2..80), n_query in 1_usize..7, seed in 0_u64..1000, kind in 0_usize..8,
        ) {
            prop_assume!(lengths.iter().any(|&n| n > 0));
            let (index, mut lazy, files) = both(&lengths, CodecKind::ALL[kind]);
            let query = rows(seed + 5000, n_query);
            let (prepared, same) = (lazy.prepare(&query).unwrap(), index.prepare(&query).unwrap());
            let found = ask(&mut lazy, &files, &mut Vec::new(), |lazy| lazy.search(&prepared, &LazyOptions::UNBOUNDED, 1000));
            prop_assert_eq!(&found, &index.search(&same, 1000).unwrap());
            for hit in found {
                prop_assert_eq!(lazy.matches(&prepared, hit.document).unwrap().unwrap(), index.matches(&same, hit.document).unwrap());
            }
        }

        #[test]
        fn a_bounded_search_keeps_its_bounds_and_its_scores_are_exact(
            lengths in prop::collection::vec(1_usize..40, 60..120), n_query in 1_usize..7, seed in 0_u64..1000, n_list_requests in 1_usize..4, n_full_scores in 1_usize..9, n_requests in 1_usize..12, gap_bytes in 0_u64..3000,
        ) {
            let (index, mut lazy, files) = both(&lengths, CodecKind::Bits2);
            let options = LazyOptions { n_list_requests, n_full_scores, n_requests, gap_bytes, ..LazyOptions::default() };
            let query = rows(seed + 5000, n_query);
            let (prepared, same) = (lazy.prepare(&query).unwrap(), index.prepare(&query).unwrap());
            let mut fetched = Vec::new();
            let found = ask(&mut lazy, &files, &mut fetched, |lazy| lazy.search(&prepared, &options, 3));
            let of = |folder: &str| fetched.iter().filter(|need| need.path.starts_with(folder)).count();
            prop_assert!(of("ivf/") <= n_list_requests && of("codes/") <= n_full_scores.max(3));
            prop_assert!(of("codes/") <= 3 || fetched.len() <= n_requests);
            prop_assert!(found.len() <= 3);
            for hit in &found {
                prop_assert_eq!(index.score(&same, &[hit.document]).unwrap(), vec![hit.score]);
            }
            // Whole shards serve as well as ranges, and what is here is not asked for again.
            prop_assert_eq!(&ask(&mut lazy, &[], &mut Vec::new(), |lazy| lazy.search(&prepared, &options, 3)), &found);
            let (_, mut other, _) = both(&lengths, CodecKind::Bits2);
            for (path, bytes) in &files {
                other.provide(path, 0, bytes).unwrap();
            }
            prop_assert_eq!(ask(&mut other, &[], &mut Vec::new(), |lazy| lazy.search(&prepared, &options, 3)), found);
        }
    }

    #[test]
    fn the_best_window_of_a_document_never_has_more_than_all_of_it_and_is_the_same_from_blocks() {
        let documents: Vec<DocId> = (0..6).map(DocId).collect();
        for kind in CodecKind::ALL {
            let (index, mut lazy, files) = both(&[0, 10, 72, 73, 150, 200], kind);
            let query = index.prepare(&rows(5000, 6)).unwrap();
            let (best, all) =
                (index.best_windows(&query, &documents).unwrap(), index.score(&query, &documents).unwrap());
            assert_eq!(best[..3], all[..3], "one window: {kind:?}");
            assert!(best.iter().zip(&all).all(|(best, all)| *best <= all + 1e-5), "{best:?}, {all:?}");
            assert!(best[3..] != all[3..], "six tokens of chance hardly stand together: {kind:?}");
            let prepared = lazy.prepare(&rows(5000, 6)).unwrap();
            let found = ask(&mut lazy, &files, &mut Vec::new(), |lazy| {
                lazy.best_windows(&prepared, &LazyOptions::default(), &documents)
            });
            assert_eq!(found, best, "{kind:?}");
        }
    }

    #[test]
    fn a_document_is_found_by_its_own_tokens_from_a_few_blocks() {
        let lengths: Vec<usize> = (0..3000).map(|i| 10 + i % 30).collect();
        let (_, mut lazy, files) = both(&lengths, CodecKind::Bits4);
        let mut n_first = 0;
        for document in (0..3000).step_by(100) {
            let prepared = lazy.prepare(&rows(document, 8)).unwrap();
            let options = LazyOptions { n_list_requests: 8, ..LazyOptions::default() };
            let found = ask(&mut lazy, &files, &mut Vec::new(), |lazy| lazy.search(&prepared, &options, 1));
            n_first += usize::from(found[0].document.0 == document as u32);
        }
        assert!(n_first >= 27, "{n_first} of 30");
    }

    #[test]
    fn damaged_blocks_foreign_parts_and_unknown_documents_are_errors() {
        let (_, mut lazy, files) = both(&[20; 50], CodecKind::Bits2);
        for (path, bytes) in &files {
            let mut damaged = bytes.clone();
            damaged[bytes.len() / 2] ^= 1;
            assert!(matches!(lazy.provide(path, 0, &damaged), Err(FormatError::Digest { .. })), "{path}");
            assert!(lazy.provide(path, 0, &bytes[1..]).is_err());
        }
        let prepared = lazy.prepare(&rows(1, 3)).unwrap();
        let unknown = lazy.score(&prepared, &LazyOptions::default(), &[DocId(50)]);
        assert!(matches!(unknown, Err(IndexError::UnknownDocument { n_documents: 50, .. })));
        let (_, other, _) = both(&[20; 51], CodecKind::Bits2);
        let tables = lazy.tables().clone();
        let mixed = LazyIndex::new(tables, other.ivf.clone(), lazy.codes.clone(), Kernels::detect());
        assert!(matches!(mixed, Err(IndexError::Parts { .. })));
        let empty = lazy.prepare(&[]).unwrap();
        assert_eq!(lazy.search(&empty, &LazyOptions::default(), 5).unwrap(), Step::Done(Vec::new()));
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut held: Held<u8> = Held::default();
        for block in 0..10 {
            held.insert(block, 0, 100, block as u64);
        }
        assert!(held.get(0, 20).is_some());
        held.insert(3, 0, 50, 21);
        held.tidy(250);
        let mut left: Vec<usize> = held.blocks.keys().copied().collect();
        left.sort_unstable();
        assert_eq!((left, held.bytes), (vec![0, 3, 9], 250));
    }
}
