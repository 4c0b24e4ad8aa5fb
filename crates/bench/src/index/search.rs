//! Search over 10,000 and 100,000 passages: our modes and settings, then other engines, on the same pooled token embeddings and one thread each.
//!
//! Every engine is tried with several settings. Of the others the fastest that keeps nDCG@10 within half a percent of exact f32 MaxSim (or else the best)
//! stands for it, tried from the fastest on; of ours the fastest within half a percent of the best of those. Then all engines answer all questions again
//! in turns, and for each question its fastest turn counts: load only ever adds time. The median over the questions is shown.

use super::growth::Growth;
use super::peers::{self, Peer};
use super::{Quality, exact, file_bytes, median, quality, questions};
use crate::corpus::{Corpus, Source};
use crate::frame::{Cell, Ratio, Report, Row, Settings};
use anyhow::Context as _;
use shirube_index::{Index, IndexBuilder, IndexOptions, SearchMode, SearchOptions};
use shirube_kernels::Kernels;
use std::time::Instant;

/// Share of another nDCG@10 that makes results equal.
const EQUAL: f64 = 0.995;
/// Questions asked of each engine and turn. Of a quarter as many, the fate of one alone can move nDCG@10 by the half percent that makes results equal.
const QUESTIONS: usize = 600;
/// Turns of the paired run.
const TURNS: usize = 5;

/// An engine with an index of the corpus.
pub(super) trait Engine {
    fn name(&self) -> &str;
    fn index_bytes(&self) -> u64;
    fn build_seconds(&self) -> f64;
    /// Settings to try.
    fn n_settings(&self) -> usize;
    /// Whether each setting takes longer than the one before it.
    fn fastest_first(&self) -> bool;
    fn setting(&self, setting: usize) -> String;
    /// Rankings of all questions, and milliseconds of each.
    fn answer(&mut self, setting: usize) -> anyhow::Result<(Vec<Vec<u32>>, Vec<f64>)>;
}

struct Ours<'a> {
    index: Index,
    corpus: &'a Corpus,
    asked: &'a [usize],
    bytes: u64,
    seconds: f64,
    settings: Vec<(SearchMode, usize, usize)>,
}

impl<'a> Ours<'a> {
    fn build(corpus: &'a Corpus, asked: &'a [usize]) -> anyhow::Result<Self> {
        let start = Instant::now();
        let mut builder = IndexBuilder::new(
            corpus.passages.dim,
            IndexOptions { pool_factor: 1, ..IndexOptions::default() },
        )?;
        for p in 0..corpus.passages.len() {
            builder.push(corpus.passages.of(p))?;
        }
        let built = builder.finish(|_| {})?;
        let seconds = start.elapsed().as_secs_f64();
        let mut settings = vec![(SearchMode::Exact, 0, 0)];
        for n_candidates in [64, 128, 256, 512] {
            settings.push((SearchMode::Scan, 0, n_candidates));
            settings.extend([2, 4, 8].map(|n_probe| (SearchMode::Probe, n_probe, n_candidates)));
        }
        let index = Index::from_built(&built, Kernels::detect())?;
        Ok(Self { index, corpus, asked, bytes: file_bytes(&built) as u64, seconds, settings })
    }
}

impl Engine for Ours<'_> {
    fn name(&self) -> &str {
        "shirube"
    }
    fn index_bytes(&self) -> u64 {
        self.bytes
    }
    fn build_seconds(&self) -> f64 {
        self.seconds
    }
    fn n_settings(&self) -> usize {
        self.settings.len()
    }
    fn fastest_first(&self) -> bool {
        false
    }
    fn setting(&self, setting: usize) -> String {
        match self.settings[setting] {
            (SearchMode::Exact, ..) => "exact".to_owned(),
            (SearchMode::Probe, n_probe, n) => format!("probe {n_probe}, {n} candidates"),
            (_, _, n) => format!("scan, {n} candidates"),
        }
    }
    fn answer(&mut self, setting: usize) -> anyhow::Result<(Vec<Vec<u32>>, Vec<f64>)> {
        let (mode, n_probe, n_candidates) = self.settings[setting];
        let options = SearchOptions { mode, n_probe, n_candidates, ..SearchOptions::default() };
        let (mut rankings, mut times) = (Vec::new(), Vec::new());
        for &q in self.asked {
            let start = Instant::now();
            let prepared = self.index.prepare(self.corpus.queries.of(q))?;
            let found = self.index.search_with(&prepared, &options)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            rankings.push(found.hits.iter().map(|h| h.document.0).collect());
        }
        Ok((rankings, times))
    }
}

impl Engine for Peer {
    fn name(&self) -> &str {
        self.name
    }
    fn index_bytes(&self) -> u64 {
        self.index_bytes
    }
    fn build_seconds(&self) -> f64 {
        self.build_seconds
    }
    fn n_settings(&self) -> usize {
        peers::SETTINGS.len()
    }
    fn fastest_first(&self) -> bool {
        true
    }
    fn setting(&self, setting: usize) -> String {
        let (n_probe, n) = peers::SETTINGS[setting];
        format!("probe {n_probe}, n_full_scores {n}")
    }
    fn answer(&mut self, setting: usize) -> anyhow::Result<(Vec<Vec<u32>>, Vec<f64>)> {
        self.ask(setting)
    }
}

pub(super) fn run(
    source: &Source,
    sizes: &[usize],
    settings: &Settings,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut growth = Growth::new(source)?;
    let (iterations, points) = peers::KMEANS;
    report.notes.push(format!(
        "search: pooled by 2 before all engines; {} real passages, beyond them halves of two; others by their fastest setting within .5 % of exact nDCG@10 (kmeans_niters {iterations}, max_points_per_centroid {points}), ours within .5 % of theirs, {TURNS} paired turns of at most {QUESTIONS} questions, one thread",
        growth.n_real()
    ));
    let mut ratios: Vec<(String, f64)> = Vec::new();
    for &n in sizes {
        let corpus = growth.corpus(n);
        let asked = questions(&corpus, QUESTIONS);
        let relevant: Vec<&[u32]> = asked.iter().map(|&q| corpus.relevant[q].as_slice()).collect();
        let reference = quality(&exact(&corpus, &asked)?, &relevant);
        let what = format!("{n} passages, {} vectors", corpus.passages.n_rows());
        report.rows.push(Row {
            what: format!("{what}: f32, exact"),
            unit: "",
            cells: cells(reference, reference, 4.0 * corpus.passages.values.len() as f64),
        });
        let mut engines: Vec<Box<dyn Engine + '_>> = vec![Box::new(Ours::build(&corpus, &asked)?)];
        for engine in [peers::next_plaid, peers::fast_plaid] {
            match engine(settings).and_then(|engine| engine.start(&corpus, &asked)) {
                Ok(peer) => engines.push(Box::new(peer)),
                Err(e) => report.notes.push(format!("{what}: not run: {e:#}")),
            }
        }
        let mut chosen = Vec::new();
        for engine in engines.iter_mut().skip(1) {
            let least = EQUAL * reference.ndcg;
            chosen.push(choose(engine.as_mut(), &relevant, (reference, least), report, &what)?);
        }
        let others = chosen.iter().map(|(_, found)| found.ndcg).reduce(f64::max);
        let least = EQUAL * others.unwrap_or(reference.ndcg);
        chosen.insert(0, choose(engines[0].as_mut(), &relevant, (reference, least), report, &what)?);
        let mut fastest = vec![vec![f64::MAX; asked.len()]; engines.len()];
        for _ in 0..TURNS {
            for ((engine, &(setting, _)), fastest) in engines.iter_mut().zip(&chosen).zip(&mut fastest) {
                for (fastest, ms) in fastest.iter_mut().zip(engine.answer(setting)?.1) {
                    *fastest = fastest.min(ms);
                }
            }
        }
        let medians: Vec<f64> = fastest.into_iter().map(median).collect();
        for ((engine, &(setting, found)), &ms) in engines.iter().zip(&chosen).zip(&medians) {
            let mut cells = cells(found, reference, engine.index_bytes() as f64);
            for (column, value) in [("p50 ms", ms), ("build s", engine.build_seconds())] {
                cells.push(Cell { column: column.to_owned(), value, median: value });
            }
            let what = format!("{what}: {} ({})", engine.name(), engine.setting(setting));
            report.rows.push(Row { what, unit: "", cells });
        }
        for (engine, &ms) in engines.iter().zip(&medians).skip(1) {
            let name = format!("search-vs-{}", engine.name());
            report.ratios.push(Ratio { name: format!("{name}-{}k", n / 1000), value: ms / medians[0] });
            ratios.push((name, ms / medians[0]));
        }
    }
    // The floor holds at both sizes: the lower of the two.
    for name in ["search-vs-next-plaid", "search-vs-fast-plaid"] {
        if let Some(value) = ratios.iter().filter(|(n, _)| n == name).map(|(_, v)| *v).reduce(f64::min) {
            report.ratios.push(Ratio { name: name.to_owned(), value });
        }
    }
    Ok(())
}

fn cells(found: Quality, reference: Quality, bytes: f64) -> Vec<Cell> {
    [
        ("MB", bytes / 1e6),
        ("nDCG@10", found.ndcg),
        ("kept %", 100.0 * found.ndcg / reference.ndcg),
        ("R@1", found.recall_1),
    ]
    .into_iter()
    .map(|(column, value)| Cell { column: column.to_owned(), value, median: value })
    .collect()
}

/// The fastest setting with at least `least` nDCG@10, or the best there is. Each is shown beside the `reference`.
fn choose(
    engine: &mut dyn Engine,
    relevant: &[&[u32]],
    (reference, least): (Quality, f64),
    report: &mut Report,
    what: &str,
) -> anyhow::Result<(usize, Quality)> {
    let mut best: Option<(bool, f64, usize, Quality)> = None;
    for setting in 0..engine.n_settings() {
        let (rankings, mut times) = engine.answer(setting).with_context(|| engine.name().to_owned())?;
        let (_, again) = engine.answer(setting).with_context(|| engine.name().to_owned())?;
        times.iter_mut().zip(again).for_each(|(ms, again)| *ms = ms.min(again));
        let (found, ms) = (quality(&rankings, relevant), median(times));
        let equal = found.ndcg >= least;
        let mut cells = cells(found, reference, engine.index_bytes() as f64);
        cells.push(Cell { column: "p50 ms".to_owned(), value: ms, median: ms });
        report.rows.push(Row {
            what: format!("{what}: trial {} {}", engine.name(), engine.setting(setting)),
            unit: "",
            cells,
        });
        let better = best.is_none_or(|(was_equal, was_ms, _, was)| match (equal, was_equal) {
            (true, true) => ms < was_ms,
            (false, false) => found.ndcg > was.ndcg,
            (equal, _) => equal,
        });
        if better {
            best = Some((equal, ms, setting, found));
        }
        if equal && engine.fastest_first() {
            break;
        }
    }
    let (_, _, setting, found) = best.context("no settings")?;
    Ok((setting, found))
}
