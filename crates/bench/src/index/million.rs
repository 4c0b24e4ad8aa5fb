//! A million passages: built within a memory cap from embeddings that arrive one passage at a time, then searched. See `growth` for what they are.

use super::growth::Growth;
use super::{median, quality, questions};
use crate::corpus::Source;
use crate::frame::{Cell, Report, Row, Settings};
use shirube_index::{Index, IndexBuilder, IndexOptions, SearchMode, SearchOptions};
use shirube_kernels::Kernels;
use std::time::Instant;

/// Bytes of embeddings held in memory while building.
const MEMORY: usize = 256 << 20;

pub(crate) fn run(settings: &Settings) -> anyhow::Result<Report> {
    let source = Source::open(&settings.data, &settings.model, &settings.out.join("embeddings"))?;
    let n = if settings.quick { 100_000 } else { 1_000_000 };
    let mut growth = Growth::new(&source)?;
    let questions_of = growth.corpus(1);
    let mut growth = Growth::new(&source)?;
    let start = Instant::now();
    // About the square root of the tokens, not four times that: packing compares each token with each centroid.
    let options = IndexOptions { n_centroids: Some(8192), ..IndexOptions::site() };
    let spill = settings.out.join(format!("million-{}.spill", std::process::id()));
    let mut builder = IndexBuilder::new(source.dim(), options)?.spill_to(&spill, MEMORY)?;
    for p in 0..n {
        builder.push(&growth.passage(p))?;
    }
    let n_tokens = builder.n_tokens();
    let arrived = start.elapsed().as_secs_f64();
    let built = builder.finish(|_| {})?;
    let build = start.elapsed().as_secs_f64() - arrived;
    let peak = peak_memory();
    let index = Index::from_built(&built, Kernels::detect())?;
    drop(built);
    let asked = questions(&questions_of, 100);
    let relevant: Vec<&[u32]> = asked.iter().map(|&q| questions_of.relevant[q].as_slice()).collect();
    let mut report = Report::default();
    report
        .notes
        .push(format!("{n} passages, {n_tokens} vectors, {} real passages among them", growth.n_real()));
    let mut exact_ndcg = f64::NAN;
    for (mode, n_probe, n_candidates) in [
        (SearchMode::Exact, 0, 0),
        (SearchMode::Scan, 0, 512),
        (SearchMode::Probe, 2, 256),
        (SearchMode::Probe, 4, 512),
        (SearchMode::Probe, 8, 1024),
    ] {
        let options = SearchOptions { mode, n_probe, n_candidates, ..SearchOptions::default() };
        let (mut rankings, mut times) = (Vec::new(), Vec::new());
        for &q in &asked {
            let start = Instant::now();
            let found = index.search_with(&index.prepare(questions_of.queries.of(q))?, &options)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            rankings.push(found.hits.iter().map(|h| h.document.0).collect::<Vec<_>>());
        }
        let found = quality(&rankings, &relevant);
        if mode == SearchMode::Exact {
            exact_ndcg = found.ndcg;
        }
        let cells = [
            ("p50 ms", median(times)),
            ("nDCG@10", found.ndcg),
            ("kept %", 100.0 * found.ndcg / exact_ndcg),
            ("build s", build),
            ("index MB", index.memory_bytes() as f64 / 1e6),
        ];
        report.rows.push(Row {
            what: format!("{mode:?} {n_probe} {n_candidates}").to_lowercase(),
            unit: "",
            cells: cells
                .map(|(column, value)| Cell { column: column.to_owned(), value, median: value })
                .to_vec(),
        });
    }
    report.notes.push(format!(
        "cap {} MiB of embeddings, {} MiB spilled; peak memory of the whole process while building {peak}",
        MEMORY >> 20,
        (n_tokens * source.dim() * 2) >> 20
    ));
    Ok(report)
}

/// The process's largest memory so far, where the system tells.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.map_or_else(|| "unknown".to_owned(), |l| l.trim().to_owned())
}
