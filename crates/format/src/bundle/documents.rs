//! Blocks of documents in document order: which block holds a document. Sections and codes share it.
//!
//! | Type | Field |
//! |---|---|
//! | number | documents |
//! | | the table of blocks ([`BlockTable`]) |
//! | for each block: number | its documents, at least 1 |

use super::MAX_DOCUMENTS;
use super::blocks::{BlockTable, Need};
use super::bytes::{Cursor, put_varint};
use crate::FormatError;
use core::ops::Range;

/// Where the blocks of documents are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentBlocks {
    /// Where the blocks are.
    pub table: BlockTable,
    /// `[n_blocks + 1]` first document of each block; the last is the number of documents.
    first_documents: Vec<u32>,
}

impl DocumentBlocks {
    /// The blocks of `table` with the numbers of their documents.
    pub(super) fn new(table: BlockTable, counts: &[usize]) -> Self {
        let mut first_documents = vec![0_u32];
        for &n in counts {
            first_documents.push(first_documents[first_documents.len() - 1] + n as u32);
        }
        Self { table, first_documents }
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.n_documents() as u32);
        self.table.put(out);
        self.first_documents.windows(2).for_each(|w| put_varint(out, w[1] - w[0]));
    }

    pub(super) fn take(cursor: &mut Cursor<'_>, folder: &'static str) -> Result<Self, FormatError> {
        let n_documents = cursor.number("documents", 1, MAX_DOCUMENTS as usize)?;
        let table = BlockTable::take(cursor, folder)?;
        let mut first_documents = vec![0_u32];
        let mut next = 0;
        for _ in 0..table.n_blocks() {
            next += cursor.number("documents of a block", 1, n_documents - next)?;
            first_documents.push(next as u32);
        }
        if next != n_documents {
            return Err(cursor.invalid(format!("the blocks hold {next} of {n_documents} documents")));
        }
        Ok(Self { table, first_documents })
    }

    /// Number of documents.
    pub fn n_documents(&self) -> usize {
        self.first_documents.last().map_or(0, |&n| n as usize)
    }

    /// The block of a document below [`Self::n_documents`].
    pub fn block_of(&self, document: u32) -> usize {
        self.first_documents.partition_point(|&first| first <= document).saturating_sub(1)
    }

    /// The documents of a block.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn documents_of(&self, block: usize) -> Range<u32> {
        self.first_documents[block]..self.first_documents[block + 1]
    }

    /// What to fetch for a block.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn need(&self, block: usize) -> Need {
        self.table.need(block)
    }
}
