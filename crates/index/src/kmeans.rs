//! k-means over token embeddings (Lloyd 1982) on a sample, seeded and reproducible.
//!
//! Starts from distinct sample points and runs a few rounds: past the third, the codec gains little. A centroid that no point chose moves to the
//! point that is worst served. Centroids are plain means, not renormalised: residuals are smaller, and decoding renormalises anyway.
//!
//! The nearest centroid is found on 8-bit copies by the integer product that the encoder runs on, five to ten times as fast as floats: now and then
//! the second nearest is chosen instead of the nearest, which costs the codec nothing, because the residual is taken from the one chosen. Integers are
//! the same on every machine and for every number of threads; sums run in point order in f64.

use crate::parallel;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use shirube_kernels::{Epilogue, Kernels, PackedI8, quantize_rows};

/// Centroids in one block of [`Nearest`]: their scores for [`POINTS`] points stay in the second-level cache.
const BLOCK: usize = 512;
/// Points that go through a block together.
const POINTS: usize = 64;
/// Centroids that a small set has in any case; a few kilobytes.
const LEAST_BY_BYTES: u128 = 256;
/// Lanes of the maximum: vector registers on most machines.
const LANES: usize = 16;

/// Settings of [`train`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KMeansOptions {
    pub(crate) n_centroids: usize,
    pub(crate) n_rounds: usize,
    pub(crate) seed: u64,
}

/// The number of centroids for an index of `n_tokens`: `4 * sqrt(n_tokens)`, on sets of less than a million tokens `n_tokens^(3/4) / 8` but not below 256
/// for that, rounded down to a power of two; at least 1, at most 65,536, and never more than `n_tokens`.
///
/// PLAID (Santhanam et al. 2022, section 4.1) takes `16 * sqrt(n_tokens)`. Its centroids prune candidates over millions of passages; here they
/// mostly shorten residuals, and a visitor downloads `dim` bytes for each: with a root alone, they were half a byte of each token on sets of 100,000.
pub fn n_centroids_for(n_tokens: usize) -> usize {
    // Integers throughout: the same on every machine.
    let n = n_tokens.max(1) as u128;
    let by_root = n.saturating_mul(16).isqrt();
    let by_bytes = n.saturating_mul(n).saturating_mul(n).isqrt().isqrt() / 8;
    let exact = by_root.min(by_bytes.max(LEAST_BY_BYTES));
    (1_usize << exact.ilog2().min(16)).min(n_tokens.max(1))
}

/// Finds the centroids nearest to points.
pub(crate) struct Nearest {
    kernels: Kernels,
    dim: usize,
    /// [`BLOCK`] centroids each, and `-|c|² / 2` of each: with `x · c` added, the largest is the nearest.
    blocks: Vec<(PackedI8, Vec<f32>)>,
}

impl Nearest {
    /// # Panics
    /// If `dim` is 0 or beyond what kernels take; callers have checked.
    pub(crate) fn new(centroids: &[f32], dim: usize, kernels: Kernels) -> Self {
        let block = |rows: &[f32]| {
            let n = rows.len() / dim;
            let (ints, scale) = quantize_rows(rows, n, dim);
            let packed = kernels.pack_i8(&ints, &scale, n, dim).expect("a whole number of rows");
            let bias = rows.chunks_exact(dim).map(|row| -0.5 * row.iter().map(|v| v * v).sum::<f32>());
            (packed, bias.collect())
        };
        Self { kernels, dim, blocks: centroids.chunks(BLOCK * dim).map(block).collect() }
    }

    /// For each row of `points [n, dim]`, the nearest centroid (ties to the lower number) and its score `x · c - |c|² / 2`.
    pub(crate) fn find_all(&self, points: &[f32], out: &mut [(u16, f32)]) {
        parallel::fill_chunks(out, |first, chunk| {
            let mut acts = self.kernels.activations();
            let mut scores = vec![0.0; POINTS * BLOCK];
            for (c, chunk) in chunk.chunks_mut(POINTS).enumerate() {
                let first = first + c * POINTS;
                let points = &points[first * self.dim..(first + chunk.len()) * self.dim];
                self.kernels.quantize(points, chunk.len(), self.dim, &mut acts).expect("whole rows");
                chunk.fill((0, f32::MIN));
                for (b, (centroids, bias)) in self.blocks.iter().enumerate() {
                    let n = centroids.n();
                    let scores = &mut scores[..chunk.len() * n];
                    let epilogue = Epilogue { bias: Some(bias), add: false };
                    self.kernels.gemm_i8(&acts, centroids, epilogue, scores).expect("the shapes of `new`");
                    for (best, row) in chunk.iter_mut().zip(scores.chunks_exact(n)) {
                        let (top, at) = largest(row, best.1);
                        if let Some(at) = at {
                            *best = ((b * BLOCK + at) as u16, top);
                        }
                    }
                }
            }
        });
    }
}

/// The largest of `row` and its first place, if it is above `least`. The maximum first, in lanes; its place only where it counts.
fn largest(row: &[f32], least: f32) -> (f32, Option<usize>) {
    let mut lanes = [f32::MIN; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane = if v > *lane { v } else { *lane };
        }
    }
    let top = lanes.iter().chain(rest).fold(f32::MIN, |a, &b| if b > a { b } else { a });
    let at = if top > least { row.iter().position(|&v| v == top) } else { None };
    (top, at)
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
        Nearest::new(&centroids, dim, Kernels::detect()).find_all(points, &mut assigned);
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
            (10_000, 256),
            (20_000, 256),
            (107_000, 512),
            (145_000, 512),
            (300_000, 1024),
            (1_000_000, 2048),
            (1_048_576, 4096),
            (2_000_000, 4096),
            (4_700_000, 8192),
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

    fn find(nearest: &Nearest, point: &[f32]) -> u16 {
        let mut out = [(0, 0.0)];
        nearest.find_all(point, &mut out);
        out[0].0
    }

    #[test]
    fn nearest_is_nearest_up_to_8_bit_rounding_at_every_block_edge_on_every_backend() {
        let dim = 6;
        for k in [1, 15, 16, 17, 511, 512, 513, 1030] {
            let centroids: Vec<f32> =
                sample(k * dim, 100_000, 1).into_iter().map(|v| (v % 977) as f32 / 977.0 - 0.5).collect();
            let points: Vec<f32> = (0..300 * dim).map(|i| ((i * 37) % 101) as f32 / 101.0 - 0.5).collect();
            let mut all = Vec::new();
            for kernels in Kernels::all() {
                let mut out = vec![(0, 0.0); 300];
                Nearest::new(&centroids, dim, kernels).find_all(&points, &mut out);
                all.push(out);
            }
            assert!(all.iter().all(|out| out.iter().zip(&all[1]).all(|(a, b)| a.0 == b.0)), "backends agree");
            for (point, (code, _)) in points.chunks_exact(dim).zip(&all[1]) {
                let distance =
                    |c: usize| -> f32 { (0..dim).map(|d| (point[d] - centroids[c * dim + d]).powi(2)).sum() };
                let least = (0..k).map(distance).fold(f32::MAX, f32::min);
                // Both sides are off by at most half of 1/127 of 0.5 a value; twice that over six values of at most 1.
                assert!(distance(usize::from(*code)) <= least + 0.025, "{k} centroids");
            }
        }
    }

    #[test]
    fn equal_centroids_resolve_to_the_lower_number() {
        let nearest = Nearest::new(&[0.5, 0.5, 1.0, 0.0, 1.0, 0.0], 2, Kernels::detect());
        assert_eq!(find(&nearest, &[1.0, 0.0]), 1);
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
            let nearest = Nearest::new(&centroids, 4, Kernels::detect());
            for p in points.chunks_exact(4) {
                let c = usize::from(find(&nearest, p));
                let d: f32 = (0..4).map(|d| (p[d] - centroids[c * 4 + d]).powi(2)).sum();
                assert!(d < 0.01, "seed {seed}: distance {d}");
            }
        }
    }
}
