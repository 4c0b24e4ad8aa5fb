//! What the integration tests share: a tiny random model, sections, folders that remove themselves. The browser tests beside this file are JavaScript.

#![forbid(unsafe_code)]

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use shirube_core::{Architecture, DenseConfig, EncoderConfig, InputRules, ProjectionConfig};
use shirube_format::Sha256Hex;
use shirube_format::bundle::Section;
use shirube_format::model::{
    MODEL_FORMAT, ModelManifest, Provenance, Quantization, Tensor, TokenizerInfo, WeightKind, Weights,
    pack_parts,
};
use shirube_text::{Rules, Segmenter, Tokenizer};

const TOPICS: [&str; 10] = [
    "再レンダリング",
    "所有権",
    "非同期処理",
    "型推論",
    "スロット",
    "コンポーネント",
    "ライフタイム",
    "ジェネリクス",
    "状態管理",
    "エラー処理",
];
const ASPECTS: [&str; 5] = ["概要", "使い方", "よくある間違い", "性能を上げるには", "テストの書き方"];

/// Fifty sections: every topic with every aspect.
pub fn sections() -> Vec<Section> {
    let mut out = Vec::new();
    for topic in TOPICS {
        for (i, aspect) in ASPECTS.iter().enumerate() {
            out.push(Section {
                id: format!("s-{}", out.len()),
                source: "sample".to_owned(),
                page: format!("guide/{}", out.len() / ASPECTS.len()),
                url: format!("guide/{}.html#{i}", out.len() / ASPECTS.len()),
                title: topic.to_owned(),
                headings: if i == 0 { Vec::new() } else { vec![(*aspect).to_owned()] },
                anchor: i.to_string(),
                text: format!(
                    "{topic}の{aspect}について説明します。{}",
                    "具体的な例を見てみましょう。".repeat(i)
                ),
                ..Section::default()
            });
        }
    }
    out
}

/// Manifest and files of a model with random weights: two ModernBERT blocks, 16 dimensions, int8. Equal seeds give equal files.
pub fn random_model(seed: u64) -> (ModelManifest, Vec<(String, Vec<u8>)>) {
    let tokenizer = tokenizer(&[]);
    model_with(&tokenizer, seed)
}

/// The same weights over a tokenizer with one piece more.
pub fn random_model_with_another_tokenizer(seed: u64) -> (ModelManifest, Vec<(String, Vec<u8>)>) {
    model_with(&tokenizer(&["別の語"]), seed)
}

fn tokenizer(more: &[&str]) -> Tokenizer {
    let specials = ["[PAD]", "[UNK]", "[MASK]", "[Q]", "[D]", "[SEP]"];
    let mut pieces: std::collections::BTreeMap<String, f64> =
        ('ぁ'..='ん').map(|c| (c.to_string(), -9.0)).collect();
    for word in TOPICS.iter().chain(&ASPECTS).chain(more).chain(&[
        "具体的",
        "な",
        "例",
        "を",
        "見て",
        "説明",
        "します",
        "。",
    ]) {
        pieces.insert((*word).to_owned(), -7.5);
        pieces.extend(word.chars().map(|c| (c.to_string(), -9.0)));
    }
    let vocab: Vec<serde_json::Value> = specials
        .iter()
        .map(|s| serde_json::json!([s, 0.0]))
        .chain((0..256).map(|b| serde_json::json!([format!("<0x{b:02X}>"), -12.0])))
        .chain(pieces.iter().map(|(piece, score)| serde_json::json!([piece, score])))
        .collect();
    let added: Vec<serde_json::Value> = specials
        .iter()
        .enumerate()
        .map(|(id, s)| serde_json::json!({"id": id, "content": s, "special": true}))
        .collect();
    let json = serde_json::json!({
        "added_tokens": added,
        "model": {"type": "Unigram", "unk_id": 1, "byte_fallback": true, "vocab": vocab},
    });
    Tokenizer::from_tokenizer_json(&json.to_string(), Rules::Shirube1, Segmenter::Script)
        .expect("the sample tokenizer is well-formed")
}

/// The same weights over any tokenizer; files that it needs beside `tokenizer.bin` are the caller's to add.
pub fn model_with(tokenizer: &Tokenizer, seed: u64) -> (ModelManifest, Vec<(String, Vec<u8>)>) {
    let (hidden, n_layers, intermediate, dim) = (32, 2, 48, 16);
    let vocab_size = tokenizer.vocab_size();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut weights = Weights::default();
    let mut matrix = |weights: &mut Weights, name: &str, rows: usize, columns: usize| {
        let data =
            (0..rows * columns).map(|_| (rng.next_u32() % 255) as i32 - 127).map(|v| v as i8).collect();
        weights.insert(format!("{name}.weight"), Tensor::i8(&[rows, columns], data));
        // A standard deviation of about 1 / sqrt(columns), as after a common initialisation.
        let scale = 1.7 / 127.0 / (columns as f32).sqrt();
        weights.insert(format!("{name}.scale"), Tensor::f32(&[rows], vec![scale; rows]));
    };
    matrix(&mut weights, "embeddings.tok_embeddings", vocab_size, hidden);
    for i in 0..n_layers {
        matrix(&mut weights, &format!("layers.{i}.attn.Wqkv"), 3 * hidden, hidden);
        matrix(&mut weights, &format!("layers.{i}.attn.Wo"), hidden, hidden);
        matrix(&mut weights, &format!("layers.{i}.mlp.Wi"), 2 * intermediate, hidden);
        matrix(&mut weights, &format!("layers.{i}.mlp.Wo"), hidden, intermediate);
    }
    matrix(&mut weights, "dense.0", dim, hidden);
    let norms = (0..n_layers)
        .flat_map(|i| {
            [
                (i > 0).then(|| format!("layers.{i}.attn_norm.weight")),
                Some(format!("layers.{i}.mlp_norm.weight")),
            ]
        })
        .flatten()
        .chain(["embeddings.norm.weight".to_owned(), "final_norm.weight".to_owned()]);
    for name in norms {
        weights.insert(name, Tensor::f32(&[hidden], vec![1.0; hidden]));
    }

    let tokenizer_bin = tokenizer.to_bytes();
    let mut files = pack_parts(&weights, 4 << 20).expect("the sample weights are well-formed");
    let rules = |prefix| InputRules { prefix: vec![prefix], max_length: 128, ..InputRules::default() };
    let manifest = ModelManifest {
        format: MODEL_FORMAT,
        name: "random".to_owned(),
        license: "CC0-1.0".to_owned(),
        encoder: EncoderConfig {
            architecture: Architecture::ModernBert,
            vocab_size,
            hidden_size: hidden,
            n_layers,
            n_heads: 2,
            intermediate_size: intermediate,
            norm_eps: 1e-5,
            max_positions: 128,
            type_vocab_size: 0,
            global_attention_every: 2,
            local_window: 16,
            rope_theta_global: 10_000.0,
            rope_theta_local: 10_000.0,
        },
        projection: ProjectionConfig {
            dense: vec![DenseConfig { in_features: hidden, out_features: dim, ..DenseConfig::default() }],
            query_weight: false,
        },
        query: rules(3),
        document: rules(4),
        tokenizer: TokenizerInfo {
            normalizer: tokenizer.rules().name().to_owned(),
            segmenter: tokenizer.segmenter().name().to_owned(),
            subword: tokenizer.subword_name().to_owned(),
            sha256: Sha256Hex::of(&tokenizer_bin),
        },
        quantization: Quantization { linear: WeightKind::Int8, embeddings: WeightKind::Int8 },
        provenance: Provenance { source: format!("random weights, seed {seed}"), ..Provenance::default() },
        files: Vec::new(),
    };
    files.push(("tokenizer.bin".to_owned(), tokenizer_bin));
    (manifest, files)
}
