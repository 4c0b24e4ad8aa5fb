#![expect(unsafe_op_in_unsafe_fn, reason = "see the module docs of `wide`")]
//! Row kernels: quantise, layer norm, GELU, GeGLU, rotary positions, L2. Row ends that fill no vector go through a small padded copy.
//!
//! Quantising is not fused into layer norm or GeGLU: a row of a few hundred numbers is still in the first-level cache.

use super::{Lanes, SUM_LANES, math, reduce};
use crate::pack::{Activations, SMALLEST_MAX};

/// Loads `N` numbers at `p`; if not `FULL`, only the `left` that are there, and `fill` for the rest.
#[inline(always)]
unsafe fn load_some<L: Lanes, const FULL: bool>(p: *const f32, left: usize, fill: f32) -> L::F {
    if FULL {
        L::load(p)
    } else {
        let mut t = [fill; SUM_LANES];
        core::ptr::copy_nonoverlapping(p, t.as_mut_ptr(), left);
        L::load(t.as_ptr())
    }
}

/// Stores `N` numbers at `p`; if not `FULL`, only the `left` that have room.
#[inline(always)]
unsafe fn store_some<L: Lanes, const FULL: bool>(p: *mut f32, left: usize, x: L::F) {
    if FULL {
        L::store(p, x);
    } else {
        let mut t = [0.0; SUM_LANES];
        L::store(t.as_mut_ptr(), x);
        core::ptr::copy_nonoverlapping(t.as_ptr(), p, left);
    }
}

/// Runs the body for each vector of a row of `$n` numbers, with `FULL` for whole ones and, at most once, for the `$left` numbers at the end.
macro_rules! vectors {
    ($l:ty, $n:expr, |$at:ident, $left:ident, $full:ident| $body:expr) => {{
        let n = $n;
        let mut $at = 0;
        {
            const $full: bool = true;
            let $left = <$l>::N;
            while $at + $left <= n {
                $body;
                $at += $left;
            }
        }
        if $at < n {
            const $full: bool = false;
            let $left = n - $at;
            $body;
        }
    }};
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
    let full = row.len() / SUM_LANES * SUM_LANES;
    for at in (0..full).step_by(SUM_LANES) {
        add_block::<L>(&mut parts, row.as_ptr().add(at), term, shift);
    }
    if full < row.len() {
        let fill = match term {
            Term::Value => 0.0,
            Term::Square => shift,
        };
        let mut t = [fill; SUM_LANES];
        core::ptr::copy_nonoverlapping(row.as_ptr().add(full), t.as_mut_ptr(), row.len() - full);
        add_block::<L>(&mut parts, t.as_ptr(), term, shift);
    }
    reduce::<L>(parts)
}

/// Adds 16 terms to 16 partial sums.
#[inline(always)]
unsafe fn add_block<L: Lanes>(parts: &mut [L::F; 4], p: *const f32, term: Term, shift: f32) {
    for v in 0..SUM_LANES / L::N {
        let x = L::load(p.add(v * L::N));
        let x = match term {
            Term::Value => x,
            Term::Square => {
                let d = L::sub(x, L::splat(shift));
                L::mul(d, d)
            }
        };
        parts[v] = L::add(parts[v], x);
    }
}

#[inline(always)]
pub(crate) unsafe fn quantize<L: Lanes>(x: &[f32], out: &mut Activations) {
    let (k, k_padded) = (out.k, out.k_padded);
    let acts = L::acts_mut(out);
    for (i, row) in x.chunks_exact(k).enumerate() {
        let (largest, poison) = largest_and_poison::<L>(row);
        let usable = largest >= SMALLEST_MAX && poison == 0.0;
        let inverse = if usable { 127.0 / largest } else { 0.0 };
        out.scale[i] = if usable { largest / 127.0 } else { poison };
        let acts = acts.add(i * k_padded);
        if poison != 0.0 {
            // Not finite: the integers do not matter, but converting must not see a NaN.
            core::slice::from_raw_parts_mut(acts, k).fill(L::Act::default());
            continue;
        }
        vectors!(L, k, |at, left, FULL| {
            let v = load_some::<L, FULL>(row.as_ptr().add(at), left, 0.0);
            let rounded = L::round(L::mul(v, L::splat(inverse)));
            if FULL {
                L::store_act(acts.add(at), rounded);
            } else {
                let mut t = [L::Act::default(); SUM_LANES];
                L::store_act(t.as_mut_ptr(), rounded);
                core::ptr::copy_nonoverlapping(t.as_ptr(), acts.add(at), left);
            }
        });
    }
}

/// The largest magnitude of a row, and 0 for a finite row, NaN for another: a maximum alone would drop a NaN.
#[inline(always)]
unsafe fn largest_and_poison<L: Lanes>(row: &[f32]) -> (f32, f32) {
    let mut largest = [L::splat(0.0); 4];
    let mut poison = [L::splat(0.0); 4];
    let full = row.len() / SUM_LANES * SUM_LANES;
    for at in (0..full).step_by(SUM_LANES) {
        look_at_block::<L>(&mut largest, &mut poison, row.as_ptr().add(at));
    }
    if full < row.len() {
        let mut t = [0.0; SUM_LANES];
        core::ptr::copy_nonoverlapping(row.as_ptr().add(full), t.as_mut_ptr(), row.len() - full);
        look_at_block::<L>(&mut largest, &mut poison, t.as_ptr());
    }
    let mut t = [0.0_f32; SUM_LANES];
    for v in 0..SUM_LANES / L::N {
        L::store(t.as_mut_ptr().add(v * L::N), largest[v]);
    }
    (t.iter().fold(0.0_f32, |m, &v| if v > m { v } else { m }), reduce::<L>(poison))
}

#[inline(always)]
unsafe fn look_at_block<L: Lanes>(largest: &mut [L::F; 4], poison: &mut [L::F; 4], p: *const f32) {
    for v in 0..SUM_LANES / L::N {
        let x = L::load(p.add(v * L::N));
        largest[v] = L::max(largest[v], L::abs(x));
        poison[v] = L::add(poison[v], L::mul(x, L::splat(0.0)));
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
        vectors!(L, width, |at, left, FULL| {
            let x = L::sub(load_some::<L, FULL>(row.as_ptr().add(at), left, 0.0), L::splat(mean));
            let mut y = L::mul(
                L::mul(x, L::splat(inverse)),
                load_some::<L, FULL>(weight.as_ptr().add(at), left, 0.0),
            );
            if let Some(bias) = bias {
                y = L::add(y, load_some::<L, FULL>(bias.as_ptr().add(at), left, 0.0));
            }
            store_some::<L, FULL>(out.as_mut_ptr().add(at), left, y);
        });
    }
}

#[inline(always)]
pub(crate) unsafe fn geglu<L: Lanes>(x: &[f32], width: usize, out: &mut [f32]) {
    for (row, out) in x.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
        vectors!(L, width, |at, left, FULL| {
            let value = load_some::<L, FULL>(row.as_ptr().add(at), left, 0.0);
            let gate = load_some::<L, FULL>(row.as_ptr().add(width + at), left, 0.0);
            store_some::<L, FULL>(out.as_mut_ptr().add(at), left, L::mul(math::gelu::<L>(value), gate));
        });
    }
}

#[inline(always)]
pub(crate) unsafe fn gelu<L: Lanes>(x: &mut [f32]) {
    let p = x.as_mut_ptr();
    vectors!(L, x.len(), |at, left, FULL| {
        let value = load_some::<L, FULL>(p.add(at), left, 0.0);
        store_some::<L, FULL>(p.add(at), left, math::gelu::<L>(value));
    });
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
            vectors!(L, half, |at, left, FULL| {
                let c = load_some::<L, FULL>(cos.add(at), left, 0.0);
                let s = load_some::<L, FULL>(sin.add(at), left, 0.0);
                let a = load_some::<L, FULL>(low.add(at), left, 0.0);
                let b = load_some::<L, FULL>(high.add(at), left, 0.0);
                store_some::<L, FULL>(low.add(at), left, L::sub(L::mul(a, c), L::mul(b, s)));
                store_some::<L, FULL>(high.add(at), left, L::add(L::mul(b, c), L::mul(a, s)));
            });
        }
    }
}

#[inline(always)]
pub(crate) unsafe fn l2_normalize<L: Lanes>(x: &mut [f32], dim: usize) {
    for row in x.chunks_exact_mut(dim) {
        let norm = row_sum::<L>(row, Term::Square, 0.0).sqrt();
        // Written so that a NaN norm stays NaN.
        let norm = if norm < 1e-12 { 1e-12 } else { norm };
        vectors!(L, dim, |at, left, FULL| {
            let v = load_some::<L, FULL>(row.as_ptr().add(at), left, 0.0);
            store_some::<L, FULL>(row.as_mut_ptr().add(at), left, L::div(v, L::splat(norm)));
        });
    }
}
