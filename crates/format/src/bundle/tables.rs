//! `centroids.{hash}.bin`: the residual codec's tables and the centroids.
//!
//! | Offset | Type | Field |
//! |---|---|---|
//! | 0 | `u8[4]` | magic `SHRT` |
//! | 4 | `u32` | version, 1 |
//! | 8 | `u32` | `dim`, even, 2 to 512 |
//! | 12 | `u32` | `n_centroids`, 1 to 65,536 |
//! | 16 | `u32` | `nbits`, 4 |
//! | 20 | `u32` | zero |
//! | 24 | `f32[15]` | `bucket_cutoffs`, ascending: a residual value falls into the bucket whose number is the count of cutoffs at or below it |
//! | 84 | `f32` | `weight_scale`, above 0 |
//! | 88 | `i8[16]` | `bucket_weights`, ascending: bucket `b` decodes to `bucket_weights[b] * weight_scale` |
//! | 104 | `f16[n_centroids, dim]` | centroids, row-major |
//!
//! The weights are bytes so that a kernel can look sixteen residual values up in one register and multiply integers.

use super::bytes::{Cursor, put_f32s, put_u32};
use super::{MAX_DIM, N_BUCKETS, NBITS};
use crate::FormatError;
use half::f16;

const MAGIC: [u8; 4] = *b"SHRT";
const VERSION: u32 = 1;

/// Centroids and bucket tables of a residual codec.
#[derive(Clone, Debug, PartialEq)]
pub struct CodecTables {
    /// Width of a token embedding; even.
    pub dim: usize,
    /// `[15]`, ascending; only needed to pack.
    pub bucket_cutoffs: Vec<f32>,
    /// `[16]`, ascending; bucket `b` decodes to `bucket_weights[b] * weight_scale`.
    pub bucket_weights: [i8; N_BUCKETS],
    /// Step of the weights; above 0.
    pub weight_scale: f32,
    /// `[n_centroids, dim]`, row-major; every value representable as `f16`.
    pub centroids: Vec<f32>,
}

impl CodecTables {
    /// Rows of `centroids`.
    pub fn n_centroids(&self) -> usize {
        self.centroids.len() / self.dim.max(1)
    }

    /// What each bucket decodes to.
    pub fn decoded_weights(&self) -> [f32; N_BUCKETS] {
        self.bucket_weights.map(|w| f32::from(w) * self.weight_scale)
    }

    /// The file's content.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(104 + 2 * self.centroids.len());
        out.extend_from_slice(&MAGIC);
        for value in [VERSION, self.dim as u32, self.n_centroids() as u32, NBITS, 0] {
            put_u32(&mut out, value);
        }
        put_f32s(&mut out, &self.bucket_cutoffs);
        put_f32s(&mut out, &[self.weight_scale]);
        out.extend(self.bucket_weights.map(i8::cast_unsigned));
        out.extend(self.centroids.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()));
        out
    }

    /// Reads the file; `path` is only for messages.
    ///
    /// # Errors
    /// [`FormatError::Newer`] or [`FormatError::Invalid`].
    pub fn parse(path: &str, bytes: &[u8]) -> Result<Self, FormatError> {
        let mut cursor = Cursor::open(path, bytes, MAGIC, VERSION)?;
        let dim = cursor.count("dim", 2, MAX_DIM)?;
        if !dim.is_multiple_of(2) {
            return Err(cursor.invalid(format!("dim is {dim}, expected an even number")));
        }
        let n_centroids = cursor.count("n_centroids", 1, 1 << 16)?;
        cursor.count("nbits", NBITS as usize, NBITS as usize)?;
        cursor.count("reserved", 0, 0)?;
        cursor.expect_left(4 * (N_BUCKETS - 1) + 4 + N_BUCKETS + 2 * n_centroids * dim)?;
        let bucket_cutoffs = cursor.f32s(N_BUCKETS - 1)?;
        // Embeddings have length 1, so no residual value leaves -2..=2; a wild table would only overflow later.
        if bucket_cutoffs.windows(2).any(|w| w[0] > w[1]) || bucket_cutoffs.iter().any(|v| v.abs() > 4.0) {
            return Err(cursor.invalid("bucket_cutoffs are not ascending inside -4 to 4".to_owned()));
        }
        let weight_scale = cursor.f32s(1)?[0];
        if !(weight_scale > 0.0 && weight_scale <= 0.03125) {
            return Err(
                cursor.invalid(format!("weight_scale is {weight_scale}, expected above 0, at most 1/32"))
            );
        }
        let mut bucket_weights = [0; N_BUCKETS];
        for (to, &from) in bucket_weights.iter_mut().zip(cursor.take(N_BUCKETS)?) {
            *to = from.cast_signed();
        }
        if bucket_weights.windows(2).any(|w| w[0] > w[1]) || bucket_weights[0] == i8::MIN {
            return Err(cursor.invalid("bucket_weights are not ascending inside -127 to 127".to_owned()));
        }
        let centroids: Vec<f32> = cursor
            .take(2 * n_centroids * dim)?
            .chunks_exact(2)
            .map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())
            .collect();
        if let Some(i) = centroids.iter().position(|v| v.is_nan() || v.abs() > 4.0) {
            return Err(cursor.invalid(format!(
                "centroid {}, value {} is {}, expected -4 to 4",
                i / dim,
                i % dim,
                centroids[i]
            )));
        }
        Ok(Self { dim, bucket_cutoffs, bucket_weights, weight_scale, centroids })
    }
}
