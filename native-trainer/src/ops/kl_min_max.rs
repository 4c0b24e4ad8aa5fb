//! Distillation loss of JaColBERTv2.5 (section 3.1.2 of the paper): KL divergence between teacher and student score
//! distributions over one query's documents, both min-max normalised.
//!
//! Normalisation is `(s - min) / (max - min + 1e-8)` over a row; the gradient flows through the minimum and the maximum,
//! each of which belongs to the first element that attains it. Then both sides are divided by the temperature and go
//! through log-softmax, and the loss is `sum(p_teacher * (log p_teacher - log p_student)) / n_rows` ("batchmean"). It is
//! not multiplied by the square of the temperature. The paper has temperature 1; since normalised scores lie in [0, 1],
//! the target is then almost flat, and 0.25 sharpens it.

use super::cross_entropy::scaled;
use super::dims2;
use super::shell::{Arg, Op, Shell, Slope};
use candle_core::{Result, Shape, Tensor, bail};
use std::sync::OnceLock;

const OP: &str = "kl_min_max";

/// Keeps the quotient finite where a row's scores are all equal.
const EPSILON: f64 = 1e-8;

/// A student row whose scores span less than this gets no gradient: the slope of the normalisation, one over the span,
/// says nothing there and would end the run.
const LEAST_SPAN: f64 = 1e-6;

/// How [`kl_min_max`] treats the scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KlMinMax {
    /// Divides the scores of both sides before the softmax; above 0, lower is sharper.
    pub temperature: f32,
    /// Min-max normalise the student's scores.
    pub normalise_student: bool,
    /// Min-max normalise the teacher's scores.
    pub normalise_teacher: bool,
}

impl Default for KlMinMax {
    fn default() -> Self {
        Self { temperature: 1.0, normalise_student: true, normalise_teacher: true }
    }
}

/// Scalar: the divergence of the student from the teacher, for scores `[n_rows, n_way]` each; 0 where they agree. The
/// gradient reaches the student only.
///
/// # Errors
/// When shapes differ or the temperature is not above 0.
pub fn kl_min_max(student: &Tensor, teacher: &Tensor, settings: KlMinMax) -> Result<Tensor> {
    let (n, m) = dims2(OP, "student scores", student)?;
    if teacher.dims() != [n, m] || n * m == 0 {
        bail!(
            "{OP}: student scores [{n}, {m}] and teacher scores {:?} must have one shape, not empty",
            teacher.dims()
        )
    }
    if settings.temperature.is_nan() || settings.temperature <= 0.0 {
        bail!("{OP}: the temperature must be above 0, found {}", settings.temperature)
    }
    if super::composes(student) {
        return composed(student, teacher, settings);
    }
    let teacher = teacher.flatten_all()?.to_vec1::<f32>()?;
    student.apply_op1(Shell(Kl { teacher, settings, slope: OnceLock::new() }))
}

fn composed(student: &Tensor, teacher: &Tensor, settings: KlMinMax) -> Result<Tensor> {
    let log_softmax = |x: &Tensor, normalise: bool| -> Result<Tensor> {
        let x = if normalise {
            let (low, high) = (x.min_keepdim(1)?, x.max_keepdim(1)?);
            x.broadcast_sub(&low)?.broadcast_div(&((high - low)? + EPSILON)?)?
        } else {
            x.clone()
        };
        let x = (x / f64::from(settings.temperature))?;
        let x = x.broadcast_sub(&x.max_keepdim(1)?.detach())?;
        x.broadcast_sub(&x.exp()?.sum_keepdim(1)?.log()?)
    };
    let t = log_softmax(&teacher.detach(), settings.normalise_teacher)?;
    let s = log_softmax(student, settings.normalise_student)?;
    (t.exp()? * (t - s)?)?.sum_all()? / student.dim(0)? as f64
}

/// A row's normalised scores, and its span with the places of minimum and maximum where it was normalised.
fn normalise(row: &[f32], wanted: bool) -> (Vec<f64>, Option<(f64, usize, usize)>) {
    if !wanted {
        return (row.iter().map(|v| f64::from(*v)).collect(), None);
    }
    let (mut low, mut high) = (0, 0);
    for (i, v) in row.iter().enumerate() {
        if *v < row[low] {
            low = i;
        }
        if *v > row[high] {
            high = i;
        }
    }
    let minimum = f64::from(row[low]);
    let span = f64::from(row[high]) - minimum;
    let values = row.iter().map(|v| (f64::from(*v) - minimum) / (span + EPSILON)).collect();
    (values, Some((span, low, high)))
}

fn log_softmax(values: &[f64], temperature: f64) -> Vec<f64> {
    let largest = values.iter().fold(f64::MIN, |a, b| a.max(*b));
    let total: f64 = values.iter().map(|v| ((v - largest) / temperature).exp()).sum();
    values.iter().map(|v| (v - largest) / temperature - total.ln()).collect()
}

struct Kl {
    teacher: Vec<f32>,
    settings: KlMinMax,
    /// d loss / d student, written by the forward pass.
    slope: OnceLock<Vec<f32>>,
}

impl Op<1> for Kl {
    const NAME: &'static str = OP;

    fn forward(&self, [student]: [Arg<'_>; 1]) -> Result<(Vec<f32>, Shape)> {
        let ((n, m), student) = (student.dims2(), student.values);
        let temperature = f64::from(self.settings.temperature);
        let mut slope = Vec::with_capacity(n * m);
        let mut loss = 0.0;
        for (student, teacher) in student.chunks_exact(m).zip(self.teacher.chunks_exact(m)) {
            let (values, ends) = normalise(student, self.settings.normalise_student);
            let s = log_softmax(&values, temperature);
            let t = log_softmax(&normalise(teacher, self.settings.normalise_teacher).0, temperature);
            loss += t.iter().zip(&s).map(|(t, s)| t.exp() * (t - s)).sum::<f64>();
            let mut g: Vec<f64> =
                t.iter().zip(&s).map(|(t, s)| (s.exp() - t.exp()) / temperature / n as f64).collect();
            match ends {
                Some((span, _, _)) if span < LEAST_SPAN => g.fill(0.0),
                Some((span, low, high)) => {
                    // values[i] = (x[i] - x[low]) / (x[high] - x[low] + eps)
                    let width = span + EPSILON;
                    let along: f64 = g.iter().zip(&values).map(|(g, v)| g * v).sum();
                    let total: f64 = g.iter().sum();
                    g.iter_mut().for_each(|g| *g /= width);
                    g[low] += (along - total) / width;
                    g[high] -= along / width;
                }
                None => {}
            }
            slope.extend(g.into_iter().map(|g| g as f32));
        }
        let _ = self.slope.set(slope);
        Ok((vec![(loss / n as f64) as f32], ().into()))
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
        let (student, teacher) = (var(&[3, 6], 2)?, var(&[3, 6], 3)?.detach());
        for (normalise_student, normalise_teacher) in [(true, true), (false, false), (true, false)] {
            let settings = KlMinMax { temperature: 0.25, normalise_student, normalise_teacher };
            let loss = || kl_min_max(&student, &teacher, settings);
            check(std::slice::from_ref(&student), 1e-3, 1e-2, loss)?;
            agree(std::slice::from_ref(&student), 1e-4, loss, || composed(&student, &teacher, settings))?;
        }
        Ok(())
    }

    #[test]
    fn equal_distributions_have_no_loss() -> Result<()> {
        let teacher = var(&[2, 5], 3)?;
        // Min-max normalisation removes shift and scale.
        let student = ((teacher.as_tensor() * 7.0)? - 3.0)?;
        let loss = kl_min_max(&student, &teacher, KlMinMax::default())?.to_scalar::<f32>()?;
        assert!(loss.abs() < 1e-6, "{loss}");
        Ok(())
    }

    #[test]
    fn a_row_of_equal_scores_gets_no_gradient() -> Result<()> {
        let student = candle_core::Var::ones((1, 4), candle_core::DType::F32, &candle_core::Device::Cpu)?;
        let grads = kl_min_max(&student, &var(&[1, 4], 3)?.detach(), KlMinMax::default())?.backward()?;
        assert_eq!(grads.get(&student).unwrap().to_vec2::<f32>()?, vec![vec![0.0; 4]]);
        Ok(())
    }
}
