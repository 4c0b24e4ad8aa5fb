//! MaxSim over compressed and over plain token embeddings: arguments shared by all backends.
//!
//! A compressed document token `t` is a centroid code and, per dimension, a level: an index into a table of 2 to 16 residual values,
//! packed as [`Packing`] says. Its similarity to query token `i` is never computed from a rebuilt vector:
//!
//! ```text
//! similarity(i, t) = inverse_norms[t] * (centroid_scores[codes[t]][i] + step * query_scale[i] * Σ_d query_int[i][d] * table_int[level[t][d]])
//! score(document)  = Σ_i max_{t in document} similarity(i, t)
//! ```
//!
//! The sum over `d` is exact in integers on every backend; the rest is one multiply and add per pair in a fixed order, and the sum over
//! `i` runs in f64 from the first query token to the last. So, given the same centroid scores, every backend returns the same bits.
//!
//! The approximate stage leaves residuals and norms out and reads centroid scores as bytes ([`quantize_centroid_scores`]):
//!
//! ```text
//! approximate(document) = Σ_i max_{t in document} centroid_bytes[codes[t]][i]
//! ```
//!
//! Document tokens are the outer loop and query tokens the inner one: the row of centroid scores is then contiguous and needs no gather.

use crate::pack::{Activations, PackedF32, PackedI8};
use shirube_core::Packing;

/// Widest token embedding the compressed kernels take: tokens are decoded into a fixed buffer.
pub const MAX_DIM: usize = 512;

/// Most query tokens the MaxSim kernels take: maxima stand in a fixed buffer.
pub const MAX_QUERY_TOKENS: usize = 1024;

/// Tokens `start..end` of one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct TokenRange {
    /// First token.
    pub start: u32,
    /// One past the last token.
    pub end: u32,
}

impl From<core::ops::Range<u32>> for TokenRange {
    fn from(r: core::ops::Range<u32>) -> Self {
        Self { start: r.start, end: r.end }
    }
}

impl TokenRange {
    pub(crate) fn indices(self) -> core::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// The values that residual levels stand for: `value = ints[level] * step`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResidualTable {
    /// How levels stand in bytes.
    pub packing: Packing,
    /// Integers, -127 to 127; the first [`Packing::n_levels`] count.
    pub ints: [i8; 16],
    /// Value of one unit.
    pub step: f32,
}

impl ResidualTable {
    /// The nearest 4-bit table to 16 bucket weights: the largest magnitude becomes 127. Each value is off by at most `step / 2`.
    pub fn quantize(bucket_weights: &[f32; 16]) -> Self {
        let (ints, scale) = crate::quantize_rows(bucket_weights, 1, 16);
        Self { packing: Packing::Bits4, ints: core::array::from_fn(|i| ints[i]), step: scale[0] }
    }

    /// Value of a level. Bits above the fourth are ignored.
    pub fn value(&self, level: u8) -> f32 {
        f32::from(self.ints[usize::from(level & 15)]) * self.step
    }

    /// `[256, 8]` the integers of every byte, the rest 0: what [`crate::wide`] copies from.
    pub(crate) fn by_byte(&self) -> Vec<i8> {
        let n = self.packing.values_per_byte();
        (0..256 * 8)
            .map(|at| {
                let (byte, i) = ((at / 8) as u8, at % 8);
                if i < n { self.ints[usize::from(self.packing.level(byte, i))] } else { 0 }
            })
            .collect()
    }
}

/// What the bytes of a product-quantised token stand for ([`Packing::Product`]).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Codebooks<'a> {
    /// Bytes of a token.
    pub bytes: usize,
    /// `[bytes, 256, width]` integers, -127 to 127, `width` the longest run ([`Packing::run_width`]), at most [`MAX_RUN`]; a shorter run's last is not used.
    pub ints: &'a [i8],
    /// Value of one unit.
    pub step: f32,
}

/// Longest run of dimensions that one byte stands for.
pub const MAX_RUN: usize = 16;

/// Compressed tokens of many documents, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct CompressedTokens<'a> {
    /// `[n_tokens]`: nearest centroid.
    pub codes: &'a [u16],
    /// `[n_tokens, row_bytes]`: residual levels as the query's table packs them ([`Packing::row_bytes`]).
    pub residuals: &'a [u8],
    /// `[n_tokens]`: what the decoded vector is multiplied by to get length 1.
    pub inverse_norms: &'a [f32],
}

/// A query prepared for the compressed kernels of one backend.
#[derive(Clone, Debug)]
pub struct MaxsimQuery {
    pub(crate) n_tokens: usize,
    pub(crate) dim: usize,
    /// `n_tokens` rounded up to whole panels of every backend.
    pub(crate) stride: usize,
    pub(crate) packed: PackedI8,
    /// `[stride]`: query scale times residual step, 0 in the padding.
    pub(crate) factors: Vec<f32>,
    pub(crate) plain: PackedF32,
    pub(crate) table: ResidualTable,
    /// Bytes of one token's residuals.
    pub(crate) row_bytes: usize,
    /// [`ResidualTable::by_byte`], or codebooks padded to 8 or 16 a codeword, in the backend's form of activations; empty for 4 bits, which a
    /// shuffle looks up.
    pub(crate) by_byte: Activations,
    /// [`Codebooks::ints`], for the oracle; empty without them.
    pub(crate) codebooks: Vec<i8>,
}

impl MaxsimQuery {
    /// Query tokens.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Width of an embedding.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Row length of the centroid scores of this query; at least [`Self::n_tokens`], the rest is padding.
    pub fn stride(&self) -> usize {
        self.stride
    }
}

/// What one query token matched in a document.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct TokenMatch {
    /// Position in the document's range, from 0; the first of equals.
    pub token: u32,
    /// Similarity: the query token's share of the document's score.
    pub similarity: f32,
}

/// Centroid scores `[n_centroids, stride]` as bytes for [`Kernels::maxsim_approximate`](crate::Kernels::maxsim_approximate), one scale for all: the
/// largest becomes 255, everything below 0 becomes 0, because a maximum over a document's tokens is hardly ever negative. Returns the value of one unit.
pub fn quantize_centroid_scores(centroid_scores: &[f32], out: &mut Vec<u8>) -> f32 {
    let largest = centroid_scores.iter().fold(1e-30_f32, |a, &b| if b > a { b } else { a });
    let scale = 255.0 / largest;
    out.clear();
    // Adding 2^23 rounds to the nearest integer, ties to even, and leaves it in the low bits; plain vector code on every target.
    out.extend(
        centroid_scores.iter().map(|&s| ((s * scale).clamp(0.0, 255.0) + 8_388_608.0).to_bits() as u8),
    );
    largest / 255.0
}

/// The score of a document without tokens: below every other, but finite. Callers leave such documents out of their lists.
pub const EMPTY_DOCUMENT: f32 = f32::MIN;

/// `Σ_i best[i]` in f64 from first to last, for every backend.
pub(crate) fn sum_of_maxima(best: &[f32]) -> f32 {
    best.iter().map(|&x| f64::from(x)).sum::<f64>() as f32
}

/// Where each query token matched best, from similarities `[n_tokens, stride]`; ties to the lower token.
pub(crate) fn best_matches(similarities: &[f32], stride: usize, best: &mut [TokenMatch]) {
    best.fill(TokenMatch { token: 0, similarity: f32::MIN });
    for (token, row) in similarities.chunks_exact(stride).enumerate() {
        for (best, &similarity) in best.iter_mut().zip(row) {
            if similarity > best.similarity {
                *best = TokenMatch { token: token as u32, similarity };
            }
        }
    }
}
