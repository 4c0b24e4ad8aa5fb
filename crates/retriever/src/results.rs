//! What a search returns. Ranges count bytes of the text they point into, or UTF-16 code units after [`SearchResults::into_utf16`].

use crate::facets::{FilterCount, Filters, SortBy};
use core::ops::Range;
use serde::Serialize;
use shirube_core::DocId;
use shirube_format::bundle::{Need, Section, SectionPart};
use shirube_index::SearchMode;
use std::collections::BTreeMap;

/// Marks weaker than this are left out: particles match everywhere and weigh next to nothing.
const MIN_STRENGTH: f32 = 0.12;

/// Settings of one search.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchOptions {
    /// Largest number of hits, 1 to 1000.
    pub limit: usize,
    /// Whether hits carry matches and highlights; a fraction of a millisecond each.
    pub explain: bool,
    /// Least cosine, -1 to 1, between a query token and what it matched for the place to be highlighted. Lower marks more words, and more
    /// doubtful ones. Matches are returned either way.
    pub min_similarity: f32,
    /// How much BM25 over character bigrams and words counts beside MaxSim, 0 to 10: 0 is meaning alone, 1 (the default) both alike, large
    /// values approach words alone. See the crate's module `fusion`.
    pub lexical_weight: f32,
    /// Applied before ranking; empty keeps everything.
    pub filters: Filters,
    /// Order of the `limit` best hits; `None` is by score.
    pub sort: Option<SortBy>,
    /// Which documents that pass the filters are scored exactly: `Auto` all of a small index, of a large one those that look best by their centroids and
    /// words, in a fraction of the time; `Exact` all, to hold others against (an index on its host is then read whole).
    pub mode: SearchMode,
}

impl Default for SearchOptions {
    fn default() -> Self {
        Self {
            limit: 10,
            explain: true,
            min_similarity: 0.55,
            lexical_weight: crate::LEXICAL_WEIGHT,
            filters: Filters::new(),
            sort: None,
            mode: SearchMode::Auto,
        }
    }
}

/// What a search was answered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Words alone: BM25, before the model is here or without it.
    Words,
    /// Words and meaning.
    Meaning,
}

/// What a search comes to: results, or the bytes it cannot go on without.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Provide these and ask again.
    Needs(Vec<Need>),
    /// Done.
    Results(Box<SearchResults>),
}

/// The answer to a query.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchResults {
    /// What it was answered from.
    pub stage: Stage,
    /// The query as given, cut to what was read.
    pub query: String,
    /// Best first, ties to the lower document, one hit a section.
    pub hits: Vec<Hit>,
    /// The query's tokens in reading order, without markers.
    pub query_tokens: Vec<QueryToken>,
    /// Whether the query was longer than the model reads; the rest was left out.
    pub truncated: bool,
    /// Documents searched: those that the filters keep; of an index on its host those of them that were scored exactly.
    pub n_scored: usize,
    /// What the bundle can be narrowed by: name to values with counts.
    pub filters: BTreeMap<String, Vec<FilterCount>>,
    /// Time by stage.
    pub timings: Timings,
}

/// One token of the query.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryToken {
    /// Where it stands in the query.
    pub range: Range<usize>,
    /// Its learned weight, the length of its embedding; 1 in models without weights.
    pub weight: f32,
}

/// One document found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hit {
    /// Document.
    pub document: DocId,
    /// What the order is by: MaxSim, BM25 and the best window fused, or MaxSim alone with a lexical weight of 0; by words alone BM25, lifted where the section holds the
    /// whole query. Compare only within one query.
    pub score: f32,
    /// MaxSim: the sum of what each query token, markers included, contributes.
    pub maxsim: f32,
    /// BM25 of the query's character bigrams and words; 0 where none occurs.
    pub lexical: f32,
    /// MaxSim of the best window, a sentence or two; 0 where it was not looked at.
    pub window: f32,
    /// What to show.
    pub section: Section,
    /// For each of the query's tokens its best match; empty without `explain`.
    pub matches: Vec<Match>,
    /// Where to mark the section; empty without `explain`.
    pub highlights: Highlights,
}

/// The best match of one query token in one document.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Match {
    /// Position in [`SearchResults::query_tokens`].
    pub query_token: usize,
    /// Cosine between the two token embeddings, -1 to 1.
    pub similarity: f32,
    /// Share of the document's score: `similarity` times the query token's weight.
    pub contribution: f32,
    /// Where the matched token stands; several places where pooling made one token of several, none for the document's marker.
    pub places: Vec<Place>,
}

/// A piece of a section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// `title`, `heading` or `text`.
    pub part: PartName,
    /// Which of the headings; 0 for other parts.
    pub heading: usize,
    /// Where inside that part.
    pub range: Range<usize>,
}

/// The kind of a section's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PartName {
    /// The page's title.
    Title,
    /// One of the headings.
    Heading,
    /// The text.
    Text,
}

/// Marked ranges of a section, ascending and apart from each other.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Highlights {
    /// In the title.
    pub title: Vec<Highlight>,
    /// In each heading.
    pub headings: Vec<Vec<Highlight>>,
    /// In the text.
    pub text: Vec<Highlight>,
}

/// One marked range.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Highlight {
    /// Where.
    pub range: Range<usize>,
    /// 0 to 1: the largest contribution of a query token that matched here, relative to the largest of the hit.
    pub strength: f32,
}

/// Time by stage, in milliseconds of the caller's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timings {
    /// Normalising and tokenising the query.
    pub tokenize_ms: f64,
    /// Encoding it.
    pub encode_ms: f64,
    /// MaxSim over all documents and choosing the best.
    pub score_ms: f64,
    /// Matches and highlights of the hits.
    pub explain_ms: f64,
    /// All of it.
    pub total_ms: f64,
}

impl Place {
    pub(crate) fn new((part, range): (SectionPart, Range<usize>)) -> Self {
        let (part, heading) = match part {
            SectionPart::Title => (PartName::Title, 0),
            SectionPart::Heading(i) => (PartName::Heading, i),
            SectionPart::Text => (PartName::Text, 0),
        };
        Self { part, heading, range }
    }
}

impl Highlights {
    /// Marks the places of `matches` of at least `min_similarity`.
    pub(crate) fn of(matches: &[Match], n_headings: usize, min_similarity: f32) -> Self {
        let most = matches.iter().map(|m| m.contribution).fold(0.0, f32::max);
        let mut marks = Self { headings: vec![Vec::new(); n_headings], ..Self::default() };
        if most <= 0.0 {
            return marks;
        }
        for m in matches.iter().filter(|m| m.similarity >= min_similarity) {
            let strength = (m.contribution / most).clamp(0.0, 1.0);
            if strength < MIN_STRENGTH {
                continue;
            }
            for place in &m.places {
                let list = match place.part {
                    PartName::Title => &mut marks.title,
                    PartName::Text => &mut marks.text,
                    PartName::Heading => match marks.headings.get_mut(place.heading) {
                        Some(list) => list,
                        None => continue,
                    },
                };
                list.push(Highlight { range: place.range.clone(), strength });
            }
        }
        marks.each_list(|list| *list = apart(list));
        marks
    }

    /// Marks with ranges already known for title, headings and text.
    pub(crate) fn from_lists(title: &[Highlight], headings: &[Vec<Highlight>], text: &[Highlight]) -> Self {
        let strong = |list: &[Highlight]| -> Vec<Highlight> {
            apart(&list.iter().filter(|m| m.strength >= MIN_STRENGTH).cloned().collect::<Vec<_>>())
        };
        Self {
            title: strong(title),
            headings: headings.iter().map(|h| strong(h)).collect(),
            text: strong(text),
        }
    }

    fn each_list(&mut self, mut f: impl FnMut(&mut Vec<Highlight>)) {
        f(&mut self.title);
        f(&mut self.text);
        self.headings.iter_mut().for_each(f);
    }
}

/// Overlapping ranges cut at every edge, the strongest kept for each piece, equal neighbours joined.
fn apart(marks: &[Highlight]) -> Vec<Highlight> {
    let mut edges: Vec<usize> = marks.iter().flat_map(|m| [m.range.start, m.range.end]).collect();
    edges.sort_unstable();
    edges.dedup();
    let mut out: Vec<Highlight> = Vec::new();
    for edge in edges.windows(2) {
        let covering = marks.iter().filter(|m| m.range.start <= edge[0] && edge[1] <= m.range.end);
        let Some(strength) = covering.map(|m| m.strength).max_by(f32::total_cmp) else { continue };
        match out.last_mut() {
            Some(last) if last.range.end == edge[0] && last.strength == strength => last.range.end = edge[1],
            _ => out.push(Highlight { range: edge[0]..edge[1], strength }),
        }
    }
    out
}

impl SearchResults {
    /// The same results with every range in UTF-16 code units, as JavaScript strings count.
    #[must_use]
    pub fn into_utf16(mut self) -> Self {
        let units = Utf16::of(&self.query);
        self.query_tokens.iter_mut().for_each(|t| units.convert(&mut t.range));
        for hit in &mut self.hits {
            let title = Utf16::of(&hit.section.title);
            let text = Utf16::of(&hit.section.text);
            let headings: Vec<Utf16> = hit.section.headings.iter().map(|h| Utf16::of(h)).collect();
            for place in hit.matches.iter_mut().flat_map(|m| &mut m.places) {
                match place.part {
                    PartName::Title => title.convert(&mut place.range),
                    PartName::Text => text.convert(&mut place.range),
                    PartName::Heading => headings[place.heading].convert(&mut place.range),
                }
            }
            hit.highlights.title.iter_mut().for_each(|h| title.convert(&mut h.range));
            hit.highlights.text.iter_mut().for_each(|h| text.convert(&mut h.range));
            for (list, units) in hit.highlights.headings.iter_mut().zip(&headings) {
                list.iter_mut().for_each(|h| units.convert(&mut h.range));
            }
        }
        self
    }
}

/// For each byte offset of a text, the number of UTF-16 code units before it.
struct Utf16(Vec<u32>);

impl Utf16 {
    fn of(text: &str) -> Self {
        let mut units = Vec::with_capacity(text.len() + 1);
        let mut n = 0;
        for c in text.chars() {
            units.extend(core::iter::repeat_n(n, c.len_utf8()));
            n += c.len_utf16() as u32;
        }
        units.push(n);
        Self(units)
    }

    fn convert(&self, range: &mut Range<usize>) {
        let at = |byte: usize| self.0.get(byte).or(self.0.last()).copied().unwrap_or(0) as usize;
        *range = at(range.start)..at(range.end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(range: Range<usize>, strength: f32) -> Highlight {
        Highlight { range, strength }
    }

    #[test]
    fn overlapping_marks_come_apart_with_the_strongest_on_top() {
        let marks = [mark(0..6, 0.5), mark(3..9, 1.0), mark(9..12, 1.0), mark(20..23, 0.2), mark(0..3, 0.5)];
        assert_eq!(apart(&marks), [mark(0..3, 0.5), mark(3..12, 1.0), mark(20..23, 0.2)]);
        assert!(apart(&[]).is_empty());
    }

    #[test]
    fn weak_matches_and_foreign_headings_are_not_marked() {
        let place = |part, heading| Place { part, heading, range: 0..3 };
        let m = |similarity, places| Match { query_token: 0, similarity, contribution: similarity, places };
        let matches = [
            m(0.8, vec![place(PartName::Title, 0)]),
            m(0.4, vec![place(PartName::Heading, 1), place(PartName::Heading, 7)]),
            m(0.1, vec![place(PartName::Text, 0)]),
        ];
        let found = Highlights::of(&matches, 2, 0.3);
        assert_eq!(found.title, [mark(0..3, 1.0)]);
        assert_eq!(found.headings, [vec![], vec![mark(0..3, 0.5)]]);
        assert!(found.text.is_empty());
    }

    #[test]
    fn utf16_units_follow_surrogate_pairs() {
        let units = Utf16::of("aあ😀b");
        let mut range = 4..8;
        units.convert(&mut range);
        assert_eq!(range, 2..4);
        let mut all = 0..9;
        units.convert(&mut all);
        assert_eq!(all, 0..5);
    }
}
