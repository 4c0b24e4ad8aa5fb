//! From a trained step to a model folder: quantise, check against f32, write.

use crate::data::RetrievalSet;
use crate::eval::{encode, maxsim_scores, top_k};
use crate::metrics::QueryMetrics;
use crate::pipeline::{dictionary_parts, input_rules};
use crate::recipe::Recipe;
use crate::student::Student;
use anyhow::{Context as _, Result};
use candle_core::Tensor as CandleTensor;
use serde::{Deserialize, Serialize};
use shirube_checkpoint::{Layout, Save};
use shirube_core::Role;
use shirube_encoder::{Model, quantize};
use shirube_format::model::{
    FileEntry, MODEL_FORMAT, ModelManifest, Provenance, Quantization, Tensor, TokenizerInfo, WeightKind,
    Weights, folder, pack_parts,
};
use shirube_format::{NamedFile, Sha256Hex};
use shirube_kernels::Kernels;
use shirube_text::Tokenizer;
use std::collections::BTreeMap;
use std::path::Path;

/// Tensor bytes in one weights file, which with its header stays below 4 MiB: a broken download loses little, and every free host takes the file.
const PART_BYTES: usize = (4 << 20) - (16 << 10);

/// All parameters of the student's first `depth` blocks, in f32.
fn plain(student: &Student, depth: usize) -> Result<Weights> {
    let mut weights = Weights::default();
    for (name, var) in student.variables(depth) {
        weights.insert(name, Tensor::f32(var.dims(), var.flatten_all()?.to_vec1::<f32>()?));
    }
    Ok(weights)
}

/// How matrices and the embedding table are stored; norms, biases and the query weight stay f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    /// One byte a weight and a scale per row.
    #[default]
    Int8,
    /// Half a byte a weight, a whole-number scale for each 32 columns and a scale per row: 4.25 bits.
    Int4,
}

impl Dtype {
    fn kind(self) -> (WeightKind, &'static str) {
        match self {
            Self::Int8 => (WeightKind::Int8, "int8"),
            Self::Int4 => (WeightKind::Int4, "int4"),
        }
    }
}

/// Who is to read what is exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Target {
    /// This project: a quantised model folder.
    #[default]
    Shirube,
    /// PyLate: `modules.json`, f32.
    Pylate,
    /// Stanford's colbert-ai, and what reads JaColBERT: `artifact.metadata` and `linear.weight`, f32.
    ColbertAi,
}

/// Writes `student` in the f32 layout of another library to the folder `to`, which must not be there, and reads it back.
///
/// # Errors
/// What the layout cannot say, by name; a tokenizer folder without the files of another library's tokenizer.
pub fn save(
    recipe: &Recipe,
    depth: usize,
    student: &Student,
    tokenizer: &Tokenizer,
    to: &Path,
    layout: Layout,
) -> Result<String> {
    let folder = recipe.tokenizer_folder();
    let own = tokenizer.step_names()[0];
    anyhow::ensure!(
        own != "shirube-1",
        "the tokenizer in {} normalises by {own}, which no file of another library can say; train on one of theirs (`shirube-train tokenizer-import`)",
        folder.display()
    );
    let weights = plain(student, depth)?;
    let mut encoder = student.encoder.clone();
    encoder.n_layers = depth.min(encoder.n_layers);
    let (query, document) = input_rules(recipe, tokenizer);
    let license = recipe.license.as_deref().unwrap_or("other");
    Save {
        layout,
        encoder: &encoder,
        projection: &student.projection,
        query: &query,
        document: &document,
        tokenizer,
        tokenizer_folder: &folder,
        dictionary: dictionary_parts(&folder)?,
        weights: &weights,
        license,
    }
    .write(to)?;
    let bytes = weights.iter().map(|(_, t)| t.shape.iter().product::<usize>() * 4).sum::<usize>();
    Ok(format!(
        "{}: {bytes} bytes of f32 weights for {}, read back and the same",
        to.display(),
        layout.name()
    ))
}

/// The manifest and files of `student` quantised, before any check.
///
/// # Errors
/// Tokenizer or recipe files that cannot be read.
pub fn assemble(
    recipe: &Recipe,
    recipe_path: &Path,
    (step, depth): (usize, usize),
    student: &Student,
    tokenizer: &Tokenizer,
    dtype: Dtype,
) -> Result<(ModelManifest, Vec<NamedFile>)> {
    let (kind, _) = dtype.kind();
    let quantization = Quantization { linear: kind, embeddings: kind };
    let weights = quantize(&plain(student, depth)?, quantization);
    let mut encoder = student.encoder.clone();
    encoder.n_layers = depth.min(encoder.n_layers);
    let (query, document) = input_rules(recipe, tokenizer);
    let mut files = pack_parts(&weights, PART_BYTES)?;
    let bin = recipe.tokenizer_folder().join("tokenizer.bin");
    let bin = std::fs::read(&bin).with_context(|| format!("cannot read {}", bin.display()))?;
    // For people and other tools; tokenizers of other kinds have none.
    let json = recipe.tokenizer_folder().join("tokenizer.json");
    if json.is_file() {
        let text = std::fs::read(&json).with_context(|| format!("cannot read {}", json.display()))?;
        files.push(("tokenizer.json".to_owned(), text));
    }
    let dictionary = dictionary_parts(&recipe.tokenizer_folder())?;
    let sha256 = Sha256Hex::of(&bin);
    files.push(("tokenizer.bin".to_owned(), bin));
    // Readers find the parts by the manifest.
    let listed = dictionary.iter().map(|(name, bytes)| FileEntry::of(name, bytes)).collect();
    files.extend(dictionary);
    let [normalizer, segmenter] = tokenizer.step_names();
    let manifest = ModelManifest {
        format: MODEL_FORMAT,
        name: recipe.name.clone(),
        license: recipe.license.clone().unwrap_or_else(|| "unspecified".to_owned()),
        encoder,
        projection: student.projection.clone(),
        query,
        document,
        tokenizer: TokenizerInfo {
            normalizer: normalizer.to_owned(),
            segmenter: segmenter.to_owned(),
            subword: tokenizer.subword_name().to_owned(),
            sha256,
        },
        quantization,
        provenance: Provenance {
            source: format!(
                "{}, step {}, SHA-256 {}",
                recipe_path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
                recipe.steps()[step].name(),
                Sha256Hex::of(
                    &std::fs::read(recipe_path)
                        .with_context(|| format!("cannot read {}", recipe_path.display()))?
                )
            ),
            data: data_names(recipe),
            metrics: BTreeMap::new(),
        },
        files: listed,
    };
    Ok((manifest, files))
}

/// Loads what [`assemble`] made, as a model folder's reader would.
///
/// # Errors
/// Weights or a tokenizer that do not fit the manifest.
pub fn load(manifest: &ModelManifest, files: &[NamedFile]) -> Result<Model> {
    let files = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
    Ok(Model::load(manifest.clone(), files, Kernels::detect())?)
}

/// Quantises `student`, writes the model folder `to`, reads it back, and compares it with the f32 student on the recipe's first evaluation set.
/// Returns the report.
///
/// # Errors
/// Files that cannot be read or written, or a folder that does not pass its own checks.
pub fn export(
    recipe: &Recipe,
    recipe_path: &Path,
    (step, depth): (usize, usize),
    student: &Student,
    tokenizer: &Tokenizer,
    to: &Path,
    dtype: Dtype,
) -> Result<String> {
    let (_, short) = dtype.kind();
    let (mut manifest, files) = assemble(recipe, recipe_path, (step, depth), student, tokenizer, dtype)?;
    let name =
        recipe.eval.first().context("the recipe names no evaluation set to check the quantised model on")?;
    let set = RetrievalSet::read(&recipe.data.join(name))?;
    let texts: Vec<String> = set.passages.iter().map(crate::data::Passage::document_text).collect();
    let questions: Vec<String> = set.queries.iter().map(|q| q.text.clone()).collect();
    let reference = [
        encode(student, depth, tokenizer, &manifest.query, Role::Query, &questions)?,
        encode(student, depth, tokenizer, &manifest.document, Role::Document, &texts)?,
    ];
    // The check runs on what is written, not on what was meant.
    let quantised = load(&manifest, &files)?;
    let exported = [
        crate::shipped::encode(&quantised, Role::Query, &questions)?,
        crate::shipped::encode(&quantised, Role::Document, &texts)?,
    ];
    let mut report = format!(
        "{}: {} bytes of weights in {} files\n",
        manifest.name,
        files.iter().filter(|f| f.0.starts_with("weights")).map(|f| f.1.len()).sum::<usize>(),
        files.iter().filter(|f| f.0.starts_with("weights")).count()
    );
    for (role, a, b) in [("query", &reference[0], &exported[0]), ("document", &reference[1], &exported[1])] {
        let (mean, least) = cosine(&a.embeddings, &b.embeddings)?;
        report += &format!(
            "  {short} against f32, {role} token embeddings: mean cosine {mean:.5}, least {least:.5}\n"
        );
        manifest.provenance.metrics.insert(format!("{short}_cosine_{role}"), mean);
    }
    for (label, [q, d]) in [("f32", &reference), (short, &exported)] {
        let scores = maxsim_scores(q, d)?;
        let all: Vec<QueryMetrics> =
            scores.iter().enumerate().map(|(i, s)| set.metrics(i, &top_k(s, 100))).collect();
        let mean = QueryMetrics::mean(&all);
        report +=
            &format!("  {name} MaxSim {label}: R@1 {:.4}, nDCG@10 {:.4}\n", mean.recall[0], mean.ndcg_10);
        manifest.provenance.metrics.insert(format!("{name}_maxsim_{label}_recall_1"), mean.recall[0]);
        manifest.provenance.metrics.insert(format!("{name}_maxsim_{label}_ndcg_10"), mean.ndcg_10);
    }
    folder::write(to, manifest, &files)?;
    folder::read(to)?;
    Ok(report)
}

fn data_names(recipe: &Recipe) -> Vec<String> {
    use crate::recipe::{SourceFiles, Step};
    let file = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut names = Vec::new();
    for source in recipe.source_files() {
        match source {
            SourceFiles::Set(name) | SourceFiles::Sections(name) | SourceFiles::Lists(name) => {
                names.push(name)
            }
            SourceFiles::Pairs => names.push("pairs".to_owned()),
            SourceFiles::Written(path) => names.push(file(&path)),
            SourceFiles::Imported(step) => names.extend(
                recipe
                    .steps()
                    .into_iter()
                    .find_map(|s| match s {
                        Step::Import(s) if s.name == step => Some(s.lists),
                        _ => None,
                    })
                    .into_iter()
                    .flatten(),
            ),
        }
    }
    names.sort();
    names.dedup();
    names
}

/// Mean and least cosine between rows of equal number.
fn cosine(a: &CandleTensor, b: &CandleTensor) -> Result<(f64, f64)> {
    let (a, b) = (a.to_vec2::<f32>()?, b.to_vec2::<f32>()?);
    anyhow::ensure!(a.len() == b.len(), "{} token embeddings against {}", a.len(), b.len());
    let (mut sum, mut least) = (0.0, f64::INFINITY);
    for (x, y) in a.iter().zip(&b) {
        let dot =
            |u: &[f32], v: &[f32]| u.iter().zip(v).map(|(p, q)| f64::from(*p) * f64::from(*q)).sum::<f64>();
        let cosine = dot(x, y) / (dot(x, x) * dot(y, y)).sqrt().max(1e-12);
        sum += cosine;
        least = least.min(cosine);
    }
    Ok((sum / a.len().max(1) as f64, least))
}
