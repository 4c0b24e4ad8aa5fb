//! The forward pass: token ids to token embeddings.

use crate::EncoderError;
use crate::bert::Bert;
use crate::layers::{Loader, Projection, Residual};
use crate::modern_bert::ModernBert;
use crate::scratch::Scratch;
use shirube_core::{Activation, Architecture, EncoderConfig, Role};
use shirube_format::model::{ModelManifest, Weights};
use shirube_kernels::{Kernels, RowSource};
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

/// The blocks between ids and hidden states.
#[derive(Debug)]
enum Transformer {
    ModernBert(ModernBert),
    Bert(Bert),
}

/// All weights of a model, shared by the encoders made from it.
#[derive(Debug)]
struct Layers {
    config: EncoderConfig,
    transformer: Transformer,
    projection: Projection,
}

impl Layers {
    fn load(manifest: &ModelManifest, mut weights: Weights, kernels: Kernels) -> Result<Self, EncoderError> {
        let config = manifest.encoder.clone();
        let quantization = manifest.quantization;
        let mut loader = Loader {
            weights: &mut weights,
            kernels,
            linear: quantization.linear,
            embeddings: quantization.embeddings,
        };
        let transformer = match config.architecture {
            Architecture::ModernBert => Transformer::ModernBert(ModernBert::load(&mut loader, &config)?),
            Architecture::Bert => Transformer::Bert(Bert::load(&mut loader, &config)?),
        };
        let projection = Projection::load(&mut loader, &manifest.projection, config.hidden_size)?;
        Ok(Self { config, transformer, projection })
    }

    /// Leaves the final hidden states in `scratch.normed`, `[n, hidden]`.
    fn hidden_states(
        &self,
        kernels: Kernels,
        input: EncoderIds<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), EncoderError> {
        match &self.transformer {
            Transformer::ModernBert(t) => t.hidden_states(kernels, &self.config, input, scratch),
            Transformer::Bert(t) => t.hidden_states(kernels, &self.config, input, scratch),
        }
    }
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

impl Encoder {
    /// The encoder that `manifest` describes, with its weights packed for `kernels`.
    ///
    /// # Errors
    /// [`EncoderError::Format`] when a tensor is absent or has another shape or type than the manifest says; [`EncoderError::Kernel`] when a
    /// matrix is too large.
    pub fn load(manifest: &ModelManifest, weights: Weights, kernels: Kernels) -> Result<Self, EncoderError> {
        let layers = Arc::new(Layers::load(manifest, weights, kernels)?);
        Ok(Self { layers, kernels, scratch: Scratch::new(kernels) })
    }

    /// Width of a token embedding.
    pub fn dim(&self) -> usize {
        self.layers.projection.dim
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
        let mut out = TokenEmbeddings { dim: layers.projection.dim, data: Vec::new() };
        if !input.ids.is_empty() {
            layers.hidden_states(self.kernels, input, &mut self.scratch)?;
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
        // `x` is free now: it holds what a layer of the chain hands to the next.
        let projection = &layers.projection;
        for (i, dense) in projection.dense.iter().enumerate() {
            let input = if i == 0 { &s.normed } else { &s.x };
            let source = RowSource::Plain(input);
            dense.weight.store(kernels, source, None, &mut s.operand, out)?;
            out.truncate(source.n_rows(dense.weight.inputs()) * dense.weight.outputs());
            activate(kernels, dense.activation, dense.weight.outputs(), out)?;
            match &dense.residual {
                Residual::None => {}
                Residual::Input => out.iter_mut().zip(input).for_each(|(y, x)| *y += x),
                Residual::Projected(w) => w.add(kernels, source, &mut s.operand, out)?,
            }
            if i + 1 < projection.dense.len() {
                s.x.clone_from(out);
            }
        }
        kernels.l2_normalize(out, projection.dim)?;
        if let (Role::Query, Some((weight, bias))) = (role, &projection.query_weight) {
            for (row, state) in out.chunks_exact_mut(projection.dim).zip(s.normed.chunks_exact(hidden)) {
                let dot: f64 = state.iter().zip(weight).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                let factor = softplus(dot + f64::from(*bias)) as f32;
                row.iter_mut().for_each(|v| *v *= factor);
            }
        }
        Ok(())
    }
}

/// Applies an activation to rows of `width`, by exponentials in f64: small code, and far more exact than what follows.
fn activate(
    kernels: Kernels,
    activation: Activation,
    width: usize,
    x: &mut [f32],
) -> Result<(), EncoderError> {
    let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
    let each =
        |x: &mut [f32], f: &dyn Fn(f64) -> f64| x.iter_mut().for_each(|v| *v = f(f64::from(*v)) as f32);
    match activation {
        Activation::Identity => {}
        Activation::Gelu => {
            // The kernel writes what it does not read.
            let values = x.to_vec();
            kernels.rows(RowSource::Gelu(&values), width, x)?;
        }
        Activation::Relu => x.iter_mut().for_each(|v| *v = v.max(0.0)),
        Activation::Tanh => each(x, &|v| 2.0 * sigmoid(2.0 * v) - 1.0),
        Activation::Silu => each(x, &|v| v * sigmoid(v)),
        Activation::Sigmoid => each(x, &sigmoid),
    }
    Ok(())
}

/// `ln(1 + e^x)`, without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}
