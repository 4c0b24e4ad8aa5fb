//! Matrix product with a weight stored `[out, in]`, with an optional bias or a residual added in the same pass.

use super::matmul::{Mat, matmul_mixed};
use super::{dims2, floats, slice, tensor};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};

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
        Some(bias) => x.apply_op3(w, bias, LinearWith { addend: Addend::Bias }),
        None => x.apply_op2(w, Linear),
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
    x.apply_op3(w, residual, LinearWith { addend: Addend::Residual })
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

fn forward(y: &mut [f32], accumulate: bool, x: &[f32], w: &[f32], (n, m, k): (usize, usize, usize)) {
    matmul_mixed(y, m, accumulate, Mat::new(x, n, k, k), Mat::new(w, m, k, k).t(), 1.0);
}

/// Gradients of x and w, each only where something upstream is trained.
fn backward(x: &Tensor, w: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let (n, m, k) = shapes(x, w)?;
    let grad = floats(grad, OP)?;
    let dy = Mat::new(&grad, n, m, m);
    let dx = if x.track_op() {
        let w = floats(w, OP)?;
        let mut dx = vec![0f32; n * k];
        matmul_mixed(&mut dx, k, false, dy, Mat::new(&w, m, k, k), 1.0);
        Some(tensor(dx, &[n, k])?)
    } else {
        None
    };
    let dw = if w.track_op() {
        let x = floats(x, OP)?;
        let mut dw = vec![0f32; m * k];
        matmul_mixed(&mut dw, k, false, dy.t(), Mat::new(&x, n, k, k), 1.0);
        Some(tensor(dw, &[m, k])?)
    } else {
        None
    };
    Ok((dx, dw))
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, w) = (slice(s1, l1, OP)?, slice(s2, l2, OP)?);
        let ((n, k), m) = (l1.shape().dims2()?, l2.shape().dims2()?.0);
        let mut y = vec![0f32; n * m];
        forward(&mut y, false, x, w, (n, m, k));
        Ok((CpuStorage::F32(y), (n, m).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        backward(x, w, &grad.contiguous()?)
    }
}

impl CustomOp3 for LinearWith {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, w, addend) = (slice(s1, l1, OP)?, slice(s2, l2, OP)?, slice(s3, l3, OP)?);
        let ((n, k), m) = (l1.shape().dims2()?, l2.shape().dims2()?.0);
        let mut y = match self.addend {
            Addend::Residual => addend.to_vec(),
            Addend::Bias => addend.repeat(n),
        };
        forward(&mut y, true, x, w, (n, m, k));
        Ok((CpuStorage::F32(y), (n, m).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        addend: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (dx, dw) = backward(x, w, &grad)?;
        let da = match self.addend {
            _ if !addend.track_op() => None,
            Addend::Residual => Some(grad),
            Addend::Bias => {
                let m = addend.elem_count();
                let mut db = vec![0f32; m];
                for row in floats(&grad, OP)?.chunks_exact(m.max(1)) {
                    for (b, g) in db.iter_mut().zip(row) {
                        *b += *g;
                    }
                }
                Some(tensor(db, &[m])?)
            }
        };
        Ok((dx, dw, da))
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
