//! The forward pass: token ids to token embeddings, many texts at once, one submission.

use crate::GpuError;
use crate::device::{Buffer, Gpu, Submission};
use crate::plan::{self, Counts, Grid};
use crate::program::{Batch, Program};
use crate::shaders::{self, RowSource};
use crate::transformer::{self, Scratch, Transformer};
use crate::weights::{Linear, Tensors};
use bytemuck::{Pod, Zeroable};
use shirube_core::EncoderConfig;
use shirube_format::model::{ModelManifest, Weights};
use std::cell::RefCell;
use std::rc::Rc;

/// The ids of one text and what becomes of them: the fields of the CPU encoder's `EncoderIds`.
#[derive(Clone, Copy, Debug)]
pub struct GpuText<'a> {
    /// Token ids, markers and expansion included.
    pub ids: &'a [u32],
    /// For each id whether its embedding is kept; `None` keeps all.
    pub keep: Option<&'a [bool]>,
    /// The first `n_attended` ids can be attended to.
    pub n_attended: usize,
}

impl GpuText<'_> {
    pub(crate) fn n_kept(&self) -> usize {
        self.keep.map_or(self.ids.len(), |keep| keep.iter().filter(|&&keep| keep).count())
    }
}

/// Token embeddings of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuEmbeddings {
    /// For each text `[n_kept_tokens, dim]`, row-major.
    pub texts: Vec<Vec<f32>>,
    /// Milliseconds on the GPU, where timestamps are measured.
    pub gpu_ms: Option<f64>,
}

/// What is added to a projection layer's output.
#[derive(Debug)]
enum Residual {
    None,
    Input,
    Projected(Linear),
}

/// A model on a GPU.
///
/// Activations are quantised per token as on the CPU, and integer products are exact, so results differ only where an f32 was rounded
/// differently: where such a difference moves an activation to the next int8, an embedding moves by about its step. See `tests` for the bounds.
#[derive(Debug)]
pub struct GpuEncoder {
    gpu: Gpu,
    config: EncoderConfig,
    transformer: Transformer,
    dense: Vec<(Linear, Residual)>,
    query_weight: Option<(Buffer, f32)>,
    dim: usize,
    max_tokens: usize,
    /// Of the widest buffer that grows with the tokens.
    row_bytes: usize,
    /// One for queries and one for larger batches, made when first needed.
    programs: RefCell<Vec<Rc<Ready>>>,
}

/// A program with the buffers that a batch is written to and read from.
#[derive(Debug)]
pub(crate) struct Ready {
    program: Program,
    tokens: Buffer,
    blocks: Buffer,
    kept: Buffer,
    pub(crate) embeddings: Buffer,
    /// Read by the steps.
    _scratch: (Scratch, [Buffer; 2]),
}

/// `Finish` of `finish.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
struct FinishShape {
    dim4: u32,
    hidden4: u32,
    bias: f32,
    unused: u32,
}

const _: () = assert!(size_of::<FinishShape>() == 16);

fn require(what: &'static str, found: usize, good: bool, expected: &'static str) -> Result<(), GpuError> {
    if good { Ok(()) } else { Err(GpuError::Unsupported { what, found: found.to_string(), expected }) }
}

/// # Errors
/// [`GpuError::Unsupported`] for models that these kernels do not run.
pub(crate) fn supported(manifest: &ModelManifest) -> Result<(), GpuError> {
    let config = &manifest.encoder;
    let (hidden, inner, head_dim) = (config.hidden_size, config.intermediate_size, config.head_dim());
    require("hidden_size", hidden, hidden.is_multiple_of(4), "multiples of 4")?;
    require("intermediate_size", inner, inner.is_multiple_of(4), "multiples of 4")?;
    let good_head = head_dim.is_multiple_of(8) && head_dim <= 256;
    require("the width of a head", head_dim, good_head, "multiples of 8 up to 256")?;
    for layer in &manifest.projection.dense {
        let width = layer.out_features;
        require("projection.dense.out_features", width, width.is_multiple_of(4), "multiples of 4")?;
        if !layer.activation.is_identity() {
            let (what, found) = ("projection.dense.activation", format!("{:?}", layer.activation));
            return Err(GpuError::Unsupported { what, found, expected: "none" });
        }
    }
    Ok(())
}

impl GpuEncoder {
    /// The encoder that `manifest` describes, with its weights on the GPU, ready for queries: their pipelines are compiled.
    ///
    /// # Errors
    /// [`GpuError::Unsupported`], [`GpuError::TooLarge`] for models that these kernels do not run; [`GpuError::Format`] for tensors that are not
    /// what the manifest says; [`GpuError::OutOfMemory`], [`GpuError::Validation`], [`GpuError::Lost`].
    pub async fn load(gpu: &Gpu, manifest: &ModelManifest, weights: &Weights) -> Result<Self, GpuError> {
        let encoder =
            gpu.checked("loading the encoder", || Self::build(gpu, manifest, &Tensors::of(weights))).await?;
        gpu.checked("compiling the encoder", || encoder.ready(1).map(|_| ())).await?;
        Ok(encoder)
    }

    fn build(gpu: &Gpu, manifest: &ModelManifest, tensors: &Tensors<'_>) -> Result<Self, GpuError> {
        supported(manifest)?;
        let config = manifest.encoder.clone();
        let hidden = config.hidden_size;
        let kind = manifest.quantization.linear;
        let max_tokens =
            config.max_positions.min(manifest.query.max_length.max(manifest.document.max_length));
        let transformer = Transformer::load(gpu, manifest, tensors, max_tokens)?;
        let mut dense = Vec::with_capacity(manifest.projection.dense.len());
        for (i, layer) in manifest.projection.dense.iter().enumerate() {
            let size = [layer.out_features, layer.in_features];
            let residual = match (layer.residual, size[0] == size[1]) {
                (false, _) => Residual::None,
                (true, true) => Residual::Input,
                (true, false) => {
                    let stem = format!("dense.{i}.residual");
                    Residual::Projected(Linear::load(gpu, tensors, &stem, size, kind, false)?)
                }
            };
            let stem = format!("dense.{i}");
            dense.push((Linear::load(gpu, tensors, &stem, size, kind, layer.bias)?, residual));
        }
        let query_weight = if manifest.projection.query_weight {
            let weight = tensors.f32("query_weight.weight", &[1, hidden])?;
            let bias = tensors.f32("query_weight.bias", &[1])?[0];
            Some((gpu.upload("the query weight", weight)?, bias))
        } else {
            None
        };
        Ok(Self {
            gpu: gpu.clone(),
            dim: manifest.projection.dim(),
            config,
            transformer,
            dense,
            query_weight,
            max_tokens,
            row_bytes: transformer::row_bytes(&manifest.encoder, &manifest.projection),
            programs: RefCell::default(),
        })
    }

    /// Width of a token embedding.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Longest text, in tokens: the longest that the manifest's input rules make.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The device that this runs on.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Dispatches of one submission.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn n_dispatches(&self) -> Result<usize, GpuError> {
        Ok(self.ready(1)?.program.n_steps())
    }

    /// Embeddings of `texts`, in order; with `weigh` scaled by the model's query weights, if it has them. Texts go in runs of as many tokens as
    /// fit a submission; each is encoded alone, so its embeddings do not depend on the others.
    ///
    /// # Errors
    /// [`GpuError::Shape`] for a text that does not fit; [`GpuError::NotFinite`]; [`GpuError::Lost`], [`GpuError::OutOfMemory`],
    /// [`GpuError::Validation`].
    pub async fn encode(&self, texts: &[GpuText<'_>], weigh: bool) -> Result<GpuEmbeddings, GpuError> {
        for text in texts {
            self.check(text)?;
        }
        // 4096 tokens fill any GPU; more would only take memory.
        let most = plan::max_rows(self.row_bytes, self.gpu.info().binding_bytes).min(4096);
        let mut out = Vec::with_capacity(texts.len());
        let mut gpu_ms = None;
        for run in plan::runs(texts.iter().map(|text| text.ids.len()), most) {
            let texts = &texts[run];
            let kept: Vec<usize> = texts.iter().map(|text| text.n_kept() * self.dim).collect();
            let total: usize = kept.iter().sum();
            if total == 0 {
                out.extend(texts.iter().map(|_| Vec::new()));
                continue;
            }
            let mut submission = self.gpu.begin();
            let ready = self.record(&mut submission, texts, weigh)?;
            let answer = submission.finish("encoding", &[(&ready.embeddings, total as u64 * 4)]).await?;
            gpu_ms = answer.gpu_ms.map(|ms| ms + gpu_ms.unwrap_or(0.0)).or(gpu_ms);
            let values: Vec<f32> = bytemuck::pod_collect_to_vec(&answer.bytes);
            check_finite(&values, self.dim)?;
            let mut rest = values.as_slice();
            for n in kept {
                let (text, others) = rest.split_at(n);
                out.push(text.to_vec());
                rest = others;
            }
        }
        Ok(GpuEmbeddings { texts: out, gpu_ms })
    }

    pub(crate) fn check(&self, text: &GpuText<'_>) -> Result<(), GpuError> {
        let n = text.ids.len();
        let shape = |what, found, expected| Err(GpuError::Shape { what, found, expected });
        if n > self.max_tokens {
            return shape("the number of tokens", n, self.max_tokens);
        }
        if let Some(&id) = text.ids.iter().find(|&&id| id as usize >= self.config.vocab_size) {
            return shape("a token id", id as usize, self.config.vocab_size - 1);
        }
        if let Some(keep) = text.keep.filter(|keep| keep.len() != n) {
            return shape("the length of keep", keep.len(), n);
        }
        if text.n_attended > n || (text.n_attended == 0 && n > 0) {
            return shape("n_attended", text.n_attended, n);
        }
        Ok(())
    }

    /// Writes the batch and records its steps; `embeddings` of what is returned holds the result. The texts have been checked and together keep
    /// something.
    pub(crate) fn record(
        &self,
        submission: &mut Submission<'_>,
        texts: &[GpuText<'_>],
        weigh: bool,
    ) -> Result<Rc<Ready>, GpuError> {
        let n_rows: usize = texts.iter().map(|text| text.ids.len()).sum();
        let ready = self.ready(n_rows)?;
        let mut tokens: Vec<[u32; 2]> = Vec::with_capacity(n_rows);
        let mut blocks: Vec<[u32; 4]> = Vec::new();
        let mut kept: Vec<u32> = Vec::new();
        for text in texts {
            let first = tokens.len() as u32;
            let n = text.ids.len() as u32;
            tokens.extend(text.ids.iter().zip(0..).map(|(&id, position)| [id, position]));
            let starts = (first..first + n).step_by(plan::ATTENTION_BLOCK);
            blocks.extend(starts.map(|start| [start, first, n, text.n_attended as u32]));
            match text.keep {
                None => kept.extend(first..first + n),
                Some(keep) => {
                    kept.extend((first..).zip(keep).filter(|(_, keep)| **keep).map(|(row, _)| row));
                }
            }
        }
        let counts =
            Counts { n_rows: n_rows as u32, n_blocks: blocks.len() as u32, n_kept: kept.len() as u32 };
        let batch =
            Batch { n_rows: counts.n_rows, n_kept: counts.n_kept, weigh: u32::from(weigh), unused: 0 };
        self.gpu.write(&ready.tokens, &tokens);
        self.gpu.write(&ready.blocks, &blocks);
        self.gpu.write(&ready.kept, &kept);
        self.gpu.write(ready.program.batch(), &[batch]);
        submission.pass(|pass| ready.program.run(pass, counts));
        Ok(ready)
    }

    /// A program for `n_rows` tokens.
    fn ready(&self, n_rows: usize) -> Result<Rc<Ready>, GpuError> {
        let mut programs = self.programs.borrow_mut();
        if let Some(ready) = programs.iter().find(|ready| ready.program.capacity() >= n_rows) {
            return Ok(Rc::clone(ready));
        }
        let row_bytes = self.row_bytes;
        let most = plan::max_rows(row_bytes, self.gpu.info().binding_bytes);
        let capacity = plan::capacity(n_rows, row_bytes, self.gpu.info().binding_bytes)
            .ok_or(GpuError::Shape { what: "tokens of a submission", found: n_rows, expected: most })?;
        // The program for queries stays; a larger one takes the place of the one before.
        programs.truncate(1);
        let ready = Rc::new(self.assemble(capacity)?);
        programs.push(Rc::clone(&ready));
        Ok(ready)
    }

    fn assemble(&self, capacity: usize) -> Result<Ready, GpuError> {
        let (gpu, hidden) = (&self.gpu, self.config.hidden_size);
        let floats = |what, width: usize| gpu.storage(what, (capacity * width) as u64 * 4);
        let widest_dense = self.dense.iter().map(|(linear, _)| linear.n.max(linear.k)).max().unwrap_or(0);
        let widest = hidden.max(self.config.intermediate_size).max(widest_dense);
        let scratch = Scratch::new(gpu, &self.config, capacity)?;
        let chain = [floats("projected rows", widest_dense)?, floats("projected rows", widest_dense)?];
        let tokens = gpu.storage("token ids", capacity as u64 * 8)?;
        // Every text may add a block that is not full.
        let blocks = gpu.storage("attention blocks", capacity as u64 * 16)?;
        let kept = gpu.storage("kept rows", capacity as u64 * 4)?;
        let embeddings = floats("embeddings", self.dim)?;

        let mut program = Program::new(gpu, capacity, widest)?;
        let batch = Rc::clone(program.batch());
        let quantize = self.dense.first().is_some_and(|(linear, _)| linear.is_int8());
        self.transformer.steps(&mut program, &tokens, &blocks, &scratch, quantize);
        let mut input = &scratch.normed;
        for (i, (linear, residual)) in self.dense.iter().enumerate() {
            let out = &chain[i % 2];
            let int8 = linear.is_int8();
            if i > 0 && int8 {
                program.rows(RowSource::Plain, None, input, linear.k, None, true);
            }
            if matches!(residual, Residual::Input) {
                program.rows(RowSource::Plain, None, input, linear.n, Some(out), false);
            }
            program.linear(linear, input, matches!(residual, Residual::Input), out);
            if let Residual::Projected(side) = residual {
                program.linear(side, input, true, out);
            }
            input = out;
        }
        let (weight, bias) = self.query_weight.as_ref().map_or((&scratch.none, 0.0), |(w, bias)| (w, *bias));
        program.step(
            &shaders::finish(self.query_weight.is_some()),
            &FinishShape { dim4: self.dim as u32 / 4, hidden4: hidden as u32 / 4, bias, unused: 0 },
            &[&batch, &kept, input, &scratch.normed, weight, &embeddings],
            Grid::Kept,
        );
        Ok(Ready { program, tokens, blocks, kept, embeddings, _scratch: (scratch, chain) })
    }
}

/// # Errors
/// [`GpuError::NotFinite`] with the first row of width `dim` that holds such a number.
pub(crate) fn check_finite(embeddings: &[f32], dim: usize) -> Result<(), GpuError> {
    match embeddings.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(at) => Err(GpuError::NotFinite { token: at / dim }),
    }
}
