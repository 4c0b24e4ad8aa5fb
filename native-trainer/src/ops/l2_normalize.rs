//! Rows divided by their Euclidean length.

use super::dims2;
use super::shell::{Arg, Op, Shell, Slope};
use super::simd::{dot, mad, vectorized};
use candle_core::{Result, Shape, Tensor};

const OP: &str = "l2_normalize";

/// Lengths below this divide as this, so that a row of zeros stays zeros.
const EPSILON: f32 = 1e-12;

/// `[n, d]`: each row of `x [n, d]` divided by its length, or by 1e-12 where it is shorter.
///
/// A row shorter than that receives no gradient: its direction means nothing, and the true slope of 1e12 would end the
/// training run.
///
/// # Errors
/// When `x` is not a matrix.
pub fn l2_normalize(x: &Tensor) -> Result<Tensor> {
    dims2(OP, "the input", x)?;
    if super::composes(x) {
        return composed(x);
    }
    x.apply_op1(Shell(Normalize))
}

fn composed(x: &Tensor) -> Result<Tensor> {
    let length = (x.sqr()?.sum_keepdim(1)? + f64::from(EPSILON * EPSILON).max(1e-30))?.sqrt()?;
    x.broadcast_div(&length)
}

vectorized! {
    fn forward_rows(x: &[f32], y: &mut [f32], width: usize) {
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            let inverse = 1.0 / dot::<FMA>(x, x).sqrt().max(EPSILON);
            for (y, x) in y.iter_mut().zip(x) {
                *y = x * inverse;
            }
        }
    }
}

vectorized! {
    fn backward_rows(x: &[f32], y: &[f32], dy: &[f32], dx: &mut [f32], width: usize) {
        let rows = x.chunks_exact(width).zip(y.chunks_exact(width)).zip(dy.chunks_exact(width));
        for (((x, y), dy), dx) in rows.zip(dx.chunks_exact_mut(width)) {
            let length = dot::<FMA>(x, x).sqrt();
            if length <= EPSILON {
                continue;
            }
            let (inverse, along) = (1.0 / length, dot::<FMA>(y, dy));
            for ((dx, y), dy) in dx.iter_mut().zip(y).zip(dy) {
                *dx = mad::<FMA>(-along, *y, *dy) * inverse;
            }
        }
    }
}

struct Normalize;

impl Op<1> for Normalize {
    const NAME: &'static str = OP;

    fn forward(&self, [x]: [Arg<'_>; 1]) -> Result<(Vec<f32>, Shape)> {
        let mut y = vec![0f32; x.values.len()];
        forward_rows(x.values, &mut y, x.dims[1].max(1));
        Ok((y, x.dims.into()))
    }

    fn backward(&self, [x]: [Arg<'_>; 1], y: &[f32], dy: &[f32], _: [bool; 1]) -> Result<[Slope; 1]> {
        let mut dx = vec![0f32; x.values.len()];
        backward_rows(x.values, y, dy, &mut dx, x.dims[1].max(1));
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
        for width in [1, 16, 21] {
            let x = var(&[4, width], 9)?;
            check(std::slice::from_ref(&x), 1e-3, 1e-2, || weigh(&l2_normalize(&x)?))?;
            if width > 1 {
                agree(
                    std::slice::from_ref(&x),
                    1e-5,
                    || weigh(&l2_normalize(&x)?),
                    || weigh(&composed(&x)?),
                )?;
            }
        }
        Ok(())
    }

    #[test]
    fn a_zero_row_stays_zero_and_gets_no_gradient() -> Result<()> {
        let x = Var::zeros((2, 8), candle_core::DType::F32, &candle_core::Device::Cpu)?;
        let y = l2_normalize(&x)?;
        assert!(y.flatten_all()?.to_vec1::<f32>()?.iter().all(|v| *v == 0.0));
        let grads = weigh(&y)?.backward()?;
        assert!(grads.get(&x).unwrap().flatten_all()?.to_vec1::<f32>()?.iter().all(|v| *v == 0.0));
        Ok(())
    }
}
