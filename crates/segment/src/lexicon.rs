//! The words: a trie over labels, and at its nodes the entries of a surface.
//!
//! Labels stand for UTF-16 units in four groups (hiragana, katakana, kanji, other), inside a group by falling frequency: then
//! the children of a node, which ascend, are near each other where characters are common, and gaps cost few bits. Entries
//! of one surface keep MeCab's order, because it decides ties.

use crate::range::{Bit, Coder, NumberModels};
use crate::trie::Trie;

/// One reading of a surface: which pair of context ids, at which cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Entry {
    pub(crate) pair: u16,
    pub(crate) cost: i16,
}

/// Trie and entries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lexicon {
    pub(crate) trie: Trie,
    /// `[n_nodes + 1]` entries of node `i` are `entries_of[i]..entries_of[i + 1]`.
    pub(crate) entries_of: Vec<u32>,
    pub(crate) entries: Vec<Entry>,
}

/// Labels of these groups are coded whole, with the label before as context: at most this many.
pub(crate) const MOST_KANA: u16 = 128;
/// Groups of labels.
pub(crate) const N_GROUPS: usize = 4;
/// In place of a group: no label.
const NO_GROUP: usize = N_GROUPS;
/// Contexts of [`Groups::last`]: this many labels of each group, the last for all the rest.
const LAST_LABELS: usize = 4 * 256;
/// Pairs below 2^9 - 1 are learned by the last label.
const NEAR: u32 = 8;
/// Costs that a pair of ids had lately.
const RECENT: usize = 4;

/// Where the groups of labels end; the last end is the number of labels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Groups(pub(crate) [u16; N_GROUPS]);

impl Groups {
    fn start(&self, group: usize) -> u16 {
        if group == 0 { 0 } else { self.0[group - 1] }
    }

    /// The context that a label is for the ids of words that end with it: the endings of Japanese verbs and names tell much.
    fn last(&self, label: u16) -> usize {
        let group = self.of(label);
        let rank = usize::from(label - self.start(group)).min(LAST_LABELS / 4 - 1);
        group * (LAST_LABELS / 4) + rank
    }

    fn of(&self, label: u16) -> usize {
        self.0.iter().position(|&end| label < end).unwrap_or(N_GROUPS - 1)
    }
}

/// Why a lexicon cannot be read.
pub(crate) type Damage = &'static str;

fn length(n: u32, most: u32) -> usize {
    (u32::BITS - n.leading_zeros()).min(most) as usize
}

struct LabelModels {
    group: Vec<Bit>,
    kana: Vec<Bit>,
    gap: NumberModels,
}

impl LabelModels {
    const KANA_CONTEXTS: usize = 2 * MOST_KANA as usize + 3;

    fn new() -> Self {
        Self {
            group: vec![Bit::NEW; 25 * 4],
            kana: vec![Bit::NEW; 2 * Self::KANA_CONTEXTS * MOST_KANA as usize],
            gap: NumberModels::new(2 * 20 * 8, 3),
        }
    }

    /// One child's label, above `previous`, its sibling's. `parent` is the label of the node itself.
    fn code<C: Coder>(
        &mut self,
        c: &mut C,
        groups: &Groups,
        parent: Option<u16>,
        previous: Option<u16>,
        n_children: u32,
        label: u16,
    ) -> Result<u16, Damage> {
        const DAMAGE: Damage = "labels of words";
        let group_of = |label: Option<u16>| label.map_or(NO_GROUP, |label| groups.of(label));
        let (above, before) = (group_of(parent), group_of(previous));
        let context = before * (N_GROUPS + 1) + above;
        let group = c.tree(&mut self.group[context * 4..][..4], 2, groups.of(label) as u32) as usize;
        let start = groups.start(group);
        let least = match previous {
            Some(previous) if before == group => previous + 1,
            _ => start,
        };
        let label = if group < 2 {
            let most = usize::from(MOST_KANA);
            let context = match parent {
                Some(label) if above < 2 => above * most + usize::from(label - groups.start(above)),
                _ => 2 * most + above - 2,
            };
            let models = &mut self.kana[(group * Self::KANA_CONTEXTS + context) * most..][..most];
            start + c.tree(models, 7, u32::from(label.wrapping_sub(start) & (MOST_KANA - 1))) as u16
        } else {
            let near = if before == group { 5 + length(u32::from(least - start), 14) } else { above };
            let context = ((group - 2) * 20 + near) * 8 + length(n_children, 7);
            let gap = c.number(&mut self.gap, context, u32::from(label.wrapping_sub(least)));
            u16::try_from(u32::from(least) + gap).map_err(|_| DAMAGE)?
        };
        // `least` is below a sibling of a later group, which the reader must not accept.
        if label < least || label >= groups.0[group] || previous.is_some_and(|previous| label <= previous) {
            return Err(DAMAGE);
        }
        Ok(label)
    }
}

struct EntryModels {
    magnitude: Vec<Bit>,
    /// Low bits of frequent pairs, by the last label.
    near: Vec<Bit>,
    /// Low bits of the others, by its group.
    far: Vec<Bit>,
    followed: [Bit; 4],
    /// By pair, the pair that came after it in a surface.
    after: Vec<u16>,
    recent: Vec<[i16; RECENT]>,
    hit: Vec<Bit>,
    sign: Vec<Bit>,
    away: NumberModels,
}

impl EntryModels {
    fn new(n_pairs: usize) -> Self {
        Self {
            magnitude: vec![Bit::NEW; LAST_LABELS * 4 * 16],
            near: vec![Bit::NEW; LAST_LABELS << (NEAR + 1)],
            far: vec![Bit::NEW; 5 << 16],
            followed: [Bit::NEW; 4],
            after: vec![0; n_pairs],
            recent: vec![[0; RECENT]; n_pairs],
            hit: vec![Bit::NEW; 17 * RECENT],
            sign: vec![Bit::NEW; 17],
            away: NumberModels::new(17, 3),
        }
    }

    /// The pair of an entry: the frequent ones have low numbers.
    fn pair<C: Coder>(
        &mut self,
        c: &mut C,
        before: Option<u16>,
        (group, last): (usize, usize),
        n: u32,
        pair: u16,
    ) -> Result<u16, Damage> {
        const DAMAGE: Damage = "ids of words";
        if let Some(before) = before {
            let likely = self.after[usize::from(before)];
            if c.bit(&mut self.followed[n.min(3) as usize], pair == likely) {
                return Ok(likely);
            }
        }
        let context = last * 4 + if before.is_some() { 0 } else { n.min(3) as usize };
        let rank = u32::from(pair) + 1;
        let high = c.tree(&mut self.magnitude[context * 16..][..16], 4, 31 - rank.leading_zeros());
        let low = if high == 0 {
            0
        } else {
            // A tree of 2^high models begins at 2^high.
            let models = match high <= NEAR {
                true => &mut self.near[last << (NEAR + 1)..],
                false => &mut self.far[group << 16..],
            };
            let models = &mut models[1 << high..][..1 << high];
            c.tree(models, high, rank & ((1 << high) - 1))
        };
        let pair = u16::try_from((1u32 << high) + low - 1).map_err(|_| DAMAGE)?;
        if usize::from(pair) >= self.after.len() {
            return Err(DAMAGE);
        }
        if let Some(before) = before {
            self.after[usize::from(before)] = pair;
        }
        Ok(pair)
    }

    /// The cost of an entry, often one that its pair had lately.
    fn cost<C: Coder>(&mut self, c: &mut C, pair: u16, cost: i16) -> i16 {
        let context = length(u32::from(pair), 16);
        let recent = &mut self.recent[usize::from(pair)];
        for i in 0..RECENT {
            if c.bit(&mut self.hit[context * RECENT + i], recent[i] == cost) {
                let hit = recent[i];
                recent[..=i].rotate_right(1);
                return hit;
            }
        }
        let away = i32::from(cost) - i32::from(recent[0]);
        let below = c.bit(&mut self.sign[context], away < 0);
        let size = c.number(&mut self.away, context, away.unsigned_abs()) as i32;
        // Costs of 16 bits differ by 17 bits; the writer's always come back, a damaged file's wrap.
        let cost = (i32::from(recent[0]) + if below { -size } else { size }) as i16;
        recent.rotate_right(1);
        recent[0] = cost;
        cost
    }
}

impl Lexicon {
    /// Room for a lexicon of this size, to be read into.
    pub(crate) fn empty(n_nodes: usize, n_entries: usize) -> Self {
        Self {
            trie: Trie { labels: vec![0; n_nodes], first: vec![0; n_nodes + 1] },
            entries_of: vec![0; n_nodes + 1],
            entries: vec![Entry::default(); n_entries],
        }
    }

    /// Writes this lexicon, or reads one into its place.
    pub(crate) fn code<C: Coder>(
        &mut self,
        c: &mut C,
        groups: &Groups,
        n_pairs: usize,
    ) -> Result<(), Damage> {
        let Self { trie: Trie { labels, first }, entries_of, entries } = self;
        let n_nodes = labels.len();
        let mut label_models = LabelModels::new();
        let mut entry_models = EntryModels::new(n_pairs);
        let mut n_children_models = NumberModels::new(8 * 5 * 4, 2);
        let mut n_entries_models = NumberModels::new(2 * 8 * 5, 2);
        // Nodes come by depth: the next level begins where the children of this one do.
        let (mut depth, mut level_end) = (0usize, 1);
        let mut before = 0;
        first[0] = 1;
        for node in 0..n_nodes {
            if node == level_end {
                depth += 1;
                level_end = first[node] as usize;
            }
            // A node that is nobody's child would be its own first child.
            if first[node] as usize <= node {
                return Err("children of words");
            }
            let label = (node > 0).then(|| labels[node]);
            let group = label.map_or(NO_GROUP, |label| groups.of(label));
            let place = depth.min(7) * 5 + group;
            let last = label.map_or(0, |label| groups.last(label));
            let n_children = c.number(
                &mut n_children_models,
                place * 4 + length(before, 3),
                first[node + 1].wrapping_sub(first[node]),
            );
            before = n_children;
            let end = first[node] + n_children;
            if end as usize > n_nodes {
                return Err("children of words");
            }
            first[node + 1] = end;
            let mut previous = None;
            for child in first[node]..end {
                let child = &mut labels[child as usize];
                *child = label_models.code(c, groups, label, previous, n_children, *child)?;
                previous = Some(*child);
            }
            let leaf = n_children == 0;
            let n = c.number(
                &mut n_entries_models,
                usize::from(leaf) * 40 + place,
                entries_of[node + 1].wrapping_sub(entries_of[node]),
            );
            let end = entries_of[node] + n;
            entries_of[node + 1] = end;
            let own = entries.get_mut(entries_of[node] as usize..end as usize).ok_or("entries of words")?;
            let mut before = None;
            for entry in own {
                entry.pair = entry_models.pair(c, before, (group, last), n, entry.pair)?;
                entry.cost = entry_models.cost(c, entry.pair, entry.cost);
                before = Some(entry.pair);
            }
        }
        if first[n_nodes] as usize != n_nodes || entries_of[n_nodes] as usize != entries.len() {
            return Err("number of words");
        }
        Ok(())
    }

    /// The entries of a node.
    #[inline]
    pub(crate) fn entries(&self, node: u32) -> &[Entry] {
        let range = self.entries_of[node as usize] as usize..self.entries_of[node as usize + 1] as usize;
        &self.entries[range]
    }
}
