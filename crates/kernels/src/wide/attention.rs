#![expect(unsafe_op_in_unsafe_fn, reason = "see the module docs of `wide`")]
//! `out_i = Σ_j softmax_j(q_i · k_j / √head_dim) v_j` over the keys `j` that `i` sees, one head after the other.
//!
//! A head's keys are turned into panels of 16 once; a block of 4 or 8 queries then works on the panels its windows touch, so windowed layers cost
//! `n * window`. Scores of the block stay in the scratch buffer, `[8][keys]`; keys outside a query's own window get weight 0. The values are
//! read in place. Softmax is over f32 with the row's maximum taken away; the division by its sum comes last, per output.

use super::gemm::{by_rows, sum_tile};
use super::{Lanes, SUM_LANES, math, reduce};
use crate::AttentionShape;
use crate::pack::F32_PANEL;

const _: () = assert!(crate::kernels::ATTENTION_ROWS == 8, "the largest block of `by_rows`");

#[inline(always)]
pub(crate) unsafe fn attention<L: Lanes>(
    qkv: &[f32],
    shape: AttentionShape,
    scratch: &mut [f32],
    out: &mut [f32],
) {
    heads::<L, true>(qkv, shape, scratch, out);
}

/// The two products of [`attention`] alone, on whatever keys and weights `scratch` holds: what of its time is multiply-adds.
#[cfg(feature = "yardstick")]
#[inline(always)]
pub(crate) unsafe fn attention_products<L: Lanes>(
    qkv: &[f32],
    shape: AttentionShape,
    scratch: &mut [f32],
    out: &mut [f32],
) {
    heads::<L, false>(qkv, shape, scratch, out);
}

/// All heads; products alone unless `WHOLE`.
#[inline(always)]
unsafe fn heads<L: Lanes, const WHOLE: bool>(
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
    for head in 0..n_heads {
        let qkv = qkv.as_ptr().add(head * head_dim);
        if WHOLE {
            pack_keys::<L>(qkv.add(width), stride, n_keys, head_dim, panels);
        }
        by_rows!(L, 0..n_tokens, |i, ROWS| {
            let out = out.as_mut_ptr().add(i * width + head * head_dim);
            block::<L, ROWS, WHOLE>(qkv, shape, i, panels, rows, out);
        });
    }
}

/// `ROWS` queries of one head from `i` on.
#[inline(always)]
unsafe fn block<L: Lanes, const ROWS: usize, const WHOLE: bool>(
    qkv: *const f32,
    shape: AttentionShape,
    i: usize,
    panels: &[f32],
    rows: &mut [f32],
    out: *mut f32,
) {
    let AttentionShape { n_keys, n_heads, head_dim, .. } = shape;
    let width = n_heads * head_dim;
    let stride = 3 * width;
    let keys = n_keys.next_multiple_of(F32_PANEL);
    let window = shape.window(i).start..shape.window(i + ROWS - 1).end;
    let first = window.start / F32_PANEL * F32_PANEL;
    let end = window.end.next_multiple_of(F32_PANEL).max(first);
    score_block::<L, ROWS>(qkv.add(i * stride), stride, panels, head_dim, first, end, rows, keys);
    // Softmax in powers of two.
    let scale = core::f32::consts::LOG2_E / (head_dim as f32).sqrt();
    let mut inverse = [1.0_f32; ROWS];
    for r in 0..if WHOLE { ROWS } else { 0 } {
        let row = &mut rows[r * keys..][..keys];
        inverse[r] = softmax_row::<L>(row, first, end, shape.window(i + r), scale);
    }
    mix::<L, ROWS>(qkv.add(2 * width), stride, window, rows.as_ptr(), keys, inverse, head_dim, out, width);
}

/// Keys `[n_keys, head_dim]`, `stride` apart, to panels `[n_keys / 16][head_dim][16]`, padded with zeros.
#[inline(always)]
unsafe fn pack_keys<L: Lanes>(
    k: *const f32,
    stride: usize,
    n_keys: usize,
    head_dim: usize,
    panels: &mut [f32],
) {
    for (p, panel) in panels.chunks_exact_mut(F32_PANEL * head_dim).enumerate() {
        let n = F32_PANEL.min(n_keys - p * F32_PANEL);
        if n < F32_PANEL {
            panel.fill(0.0);
        }
        let (keys, panel) = (k.add(p * F32_PANEL * stride), panel.as_mut_ptr());
        // Squares of 4, then what is left of the depth and of the keys.
        let (deep, whole) = (head_dim / 4 * 4, n / 4 * 4);
        for c in (0..whole).step_by(4) {
            for d in (0..deep).step_by(4) {
                L::transpose4(keys.add(c * stride + d), stride, panel.add(d * F32_PANEL + c), F32_PANEL);
            }
        }
        for c in 0..n {
            for d in if c < whole { deep } else { 0 }..head_dim {
                *panel.add(d * F32_PANEL + c) = *keys.add(c * stride + d);
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
        if L::N < F32_PANEL || column + F32_PANEL < end {
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

/// `row[j] = 2^(scale (row[j] - max))` inside the window, 0 elsewhere in `first..end`; returns the inverse of the sum, 0 for an empty window.
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
    let largest = L::top(largest);
    let mut parts = [L::splat(0.0); 4];
    for j in (first..end).step_by(SUM_LANES) {
        for (v, part) in parts.iter_mut().enumerate().take(SUM_LANES / L::N) {
            let p = p.add(j + v * L::N);
            let x = L::mul(L::sub(L::load(p), L::splat(largest)), L::splat(scale));
            let e = math::exp2::<L>(x);
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
