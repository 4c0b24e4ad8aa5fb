//! Rows of an embedding table by id; the gradient scatters back into the touched rows only.

use super::{dims2, floats, slice, tensor};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
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
    table.apply_op1(Gather { ids: ids.into() })
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

impl CustomOp1 for Gather {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let table = slice(storage, layout, OP)?;
        let width = layout.shape().dims2()?.1;
        let mut rows = Vec::with_capacity(self.ids.len() * width);
        for &id in self.ids.iter() {
            rows.extend_from_slice(&table[id as usize * width..][..width]);
        }
        Ok((CpuStorage::F32(rows), (self.ids.len(), width).into()))
    }

    fn bwd(&self, table: &Tensor, _rows: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (vocab, width) = table.dims2()?;
        let grad = grad.contiguous()?;
        let grad = floats(&grad, OP)?;
        let mut out = vec![0f32; vocab * width];
        for (&id, row) in self.ids.iter().zip(grad.chunks_exact(width.max(1))) {
            for (o, g) in out[id as usize * width..][..width].iter_mut().zip(row) {
                *o += *g;
            }
        }
        Ok(Some(tensor(out, &[vocab, width])?))
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
