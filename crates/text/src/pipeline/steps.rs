//! What happens to a text before it is split into words: the normalisers of the crate `tokenizers` that BERT, Llama and GPT tokenizers use.

use super::charsmap::Charsmap;
use super::classes::{NONSPACING, OTHER, within};
use super::{Tagged, text_of};
use crate::normalize::{Form, Normalizer};
use serde::{Deserialize, Serialize};

/// One step of normalisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// A Unicode normal form.
    Form(Form),
    /// Every character in lower case.
    Lowercase,
    /// BERT: control characters go, every blank becomes U+0020.
    CleanText,
    /// BERT: a blank on each side of an ideograph.
    SpaceIdeographs,
    /// BERT: canonical decomposition without nonspacing marks.
    StripAccents,
    /// A text in place of another.
    Replace { from: String, to: String },
    /// A text in place of two or more blanks.
    Blanks { to: String },
    /// A text before each part that is not empty.
    Prepend(String),
    /// Without blanks at the beginning or the end.
    Strip { left: bool, right: bool },
    /// SentencePiece's compiled rules.
    Rules(Charsmap),
}

/// Characters that one may become by all steps of a tokenizer, at most. Steps come from files, and a few that double a text make any length of it.
const MOST_GROWTH: usize = 1 << 12;

/// Whether no text becomes much longer by `steps`.
pub(crate) fn are_bounded(steps: &[Step]) -> bool {
    let growth = |step: &Step| match step {
        Step::Form(_) | Step::StripAccents => 18,
        Step::Lowercase | Step::SpaceIdeographs => 3,
        Step::Replace { from, to } => to.chars().count().div_ceil(from.chars().count().max(1)),
        Step::Blanks { to } => to.chars().count(),
        Step::Prepend(prefix) => prefix.chars().count() + 1,
        Step::CleanText | Step::Strip { .. } => 1,
        Step::Rules(rules) => rules.growth(),
    };
    let all = steps.iter().try_fold(1usize, |all, step| all.checked_mul(growth(step).max(1)));
    all.is_some_and(|all| all <= MOST_GROWTH)
}

impl Step {
    pub(crate) fn apply(&self, text: Vec<Tagged>) -> Vec<Tagged> {
        match self {
            Self::Form(form) => in_form(*form, &text),
            Self::Lowercase => {
                text.into_iter().flat_map(|t| t.c.to_lowercase().map(move |c| Tagged { c, ..t })).collect()
            }
            Self::CleanText => text
                .into_iter()
                .filter(|t| {
                    let kept = matches!(t.c, '\t' | '\n' | '\r') || !within(&OTHER, t.c);
                    kept && !matches!(t.c, '\0' | '\u{fffd}')
                })
                .map(|t| if t.c.is_whitespace() { Tagged { c: ' ', ..t } } else { t })
                .collect(),
            Self::SpaceIdeographs => {
                let blank = |t: Tagged| Tagged { c: ' ', ..t };
                text.into_iter()
                    .flat_map(|t| {
                        let spaced = is_ideograph(t.c);
                        spaced.then(|| blank(t)).into_iter().chain([t]).chain(spaced.then(|| blank(t)))
                    })
                    .collect()
            }
            Self::StripAccents => {
                let mut text = in_form(Form::Nfd, &text);
                text.retain(|t| !within(&NONSPACING, t.c));
                text
            }
            Self::Replace { from, to } => replace(&text, from, to),
            Self::Rules(rules) => rules.apply(&text),
            Self::Blanks { to } => {
                let mut out = Vec::with_capacity(text.len());
                for run in text.chunk_by(|a, b| a.c == ' ' && b.c == ' ') {
                    if run.len() > 1 {
                        out.extend(to.chars().map(|c| Tagged { c, span: super::join(run) }));
                    } else {
                        out.extend(run);
                    }
                }
                out
            }
            Self::Prepend(prefix) => match text.first() {
                Some(&first) => prefix.chars().map(|c| Tagged { c, ..first }).chain(text).collect(),
                None => text,
            },
            Self::Strip { left, right } => {
                let blank = |t: &Tagged| t.c.is_whitespace();
                let from = if *left { text.iter().take_while(|t| blank(t)).count() } else { 0 };
                let rest = &text[from..];
                let cut = if *right { rest.iter().rev().take_while(|t| blank(t)).count() } else { 0 };
                rest[..rest.len() - cut].to_vec()
            }
        }
    }
}

/// The blocks that BERT calls Chinese characters. Kana and hangul are not among them.
fn is_ideograph(c: char) -> bool {
    matches!(u32::from(c), 0x4e00..=0x9fff | 0x3400..=0x4dbf | 0x20000..=0x2a6df | 0x2a700..=0x2b73f | 0x2b740..=0x2b81f
        | 0x2b920..=0x2ceaf | 0xf900..=0xfaff | 0x2f800..=0x2fa1f)
}

fn in_form(form: Form, text: &[Tagged]) -> Vec<Tagged> {
    let (plain, at) = text_of(text);
    Normalizer::in_form(form, &plain, |span| {
        // From bytes of `plain` to the characters they came from.
        let from = at.partition_point(|&a| a <= span.start as usize) - 1;
        let to = at.partition_point(|&a| a < span.end as usize).max(from + 1);
        super::join(&text[from..to.min(text.len())])
    })
}

fn replace(text: &[Tagged], from: &str, to: &str) -> Vec<Tagged> {
    let pattern: Vec<char> = from.chars().collect();
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let run = text.get(at..at + pattern.len()).unwrap_or_default();
        if !run.is_empty() && run.iter().map(|t| t.c).eq(pattern.iter().copied()) {
            out.extend(to.chars().map(|c| Tagged { c, span: super::join(run) }));
            at += run.len();
        } else {
            out.push(text[at]);
            at += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_that_blow_a_text_up_are_told_from_those_in_use() {
        let double = || Step::Replace { from: "a".to_owned(), to: "aa".to_owned() };
        let bert = [Step::CleanText, Step::SpaceIdeographs, Step::StripAccents, Step::Lowercase];
        let llama =
            [Step::Prepend("▁".to_owned()), Step::Replace { from: " ".to_owned(), to: "▁".to_owned() }];
        assert!(
            are_bounded(&bert)
                && are_bounded(&llama)
                && are_bounded(&[Step::Form(Form::Nfkc), Step::Lowercase])
        );
        assert!(!are_bounded(&(0..40).map(|_| double()).collect::<Vec<_>>()));
    }
}
