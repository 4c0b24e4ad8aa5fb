//! Blocks inside shard files: the unit that a search reads, and the unit that a host serves.
//!
//! A *block* holds a few kilobytes that are read together: some terms with their postings, some sections. A *shard* is a file of one or more
//! blocks, one behind the other, named by the first eight bytes of its SHA-256. A small site has one block a shard, so every host serves exactly
//! what is asked for; a large one has so many blocks that they share shards ([`MAX_SHARDS`]), and readers ask for byte ranges where the host knows
//! them. The table of blocks stands inside a *directory* file:
//!
//! | Type | Field |
//! |---|---|
//! | number | shards |
//! | | for each: `u8[8]` start of the SHA-256 of the file, number of its blocks (at least 1) |
//! | | for each block: number of its bytes (at least 1) |
//!
//! The name is the checksum of a whole shard; a block read by range is checked by the checksum that each kind of block holds inside.

use super::bytes::{Cursor, put_varint};
use super::{MAX_FILE_BYTES, NAME_DIGITS};
use crate::digest::hexadecimal;
use crate::model::looks_like_html;
use crate::{FormatError, NamedFile, Sha256Hex};
use core::ops::Range;

/// Most shards of one kind: free hosts limit a site to 20,000 files.
pub const MAX_SHARDS: usize = 2048;

/// Bytes of a file's SHA-256 that name it.
const NAME_BYTES: usize = NAME_DIGITS / 2;

/// Which shard and which bytes of it hold each block of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockTable {
    folder: &'static str,
    names: Vec<[u8; NAME_BYTES]>,
    /// `[n_shards + 1]` first block of each shard.
    first_blocks: Vec<u32>,
    /// `[n_blocks]` where each block begins inside its shard.
    starts: Vec<u32>,
    /// `[n_shards]`.
    shard_bytes: Vec<u32>,
}

/// Bytes of a bundle that a search needs and does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Need {
    /// Shard file.
    pub path: String,
    /// The bytes needed of it. A reader may as well provide the whole file.
    pub range: Range<u64>,
    /// Bytes of the whole file.
    pub file_bytes: u64,
}

impl BlockTable {
    /// Puts `blocks` into shard files under `folder`: one block a shard up to [`MAX_SHARDS`], then several.
    pub(super) fn write(folder: &'static str, blocks: &[Vec<u8>]) -> (Self, Vec<NamedFile>) {
        let chunk = blocks.len().div_ceil(MAX_SHARDS).max(1);
        let ends = (1..=blocks.len()).filter(|end| end % chunk == 0 || *end == blocks.len());
        Self::write_shards(folder, blocks, ends)
    }

    /// Puts `blocks` into shards of at least `least_bytes` (more where there would be over [`MAX_SHARDS`]), about twice that, at most four times and a
    /// block. What a shard ends with is decided by that block's own bytes: shards before and some way behind a change keep their names.
    pub(super) fn write_grouped(
        folder: &'static str,
        blocks: &[Vec<u8>],
        least_bytes: usize,
    ) -> (Self, Vec<NamedFile>) {
        let total: usize = blocks.iter().map(Vec::len).sum();
        let mut cuts = Cuts::new(least_bytes.max(total.div_ceil(MAX_SHARDS)));
        let ends: Vec<usize> = (1..=blocks.len())
            .filter(|&end| {
                let block = &blocks[end - 1];
                cuts.after(block.len(), hash_of(block)) || end == blocks.len()
            })
            .collect();
        Self::write_shards(folder, blocks, ends.into_iter())
    }

    fn write_shards(
        folder: &'static str,
        blocks: &[Vec<u8>],
        ends: impl Iterator<Item = usize>,
    ) -> (Self, Vec<NamedFile>) {
        let mut table = Self {
            folder,
            names: Vec::new(),
            first_blocks: vec![0],
            starts: Vec::new(),
            shard_bytes: Vec::new(),
        };
        let mut files = Vec::new();
        let mut start = 0;
        for end in ends {
            let mut bytes = Vec::new();
            for block in &blocks[start..end] {
                table.starts.push(bytes.len() as u32);
                bytes.extend_from_slice(block);
            }
            start = end;
            table.names.push(name_of(&bytes));
            table.first_blocks.push(table.starts.len() as u32);
            table.shard_bytes.push(bytes.len() as u32);
            files.push((table.path(table.names.len() - 1), bytes));
        }
        (table, files)
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.names.len() as u32);
        for (name, first) in self.names.iter().zip(self.first_blocks.windows(2)) {
            out.extend_from_slice(name);
            put_varint(out, first[1] - first[0]);
        }
        for block in 0..self.n_blocks() {
            let (_, range) = self.place(block);
            put_varint(out, (range.end - range.start) as u32);
        }
    }

    pub(super) fn take(cursor: &mut Cursor<'_>, folder: &'static str) -> Result<Self, FormatError> {
        let n_shards = cursor.n_items("shards", NAME_BYTES + 2)?;
        let mut table = Self {
            folder,
            names: Vec::with_capacity(n_shards),
            first_blocks: vec![0],
            starts: Vec::new(),
            shard_bytes: Vec::with_capacity(n_shards),
        };
        let mut n_blocks = 0_usize;
        for _ in 0..n_shards {
            let mut name = [0; NAME_BYTES];
            name.copy_from_slice(cursor.take(NAME_BYTES)?);
            table.names.push(name);
            n_blocks += cursor.number("blocks of a shard", 1, cursor.left())?;
            if n_blocks > cursor.left() {
                return Err(
                    cursor.invalid(format!("{n_blocks} blocks announced, {} bytes left", cursor.left()))
                );
            }
            table.first_blocks.push(n_blocks as u32);
        }
        for shard in 0..n_shards {
            let mut at = 0_u64;
            for _ in table.blocks_of(shard) {
                table.starts.push(at as u32);
                at += cursor.number("bytes of a block", 1, MAX_FILE_BYTES as usize)? as u64;
                if at > MAX_FILE_BYTES {
                    return Err(cursor.invalid(format!("shard {shard} has more than {MAX_FILE_BYTES} bytes")));
                }
            }
            table.shard_bytes.push(at as u32);
        }
        Ok(table)
    }

    /// Number of blocks.
    pub fn n_blocks(&self) -> usize {
        self.first_blocks.last().map_or(0, |&n| n as usize)
    }

    /// Number of shard files.
    pub fn n_shards(&self) -> usize {
        self.names.len()
    }

    /// Bytes of all shards.
    pub fn total_bytes(&self) -> u64 {
        self.shard_bytes.iter().map(|&n| u64::from(n)).sum()
    }

    /// Path of a shard inside the bundle.
    pub fn path(&self, shard: usize) -> String {
        format!("{}/{}.bin", self.folder, hexadecimal(&self.names[shard]))
    }

    /// The shard at `path`.
    fn shard_of(&self, path: &str) -> Option<usize> {
        let hex = path.strip_prefix(self.folder)?.strip_prefix('/')?.strip_suffix(".bin")?.as_bytes();
        let digit = |c: u8| match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        };
        let (pairs, []) = hex.as_chunks::<2>() else { return None };
        let mut name = [0; NAME_BYTES];
        if pairs.len() != NAME_BYTES {
            return None;
        }
        for (byte, &[high, low]) in name.iter_mut().zip(pairs) {
            *byte = digit(high)? << 4 | digit(low)?;
        }
        self.names.iter().position(|found| *found == name)
    }

    /// Path of the shard that holds a block.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn path_of(&self, block: usize) -> String {
        self.path(self.place(block).0)
    }

    /// Paths of all shards.
    pub fn paths(&self) -> impl Iterator<Item = String> {
        (0..self.n_shards()).map(|shard| self.path(shard))
    }

    /// Every shard, whole.
    pub fn whole_shards(&self) -> impl Iterator<Item = Need> {
        (0..self.n_shards()).map(|shard| {
            let file_bytes = u64::from(self.shard_bytes[shard]);
            Need { path: self.path(shard), range: 0..file_bytes, file_bytes }
        })
    }

    /// The shard of a block and where it lies inside.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn place(&self, block: usize) -> (usize, Range<u64>) {
        assert!(block < self.n_blocks(), "block {block} of {}", self.n_blocks());
        let shard = self.first_blocks.partition_point(|&first| first as usize <= block) - 1;
        let end = if block + 1 < self.first_blocks[shard + 1] as usize {
            self.starts[block + 1]
        } else {
            self.shard_bytes[shard]
        };
        (shard, u64::from(self.starts[block])..u64::from(end))
    }

    /// What to fetch for a block.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn need(&self, block: usize) -> Need {
        let (shard, range) = self.place(block);
        Need { path: self.path(shard), range, file_bytes: u64::from(self.shard_bytes[shard]) }
    }

    /// The blocks of a shard.
    pub fn blocks_of(&self, shard: usize) -> Range<usize> {
        self.first_blocks[shard] as usize..self.first_blocks[shard + 1] as usize
    }

    /// Whether a path is one of this table's folder.
    pub fn owns(&self, path: &str) -> bool {
        path.strip_prefix(self.folder).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Checks the whole content of the shard at `path`.
    ///
    /// # Errors
    /// As [`Self::split`].
    pub fn check(&self, path: &str, bytes: &[u8]) -> Result<(), FormatError> {
        let expected = self.shard_of(path).map_or(0, |shard| u64::from(self.shard_bytes[shard]));
        if expected != bytes.len() as u64 && !looks_like_html(bytes) && expected > 0 {
            let found = bytes.len() as u64;
            return Err(FormatError::Length { path: path.to_owned(), expected, found });
        }
        self.split(path, 0, bytes).map(drop)
    }

    /// The whole blocks in `bytes`, which stand from `start` in the shard at `path`. A whole shard is checked by its name; blocks of a part are
    /// checked by those who parse them.
    ///
    /// # Errors
    /// [`FormatError::Unknown`] for a path without a shard, [`FormatError::Html`], [`FormatError::Length`] or [`FormatError::Digest`].
    pub fn split<'a>(
        &self,
        path: &str,
        start: u64,
        bytes: &'a [u8],
    ) -> Result<Vec<(usize, &'a [u8])>, FormatError> {
        let Some(shard) = self.shard_of(path) else {
            return Err(FormatError::Unknown { path: path.to_owned() });
        };
        let end = start.saturating_add(bytes.len() as u64);
        let file_bytes = u64::from(self.shard_bytes[shard]);
        if end > file_bytes {
            if looks_like_html(bytes) {
                return Err(FormatError::Html { path: path.to_owned() });
            }
            return Err(FormatError::Length { path: path.to_owned(), expected: file_bytes, found: end });
        }
        if start == 0 && end == file_bytes {
            if name_of(bytes) != self.names[shard] {
                if looks_like_html(bytes) {
                    return Err(FormatError::Html { path: path.to_owned() });
                }
                let found = Sha256Hex::of(bytes);
                let expected = Sha256Hex(path[self.folder.len() + 1..].trim_end_matches(".bin").to_owned());
                return Err(FormatError::Digest { path: path.to_owned(), expected, found });
            }
        } else if looks_like_html(bytes) {
            return Err(FormatError::Html { path: path.to_owned() });
        }
        let blocks = self.blocks_of(shard).filter_map(|block| {
            let (_, range) = self.place(block);
            let inside = range.start >= start && range.end <= end;
            inside.then(|| (block, &bytes[(range.start - start) as usize..(range.end - start) as usize]))
        });
        let blocks: Vec<_> = blocks.collect();
        if blocks.is_empty() {
            // What was asked for always holds a block: the answer was cut.
            return Err(FormatError::Length { path: path.to_owned(), expected: file_bytes, found: end });
        }
        Ok(blocks)
    }
}

/// Where a run of items is cut: never below `least` bytes, then after an item with a chance of its bytes over `least`, taken from its own content, and
/// always at four times `least`.
#[derive(Debug)]
pub(super) struct Cuts {
    least: usize,
    filled: usize,
}

impl Cuts {
    pub(super) fn new(least: usize) -> Self {
        Self { least: least.max(1), filled: 0 }
    }

    /// Whether to cut after the next item, of so many bytes and this [`hash_of`] its content.
    pub(super) fn after(&mut self, bytes: usize, hash: u32) -> bool {
        self.filled += bytes;
        let chance = bytes as u64 * (1 << 32) / self.least as u64;
        let cut = self.filled >= self.least && (u64::from(hash) < chance || self.filled >= 4 * self.least);
        if cut {
            self.filled = 0;
        }
        cut
    }
}

/// FNV-1a, folded; spreads well enough to choose cuts.
pub(super) fn hash_of(bytes: &[u8]) -> u32 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (hash ^ (hash >> 32)) as u32
}

fn name_of(bytes: &[u8]) -> [u8; NAME_BYTES] {
    use sha2::Digest as _;
    let mut name = [0; NAME_BYTES];
    name.copy_from_slice(&sha2::Sha256::digest(bytes)[..NAME_BYTES]);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_found_by_its_own_path_and_by_no_other() {
        let (table, files) = BlockTable::write("codes", &[vec![1; 3], vec![2], vec![3; 2]]);
        for (shard, (path, _)) in files.iter().enumerate() {
            assert_eq!(table.path(shard), *path);
            assert_eq!(table.shard_of(path), Some(shard));
            for other in [
                path.to_uppercase(),
                format!("{path}x"),
                path.replace("codes", "code"),
                path.replace(".bin", ""),
            ] {
                assert_eq!(table.shard_of(&other), None, "{other}");
            }
        }
        assert_eq!(table.shard_of("codes/0123456789abcdef0.bin"), None);
        assert_eq!(table.shard_of("codes/漢字.bin"), None);
    }
}
