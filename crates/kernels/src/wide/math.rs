#![expect(unsafe_op_in_unsafe_fn, reason = "see the module docs of `wide`")]
//! Exponential and error function for vectors, by plain multiplications and additions so that every backend rounds alike.

use super::Lanes;

/// Below this `2^x` is 0 here: the result would be subnormal.
const EXP2_MIN: f32 = -127.0;

/// A minimax polynomial of `2^x` on [-1/2, 1/2], highest power first: 1.6e-8 from it in relation, and exact at 0.
const EXP2: [f32; 7] = [
    1.535_336_2e-4,
    1.339_887_5e-3,
    9.618_437e-3,
    5.550_332_4e-2,
    0.240_226_48,
    core::f32::consts::LN_2,
    1.0,
];

/// `2^x` for `x <= 0`, relative error below 2e-7; 0 below -126.5.
///
/// `x = n + r` with `|r| <= 1/2`: the difference is exact, where `e^x` would have to take away a multiple of ln 2 in two parts.
#[inline(always)]
pub(crate) unsafe fn exp2<L: Lanes>(x: L::F) -> L::F {
    let x = L::max(x, L::splat(EXP2_MIN));
    let n = L::round(x);
    let r = L::sub(x, n);
    let mut p = L::splat(EXP2[0]);
    for c in &EXP2[1..] {
        p = L::add(L::mul(p, r), L::splat(*c));
    }
    L::mul(p, L::exp2(n))
}

/// Beyond this the error function is 1 to f32 precision.
const ERF_MAX: f32 = 3.9;
/// Numerator and denominator in `x²`, highest power first: a weighted least-squares fit on [0, 3.9], refined towards equal errors;
/// 1.5e-8 from erf before rounding.
const ERF_P: [f32; 6] = [
    2.050_361_7e-6,
    2.874_425_6e-4,
    3.836_518_4e-3,
    5.296_582_5e-2,
    0.191_933_56,
    core::f32::consts::FRAC_2_SQRT_PI,
];
const ERF_Q: [f32; 6] = [3.822_97e-5, 1.181_634_6e-3, 1.510_850_6e-2, 0.114_755_02, 0.503_428_47, 1.0];

/// `erf(x)`, absolute error below 5e-7.
#[inline(always)]
pub(crate) unsafe fn erf<L: Lanes>(x: L::F) -> L::F {
    let x = L::max(L::min(x, L::splat(ERF_MAX)), L::splat(-ERF_MAX));
    let t = L::mul(x, x);
    let mut p = L::splat(ERF_P[0]);
    let mut q = L::splat(ERF_Q[0]);
    for i in 1..6 {
        p = L::add(L::mul(p, t), L::splat(ERF_P[i]));
        q = L::add(L::mul(q, t), L::splat(ERF_Q[i]));
    }
    L::div(L::mul(x, p), q)
}

/// `x / 2 (1 + erf(x / √2))`
#[inline(always)]
pub(crate) unsafe fn gelu<L: Lanes>(x: L::F) -> L::F {
    let e = erf::<L>(L::mul(x, L::splat(core::f32::consts::FRAC_1_SQRT_2)));
    L::mul(L::mul(x, L::splat(0.5)), L::add(L::splat(1.0), e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portable::Arrays;

    #[test]
    fn exp2_is_good_to_two_units_and_ends_in_zero() {
        for i in 0..200_000 {
            let x = -(i as f32) * 6.5e-4;
            // SAFETY: arrays need no instructions.
            let found = unsafe { exp2::<Arrays>([x; 4]) }[0];
            let expected = f64::from(x).exp2();
            if x > -126.0 {
                assert!(
                    (f64::from(found) / expected - 1.0).abs() < 2e-7,
                    "2^{x} is {expected}, found {found}"
                );
            } else {
                assert!(f64::from(found) <= expected * 1.000_001, "2^{x} is {expected}, found {found}");
            }
        }
        for x in [-127.0, -1e4, f32::MIN, f32::NEG_INFINITY] {
            // SAFETY: arrays need no instructions.
            assert_eq!(unsafe { exp2::<Arrays>([x; 4]) }, [0.0; 4], "2^{x}");
        }
        // SAFETY: arrays need no instructions.
        assert_eq!(unsafe { exp2::<Arrays>([0.0; 4]) }, [1.0; 4]);
    }

    #[test]
    fn erf_is_good_to_five_in_ten_million() {
        for i in -100_000..=100_000 {
            let x = i as f32 * 5e-5;
            // SAFETY: arrays need no instructions.
            let found = unsafe { erf::<Arrays>([x; 4]) }[0];
            let expected = crate::scalar::math::erf(f64::from(x));
            assert!((f64::from(found) - expected).abs() < 5e-7, "erf({x}) is {expected}, found {found}");
        }
    }
}
