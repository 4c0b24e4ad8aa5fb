//! MaxSim over a compressed index that stays on the device; see `maxsim.wgsl` for formula and layout.

use crate::GpuError;
use crate::device::{Buffer, Gpu, Kernel, Submission};
use crate::encoder::{GpuEncoder, GpuText, check_finite};
use crate::plan;
use crate::program::{Batch, GemmF32, RowShape};
use crate::shaders::{self, RowSource, Spec};
use crate::weights::act_bytes;
use bytemuck::{Pod, Zeroable};
use shirube_core::{Packing, run_start};
use shirube_kernels::{
    CompressedTokens, EMPTY_DOCUMENT, MAX_DIM, MAX_QUERY_TOKENS, ResidualTable, TokenRange,
};
use std::cell::RefCell;
use std::rc::Rc;

/// An index as the CPU holds it, to be put on a GPU.
#[derive(Clone, Copy, Debug)]
pub struct IndexParts<'a> {
    /// Width of an embedding.
    pub dim: usize,
    /// `[n_centroids, dim]`.
    pub centroids: &'a [f32],
    /// Whether a token is its centroid and a residual, or the residual alone.
    pub add_centroid: bool,
    /// What residual levels stand for, and how they are packed. Of [`Packing::Product`] only packing and step count.
    pub table: ResidualTable,
    /// [`Codebooks::ints`](shirube_kernels::Codebooks::ints) of a [`Packing::Product`]; empty for others.
    pub codebooks: &'a [i8],
    /// Tokens of all documents.
    pub tokens: CompressedTokens<'a>,
    /// Where each document's tokens are, in ascending order without gaps.
    pub documents: &'a [TokenRange],
}

/// A compressed index on a GPU.
///
/// Integer sums are exact, as on the CPU; the rest is rounded in f32 where the CPU adds maxima in f64. Pieces of whole documents are as large as a
/// binding.
#[derive(Debug)]
pub struct GpuIndex {
    gpu: Gpu,
    dim: usize,
    step: f32,
    kernel: Spec,
    n_documents: usize,
    n_centroids: usize,
    empty: bool,
    centroids: Buffer,
    bytes: Buffer,
    codebooks: Buffer,
    pieces: Vec<Piece>,
    /// `[n_documents]`
    scores: Buffer,
    n_bytes: u64,
    query: RefCell<Option<Rc<Query>>>,
}

#[derive(Debug)]
struct Piece {
    residuals: Buffer,
    tokens: Buffer,
    offsets: Buffer,
    uniform: Buffer,
    first_document: usize,
    n_documents: usize,
}

/// Buffers of a query of at most `capacity` tokens, with everything bound.
#[derive(Debug)]
struct Query {
    capacity: usize,
    /// `[capacity, dim]` f32
    embeddings: Buffer,
    batch: Buffer,
    product: Buffer,
    quantize: (Rc<Kernel>, wgpu::BindGroup),
    centroid_scores: (Rc<Kernel>, wgpu::BindGroup),
    pieces: Vec<(Rc<Kernel>, wgpu::BindGroup)>,
    /// Bound above.
    _scratch: Vec<Buffer>,
}

/// Scores of every document, and what else came back with them.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuScores {
    /// `[n_query_tokens, dim]`, row-major.
    pub embeddings: Vec<f32>,
    /// `[n_documents]`: MaxSim; a document without tokens has [`EMPTY_DOCUMENT`].
    pub scores: Vec<f32>,
    /// Milliseconds on the GPU, where timestamps are measured.
    pub gpu_ms: Option<f64>,
}

/// `Maxsim` of `maxsim.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
struct MaxsimShape {
    n_query: u32,
    stride: u32,
    query_pitch: u32,
    columns: u32,
    n_documents: u32,
    first_document: u32,
    step: f32,
    unused: u32,
}

const _: () = assert!(size_of::<MaxsimShape>() == 32);

impl GpuIndex {
    /// The index on the device, with the pipelines of a query compiled.
    ///
    /// # Errors
    /// [`GpuError::Unsupported`] for an odd width, [`GpuError::Shape`] for parts that do not fit together, [`GpuError::TooLarge`],
    /// [`GpuError::OutOfMemory`], [`GpuError::Validation`], [`GpuError::Lost`].
    pub async fn load(gpu: &Gpu, parts: IndexParts<'_>) -> Result<Self, GpuError> {
        Self::load_cut(gpu, parts, gpu.info().binding_bytes).await
    }

    /// [`Self::load`] with pieces of at most `piece_bytes`.
    pub(crate) async fn load_cut(
        gpu: &Gpu,
        parts: IndexParts<'_>,
        piece_bytes: u64,
    ) -> Result<Self, GpuError> {
        let index = gpu.checked("loading the index", || Self::build(gpu, parts, piece_bytes)).await?;
        gpu.checked("compiling MaxSim", || index.query(32).map(|_| ())).await?;
        Ok(index)
    }

    fn build(gpu: &Gpu, parts: IndexParts<'_>, piece_bytes: u64) -> Result<Self, GpuError> {
        let IndexParts { dim, centroids, add_centroid, table, codebooks, tokens, documents } = parts;
        if dim == 0 || dim > MAX_DIM || !dim.is_multiple_of(4) {
            let found = dim.to_string();
            return Err(GpuError::Unsupported { what: "dim", found, expected: "multiples of 4 up to 512" });
        }
        let n_tokens = tokens.codes.len();
        let shape = |what, found, expected| {
            if found == expected { Ok(()) } else { Err(GpuError::Shape { what, found, expected }) }
        };
        let n_centroids = centroids.len() / dim;
        let row_bytes = table.packing.row_bytes(dim);
        shape("the length of centroids", centroids.len(), n_centroids * dim)?;
        let codebook_length = match table.packing {
            Packing::Product { bytes } if bytes == 0 || usize::from(bytes) > dim => {
                return Err(GpuError::Shape {
                    what: "the codewords of a token",
                    found: bytes.into(),
                    expected: dim,
                });
            }
            Packing::Product { bytes } => {
                let bytes = usize::from(bytes);
                bytes * 256 * Packing::run_width(bytes, dim)
            }
            _ => 0,
        };
        shape("the length of codebooks", codebooks.len(), codebook_length)?;
        shape("the length of residuals", tokens.residuals.len(), n_tokens * row_bytes)?;
        shape("the length of inverse norms", tokens.inverse_norms.len(), n_tokens)?;
        let mut end = 0;
        for document in documents {
            shape("the first token of a document", document.start as usize, end)?;
            if document.end < document.start {
                shape("the last token of a document", document.end as usize, end)?;
            }
            end = document.end as usize;
        }
        shape("the last token of the last document", end, n_tokens)?;
        if let Some(&code) = tokens.codes.iter().find(|&&code| usize::from(code) >= n_centroids) {
            return Err(GpuError::Shape {
                what: "a centroid code",
                found: code.into(),
                expected: n_centroids.saturating_sub(1),
            });
        }
        // Residuals of a token are whole words; the token's code and norm take eight bytes.
        let pitch = row_bytes.next_multiple_of(4);
        let token_bytes = pitch.max(8) as u64;
        let mut pieces = Vec::new();
        let mut first = 0;
        let mut n_bytes = 0;
        while first < documents.len() {
            let start = documents[first].start;
            let fits = |d: &TokenRange| u64::from(d.end - start) * token_bytes <= piece_bytes;
            let room = (piece_bytes / 4 - 1).min(1 << 30) as usize;
            let n = documents[first..].iter().take(room).take_while(|d| fits(d)).count();
            if n == 0 {
                let found = u64::from(documents[first].end - start) * token_bytes;
                return Err(GpuError::TooLarge { what: "one document", found, most: piece_bytes });
            }
            let piece = &documents[first..first + n];
            let range = start as usize..piece[n - 1].end as usize;
            let packed =
                repitch(&tokens.residuals[range.start * row_bytes..range.end * row_bytes], row_bytes, pitch);
            let meta: Vec<[u32; 2]> = tokens.codes[range.clone()]
                .iter()
                .zip(&tokens.inverse_norms[range])
                .map(|(&code, norm)| [code.into(), norm.to_bits()])
                .collect();
            let offsets: Vec<u32> = core::iter::once(0).chain(piece.iter().map(|d| d.end - start)).collect();
            n_bytes += (packed.len() + 8 * meta.len() + 4 * offsets.len()) as u64;
            pieces.push(Piece {
                residuals: gpu.upload("residuals", &packed)?,
                tokens: gpu.upload("token codes", &meta)?,
                offsets: gpu.upload("document offsets", &offsets)?,
                uniform: gpu.uniform(&MaxsimShape::default()),
                first_document: first,
                n_documents: n,
            });
            first += n;
        }
        let (bytes, codebooks) = match table.packing {
            Packing::Product { bytes } => {
                (vec![0; 256 * 8], by_dimension(codebooks, usize::from(bytes), dim))
            }
            packing => (by_byte(packing, &table.ints), vec![0; 16]),
        };
        Ok(Self {
            gpu: gpu.clone(),
            dim,
            step: table.step,
            kernel: shaders::maxsim(dim / 4, table.packing, pitch / 4, add_centroid),
            n_documents: documents.len(),
            n_centroids,
            empty: n_tokens == 0,
            centroids: gpu.upload("centroids", centroids)?,
            bytes: {
                let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
                let buffer = gpu.buffer(2048, usage);
                gpu.write(&buffer, &bytes);
                buffer
            },
            codebooks: gpu.upload("codebooks", &codebooks)?,
            pieces,
            scores: gpu.storage("scores", documents.len() as u64 * 4)?,
            n_bytes: n_bytes + 4 * centroids.len() as u64,
            query: RefCell::default(),
        })
    }

    /// Documents.
    pub fn n_documents(&self) -> usize {
        self.n_documents
    }

    /// Bytes that the index takes on the device.
    pub fn memory_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Pieces that the index is cut into.
    pub fn n_pieces(&self) -> usize {
        self.pieces.len()
    }

    /// The device that this runs on.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// MaxSim of every document for `query_embeddings [n_query_tokens, dim]`.
    ///
    /// # Errors
    /// [`GpuError::Shape`]; [`GpuError::TooLarge`] when the centroid scores of so long a query fit no binding; [`GpuError::Lost`],
    /// [`GpuError::OutOfMemory`], [`GpuError::Validation`].
    pub async fn score(&self, query_embeddings: &[f32]) -> Result<GpuScores, GpuError> {
        let n_query = query_embeddings.len() / self.dim;
        if query_embeddings.len() != n_query * self.dim {
            let expected = n_query * self.dim;
            let found = query_embeddings.len();
            return Err(GpuError::Shape { what: "the length of query embeddings", found, expected });
        }
        if n_query == 0 || self.empty {
            return Ok(self.nothing(query_embeddings.to_vec()));
        }
        let query = self.query(n_query)?;
        self.gpu.write(&query.embeddings, query_embeddings);
        let mut submission = self.gpu.begin();
        self.record(&mut submission, &query, n_query)?;
        let bytes = self.n_documents as u64 * 4;
        let answer = submission.finish("scoring", &[(&self.scores, bytes)]).await?;
        Ok(GpuScores {
            embeddings: query_embeddings.to_vec(),
            scores: bytemuck::pod_collect_to_vec(&answer.bytes),
            gpu_ms: answer.gpu_ms,
        })
    }

    /// Encodes a query and scores every document with it, in one submission with one read-back: embeddings and scores.
    ///
    /// # Errors
    /// As [`GpuEncoder::encode`] and [`Self::score`]; [`GpuError::Shape`] when encoder and index have different widths or devices.
    pub async fn search(&self, encoder: &GpuEncoder, text: GpuText<'_>) -> Result<GpuScores, GpuError> {
        encoder.check(&text)?;
        if encoder.dim() != self.dim {
            let (found, expected) = (encoder.dim(), self.dim);
            return Err(GpuError::Shape { what: "the width of the encoder's embeddings", found, expected });
        }
        let n_query = text.n_kept();
        if n_query == 0 || self.empty {
            let encoded = encoder.encode(&[text], true).await?;
            return Ok(self.nothing(encoded.texts.into_iter().flatten().collect()));
        }
        let query = self.query(n_query)?;
        let mut submission = self.gpu.begin();
        let ready = encoder.record(&mut submission, &[text], true)?;
        let embedding_bytes = (n_query * self.dim) as u64 * 4;
        submission.copy(&ready.embeddings, &query.embeddings, embedding_bytes);
        self.record(&mut submission, &query, n_query)?;
        let results = [(&ready.embeddings, embedding_bytes), (&self.scores, self.n_documents as u64 * 4)];
        let answer = submission.finish("searching", &results).await?;
        let (embeddings, scores) = answer.bytes.split_at(embedding_bytes as usize);
        let embeddings: Vec<f32> = bytemuck::pod_collect_to_vec(embeddings);
        check_finite(&embeddings, self.dim)?;
        Ok(GpuScores { embeddings, scores: bytemuck::pod_collect_to_vec(scores), gpu_ms: answer.gpu_ms })
    }

    /// The answer to a query without tokens, or over documents without tokens.
    fn nothing(&self, embeddings: Vec<f32>) -> GpuScores {
        let score = if self.empty { EMPTY_DOCUMENT } else { 0.0 };
        GpuScores { embeddings, scores: vec![score; self.n_documents], gpu_ms: None }
    }

    fn record(&self, submission: &mut Submission<'_>, query: &Query, n_query: usize) -> Result<(), GpuError> {
        let stride = n_query.next_multiple_of(4);
        let batch = Batch { n_rows: n_query as u32, n_kept: n_query as u32, weigh: 0, unused: 0 };
        self.gpu.write(&query.batch, &[batch]);
        let product = GemmF32 {
            m: self.n_centroids as u32,
            n: n_query as u32,
            k4: self.dim as u32 / 4,
            stride4: stride as u32 / 4,
            ..GemmF32::default()
        };
        self.gpu.write(&query.product, &[product]);
        for piece in &self.pieces {
            let shape = MaxsimShape {
                n_query: n_query as u32,
                stride: stride as u32,
                query_pitch: act_bytes(self.dim) as u32 / 4,
                columns: plan::maxsim_columns(n_query),
                n_documents: piece.n_documents as u32,
                first_document: piece.first_document as u32,
                step: self.step,
                unused: 0,
            };
            self.gpu.write(&piece.uniform, &[shape]);
        }
        submission.pass(|pass| {
            let mut dispatch = |(kernel, bindings): &(Rc<Kernel>, wgpu::BindGroup), x: u32, y: u32| {
                pass.set_pipeline(&kernel.pipeline);
                pass.set_bind_group(0, bindings, &[]);
                pass.dispatch_workgroups(x, y, 1);
            };
            dispatch(&query.quantize, n_query as u32, 1);
            let (n, m) = (n_query as u32, self.n_centroids as u32);
            dispatch(&query.centroid_scores, n.div_ceil(32), m.div_ceil(32));
            for (piece, bound) in self.pieces.iter().zip(&query.pieces) {
                let [x, y] = plan::maxsim_workgroups(piece.n_documents as u32);
                dispatch(bound, x, y);
            }
        });
        Ok(())
    }

    /// Buffers for a query of `n_query` tokens.
    fn query(&self, n_query: usize) -> Result<Rc<Query>, GpuError> {
        if n_query > MAX_QUERY_TOKENS {
            return Err(GpuError::Shape {
                what: "the number of query tokens",
                found: n_query,
                expected: MAX_QUERY_TOKENS,
            });
        }
        let mut held = self.query.borrow_mut();
        if let Some(query) = held.as_ref().filter(|query| query.capacity >= n_query) {
            return Ok(Rc::clone(query));
        }
        let capacity = n_query.next_power_of_two().max(32);
        let gpu = &self.gpu;
        let pitch = act_bytes(self.dim);
        let embeddings = gpu.storage("query embeddings", (capacity * self.dim) as u64 * 4)?;
        let ints = gpu.storage("query integers", (capacity * pitch) as u64)?;
        let scales = gpu.storage("query scales", capacity as u64 * 4)?;
        let table = gpu.storage("centroid scores", (self.n_centroids * capacity) as u64 * 4)?;
        let none = gpu.storage("nothing", 16)?;
        let unwritten = gpu.storage("nothing", 16)?;
        let batch = gpu.uniform(&Batch::default());
        let product = gpu.uniform(&GemmF32::default());
        let width = RowShape { width4: self.dim as u32 / 4, pitch4: pitch as u32 / 4, ..RowShape::default() };
        let width = gpu.uniform(&width);
        let quantize = gpu.kernel(&shaders::rows(RowSource::Plain, false, false, true));
        let quantize_bound =
            gpu.bind(&quantize, &[&width, &batch, &embeddings, &none, &none, &unwritten, &ints, &scales]);
        let gemm = gpu.kernel(&shaders::gemm_f32());
        let gemm_bound = gpu.bind(&gemm, &[&product, &batch, &self.centroids, &embeddings, &none, &table]);
        let maxsim = gpu.kernel(&self.kernel);
        let pieces = self
            .pieces
            .iter()
            .map(|piece| {
                let bound = gpu.bind(
                    &maxsim,
                    &[
                        &piece.uniform,
                        &self.bytes,
                        &piece.residuals,
                        &piece.tokens,
                        &piece.offsets,
                        &ints,
                        &scales,
                        &table,
                        &self.codebooks,
                        &self.scores,
                    ],
                );
                (Rc::clone(&maxsim), bound)
            })
            .collect();
        let query = Rc::new(Query {
            capacity,
            embeddings,
            batch,
            product,
            quantize: (quantize, quantize_bound),
            centroid_scores: (gemm, gemm_bound),
            pieces,
            _scratch: vec![ints, scales, table, none, unwritten, width],
        });
        *held = Some(Rc::clone(&query));
        Ok(query)
    }
}

/// `[256, 8]`: the integers of every byte, the rest 0.
fn by_byte(packing: Packing, ints: &[i8; 16]) -> Vec<i8> {
    let n = packing.values_per_byte();
    let mut out = vec![0; 256 * 8];
    for (byte, decoded) in (0..=255_u8).zip(out.chunks_exact_mut(8)) {
        for (i, value) in decoded.iter_mut().enumerate().take(n) {
            *value = ints[usize::from(packing.level(byte, i))];
        }
    }
    out
}

/// Codebooks `[bytes, 256, width]` as `[dim, 256]`: what each codeword stands for in a dimension.
fn by_dimension(codebooks: &[i8], bytes: usize, dim: usize) -> Vec<i8> {
    let width = Packing::run_width(bytes, dim);
    let mut out = Vec::with_capacity(dim * 256);
    for run in 0..bytes {
        let start = run_start(run, bytes, dim);
        for i in 0..run_start(run + 1, bytes, dim) - start {
            out.extend((0..256).map(|code| codebooks[(run * 256 + code) * width + i]));
        }
    }
    out
}

/// Rows of `from` bytes as rows of `to` bytes, filled up with zeros.
fn repitch(rows: &[u8], from: usize, to: usize) -> Vec<u8> {
    if from == to {
        return rows.to_vec();
    }
    let mut out = vec![0; rows.len() / from * to];
    for (row, out) in rows.chunks_exact(from).zip(out.chunks_exact_mut(to)) {
        out[..from].copy_from_slice(row);
    }
    out
}
