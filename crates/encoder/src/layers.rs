//! Pieces that every architecture is made of, as the forward pass wants them.

use crate::EncoderError;
use crate::scratch::{Operand, room};
use shirube_core::{Activation, ProjectionConfig};
use shirube_format::model::{WeightKind, Weights};
use shirube_kernels::{
    Epilogue, GROUP, GroupedI4, Kernels, MAX_K_I4, PackedF32, PackedI4, PackedI8, RowSource,
};

/// How the weights of one model are taken out and packed.
#[derive(Debug)]
pub(crate) struct Loader<'a> {
    pub(crate) weights: &'a mut Weights,
    pub(crate) kernels: Kernels,
    /// Storage of linear layers.
    pub(crate) linear: WeightKind,
    /// Storage of the embedding table.
    pub(crate) embeddings: WeightKind,
}

impl Loader<'_> {
    /// The linear layers of `stems`, each `[rows, cols]`, stacked into one, so that one product computes all of them.
    pub(crate) fn stacked(
        &mut self,
        stems: &[String],
        rows: usize,
        cols: usize,
        bias: bool,
    ) -> Result<Linear, EncoderError> {
        let n = rows * stems.len();
        let mut all_bias = Vec::new();
        if bias {
            for stem in stems {
                all_bias.extend(self.weights.take_f32(&format!("{stem}.bias"), &[rows])?);
            }
        }
        let matrix = match self.linear {
            WeightKind::F32 => {
                let mut all = Vec::new();
                for stem in stems {
                    append(&mut all, self.weights.take_f32(&format!("{stem}.weight"), &[rows, cols])?);
                }
                Matrix::F32(self.kernels.pack_f32(&all, n, cols)?)
            }
            WeightKind::Int8 => {
                let (mut all, mut scale) = (Vec::new(), Vec::new());
                for stem in stems {
                    append(&mut all, self.weights.take_i8(&format!("{stem}.weight"), &[rows, cols])?);
                    append(&mut scale, self.weights.take_f32(&format!("{stem}.scale"), &[rows])?);
                }
                Matrix::Int8(self.kernels.pack_i8(&all, &scale, n, cols)?)
            }
            WeightKind::Int4 => {
                let mut all = self.grouped(&stems[0], rows, cols)?;
                for stem in &stems[1..] {
                    all.append(&self.grouped(stem, rows, cols)?)?;
                }
                if cols > MAX_K_I4 {
                    let (ints, scale) = all.expand();
                    Matrix::Int8(self.kernels.pack_i8(&ints, &scale, n, cols)?)
                } else {
                    Matrix::Int4(self.kernels.pack_i4(&all)?)
                }
            }
        };
        Ok(Linear { matrix, bias: bias.then_some(all_bias) })
    }

    /// The linear layer `stem`.
    pub(crate) fn linear(
        &mut self,
        stem: &str,
        rows: usize,
        cols: usize,
        bias: bool,
    ) -> Result<Linear, EncoderError> {
        self.stacked(&[stem.to_owned()], rows, cols, bias)
    }

    /// The 4-bit matrix `stem`.
    fn grouped(&mut self, stem: &str, rows: usize, cols: usize) -> Result<GroupedI4, EncoderError> {
        let (bytes, groups) = (cols.div_ceil(2), cols.div_ceil(GROUP));
        let nibbles = self.weights.take_u8(&format!("{stem}.weight"), &[rows, bytes])?;
        let group_scale = self.weights.take_u8(&format!("{stem}.group_scale"), &[rows, groups])?;
        let scale = self.weights.take_f32(&format!("{stem}.scale"), &[rows])?;
        Ok(GroupedI4::new(nibbles, group_scale, scale, rows, cols)?)
    }

    /// The layer norm `stem`.
    pub(crate) fn norm(
        &mut self,
        stem: &str,
        width: usize,
        eps: f32,
        bias: bool,
    ) -> Result<Norm, EncoderError> {
        let weight = self.weights.take_f32(&format!("{stem}.weight"), &[width])?;
        let bias = bias.then(|| self.weights.take_f32(&format!("{stem}.bias"), &[width])).transpose()?;
        Ok(Norm { weight, bias, eps })
    }

    /// The embedding table `stem`.
    pub(crate) fn table(&mut self, stem: &str, rows: usize, cols: usize) -> Result<Table, EncoderError> {
        let name = format!("{stem}.weight");
        Ok(match self.embeddings {
            WeightKind::F32 => Table::F32(self.weights.take_f32(&name, &[rows, cols])?),
            WeightKind::Int8 => Table::Int8 {
                rows: self.weights.take_i8(&name, &[rows, cols])?,
                scale: self.weights.take_f32(&format!("{stem}.scale"), &[rows])?,
            },
            WeightKind::Int4 => Table::Int4(self.grouped(stem, rows, cols)?),
        })
    }
}

/// Moves `more` to the end of `all`; without a copy when `all` is empty, as it is for a matrix that is not stacked.
fn append<T>(all: &mut Vec<T>, mut more: Vec<T>) {
    if all.is_empty() {
        *all = more;
    } else {
        all.append(&mut more);
    }
}

/// A linear layer, packed for one backend.
#[derive(Debug)]
pub(crate) struct Linear {
    matrix: Matrix,
    bias: Option<Vec<f32>>,
}

#[derive(Debug)]
enum Matrix {
    Int8(PackedI8),
    Int4(PackedI4),
    F32(PackedF32),
}

impl Linear {
    pub(crate) fn inputs(&self) -> usize {
        match &self.matrix {
            Matrix::Int8(w) => w.k(),
            Matrix::Int4(w) => w.k(),
            Matrix::F32(w) => w.k(),
        }
    }

    pub(crate) fn outputs(&self) -> usize {
        match &self.matrix {
            Matrix::Int8(w) => w.n(),
            Matrix::Int4(w) => w.n(),
            Matrix::F32(w) => w.n(),
        }
    }

    /// `out = v · Wᵀ + bias` for the rows `v [m, k]` of `source`, which are also written to `kept [m, k]`; `out` grows to `[m, n]`.
    pub(crate) fn store(
        &self,
        kernels: Kernels,
        source: RowSource<'_>,
        kept: Option<&mut [f32]>,
        operand: &mut Operand,
        out: &mut Vec<f32>,
    ) -> Result<(), EncoderError> {
        let out = room(out, source.n_rows(self.inputs()) * self.outputs());
        self.apply(kernels, source, kept, operand, false, out)
    }

    /// `out += v · Wᵀ + bias` for the rows `v [m, k]` of `source`, `out [m, n]`.
    pub(crate) fn add(
        &self,
        kernels: Kernels,
        source: RowSource<'_>,
        operand: &mut Operand,
        out: &mut [f32],
    ) -> Result<(), EncoderError> {
        self.apply(kernels, source, None, operand, true, out)
    }

    fn apply(
        &self,
        kernels: Kernels,
        source: RowSource<'_>,
        kept: Option<&mut [f32]>,
        operand: &mut Operand,
        add: bool,
        out: &mut [f32],
    ) -> Result<(), EncoderError> {
        let epilogue = Epilogue { bias: self.bias.as_deref(), add };
        match &self.matrix {
            Matrix::Int8(w) => {
                kernels.quantize_from(source, w.k(), kept, &mut operand.acts)?;
                kernels.gemm_i8(&operand.acts, w, epilogue, out)?;
            }
            Matrix::Int4(w) => {
                kernels.quantize_from(source, w.k(), kept, &mut operand.acts)?;
                kernels.gemm_i4(&operand.acts, w, epilogue, out)?;
            }
            Matrix::F32(w) => {
                let m = source.n_rows(w.k());
                let rows: &[f32] = match (source, kept) {
                    (RowSource::Plain(x), None) => x,
                    (_, kept) => {
                        let rows = kept.unwrap_or_else(|| room(&mut operand.rows, m * w.k()));
                        kernels.rows(source, w.k(), rows)?;
                        rows
                    }
                };
                kernels.gemm_f32(rows, m, w, epilogue, out)?;
            }
        }
        Ok(())
    }
}

/// A layer norm.
#[derive(Debug)]
pub(crate) struct Norm {
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    eps: f32,
}

impl Norm {
    /// The normed rows of `x`.
    pub(crate) fn of<'a>(&'a self, x: &'a [f32]) -> RowSource<'a> {
        RowSource::Norm { x, weight: &self.weight, bias: self.bias.as_deref(), eps: self.eps }
    }

    /// Writes the normed rows of `x` to `out`, which takes its length.
    pub(crate) fn apply(&self, kernels: Kernels, x: &[f32], out: &mut Vec<f32>) -> Result<(), EncoderError> {
        out.resize(x.len(), 0.0);
        Ok(kernels.rows(self.of(x), self.weight.len(), out)?)
    }
}

/// The embedding table; rows are read one by one, so it stays as stored.
#[derive(Debug)]
pub(crate) enum Table {
    Int8 { rows: Vec<i8>, scale: Vec<f32> },
    Int4(GroupedI4),
    F32(Vec<f32>),
}

impl Table {
    /// Writes row `id` to `out`, whose length is a row's. `id` is below the number of rows.
    pub(crate) fn row(&self, id: u32, out: &mut [f32]) {
        let (id, width) = (id as usize, out.len());
        match self {
            Self::Int8 { rows, scale } => {
                for (out, &int) in out.iter_mut().zip(&rows[id * width..]) {
                    *out = f32::from(int) * scale[id];
                }
            }
            Self::Int4(matrix) => {
                let scale = matrix.scale()[id];
                out.iter_mut().zip(matrix.row(id)).for_each(|(out, int)| *out = f32::from(int) * scale);
            }
            Self::F32(rows) => out.copy_from_slice(&rows[id * width..][..width]),
        }
    }
}

/// From hidden states to token embeddings: a chain of linear layers, and the weight of each query token.
#[derive(Debug)]
pub(crate) struct Projection {
    pub(crate) dense: Vec<Dense>,
    /// Weight `[hidden]` and bias.
    pub(crate) query_weight: Option<(Vec<f32>, f32)>,
    pub(crate) dim: usize,
}

/// One layer of the projection chain.
#[derive(Debug)]
pub(crate) struct Dense {
    pub(crate) weight: Linear,
    pub(crate) activation: Activation,
    pub(crate) residual: Residual,
}

/// What is added to a projection layer's output.
#[derive(Debug)]
pub(crate) enum Residual {
    None,
    Input,
    Projected(Linear),
}

impl Projection {
    pub(crate) fn load(
        loader: &mut Loader<'_>,
        config: &ProjectionConfig,
        hidden: usize,
    ) -> Result<Self, EncoderError> {
        let mut dense = Vec::with_capacity(config.dense.len());
        for (i, layer) in config.dense.iter().enumerate() {
            let (rows, cols) = (layer.out_features, layer.in_features);
            let residual = match (layer.residual, rows == cols) {
                (false, _) => Residual::None,
                (true, true) => Residual::Input,
                (true, false) => {
                    Residual::Projected(loader.linear(&format!("dense.{i}.residual"), rows, cols, false)?)
                }
            };
            let weight = loader.linear(&format!("dense.{i}"), rows, cols, layer.bias)?;
            dense.push(Dense { weight, activation: layer.activation, residual });
        }
        let query_weight = if config.query_weight {
            let weight = loader.weights.take_f32("query_weight.weight", &[1, hidden])?;
            Some((weight, loader.weights.take_f32("query_weight.bias", &[1])?[0]))
        } else {
            None
        };
        Ok(Self { dense, query_weight, dim: config.dim() })
    }
}
