//! 4-bit weights by groups of 32, with integer group scales.
//!
//! A weight is `nibble * group_scale * scale`: `nibble` -8 to 7, `group_scale` a whole number 0 to 15 for each 32 consecutive columns of a row, and
//! one f32 `scale` per row. So `nibble * group_scale` is a byte of -120 to 105, and a product with activations is summed in exact integers to
//! the end, like one of int8 weights: one f32 multiplication per output, the same bits on every backend. 4.25 bits a weight.
//!
//! Not taken: an f32 scale per group. It costs a conversion, a multiplication and an addition for each 32 products and rounds on the way; it
//! is not better: on the default model's matrices the error is 9.0 % of the norm with f32 group scales that are searched as ours are, 9.6 %
//! with plain ones (largest value to 7), 9.1 % with these, and 12.5 % with one scale per row.

use crate::KernelError;
use crate::pack::{Activations, Layout, check_len, check_limit};

/// Columns that share a group scale.
pub const GROUP: usize = 32;

/// Longest inner dimension of a product with 4-bit weights: two panels are unpacked on the stack. Longer matrices can be expanded to int8.
pub const MAX_K_I4: usize = 4096;

/// Largest group scale: `-8 * 15` still fits a byte.
const MOST: u8 = 15;

/// A matrix `[rows, cols]` in 4 bits as files hold it, row-major.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupedI4 {
    rows: usize,
    cols: usize,
    /// `[rows, ceil(cols / 2)]`: column `2 i` in the low half of byte `i`, plus 8.
    nibbles: Vec<u8>,
    /// `[rows, ceil(cols / 32)]`
    group_scale: Vec<u8>,
    /// `[rows]`
    scale: Vec<f32>,
}

impl GroupedI4 {
    /// The matrix of the tensors of a file: `nibbles [rows, ceil(cols / 2)]` (column `2 i` in the low half of byte `i`, each plus 8),
    /// `group_scale [rows, ceil(cols / 32)]`, 0 to 15, and `scale [rows]`.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when a length does not fit, [`KernelError::Limit`] when `cols` is 0 or a group scale is above 15.
    pub fn new(
        nibbles: Vec<u8>,
        group_scale: Vec<u8>,
        scale: Vec<f32>,
        rows: usize,
        cols: usize,
    ) -> Result<Self, KernelError> {
        let kernel = "int4 matrix";
        check_limit(kernel, "cols", cols, crate::MAX_K)?;
        check_len(kernel, "nibbles", nibbles.len(), rows * cols.div_ceil(2))?;
        check_len(kernel, "group_scale", group_scale.len(), rows * cols.div_ceil(GROUP))?;
        check_len(kernel, "scale", scale.len(), rows)?;
        if let Some(&found) = group_scale.iter().find(|&&s| s > MOST) {
            let (most, found) = (usize::from(MOST), usize::from(found));
            return Err(KernelError::Limit { kernel, what: "group_scale", most, found });
        }
        Ok(Self { rows, cols, nibbles, group_scale, scale })
    }

    /// The 4-bit form of `values [rows, cols]`. The scale of a row lets its widest group use 15; each group takes the scale of least squared
    /// error. This is the one definition of it, as [`crate::quantize_rows`] is for int8.
    ///
    /// # Panics
    /// When `values.len()` is not `rows * cols`, or `cols` is 0.
    pub fn quantize(values: &[f32], rows: usize, cols: usize) -> Self {
        assert_eq!(values.len(), rows * cols, "a [{rows}, {cols}] matrix");
        let mut out = Self { rows, cols, ..Self::default() };
        for row in values.chunks_exact(cols) {
            let largest = row.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
            let scale = if largest < crate::pack::SMALLEST_MAX { 0.0 } else { largest / (7 * MOST) as f32 };
            out.scale.push(scale);
            let mut ints = Vec::with_capacity(cols + 1);
            for group in row.chunks(GROUP) {
                let group_scale = best_scale(group, scale);
                out.group_scale.push(group_scale);
                let inverse = if group_scale == 0 { 0.0 } else { 1.0 / (scale * f32::from(group_scale)) };
                ints.extend(group.iter().map(|v| (nibble(*v, inverse) + 8) as u8));
            }
            if cols % 2 == 1 {
                ints.push(8);
            }
            out.nibbles.extend(ints.chunks_exact(2).map(|pair| pair[0] | pair[1] << 4));
        }
        out
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// `[rows, ceil(cols / 2)]`, as in [`Self::new`].
    pub fn nibbles(&self) -> &[u8] {
        &self.nibbles
    }

    /// `[rows, ceil(cols / 32)]`, 0 to 15.
    pub fn group_scale(&self) -> &[u8] {
        &self.group_scale
    }

    /// `[rows]`
    pub fn scale(&self) -> &[f32] {
        &self.scale
    }

    /// The integers of a row, `nibble * group_scale`: times [`Self::scale`] of the row they are its values.
    ///
    /// # Panics
    /// When `row` is out of range.
    pub fn row(&self, row: usize) -> impl Iterator<Item = i8> + '_ {
        let nibbles = &self.nibbles[row * self.cols.div_ceil(2)..];
        let groups = &self.group_scale[row * self.cols.div_ceil(GROUP)..];
        (0..self.cols).map(move |column| {
            let nibble = nibbles[column / 2] >> (column % 2 * 4) & 15;
            (nibble as i8 - 8) * groups[column / GROUP] as i8
        })
    }

    /// The same matrix as int8 values with one scale per row, for kernels without 4-bit weights; products are the same in every bit.
    pub fn expand(&self) -> (Vec<i8>, Vec<f32>) {
        ((0..self.rows).flat_map(|row| self.row(row)).collect(), self.scale.clone())
    }

    /// Puts the rows of `more` behind these.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when the columns differ.
    pub fn append(&mut self, more: &Self) -> Result<(), KernelError> {
        check_len("int4 matrix", "cols", more.cols, self.cols)?;
        self.rows += more.rows;
        self.nibbles.extend_from_slice(&more.nibbles);
        self.group_scale.extend_from_slice(&more.group_scale);
        self.scale.extend_from_slice(&more.scale);
        Ok(())
    }
}

/// `value * inverse` to the nearest of -8 to 7, ties to even.
fn nibble(value: f32, inverse: f32) -> i8 {
    (value * inverse).round_ties_even().clamp(-8.0, 7.0) as i8
}

/// The group scale of least squared error; the smaller of equals. Scales below half of what holds the largest value only clip.
fn best_scale(group: &[f32], scale: f32) -> u8 {
    let largest = group.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    if scale == 0.0 || largest == 0.0 {
        return 0;
    }
    let widest = (largest / (7.0 * scale)).ceil().clamp(1.0, f32::from(MOST)) as u8;
    let error = |group_scale: u8| {
        let step = scale * f32::from(group_scale);
        let inverse = 1.0 / step;
        group.iter().map(|&v| f64::from(v - f32::from(nibble(v, inverse)) * step).powi(2)).sum::<f64>()
    };
    let mut best = (f64::INFINITY, widest);
    for candidate in (widest / 2).max(1)..=widest {
        let error = error(candidate);
        if error < best.0 {
            best = (error, candidate);
        }
    }
    best.1
}

/// A matrix `[n, k]` in 4 bits in a backend's order: panels of `lanes` rows, in each the int8 order of [`crate::PackedI8`] with `k` padded to whole
/// groups, and two neighbouring steps of `lanes * group` values in the low and high halves of the same bytes.
#[derive(Clone, Debug)]
pub struct PackedI4 {
    pub(crate) layout: Layout,
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// `k` as activations are padded.
    pub(crate) k_padded: usize,
    /// `[n / lanes][k / 32][32 / group / 2][lanes * group]`: two values each, plus 8.
    pub(crate) data: Vec<u8>,
    /// `[n / lanes][k / 32][lanes]`
    pub(crate) group_scale: Vec<u8>,
    /// `[n]`, padded to whole panels with zeros.
    pub(crate) scale: Vec<f32>,
    /// As in [`crate::PackedI8`].
    pub(crate) start: Vec<i32>,
}

impl PackedI4 {
    /// Outputs: rows of the matrix.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Inputs: columns of the matrix.
    pub fn k(&self) -> usize {
        self.k
    }

    pub(crate) fn new(layout: Layout, matrix: &GroupedI4) -> Result<Self, KernelError> {
        let (n, k) = (matrix.rows, matrix.cols);
        check_limit("pack_i4", "k", k, MAX_K_I4)?;
        let Layout { lanes, group, .. } = layout;
        let (groups, step, n_padded) = (k.div_ceil(GROUP), lanes * group, n.next_multiple_of(lanes));
        let mut data = vec![0x88; n_padded * groups * GROUP / 2];
        let mut group_scale = vec![0; n_padded * groups];
        let mut start = vec![0; n_padded];
        for (row, start) in start.iter_mut().enumerate().take(n) {
            let (panel, lane) = (row / lanes, row % lanes);
            for g in 0..groups {
                group_scale[(panel * groups + g) * lanes + lane] = matrix.group_scale[row * groups + g];
            }
            let nibbles = &matrix.nibbles[row * k.div_ceil(2)..];
            for column in 0..k {
                let nibble = nibbles[column / 2] >> (column % 2 * 4) & 15;
                let (at_step, inside) = (column / group, lane * group + column % group);
                let byte = &mut data[panel * lanes * groups * GROUP / 2 + at_step / 2 * step + inside];
                let shift = at_step % 2 * 4;
                *byte = *byte & !(15 << shift) | nibble << shift;
            }
            if layout.form == crate::pack::Form::U8 {
                *start = -128 * matrix.row(row).map(i32::from).sum::<i32>();
            }
        }
        let mut scale = matrix.scale.clone();
        scale.resize(n_padded, 0.0);
        let k_padded = Activations::padded(k);
        Ok(Self { layout, n, k, k_padded, data, group_scale, scale, start })
    }

    /// Bytes of one panel.
    pub(crate) fn panel_bytes(&self) -> usize {
        self.layout.lanes * self.k.div_ceil(GROUP) * GROUP / 2
    }

    /// The weight at `row`, `column`, for the oracle, whose panels have one row and steps of one value.
    pub(crate) fn plain(&self, row: usize, column: usize) -> i8 {
        let groups = self.k.div_ceil(GROUP);
        let nibble = self.data[row * groups * GROUP / 2 + column / 2] >> (column % 2 * 4) & 15;
        (nibble as i8 - 8) * self.group_scale[row * groups + column / GROUP] as i8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn damaged_matrices_are_refused() {
        let new = |nibbles: usize, groups: Vec<u8>, scale: usize| {
            GroupedI4::new(vec![0; nibbles], groups, vec![1.0; scale], 2, 33)
        };
        assert!(new(34, vec![15; 4], 2).is_ok());
        assert!(matches!(new(33, vec![15; 4], 2), Err(KernelError::Shape { what: "nibbles", .. })));
        assert!(matches!(new(34, vec![15; 3], 2), Err(KernelError::Shape { what: "group_scale", .. })));
        assert!(matches!(new(34, vec![15; 4], 3), Err(KernelError::Shape { what: "scale", .. })));
        let above = new(34, vec![15, 16, 0, 0], 2);
        assert!(matches!(above, Err(KernelError::Limit { what: "group_scale", found: 16, .. })), "{above:?}");
    }

    #[test]
    fn the_extremes_fit_a_byte() {
        let low = GroupedI4::new(vec![0x00; 16], vec![15], vec![1.0], 1, 32).unwrap();
        let high = GroupedI4::new(vec![0xff; 16], vec![15], vec![1.0], 1, 32).unwrap();
        assert!(low.row(0).all(|v| v == -120) && high.row(0).all(|v| v == 105));
    }

    proptest! {
        /// No worse than half a step of the plain choice: the largest value of the row to 7 * 15.
        #[test]
        fn quantised_groups_are_close(rows in 1_usize..4, cols in 1_usize..80, exponent in -20_i32..20, seed in proptest::collection::vec(-1.0_f32..1.0, 320)) {
            let values: Vec<f32> = seed[..rows * cols].iter().map(|v| v * 2.0_f32.powi(exponent)).collect();
            let matrix = GroupedI4::quantize(&values, rows, cols);
            let again = GroupedI4::new(
                matrix.nibbles().to_vec(), matrix.group_scale().to_vec(), matrix.scale().to_vec(), rows, cols,
            );
            prop_assert_eq!(again.as_ref(), Ok(&matrix));
            for row in 0..rows {
                let ints: Vec<i8> = matrix.row(row).collect();
                for (at, group) in values[row * cols..][..cols].chunks(GROUP).enumerate() {
                    let largest = group.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
                    // The plain choice rounds the group scale up by less than one step of the row.
                    let half = 0.5 * (largest / 7.0 + matrix.scale()[row]);
                    let error: f32 = group
                        .iter()
                        .zip(&ints[at * GROUP..])
                        .map(|(v, &i)| (v - f32::from(i) * matrix.scale()[row]).powi(2))
                        .sum();
                    prop_assert!(error <= group.len() as f32 * half * half * 1.001, "{} against {}", error.sqrt(), half);
                }
            }
        }
    }
}
