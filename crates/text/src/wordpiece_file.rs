//! `tokenizer.bin`, format 2: WordPiece over MeCab words. All numbers are little-endian.
//!
//! | Byte | Type | Content |
//! |---|---|---|
//! | 0 | 4 bytes | `SHTK` |
//! | 4 | u16 | format version, 2 |
//! | 6 | u8 | normaliser: 0 `nfkc` |
//! | 7 | u8 | segmenter: 2 `mecab` |
//! | 8 | u8 | subword model: 2 WordPiece |
//! | 9 | u8 | 0 |
//! | 10 | u16 | longest word in characters; longer ones are unknown |
//! | 12 | u16 | `n_specials`, at most 1,024 |
//! | 14 | u16 | which of them is the unknown token |
//! | 16 | u32 | `n_pieces`, at most 2^20 |
//! | 20 | u32 | CRC-32 (IEEE) of bytes 0 to 19 and of everything from byte 24 |
//! | 24 | 16 bytes | source of the dictionary, as its header states it |
//! | 40 | | for each special token: u32 id (below 2^20), u8 length (not 0), UTF-8 |
//! | | u8 × `n_pieces` | bytes of each piece, by id |
//! | | | the pieces, one after the other, to the end of the file |

use crate::TextError;
use crate::bert_japanese::BertJapanese;
use crate::binary::{HEADER_BYTES, MAGIC, MAX_PIECES, Reader, damaged, seal};
use crate::tokenizer::Tokenizer;
use crate::wordpiece::WordPiece;
use shirube_segment::Dictionary;
use std::sync::Arc;

/// The version of this format.
pub(crate) const WORDPIECE_FORMAT: u16 = 2;

const MOST_SPECIALS: u16 = 1024;

/// Reads on after the version. The checksum is right already.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    dictionary: Option<Arc<Dictionary>>,
) -> Result<Tokenizer, TextError> {
    for (part, at, expected) in
        [("normaliser", 6, 0), ("segmenter", 7, 2), ("subword model", 8, 2), ("byte pieces", 9, 0)]
    {
        if reader.u8(part)? != expected {
            return Err(damaged(part, at));
        }
    }
    let longest_word = reader.u16("longest word")?;
    let n_specials = reader.u16("number of special tokens")?;
    let unk = reader.u16("unknown token")?;
    let n_pieces = reader.u32("number of pieces")?;
    reader.u32("checksum")?;
    if n_specials > MOST_SPECIALS {
        return Err(damaged("number of special tokens", 12));
    }
    if n_pieces > MAX_PIECES {
        return Err(damaged("number of pieces", 16));
    }
    let source = reader.take(16, "source of the dictionary")?;
    let mut specials = Vec::new();
    for _ in 0..n_specials {
        let at = reader.at();
        let id = reader.u32("special token")?;
        let length = usize::from(reader.u8("special token")?);
        let name = str::from_utf8(reader.take(length, "special token")?);
        match name {
            Ok(name) if !name.is_empty() && id < MAX_PIECES => specials.push((name.to_owned(), id)),
            _ => return Err(damaged("special token", at)),
        }
    }
    let unk_id = specials.get(usize::from(unk)).ok_or_else(|| damaged("unknown token", 14))?.1;
    let lengths = reader.take(n_pieces as usize, "lengths of pieces")?;
    let at = reader.at();
    let bytes = reader.rest();
    let mut starts = Vec::with_capacity(lengths.len() + 1);
    let mut end = 0u32;
    starts.push(end);
    starts.extend(lengths.iter().map(|&length| {
        // At most 2^20 pieces of 255 bytes.
        end += u32::from(length);
        end
    }));
    let text = str::from_utf8(bytes).map_err(|_| damaged("pieces", at))?;
    if end as usize != text.len() || !starts.iter().all(|&start| text.is_char_boundary(start as usize)) {
        return Err(damaged("pieces", at));
    }
    let Some(dictionary) = dictionary else { return Err(TextError::NoDictionary) };
    if dictionary.source_bytes() != source {
        return Err(TextError::OtherDictionary {
            expected: source.iter().map(|byte| format!("{byte:02x}")).collect(),
            found: dictionary.source(),
        });
    }
    let pieces = WordPiece::new(text.to_owned(), starts, usize::from(longest_word));
    Ok(Tokenizer::of_word_pieces(pieces, specials, unk_id, dictionary))
}

/// The whole file.
pub(crate) fn write(specials: &[String], model: &BertJapanese) -> Vec<u8> {
    let BertJapanese { pieces, special_ids, unk_id, dictionary } = model;
    let unk = special_ids.iter().position(|id| id == unk_id).unwrap_or_default();
    let mut out = Vec::new();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&WORDPIECE_FORMAT.to_le_bytes());
    out.extend_from_slice(&[0, 2, 2, 0]);
    out.extend_from_slice(&(pieces.longest_word as u16).to_le_bytes());
    out.extend_from_slice(&(special_ids.len() as u16).to_le_bytes());
    out.extend_from_slice(&(unk as u16).to_le_bytes());
    out.extend_from_slice(&(pieces.len() as u32).to_le_bytes());
    out.resize(HEADER_BYTES, 0);
    out.extend_from_slice(&dictionary.source_bytes());
    for (name, id) in specials.iter().zip(special_ids) {
        out.extend_from_slice(&id.to_le_bytes());
        out.push(name.len() as u8);
        out.extend_from_slice(name.as_bytes());
    }
    let all = || (0..pieces.len() as u32).map(|id| pieces.piece(id).unwrap_or_default());
    out.extend(all().map(|piece| piece.len() as u8));
    all().for_each(|piece| out.extend_from_slice(piece.as_bytes()));
    seal(&mut out);
    out
}
