//! From packed inputs to a loss on MaxSim scores: with one tape over the whole batch, or chunk by chunk.
//!
//! In-batch contrast gains from batches larger than memory. The loss depends on a batch only through its token embeddings, so (Gao et al. 2021,
//! "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", section 3) all are computed chunk by chunk without a tape, the loss
//! and its gradient by embedding `dE` on them alone, and then each chunk once more with a tape, to be followed backwards from `sum(E dE)`. The
//! gradients are those of the whole batch; one forward pass more is the price, and memory holds one chunk.

use crate::data::{Sequence, TokenBatch};
use crate::ops;
use crate::student::{Packed, Student};
use anyhow::{Result, ensure};
use candle_core::{Tensor, Var};
use std::sync::Arc;

/// What an objective says of one batch.
pub struct BatchLoss<'a> {
    /// The loss.
    pub value: f64,
    /// Scalars on tapes of their own, whose gradients sum to the loss's; made one by one, so that one tape is alive at a time.
    pub parts: Box<dyn Iterator<Item = Result<Tensor>> + 'a>,
    /// Share of examples whose right answer scored highest.
    pub accuracy: f64,
    /// Tokens encoded.
    pub n_tokens: usize,
}

impl BatchLoss<'_> {
    /// A loss on one tape.
    ///
    /// # Errors
    /// When `loss` is no scalar.
    pub fn whole(loss: Tensor, accuracy: f64, n_tokens: usize) -> Result<Self> {
        let value = f64::from(loss.to_scalar::<f32>()?);
        Ok(Self { value, parts: Box::new(std::iter::once(Ok(loss))), accuracy, n_tokens })
    }
}

/// Embeddings that MaxSim reads.
pub struct Scored {
    /// Query token embeddings `[n_query_tokens, dim]`.
    pub queries: Tensor,
    /// Starts of queries.
    pub query_offsets: Arc<[u32]>,
    /// Document token embeddings, kept tokens only, `[n_document_tokens, dim]`.
    pub documents: Tensor,
    /// Starts of documents.
    pub document_offsets: Arc<[u32]>,
}

/// A batch to be scored: queries, then documents.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    /// Inputs, queries first.
    pub input: Packed,
    /// Number of queries.
    pub n_queries: usize,
    /// Blocks used.
    pub depth: usize,
    /// Tokens of documents that are encoded, so that others see them, but never scored, by id.
    pub skip: &'a [bool],
    /// Tokens of a chunk; `None` for one tape over all.
    pub chunk_tokens: Option<usize>,
}

/// Positions of a packed batch's document tokens that are scored, and the starts of documents among them.
fn kept(input: &Packed, n_queries: usize, skip: &[bool]) -> Result<(Vec<u32>, Vec<u32>)> {
    let (mut kept, mut offsets) = (Vec::new(), vec![0]);
    for window in input.offsets[n_queries..].windows(2) {
        kept.extend((window[0]..window[1]).filter(|&t| !skip[input.ids[t as usize] as usize]));
        offsets.push(u32::try_from(kept.len())?);
    }
    Ok((kept, offsets))
}

impl Scored {
    /// Encodes a batch on one tape.
    ///
    /// # Errors
    /// Device errors.
    pub fn new(student: &Student, batch: &Batch<'_>) -> Result<Self> {
        let Batch { input, n_queries, .. } = batch;
        let hidden = student.hidden(input, batch.depth)?;
        let (kept, document_offsets) = kept(input, *n_queries, batch.skip)?;
        Ok(Self {
            queries: student.project_query(&hidden.narrow(0, 0, input.offsets[*n_queries] as usize)?)?,
            query_offsets: input.offsets[..=*n_queries].into(),
            documents: student.project(&ops::gather(&hidden, &kept)?)?,
            document_offsets: document_offsets.into(),
        })
    }
}

/// One part of a chunked batch, which starts its own tape.
struct Chunk {
    input: Packed,
    /// Positions of its documents' tokens that are scored.
    kept: Vec<u32>,
    /// Its first so many positions are of queries.
    n_query_rows: usize,
}

impl Chunk {
    /// Query and document rows of the chunk, either absent where there are none.
    fn embed(&self, student: &Student, depth: usize) -> Result<[Option<Tensor>; 2]> {
        let hidden = student.hidden(&self.input, depth)?;
        let queries = (self.n_query_rows > 0)
            .then(|| student.project_query(&hidden.narrow(0, 0, self.n_query_rows)?))
            .transpose()?;
        let documents = (!self.kept.is_empty())
            .then(|| student.project(&ops::gather(&hidden, &self.kept)?))
            .transpose()?;
        Ok([queries, documents])
    }
}

/// Cuts a batch into chunks of at most `limit` tokens, or one sequence where that is longer.
fn chunks(batch: &Batch<'_>, limit: usize) -> Result<Vec<Chunk>> {
    let offsets = &batch.input.offsets;
    let n = offsets.len() - 1;
    let (mut out, mut from) = (Vec::new(), 0);
    while from < n {
        let mut to = from + 1;
        while to < n && (offsets[to + 1] - offsets[from]) as usize <= limit {
            to += 1;
        }
        let input = batch.input.slice(from..to);
        let n_queries = batch.n_queries.clamp(from, to) - from;
        let (kept, _) = kept(&input, n_queries, batch.skip)?;
        let n_query_rows = input.offsets[n_queries] as usize;
        out.push(Chunk { input, kept, n_query_rows });
        from = to;
    }
    Ok(out)
}

impl<'a> Batch<'a> {
    /// The loss that `loss` makes of the embeddings, with its accuracy.
    ///
    /// # Errors
    /// Device errors, or what `loss` reports.
    pub fn loss(
        self,
        student: &'a Student,
        loss: impl Fn(&Scored) -> Result<(Tensor, f64)>,
    ) -> Result<BatchLoss<'a>> {
        let n_tokens = self.input.ids.len();
        let limit = match self.chunk_tokens {
            Some(limit) if limit < n_tokens => limit,
            _ => {
                let (loss, accuracy) = loss(&Scored::new(student, &self)?)?;
                return BatchLoss::whole(loss, accuracy, n_tokens);
            }
        };
        let depth = self.depth;
        let parts = chunks(&self, limit)?;
        let plain = student.detached();
        let (mut queries, mut documents) = (Vec::new(), Vec::new());
        for chunk in &parts {
            let [q, d] = chunk.embed(&plain, depth)?;
            queries.extend(q);
            documents.extend(d);
        }
        ensure!(!queries.is_empty() && !documents.is_empty(), "a batch needs queries and documents");
        let (queries, documents) =
            (Var::from_tensor(&Tensor::cat(&queries, 0)?)?, Var::from_tensor(&Tensor::cat(&documents, 0)?)?);
        let (_, document_offsets) = kept(&self.input, self.n_queries, self.skip)?;
        let scored = Scored {
            queries: queries.as_tensor().clone(),
            query_offsets: self.input.offsets[..=self.n_queries].into(),
            documents: documents.as_tensor().clone(),
            document_offsets: document_offsets.into(),
        };
        let (loss, accuracy) = loss(&scored)?;
        let mut slopes = loss.backward()?;
        let slopes = [slopes.remove(&queries), slopes.remove(&documents)];
        let mut rows = [0, 0];
        let parts = parts.into_iter().map(move |chunk| {
            let mut surrogate: Option<Tensor> = None;
            for (i, embedded) in chunk.embed(student, depth)?.into_iter().enumerate() {
                let (Some(embedded), Some(slope)) = (embedded, &slopes[i]) else { continue };
                let n = embedded.dim(0)?;
                let dot = (embedded * slope.narrow(0, rows[i], n)?)?.sum_all()?;
                rows[i] += n;
                surrogate = Some(match surrogate {
                    Some(sum) => (sum + dot)?,
                    None => dot,
                });
            }
            surrogate.ok_or_else(|| anyhow::anyhow!("a chunk without embeddings"))
        });
        Ok(BatchLoss {
            value: f64::from(loss.to_scalar::<f32>()?),
            parts: Box::new(parts),
            accuracy,
            n_tokens,
        })
    }
}

/// In-batch contrastive loss.
///
/// # Errors
/// Device errors.
pub fn contrastive<'a>(
    student: &'a Student,
    batch: &TokenBatch,
    depth: usize,
    skip: &'a [bool],
    chunk_tokens: Option<usize>,
) -> Result<BatchLoss<'a>> {
    let input = Packed::of(&batch.sequences);
    Batch { input, n_queries: batch.n_queries, depth, skip, chunk_tokens }.loss(student, |scored| {
        let scores = ops::maxsim_all(
            &scored.queries,
            &scored.query_offsets,
            &scored.documents,
            &scored.document_offsets,
        )?;
        let rows: Vec<Vec<f32>> = scores.to_vec2()?;
        let hits = rows
            .iter()
            .zip(&batch.targets)
            .filter(|(row, target)| {
                row.iter().enumerate().all(|(j, s)| j == **target as usize || *s < row[**target as usize])
            })
            .count();
        let loss = ops::cross_entropy(&scores, &batch.targets, None, 1.0)?;
        Ok((loss, hits as f64 / batch.n_queries.max(1) as f64))
    })
}

impl Packed {
    /// Packs sequences one after the other.
    pub fn of(sequences: &[Sequence]) -> Self {
        let (ids, offsets) = crate::data::packed(sequences.iter().map(|s| s.ids.as_slice()));
        let attended = sequences.iter().any(|s| s.n_attended < s.ids.len()).then(|| {
            sequences
                .iter()
                .map(|s| u32::try_from(s.n_attended).expect("a batch holds fewer than 2^32 tokens"))
                .collect()
        });
        Self { ids, offsets: offsets.into(), attended }
    }

    /// The sequences `range` alone.
    fn slice(&self, range: std::ops::Range<usize>) -> Self {
        let (start, end) = (self.offsets[range.start], self.offsets[range.end]);
        Self {
            ids: self.ids[start as usize..end as usize].to_vec(),
            offsets: self.offsets[range.start..=range.end].iter().map(|o| o - start).collect(),
            attended: self.attended.as_ref().map(|a| a[range].into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::ModelShape;
    use crate::train::gradients;
    use candle_core::Device;
    use shirube_core::{Expansion, ExpansionRule, InputRules};

    fn rules(marker: u32, max_length: usize, expansion: Option<Expansion>) -> InputRules {
        InputRules { prefix: vec![marker], max_length, expansion, ..InputRules::default() }
    }

    /// Five queries with augmentation and seven documents, one of them of a token that is not scored, in a student of two blocks.
    fn case() -> (Student, TokenBatch, Vec<bool>) {
        let shape = ModelShape { n_layers: 2, global_attention_every: 2, ..crate::recipe::small_shape() };
        let mut student =
            Student::random(shape.encoder(40), shape.projection(), 3, &Device::Cpu).expect("a student");
        // Output projections start at zero, where half of the gradients are zero too.
        let values = student
            .variables(2)
            .enumerate()
            .map(|(i, (name, var))| {
                let noise = ops::graddiff::values(var.elem_count(), i as u64 + 1);
                let noise = Tensor::from_vec(noise, var.dims(), &Device::Cpu).expect("noise");
                (name.clone(), ((noise * 0.2).expect("noise") + var.as_tensor()).expect("weights"))
            })
            .collect();
        student = Student::from_tensors(student.encoder, student.projection, &values).expect("a student");
        let masks = Some(Expansion { token: 2, attend: false, rule: ExpansionRule::Fixed });
        let (query, document) = (rules(3, 8, masks), rules(4, 12, None));
        let mut sequences: Vec<Sequence> =
            (0..5).map(|q| Sequence::new(&query, (0..2 + q).map(|t| 10 + (q * 7 + t) % 29))).collect();
        sequences
            .extend((0..7).map(|d| Sequence::new(&document, (0..3 + d).map(|t| 8 + (d * 5 + t * 3) % 31))));
        let mut skip = vec![false; 40];
        skip[11] = true;
        (student, TokenBatch { sequences, n_queries: 5, targets: vec![0, 2, 4, 5, 6] }, skip)
    }

    #[test]
    fn chunks_of_any_size_give_the_gradients_of_the_whole_batch() {
        let (student, batch, skip) = case();
        let variables: Vec<(String, Var)> =
            student.variables(2).map(|(n, v)| (n.clone(), v.clone())).collect();
        let all = |chunk| {
            let loss = contrastive(&student, &batch, 2, &skip, chunk).expect("a loss");
            (loss.value, loss.accuracy, gradients(&variables, loss).expect("gradients"))
        };
        let (value, accuracy, whole) = all(None);
        // One sequence at a time, chunks within queries, across the border to documents, and all but one token.
        for limit in [1, 12, 25, 50, batch.sequences.iter().map(|s| s.ids.len()).sum::<usize>() - 1] {
            let (v, a, chunked) = all(Some(limit));
            assert!((v - value).abs() < 1e-6 && a == accuracy, "{limit}: {v} and {value}");
            for (((name, _), a), b) in variables.iter().zip(&whole).zip(&chunked) {
                assert_eq!(a.len(), b.len(), "{limit}: {name}");
                let largest = a.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
                assert!(a.iter().any(|v| *v != 0.0), "{name} has no gradient");
                for (a, b) in a.iter().zip(b) {
                    assert!((a - b).abs() < 2e-5 * largest, "{limit}: {name}: {a} and {b}");
                }
            }
        }
    }
}
