//! Self-attention over packed sequences, with rotary positions and an optional window, forward and backward.
//!
//! For each sequence and head: `softmax(rot(q) rot(k)^T / sqrt(head_dim)) v`, where `rot` turns each pair
//! `(x[i], x[i + head_dim / 2])` by `position * theta^(-2 i / head_dim)` (the rotate-half convention), positions counting
//! from 0 in each sequence. With a reach r, token i sees token j only when `|i - j| <= r`. Where only the first tokens of a
//! sequence are attended to (query augmentation: the mask tokens after them look but are not seen), keys end there; a token
//! that sees none gets zeros.
//!
//! Query rows are taken in blocks, each against the keys its rows can see, so a windowed layer does work in proportion to
//! the window. Probabilities are recomputed in the backward pass: one product and one exponential more, instead of
//! `n_heads * length` floats a token kept for every layer.

use super::matmul::{Mat, matmul};
use super::shell::{Arg, Op, Shell, Slope};
use super::simd::{dot, mad, softmax, vectorized};
use super::{check_offsets, dims2};
#[cfg(test)]
use candle_core::D;
use candle_core::{Result, Shape, Tensor, bail};
use std::sync::Arc;

const OP: &str = "attention";

/// Query rows of a block where keys are limited by a window.
const WINDOW_BLOCK: usize = 64;
/// Query rows of a block where every key is seen: bounds the scores in flight for long sequences.
const FULL_BLOCK: usize = 256;

/// What an attention layer needs to know beside its input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Number of heads; the head's width is `h / n_heads` and must be even.
    pub n_heads: usize,
    /// Tokens further apart than this do not see each other; `None` for full attention.
    pub reach: Option<usize>,
    /// Base of the rotary frequencies; `None` for no rotary positions.
    pub rope_theta: Option<f32>,
}

/// `[n, h]` from `qkv [n, 3 * h]` (queries, keys, values; inside each, heads contiguous) and sequence `offsets`.
///
/// # Errors
/// When the width is not three times a multiple of twice `n_heads`, or offsets do not cut n rows.
pub fn attention(qkv: &Tensor, offsets: &Arc<[u32]>, shape: AttentionShape) -> Result<Tensor> {
    attention_to(qkv, offsets, None, shape)
}

/// [`attention`] where of sequence i only the first `attended[i]` tokens are seen.
///
/// # Errors
/// As [`attention`], and when `attended` does not have one entry a sequence, each at most its length.
pub fn attention_to(
    qkv: &Tensor,
    offsets: &Arc<[u32]>,
    attended: Option<&Arc<[u32]>>,
    shape: AttentionShape,
) -> Result<Tensor> {
    let (n, width) = dims2(OP, "qkv", qkv)?;
    let heads = shape.n_heads;
    if heads == 0 || width % (6 * heads) != 0 {
        bail!("{OP}: a width of {width} is not 3 x {heads} heads of an even size")
    }
    check_offsets(OP, "sequence", offsets, n)?;
    if let Some(attended) = attended
        && (attended.len() + 1 != offsets.len()
            || offsets.windows(2).zip(&**attended).any(|(b, &a)| a > b[1] - b[0]))
    {
        bail!(
            "{OP}: each of {} sequences needs the number of its tokens that are attended to",
            offsets.len() - 1
        )
    }
    if super::composes(qkv) {
        return super::batched::attention(qkv, offsets, attended.map(|a| &**a), shape);
    }
    qkv.apply_op1(Shell(Attention { offsets: offsets.clone(), attended: attended.cloned(), shape }))
}

/// Cosines and sines `[length, half]` of the rotary angles.
pub(super) fn rope_table(length: usize, half: usize, theta: f32) -> (Vec<f32>, Vec<f32>) {
    let frequencies: Vec<f32> =
        (0..half).map(|i| (1.0 / f64::from(theta).powf(i as f64 / half as f64)) as f32).collect();
    let angles = (0..length).flat_map(|position| frequencies.iter().map(move |f| position as f32 * f));
    angles.map(|angle| (angle.cos(), angle.sin())).unzip()
}

/// Sequence by sequence, for the tests: plainer than `batched`, which devices run.
#[cfg(test)]
fn composed(
    qkv: &Tensor,
    offsets: &[u32],
    attended: Option<&[u32]>,
    shape: AttentionShape,
) -> Result<Tensor> {
    let device = qkv.device();
    let h = qkv.dim(1)? / 3;
    let (heads, head) = (shape.n_heads, h / shape.n_heads);
    let mut outputs = Vec::new();
    for (i, bounds) in offsets.windows(2).enumerate() {
        let (start, t) = (bounds[0] as usize, (bounds[1] - bounds[0]) as usize);
        if t == 0 {
            continue;
        }
        let n_keys = attended.map_or(t, |a| a[i] as usize);
        // [t, 3 * h] -> three of [heads, t, head]
        let rows =
            qkv.narrow(0, start, t)?.reshape((t, 3, heads, head))?.permute((1, 2, 0, 3))?.contiguous()?;
        let (mut q, mut k, v) = (rows.get(0)?, rows.get(1)?, rows.get(2)?);
        if let Some(theta) = shape.rope_theta {
            let (cos, sin) = rope_table(t, head / 2, theta);
            let cos = Tensor::from_vec(cos, (t, head / 2), device)?;
            let sin = Tensor::from_vec(sin, (t, head / 2), device)?;
            let rotate = |x: &Tensor| -> Result<Tensor> {
                let a = x.narrow(D::Minus1, 0, head / 2)?.contiguous()?;
                let b = x.narrow(D::Minus1, head / 2, head / 2)?.contiguous()?;
                let left = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
                let right = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
                Tensor::cat(&[left, right], D::Minus1)
            };
            (q, k) = (rotate(&q)?, rotate(&k)?);
        }
        let scores = (q.matmul(&k.transpose(1, 2)?.contiguous()?)? / (head as f64).sqrt())?;
        let reach = shape.reach.unwrap_or(usize::MAX);
        let seen =
            (0..t * t).map(|i| f32::from(u8::from((i / t).abs_diff(i % t) <= reach && i % t < n_keys)));
        let seen = Tensor::from_vec(seen.collect::<Vec<_>>(), (t, t), device)?;
        let scores = scores.broadcast_add(&((&seen - 1.0)? * 1e30)?)?;
        let shifted = scores.broadcast_sub(&scores.max_keepdim(2)?.detach())?.exp()?;
        // A row that sees nothing has equal scores everywhere, and none may count.
        let weights = shifted.broadcast_div(&shifted.sum_keepdim(2)?)?.broadcast_mul(&seen)?;
        outputs.push(weights.matmul(&v.contiguous()?)?.transpose(0, 1)?.contiguous()?.reshape((t, h))?);
    }
    if outputs.is_empty() { Tensor::zeros((0, h), qkv.dtype(), device) } else { Tensor::cat(&outputs, 0) }
}

vectorized! {
    /// Copies one head's rows out of packed rows `stride` apart, turned and times `scale`; `cos` empty means not turned.
    fn rotate_in(x: &[f32], stride: usize, out: &mut [f32], head: usize, cos: &[f32], sin: &[f32], scale: f32) {
        let half = head / 2;
        for (row, out) in out.chunks_exact_mut(head).enumerate() {
            let x = &x[row * stride..][..head];
            if cos.is_empty() {
                for (o, x) in out.iter_mut().zip(x) {
                    *o = x * scale;
                }
                continue;
            }
            let (c, s) = (&cos[row * half..][..half], &sin[row * half..][..half]);
            let (a, b) = x.split_at(half);
            let (left, right) = out.split_at_mut(half);
            let turn = c.iter().zip(s).zip(a.iter().zip(b));
            for ((left, right), ((c, s), (a, b))) in left.iter_mut().zip(right.iter_mut()).zip(turn) {
                *left = mad::<FMA>(*a, *c, -(b * s)) * scale;
                *right = mad::<FMA>(*b, *c, a * s) * scale;
            }
        }
    }
}

vectorized! {
    /// The transpose of [`rotate_in`]: a gradient of the turned rows back to the packed rows.
    fn rotate_out(grad: &[f32], out: &mut [f32], stride: usize, head: usize, cos: &[f32], sin: &[f32], scale: f32) {
        let half = head / 2;
        for (row, grad) in grad.chunks_exact(head).enumerate() {
            let out = &mut out[row * stride..][..head];
            if cos.is_empty() {
                for (o, g) in out.iter_mut().zip(grad) {
                    *o = g * scale;
                }
                continue;
            }
            let (c, s) = (&cos[row * half..][..half], &sin[row * half..][..half]);
            let (a, b) = grad.split_at(half);
            let (left, right) = out.split_at_mut(half);
            let turn = c.iter().zip(s).zip(a.iter().zip(b));
            for ((left, right), ((c, s), (a, b))) in left.iter_mut().zip(right.iter_mut()).zip(turn) {
                *left = mad::<FMA>(*a, *c, b * s) * scale;
                *right = mad::<FMA>(*b, *c, -(a * s)) * scale;
            }
        }
    }
}

vectorized! {
    /// Turns each row's scores into probabilities; keys outside the window get exactly 0.
    fn softmax_rows(scores: &mut [f32], rows: Rows) {
        for (i, row) in scores.chunks_exact_mut(rows.n_keys()).enumerate() {
            let (from, to) = rows.seen(i);
            row[..from].fill(0.0);
            row[to..].fill(0.0);
            softmax(&mut row[from..to]);
        }
    }
}

vectorized! {
    /// The softmax's gradient in place: `p = p * (dp - sum(p * dp))`.
    fn softmax_backward(p: &mut [f32], dp: &[f32], n_keys: usize) {
        for (p, dp) in p.chunks_exact_mut(n_keys).zip(dp.chunks_exact(n_keys)) {
            let mean = dot::<FMA>(p, dp);
            for (p, dp) in p.iter_mut().zip(dp) {
                *p *= dp - mean;
            }
        }
    }
}

/// One block of query rows and the keys it is held against, by position in the sequence.
#[derive(Clone, Copy)]
struct Rows {
    start: usize,
    end: usize,
    first_key: usize,
    last_key: usize,
    reach: usize,
}

impl Rows {
    fn n_rows(&self) -> usize {
        self.end - self.start
    }

    fn n_keys(&self) -> usize {
        self.last_key - self.first_key
    }

    /// Range of the block's keys that its row `i` sees.
    #[inline(always)]
    fn seen(&self, i: usize) -> (usize, usize) {
        let position = self.start + i;
        let to = position.saturating_add(self.reach).saturating_add(1).min(self.last_key);
        let from = position.saturating_sub(self.reach).max(self.first_key).min(to);
        (from - self.first_key, to - self.first_key)
    }
}

/// The blocks of a sequence of `length` tokens of which the first `n_keys` are attended to. A block may see no key.
fn blocks(length: usize, n_keys: usize, reach: Option<usize>) -> impl Iterator<Item = Rows> {
    // A window that covers the sequence is full attention.
    let reach = reach.filter(|reach| reach + 1 < length).unwrap_or(usize::MAX);
    let size = if reach == usize::MAX { FULL_BLOCK } else { WINDOW_BLOCK };
    (0..length).step_by(size).map(move |start| {
        let end = (start + size).min(length);
        let last_key = (end - 1).saturating_add(reach).saturating_add(1).min(n_keys);
        Rows { start, end, first_key: start.saturating_sub(reach).min(last_key), last_key, reach }
    })
}

/// Buffers reused over heads and sequences, sized for the longest sequence.
struct Scratch {
    q: Vec<f32>,
    k: Vec<f32>,
    p: Vec<f32>,
    dp: Vec<f32>,
    dq: Vec<f32>,
    dk: Vec<f32>,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

struct Attention {
    offsets: Arc<[u32]>,
    attended: Option<Arc<[u32]>>,
    shape: AttentionShape,
}

impl Attention {
    /// First row, tokens, and tokens attended to of every sequence that is not empty.
    fn sequences(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        self.offsets.windows(2).enumerate().filter_map(|(i, bounds)| {
            let (start, t) = (bounds[0] as usize, (bounds[1] - bounds[0]) as usize);
            (t > 0).then(|| (start, t, self.attended.as_ref().map_or(t, |a| a[i] as usize)))
        })
    }

    fn scratch(&self, head: usize, backward: bool) -> Scratch {
        let longest = self.sequences().map(|(_, t, _)| t).max().unwrap_or(0);
        // Of every sequence: a shorter one under a window can count as full attention in larger blocks.
        let scores = self
            .sequences()
            .flat_map(|(_, t, n_keys)| blocks(t, n_keys, self.shape.reach))
            .map(|b| b.n_rows() * b.n_keys())
            .max()
            .unwrap_or(0);
        let (cos, sin) = match self.shape.rope_theta {
            Some(theta) => rope_table(longest, head / 2, theta),
            None => (Vec::new(), Vec::new()),
        };
        let second = if backward { longest * head } else { 0 };
        Scratch {
            q: vec![0.0; longest * head],
            k: vec![0.0; longest * head],
            p: vec![0.0; scores],
            dp: vec![0.0; if backward { scores } else { 0 }],
            dq: vec![0.0; second],
            dk: vec![0.0; second],
            cos,
            sin,
        }
    }

    fn mix(&self, qkv: &[f32], h: usize) -> Vec<f32> {
        let (heads, width) = (self.shape.n_heads, 3 * h);
        let head = h / heads;
        let scale = 1.0 / (head as f32).sqrt();
        let mut out = vec![0f32; qkv.len() / 3];
        let mut s = self.scratch(head, false);
        for (start, t, n_keys) in self.sequences() {
            for i in 0..heads {
                let base = &qkv[start * width + i * head..];
                let (q, k) = (&mut s.q[..t * head], &mut s.k[..t * head]);
                rotate_in(base, width, q, head, &s.cos, &s.sin, scale);
                rotate_in(&base[h..], width, k, head, &s.cos, &s.sin, 1.0);
                for rows in blocks(t, n_keys, self.shape.reach).filter(|rows| rows.n_keys() > 0) {
                    let (m, keys) = (rows.n_rows(), rows.n_keys());
                    let p = &mut s.p[..m * keys];
                    let seen = Mat::new(&k[rows.first_key * head..], keys, head, head);
                    matmul(p, keys, false, Mat::new(&q[rows.start * head..], m, head, head), seen.t(), 1.0);
                    softmax_rows(p, rows);
                    let v = Mat::new(&base[2 * h + rows.first_key * width..], keys, head, width);
                    let o = &mut out[(start + rows.start) * h + i * head..];
                    matmul(o, h, false, Mat::new(p, m, keys, keys), v, 1.0);
                }
            }
        }
        out
    }

    fn slopes(&self, qkv: &[f32], grad: &[f32], h: usize) -> Vec<f32> {
        let (heads, width) = (self.shape.n_heads, 3 * h);
        let head = h / heads;
        let scale = 1.0 / (head as f32).sqrt();
        let mut out = vec![0f32; qkv.len()];
        let mut s = self.scratch(head, true);
        for (start, t, n_keys) in self.sequences() {
            for i in 0..heads {
                let offset = start * width + i * head;
                let base = &qkv[offset..];
                let (q, k) = (&mut s.q[..t * head], &mut s.k[..t * head]);
                rotate_in(base, width, q, head, &s.cos, &s.sin, scale);
                rotate_in(&base[h..], width, k, head, &s.cos, &s.sin, 1.0);
                let (dq, dk) = (&mut s.dq[..t * head], &mut s.dk[..t * head]);
                dk.fill(0.0);
                dq.fill(0.0);
                for rows in blocks(t, n_keys, self.shape.reach).filter(|rows| rows.n_keys() > 0) {
                    let (m, keys) = (rows.n_rows(), rows.n_keys());
                    let (p, dp) = (&mut s.p[..m * keys], &mut s.dp[..m * keys]);
                    let q = Mat::new(&q[rows.start * head..], m, head, head);
                    let k = Mat::new(&k[rows.first_key * head..], keys, head, head);
                    let v = Mat::new(&base[2 * h + rows.first_key * width..], keys, head, width);
                    let g = Mat::new(&grad[(start + rows.start) * h + i * head..], m, head, h);
                    matmul(p, keys, false, q, k.t(), 1.0);
                    softmax_rows(p, rows);
                    let dv = &mut out[offset + 2 * h + rows.first_key * width..];
                    matmul(dv, width, true, Mat::new(p, m, keys, keys).t(), g, 1.0);
                    matmul(dp, keys, false, g, v.t(), 1.0);
                    softmax_backward(p, dp, keys);
                    let ds = Mat::new(p, m, keys, keys);
                    matmul(&mut dq[rows.start * head..], head, false, ds, k, 1.0);
                    matmul(&mut dk[rows.first_key * head..], head, true, ds.t(), q, 1.0);
                }
                let out = &mut out[offset..];
                rotate_out(dq, out, width, head, &s.cos, &s.sin, scale);
                rotate_out(dk, &mut out[h..], width, head, &s.cos, &s.sin, 1.0);
            }
        }
        out
    }
}

impl Op<1> for Attention {
    const NAME: &'static str = OP;

    fn forward(&self, [qkv]: [Arg<'_>; 1]) -> Result<(Vec<f32>, Shape)> {
        let (n, width) = qkv.dims2();
        Ok((self.mix(qkv.values, width / 3), (n, width / 3).into()))
    }

    fn backward(&self, [qkv]: [Arg<'_>; 1], _y: &[f32], dy: &[f32], _: [bool; 1]) -> Result<[Slope; 1]> {
        Ok([Slope::Values(self.slopes(qkv.values, dy, qkv.dims[1] / 3))])
    }
}

#[cfg(test)]
mod tests {
    use super::super::graddiff::{agree, check, var, weigh};
    use super::*;

    fn shape(n_heads: usize, reach: Option<usize>, rope_theta: Option<f32>) -> AttentionShape {
        AttentionShape { n_heads, reach, rope_theta }
    }

    #[test]
    fn gradients_agree_with_finite_differences() -> Result<()> {
        let qkv = var(&[9, 3 * 8], 3)?;
        let offsets: Arc<[u32]> = [0, 1, 6, 6, 9].into();
        for shape in [shape(2, None, Some(1e4)), shape(1, Some(1), Some(100.0)), shape(2, Some(0), None)] {
            check(std::slice::from_ref(&qkv), 1e-2, 1e-2, || weigh(&attention(&qkv, &offsets, shape)?))?;
        }
        Ok(())
    }

    #[test]
    fn every_block_shape_agrees_with_the_composed_formula() -> Result<()> {
        let qkv = var(&[330, 3 * 16], 4)?;
        // 270 tokens cross the block of full attention, 60 do not; windows cross their blocks too.
        let offsets: Arc<[u32]> = [0, 270, 330].into();
        for reach in [None, Some(0), Some(5), Some(64), Some(100), Some(400)] {
            let shape = shape(2, reach, Some(1e4));
            agree(
                std::slice::from_ref(&qkv),
                5e-5,
                || weigh(&attention(&qkv, &offsets, shape)?),
                || weigh(&composed(&qkv, &offsets, None, shape)?),
            )?;
            agree(
                std::slice::from_ref(&qkv),
                5e-5,
                || weigh(&attention(&qkv, &offsets, shape)?),
                || weigh(&super::super::batched::attention(&qkv, &offsets, None, shape)?),
            )?;
        }
        Ok(())
    }

    #[test]
    fn tokens_that_are_not_attended_to_agree_with_the_composed_formula() -> Result<()> {
        let qkv = var(&[200, 3 * 8], 6)?;
        let offsets: Arc<[u32]> = [0, 150, 160, 200].into();
        // The last blocks of the first sequence see no key under a window; the second sees all; the third none at all.
        let attended: Arc<[u32]> = [20, 10, 0].into();
        for (reach, theta) in [(None, Some(1e4)), (Some(4), Some(1e4)), (Some(40), None)] {
            let shape = shape(2, reach, theta);
            agree(
                std::slice::from_ref(&qkv),
                5e-5,
                || weigh(&attention_to(&qkv, &offsets, Some(&attended), shape)?),
                || weigh(&composed(&qkv, &offsets, Some(&attended), shape)?),
            )?;
        }
        let small = var(&[9, 3 * 8], 3)?;
        check(std::slice::from_ref(&small), 1e-2, 1e-2, || {
            weigh(&attention_to(&small, &[0, 6, 9].into(), Some(&[3, 3].into()), shape(2, None, Some(1e4)))?)
        })
    }

    #[test]
    fn tokens_that_only_look_do_not_change_the_others() -> Result<()> {
        let qkv = var(&[12, 3 * 8], 5)?;
        for reach in [None, Some(2)] {
            let shape = shape(2, reach, Some(1e4));
            let alone = attention(&qkv.narrow(0, 0, 7)?.contiguous()?, &[0, 7].into(), shape)?;
            let looked_at = attention_to(&qkv, &[0, 12].into(), Some(&[7].into()), shape)?;
            let rows = |t: &Tensor| t.narrow(0, 0, 7)?.flatten_all()?.to_vec1::<f32>();
            for (a, b) in rows(&alone)?.iter().zip(rows(&looked_at)?) {
                assert!((a - b).abs() < 1e-6, "{a} and {b}");
            }
        }
        assert!(attention_to(&qkv, &[0, 12].into(), Some(&[13].into()), shape(2, None, None)).is_err());
        assert!(attention_to(&qkv, &[0, 12].into(), Some(&[1, 1].into()), shape(2, None, None)).is_err());
        Ok(())
    }

    #[test]
    fn a_sequence_is_the_same_alone_and_in_company() -> Result<()> {
        let qkv = var(&[12, 3 * 8], 5)?;
        let shape = shape(2, Some(3), Some(1e4));
        let together = attention(&qkv, &[0, 5, 12].into(), shape)?.narrow(0, 5, 7)?;
        let alone = attention(&qkv.narrow(0, 5, 7)?.contiguous()?, &[0, 7].into(), shape)?;
        assert_eq!(together.flatten_all()?.to_vec1::<f32>()?, alone.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }

    #[test]
    fn offsets_that_do_not_cover_the_rows_are_refused() -> Result<()> {
        let qkv = var(&[12, 3 * 8], 5)?;
        for offsets in [vec![0u32, 5], vec![1, 12], vec![0, 13], vec![0, 9, 5, 12], vec![]] {
            assert!(attention(&qkv, &offsets.into(), shape(2, None, None)).is_err());
        }
        Ok(())
    }
}
