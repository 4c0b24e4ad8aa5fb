//! The index: quality per byte of every codec, and the time of a query beside other engines.
//!
//! | part | data |
//! |---|---|
//! | table | codec x pooling factor x dimensions on three retrieval sets; at most 1,000 questions (`--quick`: 300) a set, all documents scored exactly |
//! | search | 10,000 and 100,000 passages, the modes of our search, next-plaid and fast-plaid on the same token embeddings |
//!
//! nDCG@10 and R@1 stand beside those of uncompressed f32 embeddings without pooling, scored by our own kernel. Bytes are those of the files
//! (tables, centroids, lengths, codes, residuals); sections and words are not counted. Token embeddings are made once and kept under
//! `target/bench/embeddings`. Left out: encoding a query, reading files.

pub(crate) mod crossover;
pub(crate) mod growth;
pub(crate) mod lazy;
pub(crate) mod million;
pub(crate) mod parts;
mod peers;
mod principal;
mod search;
mod table;

use crate::corpus::{Corpus, Source};
use crate::frame::{Report, Settings};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use shirube_format::bundle::{CodesBlock, CodesDirectory};
use shirube_index::BuiltIndex;

/// Sets of the table.
const SETS: [&str; 3] = ["jaquad/dev", "jsquad/valid", "docs"];

/// The table, then the search beside other engines.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<Report> {
    let source = Source::open(&settings.data, &settings.model, &settings.out.join("embeddings"))?;
    let mut report = Report::default();
    report.notes.push(format!("model {}, {} dimensions", source.model(), source.dim()));
    let mut closing = table::run(&source, settings, &mut report)?;
    if settings.quick {
        report.notes.push(
            "--quick leaves out the search over larger corpora and the peers (bench index-search)".to_owned(),
        );
    } else {
        search::run(&source, search_sizes(settings), settings, &mut report)?;
    }
    report.ratios.append(&mut closing);
    Ok(report)
}

/// The search beside other engines alone; `--quick` at 10,000 passages only.
pub(crate) fn run_search(settings: &Settings) -> anyhow::Result<Report> {
    let source = Source::open(&settings.data, &settings.model, &settings.out.join("embeddings"))?;
    let mut report = Report::default();
    search::run(&source, search_sizes(settings), settings, &mut report)?;
    let mut closing = table::run_default(&source, settings, &mut report)?;
    report.ratios.append(&mut closing);
    Ok(report)
}

/// The indexes of other engines, made ahead of [`run_search`].
pub(crate) fn build_peers(settings: &Settings) -> anyhow::Result<()> {
    let source = Source::open(&settings.data, &settings.model, &settings.out.join("embeddings"))?;
    let engine = peers::fast_plaid(settings)?;
    let mut growth = growth::Growth::new(&source)?;
    for &n in search_sizes(settings) {
        engine.index(&growth.corpus(n).passages)?;
    }
    Ok(())
}

/// Passages of the search beside other engines.
fn search_sizes(settings: &Settings) -> &'static [usize] {
    if settings.quick { &[10_000] } else { &[10_000, 100_000] }
}

/// Means over questions.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Quality {
    pub(crate) ndcg: f64,
    pub(crate) recall_1: f64,
}

/// Quality of rankings (best first, at most ten count) against the relevant passages.
pub(crate) fn quality(rankings: &[Vec<u32>], relevant: &[&[u32]]) -> Quality {
    let mut sum = Quality::default();
    for (ranking, relevant) in rankings.iter().zip(relevant) {
        let gain = |rank: usize| 1.0 / ((rank + 2) as f64).log2();
        let found = ranking.iter().take(10).enumerate().filter(|(_, d)| relevant.contains(d));
        let ideal: f64 = (0..relevant.len().min(10)).map(gain).sum();
        sum.ndcg += found.map(|(rank, _)| gain(rank)).sum::<f64>() / ideal.max(f64::MIN_POSITIVE);
        sum.recall_1 += f64::from(u8::from(ranking.first().is_some_and(|d| relevant.contains(d))));
    }
    let n = rankings.len().max(1) as f64;
    Quality { ndcg: sum.ndcg / n, recall_1: sum.recall_1 / n }
}

/// The questions asked: at most `most` of those with an answer, evenly from all.
pub(crate) fn questions(corpus: &Corpus, most: usize) -> Vec<usize> {
    let all: Vec<usize> = (0..corpus.queries.len()).filter(|&q| !corpus.relevant[q].is_empty()).collect();
    let step = all.len().div_ceil(most).max(1);
    all.into_iter().step_by(step).collect()
}

/// The ten best of `scores`, best first, ties to the lower id.
pub(crate) fn top_ten(scores: &[f32]) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..scores.len() as u32).collect();
    let order = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
    if ids.len() > 10 {
        ids.select_nth_unstable_by(9, order);
        ids.truncate(10);
    }
    ids.sort_unstable_by(order);
    ids
}

/// Rankings by MaxSim over uncompressed embeddings.
pub(crate) fn exact(corpus: &Corpus, questions: &[usize]) -> anyhow::Result<Vec<Vec<u32>>> {
    let kernels = shirube_kernels::Kernels::detect();
    let documents: Vec<shirube_kernels::TokenRange> =
        corpus.passages.starts.windows(2).map(|w| (w[0] as u32..w[1] as u32).into()).collect();
    let dim = corpus.passages.dim;
    questions
        .par_iter()
        .map(|&q| {
            let query = corpus.queries.of(q);
            let packed = kernels.pack_f32(query, query.len() / dim, dim)?;
            let mut scores = vec![0.0; documents.len()];
            kernels.maxsim_f32(&packed, &corpus.passages.values, &documents, &mut scores)?;
            Ok(top_ten(&scores))
        })
        .collect()
}

/// Bytes of an index in files: tables with centroids, codes and their directory.
pub(crate) fn file_bytes(built: &BuiltIndex) -> usize {
    let tables = built.codec.tables();
    let all = CodesBlock {
        lengths: built.lengths.clone(),
        codes: built.packed.codes.clone(),
        residuals: built.packed.residuals.clone(),
    };
    let (file, directory, _) = CodesDirectory::pack(tables.dim, tables.packing, tables.n_centroids(), &all);
    tables.to_bytes().len() + file.len() + directory.documents.table.total_bytes() as usize
}

pub(crate) fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_is_that_of_the_formula() {
        let rankings = [vec![3, 1, 2], vec![0, 9], vec![5]];
        let relevant: [&[u32]; 3] = [&[1], &[0], &[6]];
        let found = quality(&rankings, &relevant);
        assert!((found.ndcg - (1.0 / 3.0_f64.log2() + 1.0) / 3.0).abs() < 1e-12);
        assert!((found.recall_1 - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(top_ten(&[0.0, 2.0, 1.0, 2.0]), [1, 3, 2, 0]);
    }
}
