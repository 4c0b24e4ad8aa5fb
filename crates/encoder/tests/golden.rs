//! Our encoder against `transformers`, on the files of `tests/golden/encoder`.

use serde::Deserialize;
use shirube_core::{EncoderConfig, InputRules, ProjectionConfig, Role};
use shirube_encoder::{Encoder, EncoderIds, quantize};
use shirube_format::Sha256Hex;
use shirube_format::model::{
    MODEL_FORMAT, ModelManifest, Provenance, Quantization, Tensor, TensorKind, TensorRole, TokenizerInfo,
    WeightKind, Weights,
};
use shirube_kernels::{GroupedI4, Kernels};
use std::collections::BTreeMap;

/// Least cosine of an f32 token embedding with the reference's: both are f32 with other orders of summation.
const F32_COSINE: f64 = 0.99999;
/// Least mean cosine of int8 token embeddings. The weights are random, which is harder than trained ones: no direction is redundant.
const INT8_COSINE: f64 = 0.99;

#[derive(Deserialize)]
struct Golden {
    encoder: EncoderConfig,
    projection: ProjectionConfig,
    inputs: BTreeMap<usize, Vec<u32>>,
    /// Augmentation that is not attended to.
    expanded: Option<Expanded>,
}

#[derive(Deserialize)]
struct Expanded {
    ids: Vec<u32>,
    n_attended: usize,
}

/// File stems: a ModernBERT and a BERT.
const MODELS: [&str; 2] = ["golden", "bert"];

fn read(stem: &str) -> (Golden, Weights) {
    let path = format!("{}/../../tests/golden/encoder/{stem}", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(format!("{path}.safetensors")).expect("the golden file is committed");
    let json = std::fs::read(format!("{path}.json")).expect("the golden file is committed");
    (serde_json::from_slice(&json).unwrap(), Weights::read([(stem, bytes.as_slice())]).unwrap())
}

fn load(golden: &Golden, weights: &Weights, kind: WeightKind, kernels: Kernels) -> Encoder {
    let manifest = manifest(golden, kind);
    let weights = quantize(weights, manifest.quantization);
    Encoder::load(&manifest, weights, kernels).unwrap()
}

fn manifest(golden: &Golden, kind: WeightKind) -> ModelManifest {
    let rules =
        InputRules { prefix: vec![], max_length: golden.encoder.max_positions, ..InputRules::default() };
    ModelManifest {
        format: MODEL_FORMAT,
        name: "golden".to_owned(),
        license: "MIT OR Apache-2.0".to_owned(),
        encoder: golden.encoder.clone(),
        projection: golden.projection.clone(),
        query: rules.clone(),
        document: rules,
        tokenizer: TokenizerInfo {
            normalizer: "none".to_owned(),
            segmenter: "none".to_owned(),
            subword: "unigram".to_owned(),
            sha256: Sha256Hex::of(b""),
        },
        quantization: Quantization { linear: kind, embeddings: kind },
        provenance: Provenance::default(),
        files: Vec::new(),
    }
}

/// Cosine and ratio of lengths of each pair of rows.
fn compare(found: &[f32], expected: &[f32], dim: usize) -> Vec<(f64, f64)> {
    assert_eq!(found.len(), expected.len());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
    let pairs = found.chunks_exact(dim).zip(expected.chunks_exact(dim));
    pairs.map(|(a, b)| (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(), (dot(a, a) / dot(b, b)).sqrt())).collect()
}

/// Every embedding of every input, role and backend of one model.
fn all(stem: &str, kind: WeightKind) -> Vec<(String, f64, f64)> {
    let (golden, weights) = read(stem);
    compare_all(stem, &golden, &weights, kind)
}

/// The same against the `golden.*` tensors of `weights`.
fn compare_all(stem: &str, golden: &Golden, weights: &Weights, kind: WeightKind) -> Vec<(String, f64, f64)> {
    let mut cases = Vec::new();
    for (n, ids) in &golden.inputs {
        cases.push((n.to_string(), EncoderIds::all(ids)));
    }
    if let Some(Expanded { ids, n_attended }) = &golden.expanded {
        cases.push(("expanded".to_owned(), EncoderIds { ids, keep: None, n_attended: *n_attended }));
    }
    let mut out = Vec::new();
    for kernels in Kernels::all() {
        let mut encoder = load(golden, weights, kind, kernels);
        let dim = encoder.dim();
        for (case, input) in &cases {
            for (role, name) in [(Role::Document, "document"), (Role::Query, "query")] {
                let tensor = format!("golden.{case}.{name}");
                if !weights.contains(&tensor) {
                    assert!(!golden.projection.query_weight && role == Role::Query, "{tensor} is missing");
                    continue;
                }
                let expected = weights.clone().take_f32(&tensor, &[input.ids.len(), dim]).unwrap();
                let found = encoder.encode_ids(*input, role).unwrap();
                for (i, (cosine, length)) in compare(&found.data, &expected, dim).into_iter().enumerate() {
                    let what = format!("{stem}: {name} of {case}, token {i}, {}", kernels.kind());
                    out.push((what, cosine, length));
                }
            }
        }
    }
    out
}

#[test]
fn f32_embeddings_are_those_of_transformers() {
    for (what, cosine, length) in MODELS.iter().flat_map(|stem| all(stem, WeightKind::F32)) {
        assert!(
            cosine >= F32_COSINE && (length - 1.0).abs() < 1e-4,
            "{what}: cosine {cosine}, length ratio {length}"
        );
    }
}

#[test]
fn int8_embeddings_stay_close_to_transformers() {
    for stem in MODELS {
        close(stem, &all(stem, WeightKind::Int8));
    }
}

fn close(stem: &str, all: &[(String, f64, f64)]) {
    let mean = all.iter().map(|(_, cosine, _)| cosine).sum::<f64>() / all.len() as f64;
    let least = all.iter().map(|(_, cosine, _)| *cosine).fold(1.0, f64::min);
    assert!(mean >= INT8_COSINE, "{stem}: mean cosine {mean}, least {least}");
    assert!(least >= INT8_COSINE - 0.05, "{stem}: mean cosine {mean}, least {least}");
}

/// What 4 bits do to random weights says nothing about trained ones (every direction counts, attention is sharp), so the reference is the f32
/// model of the weights that the 4 bits stand for.
#[test]
fn int4_embeddings_are_those_of_the_weights_they_stand_for() {
    for stem in MODELS {
        let (golden, mut weights) = read(stem);
        let mut meant = Weights::default();
        for (name, tensor) in weights.iter() {
            match (TensorRole::of(name, &tensor.shape), &tensor.shape[..], &tensor.data) {
                (TensorRole::Linear | TensorRole::Embeddings, &[rows, cols], TensorKind::F32(values)) => {
                    let matrix = GroupedI4::quantize(values, rows, cols);
                    let value = |row: usize| {
                        let scale = matrix.scale()[row];
                        matrix.row(row).map(move |int| f32::from(int) * scale)
                    };
                    meant.insert(name, Tensor::f32(&tensor.shape, (0..rows).flat_map(value).collect()));
                }
                _ => meant.insert(name, tensor.clone()),
            }
        }
        for (n, ids) in &golden.inputs {
            let expected = load(&golden, &meant, WeightKind::F32, Kernels::detect());
            let expected = { expected }.encode(ids, Role::Document).unwrap();
            weights.insert(format!("golden.{n}.document"), Tensor::f32(&[*n, 32], expected.data));
        }
        let found = compare_all(stem, &golden, &weights, WeightKind::Int4);
        close(
            stem,
            &found
                .into_iter()
                .filter(|(what, ..)| what.contains("document of ") && !what.contains("expanded"))
                .collect::<Vec<_>>(),
        );
    }
}

#[test]
fn the_window_of_local_attention_changes_the_result() {
    let (mut golden, mut weights) = read("golden");
    golden.encoder.local_window = 2 * golden.encoder.max_positions;
    let mut encoder = load(&golden, &weights, WeightKind::F32, Kernels::detect());
    let expected = weights.take_f32("golden.40.document", &[40, 32]).unwrap();
    let found = encoder.encode(&golden.inputs[&40], Role::Document).unwrap();
    assert!(compare(&found.data, &expected, 32).iter().any(|(cosine, _)| *cosine < 0.99));
}

#[test]
fn attending_to_the_expansion_changes_the_result() {
    let (golden, mut weights) = read("bert");
    let Some(Expanded { ids, .. }) = &golden.expanded else { panic!("bert.json has an expanded query") };
    let mut encoder = load(&golden, &weights, WeightKind::F32, Kernels::detect());
    let expected = weights.take_f32("golden.expanded.document", &[ids.len(), 32]).unwrap();
    let found = encoder.encode(ids, Role::Document).unwrap();
    assert!(compare(&found.data, &expected, 32).iter().any(|(cosine, _)| *cosine < 0.99));
}

#[test]
fn vector_backends_give_the_same_bits() {
    for (stem, kind) in MODELS
        .iter()
        .flat_map(|stem| [WeightKind::F32, WeightKind::Int8, WeightKind::Int4].map(|kind| (stem, kind)))
    {
        let (golden, weights) = read(stem);
        let encode = |kernels| {
            let mut encoder = load(&golden, &weights, kind, kernels);
            encoder.encode(&golden.inputs[&40], Role::Query).unwrap().data
        };
        let [_, portable, others @ ..] = &Kernels::all()[..] else {
            panic!("the portable kernels are always there")
        };
        let expected = encode(*portable);
        for &kernels in others {
            assert_eq!(encode(kernels), expected, "{stem}, {kind:?} on {}", kernels.kind());
        }
    }
}

#[test]
fn a_text_encodes_the_same_alone_and_in_a_batch() {
    for stem in MODELS {
        let (golden, weights) = read(stem);
        let mut encoder = load(&golden, &weights, WeightKind::Int8, Kernels::detect());
        let inputs: Vec<EncoderIds<'_>> =
            golden.inputs.values().chain(golden.inputs.values()).map(|ids| EncoderIds::all(ids)).collect();
        let batch = encoder.encode_batch(&inputs, Role::Document).unwrap();
        for (input, together) in inputs.iter().zip(&batch) {
            assert_eq!(&encoder.encode_ids(*input, Role::Document).unwrap(), together);
        }
    }
}
