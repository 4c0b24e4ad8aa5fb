//! Model files to embeddings.

use crate::error::{js, parse};
use shirube_core::Role;
use shirube_retriever::{Kernels, Model, ModelLoader};
use wasm_bindgen::prelude::*;

/// A model's files on their way in.
#[wasm_bindgen]
#[derive(Debug)]
pub struct ModelFiles(ModelLoader);

#[wasm_bindgen]
impl ModelFiles {
    /// From the content of `manifest.json`.
    ///
    /// # Errors
    /// For a manifest that is not understood.
    #[wasm_bindgen(constructor)]
    pub fn new(manifest: &[u8]) -> Result<Self, JsError> {
        console_error_panic_hook::set_once();
        Ok(Self(ModelLoader::new(manifest).map_err(js)?))
    }

    /// Names of the files to provide.
    pub fn required(&self) -> Vec<String> {
        self.0.required().iter().map(|file| file.path.clone()).collect()
    }

    /// Bytes of these files.
    pub fn bytes(&self) -> f64 {
        self.0.required().iter().map(|file| file.bytes as f64).sum()
    }

    /// Takes one of them, checked by length and digest.
    ///
    /// # Errors
    /// When it is not what the manifest says.
    pub fn provide(&mut self, path: &str, bytes: Vec<u8>) -> Result<(), JsError> {
        self.0.provide(path, bytes).map_err(js)
    }

    /// The encoder.
    ///
    /// # Errors
    /// When a file is missing or the model is refused.
    pub fn finish(self) -> Result<Encoder, JsError> {
        Ok(Encoder(self.0.finish(Kernels::detect()).map_err(js)?))
    }
}

/// A loaded model.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Encoder(pub(crate) Model);

/// Embeddings of a batch.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Encoded {
    embeddings: Vec<f32>,
    lengths: Vec<u32>,
    truncated: Vec<u8>,
}

#[wasm_bindgen]
impl Encoded {
    /// Token embeddings of all sections, one after the other.
    #[wasm_bindgen(getter)]
    pub fn embeddings(&self) -> Vec<f32> {
        self.embeddings.clone()
    }

    /// Token embeddings of each section.
    #[wasm_bindgen(getter)]
    pub fn lengths(&self) -> Vec<u32> {
        self.lengths.clone()
    }

    /// For each section, 1 where it was longer than the model reads.
    #[wasm_bindgen(getter)]
    pub fn truncated(&self) -> Vec<u8> {
        self.truncated.clone()
    }
}

#[wasm_bindgen]
impl Encoder {
    /// Embeddings of a batch: JSON `[[id, text], …]` of [`Build::batch`](crate::Build::batch).
    ///
    /// # Errors
    /// When the encoder fails, with the section's id.
    pub fn encode(&mut self, batch: &str) -> Result<Encoded, JsError> {
        let batch: Vec<(String, String)> = parse("a batch", batch).map_err(js)?;
        let mut encoded = Encoded { embeddings: Vec::new(), lengths: Vec::new(), truncated: Vec::new() };
        for (id, text) in batch {
            let input = self.0.prepare(&text, Role::Document);
            let embeddings =
                self.0.encode(&input).map_err(|source| js(shirube_site::SiteError::Encode { id, source }))?;
            encoded.lengths.push((embeddings.len() / self.0.dim()) as u32);
            encoded.embeddings.extend(embeddings);
            encoded.truncated.push(u8::from(input.truncated));
        }
        Ok(encoded)
    }
}
