//! `out[i][j] = epilogue(Σ_k a[i][k] w[j][k])`. Integer sums in i64, f32 sums in f64.

use crate::Epilogue;
use crate::int4::PackedI4;
use crate::pack::{Activations, F32_PANEL, PackedF32, PackedI8};

fn finish(epilogue: Epilogue<'_>, column: usize, mut value: f32, out: &mut f32) {
    if let Some(bias) = epilogue.bias {
        value += bias[column];
    }
    *out = if epilogue.add { *out + value } else { value };
}

pub(super) fn gemm_i8(a: &Activations, w: &PackedI8, epilogue: Epilogue<'_>, out: &mut [f32]) {
    for i in 0..a.m {
        for j in 0..w.n {
            let (a_row, w_row) = (&a.bytes[i * a.k_padded..][..a.k], &w.data[j * w.k_padded..][..w.k]);
            let sum: i64 = a_row.iter().zip(w_row).map(|(&x, &y)| i64::from(x) * i64::from(y)).sum();
            let sum = i32::try_from(sum).expect("k is at most MAX_K");
            finish(epilogue, j, sum as f32 * (a.scale[i] * w.scale[j]), &mut out[i * w.n + j]);
        }
    }
}

pub(super) fn gemm_i4(a: &Activations, w: &PackedI4, epilogue: Epilogue<'_>, out: &mut [f32]) {
    for i in 0..a.m {
        let a_row = &a.bytes[i * a.k_padded..][..a.k];
        for j in 0..w.n {
            let products = a_row.iter().enumerate().map(|(k, &x)| i64::from(x) * i64::from(w.plain(j, k)));
            let sum = i32::try_from(products.sum::<i64>()).expect("k is at most MAX_K");
            finish(epilogue, j, sum as f32 * (a.scale[i] * w.scale[j]), &mut out[i * w.n + j]);
        }
    }
}

pub(super) fn gemm_f32(a: &[f32], w: &PackedF32, epilogue: Epilogue<'_>, out: &mut [f32]) {
    for (a_row, out_row) in a.chunks_exact(w.k).zip(out.chunks_exact_mut(w.n.max(1))) {
        for (j, out) in out_row.iter_mut().enumerate() {
            finish(epilogue, j, dot(a_row, w, j) as f32, out);
        }
    }
}

/// Dot product with row `j` of a packed matrix.
pub(super) fn dot(a: &[f32], w: &PackedF32, j: usize) -> f64 {
    let value = |k: usize| w.data[(j / F32_PANEL * w.k + k) * F32_PANEL + j % F32_PANEL];
    a.iter().enumerate().map(|(k, &x)| f64::from(x) * f64::from(value(k))).sum()
}
