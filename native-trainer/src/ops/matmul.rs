//! Matrix products on borrowed, strided views: the one place that calls the `gemm` crate.

use std::sync::atomic::{AtomicBool, Ordering};

static BF16: AtomicBool = AtomicBool::new(false);
static WANTED: AtomicBool = AtomicBool::new(false);

/// Least size of each axis for a product to be worth the packing of [`matmul_mixed`].
#[cfg(target_arch = "x86_64")]
const LEAST_MIXED: usize = 32;

/// Lets the products of linear layers and of the masked-language-model loss round their inputs to bf16 (sums stay f32),
/// or takes that back; for the whole process. Returns whether they now do: only processors with AVX-512 BF16 can.
/// Attention, MaxSim, norms and losses stay f32.
pub fn allow_bf16(allowed: bool) -> bool {
    #[cfg(target_arch = "x86_64")]
    let on = allowed && super::bf16::available();
    #[cfg(not(target_arch = "x86_64"))]
    let on = allowed && false;
    BF16.store(on, Ordering::Relaxed);
    WANTED.store(allowed, Ordering::Relaxed);
    on
}

/// A strided matrix to read.
#[derive(Clone, Copy)]
pub struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Mat<'a> {
    /// `rows` x `columns` row-major values, `row_stride` apart.
    ///
    /// # Panics
    /// When the last element lies outside `data`.
    pub fn new(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert_inside(data.len(), rows, columns, row_stride);
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// The transpose, without a copy.
    pub fn t(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

fn assert_inside(len: usize, rows: usize, columns: usize, row_stride: usize) {
    assert!(row_stride <= isize::MAX as usize / 8, "row stride {row_stride} is too large");
    if rows > 0 && columns > 0 {
        let last = (rows - 1).checked_mul(row_stride).and_then(|start| start.checked_add(columns - 1));
        assert!(
            last.is_some_and(|last| last < len),
            "a {rows} x {columns} matrix with stride {row_stride} needs more than {len} values"
        );
    }
}

/// Whether [`allow_bf16`] was asked for: what a GPU goes by, whatever this processor can.
pub fn wants_bf16() -> bool {
    WANTED.load(Ordering::Relaxed)
}

/// `out = alpha * a * b`, or `out += alpha * a * b` with `accumulate`; `out` is row-major with rows `row_stride` apart.
///
/// # Panics
/// When the shapes do not agree or `out` is too short.
pub fn matmul(out: &mut [f32], row_stride: usize, accumulate: bool, a: Mat, b: Mat, alpha: f32) {
    assert_eq!(a.columns, b.rows, "inner sizes of a matrix product differ");
    assert_inside(out.len(), a.rows, b.columns, row_stride);
    assert!(row_stride >= b.columns, "rows of a product overlap");
    if a.rows == 0 || b.columns == 0 {
        return;
    }
    if a.columns == 0 {
        if !accumulate {
            for row in out.chunks_mut(row_stride).take(a.rows) {
                row[..b.columns].fill(0.0);
            }
        }
        return;
    }
    // SAFETY: `Mat::new` and `assert_inside` above checked that the last element of each of the three strided matrices
    // lies inside its slice, `t` keeps the same set of elements, the inner sizes agree, and `out` is borrowed mutably so
    // it overlaps neither input.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out.as_mut_ptr(),
            1,
            row_stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            alpha,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// [`matmul`] with inputs rounded to bf16 where [`allow_bf16`] is on and the product is large enough to gain.
///
/// # Panics
/// As [`matmul`].
pub fn matmul_mixed(out: &mut [f32], row_stride: usize, accumulate: bool, a: Mat, b: Mat, alpha: f32) {
    #[cfg(target_arch = "x86_64")]
    if BF16.load(Ordering::Relaxed) && a.rows.min(a.columns).min(b.columns) >= LEAST_MIXED {
        assert_eq!(a.columns, b.rows, "inner sizes of a matrix product differ");
        assert_inside(out.len(), a.rows, b.columns, row_stride);
        assert!(row_stride >= b.columns, "rows of a product overlap");
        let view = |x: Mat| super::bf16::View {
            data: x.data.as_ptr(),
            row_stride: x.row_stride,
            column_stride: x.column_stride,
        };
        // SAFETY: `BF16` is on only where the instructions are; the assertions and `Mat::new` put every element inside its
        // slice, `out` is borrowed mutably, and a `Mat` has one stride of 1 (`new` sets it, `t` keeps it).
        unsafe {
            let sizes = (a.rows, b.columns, a.columns);
            super::bf16::gemm(sizes, out.as_mut_ptr(), row_stride, accumulate, view(a), view(b), alpha);
        }
        return;
    }
    matmul(out, row_stride, accumulate, a, b, alpha);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_views_and_transposes_agree_with_plain_loops() {
        let a: Vec<f32> = (0..60).map(|i| (i as f32 * 0.37).sin()).collect();
        let b: Vec<f32> = (0..60).map(|i| (i as f32 * 0.71).cos()).collect();
        // a: 3 x 4 at stride 6; b^T of 5 x 4 at stride 7.
        let (left, right) = (Mat::new(&a, 3, 4, 6), Mat::new(&b, 5, 4, 7).t());
        let mut out = vec![1.0; 3 * 8];
        matmul(&mut out, 8, true, left, right, 2.0);
        for i in 0..3 {
            for j in 0..8 {
                let expected = if j < 5 {
                    1.0 + 2.0 * (0..4).map(|k| a[i * 6 + k] * b[j * 7 + k]).sum::<f32>()
                } else {
                    1.0
                };
                assert!((out[i * 8 + j] - expected).abs() < 1e-5);
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn bf16_products_agree_with_f32_products_of_rounded_inputs() {
        if !super::super::bf16::available() {
            return; // Only `allow_bf16` depends on it, and it says so.
        }
        let round = |values: Vec<f32>| -> Vec<f32> {
            values
                .into_iter()
                .map(|v| f32::from_bits((v.to_bits() + 0x7fff + (v.to_bits() >> 16 & 1)) & 0xffff_0000))
                .collect()
        };
        for (m, n, k) in [
            (1, 1, 1),
            (6, 64, 2),
            (7, 65, 33),
            (97, 130, 259),
            (200, 64, 1030),
            (13, 1100, 31),
            (96, 128, 2049),
        ] {
            let raw = (super::super::graddiff::values(m * k, 1), super::super::graddiff::values(n * k, 2));
            let (a, b) = (round(raw.0.clone()), round(raw.1.clone()));
            for (a_turned, b_turned, add) in
                [(false, false, false), (false, true, true), (true, false, false), (true, true, true)]
            {
                let lay = |data: &'static [f32], rows: usize, columns: usize, turned: bool| {
                    if turned {
                        Mat::new(data, columns, rows, rows).t()
                    } else {
                        Mat::new(data, rows, columns, columns)
                    }
                };
                let leak = |values: &Vec<f32>| -> &'static [f32] { values.clone().leak() };
                let mut expected = vec![0.5; m * n];
                let mut found = expected.clone();
                matmul(
                    &mut expected,
                    n,
                    add,
                    lay(leak(&a), m, k, a_turned),
                    lay(leak(&b), k, n, b_turned),
                    0.5,
                );
                let (left, right) = (lay(leak(&raw.0), m, k, a_turned), lay(leak(&raw.1), k, n, b_turned));
                let view = |x: Mat| super::super::bf16::View {
                    data: x.data.as_ptr(),
                    row_stride: x.row_stride,
                    column_stride: x.column_stride,
                };
                // SAFETY: `available` is true and the matrices are whole.
                unsafe {
                    super::super::bf16::gemm(
                        (m, n, k),
                        found.as_mut_ptr(),
                        n,
                        add,
                        view(left),
                        view(right),
                        0.5,
                    );
                }
                for (e, f) in expected.iter().zip(&found) {
                    assert!(
                        (e - f).abs() < 1e-4 * (k as f32).sqrt(),
                        "{m} {n} {k} {a_turned} {b_turned}: {e} and {f}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_empty_inner_size_gives_zeros() {
        let mut out = vec![3.0; 4];
        matmul(&mut out, 2, false, Mat::new(&[], 2, 0, 0), Mat::new(&[], 0, 2, 2), 1.0);
        assert_eq!(out, vec![0.0; 4]);
    }
}
