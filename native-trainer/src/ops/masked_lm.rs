//! Masked-language-model loss with the output layer tied to the embedding table.
//!
//! Logits are made for a block of rows at a time. Where anything upstream is trained, the same pass turns them into the
//! gradients of the hidden rows and of the table, which are kept for the backward pass: three products in all, and never
//! more than one block of logits alive. (Recomputing logits in the backward pass would be a fourth product.)

use super::dims2;
use super::matmul::{Mat, matmul_mixed};
use super::shell::{Arg, Op, Shell, Slope};
use super::simd::softmax;
use candle_core::{Result, Shape, Tensor, bail};
use std::sync::OnceLock;

const OP: &str = "masked_lm_loss";

/// Rows of a block of logits: 16 MiB at a vocabulary of 16k.
const ROWS: usize = 256;

/// Scalar: the mean over rows of `-log softmax(hidden[row] table^T)[targets[row]]`, for `hidden [n, h]` (the masked
/// positions only) and `table [vocab, h]`.
///
/// # Errors
/// When widths differ, `targets` does not have one entry a row, or a target is not a row of the table.
pub fn masked_lm_loss(hidden: &Tensor, table: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let ((n, h), (vocab, width)) = (dims2(OP, "hidden rows", hidden)?, dims2(OP, "the table", table)?);
    if h != width || n != targets.len() || n == 0 {
        bail!(
            "{OP}: hidden [{n}, {h}], table [{vocab}, {width}] and {} targets do not fit together",
            targets.len()
        )
    }
    if let Some(id) = targets.iter().find(|&&id| id as usize >= vocab) {
        bail!("{OP}: target {id} is outside the table of {vocab} rows")
    }
    if super::composes(hidden) {
        return composed(hidden, table, targets);
    }
    let wanted = hidden.track_op() || table.track_op();
    hidden.apply_op2(table, Shell(MaskedLm { targets: targets.into(), wanted, slopes: OnceLock::new() }))
}

fn composed(hidden: &Tensor, table: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let x = hidden.matmul(&table.t()?)?;
    let x = x.broadcast_sub(&x.max_keepdim(1)?.detach())?;
    let target = Tensor::new(targets, hidden.device())?.unsqueeze(1)?;
    (x.exp()?.sum_keepdim(1)?.log()? - x.gather(&target, 1)?)?.mean_all()
}

struct MaskedLm {
    targets: Box<[u32]>,
    wanted: bool,
    /// d loss / d hidden and d loss / d table, written by the forward pass.
    slopes: OnceLock<(Vec<f32>, Vec<f32>)>,
}

impl Op<2> for MaskedLm {
    const NAME: &'static str = OP;

    fn forward(&self, [hidden, table]: [Arg<'_>; 2]) -> Result<(Vec<f32>, Shape)> {
        let ((n, h), vocab) = (hidden.dims2(), table.dims[0]);
        let (hidden, table) = (hidden.values, table.values);
        let mut logits = vec![0f32; ROWS.min(n) * vocab];
        let (mut dh, mut dt) =
            if self.wanted { (vec![0f32; n * h], vec![0f32; vocab * h]) } else { Default::default() };
        let share = 1.0 / n as f32;
        let weights = Mat::new(table, vocab, h, h);
        let mut loss = 0.0;
        for start in (0..n).step_by(ROWS) {
            let rows = ROWS.min(n - start);
            let x = Mat::new(&hidden[start * h..], rows, h, h);
            let logits = &mut logits[..rows * vocab];
            matmul_mixed(logits, vocab, false, x, weights.t(), 1.0);
            for (row, &target) in logits.chunks_exact_mut(vocab).zip(&self.targets[start..]) {
                let hit = f64::from(row[target as usize]);
                loss += f64::from(softmax(row)) - hit;
                row[target as usize] -= 1.0;
            }
            if self.wanted {
                let slope = Mat::new(logits, rows, vocab, vocab);
                matmul_mixed(&mut dh[start * h..], h, false, slope, weights, share);
                matmul_mixed(&mut dt, h, true, slope.t(), x, share);
            }
        }
        if self.wanted {
            let _ = self.slopes.set((dh, dt));
        }
        Ok((vec![(loss / n as f64) as f32], ().into()))
    }

    fn backward(
        &self,
        _: [Arg<'_>; 2],
        _loss: &[f32],
        grad: &[f32],
        wanted: [bool; 2],
    ) -> Result<[Slope; 2]> {
        let Some((dh, dt)) = self.slopes.get() else { bail!("{OP}: backward before forward") };
        let scaled = |slope: &[f32]| slope.iter().map(|s| s * grad[0]).collect();
        Ok([Slope::when(wanted[0], || scaled(dh)), Slope::when(wanted[1], || scaled(dt))])
    }
}

#[cfg(test)]
mod tests {
    use super::super::graddiff::{agree, check, var};
    use super::*;

    #[test]
    fn gradients_agree_with_finite_differences_and_the_composed_formula() -> Result<()> {
        let (hidden, table) = (var(&[5, 6], 2)?, var(&[9, 6], 3)?);
        let targets = [0, 8, 3, 3, 1];
        let vars = [hidden.clone(), table.clone()];
        check(&vars, 1e-2, 1e-2, || masked_lm_loss(&hidden, &table, &targets))?;
        agree(
            &vars,
            1e-5,
            || masked_lm_loss(&hidden, &table, &targets)? * 0.5,
            || composed(&hidden, &table, &targets)? * 0.5,
        )
    }

    #[test]
    fn more_rows_than_a_block_agree_with_the_composed_formula() -> Result<()> {
        let (hidden, table) = (var(&[ROWS + 3, 4], 2)?, var(&[20, 4], 3)?);
        let targets: Vec<u32> = (0..ROWS as u32 + 3).map(|i| i * 7 % 20).collect();
        agree(
            &[hidden.clone(), table.clone()],
            2e-5,
            || masked_lm_loss(&hidden, &table, &targets),
            || composed(&hidden, &table, &targets),
        )
    }
}
