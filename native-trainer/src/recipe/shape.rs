//! The student's shape and how it reads texts: `[model]`.

use serde::{Deserialize, Serialize};
use shirube_core::{Architecture, DenseConfig, EncoderConfig, Expansion, ExpansionRule, ProjectionConfig};
use std::path::PathBuf;

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
    /// ModernBERT: every n-th block attends globally.
    #[serde(default)]
    pub global_attention_every: usize,
    /// ModernBERT: window of the other blocks, in tokens.
    #[serde(default)]
    pub local_window: usize,
    /// Query token limit, marker included.
    pub query_length: usize,
    /// Document token limit, marker included, at inference.
    pub document_length: usize,
    /// Whether query tokens carry learned weights.
    pub query_weight: bool,
    /// Mask tokens that queries are padded with, scored like any other; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expansion: Option<ExpansionShape>,
    /// Block structure.
    #[serde(default = "modern_bert", skip_serializing_if = "is_modern_bert")]
    pub architecture: Architecture,
    /// Folder with weights to start from, in Hugging Face's, PyLate's or colbert-ai's layout; random weights if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// Longest input; 1024, or 512 for BERT, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_positions: Option<usize>,
    /// BERT: rows of the token type table; 2 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub type_vocab_size: Option<usize>,
    /// Added to the variance in norms; 1e-5, or 1e-12 for BERT, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm_eps: Option<f32>,
    /// Rotary base of blocks that see everything; 10,000 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_theta_global: Option<f32>,
    /// Rotary base of blocks with a window; 10,000 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_theta_local: Option<f32>,
    /// Markers, for a tokenizer that this tool did not make.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Inputs>,
}

/// Token ids around a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inputs {
    /// Before a query: in BERT models `[CLS]` and the marker.
    pub query_prefix: Vec<u32>,
    /// Before a document.
    pub document_prefix: Vec<u32>,
    /// After both: `[SEP]` in BERT models.
    #[serde(default)]
    pub suffix: Vec<u32>,
    /// The mask token.
    pub mask: u32,
    /// Characters that are not scored in documents, where each is a token of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip: Option<String>,
}

fn modern_bert() -> Architecture {
    Architecture::ModernBert
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_modern_bert(architecture: &Architecture) -> bool {
    *architecture == Architecture::ModernBert
}

/// Query augmentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpansionShape {
    /// How many mask tokens: `fixed` fills up to `query_length`; `dynamic_paper` and `dynamic_evaluator` are JaColBERTv2.5's two rules, never beyond
    /// `query_length`.
    pub rule: ExpansionRule,
    /// Whether the query's own tokens attend to them; JaColBERT: no.
    #[serde(default)]
    pub attend: bool,
}

impl ExpansionShape {
    /// The augmentation with the mask token's id.
    pub fn with(self, token: u32) -> Expansion {
        Expansion { token, attend: self.attend, rule: self.rule }
    }
}

impl ModelShape {
    /// The encoder's configuration for a vocabulary.
    pub fn encoder(&self, vocab_size: usize) -> EncoderConfig {
        let bert = self.architecture == Architecture::Bert;
        let theta = |given: Option<f32>| if bert { 0.0 } else { given.unwrap_or(10_000.0) };
        EncoderConfig {
            architecture: self.architecture,
            vocab_size,
            hidden_size: self.hidden_size,
            n_layers: self.n_layers,
            n_heads: self.n_heads,
            intermediate_size: self.intermediate_size,
            norm_eps: self.norm_eps.unwrap_or(if bert { 1e-12 } else { 1e-5 }),
            max_positions: self.max_positions.unwrap_or(if bert { 512 } else { 1024 }),
            type_vocab_size: if bert { self.type_vocab_size.unwrap_or(2) } else { 0 },
            global_attention_every: if bert { 1 } else { self.global_attention_every },
            local_window: if bert { 0 } else { self.local_window },
            rope_theta_global: theta(self.rope_theta_global),
            rope_theta_local: theta(self.rope_theta_local),
        }
    }

    /// The projection's configuration.
    pub fn projection(&self) -> ProjectionConfig {
        ProjectionConfig {
            dense: vec![DenseConfig {
                in_features: self.hidden_size,
                out_features: self.dim,
                bias: false,
                ..DenseConfig::default()
            }],
            query_weight: self.query_weight,
        }
    }

    /// The configuration of a cross-encoder's head: one score from the first token.
    pub fn scalar_head(&self) -> ProjectionConfig {
        ProjectionConfig {
            dense: vec![DenseConfig {
                in_features: self.hidden_size,
                out_features: 1,
                bias: false,
                ..DenseConfig::default()
            }],
            query_weight: false,
        }
    }
}

/// A student of one small block, for tests.
#[cfg(test)]
pub(crate) fn small_shape() -> ModelShape {
    ModelShape {
        hidden_size: 16,
        n_layers: 1,
        n_heads: 2,
        intermediate_size: 24,
        dim: 8,
        global_attention_every: 1,
        local_window: 8,
        query_length: 8,
        document_length: 12,
        query_weight: true,
        expansion: None,
        architecture: Architecture::ModernBert,
        init: None,
        max_positions: None,
        type_vocab_size: None,
        norm_eps: None,
        rope_theta_global: None,
        rope_theta_local: None,
        inputs: None,
    }
}
