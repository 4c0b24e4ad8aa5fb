//! What an encoder looks like: data in the manifest, not forks of code.

use serde::{Deserialize, Serialize};

/// The block structure of the transformer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// Pre-norm blocks, rotary positions, GeGLU, no biases, alternating global and windowed attention
    /// (Warner et al. 2024, "Smarter, Better, Faster, Longer", section 2.1). The first block has no attention norm.
    ModernBert,
    /// Post-norm blocks, learned positions and token types, GELU, biases (Devlin et al. 2019, section 3). All input is of token type 0.
    Bert,
}

/// Shape of the encoder, in the terms of the Hugging Face configuration files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EncoderConfig {
    /// Block structure.
    pub architecture: Architecture,
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Number of blocks; 0 is a static token table.
    pub n_layers: usize,
    /// Attention heads; divides `hidden_size`.
    pub n_heads: usize,
    /// Width inside the feed-forward block; GeGLU's input projection has twice as many rows.
    pub intermediate_size: usize,
    /// Added to the variance in every norm.
    pub norm_eps: f32,
    /// Longest input in tokens; BERT: rows of the position table.
    pub max_positions: usize,
    /// BERT: rows of the token type table, 0 without one. Left out of JSON when 0, so that fingerprints of other models stay.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub type_vocab_size: usize,
    /// ModernBERT: block `i` attends globally when `i % global_attention_every == 0`.
    #[serde(default = "one")]
    pub global_attention_every: usize,
    /// ModernBERT: other blocks see tokens at most `local_window / 2` away on each side.
    #[serde(default)]
    pub local_window: usize,
    /// ModernBERT: rotary base of global blocks.
    #[serde(default)]
    pub rope_theta_global: f32,
    /// ModernBERT: rotary base of windowed blocks.
    #[serde(default)]
    pub rope_theta_local: f32,
}

fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// Which tokens a block's attention reaches, and its rotary base.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerKind {
    /// Largest distance attended to, in tokens; `None` is every token.
    pub reach: Option<usize>,
    /// Rotary base of this block.
    pub rope_theta: f32,
}

impl EncoderConfig {
    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.n_heads.max(1)
    }

    /// Reach and rotary base of block `layer` of a ModernBERT.
    pub fn layer_kind(&self, layer: usize) -> LayerKind {
        if layer.is_multiple_of(self.global_attention_every.max(1)) {
            LayerKind { reach: None, rope_theta: self.rope_theta_global }
        } else {
            LayerKind { reach: Some(self.local_window / 2), rope_theta: self.rope_theta_local }
        }
    }
}

/// What is applied to each output of a layer of the projection chain, with PyTorch's default parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Nothing.
    #[default]
    Identity,
    /// Hyperbolic tangent.
    Tanh,
    /// `max(x, 0)`
    Relu,
    /// `x/2 (1 + erf(x / √2))`
    Gelu,
    /// `x / (1 + e^-x)`
    Silu,
    /// `1 / (1 + e^-x)`
    Sigmoid,
}

impl Activation {
    /// Whether it changes nothing.
    pub fn is_identity(&self) -> bool {
        *self == Self::Identity
    }
}

/// One linear layer of the projection chain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DenseConfig {
    /// Input width.
    pub in_features: usize,
    /// Output width.
    pub out_features: usize,
    /// Whether a bias is added.
    #[serde(default)]
    pub bias: bool,
    /// Whether the input is added to the output (projected by `residual.weight` when the widths differ).
    #[serde(default)]
    pub residual: bool,
    /// Applied before the input is added. Left out of JSON where it is the identity, so that fingerprints of other models stay.
    #[serde(default, skip_serializing_if = "Activation::is_identity")]
    pub activation: Activation,
}

/// From hidden states to token embeddings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProjectionConfig {
    /// Linear layers, applied in order.
    pub dense: Vec<DenseConfig>,
    /// Whether query embeddings are scaled by a learned weight after L2 normalisation:
    /// `softplus(query_weight.weight · hidden + query_weight.bias)`, so that MaxSim becomes a weighted sum of maxima.
    /// Document embeddings always have length 1.
    #[serde(default)]
    pub query_weight: bool,
}

impl ProjectionConfig {
    /// Width of a token embedding.
    pub fn dim(&self) -> usize {
        self.dense.last().map_or(0, |d| d.out_features)
    }
}
