//! What readers of a site may type, made from the site itself: predicted downloads are measured with it.

use shirube_format::bundle::Section;

/// Characters of a sentence that is typed whole, least and most.
const SENTENCE_CHARS: core::ops::RangeInclusive<usize> = 8..=60;

/// Queries of two kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Samples {
    /// One word of a heading each.
    pub words: Vec<String>,
    /// The first sentence under a heading each.
    pub sentences: Vec<String>,
}

impl Samples {
    /// At most `n` queries of each kind, from sections at equal distances.
    pub fn of(sections: &[Section], n: usize) -> Self {
        let mut samples = Self::default();
        let step = sections.len().div_ceil(n.max(1)).max(1);
        for run in sections.chunks(step) {
            // The first of each run that has one, so that a gap does not make the sample small.
            samples.words.extend(run.iter().find_map(word));
            samples.sentences.extend(run.iter().find_map(sentence));
        }
        samples.words.dedup();
        samples.sentences.dedup();
        samples
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Script {
    Kanji,
    Katakana,
    Latin,
    Other,
}

fn script(c: char) -> Script {
    match c {
        '一'..='鿿' | '々' => Script::Kanji,
        'ァ'..='ヺ' | 'ー' => Script::Katakana,
        'A'..='Z' | 'a'..='z' => Script::Latin,
        _ => Script::Other,
    }
}

/// The longest word of the innermost heading: a run of one script, at least two characters.
fn word(section: &Section) -> Option<String> {
    let heading = section.headings.last().unwrap_or(&section.title);
    let characters: Vec<char> = heading.chars().collect();
    let runs = characters.chunk_by(|&a, &b| script(a) == script(b));
    // Of equally long ones the first, as `max_by_key` would give the last.
    let runs = runs.filter(|run| run.len() >= 2 && script(run[0]) != Script::Other).rev();
    runs.max_by_key(|run| run.len()).map(|run| run.iter().collect())
}

fn sentence(section: &Section) -> Option<String> {
    let mut sentences = section.text.split_inclusive(['。', '！', '？', '!', '?', '\n']).map(str::trim);
    sentences.find(|s| SENTENCE_CHARS.contains(&s.chars().count())).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_from_headings_and_sentences_from_below_them() {
        let section = |heading: &str, text: &str| Section {
            title: "題".to_owned(),
            headings: vec!["章".to_owned(), heading.to_owned()],
            text: text.to_owned(),
            ..Section::default()
        };
        let sections = [
            section("再レンダリングを減らす", "短い。値が変わると画面が描き直されます。次の文。"),
            section("は", "一"),
            section("useState の使い方", "状態は\nコンポーネントの中に置きます\n"),
        ];
        let samples = Samples::of(&sections, 3);
        assert_eq!(samples.words, ["レンダリング", "useState"]);
        assert_eq!(samples.sentences, ["値が変わると画面が描き直されます。", "コンポーネントの中に置きます"]);
        assert_eq!(Samples::of(&sections, 1).words, ["レンダリング"]);
        assert_eq!(Samples::of(&[], 3), Samples::default());
    }
}
