#![expect(unsafe_op_in_unsafe_fn, reason = "see the module docs of `wide`")]
//! Row kernels: quantise, layer norm, GELU, GeGLU, rotary positions, L2. Row ends that fill no vector go through a small padded copy.
//!
//! What stands between two products is one kernel, [`rows`]: norm or activation, and quantising.

use super::{Lanes, SUM_LANES, math, reduce};
use crate::RowSource;
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

/// Runs the body for all of `$m` rows, several at a time where a row of wide vectors alone is too short a chain of additions to keep the units busy:
/// `ROWS * 16 / N` vectors of partial sums are four.
macro_rules! together {
    ($l:ty, $m:expr, |$i:ident, $rows:ident| $body:expr) => {{
        let m = $m;
        let mut $i = 0;
        if <$l>::N >= 16 {
            const $rows: usize = 4;
            while $i + 4 <= m {
                $body;
                $i += 4;
            }
        }
        if <$l>::N >= 8 {
            const $rows: usize = 2;
            while $i + 2 <= m {
                $body;
                $i += 2;
            }
        }
        {
            const $rows: usize = 1;
            while $i < m {
                $body;
                $i += 1;
            }
        }
    }};
}

/// `Σ term(x)` over each of `ROWS` rows of `width` numbers from `x` on, in 16 partial sums a row. Padding adds 0.
#[inline(always)]
unsafe fn row_sums<L: Lanes, const ROWS: usize>(
    x: *const f32,
    width: usize,
    term: Term,
    shift: [f32; ROWS],
) -> [f32; ROWS] {
    let mut parts = [[L::splat(0.0); 4]; ROWS];
    let full = width / SUM_LANES * SUM_LANES;
    for at in (0..full).step_by(SUM_LANES) {
        for r in 0..ROWS {
            add_block::<L>(&mut parts[r], x.add(r * width + at), term, shift[r]);
        }
    }
    let mut sums = [0.0; ROWS];
    for r in 0..ROWS {
        if full < width {
            let fill = match term {
                Term::Value => 0.0,
                Term::Square => shift[r],
            };
            let mut t = [fill; SUM_LANES];
            core::ptr::copy_nonoverlapping(x.add(r * width + full), t.as_mut_ptr(), width - full);
            add_block::<L>(&mut parts[r], t.as_ptr(), term, shift[r]);
        }
        sums[r] = reduce::<L>(parts[r]);
    }
    sums
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

/// Row `i`: its values, vector by vector, to `$store` or scratch, and to `$acts`. A macro, since a closure would be compiled without the instructions of
/// `$l` and call each of them as a function.
macro_rules! finish_row {
    ($l:ty, $width:expr, $i:expr, $store:expr, $acts:expr, |$at:ident, $left:ident, $full:ident| $value:expr) => {{
        let (width, i): (usize, usize) = ($width, $i);
        let to = match ($store, &mut $acts) {
            (Some(store), _) => store.add(i * width),
            (None, Some(acts)) => acts.row.as_mut_ptr(),
            (None, None) => return,
        };
        let mut largest = nothing::<$l>();
        vectors!($l, width, |$at, $left, $full| {
            let v = $value;
            largest = <$l>::max_i(largest, <$l>::magnitude(v));
            store_some::<$l, $full>(to.add($at), $left, v);
        });
        if let Some(acts) = &mut $acts {
            quantize_row::<$l>(to, largest, i, acts);
        }
    }};
}

/// All sources of [`crate::RowSource`]: values are made row by row, kept in `store` or in a row of scratch, and quantised while they are in the
/// first-level cache. Their largest magnitude is found on the way as bits: ordered like the numbers, and a NaN, which a maximum of numbers would
/// drop, above all.
#[inline(always)]
pub(crate) unsafe fn rows<L: Lanes>(
    source: RowSource<'_>,
    width: usize,
    store: Option<&mut [f32]>,
    acts: Option<&mut Activations>,
) {
    let store = store.map(|store| store.as_mut_ptr());
    match (source, store, acts) {
        (RowSource::Plain(x), store, acts) => {
            if let Some(store) = store {
                core::ptr::copy_nonoverlapping(x.as_ptr(), store, x.len());
            }
            let Some(acts) = acts else { return };
            for i in 0..x.len() / width {
                let row = x.as_ptr().add(i * width);
                let mut largest = nothing::<L>();
                vectors!(L, width, |at, left, FULL| {
                    let v = load_some::<L, FULL>(row.add(at), left, 0.0);
                    largest = L::max_i(largest, L::magnitude(v));
                });
                quantize_row::<L>(row, largest, i, acts);
            }
        }
        (RowSource::Norm { x, weight, bias, eps }, store, acts) => {
            let (mut acts, m) = (acts, x.len() / width);
            together!(L, m, |i, ROWS| {
                let x = x.as_ptr().add(i * width);
                let mean = row_sums::<L, ROWS>(x, width, Term::Value, [0.0; ROWS]).map(|s| s / width as f32);
                let squares = row_sums::<L, ROWS>(x, width, Term::Square, mean);
                let inverse = squares.map(|s| 1.0 / (s / width as f32 + eps).sqrt());
                for r in 0..ROWS {
                    let row = x.add(r * width);
                    finish_row!(L, width, i + r, store, acts, |at, left, FULL| {
                        let x = L::sub(load_some::<L, FULL>(row.add(at), left, 0.0), L::splat(mean[r]));
                        let weight = load_some::<L, FULL>(weight.as_ptr().add(at), left, 0.0);
                        let y = L::mul(L::mul(x, L::splat(inverse[r])), weight);
                        match bias {
                            Some(bias) => L::add(y, load_some::<L, FULL>(bias.as_ptr().add(at), left, 0.0)),
                            None => y,
                        }
                    });
                }
            });
        }
        (RowSource::GeGlu(x), store, mut acts) => {
            for (i, row) in x.chunks_exact(2 * width).enumerate() {
                let row = row.as_ptr();
                finish_row!(L, width, i, store, acts, |at, left, FULL| {
                    let value = load_some::<L, FULL>(row.add(at), left, 0.0);
                    L::mul(math::gelu::<L>(value), load_some::<L, FULL>(row.add(width + at), left, 0.0))
                });
            }
        }
        (RowSource::Gelu(x), store, mut acts) => {
            for (i, row) in x.chunks_exact(width).enumerate() {
                let row = row.as_ptr();
                finish_row!(L, width, i, store, acts, |at, left, FULL| {
                    math::gelu::<L>(load_some::<L, FULL>(row.add(at), left, 0.0))
                });
            }
        }
    }
}

/// The bits of 0.
#[inline(always)]
unsafe fn nothing<L: Lanes>() -> L::I {
    L::load_i([0; SUM_LANES].as_ptr())
}

/// Row `i` of `acts` from its values and the bits of their largest magnitude.
#[inline(always)]
unsafe fn quantize_row<L: Lanes>(row: *const f32, largest: L::I, i: usize, out: &mut Activations) {
    let (k, k_padded) = (out.k, out.k_padded);
    let largest = f32::from_bits(L::top_i(largest).cast_unsigned());
    let finite = largest < f32::INFINITY;
    let usable = finite && largest >= SMALLEST_MAX;
    let inverse = if usable { 127.0 / largest } else { 0.0 };
    *out.scale.get_unchecked_mut(i) = match (finite, usable) {
        (false, _) => f32::NAN,
        (true, true) => largest / 127.0,
        (true, false) => 0.0,
    };
    let acts = L::acts_mut(out).add(i * k_padded);
    if !finite {
        // The integers do not matter, but converting must not see a NaN.
        core::slice::from_raw_parts_mut(acts, k).fill(L::Act::default());
        return;
    }
    vectors!(L, k, |at, left, FULL| {
        let v = L::mul(load_some::<L, FULL>(row.add(at), left, 0.0), L::splat(inverse));
        if FULL {
            L::store_act(acts.add(at), v);
        } else {
            let mut t = [L::Act::default(); SUM_LANES];
            L::store_act(t.as_mut_ptr(), v);
            core::ptr::copy_nonoverlapping(t.as_ptr(), acts.add(at), left);
        }
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
        let [square] = row_sums::<L, 1>(row.as_ptr(), dim, Term::Square, [0.0]);
        let norm = square.sqrt();
        // Written so that a NaN norm stays NaN.
        let norm = if norm < 1e-12 { 1e-12 } else { norm };
        vectors!(L, dim, |at, left, FULL| {
            let v = load_some::<L, FULL>(row.as_ptr().add(at), left, 0.0);
            store_some::<L, FULL>(row.as_mut_ptr().add(at), left, L::div(v, L::splat(norm)));
        });
    }
}
