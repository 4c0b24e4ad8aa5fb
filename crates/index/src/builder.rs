//! Documents in, compressed index out.

use crate::codec::{CodecKind, CodecOptions, Packed, Packer, ResidualCodec};
use crate::error::{IndexError, rows};
use crate::kmeans::{self, KMeansOptions, n_centroids_for};
use crate::order::order;
use crate::pooling::{MAX_POOL_FACTOR, pool};
use crate::store::TokenStore;
use shirube_core::DocId;

/// Settings of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexOptions {
    /// Tokens of a document that become one stored embedding, 1 (no pooling) to 4.
    pub pool_factor: usize,
    /// Number of centroids, 1 to 65,536; `None` takes [`n_centroids_for`] of the stored tokens.
    pub n_centroids: Option<usize>,
    /// What is kept of a token.
    pub codec: CodecOptions,
    /// Rounds of k-means.
    pub n_rounds: usize,
    /// Sample points that k-means sees for each centroid; 0 takes all tokens.
    pub points_per_centroid: usize,
    /// Seed of the samples.
    pub seed: u64,
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self {
            pool_factor: 2,
            n_centroids: None,
            codec: CodecOptions::default(),
            n_rounds: 6,
            points_per_centroid: 48,
            seed: 1,
        }
    }
}

impl IndexOptions {
    /// What `shirube build` takes: the smallest index that kept 98 % of the exact nDCG@10 on every set of `npm run bench -- index --quick`. Codewords of
    /// ten dimensions, no pooling.
    pub fn site() -> Self {
        let codec = CodecOptions { kind: CodecKind::Product { dims: 10 }, ..CodecOptions::default() };
        Self { pool_factor: 1, codec, ..Self::default() }
    }
}

/// Where a build stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildStage {
    /// Round of k-means, from 1.
    KMeans {
        /// Rounds done.
        round: usize,
        /// Rounds in all.
        of: usize,
    },
    /// Tokens packed.
    Pack {
        /// Tokens done.
        tokens: usize,
        /// Tokens in all.
        of: usize,
    },
}

/// Collects the token embeddings of documents, in order, then compresses them.
///
/// Centroids can only be fitted when all tokens are known, so pooled embeddings wait as `f16`, `2 * dim` bytes a token: in memory, or beyond a cap in
/// a file ([`Self::spill_to`]). The result is the same.
#[derive(Debug)]
pub struct IndexBuilder {
    dim: usize,
    options: IndexOptions,
    lengths: Vec<u16>,
    tokens: TokenStore,
    tokens_before_pooling: u64,
}

/// A compressed index, ready for a bundle or for [`Index`](crate::Index).
#[derive(Clone, Debug, PartialEq)]
pub struct BuiltIndex {
    /// Centroids and bucket tables.
    pub codec: ResidualCodec,
    /// `[n_documents]` stored tokens of each document.
    pub lengths: Vec<u16>,
    /// Codes and residuals of all tokens, document by document.
    pub packed: Packed,
    /// Token embeddings before pooling.
    pub tokens_before_pooling: u64,
}

impl IndexBuilder {
    /// A builder for token embeddings of width `dim`.
    ///
    /// # Errors
    /// [`IndexError::Setting`] for an odd or overlong `dim`, a pooling factor outside 1 to 4, or more than 65,536 centroids.
    pub fn new(dim: usize, options: IndexOptions) -> Result<Self, IndexError> {
        let checks = [
            ("dim", dim, 2, shirube_format::bundle::MAX_DIM),
            ("dim % 2", dim % 2, 0, 0),
            ("pool_factor", options.pool_factor, 1, MAX_POOL_FACTOR),
            ("n_centroids", options.n_centroids.unwrap_or(1), 1, 1 << 16),
            ("n_rounds", options.n_rounds, 1, 100),
        ];
        for (name, found, low, high) in checks {
            if found < low || found > high {
                return Err(IndexError::Setting { name, found, low, high });
            }
        }
        Ok(Self { dim, options, lengths: Vec::new(), tokens: TokenStore::new(dim), tokens_before_pooling: 0 })
    }

    /// Keeps at most `memory_bytes` of embeddings in memory and the rest in a new file at `path`, which is removed when the builder is done.
    /// What [`Self::finish`] returns still takes its memory: codes and residuals.
    ///
    /// # Errors
    /// [`IndexError::Io`] if the file cannot be made.
    pub fn spill_to(mut self, path: &std::path::Path, memory_bytes: usize) -> Result<Self, IndexError> {
        self.tokens.spill_to(path, memory_bytes)?;
        Ok(self)
    }

    /// Adds the next document's `embeddings [n_tokens, dim]`, each of length 1; returns, for each of them, the stored token it was pooled into,
    /// or `None` without pooling.
    ///
    /// # Errors
    /// [`IndexError::Shape`], [`IndexError::NotFinite`], [`IndexError::TooLong`] above 65,535 tokens, [`IndexError::Io`] when spilling.
    pub fn push(&mut self, embeddings: &[f32]) -> Result<Option<Vec<u16>>, IndexError> {
        let n = rows("document embeddings", embeddings, self.dim)?;
        let most = usize::from(u16::MAX);
        if n > most {
            return Err(IndexError::TooLong { document: DocId(self.lengths.len() as u32), found: n, most });
        }
        self.tokens_before_pooling += n as u64;
        if self.options.pool_factor == 1 {
            self.tokens.push(embeddings)?;
            self.lengths.push(n as u16);
            return Ok(None);
        }
        let pooled = pool(embeddings, self.dim, self.options.pool_factor);
        self.tokens.push(&pooled.embeddings)?;
        self.lengths.push((pooled.embeddings.len() / self.dim) as u16);
        Ok(Some(pooled.map))
    }

    /// Documents added.
    pub fn n_documents(&self) -> usize {
        self.lengths.len()
    }

    /// Tokens stored so far, after pooling.
    pub fn n_tokens(&self) -> usize {
        self.tokens.n_rows()
    }

    /// Fits the codec and packs every token.
    ///
    /// # Errors
    /// [`IndexError::Empty`] if no document has a token, [`IndexError::Io`] when reading back what was spilled.
    pub fn finish(mut self, mut progress: impl FnMut(BuildStage)) -> Result<BuiltIndex, IndexError> {
        let (dim, n_tokens) = (self.dim, self.n_tokens());
        if n_tokens == 0 {
            return Err(IndexError::Empty);
        }
        let n_centroids = self.options.n_centroids.unwrap_or_else(|| n_centroids_for(n_tokens)).min(n_tokens);
        let per_centroid = self.options.points_per_centroid;
        let n_points =
            if per_centroid == 0 { n_tokens } else { n_centroids.saturating_mul(per_centroid).min(n_tokens) };
        let points = self.tokens.gather(&kmeans::sample(n_points, n_tokens, self.options.seed))?;
        let options = KMeansOptions { n_centroids, n_rounds: self.options.n_rounds, seed: self.options.seed };
        let mut centroids = kmeans::train(&points, dim, options, |round| {
            progress(BuildStage::KMeans { round, of: options.n_rounds });
        });
        drop(points);
        order(&mut centroids, dim);
        // Buckets are one table for all dimensions: a few thousand tokens settle them. Other tokens than those the centroids were fitted to, where
        // there are enough, because their residuals are a little larger.
        let sample =
            self.tokens.gather(&kmeans::sample(16_384, n_tokens, self.options.seed.wrapping_add(1)))?;
        let codec = ResidualCodec::train(&centroids, &sample, dim, self.options.codec)?;
        let mut packed = Packed::default();
        let packer = Packer::new(&codec);
        self.tokens.chunks(16_384, |chunk| {
            let part = packer.pack(chunk)?;
            packed.codes.extend(part.codes);
            packed.residuals.extend(part.residuals);
            progress(BuildStage::Pack { tokens: packed.codes.len(), of: n_tokens });
            Ok(())
        })?;
        drop(packer);
        Ok(BuiltIndex {
            codec,
            lengths: self.lengths,
            packed,
            tokens_before_pooling: self.tokens_before_pooling,
        })
    }
}
