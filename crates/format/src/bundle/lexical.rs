//! Words: documents by terms, in blocks small enough that a query reads only what it asks for.
//!
//! `lexical.{hash}.bin`, the directory, is `SHRL`, version `u32` 1, then a compressed body:
//!
//! | Type | Field |
//! |---|---|
//! | number, text | bytes and name of the analyzer, `grams-1` |
//! | `f32`, `f32` | `k1` and `b` of BM25 |
//! | number | documents |
//! | number each | terms of each document, repetitions included |
//! | | the table of blocks ([`BlockTable`]) |
//! | for each block | first term: number of bytes shared with the first term before, number of other bytes, these bytes |
//!
//! A block in `lexical/{hash}.bin` is a compressed body. It holds terms in ascending order of their UTF-8 bytes, up to its end:
//!
//! | Type | Field |
//! |---|---|
//! | number, number, bytes | the term, as above (the first shares nothing) |
//! | number, number | documents that hold it; bytes of the postings |
//! | for each document | number `2 d + m`: `d` documents after the one before (the first counts from -1, so `d` is at least 1), `m` whether it holds the term more than once; if so, a number: how often |
//!
//! *Number* is an unsigned LEB128 of at most five bytes. A term is the characters of a bigram, of a lone character or of a word, as the analyzer
//! made them; the block of a term is the last whose first term is not above it.
//!
//! The way not taken: finished shares of the score, quantised, in place of counts and lengths. A little smaller; but then the browser would rank
//! otherwise than evaluation and mining do, and a visitor would wait for nothing less.

use super::blocks::{BlockTable, Need};
use super::bytes::{Cursor, put_f32s, put_varint};
use super::part::{Part, block_content};
use super::{MAX_DOCUMENTS, Streams};
use crate::{FormatError, NamedFile};

const PART: Part = Part { magic: *b"SHRL", version: 1, folder: "lexical" };

/// A block closes at the first term that takes it to so many bytes before compression (about four fifths of it after). A question reads some thirty blocks for a term
/// each: of 16,000 passages it reads 43 kB of them on average, 67 kB with twice the size, and the directory, read before the first answer, has 9 kB more.
const BLOCK_BYTES: usize = 2048;

/// Blocks grow beyond that where there would be more of them than this: the directory is read before the first answer.
const MAX_BLOCKS: usize = 16_384;

/// Longest term in bytes; an analyzer cuts longer words.
pub const MAX_TERM_BYTES: usize = 255;

/// Name of the one analyzer of this format.
pub const ANALYZER: &str = "grams-1";

/// Documents by terms, whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LexicalPart {
    /// Saturation of BM25.
    pub k1: f32,
    /// Length damping of BM25.
    pub b: f32,
    /// `[n_documents]` terms of each document, repetitions included.
    pub lengths: Vec<u32>,
    /// Ascending by bytes.
    pub terms: Vec<TermPostings>,
}

/// One term and where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TermPostings {
    /// The term.
    pub term: String,
    /// Documents that hold it.
    pub n_documents: u32,
    /// As in the file; see [`push_posting`] and [`Postings`].
    pub bytes: Vec<u8>,
}

/// Appends a posting: `document` holds the term `count` times. `previous` is the document before, `None` for the first.
///
/// # Panics
/// If documents do not ascend or `count` is 0: the caller's mistake.
pub fn push_posting(bytes: &mut Vec<u8>, previous: Option<u32>, document: u32, count: u32) {
    let gap = match previous {
        Some(previous) => document.checked_sub(previous).filter(|&gap| gap > 0).expect("documents ascend"),
        None => document + 1,
    };
    assert!(count > 0, "a posting counts at least one");
    put_varint(bytes, 2 * gap + u32::from(count > 1));
    if count > 1 {
        put_varint(bytes, count);
    }
}

/// Iterates `(document, count)` of checked postings.
#[derive(Clone, Debug)]
pub struct Postings<'a> {
    bytes: &'a [u8],
    next: u32,
}

impl<'a> Postings<'a> {
    /// Over the postings of [`TermPostings::bytes`], as a writer made them.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, next: 0 }
    }

    fn varint(&mut self) -> Option<u32> {
        let (mut value, mut shift) = (0_u32, 0);
        loop {
            let (&byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            value |= u32::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(value);
            }
            shift += 7;
        }
    }
}

impl Iterator for Postings<'_> {
    type Item = (u32, u32);

    fn next(&mut self) -> Option<(u32, u32)> {
        let head = self.varint()?;
        let count = if head & 1 == 1 { self.varint()? } else { 1 };
        let after = self.next.checked_add(head >> 1)?;
        self.next = after;
        Some((after.checked_sub(1)?, count))
    }
}

/// The directory: what must be known before a query's blocks are.
#[derive(Clone, Debug, PartialEq)]
pub struct LexicalDirectory {
    /// Saturation of BM25.
    pub k1: f32,
    /// Length damping of BM25.
    pub b: f32,
    /// `[n_documents]` terms of each document, repetitions included.
    pub lengths: Vec<u32>,
    /// Where the blocks are.
    pub table: BlockTable,
    /// `[n_blocks]` first term of each block, ascending.
    first_terms: Vec<String>,
}

/// Some terms and their postings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LexicalBlock {
    /// Term, documents, postings inside `body`.
    terms: Vec<(String, u32, core::ops::Range<usize>)>,
    body: Vec<u8>,
}

impl LexicalPart {
    /// The directory as file and as read, and the shards. Equal parts give equal bytes.
    pub fn pack(&self) -> (Vec<u8>, LexicalDirectory, Vec<NamedFile>) {
        self.pack_over(&Streams::default())
    }

    /// [`Self::pack`], with what is compressed already.
    pub(super) fn pack_over(&self, known: &Streams) -> (Vec<u8>, LexicalDirectory, Vec<NamedFile>) {
        let total: usize = self.terms.iter().map(|t| t.term.len() + t.bytes.len() + 6).sum();
        let block_bytes = BLOCK_BYTES.max(total.div_ceil(MAX_BLOCKS));
        let (mut blocks, mut first_terms) = (Vec::new(), Vec::new());
        let mut body = Vec::new();
        let mut before: &str = "";
        for (i, t) in self.terms.iter().enumerate() {
            if body.is_empty() {
                first_terms.push(t.term.clone());
                before = "";
            }
            put_term(&mut body, before, &t.term);
            put_varint(&mut body, t.n_documents);
            put_varint(&mut body, t.bytes.len() as u32);
            body.extend_from_slice(&t.bytes);
            before = &t.term;
            // A long list stands alone rather than behind small ones that others ask for.
            let next = self.terms.get(i + 1).map(|t| t.bytes.len());
            if body.len() >= block_bytes || next.is_none_or(|next| body.len() + next >= 2 * block_bytes) {
                blocks.push(known.block(&body));
                body.clear();
            }
        }
        let (table, files) = BlockTable::write(PART.folder, &blocks);
        let directory =
            LexicalDirectory { k1: self.k1, b: self.b, lengths: self.lengths.clone(), table, first_terms };
        (directory.to_bytes(), directory, files)
    }

    /// The whole part from its directory and every block, in order.
    pub(super) fn unpack(directory: &LexicalDirectory, blocks: &[LexicalBlock]) -> Self {
        let terms = blocks.iter().flat_map(|block| {
            block.terms.iter().map(|(term, n_documents, range)| TermPostings {
                term: term.clone(),
                n_documents: *n_documents,
                bytes: block.body[range.clone()].to_vec(),
            })
        });
        Self { k1: directory.k1, b: directory.b, lengths: directory.lengths.clone(), terms: terms.collect() }
    }
}

impl LexicalDirectory {
    fn to_bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put_varint(&mut body, ANALYZER.len() as u32);
        body.extend_from_slice(ANALYZER.as_bytes());
        put_f32s(&mut body, &[self.k1, self.b]);
        put_varint(&mut body, self.lengths.len() as u32);
        self.lengths.iter().for_each(|&n| put_varint(&mut body, n));
        self.table.put(&mut body);
        let mut before = "";
        for term in &self.first_terms {
            put_term(&mut body, before, term);
            before = term;
        }
        PART.directory(&body)
    }

    /// Reads the file; `path` is only for messages.
    ///
    /// # Errors
    /// [`FormatError::Newer`] (also for an analyzer that this build does not know) or [`FormatError::Invalid`].
    pub fn parse(path: &str, bytes: &[u8]) -> Result<Self, FormatError> {
        PART.read_directory(path, bytes, |cursor| {
            let n = cursor.n_items("bytes of the analyzer's name", 1)?;
            let analyzer = cursor.text(n)?;
            if analyzer != ANALYZER {
                return Err(
                    cursor.invalid(format!("analyzer is {analyzer:?}, this build knows {ANALYZER:?}"))
                );
            }
            let parameters = cursor.f32s(2)?;
            let (k1, b) = (parameters[0], parameters[1]);
            if !(0.0..=100.0).contains(&k1) || !(0.0..=1.0).contains(&b) {
                return Err(cursor.invalid(format!("k1 is {k1} and b {b}, expected 0 to 100 and 0 to 1")));
            }
            let n_documents = cursor.n_items("documents", 1)?;
            if n_documents > MAX_DOCUMENTS as usize {
                return Err(
                    cursor.invalid(format!("{n_documents} documents, expected at most {MAX_DOCUMENTS}"))
                );
            }
            let lengths = (0..n_documents).map(|_| cursor.varint()).collect::<Result<_, _>>()?;
            let table = BlockTable::take(cursor, PART.folder)?;
            let mut first_terms: Vec<String> = Vec::with_capacity(table.n_blocks().min(cursor.left()));
            for _ in 0..table.n_blocks() {
                let before = first_terms.last().map_or("", String::as_str);
                let term = take_term(cursor, before)?;
                first_terms.push(term);
            }
            Ok(Self { k1, b, lengths, table, first_terms })
        })
    }

    /// The block that holds `term` if any does.
    pub fn block_of(&self, term: &str) -> Option<usize> {
        self.first_terms.partition_point(|first| first.as_str() <= term).checked_sub(1)
    }

    /// What to fetch for a block.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn need(&self, block: usize) -> Need {
        self.table.need(block)
    }

    /// Reads the block of that number.
    ///
    /// # Errors
    /// [`FormatError::Invalid`].
    pub fn parse_block(&self, block: usize, bytes: &[u8]) -> Result<LexicalBlock, FormatError> {
        let path = self.table.path(self.table.place(block).0);
        let found = LexicalBlock::parse(&path, bytes, &self.lengths)?;
        let first = found.terms.first().map_or("", |t| t.0.as_str());
        if self.first_terms.get(block).is_none_or(|expected| expected != first) {
            return Err(FormatError::Invalid {
                path,
                offset: 0,
                what: format!("block {block} begins with {first:?}, not as the directory says"),
            });
        }
        Ok(found)
    }
}

impl LexicalBlock {
    /// Reads a block of documents of these `lengths`; `path` is only for messages.
    ///
    /// # Errors
    /// [`FormatError::Invalid`].
    pub fn parse(path: &str, bytes: &[u8], lengths: &[u32]) -> Result<Self, FormatError> {
        let body = block_content(path, bytes)?;
        let mut cursor = Cursor::body(path, &body);
        let mut terms: Vec<(String, u32, core::ops::Range<usize>)> = Vec::new();
        while !cursor.is_done() {
            let before = terms.last().map_or("", |t| t.0.as_str());
            let term = take_term(&mut cursor, before)?;
            let n_documents = cursor.number("documents of a term", 1, lengths.len())?;
            let n_bytes = cursor.n_items("bytes of postings", 1)?;
            let start = body.len() - cursor.left();
            let mut postings = Cursor::body(path, cursor.take(n_bytes)?);
            let mut next = 0_usize;
            for _ in 0..n_documents {
                let head = postings.varint()?;
                next = next.saturating_add((head >> 1) as usize);
                if head < 2 || next > lengths.len() {
                    return Err(
                        cursor.invalid(format!("{term:?}: documents do not ascend below {}", lengths.len()))
                    );
                }
                let count = if head & 1 == 1 { postings.number("count", 2, u32::MAX as usize)? } else { 1 };
                if count > lengths[next - 1] as usize {
                    return Err(cursor.invalid(format!(
                        "{term:?} stands {count} times in document {}, which has {} terms",
                        next - 1,
                        lengths[next - 1]
                    )));
                }
            }
            if !postings.is_done() {
                return Err(
                    cursor.invalid(format!("{term:?}: {} bytes of postings too many", postings.left()))
                );
            }
            terms.push((term, n_documents as u32, start..start + n_bytes));
        }
        Ok(Self { terms, body })
    }

    /// How many documents hold `term`, and which how often.
    pub fn postings(&self, term: &str) -> Option<(u32, Postings<'_>)> {
        let i = self.terms.binary_search_by(|t| t.0.as_str().cmp(term)).ok()?;
        let (_, n_documents, range) = &self.terms[i];
        Some((*n_documents, Postings::new(&self.body[range.clone()])))
    }

    /// What the block held before compression.
    pub(super) fn content(&self) -> &[u8] {
        &self.body
    }

    /// Bytes in memory, about.
    pub fn memory_bytes(&self) -> usize {
        self.body.len() + self.terms.iter().map(|t| t.0.len() + 56).sum::<usize>()
    }
}

/// Writes `term` by what it shares with the term before.
fn put_term(out: &mut Vec<u8>, before: &str, term: &str) {
    let shared = before.bytes().zip(term.bytes()).take_while(|(a, b)| a == b).count();
    put_varint(out, shared as u32);
    put_varint(out, (term.len() - shared) as u32);
    out.extend_from_slice(&term.as_bytes()[shared..]);
}

/// Reads a term above `before`.
fn take_term(cursor: &mut Cursor<'_>, before: &str) -> Result<String, FormatError> {
    let shared = cursor.number("shared bytes of a term", 0, before.len())?;
    let rest = cursor.number("bytes of a term", 0, MAX_TERM_BYTES - shared.min(MAX_TERM_BYTES))?;
    let mut bytes = before.as_bytes()[..shared].to_vec();
    bytes.extend_from_slice(cursor.take(rest)?);
    match String::from_utf8(bytes) {
        Ok(term) if term.as_str() > before => Ok(term),
        Ok(term) => Err(cursor.invalid(format!("term {term:?} does not stand above {before:?}"))),
        Err(_) => Err(cursor.invalid("a term is not UTF-8".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part() -> LexicalPart {
        let lengths = vec![40; 900];
        let mut terms = std::collections::BTreeMap::new();
        for i in 0..4000_u32 {
            let mut t = TermPostings { term: format!("語{}", i * 7919 % 10007), ..TermPostings::default() };
            let mut previous = None;
            for document in (i % 50..900).step_by(1 + (i % 97) as usize * 5) {
                push_posting(&mut t.bytes, previous, document, 1 + (document + i) % 3);
                previous = Some(document);
                t.n_documents += 1;
            }
            terms.insert(t.term.clone(), t);
        }
        LexicalPart { k1: 1.5, b: 0.75, lengths, terms: terms.into_values().collect() }
    }

    #[test]
    fn a_part_survives_its_files_and_each_term_lies_in_the_block_that_the_directory_names() {
        let part = part();
        let (bytes, directory, files) = part.pack();
        assert!(directory.table.n_blocks() > 20 && files.len() == directory.table.n_shards());
        let found = LexicalDirectory::parse("d", &bytes).unwrap();
        assert_eq!(found, directory);
        let mut blocks = vec![None; found.table.n_blocks()];
        for (path, bytes) in &files {
            for (block, bytes) in found.table.split(path, 0, bytes).unwrap() {
                blocks[block] = Some(found.parse_block(block, bytes).unwrap());
            }
        }
        let blocks: Vec<_> = blocks.into_iter().map(Option::unwrap).collect();
        assert_eq!(LexicalPart::unpack(&found, &blocks), part);
        for t in &part.terms {
            let (n, postings) = blocks[found.block_of(&t.term).unwrap()].postings(&t.term).unwrap();
            assert_eq!(n as usize, postings.count());
        }
        assert_eq!(found.block_of("a"), None, "below the first term");
        assert!(blocks[found.block_of("語5x").unwrap()].postings("語5x").is_none());
    }

    #[test]
    fn cut_and_flipped_bytes_are_errors_and_never_panics() {
        let (bytes, directory, files) = part().pack();
        for n in (0..bytes.len()).step_by(37) {
            assert!(LexicalDirectory::parse("d", &bytes[..n]).is_err(), "cut at {n}");
        }
        let mut changed = bytes.clone();
        for i in 0..bytes.len() {
            changed[i] ^= 1 << (i % 8);
            // The last byte of a deflate stream has bits that stand for nothing.
            let found = LexicalDirectory::parse("d", &changed);
            assert!(found.is_err() || found.unwrap() == directory, "byte {i}");
            changed[i] = bytes[i];
        }
        let (path, shard) = &files[3];
        let blocks = directory.table.split(path, 0, shard).unwrap();
        let (block, whole) = blocks[0];
        for i in 0..whole.len() {
            let mut changed = whole.to_vec();
            changed[i] ^= 1 << (i % 8);
            let found = directory.parse_block(block, &changed);
            assert!(
                found.is_err() || found.unwrap() == directory.parse_block(block, whole).unwrap(),
                "byte {i}"
            );
            assert!(directory.parse_block(block, &whole[..i]).is_err(), "cut at {i}");
            assert!(directory.table.split(path, 0, &changed).is_err(), "the name is the checksum");
        }
        assert!(directory.parse_block(block + 1, whole).is_err(), "a block of another place");
    }

    #[test]
    fn a_web_page_and_an_unknown_path_are_told_apart() {
        let (_, directory, files) = part().pack();
        let page = b"<!DOCTYPE html><title>404</title>";
        assert!(matches!(directory.table.split(&files[0].0, 0, page), Err(FormatError::Html { .. })));
        assert!(matches!(directory.table.split("lexical/x.bin", 0, page), Err(FormatError::Unknown { .. })));
    }
}
