//! Students read from PyLate folders against `transformers` and PyLate (tests/golden/student).

use candle_core::{Device, Tensor};
use serde::Deserialize;
use shirube_core::{Expansion, ExpansionRule, InputRules, ProjectionConfig};
use shirube_train::data::Sequence;
use shirube_train::pretrained::Pretrained;
use shirube_train::student::{Packed, Student};
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Case {
    role: String,
    ids: Vec<u32>,
    n_attended: usize,
    /// Empty where not stored.
    hidden: Vec<f32>,
    embeddings: Vec<f32>,
}

const WIDTH: usize = 16;
const DIM: usize = 8;
/// `.` and `、`, which PyLate was told to skip in documents.
const SKIPPED: [u32; 2] = [20, 22];
/// f32 sums in another order over three blocks, on values of the size of 1.
const TOLERANCE: f32 = 2e-5;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/student").join(name)
}

fn cases(name: &str) -> Vec<Case> {
    let text = std::fs::read(folder(name).join("cases.json")).expect("the golden file");
    serde_json::from_slice(&text).expect("golden cases")
}

fn student(name: &str) -> Student {
    let read = Pretrained::read(&folder(name)).expect("a folder");
    let (encoder, dense) = (read.encoder.clone(), read.dense.clone());
    let projection = ProjectionConfig { dense, query_weight: false };
    read.student(encoder, projection, 1, &Device::Cpu).expect("a student")
}

/// Embeddings of one case, kept tokens only, and the hidden states they are made of.
fn encode(student: &Student, hidden: &Tensor, case: &Case) -> Vec<Vec<f32>> {
    let all = student.project(hidden).and_then(|e| e.to_vec2::<f32>()).expect("embeddings");
    let kept = |id: &u32| case.role == "query" || !SKIPPED.contains(id);
    all.into_iter().zip(&case.ids).filter(|(_, id)| kept(id)).map(|(row, _)| row).collect()
}

fn input(case: &Case) -> Sequence {
    Sequence { ids: case.ids.clone(), n_attended: case.n_attended }
}

#[test]
fn embeddings_are_those_of_pylate_alone_and_in_a_batch() {
    for name in ["bert", "modern-bert"] {
        let (student, cases) = (student(name), cases(name));
        assert!(cases.iter().any(|c| c.n_attended < c.ids.len()), "no case has augmentation");
        let all: Vec<Sequence> = cases.iter().map(input).collect();
        let batch = student.hidden(&Packed::of(&all), usize::MAX).expect("hidden states");
        let mut start = 0;
        for case in &cases {
            let alone = student.hidden(&Packed::of(&[input(case)]), usize::MAX).expect("hidden states");
            if !case.hidden.is_empty() {
                let ours = alone.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("values");
                assert_eq!(ours.len(), case.hidden.len());
                for (a, b) in ours.iter().zip(&case.hidden) {
                    assert!((a - b).abs() < TOLERANCE * 4.0, "{name}: hidden {a} and {b}");
                }
            }
            let together = batch.narrow(0, start, case.ids.len()).expect("rows");
            start += case.ids.len();
            for hidden in [alone, together] {
                let ours = encode(&student, &hidden, case);
                assert_eq!(ours.len() * DIM, case.embeddings.len(), "{name}: {} tokens kept", ours.len());
                for (a, b) in ours.iter().zip(case.embeddings.chunks_exact(DIM)) {
                    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>();
                    let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
                    assert!(cosine >= 0.99999, "{name}: cosine {cosine}");
                    for (x, y) in a.iter().zip(b) {
                        assert!((x - y).abs() < TOLERANCE, "{name}: {x} and {y}");
                    }
                }
            }
        }
        assert_eq!(start, batch.dims()[0]);
        assert_eq!(batch.dims()[1], WIDTH);
    }
}

#[test]
fn input_rules_make_the_ids_that_pylate_made() {
    for case in cases("bert").iter().filter(|c| c.role == "query") {
        let rules = InputRules {
            prefix: vec![2, 23],
            suffix: vec![3],
            max_length: 16,
            expansion: Some(Expansion { token: 4, attend: false, rule: ExpansionRule::Fixed }),
            ..InputRules::default()
        };
        let text = case.ids[2..case.n_attended - 1].iter().copied();
        assert_eq!(Sequence::new(&rules, text), input(case));
    }
}

#[test]
fn every_parameter_of_a_bert_learns_but_what_no_token_reads() {
    for name in ["bert", "modern-bert"] {
        let (student, cases) = (student(name), cases(name));
        let all: Vec<Sequence> = cases.iter().map(input).collect();
        let hidden = student.hidden(&Packed::of(&all), usize::MAX).expect("hidden states");
        let embeddings = student.project(&hidden).expect("embeddings");
        let weights: Vec<f32> = shirube_train::ops::graddiff::values(embeddings.elem_count(), 5);
        let weights = Tensor::from_vec(weights, embeddings.dims(), &Device::Cpu).expect("weights");
        let loss = (embeddings * weights).and_then(|t| t.sum_all()).expect("a scalar");
        let store = loss.backward().expect("gradients");
        for (parameter, var) in student.variables(usize::MAX) {
            let grad = store.get(var).unwrap_or_else(|| panic!("{name}: {parameter} has no gradient"));
            let grad = grad.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("values");
            // A key's bias shifts all scores of a row alike: no softmax sees it.
            let moves = grad.iter().any(|g| g.abs() > 1e-5);
            assert!(moves || parameter.ends_with("self.key.bias"), "{name}: {parameter} does not learn");
        }
    }
}

#[test]
fn shapes_that_differ_are_refused_with_the_lines_that_would_fit() {
    let read = Pretrained::read(&folder("bert")).expect("a folder");
    let mut encoder = read.encoder.clone();
    encoder.n_heads = 4;
    encoder.max_positions = 512;
    let projection = ProjectionConfig { dense: read.dense.clone(), query_weight: false };
    let message = read.student(encoder, projection, 1, &Device::Cpu).expect_err("refused").to_string();
    assert!(message.contains("n_heads = 2") && message.contains("max_positions = 48"), "{message}");

    let read = Pretrained::read(&folder("modern-bert")).expect("a folder");
    let mut encoder = read.encoder.clone();
    encoder.vocab_size = 300;
    let projection = ProjectionConfig { dense: read.dense.clone(), query_weight: false };
    let message = read.student(encoder, projection, 1, &Device::Cpu).expect_err("refused").to_string();
    assert!(message.contains("300 tokens") && message.contains("25"), "{message}");

    let none = Pretrained::read(Path::new(env!("CARGO_MANIFEST_DIR"))).expect_err("no model").to_string();
    assert!(none.contains("config.json"), "{none}");
}
