//! MaxSim: the sum over a query's tokens of the largest dot product with any of a document's tokens.
//!
//! The forward pass keeps, beside the scores, only which document token won for each query token and document; the
//! backward pass sends the score's gradient along those pairs alone. A tie goes to the first token, which then has the
//! whole gradient. Dot products are computed for blocks of document tokens (rows) by query tokens (columns), so that the
//! running maximum and its index are columns side by side and no horizontal step is needed; the full matrix of dot
//! products never exists.

use super::matmul::{Mat, matmul};
use super::shell::{Arg, Op, Shell, Slope};
use super::simd::{axpy, vectorized};
use super::{check_offsets, dims2};
use candle_core::{Result, Shape, Tensor, bail};
use std::sync::{Arc, OnceLock};

const OP: &str = "maxsim";

/// Columns (query tokens) and least rows (document tokens) of a block of dot products: 512 KiB at most where no document
/// is longer than the block.
const QUERY_BLOCK: usize = 256;
const DOCUMENT_BLOCK: usize = 256;

/// `[n_queries, n_documents]`: every query against every document.
///
/// `queries [n_query_tokens, d]` and `documents [n_document_tokens, d]` are packed token embeddings cut by their offsets.
///
/// # Errors
/// When widths differ, offsets do not cut the rows, or a document has no tokens (its maximum would not exist).
pub fn maxsim_all(
    queries: &Tensor,
    query_offsets: &Arc<[u32]>,
    documents: &Tensor,
    document_offsets: &Arc<[u32]>,
) -> Result<Tensor> {
    check(queries, query_offsets, documents, document_offsets)?;
    if super::composes(queries) {
        return super::batched::maxsim_all(queries, query_offsets, documents, document_offsets);
    }
    queries.apply_op2(documents, shell(query_offsets, document_offsets, None, false))
}

/// `[n_pairs]`: the score of each `(query, document)` of `pairs`, in their order; arguments as in [`maxsim_all`].
///
/// # Errors
/// As [`maxsim_all`], and when a pair names a query or document that is not there.
pub fn maxsim_pairs(
    queries: &Tensor,
    query_offsets: &Arc<[u32]>,
    documents: &Tensor,
    document_offsets: &Arc<[u32]>,
    pairs: &[(u32, u32)],
) -> Result<Tensor> {
    check(queries, query_offsets, documents, document_offsets)?;
    check_pairs(query_offsets, document_offsets, pairs)?;
    if super::composes(queries) {
        return super::batched::maxsim_pairs(queries, query_offsets, documents, document_offsets, pairs);
    }
    queries.apply_op2(documents, shell(query_offsets, document_offsets, Some(pairs), false))
}

/// `[n]`: what each query token of each pair finds, its largest dot product with the document's tokens, pair after pair and in each pair token
/// after token; arguments as in [`maxsim_pairs`], whose scores are sums of these.
///
/// # Errors
/// As [`maxsim_pairs`].
pub fn maxsim_tokens(
    queries: &Tensor,
    query_offsets: &Arc<[u32]>,
    documents: &Tensor,
    document_offsets: &Arc<[u32]>,
    pairs: &[(u32, u32)],
) -> Result<Tensor> {
    check(queries, query_offsets, documents, document_offsets)?;
    check_pairs(query_offsets, document_offsets, pairs)?;
    if super::composes(queries) {
        return super::batched::maxsim_tokens(queries, query_offsets, documents, document_offsets, pairs);
    }
    queries.apply_op2(documents, shell(query_offsets, document_offsets, Some(pairs), true))
}

fn shell(
    query_offsets: &Arc<[u32]>,
    document_offsets: &Arc<[u32]>,
    pairs: Option<&[(u32, u32)]>,
    by_token: bool,
) -> Shell<MaxSim> {
    Shell(MaxSim {
        query_offsets: query_offsets.clone(),
        document_offsets: document_offsets.clone(),
        pairs: pairs.map(Into::into),
        by_token,
        best: OnceLock::new(),
    })
}

fn check_pairs(query_offsets: &[u32], document_offsets: &[u32], pairs: &[(u32, u32)]) -> Result<()> {
    let (n, m) = (query_offsets.len() - 1, document_offsets.len() - 1);
    match pairs.iter().find(|pair| pair.0 as usize >= n || pair.1 as usize >= m) {
        Some(pair) => bail!("{OP}: pair {pair:?} is outside the {n} queries and {m} documents given"),
        None => Ok(()),
    }
}

fn check(
    queries: &Tensor,
    query_offsets: &[u32],
    documents: &Tensor,
    document_offsets: &[u32],
) -> Result<()> {
    let ((nq, d), (nd, width)) = (dims2(OP, "the queries", queries)?, dims2(OP, "the documents", documents)?);
    if d != width || d == 0 {
        bail!("{OP}: query embeddings of {d} and document embeddings of {width} must have one width above 0")
    }
    check_offsets(OP, "query", query_offsets, nq)?;
    check_offsets(OP, "document", document_offsets, nd)?;
    if let Some(empty) = document_offsets.windows(2).position(|b| b[0] == b[1]) {
        bail!("{OP}: document {empty} has no tokens, so it has no maximum; drop it before scoring")
    }
    Ok(())
}

/// Pair by pair, for the tests: plainer than `batched`, which devices run.
#[cfg(test)]
fn composed(
    queries: &Tensor,
    query_offsets: &[u32],
    documents: &Tensor,
    document_offsets: &[u32],
    pairs: &[(u32, u32)],
    by_token: bool,
) -> Result<Tensor> {
    let part = |x: &Tensor, offsets: &[u32], i: u32| {
        let (start, end) = (offsets[i as usize] as usize, offsets[i as usize + 1] as usize);
        x.narrow(0, start, end - start)
    };
    let mut scores = Vec::with_capacity(pairs.len());
    for &(query, document) in pairs {
        let (q, d) = (part(queries, query_offsets, query)?, part(documents, document_offsets, document)?);
        if q.dim(0)? == 0 {
            if !by_token {
                scores.push(Tensor::zeros((), queries.dtype(), queries.device())?);
            }
            continue;
        }
        let dots = q.matmul(&d.t()?)?;
        // Candle's max would give its gradient to every tied element; an index gives it to one.
        let winners = dots.detach().argmax_keepdim(1)?;
        let largest = dots.contiguous()?.gather(&winners, 1)?;
        scores.push(if by_token { largest.flatten_all()? } else { largest.sum_all()? });
    }
    if by_token { Tensor::cat(&scores, 0) } else { Tensor::stack(&scores, 0) }
}

vectorized! {
    /// Column-wise maximum and its row over `dots [n_rows, columns]`, rows `stride` apart; ties keep the lower row.
    fn column_max(dots: &[f32], stride: usize, n_rows: usize, largest: &mut [f32], winner: &mut [u32]) {
        let columns = largest.len();
        largest.fill(f32::MIN);
        winner.fill(0);
        for row in 0..n_rows {
            let dots = &dots[row * stride..][..columns];
            for ((largest, winner), dot) in largest.iter_mut().zip(winner.iter_mut()).zip(dots) {
                let above = *dot > *largest;
                *largest = if above { *dot } else { *largest };
                *winner = if above { row as u32 } else { *winner };
            }
        }
    }
}

struct MaxSim {
    query_offsets: Arc<[u32]>,
    document_offsets: Arc<[u32]>,
    /// `None`: all against all.
    pairs: Option<Arc<[(u32, u32)]>>,
    /// Pairs only: the maxima themselves and not their sums.
    by_token: bool,
    /// Winning document token (counted in its document): `[n_documents, n_query_tokens]` for all against all, else the
    /// query tokens of each pair one after another. Written by the forward pass.
    best: OnceLock<Vec<u32>>,
}

impl MaxSim {
    fn query(&self, i: usize) -> std::ops::Range<usize> {
        self.query_offsets[i] as usize..self.query_offsets[i + 1] as usize
    }

    fn document(&self, i: usize) -> std::ops::Range<usize> {
        self.document_offsets[i] as usize..self.document_offsets[i + 1] as usize
    }

    fn n_queries(&self) -> usize {
        self.query_offsets.len() - 1
    }

    fn n_documents(&self) -> usize {
        self.document_offsets.len() - 1
    }

    /// Scores `[n_queries, n_documents]` and winners.
    fn forward_all(&self, q: &[f32], d: &[f32], dim: usize) -> (Vec<f32>, Vec<u32>) {
        let (n, m) = (self.n_queries(), self.n_documents());
        let n_tokens = q.len() / dim;
        let mut winners = vec![0u32; m * n_tokens];
        let mut scores = vec![0f32; n * m];
        let mut dots = Vec::new();
        let mut largest = vec![0f32; n_tokens];
        let mut first = 0;
        while first < m {
            // Whole documents until the block is full.
            let mut last = first + 1;
            while last < m && (self.document(last).end - self.document(first).start) <= DOCUMENT_BLOCK {
                last += 1;
            }
            let rows = self.document(first).start..self.document(last - 1).end;
            let block = Mat::new(&d[rows.start * dim..], rows.len(), dim, dim);
            dots.resize(dots.len().max(rows.len() * QUERY_BLOCK), 0.0);
            for columns in (0..n_tokens).step_by(QUERY_BLOCK) {
                let width = QUERY_BLOCK.min(n_tokens - columns);
                let q = Mat::new(&q[columns * dim..], width, dim, dim);
                matmul(&mut dots, width, false, block, q.t(), 1.0);
                for document in first..last {
                    let tokens = self.document(document);
                    let winners = &mut winners[document * n_tokens + columns..][..width];
                    let dots = &dots[(tokens.start - rows.start) * width..];
                    column_max(dots, width, tokens.len(), &mut largest[..width], winners);
                    self.add_columns(&largest[..width], columns, document, &mut scores);
                }
            }
            first = last;
        }
        (scores, winners)
    }

    /// Adds the maxima of the query tokens from `start` on to their queries' scores for one document.
    fn add_columns(&self, largest: &[f32], start: usize, document: usize, scores: &mut [f32]) {
        let end = start + largest.len();
        let mut query = self.query_offsets.partition_point(|&o| o as usize <= start) - 1;
        while query < self.n_queries() && self.query(query).start < end {
            let tokens = self.query(query);
            let part = &largest[tokens.start.max(start) - start..tokens.end.min(end) - start];
            scores[query * self.n_documents() + document] += part.iter().sum::<f32>();
            query += 1;
        }
    }

    fn forward_pairs(&self, q: &[f32], d: &[f32], dim: usize, pairs: &[(u32, u32)]) -> (Vec<f32>, Vec<u32>) {
        let n_winners = pairs.iter().map(|pair| self.query(pair.0 as usize).len()).sum();
        let mut winners = vec![0u32; n_winners];
        let mut rest = winners.as_mut_slice();
        let (mut dots, mut largest) = (Vec::new(), Vec::new());
        let mut scores = Vec::with_capacity(pairs.len());
        for &(query, document) in pairs {
            let (tokens, rows) = (self.query(query as usize), self.document(document as usize));
            let width = tokens.len();
            let (winner, after) = rest.split_at_mut(width);
            rest = after;
            dots.resize(dots.len().max(rows.len() * width), 0.0);
            largest.resize(width, 0.0);
            let left = Mat::new(&d[rows.start * dim..], rows.len(), dim, dim);
            let right = Mat::new(&q[tokens.start * dim..], width, dim, dim);
            matmul(&mut dots, width, false, left, right.t(), 1.0);
            column_max(&dots, width, rows.len(), &mut largest, winner);
            if self.by_token {
                scores.extend_from_slice(&largest);
            } else {
                scores.push(largest.iter().sum());
            }
        }
        (scores, winners)
    }

    /// Adds one pair's gradient, `g` of each query token, to both sides along its winners.
    #[allow(
        clippy::too_many_arguments,
        reason = "two matrices, their gradients and where the pair lies in them"
    )]
    fn scatter(
        &self,
        g: impl Fn(usize) -> f32,
        query: usize,
        document: usize,
        winners: &[u32],
        dim: usize,
        (q, d): (&[f32], &[f32]),
        (dq, dd): (&mut [f32], &mut [f32]),
    ) {
        let rows = self.document(document);
        for (i, (token, &winner)) in self.query(query).zip(winners).enumerate() {
            let (g, a, b) = (g(i), token * dim, (rows.start + winner as usize) * dim);
            axpy(g, &d[b..b + dim], &mut dq[a..a + dim]);
            axpy(g, &q[a..a + dim], &mut dd[b..b + dim]);
        }
    }
}

impl Op<2> for MaxSim {
    const NAME: &'static str = OP;

    fn forward(&self, [q, d]: [Arg<'_>; 2]) -> Result<(Vec<f32>, Shape)> {
        let dim = q.dims[1];
        let (q, d) = (q.values, d.values);
        let (scores, winners, shape): (_, _, Shape) = match &self.pairs {
            None => {
                let (scores, winners) = self.forward_all(q, d, dim);
                (scores, winners, (self.n_queries(), self.n_documents()).into())
            }
            Some(pairs) => {
                let (scores, winners) = self.forward_pairs(q, d, dim, pairs);
                let n = scores.len();
                (scores, winners, n.into())
            }
        };
        // The operation belongs to one call, so this is the only write.
        let _ = self.best.set(winners);
        Ok((scores, shape))
    }

    fn backward(
        &self,
        [q, d]: [Arg<'_>; 2],
        _scores: &[f32],
        grad: &[f32],
        _: [bool; 2],
    ) -> Result<[Slope; 2]> {
        let Some(winners) = self.best.get() else { bail!("{OP}: backward before forward") };
        let dim = q.dims[1];
        let (q, d) = (q.values, d.values);
        let (mut dq, mut dd) = (vec![0f32; q.len()], vec![0f32; d.len()]);
        match &self.pairs {
            None => {
                let (m, n_tokens) = (self.n_documents(), q.len() / dim);
                for document in 0..m {
                    for query in 0..self.n_queries() {
                        let g = grad[query * m + document];
                        if g != 0.0 {
                            let winners = &winners[document * n_tokens..][self.query(query)];
                            self.scatter(|_| g, query, document, winners, dim, (q, d), (&mut dq, &mut dd));
                        }
                    }
                }
            }
            Some(pairs) => {
                let mut at = 0;
                for (i, &(query, document)) in pairs.iter().enumerate() {
                    let tokens = at..at + self.query(query as usize).len();
                    at = tokens.end;
                    let winners = &winners[tokens.clone()];
                    self.scatter(
                        |token| if self.by_token { grad[tokens.start + token] } else { grad[i] },
                        query as usize,
                        document as usize,
                        winners,
                        dim,
                        (q, d),
                        (&mut dq, &mut dd),
                    );
                }
            }
        }
        Ok([Slope::Values(dq), Slope::Values(dd)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::graddiff::{agree, check, values, var, weigh};
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn gradients_agree_with_finite_differences() -> Result<()> {
        let (q, d) = (var(&[7, 5], 1)?, var(&[9, 5], 2)?);
        let (qo, doff): (Arc<[u32]>, Arc<[u32]>) = ([0, 3, 7].into(), [0, 4, 5, 9].into());
        let vars = [q.clone(), d.clone()];
        check(&vars, 1e-3, 1e-2, || weigh(&maxsim_all(&q, &qo, &d, &doff)?))?;
        let pairs = [(1, 2), (0, 0), (1, 2)];
        check(&vars, 1e-3, 1e-2, || weigh(&maxsim_pairs(&q, &qo, &d, &doff, &pairs)?))?;
        check(&vars, 1e-3, 1e-2, || weigh(&maxsim_tokens(&q, &qo, &d, &doff, &pairs)?))
    }

    #[test]
    fn blocks_of_every_kind_agree_with_the_composed_formula() -> Result<()> {
        // Queries cross the block of 256 columns; documents are shorter than, as long as and longer than a block.
        let lengths_q: Vec<u32> = (0..40).map(|i| 5 + i % 7).collect();
        let lengths_d = [1u32, 100, 200, 256, 300, 3, 2, 17, 511];
        let offsets = |lengths: &[u32]| -> Arc<[u32]> {
            std::iter::once(0)
                .chain(lengths.iter().scan(0, |at, n| {
                    *at += n;
                    Some(*at)
                }))
                .collect()
        };
        let (qo, doff) = (offsets(&lengths_q), offsets(&lengths_d));
        let q = Var::from_vec(
            values(*qo.last().unwrap() as usize * 8, 1),
            (*qo.last().unwrap() as usize, 8),
            &Device::Cpu,
        )?;
        let d = Var::from_vec(
            values(*doff.last().unwrap() as usize * 8, 2),
            (*doff.last().unwrap() as usize, 8),
            &Device::Cpu,
        )?;
        let pairs: Vec<(u32, u32)> = (0..40u32).flat_map(|q| (0..9u32).map(move |d| (q, d))).collect();
        let vars = [q.clone(), d.clone()];
        let oracle = || weigh(&composed(&q, &qo, &d, &doff, &pairs, false)?);
        agree(&vars, 1e-4, || weigh(&maxsim_all(&q, &qo, &d, &doff)?.flatten_all()?), oracle)?;
        agree(&vars, 1e-4, || weigh(&maxsim_pairs(&q, &qo, &d, &doff, &pairs)?), oracle)?;
        let batched = || weigh(&super::super::batched::maxsim_pairs(&q, &qo, &d, &doff, &pairs)?);
        agree(&vars, 1e-4, batched, oracle)?;
        let tokens = || weigh(&maxsim_tokens(&q, &qo, &d, &doff, &pairs)?);
        let oracle = || weigh(&composed(&q, &qo, &d, &doff, &pairs, true)?);
        agree(&vars, 1e-4, tokens, oracle)?;
        let batched = || weigh(&super::super::batched::maxsim_tokens(&q, &qo, &d, &doff, &pairs)?);
        agree(&vars, 1e-4, batched, oracle)
    }

    #[test]
    fn a_tie_sends_the_whole_gradient_to_the_first_token() -> Result<()> {
        let q = Var::ones((1, 4), candle_core::DType::F32, &Device::Cpu)?;
        let d = Var::ones((3, 4), candle_core::DType::F32, &Device::Cpu)?;
        let grads = maxsim_all(&q, &[0, 1].into(), &d, &[0, 3].into())?.sum_all()?.backward()?;
        let rows = grads.get(&d).unwrap().to_vec2::<f32>()?;
        assert_eq!(rows, vec![vec![1.0; 4], vec![0.0; 4], vec![0.0; 4]]);
        Ok(())
    }

    #[test]
    fn all_negative_dot_products_still_have_a_maximum() -> Result<()> {
        let q = Tensor::new(&[[-1f32, 0.0]], &Device::Cpu)?;
        let d = Tensor::new(&[[1f32, 0.0], [0.5, 0.0]], &Device::Cpu)?;
        let scores = maxsim_all(&q, &[0, 1].into(), &d, &[0, 2].into())?.to_vec2::<f32>()?;
        assert_eq!(scores, vec![vec![-0.5]]);
        Ok(())
    }

    #[test]
    fn an_empty_document_is_refused() -> Result<()> {
        let x = var(&[2, 4], 1)?;
        let message = maxsim_all(&x, &[0, 2].into(), &x, &[0, 0, 2].into()).unwrap_err().to_string();
        assert!(message.contains("document 0"), "{message}");
        Ok(())
    }
}
