//! What visitors will download: the closing summary's prediction, from the files as they lie there.

use anyhow::{Context as _, Result};
use shirube_format::bundle::{BundleEntry, folder};
use shirube_format::model::ModelManifest;
use shirube_retriever::{BundleLoader, ModelLoader, SearchOptions, query_bytes};
use shirube_site::{Download, PackageBytes, Samples, gzip_bytes, is_meaning_code, is_page_code};
use std::path::Path;

/// Queries of each kind that are tried.
pub(crate) const SAMPLES: usize = 16;

/// Bytes of code and model in the bundle folder `out`.
pub(crate) fn package_bytes(out: &Path) -> Result<PackageBytes> {
    let manifest = std::fs::read(out.join("model/manifest.json"))?;
    let mut bytes =
        PackageBytes { model: model_bytes(&ModelManifest::parse(&manifest)?)?, ..PackageBytes::default() };
    for item in std::fs::read_dir(out)? {
        let path = item?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if is_page_code(name) {
            bytes.code += gzip_bytes(&std::fs::read(&path)?);
        } else if is_meaning_code(name) {
            bytes.meaning_code += gzip_bytes(&std::fs::read(&path)?);
        }
    }
    Ok(bytes)
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
    package: PackageBytes,
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
    Ok(Download::new(entry, package, &ask(&samples.words)?, &ask(&samples.sentences)?))
}
