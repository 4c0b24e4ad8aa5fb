//! How a normalised text is cut into words: the pre-tokenisers of the crate `tokenizers` that BERT, Llama and GPT tokenizers use.

use super::Tagged;
use super::classes::{LETTER, NUMBER, PUNCTUATION, within};
use super::pattern::Pattern;
use serde::{Deserialize, Serialize};

/// One step of cutting. Each takes the words of the step before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Split {
    /// SentencePiece: blanks become `mark`, with one in front; words begin at marks if `cut`.
    Metaspace { mark: char, prepend: Prepend, cut: bool },
    /// BERT: at blanks, which go, and around punctuation.
    Bert,
    /// At blanks, which go.
    Blanks,
    /// GPT-2: at its pattern if `pattern`, then every byte becomes a visible character.
    Bytes { blank_first: bool, pattern: bool },
    /// Around digits: each alone, or runs.
    Digits { each: bool },
    /// At the matches of a pattern, or at what lies between them if `invert`.
    Pattern { pattern: Pattern, invert: bool, delimiter: Delimiter },
}

/// What becomes of what a text is cut at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Delimiter {
    /// It goes.
    Removed,
    /// It is a word.
    Isolated,
    /// It ends the word before it.
    MergedWithPrevious,
    /// It begins the word after it.
    MergedWithNext,
    /// Neighbouring ones are one word.
    Contiguous,
}

/// Where SentencePiece's mark is put in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Prepend {
    Always,
    /// Where the text begins, not after a special token.
    First,
    Never,
}

impl Split {
    /// Cuts one word; `first` says whether it begins where the text begins.
    pub(crate) fn apply(&self, mut word: Vec<Tagged>, first: bool, out: &mut Vec<Vec<Tagged>>) {
        match self {
            Self::Metaspace { mark, prepend, cut } => {
                word.iter_mut().filter(|t| t.c == ' ').for_each(|t| t.c = *mark);
                let wanted = match prepend {
                    Prepend::Always => true,
                    Prepend::First => first,
                    Prepend::Never => false,
                };
                if let Some(&head) = word.first()
                    && wanted
                    && head.c != *mark
                {
                    word.insert(0, Tagged { c: *mark, ..head });
                }
                if *cut {
                    out.extend(word.chunk_by(|_, next| next.c != *mark).map(<[Tagged]>::to_vec));
                } else {
                    out.push(word);
                }
            }
            Self::Bert => {
                for run in word.split(|t| t.c.is_whitespace()) {
                    let alone = |t: &Tagged| t.c.is_ascii_punctuation() || within(&PUNCTUATION, t.c);
                    out.extend(run.chunk_by(|a, b| !alone(a) && !alone(b)).map(<[Tagged]>::to_vec));
                }
            }
            Self::Blanks => out.extend(word.split(|t| t.c.is_whitespace()).map(<[Tagged]>::to_vec)),
            Self::Digits { each } => {
                let digit = |t: &Tagged| within(&NUMBER, t.c);
                out.extend(
                    word.chunk_by(|a, b| digit(a) == digit(b) && !(*each && digit(a)))
                        .map(<[Tagged]>::to_vec),
                );
            }
            Self::Pattern { pattern, invert, delimiter } => cut_at(&word, pattern, *invert, *delimiter, out),
            Self::Bytes { blank_first, pattern } => {
                if let Some(&head) = word.first()
                    && *blank_first
                    && head.c != ' '
                {
                    word.insert(0, Tagged { c: ' ', ..head });
                }
                let mut rest = &word[..];
                while !rest.is_empty() {
                    let n = if *pattern { gpt_word(rest) } else { rest.len() };
                    let (head, tail) = rest.split_at(n.clamp(1, rest.len()));
                    out.push(visible(head));
                    rest = tail;
                }
            }
        }
    }
}

/// Cuts a word at the matches of a pattern.
fn cut_at(
    word: &[Tagged],
    pattern: &Pattern,
    invert: bool,
    delimiter: Delimiter,
    out: &mut Vec<Vec<Tagged>>,
) {
    // Runs, each with whether it is cut at.
    let mut runs: Vec<(core::ops::Range<usize>, bool)> = Vec::new();
    let (mut at, mut gap) = (0, 0);
    while at < word.len() {
        match pattern.length(&word[at..]) {
            Some(n) => {
                if gap < at {
                    runs.push((gap..at, invert));
                }
                runs.push((at..at + n, !invert));
                at += n;
                gap = at;
            }
            None => at += 1,
        }
    }
    if gap < at {
        runs.push((gap..at, invert));
    }
    let mut before: Option<bool> = None;
    let mut words: Vec<core::ops::Range<usize>> = Vec::with_capacity(runs.len());
    for (run, cut) in runs {
        let joins = match (delimiter, before) {
            (Delimiter::Removed | Delimiter::Isolated, _) | (_, None) => false,
            (Delimiter::MergedWithPrevious, Some(before)) => cut && !before,
            (Delimiter::MergedWithNext, Some(before)) => !cut && before,
            (Delimiter::Contiguous, Some(before)) => cut == before,
        };
        before = Some(cut);
        match words.last_mut() {
            Some(last) if joins => last.end = run.end,
            _ if cut && delimiter == Delimiter::Removed => {}
            _ => words.push(run),
        }
    }
    out.extend(words.into_iter().map(|run| word[run].to_vec()));
}

/// Length of the match at the beginning of `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
fn gpt_word(text: &[Tagged]) -> usize {
    for ending in ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"] {
        let n = ending.len();
        if text.len() >= n && text.iter().zip(ending.chars()).all(|(t, c)| t.c == c) {
            return n;
        }
    }
    #[derive(PartialEq)]
    enum Class {
        Letter,
        Number,
        Blank,
        Other,
    }
    let class = |t: &Tagged| match t.c {
        c if within(&LETTER, c) => Class::Letter,
        c if within(&NUMBER, c) => Class::Number,
        c if c.is_whitespace() => Class::Blank,
        _ => Class::Other,
    };
    let run = |from: usize| {
        let kind = class(&text[from]);
        text[from..].iter().take_while(|t| class(t) == kind).count()
    };
    if class(&text[0]) != Class::Blank {
        return run(0);
    }
    let blanks = run(0);
    if text[0].c == ' ' && blanks == 1 && text.len() > 1 {
        return 1 + run(1);
    }
    // Of several blanks before a word the last stays with the word, or alone.
    if blanks < text.len() && blanks > 1 { blanks - 1 } else { blanks }
}

/// Each byte as the character that byte-level vocabularies show it as.
fn visible(text: &[Tagged]) -> Vec<Tagged> {
    let mut out = Vec::with_capacity(text.len());
    for t in text {
        let mut buffer = [0; 4];
        out.extend(t.c.encode_utf8(&mut buffer).bytes().map(|byte| Tagged { c: visible_byte(byte), ..*t }));
    }
    out
}

/// Printable Latin-1 stands for itself; the 68 other bytes follow from U+0100 in order.
fn visible_byte(byte: u8) -> char {
    let c = match byte {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => u32::from(byte),
        0..=0x20 => 0x100 + u32::from(byte),
        0x7f..=0xa0 => 0x121 + u32::from(byte) - 0x7f,
        0xad => 0x143,
    };
    char::from_u32(c).unwrap_or('\u{fffd}')
}
