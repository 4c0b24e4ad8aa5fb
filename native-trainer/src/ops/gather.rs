//! Rows of an embedding table by id; the gradient scatters back into the touched rows only.

use super::dims2;
use super::shell::{Arg, Op, Shell, Slope};
use candle_core::{Result, Shape, Tensor, bail};
use std::sync::Arc;

const OP: &str = "gather";

/// `[n, h]`: row `ids[i]` of `table` `[vocab, h]` for each i.
///
/// The gradient of the table is dense (candle's tape has no other), zero outside the rows named by `ids`.
///
/// # Errors
/// When an id is not a row of the table.
pub fn gather(table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    let (vocab, _) = dims2(OP, "the table", table)?;
    if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab) {
        bail!(
            "{OP}: id {id} is outside the table of {vocab} rows; tokenizer and model do not belong together"
        )
    }
    if super::composes(table) {
        return composed(table, ids);
    }
    table.apply_op1(Shell(Gather { ids: ids.into() }))
}

fn composed(table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    // Rows in rising order are a selection of positions, each taken once: its gradient is a selection too.
    if ids.windows(2).all(|pair| pair[0] < pair[1]) {
        return super::batched::select(table, ids);
    }
    table.index_select(&Tensor::new(ids, table.device())?, 0)
}

struct Gather {
    ids: Arc<[u32]>,
}

impl Op<1> for Gather {
    const NAME: &'static str = OP;

    fn forward(&self, [table]: [Arg<'_>; 1]) -> Result<(Vec<f32>, Shape)> {
        let width = table.dims[1];
        let mut rows = Vec::with_capacity(self.ids.len() * width);
        for &id in self.ids.iter() {
            rows.extend_from_slice(&table.values[id as usize * width..][..width]);
        }
        Ok((rows, (self.ids.len(), width).into()))
    }

    fn backward(&self, [table]: [Arg<'_>; 1], _y: &[f32], dy: &[f32], _: [bool; 1]) -> Result<[Slope; 1]> {
        let width = table.dims[1];
        let mut out = vec![0f32; table.values.len()];
        for (&id, row) in self.ids.iter().zip(dy.chunks_exact(width.max(1))) {
            for (o, g) in out[id as usize * width..][..width].iter_mut().zip(row) {
                *o += *g;
            }
        }
        Ok([Slope::Values(out)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::graddiff::{agree, check, var, weigh};
    use super::*;

    #[test]
    fn repeated_ids_add_up_in_the_gradient() -> Result<()> {
        let table = var(&[7, 5], 1)?;
        let ids = [3, 0, 3, 6, 3];
        check(std::slice::from_ref(&table), 1e-2, 1e-3, || weigh(&gather(&table, &ids)?))?;
        agree(
            std::slice::from_ref(&table),
            1e-6,
            || weigh(&gather(&table, &ids)?),
            || weigh(&composed(&table, &ids)?),
        )
    }

    #[test]
    fn rows_in_rising_order_are_selected_both_ways() -> Result<()> {
        let table = var(&[7, 5], 1)?;
        for ids in [&[0, 2, 3, 6][..], &[4]] {
            agree(
                std::slice::from_ref(&table),
                1e-6,
                || weigh(&gather(&table, ids)?),
                || weigh(&composed(&table, ids)?),
            )?;
        }
        Ok(())
    }

    #[test]
    fn an_id_outside_the_table_is_refused() -> Result<()> {
        let message = gather(&*var(&[7, 5], 1)?, &[7]).unwrap_err().to_string();
        assert!(message.contains("id 7") && message.contains("7 rows"), "{message}");
        Ok(())
    }
}
