//! Token embeddings from which tokens stand near each other: positive pointwise mutual information (Levy, Goldberg and Dagan 2015, sections 2.2 and 3),
//! reduced to the width of the table by a randomised singular value decomposition (Halko, Martinsson and Tropp 2011, algorithms 4.4 and 5.1).

use anyhow::{Result, ensure};
use nalgebra::{DMatrix, SymmetricEigen};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use rayon::prelude::*;

/// Power of the counts of contexts: rare ones are taken as somewhat more frequent than they are (Levy et al., section 3.2).
const SMOOTHING: f64 = 0.75;
/// Rows counted at once by a thread: 512 rows of a vocabulary of 16,384 are 32 MiB.
const ROWS: usize = 512;
/// Directions beyond those asked for, and turns of the power iteration (Halko et al., section 4.5): singular values of text fall slowly.
const SPARE: usize = 16;
const TURNS: usize = 3;

/// A square matrix of mostly zeros, row by row.
#[derive(Debug)]
struct Sparse {
    /// `[n + 1]`
    starts: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
}

impl Sparse {
    fn n(&self) -> usize {
        self.starts.len() - 1
    }

    fn row(&self, row: usize) -> impl Iterator<Item = (u32, f32)> {
        let range = self.starts[row]..self.starts[row + 1];
        self.columns[range.clone()].iter().copied().zip(self.values[range].iter().copied())
    }

    fn transposed(&self) -> Self {
        let n = self.n();
        let mut starts = vec![0; n + 1];
        self.columns.iter().for_each(|&c| starts[c as usize + 1] += 1);
        for i in 0..n {
            starts[i + 1] += starts[i];
        }
        let mut at = starts.clone();
        let (mut columns, mut values) = (vec![0; self.columns.len()], vec![0.0; self.columns.len()]);
        for row in 0..n {
            for (column, value) in self.row(row) {
                let to = &mut at[column as usize];
                (columns[*to], values[*to]) = (row as u32, value);
                *to += 1;
            }
        }
        Self { starts, columns, values }
    }

    /// `self * dense`, `dense [n, k]`.
    fn times(&self, dense: &DMatrix<f32>) -> DMatrix<f32> {
        let k = dense.ncols();
        // Row by row, so that a row of the product is a sum of rows.
        let dense = dense.transpose();
        let rows: Vec<f32> = (0..self.n())
            .into_par_iter()
            .flat_map_iter(|row| {
                let mut sum = vec![0.0_f32; k];
                for (column, value) in self.row(row) {
                    sum.iter_mut().zip(&dense.column(column as usize)).for_each(|(s, d)| *s += value * d);
                }
                sum
            })
            .collect();
        DMatrix::from_row_slice(self.n(), k, &rows)
    }
}

/// Every pair within `window` tokens of each other, in both orders; a neighbour at distance `d` counts `1 - (d - 1) / window`.
fn neighbours(sequence: &[u32], at: usize, window: usize) -> impl Iterator<Item = (u32, f32)> {
    let weight = move |d: usize| 1.0 - (d - 1) as f32 / window as f32;
    let before = (1..=window.min(at)).map(move |d| (sequence[at - d], weight(d)));
    let after = (1..=window.min(sequence.len() - 1 - at)).map(move |d| (sequence[at + d], weight(d)));
    before.chain(after)
}

/// `max(0, ln(c_ij Σ_k r_k^.75 / (r_i r_j^.75)))` of the counts `c` and their row sums `r`.
fn information(sequences: &[Vec<u32>], n: usize, window: usize) -> Sparse {
    let mut sums = vec![0.0_f64; n];
    for sequence in sequences {
        for (at, &id) in sequence.iter().enumerate() {
            sums[id as usize] +=
                neighbours(sequence, at, window).map(|(_, weight)| f64::from(weight)).sum::<f64>();
        }
    }
    let smoothed: Vec<f64> = sums.iter().map(|s| s.powf(SMOOTHING)).collect();
    let total: f64 = smoothed.iter().sum();
    // Every block of rows reads the whole text: no table of all pairs is held.
    let blocks: Vec<Vec<Vec<(u32, f32)>>> = (0..n.div_ceil(ROWS))
        .into_par_iter()
        .map(|block| {
            let rows = block * ROWS..n.min((block + 1) * ROWS);
            let mut counts = vec![0.0_f32; rows.len() * n];
            for sequence in sequences {
                for (at, &id) in sequence.iter().enumerate() {
                    if rows.contains(&(id as usize)) {
                        let row = &mut counts[(id as usize - rows.start) * n..][..n];
                        neighbours(sequence, at, window).for_each(|(j, weight)| row[j as usize] += weight);
                    }
                }
            }
            let positive = |row: usize, counts: &[f32]| {
                let value = |(j, &count): (usize, &f32)| {
                    let value = (f64::from(count) * total / (sums[row] * smoothed[j])).ln();
                    (count > 0.0 && value > 0.0).then_some((j as u32, value as f32))
                };
                counts.iter().enumerate().filter_map(value).collect()
            };
            rows.clone().map(|row| positive(row, &counts[(row - rows.start) * n..][..n])).collect()
        })
        .collect();
    let mut out = Sparse { starts: vec![0], columns: Vec::new(), values: Vec::new() };
    for row in blocks.into_iter().flatten() {
        out.columns.extend(row.iter().map(|(j, _)| j));
        out.values.extend(row.iter().map(|(_, value)| value));
        out.starts.push(out.columns.len());
    }
    out
}

/// The left singular vectors of the `width` largest singular values, each times the root of its value: `[n, width]`.
fn reduced(matrix: &Sparse, width: usize, seed: u64) -> DMatrix<f32> {
    let (n, transposed) = (matrix.n(), matrix.transposed());
    let k = (width + SPARE).min(n);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let random = DMatrix::from_fn(n, k, |_, _| (rng.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0);
    let orthonormal = |m: DMatrix<f32>| m.qr().q();
    let mut basis = orthonormal(matrix.times(&random));
    for _ in 0..TURNS {
        basis = orthonormal(matrix.times(&orthonormal(transposed.times(&basis))));
    }
    // Its squares' eigenvectors turn the basis into singular vectors.
    let image = transposed.times(&basis);
    let SymmetricEigen { eigenvectors, eigenvalues } = (image.transpose() * &image).symmetric_eigen();
    let mut order: Vec<usize> = (0..k).collect();
    order.sort_by(|&a, &b| eigenvalues[b].total_cmp(&eigenvalues[a]));
    let mut turn = DMatrix::zeros(k, width);
    for (to, &from) in order.iter().take(width).enumerate() {
        // Of a square: the root of the singular value is its fourth root.
        let root = eigenvalues[from].max(0.0).powf(0.25);
        turn.set_column(to, &(eigenvectors.column(from) * root));
    }
    basis * turn
}

/// Embeddings `[n_ids, width]` with a root mean square of `deviation`; `None` for ids that stand beside nothing.
///
/// # Errors
/// A width above the number of ids, a window of 0, or text without pairs.
pub fn embeddings(
    sequences: &[Vec<u32>],
    (n_ids, width): (usize, usize),
    window: usize,
    deviation: f32,
    seed: u64,
) -> Result<Vec<Option<Vec<f32>>>> {
    ensure!(window > 0, "window is 0, expected 1 token or more");
    ensure!(width <= n_ids, "{width} directions of {n_ids} ids: the vocabulary must be at least as large");
    let matrix = information(sequences, n_ids, window);
    ensure!(!matrix.values.is_empty(), "no two tokens stand near each other more often than by chance");
    let vectors = reduced(&matrix, width, seed);
    let seen: Vec<bool> = matrix.starts.windows(2).map(|w| w[1] > w[0]).collect();
    let n_seen = seen.iter().filter(|&&s| s).count();
    let scale = deviation / (vectors.norm_squared() / (n_seen * width) as f32).sqrt();
    let row = |(id, &seen): (usize, &bool)| seen.then(|| vectors.row(id).iter().map(|v| v * scale).collect());
    Ok(seen.iter().enumerate().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two topics of their own words; 0 stands nowhere, 1 everywhere.
    fn topics() -> Vec<Vec<u32>> {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        (0..600)
            .map(|i| {
                let first = 2 + 10 * (i % 2);
                (0..12).map(|j| if j % 4 == 0 { 1 } else { first + rng.next_u32() % 10 }).collect()
            })
            .collect()
    }

    #[test]
    fn information_is_what_its_formula_says() {
        let (sequences, n, window) = (topics(), 22, 3);
        let found = information(&sequences, n, window);
        let mut counts = vec![vec![0.0_f64; n]; n];
        for s in &sequences {
            for i in 0..s.len() {
                for j in 0..s.len() {
                    let d = i.abs_diff(j);
                    if d > 0 && d <= window {
                        counts[s[i] as usize][s[j] as usize] += 1.0 - (d - 1) as f64 / window as f64;
                    }
                }
            }
        }
        let sums: Vec<f64> = counts.iter().map(|row| row.iter().sum()).collect();
        let total: f64 = sums.iter().map(|s| s.powf(0.75)).sum();
        for i in 0..n {
            let row: std::collections::BTreeMap<u32, f32> = found.row(i).collect();
            for j in 0..n {
                let expected = (counts[i][j] * total / (sums[i] * sums[j].powf(0.75))).ln().max(0.0);
                let expected = if counts[i][j] > 0.0 { expected } else { 0.0 };
                let value = f64::from(row.get(&(j as u32)).copied().unwrap_or(0.0));
                assert!((value - expected).abs() < 1e-4, "{i} {j}: {value}, expected {expected}");
            }
        }
    }

    #[test]
    fn singular_vectors_are_those_of_the_whole_decomposition() {
        let matrix = information(&topics(), 22, 3);
        let mut whole = DMatrix::<f32>::zeros(22, 22);
        for row in 0..22 {
            matrix.row(row).for_each(|(column, value)| whole[(row, column as usize)] = value);
        }
        let svd = whole.clone().svd(true, false);
        let (u, width) = (svd.u.expect("asked for"), 4);
        let found = reduced(&matrix, width, 9);
        for i in 0..width {
            let value = svd.singular_values[i];
            let column = found.column(i);
            assert!(
                (column.norm() - value.sqrt()).abs() < 1e-3 * value.sqrt(),
                "{i}: {} {value}",
                column.norm()
            );
            assert!((column.dot(&u.column(i)).abs() / value.sqrt() - 1.0).abs() < 1e-3, "direction {i}");
        }
    }

    #[test]
    fn words_of_one_topic_are_near_each_other_and_the_rest_is_as_asked() {
        let found = embeddings(&topics(), (22, 6), 3, 0.1, 1).expect("embeddings");
        assert_eq!(found[0], None, "an id that stands nowhere");
        let of = |id: usize| found[id].clone().expect("seen");
        let cosine = |a: usize, b: usize| {
            let (a, b) = (of(a), of(b));
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
            dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
        };
        let mean = |pairs: Vec<(usize, usize)>| {
            pairs.iter().map(|&(a, b)| cosine(a, b)).sum::<f32>() / pairs.len() as f32
        };
        let same = mean((2..12).flat_map(|a| (a + 1..12).map(move |b| (a, b))).collect());
        let other = mean((2..12).flat_map(|a| (12..22).map(move |b| (a, b))).collect());
        assert!(same > other + 0.3, "{same} in a topic, {other} across");
        let square: f32 = found.iter().flatten().flatten().map(|v| v * v).sum();
        assert!(((square / (21.0 * 6.0)).sqrt() - 0.1).abs() < 1e-4, "{square}");
        assert_eq!(found, embeddings(&topics(), (22, 6), 3, 0.1, 1).expect("again"), "the same bits");
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let error = |r: Result<Vec<Option<Vec<f32>>>>| r.expect_err("refused").to_string();
        assert!(error(embeddings(&topics(), (22, 6), 0, 0.1, 1)).contains("window is 0"));
        assert!(error(embeddings(&topics(), (22, 23), 3, 0.1, 1)).contains("23 directions of 22 ids"));
        assert!(error(embeddings(&[vec![3]], (22, 6), 3, 0.1, 1)).contains("near each other"));
    }
}
