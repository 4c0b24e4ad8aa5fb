//! Opening a model and a bundle from files that arrive one by one, in any order, as the browser fetches them.
//!
//! ```text
//! BundleLoader::new(shirube.json) ─▶ required() ─▶ fetch each ─▶ provide(path, bytes) ─▶ finish()
//! ModelLoader::new(manifest.json) ─▶ the same
//! ```

use crate::RetrieverError;
use shirube_encoder::Model;
use shirube_format::FormatError;
use shirube_format::bundle::{Bundle, BundleEntry, PartKind};
use shirube_format::model::{FileEntry, ModelManifest};
use shirube_kernels::Kernels;
use std::collections::BTreeMap;

/// Files that a manifest names, some of them here already.
#[derive(Debug)]
struct FileSet {
    required: Vec<FileEntry>,
    provided: BTreeMap<String, Vec<u8>>,
}

impl FileSet {
    fn provide(&mut self, path: &str, bytes: Vec<u8>) -> Result<(), RetrieverError> {
        let Some(entry) = self.required.iter().find(|f| f.path == path) else {
            return Err(RetrieverError::UnknownFile { path: path.to_owned() });
        };
        entry.check(&bytes)?;
        self.provided.insert(path.to_owned(), bytes);
        Ok(())
    }

    fn missing(&self) -> impl Iterator<Item = &FileEntry> {
        self.required.iter().filter(|f| !self.provided.contains_key(&f.path))
    }

    fn complete(&self) -> Result<(), RetrieverError> {
        match self.missing().next() {
            Some(f) => Err(FormatError::Missing { path: f.path.clone() }.into()),
            None => Ok(()),
        }
    }
}

/// Collects the files of a model folder.
#[derive(Debug)]
pub struct ModelLoader {
    manifest: ModelManifest,
    files: FileSet,
}

impl ModelLoader {
    /// Starts from the content of `manifest.json`.
    ///
    /// # Errors
    /// As [`ModelManifest::parse`].
    pub fn new(manifest_json: &[u8]) -> Result<Self, RetrieverError> {
        let manifest = ModelManifest::parse(manifest_json)?;
        // `tokenizer.json` is for training tools; the compact form says the same in a fraction of the bytes.
        let needed = |f: &&FileEntry| f.path == "tokenizer.bin" || f.path.ends_with(".safetensors");
        let required = manifest.files.iter().filter(needed).cloned().collect();
        Ok(Self { manifest, files: FileSet { required, provided: BTreeMap::new() } })
    }

    /// The parsed manifest.
    pub fn manifest(&self) -> &ModelManifest {
        &self.manifest
    }

    /// Every file that [`Self::finish`] needs.
    pub fn required(&self) -> &[FileEntry] {
        &self.files.required
    }

    /// Those not provided yet.
    pub fn missing(&self) -> impl Iterator<Item = &FileEntry> {
        self.files.missing()
    }

    /// Takes one file, checked by length and digest. A refused file can be provided again.
    ///
    /// # Errors
    /// [`RetrieverError::UnknownFile`], or as [`FileEntry::check`].
    pub fn provide(&mut self, path: &str, bytes: Vec<u8>) -> Result<(), RetrieverError> {
        self.files.provide(path, bytes)
    }

    /// The model.
    ///
    /// # Errors
    /// [`FormatError::Missing`], or as [`Model::load`].
    pub fn finish(self, kernels: Kernels) -> Result<Model, RetrieverError> {
        self.files.complete()?;
        let files = self.files.provided.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
        Ok(Model::load(self.manifest, files, kernels)?)
    }
}

/// Collects the files of a bundle.
#[derive(Debug)]
pub struct BundleLoader {
    entry: BundleEntry,
    files: FileSet,
}

impl BundleLoader {
    /// Starts from the content of `shirube.json`.
    ///
    /// # Errors
    /// As [`BundleEntry::parse`].
    pub fn new(entry_json: &[u8]) -> Result<Self, RetrieverError> {
        let entry = BundleEntry::parse(entry_json)?;
        let required =
            entry.files.iter().filter(|f| f.kind != PartKind::Other).map(|f| f.file.clone()).collect();
        Ok(Self { entry, files: FileSet { required, provided: BTreeMap::new() } })
    }

    /// The parsed entry.
    pub fn entry(&self) -> &BundleEntry {
        &self.entry
    }

    /// Every file that [`Self::finish`] needs.
    pub fn required(&self) -> &[FileEntry] {
        &self.files.required
    }

    /// Those not provided yet.
    pub fn missing(&self) -> impl Iterator<Item = &FileEntry> {
        self.files.missing()
    }

    /// Takes one file, checked by length and digest. A refused file can be provided again.
    ///
    /// # Errors
    /// [`RetrieverError::UnknownFile`], or as [`FileEntry::check`].
    pub fn provide(&mut self, path: &str, bytes: Vec<u8>) -> Result<(), RetrieverError> {
        self.files.provide(path, bytes)
    }

    /// The bundle.
    ///
    /// # Errors
    /// [`FormatError::Missing`], or as [`Bundle::assemble`].
    pub fn finish(self) -> Result<Bundle, RetrieverError> {
        self.files.complete()?;
        let files = self.files.provided.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
        Ok(Bundle::assemble(&self.entry, files)?)
    }
}
