//! Weights as the forward pass wants them.

use crate::EncoderError;
use shirube_core::{Architecture, EncoderConfig};
use shirube_format::model::{ModelManifest, WeightKind, Weights};
use shirube_kernels::{Activations, Epilogue, Kernels, PackedF32, PackedI8};

/// A linear layer without bias, packed for one backend.
#[derive(Debug)]
pub(crate) enum Linear {
    Int8(PackedI8),
    F32(PackedF32),
}

impl Linear {
    fn load(
        weights: &mut Weights,
        stem: &str,
        rows: usize,
        cols: usize,
        kind: WeightKind,
        kernels: Kernels,
    ) -> Result<Self, EncoderError> {
        let name = format!("{stem}.weight");
        Ok(match kind {
            WeightKind::F32 => {
                Self::F32(kernels.pack_f32(&weights.take_f32(&name, &[rows, cols])?, rows, cols)?)
            }
            WeightKind::Int8 => {
                let ints = weights.take_i8(&name, &[rows, cols])?;
                let scale = weights.take_f32(&format!("{stem}.scale"), &[rows])?;
                Self::Int8(kernels.pack_i8(&ints, &scale, rows, cols)?)
            }
        })
    }

    fn inputs(&self) -> usize {
        match self {
            Self::Int8(w) => w.k(),
            Self::F32(w) => w.k(),
        }
    }

    fn outputs(&self) -> usize {
        match self {
            Self::Int8(w) => w.n(),
            Self::F32(w) => w.n(),
        }
    }

    /// `out = x · Wᵀ` with the epilogue, for `x [m, k]`; `out` is resized to `[m, n]` unless it is added to.
    pub(crate) fn apply(
        &self,
        kernels: Kernels,
        x: &[f32],
        acts: &mut Activations,
        epilogue: Epilogue<'_>,
        out: &mut Vec<f32>,
    ) -> Result<(), EncoderError> {
        let m = x.len() / self.inputs();
        if !epilogue.add {
            out.resize(m * self.outputs(), 0.0);
        }
        match self {
            Self::Int8(w) => {
                kernels.quantize(x, m, w.k(), acts)?;
                kernels.gemm_i8(acts, w, epilogue, out)?;
            }
            Self::F32(w) => kernels.gemm_f32(x, m, w, epilogue, out)?,
        }
        Ok(())
    }
}

/// The embedding table; rows are read one by one, so it stays as stored.
#[derive(Debug)]
pub(crate) enum Table {
    Int8 { rows: Vec<i8>, scale: Vec<f32> },
    F32(Vec<f32>),
}

impl Table {
    fn load(
        weights: &mut Weights,
        stem: &str,
        rows: usize,
        cols: usize,
        kind: WeightKind,
    ) -> Result<Self, EncoderError> {
        let name = format!("{stem}.weight");
        Ok(match kind {
            WeightKind::F32 => Self::F32(weights.take_f32(&name, &[rows, cols])?),
            WeightKind::Int8 => Self::Int8 {
                rows: weights.take_i8(&name, &[rows, cols])?,
                scale: weights.take_f32(&format!("{stem}.scale"), &[rows])?,
            },
        })
    }

    /// Writes row `id` to `out`, whose length is a row's. `id` is below the number of rows.
    pub(crate) fn row(&self, id: u32, out: &mut [f32]) {
        let (id, width) = (id as usize, out.len());
        match self {
            Self::Int8 { rows, scale } => {
                for (out, &int) in out.iter_mut().zip(&rows[id * width..]) {
                    *out = f32::from(int) * scale[id];
                }
            }
            Self::F32(rows) => out.copy_from_slice(&rows[id * width..][..width]),
        }
    }
}

/// One block.
#[derive(Debug)]
pub(crate) struct Block {
    /// Absent in the first block.
    pub(crate) attn_norm: Option<Vec<f32>>,
    pub(crate) wqkv: Linear,
    pub(crate) attn_out: Linear,
    pub(crate) mlp_norm: Vec<f32>,
    pub(crate) mlp_in: Linear,
    pub(crate) mlp_out: Linear,
}

/// One layer of the projection chain.
#[derive(Debug)]
pub(crate) struct Dense {
    pub(crate) weight: Linear,
    pub(crate) bias: Option<Vec<f32>>,
    pub(crate) residual: Residual,
}

/// What is added to a projection layer's output.
#[derive(Debug)]
pub(crate) enum Residual {
    None,
    Input,
    Projected(Linear),
}

/// All weights of a model, shared by the encoders made from it.
#[derive(Debug)]
pub(crate) struct Layers {
    pub(crate) config: EncoderConfig,
    pub(crate) table: Table,
    pub(crate) embeddings_norm: Vec<f32>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) final_norm: Vec<f32>,
    pub(crate) dense: Vec<Dense>,
    /// Weight `[hidden]` and bias.
    pub(crate) query_weight: Option<(Vec<f32>, f32)>,
    pub(crate) dim: usize,
}

impl Layers {
    pub(crate) fn load(
        manifest: &ModelManifest,
        mut weights: Weights,
        kernels: Kernels,
    ) -> Result<Self, EncoderError> {
        let config = manifest.encoder.clone();
        if config.architecture != Architecture::ModernBert {
            return Err(EncoderError::Architecture { found: "bert" });
        }
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let kind = manifest.quantization.linear;
        let w = &mut weights;
        let table = Table::load(
            w,
            "embeddings.tok_embeddings",
            config.vocab_size,
            hidden,
            manifest.quantization.embeddings,
        )?;
        let embeddings_norm = w.take_f32("embeddings.norm.weight", &[hidden])?;
        let mut blocks = Vec::with_capacity(config.n_layers);
        for i in 0..config.n_layers {
            let mut linear = |stem: &str, rows: usize, cols: usize| {
                Linear::load(w, &format!("layers.{i}.{stem}"), rows, cols, kind, kernels)
            };
            let wqkv = linear("attn.Wqkv", 3 * hidden, hidden)?;
            let attn_out = linear("attn.Wo", hidden, hidden)?;
            let mlp_in = linear("mlp.Wi", 2 * inner, hidden)?;
            let mlp_out = linear("mlp.Wo", hidden, inner)?;
            let mut norm = |stem: &str| w.take_f32(&format!("layers.{i}.{stem}.weight"), &[hidden]);
            let attn_norm = if i == 0 { None } else { Some(norm("attn_norm")?) };
            let mlp_norm = norm("mlp_norm")?;
            blocks.push(Block { attn_norm, wqkv, attn_out, mlp_norm, mlp_in, mlp_out });
        }
        let final_norm = w.take_f32("final_norm.weight", &[hidden])?;
        let mut dense = Vec::with_capacity(manifest.projection.dense.len());
        for (i, layer) in manifest.projection.dense.iter().enumerate() {
            let (rows, cols) = (layer.out_features, layer.in_features);
            let residual = match (layer.residual, rows == cols) {
                (false, _) => Residual::None,
                (true, true) => Residual::Input,
                (true, false) => Residual::Projected(Linear::load(
                    w,
                    &format!("dense.{i}.residual"),
                    rows,
                    cols,
                    kind,
                    kernels,
                )?),
            };
            dense.push(Dense {
                weight: Linear::load(w, &format!("dense.{i}"), rows, cols, kind, kernels)?,
                bias: layer.bias.then(|| w.take_f32(&format!("dense.{i}.bias"), &[rows])).transpose()?,
                residual,
            });
        }
        let query_weight = if manifest.projection.query_weight {
            let weight = w.take_f32("query_weight.weight", &[1, hidden])?;
            Some((weight, w.take_f32("query_weight.bias", &[1])?[0]))
        } else {
            None
        };
        let dim = manifest.projection.dim();
        Ok(Self { config, table, embeddings_norm, blocks, final_norm, dense, query_weight, dim })
    }
}
