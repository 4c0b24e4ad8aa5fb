//! The dictionary file: header, checksum, sections. `docs/segmentation.md` describes every field.

use crate::characters::{Character, Characters, N_CHARACTERS};
use crate::lexicon::{Damage, Entry, Groups, Lexicon, MOST_KANA, N_GROUPS};
use crate::matrix::{Matrix, Trees};
use crate::range::{Coder, Decoder, NumberModels};
use crate::{SegmentError, matrix};
use std::fmt;

/// The newest format this build reads and the one it writes.
pub const DICTIONARY_FORMAT: u16 = 1;

const MAGIC: &[u8; 4] = b"SHSD";
pub(crate) const HEADER_BYTES: usize = 64;
/// Bytes in memory that one byte of a file may ask for. The compiled unidic-lite asks for 11; a file that codes better than
/// this is padded by its writer.
pub(crate) const MOST_EXPANSION: usize = 32;
/// In place of a label: no word has this unit.
const NO_LABEL: u16 = u16::MAX;
/// Unknown-word entries of a category; MeCab's dictionaries have up to six.
const MOST_UNKNOWN: u32 = 1000;

/// Which row of the matrix an entry has as the right word, and which column as the left one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Pair {
    pub(crate) row: u16,
    pub(crate) column: u16,
}

/// A dictionary ready for [`Dictionary::words`]: words with costs, what connecting them costs, and the rules for unknown ones.
pub struct Dictionary {
    pub(crate) source: [u8; 16],
    pub(crate) characters: Characters,
    /// `[65536]` label of each UTF-16 unit.
    labels: Vec<u16>,
    pub(crate) lexicon: Lexicon,
    pub(crate) pairs: Vec<Pair>,
    pub(crate) unknown: Vec<Vec<Entry>>,
    pub(crate) matrix: Matrix,
    /// Context of the beginning and the end of a text.
    pub(crate) edge: Pair,
}

impl fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dictionary")
            .field("source", &self.source())
            .field("n_entries", &self.n_entries())
            .field("pairs", &self.pairs.len())
            .field("bytes_in_memory", &self.bytes_in_memory())
            .finish_non_exhaustive()
    }
}

/// What the coded sections hold, filled in either direction.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) characters: Vec<u32>,
    pub(crate) unknown: Vec<Vec<Entry>>,
    pub(crate) pairs: Vec<Pair>,
    pub(crate) units: Vec<u16>,
    pub(crate) groups: Groups,
    pub(crate) lexicon: Lexicon,
    pub(crate) trees: Trees,
    /// Residuals.
    pub(crate) matrix: Vec<i16>,
}

/// Sizes that the header states.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) n_categories: usize,
    pub(crate) n_pairs: usize,
    pub(crate) n_labels: usize,
    pub(crate) n_nodes: usize,
    pub(crate) n_entries: usize,
    pub(crate) n_rows: usize,
    pub(crate) n_columns: usize,
}

impl Sizes {
    /// Bytes that a reader of these sizes allocates, tables of fixed size left out; `None` for sizes that cannot be.
    pub(crate) fn bytes(&self) -> Option<usize> {
        let fits = |n: usize, most: usize| (1..=most).contains(&n);
        let possible = fits(self.n_categories, 256)
            && fits(self.n_pairs, 0xffff)
            && fits(self.n_labels, 0xfffe)
            && fits(self.n_nodes, 1 << 26)
            && fits(self.n_entries, 1 << 26)
            && fits(self.n_rows, 1 << 14)
            && fits(self.n_columns, 1 << 14);
        possible.then(|| {
            self.n_pairs * 16 + self.n_nodes * 10 + self.n_entries * 4 + self.n_rows * self.n_columns * 2
        })
    }
}

impl Content {
    fn empty(sizes: &Sizes) -> Self {
        Self {
            characters: vec![0; N_CHARACTERS],
            unknown: vec![Vec::new(); sizes.n_categories],
            pairs: vec![Pair::default(); sizes.n_pairs],
            units: vec![0; sizes.n_labels],
            groups: Groups([0; N_GROUPS]),
            lexicon: Lexicon::empty(sizes.n_nodes, sizes.n_entries),
            trees: Trees { rows: vec![0; sizes.n_rows], columns: vec![0; sizes.n_columns] },
            matrix: Vec::new(),
        }
    }

    /// Everything, in the order of the file. `after` hears the name of each section when it is done.
    pub(crate) fn code<C: Coder>(
        &mut self,
        c: &mut C,
        sizes: &Sizes,
        mut after: impl FnMut(&C, &'static str) -> Result<(), Damage>,
    ) -> Result<(), Damage> {
        self.code_characters(c)?;
        after(c, "characters")?;
        self.code_unknown(c)?;
        after(c, "unknown words")?;
        for pair in &mut self.pairs {
            pair.row = c.raw(14, u32::from(pair.row)) as u16;
            pair.column = c.raw(14, u32::from(pair.column)) as u16;
            if usize::from(pair.row) >= sizes.n_rows || usize::from(pair.column) >= sizes.n_columns {
                return Err("pairs of ids");
            }
        }
        after(c, "pairs of ids")?;
        self.code_units(c)?;
        after(c, "labels")?;
        self.lexicon.code(c, &self.groups, sizes.n_pairs)?;
        after(c, "words")?;
        self.trees.code(c)?;
        after(c, "trees of the matrix")?;
        // Only now, so that damage above costs no large allocation.
        self.matrix.resize(sizes.n_rows * sizes.n_columns, 0);
        matrix::code(c, &mut self.matrix, &self.trees);
        after(c, "matrix")
    }

    /// The table of characters as runs: how long, and what, by its place among the values seen so far.
    fn code_characters<C: Coder>(&mut self, c: &mut C) -> Result<(), Damage> {
        const DAMAGE: Damage = "characters";
        let mut lengths = NumberModels::new(1, 4);
        let mut places = NumberModels::new(1, 4);
        let mut seen: Vec<u32> = Vec::new();
        let mut at = 0;
        while at < N_CHARACTERS {
            let value = self.characters[at];
            let run = self.characters[at..].iter().take_while(|&&v| v == value).count();
            let run = c.number(&mut lengths, 0, run as u32 - 1) as usize + 1;
            let place = seen.iter().position(|&v| v == value).unwrap_or(seen.len());
            let place = c.number(&mut places, 0, place as u32) as usize;
            let value = match seen.get(place) {
                Some(&value) => value,
                None => {
                    let value = c.raw(16, value >> 16) << 16 | c.raw(16, value & 0xffff);
                    seen.push(value);
                    value
                }
            };
            self.characters.get_mut(at..at + run).ok_or(DAMAGE)?.fill(value);
            at += run;
        }
        let most = self.unknown.len();
        if seen.iter().any(|&value| Character(value).category() >= most) { Err(DAMAGE) } else { Ok(()) }
    }

    fn code_unknown<C: Coder>(&mut self, c: &mut C) -> Result<(), Damage> {
        const DAMAGE: Damage = "unknown words";
        let n_pairs = self.pairs.len();
        let mut counts = NumberModels::new(1, 4);
        for entries in &mut self.unknown {
            let n = c.number(&mut counts, 0, entries.len() as u32);
            // MeCab cannot go on at a character that nothing covers, so no category may be without an entry.
            if !(1..=MOST_UNKNOWN).contains(&n) {
                return Err(DAMAGE);
            }
            entries.resize(n as usize, Entry::default());
            for entry in entries {
                entry.pair = c.raw(16, u32::from(entry.pair)) as u16;
                entry.cost = c.raw(16, u32::from(entry.cost as u16)) as u16 as i16;
                if usize::from(entry.pair) >= n_pairs {
                    return Err(DAMAGE);
                }
            }
        }
        Ok(())
    }

    fn code_units<C: Coder>(&mut self, c: &mut C) -> Result<(), Damage> {
        const DAMAGE: Damage = "labels";
        let mut before = 0;
        for (group, end) in self.groups.0.iter_mut().enumerate() {
            *end = c.raw(16, u32::from(*end)) as u16;
            if *end < before || group < 2 && *end - before > MOST_KANA {
                return Err(DAMAGE);
            }
            before = *end;
        }
        if usize::from(before) != self.units.len() {
            return Err(DAMAGE);
        }
        for unit in &mut self.units {
            *unit = c.raw(16, u32::from(*unit)) as u16;
        }
        Ok(())
    }
}

impl Dictionary {
    /// The dictionary whose file is `bytes`, or is cut into `parts` in order. Takes about a second for unidic-lite. Memory
    /// while reading is what the dictionary needs afterwards and about 2 MB; damaged bytes never ask for more than 32 times
    /// their length.
    ///
    /// # Errors
    /// [`SegmentError`]; no input panics.
    pub fn from_parts<B: AsRef<[u8]>>(parts: &[B]) -> Result<Self, SegmentError> {
        match parts {
            [whole] => Self::from_bytes(whole.as_ref()),
            _ => {
                let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.as_ref().len()).sum());
                parts.iter().for_each(|part| bytes.extend_from_slice(part.as_ref()));
                Self::from_bytes(&bytes)
            }
        }
    }

    /// As [`Self::from_parts`] for a file in one piece.
    ///
    /// # Errors
    /// [`SegmentError`]; no input panics.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SegmentError> {
        let damaged = |part| SegmentError::Damaged { part };
        if bytes.get(..4) != Some(MAGIC) {
            return Err(SegmentError::NotADictionary { bytes: bytes.len() });
        }
        let header = bytes.get(..HEADER_BYTES).ok_or_else(|| damaged("header"))?;
        let u16_at = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let u32_at =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let found = u16_at(4);
        if found != DICTIONARY_FORMAT {
            return Err(SegmentError::OtherFormat { found, supported: DICTIONARY_FORMAT });
        }
        if checksum(bytes) != u32_at(60) {
            return Err(damaged("checksum"));
        }
        let mut source = [0; 16];
        source.copy_from_slice(&header[8..24]);
        let sizes = Sizes {
            n_categories: usize::from(u16_at(6)),
            n_pairs: u32_at(24) as usize,
            n_labels: u32_at(28) as usize,
            n_nodes: u32_at(32) as usize,
            n_entries: u32_at(36) as usize,
            n_rows: u32_at(40) as usize,
            n_columns: u32_at(44) as usize,
        };
        if sizes.bytes().is_none_or(|wanted| wanted / MOST_EXPANSION > bytes.len()) {
            return Err(damaged("sizes in the header"));
        }
        let edge = u32_at(48) as usize;
        if u32_at(52) != 0 || u32_at(56) != 0 {
            return Err(damaged("header"));
        }
        let mut decoder = Decoder::new(&bytes[HEADER_BYTES..]);
        let mut content = Content::empty(&sizes);
        content
            .code(&mut decoder, &sizes, |decoder, part| if decoder.overrun() { Err(part) } else { Ok(()) })
            .map_err(damaged)?;
        let Content { characters, unknown, pairs, units, lexicon, trees, matrix: mut costs, .. } = content;
        matrix::integrate(&mut costs, &trees);
        let edge = *pairs.get(edge).ok_or_else(|| damaged("header"))?;
        let mut labels = vec![NO_LABEL; 1 << 16];
        for (label, &unit) in units.iter().enumerate() {
            labels[usize::from(unit)] = label as u16;
        }
        Ok(Self {
            source,
            characters: Characters { table: characters },
            labels,
            lexicon,
            pairs,
            unknown,
            matrix: Matrix { n_columns: sizes.n_columns, costs },
            edge,
        })
    }

    /// The node below `node` by the character `c`.
    #[inline]
    pub(crate) fn step(&self, node: u32, c: char) -> Option<u32> {
        let mut units = [0; 2];
        let mut node = node;
        for &unit in c.encode_utf16(&mut units).iter() {
            let label = self.labels[usize::from(unit)];
            if label == NO_LABEL {
                return None;
            }
            node = self.lexicon.trie.child(node, label)?;
        }
        Some(node)
    }

    /// Which dictionary this was compiled from: the first 16 bytes of a SHA-256 over its files, in hexadecimal. Equal sources
    /// give equal words.
    pub fn source(&self) -> String {
        self.source.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The same as bytes.
    pub fn source_bytes(&self) -> [u8; 16] {
        self.source
    }

    /// Entries of words.
    pub fn n_entries(&self) -> usize {
        self.lexicon.entries.len()
    }

    /// Bytes that the tables take.
    pub fn bytes_in_memory(&self) -> usize {
        let lexicon = &self.lexicon;
        self.matrix.costs.len() * 2
            + lexicon.trie.labels.len() * 2
            + (lexicon.trie.first.len() + lexicon.entries_of.len() + lexicon.entries.len()) * 4
            + self.pairs.len() * 4
            + self.characters.table.len() * 4
            + self.labels.len() * 2
    }
}

/// CRC-32 (IEEE) of everything but its own four bytes at 60.
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    crc32(&[bytes.get(..60).unwrap_or_default(), bytes.get(HEADER_BYTES..).unwrap_or_default()])
}

/// CRC-32 (polynomial 0xEDB88320, reflected) of `parts`, one after the other.
pub fn crc32(parts: &[&[u8]]) -> u32 {
    let mut table = [0u32; 256];
    for (i, entry) in table.iter_mut().enumerate() {
        *entry = (0..8).fold(i as u32, |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 });
    }
    let bytes = parts.iter().copied().flatten();
    !bytes.fold(u32::MAX, |crc, &byte| table[((crc ^ u32::from(byte)) & 0xff) as usize] ^ crc >> 8)
}

#[cfg(feature = "compile")]
impl Content {
    /// The file.
    pub(crate) fn write(
        mut self,
        sizes: &Sizes,
        source: [u8; 16],
        edge: usize,
        mut report: impl FnMut(&'static str, usize),
    ) -> Vec<u8> {
        let mut encoder = crate::range::Encoder::new();
        let mut before = 0;
        self.code(&mut encoder, sizes, |encoder, part| {
            report(part, encoder.len() - before);
            before = encoder.len();
            Ok(())
        })
        .expect("what was compiled is well-formed");
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&DICTIONARY_FORMAT.to_le_bytes());
        out.extend_from_slice(&(sizes.n_categories as u16).to_le_bytes());
        out.extend_from_slice(&source);
        let n =
            [sizes.n_pairs, sizes.n_labels, sizes.n_nodes, sizes.n_entries, sizes.n_rows, sizes.n_columns];
        out.extend(n.iter().chain(&[edge, 0, 0, 0]).flat_map(|&n| (n as u32).to_le_bytes()));
        out.extend_from_slice(&encoder.finish());
        let least = sizes.bytes().map_or(0, |bytes| bytes.div_ceil(MOST_EXPANSION));
        out.resize(out.len().max(least), 0);
        let checksum = checksum(&out);
        out[60..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checksum_is_the_common_crc_32() {
        assert_eq!(super::crc32(&[b"1234", b"56789"]), 0xcbf4_3926);
    }
}
