//! The three ways to split a word into pieces, as the crate `tokenizers` does it.

use super::vocabulary::Vocabulary;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Score of an unknown character below the lowest score of a piece.
const UNKNOWN_NATS: f64 = 10.0;

/// How words become pieces.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Subword {
    /// Unigram (Kudo 2018): the split with the highest sum of scores, `scores` beside the vocabulary's pieces.
    Unigram { scores: Vec<f64>, unknown: Option<u32>, byte_fallback: bool },
    /// Byte pair encoding (Sennrich et al. 2016): the pairs of `merges`, first ones first, are merged while there are any.
    Bpe { merges: Merges, unknown: Option<u32>, fuse_unknown: bool, byte_fallback: bool, whole_words: bool },
    /// WordPiece (Wu et al. 2016): the longest piece from the left, then the longest continuation.
    WordPiece { unknown: u32, continuation: String, most_chars: usize },
}

/// Pairs of ids by rank, with what they become.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Merges {
    pub(crate) pairs: Vec<(u32, u32)>,
    ranks: HashMap<(u32, u32), (u32, u32)>,
}

impl Merges {
    /// `None` where a pair's ids or its union are not in the vocabulary.
    pub(crate) fn new(pairs: Vec<(u32, u32)>, vocabulary: &Vocabulary) -> Option<Self> {
        let mut ranks = HashMap::with_capacity(pairs.len());
        let mut joined = String::new();
        for (rank, &(a, b)) in pairs.iter().enumerate() {
            joined.clear();
            joined.push_str(vocabulary.piece(vocabulary.position_of(a)?));
            joined.push_str(vocabulary.piece(vocabulary.position_of(b)?));
            ranks.insert((a, b), (rank as u32, vocabulary.find(&joined)?));
        }
        Some(Self { pairs, ranks })
    }
}

/// A piece of a word: its id and the characters it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) id: u32,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

/// A word and the byte position of each character, the end last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word<'a> {
    pub(crate) text: &'a str,
    pub(crate) at: &'a [usize],
}

impl Word<'_> {
    fn n_chars(&self) -> usize {
        self.at.len() - 1
    }

    fn slice(&self, from: usize, to: usize) -> &str {
        &self.text[self.at[from]..self.at[to]]
    }
}

/// The ids of the byte pieces of `text`, if all of them exist.
fn bytes_of(vocabulary: &Vocabulary, text: &str) -> Option<Vec<u32>> {
    text.bytes().map(|byte| vocabulary.find(&format!("<0x{byte:02X}>"))).collect()
}

impl Subword {
    /// The name stored in manifests.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Unigram { .. } => "unigram",
            Self::Bpe { .. } => "bpe",
            Self::WordPiece { .. } => "wordpiece",
        }
    }

    /// Appends the pieces of `word`.
    pub(crate) fn split(&self, vocabulary: &Vocabulary, word: Word<'_>, out: &mut Vec<Piece>) {
        match self {
            _ if word.text.is_empty() => {}
            Self::Unigram { scores, unknown, byte_fallback } => {
                unigram(vocabulary, scores, *unknown, *byte_fallback, word, out);
            }
            Self::WordPiece { unknown, continuation, most_chars } => {
                word_piece(vocabulary, *unknown, continuation, *most_chars, word, out);
            }
            Self::Bpe { whole_words: true, .. } if vocabulary.find(word.text).is_some() => {
                let id = vocabulary.find(word.text).unwrap_or_default();
                out.push(Piece { id, from: 0, to: word.n_chars() });
            }
            Self::Bpe { merges, unknown, fuse_unknown, byte_fallback, .. } => {
                let first = out.len();
                let mut fusable = false;
                for from in 0..word.n_chars() {
                    let (to, text) = (from + 1, word.slice(from, from + 1));
                    let (mut known, mut bytes) = (vocabulary.find(text), None);
                    if known.is_none() && *byte_fallback {
                        bytes = bytes_of(vocabulary, text);
                    }
                    match (known.take(), bytes) {
                        (Some(id), _) => out.push(Piece { id, from, to }),
                        (None, Some(ids)) => out.extend(ids.into_iter().map(|id| Piece { id, from, to })),
                        (None, None) => {
                            let Some(id) = *unknown else { continue };
                            match out.last_mut() {
                                Some(last) if fusable && *fuse_unknown => last.to = to,
                                _ => out.push(Piece { id, from, to }),
                            }
                            fusable = true;
                            continue;
                        }
                    }
                    fusable = false;
                }
                merge(merges, first, out);
            }
        }
    }
}

/// Merges neighbours of `out[first..]`: lowest rank first, leftmost first among equals.
fn merge(merges: &Merges, first: usize, out: &mut Vec<Piece>) {
    const GONE: usize = usize::MAX;
    let mut symbols = out.split_off(first);
    let n = symbols.len();
    let mut next: Vec<usize> = (1..=n).collect();
    let mut previous: Vec<usize> = (0..n).map(|i| i.wrapping_sub(1)).collect();
    let mut queue = BinaryHeap::new();
    let offer = |queue: &mut BinaryHeap<Reverse<(u32, usize, u32)>>, left: u32, right: u32, at: usize| {
        if let Some(&(rank, id)) = merges.ranks.get(&(left, right)) {
            queue.push(Reverse((rank, at, id)));
        }
    };
    for (at, pair) in symbols.windows(2).enumerate() {
        offer(&mut queue, pair[0].id, pair[1].id, at);
    }
    while let Some(Reverse((_, at, id))) = queue.pop() {
        let right = next[at];
        // Both may have been merged since this pair was seen.
        if right >= n || merges.ranks.get(&(symbols[at].id, symbols[right].id)).is_none_or(|m| m.1 != id) {
            continue;
        }
        symbols[at] = Piece { id, from: symbols[at].from, to: symbols[right].to };
        next[at] = next[right];
        next[right] = GONE;
        if next[at] < n {
            previous[next[at]] = at;
            offer(&mut queue, id, symbols[next[at]].id, at);
        }
        if previous[at] < n {
            offer(&mut queue, symbols[previous[at]].id, id, previous[at]);
        }
    }
    out.extend(symbols.into_iter().zip(next).filter(|&(_, next)| next != GONE).map(|(symbol, _)| symbol));
}

/// The best way to reach a character.
#[derive(Clone, Copy)]
struct Best {
    score: f64,
    from: usize,
    /// Position in the vocabulary; `None` is an unknown character.
    piece: Option<usize>,
}

fn unigram(
    vocabulary: &Vocabulary,
    scores: &[f64],
    unknown: Option<u32>,
    byte_fallback: bool,
    word: Word<'_>,
    out: &mut Vec<Piece>,
) {
    let lowest = scores.iter().copied().fold(f64::INFINITY, f64::min);
    let n = word.n_chars();
    // Sums go from left to right in f64, as in the reference: ties and rounding are the same.
    let mut best = vec![Best { score: f64::NEG_INFINITY, from: 0, piece: None }; n + 1];
    best[0].score = 0.0;
    for from in 0..n {
        let base = best[from].score;
        let mut reach = |to: usize, score: f64, piece: Option<usize>| {
            if base + score > best[to].score {
                best[to] = Best { score: base + score, from, piece };
            }
        };
        let (mut walk, mut single) = (vocabulary.walk(), false);
        for to in from + 1..=n {
            if !vocabulary.step(&mut walk, word.slice(to - 1, to).as_bytes()) {
                break;
            }
            if let Some(at) = vocabulary.here(&walk) {
                single |= to == from + 1;
                reach(to, scores.get(at).copied().unwrap_or(f64::NEG_INFINITY), Some(at));
            }
        }
        if !single {
            reach(from + 1, lowest - UNKNOWN_NATS, None);
        }
    }
    let first = out.len();
    let mut to = n;
    while to > 0 {
        let Best { from, piece, .. } = best[to];
        let piece = piece.map(|at| vocabulary.id(at)).filter(|&id| Some(id) != unknown);
        match (piece, byte_fallback.then(|| bytes_of(vocabulary, word.slice(from, to))).flatten()) {
            (Some(id), _) => out.push(Piece { id, from, to }),
            (None, Some(ids)) => out.extend(ids.into_iter().rev().map(|id| Piece { id, from, to })),
            // Neighbouring unknown characters are one unknown token.
            (None, None) => match (unknown, out[first..].last_mut()) {
                (Some(id), Some(last)) if last.id == id && last.from == to => last.from = from,
                (Some(id), _) => out.push(Piece { id, from, to }),
                (None, _) => {}
            },
        }
        to = from;
    }
    out[first..].reverse();
}

fn word_piece(
    vocabulary: &Vocabulary,
    unknown: u32,
    continuation: &str,
    most_chars: usize,
    word: Word<'_>,
    out: &mut Vec<Piece>,
) {
    let (n, first) = (word.n_chars(), out.len());
    let whole = Piece { id: unknown, from: 0, to: n };
    if n > most_chars {
        out.push(whole);
        return;
    }
    let mut from = 0;
    while from < n {
        let mut walk = vocabulary.walk();
        let mut longest = None;
        let continued = from == 0
            || continuation
                .chars()
                .all(|c| vocabulary.step(&mut walk, c.encode_utf8(&mut [0; 4]).as_bytes()));
        for to in from + 1..=n {
            if !continued || !vocabulary.step(&mut walk, word.slice(to - 1, to).as_bytes()) {
                break;
            }
            if let Some(at) = vocabulary.here(&walk) {
                longest = Some(Piece { id: vocabulary.id(at), from, to });
            }
        }
        let Some(piece) = longest else {
            out.truncate(first);
            out.push(whole);
            return;
        };
        out.push(piece);
        from = piece.to;
    }
}
