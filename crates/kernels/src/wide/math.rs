#![expect(unsafe_op_in_unsafe_fn, reason = "see the module docs of `wide`")]
//! Exponential and error function for vectors, by plain multiplications and additions so that every backend rounds alike.

use super::Lanes;

/// ln 2 in two parts, the first with enough trailing zeros that its product with a small integer is exact (Cody and Waite).
const LN2_HI: f32 = 0.693_359_4;
const LN2_LO: f32 = -2.121_944_4e-4;

/// Below this `e^x` is 0 here: the result would be subnormal.
const EXP_MIN: f32 = -87.9;

/// `e^x` for `x <= 0`, relative error below 2e-7; 0 below -87.7.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`, and the Taylor polynomial of degree 7, whose remainder there is 5e-9.
#[inline(always)]
pub(crate) unsafe fn exp<L: Lanes>(x: L::F) -> L::F {
    let x = L::max(x, L::splat(EXP_MIN));
    let n = L::round(L::mul(x, L::splat(core::f32::consts::LOG2_E)));
    let r = L::sub(L::sub(x, L::mul(n, L::splat(LN2_HI))), L::mul(n, L::splat(LN2_LO)));
    let mut p = L::splat(1.0 / 5040.0);
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = L::add(L::mul(p, r), L::splat(c));
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
    fn exp_is_good_to_two_units_and_ends_in_zero() {
        for i in 0..200_000 {
            let x = -(i as f32) * 4.4e-4;
            // SAFETY: arrays need no instructions.
            let found = unsafe { exp::<Arrays>([x; 4]) }[0];
            let expected = f64::from(x).exp();
            if x > -87.6 {
                assert!(
                    (f64::from(found) / expected - 1.0).abs() < 2e-7,
                    "e^{x} is {expected}, found {found}"
                );
            } else {
                assert!(f64::from(found) <= expected * 1.000_001, "e^{x} is {expected}, found {found}");
            }
        }
        for x in [-88.0, -1e4, f32::MIN, f32::NEG_INFINITY] {
            // SAFETY: arrays need no instructions.
            assert_eq!(unsafe { exp::<Arrays>([x; 4]) }, [0.0; 4], "e^{x}");
        }
        // SAFETY: arrays need no instructions.
        assert_eq!(unsafe { exp::<Arrays>([0.0; 4]) }, [1.0; 4]);
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
