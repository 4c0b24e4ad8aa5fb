//! Matrix product with a weight stored `[out, in]`, with an optional bias or a residual added in the same pass.

use super::matmul::{Mat, matmul_mixed};
use super::shell::{Arg, Op, Shell, Slope};
use super::{column_sums, dims2};
use candle_core::{DType, Result, Shape, Tensor, bail};

const OP: &str = "linear";

/// `[n, m]`: `x w^T + bias` for `x [n, k]`, `w [m, k]` and `bias [m]`.
///
/// # Errors
/// When the shapes do not agree.
pub fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (_, m, _) = shapes(x, w)?;
    if let Some(bias) = bias
        && bias.dims() != [m]
    {
        bail!("{OP}: the bias must have shape [{m}], found {:?}", bias.dims())
    }
    if super::composes(x) {
        let y = composed(x, w)?;
        return match bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        };
    }
    match bias {
        Some(bias) => x.apply_op3(w, bias, Shell(LinearWith { addend: Addend::Bias })),
        None => x.apply_op2(w, Shell(Linear)),
    }
}

/// `[n, m]`: `x w^T + residual` for `x [n, k]`, `w [m, k]` and `residual [n, m]`.
///
/// # Errors
/// When the shapes do not agree.
pub fn linear_add(x: &Tensor, w: &Tensor, residual: &Tensor) -> Result<Tensor> {
    let (n, m, _) = shapes(x, w)?;
    if residual.dims() != [n, m] {
        bail!("{OP}: the residual must have shape [{n}, {m}], found {:?}", residual.dims())
    }
    if super::composes(x) {
        return composed(x, w)? + residual;
    }
    x.apply_op3(w, residual, Shell(LinearWith { addend: Addend::Residual }))
}

/// Weights stay f32; a device multiplies in bf16 where [`allow_bf16`](super::matmul::allow_bf16) is on, with f32 results.
fn composed(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    if !x.device().is_cpu() && super::matmul::wants_bf16() {
        let (x, w) = (x.to_dtype(DType::BF16)?, w.to_dtype(DType::BF16)?);
        return x.matmul(&w.t()?)?.to_dtype(DType::F32);
    }
    x.matmul(&w.t()?)
}

/// n, m and k of `x [n, k]` and `w [m, k]`.
fn shapes(x: &Tensor, w: &Tensor) -> Result<(usize, usize, usize)> {
    let ((n, k), (m, inner)) = (dims2(OP, "the input", x)?, dims2(OP, "the weight", w)?);
    if k != inner {
        bail!("{OP}: input [{n}, {k}] and weight [{m}, {inner}] must have the same second size")
    }
    Ok((n, m, k))
}

struct Linear;

#[derive(Clone, Copy, PartialEq)]
enum Addend {
    Bias,
    Residual,
}

struct LinearWith {
    addend: Addend,
}

fn forward(y: &mut [f32], accumulate: bool, x: Arg<'_>, w: Arg<'_>) {
    let ((n, k), m) = (x.dims2(), w.dims[0]);
    matmul_mixed(y, m, accumulate, Mat::new(x.values, n, k, k), Mat::new(w.values, m, k, k).t(), 1.0);
}

/// Slopes of x and w, each only where something upstream is trained.
fn slopes(x: Arg<'_>, w: Arg<'_>, dy: &[f32], wanted: [bool; 2]) -> [Slope; 2] {
    let ((n, k), m) = (x.dims2(), w.dims[0]);
    let dy = Mat::new(dy, n, m, m);
    let dx = Slope::when(wanted[0], || {
        let mut dx = vec![0f32; n * k];
        matmul_mixed(&mut dx, k, false, dy, Mat::new(w.values, m, k, k), 1.0);
        dx
    });
    let dw = Slope::when(wanted[1], || {
        let mut dw = vec![0f32; m * k];
        matmul_mixed(&mut dw, k, false, dy.t(), Mat::new(x.values, n, k, k), 1.0);
        dw
    });
    [dx, dw]
}

impl Op<2> for Linear {
    const NAME: &'static str = OP;

    fn forward(&self, [x, w]: [Arg<'_>; 2]) -> Result<(Vec<f32>, Shape)> {
        let (n, m) = (x.dims[0], w.dims[0]);
        let mut y = vec![0f32; n * m];
        forward(&mut y, false, x, w);
        Ok((y, (n, m).into()))
    }

    fn backward(
        &self,
        [x, w]: [Arg<'_>; 2],
        _y: &[f32],
        dy: &[f32],
        wanted: [bool; 2],
    ) -> Result<[Slope; 2]> {
        Ok(slopes(x, w, dy, wanted))
    }
}

impl Op<3> for LinearWith {
    const NAME: &'static str = OP;

    fn forward(&self, [x, w, addend]: [Arg<'_>; 3]) -> Result<(Vec<f32>, Shape)> {
        let (n, m) = (x.dims[0], w.dims[0]);
        let mut y = match self.addend {
            Addend::Residual => addend.values.to_vec(),
            Addend::Bias => addend.values.repeat(n),
        };
        forward(&mut y, true, x, w);
        Ok((y, (n, m).into()))
    }

    fn backward(
        &self,
        [x, w, addend]: [Arg<'_>; 3],
        _y: &[f32],
        dy: &[f32],
        wanted: [bool; 3],
    ) -> Result<[Slope; 3]> {
        let [dx, dw] = slopes(x, w, dy, [wanted[0], wanted[1]]);
        let da = match self.addend {
            _ if !wanted[2] => Slope::Unwanted,
            Addend::Residual => Slope::Output,
            Addend::Bias => Slope::Values(column_sums(dy, addend.values.len())),
        };
        Ok([dx, dw, da])
    }
}

#[cfg(test)]
mod tests {
    use super::super::graddiff::{agree, check, var, weigh};
    use super::*;

    #[test]
    fn gradients_agree_with_finite_differences_and_with_plain_products() -> Result<()> {
        let (x, w, b) = (var(&[6, 5], 1)?, var(&[4, 5], 2)?, var(&[4], 3)?);
        let r = var(&[6, 4], 4)?;
        let plain = || x.matmul(&w.t()?);
        check(&[x.clone(), w.clone()], 1e-2, 2e-3, || weigh(&linear(&x, &w, None)?))?;
        agree(&[x.clone(), w.clone()], 1e-5, || weigh(&linear(&x, &w, None)?), || weigh(&plain()?))?;
        agree(
            &[x.clone(), w.clone(), b.clone()],
            1e-5,
            || weigh(&linear(&x, &w, Some(&b))?),
            || weigh(&plain()?.broadcast_add(&b)?),
        )?;
        agree(
            &[x.clone(), w.clone(), r.clone()],
            1e-5,
            || weigh(&linear_add(&x, &w, &r)?),
            || weigh(&(plain()? + r.as_tensor())?),
        )
    }

    #[test]
    fn shapes_that_do_not_agree_are_named() -> Result<()> {
        let message = linear(&*var(&[6, 5], 1)?, &*var(&[4, 3], 2)?, None).unwrap_err().to_string();
        assert!(message.contains("[6, 5]") && message.contains("[4, 3]"), "{message}");
        Ok(())
    }
}
