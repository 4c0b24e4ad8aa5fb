//! BERT (Devlin et al. 2019): learned positions and token types, post-norm blocks, GELU, biases everywhere.
//!
//! All input is of token type 0, so that row of the type table is added to the position table at load. Queries, keys and values of a block are
//! three matrices in checkpoints and one here.

use crate::layers::{Linear, Loader, Norm, Table};
use crate::scratch::{Scratch, room};
use crate::{EncoderError, EncoderIds};
use shirube_core::EncoderConfig;
use shirube_kernels::{AttentionShape, Kernels, RowSource};

#[derive(Debug)]
pub(crate) struct Bert {
    table: Table,
    /// `[max_positions, hidden]`: position and token type 0.
    positions: Vec<f32>,
    embeddings_norm: Norm,
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    qkv: Linear,
    attn_out: Linear,
    attn_norm: Norm,
    mlp_in: Linear,
    mlp_out: Linear,
    mlp_norm: Norm,
}

impl Bert {
    pub(crate) fn load(loader: &mut Loader<'_>, config: &EncoderConfig) -> Result<Self, EncoderError> {
        let (hidden, inner, eps) = (config.hidden_size, config.intermediate_size, config.norm_eps);
        let table = loader.table("embeddings.word_embeddings", config.vocab_size, hidden)?;
        let name = "embeddings.position_embeddings.weight";
        let mut positions = loader.weights.take_f32(name, &[config.max_positions, hidden])?;
        if config.type_vocab_size > 0 {
            let name = "embeddings.token_type_embeddings.weight";
            let types = loader.weights.take_f32(name, &[config.type_vocab_size, hidden])?;
            for row in positions.chunks_exact_mut(hidden) {
                row.iter_mut().zip(&types).for_each(|(p, t)| *p += t);
            }
        }
        let embeddings_norm = loader.norm("embeddings.LayerNorm", hidden, eps, true)?;
        let mut blocks = Vec::with_capacity(config.n_layers);
        for i in 0..config.n_layers {
            let name = |stem: &str| format!("encoder.layer.{i}.{stem}");
            let qkv = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
            blocks.push(Block {
                qkv: loader.stacked(&qkv, hidden, hidden, true)?,
                attn_out: loader.linear(&name("attention.output.dense"), hidden, hidden, true)?,
                attn_norm: loader.norm(&name("attention.output.LayerNorm"), hidden, eps, true)?,
                mlp_in: loader.linear(&name("intermediate.dense"), inner, hidden, true)?,
                mlp_out: loader.linear(&name("output.dense"), hidden, inner, true)?,
                mlp_norm: loader.norm(&name("output.LayerNorm"), hidden, eps, true)?,
            });
        }
        Ok(Self { table, positions, embeddings_norm, blocks })
    }

    /// Leaves the final hidden states in `s.normed`, `[n, hidden]`.
    pub(crate) fn hidden_states(
        &self,
        kernels: Kernels,
        config: &EncoderConfig,
        input: EncoderIds<'_>,
        s: &mut Scratch,
    ) -> Result<(), EncoderError> {
        let (n, hidden) = (input.ids.len(), config.hidden_size);
        let shape = AttentionShape {
            n_tokens: n,
            n_keys: input.n_attended,
            n_heads: config.n_heads,
            head_dim: config.head_dim(),
            reach: None,
        };
        s.x.resize(n * hidden, 0.0);
        let rows = s.x.chunks_exact_mut(hidden).zip(self.positions.chunks_exact(hidden));
        for (&id, (row, position)) in input.ids.iter().zip(rows) {
            self.table.row(id, row);
            row.iter_mut().zip(position).for_each(|(x, p)| *x += p);
        }
        s.normed.resize(n * hidden, 0.0);
        // A block leaves its stream in `x`, and the next reads it through the norm of the last; between its two halves the stream is in `normed`.
        let mut norm = &self.embeddings_norm;
        for block in &self.blocks {
            let kept = Some(&mut s.normed[..]);
            block.qkv.store(kernels, norm.of(&s.x), kept, &mut s.operand, &mut s.wide)?;
            let mixed = room(&mut s.mixed, n * hidden);
            kernels.attention(&s.wide[..n * 3 * hidden], shape, &mut s.attention, mixed)?;
            block.attn_out.add(kernels, RowSource::Plain(mixed), &mut s.operand, &mut s.normed)?;
            let (normed, kept) = (block.attn_norm.of(&s.normed), Some(&mut s.x[..]));
            block.mlp_in.store(kernels, normed, kept, &mut s.operand, &mut s.wide)?;
            let inner = RowSource::Gelu(&s.wide[..n * config.intermediate_size]);
            block.mlp_out.add(kernels, inner, &mut s.operand, &mut s.x)?;
            norm = &block.mlp_norm;
        }
        norm.apply(kernels, &s.x, &mut s.normed)?;
        Ok(())
    }
}
