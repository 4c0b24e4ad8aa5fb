//! Retrieval metrics over ranked lists, and the paired bootstrap.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

/// One query's values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueryMetrics {
    /// Recall at 1, 3, 5, 10, 100.
    pub recall: [f64; 5],
    /// Reciprocal rank of the first relevant passage within 10.
    pub mrr_10: f64,
    /// Normalised discounted cumulative gain at 10; the gain is the grade, as in BEIR's figures.
    pub ndcg_10: f64,
    /// Average precision at 10.
    pub map_10: f64,
}

/// Cut-offs of [`QueryMetrics::recall`].
pub const RECALL_AT: [usize; 5] = [1, 3, 5, 10, 100];

impl QueryMetrics {
    /// Metrics of one ranking (best first) against relevant indices, all of one grade.
    pub fn of(ranking: &[usize], relevant: &[usize]) -> Self {
        Self::graded(ranking, relevant, &[])
    }

    /// [`Self::of`] with a grade above 0 for each relevant index, which nDCG alone looks at; all are 1 where `grades` is empty.
    pub fn graded(ranking: &[usize], relevant: &[usize], grades: &[f64]) -> Self {
        let is_hit = |d: &usize| relevant.contains(d);
        let grade = |i: usize| grades.get(i).copied().unwrap_or(1.0);
        let gain = |d: &usize| relevant.iter().position(|r| r == d).map_or(0.0, grade);
        let discount = |rank: usize| ((rank + 2) as f64).log2();
        let n = relevant.len().max(1) as f64;
        let recall = RECALL_AT.map(|k| ranking.iter().take(k).filter(|d| is_hit(d)).count() as f64 / n);
        let mut metrics = Self { recall, ..Self::default() };
        let mut found = 0.0;
        for (rank, document) in ranking.iter().take(10).enumerate() {
            if is_hit(document) {
                found += 1.0;
                if metrics.mrr_10 == 0.0 {
                    metrics.mrr_10 = 1.0 / (rank + 1) as f64;
                }
                metrics.ndcg_10 += gain(document) / discount(rank);
                metrics.map_10 += found / (rank + 1) as f64;
            }
        }
        let mut best: Vec<f64> = (0..relevant.len()).map(grade).collect();
        best.sort_by(|a, b| b.total_cmp(a));
        let ideal: f64 = best.iter().take(10).enumerate().map(|(rank, gain)| gain / discount(rank)).sum();
        metrics.ndcg_10 /= ideal.max(f64::MIN_POSITIVE);
        metrics.map_10 /= n.min(10.0);
        metrics
    }

    /// Mean over queries.
    pub fn mean(all: &[Self]) -> Self {
        let n = all.len().max(1) as f64;
        let mean = |f: &dyn Fn(&Self) -> f64| all.iter().map(f).sum::<f64>() / n;
        Self {
            recall: std::array::from_fn(|i| mean(&|m| m.recall[i])),
            mrr_10: mean(&|m| m.mrr_10),
            ndcg_10: mean(&|m| m.ndcg_10),
            map_10: mean(&|m| m.map_10),
        }
    }
}

/// Mean difference of two lists of values on the same queries, by paired bootstrap (10,000 resamples of queries).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Mean of `a - b`.
    pub difference: f64,
    /// 2.5 % and 97.5 % quantile of the resampled means.
    pub interval: (f64, f64),
    /// Share of resamples in which the mean is not above zero: a one-sided p-value for `a` being better.
    pub p: f64,
}

impl Comparison {
    /// Compares `a` with `b`, value by value; the same seed gives the same result. Without values nothing differs and p is 1.
    pub fn new(a: &[f64], b: &[f64], seed: u64) -> Self {
        let differences: Vec<f64> = a.iter().zip(b).map(|(x, y)| x - y).collect();
        let n = differences.len();
        if n == 0 {
            return Self { difference: 0.0, interval: (0.0, 0.0), p: 1.0 };
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut means: Vec<f64> = (0..10_000)
            .map(|_| {
                let draw = |_| differences[((u64::from(rng.next_u32()) * n as u64) >> 32) as usize];
                (0..n).map(draw).sum::<f64>() / n as f64
            })
            .collect();
        means.sort_unstable_by(f64::total_cmp);
        let quantile = |q: f64| means[(q * (means.len() - 1) as f64).round() as usize];
        Self {
            difference: differences.iter().sum::<f64>() / n as f64,
            interval: (quantile(0.025), quantile(0.975)),
            p: means.partition_point(|m| *m <= 0.0) as f64 / means.len() as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graded_ndcg_gains_by_grade_and_other_metrics_do_not() {
        // pytrec_eval's nDCG by hand: (1 / log2 2 + 3 / log2 4) / (3 / log2 2 + 1 / log2 3).
        let found = QueryMetrics::graded(&[7, 2, 4], &[4, 7], &[3.0, 1.0]);
        let expected = (1.0 + 3.0 / 2.0) / (3.0 + 1.0 / 3f64.log2());
        assert!((found.ndcg_10 - expected).abs() < 1e-12, "{found:?}");
        let alike = QueryMetrics::of(&[7, 2, 4], &[4, 7]);
        assert_eq!((found.recall, found.mrr_10, found.map_10), (alike.recall, alike.mrr_10, alike.map_10));
        assert_eq!(alike, QueryMetrics::graded(&[7, 2, 4], &[4, 7], &[2.0, 2.0]));
    }

    #[test]
    fn metrics_of_a_known_ranking_match_hand_computed_values() {
        let m = QueryMetrics::of(&[7, 3, 9, 1], &[3, 1]);
        assert_eq!(m.recall[..3], [0.0, 0.5, 1.0]);
        assert_eq!(m.mrr_10, 0.5);
        assert!((m.map_10 - (0.5 + 0.5) / 2.0).abs() < 1e-12);
        let gain = 1.0 / 3f64.log2() + 1.0 / 5f64.log2();
        assert!((m.ndcg_10 - gain / (1.0 + 1.0 / 3f64.log2())).abs() < 1e-12);
    }

    #[test]
    fn the_bootstrap_separates_a_clear_gain_from_none() {
        let better: Vec<f64> = (0..200).map(|i| f64::from(i % 4 != 0)).collect();
        let worse: Vec<f64> = (0..200).map(|i| f64::from(i % 2 == 0)).collect();
        let gain = Comparison::new(&better, &worse, 1);
        assert!(gain.p < 0.01 && gain.difference == 0.25, "{gain:?}");
        assert!(0.0 < gain.interval.0 && gain.interval.0 < 0.25 && 0.25 < gain.interval.1, "{gain:?}");
        let none = Comparison::new(&worse, &worse, 1);
        assert!(none.p > 0.99 && none.interval == (0.0, 0.0), "{none:?}");
        assert_eq!(Comparison::new(&[], &[], 1).p, 1.0);
    }
}
