//! The compressed token embeddings, document by document.
//!
//! `codes.{hash}.bin`, the directory, is `SHRD`, version `u32` 1, then a compressed body:
//!
//! | Type | Field |
//! |---|---|
//! | `u32` | `dim`, even, 2 to 512 |
//! | `u32` | packing, as in the tables |
//! | `u32` | `n_centroids` of the tables these codes point into |
//! | | the blocks of documents ([`DocumentBlocks`]) |
//!
//! A block in `codes/{hash}.bin` is a compressed body:
//!
//! | Type | Field |
//! |---|---|
//! | for each document: number | its tokens |
//! | `u8[⌈n_tokens * code_bits / 8⌉]` | code of each token: the row of its centroid, in `code_bits` bits, lowest first |
//! | `u8[n_tokens, row_bytes]` | levels, see [`Packing`] |
//!
//! `code_bits` is the number of bits of `n_centroids - 1`, 0 for one centroid. A document's tokens stand together, because scoring goes document by
//! document; norms are recomputed at load rather than stored. Codes do not compress (codewords and packed codes came out .5 % longer): the
//! body is a stored one, for its checksum. Numbers of documents
//! stand in the directory alone and cuts follow the content, so that documents that did not change keep the names of most of their shards.

use super::blocks::{BlockTable, Cuts, hash_of};
use super::bytes::{Cursor, put_u32, put_varint};
use super::documents::DocumentBlocks;
use super::part::{Part, block_content, read_content};
use super::tables::{packing_number, read_packing};
use super::{CodecTables, MAX_DIM, SHARD_BYTES, compressed};
use crate::{FormatError, NamedFile};
use core::ops::Range;
use shirube_core::Packing;

const PART: Part = Part { magic: *b"SHRD", version: 1, folder: "codes" };

/// Fewest bytes of a block, about half of its usual length: a lazy search reads one for a candidate or two, and the directory names each.
const BLOCK_BYTES: usize = 1024;

/// Blocks grow beyond that where there would be more of them than this: the directory is read before the first answer by meaning.
const MAX_BLOCKS: usize = 1 << 17;

/// Where the codes of each document are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodesDirectory {
    /// Width of a token embedding; even.
    pub dim: usize,
    /// Levels of a value, and how they share bytes.
    pub packing: Packing,
    /// Number of centroids the codes point into.
    pub n_centroids: usize,
    /// Where the blocks are.
    pub documents: DocumentBlocks,
}

/// The codes of a run of documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodesBlock {
    /// `[n_documents]` tokens of each document.
    pub lengths: Vec<u16>,
    /// `[n_tokens]` centroid of each token.
    pub codes: Vec<u16>,
    /// `[n_tokens, row_bytes]` packed levels.
    pub residuals: Vec<u8>,
}

/// Bits that a code of `n_centroids` takes in a file.
pub fn code_bits(n_centroids: usize) -> u32 {
    usize::BITS - n_centroids.saturating_sub(1).leading_zeros()
}

impl CodesDirectory {
    /// The directory's file and the shards of all documents. Equal codes give equal bytes.
    ///
    /// # Panics
    /// If codes and residuals are not those of the lengths, or there is no document: the caller's mistake.
    pub fn pack(
        dim: usize,
        packing: Packing,
        n_centroids: usize,
        all: &CodesBlock,
    ) -> (Vec<u8>, Self, Vec<NamedFile>) {
        let row_bytes = packing.row_bytes(dim);
        let bits = code_bits(n_centroids);
        let token_bytes = row_bytes + bits.div_ceil(8) as usize;
        let mut cuts = Cuts::new(BLOCK_BYTES.max(all.codes.len() * token_bytes / MAX_BLOCKS));
        let (mut blocks, mut counts) = (Vec::new(), Vec::new());
        let (mut documents, mut tokens) = (0..0, 0..0);
        for (document, &n) in all.lengths.iter().enumerate() {
            let own = tokens.end..tokens.end + usize::from(n);
            let residuals = &all.residuals[own.start * row_bytes..own.end * row_bytes];
            (documents.end, tokens.end) = (document + 1, own.end);
            if cuts.after(2 + own.len() * token_bytes, hash_of(residuals))
                || document + 1 == all.lengths.len()
            {
                let mut body = Vec::new();
                all.lengths[documents.clone()].iter().for_each(|&n| put_varint(&mut body, n.into()));
                put_bits(&mut body, &all.codes[tokens.clone()], bits);
                body.extend_from_slice(&all.residuals[tokens.start * row_bytes..tokens.end * row_bytes]);
                let mut block = Vec::new();
                compressed::put_stored(&mut block, &body);
                blocks.push(block);
                counts.push(documents.len());
                (documents, tokens) = (documents.end..documents.end, tokens.end..tokens.end);
            }
        }
        assert_eq!(tokens.end, all.codes.len(), "the lengths cover all codes");
        let (table, files) = BlockTable::write_grouped(PART.folder, &blocks, SHARD_BYTES);
        let directory = Self { dim, packing, n_centroids, documents: DocumentBlocks::new(table, &counts) };
        (directory.to_bytes(), directory, files)
    }

    /// The directory's file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for value in [self.dim as u32, packing_number(self.packing), self.n_centroids as u32] {
            put_u32(&mut body, value);
        }
        self.documents.put(&mut body);
        PART.directory(&body)
    }

    /// Reads the file; `path` is only for messages.
    ///
    /// # Errors
    /// [`FormatError::Newer`] or [`FormatError::Invalid`].
    pub fn parse(path: &str, bytes: &[u8]) -> Result<Self, FormatError> {
        PART.read_directory(path, bytes, |cursor| {
            let dim = cursor.count("dim", 2, MAX_DIM)?;
            if !dim.is_multiple_of(2) {
                return Err(cursor.invalid(format!("dim is {dim}, expected an even number")));
            }
            let packing = read_packing(cursor, 2, dim)?;
            let n_centroids = cursor.count("n_centroids", 1, 1 << 16)?;
            let documents = DocumentBlocks::take(cursor, PART.folder)?;
            Ok(Self { dim, packing, n_centroids, documents })
        })
    }

    /// Checks that these codes are of `tables` and of so many documents; `path` is only for messages.
    ///
    /// # Errors
    /// [`FormatError::Invalid`].
    pub fn belongs_to(&self, path: &str, tables: &CodecTables, n_documents: u32) -> Result<(), FormatError> {
        let invalid = |what| Err(FormatError::Invalid { path: path.to_owned(), offset: 0, what });
        if (self.dim, self.packing, self.n_centroids) != (tables.dim, tables.packing, tables.n_centroids()) {
            return invalid(format!(
                "codes of dim {}, {:?} and {} centroids do not belong to the tables",
                self.dim, self.packing, self.n_centroids
            ));
        }
        let found = self.documents.n_documents();
        if found != n_documents as usize {
            return invalid(format!("holds {found} documents, the entry says {n_documents}"));
        }
        Ok(())
    }

    /// Reads the block of that number.
    ///
    /// # Errors
    /// [`FormatError::Invalid`], also where its checksum is another.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn parse_block(&self, block: usize, bytes: &[u8]) -> Result<CodesBlock, FormatError> {
        let path = self.documents.table.path_of(block);
        let n_documents = self.documents.documents_of(block).len();
        read_content(&path, &block_content(&path, bytes)?, |cursor| self.take_documents(cursor, n_documents))
    }

    fn take_documents(&self, cursor: &mut Cursor<'_>, n_documents: usize) -> Result<CodesBlock, FormatError> {
        let mut lengths = Vec::new();
        for _ in 0..n_documents {
            lengths.push(cursor.number("tokens of a document", 0, usize::from(u16::MAX))? as u16);
        }
        let n_tokens: usize = lengths.iter().map(|&n| usize::from(n)).sum();
        let bits = code_bits(self.n_centroids);
        let code_bytes = (n_tokens * bits as usize).div_ceil(8);
        let residual_bytes = n_tokens * self.packing.row_bytes(self.dim);
        cursor.expect_left(code_bytes + residual_bytes)?;
        let codes = read_bits(cursor.take(code_bytes)?, n_tokens, bits)
            .ok_or_else(|| cursor.invalid("the bits behind the last code are not zero".to_owned()))?;
        if let Some(i) = codes.iter().position(|&c| usize::from(c) >= self.n_centroids) {
            return Err(cursor.invalid(format!(
                "token {i} has code {}, but there are {} centroids",
                codes[i], self.n_centroids
            )));
        }
        let residuals = cursor.take(residual_bytes)?.to_vec();
        if self.packing == Packing::Ternary
            && let Some(i) = residuals.iter().position(|&b| b > 242)
        {
            return Err(
                cursor.invalid(format!("residual byte {i} is {}, at most 242 is ternary", residuals[i]))
            );
        }
        Ok(CodesBlock { lengths, codes, residuals })
    }

    /// All documents from the whole content of every shard, by [`BlockTable::paths`].
    ///
    /// # Errors
    /// As [`BlockTable::split`] and [`Self::parse_block`], and what `shard` returns.
    pub fn unpack<'a>(
        &self,
        mut shard: impl FnMut(&str) -> Result<&'a [u8], FormatError>,
    ) -> Result<CodesBlock, FormatError> {
        let mut all = CodesBlock::default();
        for path in self.documents.table.paths() {
            for (block, bytes) in self.documents.table.split(&path, 0, shard(&path)?)? {
                let part = self.parse_block(block, bytes)?;
                all.lengths.extend(part.lengths);
                all.codes.extend(part.codes);
                all.residuals.extend(part.residuals);
            }
        }
        Ok(all)
    }
}

impl CodesBlock {
    /// The tokens of each document of the block.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u32>> {
        let mut end = 0;
        self.lengths.iter().map(move |&n| {
            end += u32::from(n);
            end - u32::from(n)..end
        })
    }
}

/// Appends the lowest `bits` (at most 16) of each number, lowest bit first, then zeros to a whole byte.
fn put_bits(out: &mut Vec<u8>, values: &[u16], bits: u32) {
    let (mut held, mut n_held) = (0_u32, 0);
    for &value in values {
        held |= u32::from(value) << n_held;
        n_held += bits;
        while n_held >= 8 {
            out.push(held as u8);
            held >>= 8;
            n_held -= 8;
        }
    }
    if n_held > 0 {
        out.push(held as u8);
    }
}

/// The `n` numbers that [`put_bits`] wrote; `None` where bits are left that are not zero.
fn read_bits(bytes: &[u8], n: usize, bits: u32) -> Option<Vec<u16>> {
    let (mut held, mut n_held) = (0_u32, 0);
    let mut bytes = bytes.iter();
    let mut out = Vec::with_capacity(n);
    for _ in 0..n {
        while n_held < bits {
            held |= u32::from(*bytes.next()?) << n_held;
            n_held += 8;
        }
        out.push((held & ((1 << bits) - 1)) as u16);
        held >>= bits;
        n_held -= bits;
    }
    (held == 0 && bytes.all(|&b| b == 0)).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn codes_take_the_bits_of_the_last_centroid() {
        for (n, bits) in [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (4096, 12), (65_535, 16), (65_536, 16)] {
            assert_eq!(code_bits(n), bits, "{n}");
        }
        let mut out = Vec::new();
        put_bits(&mut out, &[5, 2, 7, 1], 3);
        assert_eq!(out, [5 | 2 << 3 | (7 & 3) << 6, 7 >> 2 | 1 << 1], "lowest bit first");
    }

    fn hash(i: usize, seed: u32) -> u32 {
        (i as u32 ^ seed).wrapping_mul(2_654_435_761) >> 9
    }

    fn documents(
        lengths: Vec<u16>,
        dim: usize,
        packing: Packing,
        n_centroids: usize,
        seed: u32,
    ) -> CodesBlock {
        let n: usize = lengths.iter().map(|&n| usize::from(n)).sum();
        CodesBlock {
            lengths,
            codes: (0..n).map(|i| (hash(i, seed) as usize % n_centroids) as u16).collect(),
            residuals: (0..n * packing.row_bytes(dim)).map(|i| (hash(i, !seed) % 243) as u8).collect(),
        }
    }

    fn unpack(directory: &CodesDirectory, files: &[NamedFile]) -> CodesBlock {
        directory.unpack(|path| Ok(files.iter().find(|f| f.0 == path).unwrap().1.as_slice())).unwrap()
    }

    /// Shards that only one of two lists of files has.
    fn n_changed(a: &[NamedFile], b: &[NamedFile]) -> usize {
        b.iter().filter(|f| !a.contains(f)).count()
    }

    #[test]
    fn a_document_more_changes_a_shard_or_two() {
        let packing = Packing::Product { bytes: 7 };
        let lengths: Vec<u16> = (0..20_000).map(|i| 20 + (hash(i, 5) % 40) as u16).collect();
        let all = documents(lengths, 64, packing, 1000, 1);
        let (_, directory, files) = CodesDirectory::pack(64, packing, 1000, &all);
        assert!(files.len() > 20, "{} shards", files.len());
        assert!(files.iter().all(|f| f.1.len() < 5 * SHARD_BYTES), "no shard is far too long");
        assert_eq!(unpack(&directory, &files), all);
        let mut more = all.clone();
        more.lengths.insert(7000, 1);
        let at = all.lengths[..7000].iter().map(|&n| usize::from(n)).sum();
        more.codes.insert(at, 7);
        more.residuals.splice(7 * at..7 * at, [9; 7]);
        let (_, directory, changed) = CodesDirectory::pack(64, packing, 1000, &more);
        assert_eq!(unpack(&directory, &changed), more);
        assert!((1..=2).contains(&n_changed(&files, &changed)), "{}", n_changed(&files, &changed));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn documents_survive_their_files(
            lengths in prop::collection::vec(0_u16..90, 1..120), n_centroids in 1_usize..=65_536, packing in 0_usize..6, seed: u32,
        ) {
            let packing = Packing::ALL.get(packing).copied().unwrap_or_else(|| Packing::Product { bytes: packing as u8 - 3 });
            let all = documents(lengths, 6, packing, n_centroids, seed);
            let (bytes, directory, files) = CodesDirectory::pack(6, packing, n_centroids, &all);
            prop_assert_eq!(&CodesDirectory::parse("x", &bytes).unwrap(), &directory);
            prop_assert_eq!(unpack(&directory, &files), all);
        }

        /// The body of the fuzz target `codes`, on blocks with a few bytes changed and on noise.
        #[test]
        fn a_changed_block_is_an_error_or_another_valid_block(
            lengths in prop::collection::vec(0_u16..5, 1..6), n_centroids in 1_usize..300, packing in 0_usize..4,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            noise in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let packing = Packing::ALL[packing];
            let all = documents(lengths, 8, packing, n_centroids, 3);
            let (directory_bytes, directory, files) = CodesDirectory::pack(8, packing, n_centroids, &all);
            for mut bytes in [files[0].1.clone(), directory_bytes.clone(), noise] {
                if !bytes.is_empty() {
                    for (at, value) in &changes {
                        let at = at.index(bytes.len());
                        bytes[at] = *value;
                    }
                }
                if let Ok(block) = directory.parse_block(0, &bytes) {
                    prop_assert_eq!(block.lengths.len(), directory.documents.documents_of(0).len());
                    prop_assert!(block.codes.iter().all(|&c| usize::from(c) < n_centroids));
                }
                if let Ok(found) = CodesDirectory::parse("x", &bytes) {
                    prop_assert_eq!(CodesDirectory::parse("x", &found.to_bytes()).unwrap(), found);
                }
            }
        }
    }
}
