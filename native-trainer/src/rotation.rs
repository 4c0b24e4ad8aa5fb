//! The axes that token embeddings are written in. Turning them all alike changes no dot product, so no score, but decides which values stand side by side in
//! a run of the index's codewords.
//!
//! Codewords lose least where all runs vary alike and no two of them vary together: principal directions of the residuals, dealt out so that the products
//! of their variances are equal (Ge, He, Ke and Sun 2013, "Optimized product quantization", eigenvalue allocation). Inside its run a codeword sees no
//! turn; there the variances are spread evenly, for the codecs that have one table for all dimensions.
//!
//! The turn is folded into the last dense layer: indexes, files and readers do not know of it.

use anyhow::{Context as _, Result, ensure};
use candle_core::{Device, Tensor};
use nalgebra::{DMatrix, SymmetricEigen};
use shirube_core::{Packing, ProjectionConfig, run_start};
use shirube_index::{BuiltIndex, IndexBuilder, IndexOptions, ResidualCodec};
use std::collections::BTreeMap;
use std::f64::consts::TAU;

/// Directions that vary less than this share of the strongest count as varying so much: their logarithm decides nothing.
const LEAST_VARIANCE: f64 = 1e-6;

/// New axes, and what the index of a site loses in the old and in the new ones.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// `[dim, dim]`, orthogonal; its columns are the new axes.
    pub axes: DMatrix<f64>,
    /// Mean of 1 - cosine between embeddings and what an index decodes them to, in the old axes.
    pub loss_before: f64,
    /// The same in the new axes, of embeddings that chose neither axes nor codewords.
    pub loss_after: f64,
}

impl Rotation {
    /// Axes for the default codec of a site, fitted to half of `documents`, each `[n_tokens, dim]` of unit rows, and measured on the other half.
    ///
    /// # Errors
    /// Too few tokens, or a `dim` that no index takes.
    pub fn fit(documents: &[&[f32]], dim: usize) -> Result<Self> {
        let half = |odd: usize| documents.iter().skip(odd).step_by(2).copied().collect::<Vec<_>>();
        let (fitted, measured) = (half(0), half(1).concat());
        let rows = fitted.concat();
        ensure!(
            !measured.is_empty() && !rows.is_empty(),
            "too few tokens to fit axes to: two sections with text at least"
        );
        let index = build(&fitted, dim)?;
        let axes = axes(&residuals(&index, &rows), dim, n_runs(index.codec.tables().packing));
        let loss_before = loss(&index.codec, &measured)?;
        let turned: Vec<Vec<f32>> = fitted.iter().map(|rows| turn(rows, &axes)).collect();
        let index = build(&turned, dim)?;
        let loss_after = loss(&index.codec, &turn(&measured, &axes))?;
        Ok(Self { axes, loss_before, loss_after })
    }

    /// The weights of a student whose embeddings are written in the new axes.
    ///
    /// # Errors
    /// A projection without a dense layer, or one of another width.
    pub fn apply(
        &self,
        projection: &ProjectionConfig,
        weights: &BTreeMap<String, Tensor>,
    ) -> Result<BTreeMap<String, Tensor>> {
        let last = projection
            .dense
            .len()
            .checked_sub(1)
            .context("a model without a dense layer cannot be turned")?;
        let rows: Vec<f32> = self.axes.iter().map(|&v| v as f32).collect(); // column by column: the transpose, row by row
        let turn = Tensor::from_vec(rows, self.axes.shape(), &Device::Cpu)?;
        let mut turned = weights.clone();
        let mut fold = |name: String, column: bool| -> Result<()> {
            let old = weights.get(&name).with_context(|| format!("tensor {name} is missing"))?;
            let new = if column { turn.matmul(&old.unsqueeze(1)?)?.squeeze(1)? } else { turn.matmul(old)? };
            turned.insert(name, new);
            Ok(())
        };
        fold(format!("dense.{last}.weight"), false)?;
        if projection.dense[last].bias {
            fold(format!("dense.{last}.bias"), true)?;
        }
        Ok(turned)
    }
}

fn build<D: AsRef<[f32]>>(documents: &[D], dim: usize) -> Result<BuiltIndex> {
    let mut builder = IndexBuilder::new(dim, IndexOptions::site())?;
    for document in documents {
        builder.push(document.as_ref())?;
    }
    Ok(builder.finish(|_| {})?)
}

/// What is left of `rows` beside their centroids.
fn residuals(index: &BuiltIndex, rows: &[f32]) -> Vec<f32> {
    let (dim, centroids) = (index.codec.dim(), &index.codec.tables().centroids);
    let centroid = |code: u16| &centroids[usize::from(code) * dim..][..dim];
    let codes = index.packed.codes.iter();
    rows.chunks_exact(dim)
        .zip(codes)
        .flat_map(|(row, &code)| row.iter().zip(centroid(code)).map(|(v, c)| v - c))
        .collect()
}

fn n_runs(packing: Packing) -> usize {
    match packing {
        Packing::Product { bytes } => usize::from(bytes),
        _ => 1,
    }
}

/// `rows` written in the new axes.
fn turn(rows: &[f32], axes: &DMatrix<f64>) -> Vec<f32> {
    let dim = axes.nrows();
    let axes = axes.map(|v| v as f32);
    let rows = DMatrix::from_column_slice(dim, rows.len() / dim, rows); // a row of ours is a column here
    (axes.transpose() * rows).as_slice().to_vec()
}

/// Mean of 1 - cosine between `rows` and what is decoded of them.
fn loss(codec: &ResidualCodec, rows: &[f32]) -> Result<f64> {
    let (dim, row_bytes) = (codec.dim(), codec.row_bytes());
    let packed = codec.pack(rows)?;
    let mut decoded = vec![0.0; dim];
    let mut sum = 0.0;
    for ((row, &code), residual) in
        rows.chunks_exact(dim).zip(&packed.codes).zip(packed.residuals.chunks_exact(row_bytes))
    {
        codec.unpack(code, residual, &mut decoded);
        sum += 1.0 - f64::from(row.iter().zip(&decoded).map(|(a, b)| a * b).sum::<f32>());
    }
    Ok(sum / packed.codes.len() as f64)
}

/// The axes for `residuals [n, dim]` in `n_runs` runs.
fn axes(residuals: &[f32], dim: usize, n_runs: usize) -> DMatrix<f64> {
    let mut covariance = DMatrix::<f64>::zeros(dim, dim);
    // In blocks: a product of matrices in place of one small update a row.
    for block in residuals.chunks(dim * 4096) {
        let block = DMatrix::from_column_slice(dim, block.len() / dim, block).map(f64::from);
        covariance += &block * block.transpose();
    }
    let found = SymmetricEigen::new(covariance);
    let dealt = deal(found.eigenvalues.as_slice(), n_runs);
    let mut axes = DMatrix::zeros(dim, dim);
    for (run, directions) in dealt.iter().enumerate() {
        let (start, width) = (run_start(run, n_runs, dim), directions.len());
        let principal = DMatrix::from_fn(dim, width, |i, j| found.eigenvectors[(i, directions[j])]);
        axes.columns_mut(start, width).copy_from(&(principal * even(width)));
    }
    axes
}

/// Directions for each run, strongest first to the run whose product of variances is smallest and that has room.
fn deal(variances: &[f64], n_runs: usize) -> Vec<Vec<usize>> {
    let dim = variances.len();
    let mut order: Vec<usize> = (0..dim).collect();
    order.sort_by(|&a, &b| variances[b].total_cmp(&variances[a]));
    let strongest = variances[order[0]].max(f64::MIN_POSITIVE);
    let mut runs = vec![(0.0, Vec::new()); n_runs];
    for direction in order {
        // Above 0 for all, so that a run's product grows with each.
        let gain = ((variances[direction] / strongest).max(LEAST_VARIANCE) / LEAST_VARIANCE).ln();
        let room = |run: usize| run_start(run + 1, n_runs, dim) - run_start(run, n_runs, dim);
        let least = (0..n_runs)
            .filter(|&run| runs[run].1.len() < room(run))
            .min_by(|&a, &b| f64::total_cmp(&runs[a].0, &runs[b].0))
            .expect("the runs have room for every dimension");
        runs[least].0 += gain;
        runs[least].1.push(direction);
    }
    runs.into_iter().map(|(_, directions)| directions).collect()
}

/// The orthogonal matrix of the discrete Hartley transform: each of its columns takes a like share of every row's variance.
fn even(n: usize) -> DMatrix<f64> {
    DMatrix::from_fn(n, n, |i, j| {
        let angle = TAU * (i * j % n) as f64 / n as f64;
        (angle.cos() + angle.sin()) / (n as f64).sqrt()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
    use shirube_core::{Activation, DenseConfig};

    /// Sixteen values of which those four apart go together, and some are nine times as large as others.
    fn documents(n: usize, seed: u64) -> Vec<Vec<f32>> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut uniform = || (rng.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0;
        let row = |uniform: &mut dyn FnMut() -> f32| {
            let own: Vec<f32> = (0..16).map(|_| uniform()).collect();
            let mut row: Vec<f32> =
                (0..16).map(|i| (own[i % 4] + 0.2 * own[i]) / (1.0 + (i % 3) as f32 * 4.0)).collect();
            let length = row.iter().map(|v| v * v).sum::<f32>().sqrt();
            row.iter_mut().for_each(|v| *v /= length);
            row
        };
        (0..n).map(|_| (0..20).flat_map(|_| row(&mut uniform)).collect()).collect()
    }

    #[test]
    fn new_axes_are_orthogonal_keep_products_and_lose_less() {
        let documents = documents(200, 4);
        let found =
            Rotation::fit(&documents.iter().map(Vec::as_slice).collect::<Vec<_>>(), 16).expect("fitted");
        let unit = &found.axes * found.axes.transpose();
        assert!((unit - DMatrix::identity(16, 16)).amax() < 1e-9);
        assert!(found.loss_after < 0.9 * found.loss_before, "{} {}", found.loss_before, found.loss_after);
        let turned = turn(&documents[0], &found.axes);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
        for (a, b) in (0..20).flat_map(|a| (0..20).map(move |b| (16 * a, 16 * b))) {
            let (old, new) = (
                dot(&documents[0][a..a + 16], &documents[0][b..b + 16]),
                dot(&turned[a..a + 16], &turned[b..b + 16]),
            );
            assert!((old - new).abs() < 1e-5, "{old} {new}");
        }
    }

    #[test]
    fn a_turned_student_has_the_embeddings_in_the_new_axes() {
        let documents = documents(20, 5);
        let found =
            Rotation::fit(&documents.iter().map(Vec::as_slice).collect::<Vec<_>>(), 16).expect("fitted");
        let dense = DenseConfig {
            in_features: 8,
            out_features: 16,
            bias: true,
            residual: false,
            activation: Activation::Identity,
        };
        let projection = ProjectionConfig { dense: vec![dense], query_weight: false };
        let value = |shape: &[usize]| Tensor::randn(0.0_f32, 1.0, shape, &Device::Cpu).expect("random");
        let (weight, bias, x) = (value(&[16, 8]), value(&[16]), value(&[3, 8]));
        let of = |w: &Tensor, b: &Tensor| -> Vec<f32> {
            let y = x.matmul(&w.t().expect("matrix")).expect("fits").broadcast_add(b).expect("fits");
            y.flatten_all().expect("rows").to_vec1().expect("f32")
        };
        let weights = BTreeMap::from([
            ("dense.0.weight".to_owned(), weight.clone()),
            ("dense.0.bias".to_owned(), bias.clone()),
        ]);
        let turned = found.apply(&projection, &weights).expect("turned");
        let expected = turn(&of(&weight, &bias), &found.axes);
        for (a, b) in of(&turned["dense.0.weight"], &turned["dense.0.bias"]).iter().zip(&expected) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
        let none = ProjectionConfig { dense: Vec::new(), query_weight: false };
        let refused = found.apply(&none, &weights).expect_err("nothing to fold it into").to_string();
        assert!(refused.contains("dense layer"), "{refused}");
    }

    #[test]
    fn two_sections_with_text_are_the_least() {
        let row = documents(1, 6).remove(0);
        for few in [vec![], vec![row.as_slice()], vec![row.as_slice(), &[]]] {
            let refused = Rotation::fit(&few, 16).expect_err("nothing to measure on").to_string();
            assert!(refused.contains("two sections"), "{refused}");
        }
    }

    #[test]
    fn every_direction_is_dealt_once_into_runs_of_their_width() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        for dim in 2..40 {
            let variances: Vec<f64> = (0..dim).map(|_| f64::from(rng.next_u32() % 1000)).collect();
            for n_runs in 1..dim.min(8) {
                let dealt = deal(&variances, n_runs);
                let width = |run| run_start(run + 1, n_runs, dim) - run_start(run, n_runs, dim);
                assert!(dealt.iter().enumerate().all(|(run, directions)| directions.len() == width(run)));
                let mut all: Vec<usize> = dealt.concat();
                all.sort_unstable();
                assert_eq!(all, (0..dim).collect::<Vec<_>>());
            }
        }
        assert_eq!(deal(&[8.0, 4.0, 2.0, 1.0], 2), [vec![0, 3], vec![1, 2]], "equal products");
    }

    #[test]
    fn the_turn_inside_a_run_is_orthogonal() {
        for n in 1..20 {
            let matrix = even(n);
            assert!((&matrix * matrix.transpose() - DMatrix::identity(n, n)).amax() < 1e-12);
        }
    }
}
