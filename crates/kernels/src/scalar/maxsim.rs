//! The formulas of [`crate::maxsim`] as written there.

use super::gemm::dot;
use crate::KernelError;
use crate::maxsim::{CompressedTokens, EMPTY_DOCUMENT, MaxsimQuery, TokenRange, sum_of_maxima};
use crate::pack::PackedF32;
use shirube_core::{Packing, run_start};

fn centroid_row<'a>(
    kernel: &'static str,
    query: &MaxsimQuery,
    centroid_scores: &'a [f32],
    token: usize,
    code: u16,
) -> Result<&'a [f32], KernelError> {
    let row = usize::from(code) * query.stride;
    centroid_scores.get(row..row + query.stride).ok_or(KernelError::Code {
        kernel,
        token,
        code,
        n_centroids: centroid_scores.len() / query.stride.max(1),
    })
}

/// Similarity of query token `i` to the token with these residuals.
fn similarity(
    query: &MaxsimQuery,
    centroid_score: f32,
    residuals: &[u8],
    inverse_norm: f32,
    i: usize,
) -> f32 {
    let row = &query.packed.data[i * query.packed.k_padded..][..query.dim];
    let table = |d: usize| match query.table.packing {
        Packing::Product { bytes } => {
            let bytes = usize::from(bytes);
            let width = Packing::run_width(bytes, query.dim);
            let run = (0..bytes).rfind(|&b| run_start(b, bytes, query.dim) <= d).unwrap_or(0);
            let word = run * 256 + usize::from(residuals[run]);
            query.codebooks[word * width + d - run_start(run, bytes, query.dim)]
        }
        packing => query.table.ints[usize::from(packing.level_of(residuals, d))],
    };
    let sum: i32 = (0..query.dim).map(|d| i32::from(row[d]) * i32::from(table(d))).sum();
    inverse_norm * (centroid_score + query.factors[i] * sum as f32)
}

/// `Σ_i max_t of(t)[i]` over one document.
fn document_score(
    range: TokenRange,
    n_query_tokens: usize,
    mut of: impl FnMut(usize, usize) -> Result<f32, KernelError>,
) -> Result<f32, KernelError> {
    if range.start == range.end {
        return Ok(EMPTY_DOCUMENT);
    }
    let mut best = vec![f32::MIN; n_query_tokens];
    for t in range.indices() {
        for (i, best) in best.iter_mut().enumerate() {
            *best = best.max(of(t, i)?);
        }
    }
    Ok(sum_of_maxima(&best))
}

pub(super) fn maxsim(
    query: &MaxsimQuery,
    centroid_scores: &[f32],
    tokens: CompressedTokens<'_>,
    documents: &[TokenRange],
    scores: &mut [f32],
) -> Result<(), KernelError> {
    for (score, &range) in scores.iter_mut().zip(documents) {
        *score = document_score(range, query.n_tokens, |t, i| {
            let row = centroid_row("maxsim", query, centroid_scores, t, tokens.codes[t])?;
            let residuals = &tokens.residuals[t * query.row_bytes..][..query.row_bytes];
            Ok(similarity(query, row[i], residuals, tokens.inverse_norms[t], i))
        })?;
    }
    Ok(())
}

pub(super) fn maxsim_approximate(
    stride: usize,
    n_query_tokens: usize,
    centroid_bytes: &[u8],
    codes: &[u16],
    documents: &[TokenRange],
    scores: &mut [u32],
) -> Result<(), KernelError> {
    for (score, &range) in scores.iter_mut().zip(documents) {
        let mut best = vec![0_u8; n_query_tokens];
        for t in range.indices() {
            let row = usize::from(codes[t]) * stride;
            let row = centroid_bytes.get(row..row + stride).ok_or(KernelError::Code {
                kernel: "maxsim_approximate",
                token: t,
                code: codes[t],
                n_centroids: centroid_bytes.len() / stride,
            })?;
            for (best, &value) in best.iter_mut().zip(row) {
                *best = (*best).max(value);
            }
        }
        *score = best.iter().map(|&b| u32::from(b)).sum();
    }
    Ok(())
}

pub(super) fn similarities(
    query: &MaxsimQuery,
    centroid_scores: &[f32],
    tokens: CompressedTokens<'_>,
    out: &mut [f32],
) -> Result<(), KernelError> {
    for (t, out) in out.chunks_exact_mut(query.stride).enumerate() {
        let row = centroid_row("maxsim_matches", query, centroid_scores, t, tokens.codes[t])?;
        let residuals = &tokens.residuals[t * query.row_bytes..][..query.row_bytes];
        for (i, out) in out.iter_mut().enumerate().take(query.n_tokens) {
            *out = similarity(query, row[i], residuals, tokens.inverse_norms[t], i);
        }
    }
    Ok(())
}

pub(super) fn maxsim_f32(query: &PackedF32, tokens: &[f32], documents: &[TokenRange], scores: &mut [f32]) {
    for (score, &range) in scores.iter_mut().zip(documents) {
        *score =
            document_score(
                range,
                query.n,
                |t, i| Ok(dot(&tokens[t * query.k..][..query.k], query, i) as f32),
            )
            .expect("no codes are read");
    }
}
