//! `tokenizer.bin`, the compact form of a tokenizer: format 1, Unigram. All numbers are little-endian. (Format 2, WordPiece, stands in
//! `wordpiece_file.rs`, format 3, tokenizers of other libraries, in `pipeline/binary.rs`; all have the checksum in one place.)
//!
//! | Byte | Type | Content |
//! |---|---|---|
//! | 0 | 4 bytes | `SHTK` |
//! | 4 | u16 | format version, 1 |
//! | 6 | u8 | normaliser: 0 `nfkc`, 1 `shirube-1` |
//! | 7 | u8 | segmenter: 0 `none`, 1 `script` |
//! | 8 | u8 | subword model: 1 Unigram |
//! | 9 | u8 | 1 if byte pieces follow the special tokens, else 0 |
//! | 10 | u16 | score steps per nat, at least 1 |
//! | 12 | u16 | `n_specials` |
//! | 14 | u16 | id of the unknown token, below `n_specials` |
//! | 16 | u32 | `n_pieces`, at most 2^20 |
//! | 20 | u32 | CRC-32 (IEEE) of bytes 0 to 19 and of everything from byte 24 |
//! | 24 | | for each special token: u8 length, UTF-8 |
//! | | u8 × `n_pieces` | bytes that a piece shares with the one before |
//! | | u8 × `n_pieces` | bytes that follow those |
//! | | u16 × `n_pieces` | cost: the negative score in steps |
//! | | | the bytes that follow, one piece after the other, to the end of the file |
//!
//! Pieces are in strictly ascending order of their UTF-8 bytes; columns stand apart because that is what compresses. Scores
//! in `tokenizer.json` are the costs divided by the steps, so both files give the same tokens.

use crate::pipeline::{PIPELINE_FORMAT, Pipeline};
use crate::tokenizer::{N_BYTES, Pieces, Tokenizer};
use crate::unigram::Unigram;
use crate::wordpiece_file::{self, WORDPIECE_FORMAT};
use crate::{Normalizer, Rules, Segmenter, Subword, TextError};
use shirube_segment::{Dictionary, crc32};
use std::sync::Arc;

/// The newest format this build reads. Unigram models are written in format 1.
pub const TOKENIZER_FORMAT: u16 = PIPELINE_FORMAT;

pub(crate) const MAGIC: &[u8; 4] = b"SHTK";
pub(crate) const HEADER_BYTES: usize = 24;
pub(crate) const MAX_PIECES: u32 = 1 << 20;
const UNIGRAM_FORMAT: u16 = 1;

impl Tokenizer {
    /// The tokenizer in `bytes`, a `tokenizer.bin` that needs no dictionary. Memory is bounded by a small multiple of the length.
    ///
    /// # Errors
    /// As [`Self::open`], and [`TextError::NoDictionary`] for one that does.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TextError> {
        Self::open(bytes, None)
    }

    /// The tokenizer in `bytes`, a `tokenizer.bin`, with the dictionary it cuts words by, if it does.
    ///
    /// # Errors
    /// [`TextError::NotATokenizer`], [`TextError::NewerFormat`] and [`TextError::Damaged`]; [`TextError::NoDictionary`] and
    /// [`TextError::OtherDictionary`] where the dictionary it was made with is needed and not there; no input panics.
    pub fn open(bytes: &[u8], dictionary: Option<Arc<Dictionary>>) -> Result<Self, TextError> {
        if bytes.get(..4) != Some(MAGIC) {
            return Err(TextError::NotATokenizer { bytes: bytes.len() });
        }
        let mut reader = Reader { bytes, at: 4 };
        let version = reader.u16("version")?;
        if !(UNIGRAM_FORMAT..=PIPELINE_FORMAT).contains(&version) {
            return Err(TextError::NewerFormat { found: version, supported: TOKENIZER_FORMAT });
        }
        let stated = Reader { bytes, at: 20 }.u32("checksum")?;
        let (head, body) = (&bytes[..20], &bytes[HEADER_BYTES..]);
        if crc32(&[head, body]) != stated {
            return Err(damaged("checksum", 20));
        }
        match version {
            WORDPIECE_FORMAT => return wordpiece_file::read(&mut reader, dictionary),
            PIPELINE_FORMAT => return Ok(Self::of_pipeline(Pipeline::read(&mut reader)?)),
            _ => {}
        }
        let rules = match reader.u8("normaliser")? {
            0 => Rules::Nfkc,
            1 => Rules::Shirube1,
            _ => return Err(damaged("normaliser", 6)),
        };
        let segmenter = match reader.u8("segmenter")? {
            0 => Segmenter::None,
            1 => Segmenter::Script,
            _ => return Err(damaged("segmenter", 7)),
        };
        if reader.u8("subword model")? != 1 {
            return Err(damaged("subword model", 8));
        }
        let byte_fallback = match reader.u8("byte pieces")? {
            0 => false,
            1 => true,
            _ => return Err(damaged("byte pieces", 9)),
        };
        let steps_per_nat = reader.u16("score steps")?;
        let n_specials = reader.u16("number of special tokens")?;
        let unk_id = reader.u16("unknown token")?;
        let n_pieces = reader.u32("number of pieces")?;
        reader.u32("checksum")?;
        if steps_per_nat == 0 {
            return Err(damaged("score steps", 10));
        }
        if unk_id >= n_specials {
            return Err(damaged("unknown token", 14));
        }
        if n_pieces > MAX_PIECES {
            return Err(damaged("number of pieces", 16));
        }
        let mut specials = Vec::new();
        for _ in 0..n_specials {
            let at = reader.at;
            let length = usize::from(reader.u8("special token")?);
            let special = reader.take(length, "special token")?;
            specials.push(str::from_utf8(special).map_err(|_| damaged("special token", at))?.to_owned());
        }
        let n_pieces = n_pieces as usize;
        let shared = reader.take(n_pieces, "shared lengths")?;
        let own = reader.take(n_pieces, "own lengths")?;
        let costs = reader
            .take(n_pieces * 2, "costs")?
            .chunks_exact(2)
            .map(|c| u16::from_le_bytes([c[0], c[1]]))
            .collect();
        let mut text = String::new();
        let mut starts = vec![0u32];
        let mut piece: Vec<u8> = Vec::new();
        let mut previous: Vec<u8> = Vec::new();
        for (&shared, &own) in shared.iter().zip(own) {
            let at = reader.at;
            let suffix = reader.take(usize::from(own), "pieces")?;
            piece.clear();
            piece
                .extend_from_slice(previous.get(..usize::from(shared)).ok_or_else(|| damaged("pieces", at))?);
            piece.extend_from_slice(suffix);
            // No suffix would repeat the piece before or one shorter than it.
            if piece.len() > usize::from(u8::MAX) || piece <= previous {
                return Err(damaged("pieces", at));
            }
            text.push_str(str::from_utf8(&piece).map_err(|_| damaged("pieces", at))?);
            starts.push(u32::try_from(text.len()).map_err(|_| damaged("pieces", at))?);
            core::mem::swap(&mut piece, &mut previous);
        }
        if reader.at != bytes.len() {
            return Err(damaged("end of file", reader.at));
        }
        Ok(Self {
            normalizer: Normalizer::new(rules),
            segmenter,
            specials,
            subword: Subword::Unigram(Pieces {
                unk_id: u32::from(unk_id),
                byte_fallback,
                unigram: Unigram::new(text, starts, costs, steps_per_nat),
            }),
        })
    }

    /// This tokenizer as `tokenizer.bin`; [`Self::from_bytes`] gives it back.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Pieces { unk_id, byte_fallback, unigram } = match &self.subword {
            Subword::Unigram(pieces) => pieces,
            Subword::WordPiece(model) => return wordpiece_file::write(&self.specials, model),
            Subword::Pipeline(pipeline) => return pipeline.to_bytes(),
        };
        let mut out = Vec::with_capacity(HEADER_BYTES + unigram.len() * 8);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&UNIGRAM_FORMAT.to_le_bytes());
        out.push(match self.rules() {
            Rules::Nfkc => 0,
            Rules::Shirube1 => 1,
        });
        out.push(match self.segmenter {
            Segmenter::None => 0,
            Segmenter::Script => 1,
            Segmenter::Mecab => unreachable!("no Unigram model is made with MeCab words"),
        });
        out.push(1);
        out.push(u8::from(*byte_fallback));
        out.extend_from_slice(&unigram.steps_per_nat().to_le_bytes());
        out.extend_from_slice(&(self.specials.len() as u16).to_le_bytes());
        out.extend_from_slice(&(*unk_id as u16).to_le_bytes());
        out.extend_from_slice(&(unigram.len() as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for special in &self.specials {
            out.push(special.len() as u8);
            out.extend_from_slice(special.as_bytes());
        }
        let pieces = || (0..unigram.len()).map(|at| unigram.piece(at).unwrap_or_default().as_bytes());
        let shared: Vec<u8> = core::iter::once(&b""[..])
            .chain(pieces())
            .zip(pieces())
            .map(|(a, b)| a.iter().zip(b).take_while(|(x, y)| x == y).count() as u8)
            .collect();
        out.extend_from_slice(&shared);
        out.extend(pieces().zip(&shared).map(|(piece, &shared)| piece.len() as u8 - shared));
        out.extend((0..unigram.len()).flat_map(|at| unigram.cost(at).to_le_bytes()));
        for (piece, &shared) in pieces().zip(&shared) {
            out.extend_from_slice(&piece[usize::from(shared)..]);
        }
        seal(&mut out);
        out
    }

    /// The tokenizer of a `tokenizer.json` made by our trainer, whose normaliser and segmenter run outside that file.
    ///
    /// # Errors
    /// [`TextError::Unsupported`] for [`Segmenter::Mecab`], and for anything but a Unigram model with its special tokens first, then all or no byte pieces,
    /// then pieces in ascending order whose scores are whole multiples of 1/64.
    pub fn from_tokenizer_json(json: &str, rules: Rules, segmenter: Segmenter) -> Result<Self, TextError> {
        const STEPS: u16 = 64;
        let unsupported = |what: &str| TextError::Unsupported { what: what.to_owned() };
        if segmenter == Segmenter::Mecab {
            return Err(unsupported("a Unigram model runs without MeCab"));
        }
        let root: serde_json::Value =
            serde_json::from_str(json).map_err(|e| unsupported(&format!("not JSON: {e}")))?;
        let model = &root["model"];
        if model["type"] != "Unigram" {
            return Err(unsupported("model is not Unigram"));
        }
        let vocab = model["vocab"].as_array().ok_or_else(|| unsupported("model.vocab is not a list"))?;
        let n_specials = root["added_tokens"].as_array().map_or(0, Vec::len);
        let byte_fallback = model["byte_fallback"] == true;
        let unk_id = model["unk_id"].as_u64().unwrap_or(u64::MAX);
        if unk_id >= n_specials as u64 || n_specials > usize::from(u16::MAX) {
            return Err(unsupported("unk_id is not one of added_tokens"));
        }
        let first_piece = n_specials + if byte_fallback { N_BYTES } else { 0 };
        if vocab.len() < first_piece || vocab.len() - first_piece > MAX_PIECES as usize {
            return Err(unsupported("model.vocab has too few or too many entries"));
        }
        let mut specials = Vec::new();
        let mut text = String::new();
        let mut starts = vec![0u32];
        let mut costs = Vec::new();
        let mut previous = "";
        for (id, entry) in vocab.iter().enumerate() {
            let at = || format!("entry {id} of model.vocab");
            let (Some(piece), Some(score)) = (entry[0].as_str(), entry[1].as_f64()) else {
                return Err(unsupported(&format!("{} is not [piece, score]", at())));
            };
            if piece.is_empty() || piece.len() > usize::from(u8::MAX) {
                return Err(unsupported(&format!("{} is empty or longer than 255 bytes", at())));
            }
            if id < n_specials {
                specials.push(piece.to_owned());
            } else if id < first_piece {
                if piece != format!("<0x{:02X}>", id - n_specials) {
                    return Err(unsupported(&format!("{} is not a byte piece", at())));
                }
            } else {
                let cost = -score * f64::from(STEPS);
                if cost.fract() != 0.0 || !(0.0..=f64::from(u16::MAX)).contains(&cost) {
                    return Err(unsupported(&format!(
                        "{}: score {score} is not a multiple of -1/64 above -1024",
                        at()
                    )));
                }
                if piece <= previous {
                    return Err(unsupported(&format!("{} is not above the piece before it", at())));
                }
                previous = piece;
                text.push_str(piece);
                starts.push(
                    u32::try_from(text.len()).map_err(|_| unsupported("pieces are too long together"))?,
                );
                costs.push(cost as u16);
            }
        }
        Ok(Self {
            normalizer: Normalizer::new(rules),
            segmenter,
            specials,
            subword: Subword::Unigram(Pieces {
                unk_id: unk_id as u32,
                byte_fallback,
                unigram: Unigram::new(text, starts, costs, STEPS),
            }),
        })
    }
}

pub(crate) fn damaged(part: &'static str, offset: usize) -> TextError {
    TextError::Damaged { part, offset }
}

/// Writes the checksum into a finished file.
pub(crate) fn seal(out: &mut [u8]) {
    let checksum = crc32(&[&out[..20], &out[HEADER_BYTES..]]);
    out[20..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
}

pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Everything that follows.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at = self.bytes.len();
        rest
    }

    pub(crate) fn take(&mut self, n: usize, part: &'static str) -> Result<&'a [u8], TextError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..n).ok_or_else(|| damaged(part, self.at))?;
        self.at += n;
        Ok(taken)
    }

    pub(crate) fn u8(&mut self, part: &'static str) -> Result<u8, TextError> {
        Ok(self.take(1, part)?[0])
    }

    pub(crate) fn u16(&mut self, part: &'static str) -> Result<u16, TextError> {
        let b = self.take(2, part)?;
        Ok(u16::from_le_bytes([b[0], b[1]]))
    }

    pub(crate) fn u32(&mut self, part: &'static str) -> Result<u32, TextError> {
        let b = self.take(4, part)?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Tokenizer {
        let vocab: Vec<serde_json::Value> = ["[PAD]", "[UNK]"]
            .iter()
            .map(|s| serde_json::json!([s, 0.0]))
            .chain((0..256).map(|b| serde_json::json!([format!("<0x{b:02X}>"), 0.0])))
            .chain(
                [
                    ("a", -3.0),
                    ("aa", -6.0),
                    ("ab", -2.5),
                    ("b", -4.0),
                    ("京", -6.0),
                    ("東", -6.0),
                    ("東京", -7.015625),
                ]
                .map(|p| serde_json::json!(p)),
            )
            .collect();
        let json = serde_json::json!({
            "added_tokens": [{}, {}],
            "model": {"type": "Unigram", "unk_id": 1, "byte_fallback": true, "vocab": vocab},
        });
        Tokenizer::from_tokenizer_json(&json.to_string(), Rules::Nfkc, Segmenter::None)
            .expect("the sample converts")
    }

    #[test]
    fn a_tokenizer_written_and_read_is_the_same() {
        let bytes = sample().to_bytes();
        let read = Tokenizer::from_bytes(&bytes).expect("our own bytes open");
        assert_eq!(read.to_bytes(), bytes);
        assert_eq!((read.rules(), read.segmenter(), read.vocab_size()), (Rules::Nfkc, Segmenter::None, 265));
        assert_eq!(read.encode("東京abb").ids, [264, 260, 261]);
    }

    #[test]
    fn ties_go_to_the_last_piece_that_begins_earlier() {
        // a a costs 6, as aa does; a ab costs 5.5, aa b 10.
        assert_eq!(sample().encode("aa").ids, [259]);
        assert_eq!(sample().encode("aab").ids, [258, 260]);
    }

    #[test]
    fn bytes_changed_under_a_right_checksum_never_panic() {
        let bytes = sample().to_bytes();
        let mut opened = 0;
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                let checksum = crc32(&[&changed[..20], &changed[HEADER_BYTES..]]);
                changed[20..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
                if let Ok(tokenizer) = Tokenizer::from_bytes(&changed) {
                    opened += 1;
                    let encoding = tokenizer.encode("東京ab 🍣");
                    assert!(encoding.ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
                    assert_eq!(
                        Tokenizer::from_bytes(&tokenizer.to_bytes()).map(|t| t.to_bytes()).ok(),
                        Some(tokenizer.to_bytes())
                    );
                }
            }
        }
        assert!(opened > 0, "no change was harmless: the checksum is not set right");
        for cut in 0..bytes.len() {
            let mut cut_off = bytes[..cut].to_vec();
            if cut >= HEADER_BYTES {
                let checksum = crc32(&[&cut_off[..20], &cut_off[HEADER_BYTES..]]);
                cut_off[20..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
            }
            assert!(Tokenizer::from_bytes(&cut_off).is_err(), "the first {cut} bytes opened");
        }
    }

    #[test]
    fn counts_larger_than_the_file_are_refused_before_memory_is_taken() {
        let mut bytes = sample().to_bytes();
        for n_pieces in [u32::MAX, MAX_PIECES, 100_000] {
            bytes[16..20].copy_from_slice(&n_pieces.to_le_bytes());
            let checksum = crc32(&[&bytes[..20], &bytes[HEADER_BYTES..]]);
            bytes[20..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
            assert!(matches!(Tokenizer::from_bytes(&bytes), Err(TextError::Damaged { .. })));
        }
    }

    #[test]
    fn other_files_and_versions_are_told_apart() {
        assert!(matches!(
            Tokenizer::from_bytes(b"<!DOCTYPE html>"),
            Err(TextError::NotATokenizer { bytes: 15 })
        ));
        let mut newer = sample().to_bytes();
        newer[4] = 4;
        assert!(matches!(
            Tokenizer::from_bytes(&newer),
            Err(TextError::NewerFormat { found: 4, supported: 3 })
        ));
    }

    #[test]
    fn a_tokenizer_json_that_would_lose_something_is_refused() {
        for (json, part) in [
            ("{", "not JSON"),
            (r#"{"model":{"type":"BPE"}}"#, "not Unigram"),
            (
                r#"{"added_tokens":[{}],"model":{"type":"Unigram","unk_id":0,"vocab":[["u",0.0],["b",-1.0],["a",-1.0]]}}"#,
                "not above",
            ),
            (
                r#"{"added_tokens":[{}],"model":{"type":"Unigram","unk_id":0,"vocab":[["u",0.0],["a",-1.001]]}}"#,
                "multiple",
            ),
            (r#"{"added_tokens":[{}],"model":{"type":"Unigram","unk_id":1,"vocab":[["u",0.0]]}}"#, "unk_id"),
        ] {
            let error = Tokenizer::from_tokenizer_json(json, Rules::Nfkc, Segmenter::None)
                .expect_err("it is refused");
            assert!(error.to_string().contains(part), "{error} does not say {part}");
        }
    }
}
