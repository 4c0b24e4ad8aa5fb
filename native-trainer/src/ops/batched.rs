//! Attention and MaxSim composed from candle's differentiable operations on rectangles, for devices where a launch a sequence would be slow.
//!
//! Packed rows `[n, w]` are laid out as `[n_sequences * longest, w]`: places behind a sequence's end hold copies of a row, which a mask keeps out of
//! every softmax and maximum, so that neither values nor gradients come from them. Both directions are row selections whose gradient is again a row
//! selection ([`Rows`]): candle's own gradient of `index_select` adds rows one by one and takes a device's time.

use super::attention::{AttentionShape, rope_table};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, D, DType, Device, Layout, Result, Shape, Storage, Tensor, bail};

const OP: &str = "select rows";

/// Added to scores of places that do not exist.
const NOTHING: f64 = -1e30;

/// Row i of the result is row `ids[i]` of the argument; row j of the gradient is row `back[j]` of the result's, times `weight[j]` where given.
struct Rows {
    ids: Tensor,
    back: Tensor,
    weight: Option<Tensor>,
}

impl CustomOp1 for Rows {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (ids, ids_layout) = self.ids.storage_and_layout();
        let Storage::Cpu(ids) = &*ids else { bail!("{OP}: ids and rows are on different devices") };
        let shape = (self.ids.elem_count(), layout.shape().dims2()?.1).into();
        Ok((storage.index_select(ids, layout, ids_layout, 0)?, shape))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        let (ids, ids_layout) = self.ids.storage_and_layout();
        let Storage::Cuda(ids) = &*ids else { bail!("{OP}: ids and rows are on different devices") };
        let shape = (self.ids.elem_count(), layout.shape().dims2()?.1).into();
        Ok((storage.index_select(ids, layout, ids_layout, 0)?, shape))
    }

    fn bwd(&self, _rows: &Tensor, _selected: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?.index_select(&self.back, 0)?;
        Ok(Some(match &self.weight {
            Some(weight) => grad.broadcast_mul(weight)?,
            None => grad,
        }))
    }
}

/// Rows `ids` of `x [n, w]`, no row twice.
pub(super) fn select(x: &Tensor, ids: &[u32]) -> Result<Tensor> {
    let (n, width) = x.dims2()?;
    if ids.is_empty() {
        return Tensor::zeros((0, width), x.dtype(), x.device());
    }
    let (mut back, mut taken) = (vec![0u32; n], vec![0f32; n]);
    for (i, &id) in ids.iter().enumerate() {
        (back[id as usize], taken[id as usize]) = (i as u32, 1.0);
    }
    let device = x.device();
    let weight = Some(Tensor::from_vec(taken, (n, 1), device)?);
    let (ids, back) = (Tensor::new(ids, device)?, Tensor::new(back, device)?);
    x.contiguous()?.apply_op1(Rows { ids, back, weight })
}

/// Sequences as a rectangle.
struct Rectangle {
    n_sequences: usize,
    longest: usize,
    /// Row of each place, `[n_sequences * longest]`.
    row_of: Tensor,
    /// Place of each row, `[n]`.
    place_of: Tensor,
    /// 1 for places that exist, `[n_sequences * longest, 1]`.
    exists: Tensor,
}

impl Rectangle {
    fn new(offsets: &[u32], device: &Device) -> Result<Self> {
        let n_sequences = offsets.len() - 1;
        let longest = offsets.windows(2).map(|b| (b[1] - b[0]) as usize).max().unwrap_or(0);
        let (mut row_of, mut place_of) = (vec![0u32; n_sequences * longest], Vec::new());
        let mut exists = vec![0f32; n_sequences * longest];
        for (i, bounds) in offsets.windows(2).enumerate() {
            for (j, row) in (bounds[0]..bounds[1]).enumerate() {
                row_of[i * longest + j] = row;
                exists[i * longest + j] = 1.0;
                place_of.push((i * longest + j) as u32);
            }
        }
        Ok(Self {
            n_sequences,
            longest,
            exists: Tensor::from_vec(exists, (row_of.len(), 1), device)?,
            row_of: Tensor::new(row_of, device)?,
            place_of: Tensor::new(place_of, device)?,
        })
    }

    /// `[n, w]` to `[n_sequences * longest, w]`. What comes back for places that do not exist is dropped: it has to be zero.
    fn spread(&self, x: &Tensor) -> Result<Tensor> {
        let op = Rows { ids: self.row_of.clone(), back: self.place_of.clone(), weight: None };
        x.contiguous()?.apply_op1(op)
    }

    /// `[n_sequences * longest, w]` to `[n, w]`.
    fn pack(&self, x: &Tensor) -> Result<Tensor> {
        let weight = Some(self.exists.clone());
        x.contiguous()?.apply_op1(Rows { ids: self.place_of.clone(), back: self.row_of.clone(), weight })
    }
}

/// As [`super::attention_to`], for arguments that it has checked.
pub(super) fn attention(
    qkv: &Tensor,
    offsets: &[u32],
    attended: Option<&[u32]>,
    shape: AttentionShape,
) -> Result<Tensor> {
    let device = qkv.device();
    let (n, width) = qkv.dims2()?;
    let (h, heads) = (width / 3, shape.n_heads);
    let head = h / heads;
    if n == 0 {
        return Tensor::zeros((0, h), qkv.dtype(), device);
    }
    let rectangle = Rectangle::new(offsets, device)?;
    let (b, t) = (rectangle.n_sequences, rectangle.longest);
    // [b * t, 3 * h] -> three of [b, heads, t, head]
    let rows =
        rectangle.spread(qkv)?.reshape((b, t, 3, heads, head))?.permute((2, 0, 3, 1, 4))?.contiguous()?;
    let (mut q, mut k, v) = (rows.get(0)?, rows.get(1)?, rows.get(2)?);
    if let Some(theta) = shape.rope_theta {
        let (cos, sin) = rope_table(t, head / 2, theta);
        let cos = Tensor::from_vec(cos, (t, head / 2), device)?;
        let sin = Tensor::from_vec(sin, (t, head / 2), device)?;
        let rotate = |x: &Tensor| -> Result<Tensor> {
            let left = x.narrow(D::Minus1, 0, head / 2)?.contiguous()?;
            let right = x.narrow(D::Minus1, head / 2, head / 2)?.contiguous()?;
            let turned = (left.broadcast_mul(&cos)? - right.broadcast_mul(&sin)?)?;
            Tensor::cat(&[turned, (right.broadcast_mul(&cos)? + left.broadcast_mul(&sin)?)?], D::Minus1)
        };
        (q, k) = (rotate(&q)?, rotate(&k)?);
    }
    let scores = (q.matmul(&k.transpose(2, 3)?.contiguous()?)? / (head as f64).sqrt())?;
    let mut seen = Vec::with_capacity(b * t * t);
    for (i, bounds) in offsets.windows(2).enumerate() {
        let n_keys = attended.map_or(bounds[1] - bounds[0], |a| a[i]) as usize;
        for row in 0..t {
            let near = |key: usize| shape.reach.is_none_or(|reach| row.abs_diff(key) <= reach);
            seen.extend((0..t).map(|key| f32::from(u8::from(key < n_keys && near(key)))));
        }
    }
    let seen = Tensor::from_vec(seen, (b, 1, t, t), device)?;
    let scores = scores.broadcast_add(&((&seen - 1.0)? * -NOTHING)?)?;
    let shifted = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
    // A row that sees nothing has equal scores everywhere, and none may count.
    let weights = shifted.broadcast_div(&shifted.sum_keepdim(D::Minus1)?)?.broadcast_mul(&seen)?;
    let mixed = weights.matmul(&v.contiguous()?)?.transpose(1, 2)?.contiguous()?.reshape((b * t, h))?;
    rectangle.pack(&mixed)
}

/// What each query token finds in each document, `[n_query_tokens, n_documents]`: its largest dot product, 0 in a document without tokens.
fn largest(queries: &Tensor, documents: &Tensor, document_offsets: &[u32]) -> Result<Tensor> {
    let device = queries.device();
    let (n_tokens, _) = queries.dims2()?;
    if n_tokens == 0 || documents.dim(0)? == 0 {
        return Tensor::zeros((n_tokens, document_offsets.len() - 1), DType::F32, device);
    }
    let rectangle = Rectangle::new(document_offsets, device)?;
    let (d, t) = (rectangle.n_sequences, rectangle.longest);
    let dots = queries.contiguous()?.matmul(&rectangle.spread(documents)?.t()?)?.reshape((n_tokens, d, t))?;
    let outside = ((rectangle.exists.reshape((1, d, t))? - 1.0)? * -NOTHING)?;
    // Candle's max would give its gradient to every tied element; an index gives it to one.
    let winners = dots.detach().broadcast_add(&outside)?.argmax_keepdim(2)?;
    let best = dots.contiguous()?.gather(&winners, 2)?.squeeze(2)?;
    let filled: Vec<f32> = document_offsets.windows(2).map(|b| f32::from(u8::from(b[1] > b[0]))).collect();
    best.broadcast_mul(&Tensor::new(filled, device)?)
}

/// MaxSim of every query and document, `[n_queries, n_documents]`; documents without tokens score 0.
pub(super) fn maxsim_all(
    queries: &Tensor,
    query_offsets: &[u32],
    documents: &Tensor,
    document_offsets: &[u32],
) -> Result<Tensor> {
    let (n_tokens, n_queries) = (queries.dim(0)?, query_offsets.len() - 1);
    if n_tokens == 0 {
        return Tensor::zeros((n_queries, document_offsets.len() - 1), DType::F32, queries.device());
    }
    let mut belongs = vec![0f32; n_queries * n_tokens];
    for (i, bounds) in query_offsets.windows(2).enumerate() {
        belongs[i * n_tokens..][bounds[0] as usize..bounds[1] as usize].fill(1.0);
    }
    Tensor::from_vec(belongs, (n_queries, n_tokens), queries.device())?.matmul(&largest(
        queries,
        documents,
        document_offsets,
    )?)
}

/// MaxSim of pairs of query and document, `[n_pairs]`.
pub(super) fn maxsim_pairs(
    queries: &Tensor,
    query_offsets: &[u32],
    documents: &Tensor,
    document_offsets: &[u32],
    pairs: &[(u32, u32)],
) -> Result<Tensor> {
    let all = maxsim_all(queries, query_offsets, documents, document_offsets)?;
    let n_documents = document_offsets.len() - 1;
    let at: Vec<u32> = pairs.iter().map(|(q, d)| q * n_documents as u32 + d).collect();
    all.flatten_all()?.gather(&Tensor::new(at, queries.device())?, 0)
}

/// What each query token of each pair finds, as [`super::maxsim_tokens`].
pub(super) fn maxsim_tokens(
    queries: &Tensor,
    query_offsets: &[u32],
    documents: &Tensor,
    document_offsets: &[u32],
    pairs: &[(u32, u32)],
) -> Result<Tensor> {
    let n_documents = (document_offsets.len() - 1) as u32;
    let at: Vec<u32> = pairs
        .iter()
        .flat_map(|&(q, d)| {
            (query_offsets[q as usize]..query_offsets[q as usize + 1]).map(move |t| t * n_documents + d)
        })
        .collect();
    if at.is_empty() {
        return Tensor::zeros(0, DType::F32, queries.device());
    }
    largest(queries, documents, document_offsets)?
        .flatten_all()?
        .gather(&Tensor::new(at, queries.device())?, 0)
}
