//! What needs a model: its files, searches by meaning, and what a GPU takes from the engine and gives back.

use crate::engine::{
    Engine, RequiredFile, answer, needed, not_loaded, now, object, plain, read_filters, read_sort,
};
use crate::error::Failure;
use js_sys::{Array, Float32Array, Int8Array, Uint8Array, Uint16Array, Uint32Array};
use shirube_core::Role;
use shirube_format::bundle::ModelRef;
use shirube_format::model::FileEntry;
use shirube_retriever::{
    BundleLoader, Computed, IndexSearchOptions, Kernels, ModelLoader, RetrieverError, SearchMode,
    SearchOptions,
};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
impl Engine {
    /// Takes the model's `manifest.json`; returns the files to provide, `[{path, bytes, sha256}]`.
    ///
    /// # Errors
    /// Also `MODEL_MISMATCH`, when the bundle's entry is here already and names another model.
    #[wasm_bindgen(js_name = openModel)]
    pub fn open_model(&mut self, manifest: &[u8]) -> Result<JsValue, JsValue> {
        let loader = ModelLoader::new(manifest).map_err(Failure::from)?;
        check_pair(self.bundle.as_ref(), Some(&loader))?;
        let required = required(loader.required())?;
        self.model = Some(loader);
        Ok(required)
    }

    /// Takes one file of the model. A refused file can be provided again.
    ///
    /// # Errors
    /// When its length or SHA-256 is not the manifest's.
    #[wasm_bindgen(js_name = provideModel)]
    pub fn provide_model(&mut self, path: &str, bytes: Vec<u8>) -> Result<(), JsValue> {
        let loader = self
            .model
            .as_mut()
            .ok_or_else(|| Failure::bad_argument("openModel comes before provideModel"))?;
        Ok(loader.provide(path, bytes).map_err(Failure::from)?)
    }

    /// The shards of codes to provide, `[{path, start, end, fileBytes}]`, each whole; none where the codes stay on their host.
    ///
    /// # Errors
    /// Before the directory of the codes was provided.
    #[wasm_bindgen(js_name = codeShards)]
    pub fn code_shards(&self) -> Result<JsValue, JsValue> {
        let loader = self
            .bundle
            .as_ref()
            .ok_or_else(|| Failure::bad_argument("openBundle comes before codeShards"))?;
        let shards = if self.lazy { Vec::new() } else { loader.code_shards().map_err(Failure::from)? };
        needed(&shards)
    }

    /// Takes one shard of codes. A refused one can be provided again.
    ///
    /// # Errors
    /// When its content is not what its name says.
    #[wasm_bindgen(js_name = provideCodes)]
    pub fn provide_codes(&mut self, path: &str, bytes: Vec<u8>) -> Result<(), JsValue> {
        let loader = self
            .bundle
            .as_mut()
            .ok_or_else(|| Failure::bad_argument("openBundle comes before provideCodes"))?;
        Ok(loader.provide_shard(path, bytes).map_err(Failure::from)?)
    }

    /// Builds encoder and index from what was provided; searches by meaning can begin.
    ///
    /// # Errors
    /// When a file is missing or its content does not fit; searches by words go on.
    pub fn finish(&mut self) -> Result<(), JsValue> {
        if self.loaded.is_none() {
            self.open()?;
        }
        let (Some(model), Some(bundle)) = (self.model.take(), self.bundle.take()) else {
            return Err(Failure::bad_argument("openModel and openBundle come before finish").into());
        };
        let loaded = self.loaded.as_mut().ok_or_else(not_loaded)?;
        loaded.model_bytes = model.required().iter().map(|file| file.bytes).sum();
        loaded.license = model.manifest().license.clone();
        let kernels = Kernels::detect();
        let model = model.finish(kernels).map_err(Failure::from)?;
        if self.lazy {
            let index = bundle.lazy_index(kernels).map_err(Failure::from)?;
            loaded.retriever.attach(model, index, kernels).map_err(Failure::from)?;
        } else {
            let index = bundle.index(kernels).map_err(Failure::from)?;
            loaded.retriever.attach(model, index, kernels).map_err(Failure::from)?;
        }
        Ok(())
    }

    /// The best sections for `query` by words and meaning, or what is needed for that; offsets count UTF-16 code units. `lexical_weight` is how much
    /// words count beside meaning, 0 to 10. With `exact` every section is scored exactly, of a large index too.
    ///
    /// # Errors
    /// `EMPTY_QUERY`, `BAD_ARGUMENT`.
    pub fn search(
        &mut self,
        query: &str,
        limit: usize,
        lexical_weight: f32,
        filters: JsValue,
        sort: JsValue,
        exact: bool,
    ) -> Result<JsValue, JsValue> {
        let loaded = self.loaded.as_mut().ok_or_else(not_loaded)?;
        let options = SearchOptions {
            limit,
            lexical_weight,
            filters: read_filters(filters)?,
            sort: read_sort(sort)?,
            mode: if exact { SearchMode::Exact } else { SearchMode::Auto },
            ..SearchOptions::default()
        };
        let computed =
            loaded.computed.take().filter(|(known, _)| known == query).map(|(_, computed)| computed);
        answer(loaded.retriever.search_computed(query, &options, computed, &now))
    }

    /// `query` as the encoder reads it, for a GPU: `{ids: Uint32Array, keep: Uint8Array, nAttended}`.
    ///
    /// # Errors
    /// `EMPTY_QUERY`, `BAD_ARGUMENT`.
    #[wasm_bindgen(js_name = queryInput)]
    pub fn query_input(&self, query: &str) -> Result<JsValue, JsValue> {
        let loaded = self.loaded.as_ref().ok_or_else(not_loaded)?;
        let input = loaded.retriever.query_input(query).map_err(Failure::from)?;
        let keep: Vec<u8> = input.keep.iter().map(|&keep| u8::from(keep)).collect();
        object(&[
            ("ids", Uint32Array::from(input.ids.as_slice()).into()),
            ("keep", Uint8Array::from(keep.as_slice()).into()),
            ("nAttended", (input.n_attended() as f64).into()),
        ])
    }

    /// The index, for a GPU: `{dim, centroids, addCentroid, table, step, valuesPerByte, codebooks, rowBytes, codes, residuals, inverseNorms,
    /// offsets}`; arrays are copies.
    ///
    /// # Errors
    /// Before `finish`.
    #[wasm_bindgen(js_name = indexParts)]
    pub fn index_parts(&self) -> Result<JsValue, JsValue> {
        let loaded = self.loaded.as_ref().ok_or_else(not_loaded)?;
        let index = loaded.retriever.index().ok_or_else(no_model)?;
        let (tokens, documents) = index.compressed();
        let table = index.scorer().codec().residual_table();
        let offsets: Vec<u32> =
            core::iter::once(0).chain(documents.iter().map(|document| document.end)).collect();
        object(&[
            ("dim", (index.dim() as f64).into()),
            ("centroids", Float32Array::from(index.tables().centroids.as_slice()).into()),
            ("addCentroid", index.tables().add_centroid.into()),
            ("table", Int8Array::from(&table.ints[..]).into()),
            ("step", f64::from(table.step).into()),
            ("valuesPerByte", (table.packing.values_per_byte() as f64).into()),
            ("codebooks", Int8Array::from(index.tables().codebooks.as_slice()).into()),
            ("rowBytes", (table.packing.row_bytes(index.dim()) as f64).into()),
            ("codes", Uint16Array::from(tokens.codes).into()),
            ("residuals", Uint8Array::from(tokens.residuals).into()),
            ("inverseNorms", Float32Array::from(tokens.inverse_norms).into()),
            ("offsets", Uint32Array::from(offsets.as_slice()).into()),
        ])
    }

    /// MaxSim of every document on the CPU, for query embeddings `[n_query_tokens, dim]`: what a GPU's scores are held against.
    ///
    /// # Errors
    /// Before `finish`; `BAD_ARGUMENT`.
    #[wasm_bindgen(js_name = scoreAll)]
    pub fn score_all(&self, embeddings: &[f32]) -> Result<Vec<f32>, JsValue> {
        let loaded = self.loaded.as_ref().ok_or_else(not_loaded)?;
        let index = loaded.retriever.index().ok_or_else(no_model)?;
        let score = || index.score_all(&index.prepare(embeddings)?);
        Ok(score().map_err(|error| Failure::from(RetrieverError::from(error)))?)
    }

    /// The documents with the highest MaxSim, best first, by the stages that a search takes on the CPU: what a GPU's time is held against.
    ///
    /// # Errors
    /// Before `finish`; `BAD_ARGUMENT`.
    #[wasm_bindgen(js_name = scoreBest)]
    pub fn score_best(&self, embeddings: &[f32]) -> Result<Vec<u32>, JsValue> {
        let loaded = self.loaded.as_ref().ok_or_else(not_loaded)?;
        let index = loaded.retriever.index().ok_or_else(no_model)?;
        let search = || index.search_with(&index.prepare(embeddings)?, &IndexSearchOptions::default());
        let found = search().map_err(|error| Failure::from(RetrieverError::from(error)))?;
        Ok(found.hits.iter().map(|hit| hit.document.0).collect())
    }

    /// Takes what a GPU computed for `query`: a `search` for it that comes next uses that. Without `scores` they are computed here.
    ///
    /// # Errors
    /// Before `finish`.
    pub fn precompute(
        &mut self,
        query: &str,
        embeddings: Vec<f32>,
        scores: Option<Vec<f32>>,
        encode_ms: f64,
        score_ms: f64,
    ) -> Result<(), JsValue> {
        let loaded = self.loaded.as_mut().ok_or_else(not_loaded)?;
        let computed = Computed { embeddings, maxsim: scores, encode_ms, score_ms };
        loaded.computed = Some((query.to_owned(), computed));
        Ok(())
    }

    /// The token embeddings of `text`: `{dims: [n_tokens, dim], data: Float32Array}`. `role` is `query` or `document`.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` for another role.
    pub fn encode(&mut self, text: &str, role: &str) -> Result<JsValue, JsValue> {
        let role = read_role(role)?;
        let loaded = self.loaded.as_mut().ok_or_else(not_loaded)?;
        let dim = loaded.retriever.status().dim;
        embeddings_of(&loaded.retriever.encode(text, role).map_err(Failure::from)?, dim)
    }
}

/// Refuses a pair that cannot work as soon as both manifests are here, before anything large is fetched.
pub(crate) fn check_pair(bundle: Option<&BundleLoader>, model: Option<&ModelLoader>) -> Result<(), Failure> {
    let (Some(bundle), Some(model)) = (bundle, model) else { return Ok(()) };
    Ok(bundle.entry().model.check(&ModelRef::of(model.manifest()))?)
}

fn no_model() -> Failure {
    RetrieverError::NoModel.into()
}

pub(crate) fn read_role(role: &str) -> Result<Role, Failure> {
    match role {
        "query" => Ok(Role::Query),
        "document" => Ok(Role::Document),
        _ => Err(Failure::bad_argument(format!("role is {role:?}, expected query or document"))),
    }
}

/// `{dims, data}` of embeddings `[n_tokens, dim]`.
pub(crate) fn embeddings_of(embeddings: &[f32], dim: usize) -> Result<JsValue, JsValue> {
    let n_tokens = embeddings.len() / dim.max(1);
    object(&[
        ("dims", Array::of2(&(n_tokens as f64).into(), &(dim as f64).into()).into()),
        ("data", Float32Array::from(embeddings).into()),
    ])
}

pub(crate) fn required(files: &[FileEntry]) -> Result<JsValue, JsValue> {
    plain(&files.iter().map(RequiredFile::of).collect::<Vec<_>>())
}
