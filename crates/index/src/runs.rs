//! Blocks to fetch, with neighbours in one request: a request costs a visitor more than a few kilobytes that lie between two blocks do.

use shirube_format::bundle::{BlockTable, Need};
use std::collections::BTreeMap;

/// Runs of blocks, each in one shard: what stands in the gaps is read along.
#[derive(Debug)]
pub(crate) struct Runs<'a> {
    table: &'a BlockTable,
    gap_bytes: u64,
    /// First block and one past the last.
    runs: BTreeMap<usize, usize>,
    bytes: u64,
}

impl<'a> Runs<'a> {
    /// No blocks yet; at most `gap_bytes` are read to join two.
    pub(crate) fn new(table: &'a BlockTable, gap_bytes: u64) -> Self {
        Self { table, gap_bytes, runs: BTreeMap::new(), bytes: 0 }
    }

    pub(crate) fn n_requests(&self) -> usize {
        self.runs.len()
    }

    /// Requests and bytes if `block` were added.
    pub(crate) fn with(&self, block: usize) -> (usize, u64) {
        let (run, old) = self.joined(block);
        let bytes = old.iter().map(|&(start, end)| self.bytes_of(start, end)).sum::<u64>();
        (self.runs.len() + 1 - old.len(), self.bytes - bytes + self.bytes_of(run.0, run.1))
    }

    pub(crate) fn insert(&mut self, block: usize) {
        let (run, old) = self.joined(block);
        self.bytes = self.with(block).1;
        for (start, _) in old {
            self.runs.remove(&start);
        }
        self.runs.insert(run.0, run.1);
    }

    /// Every block read, ascending.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = usize> {
        self.runs.iter().flat_map(|(&start, &end)| start..end)
    }

    /// What to fetch, where some blocks are here already.
    pub(crate) fn needs(&self, here: impl Fn(usize) -> bool) -> Vec<Need> {
        let mut needs = Vec::new();
        for (&start, &end) in &self.runs {
            let mut missing = (start..end).filter(|&block| !here(block));
            let Some(first) = missing.next() else { continue };
            let (first, last) = (self.table.need(first), self.table.need(missing.last().unwrap_or(first)));
            needs.push(Need { range: first.range.start..last.range.end, ..first });
        }
        needs
    }

    /// The run that `block` would be in, and those now there that it would take in: at most two.
    fn joined(&self, block: usize) -> ((usize, usize), Vec<(usize, usize)>) {
        let (mut run, mut old) = ((block, block + 1), Vec::new());
        if let Some((&start, &end)) = self.runs.range(..=block).next_back()
            && (end > block || self.near(end - 1, block))
        {
            run = (start, end.max(block + 1));
            old.push((start, end));
        }
        if let Some((&start, &end)) = self.runs.range(block + 1..).next()
            && self.near(block, start)
        {
            run.1 = end;
            old.push((start, end));
        }
        (run, old)
    }

    fn near(&self, block: usize, next: usize) -> bool {
        let ((shard, range), (of_next, range_of_next)) = (self.table.place(block), self.table.place(next));
        shard == of_next && range_of_next.start - range.end <= self.gap_bytes
    }

    fn bytes_of(&self, start: usize, end: usize) -> u64 {
        self.table.place(end - 1).1.end - self.table.place(start).1.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shirube_format::bundle::IvfDirectory;

    /// The lists of some documents: many blocks in several shards.
    fn directory() -> IvfDirectory {
        let lengths = vec![20_u16; 30_000];
        use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        let codes: Vec<u16> = (0..600_000).map(|_| (rng.next_u32() % 512) as u16).collect();
        IvfDirectory::pack(&lengths, &codes, 512).1
    }

    #[test]
    fn runs_hold_every_block_asked_for_and_count_their_requests_and_bytes() {
        let directory = directory();
        let table = &directory.table;
        assert!(
            table.n_blocks() > 30 && table.n_shards() > 2,
            "{} in {}",
            table.n_blocks(),
            table.n_shards()
        );
        proptest!(|(blocks in prop::collection::vec(0..table.n_blocks(), 1..12), gap_bytes in 0_u64..20_000, here in 0..table.n_blocks())| {
            let mut runs = Runs::new(table, gap_bytes);
            for &block in &blocks {
                let expected = runs.with(block);
                runs.insert(block);
                prop_assert_eq!((runs.n_requests(), runs.bytes), expected);
            }
            let needs = runs.needs(|_| false);
            prop_assert_eq!(needs.len(), runs.n_requests());
            prop_assert_eq!(needs.iter().map(|need| need.range.end - need.range.start).sum::<u64>(), runs.bytes);
            let read: Vec<usize> = runs.blocks().collect();
            prop_assert!(read.windows(2).all(|w| w[0] < w[1]) && blocks.iter().all(|block| read.contains(block)));
            for &block in &read {
                let need = table.need(block);
                let holds = |run: &&Need| run.path == need.path && run.range.start <= need.range.start && run.range.end >= need.range.end;
                prop_assert_eq!(needs.iter().filter(holds).count(), 1);
            }
            // Any two requests of one shard are farther apart than the gap, whatever the order of the blocks.
            for (a, b) in needs.iter().flat_map(|a| needs.iter().map(move |b| (a, b))) {
                prop_assert!(a.path != b.path || a.range.start >= b.range.start || b.range.start - a.range.end > gap_bytes);
            }
            let mut other = Runs::new(table, gap_bytes);
            blocks.iter().rev().for_each(|&block| other.insert(block));
            prop_assert_eq!(&other.runs, &runs.runs);
            // What is here is not asked for, at the ends of a run at least.
            let rest = runs.needs(|block| block != here);
            prop_assert_eq!(rest, if read.contains(&here) { vec![table.need(here)] } else { vec![] });
        });
    }
}
