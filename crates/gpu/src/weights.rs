//! Model tensors as buffers on the device.

use crate::GpuError;
use crate::device::{Buffer, Gpu};
use shirube_format::FormatError;
use shirube_format::model::{Tensor, TensorKind, WeightKind, Weights};
use shirube_kernels::{GROUP, GroupedI4};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Tensors by name, borrowed: the CPU's encoder takes the same ones.
pub(crate) struct Tensors<'a>(BTreeMap<&'a str, &'a Tensor>);

/// Int8 rows and the scale of each.
type Ints<'a> = (Cow<'a, [i8]>, &'a [f32]);

impl<'a> Tensors<'a> {
    pub(crate) fn of(weights: &'a Weights) -> Self {
        Self(weights.iter().collect())
    }

    pub(crate) fn f32(&self, name: &str, shape: &[usize]) -> Result<&'a [f32], FormatError> {
        if let Some(Tensor { shape: found, data: TensorKind::F32(data) }) = self.0.get(name)
            && found == shape
        {
            return Ok(data);
        }
        Err(self.unexpected(name, "F32", shape))
    }

    pub(crate) fn i8(&self, name: &str, shape: &[usize]) -> Result<&'a [i8], FormatError> {
        if let Some(Tensor { shape: found, data: TensorKind::I8(data) }) = self.0.get(name)
            && found == shape
        {
            return Ok(data);
        }
        Err(self.unexpected(name, "I8", shape))
    }

    fn u8(&self, name: &str, shape: &[usize]) -> Result<&'a [u8], FormatError> {
        if let Some(Tensor { shape: found, data: TensorKind::U8(data) }) = self.0.get(name)
            && found == shape
        {
            return Ok(data);
        }
        Err(self.unexpected(name, "U8", shape))
    }

    /// The matrix `{stem} [rows, cols]` as int8 rows with a scale each, or `None` where it is not quantised. 4-bit weights are whole numbers of a byte
    /// under one scale a row, so expanding them changes no product.
    fn ints(
        &self,
        stem: &str,
        [rows, cols]: [usize; 2],
        kind: WeightKind,
    ) -> Result<Option<Ints<'a>>, FormatError> {
        let name = format!("{stem}.weight");
        let scale = || self.f32(&format!("{stem}.scale"), &[rows]);
        Ok(match kind {
            WeightKind::F32 => None,
            WeightKind::Int8 => Some((Cow::Borrowed(self.i8(&name, &[rows, cols])?), scale()?)),
            WeightKind::Int4 => {
                let nibbles = self.u8(&name, &[rows, cols.div_ceil(2)])?.to_vec();
                let group_scale =
                    self.u8(&format!("{stem}.group_scale"), &[rows, cols.div_ceil(GROUP)])?.to_vec();
                let matrix =
                    GroupedI4::new(nibbles, group_scale, scale()?.to_vec(), rows, cols).map_err(|error| {
                        FormatError::Tensor {
                            name,
                            expected: "4-bit weights".to_owned(),
                            found: error.to_string(),
                        }
                    })?;
                Some((Cow::Owned(matrix.expand().0), scale()?))
            }
        })
    }

    fn unexpected(&self, name: &str, kind: &str, shape: &[usize]) -> FormatError {
        let found = self.0.get(name).map_or_else(
            || "nothing".to_owned(),
            |tensor| match &tensor.data {
                TensorKind::F32(_) => format!("F32 {:?}", tensor.shape),
                _ => format!("integers {:?}", tensor.shape),
            },
        );
        FormatError::Tensor { name: name.to_owned(), expected: format!("{kind} {shape:?}"), found }
    }
}

/// Sixteen int8 of a row are one vector of the shader.
const VECTOR: usize = 16;

/// A linear layer on the device.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) matrix: Matrix,
    /// `[n]`, padded like the matrix.
    pub(crate) bias: Option<Buffer>,
    pub(crate) n: usize,
    pub(crate) k: usize,
}

#[derive(Debug)]
pub(crate) enum Matrix {
    /// `[k / 16][n_padded]` vectors, `[n_padded]` scales.
    Int8 { weights: Buffer, scale: Buffer, n_padded: usize },
    /// `[n][k]`
    F32(Buffer),
}

/// Bytes of a row of quantised activations of width `k`.
pub(crate) fn act_bytes(k: usize) -> usize {
    k.next_multiple_of(VECTOR)
}

/// The matrix `[n, k]` as `gemm_i8.wgsl` reads it: `[k / 16][n_padded][16]`, zeros in the padding.
fn interleave(weights: &[i8], n_padded: usize, k: usize) -> Vec<i8> {
    let vectors = act_bytes(k) / VECTOR;
    let mut out = vec![0; vectors * n_padded * VECTOR];
    for (row, values) in weights.chunks_exact(k).enumerate() {
        for (v, values) in values.chunks(VECTOR).enumerate() {
            out[(v * n_padded + row) * VECTOR..][..values.len()].copy_from_slice(values);
        }
    }
    out
}

/// Columns are padded so that the columns of any invocation exist: 16 lanes of up to 4.
const COLUMNS: usize = 64;

impl Linear {
    /// The layer `{stem}.weight [n, k]`, with `{stem}.bias [n]` if `bias`.
    pub(crate) fn load(
        gpu: &Gpu,
        tensors: &Tensors<'_>,
        stem: &str,
        [n, k]: [usize; 2],
        kind: WeightKind,
        bias: bool,
    ) -> Result<Self, GpuError> {
        Self::load_rows(gpu, tensors, &[stem], [n, k], kind, bias)
    }

    /// The layer whose rows are those of several layers of equal height, one after the other: BERT's queries, keys and values as one product.
    pub(crate) fn load_rows(
        gpu: &Gpu,
        tensors: &Tensors<'_>,
        stems: &[&str],
        [n, k]: [usize; 2],
        kind: WeightKind,
        bias: bool,
    ) -> Result<Self, GpuError> {
        let each = n / stems.len();
        let n_padded = n.next_multiple_of(COLUMNS);
        let padded = |mut values: Vec<f32>| {
            values.resize(n_padded, 0.0);
            values
        };
        let all = |suffix: &str, shape: &[usize]| -> Result<Vec<f32>, FormatError> {
            let mut out = Vec::with_capacity(n);
            for stem in stems {
                out.extend_from_slice(tensors.f32(&format!("{stem}.{suffix}"), shape)?);
            }
            Ok(out)
        };
        let (mut ints, mut scales) = (Vec::new(), Vec::new());
        for stem in stems {
            if let Some((more, scale)) = tensors.ints(stem, [each, k], kind)? {
                ints.extend_from_slice(&more);
                scales.extend_from_slice(scale);
            }
        }
        let matrix = if kind == WeightKind::F32 {
            Matrix::F32(gpu.upload("a weight matrix", &all("weight", &[each, k])?)?)
        } else {
            Matrix::Int8 {
                weights: gpu.upload("a weight matrix", &interleave(&ints, n_padded, k))?,
                scale: gpu.upload("weight scales", &padded(scales))?,
                n_padded,
            }
        };
        let bias = if bias { Some(gpu.upload("a bias", &padded(all("bias", &[each])?))?) } else { None };
        Ok(Self { matrix, bias, n, k })
    }

    pub(crate) fn is_int8(&self) -> bool {
        matches!(self.matrix, Matrix::Int8 { .. })
    }
}

/// One piece of the table of token embeddings.
#[derive(Debug)]
pub(crate) struct TablePiece {
    pub(crate) first: usize,
    pub(crate) n_rows: usize,
    pub(crate) rows: Buffer,
    pub(crate) scale: Buffer,
}

/// The table of token embeddings, in as many pieces as bindings need.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) pieces: Vec<TablePiece>,
    pub(crate) int8: bool,
}

impl Table {
    pub(crate) fn load(
        gpu: &Gpu,
        tensors: &Tensors<'_>,
        stem: &str,
        [n, width]: [usize; 2],
        kind: WeightKind,
    ) -> Result<Self, GpuError> {
        let ints = tensors.ints(stem, [n, width], kind)?;
        let int8 = ints.is_some();
        let row_bytes = if int8 { width } else { 4 * width };
        let rows_a_piece = (gpu.info().binding_bytes as usize / row_bytes).max(1);
        let name = format!("{stem}.weight");
        let mut pieces = Vec::new();
        for first in (0..n).step_by(rows_a_piece) {
            let n_rows = rows_a_piece.min(n - first);
            let range = first * width..(first + n_rows) * width;
            let what = "the embedding table";
            let (rows, scale) = if let Some((ints, scale)) = &ints {
                (gpu.upload(what, &ints[range])?, gpu.upload(what, &scale[first..first + n_rows])?)
            } else {
                (gpu.upload(what, &tensors.f32(&name, &[n, width])?[range])?, gpu.storage(what, 16)?)
            };
            pieces.push(TablePiece { first, n_rows, rows, scale });
        }
        Ok(Self { pieces, int8 })
    }
}

/// A layer norm.
#[derive(Debug)]
pub(crate) struct Norm {
    pub(crate) weight: Buffer,
    pub(crate) bias: Option<Buffer>,
}

impl Norm {
    pub(crate) fn load(
        gpu: &Gpu,
        tensors: &Tensors<'_>,
        stem: &str,
        width: usize,
        bias: bool,
    ) -> Result<Self, GpuError> {
        let vector = |suffix: &str| -> Result<Buffer, GpuError> {
            gpu.upload("a norm", tensors.f32(&format!("{stem}.{suffix}"), &[width])?)
        };
        Ok(Self { weight: vector("weight")?, bias: if bias { Some(vector("bias")?) } else { None } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaving_moves_every_weight_and_pads_with_zeros() {
        for (n, k) in [(1, 1), (3, 16), (5, 17), (64, 48), (70, 20)] {
            let n_padded = usize::next_multiple_of(n, COLUMNS);
            let weights: Vec<i8> = (0..n * k).map(|i| (i % 127) as i8 + 1).collect();
            let mut out = interleave(&weights, n_padded, k);
            for row in 0..n {
                for column in 0..k {
                    let at = (column / VECTOR * n_padded + row) * VECTOR + column % VECTOR;
                    assert_eq!(out[at], weights[row * k + column]);
                    out[at] = 0;
                }
            }
            assert!(out.iter().all(|&w| w == 0));
        }
    }
}
