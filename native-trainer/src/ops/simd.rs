//! Run-time choice of vector width for elementwise loops, and the exponential they share.
//!
//! A loop is written once as plain Rust; `vectorized!` compiles it for AVX-512, for AVX2 with FMA and for the target's
//! baseline, and picks by what the processor has. `FMA` inside such a body says whether fused multiply-add is one
//! instruction there (without it, `mul_add` would be a library call for every element).

use std::sync::atomic::{AtomicU8, Ordering};

/// Widest instruction set the elementwise loops may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The target's baseline.
    Portable = 1,
    /// AVX2 with FMA, 8 lanes.
    Avx2 = 2,
    /// AVX-512 (F, DQ, BW, VL), 16 lanes.
    Avx512 = 3,
}

static LEVEL: AtomicU8 = AtomicU8::new(0);

/// What this processor runs; asked once.
pub fn level() -> Level {
    match LEVEL.load(Ordering::Relaxed) {
        3 => Level::Avx512,
        2 => Level::Avx2,
        1 => Level::Portable,
        _ => {
            let found = detect();
            LEVEL.store(found as u8, Ordering::Relaxed);
            found
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    let fma = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let wide = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl");
    match (fma, wide) {
        (true, true) => Level::Avx512,
        (true, false) => Level::Avx2,
        _ => Level::Portable,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Level {
    Level::Portable
}

/// Defines a function whose body is compiled for every [`Level`] and chosen at run time. Inside the body the constant
/// `FMA` is true where fused multiply-add is one instruction.
macro_rules! vectorized {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident : $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "kernels take buffers one by one")]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments, reason = "kernels take buffers one by one")]
            fn body<const FMA: bool>($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")]
                #[allow(clippy::too_many_arguments, reason = "kernels take buffers one by one")]
                fn wide($($arg: $ty),*) $(-> $ret)? { body::<true>($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments, reason = "kernels take buffers one by one")]
                fn middle($($arg: $ty),*) $(-> $ret)? { body::<true>($($arg),*) }
                match $crate::ops::simd::level() {
                    // SAFETY: `level` returned Avx512, so every feature `wide` is compiled for is present.
                    $crate::ops::simd::Level::Avx512 => return unsafe { wide($($arg),*) },
                    // SAFETY: `level` returned Avx2, so every feature `middle` is compiled for is present.
                    $crate::ops::simd::Level::Avx2 => return unsafe { middle($($arg),*) },
                    $crate::ops::simd::Level::Portable => {}
                }
            }
            body::<false>($($arg),*)
        }
    };
}
pub(crate) use vectorized;

/// Lanes of the accumulators in reductions: one AVX-512 register of f32.
pub(crate) const LANES: usize = 16;

/// `a * b + c`, fused where that is one instruction.
#[inline(always)]
pub(crate) fn mad<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `e^x` to about 2 units in the last place, for x clamped to [-87.3, 88] (so never zero, never infinite).
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    // Cody and Waite reduction to |r| <= ln(2) / 2, then a degree 5 polynomial in r (Cephes' coefficients for expf).
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -87.3 { -87.3 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let n = mad::<FMA>(x, std::f32::consts::LOG2_E, ROUND) - ROUND;
    let r = mad::<FMA>(n, -0.693_359_4, x);
    let r = mad::<FMA>(n, 2.121_944_4e-4, r);
    let p = mad::<FMA>(1.987_569_1e-4, r, 1.398_199_9e-3);
    let p = mad::<FMA>(p, r, 8.333_452e-3);
    let p = mad::<FMA>(p, r, 4.166_579_6e-2);
    let p = mad::<FMA>(p, r, 1.666_666_5e-1);
    let p = mad::<FMA>(p, r, 0.5);
    let y = mad::<FMA>(p * r, r, r + 1.0);
    // x is clamped, so n lies in [-126, 127]; a NaN fails both comparisons, stays NaN, and y is NaN whatever
    // integer comes out of the conversion below.
    let exponent = (mad::<FMA>(x, std::f32::consts::LOG2_E, ROUND)).to_bits().wrapping_sub(ROUND.to_bits());
    y * f32::from_bits((exponent.wrapping_add(127)) << 23)
}

/// Sum of `x`.
#[inline(always)]
pub(crate) fn sum(x: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let chunks = x.chunks_exact(LANES);
    let mut tail = 0.0;
    for v in chunks.remainder() {
        tail += *v;
    }
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] += chunk[i];
        }
    }
    lanes.iter().sum::<f32>() + tail
}

/// Dot product of `x` and `y`, which have one length.
#[inline(always)]
pub(crate) fn dot<const FMA: bool>(x: &[f32], y: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let mut tail = 0.0;
    for (a, b) in xs.remainder().iter().zip(ys.remainder()) {
        tail += a * b;
    }
    for (a, b) in xs.zip(ys) {
        for i in 0..LANES {
            lanes[i] = mad::<FMA>(a[i], b[i], lanes[i]);
        }
    }
    lanes.iter().sum::<f32>() + tail
}

/// Largest value of `x`, which is not empty.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::MIN; LANES];
    let chunks = x.chunks_exact(LANES);
    let mut tail = f32::MIN;
    for v in chunks.remainder() {
        tail = if *v > tail { *v } else { tail };
    }
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = if chunk[i] > lanes[i] { chunk[i] } else { lanes[i] };
        }
    }
    lanes.iter().fold(tail, |a, b| if *b > a { *b } else { a })
}

vectorized! {
    /// `y += a * x` over one length.
    pub(crate) fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = mad::<FMA>(a, *x, *y);
        }
    }
}

vectorized! {
    /// Turns a row of scores into probabilities, in place; returns the logarithm of the sum of exponentials.
    pub(crate) fn softmax(row: &mut [f32]) -> f32 {
        let largest = max(row);
        for v in row.iter_mut() {
            *v = exp::<FMA>(*v - largest);
        }
        let total = sum(row);
        let inverse = 1.0 / total;
        for v in row.iter_mut() {
            *v *= inverse;
        }
        largest + total.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    vectorized! {
        fn exp_all(x: &[f32], y: &mut [f32]) {
            for (y, x) in y.iter_mut().zip(x) {
                *y = exp::<FMA>(*x);
            }
        }
    }

    #[test]
    fn exp_is_within_three_units_in_the_last_place() {
        let x: Vec<f32> = (0..20_001).map(|i| -87.0 + i as f32 * 0.00874).collect();
        let mut y = vec![0.0; x.len()];
        exp_all(&x, &mut y);
        for (x, y) in x.iter().zip(&y) {
            let expected = f64::from(*x).exp();
            assert!(
                (f64::from(*y) / expected - 1.0).abs() < 3.0 * f64::from(f32::EPSILON),
                "exp({x}) = {y}, not {expected}"
            );
        }
        exp_all(&[-1e30, 0.0, f32::NAN], &mut y[..3]);
        assert!(y[0] > 0.0 && y[0] < 2e-38);
        assert_eq!(y[1], 1.0);
        assert!(y[2].is_nan());
    }

    #[test]
    fn reductions_take_the_tail_along() {
        for n in [1, 15, 16, 17, 33] {
            let x: Vec<f32> = (0..n).map(|i| i as f32 - 40.0).collect();
            assert_eq!(sum(&x), x.iter().sum::<f32>());
            assert_eq!(max(&x), n as f32 - 41.0);
            assert_eq!(dot::<false>(&x, &x), x.iter().map(|v| v * v).sum::<f32>());
            let mut row = x.clone();
            let log_sum = softmax(&mut row);
            let expected = x.iter().map(|v| f64::from(*v).exp()).sum::<f64>().ln();
            assert!((f64::from(log_sum) - expected).abs() < 1e-4);
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }
    }
}
