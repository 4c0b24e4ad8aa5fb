//! `centroids.{hash}.bin`: the codec's tables and the centroids.
//!
//! | Offset | Type | Field |
//! |---|---|---|
//! | 0 | `u8[4]` | magic `SHRT` |
//! | 4 | `u32` | version, 2 |
//! | 8 | `u32` | `dim`, even, 2 to 512 |
//! | 12 | `u32` | `n_centroids`, 1 to 65,536 |
//! | 16 | `u32` | packing: 4, 2 or 1 bits a value, 3 for ternary, or 5 + 256 * bytes for codewords |
//! | 20 | `u32` | flags: 1 = decoded values stand alone (sign bits), 2 = `i8` centroids; others 0 |
//! | 24 | `f32[n_levels - 1]` | `bucket_cutoffs`, ascending: a value's level is the count of cutoffs at or below it |
//! | . | `f32` | `weight_scale`, above 0 |
//! | . | `i8[n_levels]` | `bucket_weights`, ascending: level `b` decodes to `bucket_weights[b] * weight_scale`; then zeros to a multiple of four bytes |
//! | . | `i8[bytes, 256, width]` | with codewords instead of the two rows about buckets: `codebooks`, `width = ⌈dim / bytes⌉`, at most 16; then zeros to a multiple of four bytes |
//! | . | `f16[n_centroids, dim]` | centroids, row-major, without flag 2; with it: |
//! | . | `i8[n_centroids]` | exponent of each centroid, -32 to 2; then zeros to a multiple of four bytes |
//! | . | `i8[n_centroids, dim]` | value = `this * 2^exponent` |
//!
//! The weights are bytes so that a kernel can look residual values up in a register and multiply integers. `n_levels` is 16, 4, 2, or 3. Version 1 is the
//! same with packing 4 and no flags.

use super::bytes::{Cursor, put_f32s, put_u32};
use super::{MAX_DIM, N_BUCKETS};
use crate::FormatError;
use half::f16;
use shirube_core::Packing;

const MAGIC: [u8; 4] = *b"SHRT";
const VERSION: u32 = 2;
const FLAG_ALONE: u32 = 1;
const FLAG_I8: u32 = 2;
/// Exponents of `i8` centroids: `127 * 2^2` is far above any value allowed, and below `2^-32` a row counts as zero.
const EXPONENTS: core::ops::RangeInclusive<i32> = -32..=2;
/// Longest run of dimensions that one codeword stands for.
const MAX_RUN: usize = 16;
/// No value of an embedding of length 1, centroid or residual, leaves this.
const MAX_VALUE: f32 = 4.0;

/// How centroids stand in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CentroidForm {
    /// `f16`.
    F16,
    /// `i8` with a power of two for each centroid: half the bytes. Residuals are taken from the rounded centroid, so nothing is lost twice.
    #[default]
    I8,
}

/// Centroids and bucket tables of a codec.
#[derive(Clone, Debug, PartialEq)]
pub struct CodecTables {
    /// Width of a token embedding; even.
    pub dim: usize,
    /// Levels of a value, and how they share bytes.
    pub packing: Packing,
    /// Whether a decoded token is its centroid plus the decoded values; if not, the decoded values alone (sign bits).
    pub add_centroid: bool,
    /// How the centroids are stored.
    pub centroid_form: CentroidForm,
    /// `[n_levels - 1]`, ascending; only needed to pack.
    pub bucket_cutoffs: Vec<f32>,
    /// `[n_levels]`, ascending; level `b` decodes to `bucket_weights[b] * weight_scale`.
    pub bucket_weights: Vec<i8>,
    /// `[bytes, 256, width]` of [`Packing::Product`], else empty: codeword `w` of byte `b` decodes to `codebooks[b][w] * weight_scale` over the dimensions of
    /// run `b`; a shorter run leaves the last unused. With them there are no cutoffs and no weights.
    pub codebooks: Vec<i8>,
    /// Step of the weights or codebooks; above 0.
    pub weight_scale: f32,
    /// `[n_centroids, dim]`, row-major; every value one that [`CentroidForm::round`] leaves as it is.
    pub centroids: Vec<f32>,
}

impl CentroidForm {
    /// Rounds `centroids [n, dim]` to what this form can hold.
    ///
    /// # Panics
    /// If `dim` is 0.
    pub fn round(self, centroids: &mut [f32], dim: usize) {
        match self {
            Self::F16 => centroids.iter_mut().for_each(|v| *v = f16::from_f32(*v).to_f32()),
            Self::I8 => {
                for row in centroids.chunks_exact_mut(dim) {
                    let step = 2.0_f32.powi(exponent(row));
                    row.iter_mut().for_each(|v| *v = (*v / step).round_ties_even() * step);
                }
            }
        }
    }
}

/// The least exponent with which the row's largest value stays within 127.
fn exponent(row: &[f32]) -> i32 {
    let largest = row.iter().fold(0.0_f32, |a, v| a.max(v.abs()));
    EXPONENTS.clone().find(|&e| largest <= 127.0 * 2.0_f32.powi(e)).unwrap_or(*EXPONENTS.end())
}

impl CodecTables {
    /// Rows of `centroids`.
    pub fn n_centroids(&self) -> usize {
        self.centroids.len() / self.dim.max(1)
    }

    /// Bytes of one token's residuals.
    pub fn row_bytes(&self) -> usize {
        self.packing.row_bytes(self.dim)
    }

    /// What each level decodes to; 0 beyond the last.
    pub fn decoded_weights(&self) -> [f32; N_BUCKETS] {
        let weight = |i| self.bucket_weights.get(i).map_or(0.0, |&w| f32::from(w) * self.weight_scale);
        core::array::from_fn(weight)
    }

    /// The file's content.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(108 + 2 * self.centroids.len());
        out.extend_from_slice(&MAGIC);
        let alone = if self.add_centroid { 0 } else { FLAG_ALONE };
        let form = if self.centroid_form == CentroidForm::I8 { FLAG_I8 } else { 0 };
        let packing = packing_number(self.packing);
        for value in [VERSION, self.dim as u32, self.n_centroids() as u32, packing, alone | form] {
            put_u32(&mut out, value);
        }
        put_f32s(&mut out, &self.bucket_cutoffs);
        put_f32s(&mut out, &[self.weight_scale]);
        out.extend(self.bucket_weights.iter().chain(&self.codebooks).map(|w| w.cast_unsigned()));
        pad(&mut out);
        match self.centroid_form {
            CentroidForm::F16 => {
                out.extend(self.centroids.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()));
            }
            CentroidForm::I8 => {
                let rows = || self.centroids.chunks_exact(self.dim);
                out.extend(rows().map(|row| (exponent(row) as i8).cast_unsigned()));
                pad(&mut out);
                for row in rows() {
                    let step = 2.0_f32.powi(exponent(row));
                    out.extend(row.iter().map(|v| ((v / step).round_ties_even() as i8).cast_unsigned()));
                }
            }
        }
        out
    }

    /// Reads the file; `path` is only for messages.
    ///
    /// # Errors
    /// [`FormatError::Newer`] or [`FormatError::Invalid`].
    pub fn parse(path: &str, bytes: &[u8]) -> Result<Self, FormatError> {
        let mut cursor = Cursor::open(path, bytes, MAGIC, VERSION)?;
        let version = version_of(bytes);
        let dim = cursor.count("dim", 2, MAX_DIM)?;
        if !dim.is_multiple_of(2) {
            return Err(cursor.invalid(format!("dim is {dim}, expected an even number")));
        }
        let n_centroids = cursor.count("n_centroids", 1, 1 << 16)?;
        let packing = read_packing(&mut cursor, version, dim)?;
        let flags =
            cursor.count("flags", 0, if version == 1 { 0 } else { (FLAG_ALONE | FLAG_I8) as usize })? as u32;
        let centroid_form = if flags & FLAG_I8 == 0 { CentroidForm::F16 } else { CentroidForm::I8 };
        let n_words = match packing {
            Packing::Product { bytes } => {
                usize::from(bytes) * 256 * Packing::run_width(usize::from(bytes), dim)
            }
            _ => 0,
        };
        let n_levels = if n_words > 0 { 0 } else { packing.n_levels() };
        cursor.expect_left(
            4 * n_levels.max(1)
                + (n_levels + n_words).next_multiple_of(4)
                + match centroid_form {
                    CentroidForm::F16 => 2 * n_centroids * dim,
                    CentroidForm::I8 => n_centroids.next_multiple_of(4) + n_centroids * dim,
                },
        )?;
        let bucket_cutoffs = cursor.f32s(n_levels.saturating_sub(1))?;
        // A wild table would only overflow later.
        if bucket_cutoffs.windows(2).any(|w| w[0] > w[1])
            || bucket_cutoffs.iter().any(|v| v.abs() > MAX_VALUE)
        {
            return Err(cursor.invalid("bucket_cutoffs are not ascending inside -4 to 4".to_owned()));
        }
        let weight_scale = cursor.f32s(1)?[0];
        if !(weight_scale > 0.0 && weight_scale <= 0.03125) {
            return Err(
                cursor.invalid(format!("weight_scale is {weight_scale}, expected above 0, at most 1/32"))
            );
        }
        let bucket_weights: Vec<i8> = cursor.take(n_levels)?.iter().map(|b| b.cast_signed()).collect();
        if bucket_weights.windows(2).any(|w| w[0] > w[1]) || bucket_weights.first() == Some(&i8::MIN) {
            return Err(cursor.invalid("bucket_weights are not ascending inside -127 to 127".to_owned()));
        }
        let codebooks: Vec<i8> = cursor.take(n_words)?.iter().map(|b| b.cast_signed()).collect();
        if let Some(i) = codebooks.iter().position(|&v| v == i8::MIN) {
            return Err(cursor.invalid(format!("codebook value {i} is -128, expected -127 to 127")));
        }
        cursor.align()?;
        let centroids: Vec<f32> = match centroid_form {
            CentroidForm::F16 => cursor
                .take(2 * n_centroids * dim)?
                .chunks_exact(2)
                .map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())
                .collect(),
            CentroidForm::I8 => {
                let exponents = cursor.take(n_centroids)?;
                if let Some(i) = exponents.iter().position(|e| !EXPONENTS.contains(&e.cast_signed().into())) {
                    let found = exponents[i].cast_signed();
                    return Err(
                        cursor.invalid(format!("exponent of centroid {i} is {found}, expected -32 to 2"))
                    );
                }
                cursor.align()?;
                let rows = cursor.take(n_centroids * dim)?.chunks_exact(dim);
                rows.zip(exponents)
                    .flat_map(|(row, e)| {
                        let step = 2.0_f32.powi(e.cast_signed().into());
                        row.iter().map(move |v| f32::from(v.cast_signed()) * step)
                    })
                    .collect()
            }
        };
        if let Some(i) = centroids.iter().position(|v| v.is_nan() || v.abs() > MAX_VALUE) {
            return Err(cursor.invalid(format!(
                "centroid {}, value {} is {}, expected -4 to 4",
                i / dim,
                i % dim,
                centroids[i]
            )));
        }
        let add_centroid = flags & FLAG_ALONE == 0;
        Ok(Self {
            dim,
            packing,
            add_centroid,
            centroid_form,
            bucket_cutoffs,
            bucket_weights,
            codebooks,
            weight_scale,
            centroids,
        })
    }
}

/// The version in the header of a file that [`Cursor::open`] has accepted.
pub(super) fn version_of(bytes: &[u8]) -> u8 {
    bytes[4]
}

/// The number that stands for a packing in headers.
pub(super) fn packing_number(packing: Packing) -> u32 {
    match packing {
        Packing::Bits4 => 4,
        Packing::Bits2 => 2,
        Packing::Bits1 => 1,
        Packing::Ternary => 3,
        Packing::Product { bytes } => 5 + 256 * u32::from(bytes),
    }
}

/// Reads such a number; version 1 knew 4 only.
pub(super) fn read_packing(cursor: &mut Cursor<'_>, version: u8, dim: usize) -> Result<Packing, FormatError> {
    let number =
        cursor.count("packing", if version == 1 { 4 } else { 1 }, if version == 1 { 4 } else { 0xffff })?;
    if let Some(packing) = Packing::ALL.into_iter().find(|&p| packing_number(p) as usize == number) {
        return Ok(packing);
    }
    let bytes = number >> 8;
    if number & 0xff != 5 || bytes == 0 || bytes > dim || Packing::run_width(bytes, dim) > MAX_RUN {
        return Err(cursor.invalid(format!("packing {number} is unknown, or not for {dim} dimensions")));
    }
    Ok(Packing::Product { bytes: bytes as u8 })
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn tables_survive_their_file(
            values in prop::collection::vec(-1.0_f32..1.0, 6..40), exponent in -30_i32..1, packing in 0_usize..7, add_centroid: bool, i8_form: bool,
        ) {
            let packing = Packing::ALL.get(packing).copied().unwrap_or_else(|| Packing::Product { bytes: packing as u8 - 3 });
            let dim = 6_usize;
            let (n, n_words) = match packing {
                Packing::Product { bytes } => (0, usize::from(bytes) * 256 * dim.div_ceil(usize::from(bytes))),
                packing => (packing.n_levels(), 0),
            };
            let centroid_form = if i8_form { CentroidForm::I8 } else { CentroidForm::F16 };
            let mut centroids: Vec<f32> = values[..values.len() / dim * dim].iter().map(|v| v * 2.0_f32.powi(exponent)).collect();
            let exact = centroids.clone();
            centroid_form.round(&mut centroids, dim);
            for (row, exact) in centroids.chunks(dim).zip(exact.chunks(dim)) {
                let largest = exact.iter().fold(2.0_f32.powi(-12), |a, v| a.max(v.abs()));
                for (a, b) in row.iter().zip(exact) {
                    prop_assert!((a - b).abs() <= largest / 126.0, "{a} for {b}");
                }
            }
            let tables = CodecTables {
                dim, packing, add_centroid, centroid_form,
                bucket_cutoffs: (1..n).map(|i| i as f32 / 16.0 - 0.5).collect(),
                bucket_weights: (0..n).map(|i| (i as i32 * 15 - 120) as i8).collect(),
                codebooks: (0..n_words).map(|i| (i % 255) as u8 as i8 ^ i8::from(i % 255 == 128)).collect(),
                weight_scale: 1.0 / 512.0,
                centroids,
            };
            let bytes = tables.to_bytes();
            prop_assert_eq!(CodecTables::parse("x", &bytes).unwrap(), tables);
        }

        /// The body of the fuzz target `tables`.
        #[test]
        fn whatever_parses_is_written_back_the_same(mut noise in prop::collection::vec(any::<u8>(), 24..400), whole: bool) {
            if whole {
                noise[..4].copy_from_slice(&MAGIC);
                noise[4..8].copy_from_slice(&2_u32.to_le_bytes());
                noise[8..12].copy_from_slice(&2_u32.to_le_bytes());
                let (packing, form) = (u32::from(noise[16]) % 4 + 1, u32::from(noise[20]) % 4);
                noise[16..20].copy_from_slice(&packing.to_le_bytes());
                noise[20..24].copy_from_slice(&form.to_le_bytes());
            }
            if let Ok(tables) = CodecTables::parse("x", &noise) {
                prop_assert_eq!(CodecTables::parse("x", &tables.to_bytes()).unwrap(), tables);
            }
        }
    }
}
