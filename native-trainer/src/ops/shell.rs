//! What every operation on the tape shares: from candle's storages to flat slices and back.
//!
//! An operation says how to compute values and slopes on `&[f32]` with shapes; [`Shell`] is the candle `CustomOp` around it.

use super::{floats, slice, tensor};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

/// One argument: contiguous values and their sizes.
#[derive(Clone, Copy)]
pub(super) struct Arg<'a> {
    pub(super) values: &'a [f32],
    pub(super) dims: &'a [usize],
}

impl Arg<'_> {
    /// Rows and columns of a matrix; the public functions have checked that it is one.
    pub(super) fn dims2(&self) -> (usize, usize) {
        (self.dims[0], self.dims[1])
    }
}

/// The gradient of one argument.
pub(super) enum Slope {
    /// Not computed, because nothing upstream is trained.
    Unwanted,
    /// Values in the argument's shape.
    Values(Vec<f32>),
    /// The gradient of the output itself.
    Output,
}

impl Slope {
    /// The values, if they are wanted.
    pub(super) fn when(wanted: bool, values: impl FnOnce() -> Vec<f32>) -> Self {
        if wanted { Self::Values(values()) } else { Self::Unwanted }
    }
}

/// An operation of `N` arguments on the CPU.
pub(super) trait Op<const N: usize> {
    /// Name in error messages.
    const NAME: &'static str;

    /// The output's values and shape.
    fn forward(&self, x: [Arg<'_>; N]) -> Result<(Vec<f32>, Shape)>;

    /// The slopes of the arguments from the output `y` and its gradient `dy`.
    fn backward(&self, x: [Arg<'_>; N], y: &[f32], dy: &[f32], wanted: [bool; N]) -> Result<[Slope; N]>;
}

/// An operation as candle takes it.
pub(super) struct Shell<O>(pub(super) O);

fn forward<O: Op<N>, const N: usize>(op: &O, x: [(&CpuStorage, &Layout); N]) -> Result<(CpuStorage, Shape)> {
    let mut args = [Arg { values: &[], dims: &[] }; N];
    for (arg, (storage, layout)) in args.iter_mut().zip(x) {
        *arg = Arg { values: slice(storage, layout, O::NAME)?, dims: layout.dims() };
    }
    let (y, shape) = op.forward(args)?;
    Ok((CpuStorage::F32(y), shape))
}

fn backward<O: Op<N>, const N: usize>(
    op: &O,
    x: [&Tensor; N],
    y: &Tensor,
    grad: &Tensor,
) -> Result<[Option<Tensor>; N]> {
    let grad = grad.contiguous()?;
    let held = x.iter().map(|x| floats(x, O::NAME)).collect::<Result<Vec<_>>>()?;
    let args = std::array::from_fn(|i| Arg { values: &held[i], dims: x[i].dims() });
    let wanted = x.map(Tensor::track_op);
    let slopes = op.backward(args, &floats(y, O::NAME)?, &floats(&grad, O::NAME)?, wanted)?;
    let mut out = std::array::from_fn(|_| None);
    for ((out, slope), x) in out.iter_mut().zip(slopes).zip(x) {
        *out = match slope {
            Slope::Unwanted => None,
            Slope::Values(values) => Some(tensor(values, x.dims())?),
            Slope::Output => Some(grad.clone()),
        };
    }
    Ok(out)
}

impl<O: Op<1>> CustomOp1 for Shell<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        forward(&self.0, [(s, l)])
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [dx] = backward(&self.0, [x], y, grad)?;
        Ok(dx)
    }
}

impl<O: Op<2>> CustomOp2 for Shell<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        forward(&self.0, [(s1, l1), (s2, l2)])
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [da, db] = backward(&self.0, [a, b], y, grad)?;
        Ok((da, db))
    }
}

impl<O: Op<3>> CustomOp3 for Shell<O> {
    fn name(&self) -> &'static str {
        O::NAME
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
        forward(&self.0, [(s1, l1), (s2, l2), (s3, l3)])
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [da, db, dc] = backward(&self.0, [a, b, c], y, grad)?;
        Ok((da, db, dc))
    }
}
