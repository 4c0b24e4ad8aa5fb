#![expect(unsafe_op_in_unsafe_fn, reason = "see the module docs of `wide`")]
//! `i32x4.relaxed_dot_i8x16_i7x16_add`: 16 products of bytes with their sums in one instruction, where the machine has it.
//!
//! The standard leaves open what becomes of a second operand above 127: taken as unsigned (`vpdpbusd` of AVX-VNNI), as signed (`sdot` of ARM,
//! `vpdpbssd`), or summed in pairs that saturate (`pmaddubsw` of older x86). Within one engine the answer is always the same, so it is asked once,
//! on all extremes ([`meaning`]): the first two are exact for our operands and are used, the third is neither exact nor faster than plain simd128,
//! which then stays. Results are therefore the same bits as everywhere.
//!
//! Not taken: activations in 7 bits, which would be exact everywhere by the letter of the standard, but other numbers than on other backends.

use super::{look_up, shared};
use crate::BackendKind;
use crate::int4::GROUP;
use crate::pack::{Activations, Form, Layout};
use crate::wide::{Lanes, backend};
use core::arch::wasm32::*;

/// What the second operand of the relaxed dot product is on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Unsigned,
    Signed,
}

/// Asks the instruction. `None` where bytes above 127 give neither exact answer.
pub(crate) fn meaning() -> Option<Meaning> {
    let exact = |second: fn(u8) -> i32| {
        // Pairs of all extremes at every place, and a walk over all bytes.
        const EXTREMES: [u8; 6] = [0, 1, 127, 128, 129, 255];
        let of = |i: usize, case: usize| match case {
            0..36 => EXTREMES[(i * (case + 1) + case / 6) % 6],
            _ => (i * 37 + case * 101) as u8,
        };
        (0..160).all(|case| {
            let a: [i8; 16] = core::array::from_fn(|i| (of(i, case) as i8).max(-127));
            let b: [u8; 16] = core::array::from_fn(|i| of(i / 2 + case, case % 48));
            let found = dot(core::hint::black_box(a), core::hint::black_box(b));
            (0..4).all(|lane| {
                let sum = (4 * lane..4 * lane + 4).map(|i| i32::from(a[i]) * second(b[i])).sum::<i32>();
                found[lane] == sum + 7
            })
        })
    };
    if exact(i32::from) {
        Some(Meaning::Unsigned)
    } else if exact(|b| i32::from(b as i8)) {
        Some(Meaning::Signed)
    } else {
        None
    }
}

/// `7 + Σ a b` of each four bytes.
fn dot(a: [i8; 16], b: [u8; 16]) -> [i32; 4] {
    let mut out = [0; 4];
    // SAFETY: arrays of 16 bytes are read and written; the module only loads where the instruction exists.
    unsafe {
        let (a, b) = (v128_load(a.as_ptr().cast()), v128_load(b.as_ptr().cast()));
        let sums = i32x4_relaxed_dot_i8x16_i7x16_add(a, b, i32x4_splat(7));
        v128_store(out.as_mut_ptr().cast(), sums);
    }
    out
}

/// One `Lanes` type and its backend; `$flip` is what turns a signed byte into the stored form.
macro_rules! relaxed {
    ($(#[$doc:meta])* $backend:ident, $lanes:ident, $form:expr, $flip:expr) => {
        pub(crate) enum $lanes {}

        impl Lanes for $lanes {
            shared!();

            const LAYOUT: Layout = Layout { lanes: 4, group: 4, form: $form };
            const ROWS: usize = 4;
            const WIDEN: bool = false;
            type Act = i8;

            #[inline(always)]
            unsafe fn store_act(p: *mut i8, x: v128) {
                let i = i32x4_trunc_sat_f32x4(f32x4_nearest(x));
                let words = i16x8_narrow_i32x4(i, i);
                let bytes = v128_xor(i8x16_narrow_i16x8(words, words), i8x16_splat($flip));
                v128_store32_lane::<0>(bytes, p.cast());
            }
            fn acts(a: &Activations) -> *const i8 {
                a.bytes.as_ptr()
            }
            fn acts_mut(a: &mut Activations) -> *mut i8 {
                a.bytes.as_mut_ptr()
            }
            #[inline(always)]
            unsafe fn weights(p: *const i8) -> v128 {
                v128_load(p.cast())
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
            unsafe fn broadcast(p: *const i8) -> v128 {
                v128_load32_splat(p.cast())
            }
            #[inline(always)]
            unsafe fn dot(acc: v128, b: v128, w: v128) -> v128 {
                i32x4_relaxed_dot_i8x16_i7x16_add(w, b, acc)
            }
            /// Two neighbours of one row share a scale and go through one product of 16 bits: `15 * 15` leaves no carry between them. The 8 is taken
            /// away afterwards, modulo 256.
            #[inline(always)]
            unsafe fn unpack_group(data: *const u8, scales: *const u8, to: *mut u8) {
                let scales = v128_load32_zero(scales.cast());
                let bytes = i8x16_shuffle::<0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3>(scales, scales);
                let words = v128_and(bytes, u16x8_splat(0x00ff));
                let eights = i16x8_shl(bytes, 3);
                for pair in 0..GROUP / 4 / 2 {
                    let nibbles = v128_load(data.add(16 * pair).cast());
                    for (half, nibbles) in [nibbles, u16x8_shr(nibbles, 4)].into_iter().enumerate() {
                        let products = i16x8_mul(v128_and(nibbles, u8x16_splat(15)), words);
                        v128_store(to.add(16 * (2 * pair + half)).cast(), i8x16_sub(products, eights));
                    }
                }
            }
            #[inline(always)]
            unsafe fn table(t: &[i8; 16]) -> v128 {
                v128_xor(v128_load(t.as_ptr().cast()), i8x16_splat($flip))
            }
            #[inline(always)]
            unsafe fn decode(t: v128, bytes: *const u8, out: *mut i8) {
                let [first, second] = look_up(t, bytes);
                v128_store(out.cast(), first);
                v128_store(out.add(16).cast(), second);
            }
        }

        backend! {
            $(#[$doc])*
            $backend, $lanes, BackendKind::RelaxedSimd, [target_feature(enable = "simd128,relaxed-simd")]
        }
    };
}

relaxed! {
    /// Where the second operand is unsigned: activations plus 128.
    RelaxedUnsigned, Unsigned, Form::U8, i8::MIN
}

relaxed! {
    /// Where the second operand is signed.
    RelaxedSigned, Signed, Form::I8, 0
}
