//! `codes/{hash}.bin`: the compressed token embeddings of a run of documents.
//!
//! | Offset | Type | Field |
//! |---|---|---|
//! | 0 | `u8[4]` | magic `SHRK` |
//! | 4 | `u32` | version, 2 |
//! | 8 | `u32` | `dim`, even, 2 to 512 |
//! | 12 | `u32` | packing, as in the tables |
//! | 16 | `u32` | `n_centroids` of the tables these codes point into |
//! | 20 | `u32` | first document of the shard |
//! | 24 | `u32` | `n_documents`, at least 1 |
//! | 28 | `u32` | `n_tokens`, the sum of the lengths |
//! | 32 | `u16[n_documents]` | tokens of each document, then zeros to a multiple of four bytes |
//! | . | `u8[⌈n_tokens * code_bits / 8⌉]` | code of each token: the row of its centroid, in `code_bits` bits, lowest first, then zeros to a multiple of four bytes |
//! | . | `u8[n_tokens, row_bytes]` | levels, see [`Packing`] |
//!
//! `code_bits` is the number of bits of `n_centroids - 1`, 0 for one centroid. A document's tokens stand together, because scoring goes document by
//! document; norms are recomputed at load rather than stored. Version 1 has packing 4 and codes of 16 bits.

use super::bytes::{Cursor, put_u16s, put_u32, u16s_bytes};
use super::tables::{packing_number, read_packing, version_of};
use super::{MAX_DIM, MAX_DOCUMENTS};
use crate::FormatError;
use shirube_core::Packing;

const MAGIC: [u8; 4] = *b"SHRK";
const VERSION: u32 = 2;
/// A shard closes at about 128 KiB, so these bounds only stop absurd headers.
const MAX_SHARD: usize = 1 << 24;

/// The codes of documents `first_document..first_document + lengths.len()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodesShard {
    /// Width of a token embedding; even.
    pub dim: usize,
    /// Levels of a value, and how they share bytes.
    pub packing: Packing,
    /// Number of centroids the codes point into.
    pub n_centroids: usize,
    /// First document.
    pub first_document: u32,
    /// `[n_documents]` tokens of each document.
    pub lengths: Vec<u16>,
    /// `[n_tokens]` centroid of each token.
    pub codes: Vec<u16>,
    /// `[n_tokens, row_bytes]` packed levels.
    pub residuals: Vec<u8>,
}

/// Bits that a code of `n_centroids` takes in a file.
pub fn code_bits(n_centroids: usize) -> u32 {
    usize::BITS - n_centroids.saturating_sub(1).leading_zeros()
}

impl CodesShard {
    /// The file's content.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out =
            Vec::with_capacity(44 + 2 * self.lengths.len() + 2 * self.codes.len() + self.residuals.len());
        out.extend_from_slice(&MAGIC);
        let header = [
            VERSION,
            self.dim as u32,
            packing_number(self.packing),
            self.n_centroids as u32,
            self.first_document,
            self.lengths.len() as u32,
            self.codes.len() as u32,
        ];
        for value in header {
            put_u32(&mut out, value);
        }
        put_u16s(&mut out, &self.lengths);
        put_bits(&mut out, &self.codes, code_bits(self.n_centroids));
        out.extend_from_slice(&self.residuals);
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
        let packing = read_packing(&mut cursor, version, dim)?;
        let n_centroids = cursor.count("n_centroids", 1, 1 << 16)?;
        let first_document = cursor.count("first_document", 0, MAX_DOCUMENTS as usize)? as u32;
        let n_documents = cursor.count("n_documents", 1, MAX_SHARD)?;
        let n_tokens = cursor.count("n_tokens", 0, MAX_SHARD)?;
        let bits = if version == 1 { 16 } else { code_bits(n_centroids) };
        let residual_bytes = n_tokens * packing.row_bytes(dim);
        cursor.expect_left(u16s_bytes(n_documents) + bits_bytes(n_tokens, bits) + residual_bytes)?;
        let lengths = cursor.u16s(n_documents)?;
        let sum: usize = lengths.iter().map(|&n| usize::from(n)).sum();
        if sum != n_tokens {
            return Err(cursor.invalid(format!(
                "the documents' lengths add up to {sum}, the header says {n_tokens} tokens"
            )));
        }
        cursor.align()?;
        let codes = read_bits(cursor.take((n_tokens * bits as usize).div_ceil(8))?, n_tokens, bits)
            .ok_or_else(|| cursor.invalid("the bits behind the last code are not zero".to_owned()))?;
        if let Some(i) = codes.iter().position(|&c| usize::from(c) >= n_centroids) {
            return Err(cursor
                .invalid(format!("token {i} has code {}, but there are {n_centroids} centroids", codes[i])));
        }
        cursor.align()?;
        let residuals = cursor.take(residual_bytes)?.to_vec();
        if packing == Packing::Ternary
            && let Some(i) = residuals.iter().position(|&b| b > 242)
        {
            return Err(
                cursor.invalid(format!("residual byte {i} is {}, at most 242 is ternary", residuals[i]))
            );
        }
        Ok(Self { dim, packing, n_centroids, first_document, lengths, codes, residuals })
    }
}

/// Length of `n` numbers of `bits`, padded to a multiple of four bytes.
fn bits_bytes(n: usize, bits: u32) -> usize {
    (n * bits as usize).div_ceil(8).next_multiple_of(4)
}

/// Appends the lowest `bits` (at most 16) of each number, lowest bit first, then zeros to a multiple of four bytes.
fn put_bits(out: &mut Vec<u8>, values: &[u16], bits: u32) {
    let (mut held, mut n_held) = (0_u32, 0);
    for &value in values {
        held |= u32::from(value) << n_held;
        n_held += bits;
        while n_held >= 8 {
            out.push(held as u8);
            held >>= 8;
            n_held -= 8;
        }
    }
    if n_held > 0 {
        out.push(held as u8);
    }
    out.resize(out.len().next_multiple_of(4), 0);
}

/// The `n` numbers that [`put_bits`] wrote; `None` where bits are left that are not zero.
fn read_bits(bytes: &[u8], n: usize, bits: u32) -> Option<Vec<u16>> {
    let (mut held, mut n_held) = (0_u32, 0);
    let mut bytes = bytes.iter();
    let mut out = Vec::with_capacity(n);
    for _ in 0..n {
        while n_held < bits {
            held |= u32::from(*bytes.next()?) << n_held;
            n_held += 8;
        }
        out.push((held & ((1 << bits) - 1)) as u16);
        held >>= bits;
        n_held -= bits;
    }
    (held == 0 && bytes.all(|&b| b == 0)).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn codes_take_the_bits_of_the_last_centroid() {
        for (n, bits) in [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (4096, 12), (65_535, 16), (65_536, 16)] {
            assert_eq!(code_bits(n), bits, "{n}");
        }
        let mut out = Vec::new();
        put_bits(&mut out, &[5, 2, 7, 1], 3);
        assert_eq!(out, [5 | 2 << 3 | (7 & 3) << 6, 7 >> 2 | 1 << 1, 0, 0], "lowest bit first");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_shard_survives_its_file(
            lengths in prop::collection::vec(0_u16..9, 1..12), n_centroids in 1_usize..=65_536, packing in 0_usize..6, seed: u32,
        ) {
            let packing = Packing::ALL.get(packing).copied().unwrap_or_else(|| Packing::Product { bytes: packing as u8 - 3 });
            let n: usize = lengths.iter().map(|&n| usize::from(n)).sum();
            let hash = |i: usize| (i as u32 ^ seed).wrapping_mul(2_654_435_761) >> 9;
            let shard = CodesShard {
                dim: 6, packing, n_centroids, first_document: 3, lengths,
                codes: (0..n).map(|i| (hash(i) as usize % n_centroids) as u16).collect(),
                residuals: (0..n * packing.row_bytes(6)).map(|i| (hash(i) % 243) as u8).collect(),
            };
            prop_assert_eq!(CodesShard::parse("x", &shard.to_bytes()).unwrap(), shard);
        }

        /// The body of the fuzz target `codes`, on files with a few bytes changed and on noise.
        #[test]
        fn whatever_parses_is_written_back_the_same(
            lengths in prop::collection::vec(0_u16..5, 1..6), n_centroids in 1_usize..300, packing in 0_usize..4,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            noise in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let packing = Packing::ALL[packing];
            let n: usize = lengths.iter().map(|&n| usize::from(n)).sum();
            let shard = CodesShard {
                dim: 8, packing, n_centroids, first_document: 0, lengths,
                codes: (0..n).map(|i| (i % n_centroids) as u16).collect(),
                residuals: vec![200; n * packing.row_bytes(8)],
            };
            let mut bytes = shard.to_bytes();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            for bytes in [bytes, noise] {
                if let Ok(shard) = CodesShard::parse("x", &bytes) {
                    prop_assert_eq!(CodesShard::parse("x", &shard.to_bytes()).unwrap(), shard);
                }
            }
        }
    }
}
