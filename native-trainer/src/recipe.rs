//! `recipe.toml`: every decision of a run in one file.

use crate::data::SourceKind;
use serde::{Deserialize, Serialize};
use shirube_core::{DenseConfig, EncoderConfig, ProjectionConfig};
use std::path::{Path, PathBuf};

/// A whole recipe.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the model.
    pub name: String,
    /// Seed of initialisation and data order.
    pub seed: u64,
    /// Folder with `tokenizer.json` and `tokenizer.bin`.
    pub tokenizer: PathBuf,
    /// Data folder.
    pub data: PathBuf,
    /// Linear layers multiply in bf16 with f32 sums where the processor can: about 1.5 times the speed.
    #[serde(default)]
    pub bf16: bool,
    /// Shape.
    pub model: ModelShape,
    /// Retrieval sets evaluated after each step, relative to `data`.
    #[serde(default)]
    pub eval: Vec<String>,
    /// Training steps, in order; each starts from the one before.
    pub train: Vec<TrainStep>,
}

/// Shape of the student.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Blocks.
    pub n_layers: usize,
    /// Attention heads.
    pub n_heads: usize,
    /// Width inside the feed-forward block.
    pub intermediate_size: usize,
    /// Width of a token embedding.
    pub dim: usize,
    /// Every n-th block attends globally.
    pub global_attention_every: usize,
    /// Window of the other blocks, in tokens.
    pub local_window: usize,
    /// Query token limit, marker included.
    pub query_length: usize,
    /// Document token limit, marker included, at inference.
    pub document_length: usize,
    /// Whether query tokens carry learned weights.
    pub query_weight: bool,
}

/// One run of the optimiser.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainStep {
    /// Name; also its folder inside the run.
    pub name: String,
    /// Blocks used: 0 trains a static token table.
    pub depth: usize,
    /// Optimiser steps.
    pub steps: u64,
    /// Tokens in one worker's batch.
    pub batch_tokens: usize,
    /// Tokens at most in a training document.
    pub document_length: usize,
    /// Learning rate of schedule-free AdamW.
    pub learning_rate: f64,
    /// Warm-up steps.
    pub warmup: u64,
    /// Weight decay of matrices.
    #[serde(default)]
    pub weight_decay: f64,
    /// Share of query tokens dropped.
    #[serde(default)]
    pub query_dropout: f64,
    /// Data kinds and their shares.
    pub sources: Vec<Source>,
}

/// One kind of training data.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Kind.
    pub kind: SourceKind,
    /// Share of batches.
    pub share: f64,
    /// Files relative to the data folder: a retrieval set's folder for `questions`, section files otherwise.
    pub files: Vec<String>,
}

impl Recipe {
    /// Reads a recipe; relative paths in it are taken from the working folder.
    ///
    /// # Errors
    /// An unreadable file, unknown or missing fields (with line), or a recipe without steps.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the recipe {}", path.display()))?;
        let recipe: Self =
            toml::from_str(&text).with_context(|| format!("in the recipe {}", path.display()))?;
        anyhow::ensure!(!recipe.train.is_empty(), "{}: no [[train]] step", path.display());
        Ok(recipe)
    }
}

impl ModelShape {
    /// The encoder's configuration for a vocabulary.
    pub fn encoder(&self, vocab_size: usize) -> EncoderConfig {
        EncoderConfig {
            architecture: shirube_core::Architecture::ModernBert,
            vocab_size,
            hidden_size: self.hidden_size,
            n_layers: self.n_layers,
            n_heads: self.n_heads,
            intermediate_size: self.intermediate_size,
            norm_eps: 1e-5,
            max_positions: 1024,
            global_attention_every: self.global_attention_every,
            local_window: self.local_window,
            rope_theta_global: 10_000.0,
            rope_theta_local: 10_000.0,
        }
    }

    /// The projection's configuration.
    pub fn projection(&self) -> ProjectionConfig {
        ProjectionConfig {
            dense: vec![DenseConfig {
                in_features: self.hidden_size,
                out_features: self.dim,
                bias: false,
                residual: false,
            }],
            query_weight: self.query_weight,
        }
    }
}
