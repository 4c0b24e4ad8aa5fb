//! For each centroid, the documents with a token there: what a search reads in place of all codes.
//!
//! `ivf.{hash}.bin`, the directory, is `SHRI`, version `u32` 1, then a compressed body: number of centroids, number of documents, the table of blocks
//! ([`BlockTable`]), and for each block the number of its centroids (at least 1). Blocks stand in the order of the centroids, and the builder of an
//! index gives neighbouring centroids neighbouring numbers: the centroids that a query token probes lie in one block or a few.
//!
//! A block in `ivf/{hash}.bin` is a compressed body; for each of its centroids:
//!
//! | Type | Field |
//! |---|---|
//! | number | documents with a token there |
//! | `u8` | `k`, at most 24; absent without documents |
//! | bits, lowest first, then zeros to a whole byte | for each document the distance from the one before (the first from -1) less one, as a Rice code: `distance >> k` ones, a zero, the lowest `k` bits |
//!
//! Rice codes because the documents of a centroid lie about as random numbers do: a list takes about 1.5 bits a document more than its entropy needs
//! at least, a sixth less than numbers of whole bytes behind zlib.

use super::blocks::{BlockTable, Need};
use super::bytes::{Cursor, put_varint};
use super::part::{Part, block_content, read_content};
use super::{MAX_DOCUMENTS, SHARD_BYTES, Streams};
use crate::{FormatError, NamedFile};
use core::ops::Range;

const PART: Part = Part { magic: *b"SHRI", version: 1, folder: "ivf" };

/// A block closes at the first centroid that takes it to so many bytes and so many centroids, for a query token reads a few neighbours; but at
/// four times these bytes in any case.
const BLOCK_BYTES: usize = 4096;
const BLOCK_CENTROIDS: usize = 6;

/// Most bits of a Rice code's rest: distances stay below 2^24.
const MAX_REST: u8 = 24;

/// Where the documents of each centroid are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IvfDirectory {
    /// Where the blocks are.
    pub table: BlockTable,
    n_documents: usize,
    /// `[n_blocks + 1]` first centroid of each block.
    first_centroids: Vec<u32>,
}

impl IvfDirectory {
    /// The directory's file and the shards for documents of these `lengths` and `codes`. Equal codes give equal bytes.
    ///
    /// # Panics
    /// If the codes are not those of the lengths, or not below `n_centroids`: the caller's mistake.
    pub fn pack(lengths: &[u16], codes: &[u16], n_centroids: usize) -> (Vec<u8>, Self, Vec<NamedFile>) {
        Self::pack_over(lengths, codes, n_centroids, &Streams::default())
    }

    /// [`Self::pack`], with what is compressed already.
    pub(super) fn pack_over(
        lengths: &[u16],
        codes: &[u16],
        n_centroids: usize,
        known: &Streams,
    ) -> (Vec<u8>, Self, Vec<NamedFile>) {
        let lists = invert(lengths, codes, n_centroids);
        let (mut blocks, mut first_centroids, mut body) = (Vec::new(), vec![0_u32], Vec::new());
        for (centroid, list) in lists.iter().enumerate() {
            put_list(&mut body, list);
            let n = centroid + 1 - first_centroids[blocks.len()] as usize;
            let full = body.len() >= BLOCK_BYTES && (n >= BLOCK_CENTROIDS || body.len() >= 4 * BLOCK_BYTES);
            if full || centroid + 1 == n_centroids {
                blocks.push(known.block(&body));
                first_centroids.push(centroid as u32 + 1);
                body.clear();
            }
        }
        let (table, files) = BlockTable::write_grouped(PART.folder, &blocks, SHARD_BYTES);
        let directory = Self { table, n_documents: lengths.len(), first_centroids };
        (directory.to_bytes(), directory, files)
    }

    /// The directory's file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put_varint(&mut body, self.n_centroids() as u32);
        put_varint(&mut body, self.n_documents as u32);
        self.table.put(&mut body);
        self.first_centroids.windows(2).for_each(|w| put_varint(&mut body, w[1] - w[0]));
        PART.directory(&body)
    }

    /// Reads the file; `path` is only for messages.
    ///
    /// # Errors
    /// [`FormatError::Newer`] or [`FormatError::Invalid`].
    pub fn parse(path: &str, bytes: &[u8]) -> Result<Self, FormatError> {
        PART.read_directory(path, bytes, |cursor| {
            let n_centroids = cursor.number("centroids", 1, 1 << 16)?;
            let n_documents = cursor.number("documents", 1, MAX_DOCUMENTS as usize)?;
            let table = BlockTable::take(cursor, PART.folder)?;
            let (mut first_centroids, mut next) = (vec![0_u32], 0);
            for _ in 0..table.n_blocks() {
                next += cursor.number("centroids of a block", 1, n_centroids - next)?;
                first_centroids.push(next as u32);
            }
            if next != n_centroids {
                return Err(cursor.invalid(format!("the blocks hold {next} of {n_centroids} centroids")));
            }
            Ok(Self { table, n_documents, first_centroids })
        })
    }

    /// Number of centroids.
    pub fn n_centroids(&self) -> usize {
        self.first_centroids.last().map_or(0, |&n| n as usize)
    }

    /// Number of documents.
    pub fn n_documents(&self) -> usize {
        self.n_documents
    }

    /// The block of a centroid below [`Self::n_centroids`].
    pub fn block_of(&self, centroid: u16) -> usize {
        self.first_centroids.partition_point(|&first| first <= u32::from(centroid)).saturating_sub(1)
    }

    /// The centroids of a block.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn centroids_of(&self, block: usize) -> Range<u32> {
        self.first_centroids[block]..self.first_centroids[block + 1]
    }

    /// What to fetch for a block.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn need(&self, block: usize) -> Need {
        self.table.need(block)
    }

    /// The documents of each centroid of that block, ascending.
    ///
    /// # Errors
    /// [`FormatError::Invalid`], also where its checksum is another.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn parse_block(&self, block: usize, bytes: &[u8]) -> Result<Vec<Vec<u32>>, FormatError> {
        self.parse_content(block, &block_content(&self.table.path_of(block), bytes)?)
    }

    /// Reads the content of the block of that number.
    pub(super) fn parse_content(&self, block: usize, content: &[u8]) -> Result<Vec<Vec<u32>>, FormatError> {
        read_content(&self.table.path_of(block), content, |cursor| {
            self.centroids_of(block).map(|_| take_list(cursor, self.n_documents)).collect()
        })
    }
}

/// For each centroid, the documents with a token there, ascending.
fn invert(lengths: &[u16], codes: &[u16], n_centroids: usize) -> Vec<Vec<u32>> {
    let mut lists = vec![Vec::new(); n_centroids];
    let mut token = 0;
    for (document, &n) in lengths.iter().enumerate() {
        for &code in &codes[token..token + usize::from(n)] {
            let list: &mut Vec<u32> = &mut lists[usize::from(code)];
            if list.last() != Some(&(document as u32)) {
                list.push(document as u32);
            }
        }
        token += usize::from(n);
    }
    assert_eq!(token, codes.len(), "the lengths cover all codes");
    lists
}

/// Each document's distance from the one before, less one.
fn gaps(list: &[u32]) -> impl Iterator<Item = u32> {
    let mut next = 0;
    list.iter().map(move |&document| {
        let gap = document - next;
        next = document + 1;
        gap
    })
}

fn put_list(out: &mut Vec<u8>, list: &[u32]) {
    put_varint(out, list.len() as u32);
    let (Some(&last), n) = (list.last(), list.len() as u64) else { return };
    // The best rest is near the logarithm of the mean distance; one below and one above are tried too.
    let mean = (u64::from(last) / n).max(1);
    let near = mean.ilog2() as u8;
    let length = |k: u8| gaps(list).map(|gap| u64::from(gap >> k) + 1 + u64::from(k)).sum::<u64>();
    let k = (near.saturating_sub(1)..=(near + 1).min(MAX_REST)).min_by_key(|&k| length(k)).unwrap_or(near);
    out.push(k);
    let mut bits = BitWriter { out, held: 0, n_held: 0 };
    for gap in gaps(list) {
        (0..gap >> k).for_each(|_| bits.put(true));
        bits.put(false);
        (0..k).for_each(|bit| bits.put(gap >> bit & 1 == 1));
    }
    while bits.n_held > 0 {
        bits.put(false);
    }
}

/// Bits, lowest first.
struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    held: u8,
    n_held: u8,
}

impl BitWriter<'_> {
    fn put(&mut self, bit: bool) {
        self.held |= u8::from(bit) << self.n_held;
        self.n_held += 1;
        if self.n_held == 8 {
            self.out.push(self.held);
            (self.held, self.n_held) = (0, 0);
        }
    }
}

fn take_list(cursor: &mut Cursor<'_>, n_documents: usize) -> Result<Vec<u32>, FormatError> {
    // Each document takes a bit at least.
    let most = n_documents.min(8 * cursor.left());
    let n = cursor.number("documents of a centroid", 0, most)?;
    if n == 0 {
        return Ok(Vec::new());
    }
    let k = cursor.u8()?;
    if k > MAX_REST {
        return Err(cursor.invalid(format!("k is {k}, expected at most {MAX_REST}")));
    }
    let mut bits = BitReader { cursor, held: 0, n_held: 0 };
    let mut list = Vec::with_capacity(n);
    let mut next = 0_usize;
    for _ in 0..n {
        let mut gap = 0_usize;
        while bits.next()? {
            gap += 1;
        }
        gap <<= k;
        for bit in 0..k {
            gap |= usize::from(bits.next()?) << bit;
        }
        next = next.saturating_add(gap);
        if next >= n_documents {
            return Err(bits.cursor.invalid(format!("document {next} of {n_documents}")));
        }
        list.push(next as u32);
        next += 1;
    }
    if bits.held != 0 {
        return Err(bits.cursor.invalid("the bits behind the last document are not zero".to_owned()));
    }
    Ok(list)
}

/// Bits, lowest first.
struct BitReader<'a, 'b> {
    cursor: &'a mut Cursor<'b>,
    held: u8,
    n_held: u8,
}

impl BitReader<'_, '_> {
    fn next(&mut self) -> Result<bool, FormatError> {
        if self.n_held == 0 {
            (self.held, self.n_held) = (self.cursor.u8()?, 8);
        }
        let bit = self.held & 1 == 1;
        self.held >>= 1;
        self.n_held -= 1;
        Ok(bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash(i: usize) -> u32 {
        (i as u32).wrapping_mul(2_654_435_761) >> 8
    }

    #[test]
    fn golden_bits_fix_the_order() {
        let mut out = Vec::new();
        // Distances less one 2, 0, 5 with one bit of rest: 1 0 0, 0 0, 1 1 0 1.
        put_list(&mut out, &[2, 3, 9]);
        assert_eq!(out, [3, 1, 0b0110_0001, 0b1]);
        put_list(&mut out, &[]);
        assert_eq!(out[4..], [0]);
    }

    #[test]
    fn every_document_stands_once_under_each_centroid_of_its_tokens() {
        let n_centroids = 3000;
        let lengths: Vec<u16> = (0..20_000).map(|i| (i * 7 % 23) as u16).collect();
        let n: usize = lengths.iter().map(|&n| usize::from(n)).sum();
        let codes: Vec<u16> = (0..n).map(|i| (hash(i) % n_centroids) as u16).collect();
        let (bytes, directory, files) = IvfDirectory::pack(&lengths, &codes, n_centroids as usize);
        assert!(directory.table.n_blocks() > files.len() && files.len() > 1, "{}", files.len());
        assert_eq!(IvfDirectory::parse("d", &bytes).unwrap(), directory);
        let mut found = Vec::new();
        for block in 0..directory.table.n_blocks() {
            let need = directory.need(block);
            let (_, file) = files.iter().find(|(path, _)| *path == need.path).unwrap();
            let bytes = &file[need.range.start as usize..need.range.end as usize];
            assert!(directory.centroids_of(block).all(|c| directory.block_of(c as u16) == block));
            found.extend(directory.parse_block(block, bytes).unwrap());
        }
        assert_eq!(found, invert(&lengths, &codes, n_centroids as usize));
        for n in (0..bytes.len()).step_by(7) {
            assert!(IvfDirectory::parse("d", &bytes[..n]).is_err(), "cut at {n}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn a_list_survives_its_bits(list in prop::collection::btree_set(0_u32..1 << 24, 0..60)) {
            let list: Vec<u32> = list.into_iter().collect();
            let mut out = Vec::new();
            put_list(&mut out, &list);
            let mut cursor = Cursor::body("x", &out);
            prop_assert_eq!(take_list(&mut cursor, 1 << 24).unwrap(), list);
            prop_assert!(cursor.is_done());
        }

        /// The body of the fuzz target `ivf`.
        #[test]
        fn whatever_bits_there_are_give_ascending_documents_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(list) = take_list(&mut Cursor::body("x", &bytes), 5000) {
                prop_assert!(list.windows(2).all(|w| w[0] < w[1]) && list.iter().all(|&d| d < 5000));
            }
        }
    }
}
