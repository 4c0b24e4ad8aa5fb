//! What visitors will download: the closing summary's prediction, from the files as they lie there.

use anyhow::{Context as _, Result};
use shirube_format::bundle::{BundleEntry, folder};
use shirube_format::model::ModelManifest;
use shirube_retriever::{BundleLoader, ModelLoader, SearchOptions, query_bytes};
use shirube_site::{Download, Samples, gzip_bytes, is_page_code};
use std::path::Path;

/// Queries of each kind that are tried.
pub(crate) const SAMPLES: usize = 16;

/// Bytes of what lies beside a bundle.
#[derive(Debug)]
pub(crate) struct Package {
    /// Code that a page loads, by gzip.
    pub(crate) code: u64,
    /// Model.
    pub(crate) model: u64,
}

impl Package {
    /// Of code and model in the bundle folder `out`.
    pub(crate) fn of(out: &Path) -> Result<Self> {
        let manifest = std::fs::read(out.join("model/manifest.json"))?;
        let model = model_bytes(&ModelManifest::parse(&manifest)?)?;
        let mut code = 0;
        for item in std::fs::read_dir(out)? {
            let path = item?.path();
            if path.file_name().and_then(|name| name.to_str()).is_some_and(is_page_code) {
                code += gzip_bytes(&std::fs::read(&path)?);
            }
        }
        Ok(Self { code, model })
    }
}

/// Bytes that a browser reads of a model.
pub(crate) fn model_bytes(manifest: &ModelManifest) -> Result<u64> {
    let json = serde_json::to_vec(manifest)?;
    Ok(ModelLoader::new(&json)?.required().iter().map(|f| f.bytes).sum())
}

/// Asks `samples` of the bundle in `out`.
pub(crate) fn predict(
    out: &Path,
    entry: &BundleEntry,
    samples: &Samples,
    package: &Package,
) -> Result<Download> {
    let mut loader = BundleLoader::new(&entry.to_bytes())?;
    let words: Vec<String> = loader.word_files().map(|f| f.path.clone()).collect();
    for path in words {
        loader.provide(&path, folder::read_one(out, &path)?)?;
    }
    let ask = |queries| {
        query_bytes(&loader, queries, &SearchOptions::default(), |need| folder::read_range(out, need))
            .context("the new bundle does not answer")
    };
    Ok(Download::new(entry, package.code, package.model, &ask(&samples.words)?, &ask(&samples.sentences)?))
}
