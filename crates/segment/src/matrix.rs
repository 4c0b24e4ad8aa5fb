//! Connection costs: classes of context ids, and the matrix between them as differences along two trees.
//!
//! Rows that do not differ are one row, columns likewise. Most others differ little from some other row: each row but the first
//! is stored as its difference from a parent before it, and the columns of what is left in the same way. Three quarters of the
//! residuals are zero; the rest follow the residuals around them, which are their context in the range coder.

use crate::lexicon::Damage;
use crate::range::{Bit, Coder, NumberModels};

/// `costs[row * n_columns + column]`: row of the right word, column of the left word.
#[derive(Clone, Debug, Default)]
pub(crate) struct Matrix {
    pub(crate) n_columns: usize,
    pub(crate) costs: Vec<i16>,
}

/// For each row, and for each column, the one before it that it is stored as a difference from; of the first one nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trees {
    pub(crate) rows: Vec<u16>,
    pub(crate) columns: Vec<u16>,
}

impl Trees {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Result<(), Damage> {
        for parents in [&mut self.rows, &mut self.columns] {
            let mut models = NumberModels::new(1, 4);
            for (last, parent) in parents.iter_mut().skip(1).enumerate() {
                let last = last as u32;
                let back = c.number(&mut models, 0, last - u32::from(*parent).min(last));
                let at = last.checked_sub(back).ok_or("trees of the matrix")?;
                *parent = u16::try_from(at).map_err(|_| "trees of the matrix")?;
            }
        }
        Ok(())
    }
}

/// A residual's size in six steps.
#[inline]
fn step(value: i16) -> usize {
    const STEPS: [u8; 256] = {
        let mut steps = [5; 256];
        let mut i = 0;
        while i < 256 {
            steps[i] = match i {
                0 => 0,
                1 => 1,
                2..=4 => 2,
                5..=30 => 3,
                31..=200 => 4,
                _ => 5,
            };
            i += 1;
        }
        steps
    };
    usize::from(STEPS[usize::from(value.unsigned_abs().min(255))])
}

#[inline]
fn sign(value: i16) -> usize {
    (value.signum() + 1) as usize
}

const STEPS: usize = 6;
/// Bits of a magnitude, and one for zero.
const MAGNITUDES: usize = 17;
/// Magnitudes up to this are learned bit by bit.
const LEARNED: u32 = 5;

/// Writes the residuals of a matrix, or reads them into its place.
pub(crate) fn code<C: Coder>(c: &mut C, residuals: &mut [i16], trees: &Trees) {
    let n_columns = trees.columns.len();
    let mut sizes = vec![[Bit::NEW; MAGNITUDES]; STEPS.pow(4)];
    let mut signs = vec![[Bit::NEW; MAGNITUDES]; 81];
    let mut mantissas = vec![[Bit::NEW; 1 << LEARNED]; MAGNITUDES];
    let zeros = vec![0; n_columns];
    for row in 0..trees.rows.len() {
        let (done, rest) = residuals.split_at_mut(row * n_columns);
        let current = &mut rest[..n_columns];
        let line = |at: usize| &done[at * n_columns..][..n_columns];
        let (parent, above) = if row == 0 {
            (&zeros[..], &zeros[..])
        } else {
            (line(usize::from(trees.rows[row])), line(row - 1))
        };
        let mut left = 0;
        for column in 0..n_columns {
            let beside = if column == 0 { 0 } else { current[usize::from(trees.columns[column])] };
            let around = [parent[column], beside, above[column], left];
            let value = current[column];
            let context = around.iter().fold(0, |sum, &value| sum * STEPS + step(value));
            let sizes = &mut sizes[context];
            let length = (u16::BITS - value.unsigned_abs().leading_zeros()) as usize;
            let mut n = 0;
            while n < MAGNITUDES - 1 && c.bit(&mut sizes[n], length > n) {
                n += 1;
            }
            let mut size = 0;
            if n > 0 {
                let signs = &mut signs[around.iter().fold(0, |sum, &value| sum * 3 + sign(value))];
                let below = c.bit(&mut signs[n], value < 0);
                let low = n as u32 - 1;
                let given = u32::from(value.unsigned_abs());
                let learned = low.min(LEARNED);
                let width = 1usize << learned;
                size = 1 << learned
                    | if learned > 0 {
                        c.tree(
                            &mut mantissas[n][..width],
                            learned,
                            given >> (low - learned) & (width as u32 - 1),
                        )
                    } else {
                        0
                    };
                if low > learned {
                    let rest = low - learned;
                    size = size << rest | c.raw(rest, given & ((1 << rest) - 1));
                }
                size = if below { size.wrapping_neg() } else { size };
            }
            left = size as i16;
            current[column] = left;
        }
    }
}

/// From residuals to costs, in place.
pub(crate) fn integrate(costs: &mut [i16], trees: &Trees) {
    let n_columns = trees.columns.len();
    for row in 0..trees.rows.len() {
        let (done, rest) = costs.split_at_mut(row * n_columns);
        let current = &mut rest[..n_columns];
        for column in 1..n_columns {
            current[column] = current[column].wrapping_add(current[usize::from(trees.columns[column])]);
        }
        if row > 0 {
            let parent = &done[usize::from(trees.rows[row]) * n_columns..][..n_columns];
            for (cost, &above) in current.iter_mut().zip(parent) {
                *cost = cost.wrapping_add(above);
            }
        }
    }
}

/// From costs to residuals, in place.
#[cfg(feature = "compile")]
pub(crate) fn differentiate(costs: &mut [i16], trees: &Trees) {
    let n_columns = trees.columns.len();
    for row in (0..trees.rows.len()).rev() {
        let (before, rest) = costs.split_at_mut(row * n_columns);
        let current = &mut rest[..n_columns];
        if row > 0 {
            let parent = &before[usize::from(trees.rows[row]) * n_columns..][..n_columns];
            for (cost, &above) in current.iter_mut().zip(parent) {
                *cost = cost.wrapping_sub(above);
            }
        }
        for column in (1..n_columns).rev() {
            current[column] = current[column].wrapping_sub(current[usize::from(trees.columns[column])]);
        }
    }
}
