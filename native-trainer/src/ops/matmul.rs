//! Matrix products on borrowed, strided views: the one place that calls the `gemm` crate.

use super::simd;

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
    let _ = simd::level();
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

    #[test]
    fn an_empty_inner_size_gives_zeros() {
        let mut out = vec![3.0; 4];
        matmul(&mut out, 2, false, Mat::new(&[], 2, 0, 0), Mat::new(&[], 0, 2, 2), 1.0);
        assert_eq!(out, vec![0.0; 4]);
    }
}
