//! A trie in three arrays: nodes in breadth-first order, the children of a node side by side and in ascending order of their labels.

/// Node 0 is the root. Children of node `i` are the nodes `first[i]..first[i + 1]`.
#[derive(Clone, Debug, Default)]
pub struct Trie {
    /// `[n_nodes]` label on the way into a node; of the root unused.
    pub(crate) labels: Vec<u16>,
    /// `[n_nodes + 1]`
    pub(crate) first: Vec<u32>,
}

/// Above this many children the search halves them.
const LINEAR: usize = 12;

impl Trie {
    /// The root.
    pub const ROOT: u32 = 0;

    /// The trie of `keys`, which ascend strictly, and for each key its node.
    pub fn new<K: AsRef<[u16]>>(keys: &[K]) -> (Self, Vec<u32>) {
        let mut trie = Self { labels: vec![0], first: vec![] };
        let mut nodes = vec![0; keys.len()];
        let mut waiting = std::collections::VecDeque::from([(0, keys.len(), 0)]);
        let mut node = 0;
        while let Some((mut from, to, depth)) = waiting.pop_front() {
            trie.first.push(trie.labels.len() as u32);
            if from < to && keys[from].as_ref().len() == depth {
                nodes[from] = node;
                from += 1;
            }
            while from < to {
                let label = keys[from].as_ref()[depth];
                let end = from + keys[from..to].partition_point(|key| key.as_ref()[depth] == label);
                trie.labels.push(label);
                waiting.push_back((from, end, depth + 1));
                from = end;
            }
            node += 1;
        }
        trie.first.push(trie.labels.len() as u32);
        (trie, nodes)
    }

    /// The child of `node` by `label`.
    #[inline]
    pub fn child(&self, node: u32, label: u16) -> Option<u32> {
        let from = *self.first.get(node as usize)?;
        let to = *self.first.get(node as usize + 1)?;
        let labels = self.labels.get(from as usize..to as usize)?;
        let at = if labels.len() <= LINEAR {
            labels.iter().position(|&l| l == label)?
        } else {
            labels.binary_search(&label).ok()?
        };
        Some(from + at as u32)
    }

    /// Nodes, the root included.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.labels.len() <= 1
    }
}

#[cfg(test)]
mod tests {
    use super::Trie;

    #[test]
    fn keys_are_found_at_their_nodes_and_nothing_else_is() {
        let words = ["", "a", "ab", "abc", "b", "東", "東京", "東京都"];
        let keys: Vec<Vec<u16>> = words.iter().map(|w| w.encode_utf16().collect()).collect();
        let (trie, nodes) = Trie::new(&keys);
        for (key, &node) in keys.iter().zip(&nodes) {
            let found = key.iter().try_fold(Trie::ROOT, |at, &label| trie.child(at, label));
            assert_eq!(found, Some(node));
        }
        assert_eq!(trie.len(), 8, "every prefix is a key");
        assert_eq!(trie.child(Trie::ROOT, u16::from(b'c')), None);
        assert_eq!(trie.child(nodes[3], 0), None);
        assert_eq!(trie.child(99, 0), None);
    }

    #[test]
    fn wide_nodes_are_searched_too() {
        let keys: Vec<[u16; 1]> = (0..1000).map(|i| [i * 3]).collect();
        let (trie, nodes) = Trie::new(&keys);
        for (key, &node) in keys.iter().zip(&nodes) {
            assert_eq!(trie.child(Trie::ROOT, key[0]), Some(node));
            assert_eq!(trie.child(Trie::ROOT, key[0] + 1), None);
        }
    }
}
