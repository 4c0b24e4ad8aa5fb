//! The class that the package drives.

use crate::error::{code, split};
use js_sys::{Object, Reflect};
use shirube_core::Packing;
use shirube_format::FormatError;
use shirube_format::bundle::CodecTables;
use shirube_format::model::{ModelManifest, WeightsReader};
use shirube_gpu::{Gpu, GpuEncoder, GpuError, GpuIndex, GpuOptions, GpuText, IndexParts, KernelList};
use shirube_kernels::{CompressedTokens, ResidualTable, TokenRange};
use wasm_bindgen::prelude::*;

/// Encoder and index on one GPU device.
#[wasm_bindgen]
#[derive(Debug)]
pub struct GpuEngine {
    gpu: Gpu,
    encoder: Option<GpuEncoder>,
    index: Option<GpuIndex>,
}

struct Failure(GpuError);

impl From<GpuError> for Failure {
    fn from(error: GpuError) -> Self {
        Self(error)
    }
}

impl From<FormatError> for Failure {
    fn from(error: FormatError) -> Self {
        Self(error.into())
    }
}

impl From<Failure> for JsValue {
    fn from(Failure(error): Failure) -> Self {
        let message = error.to_string();
        let (what, cure) = split(&message);
        object(&[("code", code(&error).into()), ("message", what.into()), ("cure", cure.into())])
    }
}

fn object(entries: &[(&str, JsValue)]) -> JsValue {
    let object = Object::new();
    for (key, value) in entries {
        // Setting a property of a fresh plain object cannot fail.
        let _ = Reflect::set(&object, &(*key).into(), value);
    }
    object.into()
}

fn not_loaded(what: &'static str) -> Failure {
    Failure(GpuError::Shape { what, found: 0, expected: 1 })
}

#[wasm_bindgen]
impl GpuEngine {
    /// A device of the best adapter. `allow_software` lets an adapter through that is a program on the CPU: for tests.
    ///
    /// # Errors
    /// `GPU_UNAVAILABLE`, `GPU_SOFTWARE`.
    pub async fn create(allow_software: bool) -> Result<GpuEngine, JsValue> {
        let mut options = GpuOptions::default();
        options.allow_software = allow_software;
        let gpu = Gpu::new(&options).await.map_err(Failure::from)?;
        Ok(Self { gpu, encoder: None, index: None })
    }

    /// `{name, software, extensions}` of the adapter and of what is used of it: `packed-dot`, `subgroups`, `f16`.
    pub fn info(&self) -> JsValue {
        let info = self.gpu.info();
        let extensions: js_sys::Array = info.extensions.names().into_iter().map(JsValue::from).collect();
        object(&[
            ("name", info.name.as_str().into()),
            ("software", info.software.into()),
            ("extensions", extensions.into()),
        ])
    }

    /// The browser's `GPUDevice`.
    pub fn device(&self) -> JsValue {
        self.gpu.web_device()
    }

    /// What queries need of a model with this `manifest.json` and of an index with these codec tables (`centroids.*.bin`), either of which may not be
    /// here yet: `{name, code, bindings}` of each kernel, to be compiled by `createComputePipelineAsync`; then comes `compile`.
    ///
    /// # Errors
    /// `GPU_UNSUPPORTED`, `ASSET_DAMAGED`.
    pub fn kernels(&self, manifest: Option<Vec<u8>>, tables: Option<Vec<u8>>) -> Result<JsValue, JsValue> {
        let list = self.list(manifest, tables)?;
        let texts = list.texts(&self.gpu).into_iter().map(|kernel| {
            let bindings: js_sys::Array = kernel.bindings.into_iter().map(JsValue::from).collect();
            object(&[
                ("name", kernel.name.into()),
                ("code", kernel.code.into()),
                ("bindings", bindings.into()),
            ])
        });
        Ok(texts.collect::<js_sys::Array>().into())
    }

    /// Compiles what `kernels` told.
    ///
    /// # Errors
    /// As `kernels`; `GPU_MEMORY`, `GPU_LOST`, `GPU_REFUSED`.
    pub async fn compile(&self, manifest: Option<Vec<u8>>, tables: Option<Vec<u8>>) -> Result<(), JsValue> {
        let list = self.list(manifest, tables)?;
        Ok(self.gpu.compile(&list).await.map_err(Failure::from)?)
    }

    fn list(&self, manifest: Option<Vec<u8>>, tables: Option<Vec<u8>>) -> Result<KernelList, Failure> {
        let mut list = KernelList::default();
        if let Some(manifest) = manifest {
            list = list.and(KernelList::of_encoder(&self.gpu, &ModelManifest::parse(&manifest)?)?);
        }
        if let Some(tables) = tables {
            let tables = CodecTables::parse("centroids", &tables)?;
            list = list.and(KernelList::of_index(tables.dim, tables.packing, tables.add_centroid));
        }
        Ok(list)
    }

    /// Puts a model on the device: its `manifest.json`, and its weight files as names and contents.
    ///
    /// # Errors
    /// `GPU_UNSUPPORTED` for a model that these kernels do not run, `GPU_MEMORY`, `GPU_LOST`, `GPU_REFUSED`, `ASSET_DAMAGED`.
    #[wasm_bindgen(js_name = loadModel)]
    pub async fn load_model(
        &mut self,
        manifest: Vec<u8>,
        names: Vec<String>,
        contents: Vec<js_sys::Uint8Array>,
    ) -> Result<(), JsValue> {
        let load = async {
            let manifest = ModelManifest::parse(&manifest)?;
            let mut reader = WeightsReader::default();
            // One file at a time: all of them at once would be the whole model once more.
            for (name, content) in names.iter().zip(&contents) {
                reader.add(name, &content.to_vec())?;
            }
            let weights = reader.finish()?;
            Ok::<_, Failure>(GpuEncoder::load(&self.gpu, &manifest, &weights).await?)
        };
        self.encoder = Some(load.await?);
        Ok(())
    }

    /// Puts an index on the device. `offsets [n_documents + 1]` are tokens before each document; `table [16]`, `step` and `values_per_byte` say
    /// what residuals stand for; with one value a byte they are codewords of `codebooks`, `row_bytes` a token.
    ///
    /// # Errors
    /// `GPU_UNSUPPORTED`, `GPU_MEMORY`, `GPU_LOST`, `GPU_REFUSED`, `BAD_ARGUMENT`.
    #[wasm_bindgen(js_name = loadIndex)]
    #[allow(
        clippy::too_many_arguments,
        reason = "one argument an array: an object would be copied field by field"
    )]
    pub async fn load_index(
        &mut self,
        dim: usize,
        centroids: Vec<f32>,
        add_centroid: bool,
        table: Vec<i8>,
        step: f32,
        values_per_byte: usize,
        codebooks: Vec<i8>,
        row_bytes: usize,
        codes: Vec<u16>,
        residuals: Vec<u8>,
        inverse_norms: Vec<f32>,
        offsets: Vec<u32>,
    ) -> Result<(), JsValue> {
        let ints: [i8; 16] = table.as_slice().try_into().map_err(|_| {
            Failure(GpuError::Shape { what: "the length of table", found: table.len(), expected: 16 })
        })?;
        let codewords = u8::try_from(row_bytes).ok().map(|bytes| Packing::Product { bytes });
        let packing =
            Packing::ALL.into_iter().chain(codewords).find(|p| p.values_per_byte() == values_per_byte);
        let packing = packing.ok_or_else(|| {
            let found = values_per_byte.to_string();
            Failure(GpuError::Unsupported { what: "values a byte", found, expected: "1, 2, 4, 5 or 8" })
        })?;
        let documents: Vec<TokenRange> =
            offsets.windows(2).map(|w| TokenRange { start: w[0], end: w[1] }).collect();
        let parts = IndexParts {
            dim,
            centroids: &centroids,
            add_centroid,
            table: ResidualTable { packing, ints, step },
            codebooks: &codebooks,
            tokens: CompressedTokens { codes: &codes, residuals: &residuals, inverse_norms: &inverse_norms },
            documents: &documents,
        };
        self.index = Some(GpuIndex::load(&self.gpu, parts).await.map_err(Failure::from)?);
        Ok(())
    }

    /// Embeddings `[n_kept, dim]` of one text; `weigh` for queries.
    ///
    /// # Errors
    /// `GPU_LOST` and the other codes of the GPU, `BAD_ARGUMENT`.
    pub async fn encode(
        &self,
        ids: Vec<u32>,
        keep: Vec<u8>,
        n_attended: usize,
        weigh: bool,
    ) -> Result<Vec<f32>, JsValue> {
        let encoder = self.encoder.as_ref().ok_or_else(|| not_loaded("the loaded models"))?;
        let keep: Vec<bool> = keep.iter().map(|&k| k != 0).collect();
        let text = GpuText { ids: &ids, keep: Some(&keep), n_attended };
        let found = encoder.encode(&[text], weigh).await.map_err(Failure::from)?;
        Ok(found.texts.into_iter().flatten().collect())
    }

    /// MaxSim of every document for query embeddings `[n_query_tokens, dim]`.
    ///
    /// # Errors
    /// As `encode`.
    pub async fn score(&self, embeddings: Vec<f32>) -> Result<Vec<f32>, JsValue> {
        let index = self.index.as_ref().ok_or_else(|| not_loaded("the loaded indexes"))?;
        Ok(index.score(&embeddings).await.map_err(Failure::from)?.scores)
    }

    /// Both in one submission with one read-back: `{embeddings, scores}`.
    ///
    /// # Errors
    /// As `encode`.
    pub async fn search(&self, ids: Vec<u32>, keep: Vec<u8>, n_attended: usize) -> Result<JsValue, JsValue> {
        let encoder = self.encoder.as_ref().ok_or_else(|| not_loaded("the loaded models"))?;
        let index = self.index.as_ref().ok_or_else(|| not_loaded("the loaded indexes"))?;
        let keep: Vec<bool> = keep.iter().map(|&k| k != 0).collect();
        let text = GpuText { ids: &ids, keep: Some(&keep), n_attended };
        let found = index.search(encoder, text).await.map_err(Failure::from)?;
        Ok(object(&[
            ("embeddings", js_sys::Float32Array::from(found.embeddings.as_slice()).into()),
            ("scores", js_sys::Float32Array::from(found.scores.as_slice()).into()),
        ]))
    }

    /// Why the device is gone, once it is.
    pub fn lost(&self) -> Option<String> {
        self.gpu.lost()
    }

    /// Destroys the device and all its buffers.
    pub fn destroy(&self) {
        self.gpu.destroy();
    }
}
