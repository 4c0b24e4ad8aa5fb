//! Matrix product with bf16 inputs and f32 sums, on processors with AVX-512 BF16.
//!
//! Both sides are f32 in memory and are rounded to bf16 (nearest, ties to even) while they are packed; products are summed
//! in f32. One instruction multiplies 16 pairs and adds them to 16 sums, twice the work of an f32 multiply-add, so a
//! product of the sizes of a training step runs at 1.5 to 2 times the f32 speed. Each factor carries a relative error of
//! at most 2^-9.
//!
//! Packing pairs neighbours along the inner axis: `b` in panels of [`NR`] columns (`[pair][column]`), `a` as it lies:
//! `[row][pair]` where rows are contiguous in memory, `[pair][row]` where columns are. The inner kernel keeps a tile of
//! [`MR`] x [`NR`] sums in 24 registers. Blocks: [`KB`] of the inner axis by [`NC`] columns of `b` are packed at once (L2),
//! then [`MC`] rows of `a`, walked in steps of [`KC`] so that one panel of `b` stays in L1.

use std::arch::x86_64::{
    __m256bh, __m256i, __m512bh, __m512i, __mmask16, _mm512_add_ps, _mm512_cvtepu16_epi32,
    _mm512_cvtneps_pbh, _mm512_dpbf16_ps, _mm512_i32scatter_epi32, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_mullo_epi32, _mm512_or_si512, _mm512_set_epi32,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_slli_epi32, _mm512_storeu_ps,
    _mm512_storeu_si512,
};
use std::cell::RefCell;
use std::mem::transmute;

const MR: usize = 6;
const NR: usize = 64;
const MC: usize = 96;
const NC: usize = 1024;
const KB: usize = 1024;
const KC: usize = 256;

/// Whether this processor has the instructions.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512bf16")
}

/// A strided f32 matrix whose smaller stride is 1.
#[derive(Clone, Copy)]
pub(super) struct View {
    pub(super) data: *const f32,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

thread_local! {
    static PACKED: RefCell<(Vec<u32>, Vec<u32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// `out (+)= alpha * a * b` for `a [m, k]`, `b [k, n]`, `out [m, n]` with rows `stride` apart.
///
/// # Safety
/// [`available`] is true; every element of the three matrices lies in live memory, `out` is writable and overlaps neither
/// input; one stride of each input is 1.
#[allow(clippy::too_many_arguments, reason = "three strided matrices and their sizes")]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn gemm(
    (m, n, k): (usize, usize, usize),
    out: *mut f32,
    stride: usize,
    accumulate: bool,
    a: View,
    b: View,
    alpha: f32,
) {
    PACKED.with_borrow_mut(|(packed_a, packed_b)| {
        let pairs_most = KB.min(k).div_ceil(2);
        packed_b.resize(packed_b.len().max(pairs_most * NC.min(n).next_multiple_of(NR)), 0);
        packed_a.resize(packed_a.len().max(pairs_most.next_multiple_of(16) * MC), 0);
        for column in (0..n).step_by(NC) {
            let columns = NC.min(n - column);
            for depth in (0..k).step_by(KB) {
                let depths = KB.min(k - depth);
                let pairs = depths.div_ceil(2);
                // SAFETY: the block lies inside b, and the buffer holds every panel of it.
                unsafe { pack_b(b, (depth, depths), (column, columns), packed_b.as_mut_ptr()) };
                for row in (0..m).step_by(MC) {
                    let rows = MC.min(m - row);
                    // SAFETY: the block lies inside a, and the buffer holds MC rows of KB values.
                    let (a_row, a_pair) =
                        unsafe { pack_a(a, (row, rows), (depth, depths), packed_a.as_mut_ptr()) };
                    for first in (0..pairs).step_by(KC / 2) {
                        let n_pairs = (KC / 2).min(pairs - first);
                        let add = accumulate || depth + first > 0;
                        for panel in (0..columns).step_by(NR) {
                            for tile in (0..rows).step_by(MR) {
                                let extent = (MR.min(rows - tile), NR.min(columns - panel));
                                // SAFETY: offsets stay inside the packed blocks (rows are padded to whole tiles and
                                // columns to whole panels), and the tile's `extent` inside `out`.
                                unsafe {
                                    tile_product(
                                        n_pairs,
                                        packed_a.as_ptr().add(tile * a_row + first * a_pair),
                                        (a_row, a_pair),
                                        packed_b.as_ptr().add(panel * pairs + first * NR),
                                        out.add((row + tile) * stride + column + panel),
                                        stride,
                                        extent,
                                        alpha,
                                        add,
                                    );
                                }
                            }
                        }
                    }
                }
            }
        }
    });
}

/// One tile of sums over `n_pairs`, added to or stored in `out`, of which only `extent` is written.
///
/// # Safety
/// `a` holds MR rows and `b` one panel of `n_pairs` pairs; `out` is writable over `extent`.
#[allow(clippy::too_many_arguments, reason = "three strided matrices and their sizes")]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn tile_product(
    n_pairs: usize,
    a: *const u32,
    (a_row, a_pair): (usize, usize),
    b: *const u32,
    out: *mut f32,
    stride: usize,
    extent: (usize, usize),
    alpha: f32,
    accumulate: bool,
) {
    // SAFETY: reads stay inside MR rows and one panel as promised; a full tile writes MR x NR values of `out`, a partial
    // one goes through a local tile and copies `extent`. The transmutes reinterpret 512 bits as 32 bf16 values.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); NR / 16]; MR];
        for pair in 0..n_pairs {
            let b = b.add(pair * NR);
            let columns: [__m512i; NR / 16] =
                std::array::from_fn(|j| _mm512_loadu_si512(b.add(j * 16).cast()));
            let a = a.add(pair * a_pair);
            for (i, sums) in sums.iter_mut().enumerate() {
                let left = _mm512_set1_epi32((*a.add(i * a_row)).cast_signed());
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = _mm512_dpbf16_ps(
                        *sum,
                        transmute::<__m512i, __m512bh>(left),
                        transmute::<__m512i, __m512bh>(column),
                    );
                }
            }
        }
        let alpha = _mm512_set1_ps(alpha);
        if extent == (MR, NR) {
            for (i, sums) in sums.iter().enumerate() {
                for (j, sum) in sums.iter().enumerate() {
                    let at = out.add(i * stride + j * 16);
                    let value = _mm512_mul_ps(*sum, alpha);
                    _mm512_storeu_ps(
                        at,
                        if accumulate { _mm512_add_ps(value, _mm512_loadu_ps(at)) } else { value },
                    );
                }
            }
            return;
        }
        let mut tile = [[0f32; NR]; MR];
        for (row, sums) in tile.iter_mut().zip(&sums) {
            for (part, sum) in row.chunks_exact_mut(16).zip(sums) {
                _mm512_storeu_ps(part.as_mut_ptr(), _mm512_mul_ps(*sum, alpha));
            }
        }
        for (i, row) in tile.iter().enumerate().take(extent.0) {
            for (j, value) in row.iter().enumerate().take(extent.1) {
                let at = out.add(i * stride + j);
                *at = if accumulate { *at + value } else { *value };
            }
        }
    }
}

/// Packs `a[rows, depths]`; returns the strides, in pairs, of a row and of a pair in the packed block.
///
/// # Safety
/// The block lies inside `a`; `packed` holds MC x KB values.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pack_a(
    a: View,
    (row, rows): (usize, usize),
    (depth, depths): (usize, usize),
    packed: *mut u32,
) -> (usize, usize) {
    // SAFETY: offsets stay inside the block of `a` and inside `packed` as promised.
    unsafe {
        let source = a.data.add(row * a.row_stride + depth * a.column_stride);
        if a.column_stride == 1 {
            let width = depths.div_ceil(32) * 16;
            for i in 0..rows {
                pair_along(source.add(i * a.row_stride), depths, |j, pairs| {
                    _mm512_storeu_si512(packed.add(i * width + j).cast(), pairs);
                });
            }
            (width, 1)
        } else {
            // Rows are contiguous: a pair takes two of the memory's rows.
            pair_across(source, a.column_stride, depths, rows, packed, MC);
            (1, MC)
        }
    }
}

/// Packs `b[depths, columns]` in panels of NR columns.
///
/// # Safety
/// The block lies inside `b`; `packed` holds the columns rounded up to whole panels times the pairs of `depths`.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pack_b(
    b: View,
    (depth, depths): (usize, usize),
    (column, columns): (usize, usize),
    packed: *mut u32,
) {
    let n_pairs = depths.div_ceil(2);
    // SAFETY: offsets stay inside the block of `b` and inside `packed` as promised; the scatter is cut at `n_pairs`.
    unsafe {
        let source = b.data.add(depth * b.row_stride + column * b.column_stride);
        let lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        let places = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(NR as i32));
        for panel in (0..columns).step_by(NR) {
            let width = NR.min(columns - panel);
            let packed = packed.add(panel * n_pairs);
            if b.column_stride == 1 {
                pair_across(source.add(panel), b.row_stride, depths, width, packed, NR);
                continue;
            }
            for j in 0..width {
                pair_along(source.add((panel + j) * b.column_stride), depths, |first, pairs| {
                    let at = packed.add(first * NR + j);
                    if first + 16 <= n_pairs {
                        _mm512_i32scatter_epi32::<4>(at.cast(), places, pairs);
                    } else {
                        let pairs: [u32; 16] = transmute(pairs);
                        for (i, pair) in pairs.iter().enumerate().take(n_pairs - first) {
                            *at.add(i * NR) = *pair;
                        }
                    }
                });
            }
            for j in width..NR {
                for pair in 0..n_pairs {
                    *packed.add(pair * NR + j) = 0;
                }
            }
        }
    }
}

/// Rounds 16 values to bf16, each in the low half of 32 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn rounded(values: std::arch::x86_64::__m512) -> __m512i {
    // SAFETY: both types are 256 bits of plain data.
    _mm512_cvtepu16_epi32(unsafe { transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(values)) })
}

/// The lanes below `n`, all from 16 on.
#[inline(always)]
fn lanes_below(n: usize) -> __mmask16 {
    if n >= 16 { u16::MAX } else { (1u16 << n) - 1 }
}

/// Pairs neighbours of one contiguous row of `n` values; gives each 16 pairs with the index of the first, zeros beyond n.
///
/// # Safety
/// `row` holds n values.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pair_along(row: *const f32, n: usize, mut store: impl FnMut(usize, __m512i)) {
    // Even and odd neighbours already lie in the right order: 16 pairs are 32 values rounded and laid side by side.
    for start in (0..n).step_by(32) {
        let left = n - start;
        // SAFETY: masked loads touch only lanes below n; the transmute lays two halves of 256 bits side by side.
        let pairs = unsafe {
            let low = _mm512_maskz_loadu_ps(lanes_below(left), row.add(start));
            let high =
                _mm512_maskz_loadu_ps(lanes_below(left.saturating_sub(16)), row.wrapping_add(start + 16));
            transmute::<[std::arch::x86_64::__m256bh; 2], __m512i>([
                _mm512_cvtneps_pbh(low),
                _mm512_cvtneps_pbh(high),
            ])
        };
        store(start / 2, pairs);
    }
}

/// Pairs two memory rows at a time: `packed[pair * width + j]` holds values `(2 pair, j)` and `(2 pair + 1, j)`, with zeros
/// up to the next multiple of 16 in j and beyond an odd end.
///
/// # Safety
/// `source` holds `n_rows` rows of `n` values, `stride` apart; `packed` holds `width >= n.next_multiple_of(16)` values for
/// each pair.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pair_across(
    source: *const f32,
    stride: usize,
    n_rows: usize,
    n: usize,
    packed: *mut u32,
    width: usize,
) {
    // SAFETY: masked loads touch only columns below n and rows below n_rows; stores stay below `width`, a multiple of 16.
    unsafe {
        for pair in 0..n_rows.div_ceil(2) {
            let first = source.add(2 * pair * stride);
            let second = if 2 * pair + 1 < n_rows { Some(first.add(stride)) } else { None };
            for j in (0..width).step_by(16) {
                let mask = lanes_below(n.saturating_sub(j));
                let low = rounded(_mm512_maskz_loadu_ps(mask, first.wrapping_add(j)));
                let both = match second {
                    Some(second) => {
                        let high = rounded(_mm512_maskz_loadu_ps(mask, second.wrapping_add(j)));
                        _mm512_or_si512(low, _mm512_slli_epi32::<16>(high))
                    }
                    None => low,
                };
                _mm512_storeu_si512(packed.add(pair * width + j).cast(), both);
            }
        }
    }
}
