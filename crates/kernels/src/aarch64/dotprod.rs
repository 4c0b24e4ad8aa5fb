#![expect(unsafe_op_in_unsafe_fn, reason = "see the module docs of `wide`")]
//! `sdot`: both operands signed, so activations stay `i8` and no correction is needed.

use super::{look_up, shared};
use crate::BackendKind;
use crate::pack::{Activations, Form, Layout};
use crate::wide::{Lanes, backend};
use core::arch::{aarch64::*, asm};

pub(crate) enum Vectors {}

impl Lanes for Vectors {
    shared!();

    const LAYOUT: Layout = Layout { lanes: 4, group: 4, form: Form::I8 };
    const WIDEN: bool = false;
    type W = int8x16_t;
    type B = int8x16_t;
    type Act = i8;

    #[inline(always)]
    unsafe fn store_act(p: *mut i8, x: float32x4_t) {
        let words = vmovn_s32(vcvtnq_s32_f32(x));
        let bytes = vmovn_s16(vcombine_s16(words, words));
        p.cast::<i32>().write_unaligned(vget_lane_s32::<0>(vreinterpret_s32_s8(bytes)));
    }
    fn acts(a: &Activations) -> *const i8 {
        a.bytes.as_ptr()
    }
    fn acts_mut(a: &mut Activations) -> *mut i8 {
        a.bytes.as_mut_ptr()
    }

    #[inline(always)]
    unsafe fn weights(p: *const i8) -> int8x16_t {
        vld1q_s8(p)
    }
    #[inline(always)]
    unsafe fn load_wide(p: *const i16) -> int8x16_t {
        vld1q_s8(p.cast())
    }
    #[inline(always)]
    unsafe fn store_wide(p: *mut i16, w: int8x16_t) {
        vst1q_s8(p.cast(), w);
    }
    #[inline(always)]
    unsafe fn broadcast(p: *const i8) -> int8x16_t {
        vreinterpretq_s8_s32(vdupq_n_s32(p.cast::<i32>().read_unaligned()))
    }
    #[inline(always)]
    unsafe fn dot(acc: int32x4_t, b: int8x16_t, w: int8x16_t) -> int32x4_t {
        let mut out = acc;
        // The intrinsic `vdotq_s32` is not stable yet.
        // SAFETY: the instruction exists where this backend is handed out, and touches registers only.
        asm!(
            ".arch_extension dotprod",
            "sdot {out:v}.4s, {b:v}.16b, {w:v}.16b",
            out = inout(vreg) out, b = in(vreg) b, w = in(vreg) w,
            options(pure, nomem, nostack, preserves_flags),
        );
        out
    }

    #[inline(always)]
    unsafe fn decode(t: int8x16_t, bytes: *const u8, out: *mut i8) {
        let [first, second] = look_up(t, bytes);
        vst1q_s8(out, first);
        vst1q_s8(out.add(16), second);
    }
}

backend! {
    /// NEON with dotprod.
    NeonDotprod, Vectors, BackendKind::NeonDotprod, [target_feature(enable = "neon,dotprod")]
}
