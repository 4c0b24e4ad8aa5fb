//! The blocks between token ids and hidden states: ModernBERT and BERT, as weights and as steps.

use crate::GpuError;
use crate::device::{Buffer, Gpu};
use crate::plan::Grid;
use crate::program::{AttentionShape, Program};
use crate::shaders::{self, RowSource};
use crate::weights::{Linear, Norm, Table, Tensors};
use bytemuck::{Pod, Zeroable};
use shirube_core::{Architecture, EncoderConfig, ProjectionConfig};
use shirube_format::model::ModelManifest;
use std::rc::Rc;

/// One block.
#[derive(Debug)]
struct Block {
    /// ModernBERT: before the attention, absent in the first block. BERT: after it.
    attn_norm: Option<Norm>,
    qkv: Linear,
    attn_out: Linear,
    /// ModernBERT: before the feed-forward part. BERT: after it.
    mlp_norm: Norm,
    mlp_in: Linear,
    mlp_out: Linear,
    reach: Option<usize>,
    /// Position among the tables of rotary positions.
    rope: Option<usize>,
}

/// The weights of a transformer on a device.
#[derive(Debug)]
pub(crate) struct Transformer {
    config: EncoderConfig,
    table: Table,
    /// BERT: `[max_positions, hidden]`, position and token type 0.
    positions: Option<Buffer>,
    embeddings_norm: Norm,
    blocks: Vec<Block>,
    /// ModernBERT only.
    final_norm: Option<Norm>,
    /// Sines and cosines of each base.
    ropes: Vec<(f32, Buffer)>,
}

/// Buffers that the steps of a transformer share, `[capacity, width]` each.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// `[hidden]`: the residual stream.
    pub(crate) x: Buffer,
    /// `[hidden]`: what was normed last; the final hidden states in the end.
    pub(crate) normed: Buffer,
    /// `[max(3 hidden, 2 inner)]`
    pub(crate) wide: Buffer,
    /// `[max(hidden, inner)]`
    pub(crate) mixed: Buffer,
    /// What a kernel binds where it reads nothing.
    pub(crate) none: Buffer,
}

impl Scratch {
    pub(crate) fn new(gpu: &Gpu, config: &EncoderConfig, capacity: usize) -> Result<Self, GpuError> {
        let floats = |what, width: usize| gpu.storage(what, (capacity * width) as u64 * 4);
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        Ok(Self {
            x: floats("the residual stream", hidden)?,
            normed: floats("normed activations", hidden)?,
            wide: floats("wide activations", wide(config))?,
            mixed: floats("activations", hidden.max(inner))?,
            none: gpu.storage("nothing", 16)?,
        })
    }
}

/// Values of the widest row.
pub(crate) fn wide(config: &EncoderConfig) -> usize {
    (3 * config.hidden_size).max(2 * config.intermediate_size)
}

/// Bytes of the widest row of a buffer that grows with the tokens.
pub(crate) fn row_bytes(config: &EncoderConfig, projection: &ProjectionConfig) -> usize {
    let projected = projection.dense.iter().map(|layer| layer.out_features).max().unwrap_or(0);
    4 * wide(config).max(projected)
}

/// `Embed` of `embed.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
struct EmbedShape {
    first: u32,
    n_table: u32,
    pitch: u32,
    width4: u32,
}

const _: () = assert!(size_of::<EmbedShape>() == 16);

impl Transformer {
    /// The transformer of a manifest, with rotary positions for texts of up to `max_tokens`.
    pub(crate) fn load(
        gpu: &Gpu,
        manifest: &ModelManifest,
        tensors: &Tensors<'_>,
        max_tokens: usize,
    ) -> Result<Self, GpuError> {
        match manifest.encoder.architecture {
            Architecture::ModernBert => Self::modern_bert(gpu, manifest, tensors, max_tokens),
            Architecture::Bert => Self::bert(gpu, manifest, tensors),
        }
    }

    fn modern_bert(
        gpu: &Gpu,
        manifest: &ModelManifest,
        tensors: &Tensors<'_>,
        max_tokens: usize,
    ) -> Result<Self, GpuError> {
        let config = manifest.encoder.clone();
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let kind = manifest.quantization.linear;
        let size = [config.vocab_size, hidden];
        let stem = "embeddings.tok_embeddings";
        let table = Table::load(gpu, tensors, stem, size, manifest.quantization.embeddings)?;
        let norm = |stem: &str| Norm::load(gpu, tensors, stem, hidden, false);
        let mut ropes: Vec<(f32, Buffer)> = Vec::new();
        let mut blocks = Vec::with_capacity(config.n_layers);
        for i in 0..config.n_layers {
            let linear = |stem: &str, size: [usize; 2]| {
                Linear::load(gpu, tensors, &format!("layers.{i}.{stem}"), size, kind, false)
            };
            let layer = config.layer_kind(i);
            let rope = match ropes.iter().position(|(theta, _)| *theta == layer.rope_theta) {
                Some(at) => at,
                None => {
                    let table = rope_table(layer.rope_theta, max_tokens, config.head_dim());
                    ropes.push((layer.rope_theta, gpu.upload("rotary positions", &table)?));
                    ropes.len() - 1
                }
            };
            blocks.push(Block {
                attn_norm: if i == 0 { None } else { Some(norm(&format!("layers.{i}.attn_norm"))?) },
                qkv: linear("attn.Wqkv", [3 * hidden, hidden])?,
                attn_out: linear("attn.Wo", [hidden, hidden])?,
                mlp_norm: norm(&format!("layers.{i}.mlp_norm"))?,
                mlp_in: linear("mlp.Wi", [2 * inner, hidden])?,
                mlp_out: linear("mlp.Wo", [hidden, inner])?,
                reach: layer.reach,
                rope: Some(rope),
            });
        }
        let (embeddings_norm, final_norm) = (norm("embeddings.norm")?, Some(norm("final_norm")?));
        Ok(Self { config, table, positions: None, embeddings_norm, blocks, final_norm, ropes })
    }

    fn bert(gpu: &Gpu, manifest: &ModelManifest, tensors: &Tensors<'_>) -> Result<Self, GpuError> {
        let config = manifest.encoder.clone();
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let kind = manifest.quantization.linear;
        let size = [config.vocab_size, hidden];
        let stem = "embeddings.word_embeddings";
        let table = Table::load(gpu, tensors, stem, size, manifest.quantization.embeddings)?;
        let name = "embeddings.position_embeddings.weight";
        let mut positions = tensors.f32(name, &[config.max_positions, hidden])?.to_vec();
        if config.type_vocab_size > 0 {
            // All input is of token type 0.
            let name = "embeddings.token_type_embeddings.weight";
            let types = tensors.f32(name, &[config.type_vocab_size, hidden])?;
            for row in positions.chunks_exact_mut(hidden) {
                row.iter_mut().zip(types).for_each(|(p, t)| *p += t);
            }
        }
        let mut blocks = Vec::with_capacity(config.n_layers);
        for i in 0..config.n_layers {
            let name = |stem: &str| format!("encoder.layer.{i}.{stem}");
            let qkv = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
            let stems = [qkv[0].as_str(), qkv[1].as_str(), qkv[2].as_str()];
            let linear =
                |stem: &str, size: [usize; 2]| Linear::load(gpu, tensors, &name(stem), size, kind, true);
            let norm = |stem: &str| Norm::load(gpu, tensors, &name(stem), hidden, true);
            blocks.push(Block {
                attn_norm: Some(norm("attention.output.LayerNorm")?),
                qkv: Linear::load_rows(gpu, tensors, &stems, [3 * hidden, hidden], kind, true)?,
                attn_out: linear("attention.output.dense", [hidden, hidden])?,
                mlp_norm: norm("output.LayerNorm")?,
                mlp_in: linear("intermediate.dense", [inner, hidden])?,
                mlp_out: linear("output.dense", [hidden, inner])?,
                reach: None,
                rope: None,
            });
        }
        Ok(Self {
            table,
            positions: Some(gpu.upload("positions", &positions)?),
            embeddings_norm: Norm::load(gpu, tensors, "embeddings.LayerNorm", hidden, true)?,
            blocks,
            final_norm: None,
            ropes: Vec::new(),
            config,
        })
    }

    /// The steps from `tokens` and attention `blocks` to hidden states in `s.normed`, quantised too if `quantize`.
    pub(crate) fn steps(
        &self,
        program: &mut Program,
        tokens: &Buffer,
        blocks: &Buffer,
        s: &Scratch,
        quantize: bool,
    ) {
        match self.config.architecture {
            Architecture::ModernBert => self.modern_bert_steps(program, tokens, blocks, s, quantize),
            Architecture::Bert => self.bert_steps(program, tokens, blocks, s, quantize),
        }
    }

    fn embed(&self, program: &mut Program, tokens: &Buffer, none: &Buffer, out: &Buffer) {
        let batch = Rc::clone(program.batch());
        let hidden = self.config.hidden_size as u32;
        let spec = shaders::embed(self.table.int8, self.positions.is_some());
        let positions = self.positions.as_ref().unwrap_or(none);
        for piece in &self.table.pieces {
            let shape = EmbedShape {
                first: piece.first as u32,
                n_table: piece.n_rows as u32,
                pitch: hidden,
                width4: hidden / 4,
            };
            program.step(
                &spec,
                &shape,
                &[&batch, tokens, &piece.rows, &piece.scale, positions, out],
                Grid::Elements { width4: hidden / 4 },
            );
        }
    }

    fn attend(&self, program: &mut Program, block: &Block, blocks: &Buffer, s: &Scratch) {
        let (config, head_dim) = (&self.config, self.config.head_dim());
        let shape = AttentionShape {
            width4: config.hidden_size as u32 / 4,
            reach: block.reach.map_or(u32::MAX, |reach| reach as u32),
            scale: 1.0 / (head_dim as f32).sqrt(),
            unused: 0,
        };
        program.step(
            &shaders::attention(head_dim, block.rope.is_some()),
            &shape,
            &[&s.wide, blocks, block.rope.map_or(&s.none, |at| &self.ropes[at].1), &s.mixed],
            Grid::Attention { n_heads: config.n_heads as u32 },
        );
    }

    fn modern_bert_steps(
        &self,
        program: &mut Program,
        tokens: &Buffer,
        blocks: &Buffer,
        s: &Scratch,
        quantize: bool,
    ) {
        let (hidden, inner, eps) =
            (self.config.hidden_size, self.config.intermediate_size, self.config.norm_eps);
        self.embed(program, tokens, &s.none, &s.normed);
        let first_int8 = self.blocks.first().is_some_and(|block| block.qkv.is_int8());
        let norm = Some((&self.embeddings_norm, eps));
        program.rows(RowSource::Norm, norm, &s.normed, hidden, Some(&s.x), first_int8);
        for block in &self.blocks {
            let int8 = block.qkv.is_int8();
            // Rows are stored as f32 only for products in f32.
            let plain = |buffer| if int8 { None } else { Some(buffer) };
            if let Some(norm) = &block.attn_norm {
                program.rows(RowSource::Norm, Some((norm, eps)), &s.x, hidden, plain(&s.normed), int8);
            }
            // The first block reads the stream as it is.
            let source = if block.attn_norm.is_some() { &s.normed } else { &s.x };
            program.linear(&block.qkv, source, false, &s.wide);
            self.attend(program, block, blocks, s);
            if int8 {
                program.rows(RowSource::Plain, None, &s.mixed, hidden, None, true);
            }
            program.linear(&block.attn_out, &s.mixed, true, &s.x);
            let norm = Some((&block.mlp_norm, eps));
            program.rows(RowSource::Norm, norm, &s.x, hidden, plain(&s.normed), int8);
            program.linear(&block.mlp_in, &s.normed, false, &s.wide);
            program.rows(RowSource::GeGlu, None, &s.wide, inner, plain(&s.mixed), int8);
            program.linear(&block.mlp_out, &s.mixed, true, &s.x);
        }
        if let Some(norm) = &self.final_norm {
            let norm = Some((norm, eps));
            program.rows(RowSource::Norm, norm, &s.x, hidden, Some(&s.normed), quantize);
        }
    }

    /// A block reads and leaves the stream in `normed`; `x` is the stream between its two halves.
    fn bert_steps(
        &self,
        program: &mut Program,
        tokens: &Buffer,
        blocks: &Buffer,
        s: &Scratch,
        quantize: bool,
    ) {
        let (hidden, inner, eps) =
            (self.config.hidden_size, self.config.intermediate_size, self.config.norm_eps);
        self.embed(program, tokens, &s.none, &s.x);
        let first_int8 = self.blocks.first().map_or(quantize, |block| block.qkv.is_int8());
        let norm = Some((&self.embeddings_norm, eps));
        program.rows(RowSource::Norm, norm, &s.x, hidden, Some(&s.normed), first_int8);
        for (i, block) in self.blocks.iter().enumerate() {
            let int8 = block.qkv.is_int8();
            program.linear(&block.qkv, &s.normed, false, &s.wide);
            self.attend(program, block, blocks, s);
            if int8 {
                program.rows(RowSource::Plain, None, &s.mixed, hidden, None, true);
            }
            program.linear(&block.attn_out, &s.mixed, true, &s.normed);
            let norm = block.attn_norm.as_ref().map(|norm| (norm, eps));
            program.rows(RowSource::Norm, norm, &s.normed, hidden, Some(&s.x), int8);
            program.linear(&block.mlp_in, &s.x, false, &s.wide);
            let store = if int8 { None } else { Some(&s.mixed) };
            program.rows(RowSource::Gelu, None, &s.wide, inner, store, int8);
            program.linear(&block.mlp_out, &s.mixed, true, &s.x);
            let next_int8 = self.blocks.get(i + 1).map_or(quantize, |next| next.qkv.is_int8());
            let norm = Some((&block.mlp_norm, eps));
            program.rows(RowSource::Norm, norm, &s.x, hidden, Some(&s.normed), next_int8);
        }
    }
}

/// `[n_positions][2][head_dim / 2]`: cosines, then sines, of `position * theta^(-2 i / head_dim)`, in f64 as on the CPU.
fn rope_table(theta: f32, n_positions: usize, head_dim: usize) -> Vec<f32> {
    let half = head_dim / 2;
    let mut table = Vec::with_capacity(n_positions * head_dim);
    for position in 0..n_positions {
        let angle = |i: usize| position as f64 * f64::from(theta).powf(-2.0 * i as f64 / head_dim as f64);
        table.extend((0..half).map(|i| angle(i).cos() as f32));
        table.extend((0..half).map(|i| angle(i).sin() as f32));
    }
    table
}
