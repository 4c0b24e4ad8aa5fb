//! `codes/{hash}.bin`: the compressed token embeddings of a run of documents.
//!
//! | Offset | Type | Field |
//! |---|---|---|
//! | 0 | `u8[4]` | magic `SHRK` |
//! | 4 | `u32` | version, 1 |
//! | 8 | `u32` | `dim`, even, 2 to 512 |
//! | 12 | `u32` | `nbits`, 4 |
//! | 16 | `u32` | `n_centroids` of the tables these codes point into |
//! | 20 | `u32` | first document of the shard |
//! | 24 | `u32` | `n_documents`, at least 1 |
//! | 28 | `u32` | `n_tokens`, the sum of the lengths |
//! | 32 | `u16[n_documents]` | tokens of each document, then zeros to a multiple of four bytes |
//! | . | `u16[n_tokens]` | code of each token: the row of its centroid, then zeros to a multiple of four bytes |
//! | . | `u8[n_tokens, dim / 2]` | packed residuals: value `2i` in the low four bits of byte `i`, value `2i + 1` in the high four |
//!
//! A document's tokens stand together, because scoring goes document by document; norms are recomputed at load rather than stored.

use super::bytes::{Cursor, put_u16s, put_u32, u16s_bytes};
use super::{MAX_DIM, MAX_DOCUMENTS, NBITS};
use crate::FormatError;

const MAGIC: [u8; 4] = *b"SHRK";
const VERSION: u32 = 1;
/// A shard closes at about 128 KiB, so these bounds only stop absurd headers.
const MAX_SHARD: usize = 1 << 24;

/// The codes of documents `first_document..first_document + lengths.len()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodesShard {
    /// Width of a token embedding; even.
    pub dim: usize,
    /// Number of centroids the codes point into.
    pub n_centroids: usize,
    /// First document.
    pub first_document: u32,
    /// `[n_documents]` tokens of each document.
    pub lengths: Vec<u16>,
    /// `[n_tokens]` centroid of each token.
    pub codes: Vec<u16>,
    /// `[n_tokens, dim / 2]` packed residuals.
    pub residuals: Vec<u8>,
}

impl CodesShard {
    /// The file's content.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out =
            Vec::with_capacity(40 + 2 * self.lengths.len() + 2 * self.codes.len() + self.residuals.len());
        out.extend_from_slice(&MAGIC);
        let header = [
            VERSION,
            self.dim as u32,
            NBITS,
            self.n_centroids as u32,
            self.first_document,
            self.lengths.len() as u32,
            self.codes.len() as u32,
        ];
        for value in header {
            put_u32(&mut out, value);
        }
        put_u16s(&mut out, &self.lengths);
        put_u16s(&mut out, &self.codes);
        out.extend_from_slice(&self.residuals);
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
        cursor.count("nbits", NBITS as usize, NBITS as usize)?;
        let n_centroids = cursor.count("n_centroids", 1, 1 << 16)?;
        let first_document = cursor.count("first_document", 0, MAX_DOCUMENTS as usize)? as u32;
        let n_documents = cursor.count("n_documents", 1, MAX_SHARD)?;
        let n_tokens = cursor.count("n_tokens", 0, MAX_SHARD)?;
        cursor.expect_left(u16s_bytes(n_documents) + u16s_bytes(n_tokens) + n_tokens * (dim / 2))?;
        let lengths = cursor.u16s(n_documents)?;
        let sum: usize = lengths.iter().map(|&n| usize::from(n)).sum();
        if sum != n_tokens {
            return Err(cursor.invalid(format!(
                "the documents' lengths add up to {sum}, the header says {n_tokens} tokens"
            )));
        }
        cursor.align()?;
        let codes = cursor.u16s(n_tokens)?;
        if let Some(i) = codes.iter().position(|&c| usize::from(c) >= n_centroids) {
            return Err(cursor
                .invalid(format!("token {i} has code {}, but there are {n_centroids} centroids", codes[i])));
        }
        cursor.align()?;
        let residuals = cursor.take(n_tokens * (dim / 2))?.to_vec();
        Ok(Self { dim, n_centroids, first_document, lengths, codes, residuals })
    }
}
