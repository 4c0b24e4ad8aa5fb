//! One suite for every backend: natively as a test, in the browser through the wasm face.
//!
//! Each backend this machine has runs each kernel on seeded random input, with shapes at, one below and one above vector and panel widths,
//! and is held against the scalar oracle: integer results, quantising and compressed MaxSim bit for bit, f32 sums within the rounding that
//! their length allows. Vector backends must also agree with the portable one in every bit of every result.

use crate::*;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use shirube_core::Packing;

/// Error of one rounding.
const UNIT: f32 = f32::EPSILON / 2.0;

/// exp and the normal distribution are polynomials good to about 5e-7; a few of them and their sums stay below this.
const SMOOTH: f32 = 2e-6;

/// What ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Names of the backends, the oracle first.
    pub backends: Vec<&'static str>,
    /// Kernel results compared.
    pub n_checks: usize,
}

/// Runs the whole suite. The same seed gives the same input everywhere.
///
/// # Errors
/// The first disagreement: backend, kernel, shape, position, both values.
pub fn run_all(seed: u64) -> Result<Summary, String> {
    let all = Kernels::all();
    let mut suite = Suite { rng: ChaCha8Rng::seed_from_u64(seed), all: all.clone(), n_checks: 0 };
    suite.products()?;
    suite.rows()?;
    suite.attention()?;
    suite.maxsim()?;
    suite.damage()?;
    Ok(Summary { backends: all.iter().map(|k| k.kind().name()).collect(), n_checks: suite.n_checks })
}

struct Suite {
    rng: ChaCha8Rng,
    all: Vec<Kernels>,
    n_checks: usize,
}

/// How close a result must be to the oracle's.
enum Tolerance<'a> {
    /// The same bits.
    Exact,
    /// `|difference| <= bound[i]`.
    Each(&'a [f32]),
    /// `|difference| <= bound`.
    All(f32),
}

impl Suite {
    /// Uniform in [-1, 1).
    fn unit(&mut self) -> f32 {
        (self.rng.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.unit()).collect()
    }

    fn below(&mut self, n: usize) -> usize {
        self.rng.next_u32() as usize % n
    }

    fn ints(&mut self, n: usize) -> Vec<i8> {
        (0..n).map(|_| (self.below(255) as i32 - 127) as i8).collect()
    }

    /// Runs `kernel` on every backend and compares.
    fn check(
        &mut self,
        what: &str,
        tolerance: &Tolerance<'_>,
        mut kernel: impl FnMut(Kernels) -> Result<Vec<f32>, KernelError>,
    ) -> Result<(), String> {
        let mut run = |k: Kernels| kernel(k).map_err(|e| format!("{what} on {}: {e}", k.kind()));
        let oracle = run(self.all[0])?;
        let portable = run(self.all[1])?;
        for (i, (&o, &p)) in oracle.iter().zip(&portable).enumerate() {
            let good = match tolerance {
                Tolerance::Exact => o.to_bits() == p.to_bits() || o == p,
                Tolerance::Each(bounds) => (o - p).abs() <= bounds[i],
                Tolerance::All(bound) => (o - p).abs() <= *bound,
            };
            if !(good || o.is_nan() && p.is_nan()) {
                return Err(format!(
                    "{what}, element {i}: the oracle gives {o}, {} gives {p}",
                    self.all[1].kind()
                ));
            }
        }
        self.n_checks += 1;
        for &k in &self.all[2..] {
            let found = run(k)?;
            if let Some(i) = found
                .iter()
                .zip(&portable)
                .position(|(a, b)| a.to_bits() != b.to_bits() && !(a.is_nan() && b.is_nan()))
            {
                return Err(format!(
                    "{what}, element {i}: portable gives {}, {} gives {}",
                    portable[i],
                    k.kind(),
                    found[i]
                ));
            }
            self.n_checks += 1;
        }
        Ok(())
    }

    fn products(&mut self) -> Result<(), String> {
        // The last one does not fit the widening buffer; the one before has the extremes that would overflow narrower sums.
        for (case, &(m, k, n)) in [
            (1, 1, 1),
            (1, 4, 16),
            (2, 3, 5),
            (3, 31, 15),
            (4, 32, 17),
            (5, 33, 31),
            (7, 64, 32),
            (8, 65, 33),
            (9, 96, 48),
            (15, 128, 7),
            (17, 200, 40),
            (32, 192, 64),
            (33, 255, 47),
            (9, 1024, 16),
            (9, 2050, 20),
        ]
        .iter()
        .enumerate()
        {
            let mut x = self.floats(m * k);
            let (mut ints, mut scale) = (self.ints(n * k), self.floats(n));
            if case == 13 {
                x.fill(1.0);
                ints.fill(127);
                ints[..k].fill(-127);
            }
            if case == 2 {
                x.fill(0.0);
                scale.fill(0.0);
            }
            let (bias, base) = (self.floats(n), self.floats(m * n));
            for (bias, add) in
                [(None, false), (None, true), (Some(&bias[..]), false), (Some(&bias[..]), true)]
            {
                let what = format!("gemm_i8 [{m}, {k}] x [{n}, {k}], bias {}, add {add}", bias.is_some());
                self.check(&what, &Tolerance::Exact, |kernels| {
                    let weights = kernels.pack_i8(&ints, &scale, n, k)?;
                    let mut acts = kernels.activations();
                    kernels.quantize(&x, m, k, &mut acts)?;
                    let mut out = base.clone();
                    kernels.gemm_i8(&acts, &weights, Epilogue { bias, add }, &mut out)?;
                    Ok(out)
                })?;
            }
            self.products_i4(m, k, n, &x, &base)?;
            let w = self.floats(n * k);
            let bounds: Vec<f32> = (0..m * n)
                .map(|i| {
                    let (a, w) = (&x[i / n * k..][..k], &w[i % n * k..][..k]);
                    let size: f32 = a.iter().zip(w).map(|(a, w)| (a * w).abs()).sum();
                    (k + 2) as f32 * UNIT * (size + 2.0)
                })
                .collect();
            self.check(&format!("gemm_f32 [{m}, {k}] x [{n}, {k}]"), &Tolerance::Each(&bounds), |kernels| {
                let mut out = base.clone();
                let weights = kernels.pack_f32(&w, n, k)?;
                kernels.gemm_f32(&x, m, &weights, Epilogue { bias: Some(&bias), add: true }, &mut out)?;
                Ok(out)
            })?;
        }
        Ok(())
    }

    /// 4-bit weights: the oracle agrees, and the bits are those of the same weights as int8.
    fn products_i4(&mut self, m: usize, k: usize, n: usize, x: &[f32], base: &[f32]) -> Result<(), String> {
        let nibbles = (0..n * k.div_ceil(2)).map(|_| self.below(256) as u8).collect();
        let groups = (0..n * k.div_ceil(GROUP)).map(|_| self.below(16) as u8).collect();
        let (scale, bias) = (self.floats(n), self.floats(n));
        let refused = |e: KernelError| format!("gemm_i4 [{m}, {k}] x [{n}, {k}]: {e}");
        let matrix = GroupedI4::new(nibbles, groups, scale, n, k).map_err(refused)?;
        let (ints, scale) = matrix.expand();
        let what = format!("gemm_i4 [{m}, {k}] x [{n}, {k}]");
        let mut other = None;
        self.check(&what, &Tolerance::Exact, |kernels| {
            let mut acts = kernels.activations();
            kernels.quantize(x, m, k, &mut acts)?;
            let (mut out, mut expanded) = (base.to_vec(), base.to_vec());
            let epilogue = Epilogue { bias: Some(&bias), add: true };
            kernels.gemm_i4(&acts, &kernels.pack_i4(&matrix)?, epilogue, &mut out)?;
            kernels.gemm_i8(&acts, &kernels.pack_i8(&ints, &scale, n, k)?, epilogue, &mut expanded)?;
            if out != expanded {
                other = Some(kernels.kind());
            }
            Ok(out)
        })?;
        match other {
            Some(kind) => Err(format!("{what} on {kind}: other bits than with the weights expanded to int8")),
            None => Ok(()),
        }
    }

    fn rows(&mut self) -> Result<(), String> {
        for &width in &[1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 33, 64, 100, 192, 255] {
            let m = 1 + self.below(4);
            let mut x = self.floats(m * width);
            for (i, v) in x.iter_mut().enumerate() {
                *v = match i / width {
                    0 => *v * 6.0 + 0.5,
                    1 => *v * 1e-3,
                    2 => 0.0,
                    _ => *v * 1e4,
                };
            }
            let what = format!("quantize [{m}, {width}]");
            self.check(&what, &Tolerance::Exact, |kernels| quantized(kernels, &x, m, width))?;
            for (at, bad) in [(0, f32::NAN), (width - 1, f32::INFINITY), (width / 2, f32::NEG_INFINITY)] {
                let mut broken = x.clone();
                broken[at] = bad;
                self.check(&format!("{what} with {bad} at {at}"), &Tolerance::Exact, |kernels| {
                    let mut acts = kernels.activations();
                    kernels.quantize(&broken, m, width, &mut acts)?;
                    Ok(acts.scale().to_vec())
                })?;
            }
            let (weight, bias) = (self.floats(width), self.floats(width));
            let wide: Vec<f32> = self.floats(2 * m * width).iter().map(|v| v * 5.0).collect();
            let norm = |bias| RowSource::Norm { x: &x, weight: &weight, bias, eps: 1e-5 };
            for (name, source, bound) in [
                ("as they are", RowSource::Plain(&x), 0.0),
                ("layer norm", norm(None), 2e-5),
                ("layer norm with bias", norm(Some(&bias)), 2e-5),
                ("geglu", RowSource::GeGlu(&wide), 5.0 * SMOOTH),
                ("gelu", RowSource::Gelu(&wide[..m * width]), 5.0 * SMOOTH),
            ] {
                let what = format!("rows [{m}, {width}], {name}");
                let mut other = None;
                self.check(&what, &Tolerance::All(bound), |kernels| {
                    let mut out = vec![0.0; m * width];
                    kernels.rows(source, width, &mut out)?;
                    if !fused_is_the_same(kernels, source, width, &out)? {
                        other = Some(kernels.kind());
                    }
                    Ok(out)
                })?;
                if let Some(kind) = other {
                    return Err(format!("{what} on {kind}: other bits when quantised on the way"));
                }
            }
            // Row 2 is all zeros: it must stay so.
            self.check(&format!("l2_normalize [{m}, {width}]"), &Tolerance::All(1e-6), |kernels| {
                let mut out = x.clone();
                kernels.l2_normalize(&mut out, width)?;
                Ok(out)
            })?;
        }
        // GELU far out on both sides, where the normal distribution is clamped.
        let far: Vec<f32> = (-200..=200).flat_map(|i| [i as f32 / 10.0, 1.0]).collect();
        self.check("geglu from -20 to 20", &Tolerance::All(10.0 * SMOOTH), |kernels| {
            let mut out = vec![0.0; far.len() / 2];
            kernels.rows(RowSource::GeGlu(&far), 1, &mut out)?;
            Ok(out)
        })?;
        for &(n, head_dim, n_heads, extra) in
            &[(1, 2, 1, 0), (3, 6, 2, 6), (5, 24, 3, 1), (4, 32, 4, 64), (7, 64, 2, 64)]
        {
            let stride = head_dim * n_heads + extra;
            let x = self.floats(n * stride);
            let angles: Vec<f32> = self.floats(n * head_dim / 2).iter().map(|v| v * 3.0).collect();
            let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
            self.check(
                &format!("rope {n} tokens, {n_heads} heads of {head_dim}"),
                &Tolerance::All(4.0 * UNIT),
                |kernels| {
                    let mut out = x.clone();
                    kernels.rope(&mut out, stride, head_dim, n_heads, &cos, &sin)?;
                    Ok(out)
                },
            )?;
        }
        Ok(())
    }

    fn attention(&mut self) -> Result<(), String> {
        for &(n_tokens, n_keys, n_heads, head_dim, reach) in &[
            (1, 1, 1, 2, None),
            (2, 2, 2, 4, Some(0)),
            (5, 5, 3, 8, None),
            (15, 15, 2, 24, Some(1)),
            (16, 16, 1, 32, None),
            (17, 17, 2, 16, Some(3)),
            (33, 33, 2, 48, Some(8)),
            (40, 40, 2, 32, Some(16)),
            (64, 64, 1, 64, None),
            (100, 100, 1, 20, Some(64)),
            // Augmentation tokens that cannot be attended to; the last of the second case see no key at all.
            (20, 12, 2, 16, None),
            (40, 10, 2, 16, Some(4)),
        ] {
            let shape = AttentionShape { n_tokens, n_keys, n_heads, head_dim, reach };
            let sharp = if n_tokens % 2 == 0 { 1.0 } else { 8.0 };
            let qkv: Vec<f32> =
                self.floats(n_tokens * 3 * n_heads * head_dim).iter().map(|v| v * sharp).collect();
            // The softmax turns an error of its input into a relative one of its output.
            let logits = sharp * sharp * (head_dim as f32).sqrt();
            let bound = sharp * (SMOOTH + 4.0 * UNIT * (logits * head_dim as f32 + n_tokens as f32));
            let mut scratch = Vec::new();
            self.check(&format!("attention {shape:?}"), &Tolerance::All(bound), |kernels| {
                let mut out = vec![f32::NAN; n_tokens * n_heads * head_dim];
                kernels.attention(&qkv, shape, &mut scratch, &mut out)?;
                Ok(out)
            })?;
        }
        Ok(())
    }

    fn maxsim(&mut self) -> Result<(), String> {
        for &(n_query, dim, n_centroids, lengths) in &[
            (1, 2, 1, &[1][..]),
            (3, 6, 2, &[2, 0, 3]),
            (15, 32, 7, &[7, 8, 9]),
            (16, 48, 5, &[1, 2, 3, 4, 5]),
            (17, 64, 300, &[31, 0, 33]),
            (32, 128, 64, &[16, 17, 40]),
            (33, 96, 9, &[10, 1]),
            (70, 64, 40, &[5, 21]),
        ] {
            let mut query = self.floats(n_query * dim);
            self.all[0].l2_normalize(&mut query, dim).map_err(|e| e.to_string())?;
            // Every similarity of the second case is negative: padding, at 0, would win.
            let negative = n_query == 3;
            let n_tokens: usize = lengths.iter().sum();
            let codes: Vec<u16> = (0..n_tokens).map(|_| self.below(n_centroids) as u16).collect();
            let inverse_norms: Vec<f32> = self.floats(n_tokens).iter().map(|v| 1.0 + v / 4.0).collect();
            let mut ends = 0;
            let documents: Vec<TokenRange> = lengths
                .iter()
                .map(|&n| {
                    let start = ends;
                    ends += n as u32;
                    (start..ends).into()
                })
                .collect();
            let mut table = ResidualTable::quantize(&core::array::from_fn(|i| {
                (i as f32 - 7.4) * 0.011 + (i as f32 * 0.7).sin() * 0.002
            }));
            let stride = self.all[0].maxsim_query(&query, dim, table).map_err(|e| e.to_string())?.stride();
            let mut centroid_scores: Vec<f32> = self.floats(n_centroids * stride);
            if negative {
                centroid_scores.iter_mut().for_each(|s| *s = -1.0 - s.abs());
            }
            let shape = format!("{n_query} x {dim}, documents of {lengths:?}");
            for packing in Packing::ALL {
                table.packing = packing;
                let residuals: Vec<u8> =
                    (0..n_tokens * packing.row_bytes(dim)).map(|_| self.below(256) as u8).collect();
                let tokens =
                    CompressedTokens { codes: &codes, residuals: &residuals, inverse_norms: &inverse_norms };
                let shape = format!("{shape}, {packing:?}");
                self.check(&format!("maxsim {shape}"), &Tolerance::Exact, |kernels| {
                    let query = kernels.maxsim_query(&query, dim, table)?;
                    let mut scores = vec![0.0; documents.len()];
                    kernels.maxsim(&query, &centroid_scores, tokens, &documents, &mut scores)?;
                    Ok(scores)
                })?;
                self.check(&format!("maxsim_matches {shape}"), &Tolerance::Exact, |kernels| {
                    let query = kernels.maxsim_query(&query, dim, table)?;
                    let (mut scratch, mut out) = (Vec::new(), Vec::new());
                    for &document in &documents {
                        let mut best = vec![TokenMatch::default(); n_query];
                        kernels.maxsim_matches(
                            &query,
                            &centroid_scores,
                            tokens,
                            document,
                            &mut scratch,
                            &mut best,
                        )?;
                        out.extend(best.iter().flat_map(|b| [b.token as f32, b.similarity]));
                    }
                    Ok(out)
                })?;
            }
            for bytes in [dim.div_ceil(MAX_RUN), dim.div_ceil(9), dim.div_ceil(8), dim] {
                let ints = self.ints(bytes * 256 * Packing::run_width(bytes, dim));
                let codebooks = Codebooks { bytes, ints: &ints, step: 0.001 };
                let residuals: Vec<u8> = (0..n_tokens * bytes).map(|_| self.below(256) as u8).collect();
                let tokens =
                    CompressedTokens { codes: &codes, residuals: &residuals, inverse_norms: &inverse_norms };
                self.check(&format!("maxsim {shape}, codewords {bytes}"), &Tolerance::Exact, |kernels| {
                    let query = kernels.maxsim_query_product(&query, dim, codebooks)?;
                    let mut scores = vec![0.0; documents.len()];
                    kernels.maxsim(&query, &centroid_scores, tokens, &documents, &mut scores)?;
                    Ok(scores)
                })?;
            }
            let mut bytes = Vec::new();
            quantize_centroid_scores(&centroid_scores, &mut bytes);
            self.check(&format!("maxsim_approximate {shape}"), &Tolerance::Exact, |kernels| {
                let query = kernels.maxsim_query(&query, dim, table)?;
                let mut scores = vec![0; documents.len()];
                kernels.maxsim_approximate(&query, &bytes, &codes, &documents, &mut scores)?;
                Ok(scores.iter().map(|&s| s as f32).collect())
            })?;
            let centroids = self.floats(n_centroids * dim);
            let bound = dim as f32 * dim as f32 * UNIT;
            self.check(&format!("centroid_scores {shape}"), &Tolerance::All(bound), |kernels| {
                let query = kernels.maxsim_query(&query, dim, table)?;
                let mut out = vec![f32::NAN; n_centroids * stride];
                kernels.centroid_scores(&query, &centroids, &mut out)?;
                Ok(out)
            })?;
            let plain = self.floats(n_tokens * dim);
            self.check(&format!("maxsim_f32 {shape}"), &Tolerance::All(n_query as f32 * bound), |kernels| {
                let query = kernels.pack_f32(&query, n_query, dim)?;
                let mut scores = vec![0.0; documents.len()];
                kernels.maxsim_f32(&query, &plain, &documents, &mut scores)?;
                Ok(scores)
            })?;
        }
        Ok(())
    }

    /// Codes beyond the centroids come back as an error from every backend.
    fn damage(&mut self) -> Result<(), String> {
        let table = ResidualTable { packing: Packing::Bits4, ints: [0; 16], step: 0.0 };
        let query = self.floats(5 * 8);
        let codes = [0, 1, 2, 1, 0, 1, 0, 1, 0, 3, 1];
        let tokens = CompressedTokens { codes: &codes, residuals: &[0; 44], inverse_norms: &[1.0; 11] };
        for &kernels in &self.all {
            let query = kernels.maxsim_query(&query, 8, table).map_err(|e| e.to_string())?;
            let scores = vec![0.0; 3 * query.stride()];
            let documents = [(0..3).into(), (3..11).into()];
            let mut out = [0.0; 2];
            let full = kernels.maxsim(&query, &scores, tokens, &documents, &mut out);
            let bytes = vec![0; scores.len()];
            let approximate = kernels.maxsim_approximate(&query, &bytes, &codes, &documents, &mut [0; 2]);
            for found in [full, approximate] {
                if !matches!(found, Err(KernelError::Code { token: 9, code: 3, n_centroids: 3, .. })) {
                    return Err(format!("a code beyond the centroids on {}: {found:?}", kernels.kind()));
                }
                self.n_checks += 1;
            }
        }
        Ok(())
    }
}

/// Whether values and integers of [`Kernels::quantize_from`], with and without a place for the values, are those of one step after the other.
fn fused_is_the_same(
    kernels: Kernels,
    source: RowSource<'_>,
    width: usize,
    expected: &[f32],
) -> Result<bool, KernelError> {
    let m = expected.len() / width;
    let [mut apart, mut fused, mut alone] = [(); 3].map(|()| kernels.activations());
    kernels.quantize(expected, m, width, &mut apart)?;
    let mut values = vec![f32::NAN; expected.len()];
    kernels.quantize_from(source, width, Some(&mut values), &mut fused)?;
    kernels.quantize_from(source, width, None, &mut alone)?;
    let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let same = |acts: &Activations| {
        let ints = (0..m).all(|i| (0..width).all(|j| acts.get(i, j) == apart.get(i, j)));
        ints && bits(acts.scale()) == bits(apart.scale())
    };
    Ok(bits(&values) == bits(expected) && same(&fused) && same(&alone))
}

fn quantized(kernels: Kernels, x: &[f32], m: usize, k: usize) -> Result<Vec<f32>, KernelError> {
    let mut acts = kernels.activations();
    // A buffer that was wider before must not leave anything behind.
    kernels.quantize(&vec![1.0; (m + 1) * (k + 5)], m + 1, k + 5, &mut acts)?;
    kernels.quantize(x, m, k, &mut acts)?;
    let mut out = acts.scale().to_vec();
    out.extend((0..m * k).map(|i| f32::from(acts.get(i / k, i % k))));
    Ok(out)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_backend_agrees_with_the_oracle() {
        for seed in 0..4 {
            let summary = super::run_all(seed).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            assert!(summary.n_checks > 300 && summary.backends.len() > 1, "{summary:?}");
        }
    }
}
