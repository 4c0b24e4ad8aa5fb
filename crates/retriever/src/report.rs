//! Results as text, for the commands that print them.

use crate::{Highlight, Hit, Match, PartName, SearchResults};
use core::fmt::Write as _;

/// Characters of text shown for a hit.
const SNIPPET_CHARS: usize = 90;

/// The hits of a search with their marks between `mark.0` and `mark.1`, and what it cost on `backend`.
pub fn hits(results: &SearchResults, backend: &str, mark: (&str, &str)) -> String {
    let mut out = String::new();
    for (i, hit) in results.hits.iter().enumerate() {
        line(&mut out, format_args!("{:>2}. {:<8.4} {}", i + 1, hit.score, place(hit)));
        line(&mut out, format_args!("    {}", snippet(hit, mark)));
        line(&mut out, format_args!("    {}", hit.section.url));
    }
    let t = results.timings;
    line(
        &mut out,
        format_args!(
            "{} sections in {:.1} ms (tokenise {:.1}, encode {:.1}, score {:.1}, explain {:.1}), {backend}",
            results.n_scored, t.total_ms, t.tokenize_ms, t.encode_ms, t.score_ms, t.explain_ms,
        ),
    );
    if results.truncated {
        line(&mut out, format_args!("the query is longer than the model reads; its end was left out"));
    }
    out
}

/// Where scores come from: for each hit its score, and what every word of the query matched, the largest share first.
pub fn explanation(results: &SearchResults) -> String {
    let mut out = String::new();
    for (i, hit) in results.hits.iter().enumerate() {
        line(&mut out, format_args!("{:>2}. {}", i + 1, place(hit)));
        line(&mut out, format_args!("    {}", hit.section.url));
        let weight = hit.section.weight.map_or(String::new(), |w| format!(", weight {w}"));
        line(
            &mut out,
            format_args!(
                "    score {:.4}: meaning (MaxSim) {:.4}, its best window {:.4}, words (BM25) {:.4}{weight}",
                hit.score, hit.maxsim, hit.window, hit.lexical
            ),
        );
        let mut matches: Vec<&Match> = hit.matches.iter().collect();
        matches.sort_by(|a, b| b.contribution.total_cmp(&a.contribution));
        let words: f32 = matches.iter().map(|m| m.contribution).sum();
        for m in matches {
            let word =
                results.query_tokens.get(m.query_token).map_or("", |t| &results.query[t.range.clone()]);
            let (contribution, similarity) = (m.contribution, m.similarity);
            line(
                &mut out,
                format_args!(
                    "      {contribution:>7.4}  cosine {similarity:>6.3}  {word} ~ {}",
                    matched(hit, m)
                ),
            );
        }
        line(&mut out, format_args!("      {:>7.4}  the query's marker", hit.maxsim - words));
    }
    out
}

fn line(out: &mut String, text: core::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a string takes every write");
}

/// Title and headings of a hit.
fn place(hit: &Hit) -> String {
    let path: Vec<&str> = core::iter::once(&hit.section.title)
        .chain(&hit.section.headings)
        .map(String::as_str)
        .filter(|part| !part.is_empty())
        .collect();
    path.join(" > ")
}

/// What was matched, and in which part of the section.
fn matched(hit: &Hit, m: &Match) -> String {
    let pieces: Vec<&str> = m
        .places
        .iter()
        .map(|place| {
            let part: &str = match place.part {
                PartName::Title => &hit.section.title,
                PartName::Heading => &hit.section.headings[place.heading],
                PartName::Text => &hit.section.text,
            };
            part.get(place.range.clone()).unwrap_or_default()
        })
        .collect();
    let part = m.places.first().map_or("the section's marker", |place| match place.part {
        PartName::Title => "title",
        PartName::Heading => "heading",
        PartName::Text => "text",
    });
    if pieces.is_empty() {
        part.to_owned()
    } else {
        format!("{} ({part})", pieces.join(" … ").replace('\n', " "))
    }
}

/// A line of the text from a little before its strongest mark, marks between `mark.0` and `mark.1`.
fn snippet(hit: &Hit, mark: (&str, &str)) -> String {
    let text = &hit.section.text;
    let marks = &hit.highlights.text;
    let strongest = marks.iter().fold(None::<&Highlight>, |best, m| match best {
        Some(b) if b.strength >= m.strength => Some(b),
        _ => Some(m),
    });
    let focus = strongest.map_or(0, |m| m.range.start);
    let start = text[..focus].char_indices().rev().nth(SNIPPET_CHARS / 4).map_or(0, |(i, _)| i);
    let end = text[start..].char_indices().nth(SNIPPET_CHARS).map_or(text.len(), |(i, _)| start + i);
    let mut line = String::new();
    if start > 0 {
        line.push('…');
    }
    let mut at = start;
    for m in marks {
        let range = m.range.start.max(start)..m.range.end.min(end);
        if range.start < range.end {
            line += &text[at..range.start];
            line += mark.0;
            line += &text[range.clone()];
            line += mark.1;
            at = range.end;
        }
    }
    line += &text[at..end];
    if end < text.len() {
        line.push('…');
    }
    line.replace('\n', " ")
}
