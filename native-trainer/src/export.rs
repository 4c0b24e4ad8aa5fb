//! From a trained step to a model folder: quantise, check against f32, write.

use crate::data::RetrievalSet;
use crate::eval::{Encoded, encode, maxsim_scores, top_k};
use crate::metrics::QueryMetrics;
use crate::pipeline::input_rules;
use crate::recipe::Recipe;
use crate::student::Student;
use anyhow::{Context as _, Result};
use candle_core::Tensor as CandleTensor;
use shirube_core::{InputRules, Role};
use shirube_encoder::{Encoder, quantize};
use shirube_format::Sha256Hex;
use shirube_format::model::{
    MODEL_FORMAT, ModelManifest, Provenance, Quantization, Tensor, TokenizerInfo, WeightKind, Weights,
    folder, pack_parts,
};
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
) -> Result<String> {
    let quantization = Quantization { linear: WeightKind::Int8, embeddings: WeightKind::Int8 };
    let weights = quantize(&plain(student, depth)?, quantization);
    let mut encoder = student.encoder.clone();
    encoder.n_layers = depth.min(encoder.n_layers);
    let (query, document) = input_rules(recipe, tokenizer);

    let name =
        recipe.eval.first().context("the recipe names no evaluation set to check the quantised model on")?;
    let set = RetrievalSet::read(&recipe.data.join(name))?;
    let texts: Vec<String> = set.passages.iter().map(crate::data::Passage::document_text).collect();
    let questions: Vec<String> = set.queries.iter().map(|q| q.text.clone()).collect();
    let reference = [
        encode(student, depth, tokenizer, &query, Role::Query, &questions)?,
        encode(student, depth, tokenizer, &document, Role::Document, &texts)?,
    ];

    let mut files = pack_parts(&weights, PART_BYTES)?;
    let bin = std::fs::read(recipe.tokenizer.join("tokenizer.bin"))?;
    files.push(("tokenizer.json".to_owned(), std::fs::read(recipe.tokenizer.join("tokenizer.json"))?));
    let sha256 = Sha256Hex::of(&bin);
    files.push(("tokenizer.bin".to_owned(), bin));

    let mut manifest = ModelManifest {
        format: MODEL_FORMAT,
        name: recipe.name.clone(),
        license: "CC-BY-SA-4.0".to_owned(),
        encoder,
        projection: student.projection.clone(),
        query: query.clone(),
        document: document.clone(),
        tokenizer: TokenizerInfo {
            normalizer: "shirube-1".to_owned(),
            segmenter: "script".to_owned(),
            subword: "unigram".to_owned(),
            sha256,
        },
        quantization,
        provenance: Provenance {
            source: format!(
                "{}, step {}, SHA-256 {}",
                recipe_path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
                recipe.steps()[step].name(),
                Sha256Hex::of(&std::fs::read(recipe_path)?)
            ),
            data: data_names(recipe),
            metrics: BTreeMap::new(),
        },
        files: Vec::new(),
    };

    // The check runs on what was written, not on what was meant.
    let parts =
        files.iter().filter(|f| f.0.ends_with(".safetensors")).map(|f| (f.0.as_str(), f.1.as_slice()));
    let mut quantised = Encoder::load(&manifest, Weights::read(parts)?, Kernels::detect())?;
    let dim = student.projection.dim();
    let exported = [
        encode_int8(&mut quantised, tokenizer, &query, Role::Query, &questions, dim)?,
        encode_int8(&mut quantised, tokenizer, &document, Role::Document, &texts, dim)?,
    ];
    let mut report = format!(
        "{}: {} bytes of weights in {} files\n",
        manifest.name,
        files.iter().filter(|f| f.0.starts_with("weights")).map(|f| f.1.len()).sum::<usize>(),
        files.len() - 2
    );
    for (role, a, b) in [("query", &reference[0], &exported[0]), ("document", &reference[1], &exported[1])] {
        let (mean, least) = cosine(&a.embeddings, &b.embeddings)?;
        report += &format!(
            "  int8 against f32, {role} token embeddings: mean cosine {mean:.5}, least {least:.5}\n"
        );
        manifest.provenance.metrics.insert(format!("int8_cosine_{role}"), mean);
    }
    for (label, [q, d]) in [("f32", &reference), ("int8", &exported)] {
        let scores = maxsim_scores(q, d)?;
        let all: Vec<QueryMetrics> =
            scores.iter().zip(&set.relevant).map(|(s, r)| QueryMetrics::of(&top_k(s, 100), r)).collect();
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
    use crate::recipe::SourceFiles;
    let mut names: Vec<String> = recipe
        .source_files()
        .into_iter()
        .map(|f| match f {
            SourceFiles::Set(name) | SourceFiles::Sections(name) => name,
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

fn encode_int8(
    encoder: &mut Encoder,
    tokenizer: &Tokenizer,
    rules: &InputRules,
    role: Role,
    texts: &[String],
    dim: usize,
) -> Result<Encoded> {
    let (mut data, mut offsets) = (Vec::new(), vec![0]);
    for text in texts {
        let mut ids = rules.prefix.clone();
        ids.extend(tokenizer.encode(text).ids);
        ids.truncate(rules.max_length);
        let embeddings = encoder.encode(&ids, role)?;
        for (row, id) in embeddings.data.chunks_exact(dim).zip(&ids) {
            if !rules.skip.contains(id) {
                data.extend_from_slice(row);
            }
        }
        offsets.push(u32::try_from(data.len() / dim)?);
    }
    let n = data.len() / dim;
    Ok(Encoded {
        embeddings: CandleTensor::from_vec(data, (n, dim), &crate::eval::DEVICE)?,
        offsets: offsets.into(),
    })
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
