//! Gated GELU: `gelu(a) * b` where a is the first half of each row and b the second, with the exact (erf) GELU.

use super::dims2;
use super::shell::{Arg, Op, Shell, Slope};
use super::simd::{exp, mad, vectorized};
use candle_core::{Result, Shape, Tensor, bail};

const OP: &str = "geglu";

/// `[n, inter]`: `gelu(x[:, ..inter]) * x[:, inter..]` for `x [n, 2 * inter]`.
///
/// # Errors
/// When the rows of `x` have odd length.
pub fn geglu(x: &Tensor) -> Result<Tensor> {
    let (_, width) = dims2(OP, "the input", x)?;
    if width == 0 || width % 2 != 0 {
        bail!("{OP}: rows must hold two halves, found rows of {width}")
    }
    if super::composes(x) {
        return composed(x);
    }
    x.apply_op1(Shell(Geglu))
}

fn composed(x: &Tensor) -> Result<Tensor> {
    let half = x.dim(1)? / 2;
    x.narrow(1, 0, half)?.contiguous()?.gelu_erf()? * x.narrow(1, half, half)?.contiguous()?
}

/// The normal distribution function at x and `exp(-x^2 / 2)`: erf by formula 7.1.26 of Abramowitz and Stegun, whose
/// error is at most 1.5e-7.
#[inline(always)]
pub(super) fn phi<const FMA: bool>(x: f32) -> (f32, f32) {
    let z = x * std::f32::consts::FRAC_1_SQRT_2;
    let magnitude = z.abs();
    let t = 1.0 / mad::<FMA>(0.327_591_1, magnitude, 1.0);
    let e = exp::<FMA>(-(z * z));
    let p = mad::<FMA>(1.061_405_4, t, -1.453_152);
    let p = mad::<FMA>(p, t, 1.421_413_7);
    let p = mad::<FMA>(p, t, -0.284_496_74);
    let p = mad::<FMA>(p, t, 0.254_829_6);
    let upper = 0.5 * p * t * e;
    (if z < 0.0 { upper } else { 1.0 - upper }, e)
}

vectorized! {
    /// `y [n, inter]` from `x [n, 2 * inter]`.
    pub(super) fn forward_rows(x: &[f32], y: &mut [f32], inter: usize) {
        for (x, y) in x.chunks_exact(2 * inter).zip(y.chunks_exact_mut(inter)) {
            let (a, b) = x.split_at(inter);
            for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
                *y = *a * phi::<FMA>(*a).0 * *b;
            }
        }
    }
}

vectorized! {
    /// `dx [n, 2 * inter]` from `x` and `dy [n, inter]`.
    pub(super) fn backward_rows(x: &[f32], dy: &[f32], dx: &mut [f32], inter: usize) {
        for ((x, dy), dx) in x.chunks_exact(2 * inter).zip(dy.chunks_exact(inter)).zip(dx.chunks_exact_mut(2 * inter)) {
            let (a, b) = x.split_at(inter);
            let (da, db) = dx.split_at_mut(inter);
            for ((((da, db), a), b), g) in da.iter_mut().zip(db.iter_mut()).zip(a).zip(b).zip(dy) {
                let (p, e) = phi::<FMA>(*a);
                *db = *g * *a * p;
                // d/da (a * phi(a)) = phi(a) + a * density(a); 1 / sqrt(2 pi) = 0.39894...
                *da = *g * *b * mad::<FMA>(*a * e, 0.398_942_3, p);
            }
        }
    }
}

struct Geglu;

impl Op<1> for Geglu {
    const NAME: &'static str = OP;

    fn forward(&self, [x]: [Arg<'_>; 1]) -> Result<(Vec<f32>, Shape)> {
        let (n, width) = x.dims2();
        let mut y = vec![0f32; x.values.len() / 2];
        forward_rows(x.values, &mut y, width / 2);
        Ok((y, (n, width / 2).into()))
    }

    fn backward(&self, [x]: [Arg<'_>; 1], _y: &[f32], dy: &[f32], _: [bool; 1]) -> Result<[Slope; 1]> {
        let mut dx = vec![0f32; x.values.len()];
        backward_rows(x.values, dy, &mut dx, x.dims[1] / 2);
        Ok([Slope::Values(dx)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::graddiff::{agree, check, var, weigh};
    use super::*;
    use candle_core::Var;

    #[test]
    fn gradients_agree_with_finite_differences_and_the_composed_formula() -> Result<()> {
        for inter in [1, 16, 19] {
            let x = Var::from_tensor(&(var(&[4, 2 * inter], 5)?.as_tensor() * 4.0)?)?;
            check(std::slice::from_ref(&x), 1e-2, 2e-3, || weigh(&geglu(&x)?))?;
            agree(std::slice::from_ref(&x), 1e-5, || weigh(&geglu(&x)?), || weigh(&composed(&x)?))?;
        }
        Ok(())
    }
}
