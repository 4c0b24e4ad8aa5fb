//! Converted checkpoints beside PyLate and beside the original procedure on `transformers`: agreement of token embeddings and bytes in f32, int8 and int4, and
//! what quantisation does to the ranking of a trained model.
//!
//! The folders are made by the npm command (`crates/xtask/scripts/bench-checkpoints.mjs`): random networks in real layouts, a BERT-base among them, and a small
//! BERT trained for some minutes and exported in two layouts. Random weights are harder on 4 bits than trained ones: no direction is redundant.

mod ranking;

use crate::corpus::Embeddings;
use crate::frame::{Cell, Ratio, Report, Row, Settings};
use anyhow::{Context as _, ensure};
use serde::Deserialize;
use shirube_checkpoint::{Checkpoint, Options, Pairs};
use shirube_core::Role;
use shirube_encoder::Model;
use shirube_format::NamedFile;
use shirube_format::model::{FileEntry, Quantization, TensorKind, WeightKind, Weights};
use shirube_kernels::Kernels;
use std::path::Path;

/// Folders that are compared, and whether their ranking is: random networks rank by chance, and one layout of the trained model is enough.
const FOLDERS: [(&str, bool); 5] = [
    ("pylate-bert", false),
    ("pylate-modernbert", false),
    ("colbert-ai-base", false),
    ("trained-pylate", false),
    ("trained-colbert-ai", true),
];

/// How matrices and the embedding table are stored. The first is what the others are held to.
const KINDS: [(&str, WeightKind, WeightKind); 5] = [
    ("f32", WeightKind::F32, WeightKind::F32),
    ("int8", WeightKind::Int8, WeightKind::Int8),
    ("int8+emb4", WeightKind::Int8, WeightKind::Int4),
    ("int4+emb8", WeightKind::Int4, WeightKind::Int8),
    ("int4", WeightKind::Int4, WeightKind::Int4),
];

/// Who computed embeddings for a folder. The original procedure is that of colbert-ai and takes its layout alone.
const REFERENCES: [&str; 2] = ["pylate", "original"];

/// What another library computed: texts, and `[n_tokens, dim]` of each.
struct Expected {
    reference: &'static str,
    texts: Texts,
    rows: [Vec<Vec<f32>>; 2],
}

/// The texts that were encoded.
#[derive(Deserialize, PartialEq)]
struct Texts {
    query: Vec<String>,
    document: Vec<String>,
}

impl Texts {
    fn of(&self, role: Role) -> &[String] {
        match role {
            Role::Query => &self.query,
            Role::Document => &self.document,
        }
    }
}

const ROLES: [(Role, &str); 2] = [(Role::Query, "query"), (Role::Document, "document")];

pub(crate) fn run(settings: &Settings) -> anyhow::Result<Report> {
    let home = settings.out.join("checkpoints");
    let mut report = Report::default();
    let (mut least_f32, mut least_int8) = (1.0f64, 1.0f64);
    let options = Options { dictionary: dictionary(&home.join("tokenizer"))?, ..Options::default() };
    for (name, ranked) in FOLDERS {
        let folder = home.join(name);
        let checkpoint = Checkpoint::read(&folder, &options)
            .with_context(|| format!("{}: `npm run bench -- checkpoints` makes it", folder.display()))?;
        let expected = expected(&folder)?;
        let row = |what: String, unit| Row { what: format!("{name}: {what}"), unit, cells: Vec::new() };
        let mut bytes = row("weights".to_owned(), "MB");
        let mut rows: Vec<[Row; 2]> = expected
            .iter()
            .map(|x| ["mean", "least"].map(|w| row(format!("{w}, beside {}", x.reference), "cosine")))
            .collect();
        let mut ranking = ranked.then(|| ranking::Table::new(settings, name)).transpose()?;
        for (label, linear, embeddings) in KINDS {
            let (model, n_bytes) = converted(&checkpoint, Quantization { linear, embeddings })?;
            bytes.cells.push(cell(label, n_bytes as f64 / 1e6));
            let mut found = Vec::new();
            for (role, _) in ROLES {
                found.push(Embeddings::encode(&model, expected[0].texts.of(role), role)?);
            }
            for (Expected { reference, rows: wanted, .. }, [mean, least]) in expected.iter().zip(&mut rows) {
                let mut pairs = Pairs::default();
                for (found, wanted) in found.iter().zip(wanted) {
                    wanted.iter().enumerate().for_each(|(i, rows)| pairs.add(found.of(i), rows, model.dim()));
                }
                let agreement = pairs.agreement();
                mean.cells.push(cell(label, agreement.mean));
                least.cells.push(cell(label, agreement.least));
                if label == "f32" {
                    ensure!(agreement.least > 0.99, "{name}: f32 has a cosine of {}", agreement.least);
                    least_f32 = least_f32.min(agreement.least);
                    let n_texts = wanted.iter().map(Vec::len).sum::<usize>();
                    report.notes.push(format!(
                        "{name} beside {reference}: {n_texts} texts, {} token embeddings",
                        agreement.n_tokens
                    ));
                }
                if label == "int8" {
                    least_int8 = least_int8.min(agreement.mean);
                }
            }
            if let Some(table) = &mut ranking {
                table.add(label, &model)?;
            }
        }
        report.rows.push(bytes);
        report.rows.extend(rows.into_iter().flatten());
        if let Some(table) = ranking {
            table.finish(&mut report);
        }
    }
    report.notes.push(
        "cosine-f32 is the least over all tokens and folders, cosine-int8 the lowest mean of a folder"
            .to_owned(),
    );
    report.ratios.push(Ratio { name: "cosine-f32".to_owned(), value: least_f32 });
    report.ratios.push(Ratio { name: "cosine-int8".to_owned(), value: least_int8 });
    Ok(report)
}

fn cell(column: &str, value: f64) -> Cell {
    Cell { column: column.to_owned(), value, median: value }
}

/// What the browser would load, and the bytes of its weights.
fn converted(checkpoint: &Checkpoint, quantization: Quantization) -> anyhow::Result<(Model, usize)> {
    let (mut manifest, files) = checkpoint.model(quantization)?;
    manifest.files = files.iter().map(|(path, bytes)| FileEntry::of(path, bytes)).collect();
    let weights = files.iter().filter(|(path, _)| path.ends_with(".safetensors"));
    let n_bytes = weights.map(|(_, bytes)| bytes.len()).sum();
    let named = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
    Ok((Model::load(manifest, named, Kernels::detect())?, n_bytes))
}

/// The parts of a dictionary in a tokenizer's folder.
fn dictionary(folder: &Path) -> anyhow::Result<Vec<NamedFile>> {
    let mut parts = Vec::new();
    loop {
        let name = format!("dictionary-{}.bin", parts.len());
        let path = folder.join(&name);
        if !path.is_file() {
            return Ok(parts);
        }
        parts.push((name, std::fs::read(&path).with_context(|| path.display().to_string())?));
    }
}

/// What other libraries computed for a folder, all of the same texts.
fn expected(folder: &Path) -> anyhow::Result<Vec<Expected>> {
    let mut all: Vec<Expected> = Vec::new();
    for reference in REFERENCES {
        let path = folder.join(format!("{reference}.safetensors"));
        if !path.is_file() {
            continue;
        }
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let weights = Weights::read([(reference, bytes.as_slice())])?;
        let texts: Texts = serde_json::from_slice(&std::fs::read(folder.join(format!("{reference}.json")))?)?;
        ensure!(all.iter().all(|x| x.texts == texts), "{}: other texts", path.display());
        let mut rows = [Vec::new(), Vec::new()];
        for ((role, name), rows) in ROLES.iter().zip(&mut rows) {
            for i in 0..texts.of(*role).len() {
                let tensor = format!("{name}.{i}");
                let found = weights.iter().find(|(name, _)| *name == tensor).map(|(_, tensor)| &tensor.data);
                let Some(TensorKind::F32(found)) = found else {
                    anyhow::bail!("{}: no {tensor}", path.display())
                };
                rows.push(found.clone());
            }
        }
        all.push(Expected { reference, texts, rows });
    }
    ensure!(!all.is_empty(), "{}: `npm run bench -- checkpoints` makes embeddings", folder.display());
    Ok(all)
}
