//! Sections that are longer than the model reads become several passages.
//!
//! A model reads a fixed number of tokens and would leave the rest of a section unsearched. The text is cut between blocks, where that does not do
//! between sentences, and only then inside one; passages of a section are of about equal length, because a short rest is found by chance. Every
//! passage repeats title and headings, and a search answers with the best passage of a section.
//!
//! The way not taken: overlapping windows. They cost a fifth more index for sentences that stand in two passages, and the neighbours compete.

use shirube_core::{InputRules, Role};
use shirube_encoder::Model;
use shirube_format::bundle::Section;
use shirube_text::{EncoderInput, Tokenizer};
use std::collections::HashMap;

/// Tokens that a passage's own text gets at least, however long its title and headings are.
const MIN_TEXT_TOKENS: usize = 48;

/// The passages of an earlier bundle: sections that did not change are cut as they were, without a look at their tokens.
#[derive(Debug, Default)]
pub struct KnownPassages<'a>(HashMap<&'a str, &'a [Section]>);

impl<'a> KnownPassages<'a> {
    /// Of a bundle's sections, which the same tokenizer must have cut.
    pub fn of(sections: &'a [Section]) -> Self {
        let runs = sections.chunk_by(|a, b| a.id == b.id && a.passage < b.passage);
        Self(runs.map(|run| (run[0].id.as_str(), run)).collect())
    }

    /// `section` cut as before, if it has the same title, headings and text.
    fn cut(&self, section: &Section) -> Option<Vec<Section>> {
        let known = *self.0.get(section.id.as_str())?;
        let same = |k: &Section| k.title == section.title && k.headings == section.headings;
        if !known.iter().all(same) {
            return None;
        }
        if let [one] = known {
            return (one.text == section.text).then(|| vec![section.clone()]);
        }
        // Passages follow each other with nothing but white space between them.
        let mut rest = section.text.as_str();
        for passage in known {
            rest = rest.trim_start().strip_prefix(passage.text.as_str())?;
        }
        let passage = |k: &Section| Section { text: k.text.clone(), passage: k.passage, ..section.clone() };
        rest.trim_start().is_empty().then(|| known.iter().map(passage).collect())
    }
}

/// As [`passages`], where `known` spares the work.
pub fn passages_with(section: Section, model: &Model, known: &KnownPassages<'_>) -> Vec<Section> {
    known.cut(&section).unwrap_or_else(|| passages(section, model))
}

/// Whether a passage may be longer than the model reads: only where title and headings leave no room. A token is a character at least, so that short ones
/// need no look.
pub(crate) fn may_be_truncated(passage: &Section, model: &Model) -> bool {
    let rules = model.rules(Role::Document);
    let head: usize =
        passage.title.len() + passage.headings.iter().map(|heading| heading.len() + 1).sum::<usize>();
    head + rules.prefix.len() + rules.suffix.len() + MIN_TEXT_TOKENS >= rules.max_length
}

/// `section` as passages that each fit the model, in order; itself if it fits.
pub fn passages(section: Section, model: &Model) -> Vec<Section> {
    passages_by(section, model.tokenizer(), model.rules(Role::Document))
}

/// [`passages`] for a model by its tokenizer and its rules for documents: while it is trained it is no folder yet.
pub fn passages_by(section: Section, tokenizer: &Tokenizer, rules: &InputRules) -> Vec<Section> {
    let markers = rules.prefix.len() + rules.suffix.len();
    let count = |text: &str| tokenizer.encode(text).ids.len();
    let head = Section { text: String::new(), ..section.clone() }.document().text;
    let around = markers + count(&head);
    let whole = count(&section.text);
    if around + whole <= rules.max_length {
        return vec![section];
    }
    let mut room = rules.max_length.saturating_sub(around).max(MIN_TEXT_TOKENS);
    loop {
        let pieces = cut(&section.text, whole, room, &count);
        let passage = |(n, text): (usize, &str)| Section {
            text: text.to_owned(),
            passage: n as u32,
            ..section.clone()
        };
        let found: Vec<Section> = pieces.into_iter().enumerate().map(passage).collect();
        // Tokens of two neighbours can be more together than apart; a title may be longer than the model reads, which no cut mends.
        let fits = |s: &Section| !EncoderInput::new(tokenizer, rules, &s.document().text).truncated;
        if room <= MIN_TEXT_TOKENS / 2 || found.iter().all(fits) {
            return found;
        }
        room = room * 9 / 10;
    }
}

/// Pieces of `text` of at most `room` tokens each, as equal as the boundaries allow.
fn cut<'a>(text: &'a str, whole: usize, room: usize, count: &impl Fn(&str) -> usize) -> Vec<&'a str> {
    let target = whole.div_ceil(whole.div_ceil(room));
    let mut units = Vec::new();
    split(text, target.min(room), 0, count, &mut units);
    // Units follow each other without a gap, so that a passage is a piece of the text.
    let (mut pieces, mut start, mut filled, mut at) = (Vec::new(), 0, 0, 0);
    for (unit, tokens) in units {
        let over = filled + tokens > room;
        let enough = filled >= target
            || (filled + tokens > target && (filled + tokens - target) > target - filled.min(target));
        if filled > 0 && (over || enough) {
            pieces.push(text[start..at].trim());
            (start, filled) = (at, 0);
        }
        filled += tokens;
        at += unit;
    }
    pieces.push(text[start..].trim());
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// Lengths in bytes and tokens of the pieces of `text`, each of at most `room` tokens where its characters allow it.
fn split(
    text: &str,
    room: usize,
    level: usize,
    count: &impl Fn(&str) -> usize,
    out: &mut Vec<(usize, usize)>,
) {
    let tokens = count(text);
    if tokens <= room || text.chars().nth(1).is_none() {
        out.push((text.len(), tokens));
        return;
    }
    let parts: Vec<&str> = match level {
        0 => text.split_inclusive('\n').collect(),
        1 => text.split_inclusive(['。', '．', '！', '？', '!', '?']).collect(),
        2 => text.split_inclusive(['、', '，', ',', ';', ' ', '　']).collect(),
        _ => {
            let middle = text.char_indices().nth(text.chars().count() / 2).map_or(text.len(), |(i, _)| i);
            let (a, b) = text.split_at(middle);
            vec![a, b]
        }
    };
    let next = if parts.len() > 1 && level > 2 { level } else { level + 1 };
    for part in parts {
        split(part, room, next, count, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shirube_testkit::{RandomShape, random_model};

    fn characters(text: &str) -> usize {
        text.chars().filter(|c| !c.is_whitespace()).count()
    }

    #[test]
    fn cuts_fall_between_blocks_then_between_sentences() {
        let blocks = "一二三四五\n六七八九十\n甲乙丙丁戊\n己庚辛壬癸";
        assert_eq!(cut(blocks, 20, 11, &characters), ["一二三四五\n六七八九十", "甲乙丙丁戊\n己庚辛壬癸"]);
        assert_eq!(cut("一二三。四五六。七八九。", 12, 8, &characters), ["一二三。四五六。", "七八九。"]);
        let long = "あ".repeat(25);
        let pieces = cut(&long, 25, 10, &characters);
        assert!(pieces.iter().all(|p| characters(p) <= 10), "{pieces:?}");
        assert_eq!(pieces.concat(), long);
    }

    #[test]
    fn nothing_is_lost_and_every_piece_fits() {
        let sentences: Vec<String> = (1..40).map(|n| format!("{}。", "字".repeat(n % 13 + 1))).collect();
        for join in ["", "\n", " "] {
            let text = sentences.join(join);
            for room in [1, 5, 14, 50, 1000] {
                let pieces = cut(&text, characters(&text), room, &characters);
                assert!(pieces.iter().all(|p| characters(p) <= room), "{room}: {pieces:?}");
                let same = |s: &str| s.chars().filter(|c| !c.is_whitespace()).collect::<String>();
                assert_eq!(same(&pieces.concat()), same(&text));
            }
        }
    }

    #[test]
    fn a_model_reads_every_passage_whole() {
        let (manifest, files) = random_model(1, &RandomShape::default()).quantized().files();
        let files = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
        let model = Model::load(manifest, files, shirube_kernels::Kernels::detect()).unwrap();
        let section = Section {
            id: "a".to_owned(),
            title: "題".to_owned(),
            text: "これは長い本文です。".repeat(200),
            ..Section::default()
        };
        assert!(model.prepare(&section.document().text, Role::Document).truncated);
        let found = passages(section.clone(), &model);
        assert!(found.len() > 1);
        for (n, passage) in found.iter().enumerate() {
            assert!(!model.prepare(&passage.document().text, Role::Document).truncated);
            assert_eq!(
                (passage.passage, &passage.id, &passage.title),
                (n as u32, &section.id, &section.title)
            );
        }
        assert_eq!(found.iter().map(|p| p.text.as_str()).collect::<String>(), section.text);
        let short = Section { id: "b".to_owned(), text: "短い".to_owned(), ..section.clone() };
        assert_eq!(passages(short.clone(), &model), std::slice::from_ref(&short));

        let spaced =
            Section { id: "c".to_owned(), text: section.text.replace("。", "。\n\n"), ..section.clone() };
        let all: Vec<Section> =
            [&section, &short, &spaced].into_iter().flat_map(|s| passages(s.clone(), &model)).collect();
        let known = KnownPassages::of(&all);
        for same in [&section, &short, &spaced] {
            assert_eq!(known.cut(same).unwrap(), passages(same.clone(), &model));
        }
        let others = [
            Section { text: format!("{}続き", section.text), ..section.clone() },
            Section { text: section.text[3..].to_owned(), ..section.clone() },
            Section { title: "別".to_owned(), ..section.clone() },
            Section { text: "短".to_owned(), ..short },
            Section { id: "new".to_owned(), ..section },
        ];
        for other in others {
            assert_eq!(known.cut(&other), None, "{other:?}");
        }
        assert!(!may_be_truncated(&found[0], &model));
        let long = Section { title: "題".repeat(400), ..found[0].clone() };
        assert!(
            may_be_truncated(&long, &model) && model.prepare(&long.document().text, Role::Document).truncated
        );
    }
}
