//! Normalisation with offsets.
//!
//! Decomposition, ordering and composition are done here (UAX #15) on characters that carry their source range, with
//! ICU4X's tables; rules that touch letters sit between decomposition and composition, so that the result is NFKC too.
//! The way not taken: normalise whole strings and align afterwards, which is ambiguous where characters are dropped.

use crate::TextError;
use crate::rules;
use icu_normalizer::DecomposingNormalizerBorrowed;
use icu_normalizer::properties::{CanonicalCombiningClassMapBorrowed, CanonicalCompositionBorrowed};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Which rules a text is normalised by; stored in every model and index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Rules {
    /// NFKC and the first version of our rule table (module `rules`): the default model.
    #[serde(rename = "shirube-1")]
    Shirube1,
    /// NFKC alone, for models trained that way.
    #[serde(rename = "nfkc")]
    Nfkc,
}

impl Rules {
    /// The name stored in files: `shirube-1` or `nfkc`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shirube1 => "shirube-1",
            Self::Nfkc => "nfkc",
        }
    }

    /// The rules called `name`.
    ///
    /// # Errors
    /// [`TextError::UnknownNormalizer`] for a name this build does not know.
    pub fn from_name(name: &str) -> Result<Self, TextError> {
        match name {
            "shirube-1" => Ok(Self::Shirube1),
            "nfkc" => Ok(Self::Nfkc),
            _ => Err(TextError::UnknownNormalizer { name: name.chars().take(40).collect() }),
        }
    }
}

/// A byte range of the original text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Byte after the last.
    pub end: u32,
}

impl Span {
    /// As a range for slicing the original text.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A normalised text and where each of its characters comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Normalized {
    /// The normalised text.
    pub text: String,
    /// For each character of `text`, its bytes in the original text. Starts and ends never go back; one original
    /// character can be the source of several (㍿), several of one (か and a combining dakuten).
    pub spans: Vec<Span>,
}

/// Normalises text by fixed rules.
///
/// ```
/// use shirube_text::{Normalizer, Rules};
/// let normalized = Normalizer::new(Rules::Shirube1).normalize("ﾊﾟｿｺﾝ　ＡＢＣ");
/// assert_eq!(normalized.text, "パソコン abc");
/// assert_eq!(normalized.spans[0].range(), 0..6); // ﾊ and ﾟ
/// ```
#[derive(Debug)]
pub struct Normalizer {
    rules: Rules,
    /// Decomposed characters are composed again: not in NFD and NFKD.
    compose: bool,
    decomposition: DecomposingNormalizerBorrowed<'static>,
    compositions: CanonicalCompositionBorrowed<'static>,
    classes: CanonicalCombiningClassMapBorrowed<'static>,
}

impl Clone for Normalizer {
    fn clone(&self) -> Self {
        Self::new(self.rules)
    }
}

/// A character and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tagged {
    pub(crate) c: char,
    pub(crate) span: Span,
}

/// A normal form of UAX #15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Form {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
}

impl Normalizer {
    /// A normaliser for `rules`; the tables are static data.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            compose: true,
            decomposition: icu_normalizer::DecomposingNormalizer::new_nfkd(),
            compositions: CanonicalCompositionBorrowed::new(),
            classes: CanonicalCombiningClassMapBorrowed::new(),
        }
    }

    /// `text` in a normal form; `source` turns bytes of `text` into the range that is kept.
    pub(crate) fn in_form(form: Form, text: &str, source: impl Fn(Span) -> Span) -> Vec<Tagged> {
        let mut normalizer = Self::new(Rules::Nfkc);
        normalizer.compose = matches!(form, Form::Nfc | Form::Nfkc);
        if matches!(form, Form::Nfc | Form::Nfd) {
            normalizer.decomposition = icu_normalizer::DecomposingNormalizer::new_nfd();
        }
        let mut out = normalizer.normal_form(text);
        out.iter_mut().for_each(|t| t.span = source(t.span));
        out
    }

    /// The rules in use.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// The normalised form of `text`, in time linear in its length (up to the ordering of long runs of combining marks).
    ///
    /// Offsets are 32-bit: of a text longer than 4 GiB only the beginning is taken.
    pub fn normalize(&self, text: &str) -> Normalized {
        let composed = self.normal_form(text);
        match self.rules {
            Rules::Nfkc => finish(composed.into_iter()),
            Rules::Shirube1 => finish(apply_runs(&composed).into_iter()),
        }
    }

    /// Rules 1 and 2: composed characters with their source.
    fn normal_form(&self, text: &str) -> Vec<Tagged> {
        let own_rules = self.rules == Rules::Shirube1;
        let mut out: Vec<Tagged> = Vec::with_capacity(text.len() / 3 + 8);
        // Combining marks since the last starter, waiting to be ordered.
        let mut marks: Vec<(u8, Tagged)> = Vec::new();
        let mut starter: Option<Tagged> = None;
        for (at, c) in text.char_indices() {
            let (Ok(start), Ok(end)) = (u32::try_from(at), u32::try_from(at + c.len_utf8())) else { break };
            let span = Span { start, end };
            if (self.compose && is_inert(c)) || (own_rules && matches!(c, '゛' | '゜')) {
                self.flush(&mut out, &mut starter, &mut marks);
                let c = match (own_rules, c) {
                    (true, 'A'..='Z') => c.to_ascii_lowercase(),
                    (true, '\u{4e00}'..='\u{9fff}') => rules::modern_kanji(c),
                    _ => c,
                };
                starter = Some(Tagged { c, span });
                continue;
            }
            if own_rules && rules::is_invisible(c) {
                continue;
            }
            for d in self.decomposition.normalize_iter(core::iter::once(c)) {
                let d = if own_rules { map_letter(d) } else { d };
                let class = self.classes.get_u8(d);
                if class != 0 {
                    marks.push((class, Tagged { c: d, span }));
                    continue;
                }
                if !self.compose {
                    self.flush(&mut out, &mut starter, &mut marks);
                    starter = Some(Tagged { c: d, span });
                    continue;
                }
                // A starter may still compose with the one before (Hangul, some Indic vowels).
                match starter {
                    Some(previous) if marks.is_empty() => match self.compositions.compose(previous.c, d) {
                        Some(c) => starter = Some(Tagged { c, span: join(previous.span, span) }),
                        None => {
                            out.push(previous);
                            starter = Some(Tagged { c: d, span });
                        }
                    },
                    _ => {
                        // Marks that all compose into the starter leave nothing between it and this one.
                        let at = out.len();
                        self.flush(&mut out, &mut starter, &mut marks);
                        match out.get(at).copied() {
                            Some(previous) if out.len() == at + 1 && self.classes.get_u8(previous.c) == 0 => {
                                match self.compositions.compose(previous.c, d) {
                                    Some(c) => {
                                        out.pop();
                                        starter = Some(Tagged { c, span: join(previous.span, span) });
                                    }
                                    None => starter = Some(Tagged { c: d, span }),
                                }
                            }
                            _ => starter = Some(Tagged { c: d, span }),
                        }
                    }
                }
            }
        }
        self.flush(&mut out, &mut starter, &mut marks);
        out
    }

    /// Orders `marks`, composes them into `starter` and appends the result to `out`.
    fn flush(&self, out: &mut Vec<Tagged>, starter: &mut Option<Tagged>, marks: &mut Vec<(u8, Tagged)>) {
        if !marks.is_empty() && !marks.is_sorted_by_key(|&(class, _)| class) {
            // Reordered marks share one range: each alone could point backwards.
            let span = marks.iter().map(|&(_, mark)| mark.span).reduce(join).unwrap_or_default();
            marks.iter_mut().for_each(|(_, mark)| mark.span = span);
            marks.sort_by_key(|&(class, _)| class);
        }
        if let Some(mut base) = starter.take() {
            // The class of the last mark that stayed; one of the same class blocks composition.
            let mut last_class = 0;
            marks.retain(|&(class, mark)| {
                if self.compose
                    && last_class < class
                    && let Some(c) = self.compositions.compose(base.c, mark.c)
                {
                    base = Tagged { c, span: join(base.span, mark.span) };
                    return false;
                }
                last_class = class;
                true
            });
            out.push(base);
        }
        out.extend(marks.drain(..).map(|(_, mark)| mark));
    }
}

/// Characters that NFKC leaves alone, that no decomposition contains in another form and that open a new segment: the bulk
/// of Japanese text goes this way without a table look-up.
fn is_inert(c: char) -> bool {
    matches!(c, ' '..='~' | 'ぁ'..='ゖ' | 'ァ'..='ヺ' | '、'..='。' | '「'..='』' | 'ー' | '々' | '\u{4e00}'..='\u{9fff}')
}

/// The letter rules of rule 2, on decomposed characters.
fn map_letter(c: char) -> char {
    if rules::is_wave_dash(c) {
        return '~';
    }
    let mut lower = c.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(l), None) if l != c => l,
        _ => rules::modern_kanji(c),
    }
}

fn join(a: Span, b: Span) -> Span {
    Span { start: a.start.min(b.start), end: a.end.max(b.end) }
}

/// Rules 3 to 6, in one pass.
fn apply_runs(chars: &[Tagged]) -> Vec<Tagged> {
    let mut out: Vec<Tagged> = Vec::with_capacity(chars.len());
    for (i, &tagged) in chars.iter().enumerate() {
        let Tagged { c, span } = tagged;
        let next = chars.get(i + 1).map_or('\0', |t| t.c);
        let before = if i == 0 { '\0' } else { chars[i - 1].c };
        let previous = out.last().map_or('\0', |t| t.c);
        if rules::is_blank(c) {
            match out.last_mut() {
                Some(last) if last.c == ' ' => last.span = join(last.span, span),
                Some(_) => out.push(Tagged { c: ' ', span }),
                None => {}
            }
            continue;
        }
        let dash = |c: char| c == '-' || rules::is_dash(c);
        let lone_dash = rules::is_dash(c) && !dash(next) && !dash(before);
        let long_mark = c == 'ー'
            || lone_dash
                && (matches!(previous, 'ァ'..='ヺ' | 'ー')
                    || rules::is_short_dash(c) && matches!(previous, 'ぁ'..='ゖ'));
        if long_mark {
            match out.last_mut() {
                Some(last) if last.c == 'ー' => last.span = join(last.span, span),
                _ => out.push(Tagged { c: 'ー', span }),
            }
            continue;
        }
        let c = if rules::is_hyphen(c) { '-' } else { c };
        // A mark under a loose dakuten would compose differently the second time: leave it.
        let followed_by_voicing = matches!(next, '\u{3099}' | '\u{309a}');
        let c = if followed_by_voicing { c } else { rules::repeated_kana(previous, c).unwrap_or(c) };
        out.push(Tagged { c, span });
    }
    if out.last().is_some_and(|t| t.c == ' ') {
        out.pop();
    }
    out
}

fn finish(chars: impl ExactSizeIterator<Item = Tagged>) -> Normalized {
    let mut text = String::with_capacity(chars.len() * 3);
    let mut spans = Vec::with_capacity(chars.len());
    let mut floor = Span::default();
    for Tagged { c, span } in chars {
        text.push(c);
        floor = Span { start: floor.start.max(span.start), end: floor.end.max(span.end) };
        spans.push(floor);
    }
    Normalized { text, spans }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalized(text: &str) -> String {
        Normalizer::new(Rules::Shirube1).normalize(text).text
    }

    #[test]
    fn every_rule_does_what_its_page_says() {
        for (text, expected) in [
            ("ﾊﾝｶｸｶﾞﾅ ＡＢＣ１２３　㈱", "ハンカクガナ abc123 (株)"),
            ("Ruby RUBY É", "ruby ruby é"),
            ("か\u{3099} ハ\u{309a} ヴ", "が パ ヴ"),
            ("゛ ゜ か゛", "゛ ゜ か゛"),
            ("葛\u{e0100}城 \u{feff}サ\u{200b}ー\u{ad}バ\u{7}", "葛城 サーバ"),
            (" 一\n\n二\t 三　", "一 二 三"),
            ("デ−タ サ―バ コンピュータ‐ サーバｰ", "データ サーバ コンピューター サーバー"),
            ("である――と だ—つまり ア――", "である――と だ—つまり ア――"),
            ("Wi\u{2011}Fi 2010–2020 3−2 ア-オ", "wi-fi 2010-2020 3-2 ア-オ"),
            ("すごーーーい らーめん ら‐めん", "すごーい らーめん らーめん"),
            ("10〜20 10～20 10~20", "10~20 10~20 10~20"),
            ("いすゞ かゝる づゝ バヾ ゝ カゝ 人々", "いすず かかる づつ ババ ゝ カゝ 人々"),
            ("舊字體 髙橋 﨑山 渡邉 渡邊 𠮷野", "旧字体 高橋 崎山 渡辺 渡辺 吉野"),
            ("H\u{331}", "\u{1e96}"),
        ] {
            assert_eq!(normalized(text), expected, "from {text:?}");
        }
    }

    #[test]
    fn spans_lead_back_to_the_bytes_that_made_a_character() {
        let text = "ﾊﾟ㍿A\u{200b}ーー邊";
        let normalized = Normalizer::new(Rules::Shirube1).normalize(text);
        assert_eq!(normalized.text, "パ株式会社aー辺");
        let sources: Vec<&str> = normalized.spans.iter().map(|span| &text[span.range()]).collect();
        assert_eq!(sources, ["ﾊﾟ", "㍿", "㍿", "㍿", "㍿", "A", "ーー", "邊"]);
    }

    #[test]
    fn names_of_rules_lead_back_to_them() {
        for rules in [Rules::Shirube1, Rules::Nfkc] {
            assert_eq!(Rules::from_name(rules.name()).ok(), Some(rules));
        }
        assert!(matches!(Rules::from_name("shirube-2"), Err(TextError::UnknownNormalizer { .. })));
    }
}
