//! The codecs: nearest centroid and a few bits for each remaining value (Santhanam et al. 2021, "ColBERTv2", section 3.3), or signs alone.
//!
//! | kind | a token decodes to | bytes at 64 dimensions, beside the code |
//! |---|---|---|
//! | `Bits4`, `Bits2`, `Bits1` | centroid + one of 16, 4, 2 values a dimension | 32, 16, 8 |
//! | `Ternary` | centroid + one of -w, 0, w: small residuals fall into a dead zone | 13 |
//! | `Product` | centroid + for each run of `dims` dimensions one of 256 learned vectors (Jégou, Douze and Schmid 2011) | `⌈64 / dims⌉` |
//! | `Sign` | ±1/√dim by the sign of the embedding; the centroid only finds candidates | 8 |
//!
//! Values are chosen by one table for all dimensions, in two ways. *Quantile*: equally full buckets, each decoded to its median, as in ColBERTv2.
//! *Uniform*: equal steps, the step chosen by the least squared error on the sample; the default. Either way the decoded values are small
//! integers times one scale, so that a kernel looks them up as bytes. Decoded embeddings are scaled back to length 1: dropping that costs up to 0.17
//! nDCG@10 at one bit in published measurements. `docs/BENCHMARKS.md` has the kinds side by side.

use crate::error::{IndexError, rows};
use crate::kmeans::{self, KMeansOptions, Nearest};
use crate::parallel;
use shirube_core::{Packing, run_start};
use shirube_format::bundle::{CentroidForm, CodecTables};
use shirube_kernels::{Codebooks, KernelError, Kernels, MAX_RUN, MaxsimQuery, ResidualTable};

/// How bucket values are chosen. `Ternary` and `Sign` have one way only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BucketRule {
    /// Equally full buckets, each decoded to its median.
    Quantile,
    /// Equal steps around zero.
    #[default]
    Uniform,
}

/// What is kept of a token beside its centroid; see the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CodecKind {
    /// Residual of sixteen values a dimension.
    #[default]
    Bits4,
    /// Residual of four values a dimension.
    Bits2,
    /// Residual of two values a dimension.
    Bits1,
    /// Residual of three values a dimension.
    Ternary,
    /// Residual of one byte for each run of dimensions: one of 256 vectors that were fitted to that run.
    Product {
        /// Dimensions of a run, 1 to 16.
        dims: u8,
    },
    /// The sign of each dimension of the embedding.
    Sign,
}

/// Settings of a codec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodecOptions {
    /// What is kept of a token.
    pub kind: CodecKind,
    /// How bucket values are chosen.
    pub buckets: BucketRule,
    /// How centroids are stored.
    pub centroid_form: CentroidForm,
}

impl CodecKind {
    /// Every kind, most bytes first; three of the products.
    pub const ALL: [Self; 8] = [
        Self::Bits4,
        Self::Bits2,
        Self::Product { dims: 4 },
        Self::Ternary,
        Self::Bits1,
        Self::Product { dims: 8 },
        Self::Sign,
        Self::Product { dims: 10 },
    ];

    /// How its levels share bytes at `dim` dimensions.
    pub fn packing(self, dim: usize) -> Packing {
        match self {
            Self::Product { dims } => {
                Packing::Product { bytes: dim.div_ceil(usize::from(dims.clamp(1, 16))).min(255) as u8 }
            }
            Self::Bits4 => Packing::Bits4,
            Self::Bits2 => Packing::Bits2,
            Self::Ternary => Packing::Ternary,
            Self::Bits1 | Self::Sign => Packing::Bits1,
        }
    }
}

/// Packs and unpacks token embeddings.
#[derive(Clone, Debug)]
pub struct ResidualCodec {
    tables: CodecTables,
    /// `[256]` what the values of each byte decode to, the rest 0; for codewords `[bytes * 256]`.
    by_byte: Vec<[f32; MAX_RUN]>,
}

impl PartialEq for ResidualCodec {
    fn eq(&self, other: &Self) -> bool {
        self.tables == other.tables
    }
}

/// Packed token embeddings, row by row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// `[n_tokens]` nearest centroid.
    pub codes: Vec<u16>,
    /// `[n_tokens, row_bytes]` levels, see [`Packing`].
    pub residuals: Vec<u8>,
}

impl ResidualCodec {
    /// The codec that a bundle's tables describe.
    pub fn new(tables: CodecTables) -> Self {
        let weights = tables.decoded_weights();
        let n = tables.packing.values_per_byte();
        let value = |byte: usize, i: usize| {
            if i < n { weights[usize::from(tables.packing.level(byte as u8, i))] } else { 0.0 }
        };
        let by_byte = if let Packing::Product { bytes } = tables.packing {
            let width = Packing::run_width(usize::from(bytes), tables.dim);
            let word = |w: &[i8]| {
                core::array::from_fn(|i| w.get(i).map_or(0.0, |&v| f32::from(v) * tables.weight_scale))
            };
            tables.codebooks.chunks_exact(width).map(word).collect()
        } else {
            (0..256).map(|byte| core::array::from_fn(|i| value(byte, i))).collect()
        };
        Self { tables, by_byte }
    }

    /// Fits bucket tables to `sample [n, dim]` around `centroids [n_centroids, dim]`, which are rounded first, as they are stored.
    ///
    /// # Errors
    /// [`IndexError::Shape`], [`IndexError::NotFinite`], [`IndexError::Empty`] without centroids or sample.
    pub fn train(
        centroids: &[f32],
        sample: &[f32],
        dim: usize,
        options: CodecOptions,
    ) -> Result<Self, IndexError> {
        if rows("centroids", centroids, dim)? == 0 || rows("sample", sample, dim)? == 0 {
            return Err(IndexError::Empty);
        }
        let mut centroids = centroids.to_vec();
        options.centroid_form.round(&mut centroids, dim);
        let packing = options.kind.packing(dim);
        let buckets = if options.kind == CodecKind::Sign {
            let scale = 1.0 / (127.0 * (dim as f32).sqrt());
            Buckets { cutoffs: vec![0.0], weights: vec![-127, 127], scale, codebooks: Vec::new() }
        } else {
            let mut codes = vec![(0, 0.0); sample.len() / dim];
            Nearest::new(&centroids, dim, Kernels::detect()).find_all(sample, &mut codes);
            let mut values: Vec<f32> = Vec::with_capacity(sample.len());
            for (row, (code, _)) in sample.chunks_exact(dim).zip(codes) {
                let centroid = &centroids[usize::from(code) * dim..][..dim];
                values.extend(row.iter().zip(centroid).map(|(v, c)| v - c));
            }
            if let Packing::Product { bytes } = packing {
                return Ok(Self::with_codebooks(&values, centroids, dim, bytes, options));
            }
            values.sort_by(f32::total_cmp);
            match (options.kind, options.buckets) {
                (CodecKind::Ternary, _) => ternary_buckets(&values),
                (_, BucketRule::Quantile) => quantile_buckets(&values, packing.n_levels()),
                (_, BucketRule::Uniform) => uniform_buckets(&values, packing.n_levels()),
            }
        };
        Ok(Self::new(CodecTables {
            dim,
            packing,
            add_centroid: options.kind != CodecKind::Sign,
            centroid_form: options.centroid_form,
            bucket_cutoffs: buckets.cutoffs,
            bucket_weights: buckets.weights,
            codebooks: buckets.codebooks,
            weight_scale: buckets.scale,
            centroids,
        }))
    }

    /// Codebooks fitted to `residuals [n, dim]`, run by run.
    fn with_codebooks(
        residuals: &[f32],
        centroids: Vec<f32>,
        dim: usize,
        bytes: u8,
        options: CodecOptions,
    ) -> Self {
        let n_runs = usize::from(bytes);
        let width = Packing::run_width(n_runs, dim);
        let mut words = vec![0.0_f32; n_runs * 256 * width];
        for (b, book) in words.chunks_exact_mut(256 * width).enumerate() {
            let (start, end) = (run_start(b, n_runs, dim), run_start(b + 1, n_runs, dim));
            let points: Vec<f32> =
                residuals.chunks_exact(dim).flat_map(|row| &row[start..end]).copied().collect();
            let settings = KMeansOptions { n_centroids: 256, n_rounds: 10, seed: b as u64 };
            let found = kmeans::train(&points, end - start, settings, |_| {});
            for (to, from) in book.chunks_exact_mut(width).zip(found.chunks_exact(end - start)) {
                to[..end - start].copy_from_slice(from);
            }
        }
        let scale = words.iter().fold(1e-6_f32, |a, v| a.max(v.abs())) / 127.0;
        Self::new(CodecTables {
            dim,
            packing: Packing::Product { bytes },
            add_centroid: true,
            centroid_form: options.centroid_form,
            bucket_cutoffs: Vec::new(),
            bucket_weights: Vec::new(),
            codebooks: words.iter().map(|v| (v / scale).round_ties_even() as i8).collect(),
            weight_scale: scale,
            centroids,
        })
    }

    /// Centroids and bucket tables.
    pub fn tables(&self) -> &CodecTables {
        &self.tables
    }

    /// Width of a token embedding.
    pub fn dim(&self) -> usize {
        self.tables.dim
    }

    /// Bytes of one token's residuals.
    pub fn row_bytes(&self) -> usize {
        self.tables.row_bytes()
    }

    /// A query prepared for the kernels that score tokens of this codec.
    pub(crate) fn maxsim_query(
        &self,
        kernels: Kernels,
        query_embeddings: &[f32],
    ) -> Result<MaxsimQuery, KernelError> {
        match self.tables.packing {
            Packing::Product { bytes } => {
                let codebooks = Codebooks {
                    bytes: usize::from(bytes),
                    ints: &self.tables.codebooks,
                    step: self.tables.weight_scale,
                };
                kernels.maxsim_query_product(query_embeddings, self.dim(), codebooks)
            }
            _ => kernels.maxsim_query(query_embeddings, self.dim(), self.residual_table()),
        }
    }

    /// The table that kernels look levels up in. For codewords only its packing and step count: their integers are the tables' `codebooks`.
    pub fn residual_table(&self) -> ResidualTable {
        let weight = |i| self.tables.bucket_weights.get(i).copied().unwrap_or(0);
        ResidualTable {
            packing: self.tables.packing,
            ints: core::array::from_fn(weight),
            step: self.tables.weight_scale,
        }
    }

    /// Packs `embeddings [n, dim]`.
    ///
    /// # Errors
    /// [`IndexError::Shape`] or [`IndexError::NotFinite`].
    pub fn pack(&self, embeddings: &[f32]) -> Result<Packed, IndexError> {
        Packer::new(self).pack(embeddings)
    }

    /// Rebuilds one token embedding, of length 1, into `out [dim]`. Zeros where centroid and residual cancel out.
    ///
    /// # Panics
    /// If `residual` is not `[row_bytes]`, `out` not `[dim]` or `code` not below the number of centroids.
    pub fn unpack(&self, code: u16, residual: &[u8], out: &mut [f32]) {
        self.add(code, residual, out);
        let inverse = inverse_norm(out);
        out.iter_mut().for_each(|v| *v *= inverse);
    }

    /// What each packed token is multiplied by so that it has length 1; 0 for a token that decodes to nothing.
    ///
    /// # Panics
    /// If a code is not below the number of centroids.
    pub fn inverse_norms(&self, codes: &[u16], residuals: &[u8]) -> Vec<f32> {
        let (dim, row_bytes) = (self.dim(), self.row_bytes());
        let mut out = vec![0.0; codes.len()];
        parallel::fill_chunks(&mut out, |first, chunk| {
            let mut row = vec![0.0; dim];
            for (i, out) in chunk.iter_mut().enumerate() {
                let t = first + i;
                self.add(codes[t], &residuals[t * row_bytes..][..row_bytes], &mut row);
                *out = inverse_norm(&row);
            }
        });
        out
    }

    fn centroid(&self, code: u16) -> &[f32] {
        let start = usize::from(code) * self.dim();
        &self.tables.centroids[start..start + self.dim()]
    }

    fn add(&self, code: u16, residual: &[u8], out: &mut [f32]) {
        assert_eq!(residual.len(), self.row_bytes(), "a packed row of dim {}", self.dim());
        if self.tables.add_centroid {
            out.copy_from_slice(self.centroid(code));
        } else {
            out.fill(0.0);
        }
        if let Packing::Product { bytes } = self.tables.packing {
            for (b, &byte) in residual.iter().enumerate() {
                let (bytes, dim) = (usize::from(bytes), self.dim());
                let run = &mut out[run_start(b, bytes, dim)..run_start(b + 1, bytes, dim)];
                for (value, add) in run.iter_mut().zip(&self.by_byte[256 * b + usize::from(byte)]) {
                    *value += add;
                }
            }
            return;
        }
        for (values, &byte) in out.chunks_mut(self.tables.packing.values_per_byte()).zip(residual) {
            for (value, add) in values.iter_mut().zip(&self.by_byte[usize::from(byte)]) {
                *value += add;
            }
        }
    }
}

/// A codec with its centroids laid out for the search for the nearest one: for packing batch by batch.
pub struct Packer<'a> {
    codec: &'a ResidualCodec,
    nearest: Nearest,
    /// Codewords of each run.
    words: Vec<Nearest>,
}

impl<'a> Packer<'a> {
    /// Lays out the centroids.
    pub fn new(codec: &'a ResidualCodec) -> Self {
        let tables = codec.tables();
        let kernels = Kernels::detect();
        let n_runs = codec.by_byte.len() / 256;
        let words = match tables.packing {
            Packing::Product { .. } => (0..n_runs)
                .map(|b| {
                    let width = run_start(b + 1, n_runs, tables.dim) - run_start(b, n_runs, tables.dim);
                    let book = &codec.by_byte[256 * b..256 * (b + 1)];
                    let book: Vec<f32> = book.iter().flat_map(|word| &word[..width]).copied().collect();
                    Nearest::new(&book, width, kernels)
                })
                .collect(),
            _ => Vec::new(),
        };
        Self { codec, nearest: Nearest::new(&tables.centroids, tables.dim, kernels), words }
    }

    /// Packs `embeddings [n, dim]`.
    ///
    /// # Errors
    /// [`IndexError::Shape`] or [`IndexError::NotFinite`].
    pub fn pack(&self, embeddings: &[f32]) -> Result<Packed, IndexError> {
        let tables = self.codec.tables();
        let dim = tables.dim;
        let n = rows("embeddings", embeddings, dim)?;
        let mut found = vec![(0, 0.0); n];
        self.nearest.find_all(embeddings, &mut found);
        let codes: Vec<u16> = found.iter().map(|&(code, _)| code).collect();
        let mut residuals = Vec::with_capacity(n * tables.row_bytes());
        if !self.words.is_empty() {
            let n_runs = self.words.len();
            residuals.resize(n * n_runs, 0);
            for (b, words) in self.words.iter().enumerate() {
                let run = run_start(b, n_runs, dim)..run_start(b + 1, n_runs, dim);
                let mut values = Vec::with_capacity(n * run.len());
                for (row, &code) in embeddings.chunks_exact(dim).zip(&codes) {
                    let centroid = &self.codec.centroid(code)[run.clone()];
                    values.extend(row[run.clone()].iter().zip(centroid).map(|(v, c)| v - c));
                }
                words.find_all(&values, &mut found);
                for (row, &(word, _)) in residuals.chunks_exact_mut(n_runs).zip(&found) {
                    row[b] = word as u8;
                }
            }
            return Ok(Packed { codes, residuals });
        }
        let mut levels = vec![0_u8; dim];
        for (row, &code) in embeddings.chunks_exact(dim).zip(&codes) {
            let centroid = self.codec.centroid(code);
            for ((level, v), c) in levels.iter_mut().zip(row).zip(centroid) {
                let value = if tables.add_centroid { v - c } else { *v };
                *level = tables.bucket_cutoffs.iter().map(|&cutoff| u8::from(cutoff <= value)).sum();
            }
            tables.packing.pack(&levels, &mut residuals);
        }
        Ok(Packed { codes, residuals })
    }
}

/// Sums in sixteen lanes joined in a fixed order: the same on every machine, and vector code on most.
fn inverse_norm(row: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    for chunk in row.chunks(16) {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *lane += v * v;
        }
    }
    let norm = lanes.iter().sum::<f32>().sqrt();
    if norm > 1e-12 { 1.0 / norm } else { 0.0 }
}

/// Bucket tables.
#[derive(Clone, Debug)]
struct Buckets {
    cutoffs: Vec<f32>,
    weights: Vec<i8>,
    scale: f32,
    codebooks: Vec<i8>,
}

/// `values` are sorted and not empty.
fn quantile_buckets(values: &[f32], n_levels: usize) -> Buckets {
    let at = |share: f64| values[((share * values.len() as f64) as usize).min(values.len() - 1)];
    let n = n_levels as f64;
    let medians: Vec<f32> = (0..n_levels).map(|i| at((i as f64 + 0.5) / n)).collect();
    // Nothing but zeros (every token is its centroid) still needs a positive scale.
    let scale = medians.iter().fold(1e-6_f32, |a, w| a.max(w.abs())) / 127.0;
    Buckets {
        cutoffs: (1..n_levels).map(|i| at(i as f64 / n)).collect(),
        weights: medians.iter().map(|w| (w / scale).round().clamp(-127.0, 127.0) as i8).collect(),
        scale,
        codebooks: Vec::new(),
    }
}

/// Evenly spaced quantiles that stand for the sample, and its standard deviation.
fn grid(values: &[f32]) -> (Vec<f32>, f64) {
    let squares = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
    let deviation = (squares / values.len() as f64).sqrt().max(1e-9);
    ((0..4096).map(|i| values[i * values.len() / 4096]).collect(), deviation)
}

/// `values` are sorted and not empty. The weights are odd multiples of half a step, exactly, so that a shader may compute
/// `8 * (2 * level - 15)` (four bits) instead of looking it up.
fn uniform_buckets(values: &[f32], n_levels: usize) -> Buckets {
    let (grid, deviation) = grid(values);
    let half = n_levels as f32 / 2.0;
    let error = |step: f32| -> f64 {
        let value = |v: f32| step * ((v / step).floor().clamp(-half, half - 1.0) + 0.5);
        grid.iter().map(|&v| f64::from(v - value(v)).powi(2)).sum()
    };
    // The best step for a normal law is 0.335, 0.996, 1.596 deviations for 16, 4, 2 levels (Max 1960); sharper laws want more.
    let normal = match n_levels {
        16 => 0.335,
        4 => 0.996,
        _ => 1.596,
    };
    let step = (60..=210)
        .step_by(3)
        .map(|i| (f64::from(i) * 0.01 * normal * deviation) as f32)
        .map(|step| (error(step), step))
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map_or(1e-6, |(_, step)| step);
    let unit = 120 / (n_levels as i32 - 1);
    Buckets {
        cutoffs: (1..n_levels).map(|i| (i as f32 - half) * step).collect(),
        weights: (0..n_levels as i32).map(|i| ((2 * i + 1 - n_levels as i32) * unit) as i8).collect(),
        scale: step / (2 * unit) as f32,
        codebooks: Vec::new(),
    }
}

/// `values` are sorted and not empty. The dead zone with the least squared error; for a normal law it ends at 0.612 deviations and the outer
/// values are 1.224 (Max 1960).
fn ternary_buckets(values: &[f32]) -> Buckets {
    let (grid, deviation) = grid(values);
    let best = (20..=150)
        .step_by(2)
        .map(|i| (f64::from(i) * 0.01 * deviation) as f32)
        .map(|zone| {
            let outside = grid.iter().filter(|v| v.abs() >= zone);
            let weight = outside.clone().map(|v| v.abs()).sum::<f32>() / outside.count().max(1) as f32;
            let value = |v: f32| if v.abs() < zone { 0.0 } else { weight.copysign(v) };
            let error: f64 = grid.iter().map(|&v| f64::from(v - value(v)).powi(2)).sum();
            (error, zone, weight)
        })
        .min_by(|a, b| a.0.total_cmp(&b.0));
    let (_, zone, weight) = best.unwrap_or((0.0, 1e-6, 1e-6));
    let scale = weight.max(1e-6) / 127.0;
    Buckets { cutoffs: vec![-zone, zone], weights: vec![-127, 0, 127], scale, codebooks: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn options(kind: CodecKind, buckets: BucketRule) -> CodecOptions {
        CodecOptions { kind, buckets, centroid_form: CentroidForm::I8 }
    }

    /// Four dimensions, cutoffs an eighth apart and weights in the middle: small enough to pack by hand.
    fn by_hand() -> ResidualCodec {
        ResidualCodec::new(CodecTables {
            dim: 4,
            packing: Packing::Bits4,
            add_centroid: true,
            centroid_form: CentroidForm::F16,
            bucket_cutoffs: (0..15).map(|i| (i as f32 - 7.0) * 0.125).collect(),
            bucket_weights: (0..16).map(|i| 2 * i - 15).collect(),
            codebooks: Vec::new(),
            weight_scale: 0.0625,
            centroids: vec![0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0],
        })
    }

    #[test]
    fn a_golden_row_fixes_the_order_of_the_halves() {
        // Nearest is centroid 1 = (1, 0, 0, 0); residuals are (-0.25, 0.5, 0, -0.9).
        // Cutoffs at or below: -0.875 … -0.25 are 6; … 0.5 are 12; … 0 are 8; none of -0.875 … is below -0.9: 0.
        let packed = by_hand().pack(&[0.75, 0.5, 0.0, -0.9]).unwrap();
        assert_eq!(packed.codes, [1]);
        assert_eq!(packed.residuals, [6 | 12 << 4, 8]);
        let mut row = [0.0; 4];
        by_hand().unpack(1, &packed.residuals, &mut row);
        // Weights -3, 9, 1, -15 sixteenths on top of the centroid, then length 1.
        let plain = [1.0 - 0.1875, 0.5625, 0.0625, -0.9375];
        let norm = plain.iter().map(|v: &f32| v * v).sum::<f32>().sqrt();
        for (found, expected) in row.iter().zip(plain.map(|v| v / norm)) {
            assert!((found - expected).abs() < 1e-6, "{row:?}");
        }
    }

    #[test]
    fn uniform_weights_stand_in_the_middle_between_their_cutoffs() {
        let mut values: Vec<f32> = (0..1000).map(|i| ((i * 37) % 1000) as f32 / 4000.0 - 0.125).collect();
        values.sort_by(f32::total_cmp);
        for n_levels in [16, 4, 2] {
            let Buckets { cutoffs, weights, scale, .. } = uniform_buckets(&values, n_levels);
            assert_eq!((cutoffs.len(), weights.len()), (n_levels - 1, n_levels));
            for (cutoff, pair) in cutoffs.iter().zip(weights.windows(2)) {
                let middle = (f32::from(pair[0]) + f32::from(pair[1])) / 2.0 * scale;
                assert!((cutoff - middle).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn a_dead_zone_of_a_normal_law_ends_where_max_says() {
        // Quantiles of a normal law by bisection of its distribution function, good to 1e-4.
        let below = |x: f64| {
            let n = 4000;
            let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
            0.5 + (0..n).map(|i| density(x * (f64::from(i) + 0.5) / f64::from(n))).sum::<f64>() * x
                / f64::from(n)
        };
        let quantile = |p: f64| {
            let (mut low, mut high) = (-4.0, 4.0);
            for _ in 0..20 {
                let middle = (low + high) / 2.0;
                if below(middle) < p { low = middle } else { high = middle }
            }
            low as f32
        };
        let values: Vec<f32> = (0..512).map(|i| quantile((f64::from(i) + 0.5) / 512.0)).collect();
        let Buckets { cutoffs, weights, scale, .. } = ternary_buckets(&values);
        assert!((cutoffs[1] - 0.612).abs() < 0.04 && cutoffs[0] == -cutoffs[1], "{cutoffs:?}");
        assert!((f32::from(weights[2]) * scale - 1.224).abs() < 0.03, "{}", f32::from(weights[2]) * scale);
    }

    #[test]
    fn training_on_tokens_that_equal_their_centroid_decodes_to_the_centroid() {
        let centroids = [1.0, 0.0, 0.0, 1.0];
        for kind in [
            CodecKind::Bits4,
            CodecKind::Bits2,
            CodecKind::Bits1,
            CodecKind::Ternary,
            CodecKind::Product { dims: 2 },
        ] {
            for rule in [BucketRule::Quantile, BucketRule::Uniform] {
                let codec = ResidualCodec::train(&centroids, &centroids, 2, options(kind, rule)).unwrap();
                let packed = codec.pack(&centroids).unwrap();
                assert_eq!(packed.codes, [0, 1]);
                let mut row = [0.0; 2];
                codec.unpack(0, &packed.residuals[..codec.row_bytes()], &mut row);
                // An i8 centroid is good to half of 1/127 of its largest value.
                assert!((row[0] - 1.0).abs() < 0.005 && row[1].abs() < 0.005, "{kind:?} {rule:?}: {row:?}");
            }
        }
    }

    #[test]
    fn signs_alone_decode_without_their_centroid() {
        let centroids = [1.0, 0.0, 0.0, 0.0];
        let codec =
            ResidualCodec::train(&centroids, &centroids, 4, options(CodecKind::Sign, BucketRule::Uniform))
                .unwrap();
        let packed = codec.pack(&[0.7, -0.1, 0.7, -0.1]).unwrap();
        assert_eq!((packed.codes, packed.residuals.clone()), (vec![0], vec![0b0101]));
        let mut row = [0.0; 4];
        codec.unpack(0, &packed.residuals, &mut row);
        for (found, expected) in row.iter().zip([0.5, -0.5, 0.5, -0.5]) {
            assert!((found - expected).abs() < 1e-6, "{row:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn packing_keeps_embeddings_close_and_of_length_one(
            rows in prop::collection::vec(prop::collection::vec(-1.0_f32..1.0, 8), 40..120), uniform: bool, kind in 0_usize..8,
        ) {
            let embeddings: Vec<f32> = rows
                .iter()
                .filter(|r| r.iter().map(|v| v * v).sum::<f32>() > 0.01)
                .flat_map(|r| {
                    let norm = r.iter().map(|v| v * v).sum::<f32>().sqrt();
                    r.iter().map(move |v| v / norm)
                })
                .collect();
            let rule = if uniform { BucketRule::Uniform } else { BucketRule::Quantile };
            let kind = CodecKind::ALL[kind];
            let codec = ResidualCodec::train(&embeddings[..64], &embeddings, 8, options(kind, rule)).unwrap();
            let packed = codec.pack(&embeddings).unwrap();
            let inverse_norms = codec.inverse_norms(&packed.codes, &packed.residuals);
            prop_assert!(inverse_norms.iter().all(|n| *n > 0.3 && *n < 20.0), "{inverse_norms:?}");
            let (mut row, mut sum) = ([0.0; 8], 0.0);
            for (i, original) in embeddings.chunks_exact(8).enumerate() {
                let bytes = codec.row_bytes();
                codec.unpack(packed.codes[i], &packed.residuals[i * bytes..(i + 1) * bytes], &mut row);
                let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
                prop_assert!((norm - 1.0).abs() < 1e-5);
                sum += row.iter().zip(original).map(|(a, b)| a * b).sum::<f32>();
            }
            let mean = sum / (embeddings.len() / 8) as f32;
            // Random points around eight random centroids are hard; these floors only tell a working codec from a broken one.
            let floor = match kind {
                CodecKind::Bits4 | CodecKind::Product { .. } => 0.97,
                CodecKind::Bits2 | CodecKind::Ternary => 0.85,
                CodecKind::Bits1 | CodecKind::Sign => 0.7,
            };
            prop_assert!(mean > floor, "{kind:?}: mean cosine {mean}");
        }
    }
}
