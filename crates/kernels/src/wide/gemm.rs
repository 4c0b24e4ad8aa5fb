#![expect(unsafe_op_in_unsafe_fn, reason = "see the module docs of `wide`")]
//! Products with packed weights: `out[i][j] = epilogue(Σ_k a[i][k] w[j][k])`.
//!
//! A tile of up to 8 rows by 2 panels stays in registers while `k` runs: per step one load of `group` weights of each panel, one broadcast of
//! `group` activations of each row, and one integer dot per pair. Sums are `i32`: exact up to `MAX_K`. Where pairs of `i16` are multiplied and
//! there are many rows, two panels are widened into a buffer on the stack first (2-5 % faster in WebAssembly than widening on each load;
//! panels of whole `i16` weights in memory were no faster still and double the bytes).

use super::Lanes;
use crate::Epilogue;
use crate::int4::{GROUP, MAX_K_I4, PackedI4};
use crate::pack::{Activations, F32_PANEL, Layout, PackedF32, PackedI8};
use core::mem::MaybeUninit;

/// Longest `k` whose two widened panels go on the stack: 96 KiB for vectors of 8.
const WIDE_K: usize = 3072;
/// Widest vector of a backend that widens, times two panels.
const WIDE_COLUMNS: usize = 16;
/// Most values of one step: 16 lanes of 4.
const MAX_STEP: usize = 64;
/// Steps between two requests for memory. The steps themselves stay a loop: where the compiler to WebAssembly may unroll them it computes one sum after the other,
/// which waits for each and keeps more in registers than there are (a third slower).
const TURN: usize = 16;
/// Rows whose tiles ask for the next panels; by then the last has arrived.
const AHEAD_ROWS: usize = 32;
/// Fewer rows than this do not repay widening.
const WIDE_ROWS: usize = 8;
/// Rows of the tile that widens: as many as the registers of every backend that widens hold.
const FIRST_ROWS: usize = 4;

/// Runs `$tile::<L, ROWS, ..>` over all rows, largest tiles first.
macro_rules! by_rows {
    ($l:ty, $range:expr, |$i:ident, $rows:ident| $body:expr) => {{
        let core::ops::Range { start: mut $i, end: m } = $range;
        if <$l>::ROWS >= 8 {
            const $rows: usize = 8;
            while $i + 8 <= m {
                $body;
                $i += 8;
            }
        }
        {
            const $rows: usize = 4;
            while $i + 4 <= m {
                $body;
                $i += 4;
            }
        }
        {
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
pub(super) use by_rows;

/// Weights of a tile: `i8`.
pub(super) const NARROW: u8 = 0;
/// `i8`, which the tile leaves as `i16` for those after it.
const WIDENING: u8 = 1;
/// `i16`.
const WIDE: u8 = 2;

/// Integer sums of `ROWS` rows of activations (`stride` apart) with `PANELS` panels, `panel_stride` weights apart, started from `start`.
/// `WEIGHTS`: what the panels hold; `wide`, of the same strides, is written to if that is [`WIDENING`].
#[inline(always)]
pub(super) unsafe fn dot_tile<L: Lanes, const ROWS: usize, const PANELS: usize, const WEIGHTS: u8>(
    acts: *const L::Act,
    stride: usize,
    (panels, mut wide): (*const u8, *mut i16),
    panel_stride: usize,
    groups: usize,
    start: *const i32,
    ahead: Option<Ahead>,
) -> [[L::I; PANELS]; ROWS] {
    let group = L::LAYOUT.group;
    let mut acc = [[L::load_i(start); PANELS]; ROWS];
    for v in 1..PANELS {
        let from = L::load_i(start.add(v * L::N));
        for row in &mut acc {
            row[v] = from;
        }
    }
    let bytes = if WEIGHTS == WIDE { 2 } else { 1 };
    let step = L::N * group;
    let (mut weights, mut row) = (panels, acts);
    let mut done = 0;
    while done < groups {
        if let Some(ahead) = &ahead {
            L::touch(ahead.from.add(done * ahead.step));
        }
        let turn = (groups - done).min(TURN);
        for _ in 0..turn {
            let mut w = [weights_at::<L, WEIGHTS>(weights); PANELS];
            for (v, w) in w.iter_mut().enumerate().skip(1) {
                *w = weights_at::<L, WEIGHTS>(weights.add(v * panel_stride * bytes));
            }
            if WEIGHTS == WIDENING {
                for (v, w) in w.iter().enumerate() {
                    L::store_wide(wide.add(v * panel_stride), *w);
                }
                wide = wide.wrapping_add(step);
            }
            for r in 0..ROWS {
                let b = L::broadcast(row.add(r * stride));
                for v in 0..PANELS {
                    acc[r][v] = L::dot(acc[r][v], b, w[v]);
                }
            }
            // Past the end after the last step.
            (weights, row) = (weights.wrapping_add(step * bytes), row.wrapping_add(group));
        }
        done += turn;
    }
    acc
}

/// Weights of `i8` or `i16` at `p`.
#[inline(always)]
unsafe fn weights_at<L: Lanes, const WEIGHTS: u8>(p: *const u8) -> L::W {
    if WEIGHTS == WIDE { L::load_wide(p.cast()) } else { L::weights(p.cast()) }
}

/// Runs `n_steps` times as many integer dots as a tile's registers hold, operands in registers or the first-level cache; returns the number of
/// multiply-adds. The largest tile that fits 16 registers (32 for the widest vectors) hides the instruction's latency.
#[cfg(feature = "yardstick")]
#[inline(always)]
pub(crate) unsafe fn peak_i8<L: Lanes>(n_steps: usize) -> u64 {
    if L::ROWS == 8 { peak_tile::<L, 8>(n_steps) } else { peak_tile::<L, 4>(n_steps) }
}

#[cfg(feature = "yardstick")]
#[inline(always)]
unsafe fn peak_tile<L: Lanes, const ROWS: usize>(n_steps: usize) -> u64 {
    let acts = core::hint::black_box([L::Act::default(); 8 * 4 * 16]);
    let weights = core::hint::black_box([1_i8; 256]);
    let w = [L::weights(weights.as_ptr()), L::weights(weights.as_ptr().add(64))];
    let mut acc = [[L::load_i([0_i32; 16].as_ptr()); 2]; ROWS];
    for step in 0..n_steps {
        // Other activations each time, or the products would be computed once and only added.
        let from = acts.as_ptr().add(step % 16 * 4);
        for r in 0..ROWS {
            let b = L::broadcast(from.add(r * 64));
            for v in 0..2 {
                acc[r][v] = L::dot(acc[r][v], b, w[v]);
            }
        }
    }
    let mut out = [0.0_f32; 16];
    for row in acc {
        for sum in row {
            L::store(out.as_mut_ptr(), L::add(L::load(out.as_ptr()), L::to_f(sum)));
        }
    }
    core::hint::black_box(out);
    (n_steps * ROWS * 2 * L::N * L::LAYOUT.group) as u64
}

#[inline(always)]
pub(crate) unsafe fn gemm_i8<L: Lanes>(
    a: &Activations,
    w: &PackedI8,
    epilogue: Epilogue<'_>,
    out: &mut [f32],
) {
    let panels = w.scale.len() / L::N;
    let mut panel = 0;
    while panel + 2 <= panels {
        panel_pair::<L, 2>(a, w, epilogue, out, panel);
        panel += 2;
    }
    if panel < panels {
        panel_pair::<L, 1>(a, w, epilogue, out, panel);
    }
}

/// What a tile asks for while it computes: `step` bytes from `from` on for each step, by one byte a turn.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    from: *const u8,
    step: usize,
}

/// The `bytes` of the panels that come next. Products of a query's few rows are over before their weights have come from memory, unless these are
/// asked for while the panels before them are in use; in the loop over `k`, because a burst of requests would stand in the way of its loads.
struct Next {
    from: *const u8,
    bytes: usize,
    m: usize,
}

impl Next {
    /// The share of the tile of rows `i..i + rows`, spread over `groups` steps.
    #[inline(always)]
    unsafe fn share(&self, i: usize, rows: usize, groups: usize) -> Ahead {
        let m = self.m.min(AHEAD_ROWS);
        if i + rows > m {
            return Ahead { from: self.from, step: 0 };
        }
        let (at, end) = (self.bytes * i / m, self.bytes * (i + rows) / m);
        Ahead { from: self.from.add(at), step: (end - at) / groups }
    }
}

/// All rows against `PANELS` panels from `panel` on.
#[inline(always)]
unsafe fn panel_pair<L: Lanes, const PANELS: usize>(
    a: &Activations,
    w: &PackedI8,
    epilogue: Epilogue<'_>,
    out: &mut [f32],
    panel: usize,
) {
    let groups = w.k_padded / L::LAYOUT.group;
    let panel_stride = L::N * w.k_padded;
    let data = w.data.as_ptr().add(panel * panel_stride);
    let start = w.start.as_ptr().add(panel * L::N);
    let acts = L::acts(a);
    let bytes = (w.data.len() - (panel + PANELS) * panel_stride).min(PANELS * panel_stride);
    let from = if bytes == 0 { data } else { data.add(PANELS * panel_stride) };
    let next = Next { from: from.cast(), bytes, m: a.m };
    let tile = |i: usize, rows: usize| (acts.add(i * a.k_padded), Some(next.share(i, rows, groups)));
    if L::WIDEN && a.m >= WIDE_ROWS && w.k_padded <= WIDE_K {
        let mut wide = [MaybeUninit::<i16>::uninit(); WIDE_COLUMNS * WIDE_K];
        let wide = wide.as_mut_ptr().cast::<i16>();
        let scale = (&w.scale[..], w.n);
        let (rows, ahead) = tile(0, FIRST_ROWS);
        let panels = (data.cast(), wide);
        let acc = dot_tile::<L, FIRST_ROWS, PANELS, WIDENING>(
            rows,
            a.k_padded,
            panels,
            panel_stride,
            groups,
            start,
            ahead,
        );
        finish::<L, FIRST_ROWS, PANELS>(acc, a, scale, epilogue, out, 0, panel);
        by_rows!(L, FIRST_ROWS..a.m, |i, ROWS| {
            let (rows, ahead) = tile(i, ROWS);
            let panels = (wide.cast_const().cast(), wide);
            let acc = dot_tile::<L, ROWS, PANELS, WIDE>(
                rows,
                a.k_padded,
                panels,
                panel_stride,
                groups,
                start,
                ahead,
            );
            finish::<L, ROWS, PANELS>(acc, a, scale, epilogue, out, i, panel);
        });
    } else {
        by_rows!(L, 0..a.m, |i, ROWS| {
            let (rows, ahead) = tile(i, ROWS);
            let panels = (data.cast(), core::ptr::null_mut());
            let acc = dot_tile::<L, ROWS, PANELS, NARROW>(
                rows,
                a.k_padded,
                panels,
                panel_stride,
                groups,
                start,
                ahead,
            );
            finish::<L, ROWS, PANELS>(acc, a, (&w.scale, w.n), epilogue, out, i, panel);
        });
    }
}

/// Two unpacked panels of 4-bit weights: 128 KiB for the widest vectors, of which a product uses `2 * N * k` elements.
#[repr(align(64))]
struct Unpacked([MaybeUninit<u8>; 2 * 16 * MAX_K_I4]);

#[inline(always)]
pub(crate) unsafe fn gemm_i4<L: Lanes>(
    a: &Activations,
    w: &PackedI4,
    epilogue: Epilogue<'_>,
    out: &mut [f32],
) {
    let mut unpacked = Unpacked([MaybeUninit::uninit(); 2 * 16 * MAX_K_I4]);
    let to = unpacked.0.as_mut_ptr().cast::<u8>();
    let panels = w.scale.len() / L::N;
    let mut panel = 0;
    while panel + 2 <= panels {
        panel_pair_i4::<L, 2>(a, w, epilogue, out, panel, to);
        panel += 2;
    }
    if panel < panels {
        panel_pair_i4::<L, 1>(a, w, epilogue, out, panel, to);
    }
}

/// All rows against `PANELS` panels of 4-bit weights from `panel` on, unpacked to `unpacked` first.
#[inline(always)]
unsafe fn panel_pair_i4<L: Lanes, const PANELS: usize>(
    a: &Activations,
    w: &PackedI4,
    epilogue: Epilogue<'_>,
    out: &mut [f32],
    panel: usize,
    unpacked: *mut u8,
) {
    let panel_stride = 2 * w.panel_bytes();
    let bytes = if L::WIDEN { 2 } else { 1 };
    for v in 0..PANELS {
        unpack::<L>(w, panel + v, unpacked.add(v * panel_stride * bytes));
    }
    let start = w.start.as_ptr().add(panel * L::N);
    let steps = w.k_padded / L::LAYOUT.group;
    let packed = w.data.len() / (w.scale.len() / L::N);
    let bytes = (w.data.len() - (panel + PANELS) * packed).min(PANELS * packed);
    let at = if bytes == 0 { panel } else { panel + PANELS };
    let next = Next { from: w.data.as_ptr().add(at * packed), bytes, m: a.m };
    by_rows!(L, 0..a.m, |i, ROWS| {
        let ahead = Some(next.share(i, ROWS, steps));
        let rows = L::acts(a).add(i * a.k_padded);
        let panels = (unpacked.cast_const(), core::ptr::null_mut());
        let acc = if L::WIDEN {
            dot_tile::<L, ROWS, PANELS, WIDE>(rows, a.k_padded, panels, panel_stride, steps, start, ahead)
        } else {
            dot_tile::<L, ROWS, PANELS, NARROW>(rows, a.k_padded, panels, panel_stride, steps, start, ahead)
        };
        finish::<L, ROWS, PANELS>(acc, a, (&w.scale, w.n), epilogue, out, i, panel);
    });
}

/// `(nibble - 8) * group_scale` of one panel, as `i16` or `i8`.
#[inline(always)]
unsafe fn unpack<L: Lanes>(w: &PackedI4, panel: usize, to: *mut u8) {
    let groups = w.k.div_ceil(GROUP);
    // Two values a byte, written as words or bytes.
    let read = L::N * GROUP / 2;
    let written = if L::WIDEN { 4 * read } else { 2 * read };
    for g in 0..groups {
        let at = panel * groups + g;
        L::unpack_group(
            w.data.as_ptr().add(at * read),
            w.group_scale.as_ptr().add(at * L::N),
            to.add(g * written),
        );
    }
}

/// One group of a panel. Plain loops over arrays of one step of `lanes * group` values, which the compiler turns into vectors: through the pointers
/// it would have to fear that they overlap.
#[inline(always)]
pub(super) unsafe fn unpack_group<L: Lanes>(data: *const u8, scales: *const u8, to: *mut u8) {
    let Layout { lanes, group, .. } = L::LAYOUT;
    let step = lanes * group;
    let mut factor = [0_u8; MAX_STEP];
    for i in 0..step {
        factor[i] = *scales.add(i / group);
    }
    for pair in 0..GROUP / group / 2 {
        let mut bytes = [0_u8; MAX_STEP];
        core::ptr::copy_nonoverlapping(data.add(pair * step), bytes.as_mut_ptr(), step);
        for half in 0..2 {
            let at = (2 * pair + half) * step;
            if L::WIDEN {
                let values = unpack_words(&bytes, 4 * half, &factor, step);
                core::ptr::copy_nonoverlapping(values.as_ptr(), to.cast::<i16>().add(at), step);
            } else {
                let values = unpack_bytes(&bytes, 4 * half, &factor, step);
                core::ptr::copy_nonoverlapping(values.as_ptr(), to.add(at), step);
            }
        }
    }
}

/// The first `step` values of one half of the bytes.
#[inline(always)]
fn unpack_words(
    bytes: &[u8; MAX_STEP],
    shift: usize,
    factor: &[u8; MAX_STEP],
    step: usize,
) -> [i16; MAX_STEP] {
    let mut out = [0; MAX_STEP];
    for i in 0..step {
        out[i] = (i16::from(bytes[i] >> shift & 15) - 8) * i16::from(factor[i]);
    }
    out
}

/// The same as the bits of `i8`. Two neighbours of one row share a factor and go through one product of 16 bits: `15 * 15` leaves no carry
/// between them. The 8 is taken away afterwards, modulo 256.
#[inline(always)]
fn unpack_bytes(
    bytes: &[u8; MAX_STEP],
    shift: usize,
    factor: &[u8; MAX_STEP],
    step: usize,
) -> [u8; MAX_STEP] {
    let mut products = [0; MAX_STEP];
    for i in 0..step / 2 {
        let pair = u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]) >> shift & 0x0f0f;
        let [low, high] = (pair * u16::from(factor[2 * i])).to_le_bytes();
        products[2 * i] = low;
        products[2 * i + 1] = high;
    }
    let mut out = [0; MAX_STEP];
    for i in 0..step {
        out[i] = products[i].wrapping_sub(factor[i] << 3);
    }
    out
}

/// Scales and epilogue of one tile.
#[inline(always)]
unsafe fn finish<L: Lanes, const ROWS: usize, const PANELS: usize>(
    acc: [[L::I; PANELS]; ROWS],
    a: &Activations,
    (scale, n): (&[f32], usize),
    epilogue: Epilogue<'_>,
    out: &mut [f32],
    i: usize,
    panel: usize,
) {
    for v in 0..PANELS {
        let column = (panel + v) * L::N;
        let w_scale = L::load(scale.as_ptr().add(column));
        for r in 0..ROWS {
            let a_scale = L::splat(*a.scale.get_unchecked(i + r));
            let x = L::mul(L::to_f(acc[r][v]), L::mul(a_scale, w_scale));
            put::<L>(out, (i + r) * n, column, n, x, epilogue);
        }
    }
}

/// Writes a vector to columns `column..` of a row of `n`, with the epilogue, leaving out what lies beyond `n`.
#[inline(always)]
unsafe fn put<L: Lanes>(
    out: &mut [f32],
    row: usize,
    column: usize,
    n: usize,
    mut x: L::F,
    epilogue: Epilogue<'_>,
) {
    // A column beyond `n` is not written, so its address may lie past the end.
    let to = out.as_mut_ptr().wrapping_add(row + column);
    if column + L::N <= n {
        if let Some(bias) = epilogue.bias {
            x = L::add(x, L::load(bias.as_ptr().add(column)));
        }
        if epilogue.add {
            x = L::add(L::load(to), x);
        }
        L::store(to, x);
    } else {
        let mut lanes = [0.0_f32; 16];
        L::store(lanes.as_mut_ptr(), x);
        for (c, &x) in lanes.iter().enumerate().take(n.saturating_sub(column)) {
            let x = if let Some(bias) = epilogue.bias { x + bias[column + c] } else { x };
            let to = to.add(c);
            *to = if epilogue.add { *to + x } else { x };
        }
    }
}

/// f32 sums of `ROWS` rows of `a` (`stride` apart) with `VECTORS` vectors of columns from a vector of a panel of 16 on.
#[inline(always)]
pub(super) unsafe fn sum_tile<L: Lanes, const ROWS: usize, const VECTORS: usize>(
    a: *const f32,
    stride: usize,
    panel: *const f32,
    k: usize,
) -> [[L::F; VECTORS]; ROWS] {
    // A vector as wide as a panel is followed by that of the next panel.
    let next = if L::N < F32_PANEL { L::N } else { F32_PANEL * k };
    let mut acc = [[L::splat(0.0); VECTORS]; ROWS];
    for kk in 0..k {
        let mut w = [L::load(panel.add(kk * F32_PANEL)); VECTORS];
        for (v, w) in w.iter_mut().enumerate().skip(1) {
            *w = L::load(panel.add(kk * F32_PANEL + v * next));
        }
        for r in 0..ROWS {
            let x = L::splat(*a.add(r * stride + kk));
            for v in 0..VECTORS {
                acc[r][v] = L::add(acc[r][v], L::mul(x, w[v]));
            }
        }
    }
    acc
}

#[inline(always)]
pub(crate) unsafe fn gemm_f32<L: Lanes>(a: &[f32], w: &PackedF32, epilogue: Epilogue<'_>, out: &mut [f32]) {
    let mut column = 0;
    while column < w.n {
        let panel = w.data.as_ptr().add(column / F32_PANEL * F32_PANEL * w.k + column % F32_PANEL);
        if L::N < F32_PANEL || column + F32_PANEL < w.n {
            gemm_columns::<L, 2>(a, w, epilogue, out, panel, column);
            column += 2 * L::N;
        } else {
            gemm_columns::<L, 1>(a, w, epilogue, out, panel, column);
            column += L::N;
        }
    }
}

#[inline(always)]
unsafe fn gemm_columns<L: Lanes, const VECTORS: usize>(
    a: &[f32],
    w: &PackedF32,
    epilogue: Epilogue<'_>,
    out: &mut [f32],
    panel: *const f32,
    column: usize,
) {
    by_rows!(L, 0..a.len() / w.k, |i, ROWS| {
        let acc = sum_tile::<L, ROWS, VECTORS>(a.as_ptr().add(i * w.k), w.k, panel, w.k);
        for r in 0..ROWS {
            for v in 0..VECTORS {
                put::<L>(out, (i + r) * w.n, column + v * L::N, w.n, acc[r][v], epilogue);
            }
        }
    });
}
