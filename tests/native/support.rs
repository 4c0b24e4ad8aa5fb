//! Opening models and bundles the way a caller does: file by file.

use shirube_format::FormatError;
use shirube_format::model::{FileEntry, ModelManifest};
use shirube_index::IndexOptions;
use shirube_retriever::{
    BundleLoader, Kernels, Model, ModelLoader, Need, Retriever, RetrieverError, SearchOptions, SearchResults,
};
use shirube_site::BuildOptions;
use shirube_tests::{random_model, sections};

pub(super) type Files = Vec<(String, Vec<u8>)>;

/// `manifest.json` and the other files, as `model::folder::write` leaves them.
pub(super) fn served((mut manifest, files): (ModelManifest, Files)) -> (Vec<u8>, Files) {
    manifest.files = files.iter().map(|(name, bytes)| FileEntry::of(name, bytes)).collect();
    (serde_json::to_vec(&manifest).unwrap(), files)
}

pub(super) fn load_model((manifest, files): &(Vec<u8>, Files)) -> Result<Model, RetrieverError> {
    let mut loader = ModelLoader::new(manifest)?;
    for (path, bytes) in files {
        loader.provide(path, bytes.clone())?;
    }
    loader.finish(Kernels::detect())
}

pub(super) fn model() -> Model {
    load_model(&served(random_model(1))).unwrap()
}

/// Entry and files of the sample sections.
pub(super) fn bundle(pool_factor: usize) -> (Vec<u8>, Files) {
    let options = BuildOptions {
        name: "sample".to_owned(),
        index: IndexOptions { pool_factor, ..IndexOptions::default() },
        ..BuildOptions::default()
    };
    let (bundle, n_truncated) = shirube_site::make_bundle(sections(), &model(), &options, |_| {}).unwrap();
    assert_eq!(n_truncated, 0);
    let (entry, files) = bundle.pack();
    (entry.to_bytes(), files)
}

/// A retriever and the shards it may ask for.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) retriever: Retriever,
    shards: Files,
}

impl Opened {
    /// Gives the retriever every shard, as if queries had asked for all of them.
    pub(super) fn provide_all(&mut self) -> Result<(), RetrieverError> {
        let required: Vec<String> =
            self.retriever.entry().files.iter().map(|f| f.file.path.clone()).collect();
        // Codes are in the index already.
        let asked = |path: &str| !required.iter().any(|r| r == path) && !path.starts_with("codes/");
        for (path, bytes) in self.shards.iter().filter(|(path, _)| asked(path)) {
            self.retriever.provide(path, 0, bytes)?;
        }
        Ok(())
    }

    pub(super) fn search(
        &mut self,
        query: &str,
        options: &SearchOptions,
    ) -> Result<SearchResults, RetrieverError> {
        let shards = &self.shards;
        self.retriever.answer(query, options, &|| 0.0, |need| fetch(shards, need))
    }
}

/// The bytes of a need.
pub(super) fn fetch(shards: &Files, need: &Need) -> Result<Vec<u8>, FormatError> {
    let (_, bytes) = shards
        .iter()
        .find(|(path, _)| *path == need.path)
        .ok_or_else(|| FormatError::Missing { path: need.path.clone() })?;
    let end = (need.range.end as usize).min(bytes.len());
    Ok(bytes[(need.range.start as usize).min(end)..end].to_vec())
}

/// Words alone.
pub(super) fn open_words(
    (entry, files): &(Vec<u8>, Files),
) -> Result<(Opened, BundleLoader), RetrieverError> {
    let mut loader = BundleLoader::new(entry)?;
    for (path, bytes) in files {
        if loader.required().iter().any(|f| f.path == *path) {
            loader.provide(path, bytes.clone())?;
        }
    }
    Ok((Opened { retriever: loader.open()?, shards: files.clone() }, loader))
}

/// Words and meaning, as a caller who has every file at hand.
pub(super) fn open(bundle: &(Vec<u8>, Files), model: Model) -> Result<Opened, RetrieverError> {
    let (mut opened, loader) = open_words(bundle)?;
    let index = loader.fetch_index(Kernels::detect(), |need| fetch(&bundle.1, need))?;
    opened.retriever.attach(model, index, Kernels::detect())?;
    Ok(opened)
}

pub(super) fn search(opened: &mut Opened, query: &str) -> Result<SearchResults, RetrieverError> {
    opened.search(query, &SearchOptions::default())
}
