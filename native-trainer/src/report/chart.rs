//! One curve as inline SVG.

use std::fmt::Write as _;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 26.0;

/// Points drawn at most: more are not seen.
const MAX_POINTS: usize = 600;

/// Values by step.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// Round values from at or below `low` to at or above `high`, about five.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let span = (high - low).max(high.abs() * 0.02).max(1e-9);
    let magnitude = 10f64.powf((span / 4.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * magnitude).into_iter().find(|s| span / s <= 5.0);
    let step = step.unwrap_or(10.0 * magnitude);
    let first = (low / step).floor() as i64;
    let last = (high / step).ceil() as i64;
    (first..=last.max(first + 1)).map(|i| i as f64 * step).collect()
}

/// `value` with as many decimals as steps of `step` need.
fn label(value: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.decimals$}")
}

/// The curve with axes; no points give an empty string.
pub(super) fn chart(curve: &Curve) -> String {
    let (Some(first), Some(last)) = (curve.points.first(), curve.points.last()) else { return String::new() };
    let range = |f: fn(f64, f64) -> f64, start: f64| curve.points.iter().map(|p| p.1).fold(start, f);
    let y_ticks = ticks(range(f64::min, f64::INFINITY), range(f64::max, f64::NEG_INFINITY));
    let (low, high) = (y_ticks[0], y_ticks[y_ticks.len() - 1]);
    let x_span = (last.0 - first.0).max(1.0);
    let x = |step: f64| LEFT + (step - first.0) / x_span * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM);
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"{0} by step\"><text x=\"{LEFT}\" y=\"14\">{0}</text>",
        super::escape(&curve.name)
    );
    for &tick in &y_ticks {
        let at = y(tick);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            label(tick, y_ticks[1] - y_ticks[0])
        );
    }
    let ends = [(first.0, "start"), (last.0, "end")];
    for (step, anchor) in ends.into_iter().take(if first.0 == last.0 { 1 } else { 2 }) {
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{step}</text>",
            x(step),
            HEIGHT - 8.0
        );
    }
    let every = curve.points.len().div_ceil(MAX_POINTS).max(1);
    let points: Vec<String> = curve
        .points
        .chunks(every)
        .map(|c| {
            let n = c.len() as f64;
            let mean = |f: fn(&(f64, f64)) -> f64| c.iter().map(f).sum::<f64>() / n;
            format!("{:.1},{:.1}", x(mean(|p| p.0)), y(mean(|p| p.1)))
        })
        .collect();
    if let [only] = points.as_slice()
        && let Some((x, y)) = only.split_once(',')
    {
        let _ = write!(out, "<circle class=\"point\" cx=\"{x}\" cy=\"{y}\" r=\"3\"/>");
    }
    let _ = write!(out, "<polyline class=\"curve\" points=\"{}\"/></svg>", points.join(" "));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_span_the_values() {
        assert_eq!(ticks(0.13, 0.88), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        for (low, high) in [(3.0, 3.0), (0.0, 0.0), (-2.0, 7.5), (1e-7, 2e-7)] {
            let ticks = ticks(low, high);
            assert!(
                ticks.len() >= 2 && ticks[0] <= low && ticks[ticks.len() - 1] >= high,
                "{low} {high}: {ticks:?}"
            );
        }
    }

    #[test]
    fn one_value_is_a_point_between_two_lines() {
        let svg = chart(&Curve { name: "loss".to_owned(), points: vec![(6.0, 5.080_35)] });
        assert!(
            svg.contains("<circle") && svg.contains(">5.10<") && svg.matches(">6<").count() == 1,
            "{svg}"
        );
    }

    #[test]
    fn a_long_curve_is_thinned_and_stays_inside_the_frame() {
        let points = (0..5000).map(|i| (f64::from(i), (f64::from(i) * 0.01).sin())).collect();
        let svg = chart(&Curve { name: "loss".to_owned(), points });
        let inside = svg.split("points=\"").nth(1).and_then(|s| s.split('"').next()).expect("points");
        let points: Vec<(f64, f64)> = inside
            .split(' ')
            .map(|p| {
                p.split_once(',')
                    .map(|(x, y)| (x.parse().expect("x"), y.parse().expect("y")))
                    .expect("a pair")
            })
            .collect();
        assert!(points.len() <= MAX_POINTS);
        assert!(
            points.iter().all(|(x, y)| (LEFT..=WIDTH).contains(x) && (TOP..=HEIGHT - BOTTOM).contains(y))
        );
    }
}
