//! The private trait every backend implements; [`crate::Kernels`] is its safe face.

use crate::int4::PackedI4;
use crate::maxsim::{CompressedTokens, MaxsimQuery};
use crate::pack::{Activations, Layout, PackedF32, PackedI8};
use crate::{AttentionShape, BackendKind, Epilogue, KernelError, RowSource, TokenRange};

/// The kernels of one instruction set.
///
/// # Safety
/// Every method trusts its arguments: [`crate::Kernels`] has checked each length against the shapes in its own documentation, that packed
/// operands carry this backend's [`Layout`], that token ranges lie inside the tokens, and that the processor has the instructions.
/// Codes of MaxSim tokens are the exception: the kernel itself checks them, since a pass of its own would cost as much as the scan.
pub(crate) trait Backend: Sync {
    fn kind(&self) -> BackendKind;
    fn layout(&self) -> Layout;
    /// Rows of `width` from `source`, to `store` or `acts` or both; a source as it is goes to one of them. `acts.row` holds a row.
    unsafe fn rows(
        &self,
        source: RowSource<'_>,
        width: usize,
        store: Option<&mut [f32]>,
        acts: Option<&mut Activations>,
    );
    #[cfg(feature = "yardstick")]
    unsafe fn peak_i8(&self, n_steps: usize) -> u64;
    unsafe fn gemm_i8(&self, a: &Activations, w: &PackedI8, epilogue: Epilogue<'_>, out: &mut [f32]);
    unsafe fn gemm_i4(&self, a: &Activations, w: &PackedI4, epilogue: Epilogue<'_>, out: &mut [f32]);
    unsafe fn gemm_f32(&self, a: &[f32], w: &PackedF32, epilogue: Epilogue<'_>, out: &mut [f32]);
    unsafe fn rope(
        &self,
        x: &mut [f32],
        stride: usize,
        head_dim: usize,
        n_heads: usize,
        cos: &[f32],
        sin: &[f32],
    );
    unsafe fn attention(&self, qkv: &[f32], shape: AttentionShape, scratch: &mut [f32], out: &mut [f32]);
    /// The products of `attention` alone; `out` is of no use.
    #[cfg(feature = "yardstick")]
    unsafe fn attention_products(
        &self,
        qkv: &[f32],
        shape: AttentionShape,
        scratch: &mut [f32],
        out: &mut [f32],
    );
    unsafe fn l2_normalize(&self, x: &mut [f32], dim: usize);
    unsafe fn maxsim(
        &self,
        query: &MaxsimQuery,
        centroid_scores: &[f32],
        tokens: CompressedTokens<'_>,
        documents: &[TokenRange],
        scores: &mut [f32],
    ) -> Result<(), KernelError>;
    /// `stride` is a multiple of 16.
    unsafe fn maxsim_approximate(
        &self,
        stride: usize,
        n_query_tokens: usize,
        centroid_bytes: &[u8],
        codes: &[u16],
        documents: &[TokenRange],
        scores: &mut [u32],
    ) -> Result<(), KernelError>;
    /// Similarities `[n_tokens, stride]` of a few tokens, for matches.
    unsafe fn similarities(
        &self,
        query: &MaxsimQuery,
        centroid_scores: &[f32],
        tokens: CompressedTokens<'_>,
        out: &mut [f32],
    ) -> Result<(), KernelError>;
    unsafe fn maxsim_f32(
        &self,
        query: &PackedF32,
        tokens: &[f32],
        documents: &[TokenRange],
        scores: &mut [f32],
    );
}
