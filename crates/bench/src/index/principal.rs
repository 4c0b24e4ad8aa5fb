//! Token embeddings in fewer dimensions: along the directions in which the passages of a set lie most (principal components of their second moments,
//! not centred, because products are what counts), passages scaled back to length 1. It stands for a model of that width; a model trained for it may do better.

use crate::corpus::{Corpus, Embeddings};

/// Rows that the directions are taken from.
const SAMPLE: usize = 50_000;

/// `corpus` in `dim` dimensions.
pub(super) fn reduced(corpus: &Corpus, dim: usize) -> Corpus {
    let full = corpus.passages.dim;
    let step = corpus.passages.n_rows().div_ceil(SAMPLE).max(1);
    let mut moments = vec![0.0_f64; full * full];
    for row in corpus.passages.values.chunks_exact(full).step_by(step) {
        for (moments, &a) in moments.chunks_exact_mut(full).zip(row) {
            moments.iter_mut().zip(row).for_each(|(m, &b)| *m += f64::from(a) * f64::from(b));
        }
    }
    let directions = directions(moments, full);
    let turn = |all: &Embeddings, unit: bool| {
        let mut out = Embeddings::new(dim);
        for text in 0..all.len() {
            let mut rows = Vec::with_capacity(all.of(text).len() / full * dim);
            for row in all.of(text).chunks_exact(full) {
                let start = rows.len();
                rows.extend(
                    directions
                        .chunks_exact(full)
                        .take(dim)
                        .map(|d| d.iter().zip(row).map(|(d, &v)| d * f64::from(v)).sum::<f64>() as f32),
                );
                if unit {
                    let norm = rows[start..].iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-12);
                    rows[start..].iter_mut().for_each(|v| *v /= norm);
                }
            }
            out.push(&rows);
        }
        out
    };
    let (passages, queries) = (turn(&corpus.passages, true), turn(&corpus.queries, false));
    Corpus { passages, queries, relevant: corpus.relevant.clone() }
}

/// The eigenvectors of a symmetric matrix `[n, n]`, row by row, largest eigenvalue first: cyclic rotations (Jacobi 1846).
fn directions(mut matrix: Vec<f64>, n: usize) -> Vec<f64> {
    let mut vectors: Vec<f64> = (0..n * n).map(|i| f64::from(u8::from(i / n == i % n))).collect();
    for _ in 0..30 {
        for p in 0..n {
            for q in p + 1..n {
                let off = matrix[p * n + q];
                if off.abs() < 1e-300 {
                    continue;
                }
                let theta = (matrix[q * n + q] - matrix[p * n + p]) / (2.0 * off);
                let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let t = if theta == 0.0 { 1.0 } else { t };
                let (cos, sin) = (1.0 / t.hypot(1.0), t / t.hypot(1.0));
                for i in 0..n {
                    let (a, b) = (matrix[i * n + p], matrix[i * n + q]);
                    (matrix[i * n + p], matrix[i * n + q]) = (cos * a - sin * b, sin * a + cos * b);
                }
                for i in 0..n {
                    let (a, b) = (matrix[p * n + i], matrix[q * n + i]);
                    (matrix[p * n + i], matrix[q * n + i]) = (cos * a - sin * b, sin * a + cos * b);
                    let (a, b) = (vectors[p * n + i], vectors[q * n + i]);
                    (vectors[p * n + i], vectors[q * n + i]) = (cos * a - sin * b, sin * a + cos * b);
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| matrix[b * n + b].total_cmp(&matrix[a * n + a]));
    order.into_iter().flat_map(|i| &vectors[i * n..(i + 1) * n]).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_are_orthonormal_and_keep_products_in_all_dimensions() {
        let n = 6;
        let row = |i: usize| -> Vec<f64> {
            (0..n).map(|j| ((i * 7 + j * j * 3 + i * j) % 11) as f64 - 5.0).collect()
        };
        let mut moments = vec![0.0; n * n];
        for r in (0..20).map(row) {
            for (i, a) in r.iter().enumerate() {
                for (j, b) in r.iter().enumerate() {
                    moments[i * n + j] += a * b;
                }
            }
        }
        let found = directions(moments.clone(), n);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let mut last = f64::MAX;
        for (i, a) in found.chunks_exact(n).enumerate() {
            for (j, b) in found.chunks_exact(n).enumerate() {
                assert!((dot(a, b) - f64::from(u8::from(i == j))).abs() < 1e-9);
            }
            // M v = λ v, with λ falling.
            let image: Vec<f64> = moments.chunks_exact(n).map(|row| dot(row, a)).collect();
            let value = dot(&image, a);
            assert!(image.iter().zip(a).all(|(x, v)| (x - value * v).abs() < 1e-6 * value.abs().max(1.0)));
            assert!(value <= last + 1e-6);
            last = value;
        }
    }
}
