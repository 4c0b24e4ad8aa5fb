//! Row kernels: quantise, layer norm, GELU, GeGLU, rotary positions, L2.

use super::math::erf;
use crate::RowSource;
use crate::pack::{Activations, SMALLEST_MAX};

/// The rows of a source.
pub(super) fn values(source: RowSource<'_>, width: usize) -> Vec<f32> {
    match source {
        RowSource::Plain(x) => x.to_vec(),
        RowSource::Norm { x, weight, bias, eps } => layer_norm(x, weight, bias, eps),
        RowSource::GeGlu(x) => geglu(x, width),
        RowSource::Gelu(x) => x.iter().map(|&v| gelu_of(f64::from(v)) as f32).collect(),
    }
}

/// `int = round(x * 127 / max |x|)`, ties to even; `scale = max |x| / 127`, NaN when the row is not finite.
pub(super) fn quantize(x: &[f32], out: &mut Activations) {
    for (i, row) in x.chunks_exact(out.k).enumerate() {
        let largest = row.iter().fold(0.0_f32, |m, v| if v.abs() > m { v.abs() } else { m });
        let finite = row.iter().all(|v| v.is_finite());
        let inverse = if finite && largest >= SMALLEST_MAX { 127.0 / largest } else { 0.0 };
        out.scale[i] = match (finite, largest >= SMALLEST_MAX) {
            (false, _) => f32::NAN,
            (true, true) => largest / 127.0,
            (true, false) => 0.0,
        };
        for (int, v) in out.bytes[i * out.k_padded..].iter_mut().zip(row) {
            *int = (v * inverse).round_ties_even() as i8;
        }
    }
}

/// `(x - mean) / sqrt(variance + eps) * weight + bias`
fn layer_norm(x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32) -> Vec<f32> {
    let width = weight.len();
    let mut out = vec![0.0; x.len()];
    for (row, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / width as f64;
        let variance = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / width as f64;
        for (j, out) in out.iter_mut().enumerate() {
            let normed = (f64::from(row[j]) - mean) / (variance + f64::from(eps)).sqrt();
            *out = (normed * f64::from(weight[j]) + f64::from(bias.map_or(0.0, |b| b[j]))) as f32;
        }
    }
    out
}

/// `gelu(x) * gate`, `gelu(x) = x/2 (1 + erf(x / √2))`
fn geglu(x: &[f32], width: usize) -> Vec<f32> {
    let mut out = vec![0.0; x.len() / 2];
    for (row, out) in x.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
        for (j, out) in out.iter_mut().enumerate() {
            let (v, gate) = (f64::from(row[j]), f64::from(row[width + j]));
            *out = (gelu_of(v) * gate) as f32;
        }
    }
    out
}

/// `gelu(x) = x/2 (1 + erf(x / √2))`
fn gelu_of(v: f64) -> f64 {
    0.5 * v * (1.0 + erf(v / core::f64::consts::SQRT_2))
}

/// `(v[i], v[i + h]) -> (v[i] cos - v[i + h] sin, v[i + h] cos + v[i] sin)`
pub(super) fn rope(x: &mut [f32], stride: usize, head_dim: usize, n_heads: usize, cos: &[f32], sin: &[f32]) {
    let half = head_dim / 2;
    for (t, row) in x.chunks_exact_mut(stride).enumerate() {
        for head in row.chunks_exact_mut(head_dim).take(n_heads) {
            for i in 0..half {
                let (c, s) = (f64::from(cos[t * half + i]), f64::from(sin[t * half + i]));
                let (a, b) = (f64::from(head[i]), f64::from(head[i + half]));
                head[i] = (a * c - b * s) as f32;
                head[i + half] = (b * c + a * s) as f32;
            }
        }
    }
}

/// `x / max(|x|₂, 1e-12)`
pub(super) fn l2_normalize(x: &mut [f32], dim: usize) {
    for row in x.chunks_exact_mut(dim) {
        let norm = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt().max(1e-12);
        row.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
    }
}
