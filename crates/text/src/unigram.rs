//! Unigram segmentation (Kudo 2018, "Subword Regularization", section 3.1): the split with the highest sum of scores.
//!
//! Scores are whole numbers of steps, so sums are exact and every target finds the same split. Between equal sums the split
//! whose last piece begins earlier is taken, as in the crate `tokenizers`. A character that is no piece costs
//! [`UNKNOWN_NATS`] more than the rarest piece.

use std::ops::Range;

/// Cost of an unknown character above the rarest piece, in nats.
const UNKNOWN_NATS: u64 = 10;

const NO_PIECE: u32 = u32::MAX;

/// Pieces with costs and a trie over their characters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unigram {
    /// All pieces, one after the other.
    text: String,
    /// Where each piece begins in `text`, and the end.
    starts: Vec<u32>,
    /// Negative scores in steps.
    costs: Vec<u16>,
    steps_per_nat: u16,
    unknown_cost: u64,
    nodes: Vec<Node>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    label: char,
    /// The piece that ends here.
    piece: u32,
    /// Children: nodes `first_child..first_child + n_children`, by ascending label.
    first_child: u32,
    n_children: u32,
}

/// The best way to reach one position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Best {
    cost: u64,
    /// Character where the last piece begins.
    from: u32,
    piece: u32,
    /// Byte position.
    at: u32,
}

impl Unigram {
    /// Pieces must be non-empty and in strictly ascending order; `starts` has one entry more than there are pieces.
    pub(crate) fn new(text: String, starts: Vec<u32>, costs: Vec<u16>, steps_per_nat: u16) -> Self {
        let max_cost = costs.iter().copied().max().unwrap_or(0);
        let unknown_cost = u64::from(max_cost) + UNKNOWN_NATS * u64::from(steps_per_nat);
        let mut unigram = Self { text, starts, costs, steps_per_nat, unknown_cost, nodes: Vec::new() };
        unigram.build_trie();
        unigram
    }

    fn build_trie(&mut self) {
        let root = Node { label: '\0', piece: NO_PIECE, first_child: 0, n_children: 0 };
        self.nodes = vec![root];
        // (node, its pieces, bytes of them that lead to the node), breadth first: children of a node end up side by side.
        let mut queue = std::collections::VecDeque::from([(0usize, 0..self.len(), 0usize)]);
        while let Some((node, mut pieces, depth)) = queue.pop_front() {
            if self.piece(pieces.start).is_some_and(|piece| piece.len() == depth && depth > 0) {
                self.nodes[node].piece = pieces.start as u32;
                pieces.start += 1;
            }
            self.nodes[node].first_child = self.nodes.len() as u32;
            let mut from = pieces.start;
            while from < pieces.end {
                let Some(label) = self.label(from, depth) else { break };
                let to =
                    (from..pieces.end).find(|&p| self.label(p, depth) != Some(label)).unwrap_or(pieces.end);
                queue.push_back((self.nodes.len(), from..to, depth + label.len_utf8()));
                self.nodes.push(Node { label, piece: NO_PIECE, first_child: 0, n_children: 0 });
                self.nodes[node].n_children += 1;
                from = to;
            }
        }
    }

    fn label(&self, piece: usize, depth: usize) -> Option<char> {
        self.piece(piece)?.get(depth..)?.chars().next()
    }

    pub(crate) fn len(&self) -> usize {
        self.costs.len()
    }

    pub(crate) fn piece(&self, at: usize) -> Option<&str> {
        let (&from, &to) = (self.starts.get(at)?, self.starts.get(at + 1)?);
        self.text.get(from as usize..to as usize)
    }

    pub(crate) fn cost(&self, at: usize) -> u16 {
        self.costs.get(at).copied().unwrap_or(0)
    }

    pub(crate) fn steps_per_nat(&self) -> u16 {
        self.steps_per_nat
    }

    pub(crate) fn find(&self, piece: &str) -> Option<u32> {
        let mut node = self.nodes.first()?;
        for c in piece.chars() {
            node = self.child(node, c)?;
        }
        (node.piece != NO_PIECE).then_some(node.piece)
    }

    fn child(&self, node: &Node, label: char) -> Option<&Node> {
        let first = node.first_child as usize;
        let children = self.nodes.get(first..first + node.n_children as usize)?;
        children.binary_search_by_key(&label, |child| child.label).ok().map(|at| &children[at])
    }

    /// Calls `each` for every token of the best split, in order: the piece and the character after it, or `None` for one
    /// unknown character; the character where it begins; its bytes. `lattice` is working memory.
    pub(crate) fn split(
        &self,
        segment: &str,
        lattice: &mut Vec<Best>,
        mut each: impl FnMut(Option<(u32, usize)>, usize, Range<usize>),
    ) {
        if segment.is_empty() {
            return;
        }
        lattice.clear();
        let unreached = Best { cost: u64::MAX, from: 0, piece: NO_PIECE, at: 0 };
        lattice.extend(segment.char_indices().map(|(at, _)| Best { at: at as u32, ..unreached }));
        lattice.push(Best { at: segment.len() as u32, ..unreached });
        let n = lattice.len() - 1;
        lattice[0].cost = 0;
        let Some(root) = self.nodes.first() else { return };
        for from in 0..n {
            let Best { cost: base, at, .. } = lattice[from];
            let mut reach = |to: usize, cost: u64, piece: u32| {
                if base + cost < lattice[to].cost {
                    lattice[to] = Best { cost: base + cost, from: from as u32, piece, ..lattice[to] };
                }
            };
            let mut node = root;
            let mut single = false;
            for (length, c) in segment[at as usize..].chars().enumerate() {
                let Some(next) = self.child(node, c) else { break };
                node = next;
                if node.piece != NO_PIECE {
                    single |= length == 0;
                    reach(from + length + 1, u64::from(self.costs[node.piece as usize]), node.piece);
                }
            }
            if !single {
                reach(from + 1, self.unknown_cost, NO_PIECE);
            }
        }
        // Walk back, turning the links around: `from` becomes the position after.
        let (mut at, mut after) = (n, (n, NO_PIECE));
        while at > 0 {
            let Best { from, piece, .. } = lattice[at];
            lattice[at].from = after.0 as u32;
            lattice[at].piece = after.1;
            after = (at, piece);
            at = from as usize;
        }
        let (mut from, (mut to, mut piece)) = (0, after);
        while from < n {
            let bytes = lattice[from].at as usize..lattice[to].at as usize;
            each((piece != NO_PIECE).then_some((piece, to)), from, bytes);
            from = to;
            (to, piece) = (lattice[from].from as usize, lattice[from].piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_character_costs_ten_nats_more_than_the_rarest_piece() {
        let pieces = [("ab", 30), ("bc", 1), ("c", 6)];
        let mut starts = vec![0];
        pieces.iter().for_each(|(piece, _)| starts.push(starts[starts.len() - 1] + piece.len() as u32));
        let text = pieces.iter().map(|(piece, _)| *piece).collect();
        let unigram = Unigram::new(text, starts, pieces.iter().map(|&(_, cost)| cost).collect(), 1);
        let split = |text: &str| {
            let mut found = Vec::new();
            unigram.split(text, &mut Vec::new(), |piece, _, bytes| {
                found.push((piece.is_some(), text[bytes].to_owned()));
            });
            found
        };
        // ab c costs 36, (a) bc 40 + 1.
        assert_eq!(split("abc"), [(true, "ab".to_owned()), (true, "c".to_owned())]);
        assert_eq!(split("abbc"), [(true, "ab".to_owned()), (true, "bc".to_owned())]);
        assert_eq!(split("ac"), [(false, "a".to_owned()), (true, "c".to_owned())]);
        assert!(split("").is_empty());
    }
}
