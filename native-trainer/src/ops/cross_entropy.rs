//! Contrastive loss: softmax cross-entropy of each query's own document against the others in the batch.

use super::dims2;
use super::shell::{Arg, Op, Shell, Slope};
use candle_core::{Result, Shape, Tensor, bail};
use std::sync::OnceLock;

const OP: &str = "cross_entropy";

/// Scalar: the mean over rows of `-log softmax(scale * scores[row])[target[row]]` for `scores [n_rows, n_columns]`.
///
/// `excluded[row]` lists columns that take no part in the row's softmax: other positives, duplicates of the target, known
/// false negatives. They receive no gradient.
///
/// # Errors
/// When `target` or `excluded` do not have one entry a row, name a column that is not there, or exclude the target.
pub fn cross_entropy(
    scores: &Tensor,
    target: &[u32],
    excluded: Option<&[Vec<u32>]>,
    scale: f32,
) -> Result<Tensor> {
    let (n, m) = dims2(OP, "scores", scores)?;
    if target.len() != n || n == 0 || excluded.is_some_and(|rows| rows.len() != n) {
        bail!("{OP}: {n} rows of scores need {n} targets and, if any, {n} lists of excluded columns")
    }
    let mut mask = vec![true; n * m];
    for row in 0..n {
        let out = excluded.map_or(&[][..], |rows| &rows[row]);
        if let Some(column) = out.iter().chain([&target[row]]).find(|&&column| column as usize >= m) {
            bail!("{OP}: row {row} names column {column} of {m}")
        }
        if out.contains(&target[row]) {
            bail!("{OP}: row {row} excludes its own target, column {}", target[row])
        }
        for &column in out {
            mask[row * m + column as usize] = false;
        }
    }
    if super::composes(scores) {
        return composed(scores, target, &mask, scale);
    }
    scores.apply_op1(Shell(CrossEntropy { target: target.into(), mask, scale, slope: OnceLock::new() }))
}

fn composed(scores: &Tensor, target: &[u32], mask: &[bool], scale: f32) -> Result<Tensor> {
    let device = scores.device();
    let mask: Vec<f32> = mask.iter().map(|&kept| if kept { 0.0 } else { -1e30 }).collect();
    let x = ((scores * f64::from(scale))? + Tensor::from_vec(mask, scores.shape(), device)?)?;
    let x = x.broadcast_sub(&x.max_keepdim(1)?.detach())?;
    let log_sum = x.exp()?.sum_keepdim(1)?.log()?;
    let target = Tensor::new(target, device)?.unsqueeze(1)?;
    (log_sum - x.contiguous()?.gather(&target, 1)?)?.mean_all()
}

struct CrossEntropy {
    target: Box<[u32]>,
    mask: Vec<bool>,
    scale: f32,
    /// d loss / d scores, written by the forward pass.
    slope: OnceLock<Vec<f32>>,
}

impl Op<1> for CrossEntropy {
    const NAME: &'static str = OP;

    fn forward(&self, [scores]: [Arg<'_>; 1]) -> Result<(Vec<f32>, Shape)> {
        let ((n, m), scores) = (scores.dims2(), scores.values);
        let scale = f64::from(self.scale);
        let mut slope = vec![0f32; n * m];
        let mut loss = 0.0;
        for row in 0..n {
            let (scores, mask) = (&scores[row * m..][..m], &self.mask[row * m..][..m]);
            let kept = || {
                scores.iter().zip(mask).enumerate().filter(|(_, (_, kept))| **kept).map(|(i, (s, _))| (i, s))
            };
            let largest = kept().fold(f64::MIN, |a, (_, s)| a.max(f64::from(*s) * scale));
            let total: f64 = kept().map(|(_, s)| (f64::from(*s) * scale - largest).exp()).sum();
            let target = self.target[row] as usize;
            loss += largest + total.ln() - f64::from(scores[target]) * scale;
            for (i, s) in kept() {
                let p = (f64::from(*s) * scale - largest).exp() / total;
                let hit = if i == target { 1.0 } else { 0.0 };
                slope[row * m + i] = ((p - hit) * scale / n as f64) as f32;
            }
        }
        let _ = self.slope.set(slope);
        Ok((vec![(loss / n as f64) as f32], ().into()))
    }

    fn backward(&self, _: [Arg<'_>; 1], _loss: &[f32], grad: &[f32], _: [bool; 1]) -> Result<[Slope; 1]> {
        scaled(self.slope.get(), grad, OP)
    }
}

/// The gradient kept by a loss's forward pass, times the loss's own gradient.
pub(super) fn scaled(slope: Option<&Vec<f32>>, grad: &[f32], op: &'static str) -> Result<[Slope; 1]> {
    let Some(slope) = slope else { bail!("{op}: backward before forward") };
    Ok([Slope::Values(slope.iter().map(|s| s * grad[0]).collect())])
}

#[cfg(test)]
mod tests {
    use super::super::graddiff::{agree, check, var};
    use super::*;

    #[test]
    fn gradients_agree_with_finite_differences_and_the_composed_formula() -> Result<()> {
        let scores = var(&[3, 5], 2)?;
        let target = [2, 0, 4];
        let excluded = [vec![0, 1], vec![], vec![3]];
        let loss = || cross_entropy(&scores, &target, Some(&excluded), 3.0)? * 2.0;
        check(std::slice::from_ref(&scores), 1e-2, 5e-3, loss)?;
        let mask: Vec<bool> = (0..15).map(|i| !excluded[i / 5].contains(&(i as u32 % 5))).collect();
        agree(std::slice::from_ref(&scores), 1e-5, loss, || composed(&scores, &target, &mask, 3.0)? * 2.0)
    }

    #[test]
    fn an_excluded_target_is_refused() -> Result<()> {
        let scores = var(&[1, 3], 2)?;
        let message = cross_entropy(&scores, &[1], Some(&[vec![1]]), 1.0).unwrap_err().to_string();
        assert!(message.contains("row 0"), "{message}");
        assert!(cross_entropy(&scores, &[3], None, 1.0).is_err());
        Ok(())
    }
}
