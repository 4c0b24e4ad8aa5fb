#![expect(unsafe_op_in_unsafe_fn, reason = "see the module docs of `wide`")]
//! Exponential and normal distribution for vectors, by plain multiplications and additions so that every backend rounds alike.

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

/// Beyond this the normal distribution is 0 or 1 to f32 precision.
const NORMAL_MAX: f32 = 5.515;
/// `Φ(x) = 1/2 + x P(x²) / Q(x²)`, highest power first: a least-squares fit on [0, 5.515] whose weights were moved towards equal errors; 7.5e-9 from Φ
/// before rounding. The factors of `Φ(x) = (1 + erf(x / √2)) / 2` are in the coefficients.
const NORMAL_P: [f32; 6] =
    [2.265_623_4e-8, 6.351_622e-6, 1.695_291_6e-4, 4.681_427e-3, 3.392_702_7e-2, 0.398_942_23];
const NORMAL_Q: [f32; 6] = [1.194_755_9e-6, 7.384_561e-5, 1.888_435_1e-3, 2.868_743_2e-2, 0.251_708_33, 1.0];

/// `Φ(x)`, absolute error below 3e-7; exactly 0 and 1 far out.
#[inline(always)]
pub(crate) unsafe fn normal<L: Lanes>(x: L::F) -> L::F {
    let x = L::max(L::min(x, L::splat(NORMAL_MAX)), L::splat(-NORMAL_MAX));
    let t = L::mul(x, x);
    let mut p = L::splat(NORMAL_P[0]);
    let mut q = L::splat(NORMAL_Q[0]);
    for i in 1..6 {
        p = L::add(L::mul(p, t), L::splat(NORMAL_P[i]));
        q = L::add(L::mul(q, t), L::splat(NORMAL_Q[i]));
    }
    L::add(L::div(L::mul(x, p), q), L::splat(0.5))
}

/// `x Φ(x) = x / 2 (1 + erf(x / √2))`
#[inline(always)]
pub(crate) unsafe fn gelu<L: Lanes>(x: L::F) -> L::F {
    L::mul(x, normal::<L>(x))
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
    fn the_normal_distribution_is_good_to_three_in_ten_million() {
        for i in -120_000..=120_000 {
            let x = i as f32 * 5e-5;
            // SAFETY: arrays need no instructions.
            let found = unsafe { normal::<Arrays>([x; 4]) }[0];
            let expected = 0.5 * (1.0 + crate::scalar::math::erf(f64::from(x) / core::f64::consts::SQRT_2));
            assert!((f64::from(found) - expected).abs() < 3e-7, "Φ({x}) is {expected}, found {found}");
        }
        for (x, expected) in [(-1e30, 0.0), (-6.0, 0.0), (0.0, 0.5), (6.0, 1.0), (1e30, 1.0)] {
            // SAFETY: arrays need no instructions.
            assert_eq!(unsafe { normal::<Arrays>([x; 4]) }, [expected; 4], "Φ({x})");
        }
    }
}
