//! MarginMSE: the squared difference between the student's and the teacher's margins to a row's first document.

use super::cross_entropy::scaled;
use super::dims2;
use super::shell::{Arg, Op, Shell, Slope};
use candle_core::{Result, Shape, Tensor, bail};
use std::sync::OnceLock;

const OP: &str = "margin_mse";

/// Scalar: the mean over rows and columns j > 0 of `((s[0] - s[j]) - (t[0] - t[j]))^2`, for `[n_rows, n_way]` scores
/// with the positive in column 0. The gradient reaches the student only.
///
/// # Errors
/// When shapes differ or there are fewer than two columns.
pub fn margin_mse(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let (n, m) = dims2(OP, "student scores", student)?;
    if teacher.dims() != [n, m] || n == 0 || m < 2 {
        bail!(
            "{OP}: student [{n}, {m}] and teacher {:?} must have one shape with at least 2 columns",
            teacher.dims()
        )
    }
    if super::composes(student) {
        return composed(student, teacher);
    }
    let teacher = teacher.flatten_all()?.to_vec1::<f32>()?;
    student.apply_op1(Shell(MarginMse { teacher, slope: OnceLock::new() }))
}

fn composed(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let m = student.dim(1)?;
    let margins = |x: &Tensor| x.narrow(1, 1, m - 1)?.broadcast_sub(&x.narrow(1, 0, 1)?);
    (margins(student)? - margins(&teacher.detach())?)?.sqr()?.mean_all()
}

struct MarginMse {
    teacher: Vec<f32>,
    /// d loss / d student, written by the forward pass.
    slope: OnceLock<Vec<f32>>,
}

impl Op<1> for MarginMse {
    const NAME: &'static str = OP;

    fn forward(&self, [student]: [Arg<'_>; 1]) -> Result<(Vec<f32>, Shape)> {
        let ((n, m), student) = (student.dims2(), student.values);
        let count = (n * (m - 1)) as f64;
        let mut slope = vec![0f32; n * m];
        let mut loss = 0.0;
        for ((s, t), slope) in
            student.chunks_exact(m).zip(self.teacher.chunks_exact(m)).zip(slope.chunks_exact_mut(m))
        {
            let mut first = 0.0;
            for j in 1..m {
                let gap = f64::from(s[0]) - f64::from(s[j]) - (f64::from(t[0]) - f64::from(t[j]));
                loss += gap * gap;
                slope[j] = (-2.0 * gap / count) as f32;
                first += 2.0 * gap / count;
            }
            slope[0] = first as f32;
        }
        let _ = self.slope.set(slope);
        Ok((vec![(loss / count) as f32], ().into()))
    }

    fn backward(&self, _: [Arg<'_>; 1], _loss: &[f32], grad: &[f32], _: [bool; 1]) -> Result<[Slope; 1]> {
        scaled(self.slope.get(), grad, OP)
    }
}

#[cfg(test)]
mod tests {
    use super::super::graddiff::{agree, check, var};
    use super::*;

    #[test]
    fn gradients_agree_with_finite_differences_and_the_composed_formula() -> Result<()> {
        let (student, teacher) = (var(&[3, 4], 2)?, var(&[3, 4], 3)?.detach());
        check(std::slice::from_ref(&student), 1e-2, 5e-3, || margin_mse(&student, &teacher))?;
        agree(
            std::slice::from_ref(&student),
            1e-5,
            || margin_mse(&student, &teacher),
            || composed(&student, &teacher),
        )
    }
}
