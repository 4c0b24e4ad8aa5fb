//! A model without a bundle: sections by their nearness to a query.

use crate::engine::{ModelStatus, not_loaded, now, plain};
use crate::error::Failure;
use crate::meaning::{embeddings_of, read_role, required};
use serde::Serialize;
use shirube_retriever::{BackendChoice, Kernels, ModelLoader, SearchOptions, Section};
use wasm_bindgen::prelude::*;

/// First the model's manifest, then its files, then `finish`, then texts and sections.
#[wasm_bindgen]
#[derive(Debug, Default)]
pub struct Reranker {
    loader: Option<ModelLoader>,
    loaded: Option<shirube_retriever::Reranker>,
    bytes: u64,
}

#[derive(Serialize)]
struct Status<'a> {
    backend: BackendChoice,
    model: ModelStatus<'a>,
}

#[wasm_bindgen]
impl Reranker {
    /// Without files.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        console_error_panic_hook::set_once();
        Self::default()
    }

    /// Takes the model's `manifest.json`; returns the files to provide, `[{path, bytes, sha256}]`.
    ///
    /// # Errors
    /// `{code, message, cure}`, as everywhere in this class.
    #[wasm_bindgen(js_name = openModel)]
    pub fn open_model(&mut self, manifest: &[u8]) -> Result<JsValue, JsValue> {
        let loader = ModelLoader::new(manifest).map_err(Failure::from)?;
        let files = required(loader.required())?;
        self.bytes = loader.required().iter().map(|file| file.bytes).sum();
        self.loader = Some(loader);
        Ok(files)
    }

    /// Takes one file of the model. A refused file can be provided again.
    ///
    /// # Errors
    /// When its length or SHA-256 is not the manifest's.
    #[wasm_bindgen(js_name = provideModel)]
    pub fn provide_model(&mut self, path: &str, bytes: Vec<u8>) -> Result<(), JsValue> {
        let loader = self
            .loader
            .as_mut()
            .ok_or_else(|| Failure::bad_argument("openModel comes before provideModel"))?;
        Ok(loader.provide(path, bytes).map_err(Failure::from)?)
    }

    /// Builds the encoder from what was provided.
    ///
    /// # Errors
    /// When a file is missing or its content does not fit.
    pub fn finish(&mut self) -> Result<(), JsValue> {
        let loader =
            self.loader.take().ok_or_else(|| Failure::bad_argument("openModel comes before finish"))?;
        let kernels = Kernels::detect();
        let model = loader.finish(kernels).map_err(Failure::from)?;
        self.loaded = Some(shirube_retriever::Reranker::new(model, kernels));
        Ok(())
    }

    /// `{backend, model}`.
    ///
    /// # Errors
    /// Before `finish`.
    pub fn status(&self) -> Result<JsValue, JsValue> {
        let loaded = self.loaded.as_ref().ok_or_else(not_loaded)?;
        let manifest = loaded.model().manifest();
        plain(&Status {
            backend: loaded.backend(),
            model: ModelStatus {
                name: &manifest.name,
                license: &manifest.license,
                bytes: self.bytes,
                dim: loaded.model().dim(),
            },
        })
    }

    /// The token embeddings of `text`, as the engine gives them.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` for another role than `query` and `document`.
    pub fn encode(&mut self, text: &str, role: &str) -> Result<JsValue, JsValue> {
        let role = read_role(role)?;
        let loaded = self.loaded.as_mut().ok_or_else(not_loaded)?;
        let dim = loaded.model().dim();
        embeddings_of(&loaded.encode(text, role).map_err(Failure::from)?, dim)
    }

    /// `sections` by MaxSim to `query`, best first, in the shape of a search's results; offsets count UTF-16 code units. Embeddings of sections are kept
    /// for the next query.
    ///
    /// # Errors
    /// `EMPTY_QUERY`, `BAD_ARGUMENT`.
    pub fn rank(&mut self, query: &str, sections: JsValue, limit: usize) -> Result<JsValue, JsValue> {
        let sections: Vec<Section> = serde_wasm_bindgen::from_value(sections).map_err(|error| {
            Failure::bad_argument(format!("sections: {error}; give an array of sections"))
        })?;
        let loaded = self.loaded.as_mut().ok_or_else(not_loaded)?;
        let options = SearchOptions { limit, ..SearchOptions::default() };
        let results = loaded.rank(query, sections, &options, &now).map_err(Failure::from)?;
        plain(&results.into_utf16())
    }
}
