//! Documents in, compressed index out.

use crate::codec::{BucketRule, Packed, ResidualCodec};
use crate::error::{IndexError, rows};
use crate::kmeans::{self, KMeansOptions, n_centroids_for};
use crate::pooling::{MAX_POOL_FACTOR, pool};
use half::f16;
use shirube_core::DocId;

/// Settings of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexOptions {
    /// Tokens of a document that become one stored embedding, 1 (no pooling) to 4.
    pub pool_factor: usize,
    /// Number of centroids, 1 to 65,536; `None` takes [`n_centroids_for`] of the stored tokens.
    pub n_centroids: Option<usize>,
    /// How residual buckets are chosen.
    pub buckets: BucketRule,
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
            buckets: BucketRule::default(),
            n_rounds: 6,
            points_per_centroid: 48,
            seed: 1,
        }
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
/// Centroids can only be fitted when all tokens are known, so pooled embeddings wait in memory as `f16`: `2 * dim` bytes a token.
#[derive(Clone, Debug)]
pub struct IndexBuilder {
    dim: usize,
    options: IndexOptions,
    lengths: Vec<u16>,
    tokens: Vec<f16>,
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
        Ok(Self { dim, options, lengths: Vec::new(), tokens: Vec::new(), tokens_before_pooling: 0 })
    }

    /// Adds the next document's `embeddings [n_tokens, dim]`, each of length 1; returns, for each of them, the stored token it was pooled into,
    /// or `None` without pooling.
    ///
    /// # Errors
    /// [`IndexError::Shape`], [`IndexError::NotFinite`], [`IndexError::TooLong`] above 65,535 tokens.
    pub fn push(&mut self, embeddings: &[f32]) -> Result<Option<Vec<u16>>, IndexError> {
        let n = rows("document embeddings", embeddings, self.dim)?;
        let most = usize::from(u16::MAX);
        if n > most {
            return Err(IndexError::TooLong { document: DocId(self.lengths.len() as u32), found: n, most });
        }
        self.tokens_before_pooling += n as u64;
        if self.options.pool_factor == 1 {
            self.tokens.extend(embeddings.iter().map(|&v| f16::from_f32(v)));
            self.lengths.push(n as u16);
            return Ok(None);
        }
        let pooled = pool(embeddings, self.dim, self.options.pool_factor);
        self.tokens.extend(pooled.embeddings.iter().map(|&v| f16::from_f32(v)));
        self.lengths.push((pooled.embeddings.len() / self.dim) as u16);
        Ok(Some(pooled.map))
    }

    /// Documents added.
    pub fn n_documents(&self) -> usize {
        self.lengths.len()
    }

    /// Tokens stored so far, after pooling.
    pub fn n_tokens(&self) -> usize {
        self.tokens.len() / self.dim
    }

    /// Fits the codec and packs every token.
    ///
    /// # Errors
    /// [`IndexError::Empty`] if no document has a token.
    pub fn finish(self, mut progress: impl FnMut(BuildStage)) -> Result<BuiltIndex, IndexError> {
        let (dim, n_tokens) = (self.dim, self.n_tokens());
        if n_tokens == 0 {
            return Err(IndexError::Empty);
        }
        let row = |i: usize| self.tokens[i * dim..(i + 1) * dim].iter().map(|v| v.to_f32());
        let n_centroids = self.options.n_centroids.unwrap_or_else(|| n_centroids_for(n_tokens)).min(n_tokens);
        let per_centroid = self.options.points_per_centroid;
        let n_points =
            if per_centroid == 0 { n_tokens } else { n_centroids.saturating_mul(per_centroid).min(n_tokens) };
        let points: Vec<f32> =
            kmeans::sample(n_points, n_tokens, self.options.seed).into_iter().flat_map(row).collect();
        let options = KMeansOptions { n_centroids, n_rounds: self.options.n_rounds, seed: self.options.seed };
        let centroids = kmeans::train(&points, dim, options, |round| {
            progress(BuildStage::KMeans { round, of: options.n_rounds });
        });
        drop(points);
        // Buckets are one table for all dimensions: a few thousand tokens settle them. Other tokens than those the centroids were fitted to, where
        // there are enough, because their residuals are a little larger.
        let sample: Vec<f32> = kmeans::sample(16_384, n_tokens, self.options.seed.wrapping_add(1))
            .into_iter()
            .flat_map(row)
            .collect();
        let codec = ResidualCodec::train(&centroids, &sample, dim, self.options.buckets)?;
        let mut packed = Packed::default();
        for chunk in self.tokens.chunks(dim * 16_384) {
            let chunk: Vec<f32> = chunk.iter().map(|v| v.to_f32()).collect();
            let part = codec.pack(&chunk)?;
            packed.codes.extend(part.codes);
            packed.residuals.extend(part.residuals);
            progress(BuildStage::Pack { tokens: packed.codes.len(), of: n_tokens });
        }
        Ok(BuiltIndex {
            codec,
            lengths: self.lengths,
            packed,
            tokens_before_pooling: self.tokens_before_pooling,
        })
    }
}
