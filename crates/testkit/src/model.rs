//! Whole models with random weights.

use crate::Random;
use crate::random::CHARACTERS;
use shirube_core::{Architecture, DenseConfig, EncoderConfig, InputRules, ProjectionConfig};
use shirube_format::Sha256Hex;
use shirube_format::model::{
    FileEntry, MODEL_FORMAT, ModelManifest, Provenance, Quantization, Tensor, TensorKind, TokenizerInfo,
    WeightKind, Weights, pack_parts,
};
use shirube_kernels::quantize_rows;
use shirube_text::{Rules, Segmenter, Tokenizer};
use std::collections::BTreeSet;

/// Sizes of a random model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RandomShape {
    /// Rows of the embedding table; 400 or more leaves room for every special, byte and character piece.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Blocks.
    pub n_layers: usize,
    /// Heads; divides `hidden_size`.
    pub n_heads: usize,
    /// Width inside the feed-forward block.
    pub intermediate_size: usize,
    /// Width of a token embedding.
    pub dim: usize,
    /// Whether queries get a learned weight per token.
    pub query_weight: bool,
    /// Longest input; queries take a quarter of it.
    pub max_positions: usize,
}

impl Default for RandomShape {
    /// Small enough for a unit test, with windowed and global blocks.
    fn default() -> Self {
        Self {
            vocab_size: 512,
            hidden_size: 48,
            n_layers: 2,
            n_heads: 3,
            intermediate_size: 64,
            dim: 16,
            query_weight: true,
            max_positions: 128,
        }
    }
}

impl RandomShape {
    /// The shape that the default model has in the browser: 16 k pieces, 256 wide, 4 blocks, 64 dimensions.
    pub fn default_model() -> Self {
        Self {
            vocab_size: 16_384,
            hidden_size: 256,
            n_layers: 4,
            n_heads: 4,
            intermediate_size: 384,
            dim: 64,
            query_weight: true,
            max_positions: 512,
        }
    }
}

/// A model with random weights and a tokenizer that knows the characters of [`Random::text`].
#[derive(Clone, Debug)]
pub struct RandomModel {
    /// Manifest; `files` is empty until [`Self::files`].
    pub manifest: ModelManifest,
    /// Weights, as the manifest says.
    pub weights: Weights,
    /// `tokenizer.json`.
    pub tokenizer_json: String,
    /// `tokenizer.bin`.
    pub tokenizer_bin: Vec<u8>,
}

/// A model of `shape` with f32 weights: [`RandomModel::quantized`] makes the int8 one of it.
///
/// Weights are wide enough that attention is far from uniform and every block changes the result.
///
/// # Panics
/// When the shape contradicts itself or its vocabulary does not hold the tokenizer's pieces.
pub fn random_model(seed: u64, shape: &RandomShape) -> RandomModel {
    let mut random = Random::new(seed);
    let (tokenizer_json, tokenizer_bin) = tokenizer(&mut random, shape.vocab_size);
    let RandomShape { hidden_size: hidden, intermediate_size: inner, .. } = *shape;
    assert!(
        hidden.is_multiple_of(shape.n_heads) && (hidden / shape.n_heads).is_multiple_of(2),
        "heads of even width"
    );
    let encoder = EncoderConfig {
        architecture: Architecture::ModernBert,
        vocab_size: shape.vocab_size,
        hidden_size: hidden,
        n_layers: shape.n_layers,
        n_heads: shape.n_heads,
        intermediate_size: inner,
        norm_eps: 1e-5,
        max_positions: shape.max_positions,
        global_attention_every: 2,
        local_window: 32,
        rope_theta_global: 160_000.0,
        rope_theta_local: 10_000.0,
    };
    let mut weights = Weights::default();
    let mut matrix = |name: &str, rows: usize, cols: usize| {
        let values = random.normals(rows * cols, 1.0 / (cols as f32).sqrt());
        weights.insert(format!("{name}.weight"), Tensor::f32(&[rows, cols], values));
    };
    matrix("embeddings.tok_embeddings", shape.vocab_size, hidden);
    for i in 0..shape.n_layers {
        matrix(&format!("layers.{i}.attn.Wqkv"), 3 * hidden, hidden);
        matrix(&format!("layers.{i}.attn.Wo"), hidden, hidden);
        matrix(&format!("layers.{i}.mlp.Wi"), 2 * inner, hidden);
        matrix(&format!("layers.{i}.mlp.Wo"), hidden, inner);
    }
    matrix("dense.0", shape.dim, hidden);
    if shape.query_weight {
        matrix("query_weight", 1, hidden);
        weights.insert("query_weight.bias", Tensor::f32(&[1], vec![random.unit()]));
    }
    let mut norm = |name: String| {
        let values = random.normals(hidden, 0.2).iter().map(|v| 1.0 + v).collect();
        weights.insert(format!("{name}.weight"), Tensor::f32(&[hidden], values));
    };
    norm("embeddings.norm".to_owned());
    norm("final_norm".to_owned());
    for i in 0..shape.n_layers {
        if i > 0 {
            norm(format!("layers.{i}.attn_norm"));
        }
        norm(format!("layers.{i}.mlp_norm"));
    }
    let rules = |marker: u32, max_length: usize| InputRules {
        prefix: vec![marker],
        max_length,
        ..InputRules::default()
    };
    let manifest = ModelManifest {
        format: MODEL_FORMAT,
        name: format!("random-{seed}"),
        license: "MIT OR Apache-2.0".to_owned(),
        encoder,
        projection: ProjectionConfig {
            dense: vec![DenseConfig {
                in_features: hidden,
                out_features: shape.dim,
                bias: false,
                residual: false,
            }],
            query_weight: shape.query_weight,
        },
        query: rules(3, shape.max_positions / 4),
        document: rules(4, shape.max_positions),
        tokenizer: TokenizerInfo {
            normalizer: Rules::Shirube1.name().to_owned(),
            segmenter: Segmenter::Script.name().to_owned(),
            subword: "unigram".to_owned(),
            sha256: Sha256Hex::of(&tokenizer_bin),
        },
        quantization: Quantization { linear: WeightKind::F32, embeddings: WeightKind::F32 },
        provenance: Provenance { source: format!("random numbers, seed {seed}"), ..Provenance::default() },
        files: Vec::new(),
    };
    RandomModel { manifest, weights, tokenizer_json, tokenizer_bin }
}

impl RandomModel {
    /// The same model with int8 matrices.
    pub fn quantized(&self) -> Self {
        let mut weights = Weights::default();
        for (name, tensor) in self.weights.iter() {
            match (name.strip_suffix(".weight"), &tensor.shape[..], &tensor.data) {
                (Some(stem), &[rows, cols], TensorKind::F32(values)) if stem != "query_weight" => {
                    let (ints, scale) = quantize_rows(values, rows, cols);
                    weights.insert(name, Tensor::i8(&[rows, cols], ints));
                    weights.insert(format!("{stem}.scale"), Tensor::f32(&[rows], scale));
                }
                _ => weights.insert(name, tensor.clone()),
            }
        }
        let mut manifest = self.manifest.clone();
        manifest.quantization = Quantization { linear: WeightKind::Int8, embeddings: WeightKind::Int8 };
        Self { manifest, weights, ..self.clone() }
    }

    /// Every file of the model folder but `manifest.json`, and the manifest that names them.
    ///
    /// # Panics
    /// Never: random weights are always packable.
    pub fn files(&self) -> (ModelManifest, Vec<(String, Vec<u8>)>) {
        let mut files = pack_parts(&self.weights, 4 << 20).expect("whole f32 and i8 tensors are packable");
        files.push(("tokenizer.json".to_owned(), self.tokenizer_json.clone().into_bytes()));
        files.push(("tokenizer.bin".to_owned(), self.tokenizer_bin.clone()));
        let mut manifest = self.manifest.clone();
        manifest.files = files.iter().map(|(name, bytes)| FileEntry::of(name, bytes)).collect();
        (manifest, files)
    }
}

/// `tokenizer.json` and `tokenizer.bin` with specials, bytes, the characters of random texts and some pairs of them.
fn tokenizer(random: &mut Random, vocab_size: usize) -> (String, Vec<u8>) {
    let specials = ["[PAD]", "[UNK]", "[MASK]", "[Q]", "[D]", "[SEP]"];
    let mut vocab: Vec<(String, f64)> = specials.iter().map(|s| ((*s).to_owned(), 0.0)).collect();
    vocab.extend((0..256).map(|b| (format!("<0x{b:02X}>"), -20.0)));
    let mut pieces: BTreeSet<String> = CHARACTERS.iter().map(char::to_string).collect();
    for _ in 0..64 {
        pieces.insert(random.text(2));
    }
    vocab.extend(pieces.into_iter().map(|p| {
        let cost = p.chars().count() as f64 + random.below(64) as f64 / 64.0;
        (p, -cost)
    }));
    assert!(vocab.len() <= vocab_size, "{} pieces do not fit a vocabulary of {vocab_size}", vocab.len());
    let added: Vec<_> = specials
        .iter()
        .enumerate()
        .map(|(id, s)| {
            serde_json::json!({
                "id": id, "content": s, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true,
            })
        })
        .collect();
    let json = serde_json::json!({
        "version": "1.0",
        "added_tokens": added,
        "model": { "type": "Unigram", "unk_id": 1, "byte_fallback": true, "vocab": vocab },
    })
    .to_string();
    let tokenizer = Tokenizer::from_tokenizer_json(&json, Rules::Shirube1, Segmenter::Script)
        .expect("the generated tokenizer follows the rules of the compact form");
    (json, tokenizer.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_model_survives_its_files() {
        let model = random_model(7, &RandomShape::default()).quantized();
        let (manifest, files) = model.files();
        let json = serde_json::to_vec(&manifest).unwrap();
        assert_eq!(ModelManifest::parse(&json).unwrap(), manifest);
        for entry in &manifest.files {
            let (_, bytes) = files.iter().find(|(name, _)| *name == entry.path).unwrap();
            entry.check(bytes).unwrap();
        }
        let parts = files
            .iter()
            .filter(|(n, _)| n.ends_with(".safetensors"))
            .map(|(n, b)| (n.as_str(), b.as_slice()));
        assert_eq!(Weights::read(parts).unwrap(), model.weights);
    }

    #[test]
    fn random_texts_have_no_unknown_characters() {
        let model = random_model(7, &RandomShape::default());
        let tokenizer = Tokenizer::from_bytes(&model.tokenizer_bin).unwrap();
        let ids = tokenizer.encode(&Random::new(2).text(200)).ids;
        assert!(ids.len() > 50 && ids.iter().all(|&id| id >= 6 + 256), "{ids:?}");
    }
}
