//! The error function in f64, by its series and its continued fraction: shares nothing with the polynomial it judges.

use core::f64::consts::PI;

/// `erf(x) = 2/√π ∫₀ˣ e^(-t²) dt`, to about 1e-15.
pub(crate) fn erf(x: f64) -> f64 {
    let a = x.abs();
    let value = if a < 2.5 {
        // Σ (-1)ⁿ x^(2n+1) / (n! (2n+1)), here with all terms positive: 2/√π e^(-x²) Σ 2ⁿ x^(2n+1) / (2n+1)!!
        let mut term = a;
        let mut sum = a;
        for n in 1..100 {
            term *= 2.0 * a * a / (2 * n + 1) as f64;
            sum += term;
        }
        2.0 / PI.sqrt() * (-a * a).exp() * sum
    } else {
        // erfc(x) = e^(-x²) / √π · 1 / (x + 1/2 / (x + 1 / (x + 3/2 / (x + ...))))
        let tail = (1..100).rev().fold(a, |t, n| a + f64::from(n) / 2.0 / t);
        1.0 - (-a * a).exp() / (PI.sqrt() * tail)
    };
    value.copysign(x)
}

#[cfg(test)]
mod tests {
    #[test]
    fn erf_has_its_tabled_values() {
        for (x, y) in [
            (0.0, 0.0),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (2.0, 0.995_322_265_018_952_7),
            (3.0, 0.999_977_909_503_001_4),
        ] {
            assert!((super::erf(x) - y).abs() < 1e-13, "erf({x})");
            assert_eq!(super::erf(-x), -super::erf(x));
        }
    }
}
