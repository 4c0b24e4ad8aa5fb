//! The cheapest way through the lattice of words, by MeCab's rules (version 0.996), ties included.

use crate::Dictionary;
use crate::characters::Character;
use crate::dictionary::Pair;
use crate::lexicon::Entry;
use crate::trie::Trie;
use std::ops::Range;

/// Longest run of kindred characters, after its first, that is tried as one unknown word: MeCab's `max-grouping-size`.
const MOST_GROUPED: usize = 24;
/// Characters of the longest unknown word that is not a run: four bits of `char.bin`.
const MOST_LENGTH: usize = 15;
const _: () = assert!(MOST_LENGTH <= MOST_GROUPED);
/// In place of a node: there is none.
const NONE: u32 = u32::MAX;

/// A word that begins after some other words.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// Of the cheapest way from the beginning to the end of this word.
    cost: i64,
    pair: Pair,
    /// First character and the one after the last.
    start: u32,
    end: u32,
    /// The word before on that way.
    previous: u32,
    /// The word that was put before this one on the list of those that end here.
    next_ending: u32,
}

/// Buffers of a segmentation; keep one for many texts.
#[derive(Clone, Debug, Default)]
pub struct Lattice {
    characters: Vec<(char, Character)>,
    /// By character, and one for the end: byte offset.
    offsets: Vec<usize>,
    /// By character, and one for the end: the newest node that ends before it.
    ending: Vec<u32>,
    nodes: Vec<Node>,
    /// Words that begin at the character in hand, and where they end.
    beginning: Vec<(Entry, u32)>,
    /// First character of the words in `beginning`.
    start: u32,
    words: Vec<(u32, u32)>,
}

impl Dictionary {
    /// The words of `text`, which must be in NFKC, as byte ranges in ascending order. Blanks between words belong to none.
    /// A text ends at U+0000, as it does for MeCab.
    ///
    /// ```
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/segment/tiny.bin");
    /// # let bytes = std::fs::read(path)?;
    /// let dictionary = shirube_segment::Dictionary::from_bytes(&bytes)?;
    /// let text = "東京都京都府東京特許許可局";
    /// let words: Vec<&str> = dictionary.words(text).into_iter().map(|range| &text[range]).collect();
    /// assert_eq!(words, ["東京", "都", "京都", "府", "東京", "特許", "許可", "局"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn words(&self, text: &str) -> Vec<Range<usize>> {
        let mut lattice = Lattice::default();
        self.words_with(text, &mut lattice).collect()
    }

    /// As [`Self::words`], with buffers of an earlier call.
    pub fn words_with<'l>(
        &self,
        text: &str,
        lattice: &'l mut Lattice,
    ) -> impl Iterator<Item = Range<usize>> + use<'l> {
        lattice.build(self, text);
        let Lattice { words, offsets, .. } = &*lattice;
        words.iter().rev().map(|&(start, end)| offsets[start as usize]..offsets[end as usize])
    }

    /// What it costs that a word with `column` comes before one with `row`.
    #[inline]
    fn connection(&self, row: &[i16], column: u16) -> i64 {
        i64::from(row[usize::from(column)])
    }

    /// The costs of all words before one with `row`.
    #[inline]
    fn connections(&self, row: u16) -> &[i16] {
        let n = self.matrix.n_columns;
        &self.matrix.costs[usize::from(row) * n..][..n]
    }
}

/// Where the run of characters ends that begins at `from` after `before`: it goes on while each shares a category with the one
/// before it, and is looked at for `most` characters.
fn run_end(characters: &[(char, Character)], from: usize, before: Character, most: usize) -> usize {
    let mut before = before;
    let mut at = from;
    while at - from < most
        && let Some(&(_, c)) = characters.get(at)
        && before.is_kind_of(c)
    {
        before = c;
        at += 1;
    }
    at
}

impl Lattice {
    fn build(&mut self, dictionary: &Dictionary, text: &str) {
        let text = &text[..text.find('\0').unwrap_or(text.len())];
        self.characters.clear();
        self.offsets.clear();
        for (offset, c) in text.char_indices() {
            self.characters.push((c, dictionary.characters.of(c)));
            self.offsets.push(offset);
        }
        self.offsets.push(text.len());
        let n = self.characters.len();
        self.ending.clear();
        self.ending.resize(n + 1, NONE);
        self.nodes.clear();
        self.words.clear();
        self.nodes.push(Node {
            cost: 0,
            pair: dictionary.edge,
            start: 0,
            end: 0,
            previous: NONE,
            next_ending: NONE,
        });
        self.ending[0] = 0;
        for position in 0..n {
            if self.ending[position] != NONE && self.begin(dictionary, position) {
                self.connect(dictionary, position);
            }
        }
        // Blanks at the end leave the last positions without a word that ends there.
        let Some(last) = self.ending.iter().rposition(|&node| node != NONE) else { return };
        let (mut at, _) = self.cheapest(dictionary, last, dictionary.edge);
        while at != 0 && at != NONE {
            let Node { start, end, previous, .. } = self.nodes[at as usize];
            self.words.push((start, end));
            at = previous;
        }
    }

    /// Collects the words that begin at `position`, blanks skipped; whether there is anything but blanks.
    fn begin(&mut self, dictionary: &Dictionary, position: usize) -> bool {
        let characters = &self.characters;
        let start = run_end(characters, position, dictionary.characters.of(' '), usize::MAX);
        let Some(&(_, first)) = characters.get(start) else { return false };
        self.beginning.clear();
        let mut node = Trie::ROOT;
        for (at, &(c, _)) in characters.iter().enumerate().skip(start) {
            let Some(next) = dictionary.step(node, c) else { break };
            node = next;
            let entries = dictionary.lexicon.entries(node);
            self.beginning.extend(entries.iter().map(|&entry| (entry, at as u32 + 1)));
        }
        if self.beginning.is_empty() || first.invoke() {
            let entries = &dictionary.unknown[first.category()];
            let mut unknown =
                |end: usize| self.beginning.extend(entries.iter().map(|&entry| (entry, end as u32)));
            let mut grouped = None;
            if first.group() {
                // A longer run is no word, and only its first characters are compared below; the rest of it would be
                // looked at again from each of its characters.
                let end = run_end(characters, start + 1, first, MOST_GROUPED + 1);
                if end - (start + 1) <= MOST_GROUPED {
                    unknown(end);
                }
                grouped = Some(end);
            }
            for end in start + 1..=start + first.length() {
                // Once there is a run, lengths from its own on add nothing.
                if grouped == Some(end) {
                    break;
                }
                unknown(end);
                if characters.get(end).is_none_or(|(_, c)| !first.is_kind_of(*c)) {
                    break;
                }
            }
            if self.beginning.is_empty() {
                let entries = entries.iter().map(|&entry| (entry, start as u32 + 1));
                self.beginning.extend(entries);
            }
        }
        self.start = start as u32;
        true
    }

    /// Puts every word that begins here behind the cheapest way to it. The newest word stands first on its list, so the order
    /// is reversed: MeCab makes words in file order, links them in reverse, and takes the first of equally cheap ones.
    fn connect(&mut self, dictionary: &Dictionary, position: usize) {
        for i in (0..self.beginning.len()).rev() {
            let (entry, end) = self.beginning[i];
            let pair = dictionary.pairs[usize::from(entry.pair)];
            let (previous, cost) = self.cheapest(dictionary, position, pair);
            let node = self.nodes.len() as u32;
            let ending = &mut self.ending[end as usize];
            self.nodes.push(Node {
                cost: cost + i64::from(entry.cost),
                pair,
                start: self.start,
                end,
                previous,
                next_ending: *ending,
            });
            *ending = node;
        }
    }

    /// The node that ends at `position` and is the cheapest before a word with `pair`, and the cost up to that word.
    #[inline]
    fn cheapest(&self, dictionary: &Dictionary, position: usize, pair: Pair) -> (u32, i64) {
        let row = dictionary.connections(pair.row);
        let mut best = (NONE, i64::MAX);
        let mut left = self.ending[position];
        while left != NONE {
            let node = &self.nodes[left as usize];
            let cost = node.cost + dictionary.connection(row, node.pair.column);
            if cost < best.1 {
                best = (left, cost);
            }
            left = node.next_ending;
        }
        best
    }
}
