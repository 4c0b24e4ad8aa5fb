//! `npx shirube search` and `inspect`. Files are read by JavaScript, when they are asked for.

use crate::error::{NodeError, js, parse};
use shirube_format::bundle::{Bundle, BundleEntry, ENTRY_NAME, ModelRef, shard_paths};
use shirube_retriever::{
    BundleLoader, FormatError, Kernels, ModelLoader, Need, Retriever, SearchMode, SearchOptions,
    SearchResults, report,
};
use shirube_site::Inspection;
use shirube_site::arguments::SearchArguments;
use wasm_bindgen::prelude::*;

/// A folder whose files JavaScript reads: `read(path, start, end)` returns a `Uint8Array`, of the whole file without a range, or `undefined` where there is no such file.
struct Folder {
    name: String,
    read: js_sys::Function,
}

impl Folder {
    fn ask(&self, path: &str, start: &JsValue, end: &JsValue) -> Result<Vec<u8>, FormatError> {
        let full = || format!("{}/{path}", self.name);
        match self.read.call3(&JsValue::NULL, &path.into(), start, end) {
            Ok(bytes) if bytes.is_undefined() => Err(FormatError::Missing { path: full() }),
            Ok(bytes) => Ok(js_sys::Uint8Array::new(&bytes).to_vec()),
            Err(thrown) => {
                let message = js_sys::Error::from(thrown).message();
                let source = std::io::Error::other(String::from(message));
                Err(FormatError::Io { path: full(), source })
            }
        }
    }

    fn whole(&self, path: &str) -> Result<Vec<u8>, FormatError> {
        self.ask(path, &JsValue::UNDEFINED, &JsValue::UNDEFINED)
    }

    fn range(&self, need: &Need) -> Result<Vec<u8>, FormatError> {
        let (start, end) = (need.range.start, need.range.end);
        let bytes = self.ask(&need.path, &(start as f64).into(), &(end as f64).into())?;
        let found = start + bytes.len() as u64;
        if found < end {
            return Err(FormatError::Length { path: need.path.clone(), expected: need.file_bytes, found });
        }
        Ok(bytes)
    }
}

/// A bundle with its model, or without one where words alone are searched.
#[wasm_bindgen]
#[allow(missing_debug_implementations, reason = "JavaScript functions print nothing useful")]
pub struct Searcher {
    retriever: Retriever,
    bundle: Folder,
    options: SearchOptions,
}

#[wasm_bindgen]
impl Searcher {
    /// From the flags of `shirube search` as JSON, with functions that read the bundle's folder and the model's.
    ///
    /// # Errors
    /// When a file is missing or damaged, and for a model that the bundle was not made with.
    #[wasm_bindgen(constructor)]
    pub fn new(arguments: &str, bundle: js_sys::Function, model: js_sys::Function) -> Result<Self, JsError> {
        console_error_panic_hook::set_once();
        let arguments: SearchArguments = parse("the flags", arguments).map_err(js)?;
        let bundle = Folder { name: arguments.bundle.display().to_string(), read: bundle };
        let folder = arguments.model.clone().unwrap_or_else(|| arguments.bundle.join("model"));
        let model = Folder { name: folder.display().to_string(), read: model };
        Self::open(&arguments, bundle, &model).map_err(js)
    }

    /// The answer to `query` as the command prints it; `clock()` is in milliseconds.
    ///
    /// # Errors
    /// When a file is missing or damaged.
    pub fn text(
        &mut self,
        query: &str,
        clock: &js_sys::Function,
        before: &str,
        after: &str,
    ) -> Result<String, JsError> {
        let results = self.answer(query, Some(clock))?;
        Ok(report::hits(&results, &self.retriever.status().backend.kind, (before, after)))
    }

    /// The answer to `query` as JSON, over many lines or in one.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub fn json(&mut self, query: &str, clock: &js_sys::Function, pretty: bool) -> Result<String, JsError> {
        let results = self.answer(query, Some(clock))?;
        let write = if pretty { serde_json::to_string_pretty } else { serde_json::to_string };
        Ok(write(&results).expect("results hold only what JSON can say"))
    }

    /// Where the scores of the hits for `query` come from.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub fn explanation(&mut self, query: &str) -> Result<String, JsError> {
        Ok(report::explanation(&self.answer(query, None)?))
    }
}

impl Searcher {
    fn open(arguments: &SearchArguments, bundle: Folder, model: &Folder) -> Result<Self, NodeError> {
        let mut loader = BundleLoader::new(&bundle.whole(ENTRY_NAME)?)?;
        for file in loader.required().to_vec() {
            loader.provide(&file.path, bundle.whole(&file.path)?)?;
        }
        let mut retriever = loader.open()?;
        if !arguments.words {
            let mut files = ModelLoader::new(&model.whole("manifest.json")?)?;
            // Before any large file: the commonest mistake is another model.
            loader.entry().model.check(&ModelRef::of(files.manifest()))?;
            for file in files.required().to_vec() {
                files.provide(&file.path, model.whole(&file.path)?)?;
            }
            let kernels = Kernels::detect();
            let model = files.finish(kernels)?;
            if arguments.lazy {
                if loader.list_files().next().is_none() {
                    return Err(NodeError::NoLists(arguments.bundle.display().to_string()));
                }
                retriever.attach(model, loader.lazy_index(kernels)?, kernels)?;
            } else {
                let index = loader.fetch_index(kernels, |need| bundle.range(need))?;
                retriever.attach(model, index, kernels)?;
            }
        }
        let options = SearchOptions {
            limit: arguments.limit,
            lexical_weight: arguments.lexical_weight,
            mode: if arguments.exact { SearchMode::Exact } else { SearchMode::Auto },
            ..SearchOptions::default()
        };
        Ok(Self { retriever, bundle, options })
    }

    fn answer(&mut self, query: &str, clock: Option<&js_sys::Function>) -> Result<SearchResults, JsError> {
        let now = || clock.and_then(|clock| clock.call0(&JsValue::NULL).ok()?.as_f64()).unwrap_or(0.0);
        let start = now();
        let clock = || now() - start;
        self.retriever.answer(query, &self.options, &clock, |need| self.bundle.range(need)).map_err(js)
    }
}

/// What a bundle holds, after every file of it was read and checked; with `json` its entry.
///
/// # Errors
/// When a file is missing or damaged.
#[wasm_bindgen]
pub fn inspect(folder: String, read: js_sys::Function, json: bool) -> Result<String, JsError> {
    console_error_panic_hook::set_once();
    let folder = Folder { name: folder, read };
    let (entry, longest) = checked(&folder).map_err(js)?;
    if json {
        return Ok(String::from_utf8_lossy(&entry.to_bytes()).into_owned());
    }
    let entry = Inspection { entry: &entry, longest };
    Ok(format!("{entry}\nevery file has the length and SHA-256 that the entry says\n"))
}

/// The entry and the tokens of the longest section.
fn checked(folder: &Folder) -> Result<(BundleEntry, u16), FormatError> {
    let entry = BundleEntry::parse(&folder.whole(ENTRY_NAME)?)?;
    let mut files = Vec::with_capacity(entry.files.len());
    for f in &entry.files {
        let bytes = folder.whole(&f.file.path)?;
        f.file.check(&bytes)?;
        files.push((f.file.path.clone(), bytes));
    }
    let shards = shard_paths(&entry, files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())))?;
    for path in shards {
        let bytes = folder.whole(&path)?;
        files.push((path, bytes));
    }
    let bundle =
        Bundle::assemble(&entry, files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())))?;
    Ok((entry, bundle.lengths.iter().max().copied().unwrap_or(0)))
}
