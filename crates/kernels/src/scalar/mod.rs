//! The oracle: every kernel as plain loops next to its formula, in f64 where an f32 kernel rounds.

mod attention;
mod gemm;
pub(crate) mod math;
mod maxsim;
mod rows;

use crate::backend::Backend;
use crate::int4::PackedI4;
use crate::maxsim::{CompressedTokens, MaxsimQuery, TokenRange};
use crate::pack::{Activations, Form, Layout, PackedF32, PackedI8};
use crate::{AttentionShape, BackendKind, Epilogue, KernelError, RowSource};

pub(crate) struct Scalar;

impl Backend for Scalar {
    fn kind(&self) -> BackendKind {
        BackendKind::Scalar
    }

    /// Panels of one row are the plain row-major matrix.
    fn layout(&self) -> Layout {
        Layout { lanes: 1, group: 1, form: Form::I8 }
    }

    unsafe fn rows(
        &self,
        source: RowSource<'_>,
        width: usize,
        store: Option<&mut [f32]>,
        acts: Option<&mut Activations>,
    ) {
        let values = rows::values(source, width);
        if let Some(acts) = acts {
            rows::quantize(&values, acts);
        }
        if let Some(store) = store {
            store.copy_from_slice(&values);
        }
    }

    #[cfg(feature = "yardstick")]
    unsafe fn peak_i8(&self, _n_steps: usize) -> u64 {
        0
    }

    #[cfg(feature = "yardstick")]
    unsafe fn attention_products(
        &self,
        _qkv: &[f32],
        _shape: AttentionShape,
        _scratch: &mut [f32],
        _out: &mut [f32],
    ) {
    }

    unsafe fn gemm_i8(&self, a: &Activations, w: &PackedI8, epilogue: Epilogue<'_>, out: &mut [f32]) {
        gemm::gemm_i8(a, w, epilogue, out);
    }

    unsafe fn gemm_i4(&self, a: &Activations, w: &PackedI4, epilogue: Epilogue<'_>, out: &mut [f32]) {
        gemm::gemm_i4(a, w, epilogue, out);
    }

    unsafe fn gemm_f32(&self, a: &[f32], w: &PackedF32, epilogue: Epilogue<'_>, out: &mut [f32]) {
        gemm::gemm_f32(a, w, epilogue, out);
    }

    unsafe fn rope(
        &self,
        x: &mut [f32],
        stride: usize,
        head_dim: usize,
        n_heads: usize,
        cos: &[f32],
        sin: &[f32],
    ) {
        rows::rope(x, stride, head_dim, n_heads, cos, sin);
    }

    unsafe fn attention(&self, qkv: &[f32], shape: AttentionShape, _scratch: &mut [f32], out: &mut [f32]) {
        attention::attention(qkv, shape, out);
    }

    unsafe fn l2_normalize(&self, x: &mut [f32], dim: usize) {
        rows::l2_normalize(x, dim);
    }

    unsafe fn maxsim(
        &self,
        query: &MaxsimQuery,
        centroid_scores: &[f32],
        tokens: CompressedTokens<'_>,
        documents: &[TokenRange],
        scores: &mut [f32],
    ) -> Result<(), KernelError> {
        maxsim::maxsim(query, centroid_scores, tokens, documents, scores)
    }

    unsafe fn maxsim_approximate(
        &self,
        stride: usize,
        n_query_tokens: usize,
        centroid_bytes: &[u8],
        codes: &[u16],
        documents: &[TokenRange],
        scores: &mut [u32],
    ) -> Result<(), KernelError> {
        maxsim::maxsim_approximate(stride, n_query_tokens, centroid_bytes, codes, documents, scores)
    }

    unsafe fn similarities(
        &self,
        query: &MaxsimQuery,
        centroid_scores: &[f32],
        tokens: CompressedTokens<'_>,
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        maxsim::similarities(query, centroid_scores, tokens, out)
    }

    unsafe fn maxsim_f32(
        &self,
        query: &PackedF32,
        tokens: &[f32],
        documents: &[TokenRange],
        scores: &mut [f32],
    ) {
        maxsim::maxsim_f32(query, tokens, documents, scores);
    }
}
