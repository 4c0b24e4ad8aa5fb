//! The model that is trained: parameters and forward pass on packed sequences.
//!
//! The forward pass is Hugging Face's ModernBERT (see `shirube-core`) or BERT, then the projection chain, then L2. A ModernBERT's blocks start as the identity
//! (their output projections are zero), so that a student whose embeddings were trained as a static table begins exactly there and context is
//! added to token identity, not put in its place.

use crate::ops;
use candle_core::{DType, Device, Result, Tensor, Var};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use shirube_core::{Architecture, EncoderConfig, ProjectionConfig};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Deviation of a new embedding table.
pub const EMBEDDING_DEVIATION: f32 = 0.1;

/// A trainable encoder with its projection.
#[derive(Clone, Debug)]
pub struct Student {
    /// Encoder shape.
    pub encoder: EncoderConfig,
    /// Projection.
    pub projection: ProjectionConfig,
    parameters: BTreeMap<String, Tensor>,
    variables: BTreeMap<String, Var>,
}

/// Sequences one after the other.
#[derive(Clone, Debug)]
pub struct Packed {
    /// Token ids.
    pub ids: Vec<u32>,
    /// `n_sequences + 1` starts in `ids`.
    pub offsets: Arc<[u32]>,
    /// Of each sequence, how many of its first tokens are attended to; `None` for all of all.
    pub attended: Option<Arc<[u32]>>,
}

/// The block that a parameter belongs to, if any.
fn layer_of(name: &str) -> Option<usize> {
    let rest = name.strip_prefix("layers.").or(name.strip_prefix("encoder.layer."))?;
    rest.split('.').next()?.parse().ok()
}

/// Sum of twelve uniform numbers minus six: a normal variate that is the same on every platform.
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    (0..12).map(|_| (rng.next_u32() >> 8) as f32 / (1 << 24) as f32).sum::<f32>() - 6.0
}

/// Names and shapes of a ModernBERT's parameters, in a fixed order.
fn modern_bert_shapes(encoder: &EncoderConfig) -> Vec<(String, Vec<usize>)> {
    let (h, inter) = (encoder.hidden_size, encoder.intermediate_size);
    let mut shapes = vec![
        ("embeddings.tok_embeddings.weight".to_owned(), vec![encoder.vocab_size, h]),
        ("embeddings.norm.weight".to_owned(), vec![h]),
    ];
    for i in 0..encoder.n_layers {
        if i > 0 {
            shapes.push((format!("layers.{i}.attn_norm.weight"), vec![h]));
        }
        shapes.push((format!("layers.{i}.attn.Wqkv.weight"), vec![3 * h, h]));
        shapes.push((format!("layers.{i}.attn.Wo.weight"), vec![h, h]));
        shapes.push((format!("layers.{i}.mlp_norm.weight"), vec![h]));
        shapes.push((format!("layers.{i}.mlp.Wi.weight"), vec![2 * inter, h]));
        shapes.push((format!("layers.{i}.mlp.Wo.weight"), vec![h, inter]));
    }
    shapes.push(("final_norm.weight".to_owned(), vec![h]));
    shapes
}

impl Student {
    /// Names and shapes of all parameters, in a fixed order.
    pub fn shapes(encoder: &EncoderConfig, projection: &ProjectionConfig) -> Vec<(String, Vec<usize>)> {
        let mut shapes = match encoder.architecture {
            Architecture::ModernBert => modern_bert_shapes(encoder),
            Architecture::Bert => crate::bert::shapes(encoder),
        };
        let h = encoder.hidden_size;
        for (i, dense) in projection.dense.iter().enumerate() {
            shapes.push((format!("dense.{i}.weight"), vec![dense.out_features, dense.in_features]));
            if dense.bias {
                shapes.push((format!("dense.{i}.bias"), vec![dense.out_features]));
            }
        }
        if projection.query_weight {
            shapes.push(("query_weight.weight".to_owned(), vec![1, h]));
            shapes.push(("query_weight.bias".to_owned(), vec![1]));
        }
        shapes
    }

    /// A student with random weights: matrices normal with deviation `1 / sqrt(in)`, output projections of blocks zero, norms one.
    ///
    /// # Errors
    /// Residual projections are refused.
    pub fn random(
        encoder: EncoderConfig,
        projection: ProjectionConfig,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        if projection.dense.iter().any(|d| d.residual || !d.activation.is_identity()) {
            candle_core::bail!("only plain dense layers can be trained");
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut values = BTreeMap::new();
        for (name, shape) in Self::shapes(&encoder, &projection) {
            let n: usize = shape.iter().product();
            let data: Vec<f32> = if name.ends_with("norm.weight") || name.ends_with("LayerNorm.weight") {
                vec![1.0; n]
            } else if name == "query_weight.bias" {
                vec![0.541_324_85; n] // softplus of it is 1
            } else if name == "query_weight.weight"
                || name.ends_with(".Wo.weight")
                || name.ends_with(".output.dense.weight")
                || name.ends_with(".bias")
            {
                vec![0.0; n]
            } else {
                let deviation = if name.starts_with("embeddings") {
                    EMBEDDING_DEVIATION
                } else {
                    (shape[1] as f32).sqrt().recip()
                };
                (0..n).map(|_| normal(&mut rng) * deviation).collect()
            };
            values.insert(name, Tensor::from_vec(data, shape, device)?);
        }
        Self::from_tensors(encoder, projection, &values)
    }

    /// A student from named f32 tensors; names that are absent are an error, further names are ignored.
    ///
    /// # Errors
    /// A missing tensor or one of another shape.
    pub fn from_tensors(
        encoder: EncoderConfig,
        projection: ProjectionConfig,
        values: &BTreeMap<String, Tensor>,
    ) -> Result<Self> {
        let mut variables = BTreeMap::new();
        for (name, shape) in Self::shapes(&encoder, &projection) {
            let Some(value) = values.get(&name) else { candle_core::bail!("tensor {name} is missing") };
            if value.dims() != shape {
                candle_core::bail!("tensor {name}: expected {shape:?}, found {:?}", value.dims());
            }
            variables.insert(name, Var::from_tensor(&value.to_dtype(DType::F32)?)?);
        }
        let parameters = variables.iter().map(|(n, v)| (n.clone(), v.as_tensor().clone())).collect();
        Ok(Self { encoder, projection, parameters, variables })
    }

    /// Reads `model.safetensors`. Blocks that the file does not hold (it was trained with fewer) start as the identity.
    ///
    /// # Errors
    /// An unreadable file or tensors of other shapes.
    pub fn load(
        encoder: EncoderConfig,
        projection: ProjectionConfig,
        path: &Path,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let fresh = Self::random(encoder.clone(), projection.clone(), seed, device)?;
        let mut values: BTreeMap<String, Tensor> = fresh.parameters;
        for (name, tensor) in candle_core::safetensors::load(path, device)? {
            values.insert(name, tensor);
        }
        Self::from_tensors(encoder, projection, &values)
    }

    /// Names and variables of a student of `depth` blocks, in a fixed order: what is trained, saved and exported.
    pub fn variables(&self, depth: usize) -> impl Iterator<Item = (&String, &Var)> {
        self.variables.iter().filter(move |(name, _)| layer_of(name).is_none_or(|layer| layer < depth))
    }

    /// The same parameters without a tape, for evaluation.
    pub fn detached(&self) -> Self {
        Self {
            parameters: self.variables.iter().map(|(n, v)| (n.clone(), v.as_tensor().detach())).collect(),
            ..self.clone()
        }
    }

    /// Writes `model.safetensors` with the given values in place of the variables'.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(values: &BTreeMap<String, Tensor>, path: &Path) -> Result<()> {
        let aside = path.with_extension("part");
        let map: std::collections::HashMap<String, Tensor> = values.clone().into_iter().collect();
        candle_core::safetensors::save(&map, &aside)?;
        std::fs::rename(&aside, path)?;
        Ok(())
    }

    pub(crate) fn get(&self, name: &str) -> &Tensor {
        &self.parameters[name]
    }

    /// Hidden states after the last norm, `[n_tokens, hidden]`. `depth` limits the blocks used; 0 is the static table.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub fn hidden(&self, input: &Packed, depth: usize) -> Result<Tensor> {
        if self.encoder.architecture == Architecture::Bert {
            return crate::bert::hidden(self, input, depth);
        }
        let (x, eps) = (&self.encoder, self.encoder.norm_eps);
        let table = self.get("embeddings.tok_embeddings.weight");
        let mut h =
            ops::layer_norm(&ops::gather(table, &input.ids)?, self.get("embeddings.norm.weight"), eps)?;
        for i in 0..depth.min(x.n_layers) {
            let kind = x.layer_kind(i);
            let p = |s: &str| self.get(&format!("layers.{i}.{s}.weight"));
            let normed = if i == 0 { h.clone() } else { ops::layer_norm(&h, p("attn_norm"), eps)? };
            let qkv = ops::linear(&normed, p("attn.Wqkv"), None)?;
            let shape = ops::AttentionShape {
                n_heads: x.n_heads,
                reach: kind.reach,
                rope_theta: Some(kind.rope_theta),
            };
            let mixed = ops::attention_to(&qkv, &input.offsets, input.attended.as_ref(), shape)?;
            h = ops::linear_add(&mixed, p("attn.Wo"), &h)?;
            let normed = ops::layer_norm(&h, p("mlp_norm"), eps)?;
            let inner = ops::geglu(&ops::linear(&normed, p("mlp.Wi"), None)?)?;
            h = ops::linear_add(&inner, p("mlp.Wo"), &h)?;
        }
        ops::layer_norm(&h, self.get("final_norm.weight"), eps)
    }

    /// Outputs of the dense chain `[n, out]`, not normalised: the scores of a cross-encoder's head.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn dense(&self, hidden: &Tensor) -> Result<Tensor> {
        let mut x = hidden.clone();
        for (i, dense) in self.projection.dense.iter().enumerate() {
            let bias = format!("dense.{i}.bias");
            let bias = dense.bias.then(|| self.get(&bias));
            x = ops::linear(&x, self.get(&format!("dense.{i}.weight")), bias)?;
        }
        Ok(x)
    }

    /// Where the parameters live.
    pub fn device(&self) -> &Device {
        self.table().device()
    }

    /// The embedding table `[vocab, hidden]`, for a tied output layer.
    pub fn table(&self) -> &Tensor {
        self.get(self.table_name())
    }

    /// What the embedding table is called in files.
    pub fn table_name(&self) -> &'static str {
        match self.encoder.architecture {
            Architecture::ModernBert => "embeddings.tok_embeddings.weight",
            Architecture::Bert => "embeddings.word_embeddings.weight",
        }
    }

    /// Unit token embeddings `[n_tokens, dim]` of hidden states.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn project(&self, hidden: &Tensor) -> Result<Tensor> {
        ops::l2_normalize(&self.dense(hidden)?)
    }

    /// Query token embeddings: unit vectors times the learned weight, if the model has one.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn project_query(&self, hidden: &Tensor) -> Result<Tensor> {
        let unit = self.project(hidden)?;
        if !self.projection.query_weight {
            return Ok(unit);
        }
        let logit =
            ops::linear(hidden, self.get("query_weight.weight"), Some(self.get("query_weight.bias")))?;
        unit.broadcast_mul(&ops::softplus(&logit)?)
    }
}
