//! `log(1 + e^x)`, element by element: turns a query token's weight logit into a positive factor.

use super::shell::{Arg, Op, Shell, Slope};
use candle_core::{Result, Shape, Tensor};

const OP: &str = "softplus";

/// `log(1 + e^x)` of every element, in the shape of `x`; equal to x to f32 above about 17.
///
/// # Errors
/// When `x` is not contiguous f32.
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    if super::composes(x) {
        // max(x, 0) + log(1 + e^-|x|) never overflows.
        return x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?;
    }
    x.apply_op1(Shell(Softplus))
}

struct Softplus;

impl Op<1> for Softplus {
    const NAME: &'static str = OP;

    fn forward(&self, [x]: [Arg<'_>; 1]) -> Result<(Vec<f32>, Shape)> {
        let y = x.values.iter().map(|x| x.max(0.0) + (-x.abs()).exp().ln_1p()).collect();
        Ok((y, x.dims.into()))
    }

    fn backward(&self, [x]: [Arg<'_>; 1], _y: &[f32], dy: &[f32], _: [bool; 1]) -> Result<[Slope; 1]> {
        Ok([Slope::Values(x.values.iter().zip(dy).map(|(x, g)| g / (1.0 + (-x).exp())).collect())])
    }
}

#[cfg(test)]
mod tests {
    use super::super::graddiff::{check, var, weigh};
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn gradients_agree_with_finite_differences() -> Result<()> {
        let x = Var::from_tensor(&(var(&[3, 7], 4)?.as_tensor() * 5.0)?)?;
        check(std::slice::from_ref(&x), 1e-2, 2e-3, || weigh(&softplus(&x)?))
    }

    #[test]
    fn far_ends_neither_overflow_nor_vanish() -> Result<()> {
        let y = softplus(&Tensor::new(&[-80f32, 0.0, 200.0], &Device::Cpu)?)?.to_vec1::<f32>()?;
        assert!(y[0] > 0.0 && y[0] < 1e-30);
        assert!((y[1] - std::f32::consts::LN_2).abs() < 1e-6);
        assert_eq!(y[2], 200.0);
        Ok(())
    }
}
