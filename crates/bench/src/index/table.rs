//! Codecs, pooling factors and dimensions by bytes and quality.

use super::principal::reduced;
use super::{Quality, SETS, exact, file_bytes, median, quality, questions};
use crate::corpus::{Corpus, Embeddings, Source};
use crate::frame::{Cell, Ratio, Report, Row, Settings};
use rayon::prelude::*;
use shirube_index::{
    BucketRule, BuiltIndex, CodecKind, CodecOptions, Index, IndexBuilder, IndexOptions, ResidualCodec,
    SearchMode, SearchOptions, pool,
};
use shirube_kernels::Kernels;
use std::time::Instant;

/// A 2-bit PLAID index at 128 dimensions, unpooled: a code of four bytes and 32 of residuals (Santhanam et al. 2022).
const PLAID2_TOKEN_BYTES: f64 = 36.0;

/// Floors for the default: bytes for each token before pooling, and share of the exact nDCG@10 kept on every set.
const MOST_TOKEN_BYTES: f64 = PLAID2_TOKEN_BYTES / 4.0;
const LEAST_KEPT: f64 = 0.98;

/// What one row measured on one set.
struct Measured {
    token_bytes: f64,
    kept: f64,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Variant {
    kind: CodecKind,
    buckets: BucketRule,
    pool_factor: usize,
    /// Dimensions kept; `None` is all of the model's.
    dim: Option<usize>,
}

/// Dimensions beside the model's own.
const DIMS: [usize; 2] = [48, 32];
/// Codecs tried with more pooling, and with fewer dimensions.
const FEW: [CodecKind; 5] = [
    CodecKind::Bits4,
    CodecKind::Bits2,
    CodecKind::Product { dims: 4 },
    CodecKind::Product { dims: 8 },
    CodecKind::Product { dims: 10 },
];
/// Questions of a set at most, evenly from all.
const QUESTIONS: usize = 2000;

fn variants() -> Vec<Variant> {
    let mut all = Vec::new();
    let buckets = BucketRule::Uniform;
    for pool_factor in 1..=4 {
        let kinds: &[CodecKind] = if pool_factor <= 2 { &CodecKind::ALL } else { &FEW };
        for &kind in kinds {
            let variant = Variant { kind, buckets, pool_factor, dim: None };
            all.push(variant);
            if matches!(kind, CodecKind::Bits4 | CodecKind::Bits2) && pool_factor == 2 {
                all.push(Variant { buckets: BucketRule::Quantile, ..variant });
            }
        }
    }
    for dim in DIMS {
        for pool_factor in 1..=2 {
            all.extend(FEW.map(|kind| Variant { kind, buckets, pool_factor, dim: Some(dim) }));
        }
    }
    all
}

impl Variant {
    fn options(self) -> IndexOptions {
        IndexOptions {
            pool_factor: self.pool_factor,
            codec: CodecOptions { kind: self.kind, buckets: self.buckets, ..CodecOptions::default() },
            ..IndexOptions::default()
        }
    }

    fn name(self) -> String {
        let rule = if self.buckets == BucketRule::Quantile { " quantile" } else { "" };
        let kind = match self.kind {
            CodecKind::Product { dims } => format!("product {dims}"),
            kind => format!("{kind:?}").to_lowercase(),
        };
        let dim = self.dim.map_or(String::new(), |dim| format!(", {dim} dimensions"));
        format!("{kind}{rule}, pool {}{dim}", self.pool_factor)
    }
}

pub(super) fn run(source: &Source, settings: &Settings, report: &mut Report) -> anyhow::Result<Vec<Ratio>> {
    let variants = variants();
    let mut measured: Vec<Vec<Measured>> = variants.iter().map(|_| Vec::new()).collect();
    let default = IndexOptions::site();
    let mut of_default = None;
    let (mut default_bytes, mut default_kept) = (f64::MAX, f64::MAX);
    for set in SETS {
        let corpus = source.corpus(set)?;
        let asked = questions(&corpus, if settings.quick { 300 } else { QUESTIONS });
        let relevant: Vec<&[u32]> = asked.iter().map(|&q| corpus.relevant[q].as_slice()).collect();
        let reference = quality(&exact(&corpus, &asked)?, &relevant);
        let n_tokens = corpus.passages.n_rows() as f64;
        let f32_bytes = 4.0 * corpus.passages.values.len() as f64;
        report.notes.push(format!(
            "{set}: {} passages, {n_tokens} tokens, {} questions",
            corpus.passages.len(),
            asked.len()
        ));
        let values = [f32_bytes / n_tokens, f32_bytes, reference.ndcg, 100.0, reference.recall_1, 100.0];
        report.rows.push(row(set, "f32", corpus.passages.len(), &values, None));
        let mut narrow: Option<(usize, Corpus)> = None;
        let mut pooled: Option<((usize, Option<usize>), Pooled)> = None;
        for (v, &variant) in variants.iter().enumerate() {
            let options = variant.options();
            if let Some(dim) = variant.dim
                && narrow.as_ref().is_none_or(|(of, _)| *of != dim)
            {
                narrow = Some((dim, reduced(&corpus, dim)));
            }
            let of_dim = match &narrow {
                Some((_, narrow)) if variant.dim.is_some() => narrow,
                _ => &corpus,
            };
            let key = (variant.pool_factor, variant.dim);
            if pooled.as_ref().is_none_or(|(of, _)| *of != key) {
                pooled = Some((key, Pooled::new(of_dim, variant.pool_factor)?));
            }
            let (_, with_factor) = pooled.as_ref().expect("made above");
            let built = with_factor.with(options.codec)?;
            let (bytes, found, p50) = measure(of_dim, &asked, &relevant, &built)?;
            let (bytes, kept) = (bytes as f64, found.ndcg / reference.ndcg);
            let values = [
                bytes / n_tokens,
                bytes,
                found.ndcg,
                100.0 * kept,
                found.recall_1,
                100.0 * found.recall_1 / reference.recall_1,
            ];
            let name = variant.name();
            report.rows.push(row(set, &name, corpus.passages.len(), &values, Some(p50)));
            measured[v].push(Measured { token_bytes: bytes / n_tokens, kept });
            if options == default && variant.dim.is_none() {
                default_bytes = default_bytes.min(PLAID2_TOKEN_BYTES * n_tokens / bytes);
                default_kept = default_kept.min(kept);
                of_default = Some(name);
            }
        }
    }
    let least = |m: &[Measured]| m.iter().map(|m| m.kept).fold(f64::MAX, f64::min);
    let most = |m: &[Measured]| m.iter().map(|m| m.token_bytes).fold(0.0, f64::max);
    let mut good: Vec<usize> = (0..variants.len())
        .filter(|&v| most(&measured[v]) <= MOST_TOKEN_BYTES && least(&measured[v]) >= LEAST_KEPT)
        .collect();
    good.sort_by(|&a, &b| least(&measured[b]).total_cmp(&least(&measured[a])));
    report.notes.push(format!("default: {}", of_default.as_deref().unwrap_or("not in the table")));
    report.notes.push(format!(
        "at most {MOST_TOKEN_BYTES} bytes for each token before pooling and at least {LEAST_KEPT} of the exact nDCG@10 on every set, best first: {}",
        if good.is_empty() { "none".to_owned() } else { String::new() }
            + &good
                .iter()
                .map(|&v| {
                    format!("{} ({:.2} B, {:.4})", variants[v].name(), most(&measured[v]), least(&measured[v]))
                })
                .collect::<Vec<_>>()
                .join("; ")
    ));
    Ok(vec![
        Ratio { name: "bytes-vs-plaid2".to_owned(), value: default_bytes },
        Ratio { name: "ndcg-kept".to_owned(), value: default_kept },
    ])
}

fn row(set: &str, name: &str, n_passages: usize, values: &[f64; 6], p50: Option<f64>) -> Row {
    let [token_bytes, bytes, ndcg, kept, recall, recall_kept] = *values;
    let mut cells = vec![
        ("B/token", token_bytes),
        ("B/passage", bytes / n_passages as f64),
        ("MB", bytes / 1e6),
        ("nDCG@10", ndcg),
        ("kept %", kept),
        ("R@1", recall),
        ("R@1 kept %", recall_kept),
    ];
    cells.extend(p50.map(|ms| ("p50 ms", ms)));
    let cells =
        cells.into_iter().map(|(column, value)| Cell { column: column.to_owned(), value, median: value });
    Row { what: format!("{set} {name}"), unit: "", cells: cells.collect() }
}

/// Bytes, quality, and the median milliseconds of a query that scores every document on one thread.
fn measure(
    corpus: &Corpus,
    asked: &[usize],
    relevant: &[&[u32]],
    built: &BuiltIndex,
) -> anyhow::Result<(usize, Quality, f64)> {
    let index = Index::from_built(built, Kernels::detect())?;
    let exact = SearchOptions { mode: SearchMode::Exact, ..SearchOptions::default() };
    let search = |q: usize| -> anyhow::Result<Vec<u32>> {
        let prepared = index.prepare(corpus.queries.of(q))?;
        Ok(index.search_with(&prepared, &exact)?.hits.iter().map(|h| h.document.0).collect())
    };
    let rankings: Vec<Vec<u32>> = asked.par_iter().map(|&q| search(q)).collect::<Result<_, _>>()?;
    let mut times = Vec::new();
    for &q in asked.iter().step_by(asked.len().div_ceil(50)) {
        let start = Instant::now();
        search(q)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok((file_bytes(built), quality(&rankings, relevant), median(times)))
}

/// The passages of a set pooled by one factor, and the index with the default codec, whose centroids all codecs share: they do not depend on it.
struct Pooled {
    rows: Embeddings,
    first: BuiltIndex,
}

impl Pooled {
    fn new(corpus: &Corpus, pool_factor: usize) -> anyhow::Result<Self> {
        let dim = corpus.passages.dim;
        let pooled: Vec<Vec<f32>> = (0..corpus.passages.len())
            .into_par_iter()
            .map(|p| pool(corpus.passages.of(p), dim, pool_factor).embeddings)
            .collect();
        let mut rows = Embeddings::new(dim);
        let mut builder = IndexBuilder::new(dim, IndexOptions { pool_factor: 1, ..IndexOptions::default() })?;
        for passage in &pooled {
            builder.push(passage)?;
            rows.push(passage);
        }
        Ok(Self { rows, first: builder.finish(|_| {})? })
    }

    fn with(&self, options: CodecOptions) -> anyhow::Result<BuiltIndex> {
        if options == IndexOptions::default().codec {
            return Ok(self.first.clone());
        }
        let dim = self.rows.dim;
        let step = self.rows.n_rows().div_ceil(16_384);
        let sample: Vec<f32> = self.rows.values.chunks_exact(dim).step_by(step).flatten().copied().collect();
        let codec = ResidualCodec::train(&self.first.codec.tables().centroids, &sample, dim, options)?;
        let packed = codec.pack(&self.rows.values)?;
        Ok(BuiltIndex { codec, packed, ..self.first.clone() })
    }
}
