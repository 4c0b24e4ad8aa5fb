//! The class that the package drives.

use crate::error::Failure;
use js_sys::{Array, Float32Array, Int8Array, Object, Reflect, Uint8Array, Uint16Array, Uint32Array};
use serde::Serialize;
use shirube_core::Role;
use shirube_format::bundle::ModelRef;
use shirube_format::model::FileEntry;
use shirube_retriever::{
    Answer, BundleLoader, Computed, Filters, Kernels, ModelLoader, Need, Retriever, RetrieverError,
    SearchOptions,
};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance)]
    fn now() -> f64;
}

/// A bundle and a model: first the bundle's entry and directories, then `open`, then searches by words; meanwhile or later the model's manifest and
/// the files of both, then `finish`, then searches by words and meaning.
///
/// A search returns its results, or `{needs: [{path, start, end, fileBytes}]}`: fetch these bytes (or the whole files), give them to `provide`, and
/// ask again.
#[wasm_bindgen]
#[derive(Debug, Default)]
pub struct Engine {
    model: Option<ModelLoader>,
    bundle: Option<BundleLoader>,
    loaded: Option<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    retriever: Retriever,
    license: String,
    model_bytes: u64,
    /// What a GPU computed for the query that comes next.
    computed: Option<(String, Computed)>,
}

#[derive(Serialize)]
struct BundleFiles<'a> {
    words: Vec<RequiredFile<'a>>,
    meaning: Vec<RequiredFile<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Needed<'a> {
    path: &'a str,
    start: u64,
    end: u64,
    file_bytes: u64,
}

#[derive(Serialize)]
struct RequiredFile<'a> {
    path: &'a str,
    bytes: u64,
    sha256: &'a str,
}

#[derive(Serialize)]
struct Status<'a> {
    backend: &'a shirube_retriever::BackendChoice,
    model: ModelStatus<'a>,
    bundle: BundleStatus<'a>,
}

#[derive(Serialize)]
struct ModelStatus<'a> {
    name: &'a str,
    license: &'a str,
    bytes: u64,
    dim: usize,
}

#[derive(Serialize)]
struct BundleStatus<'a> {
    name: &'a str,
    bytes: u64,
    documents: usize,
    pages: u32,
    tokens: usize,
}

#[wasm_bindgen]
impl Engine {
    /// An engine without files.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        console_error_panic_hook::set_once();
        Self::default()
    }

    /// Takes `shirube.json`; returns the files to provide, `{words: [{path, bytes, sha256}], meaning: […]}`.
    ///
    /// # Errors
    /// `{code, message, cure}`, as everywhere in this class.
    #[wasm_bindgen(js_name = openBundle)]
    pub fn open_bundle(&mut self, entry: &[u8]) -> Result<JsValue, JsValue> {
        let loader = BundleLoader::new(entry).map_err(Failure::from)?;
        self.check_pair(Some(&loader), self.model.as_ref())?;
        let files = BundleFiles {
            words: loader.word_files().map(RequiredFile::of).collect(),
            meaning: loader.meaning_files().map(RequiredFile::of).collect(),
        };
        let files = plain(&files)?;
        self.bundle = Some(loader);
        Ok(files)
    }

    /// Takes the model's `manifest.json`; returns the files to provide, `[{path, bytes, sha256}]`.
    ///
    /// # Errors
    /// Also `MODEL_MISMATCH`, when the bundle's entry is here already and names another model.
    #[wasm_bindgen(js_name = openModel)]
    pub fn open_model(&mut self, manifest: &[u8]) -> Result<JsValue, JsValue> {
        let loader = ModelLoader::new(manifest).map_err(Failure::from)?;
        self.check_pair(self.bundle.as_ref(), Some(&loader))?;
        let required = required(loader.required())?;
        self.model = Some(loader);
        Ok(required)
    }

    /// Takes one file of the bundle. A refused file can be provided again.
    ///
    /// # Errors
    /// When its length or SHA-256 is not the entry's.
    #[wasm_bindgen(js_name = provideBundle)]
    pub fn provide_bundle(&mut self, path: &str, bytes: Vec<u8>) -> Result<(), JsValue> {
        let loader = self
            .bundle
            .as_mut()
            .ok_or_else(|| Failure::bad_argument("openBundle comes before provideBundle"))?;
        Ok(loader.provide(path, bytes).map_err(Failure::from)?)
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

    /// Opens the bundle's directories; searches by words can begin.
    ///
    /// # Errors
    /// When a directory is missing or its content does not fit.
    pub fn open(&mut self) -> Result<(), JsValue> {
        let bundle =
            self.bundle.as_ref().ok_or_else(|| Failure::bad_argument("openBundle comes before open"))?;
        let retriever = bundle.open().map_err(Failure::from)?;
        self.loaded = Some(Loaded { retriever, license: String::new(), model_bytes: 0, computed: None });
        Ok(())
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
        let index = bundle.index(kernels).map_err(Failure::from)?;
        loaded.retriever.attach(model, index, kernels).map_err(Failure::from)?;
        Ok(())
    }

    /// What is loaded and what it runs on.
    ///
    /// # Errors
    /// Before `open`.
    pub fn status(&self) -> Result<JsValue, JsValue> {
        let loaded = self.loaded.as_ref().ok_or_else(not_loaded)?;
        let status = loaded.retriever.status();
        plain(&Status {
            backend: &status.backend,
            model: ModelStatus {
                name: &status.model,
                license: &loaded.license,
                bytes: loaded.model_bytes,
                dim: status.dim,
            },
            bundle: BundleStatus {
                name: &status.bundle,
                bytes: loaded.retriever.entry().files.iter().map(|f| f.file.bytes + f.shard_bytes).sum(),
                documents: status.documents,
                pages: status.pages,
                tokens: status.tokens,
            },
        })
    }

    /// Takes the bytes of a shard from `start`: the range that a search needs, or the whole file.
    ///
    /// # Errors
    /// When the bytes are not what the bundle's directories promise. They can be provided again.
    pub fn provide(&mut self, path: &str, start: f64, bytes: &[u8]) -> Result<(), JsValue> {
        let loaded = self.loaded.as_mut().ok_or_else(not_loaded)?;
        Ok(loaded.retriever.provide(path, start as u64, bytes).map_err(Failure::from)?)
    }

    /// Every shard there is, `[{path, start, end, fileBytes}]`.
    ///
    /// # Errors
    /// Before `open`.
    pub fn shards(&self) -> Result<JsValue, JsValue> {
        let loaded = self.loaded.as_ref().ok_or_else(not_loaded)?;
        needed(&loaded.retriever.shards().collect::<Vec<_>>())
    }

    /// Checks the whole content of a shard without keeping it here.
    ///
    /// # Errors
    /// As `provide`.
    #[wasm_bindgen(js_name = checkShard)]
    pub fn check_shard(&self, path: &str, bytes: &[u8]) -> Result<(), JsValue> {
        let loaded = self.loaded.as_ref().ok_or_else(not_loaded)?;
        Ok(loaded.retriever.check_shard(path, bytes).map_err(Failure::from)?)
    }

    /// The best sections for the words of `query`, or what is needed for that; offsets count UTF-16 code units.
    ///
    /// # Errors
    /// `EMPTY_QUERY`, `BAD_ARGUMENT`.
    #[wasm_bindgen(js_name = searchWords)]
    pub fn search_words(&mut self, query: &str, limit: usize, filters: JsValue) -> Result<JsValue, JsValue> {
        let loaded = self.loaded.as_mut().ok_or_else(not_loaded)?;
        let options = SearchOptions { limit, filters: read_filters(filters)?, ..SearchOptions::default() };
        answer(loaded.retriever.search_words(query, &options, &now))
    }

    /// The best sections for `query` by words and meaning, or what is needed for that; offsets count UTF-16 code units. `lexical_weight` is how much
    /// words count beside meaning, 0 to 10.
    ///
    /// # Errors
    /// `EMPTY_QUERY`, `BAD_ARGUMENT`.
    pub fn search(
        &mut self,
        query: &str,
        limit: usize,
        lexical_weight: f32,
        filters: JsValue,
    ) -> Result<JsValue, JsValue> {
        let loaded = self.loaded.as_mut().ok_or_else(not_loaded)?;
        let options = SearchOptions {
            limit,
            lexical_weight,
            filters: read_filters(filters)?,
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
        let role = match role {
            "query" => Role::Query,
            "document" => Role::Document,
            _ => {
                return Err(
                    Failure::bad_argument(format!("role is {role:?}, expected query or document")).into()
                );
            }
        };
        let loaded = self.loaded.as_mut().ok_or_else(not_loaded)?;
        let dim = loaded.retriever.status().dim;
        let embeddings = loaded.retriever.encode(text, role).map_err(Failure::from)?;
        let n_tokens = embeddings.len() / dim.max(1);
        object(&[
            ("dims", Array::of2(&(n_tokens as f64).into(), &(dim as f64).into()).into()),
            ("data", Float32Array::from(embeddings.as_slice()).into()),
        ])
    }
}

impl Engine {
    /// Refuses a pair that cannot work as soon as both manifests are here, before anything large is fetched.
    fn check_pair(&self, bundle: Option<&BundleLoader>, model: Option<&ModelLoader>) -> Result<(), Failure> {
        let (Some(bundle), Some(model)) = (bundle, model) else { return Ok(()) };
        Ok(bundle.entry().model.check(&ModelRef::of(model.manifest()))?)
    }
}

fn no_model() -> Failure {
    RetrieverError::NoModel.into()
}

fn not_loaded() -> Failure {
    Failure::bad_argument("the engine is not loaded; open comes first")
}

fn answer(found: Result<Answer, RetrieverError>) -> Result<JsValue, JsValue> {
    match found.map_err(Failure::from)? {
        Answer::Results(results) => plain(&results.into_utf16()),
        Answer::Needs(needs) => object(&[("needs", needed(&needs)?)]),
    }
}

/// `{name: [value, …]}`, or nothing.
fn read_filters(filters: JsValue) -> Result<Filters, Failure> {
    if filters.is_undefined() || filters.is_null() {
        return Ok(Filters::new());
    }
    serde_wasm_bindgen::from_value(filters)
        .map_err(|error| Failure::bad_argument(format!("filters: {error}; give lists of values by name")))
}

fn needed(needs: &[Need]) -> Result<JsValue, JsValue> {
    let needs: Vec<_> = needs
        .iter()
        .map(|n| Needed { path: &n.path, start: n.range.start, end: n.range.end, file_bytes: n.file_bytes })
        .collect();
    plain(&needs)
}

fn required(files: &[FileEntry]) -> Result<JsValue, JsValue> {
    plain(&files.iter().map(RequiredFile::of).collect::<Vec<_>>())
}

impl<'a> RequiredFile<'a> {
    fn of(f: &'a FileEntry) -> Self {
        Self { path: &f.path, bytes: f.bytes, sha256: &f.sha256.0 }
    }
}

fn object(entries: &[(&str, JsValue)]) -> Result<JsValue, JsValue> {
    let object = Object::new();
    for (key, value) in entries {
        Reflect::set(&object, &(*key).into(), value)?;
    }
    Ok(object.into())
}

/// Plain objects, arrays and numbers, no `Map` and no `BigInt`.
pub(crate) fn plain(value: &impl Serialize) -> Result<JsValue, JsValue> {
    value
        .serialize(&serde_wasm_bindgen::Serializer::json_compatible())
        .map_err(|error| Failure::internal(error.to_string()).into())
}
