//! An index that stays on its host: what a query fetches of it, and how much of the resident index's quality that keeps.
//!
//! Data as in `million`: 10,000 passages with `--quick`, else 100,000 and a million; `LAZY_PASSAGES` in the environment names another number. Every query is a visitor's first:
//! nothing is kept from the one before. Vectors alone: the shards of words and sections that a search reads besides are not counted, and neither is what
//! opening takes (its own row), which a visitor pays once. The questions are whole sentences of about 25 tokens, three times what people type.

use super::growth::Growth;
use super::{Quality, median, quality, questions};
use crate::corpus::Source;
use crate::frame::{Cell, Ratio, Report, Row, Settings};
use anyhow::Context as _;
use shirube_format::bundle::{CodesBlock, CodesDirectory, IvfDirectory, Need};
use shirube_index::{Index, LazyIndex, LazyOptions, Step};
use shirube_kernels::Kernels;
use std::collections::{HashMap, HashSet};
use std::time::Instant;

/// Questions asked; of more than 200,000 passages a third, because the resident index scores every document of them.
const QUESTIONS: usize = 300;

/// What one query fetched.
#[derive(Debug, Default)]
struct Fetched {
    requests: f64,
    bytes: f64,
    /// Of the shards, where the host knows no ranges.
    shard_bytes: f64,
}

pub(crate) fn run(settings: &Settings) -> anyhow::Result<Report> {
    let source = Source::open(&settings.data, &settings.model, &settings.out.join("embeddings"))?;
    let sizes = match std::env::var("LAZY_PASSAGES") {
        Ok(n) => vec![n.parse().context("LAZY_PASSAGES is no number")?],
        Err(_) if settings.quick => vec![10_000],
        Err(_) => vec![100_000, 1_000_000],
    };
    let mut growth = Growth::new(&source)?;
    let mut report = Report::default();
    for n in sizes {
        measure(&mut growth, n, &mut report)?;
    }
    Ok(report)
}

fn measure(growth: &mut Growth, n: usize, report: &mut Report) -> anyhow::Result<()> {
    let questions_of = growth.corpus(0);
    let built = growth.index(n)?;
    let n_tokens = built.packed.codes.len();
    let resident = Index::from_built(&built, Kernels::detect())?;
    let tables = built.codec.tables().clone();
    let all =
        CodesBlock { lengths: built.lengths, codes: built.packed.codes, residuals: built.packed.residuals };
    let n_centroids = tables.n_centroids();
    let (codes_file, codes, of_codes) = CodesDirectory::pack(tables.dim, tables.packing, n_centroids, &all);
    let (ivf_file, ivf, of_lists) = IvfDirectory::pack(&all.lengths, &all.codes, n_centroids);
    drop(all);
    let opening = tables.to_bytes().len() + codes_file.len() + ivf_file.len();
    let (code_bytes, list_bytes) = (codes.documents.table.total_bytes(), ivf.table.total_bytes());
    let files: HashMap<String, Vec<u8>> = of_codes.into_iter().chain(of_lists).collect();
    let mut lazy = LazyIndex::new(tables, ivf, codes, Kernels::detect())?;

    let asked = questions(&questions_of, if n > 200_000 { QUESTIONS / 3 } else { QUESTIONS });
    let relevant: Vec<&[u32]> = asked.iter().map(|&q| questions_of.relevant[q].as_slice()).collect();
    let mut rankings = Vec::new();
    for &q in &asked {
        let hits = resident.search(&resident.prepare(questions_of.queries.of(q))?, 10)?;
        rankings.push(hits.iter().map(|h| h.document.0).collect::<Vec<_>>());
    }
    let whole = quality(&rankings, &relevant);
    report.notes.push(format!(
        "{n} passages ({} real), {n_tokens} vectors, {} centroids, {} questions of {:.1} tokens; resident nDCG@10 {:.4}",
        growth.real().len().min(n),
        n_centroids,
        asked.len(),
        asked.iter().map(|&q| questions_of.queries.of(q).len()).sum::<usize>() as f64
            / (asked.len() * growth.real().dim) as f64,
        whole.ndcg
    ));
    let d = LazyOptions::default();
    let settings = [
        ("default", d),
        ("half the lists", LazyOptions { list_bytes_per_root: d.list_bytes_per_root / 2, ..d }),
        (
            "twice the requests",
            LazyOptions { n_requests: 2 * d.n_requests, n_full_scores: 2 * d.n_full_scores, ..d },
        ),
    ];
    for (what, options) in settings {
        let (mut rankings, mut fetched, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for &q in &asked {
            lazy.clear();
            let (hits, of, ms) = ask(&mut lazy, &files, questions_of.queries.of(q), &options)?;
            rankings.push(hits);
            fetched.push(of);
            times.push(ms);
        }
        let found = quality(&rankings, &relevant);
        let what = format!(
            "{n} passages, {what}: {} requests in all, {} of them for lists",
            options.n_requests, options.n_list_requests
        );
        report.rows.push(Row { what, unit: "", cells: cells(&fetched, times, found, whole) });
        if options == d {
            let name = |stem: &str| format!("lazy-{stem}-{}k", n / 1000);
            let of = |f: fn(&Fetched) -> f64| percentile(fetched.iter().map(f).collect(), 95);
            report.ratios.push(Ratio { name: name("ndcg-kept"), value: found.ndcg / whole.ndcg });
            report.ratios.push(Ratio { name: name("kb-p95"), value: of(|f| f.bytes) / 1e3 });
            report.ratios.push(Ratio { name: name("requests-p95"), value: of(|f| f.requests) });
        }
    }
    let sizes = [
        ("opening kB", opening as f64 / 1e3),
        ("codes kB", code_bytes as f64 / 1e3),
        ("lists kB", list_bytes as f64 / 1e3),
        ("shards", files.len() as f64),
    ];
    report.rows.push(Row {
        what: format!("{n} passages, on the host"),
        unit: "",
        cells: sizes.map(cell).to_vec(),
    });
    Ok(())
}

fn ask(
    lazy: &mut LazyIndex,
    files: &HashMap<String, Vec<u8>>,
    query: &[f32],
    options: &LazyOptions,
) -> anyhow::Result<(Vec<u32>, Fetched, f64)> {
    let mut fetched = Fetched::default();
    let mut shards: HashSet<String> = HashSet::new();
    let start = Instant::now();
    let prepared = lazy.prepare(query)?;
    loop {
        match lazy.search(&prepared, options, 10)? {
            Step::Done(hits) => {
                let ms = start.elapsed().as_secs_f64() * 1e3;
                return Ok((hits.iter().map(|h| h.document.0).collect(), fetched, ms));
            }
            Step::Needs(needs) => {
                for Need { path, range, file_bytes } in needs {
                    let bytes = &files.get(&path).context("a shard that was not packed")?
                        [range.start as usize..range.end as usize];
                    lazy.provide(&path, range.start, bytes)?;
                    fetched.requests += 1.0;
                    fetched.bytes += bytes.len() as f64;
                    if shards.insert(path) {
                        fetched.shard_bytes += file_bytes as f64;
                    }
                }
            }
        }
    }
}

fn cells(fetched: &[Fetched], times: Vec<f64>, found: Quality, whole: Quality) -> Vec<Cell> {
    let of = |f: fn(&Fetched) -> f64, p| percentile(fetched.iter().map(f).collect(), p);
    [
        ("kB p50", of(|f| f.bytes, 50) / 1e3),
        ("kB p95", of(|f| f.bytes, 95) / 1e3),
        ("requests p50", of(|f| f.requests, 50)),
        ("requests p95", of(|f| f.requests, 95)),
        ("kB p50, whole shards", of(|f| f.shard_bytes, 50) / 1e3),
        ("ms p50", median(times)),
        ("nDCG@10", found.ndcg),
        ("kept %", 100.0 * found.ndcg / whole.ndcg),
    ]
    .map(cell)
    .to_vec()
}

fn cell((column, value): (&str, f64)) -> Cell {
    Cell { column: column.to_owned(), value, median: value }
}

fn percentile(mut values: Vec<f64>, p: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() * p / 100).or(values.last()).copied().unwrap_or(f64::NAN)
}
