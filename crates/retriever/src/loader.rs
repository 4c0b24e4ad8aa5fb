//! Opening a model and a bundle from files that arrive one by one, in any order, as the browser fetches them.
//!
//! ```text
//! BundleLoader::new(shirube.json) ─▶ word_files() ─▶ fetch each ─▶ provide(path, bytes) ─▶ open(): words
//!     small: ─▶ meaning_files() ─▶ the same ─▶ code_shards() ─▶ fetch each ─▶ provide_shard(path, bytes) ─▶ index(): meaning
//!     large: ─▶ meaning_files() and list_files() ─▶ the same ─▶ lazy_index(): meaning, whose searches ask for shards
//! ModelLoader::new(manifest.json) ─▶ required() ─▶ the same ─▶ finish()
//! ```

use crate::{Retriever, RetrieverError};
use shirube_encoder::Model;
use shirube_format::FormatError;
use shirube_format::bundle::{
    Bundle, BundleEntry, CodecTables, CodesDirectory, IvfDirectory, LexicalDirectory, Need, PartKind,
    SectionsDirectory,
};
use shirube_format::model::{FileEntry, ModelManifest, WeightsReader, is_dictionary};
use shirube_index::{Index, LazyIndex};
use shirube_kernels::Kernels;
use std::collections::BTreeMap;

/// Name of the compact tokenizer in a model folder.
const TOKENIZER: &str = "tokenizer.bin";

/// Files that a manifest names, some of them here already.
#[derive(Debug)]
struct FileSet {
    required: Vec<FileEntry>,
    provided: BTreeMap<String, Vec<u8>>,
}

impl FileSet {
    fn entry(&self, path: &str) -> Result<&FileEntry, RetrieverError> {
        let found = self.required.iter().find(|f| f.path == path);
        found.ok_or_else(|| RetrieverError::UnknownFile { path: path.to_owned() })
    }

    fn provide(&mut self, path: &str, bytes: Vec<u8>) -> Result<(), RetrieverError> {
        self.entry(path)?.check(&bytes)?;
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

/// Collects the files of a model folder. Weights are taken out of their files as these come, so that the model never stands in memory twice.
#[derive(Debug)]
pub struct ModelLoader {
    manifest: ModelManifest,
    /// Of weights the paths alone are kept.
    files: FileSet,
    weights: WeightsReader,
}

impl ModelLoader {
    /// Starts from the content of `manifest.json`.
    ///
    /// # Errors
    /// As [`ModelManifest::parse`].
    pub fn new(manifest_json: &[u8]) -> Result<Self, RetrieverError> {
        let manifest = ModelManifest::parse(manifest_json)?;
        // `tokenizer.json` is for training tools; the compact form says the same in a fraction of the bytes.
        let needed = |f: &&FileEntry| {
            f.path == TOKENIZER || f.path.ends_with(".safetensors") || is_dictionary(&f.path)
        };
        let required = manifest.files.iter().filter(needed).cloned().collect();
        let files = FileSet { required, provided: BTreeMap::new() };
        Ok(Self { manifest, files, weights: WeightsReader::default() })
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

    /// Takes one file, checked by length and digest. A refused file can be provided again; one that is here already is not looked at.
    ///
    /// # Errors
    /// [`RetrieverError::UnknownFile`], as [`FileEntry::check`], or for weights as [`WeightsReader::add`].
    pub fn provide(&mut self, path: &str, bytes: Vec<u8>) -> Result<(), RetrieverError> {
        if self.files.provided.contains_key(path) {
            return Ok(());
        }
        if !path.ends_with(".safetensors") {
            return self.files.provide(path, bytes);
        }
        self.files.entry(path)?.check(&bytes)?;
        self.weights.add(path, &bytes)?;
        self.files.provided.insert(path.to_owned(), Vec::new());
        Ok(())
    }

    /// The model.
    ///
    /// # Errors
    /// [`FormatError::Missing`], or as [`WeightsReader::finish`] and [`Model::assemble`].
    pub fn finish(self, kernels: Kernels) -> Result<Model, RetrieverError> {
        self.files.complete()?;
        let file = |path: &str| {
            let found = self.files.provided.get(path).map(Vec::as_slice);
            found.ok_or_else(|| FormatError::Missing { path: path.to_owned() })
        };
        let dictionary =
            self.manifest.dictionary().map(|part| file(&part.path)).collect::<Result<Vec<_>, _>>()?;
        let (tokenizer, weights) = (file(TOKENIZER)?, self.weights.finish()?);
        Ok(Model::assemble(self.manifest.clone(), tokenizer, &dictionary, weights, kernels)?)
    }
}

/// Collects the files of a bundle: its two directories, for words, and the vectors' tables, directories and shards, for meaning. Other shards
/// go to [`Retriever::provide`] as searches ask for them.
#[derive(Debug)]
pub struct BundleLoader {
    entry: BundleEntry,
    files: FileSet,
    /// Checked shards of codes.
    shards: BTreeMap<String, Vec<u8>>,
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
        let files = FileSet { required, provided: BTreeMap::new() };
        Ok(Self { entry, files, shards: BTreeMap::new() })
    }

    /// The parsed entry.
    pub fn entry(&self) -> &BundleEntry {
        &self.entry
    }

    fn files_of(&self, kinds: &'static [PartKind]) -> impl Iterator<Item = &FileEntry> {
        self.entry.files.iter().filter(|f| kinds.contains(&f.kind)).map(|f| &f.file)
    }

    /// The files that [`Self::open`] needs.
    pub fn word_files(&self) -> impl Iterator<Item = &FileEntry> {
        self.files_of(&[PartKind::Lexical, PartKind::Sections])
    }

    /// The files that [`Self::index`] and [`Self::lazy_index`] need.
    pub fn meaning_files(&self) -> impl Iterator<Item = &FileEntry> {
        self.files_of(&[PartKind::Centroids, PartKind::Codes])
    }

    /// The files that [`Self::lazy_index`] needs beside them; none in a small bundle, which can only be loaded whole.
    pub fn list_files(&self) -> impl Iterator<Item = &FileEntry> {
        self.files_of(&[PartKind::Ivf])
    }

    /// The shards of codes that are not here yet, each whole, for [`Self::provide_shard`].
    ///
    /// # Errors
    /// [`FormatError::Missing`] before the directory of the codes is here, or as its reader.
    pub fn code_shards(&self) -> Result<Vec<Need>, RetrieverError> {
        let directory = self.codes()?;
        let shards = directory.documents.table.whole_shards();
        Ok(shards.filter(|need| !self.shards.contains_key(&need.path)).collect())
    }

    /// Takes a whole shard of codes, checked by its name. A refused one can be provided again.
    ///
    /// # Errors
    /// As [`Self::code_shards`] and [`BlockTable::check`](shirube_format::bundle::BlockTable::check).
    pub fn provide_shard(&mut self, path: &str, bytes: Vec<u8>) -> Result<(), RetrieverError> {
        self.codes()?.documents.table.check(path, &bytes)?;
        self.shards.insert(path.to_owned(), bytes);
        Ok(())
    }

    fn codes(&self) -> Result<CodesDirectory, RetrieverError> {
        let (path, bytes) = self.file(PartKind::Codes)?;
        Ok(CodesDirectory::parse(path, bytes)?)
    }

    /// Every file that the entry names.
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

    fn file(&self, kind: PartKind) -> Result<(&str, &[u8]), RetrieverError> {
        let f = self
            .entry
            .files_of(kind)
            .next()
            .ok_or_else(|| FormatError::Missing { path: format!("a file of kind {kind:?}") })?;
        match self.files.provided.get(&f.file.path) {
            Some(bytes) => Ok((&f.file.path, bytes)),
            None => Err(FormatError::Missing { path: f.file.path.clone() }.into()),
        }
    }

    /// The bundle, ready to be searched by words.
    ///
    /// # Errors
    /// [`FormatError::Missing`], or as [`Retriever::new`].
    pub fn open(&self) -> Result<Retriever, RetrieverError> {
        let (path, bytes) = self.file(PartKind::Lexical)?;
        let words = LexicalDirectory::parse(path, bytes)?;
        let (path, bytes) = self.file(PartKind::Sections)?;
        let sections = SectionsDirectory::parse(path, bytes)?;
        Retriever::new(self.entry.clone(), words, sections)
    }

    /// The index of meaning in memory, for [`Retriever::attach`].
    ///
    /// # Errors
    /// [`FormatError::Missing`], or as [`Bundle::assemble_index`].
    pub fn index(self, kernels: Kernels) -> Result<Index, RetrieverError> {
        let files = self.files.provided.iter().chain(&self.shards);
        let files = files.map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
        Ok(Index::open(Bundle::assemble_index(&self.entry, files)?, kernels)?)
    }

    /// [`Self::index`] after fetching every shard of codes: the way of callers that can wait for a file.
    ///
    /// # Errors
    /// As [`Self::provide_shard`] and [`Self::index`], and what `fetch` returns.
    pub fn fetch_index(
        mut self,
        kernels: Kernels,
        mut fetch: impl FnMut(&Need) -> Result<Vec<u8>, FormatError>,
    ) -> Result<Index, RetrieverError> {
        for need in self.code_shards()? {
            self.provide_shard(&need.path, fetch(&need)?)?;
        }
        self.index(kernels)
    }

    /// The index of meaning that stays on its host, for [`Retriever::attach`].
    ///
    /// # Errors
    /// [`FormatError::Missing`], also for a bundle without lists; as the files' readers, or [`LazyIndex::new`].
    pub fn lazy_index(&self, kernels: Kernels) -> Result<LazyIndex, RetrieverError> {
        let (path, bytes) = self.file(PartKind::Centroids)?;
        let tables = CodecTables::parse(path, bytes)?;
        let (path, bytes) = self.file(PartKind::Ivf)?;
        let ivf = IvfDirectory::parse(path, bytes)?;
        let codes = self.codes()?;
        codes.belongs_to("codes directory", &tables, self.entry.counts.documents)?;
        Ok(LazyIndex::new(tables, ivf, codes, kernels)?)
    }
}
