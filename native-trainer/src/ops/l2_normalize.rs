//! Rows divided by their Euclidean length.

use super::simd::{dot, mad, vectorized};
use super::{dims2, floats, slice, tensor};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

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
    x.apply_op1(Normalize)
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

impl CustomOp1 for Normalize {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout, OP)?;
        let mut y = vec![0f32; x.len()];
        forward_rows(x, &mut y, layout.shape().dims2()?.1.max(1));
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let (xs, ys, dy) = (floats(x, OP)?, floats(y, OP)?, floats(&grad, OP)?);
        let mut dx = vec![0f32; xs.len()];
        backward_rows(&xs, &ys, &dy, &mut dx, x.dim(1)?.max(1));
        Ok(Some(tensor(dx, x.dims())?))
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
