//! The steps of a build.

use crate::command::{Again, How};
use crate::encoder::Encoder;
use crate::error::{NodeError, js, json, parse};
use crate::reader::Outcome;
use clap::Parser as _;
use shirube_format::FormatError;
use shirube_format::bundle::{
    Bundle, BundleEntry, ENTRY_NAME, ModelRef, Section, Streams, folder, shard_paths,
};
use shirube_index::{BuildStage, IndexOptions};
use shirube_retriever::{BundleLoader, SearchOptions, query_bytes};
use shirube_site::{
    BuildOptions, Building, BundleSummary, Download, DropReason, KnownPassages, NotReused, PackageBytes,
    Page, Plan, Samples, Site, SourceSummary, passages_with, read_jsonl_bytes,
};
use std::collections::{BTreeSet, HashMap};
use wasm_bindgen::prelude::*;

/// Queries of each kind that the prediction tries; as many as the native command.
const SAMPLES: usize = 16;

/// One file of a bundle.
#[wasm_bindgen]
#[derive(Debug)]
pub struct OutFile {
    path: String,
    bytes: Vec<u8>,
    is_there: bool,
}

#[wasm_bindgen]
impl OutFile {
    /// Path inside the bundle folder.
    #[wasm_bindgen(getter)]
    pub fn path(&self) -> String {
        self.path.clone()
    }

    /// Whether the file stands in the folder already: it is one of the earlier bundle's, read and checked.
    #[wasm_bindgen(getter, js_name = isThere)]
    pub fn is_there(&self) -> bool {
        self.is_there
    }

    /// Content.
    #[wasm_bindgen(getter)]
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.clone()
    }
}

/// The earlier bundle on its way in.
#[derive(Debug)]
enum Earlier {
    No(NotReused),
    Files(Box<BundleEntry>, HashMap<String, Vec<u8>>),
}

/// A build from its plan to its report; the steps are called in the order in which they stand here.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Build {
    plan: Plan,
    how: How,
    pages: Vec<(String, Result<Page, DropReason>)>,
    sections: Vec<Section>,
    source: SourceSummary,
    earlier: Earlier,
    base: Result<Bundle, NotReused>,
    streams: Streams,
    /// Paths of the earlier bundle's files, which were checked.
    checked: BTreeSet<String>,
    samples: Samples,
    building: Option<Building>,
    given: usize,
    bundle: BundleSummary,
}

#[wasm_bindgen]
impl Build {
    /// For a plan of [`plan`](crate::plan()) and the `how` of [`command`](crate::command()), or `{}`.
    ///
    /// # Errors
    /// For text that is not that.
    #[wasm_bindgen(constructor)]
    pub fn new(plan: &str, how: &str) -> Result<Self, JsError> {
        console_error_panic_hook::set_once();
        let how: How = parse("how", how).map_err(js)?;
        let none = if how.fresh { NotReused::Asked } else { NotReused::Absent };
        Ok(Self {
            plan: parse("a plan", plan).map_err(js)?,
            how,
            pages: Vec::new(),
            sections: Vec::new(),
            source: SourceSummary::default(),
            earlier: Earlier::No(none),
            base: Err(NotReused::Asked),
            streams: Streams::default(),
            checked: BTreeSet::new(),
            samples: Samples::default(),
            building: None,
            given: 0,
            bundle: BundleSummary::default(),
        })
    }

    /// Takes what [`PageReader::read`](crate::PageReader::read) made of the file at `path`; in any order.
    ///
    /// # Errors
    /// For text that is not that.
    pub fn page(&mut self, path: String, outcome: &str) -> Result<(), JsError> {
        let page = match parse("a page", outcome).map_err(js)? {
            Outcome::Page(page) => Ok(page),
            Outcome::Dropped(reason) => Err(reason),
        };
        self.pages.push((path, page));
        Ok(())
    }

    /// Takes the content of a JSON Lines file instead of pages.
    ///
    /// # Errors
    /// For a line that is no section, with its number, and for a file without any.
    pub fn jsonl(&mut self, name: &str, bytes: &[u8]) -> Result<(), JsError> {
        let (sections, left_out) = read_jsonl_bytes(name, bytes).map_err(js)?;
        self.source = SourceSummary::of_sections(name, &sections, left_out);
        self.sections = sections;
        Ok(())
    }

    /// Takes the entry of the bundle that is replaced; the paths of the files that it names. None where nothing of it can be used.
    pub fn earlier(&mut self, entry: &[u8]) -> Vec<String> {
        if self.how.fresh {
            return Vec::new();
        }
        match BundleEntry::parse(entry) {
            Ok(entry) => {
                let paths = entry.files.iter().map(|f| f.file.path.clone()).collect();
                self.earlier = Earlier::Files(Box::new(entry), HashMap::new());
                paths
            }
            Err(error) => self.unreadable(&error),
        }
    }

    fn unreadable(&mut self, error: &FormatError) -> Vec<String> {
        self.earlier = Earlier::No(NotReused::Unreadable(error.to_string()));
        Vec::new()
    }

    /// Takes one of them, or a shard; `None` for one that is missing, as `path` says in full.
    #[wasm_bindgen(js_name = earlierFile)]
    pub fn earlier_file(&mut self, path: String, bytes: Option<Vec<u8>>) {
        let Earlier::Files(entry, files) = &mut self.earlier else { return };
        let Some(bytes) = bytes else {
            self.unreadable(&FormatError::Missing { path });
            return;
        };
        let named = entry.files.iter().find(|f| f.file.path == path);
        if let Some(Err(error)) = named.map(|f| f.file.check(&bytes)) {
            self.unreadable(&error);
            return;
        }
        files.insert(path, bytes);
    }

    /// Paths of the shards that the earlier bundle's directories name.
    #[wasm_bindgen(js_name = earlierShards)]
    pub fn earlier_shards(&mut self) -> Vec<String> {
        let Earlier::Files(entry, files) = &self.earlier else { return Vec::new() };
        match shard_paths(entry, files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()))) {
            Ok(paths) => paths,
            Err(error) => self.unreadable(&error),
        }
    }

    /// Puts the earlier bundle together, once its files are here.
    pub fn assemble(&mut self) {
        self.base = match core::mem::replace(&mut self.earlier, Earlier::No(NotReused::Asked)) {
            Earlier::No(why) => Err(why),
            Earlier::Files(entry, files) => {
                let named = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
                match Bundle::assemble_keeping(&entry, named) {
                    Ok((bundle, streams)) => {
                        self.streams = streams;
                        self.checked = files.into_keys().collect();
                        Ok(bundle)
                    }
                    Err(error) => Err(NotReused::Unreadable(error.to_string())),
                }
            }
        };
    }

    /// Puts the pages together and cuts sections into passages: their number, 0 where there is nothing to search.
    pub fn gather(&mut self, encoder: &Encoder) -> usize {
        if self.plan.is_folder {
            let site = Site::gather(core::mem::take(&mut self.pages));
            self.source = site.summary(&self.plan.source.display().to_string());
            self.sections = site.into_sections("");
        }
        if let Some(limit) = self.how.limit {
            self.sections.truncate(limit);
            self.source.n_sections = self.sections.len();
        }
        let model = &encoder.0;
        let known = match &self.base {
            Ok(base) if base.model == ModelRef::of(model.manifest()) => KnownPassages::of(&base.sections),
            _ => KnownPassages::default(),
        };
        let sections = core::mem::take(&mut self.sections);
        self.sections = sections.into_iter().flat_map(|s| passages_with(s, model, &known)).collect();
        self.source.n_passages = self.sections.len();
        self.sections.len()
    }

    /// Decides what has to be encoded: the number of passages.
    ///
    /// # Errors
    /// [`SiteError::NoSections`](shirube_site::SiteError::NoSections), settings out of range.
    pub fn start(&mut self, encoder: &Encoder) -> Result<usize, JsError> {
        let earlier = core::mem::replace(&mut self.base, Err(NotReused::Asked));
        self.samples = Samples::of(&self.sections, SAMPLES);
        let options = BuildOptions {
            name: self.plan.name.clone(),
            index: self.index_options()?,
            ..BuildOptions::default()
        };
        let sections = core::mem::take(&mut self.sections);
        let building = Building::new(sections, &encoder.0, &options, earlier).map_err(js)?;
        let n = building.missing().len();
        self.building = Some(building);
        Ok(n)
    }

    fn index_options(&self) -> Result<IndexOptions, JsError> {
        let again = Again::try_parse_from(&self.how.codec);
        let flags = again.map_err(|error| JsError::new(&error.render().to_string()))?.flags;
        Ok(self.plan.settings.index_options(flags.index_options()))
    }

    /// The next batch of at most `n` passages as JSON for [`Encoder::encode`]; none when all were given out.
    pub fn batch(&mut self, n: usize) -> Option<String> {
        let missing = self.building.as_ref()?.missing();
        let batch = missing.get(self.given..)?;
        let batch = &batch[..n.min(batch.len())];
        self.given += batch.len();
        (!batch.is_empty()).then(|| json(&batch))
    }

    /// Takes the embeddings of the next batch, in the order in which batches were given out.
    ///
    /// # Errors
    /// When they do not fit.
    pub fn push(
        &mut self,
        encoder: &Encoder,
        embeddings: &[f32],
        lengths: &[u32],
        truncated: &[u8],
    ) -> Result<(), JsError> {
        let building = self.building.as_mut().ok_or_else(|| js(NodeError::Order("nothing was started")))?;
        let dim = encoder.0.dim();
        let mut rest = embeddings;
        let mut encoded = Vec::with_capacity(lengths.len());
        for (&length, &truncated) in lengths.iter().zip(truncated) {
            let (here, after) = rest
                .split_at_checked(length as usize * dim)
                .ok_or_else(|| js(NodeError::Order("fewer embeddings than the lengths say")))?;
            encoded.push((here.to_vec(), truncated != 0));
            rest = after;
        }
        building.push(encoded, &encoder.0).map_err(js)
    }

    /// The bundle's files, the entry last. `progress(stage, done, of)` is told about the index; the bytes of code (for words,
    /// for meaning) and model are for the prediction.
    ///
    /// # Errors
    /// When the index is refused.
    pub fn finish(
        &mut self,
        encoder: &Encoder,
        code: f64,
        meaning_code: f64,
        model: f64,
        progress: &js_sys::Function,
    ) -> Result<Vec<OutFile>, JsError> {
        let building = self.building.take().ok_or_else(|| js(NodeError::Order("nothing was started")))?;
        let built = building
            .finish(&encoder.0, |stage| {
                let (name, done, of) = match stage {
                    BuildStage::KMeans { round, of } => ("centroids", round, of),
                    BuildStage::Pack { tokens, of } => ("packing", tokens, of),
                    _ => return,
                };
                // What JavaScript shows decides nothing here.
                let _ =
                    progress.call3(&JsValue::NULL, &name.into(), &(done as f64).into(), &(of as f64).into());
            })
            .map_err(js)?;
        let (entry, files) = built.bundle.pack_over(&self.streams);
        let sizes: Vec<(String, u64)> =
            files.iter().map(|(path, bytes)| (path.clone(), bytes.len() as u64)).collect();
        self.source.n_truncated = built.n_truncated;
        let package =
            PackageBytes { code: code as u64, meaning_code: meaning_code as u64, model: model as u64 };
        self.bundle = BundleSummary {
            out: self.plan.out.display().to_string(),
            n_reused: built.n_reused,
            not_reused: built.not_reused,
            ..BundleSummary::of(&entry, &sizes)
        };
        self.bundle.download = Some(predict(&entry, &files, &self.samples, package)?);
        let entry = (ENTRY_NAME.to_owned(), entry.to_bytes());
        let file = |(path, bytes): (String, Vec<u8>)| {
            let is_there = self.checked.contains(&path);
            OutFile { path, bytes, is_there }
        };
        Ok(files.into_iter().chain([entry]).map(file).collect())
    }

    /// Those of `present` (paths inside the bundle folder) that an earlier build left; `current` are the files of this one.
    pub fn stale(&mut self, present: Vec<String>, current: Vec<String>) -> Vec<String> {
        let current: BTreeSet<&str> = current.iter().map(String::as_str).collect();
        let stale: Vec<String> = present
            .into_iter()
            .filter(|path| folder::is_bundle_file(path) && !current.contains(path.as_str()))
            .collect();
        self.bundle.n_removed = stale.len();
        stale
    }

    /// The closing summary; `n_site_files` are all files of the site. Without a bundle, what was read alone.
    pub fn report(&mut self, written: bool, n_site_files: usize) -> String {
        self.bundle.n_site_files = n_site_files;
        let bundle = if written { self.bundle.to_string() } else { String::new() };
        format!("{}{bundle}", self.source)
    }

    /// Both summaries as JSON, `{source, bundle}`.
    pub fn summary(&self) -> String {
        json(&serde_json::json!({ "source": self.source, "bundle": self.bundle }))
    }
}

fn predict(
    entry: &BundleEntry,
    files: &[(String, Vec<u8>)],
    samples: &Samples,
    package: PackageBytes,
) -> Result<Download, JsError> {
    let files: HashMap<&str, &[u8]> =
        files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
    let missing = |path: &str| FormatError::Missing { path: path.to_owned() };
    let mut loader = BundleLoader::new(&entry.to_bytes()).map_err(js)?;
    let words: Vec<String> = loader.word_files().map(|f| f.path.clone()).collect();
    for path in words {
        let bytes = files.get(path.as_str()).ok_or_else(|| js(missing(&path)))?;
        loader.provide(&path, bytes.to_vec()).map_err(js)?;
    }
    let ask = |queries: &[String]| {
        query_bytes(&loader, queries, &SearchOptions::default(), |need| {
            let bytes = files.get(need.path.as_str()).ok_or_else(|| missing(&need.path))?;
            Ok(bytes[need.range.start as usize..need.range.end as usize].to_vec())
        })
        .map_err(js)
    };
    Ok(Download::new(entry, package, &ask(&samples.words)?, &ask(&samples.sentences)?))
}
