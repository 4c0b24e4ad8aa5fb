//! Cutting normalised text where its script changes.
//!
//! Japanese changes script at most word borders that matter to search; a tokenizer that cannot cross them finds a noun
//! inside a sentence as the same tokens as alone. The way not taken: a morphological analyser, 5 MB of dictionary.

use crate::TextError;
use crate::rules::is_blank;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// How a normalised text is cut before it is tokenised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Segmenter {
    /// One segment.
    None,
    /// Runs of one script.
    Script,
    /// Words by MeCab's lattice over a dictionary file.
    Mecab,
}

impl Segmenter {
    /// The name stored in files: `none`, `script` or `mecab`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Script => "script",
            Self::Mecab => "mecab",
        }
    }

    /// The segmenter called `name`.
    ///
    /// # Errors
    /// [`TextError::UnknownSegmenter`] for a name this build does not know.
    pub fn from_name(name: &str) -> Result<Self, TextError> {
        match name {
            "none" => Ok(Self::None),
            "script" => Ok(Self::Script),
            "mecab" => Ok(Self::Mecab),
            _ => Err(TextError::UnknownSegmenter { name: name.chars().take(40).collect() }),
        }
    }
}

/// The classes whose runs stay together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Script {
    /// Kanji and 々〆〇.
    Han,
    /// Hiragana; ー belongs to a run that it follows.
    Hiragana,
    /// Katakana and ー.
    Katakana,
    /// Latin letters, with diacritics.
    Latin,
    /// ASCII digits.
    Digit,
    /// Blanks: they separate and are dropped.
    Blank,
    /// Anything else, each character alone.
    Other,
}

/// The class of `c`. The ranges are spelled out, not taken from Unicode tables, so that a new Unicode version moves no border.
pub fn script(c: char) -> Script {
    match c {
        '\u{4e00}'..='\u{9fff}'
        | '々'
        | '〆'
        | '〇'
        | '\u{3400}'..='\u{4dbf}'
        | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}' => Script::Han,
        'ぁ'..='ゖ' | 'ゝ' | 'ゞ' => Script::Hiragana,
        'ァ'..='ヺ' | 'ー'..='ヾ' | 'ㇰ'..='ㇿ' => Script::Katakana,
        'a'..='z' | 'A'..='Z' | 'À'..='Ö' | 'Ø'..='ö' | 'ø'..='ɏ' | 'Ḁ'..='ỿ' => Script::Latin,
        '0'..='9' => Script::Digit,
        c if is_blank(c) => Script::Blank,
        _ => Script::Other,
    }
}

/// The same cut as a regular expression (Oniguruma and Rust's `regex` syntax): its matches are the segments, what lies
/// between them is blank. `tokenizer.json` holds it.
pub fn script_pattern() -> String {
    let han = "\u{3400}-\u{4dbf}\u{4e00}-\u{9fff}々〆〇\u{f900}-\u{faff}\u{20000}-\u{3ffff}";
    format!(
        "[ぁ-ゖゝゞ][ぁ-ゖゝゞー]*|[ァ-ヺー-ヾㇰ-ㇿ]+|[{han}]+|[a-zA-ZÀ-ÖØ-öø-ɏḀ-ỿ]+|[0-9]+|[^\t-\r \u{85}\u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}]"
    )
}

/// One segment of a normalised text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its bytes in the normalised text.
    pub bytes: Range<usize>,
    /// The index of its first character in the normalised text.
    pub first_char: usize,
    /// Its class; [`Script::Other`] for a whole text.
    pub script: Script,
}

/// The script runs of `text`, blanks left out.
pub fn script_runs(text: &str) -> impl Iterator<Item = Segment> + '_ {
    let mut chars = text.char_indices().enumerate().peekable();
    core::iter::from_fn(move || {
        loop {
            let (first_char, (start, c)) = chars.next()?;
            let class = script(c);
            if class == Script::Blank {
                continue;
            }
            let mut end = start + c.len_utf8();
            if class != Script::Other {
                while let Some((_, (at, c))) =
                    chars.next_if(|&(_, (_, c))| script(c) == class || class == Script::Hiragana && c == 'ー')
                {
                    end = at + c.len_utf8();
                }
            }
            return Some(Segment { bytes: start..end, first_char, script: class });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_where_the_script_changes() {
        let text = "らーめんとラーメンABC12年々、。x é〇";
        let runs: Vec<&str> = script_runs(text).map(|run| &text[run.bytes]).collect();
        assert_eq!(runs, ["らーめんと", "ラーメン", "ABC", "12", "年々", "、", "。", "x", "é", "〇"]);
    }

    #[test]
    fn names_of_segmenters_lead_back_to_them() {
        for segmenter in [Segmenter::None, Segmenter::Script, Segmenter::Mecab] {
            assert_eq!(Segmenter::from_name(segmenter.name()).ok(), Some(segmenter));
        }
        assert!(matches!(Segmenter::from_name("words"), Err(TextError::UnknownSegmenter { .. })));
    }
}
