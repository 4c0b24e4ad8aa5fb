//! Pieces with ids, found by text and by id.

/// Pieces in ascending order of their UTF-8 bytes, each with its id. Ids need not be dense.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Vocabulary {
    /// All pieces, one after the other.
    text: String,
    /// Where each piece begins in `text`, and the end.
    starts: Vec<u32>,
    /// Id of each piece.
    ids: Vec<u32>,
    /// Positions of the pieces, by ascending id.
    by_id: Vec<u32>,
}

/// The pieces that begin with what was walked so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    from: usize,
    to: usize,
    /// Bytes walked.
    depth: usize,
}

impl Vocabulary {
    /// Pieces must be non-empty and in strictly ascending order; `None` where they are not, or are longer than 4 GiB together.
    pub(crate) fn new<'a>(pieces: impl IntoIterator<Item = (&'a str, u32)>) -> Option<Self> {
        let mut out = Self { starts: vec![0], ..Self::default() };
        let mut previous = "";
        for (piece, id) in pieces {
            if piece <= previous {
                return None;
            }
            previous = piece;
            out.text.push_str(piece);
            out.starts.push(u32::try_from(out.text.len()).ok()?);
            out.ids.push(id);
        }
        out.by_id = (0..out.ids.len() as u32).collect();
        out.by_id.sort_by_key(|&at| out.ids[at as usize]);
        Some(out)
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// The piece at a position.
    pub(crate) fn piece(&self, at: usize) -> &str {
        match (self.starts.get(at), self.starts.get(at + 1)) {
            (Some(&from), Some(&to)) => &self.text[from as usize..to as usize],
            _ => "",
        }
    }

    /// The id at a position.
    pub(crate) fn id(&self, at: usize) -> u32 {
        self.ids.get(at).copied().unwrap_or(0)
    }

    /// One more than the largest id.
    pub(crate) fn end(&self) -> usize {
        self.by_id.last().map_or(0, |&at| self.ids[at as usize] as usize + 1)
    }

    /// The position of the piece with this id.
    pub(crate) fn position_of(&self, id: u32) -> Option<usize> {
        let at = self.by_id.binary_search_by_key(&id, |&at| self.ids[at as usize]).ok()?;
        Some(self.by_id[at] as usize)
    }

    /// The position of a piece.
    pub(crate) fn position(&self, piece: &str) -> Option<usize> {
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = from.midpoint(to);
            match self.piece(middle).cmp(piece) {
                core::cmp::Ordering::Less => from = middle + 1,
                core::cmp::Ordering::Greater => to = middle,
                core::cmp::Ordering::Equal => return Some(middle),
            }
        }
        None
    }

    /// The id of a piece.
    pub(crate) fn find(&self, piece: &str) -> Option<u32> {
        self.position(piece).map(|at| self.id(at))
    }

    /// All pieces, nothing walked.
    pub(crate) fn walk(&self) -> Walk {
        Walk { from: 0, to: self.len(), depth: 0 }
    }

    /// Goes on by the bytes of one character: `false` where no piece continues so. Narrowing a range of sorted pieces takes the place of a trie,
    /// which would be several times as large as the pieces.
    pub(crate) fn step(&self, walk: &mut Walk, character: &[u8]) -> bool {
        let end = walk.depth + character.len();
        let depth = walk.depth;
        // A piece that ends here compares below any continuation.
        let rest = |at: usize| {
            let piece = self.piece(at).as_bytes();
            &piece[depth..piece.len().min(end)]
        };
        let search = |from: usize, to: usize, below: &dyn Fn(&[u8]) -> bool| {
            let (mut from, mut to) = (from, to);
            while from < to {
                let middle = from.midpoint(to);
                if below(rest(middle)) { from = middle + 1 } else { to = middle }
            }
            from
        };
        walk.from = search(walk.from, walk.to, &|rest| rest < character);
        walk.to = search(walk.from, walk.to, &|rest| rest <= character);
        walk.depth = end;
        walk.from < walk.to
    }

    /// The position of the piece that is exactly what was walked.
    pub(crate) fn here(&self, walk: &Walk) -> Option<usize> {
        (walk.from < walk.to && self.piece(walk.from).len() == walk.depth).then_some(walk.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walking_finds_every_piece_that_begins_a_text() {
        let pieces = ["a", "ab", "abc", "b", "あ", "あい", "い"];
        let vocabulary =
            Vocabulary::new(pieces.iter().zip([7, 3, 9, 1, 0, 4, 2]).map(|(&p, id)| (p, id))).unwrap();
        let prefixes = |text: &str| {
            let (mut walk, mut found) = (vocabulary.walk(), Vec::new());
            for c in text.chars() {
                if !vocabulary.step(&mut walk, c.encode_utf8(&mut [0; 4]).as_bytes()) {
                    break;
                }
                found.extend(vocabulary.here(&walk).map(|at| vocabulary.id(at)));
            }
            found
        };
        assert_eq!(prefixes("abcd"), [7, 3, 9]);
        assert_eq!(prefixes("あう"), [0]);
        assert_eq!(prefixes("うあ"), [0; 0]);
        for (at, piece) in pieces.iter().enumerate() {
            assert_eq!(vocabulary.position(piece), Some(at));
            assert_eq!(vocabulary.position_of(vocabulary.id(at)), Some(at));
        }
        assert_eq!((vocabulary.find("abcd"), vocabulary.position_of(8), vocabulary.end()), (None, None, 10));
        assert!(Vocabulary::new([("b", 0), ("a", 1)]).is_none());
    }
}
