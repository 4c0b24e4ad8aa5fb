//! From a MeCab dictionary package to our file.
//!
//! What is left out changes no segmentation of a text in NFKC: features, readings, of equal entries all but the cheapest, and
//! surfaces that are not in NFKC themselves (substrings of a text in NFKC are).

mod mecab;
#[cfg(test)]
mod tests;
mod tree;
#[cfg(test)]
mod vibrato;

pub use mecab::{CompileError, MecabDictionary};

use crate::characters::N_CHARACTERS;
use crate::dictionary::{Content, Pair, Sizes};
use crate::lexicon::{Entry, Groups, Lexicon, MOST_KANA};
use crate::matrix::{Trees, differentiate};
use crate::trie::Trie;
use std::collections::{BTreeMap, HashMap, HashSet};

/// A written dictionary.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The file, for [`crate::Dictionary::from_bytes`].
    pub bytes: Vec<u8>,
    /// Its sections and how many bytes each takes.
    pub sections: Vec<(&'static str, usize)>,
    /// Entries in the package, and how many of them are left.
    pub n_entries: (usize, usize),
    /// Rows and columns of the matrix that are left.
    pub matrix: (usize, usize),
}

/// Longest part: hosts of static files and caches are at ease with this much.
pub const PART_BYTES: usize = 4_000_000;
/// The file of the licence that belongs beside the parts.
pub const LICENSE_FILE: &str = "dictionary-LICENSE.txt";

impl Compiled {
    /// The files of a model folder: `dictionary-0.bin` and so on, each at most [`PART_BYTES`] long and none much shorter than the others.
    pub fn parts(&self) -> impl Iterator<Item = (String, &[u8])> {
        let n_parts = self.bytes.len().div_ceil(PART_BYTES).max(1);
        let parts = self.bytes.chunks(self.bytes.len().div_ceil(n_parts).max(1));
        parts.enumerate().map(|(i, part)| (format!("dictionary-{i}.bin"), part))
    }
}

/// The file for `dictionary`. Takes tens of seconds for unidic-lite: the trees of the matrix compare all rows with each other.
///
/// # Errors
/// [`CompileError::TooLarge`] for a dictionary with more than the format can number.
pub fn compile(dictionary: &MecabDictionary) -> Result<Compiled, CompileError> {
    let nfkc = icu_normalizer::ComposingNormalizer::new_nfkc();
    // Surfaces in the order of their UTF-16 units, their tokens in MeCab's order.
    let mut surfaces: BTreeMap<Vec<u16>, Vec<Kept>> = BTreeMap::new();
    let mut n_read = 0;
    for (surface, tokens) in &dictionary.surfaces {
        n_read += tokens.len();
        if surface.is_empty() || surface.contains('\0') || !nfkc.is_normalized(surface) {
            continue;
        }
        let kept = surfaces.entry(surface.encode_utf16().collect()).or_default();
        let cheapest = |ids: (u16, u16)| {
            tokens.iter().filter(|t| (t.left, t.right) == ids).map(|t| t.cost).min().unwrap_or(i16::MAX)
        };
        for token in tokens {
            let ids = (token.left, token.right);
            // Of equal ones the first stays: MeCab meets it first.
            if token.cost == cheapest(ids) && kept.iter().all(|&(other, _)| other != ids) {
                kept.push((ids, token.cost));
            }
        }
    }
    let (classes, n_columns, costs) = merge(dictionary, surfaces.values().flatten().map(|&(ids, _)| ids));
    let n_rows = costs.len() / n_columns;

    // Pairs by how often words have them, so that the frequent ones have low numbers.
    let mut frequency: HashMap<Pair, usize> = HashMap::new();
    for &(ids, _) in surfaces.values().flatten() {
        *frequency.entry(classes.pair(ids)).or_default() += 1;
    }
    for token in dictionary.unknown.iter().flatten() {
        frequency.entry(classes.pair((token.left, token.right))).or_default();
    }
    frequency.entry(classes.pair((0, 0))).or_default();
    let mut pairs: Vec<Pair> = frequency.keys().copied().collect();
    pairs.sort_by_key(|pair| (core::cmp::Reverse(frequency[pair]), *pair));
    let number: HashMap<Pair, u16> = pairs.iter().zip(0..).map(|(&pair, at)| (pair, at)).collect();
    let entry = |ids, cost| Entry { pair: number[&classes.pair(ids)], cost };

    let (units, groups) = label_units(surfaces.keys());
    let label: HashMap<u16, u16> = units.iter().zip(0..).map(|(&unit, at)| (unit, at)).collect();
    let mut words: Vec<(Vec<u16>, Vec<Entry>)> = surfaces
        .iter()
        .map(|(key, kept)| {
            // Pairs that become one by merging are equal entries again.
            let mut entries: Vec<Entry> = Vec::new();
            let all = || kept.iter().map(|&(ids, cost)| entry(ids, cost));
            for e in all() {
                let cheapest = all().filter(|o| o.pair == e.pair).map(|o| o.cost).min();
                if cheapest == Some(e.cost) && entries.iter().all(|o| o.pair != e.pair) {
                    entries.push(e);
                }
            }
            (key.iter().map(|unit| label[unit]).collect(), entries)
        })
        .collect();
    words.sort_by(|a, b| a.0.cmp(&b.0));
    let keys: Vec<&[u16]> = words.iter().map(|(key, _)| key.as_slice()).collect();
    let (trie, nodes) = Trie::new(&keys);
    let mut by_node: Vec<(u32, usize)> = nodes.into_iter().zip(0..).collect();
    by_node.sort_unstable();
    let mut lexicon = Lexicon { entries_of: vec![0; trie.len() + 1], entries: Vec::new(), trie };
    let mut at = 0;
    for (node, word) in by_node {
        lexicon.entries_of[at..=node as usize].fill(lexicon.entries.len() as u32);
        at = node as usize + 1;
        lexicon.entries.extend_from_slice(&words[word].1);
    }
    lexicon.entries_of[at..].fill(lexicon.entries.len() as u32);

    let sizes = Sizes {
        n_categories: dictionary.unknown.len(),
        n_pairs: pairs.len(),
        n_labels: units.len(),
        n_nodes: lexicon.trie.len(),
        n_entries: lexicon.entries.len(),
        n_rows,
        n_columns,
    };
    if sizes.bytes().is_none() {
        return Err(CompileError::TooLarge { what: format!("{sizes:?}") });
    }
    let n_entries = (n_read, lexicon.entries.len());
    let content = Content {
        characters: dictionary.characters.clone(),
        unknown: dictionary
            .unknown
            .iter()
            .map(|tokens| tokens.iter().map(|t| entry((t.left, t.right), t.cost)).collect())
            .collect(),
        units,
        groups,
        lexicon,
        trees: Trees::default(),
        matrix: Vec::new(),
        pairs: Vec::new(),
    };
    let edge = usize::from(number[&classes.pair((0, 0))]);
    let (trees, matrix, pairs) = plant(&pairs, costs, n_rows, n_columns);
    let content = Content { trees, matrix, pairs, ..content };
    let mut sections = Vec::new();
    let bytes = content.write(&sizes, dictionary.source, edge, |name, bytes| sections.push((name, bytes)));
    Ok(Compiled { bytes, sections, n_entries, matrix: (n_rows, n_columns) })
}

/// Left and right id, and cost.
type Kept = ((u16, u16), i16);

/// Classes of context ids.
struct Classes {
    row_of: Vec<u16>,
    column_of: Vec<u16>,
}

impl Classes {
    /// MeCab's left id is what a word shows to the word on its left: the row.
    fn pair(&self, (left, right): (u16, u16)) -> Pair {
        Pair { row: self.row_of[usize::from(left)], column: self.column_of[usize::from(right)] }
    }
}

/// The matrix over the ids in use, with equal rows and equal columns made one.
fn merge(dictionary: &MecabDictionary, ids: impl Iterator<Item = (u16, u16)>) -> (Classes, usize, Vec<i16>) {
    let unknown = dictionary.unknown.iter().flatten().map(|t| (t.left, t.right));
    let mut lefts = HashSet::from([0]);
    let mut rights = HashSet::from([0]);
    for (left, right) in ids.chain(unknown) {
        lefts.insert(left);
        rights.insert(right);
    }
    let sorted = |set: HashSet<u16>| {
        let mut all: Vec<u16> = set.into_iter().collect();
        all.sort_unstable();
        all
    };
    let (lefts, rights) = (sorted(lefts), sorted(rights));
    let mut classes = Classes { row_of: vec![0; dictionary.n_left], column_of: vec![0; dictionary.n_right] };
    let mut rows: Vec<Vec<i16>> = Vec::new();
    let mut known: HashMap<Vec<i16>, u16> = HashMap::new();
    for &left in &lefts {
        let row: Vec<i16> = rights.iter().map(|&right| dictionary.connection(left, right)).collect();
        classes.row_of[usize::from(left)] = *known.entry(row).or_insert_with_key(|row| {
            rows.push(row.clone());
            (rows.len() - 1) as u16
        });
    }
    let mut columns: Vec<Vec<i16>> = Vec::new();
    let mut known: HashMap<Vec<i16>, u16> = HashMap::new();
    for (at, &right) in rights.iter().enumerate() {
        let column: Vec<i16> = rows.iter().map(|row| row[at]).collect();
        classes.column_of[usize::from(right)] = *known.entry(column).or_insert_with_key(|column| {
            columns.push(column.clone());
            (columns.len() - 1) as u16
        });
    }
    let costs = (0..rows.len()).flat_map(|row| columns.iter().map(move |column| column[row])).collect();
    (classes, columns.len(), costs)
}

/// Orders rows and columns along their trees; pairs with the new numbers.
fn plant(pairs: &[Pair], costs: Vec<i16>, n_rows: usize, n_columns: usize) -> (Trees, Vec<i16>, Vec<Pair>) {
    let transposed: Vec<i16> =
        (0..n_columns).flat_map(|column| costs[column..].iter().step_by(n_columns).copied()).collect();
    let (row_order, rows) = tree::spanning_tree(&costs, n_rows, n_columns);
    let (column_order, columns) = tree::spanning_tree(&transposed, n_columns, n_rows);
    drop(transposed);
    let mut matrix: Vec<i16> = row_order
        .iter()
        .flat_map(|&row| column_order.iter().map(move |&column| (row, column)))
        .map(|(row, column)| costs[usize::from(row) * n_columns + usize::from(column)])
        .collect();
    drop(costs);
    let trees = Trees { rows, columns };
    differentiate(&mut matrix, &trees);
    let place = |order: &[u16]| {
        let mut place = vec![0; order.len()];
        order.iter().zip(0..).for_each(|(&old, new)| place[usize::from(old)] = new);
        place
    };
    let (row_place, column_place): (Vec<u16>, Vec<u16>) = (place(&row_order), place(&column_order));
    let pairs = pairs
        .iter()
        .map(|pair| Pair {
            row: row_place[usize::from(pair.row)],
            column: column_place[usize::from(pair.column)],
        })
        .collect();
    (trees, matrix, pairs)
}

/// The UTF-16 units of all surfaces by group, in a group the most frequent first.
fn label_units<'a>(surfaces: impl Iterator<Item = &'a Vec<u16>>) -> (Vec<u16>, Groups) {
    let mut frequency: BTreeMap<u16, usize> = BTreeMap::new();
    for &unit in surfaces.flatten() {
        *frequency.entry(unit).or_default() += 1;
    }
    let mut groups: [Vec<u16>; 4] = Default::default();
    for &unit in frequency.keys() {
        let group = match unit {
            0x3041..=0x3096 => 0,
            0x30a1..=0x30fc => 1,
            0x4e00..=0x9fff => 2,
            _ => 3,
        };
        debug_assert!(groups[0].len().max(groups[1].len()) <= usize::from(MOST_KANA));
        groups[group].push(unit);
    }
    let mut ends = [0; 4];
    let mut units = Vec::new();
    for (group, end) in groups.iter_mut().zip(&mut ends) {
        group.sort_by_key(|unit| (core::cmp::Reverse(frequency[unit]), *unit));
        units.append(group);
        *end = units.len() as u16;
    }
    (units, Groups(ends))
}

const _: () = assert!(N_CHARACTERS == 0xffff);
