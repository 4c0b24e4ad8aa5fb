//! Gradient checks: an operation against finite differences and against another way to compute the same value.

use candle_core::{Result, Tensor, Var, bail};

/// Fixed pseudo-random values in about [-1, 1], different for each `seed`.
pub fn values(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..8).for_each(|_| {
        next();
    });
    (0..n).map(|_| next()).collect()
}

/// A variable of `shape` filled with [`values`].
///
/// # Errors
/// When candle cannot make the tensor.
pub fn var(shape: &[usize], seed: u64) -> Result<Var> {
    Var::from_vec(values(shape.iter().product(), seed), shape, &candle_core::Device::Cpu)
}

/// A scalar that weighs every element of `output` differently, so that no gradient can hide in a sum.
///
/// # Errors
/// When candle cannot multiply.
pub fn weigh(output: &Tensor) -> Result<Tensor> {
    let weights = Tensor::from_vec(values(output.elem_count(), 77), output.shape(), output.device())?;
    (output * weights)?.sum_all()
}

fn vector(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1::<f32>()
}

/// Largest difference, relative to the largest magnitude of the second, between two lists.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    let scale = b.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / scale
}

/// Checks the gradients of the scalar `f` at `vars` against central differences of step `step`: every element where there
/// are at most 64, otherwise 64 spread over the variable. `tolerance` is relative to the variable's largest gradient.
///
/// # Errors
/// Names the variable and element that differ, or a variable without a gradient.
pub fn check(vars: &[Var], step: f32, tolerance: f32, f: impl Fn() -> Result<Tensor>) -> Result<()> {
    let grads = f()?.backward()?;
    for (index, var) in vars.iter().enumerate() {
        let Some(grad) = grads.get(var) else { bail!("variable {index} has no gradient") };
        let grad = vector(grad)?;
        let origin = vector(var)?;
        let scale = grad.iter().fold(1e-4f32, |m, v| m.max(v.abs()));
        let stride = origin.len().div_ceil(64).max(1);
        for element in (0..origin.len()).step_by(stride) {
            let at = |delta: f32| -> Result<f64> {
                let mut moved = origin.clone();
                moved[element] += delta;
                var.set(&Tensor::from_vec(moved, var.shape(), var.device())?)?;
                Ok(f64::from(f()?.to_scalar::<f32>()?))
            };
            let slope = ((at(step)? - at(-step)?) / (2.0 * f64::from(step))) as f32;
            var.set(&Tensor::from_vec(origin.clone(), var.shape(), var.device())?)?;
            if (slope - grad[element]).abs() > tolerance * scale {
                bail!(
                    "variable {index}, element {element}: gradient {}, finite difference {slope}",
                    grad[element]
                )
            }
        }
    }
    Ok(())
}

/// Checks that two scalars agree in value and in the gradient of every variable, within `tolerance` relative to the
/// largest element.
///
/// # Errors
/// Names what differs.
pub fn agree(
    vars: &[Var],
    tolerance: f32,
    f: impl Fn() -> Result<Tensor>,
    oracle: impl Fn() -> Result<Tensor>,
) -> Result<()> {
    let (ours, theirs) = (f()?, oracle()?);
    let values = (vector(&ours)?, vector(&theirs)?);
    if distance(&values.0, &values.1) > tolerance {
        bail!("values differ: {:?} and {:?}", values.0, values.1)
    }
    let (ours, theirs) = (ours.backward()?, theirs.backward()?);
    for (index, var) in vars.iter().enumerate() {
        let (Some(a), Some(b)) = (ours.get(var), theirs.get(var)) else {
            bail!("variable {index} has no gradient on one side")
        };
        let error = distance(&vector(a)?, &vector(b)?);
        if error.is_nan() || error > tolerance {
            bail!("gradients of variable {index} differ by {error}")
        }
    }
    Ok(())
}
