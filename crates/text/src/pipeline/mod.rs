//! Tokenizers of other libraries: what a `tokenizer.json` describes, for the parts that BERT, Llama and GPT style tokenizers use.
//!
//! A text is searched for added tokens, normalised step by step, cut into words and split into pieces, in the order and with the quirks of the
//! crate `tokenizers` 0.23.2, whose ids are committed in `tests/golden/checkpoints` and held to. Every character carries the bytes it comes from.
//! The way not taken: one of our own tokenizers for every model, which would be shorter and would change the ids that a model was trained on.

mod binary;
mod charsmap;
mod classes;
mod json;
mod model;
mod pattern;
mod split;
mod steps;
mod vocabulary;

pub(crate) use crate::normalize::Tagged;
pub(crate) use binary::PIPELINE_FORMAT;

use crate::{Encoding, Span};
use model::{Piece, Subword, Word};
use serde::{Deserialize, Serialize};
use split::Split;
use steps::Step;
use vocabulary::Vocabulary;

/// A token that is found in the text itself, before anything else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Added {
    pub(crate) content: String,
    pub(crate) id: u32,
    /// Takes the blanks before it.
    #[serde(default)]
    pub(crate) lstrip: bool,
    /// Takes the blanks after it.
    #[serde(default)]
    pub(crate) rstrip: bool,
    /// Is looked for in the normalised text, in its own normal form.
    #[serde(default)]
    pub(crate) normalized: bool,
}

/// A tokenizer as its steps.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pipeline {
    pub(crate) added: Vec<Added>,
    /// Patterns of `added` in the text as it is and in the normalised text, each with its position, by ascending pattern.
    plain: Vec<(Vec<char>, usize)>,
    normal: Vec<(Vec<char>, usize)>,
    pub(crate) steps: Vec<Step>,
    pub(crate) splits: Vec<Split>,
    pub(crate) vocabulary: Vocabulary,
    pub(crate) subword: Subword,
}

/// The characters of `text`, and the byte position of each, the end last.
fn text_of(text: &[Tagged]) -> (String, Vec<usize>) {
    let mut plain = String::with_capacity(text.len() * 3);
    let mut at = Vec::with_capacity(text.len() + 1);
    for t in text {
        at.push(plain.len());
        plain.push(t.c);
    }
    at.push(plain.len());
    (plain, at)
}

/// From the first byte of any to the last.
fn join(run: &[Tagged]) -> Span {
    let start = run.iter().map(|t| t.span.start).min().unwrap_or(0);
    Span { start, end: run.iter().map(|t| t.span.end).max().unwrap_or(start) }
}

/// A part of the text: an added token, or what is still to be split.
enum Part {
    Added(u32, Span),
    Text(Vec<Tagged>),
}

impl Pipeline {
    pub(crate) fn new(
        added: Vec<Added>,
        steps: Vec<Step>,
        splits: Vec<Split>,
        vocabulary: Vocabulary,
        subword: Subword,
    ) -> Self {
        let (mut plain, mut normal) = (Vec::new(), Vec::new());
        for (i, token) in added.iter().enumerate().filter(|(_, token)| !token.content.is_empty()) {
            if token.normalized {
                let text = tagged(&token.content);
                let text = steps.iter().fold(text, |text, step| step.apply(text));
                normal.push((text.into_iter().map(|t| t.c).collect::<Vec<char>>(), i));
            } else {
                plain.push((token.content.chars().collect::<Vec<char>>(), i));
            }
        }
        normal.retain(|(pattern, _)| !pattern.is_empty());
        plain.sort();
        normal.sort();
        Self { added, plain, normal, steps, splits, vocabulary, subword }
    }

    /// The ids of `text` and where they come from.
    pub(crate) fn encode(&self, text: &str) -> Encoding {
        let mut out = Encoding::default();
        let mut at_start = true;
        for part in self.find_added(tagged(text), &self.plain) {
            match part {
                Part::Added(id, span) => push(&mut out, id, span),
                Part::Text(text) => {
                    let text = self.steps.iter().fold(text, |text, step| step.apply(text));
                    for part in self.find_added(text, &self.normal) {
                        match part {
                            Part::Added(id, span) => push(&mut out, id, span),
                            Part::Text(text) => self.encode_part(text, at_start, &mut out),
                        }
                        at_start = false;
                    }
                }
            }
            at_start = false;
        }
        out
    }

    fn encode_part(&self, text: Vec<Tagged>, first: bool, out: &mut Encoding) {
        let mut words = vec![text];
        for split in &self.splits {
            let mut cut = Vec::new();
            for (i, word) in words.into_iter().enumerate() {
                split.apply(word, first && i == 0, &mut cut);
            }
            cut.retain(|word| !word.is_empty());
            words = cut;
        }
        let mut pieces: Vec<Piece> = Vec::new();
        for word in words {
            let (text, at) = text_of(&word);
            pieces.clear();
            self.subword.split(&self.vocabulary, Word { text: &text, at: &at }, &mut pieces);
            for piece in &pieces {
                let mut covered = &word[piece.from..piece.to];
                // A mark in front stands for a blank, or for nothing: the word is what a reader would point at.
                if covered.len() > 1 && matches!(covered[0].c, '▁' | 'Ġ' | ' ') {
                    covered = &covered[1..];
                }
                push(out, piece.id, join(covered));
            }
        }
    }

    /// Cuts out the added tokens: leftmost first, longest first among those that begin together.
    fn find_added(&self, text: Vec<Tagged>, patterns: &[(Vec<char>, usize)]) -> Vec<Part> {
        if patterns.is_empty() || text.is_empty() {
            return vec![Part::Text(text)];
        }
        let (mut out, mut done, mut at) = (Vec::new(), 0, 0);
        while at < text.len() {
            let rest = &text[at..];
            let begin = patterns.partition_point(|(pattern, _)| pattern.first() < Some(&rest[0].c));
            let longest = patterns[begin..]
                .iter()
                .take_while(|(pattern, _)| pattern.first() == Some(&rest[0].c))
                .filter(|(pattern, _)| {
                    pattern.len() <= rest.len() && pattern.iter().zip(rest).all(|(&c, t)| c == t.c)
                })
                .max_by_key(|(pattern, _)| pattern.len());
            let Some((pattern, token)) = longest else {
                at += 1;
                continue;
            };
            let token = &self.added[*token];
            let (mut from, mut to) = (at, at + pattern.len());
            if token.lstrip {
                from -= text[done..at].iter().rev().take_while(|t| t.c.is_whitespace()).count();
            }
            if token.rstrip {
                to += text[to..].iter().take_while(|t| t.c.is_whitespace()).count();
            }
            if done < from {
                out.push(Part::Text(text[done..from].to_vec()));
            }
            out.push(Part::Added(token.id, join(&text[at..at + pattern.len()])));
            (done, at) = (to, to);
        }
        if done < text.len() {
            out.push(Part::Text(text[done..].to_vec()));
        }
        out
    }

    /// The id of what the vocabulary does not have.
    pub(crate) fn unk_id(&self) -> Option<u32> {
        match &self.subword {
            Subword::Unigram { unknown, .. } | Subword::Bpe { unknown, .. } => *unknown,
            Subword::WordPiece { unknown, .. } => Some(*unknown),
        }
    }

    /// Number of ids; every id is below it.
    pub(crate) fn vocab_size(&self) -> usize {
        let added = self.added.iter().map(|token| token.id as usize + 1).max().unwrap_or(0);
        self.vocabulary.end().max(added)
    }

    /// The text of `id`.
    pub(crate) fn piece(&self, id: u32) -> Option<String> {
        let added = self.added.iter().find(|token| token.id == id).map(|token| token.content.clone());
        added.or_else(|| self.vocabulary.position_of(id).map(|at| self.vocabulary.piece(at).to_owned()))
    }

    /// The id of an added token or a piece.
    pub(crate) fn id_of(&self, piece: &str) -> Option<u32> {
        let added = self.added.iter().find(|token| token.content == piece).map(|token| token.id);
        added.or_else(|| self.vocabulary.find(piece))
    }
}

fn tagged(text: &str) -> Vec<Tagged> {
    // Offsets are 32-bit: of a text longer than 4 GiB only the beginning is taken.
    text.char_indices()
        .map_while(|(at, c)| {
            let (start, end) = (u32::try_from(at).ok()?, u32::try_from(at + c.len_utf8()).ok()?);
            Some(Tagged { c, span: Span { start, end } })
        })
        .collect()
}

fn push(out: &mut Encoding, id: u32, span: Span) {
    out.ids.push(id);
    let floor = out.offsets.last().copied().unwrap_or_default();
    out.offsets.push(Span { start: span.start.max(floor.start), end: span.end.max(floor.end) });
}
