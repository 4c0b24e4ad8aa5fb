//! `shirube inspect BUNDLE QUERY`: where a score comes from.

use shirube_retriever::{Hit, Match, PartName, SearchResults};
use std::io::Write;

/// Writes, for each hit, its score and what every word of the query matched, the largest share first.
pub(crate) fn print(out: &mut impl Write, results: &SearchResults) -> std::io::Result<()> {
    for (i, hit) in results.hits.iter().enumerate() {
        let path: Vec<&str> = core::iter::once(&hit.section.title)
            .chain(&hit.section.headings)
            .map(String::as_str)
            .filter(|part| !part.is_empty())
            .collect();
        writeln!(out, "{:>2}. {}", i + 1, path.join(" > "))?;
        writeln!(out, "    {}", hit.section.url)?;
        let weight = hit.section.weight.map_or(String::new(), |w| format!(", weight {w}"));
        writeln!(
            out,
            "    score {:.4}: meaning (MaxSim) {:.4}, words (BM25) {:.4}{weight}",
            hit.score, hit.maxsim, hit.lexical
        )?;
        let mut matches: Vec<&Match> = hit.matches.iter().collect();
        matches.sort_by(|a, b| b.contribution.total_cmp(&a.contribution));
        let words: f32 = matches.iter().map(|m| m.contribution).sum();
        for m in matches {
            let word =
                results.query_tokens.get(m.query_token).map_or("", |t| &results.query[t.range.clone()]);
            writeln!(
                out,
                "      {:>7.4}  cosine {:>6.3}  {word} ~ {}",
                m.contribution,
                m.similarity,
                matched(hit, m)
            )?;
        }
        writeln!(out, "      {:>7.4}  the query's marker", hit.maxsim - words)?;
    }
    Ok(())
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
