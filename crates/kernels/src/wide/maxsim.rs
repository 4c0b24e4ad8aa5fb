#![expect(unsafe_op_in_unsafe_fn, reason = "see the module docs of `wide`")]
//! The formulas of [`crate::maxsim`].
//!
//! Document tokens are the rows and the packed query tokens the panels of an integer product: a few tokens are decoded through the residual
//! table (one byte shuffle per 16 nibbles; for narrower levels a copy of 4, 5 or 8 values per byte from a table of all 256) into a buffer in the first-level cache, multiplied with all query tokens, and folded into the running
//! maxima. Nothing else is written. Maxima start at the lowest finite f32.

use super::Lanes;
use super::gemm::{NARROW, by_rows, dot_tile, sum_tile};
use crate::KernelError;
use crate::maxsim::{
    CompressedTokens, EMPTY_DOCUMENT, MAX_DIM, MAX_QUERY_TOKENS, MAX_RUN, MaxsimQuery, TokenRange,
    sum_of_maxima,
};
use crate::pack::{F32_PANEL, PackedF32};
use shirube_core::{Packing, run_start};

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
    let scan =
        Scan::<L> { kernel: "maxsim", query, centroid_scores, tokens, table: L::table(&query.table.ints) };
    let mut best = [0.0_f32; MAX_QUERY_TOKENS];
    let mut decoded = [L::Act::default(); TILE_TOKENS * act_stride(MAX_DIM)];
    for (score, range) in scores.iter_mut().zip(documents) {
        if range.start == range.end {
            *score = EMPTY_DOCUMENT;
            continue;
        }
        best[..query.stride].fill(f32::MIN);
        let first = range.start as usize;
        by_rows!(L, 0..(range.end - range.start) as usize, |i, TOKENS| {
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
    let scan = Scan::<L> {
        kernel: "maxsim_matches",
        query,
        centroid_scores,
        tokens,
        table: L::table(&query.table.ints),
    };
    let mut decoded = [L::Act::default(); TILE_TOKENS * act_stride(MAX_DIM)];
    by_rows!(L, 0..tokens.codes.len(), |i, TOKENS| {
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
    let act_stride = act_stride(query.dim);
    for r in 0..TOKENS {
        let from = tokens.residuals.as_ptr().add((first + r) * query.row_bytes);
        let to = decoded.add(r * act_stride);
        let by_byte = L::acts(&query.by_byte);
        match query.table.packing {
            Packing::Bits4 => decode_nibbles::<L>(*table, from, query.row_bytes, to),
            Packing::Bits2 => decode_bytes::<L, 4>(by_byte, from, query.row_bytes, to),
            Packing::Ternary => decode_bytes::<L, 5>(by_byte, from, query.row_bytes, to),
            Packing::Bits1 => decode_bytes::<L, 8>(by_byte, from, query.row_bytes, to),
            Packing::Product { .. } if query.by_byte.k <= 8 => decode_words::<L, 8>(query, by_byte, from, to),
            Packing::Product { .. } => decode_words::<L, MAX_RUN>(query, by_byte, from, to),
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

/// Activations from one decoded token to the next: whole 32s, as a shuffle decodes, and room for the last copy.
const fn act_stride(dim: usize) -> usize {
    dim.next_multiple_of(2 * DECODE_BYTES) + MAX_RUN
}

/// Values past the last byte's end meet zeros in the packed query, here and in [`decode_bytes`].
#[inline(always)]
unsafe fn decode_nibbles<L: Lanes>(table: L::Table, from: *const u8, bytes: usize, to: *mut L::Act) {
    let mut b = 0;
    while b + DECODE_BYTES <= bytes {
        L::decode(table, from.add(b), to.add(2 * b));
        b += DECODE_BYTES;
    }
    if b < bytes {
        let mut t = [0_u8; DECODE_BYTES];
        core::ptr::copy_nonoverlapping(from.add(b), t.as_mut_ptr(), bytes - b);
        L::decode(table, t.as_ptr(), to.add(2 * b));
    }
}

/// Copies the 8 table values of each byte, `VALUES` of which count; the next byte's copy overwrites the rest.
#[inline(always)]
unsafe fn decode_bytes<L: Lanes, const VALUES: usize>(
    by_byte: *const L::Act,
    from: *const u8,
    bytes: usize,
    to: *mut L::Act,
) {
    for b in 0..bytes {
        let values = by_byte.add(8 * usize::from(*from.add(b))).cast::<[L::Act; 8]>().read_unaligned();
        to.add(VALUES * b).cast::<[L::Act; 8]>().write_unaligned(values);
    }
}

/// Copies the `WIDTH` values of each byte's codeword to where its run starts; the next run's copy overwrites what is beyond.
#[inline(always)]
unsafe fn decode_words<L: Lanes, const WIDTH: usize>(
    query: &MaxsimQuery,
    by_byte: *const L::Act,
    from: *const u8,
    to: *mut L::Act,
) {
    let bytes = query.row_bytes;
    for b in 0..bytes {
        let word = 256 * b + usize::from(*from.add(b));
        let values = by_byte.add(WIDTH * word).cast::<[L::Act; WIDTH]>().read_unaligned();
        to.add(run_start(b, bytes, query.dim)).cast::<[L::Act; WIDTH]>().write_unaligned(values);
    }
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
    let acc = dot_tile::<L, TOKENS, PANELS, NARROW>(
        decoded,
        act_stride,
        (packed.data.as_ptr().add(panel * panel_stride).cast(), core::ptr::null_mut()),
        panel_stride,
        packed.k_padded / L::LAYOUT.group,
        packed.start.as_ptr().add(panel * L::N),
        None,
    );
    for v in 0..PANELS {
        let column = (panel + v) * L::N;
        let factors = L::load(scan.query.factors.as_ptr().add(column));
        // The maxima wait in a register for the whole tile.
        let mut largest = if STORE { L::splat(0.0) } else { L::load(out.add(column)) };
        for r in 0..TOKENS {
            let inverse_norm = L::splat(*scan.tokens.inverse_norms.get_unchecked(first + r));
            let x = L::add(L::load(rows[r].add(column)), L::mul(factors, L::to_f(acc[r][v])));
            let x = L::mul(inverse_norm, x);
            if STORE {
                L::store(out.add(r * scan.query.stride + column), x);
            } else {
                largest = L::max(largest, x);
            }
        }
        if !STORE {
            L::store(out.add(column), largest);
        }
    }
}

/// Bytes that stand for 16 query tokens.
const BYTES: usize = 16;

#[inline(always)]
pub(crate) unsafe fn maxsim_approximate<L: Lanes>(
    stride: usize,
    n_query_tokens: usize,
    centroid_bytes: &[u8],
    codes: &[u16],
    documents: &[TokenRange],
    scores: &mut [u32],
) -> Result<(), KernelError> {
    let mut best = [0_u8; MAX_QUERY_TOKENS];
    for (score, range) in scores.iter_mut().zip(documents) {
        // 32 query tokens at a time in registers.
        let mut column = 0;
        while column < stride {
            let best = best.as_mut_ptr().add(column);
            if column + 2 * BYTES <= stride {
                fold_bytes::<L, 2>(stride, column, centroid_bytes, codes, *range, best)?;
                column += 2 * BYTES;
            } else {
                fold_bytes::<L, 1>(stride, column, centroid_bytes, codes, *range, best)?;
                column += BYTES;
            }
        }
        *score = best[..n_query_tokens].iter().map(|&b| u32::from(b)).sum();
    }
    Ok(())
}

/// Maxima over a document's tokens for `VECTORS * 16` query tokens from `column` on.
#[inline(always)]
unsafe fn fold_bytes<L: Lanes, const VECTORS: usize>(
    stride: usize,
    column: usize,
    centroid_bytes: &[u8],
    codes: &[u16],
    range: TokenRange,
    best: *mut u8,
) -> Result<(), KernelError> {
    let zeros = [0_u8; BYTES];
    let mut acc = [L::load_bytes(zeros.as_ptr()); VECTORS];
    for t in range.indices() {
        let code = *codes.get_unchecked(t);
        let at = usize::from(code) * stride;
        if at + stride > centroid_bytes.len() {
            let n_centroids = centroid_bytes.len() / stride;
            return Err(KernelError::Code { kernel: "maxsim_approximate", token: t, code, n_centroids });
        }
        let row = centroid_bytes.as_ptr().add(at + column);
        for v in 0..VECTORS {
            acc[v] = L::max_bytes(acc[v], L::load_bytes(row.add(v * BYTES)));
        }
    }
    for v in 0..VECTORS {
        L::store_bytes(best.add(v * BYTES), acc[v]);
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
            if L::N < F32_PANEL || column + F32_PANEL < query.n {
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
    by_rows!(L, 0..n, |i, TOKENS| {
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
