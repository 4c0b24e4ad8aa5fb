//! Cross-encoders in Hugging Face layout against `transformers` (tests/golden/cross-encoder).

use serde::Deserialize;
use shirube_train::teacher::{CrossEncoder, PairTokens};
use std::path::{Path, PathBuf};

/// f32 sums in another order, on scores of the size of 1.
const TOLERANCE: f32 = 2e-5;

#[derive(Deserialize)]
struct Case {
    query: String,
    document: String,
    ids: Vec<u32>,
    segments: Vec<u32>,
    score: f32,
}

fn golden(name: &str) -> (PathBuf, Vec<Case>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cross-encoder").join(name);
    let cases = std::fs::read(folder.join("cases.json")).expect("the golden file");
    (folder, serde_json::from_slice(&cases).expect("golden cases"))
}

#[test]
fn scores_are_those_of_transformers_alone_and_in_a_batch() {
    for name in ["bert", "xlm-roberta"] {
        let (folder, cases) = golden(name);
        let model = CrossEncoder::read(&folder).expect("a cross-encoder");
        let pairs: Vec<PairTokens> = cases
            .iter()
            .map(|c| {
                let pair = model.encode(&c.query, &c.document).expect("tokens");
                assert_eq!((&pair.ids, &pair.segments), (&c.ids, &c.segments), "{name}");
                pair
            })
            .collect();
        let batch = model.forward(&pairs).expect("scores");
        for ((case, pair), score) in cases.iter().zip(&pairs).zip(batch) {
            assert!((score - case.score).abs() < TOLERANCE, "{name}: {score} against {}", case.score);
            let alone = model.forward(std::slice::from_ref(pair)).expect("a score")[0];
            // Products of other heights sum in other orders.
            assert!((alone - score).abs() < 1e-6, "{name}: {alone} alone, {score} in a batch");
        }
    }
}

#[test]
fn pairs_beyond_the_model_are_cut_by_the_tokenizer_and_refused_by_the_forward_pass() {
    let model = CrossEncoder::read(&golden("xlm-roberta").0).expect("a cross-encoder");
    let long = "寺 ".repeat(60);
    let pair = model.encode("駅", &long).expect("tokens");
    assert_eq!(pair.ids.len(), 24, "26 positions less the two that XLM-RoBERTa keeps");
    assert!(model.forward(&[pair]).is_ok());
    let over = PairTokens { ids: vec![5; 25], segments: vec![0; 25] };
    assert!(model.forward(&[over]).expect_err("refused").to_string().contains("25 tokens"));
    let unknown = PairTokens { ids: vec![99], segments: vec![0] };
    assert!(model.forward(&[unknown]).expect_err("refused").to_string().contains("vocabulary"));
}
