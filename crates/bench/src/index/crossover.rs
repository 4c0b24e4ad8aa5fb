//! Where the modes of a search cross: the time of each on indexes of growing size, one thread, and the nDCG@10 it keeps of scoring all exactly.
//!
//! The modes take turns, and for each question the fastest turn counts. The constants `EXACT_TOKENS` and `SCAN_TOKENS` of the index stand on this table. It closes
//! with how much faster a scan by centroids alone is than exact scoring of the same documents, the query prepared before both. A query of a word or two says little to the
//! scan: beside it stands how many of exact scoring's ten best a scan finds for one, with the candidates of a long query and with as many more as it is shorter.

use super::growth::Growth;
use super::{median, quality, questions};
use crate::corpus::Source;
use crate::frame::{Cell, Ratio, Report, Row, Settings};
use shirube_core::DocId;
use shirube_index::{EXACT_TOKENS, Index, SCAN_TOKENS, SearchMode, SearchOptions};
use shirube_kernels::Kernels;
use std::time::Instant;

/// Passages of each size.
const SIZES: [usize; 9] = [200, 500, 1000, 2000, 5000, 10_000, 25_000, 50_000, 100_000];
/// Questions asked in each mode and turn.
const QUESTIONS: usize = 40;
const TURNS: usize = 5;
/// Vectors of a short query, of the 32 of a long one: the marks before it and a word or two.
const SHORT: usize = 4;
const MODES: [SearchMode; 3] = [SearchMode::Exact, SearchMode::Scan, SearchMode::Probe];

pub(crate) fn run(settings: &Settings) -> anyhow::Result<Report> {
    let source = Source::open(&settings.data, &settings.model, &settings.out.join("embeddings"))?;
    let mut growth = Growth::new(&source)?;
    let mut report = Report::default();
    let sizes = if settings.quick { &SIZES[..4] } else { &SIZES[..] };
    let questions_of = growth.corpus(0);
    let mut scan_ratio = f64::NAN;
    for &n in sizes {
        let built = growth.index(n)?;
        let index = Index::from_built(&built, Kernels::detect())?;
        let mut asked = questions(&questions_of, QUESTIONS);
        // Of a small corpus only questions whose answers are in it.
        asked.retain(|&q| questions_of.relevant[q].iter().all(|&d| (d as usize) < n));
        let relevant: Vec<&[u32]> = asked.iter().map(|&q| questions_of.relevant[q].as_slice()).collect();
        let mut least = vec![vec![f64::MAX; asked.len()]; MODES.len()];
        let mut rankings = vec![Vec::new(); MODES.len()];
        for turn in 0..TURNS {
            for ((mode, least), rankings) in MODES.into_iter().zip(&mut least).zip(&mut rankings) {
                let options = SearchOptions { mode, ..SearchOptions::default() };
                for (&q, least) in asked.iter().zip(least.iter_mut()) {
                    let start = Instant::now();
                    let prepared = index.prepare(questions_of.queries.of(q))?;
                    let found = index.search_with(&prepared, &options)?;
                    *least = least.min(start.elapsed().as_secs_f64() * 1e3);
                    if turn == 0 {
                        rankings.push(found.hits.iter().map(|h| h.document.0).collect::<Vec<_>>());
                    }
                }
            }
        }
        scan_ratio = scan_against_exact(&index, &asked, &questions_of)?;
        let found: Vec<f64> = rankings.iter().map(|rankings| quality(rankings, &relevant).ndcg).collect();
        let mut cells = vec![("vectors", index.n_tokens() as f64)];
        let names = [("exact ms", ""), ("scan ms", "scan kept %"), ("probe ms", "probe kept %")];
        for (((column, kept), least), ndcg) in names.into_iter().zip(least).zip(&found) {
            cells.push((column, median(least)));
            if !kept.is_empty() {
                cells.push((kept, 100.0 * ndcg / found[0]));
            }
        }
        cells.push(("scan / exact, documents alone", scan_ratio));
        let few = SearchOptions::default().n_candidates;
        for (column, n_candidates) in
            [("short, kept of ten %", few), ("short, candidates as it is shorter %", few * 32 / SHORT)]
        {
            cells.push((column, 100.0 * short_kept(&index, &asked, &questions_of, n_candidates)?));
        }
        report.rows.push(Row {
            what: format!("{n} passages"),
            unit: "",
            cells: cells
                .into_iter()
                .map(|(column, value)| Cell { column: column.to_owned(), value, median: value })
                .collect(),
        });
    }
    report.notes.push(format!(
        "model {}; default codec, defaults of each mode, {TURNS} turns of {QUESTIONS} questions; exact up to {EXACT_TOKENS} vectors, scan up to {SCAN_TOKENS}",
        source.model()
    ));
    report.ratios.push(Ratio { name: "scan-vs-exact".to_owned(), value: scan_ratio });
    Ok(report)
}

/// Share of exact scoring's ten best that a scan finds for the beginnings of questions.
fn short_kept(
    index: &Index,
    asked: &[usize],
    questions_of: &crate::corpus::Corpus,
    n_candidates: usize,
) -> anyhow::Result<f64> {
    let (mut kept, mut all) = (0, 0);
    for &q in asked {
        let query = questions_of.queries.of(q);
        let prepared = index.prepare(&query[..query.len().min(SHORT * questions_of.queries.dim)])?;
        let ten = |mode| {
            let options = SearchOptions { mode, n_candidates, ..SearchOptions::default() };
            index.search_with(&prepared, &options)
        };
        let (exact, scan) = (ten(SearchMode::Exact)?.hits, ten(SearchMode::Scan)?.hits);
        all += exact.len();
        kept += exact.iter().filter(|e| scan.iter().any(|s| s.document == e.document)).count();
    }
    Ok(kept as f64 / all.max(1) as f64)
}

/// How many times as fast all documents are scored by centroids alone as exactly; the fastest of some turns of each.
fn scan_against_exact(
    index: &Index,
    asked: &[usize],
    questions_of: &crate::corpus::Corpus,
) -> anyhow::Result<f64> {
    let all: Vec<DocId> = (0..index.n_documents() as u32).map(DocId).collect();
    let mut ratios = Vec::new();
    for &q in asked.iter().take(10) {
        let prepared = index.prepare(questions_of.queries.of(q))?;
        let (mut exact, mut scan) = (f64::MAX, f64::MAX);
        for _ in 0..TURNS {
            let start = Instant::now();
            std::hint::black_box(index.score_all(&prepared)?);
            exact = exact.min(start.elapsed().as_secs_f64());
            let start = Instant::now();
            std::hint::black_box(index.approximate(&prepared, &all)?);
            scan = scan.min(start.elapsed().as_secs_f64());
        }
        ratios.push(exact / scan);
    }
    Ok(median(ratios))
}
