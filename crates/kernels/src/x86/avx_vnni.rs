#![expect(unsafe_op_in_unsafe_fn, reason = "see the module docs of `wide`")]
//! AVX-VNNI: `vpdpbusd` on 256 bits, for processors that have it without AVX-512 (Intel client cores since Alder Lake).
//! Operands as in `avx512`.

use super::avx2::{look_up, shared};
use crate::BackendKind;
use crate::pack::{Activations, Form, Layout};
use crate::wide::{Lanes, backend};
use core::arch::x86_64::*;

pub(crate) enum Vectors {}

impl Lanes for Vectors {
    shared!();

    const LAYOUT: Layout = Layout { lanes: 8, group: 4, form: Form::U8 };
    const ROWS: usize = 4;
    const WIDEN: bool = false;
    type Act = i8;

    #[inline(always)]
    unsafe fn store_act(p: *mut i8, x: __m256) {
        let i = _mm256_cvtps_epi32(x);
        let words = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256::<1>(i));
        let bytes = _mm_xor_si128(_mm_packs_epi16(words, words), _mm_set1_epi8(i8::MIN));
        _mm_storel_epi64(p.cast(), bytes);
    }
    fn acts(a: &Activations) -> *const i8 {
        a.bytes.as_ptr()
    }
    fn acts_mut(a: &mut Activations) -> *mut i8 {
        a.bytes.as_mut_ptr()
    }

    #[inline(always)]
    unsafe fn weights(p: *const i8) -> __m256i {
        _mm256_loadu_si256(p.cast())
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
    unsafe fn broadcast(p: *const i8) -> __m256i {
        _mm256_set1_epi32(p.cast::<i32>().read_unaligned())
    }
    #[inline(always)]
    unsafe fn dot(acc: __m256i, b: __m256i, w: __m256i) -> __m256i {
        _mm256_dpbusd_avx_epi32(acc, b, w)
    }

    #[inline(always)]
    unsafe fn table(t: &[i8; 16]) -> __m128i {
        _mm_xor_si128(_mm_loadu_si128(t.as_ptr().cast()), _mm_set1_epi8(i8::MIN))
    }
    #[inline(always)]
    unsafe fn decode(t: __m128i, bytes: *const u8, out: *mut i8) {
        let [first, second] = look_up(t, bytes);
        _mm_storeu_si128(out.cast(), first);
        _mm_storeu_si128(out.add(16).cast(), second);
    }
}

backend! {
    /// AVX2 and AVX-VNNI.
    AvxVnni, Vectors, BackendKind::AvxVnni, [target_feature(enable = "avx2,avxvnni")]
}
