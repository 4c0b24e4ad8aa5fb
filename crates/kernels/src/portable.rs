//! Vectors of 4 as plain arrays: the wide kernels for machines without a backend of their own, and the yardstick for the bits of the others.

use crate::BackendKind;
use crate::pack::{Activations, Form, Layout};
use crate::wide::{Lanes, backend};

pub(crate) enum Arrays {}

#[inline(always)]
fn map(a: [f32; 4], f: impl Fn(f32) -> f32) -> [f32; 4] {
    core::array::from_fn(|i| f(a[i]))
}

#[inline(always)]
fn zip(a: [f32; 4], b: [f32; 4], f: impl Fn(f32, f32) -> f32) -> [f32; 4] {
    core::array::from_fn(|i| f(a[i], b[i]))
}

impl Lanes for Arrays {
    const N: usize = 4;
    const LAYOUT: Layout = Layout { lanes: 4, group: 2, form: Form::I16 };
    const ROWS: usize = 4;
    const WIDEN: bool = true;
    type F = [f32; 4];
    type I = [i32; 4];
    type W = [i16; 8];
    type B = [i16; 2];
    type Act = i16;
    type Table = [i8; 16];
    type Bytes = [u8; 16];

    #[inline(always)]
    unsafe fn splat(x: f32) -> [f32; 4] {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> [f32; 4] {
        // SAFETY: 4 numbers are there, see `Lanes`.
        unsafe { p.cast::<[f32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: [f32; 4]) {
        // SAFETY: 4 numbers have room, see `Lanes`.
        unsafe { p.cast::<[f32; 4]>().write_unaligned(x) };
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn magnitude(a: [f32; 4]) -> [i32; 4] {
        a.map(|a| a.abs().to_bits().cast_signed())
    }
    #[inline(always)]
    unsafe fn max(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| if b > a { b } else { a })
    }
    #[inline(always)]
    unsafe fn min(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| if b < a { b } else { a })
    }
    #[inline(always)]
    unsafe fn round(a: [f32; 4]) -> [f32; 4] {
        map(a, f32::round_ties_even)
    }
    #[inline(always)]
    unsafe fn exp2(a: [f32; 4]) -> [f32; 4] {
        map(a, |a| f32::from_bits((a as i32 + 127).cast_unsigned() << 23))
    }
    #[inline(always)]
    unsafe fn sum(a: [f32; 4]) -> f32 {
        (a[0] + a[2]) + (a[1] + a[3])
    }
    #[inline(always)]
    unsafe fn top(a: [f32; 4]) -> f32 {
        a.iter().fold(f32::MIN, |m, &v| if v > m { v } else { m })
    }
    #[inline(always)]
    unsafe fn max_i(a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        core::array::from_fn(|i| a[i].max(b[i]))
    }
    #[inline(always)]
    unsafe fn top_i(a: [i32; 4]) -> i32 {
        a[0].max(a[1]).max(a[2].max(a[3]))
    }

    #[inline(always)]
    unsafe fn load_i(p: *const i32) -> [i32; 4] {
        // SAFETY: 4 numbers are there, see `Lanes`.
        unsafe { p.cast::<[i32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn to_f(a: [i32; 4]) -> [f32; 4] {
        core::array::from_fn(|i| a[i] as f32)
    }
    #[inline(always)]
    unsafe fn store_act(p: *mut i16, x: [f32; 4]) {
        // SAFETY: 4 activations have room, see `Lanes`.
        unsafe {
            p.cast::<[i16; 4]>().write_unaligned(core::array::from_fn(|i| x[i].round_ties_even() as i16))
        };
    }
    fn acts(a: &Activations) -> *const i16 {
        a.words.as_ptr()
    }
    fn acts_mut(a: &mut Activations) -> *mut i16 {
        a.words.as_mut_ptr()
    }

    #[inline(always)]
    unsafe fn weights(p: *const i8) -> [i16; 8] {
        // SAFETY: 8 weights are there, see `Lanes`.
        unsafe { p.cast::<[i8; 8]>().read() }.map(i16::from)
    }
    #[inline(always)]
    unsafe fn load_wide(p: *const i16) -> [i16; 8] {
        // SAFETY: 8 weights are there, see `Lanes`.
        unsafe { p.cast::<[i16; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_wide(p: *mut i16, w: [i16; 8]) {
        // SAFETY: 8 weights have room, see `Lanes`.
        unsafe { p.cast::<[i16; 8]>().write_unaligned(w) };
    }
    #[inline(always)]
    unsafe fn broadcast(p: *const i16) -> [i16; 2] {
        // SAFETY: 2 activations are there, see `Lanes`.
        unsafe { p.cast::<[i16; 2]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn dot(acc: [i32; 4], b: [i16; 2], w: [i16; 8]) -> [i32; 4] {
        let b = b.map(i32::from);
        core::array::from_fn(|l| acc[l] + b[0] * i32::from(w[2 * l]) + b[1] * i32::from(w[2 * l + 1]))
    }

    #[inline(always)]
    unsafe fn table(t: &[i8; 16]) -> [i8; 16] {
        *t
    }
    #[inline(always)]
    unsafe fn load_bytes(p: *const u8) -> [u8; 16] {
        // SAFETY: 16 bytes are there, see `Lanes`.
        unsafe { p.cast::<[u8; 16]>().read() }
    }
    #[inline(always)]
    unsafe fn store_bytes(p: *mut u8, x: [u8; 16]) {
        // SAFETY: 16 bytes have room, see `Lanes`.
        unsafe { p.cast::<[u8; 16]>().write(x) };
    }
    #[inline(always)]
    unsafe fn max_bytes(a: [u8; 16], b: [u8; 16]) -> [u8; 16] {
        core::array::from_fn(|i| a[i].max(b[i]))
    }
    #[inline(always)]
    unsafe fn decode(t: [i8; 16], bytes: *const u8, out: *mut i16) {
        // SAFETY: 16 bytes are there and 32 activations have room, see `Lanes`.
        unsafe {
            for i in 0..16 {
                let byte = *bytes.add(i);
                out.add(2 * i).write(t[usize::from(byte & 15)].into());
                out.add(2 * i + 1).write(t[usize::from(byte >> 4)].into());
            }
        }
    }
}

backend! {
    /// Plain arrays.
    Portable, Arrays, BackendKind::Portable, []
}
