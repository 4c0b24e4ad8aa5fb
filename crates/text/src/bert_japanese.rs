//! `BertJapaneseTokenizer` of transformers with MeCab and WordPiece, as bert-base-japanese-v3 and the JaColBERT family have it.
//!
//! The text is cut at the literals of special tokens; what lies between is brought to NFKC, cut into words by MeCab's lattice, each
//! word cut at blanks once more (Python's idea of them) and split into pieces. Letters keep their case.

use crate::tokenizer::{Encoding, Tokenizer};
use crate::wordpiece::WordPiece;
use crate::{Normalizer, Rules, Segmenter, Span, Subword, TextError};
use shirube_segment::{Dictionary, Lattice};
use std::cmp::Reverse;
use std::sync::Arc;

/// transformers' `max_input_chars_per_word`.
const LONGEST_WORD: usize = 100;
/// The special tokens of BERT, the unknown one first.
const SPECIALS: [&str; 5] = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"];

/// Vocabulary, special tokens and dictionary.
#[derive(Clone, Debug)]
pub(crate) struct BertJapanese {
    pub(crate) pieces: WordPiece,
    /// Ids of the tokenizer's special tokens.
    pub(crate) special_ids: Vec<u32>,
    pub(crate) unk_id: u32,
    pub(crate) dictionary: Arc<Dictionary>,
}

impl Tokenizer {
    /// The tokenizer of a `vocab.txt`, one piece a line, with MeCab words of `dictionary`. `added` are tokens beyond the five of BERT
    /// that are found in texts as they stand and are one id each (`added_tokens.json`, the prefixes of PyLate).
    ///
    /// # Errors
    /// [`TextError::Vocabulary`] where one of `[UNK]`, `[PAD]`, `[CLS]`, `[SEP]`, `[MASK]` is missing or the vocabulary is too large.
    pub fn bert_japanese(
        vocab: &str,
        added: &[(String, u32)],
        dictionary: Arc<Dictionary>,
    ) -> Result<Self, TextError> {
        let mut text = String::with_capacity(vocab.len());
        let mut starts = vec![0];
        // A last line without an end counts, an empty rest after the last end does not.
        for line in vocab.split_inclusive('\n') {
            let line = line.strip_suffix('\n').unwrap_or(line);
            text += line.strip_suffix('\r').unwrap_or(line);
            starts.push(u32::try_from(text.len()).map_err(|_| vocabulary("it is longer than 4 GiB"))?);
        }
        if starts.len() > (1 << 20) + 1 {
            return Err(vocabulary("it has more than 2^20 lines"));
        }
        let long = starts.windows(2).position(|w| w[1] - w[0] > u32::from(u8::MAX));
        if let Some(line) = long {
            return Err(vocabulary(&format!("line {} is longer than 255 bytes", line + 1)));
        }
        let pieces = WordPiece::new(text, starts, LONGEST_WORD);
        let mut specials = Vec::new();
        for name in SPECIALS {
            let id = pieces.find(name).ok_or_else(|| vocabulary(&format!("it has no {name}")))?;
            specials.push((name.to_owned(), id));
        }
        specials.extend(added.iter().filter(|(name, _)| !SPECIALS.contains(&name.as_str())).cloned());
        if specials.iter().any(|(name, id)| name.is_empty() || name.len() > 255 || *id >= 1 << 20) {
            return Err(vocabulary("an added token is empty, longer than 255 bytes or has an id above 2^20"));
        }
        let unk_id = specials[0].1;
        Ok(Self::of_word_pieces(pieces, specials, unk_id, dictionary))
    }

    /// The tokenizer of parts that were checked.
    pub(crate) fn of_word_pieces(
        pieces: WordPiece,
        specials: Vec<(String, u32)>,
        unk_id: u32,
        dictionary: Arc<Dictionary>,
    ) -> Self {
        let (specials, special_ids) = specials.into_iter().unzip();
        Self {
            normalizer: Normalizer::new(Rules::Nfkc),
            segmenter: Segmenter::Mecab,
            specials,
            subword: Subword::WordPiece(Box::new(BertJapanese { pieces, special_ids, unk_id, dictionary })),
        }
    }
}

fn vocabulary(what: &str) -> TextError {
    TextError::Vocabulary { what: what.to_owned() }
}

impl BertJapanese {
    /// Appends the tokens of `text`, special tokens in it recognised.
    pub(crate) fn encode(
        &self,
        normalizer: &Normalizer,
        specials: &[String],
        text: &str,
        out: &mut Encoding,
    ) {
        let mut buffers = Buffers::default();
        let find = |name: &String, from: usize| text[from..].find(name.as_str()).map(|at| from + at);
        // For each special token the next place where it stands; looked for again only once it was passed, so that a text full
        // of one costs no more than its length.
        let mut places: Vec<Option<usize>> = specials.iter().map(|name| find(name, 0)).collect();
        let mut from = 0;
        loop {
            // The first in the text; of those that begin together the longest.
            let next = places
                .iter()
                .zip(specials)
                .zip(&self.special_ids)
                .filter_map(|((&place, name), &id)| Some((place?, Reverse(name.len()), id)))
                .min();
            let plain = &text[from..next.map_or(text.len(), |(at, ..)| at)];
            if !plain.is_empty() {
                let normalized = normalizer.normalize(plain);
                self.encode_words(&normalized.text, &normalized.spans, from, &mut buffers, out);
            }
            let Some((at, Reverse(length), id)) = next else { break };
            out.ids.push(id);
            out.offsets.push(Span { start: at as u32, end: (at + length) as u32 });
            from = at + length;
            for (place, name) in places.iter_mut().zip(specials) {
                if place.is_some_and(|place| place < from) {
                    *place = find(name, from);
                }
            }
        }
    }

    /// Appends the tokens of a text in NFKC. `spans` are those of its characters, `base` is added to them.
    pub(crate) fn encode_words(
        &self,
        text: &str,
        spans: &[Span],
        base: usize,
        buffers: &mut Buffers,
        out: &mut Encoding,
    ) {
        let Buffers { lattice, pieces } = buffers;
        let mut push = |id: u32, from: usize, to: usize| {
            let start = spans.get(from).map_or(0, |s| s.start);
            let end = spans.get(to - 1).map_or(0, |s| s.end);
            out.ids.push(id);
            out.offsets.push(Span { start: start + base as u32, end: end + base as u32 });
        };
        // Byte and character up to which characters were counted.
        let (mut byte, mut character) = (0, 0);
        for word in self.dictionary.words_with(text, lattice) {
            for token in text[word.clone()].split(is_python_space).filter(|token| !token.is_empty()) {
                let start = token.as_ptr() as usize - text.as_ptr() as usize;
                character += text[byte..start].chars().count();
                byte = start;
                if self.pieces.split(token, pieces) {
                    pieces.iter().for_each(|&(id, from, to)| push(id, character + from, character + to));
                } else {
                    push(self.unk_id, character, character + token.chars().count());
                }
            }
        }
    }
}

/// What can be kept from one text to the next.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    lattice: Lattice,
    pieces: Vec<(u32, usize, usize)>,
}

/// What `str.split()` of Python cuts at: Unicode's white space and the four separators of ASCII.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}
