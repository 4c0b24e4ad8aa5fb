//! Layer normalisation over the last axis: `(x - mean) / sqrt(variance + eps) * gamma (+ beta)`.

use super::shell::{Arg, Op, Shell, Slope};
use super::simd::{LANES, dot, mad, sum, vectorized};
use super::{column_sums, dims2};
use candle_core::{Result, Shape, Tensor, bail};

const OP: &str = "layer_norm";

/// `[n, h]`: each row of `x [n, h]` with its mean subtracted, divided by its deviation, times `gamma [h]`.
///
/// # Errors
/// When the shapes do not agree.
pub fn layer_norm(x: &Tensor, gamma: &Tensor, eps: f32) -> Result<Tensor> {
    check_shapes(x, gamma)?;
    if super::composes(x) {
        return composed(x, gamma, None, eps);
    }
    x.apply_op2(gamma, Shell(LayerNorm { eps }))
}

/// [`layer_norm`] plus `beta [h]`, as BERT has it.
///
/// # Errors
/// When the shapes do not agree.
pub fn layer_norm_bias(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f32) -> Result<Tensor> {
    check_shapes(x, gamma)?;
    check_shapes(x, beta)?;
    if super::composes(x) {
        return composed(x, gamma, Some(beta), eps);
    }
    x.apply_op3(gamma, beta, Shell(LayerNorm { eps }))
}

fn check_shapes(x: &Tensor, gamma: &Tensor) -> Result<()> {
    let (_, width) = dims2(OP, "the input", x)?;
    if width == 0 || gamma.dims() != [width] {
        bail!("{OP}: gamma and beta must have shape [{width}] for rows of {width}, found {:?}", gamma.dims())
    }
    Ok(())
}

fn composed(x: &Tensor, gamma: &Tensor, beta: Option<&Tensor>, eps: f32) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(1)? + f64::from(eps))?.sqrt()?;
    let y = centred.broadcast_div(&deviation)?.broadcast_mul(gamma)?;
    match beta {
        Some(beta) => y.broadcast_add(beta),
        None => Ok(y),
    }
}

struct LayerNorm {
    eps: f32,
}

/// Mean and inverse deviation of one row. Two passes: the difference of two large sums would lose the variance.
#[inline(always)]
fn moments(row: &[f32], eps: f32) -> (f32, f32) {
    let n = row.len() as f32;
    let mean = sum(row) / n;
    let mut lanes = [0f32; LANES];
    let chunks = row.chunks_exact(LANES);
    let mut tail = 0.0;
    for v in chunks.remainder() {
        tail += (v - mean) * (v - mean);
    }
    for chunk in chunks {
        for i in 0..LANES {
            let centred = chunk[i] - mean;
            lanes[i] += centred * centred;
        }
    }
    let variance = (lanes.iter().sum::<f32>() + tail) / n;
    (mean, 1.0 / (variance + eps).sqrt())
}

vectorized! {
    /// Appends the normalised rows of `x` to `y`; `beta` is empty where there is none.
    fn forward_rows(x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, y: &mut [f32]) {
        let width = gamma.len();
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            let (mean, inverse) = moments(x, eps);
            for ((y, x), g) in y.iter_mut().zip(x).zip(gamma) {
                *y = (x - mean) * inverse * g;
            }
            for (y, b) in y.iter_mut().zip(beta) {
                *y += b;
            }
        }
    }
}

vectorized! {
    /// Writes dx and adds to dgamma.
    fn backward_rows(x: &[f32], gamma: &[f32], dy: &[f32], eps: f32, dx: &mut [f32], dgamma: &mut [f32]) {
        let width = gamma.len();
        let n = width as f32;
        for ((x, dy), dx) in x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width)) {
            let (mean, inverse) = moments(x, eps);
            // dx holds the normalised row for a moment.
            for (((h, x), dy), dgamma) in dx.iter_mut().zip(x).zip(dy).zip(dgamma.iter_mut()) {
                *h = (x - mean) * inverse;
                *dgamma = mad::<FMA>(*dy, *h, *dgamma);
            }
            let slope = dot::<FMA>(dy, gamma) / n;
            let mut lanes = [0f32; LANES];
            let whole = width / LANES * LANES;
            let mut tail = 0.0;
            for i in whole..width {
                tail += dy[i] * gamma[i] * dx[i];
            }
            for ((d, g), h) in dy.chunks_exact(LANES).zip(gamma.chunks_exact(LANES)).zip(dx.chunks_exact(LANES)) {
                for i in 0..LANES {
                    lanes[i] = mad::<FMA>(d[i] * g[i], h[i], lanes[i]);
                }
            }
            let stretch = (lanes.iter().sum::<f32>() + tail) / n;
            for ((h, dy), g) in dx.iter_mut().zip(dy).zip(gamma) {
                *h = inverse * (dy * g - slope - *h * stretch);
            }
        }
    }
}

impl LayerNorm {
    fn values(&self, x: Arg<'_>, gamma: Arg<'_>, beta: &[f32]) -> (Vec<f32>, Shape) {
        let mut y = vec![0f32; x.values.len()];
        forward_rows(x.values, gamma.values, beta, self.eps, &mut y);
        (y, x.dims.into())
    }

    fn slopes(&self, x: Arg<'_>, gamma: Arg<'_>, dy: &[f32]) -> [Slope; 2] {
        let mut dx = vec![0f32; x.values.len()];
        let mut dgamma = vec![0f32; gamma.values.len()];
        backward_rows(x.values, gamma.values, dy, self.eps, &mut dx, &mut dgamma);
        [Slope::Values(dx), Slope::Values(dgamma)]
    }
}

impl Op<2> for LayerNorm {
    const NAME: &'static str = OP;

    fn forward(&self, [x, gamma]: [Arg<'_>; 2]) -> Result<(Vec<f32>, Shape)> {
        Ok(self.values(x, gamma, &[]))
    }

    fn backward(&self, [x, gamma]: [Arg<'_>; 2], _y: &[f32], dy: &[f32], _: [bool; 2]) -> Result<[Slope; 2]> {
        Ok(self.slopes(x, gamma, dy))
    }
}

impl Op<3> for LayerNorm {
    const NAME: &'static str = OP;

    fn forward(&self, [x, gamma, beta]: [Arg<'_>; 3]) -> Result<(Vec<f32>, Shape)> {
        Ok(self.values(x, gamma, beta.values))
    }

    fn backward(
        &self,
        [x, gamma, beta]: [Arg<'_>; 3],
        _y: &[f32],
        dy: &[f32],
        wanted: [bool; 3],
    ) -> Result<[Slope; 3]> {
        let [dx, dgamma] = self.slopes(x, gamma, dy);
        Ok([dx, dgamma, Slope::when(wanted[2], || column_sums(dy, beta.values.len()))])
    }
}

#[cfg(test)]
mod tests {
    use super::super::graddiff::{agree, check, var, weigh};
    use super::*;

    #[test]
    fn gradients_agree_at_widths_around_the_lane_count() -> Result<()> {
        for width in [1, 15, 16, 17, 48] {
            let (x, g, b) = (var(&[5, width], 1)?, var(&[width], 2)?, var(&[width], 3)?);
            // A large epsilon: at width 1 the variance is zero.
            let eps = 1e-2;
            check(&[x.clone(), g.clone()], 1e-2, 2e-2, || weigh(&layer_norm(&x, &g, eps)?))?;
            agree(
                &[x.clone(), g.clone(), b.clone()],
                2e-5,
                || weigh(&layer_norm_bias(&x, &g, &b, eps)?),
                || weigh(&composed(&x, &g, Some(&b), eps)?),
            )?;
            agree(
                &[x.clone(), g.clone()],
                2e-5,
                || weigh(&layer_norm(&x, &g, eps)?),
                || weigh(&composed(&x, &g, None, eps)?),
            )?;
        }
        Ok(())
    }

    #[test]
    fn a_large_mean_does_not_eat_the_variance() -> Result<()> {
        let x =
            (Tensor::from_vec(super::super::graddiff::values(64, 1), (1, 64), &candle_core::Device::Cpu)?
                + 1000.0)?;
        let y = layer_norm(&x, &Tensor::ones(64, candle_core::DType::F32, x.device())?, 1e-5)?;
        let square = y.sqr()?.mean_all()?.to_scalar::<f32>()?;
        assert!((square - 1.0).abs() < 1e-2, "{square}");
        Ok(())
    }
}
