//! Converted checkpoints beside PyLate: agreement of token embeddings in f32, int8 and int4, bytes, time and memory of a conversion.
//!
//! The folders are made by `checkpoints/make.py` (the npm command does it): random networks in real layouts, a BERT-base among them, with PyLate's
//! embeddings of questions and passages of jsquad/valid. Random weights are harder on 4 bits than trained ones: no direction is redundant.

use crate::frame::{Cell, Ratio, Report, Row, Settings};
use anyhow::{Context as _, ensure};
use serde::Deserialize;
use shirube_checkpoint::{Checkpoint, Options, Pairs, Reference, quantization};
use shirube_core::Role;
use shirube_encoder::Model;
use shirube_format::model::{TensorKind, WeightKind, Weights};
use shirube_kernels::Kernels;
use std::path::Path;
use std::time::Instant;

#[derive(Deserialize)]
struct Golden {
    query: Vec<Case>,
    document: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
}

/// A text with its role and PyLate's embeddings.
struct Expected {
    role: Role,
    text: String,
    rows: Vec<f32>,
}

pub(crate) fn run(settings: &Settings) -> anyhow::Result<Report> {
    let home = settings.out.join("checkpoints");
    let mut report = Report::default();
    let (mut least_f32, mut least_int8) = (1.0f64, 1.0f64);
    for name in ["pylate-bert", "pylate-modernbert", "colbert-ai-base"] {
        let folder = home.join(name);
        ensure!(
            folder.join("golden.json").is_file(),
            "{}: not made yet; run `npm run bench -- checkpoints`, which makes it",
            folder.display()
        );
        let expected = golden(&folder)?;
        let start = Instant::now();
        let checkpoint = Checkpoint::read(&folder, &Options::default())?;
        let read_s = start.elapsed().as_secs_f64();
        let dim = checkpoint.projection.dim();
        let mut bytes = Row { what: format!("{name}: weights"), unit: "MB", cells: Vec::new() };
        let mut time = Row { what: format!("{name}: conversion"), unit: "s", cells: Vec::new() };
        let mut means = Row { what: format!("{name}: 1 - mean cosine"), unit: "1e-6", cells: Vec::new() };
        let mut leasts = Row { what: format!("{name}: 1 - least cosine"), unit: "1e-6", cells: Vec::new() };
        let mut kinds = Vec::new();
        for (kind, label) in [(WeightKind::Int8, "int8"), (WeightKind::Int4, "int4")] {
            let start = Instant::now();
            let (manifest, files) = checkpoint.model(quantization(kind))?;
            time.cells.push(cell(label, read_s + start.elapsed().as_secs_f64()));
            let weights = files.iter().filter(|(path, _)| path.ends_with(".safetensors"));
            bytes.cells.push(cell(label, weights.map(|(_, bytes)| bytes.len() as f64).sum::<f64>() / 1e6));
            let named = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
            let mut model = Model::load(manifest, named, Kernels::detect())?;
            let mut pairs = Pairs::default();
            for Expected { role, text, rows } in &expected {
                pairs.add(&model.encode(&model.prepare(text, *role))?, rows, dim);
            }
            kinds.push((label, pairs.agreement()));
        }
        let mut reference = Reference::new(checkpoint)?;
        let mut pairs = Pairs::default();
        for Expected { role, text, rows } in &expected {
            pairs.add(&reference.encode(text, *role)?.data, rows, dim);
        }
        kinds.insert(0, ("f32", pairs.agreement()));
        for (label, agreement) in &kinds {
            means.cells.push(cell(label, (1.0 - agreement.mean) * 1e6));
            leasts.cells.push(cell(label, (1.0 - agreement.least) * 1e6));
        }
        ensure!(kinds[0].1.least > 0.99, "{name}: least f32 cosine {}: not the same model", kinds[0].1.least);
        least_f32 = least_f32.min(kinds[0].1.least);
        least_int8 = least_int8.min(kinds[1].1.mean);
        report.notes.push(format!(
            "{name}: {} texts, {} token embeddings",
            expected.len(),
            kinds[0].1.n_tokens
        ));
        report.rows.extend([bytes, time, means, leasts]);
    }
    if let Some(peak) = peak_mib() {
        report.notes.push(format!("largest memory of this process: {peak:.0} MiB"));
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

fn golden(folder: &Path) -> anyhow::Result<Vec<Expected>> {
    let path = folder.join("golden.safetensors");
    let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let weights = Weights::read([("golden.safetensors", bytes.as_slice())])?;
    let golden: Golden = serde_json::from_slice(&std::fs::read(folder.join("golden.json"))?)?;
    let mut out = Vec::new();
    for (role, name, cases) in
        [(Role::Query, "query", golden.query), (Role::Document, "document", golden.document)]
    {
        for (i, case) in cases.into_iter().enumerate() {
            let tensor = format!("{name}.{i}");
            let found = weights.iter().find(|(name, _)| *name == tensor).map(|(_, tensor)| &tensor.data);
            let Some(TensorKind::F32(rows)) = found else { anyhow::bail!("{}: no {tensor}", path.display()) };
            out.push(Expected { role, text: case.text, rows: rows.clone() });
        }
    }
    Ok(out)
}

/// The most memory this process had, on Linux.
fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}
