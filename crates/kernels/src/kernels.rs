//! The safe face: shapes are checked here, once, and a backend runs.

use crate::backend::Backend;
use crate::int4::{GroupedI4, PackedI4};
use crate::maxsim::{
    Codebooks, CompressedTokens, MAX_DIM, MAX_QUERY_TOKENS, MAX_RUN, MaxsimQuery, ResidualTable, TokenMatch,
    TokenRange, best_matches,
};
use crate::pack::{Activations, F32_PANEL, PackedF32, PackedI8, check_len, check_limit};
use crate::{KernelError, quantize_rows};
use shirube_core::Packing;

/// Which instructions a backend uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackendKind {
    /// Plain loops next to the formulas, f64 sums: the oracle of the tests, slow.
    Scalar,
    /// The vector code over plain arrays, for machines without a backend of their own.
    Portable,
    /// WebAssembly 128-bit SIMD.
    Simd128,
    /// WebAssembly 128-bit SIMD with the relaxed byte dot product, where that is exact.
    RelaxedSimd,
    /// x86-64 AVX2.
    Avx2,
    /// x86-64 AVX2 with VNNI.
    AvxVnni,
    /// x86-64 AVX-512 with VNNI.
    Avx512Vnni,
    /// aarch64 NEON.
    Neon,
    /// aarch64 NEON with dotprod.
    NeonDotprod,
}

impl BackendKind {
    /// Its name in reports: `scalar`, `portable`, `simd128`, `relaxed-simd`, `avx2`, `avx-vnni`, `avx512-vnni`, `neon`,
    /// `neon-dotprod`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Portable => "portable",
            Self::Simd128 => "simd128",
            Self::RelaxedSimd => "relaxed-simd",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avx-vnni",
            Self::Avx512Vnni => "avx512-vnni",
            Self::Neon => "neon",
            Self::NeonDotprod => "neon-dotprod",
        }
    }
}

impl core::fmt::Display for BackendKind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// What happens to a product's result: `out = x`, or `out += x`, with `x = product + bias`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// `[n]`, added to every row.
    pub bias: Option<&'a [f32]>,
    /// Whether the result is added to what `out` holds (a residual stream) instead of replacing it.
    pub add: bool,
}

impl Epilogue<'_> {
    /// Replaces `out`.
    pub const STORE: Self = Self { bias: None, add: false };
    /// Adds to `out`.
    pub const ADD: Self = Self { bias: None, add: true };
}

/// What stands between two products, row by row: the values `v` that [`Kernels::rows`] makes, `width` a row.
#[derive(Clone, Copy, Debug)]
pub enum RowSource<'a> {
    /// `v = x`, `x [m, width]`.
    Plain(&'a [f32]),
    /// Layer norm of `x [m, width]`: mean taken away, divided by `sqrt(variance + eps)`, times `weight [width]`, plus `bias [width]` if there is one.
    Norm {
        /// `[m, width]`
        x: &'a [f32],
        /// `[width]`
        weight: &'a [f32],
        /// `[width]`
        bias: Option<&'a [f32]>,
        /// Added to the variance.
        eps: f32,
    },
    /// `v = gelu(x[.., ..width]) * x[.., width..]` for `x [m, 2 * width]`, with the exact (erf) GELU.
    GeGlu(&'a [f32]),
    /// `v = gelu(x)`, `x [m, width]`, with the exact (erf) GELU.
    Gelu(&'a [f32]),
}

impl RowSource<'_> {
    /// How many rows of `width` it makes; what is less than a row does not count.
    pub fn n_rows(&self, width: usize) -> usize {
        let (x, pitch) = self.input(width);
        x.len() / pitch.max(1)
    }

    fn input(&self, width: usize) -> (&[f32], usize) {
        match *self {
            Self::Plain(x) | Self::Gelu(x) | Self::Norm { x, .. } => (x, width),
            Self::GeGlu(x) => (x, 2 * width),
        }
    }

    fn check(&self, kernel: &'static str, width: usize) -> Result<usize, KernelError> {
        check_limit(kernel, "width", width, crate::MAX_K)?;
        if let Self::Norm { weight, bias, .. } = *self {
            check_len(kernel, "weight", weight.len(), width)?;
            check_len(kernel, "bias", bias.map_or(width, <[f32]>::len), width)?;
        }
        let ((x, pitch), m) = (self.input(width), self.n_rows(width));
        check_len(kernel, "x", x.len(), m * pitch)?;
        Ok(m)
    }
}

/// Shape of one attention block over one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Tokens.
    pub n_tokens: usize,
    /// The first `n_keys` tokens can be attended to, usually all; augmentation tokens behind them only look.
    pub n_keys: usize,
    /// Heads.
    pub n_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Largest distance attended to, in tokens; `None` is every token.
    pub reach: Option<usize>,
}

impl AttentionShape {
    /// Keys that the query at `token` sees.
    pub(crate) fn window(&self, token: usize) -> core::ops::Range<usize> {
        let (lo, hi) = match self.reach {
            None => (0, self.n_keys),
            Some(reach) => (token.saturating_sub(reach), token.saturating_add(reach + 1).min(self.n_keys)),
        };
        lo.min(hi)..hi
    }

    /// Checks an attention's arguments; returns the part of `scratch` that it needs, grown if need be.
    fn check<'a>(
        &self,
        qkv: &[f32],
        scratch: &'a mut Vec<f32>,
        out: &[f32],
    ) -> Result<&'a mut [f32], KernelError> {
        let kernel = "attention";
        check_limit(kernel, "n_tokens", self.n_tokens, crate::MAX_K)?;
        check_limit(kernel, "n_keys", self.n_keys, self.n_tokens)?;
        check_limit(kernel, "n_heads", self.n_heads, crate::MAX_K)?;
        check_limit(kernel, "head_dim", self.head_dim, crate::MAX_K)?;
        let width = self.n_heads * self.head_dim;
        check_len(kernel, "qkv", qkv.len(), self.n_tokens * 3 * width)?;
        check_len(kernel, "out", out.len(), self.n_tokens * width)?;
        let needed = self.scratch_len();
        if scratch.len() < needed {
            scratch.resize(needed, 0.0);
        }
        Ok(&mut scratch[..needed])
    }

    /// Length of the scratch buffer: one head's keys in panels, and score rows for a block of queries.
    pub(crate) fn scratch_len(&self) -> usize {
        let keys = self.n_keys.next_multiple_of(F32_PANEL);
        keys * self.head_dim + ATTENTION_ROWS * keys
    }
}

/// Most query rows a backend handles together.
pub(crate) const ATTENTION_ROWS: usize = 8;

/// A set of kernels for this machine, chosen once. Cheap to copy.
///
/// Integer results are exact, and all backends except the `scalar` oracle return the same bits for everything: sums run in a fixed order of
/// 16 partial sums, exponentials and the normal distribution are one polynomial, and no multiply-add is fused. Fusing would be about twice as
/// fast for the f32 parts natively, but then the browser's query and the builder's documents would be rounded differently.
///
/// ```
/// use shirube_kernels::{Epilogue, Kernels, quantize_rows};
/// let kernels = Kernels::detect();
/// let (ints, scale) = quantize_rows(&[1.0, 2.0, 3.0, -1.0, 0.5, 0.0], 2, 3); // a matrix [2, 3]
/// let weights = kernels.pack_i8(&ints, &scale, 2, 3)?;
/// let mut activations = kernels.activations();
/// kernels.quantize(&[1.0, 0.0, 1.0], 1, 3, &mut activations)?; // one row
/// let mut out = [0.0; 2];
/// kernels.gemm_i8(&activations, &weights, Epilogue::STORE, &mut out)?;
/// assert!((out[0] - 4.0).abs() < 0.02 && (out[1] + 1.0).abs() < 0.02);
/// # Ok::<(), shirube_kernels::KernelError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Kernels {
    backend: &'static dyn Backend,
}

impl core::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Kernels({})", self.kind())
    }
}

impl Default for Kernels {
    fn default() -> Self {
        Self::detect()
    }
}

impl Kernels {
    /// The fastest kernels that this machine runs.
    pub fn detect() -> Self {
        *Self::all().last().expect("the scalar kernels are always there")
    }

    /// The oracle.
    pub fn scalar() -> Self {
        Self { backend: &crate::scalar::Scalar }
    }

    /// All kernels that this machine runs, slowest first; the first is the oracle.
    pub fn all() -> Vec<Self> {
        #[allow(unused_mut, reason = "a target without vector kernels adds none")]
        let mut all: Vec<&'static dyn Backend> = vec![&crate::scalar::Scalar, &crate::portable::Portable];
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        all.push(&crate::simd128::Simd128);
        #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
        match crate::simd128::relaxed::meaning() {
            Some(crate::simd128::relaxed::Meaning::Unsigned) => {
                all.push(&crate::simd128::relaxed::RelaxedUnsigned);
            }
            Some(crate::simd128::relaxed::Meaning::Signed) => {
                all.push(&crate::simd128::relaxed::RelaxedSigned);
            }
            None => {}
        }
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx2") {
                all.push(&crate::x86::Avx2);
                if std::arch::is_x86_feature_detected!("avxvnni") {
                    all.push(&crate::x86::AvxVnni);
                }
            }
            if std::arch::is_x86_feature_detected!("avx512f")
                && std::arch::is_x86_feature_detected!("avx512bw")
                && std::arch::is_x86_feature_detected!("avx512vnni")
            {
                all.push(&crate::x86::Avx512Vnni);
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            all.push(&crate::aarch64::Neon);
            if std::arch::is_aarch64_feature_detected!("dotprod") {
                all.push(&crate::aarch64::NeonDotprod);
            }
        }
        all.into_iter().map(|backend| Self { backend }).collect()
    }

    /// The kernels of one kind, if this machine runs them.
    pub fn of(kind: BackendKind) -> Option<Self> {
        Self::all().into_iter().find(|k| k.kind() == kind)
    }

    /// Which instructions these use.
    pub fn kind(&self) -> BackendKind {
        self.backend.kind()
    }

    /// Runs the integer multiply-add of these kernels with nothing in its way, and returns how many it did; 0 for the oracle.
    #[cfg(feature = "yardstick")]
    pub fn peak_i8(&self, n_steps: usize) -> u64 {
        // SAFETY: the kernel reads its own buffers only.
        unsafe { self.backend.peak_i8(n_steps) }
    }

    /// Weights `[n, k]`, row-major, with one `scale` per row, in the order of these kernels.
    ///
    /// # Errors
    /// [`KernelError::Shape`], [`KernelError::Limit`] when `k` is 0 or above [`crate::MAX_K`].
    pub fn pack_i8(
        &self,
        weights: &[i8],
        scale: &[f32],
        n: usize,
        k: usize,
    ) -> Result<PackedI8, KernelError> {
        PackedI8::new(self.backend.layout(), weights, scale, n, k)
    }

    /// Weights `[n, k]`, row-major, for [`Self::gemm_f32`] and [`Self::maxsim_f32`].
    ///
    /// # Errors
    /// As [`PackedF32::new`].
    pub fn pack_f32(&self, weights: &[f32], n: usize, k: usize) -> Result<PackedF32, KernelError> {
        PackedF32::new(weights, n, k)
    }

    /// An empty buffer for [`Self::quantize`].
    pub fn activations(&self) -> Activations {
        Activations::new(self.backend.layout().form)
    }

    /// Quantises `x [m, k]` per row: the largest magnitude becomes 127, ties round to even. A row with a number that is not finite gets the
    /// scale NaN, so that whatever is computed from it shows it.
    ///
    /// # Errors
    /// [`KernelError::Shape`], [`KernelError::Limit`], [`KernelError::Layout`].
    pub fn quantize(&self, x: &[f32], m: usize, k: usize, out: &mut Activations) -> Result<(), KernelError> {
        let kernel = "quantize";
        check_limit(kernel, "k", k, crate::MAX_K)?;
        check_len(kernel, "x", x.len(), m * k)?;
        if out.form != self.backend.layout().form {
            return Err(KernelError::Layout { kernel, what: "out" });
        }
        out.resize(m, k);
        // SAFETY: lengths and form checked above; `resize` made `out` [m, k].
        unsafe { self.backend.rows(RowSource::Plain(x), k, None, Some(out)) };
        Ok(())
    }

    /// Rows of `width` from `source`, quantised as [`Self::quantize`] does: `acts [m, width]`. With `store [m, width]` the values are kept there too.
    /// The same bits as norm or activation first and quantising after it, without the pass over memory between them.
    ///
    /// # Errors
    /// [`KernelError::Shape`], [`KernelError::Limit`], [`KernelError::Layout`].
    pub fn quantize_from(
        &self,
        source: RowSource<'_>,
        width: usize,
        store: Option<&mut [f32]>,
        acts: &mut Activations,
    ) -> Result<(), KernelError> {
        let kernel = "quantize_from";
        let m = source.check(kernel, width)?;
        if let Some(store) = &store {
            check_len(kernel, "store", store.len(), m * width)?;
        }
        if acts.form != self.backend.layout().form {
            return Err(KernelError::Layout { kernel, what: "acts" });
        }
        acts.resize(m, width);
        // SAFETY: lengths and form checked above; `resize` made `acts` [m, width], with a row of scratch.
        unsafe { self.backend.rows(source, width, store, Some(acts)) };
        Ok(())
    }

    /// Rows of `width` from `source`, written to `out [m, width]`.
    ///
    /// # Errors
    /// [`KernelError::Shape`], [`KernelError::Limit`].
    pub fn rows(&self, source: RowSource<'_>, width: usize, out: &mut [f32]) -> Result<(), KernelError> {
        let kernel = "rows";
        let m = source.check(kernel, width)?;
        check_len(kernel, "out", out.len(), m * width)?;
        // SAFETY: lengths checked above.
        unsafe { self.backend.rows(source, width, Some(out), None) };
        Ok(())
    }

    /// `out [m, n] = a [m, k] · weightsᵀ`: the dot products in integers, exact, then `sum * (a_scale * weight_scale)` and the epilogue.
    ///
    /// # Errors
    /// [`KernelError::Shape`], [`KernelError::Layout`].
    pub fn gemm_i8(
        &self,
        a: &Activations,
        weights: &PackedI8,
        epilogue: Epilogue<'_>,
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        let kernel = "gemm_i8";
        check_len(kernel, "a.k", a.k, weights.k)?;
        check_len(kernel, "out", out.len(), a.m * weights.n)?;
        if let Some(bias) = epilogue.bias {
            check_len(kernel, "bias", bias.len(), weights.n)?;
        }
        if weights.layout != self.backend.layout() {
            return Err(KernelError::Layout { kernel, what: "weights" });
        }
        if a.form != weights.layout.form {
            return Err(KernelError::Layout { kernel, what: "a" });
        }
        // SAFETY: lengths and layouts checked above.
        unsafe { self.backend.gemm_i8(a, weights, epilogue, out) };
        Ok(())
    }

    /// 4-bit weights in the order of these kernels.
    ///
    /// # Errors
    /// [`KernelError::Limit`] when the columns are 0 or above [`crate::MAX_K_I4`]; [`GroupedI4::expand`] has no such limit.
    pub fn pack_i4(&self, weights: &GroupedI4) -> Result<PackedI4, KernelError> {
        PackedI4::new(self.backend.layout(), weights)
    }

    /// [`Self::gemm_i8`] with 4-bit weights: the same bits as with the weights expanded to int8.
    ///
    /// # Errors
    /// [`KernelError::Shape`], [`KernelError::Layout`].
    pub fn gemm_i4(
        &self,
        a: &Activations,
        weights: &PackedI4,
        epilogue: Epilogue<'_>,
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        let kernel = "gemm_i4";
        check_len(kernel, "a.k", a.k, weights.k)?;
        check_len(kernel, "out", out.len(), a.m * weights.n)?;
        if let Some(bias) = epilogue.bias {
            check_len(kernel, "bias", bias.len(), weights.n)?;
        }
        if weights.layout != self.backend.layout() {
            return Err(KernelError::Layout { kernel, what: "weights" });
        }
        if a.form != weights.layout.form {
            return Err(KernelError::Layout { kernel, what: "a" });
        }
        // SAFETY: lengths and layouts checked above.
        unsafe { self.backend.gemm_i4(a, weights, epilogue, out) };
        Ok(())
    }

    /// `out [m, n] = a [m, k] · weightsᵀ` in f32, then the epilogue.
    ///
    /// # Errors
    /// [`KernelError::Shape`].
    pub fn gemm_f32(
        &self,
        a: &[f32],
        m: usize,
        weights: &PackedF32,
        epilogue: Epilogue<'_>,
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        let kernel = "gemm_f32";
        check_len(kernel, "a", a.len(), m * weights.k)?;
        check_len(kernel, "out", out.len(), m * weights.n)?;
        if let Some(bias) = epilogue.bias {
            check_len(kernel, "bias", bias.len(), weights.n)?;
        }
        // SAFETY: lengths checked above.
        unsafe { self.backend.gemm_f32(a, weights, epilogue, out) };
        Ok(())
    }

    /// Rotary positions in place on the first `n_heads` heads of each row of `x [n_tokens, stride]`: with `h = head_dim / 2`, the pair
    /// `(v[i], v[i + h])` of a head becomes `(v[i] cos - v[i + h] sin, v[i + h] cos + v[i] sin)`, `cos` and `sin` `[n_tokens, h]`.
    ///
    /// # Errors
    /// [`KernelError::Shape`], [`KernelError::Limit`] when `stride` or `head_dim` is 0.
    pub fn rope(
        &self,
        x: &mut [f32],
        stride: usize,
        head_dim: usize,
        n_heads: usize,
        cos: &[f32],
        sin: &[f32],
    ) -> Result<(), KernelError> {
        let kernel = "rope";
        check_limit(kernel, "stride", stride, usize::MAX)?;
        check_limit(kernel, "head_dim", head_dim, stride)?;
        check_len(kernel, "head_dim", head_dim, head_dim / 2 * 2)?;
        check_limit(kernel, "n_heads", n_heads, stride / head_dim)?;
        check_len(kernel, "x", x.len(), x.len() / stride * stride)?;
        let table = x.len() / stride * (head_dim / 2);
        check_len(kernel, "cos", cos.len(), table)?;
        check_len(kernel, "sin", sin.len(), table)?;
        // SAFETY: lengths checked above.
        unsafe { self.backend.rope(x, stride, head_dim, n_heads, cos, sin) };
        Ok(())
    }

    /// Attention of one sequence: `out [n_tokens, n_heads * head_dim]` from `qkv [n_tokens, 3 * n_heads * head_dim]` (queries, keys, values;
    /// heads contiguous in each), scaled by `1 / sqrt(head_dim)`. A token that sees no key gets zeros.
    /// `scratch` is a buffer to be reused: it allocates only when it has to grow.
    ///
    /// # Errors
    /// [`KernelError::Shape`], [`KernelError::Limit`] when the shape holds a 0 or `n_keys` is above `n_tokens`.
    pub fn attention(
        &self,
        qkv: &[f32],
        shape: AttentionShape,
        scratch: &mut Vec<f32>,
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        let scratch = shape.check(qkv, scratch, out)?;
        // SAFETY: lengths checked above, `scratch` is what the shape needs.
        unsafe { self.backend.attention(qkv, shape, scratch, out) };
        Ok(())
    }

    /// Runs the two products of [`Self::attention`] and leaves out its softmax and its copies; what `out` holds then means nothing. Does nothing for the
    /// oracle.
    ///
    /// # Errors
    /// As [`Self::attention`].
    #[cfg(feature = "yardstick")]
    pub fn attention_products(
        &self,
        qkv: &[f32],
        shape: AttentionShape,
        scratch: &mut Vec<f32>,
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        let scratch = shape.check(qkv, scratch, out)?;
        // SAFETY: lengths checked above, `scratch` is what the shape needs.
        unsafe { self.backend.attention_products(qkv, shape, scratch, out) };
        Ok(())
    }

    /// Scales each row of `x [m, dim]` to length 1, in place. A row shorter than 1e-12 is divided by 1e-12, as PyTorch's `normalize` does.
    ///
    /// # Errors
    /// [`KernelError::Shape`], [`KernelError::Limit`] when `dim` is 0.
    pub fn l2_normalize(&self, x: &mut [f32], dim: usize) -> Result<(), KernelError> {
        let kernel = "l2_normalize";
        check_limit(kernel, "dim", dim, crate::MAX_K)?;
        check_len(kernel, "x", x.len(), x.len() / dim * dim)?;
        // SAFETY: lengths checked above.
        unsafe { self.backend.l2_normalize(x, dim) };
        Ok(())
    }

    /// A query `[n_query_tokens, dim]` prepared for the compressed kernels: tokens as `i8` with a scale each.
    ///
    /// # Errors
    /// [`KernelError::Shape`], [`KernelError::Limit`] when `dim` is 0 or above [`MAX_DIM`], or the query longer than
    /// [`MAX_QUERY_TOKENS`]; an odd `dim` is a [`KernelError::Shape`].
    pub fn maxsim_query(
        &self,
        query_embeddings: &[f32],
        dim: usize,
        table: ResidualTable,
    ) -> Result<MaxsimQuery, KernelError> {
        let by_byte = match table.packing {
            Packing::Product { .. } => {
                let kernel = "maxsim_query";
                return Err(KernelError::Layout {
                    kernel,
                    what: "table: a product has codebooks, use maxsim_query_product",
                });
            }
            Packing::Bits4 => self.activations(),
            _ => Activations::of_ints(self.backend.layout().form, &table.by_byte(), 256, 8),
        };
        self.prepared(query_embeddings, dim, table, by_byte, Vec::new())
    }

    /// The same for tokens whose bytes are codewords of `codebooks`.
    ///
    /// # Errors
    /// As [`Self::maxsim_query`]; [`KernelError::Limit`] for no bytes, more than `dim`, or runs above [`MAX_RUN`]; [`KernelError::Shape`] for codebooks of
    /// another length.
    pub fn maxsim_query_product(
        &self,
        query_embeddings: &[f32],
        dim: usize,
        codebooks: Codebooks<'_>,
    ) -> Result<MaxsimQuery, KernelError> {
        let kernel = "maxsim_query";
        check_limit(kernel, "dim", dim, MAX_DIM)?;
        check_limit(kernel, "bytes", codebooks.bytes, dim.min(255))?;
        let width = Packing::run_width(codebooks.bytes, dim);
        check_limit(kernel, "run", width, MAX_RUN)?;
        check_len(kernel, "codebooks", codebooks.ints.len(), codebooks.bytes * 256 * width)?;
        let entry = if width <= 8 { 8 } else { MAX_RUN };
        let mut ints = vec![0; codebooks.bytes * 256 * entry];
        for (to, from) in ints.chunks_exact_mut(entry).zip(codebooks.ints.chunks_exact(width)) {
            to[..width].copy_from_slice(from);
        }
        let by_byte = Activations::of_ints(self.backend.layout().form, &ints, codebooks.bytes * 256, entry);
        let packing = Packing::Product { bytes: codebooks.bytes as u8 };
        let table = ResidualTable { packing, ints: [0; 16], step: codebooks.step };
        self.prepared(query_embeddings, dim, table, by_byte, codebooks.ints.to_vec())
    }

    fn prepared(
        &self,
        query_embeddings: &[f32],
        dim: usize,
        table: ResidualTable,
        by_byte: Activations,
        codebooks: Vec<i8>,
    ) -> Result<MaxsimQuery, KernelError> {
        let kernel = "maxsim_query";
        check_limit(kernel, "dim", dim, MAX_DIM)?;
        check_len(kernel, "dim", dim, dim / 2 * 2)?;
        let n_tokens = query_embeddings.len() / dim;
        check_len(kernel, "query_embeddings", query_embeddings.len(), n_tokens * dim)?;
        check_limit(kernel, "n_query_tokens", n_tokens.max(1), MAX_QUERY_TOKENS)?;
        let (ints, scale) = quantize_rows(query_embeddings, n_tokens, dim);
        let stride = n_tokens.next_multiple_of(F32_PANEL);
        let mut factors: Vec<f32> = scale.iter().map(|s| s * table.step).collect();
        factors.resize(stride, 0.0);
        // Zero rows as padding, so that the product's rows have the length `stride`.
        let mut padded = query_embeddings.to_vec();
        padded.resize(stride * dim, 0.0);
        Ok(MaxsimQuery {
            n_tokens,
            dim,
            stride,
            packed: self.pack_i8(&ints, &scale, n_tokens, dim)?,
            factors,
            plain: PackedF32::new(&padded, stride, dim)?,
            table,
            row_bytes: table.packing.row_bytes(dim),
            by_byte,
            codebooks,
        })
    }

    /// `out [n_centroids, query.stride()]`: dot products of `centroids [n_centroids, dim]` with the query's tokens, in f32; once per query.
    /// Only the centroids that occur need to be given, but then codes count within them.
    ///
    /// # Errors
    /// [`KernelError::Shape`].
    pub fn centroid_scores(
        &self,
        query: &MaxsimQuery,
        centroids: &[f32],
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        let kernel = "centroid_scores";
        let n_centroids = centroids.len() / query.dim;
        check_len(kernel, "centroids", centroids.len(), n_centroids * query.dim)?;
        check_len(kernel, "out", out.len(), n_centroids * query.stride)?;
        self.gemm_f32(centroids, n_centroids, &query.plain, Epilogue::STORE, out)
    }

    /// `scores[d]` for each of `documents`: the formula of [`crate::maxsim`]. A document without tokens scores [`crate::EMPTY_DOCUMENT`].
    /// `centroid_scores` come from [`Self::centroid_scores`] with this query.
    ///
    /// # Errors
    /// [`KernelError::Shape`], [`KernelError::Range`], [`KernelError::Code`], [`KernelError::Layout`].
    pub fn maxsim(
        &self,
        query: &MaxsimQuery,
        centroid_scores: &[f32],
        tokens: CompressedTokens<'_>,
        documents: &[TokenRange],
        scores: &mut [f32],
    ) -> Result<(), KernelError> {
        let kernel = "maxsim";
        self.check_query(kernel, query, centroid_scores)?;
        check_tokens(kernel, query, tokens)?;
        check_ranges(kernel, documents, tokens.codes.len())?;
        check_len(kernel, "scores", scores.len(), documents.len())?;
        // SAFETY: lengths, layout and ranges checked above.
        unsafe { self.backend.maxsim(query, centroid_scores, tokens, documents, scores) }
    }

    /// `scores[d] = Σ_i max_t centroid_bytes[codes[t]][i]`: residuals left out, norms taken as 1, centroid scores as bytes from
    /// [`crate::quantize_centroid_scores`]. The approximate stage of PLAID (Santhanam et al. 2022, section 4) in integers: the same on every
    /// backend, and 20 to 40 times as fast as [`Self::maxsim`]. A document without tokens scores 0.
    ///
    /// # Errors
    /// [`KernelError::Shape`], [`KernelError::Range`], [`KernelError::Code`].
    pub fn maxsim_approximate(
        &self,
        query: &MaxsimQuery,
        centroid_bytes: &[u8],
        codes: &[u16],
        documents: &[TokenRange],
        scores: &mut [u32],
    ) -> Result<(), KernelError> {
        let kernel = "maxsim_approximate";
        let stride = query.stride;
        let rows = centroid_bytes.len() / stride.max(1);
        check_len(kernel, "centroid_bytes", centroid_bytes.len(), rows * stride)?;
        check_ranges(kernel, documents, codes.len())?;
        check_len(kernel, "scores", scores.len(), documents.len())?;
        // SAFETY: lengths and ranges checked above; `stride` is a multiple of `F32_PANEL`, which is 16.
        unsafe {
            self.backend.maxsim_approximate(stride, query.n_tokens, centroid_bytes, codes, documents, scores)
        }
    }

    /// Where each query token matched best in one document, `best [n_query_tokens]`, for highlights. The similarities add up to the score
    /// of [`Self::maxsim`]. `scratch` is a buffer to be reused. A document without tokens gives token 0 and the lowest finite similarity.
    ///
    /// # Errors
    /// As [`Self::maxsim`].
    pub fn maxsim_matches(
        &self,
        query: &MaxsimQuery,
        centroid_scores: &[f32],
        tokens: CompressedTokens<'_>,
        document: TokenRange,
        scratch: &mut Vec<f32>,
        best: &mut [TokenMatch],
    ) -> Result<(), KernelError> {
        let kernel = "maxsim_matches";
        self.check_query(kernel, query, centroid_scores)?;
        check_tokens(kernel, query, tokens)?;
        check_ranges(kernel, &[document], tokens.codes.len())?;
        check_len(kernel, "best", best.len(), query.n_tokens)?;
        if query.n_tokens == 0 {
            return Ok(());
        }
        let range = document.indices();
        let tokens = CompressedTokens {
            codes: &tokens.codes[range.clone()],
            residuals: &tokens.residuals[range.start * query.row_bytes..range.end * query.row_bytes],
            inverse_norms: &tokens.inverse_norms[range],
        };
        let needed = tokens.codes.len() * query.stride;
        if scratch.len() < needed {
            scratch.resize(needed, 0.0);
        }
        // SAFETY: lengths and layout checked above, `scratch` grown to [n_tokens, stride].
        unsafe { self.backend.similarities(query, centroid_scores, tokens, &mut scratch[..needed])? };
        best_matches(&scratch[..needed], query.stride, best);
        Ok(())
    }

    /// MaxSim over plain embeddings `tokens [n_tokens, dim]`: `scores[d] = Σ_i max_t query_i · tokens_t`, in f32.
    /// The query is packed by [`Self::pack_f32`] from `[n_query_tokens, dim]`.
    ///
    /// # Errors
    /// [`KernelError::Shape`], [`KernelError::Range`].
    pub fn maxsim_f32(
        &self,
        query: &PackedF32,
        tokens: &[f32],
        documents: &[TokenRange],
        scores: &mut [f32],
    ) -> Result<(), KernelError> {
        let kernel = "maxsim_f32";
        check_limit(kernel, "n_query_tokens", query.n.max(1), MAX_QUERY_TOKENS)?;
        let n_tokens = tokens.len() / query.k;
        check_len(kernel, "tokens", tokens.len(), n_tokens * query.k)?;
        check_ranges(kernel, documents, n_tokens)?;
        check_len(kernel, "scores", scores.len(), documents.len())?;
        // SAFETY: lengths and ranges checked above.
        unsafe { self.backend.maxsim_f32(query, tokens, documents, scores) };
        Ok(())
    }

    fn check_query(
        &self,
        kernel: &'static str,
        query: &MaxsimQuery,
        centroid_scores: &[f32],
    ) -> Result<(), KernelError> {
        if query.packed.layout != self.backend.layout() {
            return Err(KernelError::Layout { kernel, what: "query" });
        }
        let rows = centroid_scores.len() / query.stride.max(1);
        check_len(kernel, "centroid_scores", centroid_scores.len(), rows * query.stride)
    }
}

fn check_tokens(
    kernel: &'static str,
    query: &MaxsimQuery,
    tokens: CompressedTokens<'_>,
) -> Result<(), KernelError> {
    let n_tokens = tokens.codes.len();
    check_len(kernel, "residuals", tokens.residuals.len(), n_tokens * query.row_bytes)?;
    check_len(kernel, "inverse_norms", tokens.inverse_norms.len(), n_tokens)
}

fn check_ranges(kernel: &'static str, documents: &[TokenRange], n_tokens: usize) -> Result<(), KernelError> {
    match documents.iter().position(|r| r.start > r.end || r.end as usize > n_tokens) {
        None => Ok(()),
        Some(document) => {
            let TokenRange { start, end } = documents[document];
            Err(KernelError::Range { kernel, document, start, end, n_tokens })
        }
    }
}
