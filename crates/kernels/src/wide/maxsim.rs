#![expect(unsafe_op_in_unsafe_fn, reason = "see the module docs of `wide`")]
//! The formulas of [`crate::maxsim`].
//!
//! Document tokens are the rows and the packed query tokens the panels of an integer product: a few tokens are decoded through the residual
//! table (one byte shuffle per 16 values) into a buffer in the first-level cache, multiplied with all query tokens, and folded into the running
//! maxima. Nothing else is written. Maxima start at the lowest finite f32.

use super::Lanes;
use super::gemm::{by_rows, dot_tile, sum_tile};
use crate::KernelError;
use crate::maxsim::{
    CompressedTokens, EMPTY_DOCUMENT, MAX_DIM, MAX_QUERY_TOKENS, MaxsimQuery, TokenRange, sum_of_maxima,
};
use crate::pack::{F32_PANEL, PackedF32};

/// Bytes that one look-up decodes.
const DECODE_BYTES: usize = 16;
/// Most tokens decoded together.
const TILE_TOKENS: usize = 8;

/// What one query needs in every tile.
struct Scan<'a, L: Lanes> {
    kernel: &'static str,
    query: &'a MaxsimQuery,
    centroid_scores: &'a [f32],
    tokens: CompressedTokens<'a>,
    table: L::Table,
}

#[inline(always)]
pub(crate) unsafe fn maxsim<L: Lanes>(
    query: &MaxsimQuery,
    centroid_scores: &[f32],
    tokens: CompressedTokens<'_>,
    documents: &[TokenRange],
    scores: &mut [f32],
) -> Result<(), KernelError> {
    let scan = Scan::<L> { kernel: "maxsim", query, centroid_scores, tokens, table: L::table(&query.table) };
    let mut best = [0.0_f32; MAX_QUERY_TOKENS];
    let mut decoded = [L::Act::default(); TILE_TOKENS * MAX_DIM];
    for (score, range) in scores.iter_mut().zip(documents) {
        if range.start == range.end {
            *score = EMPTY_DOCUMENT;
            continue;
        }
        best[..query.stride].fill(f32::MIN);
        let first = range.start as usize;
        by_rows!(L, (range.end - range.start) as usize, |i, TOKENS| {
            tile::<L, TOKENS, false>(&scan, first + i, decoded.as_mut_ptr(), best.as_mut_ptr())?
        });
        *score = sum_of_maxima(&best[..query.n_tokens]);
    }
    Ok(())
}

#[inline(always)]
pub(crate) unsafe fn similarities<L: Lanes>(
    query: &MaxsimQuery,
    centroid_scores: &[f32],
    tokens: CompressedTokens<'_>,
    out: &mut [f32],
) -> Result<(), KernelError> {
    let scan =
        Scan::<L> { kernel: "maxsim_matches", query, centroid_scores, tokens, table: L::table(&query.table) };
    let mut decoded = [L::Act::default(); TILE_TOKENS * MAX_DIM];
    by_rows!(L, tokens.codes.len(), |i, TOKENS| {
        tile::<L, TOKENS, true>(&scan, i, decoded.as_mut_ptr(), out.as_mut_ptr().add(i * query.stride))?
    });
    Ok(())
}

/// Similarities of `TOKENS` tokens from `first` on with all query tokens: stored to `out [TOKENS, stride]`, or folded into the maxima
/// `out [stride]`.
#[inline(always)]
unsafe fn tile<L: Lanes, const TOKENS: usize, const STORE: bool>(
    scan: &Scan<'_, L>,
    first: usize,
    decoded: *mut L::Act,
    out: *mut f32,
) -> Result<(), KernelError> {
    let Scan { kernel, query, centroid_scores, tokens, table } = scan;
    let stride = query.stride;
    let mut rows = [centroid_scores.as_ptr(); TOKENS];
    for (r, row) in rows.iter_mut().enumerate() {
        let code = *tokens.codes.get_unchecked(first + r);
        let at = usize::from(code) * stride;
        if at + stride > centroid_scores.len() {
            let n_centroids = centroid_scores.len() / stride;
            return Err(KernelError::Code { kernel, token: first + r, code, n_centroids });
        }
        *row = centroid_scores.as_ptr().add(at);
    }
    let bytes = query.dim / 2;
    let act_stride = query.dim.next_multiple_of(2 * DECODE_BYTES);
    for r in 0..TOKENS {
        let from = tokens.residuals.as_ptr().add((first + r) * bytes);
        let to = decoded.add(r * act_stride);
        let mut b = 0;
        while b + DECODE_BYTES <= bytes {
            L::decode(*table, from.add(b), to.add(2 * b));
            b += DECODE_BYTES;
        }
        if b < bytes {
            // Values past the end meet zeros in the packed query.
            let mut t = [0_u8; DECODE_BYTES];
            core::ptr::copy_nonoverlapping(from.add(b), t.as_mut_ptr(), bytes - b);
            L::decode(*table, t.as_ptr(), to.add(2 * b));
        }
    }
    let panels = query.packed.scale.len() / L::N;
    let mut panel = 0;
    while panel + 2 <= panels {
        similar::<L, TOKENS, 2, STORE>(scan, first, &rows, decoded, act_stride, panel, out);
        panel += 2;
    }
    if panel < panels {
        similar::<L, TOKENS, 1, STORE>(scan, first, &rows, decoded, act_stride, panel, out);
    }
    Ok(())
}

#[inline(always)]
unsafe fn similar<L: Lanes, const TOKENS: usize, const PANELS: usize, const STORE: bool>(
    scan: &Scan<'_, L>,
    first: usize,
    rows: &[*const f32; TOKENS],
    decoded: *const L::Act,
    act_stride: usize,
    panel: usize,
    out: *mut f32,
) {
    let packed = &scan.query.packed;
    let panel_stride = L::N * packed.k_padded;
    let acc = dot_tile::<L, TOKENS, PANELS, false>(
        decoded,
        act_stride,
        packed.data.as_ptr().add(panel * panel_stride).cast(),
        panel_stride,
        packed.k_padded / L::LAYOUT.group,
        packed.start.as_ptr().add(panel * L::N),
    );
    for v in 0..PANELS {
        let column = (panel + v) * L::N;
        let factors = L::load(scan.query.factors.as_ptr().add(column));
        for r in 0..TOKENS {
            let inverse_norm = L::splat(*scan.tokens.inverse_norms.get_unchecked(first + r));
            let x = L::add(L::load(rows[r].add(column)), L::mul(factors, L::to_f(acc[r][v])));
            let x = L::mul(inverse_norm, x);
            if STORE {
                L::store(out.add(r * scan.query.stride + column), x);
            } else {
                let best = out.add(column);
                L::store(best, L::max(L::load(best), x));
            }
        }
    }
}

#[inline(always)]
pub(crate) unsafe fn maxsim_centroid<L: Lanes>(
    query: &MaxsimQuery,
    centroid_scores: &[f32],
    codes: &[u16],
    documents: &[TokenRange],
    scores: &mut [f32],
) -> Result<(), KernelError> {
    let stride = query.stride;
    let mut best = [0.0_f32; MAX_QUERY_TOKENS];
    for (score, range) in scores.iter_mut().zip(documents) {
        if range.start == range.end {
            *score = EMPTY_DOCUMENT;
            continue;
        }
        // 32 query tokens at a time in registers: 8, 4 or 2 of them.
        let mut column = 0;
        while column < stride {
            let vectors = (stride - column).min(2 * F32_PANEL) / L::N;
            let mut acc = [L::splat(f32::MIN); 8];
            for t in range.indices() {
                let code = *codes.get_unchecked(t);
                let at = usize::from(code) * stride;
                if at + stride > centroid_scores.len() {
                    let n_centroids = centroid_scores.len() / stride;
                    return Err(KernelError::Code { kernel: "maxsim_centroid", token: t, code, n_centroids });
                }
                let row = centroid_scores.as_ptr().add(at + column);
                if vectors == 2 * F32_PANEL / L::N {
                    for v in 0..2 * F32_PANEL / L::N {
                        acc[v] = L::max(acc[v], L::load(row.add(v * L::N)));
                    }
                } else {
                    for v in 0..F32_PANEL / L::N {
                        acc[v] = L::max(acc[v], L::load(row.add(v * L::N)));
                    }
                }
            }
            for (v, acc) in acc.iter().enumerate().take(vectors) {
                L::store(best.as_mut_ptr().add(column + v * L::N), *acc);
            }
            column += vectors * L::N;
        }
        *score = sum_of_maxima(&best[..query.n_tokens]);
    }
    Ok(())
}

#[inline(always)]
pub(crate) unsafe fn maxsim_f32<L: Lanes>(
    query: &PackedF32,
    tokens: &[f32],
    documents: &[TokenRange],
    scores: &mut [f32],
) {
    let padded = query.n.next_multiple_of(F32_PANEL);
    let mut best = [0.0_f32; MAX_QUERY_TOKENS];
    for (score, range) in scores.iter_mut().zip(documents) {
        if range.start == range.end {
            *score = EMPTY_DOCUMENT;
            continue;
        }
        best[..padded].fill(f32::MIN);
        let first = range.start as usize;
        let n = (range.end - range.start) as usize;
        let mut column = 0;
        while column < query.n {
            let panel =
                query.data.as_ptr().add(column / F32_PANEL * F32_PANEL * query.k + column % F32_PANEL);
            let best = best.as_mut_ptr().add(column);
            let tokens = tokens.as_ptr().add(first * query.k);
            if L::N < F32_PANEL {
                fold_columns::<L, 2>(tokens, n, query.k, panel, best);
                column += 2 * L::N;
            } else {
                fold_columns::<L, 1>(tokens, n, query.k, panel, best);
                column += L::N;
            }
        }
        *score = sum_of_maxima(&best[..query.n]);
    }
}

/// Maxima over `n` tokens for `VECTORS` vectors of query tokens.
#[inline(always)]
unsafe fn fold_columns<L: Lanes, const VECTORS: usize>(
    tokens: *const f32,
    n: usize,
    k: usize,
    panel: *const f32,
    best: *mut f32,
) {
    let mut largest = [L::splat(f32::MIN); VECTORS];
    by_rows!(L, n, |i, TOKENS| {
        let acc = sum_tile::<L, TOKENS, VECTORS>(tokens.add(i * k), k, panel, k);
        for row in acc {
            for v in 0..VECTORS {
                largest[v] = L::max(largest[v], row[v]);
            }
        }
    });
    for (v, largest) in largest.iter().enumerate() {
        L::store(best.add(v * L::N), *largest);
    }
}
