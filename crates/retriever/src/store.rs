//! Sections as they arrive, block by block.

use shirube_format::FormatError;
use shirube_format::bundle::{Need, SectionsDirectory, StoredSection};
use std::collections::HashMap;

/// Blocks kept once an answer is given; those not used for longest go first. About eight kilobytes of text each.
const MAX_BLOCKS: usize = 512;

#[derive(Debug)]
pub(crate) struct SectionStore {
    directory: SectionsDirectory,
    /// Block, and when it was last used.
    blocks: HashMap<usize, (Vec<StoredSection>, u64)>,
    clock: u64,
}

impl SectionStore {
    pub(crate) fn new(directory: SectionsDirectory) -> Self {
        Self { directory, blocks: HashMap::new(), clock: 0 }
    }

    pub(crate) fn directory(&self) -> &SectionsDirectory {
        &self.directory
    }

    /// What is missing to show `documents`, each below the number of documents.
    pub(crate) fn needs(&self, documents: &[u32]) -> Vec<Need> {
        let mut blocks: Vec<usize> =
            documents.iter().map(|&d| self.directory.documents.block_of(d)).collect();
        blocks.sort_unstable();
        blocks.dedup();
        blocks.retain(|block| !self.blocks.contains_key(block));
        blocks.into_iter().map(|block| self.directory.documents.need(block)).collect()
    }

    pub(crate) fn provide(&mut self, path: &str, start: u64, bytes: &[u8]) -> Result<(), FormatError> {
        self.clock += 1;
        for (block, bytes) in self.directory.documents.table.split(path, start, bytes)? {
            let parsed = self.directory.parse_block(block, bytes)?;
            self.blocks.insert(block, (parsed, self.clock));
        }
        Ok(())
    }

    /// The section of a document, where its block is here.
    pub(crate) fn get(&self, document: u32) -> Option<&StoredSection> {
        let block = self.directory.documents.block_of(document);
        let at = document - self.directory.documents.documents_of(block).start;
        self.blocks.get(&block)?.0.get(at as usize)
    }

    /// Marks the blocks of `documents` as used, and drops others where there are too many.
    pub(crate) fn used(&mut self, documents: &[u32]) {
        self.clock += 1;
        for &document in documents {
            if let Some((_, used)) = self.blocks.get_mut(&self.directory.documents.block_of(document)) {
                *used = self.clock;
            }
        }
        if self.blocks.len() > MAX_BLOCKS {
            let mut ages: Vec<u64> = self.blocks.values().map(|(_, used)| *used).collect();
            ages.sort_unstable();
            let oldest = ages[self.blocks.len() - MAX_BLOCKS];
            let now = self.clock;
            self.blocks.retain(|_, (_, used)| *used >= oldest || *used == now);
        }
    }
}
