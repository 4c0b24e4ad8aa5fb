//! The tokenizer: normalise, cut at script changes or into words, split into pieces.

use crate::bert_japanese::{BertJapanese, Buffers};
use crate::pipeline::Pipeline;
use crate::unigram::Unigram;
use crate::{Normalized, Normalizer, Rules, Segment, Segmenter, Span, TextError, script_runs};
use std::fmt;

/// Number of byte pieces, `<0x00>` to `<0xFF>`.
pub(crate) const N_BYTES: usize = 256;

/// Text to token ids, the same on every target.
///
/// Ids of a Unigram model: special tokens from 0, then the 256 byte pieces if the vocabulary falls back to bytes, then the pieces in
/// ascending order of their UTF-8 bytes; special tokens and byte pieces are never matched in text. Ids of a WordPiece model
/// ([`Self::bert_japanese`]) are the lines of its `vocab.txt`; its special tokens are matched in text, as transformers does.
#[derive(Clone)]
pub struct Tokenizer {
    pub(crate) normalizer: Normalizer,
    pub(crate) segmenter: Segmenter,
    pub(crate) specials: Vec<String>,
    pub(crate) subword: Subword,
}

/// What splits a segment into tokens.
#[derive(Clone, Debug)]
pub(crate) enum Subword {
    Unigram(Pieces),
    WordPiece(Box<BertJapanese>),
    /// Normalises and cuts by its own steps.
    Pipeline(Box<Pipeline>),
}

/// A Unigram model with what stands for characters it does not have.
#[derive(Clone, Debug)]
pub(crate) struct Pieces {
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
    /// The tokenizer of a `tokenizer.json` of another library: Unigram, BPE or WordPiece with the normalisers and pre-tokenisers of BERT, Llama and
    /// GPT style tokenizers. Markers that its post-processor adds are not part of it; they are the input rules' matter.
    ///
    /// # Errors
    /// [`TextError::Unsupported`] for a part that is not built, by name.
    pub fn from_hugging_face(json: &str) -> Result<Self, TextError> {
        Ok(Self::of_pipeline(Pipeline::from_tokenizer_json(json)?))
    }

    pub(crate) fn of_pipeline(pipeline: Pipeline) -> Self {
        Self {
            normalizer: Normalizer::new(Rules::Nfkc),
            segmenter: Segmenter::None,
            specials: pipeline.added.iter().map(|token| token.content.clone()).collect(),
            subword: Subword::Pipeline(Box::new(pipeline)),
        }
    }

    /// The ids of `text` and where they come from. Time is linear in the length of `text`.
    pub fn encode(&self, text: &str) -> Encoding {
        match &self.subword {
            Subword::WordPiece(model) => {
                let mut encoding = Encoding::default();
                model.encode(&self.normalizer, &self.specials, text, &mut encoding);
                encoding
            }
            Subword::Unigram(_) => self.encode_normalized(&self.normalizer.normalize(text)),
            Subword::Pipeline(pipeline) => pipeline.encode(text),
        }
    }

    /// As [`Self::encode`] for a text that this tokenizer's rules have normalised already. Special tokens are not looked for.
    pub fn encode_normalized(&self, normalized: &Normalized) -> Encoding {
        let Normalized { text, spans } = normalized;
        let mut encoding = Encoding::default();
        match &self.subword {
            Subword::WordPiece(model) => {
                model.encode_words(text, spans, 0, &mut Buffers::default(), &mut encoding);
            }
            Subword::Pipeline(pipeline) => {
                encoding = pipeline.encode(text);
                for span in &mut encoding.offsets {
                    // From bytes of the normalised text to characters, and to where these come from.
                    let first = text[..span.start as usize].chars().count();
                    let n = text[span.range()].chars().count();
                    let covered = spans.get(first..first + n).unwrap_or_default();
                    *span = Span {
                        start: covered.first().map_or(0, |s| s.start),
                        end: covered.last().map_or(0, |s| s.end),
                    };
                }
            }
            Subword::Unigram(pieces) => {
                let mut lattice = Vec::new();
                let mut encode = |text: &str, spans: &[Span]| {
                    pieces.encode_segment(self.n_specials(), text, spans, &mut lattice, &mut encoding);
                };
                if self.segmenter == Segmenter::Script {
                    for Segment { bytes, first_char, .. } in script_runs(text) {
                        encode(&text[bytes], spans.get(first_char..).unwrap_or_default());
                    }
                } else {
                    encode(text, spans);
                }
            }
        }
        encoding
    }

    fn n_specials(&self) -> u32 {
        self.specials.len() as u32
    }

    /// Number of ids; every id is below it.
    pub fn vocab_size(&self) -> usize {
        match &self.subword {
            Subword::Unigram(pieces) => pieces.first_piece(self.n_specials()) as usize + pieces.unigram.len(),
            Subword::WordPiece(model) => {
                let added = model.special_ids.iter().map(|&id| id as usize + 1).max().unwrap_or(0);
                model.pieces.len().max(added)
            }
            Subword::Pipeline(pipeline) => pipeline.vocab_size(),
        }
    }

    /// The text of `id`: a special token's name, a piece, or `<0xE3>` for a byte piece; `None` from [`Self::vocab_size`] on.
    pub fn piece(&self, id: u32) -> Option<String> {
        match &self.subword {
            Subword::Unigram(pieces) => {
                if let Some(special) = self.specials.get(id as usize) {
                    return Some(special.clone());
                }
                match self.byte_of(id) {
                    Some(byte) => Some(format!("<0x{byte:02X}>")),
                    None => {
                        let at = id.checked_sub(pieces.first_piece(self.n_specials()))?;
                        pieces.unigram.piece(at as usize).map(str::to_owned)
                    }
                }
            }
            Subword::WordPiece(model) => match model.special_ids.iter().position(|&special| special == id) {
                Some(at) => self.specials.get(at).cloned(),
                None => model.pieces.piece(id).map(str::to_owned),
            },
            Subword::Pipeline(pipeline) => pipeline.piece(id),
        }
    }

    /// The byte that a byte piece stands for.
    pub fn byte_of(&self, id: u32) -> Option<u8> {
        match &self.subword {
            Subword::Unigram(Pieces { byte_fallback: true, .. }) => {
                u8::try_from(id.checked_sub(self.n_specials())?).ok()
            }
            _ => None,
        }
    }

    /// The id of a special token or a piece.
    pub fn id_of(&self, piece: &str) -> Option<u32> {
        let special = self.specials.iter().position(|special| special == piece);
        match &self.subword {
            Subword::Unigram(pieces) => match special {
                Some(at) => Some(at as u32),
                None => pieces.unigram.find(piece).map(|at| pieces.first_piece(self.n_specials()) + at),
            },
            Subword::WordPiece(model) => match special {
                Some(at) => model.special_ids.get(at).copied(),
                None => model.pieces.find(piece),
            },
            Subword::Pipeline(pipeline) => pipeline.id_of(piece),
        }
    }

    /// The id that stands for what the vocabulary does not have; 0 where nothing does, because every byte is a piece.
    pub fn unk_id(&self) -> u32 {
        match &self.subword {
            Subword::Unigram(pieces) => pieces.unk_id,
            Subword::WordPiece(model) => model.unk_id,
            Subword::Pipeline(pipeline) => pipeline.unk_id().unwrap_or(0),
        }
    }

    /// Names of normaliser and segmenter as manifests have them; both `tokenizer.json` where that file's steps are followed.
    pub fn step_names(&self) -> [&'static str; 2] {
        match &self.subword {
            Subword::Pipeline(_) => ["tokenizer.json"; 2],
            _ => [self.rules().name(), self.segmenter().name()],
        }
    }

    /// The name of the subword model, as manifests have it: `unigram`, `wordpiece` or `bpe`.
    pub fn subword_name(&self) -> &'static str {
        match &self.subword {
            Subword::Unigram(_) => "unigram",
            Subword::WordPiece(_) => "wordpiece",
            Subword::Pipeline(pipeline) => pipeline.subword.name(),
        }
    }

    /// The normaliser, for texts that are needed normalised elsewhere too (lexical search, highlights). One of another library has steps
    /// of its own; then this is NFKC.
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

    /// Names of the special tokens. Those of a Unigram model have the ids from 0 on, others are asked of [`Self::id_of`].
    pub fn specials(&self) -> &[String] {
        &self.specials
    }
}

impl Pieces {
    /// Id of the first piece, after special tokens and byte pieces.
    fn first_piece(&self, n_specials: u32) -> u32 {
        n_specials + if self.byte_fallback { N_BYTES as u32 } else { 0 }
    }

    /// Appends the tokens of one segment; `spans` begins with the segment's first character.
    fn encode_segment(
        &self,
        n_specials: u32,
        segment: &str,
        spans: &[Span],
        lattice: &mut Vec<crate::unigram::Best>,
        out: &mut Encoding,
    ) {
        let first_piece = self.first_piece(n_specials);
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
                    out.ids.push(n_specials + u32::from(byte));
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
}
