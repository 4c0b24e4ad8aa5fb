//! An index of 100,000 passages (10,000 with `--quick`) in plain files, for the browser's half of the bench in `crates/bench/index`. Files of the same model,
//! number of passages and codec that are there already are taken as they are; delete `target/bench/browser-index` after a change to the codec's training.

use super::growth::Growth;
use super::questions;
use crate::corpus::Source;
use crate::frame::Settings;
use serde::{Deserialize, Serialize};
use shirube_index::IndexOptions;
use std::path::Path;

/// Questions asked.
const QUESTIONS: usize = 100;

#[derive(Serialize, Deserialize)]
struct Description {
    /// What all of it was made with.
    key: String,
    n_passages: usize,
    n_tokens: usize,
    n_centroids: usize,
    dim: usize,
    model: String,
    /// Query tokens of each question, in the order of `queries.bin`.
    query_tokens: Vec<usize>,
    /// Passages that answer each question.
    relevant: Vec<Vec<u32>>,
}

pub(crate) fn write(settings: &Settings) -> anyhow::Result<()> {
    let source = Source::open(&settings.data, &settings.model, &settings.out.join("embeddings"))?;
    let n = if settings.quick { 10_000 } else { 100_000 };
    let folder = settings.out.join("browser-index");
    let key = format!("{}, {n} passages, {:?}", source.model(), IndexOptions::site());
    let there = std::fs::read(folder.join("description.json")).ok();
    let there = there.and_then(|json| serde_json::from_slice::<Description>(&json).ok());
    if there.is_some_and(|there| there.key == key) {
        return Ok(());
    }
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let mut growth = Growth::new(&source)?;
    let corpus = growth.corpus(0);
    let built = growth.index(n)?;
    let put = |name: &str, bytes: Vec<u8>| std::fs::write(folder.join(name), bytes);
    put("tables.bin", built.codec.tables().to_bytes())?;
    put("lengths.bin", built.lengths.iter().flat_map(|n| n.to_le_bytes()).collect())?;
    put("codes.bin", built.packed.codes.iter().flat_map(|c| c.to_le_bytes()).collect())?;
    put("residuals.bin", built.packed.residuals)?;
    let asked = questions(&corpus, QUESTIONS);
    let queries = asked.iter().flat_map(|&q| corpus.queries.of(q)).flat_map(|v| v.to_le_bytes());
    put("queries.bin", queries.collect())?;
    let description = Description {
        key,
        n_passages: n,
        n_tokens: built.packed.codes.len(),
        n_centroids: built.codec.tables().n_centroids(),
        dim: source.dim(),
        model: source.model(),
        query_tokens: asked.iter().map(|&q| corpus.queries.of(q).len() / source.dim()).collect(),
        relevant: asked.iter().map(|&q| corpus.relevant[q].clone()).collect(),
    };
    describe(&folder, &description)
}

fn describe(folder: &Path, description: &Description) -> anyhow::Result<()> {
    Ok(std::fs::write(folder.join("description.json"), serde_json::to_vec(description)?)?)
}
