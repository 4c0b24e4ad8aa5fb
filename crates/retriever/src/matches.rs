//! From the nearest token of each query token to matches with places.

use crate::results::{Match, Place};
use core::ops::Range;
use shirube_encoder::PreparedText;
use shirube_format::bundle::DocumentText;
use shirube_kernels::TokenMatch;

/// A query token that stands for text; markers have no place.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    /// Position among all embeddings.
    pub(crate) at: usize,
    /// Place in the query.
    pub(crate) range: Range<usize>,
    /// Length of its embedding.
    pub(crate) weight: f32,
}

/// The words of a query and its embeddings `[n_kept, dim]`.
pub(crate) fn words_of(input: &PreparedText, embeddings: &[f32], dim: usize) -> Vec<Word> {
    let ranges = input.kept_ranges().enumerate();
    let word = |(at, range): (usize, Option<Range<usize>>)| {
        let weight = embeddings[at * dim..(at + 1) * dim].iter().map(|v| v * v).sum::<f32>().sqrt();
        Some(Word { at, range: range?, weight })
    };
    ranges.filter_map(word).collect()
}

/// The matches of `words`; `best [n_query_tokens]` are the nearest tokens, `members` the ranges of `text` that a token stands for.
pub(crate) fn matches_of(
    words: &[Word],
    best: &[TokenMatch],
    text: &DocumentText,
    members: impl Fn(u32) -> Vec<Range<usize>>,
) -> Vec<Match> {
    let places = |token| {
        let ranges = join(members(token).into_iter()).into_iter();
        ranges.flat_map(|range| text.locate(&range).map(Place::new).collect::<Vec<_>>()).collect()
    };
    let one = |(query_token, word): (usize, &Word)| {
        let TokenMatch { token, similarity } = *best.get(word.at)?;
        let cosine = if word.weight > 1e-6 { similarity / word.weight } else { 0.0 };
        Some(Match { query_token, similarity: cosine, contribution: similarity, places: places(token) })
    };
    words.iter().enumerate().filter_map(one).collect()
}

/// Ascending ranges with touching neighbours made one.
fn join(ranges: impl Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match out.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => out.push(range),
        }
    }
    out
}
