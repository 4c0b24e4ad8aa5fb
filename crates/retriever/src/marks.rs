//! Where a query's words stand in a section: the marks of hits that were found by words.

use crate::results::{Highlight, Highlights};
use shirube_format::bundle::Section;
use shirube_text::Normalizer;

/// Marks every place of `terms`, each with its weight of 0 to 1, in the parts of `section`. Bigrams that overlap make one mark.
pub(crate) fn mark(section: &Section, terms: &[(String, f32)], normalizer: &Normalizer) -> Highlights {
    let headings: Vec<_> = section.headings.iter().map(|h| places(h, terms, normalizer)).collect();
    Highlights::from_lists(
        &places(&section.title, terms, normalizer),
        &headings,
        &places(&section.text, terms, normalizer),
    )
}

fn places(text: &str, terms: &[(String, f32)], normalizer: &Normalizer) -> Vec<Highlight> {
    let normalized = normalizer.normalize(text);
    // The character that each byte of the normalised text belongs to.
    let mut chars = Vec::with_capacity(normalized.text.len());
    for (i, c) in normalized.text.chars().enumerate() {
        chars.extend(core::iter::repeat_n(i, c.len_utf8()));
    }
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let mut marks = Vec::new();
    for (term, strength) in terms {
        // A word of Latin letters is found whole or not at all.
        let whole = term.bytes().all(|b| b.is_ascii_alphanumeric());
        for (start, found) in normalized.text.match_indices(term.as_str()) {
            let end = start + found.len();
            let before = normalized.text[..start].chars().next_back();
            let after = normalized.text[end..].chars().next();
            if whole && (is_word(before) || is_word(after)) {
                continue;
            }
            let (Some(&first), Some(&last)) = (chars.get(start), chars.get(end.wrapping_sub(1))) else {
                continue;
            };
            let range = normalized.spans[first].range().start..normalized.spans[last].range().end;
            marks.push(Highlight { range, strength: *strength });
        }
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;
    use shirube_text::Rules;

    #[test]
    fn bigrams_join_to_the_word_and_width_does_not_matter() {
        let section = Section {
            title: "ﾒﾓ化 API".to_owned(),
            text: "rapid な メモ化、APIを使う".to_owned(),
            ..Section::default()
        };
        let terms = ["メモ", "モ化", "api"].map(|t| (t.to_owned(), 1.0));
        let found = mark(&section, &terms, &Normalizer::new(Rules::Shirube1));
        let texts = |text: &str, marks: &[Highlight]| -> Vec<String> {
            marks.iter().map(|m| text[m.range.clone()].to_owned()).collect()
        };
        assert_eq!(texts(&section.title, &found.title), ["ﾒﾓ化", "API"]);
        assert_eq!(texts(&section.text, &found.text), ["メモ化", "API"]);
    }

    #[test]
    fn weak_words_are_not_marked() {
        let section = Section { text: "木の葉".to_owned(), ..Section::default() };
        let terms = [("木の".to_owned(), 0.05), ("の葉".to_owned(), 1.0)];
        let found = mark(&section, &terms, &Normalizer::new(Rules::Shirube1));
        assert_eq!(found.text.len(), 1);
        assert_eq!(&section.text[found.text[0].range.clone()], "の葉");
    }
}
