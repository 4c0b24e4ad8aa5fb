//! `out_i = Σ_j softmax_j(q_i · k_j / √head_dim) v_j` over the keys `j` that `i` sees.

use crate::AttentionShape;

pub(super) fn attention(qkv: &[f32], shape: AttentionShape, out: &mut [f32]) {
    let width = shape.n_heads * shape.head_dim;
    let part = |token: usize, which: usize, head: usize| {
        &qkv[token * 3 * width + which * width + head * shape.head_dim..][..shape.head_dim]
    };
    out.fill(0.0);
    for i in 0..shape.n_tokens {
        for head in 0..shape.n_heads {
            let q = part(i, 0, head);
            let window = shape.window(i);
            let logits: Vec<f64> = window
                .clone()
                .map(|j| {
                    let dot: f64 =
                        q.iter().zip(part(j, 1, head)).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                    dot / (shape.head_dim as f64).sqrt()
                })
                .collect();
            let largest = logits.iter().fold(f64::MIN, |m, &v| m.max(v));
            let total: f64 = logits.iter().map(|v| (v - largest).exp()).sum();
            for d in 0..shape.head_dim {
                let mix: f64 = window
                    .clone()
                    .zip(&logits)
                    .map(|(j, v)| (v - largest).exp() / total * f64::from(part(j, 2, head)[d]))
                    .sum();
                out[i * width + head * shape.head_dim + d] = mix as f32;
            }
        }
    }
}
