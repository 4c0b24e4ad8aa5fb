//! Whole models with random weights.

use crate::Random;
use crate::random::CHARACTERS;
use shirube_core::{Architecture, DenseConfig, EncoderConfig, InputRules, ProjectionConfig};
use shirube_encoder::quantize;
use shirube_format::Sha256Hex;
use shirube_format::model::{
    FileEntry, MODEL_FORMAT, ModelManifest, Provenance, Quantization, Tensor, TokenizerInfo, WeightKind,
    Weights, pack_parts,
};
use shirube_text::{Rules, Segmenter, Tokenizer};
use std::collections::BTreeSet;

/// Rows of a random BERT's token type table.
const BERT_TYPES: usize = 2;

/// Sizes of a random model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RandomShape {
    /// Block structure.
    pub architecture: Architecture,
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
            architecture: Architecture::ModernBert,
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
            ..Self::default()
        }
    }

    /// A small BERT, for unit tests.
    pub fn small_bert() -> Self {
        Self {
            architecture: Architecture::Bert,
            intermediate_size: 96,
            query_weight: false,
            ..Self::default()
        }
    }

    /// A BERT of MiniLM's shape (Wang et al. 2020): 6 blocks of 384.
    pub fn minilm() -> Self {
        Self {
            vocab_size: 32_768,
            hidden_size: 384,
            n_layers: 6,
            n_heads: 12,
            intermediate_size: 1536,
            dim: 128,
            max_positions: 512,
            ..Self::small_bert()
        }
    }

    /// BERT-base (Devlin et al. 2019), the shape of JaColBERT: 12 blocks of 768, 110 M parameters.
    pub fn bert_base() -> Self {
        Self { hidden_size: 768, n_layers: 12, intermediate_size: 3072, ..Self::minilm() }
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
        architecture: shape.architecture,
        vocab_size: shape.vocab_size,
        hidden_size: hidden,
        n_layers: shape.n_layers,
        n_heads: shape.n_heads,
        intermediate_size: inner,
        norm_eps: 1e-5,
        max_positions: shape.max_positions,
        type_vocab_size: if shape.architecture == Architecture::Bert { BERT_TYPES } else { 0 },
        global_attention_every: 2,
        local_window: 32,
        rope_theta_global: 160_000.0,
        rope_theta_local: 10_000.0,
    };
    let weights = random_weights(&mut random, shape);
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
                ..DenseConfig::default()
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

/// Every tensor of `shape`, F32.
fn random_weights(random: &mut Random, shape: &RandomShape) -> Weights {
    let RandomShape { hidden_size: hidden, intermediate_size: inner, .. } = *shape;
    let mut weights = Weights::default();
    let mut put = |name: String, dims: &[usize], values| weights.insert(name, Tensor::f32(dims, values));
    let mut matrix = |random: &mut Random, stem: &str, rows: usize, cols: usize| {
        let values = random.normals(rows * cols, 1.0 / (cols as f32).sqrt());
        put(format!("{stem}.weight"), &[rows, cols], values);
    };
    let mut norms = vec![];
    let mut biases = vec![];
    match shape.architecture {
        Architecture::ModernBert => {
            matrix(random, "embeddings.tok_embeddings", shape.vocab_size, hidden);
            norms.extend(["embeddings.norm", "final_norm"].map(str::to_owned));
            for i in 0..shape.n_layers {
                matrix(random, &format!("layers.{i}.attn.Wqkv"), 3 * hidden, hidden);
                matrix(random, &format!("layers.{i}.attn.Wo"), hidden, hidden);
                matrix(random, &format!("layers.{i}.mlp.Wi"), 2 * inner, hidden);
                matrix(random, &format!("layers.{i}.mlp.Wo"), hidden, inner);
                if i > 0 {
                    norms.push(format!("layers.{i}.attn_norm"));
                }
                norms.push(format!("layers.{i}.mlp_norm"));
            }
        }
        Architecture::Bert => {
            matrix(random, "embeddings.word_embeddings", shape.vocab_size, hidden);
            matrix(random, "embeddings.position_embeddings", shape.max_positions, hidden);
            matrix(random, "embeddings.token_type_embeddings", BERT_TYPES, hidden);
            norms.push("embeddings.LayerNorm".to_owned());
            for i in 0..shape.n_layers {
                for (stem, rows, cols) in [
                    ("attention.self.query", hidden, hidden),
                    ("attention.self.key", hidden, hidden),
                    ("attention.self.value", hidden, hidden),
                    ("attention.output.dense", hidden, hidden),
                    ("intermediate.dense", inner, hidden),
                    ("output.dense", hidden, inner),
                ] {
                    let stem = format!("encoder.layer.{i}.{stem}");
                    matrix(random, &stem, rows, cols);
                    biases.push((stem, rows));
                }
                norms.push(format!("encoder.layer.{i}.attention.output.LayerNorm"));
                norms.push(format!("encoder.layer.{i}.output.LayerNorm"));
            }
            biases.extend(norms.iter().map(|stem| (stem.clone(), hidden)));
        }
    }
    matrix(random, "dense.0", shape.dim, hidden);
    if shape.query_weight {
        matrix(random, "query_weight", 1, hidden);
        put("query_weight.bias".to_owned(), &[1], vec![random.unit()]);
    }
    for stem in norms {
        let values = random.normals(hidden, 0.2).iter().map(|v| 1.0 + v).collect();
        put(format!("{stem}.weight"), &[hidden], values);
    }
    for (stem, rows) in biases {
        let values = random.normals(rows, 0.1);
        put(format!("{stem}.bias"), &[rows], values);
    }
    weights
}

impl RandomModel {
    /// The same model with int8 matrices.
    pub fn quantized(&self) -> Self {
        self.stored_as(WeightKind::Int8)
    }

    /// The same model with matrices and embedding table of one kind. The model itself must be f32.
    pub fn stored_as(&self, kind: WeightKind) -> Self {
        let mut manifest = self.manifest.clone();
        manifest.quantization = Quantization { linear: kind, embeddings: kind };
        let weights = quantize(&self.weights, manifest.quantization);
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
