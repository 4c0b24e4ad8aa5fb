//! The arithmetic of the encoder and of MaxSim: plain scalar kernels and their SIMD twins behind one handle, [`Kernels`].
//!
//! The problem: a small int8 transformer has to answer within a few milliseconds in a browser tab, without threads and without a GPU, and the
//! index was built by native code whose embeddings must agree with it. The way taken: symmetric int8 on both sides with exact integer dot
//! products, weights repacked at load into panels that need no horizontal sums, and every f32 step in one fixed order, so that WebAssembly and
//! native SIMD return the same bits. Not taken: zero points (a correction per product for a percent of range), fused multiply-add (twice the native f32 speed, but the bits part).
//!
//! | module | holds |
//! |---|---|
//! | `scalar` | the oracle: formulas, f64 |
//! | `pack`, `int4` | operands in a backend's order, and the one definition of quantising |
//! | `wide` | all kernels once, over vector types |
//! | `portable`, `simd128`, `x86`, `aarch64` | vector types and entry points of one instruction set |
//! | `conformance` | one suite run over every backend |
//!
//! Only this crate of the workspace may hold `unsafe`.

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod backend;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod error;
mod int4;
mod kernels;
mod pack;
mod portable;
mod scalar;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128;
mod wide;
#[cfg(target_arch = "x86_64")]
mod x86;

pub mod maxsim;

pub use error::KernelError;
pub use int4::{GROUP, GroupedI4, MAX_K_I4, PackedI4};
pub use kernels::{AttentionShape, BackendKind, Epilogue, Kernels, RowSource};
pub use maxsim::{
    Codebooks, CompressedTokens, EMPTY_DOCUMENT, MAX_DIM, MAX_QUERY_TOKENS, MAX_RUN, MaxsimQuery,
    ResidualTable, TokenMatch, TokenRange, quantize_centroid_scores,
};
pub use pack::{Activations, MAX_K, PackedF32, PackedI8, quantize_rows};
