//! What the kernels read in their own order: packed matrices and quantised activations.
//!
//! Files hold plain row-major matrices; a backend's order exists only in memory and is made at load. A matrix `[n, k]` becomes panels of
//! `lanes` rows of the matrix (columns of the product): `[n / lanes][k / group][lanes][group]`, so that one vector load brings `group`
//! consecutive `k` of `lanes` outputs, and no horizontal sum is ever needed.

use crate::KernelError;

/// Longest inner dimension of an integer product: `255 * 127 * 65536` still fits an `i32`.
pub const MAX_K: usize = 1 << 16;

/// Widest f32 panel: a multiple of every backend's vector, so that f32 panels are the same everywhere.
pub(crate) const F32_PANEL: usize = 16;

/// Inner dimensions of integer products are padded with zeros to a multiple of this.
pub(crate) const K_ALIGN: usize = 4;

/// How a backend wants activations stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `i8` as they are.
    I8,
    /// Widened to `i16`, for `i16 x i16` pair products.
    I16,
    /// Plus 128 as `u8`, for `u8 x i8` quad products.
    U8,
}

/// A backend's order of integer operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Outputs per panel.
    pub(crate) lanes: usize,
    /// Consecutive `k` kept together.
    pub(crate) group: usize,
    /// Activations.
    pub(crate) form: Form,
}

/// A matrix `[n, k]` of `i8` with one scale per row, in a backend's order.
#[derive(Clone, Debug)]
pub struct PackedI8 {
    pub(crate) layout: Layout,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) k_padded: usize,
    pub(crate) data: Vec<i8>,
    /// `[n]`, padded to whole panels with zeros.
    pub(crate) scale: Vec<f32>,
    /// What the accumulators start from: `-128 * sum of the row` in [`Form::U8`], else 0.
    pub(crate) start: Vec<i32>,
}

impl PackedI8 {
    /// Outputs: rows of the matrix.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Inputs: columns of the matrix.
    pub fn k(&self) -> usize {
        self.k
    }

    pub(crate) fn new(
        layout: Layout,
        weights: &[i8],
        scale: &[f32],
        n: usize,
        k: usize,
    ) -> Result<Self, KernelError> {
        let kernel = "pack_i8";
        check_limit(kernel, "k", k, MAX_K)?;
        check_len(kernel, "weights", weights.len(), n * k)?;
        check_len(kernel, "scale", scale.len(), n)?;
        let k_padded = k.next_multiple_of(K_ALIGN);
        let Layout { lanes, group, form } = layout;
        let n_padded = n.next_multiple_of(lanes);
        let mut data = vec![0; n_padded * k_padded];
        let mut start = vec![0; n_padded];
        for (row, values) in weights.chunks_exact(k).enumerate() {
            let (panel, lane) = (row / lanes, row % lanes);
            for (i, &w) in values.iter().enumerate() {
                data[((panel * (k_padded / group) + i / group) * lanes + lane) * group + i % group] = w;
            }
            if form == Form::U8 {
                start[row] = -128 * values.iter().map(|&w| i32::from(w)).sum::<i32>();
            }
        }
        let mut padded_scale = scale.to_vec();
        padded_scale.resize(n_padded, 0.0);
        Ok(Self { layout, n, k, k_padded, data, scale: padded_scale, start })
    }
}

/// A matrix `[n, k]` of f32 in panels of 16 rows: `[n / 16][k][16]`, the same on every backend.
#[derive(Clone, Debug)]
pub struct PackedF32 {
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) data: Vec<f32>,
}

impl PackedF32 {
    /// The packed form of `weights [n, k]`.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when the length is not `n * k`, [`KernelError::Limit`] when `k` is 0 or above [`MAX_K`].
    pub fn new(weights: &[f32], n: usize, k: usize) -> Result<Self, KernelError> {
        let kernel = "pack_f32";
        check_limit(kernel, "k", k, MAX_K)?;
        check_len(kernel, "weights", weights.len(), n * k)?;
        let mut data = vec![0.0; n.next_multiple_of(F32_PANEL) * k];
        for (row, values) in weights.chunks_exact(k).enumerate() {
            for (i, &w) in values.iter().enumerate() {
                data[(row / F32_PANEL * k + i) * F32_PANEL + row % F32_PANEL] = w;
            }
        }
        Ok(Self { n, k, data })
    }

    /// Outputs: rows of the matrix.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Inputs: columns of the matrix.
    pub fn k(&self) -> usize {
        self.k
    }
}

/// Activations `[m, k]` quantised per row, in a backend's form. A buffer to be reused: it allocates only when it has to grow.
#[derive(Clone, Debug)]
pub struct Activations {
    pub(crate) form: Form,
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) k_padded: usize,
    /// `[m, k_padded]` in [`Form::I8`] and, as the bits of a `u8`, in [`Form::U8`].
    pub(crate) bytes: Vec<i8>,
    /// `[m, k_padded]` in [`Form::I16`].
    pub(crate) words: Vec<i16>,
    /// `[m]`
    pub(crate) scale: Vec<f32>,
    /// One row of values on their way to integers.
    pub(crate) row: Vec<f32>,
}

impl Activations {
    pub(crate) fn new(form: Form) -> Self {
        Self {
            form,
            m: 0,
            k: 0,
            k_padded: 0,
            bytes: Vec::new(),
            words: Vec::new(),
            scale: Vec::new(),
            row: Vec::new(),
        }
    }

    /// `ints [m, k]` in the form of activations, one row after the other without padding: a table to copy from.
    pub(crate) fn of_ints(form: Form, ints: &[i8], m: usize, k: usize) -> Self {
        let mut out = Self::new(form);
        (out.m, out.k, out.k_padded) = (m, k, k);
        match form {
            Form::I8 => out.bytes = ints.to_vec(),
            Form::U8 => out.bytes = ints.iter().map(|&int| int ^ i8::MIN).collect(),
            Form::I16 => out.words = ints.iter().map(|&int| int.into()).collect(),
        }
        out
    }

    /// Row length in memory of `k` columns.
    pub(crate) fn padded(k: usize) -> usize {
        k.next_multiple_of(K_ALIGN)
    }

    pub(crate) fn resize(&mut self, m: usize, k: usize) {
        let k_padded = Self::padded(k);
        if self.k != k {
            // Another width moves the padding columns, which must be zero.
            self.bytes.clear();
            self.words.clear();
        }
        (self.m, self.k, self.k_padded) = (m, k, k_padded);
        match self.form {
            Form::I16 => self.words.resize(m * k_padded, 0),
            Form::I8 | Form::U8 => self.bytes.resize(m * k_padded, 0),
        }
        self.scale.resize(m, 0.0);
        if self.row.len() < k {
            self.row.resize(k, 0.0);
        }
    }

    /// Rows.
    pub fn m(&self) -> usize {
        self.m
    }

    /// Columns.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The integer at `row`, `column`; the value it stands for is this times [`Self::scale`] of the row.
    ///
    /// # Panics
    /// When `row` or `column` is out of range.
    pub fn get(&self, row: usize, column: usize) -> i8 {
        assert!(row < self.m && column < self.k, "({row}, {column}) outside [{}, {}]", self.m, self.k);
        let at = row * self.k_padded + column;
        match self.form {
            Form::I8 => self.bytes[at],
            Form::U8 => self.bytes[at] ^ i8::MIN,
            Form::I16 => self.words[at] as i8,
        }
    }

    /// One scale per row, `[m]`; NaN marks a row that held a number that was not finite.
    pub fn scale(&self) -> &[f32] {
        &self.scale
    }
}

/// The int8 form of a matrix `[rows, cols]`: values and one scale per row, symmetric: the largest magnitude of a row becomes 127, and
/// `value ≈ int * scale[row]` with an error of at most `scale / 2`. A row of zeros has scale 0.
///
/// This is the one definition of weight quantisation: export and tests use it, so that a model written is the model read.
/// Ties round to even.
///
/// # Panics
/// When `values.len()` is not `rows * cols`.
pub fn quantize_rows(values: &[f32], rows: usize, cols: usize) -> (Vec<i8>, Vec<f32>) {
    assert_eq!(values.len(), rows * cols, "a [{rows}, {cols}] matrix");
    let mut ints = Vec::with_capacity(values.len());
    let mut scales = Vec::with_capacity(rows);
    for row in 0..rows {
        let row = &values[row * cols..][..cols];
        let largest = row.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        let (scale, inverse) =
            if largest < SMALLEST_MAX { (0.0, 0.0) } else { (largest / 127.0, 127.0 / largest) };
        ints.extend(row.iter().map(|v| (v * inverse).round_ties_even() as i8));
        scales.push(scale);
    }
    (ints, scales)
}

/// A row whose largest magnitude is below this is quantised to zeros: `127 / max` must stay finite.
pub(crate) const SMALLEST_MAX: f32 = 1e-30;

pub(crate) fn check_len(
    kernel: &'static str,
    what: &'static str,
    found: usize,
    expected: usize,
) -> Result<(), KernelError> {
    if found == expected { Ok(()) } else { Err(KernelError::Shape { kernel, what, expected, found }) }
}

pub(crate) fn check_limit(
    kernel: &'static str,
    what: &'static str,
    found: usize,
    most: usize,
) -> Result<(), KernelError> {
    if (1..=most).contains(&found) { Ok(()) } else { Err(KernelError::Limit { kernel, what, most, found }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_magnitude_of_a_row_becomes_127() {
        let (ints, scale) = quantize_rows(&[0.5, -2.0, 1.0, 0.0, 0.0, 0.0, 3e38, 1.0, -3.4e38], 3, 3);
        assert_eq!(ints, [32, -127, 64, 0, 0, 0, 112, 0, -127]);
        assert_eq!(scale, [2.0 / 127.0, 0.0, 3.4e38 / 127.0]);
    }

    #[test]
    fn a_row_too_small_to_scale_becomes_zeros() {
        for tiny in [1e-31, f32::MIN_POSITIVE, 1e-45] {
            assert_eq!(quantize_rows(&[tiny, -tiny], 1, 2), (vec![0, 0], vec![0.0]));
        }
    }

    proptest! {
        #[test]
        fn quantised_rows_are_off_by_at_most_half_a_step(
            rows in 1_usize..4,
            cols in 1_usize..40,
            exponent in -20_i32..20,
            seed in proptest::collection::vec(-1.0_f32..1.0, 160),
        ) {
            let values: Vec<f32> = seed[..rows * cols].iter().map(|v| v * 2.0_f32.powi(exponent)).collect();
            let (ints, scale) = quantize_rows(&values, rows, cols);
            for (i, (&int, &value)) in ints.iter().zip(&values).enumerate() {
                let scale = scale[i / cols];
                prop_assert!(int != i8::MIN);
                prop_assert!((f32::from(int) * scale - value).abs() <= scale * 0.50001);
            }
        }

        /// Each weight is found where the layout says, and padding is zero.
        #[test]
        fn packing_moves_every_weight_and_pads_with_zeros(n in 1_usize..40, k in 1_usize..40, which in 0_usize..3) {
            let layout = [
                Layout { lanes: 4, group: 2, form: Form::I16 },
                Layout { lanes: 8, group: 2, form: Form::I16 },
                Layout { lanes: 16, group: 4, form: Form::U8 },
            ][which];
            let weights: Vec<i8> = (0..n * k).map(|i| (i % 127) as i8 + 1).collect();
            let packed = PackedI8::new(layout, &weights, &vec![1.0; n], n, k).unwrap();
            let mut rest = packed.data.clone();
            for row in 0..n {
                for column in 0..k {
                    let panel = row / layout.lanes * layout.lanes * packed.k_padded;
                    let group = column / layout.group * layout.lanes * layout.group;
                    let at = panel + group + row % layout.lanes * layout.group + column % layout.group;
                    prop_assert_eq!(packed.data[at], weights[row * k + column]);
                    rest[at] = 0;
                }
            }
            prop_assert!(rest.iter().all(|&w| w == 0));
        }
    }
}
