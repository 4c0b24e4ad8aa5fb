//! `shirube search`.

use crate::open;
use anyhow::{Result, bail};
use clap::Args;
use shirube_format::bundle::{ModelRef, folder};
use shirube_retriever::{Highlight, Hit, Kernels, LEXICAL_WEIGHT, Need, SearchOptions, SearchResults};
use std::io::{BufRead as _, IsTerminal as _, Write};
use std::path::PathBuf;
use std::time::Instant;

/// Characters of text shown for a hit.
const SNIPPET_CHARS: usize = 90;

#[derive(Args)]
pub(crate) struct SearchArguments {
    /// Bundle folder
    bundle: PathBuf,
    /// What to search for; `-` reads queries from standard input, one a line, and answers each with a line of JSON
    query: String,
    /// Model folder; BUNDLE/model if left out
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Number of hits
    #[arg(short = 'k', long = "limit", value_name = "N", default_value_t = 10)]
    limit: usize,
    /// How much words (BM25) count beside meaning: 0 is meaning alone, 10 nearly words alone
    #[arg(long, value_name = "W", default_value_t = LEXICAL_WEIGHT)]
    lexical_weight: f32,
    /// Read only what the query needs of a large bundle, as a browser does, in place of all codes; of the documents that look best only
    #[arg(long, conflicts_with = "words")]
    lazy: bool,
    /// By words alone, without a model
    #[arg(long)]
    words: bool,
    /// Print the whole answer as JSON; ranges count bytes
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &SearchArguments) -> Result<()> {
    let bundle = open::searchable(&arguments.bundle)?;
    let mut retriever = bundle.open()?;
    if !arguments.words {
        let model = open::model(&open::model_folder(arguments.model.as_deref(), &arguments.bundle)?)?;
        // Before the codes are read: the commonest mistake is another model.
        bundle.entry().model.check(&ModelRef::of(model.manifest()))?;
        let kernels = Kernels::detect();
        if arguments.lazy {
            if bundle.list_files().next().is_none() {
                bail!(
                    "{}: too small for --lazy, it has no lists; leave the option out",
                    arguments.bundle.display()
                );
            }
            retriever.attach(model, bundle.lazy_index(kernels)?, kernels)?;
        } else {
            retriever.attach(model, open::resident(bundle, &arguments.bundle)?, kernels)?;
        }
    }
    let fetch = |need: &Need| folder::read_range(&arguments.bundle, need);
    let options = SearchOptions {
        limit: arguments.limit,
        lexical_weight: arguments.lexical_weight,
        ..SearchOptions::default()
    };
    let start = Instant::now();
    let clock = || start.elapsed().as_secs_f64() * 1000.0;
    let mut out = std::io::stdout().lock();
    if arguments.query == "-" {
        for line in std::io::stdin().lock().lines() {
            let results = retriever.answer(&line?, &options, &clock, fetch)?;
            serde_json::to_writer(&mut out, &results)?;
            writeln!(out)?;
        }
        return Ok(());
    }
    let results = retriever.answer(&arguments.query, &options, &clock, fetch)?;
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &results)?;
        writeln!(out)?;
        return Ok(());
    }
    let mark = if out.is_terminal() { ("\u{1b}[1;33m", "\u{1b}[0m") } else { ("", "") };
    print(&mut out, &results, &retriever.status().backend.kind, mark)?;
    Ok(())
}

fn print(
    out: &mut impl Write,
    results: &SearchResults,
    backend: &str,
    mark: (&str, &str),
) -> std::io::Result<()> {
    for (i, hit) in results.hits.iter().enumerate() {
        let path: Vec<&str> = core::iter::once(&hit.section.title)
            .chain(&hit.section.headings)
            .map(String::as_str)
            .filter(|part| !part.is_empty())
            .collect();
        writeln!(out, "{:>2}. {:<8.4} {}", i + 1, hit.score, path.join(" > "))?;
        writeln!(out, "    {}", snippet(hit, mark))?;
        writeln!(out, "    {}", hit.section.url)?;
    }
    let t = results.timings;
    writeln!(
        out,
        "{} sections in {:.1} ms (tokenise {:.1}, encode {:.1}, score {:.1}, explain {:.1}), {backend}",
        results.n_scored, t.total_ms, t.tokenize_ms, t.encode_ms, t.score_ms, t.explain_ms,
    )?;
    if results.truncated {
        writeln!(out, "the query is longer than the model reads; its end was left out")?;
    }
    Ok(())
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
