//! The forward pass: token ids to token embeddings.

use crate::EncoderError;
use crate::layers::{Layers, Residual};
use shirube_core::Role;
use shirube_format::model::{ModelManifest, Weights};
use shirube_kernels::{Activations, AttentionShape, Epilogue, Kernels};
use std::sync::Arc;

/// Token embeddings of one text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenEmbeddings {
    /// Width of an embedding.
    pub dim: usize,
    /// `[n_kept_tokens, dim]`, row-major. Rows have length 1; those of a query are then scaled by their weight, if the model has one.
    pub data: Vec<f32>,
}

impl TokenEmbeddings {
    /// Number of embeddings.
    pub fn n_tokens(&self) -> usize {
        self.data.len() / self.dim.max(1)
    }

    /// The embeddings one by one, each `[dim]`.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.data.chunks_exact(self.dim.max(1))
    }
}

/// The ids of one text and what becomes of them.
#[derive(Clone, Copy, Debug)]
pub struct EncoderIds<'a> {
    /// Token ids, markers and expansion included.
    pub ids: &'a [u32],
    /// For each id whether its embedding is kept; `None` keeps all. Others are attended to all the same.
    pub keep: Option<&'a [bool]>,
    /// The first `n_attended` ids can be attended to; the rest is expansion that only looks. Usually all.
    pub n_attended: usize,
}

impl<'a> EncoderIds<'a> {
    /// All ids attended to, all embeddings kept.
    pub fn all(ids: &'a [u32]) -> Self {
        Self { ids, keep: None, n_attended: ids.len() }
    }
}

/// Token ids to token embeddings on the CPU. Clones share the weights and have buffers of their own, so one clone a thread is cheap.
///
/// A text is encoded alone, without padding: its embeddings never depend on what else is encoded. Matrices are int8 or f32 as the manifest
/// says; activations are f32, and quantised per token before an int8 product.
#[derive(Debug)]
pub struct Encoder {
    layers: Arc<Layers>,
    kernels: Kernels,
    scratch: Scratch,
}

impl Clone for Encoder {
    fn clone(&self) -> Self {
        Self { layers: Arc::clone(&self.layers), kernels: self.kernels, scratch: Scratch::new(self.kernels) }
    }
}

/// Buffers of the forward pass, grown to the longest text so far.
#[derive(Debug)]
struct Scratch {
    /// `[n, hidden]`: the residual stream.
    x: Vec<f32>,
    /// `[n, hidden]`
    normed: Vec<f32>,
    /// `[n, 3 hidden]`, `[n, 2 inner]`
    wide: Vec<f32>,
    /// `[n, hidden]`, `[n, inner]`
    mixed: Vec<f32>,
    attention: Vec<f32>,
    acts: Activations,
    rope: Vec<Rope>,
}

/// Sines and cosines of one base, `[positions, head_dim / 2]`.
#[derive(Debug)]
struct Rope {
    theta: f32,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rope {
    /// `angle = position * theta^(-2 i / head_dim)`, in f64: f32 would lose digits at far positions.
    fn grow(&mut self, n_positions: usize, head_dim: usize) {
        let half = head_dim / 2;
        for position in self.cos.len() / half.max(1)..n_positions {
            for i in 0..half {
                let frequency = f64::from(self.theta).powf(-2.0 * i as f64 / head_dim as f64);
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                self.cos.push(cos as f32);
                self.sin.push(sin as f32);
            }
        }
    }
}

impl Scratch {
    fn new(kernels: Kernels) -> Self {
        Self {
            x: Vec::new(),
            normed: Vec::new(),
            wide: Vec::new(),
            mixed: Vec::new(),
            attention: Vec::new(),
            acts: kernels.activations(),
            rope: Vec::new(),
        }
    }

    /// Position of the tables of `theta` in `rope`, covering `n_positions`.
    fn rope(&mut self, theta: f32, n_positions: usize, head_dim: usize) -> usize {
        let at = self.rope.iter().position(|r| r.theta == theta).unwrap_or_else(|| {
            self.rope.push(Rope { theta, cos: Vec::new(), sin: Vec::new() });
            self.rope.len() - 1
        });
        self.rope[at].grow(n_positions, head_dim);
        at
    }
}

impl Encoder {
    /// The encoder that `manifest` describes, with its weights packed for `kernels`.
    ///
    /// # Errors
    /// [`EncoderError::Architecture`] for BERT; [`EncoderError::Format`] when a tensor is absent or has another shape or type than the
    /// manifest says; [`EncoderError::Kernel`] when a matrix is too large.
    pub fn load(manifest: &ModelManifest, weights: Weights, kernels: Kernels) -> Result<Self, EncoderError> {
        let layers = Arc::new(Layers::load(manifest, weights, kernels)?);
        Ok(Self { layers, kernels, scratch: Scratch::new(kernels) })
    }

    /// Width of a token embedding.
    pub fn dim(&self) -> usize {
        self.layers.dim
    }

    /// The kernels that run.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// Embeddings of `ids`, markers included, one for each id.
    ///
    /// # Errors
    /// As [`Self::encode_ids`].
    pub fn encode(&mut self, ids: &[u32], role: Role) -> Result<TokenEmbeddings, EncoderError> {
        self.encode_ids(EncoderIds::all(ids), role)
    }

    /// Embeddings of the kept ids, in order. No ids give no embeddings.
    ///
    /// # Errors
    /// [`EncoderError::TooLong`], [`EncoderError::Token`], [`EncoderError::Input`] for an input that does not fit;
    /// [`EncoderError::NotFinite`] for weights that overflow on it.
    pub fn encode_ids(&mut self, input: EncoderIds<'_>, role: Role) -> Result<TokenEmbeddings, EncoderError> {
        let layers = Arc::clone(&self.layers);
        layers.check(input)?;
        let mut out = TokenEmbeddings { dim: layers.dim, data: Vec::new() };
        if !input.ids.is_empty() {
            self.hidden_states(&layers, input)?;
            self.project(&layers, input, role, &mut out.data)?;
        }
        match out.data.iter().position(|v| !v.is_finite()) {
            None => Ok(out),
            Some(at) => Err(EncoderError::NotFinite { token: at / out.dim }),
        }
    }

    /// Embeddings of many texts, in order: the same as [`Self::encode_ids`] one after the other, on all cores with feature `parallel`.
    ///
    /// # Errors
    /// The first error of any text.
    pub fn encode_batch(
        &mut self,
        inputs: &[EncoderIds<'_>],
        role: Role,
    ) -> Result<Vec<TokenEmbeddings>, EncoderError> {
        #[cfg(feature = "parallel")]
        {
            use rayon::prelude::*;
            let this = &*self;
            inputs
                .par_iter()
                .map_init(|| this.clone(), |encoder, input| encoder.encode_ids(*input, role))
                .collect()
        }
        #[cfg(not(feature = "parallel"))]
        inputs.iter().map(|input| self.encode_ids(*input, role)).collect()
    }

    /// Leaves the final hidden states in `scratch.normed`, `[n, hidden]`.
    fn hidden_states(&mut self, layers: &Layers, input: EncoderIds<'_>) -> Result<(), EncoderError> {
        let (kernels, s, config) = (self.kernels, &mut self.scratch, &layers.config);
        let (n, hidden, head_dim) = (input.ids.len(), config.hidden_size, config.head_dim());
        let norm = |x: &[f32], weight: &[f32], out: &mut Vec<f32>| {
            out.resize(x.len(), 0.0);
            kernels.layer_norm(x, weight, None, config.norm_eps, out)
        };
        s.normed.resize(n * hidden, 0.0);
        for (&id, row) in input.ids.iter().zip(s.normed.chunks_exact_mut(hidden)) {
            layers.table.row(id, row);
        }
        norm(&s.normed, &layers.embeddings_norm, &mut s.x)?;
        for (i, block) in layers.blocks.iter().enumerate() {
            let kind = config.layer_kind(i);
            let source = match &block.attn_norm {
                None => &s.x,
                Some(weight) => {
                    norm(&s.x, weight, &mut s.normed)?;
                    &s.normed
                }
            };
            block.wqkv.apply(kernels, source, &mut s.acts, Epilogue::STORE, &mut s.wide)?;
            let at = s.rope(kind.rope_theta, n, head_dim);
            let table = n * (head_dim / 2);
            // Queries and keys stand first in each row.
            let rope = &s.rope[at];
            kernels.rope(
                &mut s.wide,
                3 * hidden,
                head_dim,
                2 * config.n_heads,
                &rope.cos[..table],
                &rope.sin[..table],
            )?;
            let shape = AttentionShape {
                n_tokens: n,
                n_keys: input.n_attended,
                n_heads: config.n_heads,
                head_dim,
                reach: kind.reach,
            };
            s.mixed.resize(n * hidden, 0.0);
            kernels.attention(&s.wide, shape, &mut s.attention, &mut s.mixed)?;
            block.attn_out.apply(kernels, &s.mixed, &mut s.acts, Epilogue::ADD, &mut s.x)?;
            norm(&s.x, &block.mlp_norm, &mut s.normed)?;
            block.mlp_in.apply(kernels, &s.normed, &mut s.acts, Epilogue::STORE, &mut s.wide)?;
            s.mixed.resize(n * config.intermediate_size, 0.0);
            kernels.geglu(&s.wide, config.intermediate_size, &mut s.mixed)?;
            block.mlp_out.apply(kernels, &s.mixed, &mut s.acts, Epilogue::ADD, &mut s.x)?;
        }
        norm(&s.x, &layers.final_norm, &mut s.normed)?;
        Ok(())
    }

    /// Projection, L2 and query weights of the kept rows of `scratch.normed`.
    fn project(
        &mut self,
        layers: &Layers,
        input: EncoderIds<'_>,
        role: Role,
        out: &mut Vec<f32>,
    ) -> Result<(), EncoderError> {
        let (kernels, s) = (self.kernels, &mut self.scratch);
        let hidden = layers.config.hidden_size;
        if let Some(keep) = input.keep {
            let mut to = 0;
            for from in keep.iter().enumerate().filter(|&(_, &keep)| keep).map(|(i, _)| i) {
                s.normed.copy_within(from * hidden..(from + 1) * hidden, to * hidden);
                to += 1;
            }
            s.normed.truncate(to * hidden);
        }
        if s.normed.is_empty() {
            return Ok(());
        }
        // `x` is free now: it and `out` take turns as input and output of the chain.
        s.x.clone_from(&s.normed);
        for dense in &layers.dense {
            let bias = dense.bias.as_deref();
            dense.weight.apply(kernels, &s.x, &mut s.acts, Epilogue { bias, add: false }, out)?;
            match &dense.residual {
                Residual::None => {}
                Residual::Input => out.iter_mut().zip(&s.x).for_each(|(y, x)| *y += x),
                Residual::Projected(w) => w.apply(kernels, &s.x, &mut s.acts, Epilogue::ADD, out)?,
            }
            s.x.clone_from(out);
        }
        kernels.l2_normalize(out, layers.dim)?;
        if let (Role::Query, Some((weight, bias))) = (role, &layers.query_weight) {
            for (row, state) in out.chunks_exact_mut(layers.dim).zip(s.normed.chunks_exact(hidden)) {
                let dot: f64 = state.iter().zip(weight).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                let factor = softplus(dot + f64::from(*bias)) as f32;
                row.iter_mut().for_each(|v| *v *= factor);
            }
        }
        Ok(())
    }
}

impl Layers {
    fn check(&self, input: EncoderIds<'_>) -> Result<(), EncoderError> {
        let n = input.ids.len();
        if n > self.config.max_positions {
            return Err(EncoderError::TooLong { found: n, most: self.config.max_positions });
        }
        let vocab_size = self.config.vocab_size;
        if let Some(position) = input.ids.iter().position(|&id| id as usize >= vocab_size) {
            return Err(EncoderError::Token { position, id: input.ids[position], vocab_size });
        }
        if let Some(keep) = input.keep.filter(|keep| keep.len() != n) {
            return Err(EncoderError::Input { what: "the length of keep", expected: n, found: keep.len() });
        }
        if input.n_attended > n || (input.n_attended == 0 && n > 0) {
            return Err(EncoderError::Input { what: "n_attended", expected: n, found: input.n_attended });
        }
        Ok(())
    }
}

/// `ln(1 + e^x)`, without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}
