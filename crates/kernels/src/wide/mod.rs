//! Every kernel once, over vector types.
//!
//! [`Lanes`] names one instruction set's vectors and the few operations the kernels need. All functions here are `inline(always)` and become
//! vector code when an entry point with the right `target_feature` calls them (see [`backend!`]). Compared with one hand-written file per
//! instruction set this costs nothing at run time and makes equal bits on all of them a matter of types: each output is computed by the same
//! operations in the same order whatever the vector's width, because
//! - products run over `k` from first to last in one accumulator per output, never fused;
//! - sums over a row are [`SUM_LANES`] partial sums (element `i` goes to partial sum `i % 16`) joined in a fixed tree;
//! - `max` is exact, and exponentials and the normal distribution are the polynomials of [`math`].
//!
//! # Safety
//! Functions here are unsafe for two reasons only, both settled by [`crate::Kernels`] (see [`crate::backend::Backend`]): the processor must
//! have the instructions of `L`, and pointers are read and written within the shapes that were checked there. Operations inside are therefore
//! not wrapped one by one.

#![expect(
    clippy::needless_range_loop,
    reason = "tiles are indexed by row and vector on purpose: constant bounds unroll into registers"
)]

pub(crate) mod attention;
pub(crate) mod gemm;
pub(crate) mod math;
pub(crate) mod maxsim;
pub(crate) mod rows;

use crate::pack::{Activations, Layout};

/// Partial sums of a row sum.
pub(crate) const SUM_LANES: usize = 16;

/// The vectors of one instruction set. `N` is 4, 8 or 16.
///
/// # Safety
/// Methods need the instruction set; loads and stores move `N` elements (`N * group` integers for weights) without alignment.
pub(crate) trait Lanes {
    /// f32 or i32 per vector.
    const N: usize;
    /// Order of integer operands; `lanes` is `N`.
    const LAYOUT: Layout;
    /// Rows of the largest tile that the registers hold beside two panels: 4 or 8.
    const ROWS: usize;
    /// Whether weights of many rows are widened to `i16` once per panel. Implies `Form::I16`.
    const WIDEN: bool;
    /// `[f32; N]`
    type F: Copy;
    /// `[i32; N]`
    type I: Copy;
    /// `N * group` weights, ready to multiply.
    type W: Copy;
    /// `group` activations of one row, repeated.
    type B: Copy;
    /// One stored activation.
    type Act: Copy + Default;
    /// The residual table as the look-up instruction wants it.
    type Table: Copy;
    /// 16 bytes, on every backend: the byte scores of 16 query tokens.
    type Bytes: Copy;

    unsafe fn splat(x: f32) -> Self::F;
    unsafe fn load(p: *const f32) -> Self::F;
    unsafe fn store(p: *mut f32, x: Self::F);
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F;
    /// `|a|` as bits: ordered like the numbers, infinity and NaN above all.
    unsafe fn magnitude(a: Self::F) -> Self::I;
    /// `if b > a { b } else { a }`: a NaN in `a` stays, one in `b` is dropped.
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F;
    /// `if b < a { b } else { a }`.
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F;
    /// To the nearest integer, ties to even.
    unsafe fn round(a: Self::F) -> Self::F;
    /// `2^a` for whole `a` in -127..=127; 2^-127 counts as 0.
    unsafe fn exp2(a: Self::F) -> Self::F;
    /// The sum of the lanes: lane `i` takes lane `i + width` for widths `N / 2`, `N / 4`, .., 1.
    unsafe fn sum(a: Self::F) -> f32;
    /// The largest lane; none is NaN.
    unsafe fn top(a: Self::F) -> f32;
    /// `to[c * to_stride + r] = from[r * stride + c]` for `r` and `c` below 4.
    #[inline(always)]
    unsafe fn transpose4(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
        for r in 0..4 {
            for c in 0..4 {
                // SAFETY: four rows of four are there and have room, see `Lanes`.
                unsafe { *to.add(c * to_stride + r) = *from.add(r * stride + c) };
            }
        }
    }

    unsafe fn load_i(p: *const i32) -> Self::I;
    unsafe fn to_f(a: Self::I) -> Self::F;
    unsafe fn max_i(a: Self::I, b: Self::I) -> Self::I;
    /// The largest lane.
    unsafe fn top_i(a: Self::I) -> i32;
    /// Asks for the cache line of `p`, one that will be read soon.
    #[inline(always)]
    unsafe fn touch(p: *const u8) {
        let _ = p;
    }
    /// Stores numbers of -127..=127 as activations, rounded to the nearest integer, ties to even.
    unsafe fn store_act(p: *mut Self::Act, x: Self::F);
    /// Row-major activations.
    fn acts(a: &Activations) -> *const Self::Act;
    /// Row-major activations.
    fn acts_mut(a: &mut Activations) -> *mut Self::Act;

    unsafe fn weights(p: *const i8) -> Self::W;
    unsafe fn load_wide(p: *const i16) -> Self::W;
    unsafe fn store_wide(p: *mut i16, w: Self::W);
    unsafe fn broadcast(p: *const Self::Act) -> Self::B;
    /// `acc[l] + Σ_g b[g] * w[l][g]`, exact.
    unsafe fn dot(acc: Self::I, b: Self::B, w: Self::W) -> Self::I;
    /// The 4-bit weights of 32 columns of a panel to what [`Self::weights`] or [`Self::load_wide`] reads: `(nibble - 8) * scale`.
    /// For backends that know better than the compiler.
    #[inline(always)]
    unsafe fn unpack_group(data: *const u8, scales: *const u8, to: *mut u8)
    where
        Self: Sized,
    {
        // SAFETY: as the caller promises; see the module docs.
        unsafe { gemm::unpack_group::<Self>(data, scales, to) };
    }

    unsafe fn table(t: &[i8; 16]) -> Self::Table;
    unsafe fn load_bytes(p: *const u8) -> Self::Bytes;
    unsafe fn store_bytes(p: *mut u8, x: Self::Bytes);
    /// The larger of each pair of unsigned bytes.
    unsafe fn max_bytes(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// 16 bytes of residuals to 32 activations, low half of each byte first.
    unsafe fn decode(t: Self::Table, bytes: *const u8, out: *mut Self::Act);
}

/// The sum of 16 partial sums, joined as a tree: `i` takes `i + width` for widths 8, 4, 2, 1.
#[inline(always)]
pub(crate) unsafe fn reduce<L: Lanes>(parts: [L::F; 4]) -> f32 {
    let [a, b, c, d] = parts;
    // SAFETY: the instructions are the caller's promise.
    unsafe {
        match L::N {
            4 => L::sum(L::add(L::add(a, c), L::add(b, d))),
            8 => L::sum(L::add(a, b)),
            _ => L::sum(a),
        }
    }
}

/// A backend struct over a [`Lanes`] type, with entry points carrying `target_feature`s.
macro_rules! backend {
    ($(#[$doc:meta])* $name:ident, $lanes:ty, $kind:expr, [$($feature:meta),*]) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl $crate::backend::Backend for $name {
            fn kind(&self) -> $crate::BackendKind {
                $kind
            }

            fn layout(&self) -> $crate::pack::Layout {
                <$lanes as $crate::wide::Lanes>::LAYOUT
            }

            #[cfg(feature = "yardstick")]
            $crate::wide::entry! { [$($feature),*] $lanes;
                peak_i8 => gemm::peak_i8(n_steps: usize) -> u64;
                attention_products => attention::attention_products(
                    qkv: &[f32],
                    shape: $crate::AttentionShape,
                    scratch: &mut [f32],
                    out: &mut [f32]
                );
            }

            $crate::wide::entry! { [$($feature),*] $lanes;
                rows => rows::rows(
                    source: $crate::RowSource<'_>,
                    width: usize,
                    store: Option<&mut [f32]>,
                    acts: Option<&mut $crate::pack::Activations>
                );
                gemm_i8 => gemm::gemm_i8(
                    a: &$crate::pack::Activations,
                    w: &$crate::pack::PackedI8,
                    epilogue: $crate::Epilogue<'_>,
                    out: &mut [f32]
                );
                gemm_i4 => gemm::gemm_i4(
                    a: &$crate::pack::Activations,
                    w: &$crate::int4::PackedI4,
                    epilogue: $crate::Epilogue<'_>,
                    out: &mut [f32]
                );
                gemm_f32 => gemm::gemm_f32(
                    a: &[f32],
                    w: &$crate::pack::PackedF32,
                    epilogue: $crate::Epilogue<'_>,
                    out: &mut [f32]
                );
                rope => rows::rope(
                    x: &mut [f32],
                    stride: usize,
                    head_dim: usize,
                    n_heads: usize,
                    cos: &[f32],
                    sin: &[f32]
                );
                attention => attention::attention(
                    qkv: &[f32],
                    shape: $crate::AttentionShape,
                    scratch: &mut [f32],
                    out: &mut [f32]
                );
                l2_normalize => rows::l2_normalize(x: &mut [f32], dim: usize);
                maxsim_f32 => maxsim::maxsim_f32(
                    query: &$crate::pack::PackedF32,
                    tokens: &[f32],
                    documents: &[$crate::TokenRange],
                    scores: &mut [f32]
                );
                maxsim => maxsim::maxsim(
                    query: &$crate::MaxsimQuery,
                    centroid_scores: &[f32],
                    tokens: $crate::CompressedTokens<'_>,
                    documents: &[$crate::TokenRange],
                    scores: &mut [f32]
                ) -> Result<(), $crate::KernelError>;
                maxsim_approximate => maxsim::maxsim_approximate(
                    stride: usize,
                    n_query_tokens: usize,
                    centroid_bytes: &[u8],
                    codes: &[u16],
                    documents: &[$crate::TokenRange],
                    scores: &mut [u32]
                ) -> Result<(), $crate::KernelError>;
                similarities => maxsim::similarities(
                    query: &$crate::MaxsimQuery,
                    centroid_scores: &[f32],
                    tokens: $crate::CompressedTokens<'_>,
                    out: &mut [f32]
                ) -> Result<(), $crate::KernelError>;
            }
        }
    };
}

/// Methods that call the wide kernel of a module under the backend's `target_feature`s.
macro_rules! entry {
    ($features:tt $lanes:ty;) => {};
    ([$($feature:meta),*] $lanes:ty;
        $name:ident => $module:ident::$kernel:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?; $($rest:tt)*) => {
        unsafe fn $name(&self, $($arg: $ty),*) $(-> $ret)? {
            $(#[$feature])*
            unsafe fn run($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: passed on from the caller, see `Backend`; the features are this function's own.
                unsafe { $crate::wide::$module::$kernel::<$lanes>($($arg),*) }
            }
            // SAFETY: passed on from the caller; a backend is only handed out where its instructions exist.
            unsafe { run($($arg),*) }
        }
        $crate::wide::entry! { [$($feature),*] $lanes; $($rest)* }
    };
}

pub(crate) use {backend, entry};
