#![expect(unsafe_op_in_unsafe_fn, reason = "see the module docs of `wide`")]
//! AVX2: pairs of `i16` by `vpmaddwd`. The unsigned-by-signed `vpmaddubsw` would take bytes, but needs a sign fix on each pair and comes
//! out with the same number of instructions per product.

use crate::BackendKind;
use crate::pack::{Activations, Form, Layout};
use crate::wide::{Lanes, backend};
use core::arch::x86_64::*;

pub(crate) enum Vectors {}

/// The halves of 16 residual bytes through a table of 16: 32 values in order.
#[inline(always)]
pub(super) unsafe fn look_up(table: __m128i, bytes: *const u8) -> [__m128i; 2] {
    let b = _mm_loadu_si128(bytes.cast());
    let mask = _mm_set1_epi8(15);
    let low = _mm_shuffle_epi8(table, _mm_and_si128(b, mask));
    let high = _mm_shuffle_epi8(table, _mm_and_si128(_mm_srli_epi16::<4>(b), mask));
    [_mm_unpacklo_epi8(low, high), _mm_unpackhi_epi8(low, high)]
}

/// What does not depend on how integer products are made: types and methods of `Lanes` for every backend of 256 bits.
macro_rules! shared {
    () => {
        const N: usize = 8;
        type F = __m256;
        type I = __m256i;
        type W = __m256i;
        type B = __m256i;
        type Table = __m128i;
        type Bytes = __m128i;

        #[inline(always)]
        unsafe fn splat(x: f32) -> __m256 {
            _mm256_set1_ps(x)
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m256 {
            _mm256_loadu_ps(p)
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, x: __m256) {
            _mm256_storeu_ps(p, x);
        }
        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            _mm256_add_ps(a, b)
        }
        #[inline(always)]
        unsafe fn sub(a: __m256, b: __m256) -> __m256 {
            _mm256_sub_ps(a, b)
        }
        #[inline(always)]
        unsafe fn mul(a: __m256, b: __m256) -> __m256 {
            _mm256_mul_ps(a, b)
        }
        #[inline(always)]
        unsafe fn div(a: __m256, b: __m256) -> __m256 {
            _mm256_div_ps(a, b)
        }
        #[inline(always)]
        unsafe fn magnitude(a: __m256) -> __m256i {
            _mm256_and_si256(_mm256_castps_si256(a), _mm256_set1_epi32(i32::MAX))
        }
        #[inline(always)]
        unsafe fn max(a: __m256, b: __m256) -> __m256 {
            _mm256_max_ps(b, a) // b > a ? b : a
        }
        #[inline(always)]
        unsafe fn min(a: __m256, b: __m256) -> __m256 {
            _mm256_min_ps(b, a)
        }
        #[inline(always)]
        unsafe fn round(a: __m256) -> __m256 {
            _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
        }
        #[inline(always)]
        unsafe fn exp2(a: __m256) -> __m256 {
            let n = _mm256_add_epi32(_mm256_cvtps_epi32(a), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(n))
        }
        #[inline(always)]
        unsafe fn sum(a: __m256) -> f32 {
            $crate::x86::narrow::sum(_mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a)))
        }
        #[inline(always)]
        unsafe fn top(a: __m256) -> f32 {
            $crate::x86::narrow::top(_mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a)))
        }
        #[inline(always)]
        unsafe fn transpose4(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
            $crate::x86::narrow::transpose4(from, stride, to, to_stride);
        }
        #[inline(always)]
        unsafe fn max_i(a: __m256i, b: __m256i) -> __m256i {
            _mm256_max_epi32(a, b)
        }
        #[inline(always)]
        unsafe fn top_i(a: __m256i) -> i32 {
            let halves = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256::<1>(a));
            $crate::x86::narrow::top_i(halves)
        }
        #[inline(always)]
        unsafe fn touch(p: *const u8) {
            _mm_prefetch::<_MM_HINT_T1>(p.cast());
        }
        #[inline(always)]
        unsafe fn load_i(p: *const i32) -> __m256i {
            _mm256_loadu_si256(p.cast())
        }
        #[inline(always)]
        unsafe fn to_f(a: __m256i) -> __m256 {
            _mm256_cvtepi32_ps(a)
        }
        #[inline(always)]
        unsafe fn load_bytes(p: *const u8) -> __m128i {
            _mm_loadu_si128(p.cast())
        }
        #[inline(always)]
        unsafe fn store_bytes(p: *mut u8, x: __m128i) {
            _mm_storeu_si128(p.cast(), x);
        }
        #[inline(always)]
        unsafe fn max_bytes(a: __m128i, b: __m128i) -> __m128i {
            _mm_max_epu8(a, b)
        }
    };
}
pub(super) use shared;

impl Lanes for Vectors {
    shared!();

    const LAYOUT: Layout = Layout { lanes: 8, group: 2, form: Form::I16 };
    const ROWS: usize = 4;
    const WIDEN: bool = true;
    type Act = i16;

    #[inline(always)]
    unsafe fn store_act(p: *mut i16, x: __m256) {
        let i = _mm256_cvtps_epi32(x);
        let packed = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256::<1>(i));
        _mm_storeu_si128(p.cast(), packed);
    }
    fn acts(a: &Activations) -> *const i16 {
        a.words.as_ptr()
    }
    fn acts_mut(a: &mut Activations) -> *mut i16 {
        a.words.as_mut_ptr()
    }
    #[inline(always)]
    unsafe fn weights(p: *const i8) -> __m256i {
        _mm256_cvtepi8_epi16(_mm_loadu_si128(p.cast()))
    }
    #[inline(always)]
    unsafe fn load_wide(p: *const i16) -> __m256i {
        _mm256_loadu_si256(p.cast())
    }
    #[inline(always)]
    unsafe fn store_wide(p: *mut i16, w: __m256i) {
        _mm256_storeu_si256(p.cast(), w);
    }
    #[inline(always)]
    unsafe fn broadcast(p: *const i16) -> __m256i {
        _mm256_set1_epi32(p.cast::<i32>().read_unaligned())
    }
    #[inline(always)]
    unsafe fn dot(acc: __m256i, b: __m256i, w: __m256i) -> __m256i {
        _mm256_add_epi32(acc, _mm256_madd_epi16(b, w))
    }
    #[inline(always)]
    unsafe fn table(t: &[i8; 16]) -> __m128i {
        _mm_loadu_si128(t.as_ptr().cast())
    }
    #[inline(always)]
    unsafe fn decode(t: __m128i, bytes: *const u8, out: *mut i16) {
        let [first, second] = look_up(t, bytes);
        _mm256_storeu_si256(out.cast(), _mm256_cvtepi8_epi16(first));
        _mm256_storeu_si256(out.add(16).cast(), _mm256_cvtepi8_epi16(second));
    }
}

backend! {
    /// AVX2.
    Avx2, Vectors, BackendKind::Avx2, [target_feature(enable = "avx2")]
}
