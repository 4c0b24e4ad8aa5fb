//! WordPiece (Schuster and Nakajima 2012; as BERT uses it): the longest piece from the left, again and again; continuing pieces are marked with `##`.

use shirube_segment::Trie;

/// In place of an id: no piece ends at this node.
const NO_PIECE: u32 = u32::MAX;

/// A vocabulary by id, with a trie over the UTF-16 units of its pieces, `##` included.
#[derive(Clone, Debug)]
pub(crate) struct WordPiece {
    /// All pieces, one after the other, by id.
    text: String,
    /// `[n_pieces + 1]` where each piece begins.
    starts: Vec<u32>,
    trie: Trie,
    /// `[n_nodes]` the piece that ends at a node.
    piece_of: Vec<u32>,
    /// The node after `##`.
    continuing: Option<u32>,
    /// Words of more characters than this are unknown.
    pub(crate) longest_word: usize,
}

impl WordPiece {
    /// Pieces by id. Of equal ones the last counts, as in transformers; empty ones are never matched.
    pub(crate) fn new(text: String, starts: Vec<u32>, longest_word: usize) -> Self {
        let piece = |id: usize| &text[starts[id] as usize..starts[id + 1] as usize];
        let mut keys: Vec<(Vec<u16>, u32)> = (0..starts.len() - 1)
            .filter(|&id| !piece(id).is_empty())
            .map(|id| (piece(id).encode_utf16().collect(), id as u32))
            .collect();
        keys.sort_unstable();
        let mut units: Vec<Vec<u16>> = Vec::with_capacity(keys.len());
        let mut ids: Vec<u32> = Vec::with_capacity(keys.len());
        for (key, id) in keys {
            match ids.last_mut() {
                Some(last) if units.last() == Some(&key) => *last = id,
                _ => {
                    units.push(key);
                    ids.push(id);
                }
            }
        }
        let (trie, nodes) = Trie::new(&units);
        let mut piece_of = vec![NO_PIECE; trie.len()];
        for (node, id) in nodes.into_iter().zip(ids) {
            piece_of[node as usize] = id;
        }
        let hash = |node| trie.child(node, u16::from(b'#'));
        let continuing = hash(Trie::ROOT).and_then(hash);
        Self { text, starts, trie, piece_of, continuing, longest_word }
    }

    /// Pieces.
    pub(crate) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// A piece by id.
    pub(crate) fn piece(&self, id: u32) -> Option<&str> {
        let id = id as usize;
        let range = *self.starts.get(id)? as usize..*self.starts.get(id + 1)? as usize;
        self.text.get(range)
    }

    /// The id of a piece.
    pub(crate) fn find(&self, piece: &str) -> Option<u32> {
        let node = piece.encode_utf16().try_fold(Trie::ROOT, |node, unit| self.trie.child(node, unit))?;
        Some(self.piece_of[node as usize]).filter(|&id| id != NO_PIECE)
    }

    /// Calls `each` with the pieces of `word`: id, first character and the one after the last. Returns `false`, having called
    /// nothing, where the word is too long or not made of pieces.
    pub(crate) fn split(&self, word: &str, pieces: &mut Vec<(u32, usize, usize)>) -> bool {
        pieces.clear();
        let n = word.chars().count();
        if n > self.longest_word {
            return false;
        }
        let (mut at, mut rest, mut node) = (0, word, Some(Trie::ROOT));
        while at < n {
            let mut longest = None;
            let mut units = [0; 2];
            for (i, c) in rest.chars().enumerate() {
                let units = c.encode_utf16(&mut units);
                node =
                    units.iter().try_fold(node, |node, &unit| Some(self.trie.child(node?, unit))).flatten();
                let Some(node) = node else { break };
                let id = self.piece_of[node as usize];
                if id != NO_PIECE {
                    longest = Some((id, i + 1));
                }
            }
            let Some((id, length)) = longest else { return false };
            pieces.push((id, at, at + length));
            at += length;
            rest = rest.char_indices().nth(length).map_or("", |(byte, _)| &rest[byte..]);
            node = self.continuing;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::WordPiece;

    fn sample() -> WordPiece {
        let mut text = String::new();
        let mut starts = vec![0];
        for piece in
            ["[UNK]", "", "東", "東京", "##京", "##都", "un", "##aff", "##able", "##x", "#", "##", "東"]
        {
            text += piece;
            starts.push(text.len() as u32);
        }
        WordPiece::new(text, starts, 10)
    }

    fn ids(word: &str) -> Option<Vec<u32>> {
        let mut pieces = Vec::new();
        sample().split(word, &mut pieces).then(|| pieces.iter().map(|p| p.0).collect())
    }

    #[test]
    fn the_longest_piece_is_taken_from_the_left() {
        assert_eq!(ids("東京都"), Some(vec![3, 5]));
        assert_eq!(ids("unaffable"), Some(vec![6, 7, 8]));
        assert_eq!(ids("東都"), Some(vec![12, 5]), "of equal pieces the last counts");
    }

    #[test]
    fn a_word_that_is_not_made_of_pieces_or_too_long_is_unknown() {
        assert_eq!(ids("都"), None, "a continuing piece begins no word");
        assert_eq!(ids("東x京y"), None);
        assert_eq!(ids(&format!("東京{}", "都".repeat(8))).map(|ids| ids.len()), Some(9));
        assert_eq!(ids(&format!("東京{}", "都".repeat(9))), None);
    }

    #[test]
    fn marks_in_the_text_match_marked_pieces_as_in_transformers() {
        assert_eq!(ids("##x"), Some(vec![9]));
        assert_eq!(ids("##"), Some(vec![11]));
    }

    #[test]
    fn pieces_are_found_by_id_and_by_text() {
        let pieces = sample();
        assert_eq!((pieces.len(), pieces.piece(3), pieces.piece(13)), (13, Some("東京"), None));
        assert_eq!((pieces.find("##aff"), pieces.find("##af"), pieces.find("")), (Some(7), None, None));
    }
}
