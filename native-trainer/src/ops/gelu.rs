//! Exact (erf) GELU, element by element: BERT's feed-forward activation.

use super::geglu::phi;
use super::shell::{Arg, Op, Shell, Slope};
use super::simd::{mad, vectorized};
use candle_core::{Result, Shape, Tensor};

const OP: &str = "gelu";

/// `x Φ(x)` of every element, in the shape of `x`; Φ is the normal distribution function.
///
/// # Errors
/// When `x` is not contiguous f32.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if super::composes(x) { x.gelu_erf() } else { x.apply_op1(Shell(Gelu)) }
}

vectorized! {
    fn forward_all(x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = *x * phi::<FMA>(*x).0;
        }
    }
}

vectorized! {
    fn backward_all(x: &[f32], dy: &[f32], dx: &mut [f32]) {
        for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
            let (p, e) = phi::<FMA>(*x);
            // 1 / sqrt(2 pi) = 0.39894...
            *dx = *dy * mad::<FMA>(*x * e, 0.398_942_3, p);
        }
    }
}

struct Gelu;

impl Op<1> for Gelu {
    const NAME: &'static str = OP;

    fn forward(&self, [x]: [Arg<'_>; 1]) -> Result<(Vec<f32>, Shape)> {
        let mut y = vec![0f32; x.values.len()];
        forward_all(x.values, &mut y);
        Ok((y, x.dims.into()))
    }

    fn backward(&self, [x]: [Arg<'_>; 1], _y: &[f32], dy: &[f32], _: [bool; 1]) -> Result<[Slope; 1]> {
        let mut dx = vec![0f32; x.values.len()];
        backward_all(x.values, dy, &mut dx);
        Ok([Slope::Values(dx)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::graddiff::{agree, check, var, weigh};
    use super::*;
    use candle_core::Var;

    #[test]
    fn gradients_agree_with_finite_differences_and_candle() -> Result<()> {
        let x = Var::from_tensor(&(var(&[5, 19], 5)?.as_tensor() * 4.0)?)?;
        let vars = std::slice::from_ref(&x);
        check(vars, 1e-2, 2e-3, || weigh(&gelu(&x)?))?;
        agree(vars, 1e-5, || weigh(&gelu(&x)?), || weigh(&x.gelu_erf()?))
    }
}
