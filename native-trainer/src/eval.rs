//! Exact evaluation on a retrieval set: MaxSim, BM25 and their fusion.
//!
//! Texts are read as a site reads its sections: what is longer than the model takes becomes several passages, and the best of them stands for the text.

use crate::cut::Cut;
use crate::data::{Passage, RetrievalSet, Sequence};
use crate::metrics::{Comparison, QueryMetrics, RECALL_AT};
use crate::ops;
use crate::shipped::BundleSize;
use crate::student::{Packed, Student};
use anyhow::Result;
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use shirube_core::{InputRules, Role};
use shirube_index::windows;
use shirube_kernels::TokenRange;
use shirube_lexical::{Analyzer, Bm25Index};
use shirube_retriever::{BM25_B, BM25_K1, LEXICAL_WEIGHT, N_WINDOWED, add_windows, fuse};
use shirube_text::Tokenizer;
use std::path::Path;
use std::sync::Arc;

/// Metrics of one ranking method.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MethodReport {
    /// `bm25-words`, `bm25-bigram`, `bm25-grams` (bigrams and single kanji, as shipped), `maxsim`, `fused` (MaxSim and grams, as shipped)
    /// or `fused-z` (z-scores of MaxSim and bigrams, for comparison with published figures); see
    /// [`crate::shipped`] for the others.
    pub method: String,
    /// Mean over queries.
    pub mean: QueryMetrics,
    /// Values of each query, in file order, for paired tests.
    pub queries: Vec<QueryMetrics>,
}

/// Metrics on one set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SetReport {
    /// Name of the set.
    pub set: String,
    /// Number of passages.
    pub n_passages: usize,
    /// Number of queries.
    pub n_queries: usize,
    /// One entry a method.
    pub methods: Vec<MethodReport>,
    /// What the bundles weigh whose search is among the methods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bundles: Vec<BundleSize>,
}

/// Weights of BM25 in the fusion that are reported beside 1, so that a default is chosen and not guessed.
const OTHER_WEIGHTS: [f32; 4] = [0.2, 0.3, 0.6, 1.0];

/// BM25's k1 and b of the baselines: Anserini's, the best on these sets among those tried (docs/training.md).
pub(crate) const BASELINE: (f32, f32) = (0.9, 0.4);

/// Token embeddings of many texts, one after the other.
#[derive(Debug)]
pub struct Encoded {
    /// `[n_tokens, dim]`.
    pub embeddings: Tensor,
    /// Starts of texts.
    pub offsets: Arc<[u32]>,
}

/// Encodes texts with a student, kept tokens only.
///
/// # Errors
/// Device errors.
pub fn encode(
    student: &Student,
    depth: usize,
    tokenizer: &Tokenizer,
    rules: &InputRules,
    role: Role,
    texts: &[String],
) -> Result<Encoded> {
    let sequences: Vec<Sequence> =
        texts.par_iter().map(|text| Sequence::new(rules, tokenizer.encode(text).ids)).collect();
    let student = student.detached();
    let parts: Vec<(Tensor, Vec<u32>)> = sequences
        .par_chunks(24)
        .map(|chunk| {
            let input = Packed::of(chunk);
            let hidden = student.hidden(&input, depth)?;
            let embeddings = match role {
                Role::Query => student.project_query(&hidden)?,
                Role::Document => student.project(&hidden)?,
            };
            let mut kept = Vec::new();
            let mut lengths = Vec::new();
            for window in input.offsets.windows(2) {
                let before = kept.len();
                kept.extend((window[0]..window[1]).filter(|&t| !rules.skip.contains(&input.ids[t as usize])));
                lengths.push(u32::try_from(kept.len() - before)?);
            }
            Ok((ops::gather(&embeddings, &kept)?, lengths))
        })
        .collect::<Result<_>>()?;
    let mut offsets = vec![0];
    for n in parts.iter().flat_map(|(_, lengths)| lengths) {
        offsets.push(offsets.last().copied().unwrap_or(0) + n);
    }
    let tensors: Vec<&Tensor> = parts.iter().map(|(t, _)| t).collect();
    Ok(Encoded { embeddings: Tensor::cat(&tensors, 0)?, offsets: offsets.into() })
}

/// Exact MaxSim of every query against every document, `[n_queries][n_documents]`.
///
/// # Errors
/// Device errors.
pub fn maxsim_scores(queries: &Encoded, documents: &Encoded) -> Result<Vec<Vec<f32>>> {
    maxsim_rows(queries, documents, |row| row)
}

/// Exact MaxSim of every query with the best window of every document, `[n_queries][n_documents]`; see [`windows`].
fn window_scores(queries: &Encoded, documents: &Encoded) -> Result<Vec<Vec<f32>>> {
    let all: Vec<Vec<TokenRange>> =
        documents.offsets.windows(2).map(|w| windows(TokenRange::from(w[0]..w[1])).collect()).collect();
    let (mut tokens, mut offsets) = (Vec::new(), vec![0]);
    for window in all.iter().flatten() {
        tokens.extend(window.start..window.end);
        offsets.push(u32::try_from(tokens.len())?);
    }
    let cut = Encoded { embeddings: ops::gather(&documents.embeddings, &tokens)?, offsets: offsets.into() };
    maxsim_rows(queries, &cut, |row| {
        let mut row = row.into_iter();
        all.iter().map(|of| row.by_ref().take(of.len()).fold(f32::MIN, f32::max)).collect()
    })
}

/// Exact MaxSim of every query against every document, each query's row as `keep` leaves it.
fn maxsim_rows(
    queries: &Encoded,
    documents: &Encoded,
    keep: impl Fn(Vec<f32>) -> Vec<f32> + Sync,
) -> Result<Vec<Vec<f32>>> {
    let n = queries.offsets.len() - 1;
    let chunk = 32;
    let rows: Vec<Vec<Vec<f32>>> = (0..n.div_ceil(chunk))
        .into_par_iter()
        .map(|c| {
            let (from, to) = (c * chunk, ((c + 1) * chunk).min(n));
            let (start, end) = (queries.offsets[from], queries.offsets[to]);
            let part = queries.embeddings.narrow(0, start as usize, (end - start) as usize)?;
            let offsets: Arc<[u32]> = queries.offsets[from..=to].iter().map(|o| o - start).collect();
            let rows = ops::maxsim_all(&part, &offsets, &documents.embeddings, &documents.offsets)?;
            Ok(rows.to_vec2::<f32>()?.into_iter().map(&keep).collect())
        })
        .collect::<Result<_>>()?;
    Ok(rows.into_iter().flatten().collect())
}

/// Indices of the best `k` scores, best first, ties to the lower index.
pub fn top_k(scores: &[f32], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    let by_score = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
    if k < order.len() {
        order.select_nth_unstable_by(k, by_score);
        order.truncate(k);
    }
    order.sort_unstable_by(by_score);
    order
}

/// Scores shifted and scaled to mean 0 and deviation 1.
fn z_scores(scores: &[f32]) -> Vec<f32> {
    let n = scores.len().max(1) as f32;
    let mean = scores.iter().sum::<f32>() / n;
    let deviation = (scores.iter().map(|s| (s - mean).powi(2)).sum::<f32>() / n).sqrt().max(1e-9);
    scores.iter().map(|s| (s - mean) / deviation).collect()
}

/// Scores a set by BM25 over an analysis, all documents of every query.
pub(crate) fn bm25_scores(
    set: &RetrievalSet,
    texts: &[String],
    analyzer: Analyzer,
    (k1, b): (f32, f32),
) -> Result<Vec<Vec<f32>>> {
    let index = Bm25Index::build(texts, analyzer, k1, b)?;
    Ok(set
        .queries
        .par_iter()
        .map(|query| {
            let mut scores = vec![0.0; texts.len()];
            for (document, score) in index.search(&query.text, texts.len()) {
                scores[document.0 as usize] = score;
            }
            scores
        })
        .collect())
}

/// Evaluates MaxSim, BM25 of three kinds and their fusion on a set.
///
/// # Errors
/// Device errors.
pub fn evaluate(
    name: &str,
    set: &RetrievalSet,
    student: &Student,
    depth: usize,
    tokenizer: &Tokenizer,
    query: &InputRules,
    document: &InputRules,
) -> Result<SetReport> {
    let texts: Vec<String> = set.passages.iter().map(Passage::document_text).collect();
    let cut = Cut::new(set, tokenizer, document);
    let questions: Vec<String> = set.queries.iter().map(|q| q.text.clone()).collect();
    let documents = encode(student, depth, tokenizer, document, Role::Document, cut.texts())?;
    let queries = encode(student, depth, tokenizer, query, Role::Query, &questions)?;
    // Of passages, and what each text has of its best one.
    let passages = maxsim_scores(&queries, &documents)?;
    let windowed = window_scores(&queries, &documents)?;
    let maxsim = cut.best_rows(&passages);
    let bigram = bm25_scores(set, &texts, Analyzer::bigrams(), BASELINE)?;
    let words = bm25_scores(set, &texts, Analyzer::pieces(tokenizer.clone()), BASELINE)?;
    let grams = bm25_scores(set, cut.texts(), Analyzer::grams(), (BM25_K1, BM25_B))?;
    let fused = |weight: f32| -> Vec<Vec<f32>> {
        let rows = passages.iter().zip(&grams).zip(&windowed);
        rows.map(|((maxsim, grams), windowed)| {
            let mut fused = fuse(maxsim, grams, weight);
            let near = cut.best_passages(&fused, N_WINDOWED);
            let best: Vec<f32> = near.iter().map(|&passage| windowed[passage as usize]).collect();
            add_windows(&mut fused, maxsim, None, &near, &best);
            cut.best(&fused)
        })
        .collect()
    };
    let fused_z =
        |(m, l): (&Vec<f32>, &Vec<f32>)| z_scores(m).iter().zip(z_scores(l)).map(|(x, y)| x + y).collect();
    let mut rankings = vec![
        ("bm25-words".to_owned(), words),
        ("bm25-bigram".to_owned(), bigram.clone()),
        ("bm25-grams".to_owned(), cut.best_rows(&grams)),
        ("maxsim".to_owned(), maxsim.clone()),
        ("fused-z".to_owned(), maxsim.iter().zip(&bigram).map(fused_z).collect()),
        ("fused".to_owned(), fused(LEXICAL_WEIGHT)),
    ];
    rankings.extend(OTHER_WEIGHTS.map(|weight| (format!("fused x{weight}"), fused(weight))));
    let methods = rankings
        .into_iter()
        .map(|(method, scores)| {
            let queries: Vec<QueryMetrics> =
                scores.par_iter().enumerate().map(|(i, s)| set.metrics(i, &top_k(s, 100))).collect();
            MethodReport { method, mean: QueryMetrics::mean(&queries), queries }
        })
        .collect();
    Ok(SetReport {
        set: name.to_owned(),
        n_passages: texts.len(),
        n_queries: questions.len(),
        methods,
        bundles: Vec::new(),
    })
}

impl SetReport {
    /// A report on `set` without any method yet.
    pub fn empty(name: &str, set: &RetrievalSet) -> Self {
        Self {
            set: name.to_owned(),
            n_passages: set.passages.len(),
            n_queries: set.queries.len(),
            methods: Vec::new(),
            bundles: Vec::new(),
        }
    }

    /// The report as an aligned table, with bundle sizes and the fusions' p-values against BM25 below.
    pub fn table(&self) -> String {
        let recall = RECALL_AT.map(|k| format!("{:>7}", format!("R@{k}"))).join("");
        let mut out = format!(
            "{}: {} passages, {} queries\n  {:<14}{recall} MRR@10 nDCG@10 MAP@10\n",
            self.set, self.n_passages, self.n_queries, ""
        );
        for m in &self.methods {
            let r = m.mean.recall.map(|v| format!("{v:>7.4}")).join("");
            out += &format!(
                "  {:<14}{r} {:.4}  {:.4}  {:.4}\n",
                m.method, m.mean.mrr_10, m.mean.ndcg_10, m.mean.map_10
            );
        }
        for b in &self.bundles {
            out += &format!(
                "  {}: {} tokens stored, index {} bytes ({:.1} a passage), whole bundle {} bytes\n",
                b.label,
                b.tokens,
                b.index_bytes,
                b.index_bytes as f64 / self.n_passages.max(1) as f64,
                b.bytes
            );
        }
        for fused in self.methods.iter().filter(|m| m.method.ends_with("fused")) {
            if let Some(bm25) = self.method("bm25-bigram") {
                out += &format!("  {} - bm25-bigram: {}\n", fused.method, compare(fused, bm25));
            }
        }
        out
    }

    /// The report of a method.
    pub fn method(&self, name: &str) -> Option<&MethodReport> {
        self.methods.iter().find(|m| m.method == name)
    }

    /// Every method that both reports hold: mean differences of this report from `other` on the same questions, with paired bootstrap. `None`
    /// if the two are not of one set: names may be paths of different lengths, numbers of queries and passages must be equal.
    pub fn against(&self, other: &Self) -> Option<String> {
        let (a, b) = (Path::new(&self.set), Path::new(&other.set));
        let same = (a.ends_with(b) || b.ends_with(a))
            && (self.n_queries, self.n_passages) == (other.n_queries, other.n_passages);
        same.then(|| {
            let mut out = format!("{}: difference from the other report\n", self.set);
            for m in &self.methods {
                if let Some(theirs) = other.method(&m.method) {
                    out += &format!("  {:<14}{}\n", m.method, compare(m, theirs));
                }
            }
            out
        })
    }

    /// Mean of a method's R@1.
    pub fn recall_1(&self, method: &str) -> Option<f64> {
        self.method(method).map(|m| m.mean.recall[0])
    }
}

/// Difference of two methods on the same questions, in words.
fn compare(a: &MethodReport, b: &MethodReport) -> String {
    type Value = fn(&QueryMetrics) -> f64;
    let values = |m: &MethodReport, value: Value| -> Vec<f64> { m.queries.iter().map(value).collect() };
    let metrics: [(&str, Value); 2] = [("R@1", |q| q.recall[0]), ("nDCG@10", |q| q.ndcg_10)];
    metrics
        .map(|(name, value)| {
            let c = Comparison::new(&values(a, value), &values(b, value), 1);
            format!(
                "{name} {:+.4} (95 % {:+.4} to {:+.4}, p = {:.4})",
                c.difference, c.interval.0, c.interval.1, c.p
            )
        })
        .join(", ")
}

/// The device everything runs on until CUDA arrives.
pub const DEVICE: Device = Device::Cpu;
