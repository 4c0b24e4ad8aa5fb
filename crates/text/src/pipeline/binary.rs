//! `tokenizer.bin`, format 3: a [`Pipeline`]. All numbers are little-endian.
//!
//! | Byte | Type | Content |
//! |---|---|---|
//! | 0 | 4 bytes | `SHTK` |
//! | 4 | u16 | format version, 3 |
//! | 6 | u8, u8 | bytes of a score: 0, 4 or 8; 0 |
//! | 8 | u32 | bytes of the description |
//! | 12 | u32 | `n_merges`, at most 2^21 |
//! | 16 | u32 | `n_pieces`, at most 2^20 |
//! | 20 | u32 | CRC-32 (IEEE) of bytes 0 to 19 and of everything from byte 24 |
//! | 24 | | the description: JSON, normalisation, cuts, added tokens and what the model needs |
//! | | u8 × `n_pieces` | bytes that a piece shares with the one before |
//! | | u8 × `n_pieces` | bytes that follow those |
//! | | u8 × 3 `n_pieces` | ids: the lowest bytes of all, then the middle, then the highest |
//! | | f32 or f64 × `n_pieces` | scores |
//! | | u8 × 6 `n_merges` | ids of the left halves, then of the right, bytes apart as above |
//! | | | the bytes that follow, one piece after the other, to the end of the file |
//!
//! Pieces are in strictly ascending order of their UTF-8 bytes.

use super::model::{Merges, Subword};
use super::split::Split;
use super::steps::Step;
use super::vocabulary::Vocabulary;
use super::{Added, Pipeline};
use crate::TextError;
use crate::binary::{HEADER_BYTES, MAGIC, Reader, damaged, seal};
use serde::{Deserialize, Serialize};

/// The format version of a pipeline's file.
pub(crate) const PIPELINE_FORMAT: u16 = 3;
pub(super) const MAX_PIECES: usize = 1 << 20;
pub(super) const MAX_MERGES: usize = 1 << 21;

#[derive(Serialize, Deserialize)]
struct Description {
    steps: Vec<Step>,
    splits: Vec<Split>,
    added: Vec<Added>,
    model: Model,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Model {
    Unigram { unknown: Option<u32>, byte_fallback: bool },
    Bpe { unknown: Option<u32>, fuse_unknown: bool, byte_fallback: bool, whole_words: bool },
    Wordpiece { unknown: u32, continuation: String, most_chars: usize },
}

impl Pipeline {
    /// This tokenizer as `tokenizer.bin`.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let (model, scores, pairs): (Model, &[f64], &[(u32, u32)]) = match &self.subword {
            Subword::Unigram { scores, unknown, byte_fallback } => {
                (Model::Unigram { unknown: *unknown, byte_fallback: *byte_fallback }, scores, &[])
            }
            Subword::Bpe { merges, unknown, fuse_unknown, byte_fallback, whole_words } => (
                Model::Bpe {
                    unknown: *unknown,
                    fuse_unknown: *fuse_unknown,
                    byte_fallback: *byte_fallback,
                    whole_words: *whole_words,
                },
                &[],
                &merges.pairs,
            ),
            Subword::WordPiece { unknown, continuation, most_chars } => (
                Model::Wordpiece {
                    unknown: *unknown,
                    continuation: continuation.clone(),
                    most_chars: *most_chars,
                },
                &[],
                &[],
            ),
        };
        let description = Description {
            steps: self.steps.clone(),
            splits: self.splits.clone(),
            added: self.added.clone(),
            model,
        };
        let description =
            serde_json::to_vec(&description).expect("a description holds only JSON-compatible values");
        let n = self.vocabulary.len();
        let narrow = scores.iter().all(|&score| f64::from(score as f32) == score);
        let score_bytes = if scores.is_empty() {
            0
        } else if narrow {
            4
        } else {
            8
        };
        let mut out = MAGIC.to_vec();
        out.extend(PIPELINE_FORMAT.to_le_bytes());
        out.extend([score_bytes, 0]);
        out.extend((description.len() as u32).to_le_bytes());
        out.extend((pairs.len() as u32).to_le_bytes());
        out.extend((n as u32).to_le_bytes());
        out.extend([0; 4]);
        out.extend(description);
        let pieces = || (0..n).map(|at| self.vocabulary.piece(at).as_bytes());
        let shared: Vec<u8> = core::iter::once(&b""[..])
            .chain(pieces())
            .zip(pieces())
            .map(|(a, b)| a.iter().zip(b).take_while(|(x, y)| x == y).count() as u8)
            .collect();
        out.extend(&shared);
        out.extend(pieces().zip(&shared).map(|(piece, &shared)| piece.len() as u8 - shared));
        columns((0..n).map(|at| self.vocabulary.id(at)), &mut out);
        match score_bytes {
            4 => out.extend(scores.iter().flat_map(|&score| (score as f32).to_le_bytes())),
            8 => out.extend(scores.iter().flat_map(|score| score.to_le_bytes())),
            _ => {}
        }
        columns(pairs.iter().map(|pair| pair.0), &mut out);
        columns(pairs.iter().map(|pair| pair.1), &mut out);
        for (piece, &shared) in pieces().zip(&shared) {
            out.extend_from_slice(&piece[usize::from(shared)..]);
        }
        seal(&mut out);
        out
    }

    /// Reads on after the version. The checksum is right already. Memory is bounded by a small multiple of the length.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, TextError> {
        let score_bytes = usize::from(reader.u8("bytes of a score")?);
        reader.u8("header")?;
        let description = reader.u32("length of the description")? as usize;
        let n_merges = reader.u32("number of merges")? as usize;
        let n = reader.u32("number of pieces")? as usize;
        reader.u32("checksum")?;
        if n > MAX_PIECES {
            return Err(damaged("number of pieces", 16));
        }
        if n_merges > MAX_MERGES {
            return Err(damaged("number of merges", 12));
        }
        let description: Description = serde_json::from_slice(reader.take(description, "description")?)
            .map_err(|_| damaged("description", HEADER_BYTES))?;
        let sound = |split: &Split| match split {
            Split::Pattern { pattern, .. } => pattern.is_sound(),
            _ => true,
        };
        if !super::steps::are_bounded(&description.steps) || !description.splits.iter().all(sound) {
            return Err(damaged("description", HEADER_BYTES));
        }
        let shared = reader.take(n, "shared lengths")?;
        let own = reader.take(n, "own lengths")?;
        let ids = read_columns(reader.take(3 * n, "ids")?);
        let at = reader.at();
        let scores = reader.take(score_bytes * n, "scores")?;
        let scores: Vec<f64> = match score_bytes {
            0 => Vec::new(),
            4 => scores
                .chunks_exact(4)
                .map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])))
                .collect(),
            8 => scores
                .chunks_exact(8)
                .map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
                .collect(),
            _ => return Err(damaged("bytes of a score", 6)),
        };
        if scores.iter().any(|score| !score.is_finite()) {
            return Err(damaged("scores", at));
        }
        let left = read_columns(reader.take(3 * n_merges, "merges")?);
        let right = read_columns(reader.take(3 * n_merges, "merges")?);
        let at = reader.at();
        let pieces = read_pieces(reader, shared, own)?;
        if !reader.rest().is_empty() {
            return Err(damaged("end of file", reader.at()));
        }
        let vocabulary = Vocabulary::new(pieces.iter().map(String::as_str).zip(ids))
            .ok_or_else(|| damaged("pieces", at))?;
        let wrong = || damaged("description", HEADER_BYTES);
        let subword = match description.model {
            Model::Unigram { unknown, byte_fallback } if scores.len() == n => {
                Subword::Unigram { scores, unknown, byte_fallback }
            }
            Model::Bpe { unknown, fuse_unknown, byte_fallback, whole_words } if score_bytes == 0 => {
                let merges = Merges::new(left.into_iter().zip(right).collect(), &vocabulary);
                let merges = merges.ok_or_else(|| damaged("merges", at))?;
                Subword::Bpe { merges, unknown, fuse_unknown, byte_fallback, whole_words }
            }
            Model::Wordpiece { unknown, continuation, most_chars } if score_bytes == 0 => {
                Subword::WordPiece { unknown, continuation, most_chars }
            }
            _ => return Err(wrong()),
        };
        if description.added.iter().any(|token| token.id as usize >= 2 * MAX_PIECES) {
            return Err(wrong());
        }
        Ok(Self::new(description.added, description.steps, description.splits, vocabulary, subword))
    }
}

/// Three bytes a number, each place apart: that compresses best.
fn columns(numbers: impl Iterator<Item = u32> + Clone, out: &mut Vec<u8>) {
    for place in 0..3 {
        out.extend(numbers.clone().map(|number| number.to_le_bytes()[place]));
    }
}

fn read_columns(bytes: &[u8]) -> Vec<u32> {
    let n = bytes.len() / 3;
    (0..n).map(|i| u32::from_le_bytes([bytes[i], bytes[n + i], bytes[2 * n + i], 0])).collect()
}

fn read_pieces(reader: &mut Reader<'_>, shared: &[u8], own: &[u8]) -> Result<Vec<String>, TextError> {
    let mut pieces: Vec<String> = Vec::new();
    let mut piece: Vec<u8> = Vec::new();
    for (&shared, &own) in shared.iter().zip(own) {
        let at = reader.at();
        let suffix = reader.take(usize::from(own), "pieces")?;
        if usize::from(shared) > piece.len() || usize::from(shared) + suffix.len() > usize::from(u8::MAX) {
            return Err(damaged("pieces", at));
        }
        piece.truncate(usize::from(shared));
        piece.extend_from_slice(suffix);
        pieces.push(str::from_utf8(&piece).map_err(|_| damaged("pieces", at))?.to_owned());
    }
    Ok(pieces)
}
