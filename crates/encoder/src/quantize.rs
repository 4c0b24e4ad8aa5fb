//! f32 weights to the storage that a manifest names.

use shirube_format::model::{Quantization, Tensor, TensorKind, TensorRole, WeightKind, Weights};
use shirube_kernels::{GROUP, GroupedI4, quantize_rows};

/// `weights` stored as `quantization` says: linear layers and the embedding table become integers with scales beside them, everything else stays
/// (see [`TensorRole`]). Export and tests use this, so that a model written is the model read. Tensors that are no longer f32 stay as they are.
pub fn quantize(weights: &Weights, quantization: Quantization) -> Weights {
    let mut out = Weights::default();
    for (name, tensor) in weights.iter() {
        let kind = match TensorRole::of(name, &tensor.shape) {
            TensorRole::Linear => quantization.linear,
            TensorRole::Embeddings => quantization.embeddings,
            TensorRole::Other => WeightKind::F32,
        };
        match (kind, name.strip_suffix(".weight"), &tensor.shape[..], &tensor.data) {
            (WeightKind::Int8, Some(stem), &[rows, cols], TensorKind::F32(values)) => {
                let (ints, scale) = quantize_rows(values, rows, cols);
                out.insert(name, Tensor::i8(&[rows, cols], ints));
                out.insert(format!("{stem}.scale"), Tensor::f32(&[rows], scale));
            }
            (WeightKind::Int4, Some(stem), &[rows, cols], TensorKind::F32(values)) if cols > 0 => {
                let matrix = GroupedI4::quantize(values, rows, cols);
                let (bytes, groups) = (cols.div_ceil(2), cols.div_ceil(GROUP));
                out.insert(name, Tensor::u8(&[rows, bytes], matrix.nibbles().to_vec()));
                let scales = Tensor::u8(&[rows, groups], matrix.group_scale().to_vec());
                out.insert(format!("{stem}.group_scale"), scales);
                out.insert(format!("{stem}.scale"), Tensor::f32(&[rows], matrix.scale().to_vec()));
            }
            _ => out.insert(name, tensor.clone()),
        }
    }
    out
}
