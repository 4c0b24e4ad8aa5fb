//! Opening models and bundles the way a caller does: file by file.

use shirube_format::model::{FileEntry, ModelManifest};
use shirube_index::IndexOptions;
use shirube_retriever::{
    BundleLoader, Kernels, Model, ModelLoader, Retriever, RetrieverError, SearchOptions, SearchResults,
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
    };
    let (bundle, n_truncated) = shirube_site::make_bundle(sections(), &model(), &options, |_| {}).unwrap();
    assert_eq!(n_truncated, 0);
    let (entry, files) = bundle.pack();
    (entry.to_bytes(), files)
}

pub(super) fn open((entry, files): &(Vec<u8>, Files), model: Model) -> Result<Retriever, RetrieverError> {
    let mut loader = BundleLoader::new(entry)?;
    for (path, bytes) in files {
        loader.provide(path, bytes.clone())?;
    }
    Retriever::new(model, loader.finish()?, Kernels::detect())
}

pub(super) fn search(retriever: &mut Retriever, query: &str) -> Result<SearchResults, RetrieverError> {
    retriever.search(query, &SearchOptions::default(), &|| 0.0)
}
