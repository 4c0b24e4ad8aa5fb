#![expect(unsafe_op_in_unsafe_fn, reason = "see the module docs of `wide`")]
//! The last steps of wider vectors, on 128 bits, which every x86-64 has up to SSE4.1.

use core::arch::x86_64::*;

/// `(a[0] + a[2]) + (a[1] + a[3])`
#[inline(always)]
pub(super) unsafe fn sum(a: __m128) -> f32 {
    let pairs = _mm_add_ps(a, _mm_movehl_ps(a, a));
    _mm_cvtss_f32(_mm_add_ss(pairs, _mm_shuffle_ps::<1>(pairs, pairs)))
}

/// The largest lane.
#[inline(always)]
pub(super) unsafe fn top(a: __m128) -> f32 {
    let pairs = _mm_max_ps(a, _mm_movehl_ps(a, a));
    _mm_cvtss_f32(_mm_max_ss(pairs, _mm_shuffle_ps::<1>(pairs, pairs)))
}

/// The largest lane.
#[inline(always)]
pub(super) unsafe fn top_i(a: __m128i) -> i32 {
    let pairs = _mm_max_epi32(a, _mm_shuffle_epi32::<0b1110>(a));
    _mm_cvtsi128_si32(_mm_max_epi32(pairs, _mm_shuffle_epi32::<1>(pairs)))
}

/// `to[c * to_stride + r] = from[r * stride + c]` for `r` and `c` below 4.
#[inline(always)]
pub(super) unsafe fn transpose4(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
    let a = _mm_loadu_ps(from);
    let b = _mm_loadu_ps(from.add(stride));
    let c = _mm_loadu_ps(from.add(2 * stride));
    let d = _mm_loadu_ps(from.add(3 * stride));
    let (ab, cd) = (_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d));
    _mm_storeu_ps(to, _mm_movelh_ps(ab, cd));
    _mm_storeu_ps(to.add(to_stride), _mm_movehl_ps(cd, ab));
    let (ab, cd) = (_mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d));
    _mm_storeu_ps(to.add(2 * to_stride), _mm_movelh_ps(ab, cd));
    _mm_storeu_ps(to.add(3 * to_stride), _mm_movehl_ps(cd, ab));
}
