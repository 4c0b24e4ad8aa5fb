//! The class that the package drives: files, and searches by words. `meaning` adds the rest.

use crate::error::Failure;
use js_sys::{Object, Reflect};
use serde::Serialize;
use shirube_format::model::FileEntry;
use shirube_retriever::{
    Answer, BundleLoader, Computed, Filters, ModelLoader, Need, RESIDENT_BYTES, Retriever, RetrieverError,
    SearchOptions, SortBy,
};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance)]
    pub(crate) fn now() -> f64;
}

/// A bundle and a model: first the bundle's entry and directories, then `open`, then searches by words; meanwhile or later the model's manifest and
/// the files of both, then `finish`, then searches by words and meaning.
///
/// A search returns its results, or `{needs: [{path, start, end, fileBytes}]}`: fetch these bytes (or the whole files), give them to `provide`, and
/// ask again.
#[wasm_bindgen]
#[derive(Debug, Default)]
pub struct Engine {
    pub(crate) model: Option<ModelLoader>,
    pub(crate) bundle: Option<BundleLoader>,
    /// Whether the bundle's codes stay on their host.
    pub(crate) lazy: bool,
    pub(crate) loaded: Option<Loaded>,
}

#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) retriever: Retriever,
    pub(crate) license: String,
    pub(crate) model_bytes: u64,
    /// What a GPU computed for the query that comes next.
    pub(crate) computed: Option<(String, Computed)>,
}

#[derive(Serialize)]
struct BundleFiles<'a> {
    words: Vec<RequiredFile<'a>>,
    meaning: Vec<RequiredFile<'a>>,
    lazy: bool,
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
pub(crate) struct RequiredFile<'a> {
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
pub(crate) struct ModelStatus<'a> {
    pub(crate) name: &'a str,
    pub(crate) license: &'a str,
    pub(crate) bytes: u64,
    pub(crate) dim: usize,
}

#[derive(Serialize)]
struct BundleStatus<'a> {
    name: &'a str,
    bytes: u64,
    documents: usize,
    pages: u32,
    tokens: usize,
    lazy: bool,
}

#[wasm_bindgen]
impl Engine {
    /// An engine without files.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        console_error_panic_hook::set_once();
        Self::default()
    }

    /// Takes `shirube.json`; returns the files to provide, `{words: [{path, bytes, sha256}], meaning: […], lazy}`. The codes stay on their host, and
    /// searches ask for what they need of them, where they have more than `resident_bytes` (left out: the default) and the bundle has lists;
    /// otherwise `codeShards` come after `meaning`.
    ///
    /// # Errors
    /// `{code, message, cure}`, as everywhere in this class.
    #[wasm_bindgen(js_name = openBundle)]
    pub fn open_bundle(&mut self, entry: &[u8], resident_bytes: Option<f64>) -> Result<JsValue, JsValue> {
        let loader = BundleLoader::new(entry).map_err(Failure::from)?;
        crate::meaning::check_pair(Some(&loader), self.model.as_ref())?;
        // Infinity becomes the largest number there is.
        self.lazy = loader.entry().suits_lazy(resident_bytes.map_or(RESIDENT_BYTES, |bytes| bytes as u64));
        let lists = loader.list_files().filter(|_| self.lazy);
        let files = BundleFiles {
            words: loader.word_files().map(RequiredFile::of).collect(),
            meaning: loader.meaning_files().chain(lists).map(RequiredFile::of).collect(),
            lazy: self.lazy,
        };
        let files = plain(&files)?;
        self.bundle = Some(loader);
        Ok(files)
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
                lazy: self.lazy,
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
    pub fn search_words(
        &mut self,
        query: &str,
        limit: usize,
        filters: JsValue,
        sort: JsValue,
    ) -> Result<JsValue, JsValue> {
        let loaded = self.loaded.as_mut().ok_or_else(not_loaded)?;
        let options = SearchOptions {
            limit,
            filters: read_filters(filters)?,
            sort: read_sort(sort)?,
            ..SearchOptions::default()
        };
        answer(loaded.retriever.search_words(query, &options, &now))
    }
}

pub(crate) fn not_loaded() -> Failure {
    Failure::bad_argument("the engine is not loaded; open comes first")
}

pub(crate) fn answer(found: Result<Answer, RetrieverError>) -> Result<JsValue, JsValue> {
    match found.map_err(Failure::from)? {
        Answer::Results(results) => plain(&results.into_utf16()),
        Answer::Needs(needs) => object(&[("needs", needed(&needs)?)]),
    }
}

/// `{name: [value, …]}`, or nothing.
pub(crate) fn read_filters(filters: JsValue) -> Result<Filters, Failure> {
    if filters.is_undefined() || filters.is_null() {
        return Ok(Filters::new());
    }
    serde_wasm_bindgen::from_value(filters)
        .map_err(|error| Failure::bad_argument(format!("filters: {error}; give lists of values by name")))
}

/// `{name, descending}`, or nothing.
pub(crate) fn read_sort(sort: JsValue) -> Result<Option<SortBy>, Failure> {
    if sort.is_undefined() || sort.is_null() {
        return Ok(None);
    }
    let sort = serde_wasm_bindgen::from_value(sort)
        .map_err(|error| Failure::bad_argument(format!("sort: {error}; give {{name, descending}}")))?;
    Ok(Some(sort))
}

pub(crate) fn needed(needs: &[Need]) -> Result<JsValue, JsValue> {
    let needs: Vec<_> = needs
        .iter()
        .map(|n| Needed { path: &n.path, start: n.range.start, end: n.range.end, file_bytes: n.file_bytes })
        .collect();
    plain(&needs)
}

impl<'a> RequiredFile<'a> {
    pub(crate) fn of(f: &'a FileEntry) -> Self {
        Self { path: &f.path, bytes: f.bytes, sha256: &f.sha256.0 }
    }
}

pub(crate) fn object(entries: &[(&str, JsValue)]) -> Result<JsValue, JsValue> {
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
