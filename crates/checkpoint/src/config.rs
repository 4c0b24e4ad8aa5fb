//! `config.json`: the shape of an encoder, the tensors it is made of.

use crate::error::{CheckpointError, unsupported};
use serde::Deserialize;
use shirube_core::{Architecture, EncoderConfig};
use std::collections::BTreeMap;
use std::path::Path;

/// `config.json`, the fields that change what the network computes.
#[derive(Deserialize)]
pub(crate) struct Config {
    #[serde(default)]
    model_type: String,
    #[serde(default)]
    pub(crate) architectures: Option<Vec<String>>,
    #[serde(flatten)]
    fields: BTreeMap<String, serde_json::Value>,
}

impl Config {
    fn number(&self, path: &Path, name: &str) -> Result<usize, CheckpointError> {
        let value = self.fields.get(name).and_then(serde_json::Value::as_u64);
        value.and_then(|n| usize::try_from(n).ok()).ok_or_else(|| {
            crate::error::damaged(path, format!("{name} is not a number of this configuration"))
        })
    }

    fn number_or(&self, name: &str, usual: usize) -> usize {
        let value = self.fields.get(name).and_then(serde_json::Value::as_u64);
        value.and_then(|n| usize::try_from(n).ok()).unwrap_or(usual)
    }

    fn float(&self, name: &str) -> Option<f32> {
        self.fields.get(name).and_then(serde_json::Value::as_f64).map(|v| v as f32)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(serde_json::Value::as_str)
    }

    /// The encoder, or why it is none that is built.
    pub(crate) fn encoder(&self, path: &Path) -> Result<EncoderConfig, CheckpointError> {
        let architecture = match self.model_type.as_str() {
            "bert" => Architecture::Bert,
            "modernbert" => Architecture::ModernBert,
            other => {
                return Err(unsupported(path, format!("model_type {other:?}"), "bert, modernbert"));
            }
        };
        let modern = architecture == Architecture::ModernBert;
        let activation = if modern { "hidden_activation" } else { "hidden_act" };
        if let Some(name) = self.text(activation).filter(|name| *name != "gelu") {
            return Err(unsupported(path, format!("{activation} {name:?}"), "gelu"));
        }
        if let Some(kind) = self.text("position_embedding_type").filter(|kind| !modern && *kind != "absolute")
        {
            return Err(unsupported(path, format!("position_embedding_type {kind:?}"), "absolute"));
        }
        for bias in ["norm_bias", "attention_bias", "mlp_bias"] {
            if modern && self.fields.get(bias).is_some_and(|v| v == true) {
                return Err(unsupported(path, format!("{bias} true"), "ModernBERT without biases"));
            }
        }
        if !modern && self.fields.get("is_decoder").is_some_and(|v| v == true) {
            return Err(unsupported(path, "is_decoder true", "encoders"));
        }
        let (every, window) =
            if modern { (self.every(path)?, self.number_or("local_attention", 128)) } else { (1, 0) };
        let eps = self.float(if modern { "norm_eps" } else { "layer_norm_eps" });
        let config = EncoderConfig {
            architecture,
            vocab_size: self.number(path, "vocab_size")?,
            hidden_size: self.number(path, "hidden_size")?,
            n_layers: self.number(path, "num_hidden_layers")?,
            n_heads: self.number(path, "num_attention_heads")?,
            intermediate_size: self.number(path, "intermediate_size")?,
            norm_eps: eps.unwrap_or(if modern { 1e-5 } else { 1e-12 }),
            max_positions: self.number(path, "max_position_embeddings")?,
            type_vocab_size: if modern { 0 } else { self.number_or("type_vocab_size", 2) },
            global_attention_every: every,
            local_window: window,
            rope_theta_global: if modern {
                self.theta(path, "full_attention", "global_rope_theta", 160_000.0)?
            } else {
                0.0
            },
            rope_theta_local: if modern {
                self.theta(path, "sliding_attention", "local_rope_theta", 10_000.0)?
            } else {
                0.0
            },
        };
        for (name, value, most) in [
            ("vocab_size", config.vocab_size, 1 << 20),
            ("hidden_size", config.hidden_size, 4096),
            ("intermediate_size", config.intermediate_size, 1 << 15),
            ("max_position_embeddings", config.max_positions, 1 << 16),
            ("num_attention_heads", config.n_heads, 256),
        ] {
            if value == 0 || value > most {
                return Err(unsupported(path, format!("{name} {value}"), &format!("1 to {most}")));
            }
        }
        if config.n_layers == 0 || config.n_layers > 64 || config.type_vocab_size > 16 {
            let what = format!("{} blocks with {} token types", config.n_layers, config.type_vocab_size);
            return Err(unsupported(path, what, "1 to 64 blocks, up to 16 token types"));
        }
        Ok(config)
    }

    /// Which blocks of a ModernBERT attend globally: newer files name each, older ones the distance.
    fn every(&self, path: &Path) -> Result<usize, CheckpointError> {
        let Some(kinds) = self.fields.get("layer_types").and_then(serde_json::Value::as_array) else {
            return Ok(self.number_or("global_attn_every_n_layers", 3).max(1));
        };
        let global: Vec<bool> = kinds.iter().map(|kind| kind == "full_attention").collect();
        let every = global.iter().skip(1).position(|&g| g).map_or(global.len().max(1), |at| at + 1);
        if global.iter().enumerate().any(|(i, &g)| g != i.is_multiple_of(every)) {
            return Err(unsupported(
                path,
                "layer_types without a fixed distance",
                "one global block in every n",
            ));
        }
        Ok(every)
    }

    /// The rotary base of one kind of block.
    fn theta(&self, path: &Path, kind: &str, old: &str, usual: f32) -> Result<f32, CheckpointError> {
        let Some(rope) = self.fields.get("rope_parameters").and_then(|kinds| kinds.get(kind)) else {
            return Ok(self.float(old).unwrap_or(usual));
        };
        match rope.get("rope_type").and_then(serde_json::Value::as_str) {
            None | Some("default") => {}
            Some(other) => return Err(unsupported(path, format!("rope_type {other:?}"), "default")),
        }
        Ok(rope.get("rope_theta").and_then(serde_json::Value::as_f64).map_or(usual, |v| v as f32))
    }
}

/// Names and shapes of the encoder's tensors.
pub(crate) fn shapes(e: &EncoderConfig) -> Vec<(String, Vec<usize>)> {
    let (h, inner) = (e.hidden_size, e.intermediate_size);
    let mut out = Vec::new();
    let mut add = |name: String, shape: &[usize]| out.push((name, shape.to_vec()));
    match e.architecture {
        Architecture::Bert => {
            add("embeddings.word_embeddings.weight".to_owned(), &[e.vocab_size, h]);
            add("embeddings.position_embeddings.weight".to_owned(), &[e.max_positions, h]);
            if e.type_vocab_size > 0 {
                add("embeddings.token_type_embeddings.weight".to_owned(), &[e.type_vocab_size, h]);
            }
            let mut norm = |stem: String| {
                add(format!("{stem}.weight"), &[h]);
                add(format!("{stem}.bias"), &[h]);
            };
            norm("embeddings.LayerNorm".to_owned());
            for i in 0..e.n_layers {
                norm(format!("encoder.layer.{i}.attention.output.LayerNorm"));
                norm(format!("encoder.layer.{i}.output.LayerNorm"));
            }
            for i in 0..e.n_layers {
                for (stem, rows, cols) in [
                    ("attention.self.query", h, h),
                    ("attention.self.key", h, h),
                    ("attention.self.value", h, h),
                    ("attention.output.dense", h, h),
                    ("intermediate.dense", inner, h),
                    ("output.dense", h, inner),
                ] {
                    add(format!("encoder.layer.{i}.{stem}.weight"), &[rows, cols]);
                    add(format!("encoder.layer.{i}.{stem}.bias"), &[rows]);
                }
            }
        }
        Architecture::ModernBert => {
            add("embeddings.tok_embeddings.weight".to_owned(), &[e.vocab_size, h]);
            add("embeddings.norm.weight".to_owned(), &[h]);
            for i in 0..e.n_layers {
                if i > 0 {
                    add(format!("layers.{i}.attn_norm.weight"), &[h]);
                }
                add(format!("layers.{i}.attn.Wqkv.weight"), &[3 * h, h]);
                add(format!("layers.{i}.attn.Wo.weight"), &[h, h]);
                add(format!("layers.{i}.mlp_norm.weight"), &[h]);
                add(format!("layers.{i}.mlp.Wi.weight"), &[2 * inner, h]);
                add(format!("layers.{i}.mlp.Wo.weight"), &[h, inner]);
            }
            add("final_norm.weight".to_owned(), &[h]);
        }
    }
    out
}
