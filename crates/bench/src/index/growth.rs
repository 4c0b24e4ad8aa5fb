//! Larger corpora from real ones: the passages of the sets as they are, and, when those run out, runs of pooled token embeddings from two random
//! real passages put together. Every vector was made by the model from real text; what is not real is that the halves met. A vector may occur in
//! several passages, as boilerplate does on a site. The passages of `jaquad/dev` come first, so its questions keep their answers.

use crate::corpus::{Corpus, Embeddings, Source};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use rayon::prelude::*;
use shirube_index::{BuiltIndex, IndexBuilder, IndexOptions, Packed, n_centroids_for, pool};

/// Pooling factor of the engines' common input.
pub(crate) const POOL_FACTOR: usize = 2;
/// Stored tokens of a passage that was put together.
const TOKENS: usize = 40;

/// Real passages, pooled.
pub(crate) struct Growth {
    real: Embeddings,
    queries: Embeddings,
    relevant: Vec<Vec<u32>>,
    /// Passages with answers; these are not taken apart.
    n_answers: usize,
    rng: ChaCha8Rng,
}

impl Growth {
    pub(crate) fn new(source: &Source) -> anyhow::Result<Self> {
        let dev = source.corpus("jaquad/dev")?;
        let mut real = Embeddings::new(source.dim());
        let mut add = |passages: &Embeddings| {
            let pooled: Vec<Vec<f32>> = (0..passages.len())
                .into_par_iter()
                .map(|p| pool(passages.of(p), passages.dim, POOL_FACTOR).embeddings)
                .collect();
            pooled.iter().for_each(|rows| real.push(rows));
        };
        add(&dev.passages);
        for set in ["jaquad/train", "jsquad/valid", "docs"] {
            add(&source.corpus(set)?.passages);
        }
        Ok(Self {
            real,
            n_answers: dev.passages.len(),
            queries: dev.queries,
            relevant: dev.relevant,
            rng: ChaCha8Rng::seed_from_u64(7),
        })
    }

    /// Passages that are real.
    pub(crate) fn n_real(&self) -> usize {
        self.real.len()
    }

    /// Passages that are real, pooled.
    pub(crate) fn real(&self) -> &Embeddings {
        &self.real
    }

    /// Passage `p` of a larger corpus; passages must be asked for in order, for the same seed gives the same corpus.
    pub(crate) fn passage(&mut self, p: usize) -> Vec<f32> {
        let dim = self.real.dim;
        let pieces = self.pieces(p);
        pieces
            .into_iter()
            .flat_map(|rows| &self.real.values[rows.start * dim..rows.end * dim])
            .copied()
            .collect()
    }

    /// The rows of the real passages that [`Self::passage`] puts together: what is made of a row, such as its code, need not be made again.
    pub(crate) fn pieces(&mut self, p: usize) -> Vec<core::ops::Range<usize>> {
        if p < self.real.len() {
            let whole = self.real.starts[p]..self.real.starts[p + 1];
            return Vec::from([whole]);
        }
        let dim = self.real.dim;
        let mut pieces = Vec::with_capacity(2);
        for half in 0..2 {
            let from = self.n_answers + self.below(self.real.len() - self.n_answers);
            let n = self.real.of(from).len() / dim;
            // The first half brings its document marker, which stands first.
            let wanted = (TOKENS / 2).min(n);
            let start = if half == 0 { 0 } else { self.below(n - wanted + 1) };
            let first = self.real.starts[from] + start;
            pieces.push(first..first + wanted);
        }
        pieces
    }

    /// The index of `n` passages: centroids and codewords for so many, fitted to the real ones among them, whose codes the others copy with their rows. That is
    /// what packing every passage gives, because a row's code depends on the row alone.
    pub(crate) fn index(&mut self, n: usize) -> anyhow::Result<BuiltIndex> {
        self.rng = ChaCha8Rng::seed_from_u64(7);
        let pieces: Vec<_> = (0..n).map(|p| self.pieces(p)).collect();
        let lengths: Vec<usize> = pieces.iter().map(|rows| rows.iter().map(|r| r.len()).sum()).collect();
        let n_tokens: usize = lengths.iter().sum();
        let real = &self.real;
        let options = IndexOptions { n_centroids: Some(n_centroids_for(n_tokens)), ..IndexOptions::site() };
        let mut builder = IndexBuilder::new(real.dim, options)?;
        for p in 0..real.len().min(n) {
            builder.push(real.of(p))?;
        }
        let BuiltIndex { codec, packed: of_real, .. } = builder.finish(|_| {})?;
        let row_bytes = codec.row_bytes();
        let mut packed = Packed::default();
        for rows in pieces.into_iter().flatten() {
            packed.codes.extend_from_slice(&of_real.codes[rows.clone()]);
            packed
                .residuals
                .extend_from_slice(&of_real.residuals[rows.start * row_bytes..rows.end * row_bytes]);
        }
        let lengths = lengths.into_iter().map(|n| n as u16).collect();
        Ok(BuiltIndex { codec, lengths, packed, tokens_before_pooling: n_tokens as u64 })
    }

    /// The first `n` passages with the questions.
    pub(crate) fn corpus(&mut self, n: usize) -> Corpus {
        self.rng = ChaCha8Rng::seed_from_u64(7);
        let mut passages = Embeddings::new(self.real.dim);
        for p in 0..n {
            let rows = self.passage(p);
            passages.push(&rows);
        }
        let (queries, relevant) = (self.queries.clone(), self.relevant.clone());
        Corpus { passages, queries, relevant }
    }

    fn below(&mut self, n: usize) -> usize {
        self.rng.next_u64() as usize % n
    }
}
