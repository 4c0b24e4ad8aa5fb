//! The tokenizer: normalise, cut at script changes, split into pieces.

use crate::unigram::Unigram;
use crate::{Normalized, Normalizer, Rules, Segment, Segmenter, Span, script_runs};
use std::fmt;

/// Number of byte pieces, `<0x00>` to `<0xFF>`.
pub(crate) const N_BYTES: usize = 256;

/// Text to token ids, the same on every target.
///
/// Ids: special tokens from 0, then the 256 byte pieces if the vocabulary falls back to bytes, then the pieces in ascending
/// order of their UTF-8 bytes. Special tokens and byte pieces are never matched in text.
#[derive(Clone)]
pub struct Tokenizer {
    pub(crate) normalizer: Normalizer,
    pub(crate) segmenter: Segmenter,
    pub(crate) specials: Vec<String>,
    pub(crate) unk_id: u32,
    pub(crate) byte_fallback: bool,
    pub(crate) unigram: Unigram,
}

/// A tokenised text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// Token ids, markers not included.
    pub ids: Vec<u32>,
    /// For each token its bytes in the original text: never empty, starts and ends never go back. The byte pieces of one
    /// character all have that character's range.
    pub offsets: Vec<Span>,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("normalizer", &self.normalizer.rules().name())
            .field("segmenter", &self.segmenter.name())
            .field("vocab_size", &self.vocab_size())
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// The ids of `text` and where they come from. Time is linear in the length of `text`.
    pub fn encode(&self, text: &str) -> Encoding {
        self.encode_normalized(&self.normalizer.normalize(text))
    }

    /// As [`Self::encode`] for a text that this tokenizer's rules have normalised already.
    pub fn encode_normalized(&self, normalized: &Normalized) -> Encoding {
        let mut encoding = Encoding::default();
        let mut lattice = Vec::new();
        match self.segmenter {
            Segmenter::None => {
                self.encode_segment(&normalized.text, &normalized.spans, &mut lattice, &mut encoding);
            }
            Segmenter::Script => {
                for Segment { bytes, first_char, .. } in script_runs(&normalized.text) {
                    let spans = normalized.spans.get(first_char..).unwrap_or_default();
                    self.encode_segment(&normalized.text[bytes], spans, &mut lattice, &mut encoding);
                }
            }
        }
        encoding
    }

    /// Appends the tokens of one segment; `spans` begins with the segment's first character.
    fn encode_segment(
        &self,
        segment: &str,
        spans: &[Span],
        lattice: &mut Vec<crate::unigram::Best>,
        out: &mut Encoding,
    ) {
        let first_piece = self.first_piece();
        let range = |from: usize, to: usize| Span {
            start: spans.get(from).map_or(0, |s| s.start),
            end: spans.get(to - 1).map_or(0, |s| s.end),
        };
        let mut unknown_from = None;
        self.unigram.split(segment, lattice, |piece, from, bytes| match piece {
            Some((piece, to)) => {
                unknown_from = None;
                out.ids.push(first_piece + piece);
                out.offsets.push(range(from, to));
            }
            None if self.byte_fallback => {
                for byte in segment[bytes].bytes() {
                    out.ids.push(self.n_specials() + u32::from(byte));
                    out.offsets.push(range(from, from + 1));
                }
            }
            None => {
                // Neighbouring unknown characters are one unknown token.
                if let (Some(first), Some(last)) = (unknown_from, out.offsets.last_mut()) {
                    *last = range(first, from + 1);
                } else {
                    unknown_from = Some(from);
                    out.ids.push(self.unk_id);
                    out.offsets.push(range(from, from + 1));
                }
            }
        });
    }

    fn n_specials(&self) -> u32 {
        self.specials.len() as u32
    }

    /// Id of the first piece, after special tokens and byte pieces.
    fn first_piece(&self) -> u32 {
        self.n_specials() + if self.byte_fallback { N_BYTES as u32 } else { 0 }
    }

    /// Number of ids; every id is below it.
    pub fn vocab_size(&self) -> usize {
        self.first_piece() as usize + self.unigram.len()
    }

    /// The text of `id`: a special token's name, a piece, or `<0xE3>` for a byte piece; `None` from [`Self::vocab_size`] on.
    pub fn piece(&self, id: u32) -> Option<String> {
        if let Some(special) = self.specials.get(id as usize) {
            return Some(special.clone());
        }
        match self.byte_of(id) {
            Some(byte) => Some(format!("<0x{byte:02X}>")),
            None => self.unigram.piece(id.checked_sub(self.first_piece())? as usize).map(str::to_owned),
        }
    }

    /// The byte that a byte piece stands for.
    pub fn byte_of(&self, id: u32) -> Option<u8> {
        let byte = id.checked_sub(self.n_specials())?;
        if self.byte_fallback { u8::try_from(byte).ok() } else { None }
    }

    /// The id of a special token or a piece.
    pub fn id_of(&self, piece: &str) -> Option<u32> {
        if let Some(at) = self.specials.iter().position(|special| special == piece) {
            return Some(at as u32);
        }
        self.unigram.find(piece).map(|at| self.first_piece() + at)
    }

    /// The normaliser, for texts that are needed normalised elsewhere too (lexical search, highlights).
    pub fn normalizer(&self) -> &Normalizer {
        &self.normalizer
    }

    /// The rules of the normaliser.
    pub fn rules(&self) -> Rules {
        self.normalizer.rules()
    }

    /// How normalised text is cut before it is split into pieces.
    pub fn segmenter(&self) -> Segmenter {
        self.segmenter
    }

    /// Names of the special tokens, by id.
    pub fn specials(&self) -> &[String] {
        &self.specials
    }
}
