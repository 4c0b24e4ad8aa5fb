#![expect(unsafe_op_in_unsafe_fn, reason = "see the module docs of `wide`")]
//! AVX-512 with VNNI: `vpdpbusd` adds 4 products of unsigned by signed bytes to each of 16 sums, 64 products an instruction.
//!
//! It wants one operand unsigned: activations are kept plus 128, and sums start from `-128 *` the sum of the weights' row, so the result is
//! the exact signed one. It does not saturate.

use super::avx2::look_up;
use super::narrow;
use crate::BackendKind;
use crate::int4::GROUP;
use crate::pack::{Activations, Form, Layout};
use crate::wide::{Lanes, backend};
use core::arch::x86_64::*;

pub(crate) enum Vectors {}

#[inline(always)]
unsafe fn halves(a: __m512i) -> [__m256i; 2] {
    [_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64::<1>(a)]
}

impl Lanes for Vectors {
    const N: usize = 16;
    const LAYOUT: Layout = Layout { lanes: 16, group: 4, form: Form::U8 };
    const ROWS: usize = 8;
    const WIDEN: bool = false;
    type F = __m512;
    type I = __m512i;
    type W = __m512i;
    type B = __m512i;
    type Act = i8;
    type Table = __m128i;
    type Bytes = __m128i;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        _mm512_set1_ps(x)
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        _mm512_loadu_ps(p)
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: __m512) {
        _mm512_storeu_ps(p, x);
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        _mm512_add_ps(a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        _mm512_sub_ps(a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        _mm512_mul_ps(a, b)
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        _mm512_div_ps(a, b)
    }
    #[inline(always)]
    unsafe fn magnitude(a: __m512) -> __m512i {
        _mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(i32::MAX))
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        _mm512_max_ps(b, a) // b > a ? b : a
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        _mm512_min_ps(b, a)
    }
    #[inline(always)]
    unsafe fn round(a: __m512) -> __m512 {
        _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
    }
    #[inline(always)]
    unsafe fn exp2(a: __m512) -> __m512 {
        let n = _mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127));
        _mm512_castsi512_ps(_mm512_slli_epi32::<23>(n))
    }

    #[inline(always)]
    unsafe fn sum(a: __m512) -> f32 {
        let [low, high] = halves(_mm512_castps_si512(a));
        let a = _mm256_add_ps(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high));
        narrow::sum(_mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a)))
    }
    #[inline(always)]
    unsafe fn top(a: __m512) -> f32 {
        let [low, high] = halves(_mm512_castps_si512(a));
        let a = _mm256_max_ps(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high));
        narrow::top(_mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a)))
    }
    #[inline(always)]
    unsafe fn transpose4(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
        narrow::transpose4(from, stride, to, to_stride);
    }
    #[inline(always)]
    unsafe fn max_i(a: __m512i, b: __m512i) -> __m512i {
        _mm512_max_epi32(a, b)
    }
    #[inline(always)]
    unsafe fn top_i(a: __m512i) -> i32 {
        let [low, high] = halves(a);
        let a = _mm256_max_epi32(low, high);
        narrow::top_i(_mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256::<1>(a)))
    }
    #[inline(always)]
    unsafe fn touch(p: *const u8) {
        _mm_prefetch::<_MM_HINT_T1>(p.cast());
    }

    #[inline(always)]
    unsafe fn load_i(p: *const i32) -> __m512i {
        _mm512_loadu_si512(p.cast())
    }
    #[inline(always)]
    unsafe fn to_f(a: __m512i) -> __m512 {
        _mm512_cvtepi32_ps(a)
    }
    #[inline(always)]
    unsafe fn store_act(p: *mut i8, x: __m512) {
        let bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x));
        _mm_storeu_si128(p.cast(), _mm_xor_si128(bytes, _mm_set1_epi8(i8::MIN)));
    }
    fn acts(a: &Activations) -> *const i8 {
        a.bytes.as_ptr()
    }
    fn acts_mut(a: &mut Activations) -> *mut i8 {
        a.bytes.as_mut_ptr()
    }

    #[inline(always)]
    unsafe fn weights(p: *const i8) -> __m512i {
        _mm512_loadu_si512(p.cast())
    }
    #[inline(always)]
    unsafe fn load_wide(p: *const i16) -> __m512i {
        _mm512_loadu_si512(p.cast())
    }
    #[inline(always)]
    unsafe fn store_wide(p: *mut i16, w: __m512i) {
        _mm512_storeu_si512(p.cast(), w);
    }
    #[inline(always)]
    unsafe fn broadcast(p: *const i8) -> __m512i {
        _mm512_set1_epi32(p.cast::<i32>().read_unaligned())
    }
    #[inline(always)]
    unsafe fn dot(acc: __m512i, b: __m512i, w: __m512i) -> __m512i {
        _mm512_dpbusd_epi32(acc, b, w)
    }
    /// As [`crate::wide::gemm::unpack_group`] has it for bytes: two neighbours go through one product of 16 bits. That loop, which the compiler turned into
    /// vectors of bytes and back, took three times as long as the products of a query.
    #[inline(always)]
    unsafe fn unpack_group(data: *const u8, scales: *const u8, to: *mut u8) {
        let scales = _mm512_cvtepu8_epi32(_mm_loadu_si128(scales.cast()));
        let words = _mm512_or_si512(scales, _mm512_slli_epi32::<16>(scales));
        let eights = _mm512_slli_epi16::<3>(_mm512_or_si512(words, _mm512_slli_epi16::<8>(words)));
        for pair in 0..GROUP / 4 / 2 {
            let nibbles = _mm512_loadu_si512(data.add(64 * pair).cast());
            for (half, nibbles) in [nibbles, _mm512_srli_epi16::<4>(nibbles)].into_iter().enumerate() {
                let products = _mm512_mullo_epi16(_mm512_and_si512(nibbles, _mm512_set1_epi8(15)), words);
                _mm512_storeu_si512(to.add(64 * (2 * pair + half)).cast(), _mm512_sub_epi8(products, eights));
            }
        }
    }

    #[inline(always)]
    unsafe fn table(t: &[i8; 16]) -> __m128i {
        _mm_xor_si128(_mm_loadu_si128(t.as_ptr().cast()), _mm_set1_epi8(i8::MIN))
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
    #[inline(always)]
    unsafe fn decode(t: __m128i, bytes: *const u8, out: *mut i8) {
        let [first, second] = look_up(t, bytes);
        _mm_storeu_si128(out.cast(), first);
        _mm_storeu_si128(out.add(16).cast(), second);
    }
}

backend! {
    /// AVX-512 F, BW and VNNI.
    Avx512Vnni, Vectors, BackendKind::Avx512Vnni, [target_feature(enable = "avx512f,avx512bw,avx512vnni")]
}
