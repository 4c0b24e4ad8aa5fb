//! ModernBERT (Warner et al. 2024): pre-norm blocks, rotary positions, GeGLU, no biases, global and windowed attention in turns.

use crate::layers::{Linear, Loader, Norm, Table};
use crate::scratch::{Scratch, room};
use crate::{EncoderError, EncoderIds};
use shirube_core::EncoderConfig;
use shirube_kernels::{AttentionShape, Kernels, RowSource};

#[derive(Debug)]
pub(crate) struct ModernBert {
    table: Table,
    embeddings_norm: Norm,
    blocks: Vec<Block>,
    final_norm: Norm,
}

#[derive(Debug)]
struct Block {
    /// Absent in the first block.
    attn_norm: Option<Norm>,
    wqkv: Linear,
    attn_out: Linear,
    mlp_norm: Norm,
    mlp_in: Linear,
    mlp_out: Linear,
}

impl ModernBert {
    pub(crate) fn load(loader: &mut Loader<'_>, config: &EncoderConfig) -> Result<Self, EncoderError> {
        let (hidden, inner, eps) = (config.hidden_size, config.intermediate_size, config.norm_eps);
        let table = loader.table("embeddings.tok_embeddings", config.vocab_size, hidden)?;
        let embeddings_norm = loader.norm("embeddings.norm", hidden, eps, false)?;
        let mut blocks = Vec::with_capacity(config.n_layers);
        for i in 0..config.n_layers {
            let name = |stem: &str| format!("layers.{i}.{stem}");
            blocks.push(Block {
                wqkv: loader.linear(&name("attn.Wqkv"), 3 * hidden, hidden, false)?,
                attn_out: loader.linear(&name("attn.Wo"), hidden, hidden, false)?,
                mlp_in: loader.linear(&name("mlp.Wi"), 2 * inner, hidden, false)?,
                mlp_out: loader.linear(&name("mlp.Wo"), hidden, inner, false)?,
                attn_norm: if i == 0 {
                    None
                } else {
                    Some(loader.norm(&name("attn_norm"), hidden, eps, false)?)
                },
                mlp_norm: loader.norm(&name("mlp_norm"), hidden, eps, false)?,
            });
        }
        let final_norm = loader.norm("final_norm", hidden, eps, false)?;
        Ok(Self { table, embeddings_norm, blocks, final_norm })
    }

    /// Leaves the final hidden states in `s.normed`, `[n, hidden]`.
    pub(crate) fn hidden_states(
        &self,
        kernels: Kernels,
        config: &EncoderConfig,
        input: EncoderIds<'_>,
        s: &mut Scratch,
    ) -> Result<(), EncoderError> {
        let (n, hidden, head_dim) = (input.ids.len(), config.hidden_size, config.head_dim());
        s.normed.resize(n * hidden, 0.0);
        for (&id, row) in input.ids.iter().zip(s.normed.chunks_exact_mut(hidden)) {
            self.table.row(id, row);
        }
        self.embeddings_norm.apply(kernels, &s.normed, &mut s.x)?;
        for (i, block) in self.blocks.iter().enumerate() {
            let kind = config.layer_kind(i);
            let source = match &block.attn_norm {
                None => RowSource::Plain(&s.x),
                Some(norm) => norm.of(&s.x),
            };
            block.wqkv.store(kernels, source, None, &mut s.operand, &mut s.wide)?;
            let at = s.rope(kind.rope_theta, n, head_dim);
            let table = n * (head_dim / 2);
            // Queries and keys stand first in each row.
            let rope = &s.rope[at];
            let qkv = &mut s.wide[..n * 3 * hidden];
            let (cos, sin) = (&rope.cos[..table], &rope.sin[..table]);
            kernels.rope(qkv, 3 * hidden, head_dim, 2 * config.n_heads, cos, sin)?;
            let shape = AttentionShape {
                n_tokens: n,
                n_keys: input.n_attended,
                n_heads: config.n_heads,
                head_dim,
                reach: kind.reach,
            };
            let mixed = room(&mut s.mixed, n * hidden);
            kernels.attention(qkv, shape, &mut s.attention, mixed)?;
            block.attn_out.add(kernels, RowSource::Plain(mixed), &mut s.operand, &mut s.x)?;
            let normed = block.mlp_norm.of(&s.x);
            block.mlp_in.store(kernels, normed, None, &mut s.operand, &mut s.wide)?;
            let gated = RowSource::GeGlu(&s.wide[..n * 2 * config.intermediate_size]);
            block.mlp_out.add(kernels, gated, &mut s.operand, &mut s.x)?;
        }
        self.final_norm.apply(kernels, &s.x, &mut s.normed)
    }
}
