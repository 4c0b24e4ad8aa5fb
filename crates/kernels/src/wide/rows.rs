#![expect(unsafe_op_in_unsafe_fn, reason = "see the module docs of `wide`")]
//! Row kernels: quantise, layer norm, GeGLU, rotary positions, L2. Row ends that fill no vector go through a small padded copy.
//!
//! Quantising is not fused into layer norm or GeGLU: a row of a few hundred numbers is still in the first-level cache.

use super::{Lanes, SUM_LANES, math, reduce};
use crate::pack::{Activations, SMALLEST_MAX};

/// Loads up to `N` of the `left` numbers at `p`; missing ones are `fill`.
#[inline(always)]
unsafe fn load_some<L: Lanes>(p: *const f32, left: usize, fill: f32) -> L::F {
    if left >= L::N {
        L::load(p)
    } else {
        let mut t = [fill; SUM_LANES];
        core::ptr::copy_nonoverlapping(p, t.as_mut_ptr(), left);
        L::load(t.as_ptr())
    }
}

/// Stores up to `N` numbers where `left` have room.
#[inline(always)]
unsafe fn store_some<L: Lanes>(p: *mut f32, left: usize, x: L::F) {
    if left >= L::N {
        L::store(p, x);
    } else {
        let mut t = [0.0; SUM_LANES];
        L::store(t.as_mut_ptr(), x);
        core::ptr::copy_nonoverlapping(t.as_ptr(), p, left);
    }
}

/// What a row sum adds up.
#[derive(Clone, Copy)]
enum Term {
    /// `x`
    Value,
    /// `(x - shift)²`
    Square,
}

/// `Σ term(x)` over a row in 16 partial sums. Padding adds 0.
#[inline(always)]
unsafe fn row_sum<L: Lanes>(row: &[f32], term: Term, shift: f32) -> f32 {
    let mut parts = [L::splat(0.0); 4];
    let fill = match term {
        Term::Value => 0.0,
        Term::Square => shift,
    };
    for at in (0..row.len()).step_by(SUM_LANES) {
        for (v, part) in parts.iter_mut().enumerate().take(SUM_LANES / L::N) {
            let at = at + v * L::N;
            if at < row.len() {
                let x = load_some::<L>(row.as_ptr().add(at), row.len() - at, fill);
                let x = match term {
                    Term::Value => x,
                    Term::Square => {
                        let d = L::sub(x, L::splat(shift));
                        L::mul(d, d)
                    }
                };
                *part = L::add(*part, x);
            }
        }
    }
    reduce::<L>(parts)
}

#[inline(always)]
pub(crate) unsafe fn quantize<L: Lanes>(x: &[f32], out: &mut Activations) {
    let (k, k_padded) = (out.k, out.k_padded);
    let acts = L::acts_mut(out);
    for (i, row) in x.chunks_exact(k).enumerate() {
        let mut largest = L::splat(0.0);
        // 0 for finite rows, NaN otherwise: `max` alone would drop a NaN.
        let mut poison = L::splat(0.0);
        for at in (0..k).step_by(L::N) {
            let v = load_some::<L>(row.as_ptr().add(at), k - at, 0.0);
            largest = L::max(largest, L::abs(v));
            poison = L::add(poison, L::mul(v, L::splat(0.0)));
        }
        let mut t = [[0.0_f32; SUM_LANES]; 2];
        L::store(t[0].as_mut_ptr(), largest);
        L::store(t[1].as_mut_ptr(), poison);
        let largest = t[0].iter().fold(0.0_f32, |m, &v| if v > m { v } else { m });
        let poison: f32 = t[1].iter().sum();
        let usable = largest >= SMALLEST_MAX && poison == 0.0;
        let inverse = if usable { 127.0 / largest } else { 0.0 };
        out.scale[i] = if usable { largest / 127.0 } else { poison };
        let acts = acts.add(i * k_padded);
        for at in (0..k).step_by(L::N) {
            // Not finite: the integers do not matter, but converting must not see a NaN.
            let v =
                if poison == 0.0 { load_some::<L>(row.as_ptr().add(at), k - at, 0.0) } else { L::splat(0.0) };
            let rounded = L::round(L::mul(v, L::splat(inverse)));
            if k - at >= L::N {
                L::store_act(acts.add(at), rounded);
            } else {
                let mut t = [L::Act::default(); SUM_LANES];
                L::store_act(t.as_mut_ptr(), rounded);
                core::ptr::copy_nonoverlapping(t.as_ptr(), acts.add(at), k - at);
            }
        }
    }
}

#[inline(always)]
pub(crate) unsafe fn layer_norm<L: Lanes>(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    eps: f32,
    out: &mut [f32],
) {
    let width = weight.len();
    for (row, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        let mean = row_sum::<L>(row, Term::Value, 0.0) / width as f32;
        let variance = row_sum::<L>(row, Term::Square, mean) / width as f32;
        let inverse = 1.0 / (variance + eps).sqrt();
        for at in (0..width).step_by(L::N) {
            let left = width - at;
            let x = L::sub(load_some::<L>(row.as_ptr().add(at), left, 0.0), L::splat(mean));
            let mut y =
                L::mul(L::mul(x, L::splat(inverse)), load_some::<L>(weight.as_ptr().add(at), left, 0.0));
            if let Some(bias) = bias {
                y = L::add(y, load_some::<L>(bias.as_ptr().add(at), left, 0.0));
            }
            store_some::<L>(out.as_mut_ptr().add(at), left, y);
        }
    }
}

#[inline(always)]
pub(crate) unsafe fn geglu<L: Lanes>(x: &[f32], width: usize, out: &mut [f32]) {
    for (row, out) in x.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
        for at in (0..width).step_by(L::N) {
            let left = width - at;
            let value = load_some::<L>(row.as_ptr().add(at), left, 0.0);
            let gate = load_some::<L>(row.as_ptr().add(width + at), left, 0.0);
            store_some::<L>(out.as_mut_ptr().add(at), left, L::mul(math::gelu::<L>(value), gate));
        }
    }
}

#[inline(always)]
pub(crate) unsafe fn rope<L: Lanes>(
    x: &mut [f32],
    stride: usize,
    head_dim: usize,
    n_heads: usize,
    cos: &[f32],
    sin: &[f32],
) {
    let half = head_dim / 2;
    for (t, row) in x.chunks_exact_mut(stride).enumerate() {
        let (cos, sin) = (cos.as_ptr().add(t * half), sin.as_ptr().add(t * half));
        for head in 0..n_heads {
            let low = row.as_mut_ptr().add(head * head_dim);
            let high = low.add(half);
            for at in (0..half).step_by(L::N) {
                let left = half - at;
                let c = load_some::<L>(cos.add(at), left, 0.0);
                let s = load_some::<L>(sin.add(at), left, 0.0);
                let a = load_some::<L>(low.add(at), left, 0.0);
                let b = load_some::<L>(high.add(at), left, 0.0);
                store_some::<L>(low.add(at), left, L::sub(L::mul(a, c), L::mul(b, s)));
                store_some::<L>(high.add(at), left, L::add(L::mul(b, c), L::mul(a, s)));
            }
        }
    }
}

#[inline(always)]
pub(crate) unsafe fn l2_normalize<L: Lanes>(x: &mut [f32], dim: usize) {
    for row in x.chunks_exact_mut(dim) {
        let norm = row_sum::<L>(row, Term::Square, 0.0).sqrt();
        // Written so that a NaN norm stays NaN.
        let norm = if norm < 1e-12 { 1e-12 } else { norm };
        for at in (0..dim).step_by(L::N) {
            let v = load_some::<L>(row.as_ptr().add(at), dim - at, 0.0);
            store_some::<L>(row.as_mut_ptr().add(at), dim - at, L::div(v, L::splat(norm)));
        }
    }
}
