//! Models and bundles from folders.

use anyhow::{Context as _, Result, bail};
use shirube_format::bundle::{self, BundleEntry};
use shirube_format::{NamedFile, model};
use shirube_retriever::{BundleLoader, Index, Kernels, Model};
use std::path::{Path, PathBuf};

/// The model folder to use: the one given, else `model/` inside the bundle folder.
pub(crate) fn model_folder(given: Option<&Path>, bundle: &Path) -> Result<PathBuf> {
    if let Some(folder) = given {
        return Ok(folder.to_owned());
    }
    let inside = bundle.join("model");
    if inside.join("manifest.json").is_file() {
        return Ok(inside);
    }
    bail!("no model given, and {} does not exist; add --model DIR", inside.join("manifest.json").display())
}

/// Reads, checks and loads a model folder.
pub(crate) fn model(folder: &Path) -> Result<Model> {
    if !folder.join("manifest.json").is_file() {
        bail!(
            "{}: not a model folder, it has no manifest.json; give the folder that `shirube convert` or `shirube-train export` wrote",
            folder.display()
        );
    }
    let (manifest, files) = model::folder::read(folder)
        .with_context(|| format!("the model in {} cannot be read", folder.display()))?;
    let files = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
    Model::load(manifest, files, Kernels::detect())
        .with_context(|| format!("the model in {} cannot be loaded", folder.display()))
}

/// Opens a bundle folder to be searched: reads and checks what every search needs, and leaves the rest where it is. [`resident`] reads the codes.
pub(crate) fn searchable(folder: &Path) -> Result<BundleLoader> {
    if !folder.join(bundle::ENTRY_NAME).is_file() {
        bail!(
            "{}: not a bundle, it has no {}; make one with `shirube build`",
            folder.display(),
            bundle::ENTRY_NAME
        );
    }
    let context = || format!("the bundle in {} cannot be read", folder.display());
    let mut loader =
        BundleLoader::new(&bundle::folder::read_one(folder, bundle::ENTRY_NAME)?).with_context(context)?;
    for file in loader.required().to_vec() {
        let bytes = bundle::folder::read_one(folder, &file.path).with_context(context)?;
        loader.provide(&file.path, bytes).with_context(context)?;
    }
    Ok(loader)
}

/// The index of meaning of an opened bundle, in memory.
pub(crate) fn resident(loader: BundleLoader, folder: &Path) -> Result<Index> {
    loader
        .fetch_index(Kernels::detect(), |need| bundle::folder::read_range(folder, need))
        .with_context(|| format!("the bundle in {} cannot be read", folder.display()))
}

/// Reads and checks a bundle folder.
pub(crate) fn bundle(folder: &Path) -> Result<(BundleEntry, Vec<NamedFile>)> {
    if !folder.join(bundle::ENTRY_NAME).is_file() {
        bail!(
            "{}: not a bundle, it has no {}; make one with `shirube build`",
            folder.display(),
            bundle::ENTRY_NAME
        );
    }
    bundle::folder::read(folder).with_context(|| format!("the bundle in {} cannot be read", folder.display()))
}
