#![expect(unsafe_op_in_unsafe_fn, reason = "see the module docs of `wide`")]
//! WebAssembly's 128-bit vectors. `i32x4.dot_i16x8` multiplies pairs of `i16`: 16 products in two instructions with the addition.

use crate::BackendKind;
use crate::pack::{Activations, Form, Layout};
use crate::wide::{Lanes, backend};
use core::arch::wasm32::*;

#[cfg(target_feature = "relaxed-simd")]
pub(crate) mod relaxed;

pub(crate) enum Vectors {}

/// The halves of 16 residual bytes through a table of 16: 32 values in order.
#[inline(always)]
unsafe fn look_up(table: v128, bytes: *const u8) -> [v128; 2] {
    let b = v128_load(bytes.cast());
    let low = i8x16_swizzle(table, v128_and(b, u8x16_splat(15)));
    let high = i8x16_swizzle(table, u8x16_shr(b, 4));
    [
        i8x16_shuffle::<0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23>(low, high),
        i8x16_shuffle::<8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31>(low, high),
    ]
}

/// What does not depend on how integer products are made: types and methods of `Lanes` for every backend of this module.
macro_rules! shared {
    () => {
        const N: usize = 4;
        type F = v128;
        type I = v128;
        type W = v128;
        type B = v128;
        type Table = v128;
        type Bytes = v128;

        #[inline(always)]
        unsafe fn splat(x: f32) -> v128 {
            f32x4_splat(x)
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> v128 {
            v128_load(p.cast())
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, x: v128) {
            v128_store(p.cast(), x);
        }
        #[inline(always)]
        unsafe fn add(a: v128, b: v128) -> v128 {
            f32x4_add(a, b)
        }
        #[inline(always)]
        unsafe fn sub(a: v128, b: v128) -> v128 {
            f32x4_sub(a, b)
        }
        #[inline(always)]
        unsafe fn mul(a: v128, b: v128) -> v128 {
            f32x4_mul(a, b)
        }
        #[inline(always)]
        unsafe fn div(a: v128, b: v128) -> v128 {
            f32x4_div(a, b)
        }
        #[inline(always)]
        unsafe fn magnitude(a: v128) -> v128 {
            f32x4_abs(a)
        }
        #[inline(always)]
        unsafe fn max(a: v128, b: v128) -> v128 {
            f32x4_pmax(a, b)
        }
        #[inline(always)]
        unsafe fn min(a: v128, b: v128) -> v128 {
            f32x4_pmin(a, b)
        }
        #[inline(always)]
        unsafe fn round(a: v128) -> v128 {
            f32x4_nearest(a)
        }
        #[inline(always)]
        unsafe fn exp2(a: v128) -> v128 {
            i32x4_shl(i32x4_add(i32x4_trunc_sat_f32x4(a), i32x4_splat(127)), 23)
        }
        #[inline(always)]
        unsafe fn sum(a: v128) -> f32 {
            let pairs = f32x4_add(a, i32x4_shuffle::<2, 3, 2, 3>(a, a));
            f32x4_extract_lane::<0>(pairs) + f32x4_extract_lane::<1>(pairs)
        }
        #[inline(always)]
        unsafe fn top(a: v128) -> f32 {
            let pairs = f32x4_pmax(a, i32x4_shuffle::<2, 3, 2, 3>(a, a));
            f32x4_extract_lane::<0>(f32x4_pmax(pairs, i32x4_shuffle::<1, 1, 1, 1>(pairs, pairs)))
        }
        #[inline(always)]
        unsafe fn transpose4(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
            let a = v128_load(from.cast());
            let b = v128_load(from.add(stride).cast());
            let c = v128_load(from.add(2 * stride).cast());
            let d = v128_load(from.add(3 * stride).cast());
            let (ab, cd) = (i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<0, 4, 1, 5>(c, d));
            v128_store(to.cast(), i64x2_shuffle::<0, 2>(ab, cd));
            v128_store(to.add(to_stride).cast(), i64x2_shuffle::<1, 3>(ab, cd));
            let (ab, cd) = (i32x4_shuffle::<2, 6, 3, 7>(a, b), i32x4_shuffle::<2, 6, 3, 7>(c, d));
            v128_store(to.add(2 * to_stride).cast(), i64x2_shuffle::<0, 2>(ab, cd));
            v128_store(to.add(3 * to_stride).cast(), i64x2_shuffle::<1, 3>(ab, cd));
        }
        #[inline(always)]
        unsafe fn max_i(a: v128, b: v128) -> v128 {
            i32x4_max(a, b)
        }
        #[inline(always)]
        unsafe fn top_i(a: v128) -> i32 {
            let pairs = i32x4_max(a, i32x4_shuffle::<2, 3, 2, 3>(a, a));
            i32x4_extract_lane::<0>(pairs).max(i32x4_extract_lane::<1>(pairs))
        }
        /// A load, since there is no hint; it is kept because it could trap.
        #[inline(always)]
        unsafe fn touch(p: *const u8) {
            let _ = p.read_volatile();
        }
        #[inline(always)]
        unsafe fn load_i(p: *const i32) -> v128 {
            v128_load(p.cast())
        }
        #[inline(always)]
        unsafe fn to_f(a: v128) -> v128 {
            f32x4_convert_i32x4(a)
        }
        #[inline(always)]
        unsafe fn load_bytes(p: *const u8) -> v128 {
            v128_load(p.cast())
        }
        #[inline(always)]
        unsafe fn store_bytes(p: *mut u8, x: v128) {
            v128_store(p.cast(), x);
        }
        #[inline(always)]
        unsafe fn max_bytes(a: v128, b: v128) -> v128 {
            u8x16_max(a, b)
        }
    };
}
#[cfg(target_feature = "relaxed-simd")]
use shared;

impl Lanes for Vectors {
    shared!();

    const LAYOUT: Layout = Layout { lanes: 4, group: 2, form: Form::I16 };
    const ROWS: usize = 4;
    const WIDEN: bool = true;
    type Act = i16;

    #[inline(always)]
    unsafe fn store_act(p: *mut i16, x: v128) {
        let i = i32x4_trunc_sat_f32x4(f32x4_nearest(x));
        v128_store64_lane::<0>(i16x8_narrow_i32x4(i, i), p.cast());
    }
    fn acts(a: &Activations) -> *const i16 {
        a.words.as_ptr()
    }
    fn acts_mut(a: &mut Activations) -> *mut i16 {
        a.words.as_mut_ptr()
    }
    #[inline(always)]
    unsafe fn weights(p: *const i8) -> v128 {
        i16x8_load_extend_i8x8(p)
    }
    #[inline(always)]
    unsafe fn load_wide(p: *const i16) -> v128 {
        v128_load(p.cast())
    }
    #[inline(always)]
    unsafe fn store_wide(p: *mut i16, w: v128) {
        v128_store(p.cast(), w);
    }
    #[inline(always)]
    unsafe fn broadcast(p: *const i16) -> v128 {
        v128_load32_splat(p.cast())
    }
    #[inline(always)]
    unsafe fn dot(acc: v128, b: v128, w: v128) -> v128 {
        i32x4_add(acc, i32x4_dot_i16x8(b, w))
    }
    #[inline(always)]
    unsafe fn table(t: &[i8; 16]) -> v128 {
        v128_load(t.as_ptr().cast())
    }
    #[inline(always)]
    unsafe fn decode(t: v128, bytes: *const u8, out: *mut i16) {
        let [first, second] = look_up(t, bytes);
        v128_store(out.cast(), i16x8_extend_low_i8x16(first));
        v128_store(out.add(8).cast(), i16x8_extend_high_i8x16(first));
        v128_store(out.add(16).cast(), i16x8_extend_low_i8x16(second));
        v128_store(out.add(24).cast(), i16x8_extend_high_i8x16(second));
    }
}

backend! {
    /// WebAssembly simd128; the module does not load where the engine lacks it.
    Simd128, Vectors, BackendKind::Simd128, [target_feature(enable = "simd128")]
}
