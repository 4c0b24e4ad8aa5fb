//! Codecs, pooling factors, dimensions and numbers of centroids by bytes and quality.
//!
//! Each row is kept under `target/bench/index-rows` as soon as it is measured, under a name that holds the model and this program's own bytes: a run that was
//! stopped goes on where it was, and a program built anew measures anew.

use super::principal::reduced;
use super::{Quality, SETS, exact, file_bytes, median, quality, questions};
use crate::corpus::{Corpus, Embeddings, Source};
use crate::frame::{Cell, Ratio, Report, Row, Settings};
use anyhow::Context as _;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use shirube_index::{
    BucketRule, BuiltIndex, CodecKind, CodecOptions, Index, IndexBuilder, IndexOptions, ResidualCodec,
    SearchMode, SearchOptions, n_centroids_for, pool,
};
use shirube_kernels::Kernels;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A 2-bit PLAID index at 128 dimensions, unpooled: a code of four bytes and 32 of residuals (Santhanam et al. 2022).
const PLAID2_TOKEN_BYTES: f64 = 36.0;

/// Floors for the default: bytes for each token before pooling, and share of the exact nDCG@10 kept on every set.
const MOST_TOKEN_BYTES: f64 = PLAID2_TOKEN_BYTES / 4.0;
const LEAST_KEPT: f64 = 0.98;

/// What one row measured on one set.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Measured {
    n_passages: usize,
    n_tokens: usize,
    n_questions: usize,
    bytes: usize,
    found: Quality,
    /// Of uncompressed embeddings.
    exact: Quality,
    p50_ms: f64,
}

impl Measured {
    fn token_bytes(&self) -> f64 {
        self.bytes as f64 / self.n_tokens as f64
    }

    fn kept(&self) -> f64 {
        self.found.ndcg / self.exact.ndcg
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Variant {
    kind: CodecKind,
    buckets: BucketRule,
    input: Input,
}

/// What codecs share.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Input {
    pool_factor: usize,
    /// Dimensions kept; `None` is all of the model's.
    dim: Option<usize>,
    centroids: Centroids,
}

/// Number of centroids.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Centroids {
    Default,
    Half,
    Twice,
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
/// Questions of a set at most, evenly from all; with `--quick`.
const QUESTIONS: usize = 1000;
const QUICK_QUESTIONS: usize = 300;
/// Questions timed, and turns of which the fastest counts.
const TIMED: usize = 30;
const TURNS: usize = 3;

const WHOLE: Input = Input { pool_factor: 1, dim: None, centroids: Centroids::Default };

fn variants() -> Vec<Variant> {
    let mut all = Vec::new();
    let buckets = BucketRule::Uniform;
    for pool_factor in 1..=4 {
        let kinds: &[CodecKind] = if pool_factor <= 2 { &CodecKind::ALL } else { &FEW };
        for &kind in kinds {
            let variant = Variant { kind, buckets, input: Input { pool_factor, ..WHOLE } };
            all.push(variant);
            if matches!(kind, CodecKind::Bits4 | CodecKind::Bits2) && pool_factor == 2 {
                all.push(Variant { buckets: BucketRule::Quantile, ..variant });
            }
        }
    }
    for centroids in [Centroids::Half, Centroids::Twice] {
        all.push(Variant { input: Input { centroids, ..WHOLE }, ..default_variant() });
    }
    for dim in DIMS {
        for pool_factor in 1..=2 {
            let input = Input { pool_factor, dim: Some(dim), ..WHOLE };
            all.extend(FEW.map(|kind| Variant { kind, buckets, input }));
        }
    }
    all
}

/// What `shirube build` takes.
fn default_variant() -> Variant {
    let IndexOptions { codec, pool_factor, .. } = IndexOptions::site();
    Variant { kind: codec.kind, buckets: codec.buckets, input: Input { pool_factor, ..WHOLE } }
}

impl Variant {
    fn codec(self) -> CodecOptions {
        CodecOptions { kind: self.kind, buckets: self.buckets, ..CodecOptions::default() }
    }

    fn name(self) -> String {
        let rule = if self.buckets == BucketRule::Quantile { " quantile" } else { "" };
        let kind = match self.kind {
            CodecKind::Product { dims } => format!("product {dims}"),
            kind => format!("{kind:?}").to_lowercase(),
        };
        let dim = self.input.dim.map_or(String::new(), |dim| format!(", {dim} dimensions"));
        let centroids = match self.input.centroids {
            Centroids::Default => "",
            Centroids::Half => ", half the centroids",
            Centroids::Twice => ", twice the centroids",
        };
        format!("{kind}{rule}, pool {}{dim}{centroids}", self.input.pool_factor)
    }
}

/// Every codec, pooling factor, dimension and number of centroids on three sets.
pub(super) fn run(source: &Source, settings: &Settings, report: &mut Report) -> anyhow::Result<Vec<Ratio>> {
    let variants = variants();
    let measured = table(source, settings, report, &variants)?;
    let least = |m: &[Measured]| m.iter().map(Measured::kept).fold(f64::MAX, f64::min);
    let most = |m: &[Measured]| m.iter().map(Measured::token_bytes).fold(0.0, f64::max);
    let mut good: Vec<usize> = (0..variants.len())
        .filter(|&v| most(&measured[v]) <= MOST_TOKEN_BYTES && least(&measured[v]) >= LEAST_KEPT)
        .collect();
    good.sort_by(|&a, &b| least(&measured[b]).total_cmp(&least(&measured[a])));
    let good: Vec<String> = good
        .iter()
        .map(|&v| format!("{} ({:.2} B, {:.4})", variants[v].name(), most(&measured[v]), least(&measured[v])))
        .collect();
    report.notes.push(format!("default: {}", default_variant().name()));
    report.notes.push(format!(
        "at most {MOST_TOKEN_BYTES} bytes for each token before pooling and at least {LEAST_KEPT} of the exact nDCG@10 on every set, best first: {}",
        if good.is_empty() { "none".to_owned() } else { good.join("; ") }
    ));
    let default = variants.iter().position(|v| *v == default_variant()).context("the default is a row")?;
    Ok(closing(&measured[default]))
}

/// The default alone on three sets, which takes a minute.
pub(super) fn run_default(
    source: &Source,
    settings: &Settings,
    report: &mut Report,
) -> anyhow::Result<Vec<Ratio>> {
    Ok(closing(&table(source, settings, report, &[default_variant()])?[0]))
}

/// How many times smaller than a 2-bit PLAID index, and the share of the exact nDCG@10 kept: the lowest of all sets.
fn closing(default: &[Measured]) -> Vec<Ratio> {
    let least = |of: fn(&Measured) -> f64| default.iter().map(of).fold(f64::MAX, f64::min);
    let ratio = |name: &str, value| Ratio { name: name.to_owned(), value };
    Vec::from([
        ratio("bytes-vs-plaid2", least(|m| PLAID2_TOKEN_BYTES / m.token_bytes())),
        ratio("ndcg-kept", least(Measured::kept)),
    ])
}

/// `[variants][sets]`, and a row of the report for each.
fn table(
    source: &Source,
    settings: &Settings,
    report: &mut Report,
    variants: &[Variant],
) -> anyhow::Result<Vec<Vec<Measured>>> {
    let rows = Rows::open(&settings.out.join("index-rows"), source, settings.quick)?;
    let mut measured: Vec<Vec<Measured>> = variants.iter().map(|_| Vec::new()).collect();
    for set in SETS {
        let mut bed: Option<Bed> = None;
        for (&variant, measured) in variants.iter().zip(&mut measured) {
            let found = match rows.get(set, variant) {
                Some(found) => found,
                None => {
                    if bed.is_none() {
                        bed = Some(Bed::new(source.corpus(set)?, settings.quick)?);
                    }
                    let found = bed.as_mut().context("made above")?.measure(variant)?;
                    rows.put(set, variant, &found)?;
                    found
                }
            };
            measured.push(found);
        }
        let first = *measured.first().and_then(|m| m.last()).context("there are variants")?;
        report.notes.push(format!(
            "{set}: {} passages, {} tokens, {} questions",
            first.n_passages, first.n_tokens, first.n_questions
        ));
        let plain = Measured { bytes: 4 * source.dim() * first.n_tokens, found: first.exact, ..first };
        report.rows.push(row(set, "f32", &plain, false));
        for (variant, measured) in variants.iter().zip(&measured) {
            let last = measured.last().context("measured above")?;
            report.rows.push(row(set, &variant.name(), last, true));
        }
    }
    Ok(measured)
}

fn row(set: &str, name: &str, m: &Measured, timed: bool) -> Row {
    let bytes = m.bytes as f64;
    let mut cells = vec![
        ("B/token", m.token_bytes()),
        ("B/passage", bytes / m.n_passages as f64),
        ("MB", bytes / 1e6),
        ("nDCG@10", m.found.ndcg),
        ("kept %", 100.0 * m.kept()),
        ("R@1", m.found.recall_1),
        ("R@1 kept %", 100.0 * m.found.recall_1 / m.exact.recall_1),
    ];
    if timed {
        cells.push(("p50 ms", m.p50_ms));
    }
    let cells =
        cells.into_iter().map(|(column, value)| Cell { column: column.to_owned(), value, median: value });
    Row { what: format!("{set} {name}"), unit: "", cells: cells.collect() }
}

/// Rows measured already.
struct Rows {
    folder: PathBuf,
    key: String,
}

impl Rows {
    fn open(folder: &Path, source: &Source, quick: bool) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let program = std::fs::read(std::env::current_exe()?)?;
        let hash = program
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        let quick = if quick { "-quick" } else { "" };
        let key = format!("{}-{hash:016x}{quick}", source.model().replace([' ', '/'], "-"));
        Ok(Self { folder: folder.to_owned(), key })
    }

    fn path(&self, set: &str, variant: Variant) -> PathBuf {
        let name = format!("{set}-{}", variant.name()).replace([' ', '/', ','], "-");
        self.folder.join(format!("{}-{name}.json", self.key))
    }

    fn get(&self, set: &str, variant: Variant) -> Option<Measured> {
        serde_json::from_slice(&std::fs::read(self.path(set, variant)).ok()?).ok()
    }

    fn put(&self, set: &str, variant: Variant, found: &Measured) -> anyhow::Result<()> {
        let (path, part) = (self.path(set, variant), self.folder.join("part"));
        std::fs::write(&part, serde_json::to_vec(found)?)?;
        Ok(std::fs::rename(part, path)?)
    }
}

/// One set, with what its variants share: the latest of each, for they come in order.
struct Bed {
    corpus: Corpus,
    asked: Vec<usize>,
    exact: Quality,
    narrow: Option<(usize, Corpus)>,
    pooled: Option<(Input, Pooled)>,
}

impl Bed {
    fn new(corpus: Corpus, quick: bool) -> anyhow::Result<Self> {
        let asked = questions(&corpus, if quick { QUICK_QUESTIONS } else { QUESTIONS });
        let exact = quality(&exact(&corpus, &asked)?, &relevant(&corpus, &asked));
        Ok(Self { corpus, asked, exact, narrow: None, pooled: None })
    }

    fn measure(&mut self, variant: Variant) -> anyhow::Result<Measured> {
        if let Some(dim) = variant.input.dim
            && self.narrow.as_ref().is_none_or(|(of, _)| *of != dim)
        {
            self.narrow = Some((dim, reduced(&self.corpus, dim)));
        }
        let corpus = match &self.narrow {
            Some((_, narrow)) if variant.input.dim.is_some() => narrow,
            _ => &self.corpus,
        };
        if self.pooled.as_ref().is_none_or(|(of, _)| *of != variant.input) {
            self.pooled = Some((variant.input, Pooled::new(corpus, variant.input)?));
        }
        let (_, pooled) = self.pooled.as_ref().context("made above")?;
        let built = pooled.with(variant.codec())?;
        let (bytes, found, p50_ms) = measure(corpus, &self.asked, &relevant(corpus, &self.asked), &built)?;
        Ok(Measured {
            n_passages: self.corpus.passages.len(),
            n_tokens: self.corpus.passages.n_rows(),
            n_questions: self.asked.len(),
            bytes,
            found,
            exact: self.exact,
            p50_ms,
        })
    }
}

fn relevant<'a>(corpus: &'a Corpus, asked: &[usize]) -> Vec<&'a [u32]> {
    asked.iter().map(|&q| corpus.relevant[q].as_slice()).collect()
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
    for &q in asked.iter().step_by(asked.len().div_ceil(TIMED)) {
        let mut least = f64::MAX;
        for _ in 0..TURNS {
            let start = Instant::now();
            search(q)?;
            least = least.min(start.elapsed().as_secs_f64() * 1e3);
        }
        times.push(least);
    }
    Ok((file_bytes(built), quality(&rankings, relevant), median(times)))
}

/// The passages of a set pooled by one factor, and the index with the default codec, whose centroids all codecs share: they do not depend on it.
struct Pooled {
    rows: Embeddings,
    first: BuiltIndex,
}

impl Pooled {
    fn new(corpus: &Corpus, input: Input) -> anyhow::Result<Self> {
        let Input { pool_factor, centroids, .. } = input;
        let dim = corpus.passages.dim;
        let pooled: Vec<Vec<f32>> = (0..corpus.passages.len())
            .into_par_iter()
            .map(|p| pool(corpus.passages.of(p), dim, pool_factor).embeddings)
            .collect();
        let mut rows = Embeddings::new(dim);
        let usual = n_centroids_for(pooled.iter().map(Vec::len).sum::<usize>() / dim);
        let n_centroids = Some(match centroids {
            Centroids::Default => usual,
            Centroids::Half => usual / 2,
            Centroids::Twice => 2 * usual,
        });
        let options = IndexOptions { pool_factor: 1, n_centroids, ..IndexOptions::default() };
        let mut builder = IndexBuilder::new(dim, options)?;
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
