//! Character categories: what MeCab's `char.bin` says of every code point.

/// What a character allows, from one word of `char.bin`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Character(pub(crate) u32);

impl Character {
    /// One bit for each category the character is in.
    pub(crate) fn kinds(self) -> u32 {
        self.0 & 0x3_ffff
    }

    /// The category whose unknown words it begins.
    pub(crate) fn category(self) -> usize {
        (self.0 >> 18 & 0xff) as usize
    }

    /// Unknown words of one to this many characters are tried.
    pub(crate) fn length(self) -> usize {
        (self.0 >> 26 & 0xf) as usize
    }

    /// Whether a run of kindred characters is tried as one unknown word.
    pub(crate) fn group(self) -> bool {
        self.0 >> 30 & 1 == 1
    }

    /// Whether unknown words are tried where the dictionary has words, too.
    pub(crate) fn invoke(self) -> bool {
        self.0 >> 31 == 1
    }

    /// Whether the two share a category.
    pub(crate) fn is_kind_of(self, other: Self) -> bool {
        self.kinds() & other.kinds() != 0
    }
}

/// Entries of `char.bin`.
pub(crate) const N_CHARACTERS: usize = 0xffff;

/// The table of `char.bin`, and how MeCab looks beyond its end.
#[derive(Clone, Debug)]
pub(crate) struct Characters {
    /// `[N_CHARACTERS]`
    pub(crate) table: Vec<u32>,
}

impl Characters {
    /// MeCab reads text as UCS-2: what does not fit counts as U+0000. For U+FFFF it reads one word past the table, where the
    /// mapped page holds zeros.
    #[inline]
    pub(crate) fn of(&self, c: char) -> Character {
        match c as usize {
            0xffff => Character(0),
            at => Character(self.table.get(at).or(self.table.first()).copied().unwrap_or(0)),
        }
    }
}
