#![expect(unsafe_op_in_unsafe_fn, reason = "see the module docs of `wide`")]
//! `out_i = Σ_j softmax_j(q_i · k_j / √head_dim) v_j` over the keys `j` that `i` sees, one head after the other.
//!
//! A head's keys are turned into panels of 16 once; a block of 4 queries then works on the panels its windows touch, so windowed layers cost
//! `n * window`. Scores of the block stay in the scratch buffer, `[4][keys]`; keys outside a query's own window get weight 0. The values are
//! read in place. Softmax is over f32 with the row's maximum taken away; the division by its sum comes last, per output.

use super::gemm::sum_tile;
use super::{Lanes, SUM_LANES, math, reduce};
use crate::AttentionShape;
use crate::pack::F32_PANEL;

/// Queries per block.
const BLOCK: usize = 4;
const _: () = assert!(BLOCK <= crate::kernels::ATTENTION_ROWS);

#[inline(always)]
pub(crate) unsafe fn attention<L: Lanes>(
    qkv: &[f32],
    shape: AttentionShape,
    scratch: &mut [f32],
    out: &mut [f32],
) {
    let AttentionShape { n_tokens, n_keys, n_heads, head_dim, .. } = shape;
    let width = n_heads * head_dim;
    let stride = 3 * width;
    let keys = n_keys.next_multiple_of(F32_PANEL);
    let (panels, rows) = scratch.split_at_mut(keys * head_dim);
    let scale = 1.0 / (head_dim as f32).sqrt();
    for head in 0..n_heads {
        pack_keys(qkv.as_ptr().add(width + head * head_dim), stride, n_keys, head_dim, panels);
        for i in (0..n_tokens).step_by(BLOCK) {
            let n_rows = BLOCK.min(n_tokens - i);
            let q = qkv.as_ptr().add(i * stride + head * head_dim);
            let window = shape.window(i).start..shape.window(i + n_rows - 1).end;
            let first = window.start / F32_PANEL * F32_PANEL;
            let end = window.end.next_multiple_of(F32_PANEL).max(first);
            if n_rows == BLOCK {
                score_block::<L, BLOCK>(q, stride, panels, head_dim, first, end, rows, keys);
            } else {
                for r in 0..n_rows {
                    let row = &mut rows[r * keys..];
                    score_block::<L, 1>(q.add(r * stride), stride, panels, head_dim, first, end, row, keys);
                }
            }
            let mut inverse = [0.0_f32; BLOCK];
            for r in 0..n_rows {
                let row = &mut rows[r * keys..][..keys];
                inverse[r] = softmax_row::<L>(row, first, end, shape.window(i + r), scale);
            }
            let v = qkv.as_ptr().add(2 * width + head * head_dim);
            let out = out.as_mut_ptr().add(i * width + head * head_dim);
            if n_rows == BLOCK {
                mix::<L, BLOCK>(v, stride, window, rows.as_ptr(), keys, inverse, head_dim, out, width);
            } else {
                for r in 0..n_rows {
                    let inverse = [inverse[r]];
                    let (row, out) = (rows.as_ptr().add(r * keys), out.add(r * width));
                    mix::<L, 1>(v, stride, window.clone(), row, keys, inverse, head_dim, out, width);
                }
            }
        }
    }
}

/// Keys `[n_keys, head_dim]`, `stride` apart, to panels `[n_keys / 16][head_dim][16]`, padded with zeros.
#[inline(always)]
unsafe fn pack_keys(k: *const f32, stride: usize, n_keys: usize, head_dim: usize, panels: &mut [f32]) {
    for (p, panel) in panels.chunks_exact_mut(F32_PANEL * head_dim).enumerate() {
        let n = F32_PANEL.min(n_keys - p * F32_PANEL);
        if n < F32_PANEL {
            panel.fill(0.0);
        }
        for c in 0..n {
            let key = k.add((p * F32_PANEL + c) * stride);
            for d in 0..head_dim {
                *panel.get_unchecked_mut(d * F32_PANEL + c) = *key.add(d);
            }
        }
    }
}

/// Dot products of `ROWS` queries with the keys `first..end` (whole panels), to `rows [ROWS, keys]`.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "an inner step of one kernel")]
unsafe fn score_block<L: Lanes, const ROWS: usize>(
    q: *const f32,
    stride: usize,
    panels: &[f32],
    head_dim: usize,
    first: usize,
    end: usize,
    rows: &mut [f32],
    keys: usize,
) {
    let mut column = first;
    while column < end {
        let panel = panels.as_ptr().add(column / F32_PANEL * F32_PANEL * head_dim + column % F32_PANEL);
        let to = rows.as_mut_ptr().add(column);
        if L::N < F32_PANEL {
            let acc = sum_tile::<L, ROWS, 2>(q, stride, panel, head_dim);
            for r in 0..ROWS {
                L::store(to.add(r * keys), acc[r][0]);
                L::store(to.add(r * keys + L::N), acc[r][1]);
            }
            column += 2 * L::N;
        } else {
            let acc = sum_tile::<L, ROWS, 1>(q, stride, panel, head_dim);
            for r in 0..ROWS {
                L::store(to.add(r * keys), acc[r][0]);
            }
            column += L::N;
        }
    }
}

/// `row[j] = e^(scale (row[j] - max))` inside the window, 0 elsewhere in `first..end`; returns the inverse of the sum, 0 for an empty window.
#[inline(always)]
unsafe fn softmax_row<L: Lanes>(
    row: &mut [f32],
    first: usize,
    end: usize,
    window: core::ops::Range<usize>,
    scale: f32,
) -> f32 {
    if window.is_empty() {
        row[first..end].fill(0.0);
        return 0.0;
    }
    row[first..window.start].fill(f32::MIN);
    row[window.end..end].fill(f32::MIN);
    let p = row.as_mut_ptr();
    let mut largest = L::splat(f32::MIN);
    for j in (first..end).step_by(L::N) {
        largest = L::max(largest, L::load(p.add(j)));
    }
    let mut t = [f32::MIN; SUM_LANES];
    L::store(t.as_mut_ptr(), largest);
    let largest = t.iter().fold(f32::MIN, |m, &v| if v > m { v } else { m });
    let mut parts = [L::splat(0.0); 4];
    for j in (first..end).step_by(SUM_LANES) {
        for (v, part) in parts.iter_mut().enumerate().take(SUM_LANES / L::N) {
            let p = p.add(j + v * L::N);
            let x = L::mul(L::sub(L::load(p), L::splat(largest)), L::splat(scale));
            let e = math::exp::<L>(x);
            L::store(p, e);
            *part = L::add(*part, e);
        }
    }
    1.0 / reduce::<L>(parts)
}

/// `out[r] = inverse[r] * Σ_j rows[r][j] v[j]` for `j` in the window.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "an inner step of one kernel")]
unsafe fn mix<L: Lanes, const ROWS: usize>(
    v: *const f32,
    stride: usize,
    window: core::ops::Range<usize>,
    rows: *const f32,
    keys: usize,
    inverse: [f32; ROWS],
    head_dim: usize,
    out: *mut f32,
    out_stride: usize,
) {
    let mut d = 0;
    while d + 2 * L::N <= head_dim {
        mix_columns::<L, ROWS, 2>(
            v.add(d),
            stride,
            window.clone(),
            rows,
            keys,
            inverse,
            out.add(d),
            out_stride,
        );
        d += 2 * L::N;
    }
    if d + L::N <= head_dim {
        mix_columns::<L, ROWS, 1>(
            v.add(d),
            stride,
            window.clone(),
            rows,
            keys,
            inverse,
            out.add(d),
            out_stride,
        );
        d += L::N;
    }
    for d in d..head_dim {
        for r in 0..ROWS {
            let mut sum = 0.0_f32;
            for j in window.clone() {
                sum += *rows.add(r * keys + j) * *v.add(j * stride + d);
            }
            *out.add(r * out_stride + d) = sum * inverse[r];
        }
    }
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "an inner step of one kernel")]
unsafe fn mix_columns<L: Lanes, const ROWS: usize, const VECTORS: usize>(
    v: *const f32,
    stride: usize,
    window: core::ops::Range<usize>,
    rows: *const f32,
    keys: usize,
    inverse: [f32; ROWS],
    out: *mut f32,
    out_stride: usize,
) {
    let mut acc = [[L::splat(0.0); VECTORS]; ROWS];
    for j in window {
        let mut values = [L::load(v.add(j * stride)); VECTORS];
        for (c, values) in values.iter_mut().enumerate().skip(1) {
            *values = L::load(v.add(j * stride + c * L::N));
        }
        for r in 0..ROWS {
            let p = L::splat(*rows.add(r * keys + j));
            for c in 0..VECTORS {
                acc[r][c] = L::add(acc[r][c], L::mul(p, values[c]));
            }
        }
    }
    for r in 0..ROWS {
        for c in 0..VECTORS {
            L::store(out.add(r * out_stride + c * L::N), L::mul(acc[r][c], L::splat(inverse[r])));
        }
    }
}
