//! Evaluation of what the reader gets: the int8 model, and the compressed bundle searched by the retriever that the browser runs.
//!
//! Nothing is computed here that the browser would not compute: texts become sections, `shirube-site` cuts them into passages and builds the bundle, the
//! bundle is packed into files and read back, and `shirube-retriever` answers the questions, BM25 and fusion included.

use crate::cut::Cut;
use crate::data::{Passage, RetrievalSet};
use crate::eval::{BASELINE, DEVICE, Encoded, MethodReport, SetReport, bm25_scores, maxsim_scores, top_k};
use crate::metrics::QueryMetrics;
use anyhow::{Context as _, Result};
use candle_core::Tensor;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use shirube_core::Role;
use shirube_encoder::Model;
use shirube_format::bundle::PartKind;
use shirube_index::IndexOptions;
use shirube_kernels::Kernels;
use shirube_lexical::Analyzer;
use shirube_retriever::{BM25_B, BM25_K1, BundleLoader, Need, RetrieverError, SearchOptions};
use shirube_site::{BuildOptions, make_bundle};
use std::collections::HashMap;
use std::path::Path;

/// What a bundle weighs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BundleSize {
    /// Pool factor and bits, as in the names of the methods.
    pub label: String,
    /// Token embeddings stored.
    pub tokens: u64,
    /// Bytes of codes and centroids, as files.
    pub index_bytes: u64,
    /// Bytes of all files, texts included.
    pub bytes: u64,
}

/// Reads a model folder as the command line and the browser do.
///
/// # Errors
/// A folder that is no model, or a damaged one.
pub fn read_model(folder: &Path) -> Result<Model> {
    let (manifest, files) = shirube_format::model::folder::read(folder).with_context(|| {
        format!("cannot read the model in {}; give a folder that `export` wrote", folder.display())
    })?;
    let files = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
    Model::load(manifest, files, Kernels::detect()).with_context(|| folder.display().to_string())
}

/// Embeddings of the kept tokens by the int8 model, before pooling and compression.
///
/// # Errors
/// Texts that the encoder refuses.
pub fn encode(model: &Model, role: Role, texts: &[String]) -> Result<Encoded> {
    let dim = model.dim();
    let parts: Vec<Vec<f32>> = texts
        .par_iter()
        .map_init(|| model.clone(), |model, text| Ok(model.encode(&model.prepare(text, role))?))
        .collect::<Result<_>>()?;
    let mut offsets = vec![0];
    for part in &parts {
        offsets.push(offsets[offsets.len() - 1] + u32::try_from(part.len() / dim)?);
    }
    let data = parts.concat();
    let n = data.len() / dim;
    Ok(Encoded { embeddings: Tensor::from_vec(data, (n, dim), &DEVICE)?, offsets: offsets.into() })
}

fn method(method: String, queries: Vec<QueryMetrics>) -> MethodReport {
    MethodReport { method, mean: QueryMetrics::mean(&queries), queries }
}

/// Adds to `report` the rows of `model` on `set`: exact MaxSim on int8 embeddings (`int8 maxsim`), BM25 where it is not there yet, and for each
/// entry of `indexes` the bundle's MaxSim and fusion as the browser computes them (`pool 2 maxsim`, `pool 2 fused`).
///
/// # Errors
/// Passages that cannot be indexed.
pub fn evaluate(
    report: &mut SetReport,
    set: &RetrievalSet,
    model: &Model,
    indexes: &[IndexOptions],
) -> Result<()> {
    let texts: Vec<String> = set.passages.iter().map(Passage::document_text).collect();
    let questions: Vec<String> = set.queries.iter().map(|q| q.text.clone()).collect();
    let of = |ranking: &[usize], i: usize| set.metrics(i, ranking);
    let cut = Cut::new(set, model.tokenizer(), model.rules(Role::Document));

    let documents = encode(model, Role::Document, cut.texts())?;
    let queries = encode(model, Role::Query, &questions)?;
    let scores = cut.best_rows(&maxsim_scores(&queries, &documents)?);
    let rows = scores.par_iter().enumerate().map(|(i, s)| of(&top_k(s, 100), i)).collect();
    report.methods.push(method("int8 maxsim".to_owned(), rows));
    drop((documents, scores));

    for (name, analyzer, parameters) in
        [("bm25-bigram", Analyzer::bigrams(), BASELINE), ("bm25-grams", Analyzer::grams(), (BM25_K1, BM25_B))]
    {
        if report.method(name).is_none() {
            let scores = match name {
                "bm25-grams" => cut.best_rows(&bm25_scores(set, cut.texts(), analyzer, parameters)?),
                _ => bm25_scores(set, &texts, analyzer, parameters)?,
            };
            let rows = scores.par_iter().enumerate().map(|(i, s)| of(&top_k(s, 100), i)).collect();
            report.methods.push(method(name.to_owned(), rows));
        }
    }

    for options in indexes {
        let label = format!("pool {}", options.pool_factor);
        let build = BuildOptions { name: report.set.clone(), index: *options, ..BuildOptions::default() };
        let (bundle, _) = make_bundle(cut.sections().to_vec(), model, &build, |_| ())?;
        let (entry, files) = bundle.pack();
        let bytes = |kind| entry.files_of(kind).map(|f| f.file.bytes + f.shard_bytes).sum::<u64>();
        report.bundles.push(BundleSize {
            label: label.clone(),
            tokens: entry.counts.tokens,
            index_bytes: bytes(PartKind::Codes) + bytes(PartKind::Centroids),
            bytes: entry.files.iter().map(|f| f.file.bytes + f.shard_bytes).sum(),
        });
        let files: HashMap<String, Vec<u8>> = files.into_iter().collect();
        let mut loader = BundleLoader::new(&entry.to_bytes())?;
        for file in loader.required().to_vec() {
            loader.provide(&file.path, files[&file.path].clone())?;
        }
        let mut retriever = loader.open()?;
        let fetch =
            |need: &Need| Ok(files[&need.path][need.range.start as usize..need.range.end as usize].to_vec());
        retriever.attach(model.clone(), loader.fetch_index(Kernels::detect(), fetch)?, Kernels::detect())?;
        for (name, lexical_weight) in [("maxsim", 0.0), ("fused", SearchOptions::default().lexical_weight)] {
            let options =
                SearchOptions { limit: 100, explain: false, lexical_weight, ..SearchOptions::default() };
            let mut rows = Vec::with_capacity(questions.len());
            for (i, question) in questions.iter().enumerate() {
                let ranking: Vec<usize> = match retriever.answer(question, &options, &|| 0.0, fetch) {
                    Ok(found) => found.hits.iter().map(|hit| cut.text_of(hit.document)).collect(),
                    // Nothing but characters that the tokenizer drops: nothing is found.
                    Err(RetrieverError::EmptyQuery) => Vec::new(),
                    Err(error) => return Err(error).with_context(|| question.clone()),
                };
                rows.push(of(&ranking, i));
            }
            report.methods.push(method(format!("{label} {name}"), rows));
        }
    }
    Ok(())
}
