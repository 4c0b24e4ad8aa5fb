//! k-means over token embeddings (Lloyd 1982), seeded and reproducible.
//!
//! Starts from distinct sample points and runs a few rounds: past the third, the residual codec gains little. A centroid that no point chose
//! moves to the point that is worst served. Centroids are plain means, not renormalised: residuals are smaller, and decoding renormalises anyway.
//! Sums run in point order in f64 and nearest-centroid scores in a fixed order, so threads and machines do not change the result.

use crate::parallel;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Centroids in one block of [`Nearest`]: eight SSE or NEON registers.
const BLOCK: usize = 32;

/// Settings of [`train`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KMeansOptions {
    pub(crate) n_centroids: usize,
    pub(crate) n_rounds: usize,
    pub(crate) seed: u64,
}

/// The number of centroids for an index of `n_tokens`: `4 * sqrt(n_tokens)` rounded to the nearest power of two (on a logarithmic scale),
/// at least 1, at most 65,536, and never more than `n_tokens`.
///
/// PLAID (Santhanam et al. 2022, section 4.1) takes `16 * sqrt(n_tokens)`. Its centroids prune candidates over millions of passages; here they
/// mostly shorten residuals, and a visitor downloads `2 * dim` bytes for each.
pub fn n_centroids_for(n_tokens: usize) -> usize {
    let exact = 4.0 * (n_tokens.max(1) as f64).sqrt();
    let rounded = 1_usize << (exact.log2().round() as u32).min(16);
    rounded.min(n_tokens.max(1))
}

/// Finds the centroid nearest to a point.
pub(crate) struct Nearest {
    dim: usize,
    n_centroids: usize,
    /// `[n_blocks, dim, BLOCK]`: one dimension of a block's centroids stands together, so the inner loop is one multiply-add a lane.
    blocks: Vec<f32>,
    /// `-|c|² / 2`; with `x · c` added, the largest is the nearest. Padding is the lowest float.
    bias: Vec<f32>,
}

impl Nearest {
    pub(crate) fn new(centroids: &[f32], dim: usize) -> Self {
        let n_centroids = centroids.len() / dim;
        let n_blocks = n_centroids.div_ceil(BLOCK);
        let mut blocks = vec![0.0; n_blocks * dim * BLOCK];
        let mut bias = vec![f32::MIN; n_blocks * BLOCK];
        for (k, row) in centroids.chunks_exact(dim).enumerate() {
            for (d, &v) in row.iter().enumerate() {
                blocks[(k / BLOCK * dim + d) * BLOCK + k % BLOCK] = v;
            }
            bias[k] = -0.5 * row.iter().map(|v| v * v).sum::<f32>();
        }
        Self { dim, n_centroids, blocks, bias }
    }

    /// Nearest centroid (ties to the lower number) and its score `x · c - |c|² / 2`.
    pub(crate) fn find(&self, point: &[f32]) -> (u16, f32) {
        let mut best = (0, f32::MIN);
        for (b, (block, bias)) in
            self.blocks.chunks_exact(self.dim * BLOCK).zip(self.bias.chunks_exact(BLOCK)).enumerate()
        {
            let mut scores = [0.0_f32; BLOCK];
            scores.copy_from_slice(bias);
            for (&x, column) in point.iter().zip(block.chunks_exact(BLOCK)) {
                for (score, &c) in scores.iter_mut().zip(column) {
                    *score += x * c;
                }
            }
            // The maximum first, by lanes; its place only in the rare block that beats the best so far.
            let top = scores.iter().fold(f32::MIN, |a, &b| a.max(b));
            if top > best.1 {
                let lane = scores.iter().position(|&s| s == top).unwrap_or(0);
                best = (b * BLOCK + lane, top);
            }
        }
        debug_assert!(best.0 < self.n_centroids, "padding is never the nearest");
        (best.0 as u16, best.1)
    }
}

/// `n` distinct numbers below `of`, ascending (Floyd's algorithm, F2 in Bentley and Floyd 1987).
pub(crate) fn sample(n: usize, of: usize, seed: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut chosen = std::collections::BTreeSet::new();
    for top in of - n.min(of)..of {
        // The bias of a remainder of 64 bits is below 2^-32 here.
        let pick = (rng.next_u64() % (top as u64 + 1)) as usize;
        if !chosen.insert(pick) {
            chosen.insert(top);
        }
    }
    chosen.into_iter().collect()
}

/// Centroids `[n_centroids, dim]` of `points [n, dim]`. `n_centroids` is at most `n`; `progress` gets the round, from 1.
pub(crate) fn train(
    points: &[f32],
    dim: usize,
    options: KMeansOptions,
    mut progress: impl FnMut(usize),
) -> Vec<f32> {
    let n = points.len() / dim;
    let k = options.n_centroids.min(n);
    let row = |i: usize| &points[i * dim..(i + 1) * dim];
    let mut centroids: Vec<f32> = sample(k, n, options.seed).into_iter().flat_map(row).copied().collect();
    let mut assigned = vec![(0_u16, 0.0_f32); n];
    for round in 1..=options.n_rounds {
        let nearest = Nearest::new(&centroids, dim);
        parallel::fill(&mut assigned, |i| nearest.find(row(i)));
        let mut sums = vec![0.0_f64; k * dim];
        let mut sizes = vec![0_usize; k];
        for (i, &(code, _)) in assigned.iter().enumerate() {
            let code = usize::from(code);
            sizes[code] += 1;
            for (sum, &v) in sums[code * dim..(code + 1) * dim].iter_mut().zip(row(i)) {
                *sum += f64::from(v);
            }
        }
        for (c, &size) in sizes.iter().enumerate().filter(|(_, size)| **size > 0) {
            for d in 0..dim {
                centroids[c * dim + d] = (sums[c * dim + d] / size as f64) as f32;
            }
        }
        let empty: Vec<usize> = (0..k).filter(|&c| sizes[c] == 0).collect();
        if !empty.is_empty() {
            // All points have length 1, so a low score is a large distance.
            let mut worst: Vec<usize> = (0..n).collect();
            worst.sort_by(|&a, &b| assigned[a].1.total_cmp(&assigned[b].1).then(a.cmp(&b)));
            for (c, i) in empty.into_iter().zip(worst) {
                centroids[c * dim..(c + 1) * dim].copy_from_slice(row(i));
            }
        }
        progress(round);
    }
    centroids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_centroids_follows_the_documented_rule() {
        for (n, expected) in [
            (0, 1),
            (1, 1),
            (3, 3),
            (100, 32),
            (10_000, 512),
            (200_000, 2048),
            (2_000_000, 4096),
            (usize::MAX / 2, 65_536),
        ] {
            assert_eq!(n_centroids_for(n), expected, "{n} tokens");
        }
    }

    #[test]
    fn samples_are_distinct_ascending_and_repeatable() {
        for (n, of) in [(0, 0), (1, 1), (5, 5), (7, 100), (200, 100)] {
            let s = sample(n, of, 3);
            assert_eq!(s.len(), n.min(of));
            assert!(s.windows(2).all(|w| w[0] < w[1]) && s.iter().all(|&i| i < of));
            assert_eq!(s, sample(n, of, 3));
        }
        assert_ne!(sample(7, 100, 3), sample(7, 100, 4));
    }

    #[test]
    fn nearest_agrees_with_distances_at_every_block_edge() {
        let dim = 6;
        for k in [1, 31, 32, 33, 64, 65] {
            let centroids: Vec<f32> =
                sample(k * dim, 100_000, 1).into_iter().map(|v| (v % 977) as f32 / 977.0 - 0.5).collect();
            let nearest = Nearest::new(&centroids, dim);
            for p in 0..50 {
                let point: Vec<f32> =
                    (0..dim).map(|d| ((p * 31 + d * 17) % 101) as f32 / 101.0 - 0.5).collect();
                let distance =
                    |c: usize| -> f32 { (0..dim).map(|d| (point[d] - centroids[c * dim + d]).powi(2)).sum() };
                let least = (0..k).map(distance).fold(f32::MAX, f32::min);
                assert!(distance(usize::from(nearest.find(&point).0)) <= least + 1e-6);
            }
        }
    }

    #[test]
    fn equal_centroids_resolve_to_the_lower_number() {
        let nearest = Nearest::new(&[0.5, 0.5, 1.0, 0.0, 1.0, 0.0], 2);
        assert_eq!(nearest.find(&[1.0, 0.0]).0, 1);
    }

    #[test]
    fn separated_groups_each_get_a_centroid_even_from_a_bad_start() {
        // 4 directions with 50 near-copies each: whatever the start, re-seeding empty clusters must find all of them.
        let mut points = Vec::new();
        for i in 0..200_usize {
            let mut p = [0.0_f32; 4];
            p[i % 4] = 1.0;
            p[(i + 1) % 4] = (i / 4) as f32 * 1e-4;
            points.extend(p);
        }
        for seed in 0..20 {
            let options = KMeansOptions { n_centroids: 16, n_rounds: 8, seed };
            let centroids = train(&points, 4, options, |_| {});
            let nearest = Nearest::new(&centroids, 4);
            for p in points.chunks_exact(4) {
                let c = usize::from(nearest.find(p).0);
                let d: f32 = (0..4).map(|d| (p[d] - centroids[c * 4 + d]).powi(2)).sum();
                assert!(d < 0.01, "seed {seed}: distance {d}");
            }
        }
    }
}
