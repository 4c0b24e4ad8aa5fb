//! From text to terms.

use shirube_text::{Normalizer, Rules, Script, Tokenizer, script_runs};
use std::sync::Arc;

/// Words are cut here: nobody types longer ones, and files hold terms of this length at most.
const MAX_WORD_BYTES: usize = shirube_format::bundle::MAX_TERM_BYTES;

/// How a text becomes terms, for documents and queries alike.
#[derive(Clone, Debug)]
pub enum Analyzer {
    /// Character bigrams of runs of kanji and kana (a character alone is a term), whole words of Latin letters and whole
    /// numbers; other characters are no terms. Where a run touches a word or number, the two characters that meet are a bigram
    /// too: 2024年 is `2024` and `4年` (R@1 on JSQuAD .911 with it, .908 without). Needs no dictionary.
    Bigrams(Normalizer),
    /// Those bigrams, and every kanji by itself: a kanji carries meaning of its own, so 開設 and 設置 meet in 設, and a compound meets
    /// its abbreviation. R@1 over bigrams alone rises from .862 to .879 on JaQuAD dev, from .912 to .920 on JSQuAD
    /// (docs/training.md); the postings grow by about two fifths.
    Grams(Normalizer),
    /// Pieces of a tokenizer: words or parts of words.
    Pieces(Pieces),
}

/// A tokenizer behind a pointer: who never makes one, as a module that searches by words, need not carry every kind of tokenizer.
#[derive(Clone)]
pub struct Pieces(Arc<Encode>);

/// Text to ids of pieces.
type Encode = dyn Fn(&str) -> Vec<u32> + Send + Sync;

impl core::fmt::Debug for Pieces {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Pieces")
    }
}

/// One term.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Term {
    /// One or two characters of a run; the second is `None` for a run of one.
    Gram(char, Option<char>),
    /// A word of Latin letters or a number.
    Word(String),
    /// A piece of a tokenizer, by id.
    Piece(u32),
}

impl Analyzer {
    /// Bigrams on text normalised by `shirube-1`.
    pub fn bigrams() -> Self {
        Self::Bigrams(Normalizer::new(Rules::Shirube1))
    }

    /// Bigrams and single kanji of text normalised by `shirube-1`: what sites are searched by.
    pub fn grams() -> Self {
        Self::Grams(Normalizer::new(Rules::Shirube1))
    }

    /// Pieces of `tokenizer`.
    pub fn pieces(tokenizer: Tokenizer) -> Self {
        Self::Pieces(Pieces(Arc::new(move |text| tokenizer.encode(text).ids)))
    }

    /// The normaliser of an analysis whose queries are also looked for in other spellings: that of [`Self::Grams`].
    pub(crate) fn spells(&self) -> Option<&Normalizer> {
        match self {
            Self::Grams(normalizer) => Some(normalizer),
            _ => None,
        }
    }

    /// Unbroken stretches of kanji, kana, letters and digits in a normalised text, in bytes.
    pub(crate) fn runs(text: &str) -> impl Iterator<Item = core::ops::Range<usize>> {
        let mut runs: Vec<core::ops::Range<usize>> = Vec::new();
        for segment in script_runs(text).filter(|s| is_kana(s.script) || is_word(s.script)) {
            match runs.last_mut() {
                Some(last) if last.end == segment.bytes.start => last.end = segment.bytes.end,
                _ => runs.push(segment.bytes),
            }
        }
        runs.into_iter()
    }

    /// Calls `each` with every term of `text`, repetitions included, in order.
    pub fn terms(&self, text: &str, mut each: impl FnMut(Term)) {
        match self {
            Self::Pieces(pieces) => pieces.0(text).into_iter().for_each(|id| each(Term::Piece(id))),
            Self::Bigrams(normalizer) | Self::Grams(normalizer) => {
                let text = normalizer.normalize(text).text;
                let singles = matches!(self, Self::Grams(_));
                let mut run = Run::default();
                for segment in script_runs(&text) {
                    let (kana, word) = (is_kana(segment.script), is_word(segment.script));
                    if !(kana || word) {
                        continue;
                    }
                    if segment.bytes.start != run.end {
                        run.finish(&mut each);
                    }
                    run.end = segment.bytes.end;
                    let text = &text[segment.bytes];
                    if kana {
                        // Runs go on across kanji and kana: 読み込み is one run.
                        let single = singles && segment.script == Script::Han;
                        text.chars().for_each(|c| run.push(c, single, &mut each));
                    } else {
                        run.word(text, &mut each);
                    }
                }
                run.finish(&mut each);
            }
        }
    }
}

fn is_kana(script: Script) -> bool {
    matches!(script, Script::Han | Script::Hiragana | Script::Katakana)
}

fn is_word(script: Script) -> bool {
    matches!(script, Script::Latin | Script::Digit)
}

/// A run of kanji, kana and words without anything between them.
#[derive(Default)]
struct Run {
    last: Option<char>,
    last_is_word: bool,
    /// Whether the last character was a term by itself already.
    last_is_single: bool,
    n_grams: usize,
    /// Byte after the run so far.
    end: usize,
}

impl Run {
    fn gram(&mut self, c: char, each: &mut impl FnMut(Term)) {
        if let Some(last) = self.last {
            each(Term::Gram(last, Some(c)));
            self.n_grams += 1;
        }
    }

    fn push(&mut self, c: char, single: bool, each: &mut impl FnMut(Term)) {
        self.gram(c, each);
        if single {
            each(Term::Gram(c, None));
        }
        self.last = Some(c);
        self.last_is_word = false;
        self.last_is_single = single;
    }

    fn word(&mut self, word: &str, each: &mut impl FnMut(Term)) {
        if !self.last_is_word
            && let Some(first) = word.chars().next()
        {
            self.gram(first, each);
        }
        let cut = (0..=MAX_WORD_BYTES.min(word.len())).rev().find(|&i| word.is_char_boundary(i)).unwrap_or(0);
        each(Term::Word(word[..cut].to_owned()));
        self.last = word.chars().next_back();
        self.last_is_word = true;
        self.last_is_single = false;
    }

    fn finish(&mut self, each: &mut impl FnMut(Term)) {
        if let (0, false, false, Some(only)) =
            (self.n_grams, self.last_is_word, self.last_is_single, self.last)
        {
            each(Term::Gram(only, None));
        }
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bigrams(text: &str) -> Vec<String> {
        terms(&Analyzer::bigrams(), text)
    }

    fn terms(analyzer: &Analyzer, text: &str) -> Vec<String> {
        let mut terms = Vec::new();
        analyzer.terms(text, |term| {
            terms.push(match term {
                Term::Gram(a, b) => a.to_string() + &b.map(String::from).unwrap_or_default(),
                Term::Word(word) => word,
                Term::Piece(id) => id.to_string(),
            });
        });
        terms
    }

    #[test]
    fn runs_of_kanji_and_kana_give_bigrams_and_lone_characters_themselves() {
        assert_eq!(bigrams("読み込み"), ["読み", "み込", "込み"]);
        assert_eq!(bigrams("木、ＪＲの駅2024年"), ["木", "jr", "rの", "の駅", "駅2", "2024", "4年"]);
        assert_eq!(bigrams("v8 engine"), ["v", "8", "engine"]);
        assert_eq!(bigrams("東 京"), ["東", "京"]);
        assert_eq!(bigrams("🍣!? "), Vec::<String>::new());
    }

    #[test]
    fn grams_add_every_kanji_by_itself_once() {
        let grams = |text| terms(&Analyzer::grams(), text);
        assert_eq!(grams("読み込み"), ["読", "読み", "み込", "込", "込み"]);
        assert_eq!(grams("木、カナ"), ["木", "カナ"]);
        assert_eq!(grams("木木"), ["木", "木木", "木"]);
        assert_eq!(grams("東 京x"), ["東", "京", "京x", "x"]);
    }
}
