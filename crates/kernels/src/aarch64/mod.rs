#![expect(unsafe_op_in_unsafe_fn, reason = "see the module docs of `wide`")]
//! aarch64: NEON, which every such processor has, and `sdot` (16 products of signed bytes and their sums in one instruction) where `dotprod` is.

mod dotprod;

pub(crate) use dotprod::NeonDotprod;

use crate::BackendKind;
use crate::pack::{Activations, Form, Layout};
use crate::wide::{Lanes, backend};
use core::arch::aarch64::*;

pub(crate) enum Vectors {}

/// The halves of 16 residual bytes through a table of 16: 32 values in order.
#[inline(always)]
unsafe fn look_up(table: int8x16_t, bytes: *const u8) -> [int8x16_t; 2] {
    let b = vld1q_u8(bytes);
    let low = vqtbl1q_s8(table, vandq_u8(b, vdupq_n_u8(15)));
    let high = vqtbl1q_s8(table, vshrq_n_u8::<4>(b));
    [vzip1q_s8(low, high), vzip2q_s8(low, high)]
}

/// What does not depend on how integer products are made: types and methods of `Lanes` for both backends.
macro_rules! shared {
    () => {
        const N: usize = 4;
        /// 16 sums, two panels and a broadcast fit the 32 registers.
        const ROWS: usize = 8;
        type F = float32x4_t;
        type I = int32x4_t;
        type Table = int8x16_t;
        type Bytes = uint8x16_t;

        #[inline(always)]
        unsafe fn splat(x: f32) -> float32x4_t {
            vdupq_n_f32(x)
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> float32x4_t {
            vld1q_f32(p)
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, x: float32x4_t) {
            vst1q_f32(p, x);
        }
        #[inline(always)]
        unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            vaddq_f32(a, b)
        }
        #[inline(always)]
        unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            vsubq_f32(a, b)
        }
        #[inline(always)]
        unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            vmulq_f32(a, b)
        }
        #[inline(always)]
        unsafe fn div(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            vdivq_f32(a, b)
        }
        #[inline(always)]
        unsafe fn magnitude(a: float32x4_t) -> int32x4_t {
            vreinterpretq_s32_f32(vabsq_f32(a))
        }
        #[inline(always)]
        unsafe fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            vbslq_f32(vcgtq_f32(b, a), b, a)
        }
        #[inline(always)]
        unsafe fn min(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            vbslq_f32(vcltq_f32(b, a), b, a)
        }
        #[inline(always)]
        unsafe fn round(a: float32x4_t) -> float32x4_t {
            vrndnq_f32(a)
        }
        #[inline(always)]
        unsafe fn exp2(a: float32x4_t) -> float32x4_t {
            let n = vaddq_s32(vcvtq_s32_f32(a), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(n))
        }
        #[inline(always)]
        unsafe fn sum(a: float32x4_t) -> f32 {
            let pairs = vadd_f32(vget_low_f32(a), vget_high_f32(a));
            vget_lane_f32::<0>(pairs) + vget_lane_f32::<1>(pairs)
        }
        #[inline(always)]
        unsafe fn top(a: float32x4_t) -> f32 {
            vmaxvq_f32(a)
        }
        #[inline(always)]
        unsafe fn max_i(a: int32x4_t, b: int32x4_t) -> int32x4_t {
            vmaxq_s32(a, b)
        }
        #[inline(always)]
        unsafe fn top_i(a: int32x4_t) -> i32 {
            vmaxvq_s32(a)
        }
        #[inline(always)]
        unsafe fn load_i(p: *const i32) -> int32x4_t {
            vld1q_s32(p)
        }
        #[inline(always)]
        unsafe fn to_f(a: int32x4_t) -> float32x4_t {
            vcvtq_f32_s32(a)
        }
        #[inline(always)]
        unsafe fn table(t: &[i8; 16]) -> int8x16_t {
            vld1q_s8(t.as_ptr())
        }
        #[inline(always)]
        unsafe fn load_bytes(p: *const u8) -> uint8x16_t {
            vld1q_u8(p)
        }
        #[inline(always)]
        unsafe fn store_bytes(p: *mut u8, x: uint8x16_t) {
            vst1q_u8(p, x);
        }
        #[inline(always)]
        unsafe fn max_bytes(a: uint8x16_t, b: uint8x16_t) -> uint8x16_t {
            vmaxq_u8(a, b)
        }
    };
}
use shared;

impl Lanes for Vectors {
    shared!();

    const LAYOUT: Layout = Layout { lanes: 4, group: 2, form: Form::I16 };
    const WIDEN: bool = true;
    type W = int16x8_t;
    type B = int16x8_t;
    type Act = i16;

    #[inline(always)]
    unsafe fn store_act(p: *mut i16, x: float32x4_t) {
        vst1_s16(p, vmovn_s32(vcvtnq_s32_f32(x)));
    }
    fn acts(a: &Activations) -> *const i16 {
        a.words.as_ptr()
    }
    fn acts_mut(a: &mut Activations) -> *mut i16 {
        a.words.as_mut_ptr()
    }

    #[inline(always)]
    unsafe fn weights(p: *const i8) -> int16x8_t {
        vmovl_s8(vld1_s8(p))
    }
    #[inline(always)]
    unsafe fn load_wide(p: *const i16) -> int16x8_t {
        vld1q_s16(p)
    }
    #[inline(always)]
    unsafe fn store_wide(p: *mut i16, w: int16x8_t) {
        vst1q_s16(p, w);
    }
    #[inline(always)]
    unsafe fn broadcast(p: *const i16) -> int16x8_t {
        vreinterpretq_s16_s32(vdupq_n_s32(p.cast::<i32>().read_unaligned()))
    }
    #[inline(always)]
    unsafe fn dot(acc: int32x4_t, b: int16x8_t, w: int16x8_t) -> int32x4_t {
        let low = vmull_s16(vget_low_s16(b), vget_low_s16(w));
        vaddq_s32(acc, vpaddq_s32(low, vmull_high_s16(b, w)))
    }

    #[inline(always)]
    unsafe fn decode(t: int8x16_t, bytes: *const u8, out: *mut i16) {
        for (i, half) in look_up(t, bytes).into_iter().enumerate() {
            vst1q_s16(out.add(16 * i), vmovl_s8(vget_low_s8(half)));
            vst1q_s16(out.add(16 * i + 8), vmovl_high_s8(half));
        }
    }
}

backend! {
    /// NEON.
    Neon, Vectors, BackendKind::Neon, [target_feature(enable = "neon")]
}
