//! Our encoder against `transformers`, on the files of `tests/golden/encoder`.

use serde::Deserialize;
use shirube_core::{EncoderConfig, InputRules, ProjectionConfig, Role};
use shirube_encoder::{Encoder, EncoderIds, quantize_rows};
use shirube_format::Sha256Hex;
use shirube_format::model::{
    MODEL_FORMAT, ModelManifest, Provenance, Quantization, Tensor, TensorKind, TokenizerInfo, WeightKind,
    Weights,
};
use shirube_kernels::Kernels;
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
}

fn read() -> (Golden, Weights) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/encoder/");
    let bytes = std::fs::read(format!("{folder}golden.safetensors")).expect("the golden file is committed");
    let json = std::fs::read(format!("{folder}golden.json")).expect("the golden file is committed");
    (
        serde_json::from_slice(&json).unwrap(),
        Weights::read([("golden.safetensors", bytes.as_slice())]).unwrap(),
    )
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

fn quantized(weights: &Weights) -> Weights {
    let mut out = Weights::default();
    for (name, tensor) in weights.iter() {
        match (name.strip_suffix(".weight"), &tensor.shape[..], &tensor.data) {
            (Some(stem), &[rows, cols], TensorKind::F32(values)) if stem != "query_weight" => {
                let (ints, scale) = quantize_rows(values, rows, cols);
                out.insert(name, Tensor::i8(&[rows, cols], ints));
                out.insert(format!("{stem}.scale"), Tensor::f32(&[rows], scale));
            }
            _ => out.insert(name, tensor.clone()),
        }
    }
    out
}

/// Cosine and ratio of lengths of each pair of rows.
fn compare(found: &[f32], expected: &[f32], dim: usize) -> Vec<(f64, f64)> {
    assert_eq!(found.len(), expected.len());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
    let pairs = found.chunks_exact(dim).zip(expected.chunks_exact(dim));
    pairs.map(|(a, b)| (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(), (dot(a, a) / dot(b, b)).sqrt())).collect()
}

/// Every embedding of every input, role and backend.
fn all(kind: WeightKind) -> Vec<(String, f64, f64)> {
    let (golden, weights) = read();
    let mut out = Vec::new();
    for kernels in Kernels::all() {
        let own = if kind == WeightKind::Int8 { quantized(&weights) } else { weights.clone() };
        let mut encoder = Encoder::load(&manifest(&golden, kind), own, kernels).unwrap();
        for (n, ids) in &golden.inputs {
            for (role, name) in [(Role::Document, "document"), (Role::Query, "query")] {
                let dim = encoder.dim();
                let expected = weights.clone().take_f32(&format!("golden.{n}.{name}"), &[*n, dim]).unwrap();
                let found = encoder.encode(ids, role).unwrap();
                for (i, (cosine, length)) in compare(&found.data, &expected, dim).into_iter().enumerate() {
                    out.push((format!("{name} of {n}, token {i}, {}", kernels.kind()), cosine, length));
                }
            }
        }
    }
    out
}

#[test]
fn f32_embeddings_are_those_of_transformers() {
    for (what, cosine, length) in all(WeightKind::F32) {
        assert!(
            cosine >= F32_COSINE && (length - 1.0).abs() < 1e-4,
            "{what}: cosine {cosine}, length ratio {length}"
        );
    }
}

#[test]
fn int8_embeddings_stay_close_to_transformers() {
    let all = all(WeightKind::Int8);
    let mean = all.iter().map(|(_, cosine, _)| cosine).sum::<f64>() / all.len() as f64;
    let least = all.iter().map(|(_, cosine, _)| *cosine).fold(1.0, f64::min);
    assert!(mean >= INT8_COSINE, "mean cosine {mean}, least {least}");
    assert!(least >= INT8_COSINE - 0.05, "mean cosine {mean}, least {least}");
}

#[test]
fn the_window_of_local_attention_changes_the_result() {
    let (mut golden, weights) = read();
    golden.encoder.local_window = 2 * golden.encoder.max_positions;
    let mut encoder =
        Encoder::load(&manifest(&golden, WeightKind::F32), weights.clone(), Kernels::detect()).unwrap();
    let expected = weights.clone().take_f32("golden.40.document", &[40, 32]).unwrap();
    let found = encoder.encode(&golden.inputs[&40], Role::Document).unwrap();
    assert!(compare(&found.data, &expected, 32).iter().any(|(cosine, _)| *cosine < 0.99));
}

#[test]
fn vector_backends_give_the_same_bits() {
    let (golden, weights) = read();
    for kind in [WeightKind::F32, WeightKind::Int8] {
        let own = || if kind == WeightKind::Int8 { quantized(&weights) } else { weights.clone() };
        let encode = |kernels| {
            let mut encoder = Encoder::load(&manifest(&golden, kind), own(), kernels).unwrap();
            encoder.encode(&golden.inputs[&40], Role::Query).unwrap().data
        };
        let [_, portable, others @ ..] = &Kernels::all()[..] else {
            panic!("the portable kernels are always there")
        };
        let expected = encode(*portable);
        for &kernels in others {
            assert_eq!(encode(kernels), expected, "{kind:?} on {}", kernels.kind());
        }
    }
}

#[test]
fn a_text_encodes_the_same_alone_and_in_a_batch() {
    let (golden, weights) = read();
    let mut encoder =
        Encoder::load(&manifest(&golden, WeightKind::Int8), quantized(&weights), Kernels::detect()).unwrap();
    let inputs: Vec<EncoderIds<'_>> =
        golden.inputs.values().chain(golden.inputs.values()).map(|ids| EncoderIds::all(ids)).collect();
    let batch = encoder.encode_batch(&inputs, Role::Document).unwrap();
    for (input, together) in inputs.iter().zip(&batch) {
        assert_eq!(&encoder.encode_ids(*input, Role::Document).unwrap(), together);
    }
}
