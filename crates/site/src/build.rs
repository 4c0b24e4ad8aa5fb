//! Sections to bundle.

use crate::SiteError;
use crate::reuse::{self, NotReused};
use rayon::prelude::*;
use shirube_core::Role;
use shirube_encoder::Model;
use shirube_format::bundle::{Bundle, BundleEntry, ENTRY_NAME, ModelRef, Section, Streams, folder};
use shirube_index::{BuildStage, IndexBuilder, IndexOptions};
use shirube_lexical::{BM25_B, BM25_K1, LexicalBuilder};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Sections encoded between two reports of progress, and held as floats at one time.
const BATCH: usize = 64;

/// Settings of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildOptions {
    /// Display name of the site or collection.
    pub name: String,
    /// How token embeddings are compressed.
    pub index: IndexOptions,
    /// Where embeddings wait for their centroids beyond what may stay in memory; `None` keeps all of them there, two bytes a value. The bundle is the same.
    pub spill: Option<Spill>,
}

/// A cap on the memory that embeddings take in a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spill {
    /// A file that is not there yet; gone after the build.
    pub file: PathBuf,
    /// Bytes of embeddings kept in memory.
    pub memory_bytes: usize,
}

/// Where a build stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Sections encoded.
    Encode {
        /// Sections done.
        sections: usize,
        /// Sections in all.
        of: usize,
    },
    /// The index is being compressed.
    Index(BuildStage),
}

/// What a build did.
#[derive(Clone, Debug, PartialEq)]
pub struct BuildReport {
    /// The entry written.
    pub entry: BundleEntry,
    /// Path and bytes of every file of the bundle but the entry.
    pub files: Vec<(String, u64)>,
    /// Sections whose end was left out because they are longer than the model reads.
    pub n_truncated: usize,
    /// Paths of earlier builds that were removed.
    pub removed: Vec<String>,
    /// Sections whose codes were taken over from the earlier bundle.
    pub n_reused: usize,
    /// Why none were, where none were.
    pub not_reused: Option<NotReused>,
}

/// A bundle in the making: sections with their embeddings, in order, then [`Self::finish`]. For callers that encode in their own way; [`make_bundle`]
/// does both.
#[derive(Debug)]
pub struct Assembly {
    builder: IndexBuilder,
    options: BuildOptions,
    model: ModelRef,
    sections: Vec<Section>,
    token_maps: Vec<Option<Vec<u16>>>,
    words: LexicalBuilder,
    n_truncated: usize,
}

impl Assembly {
    /// An empty bundle of `model`.
    ///
    /// # Errors
    /// [`SiteError::Index`] for settings out of range, or a file to spill to that cannot be made.
    pub fn new(model: &Model, options: &BuildOptions) -> Result<Self, SiteError> {
        let builder = IndexBuilder::new(model.dim(), options.index)?;
        let builder = match &options.spill {
            Some(spill) => builder.spill_to(&spill.file, spill.memory_bytes)?,
            None => builder,
        };
        Ok(Self {
            builder,
            options: options.clone(),
            model: ModelRef::of(model.manifest()),
            sections: Vec::new(),
            token_maps: Vec::new(),
            words: LexicalBuilder::new(BM25_K1, BM25_B)?,
            n_truncated: 0,
        })
    }

    /// Adds the next section with its `embeddings [n_tokens, dim]`; `truncated` says whether the model read only a part of it.
    ///
    /// # Errors
    /// As [`IndexBuilder::push`].
    pub fn push(&mut self, section: Section, embeddings: &[f32], truncated: bool) -> Result<(), SiteError> {
        self.token_maps.push(self.builder.push(embeddings)?);
        self.words.push(&section.document().text)?;
        self.sections.push(section);
        self.add_truncated(usize::from(truncated));
        Ok(())
    }

    /// Counts sections of which the model read only a part.
    pub fn add_truncated(&mut self, n: usize) {
        self.n_truncated += n;
    }

    /// The bundle, and how many sections were cut.
    ///
    /// # Errors
    /// [`SiteError::NoSections`], [`SiteError::Index`].
    pub fn finish(self, progress: impl FnMut(BuildStage)) -> Result<(Bundle, usize), SiteError> {
        if self.sections.is_empty() {
            return Err(SiteError::NoSections { path: "the list of sections".to_owned() });
        }
        let built = self.builder.finish(progress)?;
        let bundle = Bundle {
            name: self.options.name,
            model: self.model,
            pool_factor: self.options.index.pool_factor as u32,
            tokens_before_pooling: built.tokens_before_pooling,
            tables: built.codec.tables().clone(),
            lengths: built.lengths,
            codes: built.packed.codes,
            residuals: built.packed.residuals,
            sections: self.sections,
            token_maps: self.token_maps,
            lexical: self.words.finish(),
        };
        Ok((bundle, self.n_truncated))
    }
}

/// The bundle of `sections`, and how many of them were cut. Equal sections, model and settings give an equal bundle, on any number of cores.
///
/// # Errors
/// [`SiteError::NoSections`], [`SiteError::Encode`], [`SiteError::Index`].
pub fn make_bundle(
    sections: Vec<Section>,
    model: &Model,
    options: &BuildOptions,
    mut progress: impl FnMut(Progress),
) -> Result<(Bundle, usize), SiteError> {
    let mut assembly = Assembly::new(model, options)?;
    let of = sections.len();
    let mut sections = sections.into_iter();
    loop {
        let batch: Vec<Section> = sections.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            break;
        }
        let encoded: Vec<(Vec<f32>, bool)> = batch
            .par_iter()
            .map_init(
                || model.clone(),
                |model, section| {
                    let input = model.prepare(&section.document().text, Role::Document);
                    let embeddings = model
                        .encode(&input)
                        .map_err(|source| SiteError::Encode { id: section.id.clone(), source })?;
                    Ok((embeddings, input.truncated))
                },
            )
            .collect::<Result<_, SiteError>>()?;
        for (section, (embeddings, truncated)) in batch.into_iter().zip(encoded) {
            assembly.push(section, &embeddings, truncated)?;
        }
        progress(Progress::Encode { sections: assembly.sections.len(), of });
    }
    assembly.finish(|stage| progress(Progress::Index(stage)))
}

/// Builds a bundle and puts it in `out`, in place of an earlier one: see [`folder::write`] for what a killed build leaves.
///
/// Where the earlier bundle is of the same model and settings and knows at least half of the sections, its centroids stay and only sections with a new
/// text are encoded; the result is what [`build_over`] makes of these centroids. [`build_fresh`] never looks at the earlier bundle.
///
/// # Errors
/// As [`make_bundle`], and [`SiteError::Format`] when the system refuses to write.
pub fn build(
    sections: Vec<Section>,
    model: &Model,
    options: &BuildOptions,
    out: &Path,
    progress: impl FnMut(Progress),
) -> Result<BuildReport, SiteError> {
    build_on(Earlier::read(out), sections, model, options, out, progress)
}

/// [`build`] with the bundle that stands in `out` as `earlier`, which the caller has read: while pages were read, and to cut them as it did
/// ([`passages_with`](crate::passages_with)).
///
/// # Errors
/// As [`build`].
pub fn build_on(
    earlier: Result<Earlier, NotReused>,
    sections: Vec<Section>,
    model: &Model,
    options: &BuildOptions,
    out: &Path,
    progress: impl FnMut(Progress),
) -> Result<BuildReport, SiteError> {
    let (base, left) = match earlier {
        Ok(Earlier { bundle, left }) => (Ok(bundle), left),
        Err(why) => (Err(why), Left::default()),
    };
    match base.and_then(|base| reuse::usable(base, &sections, model, &options.index)) {
        Ok(base) => make_and_write(sections, model, &options.name, &base, &left, out, progress),
        Err(why) => {
            let (bundle, n_truncated) = make_bundle(sections, model, options, progress)?;
            write_bundle(&bundle, n_truncated, 0, Some(why), &left, out)
        }
    }
}

/// The bundle that a build finds in the folder it writes to.
#[derive(Clone, Debug)]
pub struct Earlier {
    bundle: Bundle,
    left: Left,
}

/// What its files spare the writer.
#[derive(Clone, Debug, Default)]
struct Left {
    streams: Streams,
    /// Paths of files that were read and are what their names say.
    checked: BTreeSet<String>,
}

impl Earlier {
    /// Reads and checks the bundle in `out`.
    ///
    /// # Errors
    /// [`NotReused::Absent`], [`NotReused::Unreadable`].
    pub fn read(out: &Path) -> Result<Self, NotReused> {
        if !out.join(ENTRY_NAME).exists() {
            return Err(NotReused::Absent);
        }
        let unreadable = |error: SiteError| NotReused::Unreadable(error.to_string());
        let (entry, files) = folder::read(out).map_err(|error| unreadable(error.into()))?;
        let named = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
        let (bundle, streams) =
            Bundle::assemble_keeping(&entry, named).map_err(|error| unreadable(error.into()))?;
        let checked = files.into_iter().map(|(path, _)| path).collect();
        Ok(Self { bundle, left: Left { streams, checked } })
    }

    /// The bundle.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }
}

/// Reads the bundle in a folder, whole.
///
/// # Errors
/// As [`folder::read`] and [`Bundle::assemble`].
pub fn read_bundle(path: &Path) -> Result<Bundle, SiteError> {
    let (entry, files) = folder::read(path)?;
    let files = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
    Ok(Bundle::assemble(&entry, files)?)
}

/// As [`build`], from nothing.
///
/// # Errors
/// As [`build`].
pub fn build_fresh(
    sections: Vec<Section>,
    model: &Model,
    options: &BuildOptions,
    out: &Path,
    progress: impl FnMut(Progress),
) -> Result<BuildReport, SiteError> {
    let (bundle, n_truncated) = make_bundle(sections, model, options, progress)?;
    write_bundle(&bundle, n_truncated, 0, Some(NotReused::Asked), &Left::default(), out)
}

/// Builds over the centroids of `base`, whose pooling holds too, and copies the codes of the sections that it knows. Bundles over one base can be put
/// together without loss: this is how a large set is built in parts, by as many processes as there are parts.
///
/// # Errors
/// As [`build`]; [`SiteError::Format`] also where `base` is of another model.
pub fn build_over(
    sections: Vec<Section>,
    model: &Model,
    name: &str,
    base: &Bundle,
    out: &Path,
    progress: impl FnMut(Progress),
) -> Result<BuildReport, SiteError> {
    base.model.check(&ModelRef::of(model.manifest()))?;
    make_and_write(sections, model, name, base, &Left::default(), out, progress)
}

fn make_and_write(
    sections: Vec<Section>,
    model: &Model,
    name: &str,
    base: &Bundle,
    left: &Left,
    out: &Path,
    progress: impl FnMut(Progress),
) -> Result<BuildReport, SiteError> {
    let (bundle, n_reused, n_truncated) = reuse::make_over(
        name.to_owned(),
        sections,
        &base.tables,
        &[base],
        model,
        base.pool_factor as usize,
        progress,
    )?;
    write_bundle(&bundle, n_truncated, n_reused, None, left, out)
}

fn write_bundle(
    bundle: &Bundle,
    n_truncated: usize,
    n_reused: usize,
    not_reused: Option<NotReused>,
    left: &Left,
    out: &Path,
) -> Result<BuildReport, SiteError> {
    let (entry, files) = bundle.pack_over(&left.streams);
    let removed = folder::write_over(out, &entry, &files, |path| left.checked.contains(path))?;
    let files = files.into_iter().map(|(path, bytes)| (path, bytes.len() as u64)).collect();
    Ok(BuildReport { entry, files, n_truncated, removed, n_reused, not_reused })
}

/// Part `index` of `n` parts of `sections`, counted from 0: runs of nearly equal length, cut only between sections, never between passages of one.
pub fn shard(sections: Vec<Section>, index: usize, n: usize) -> Vec<Section> {
    let of = sections.len();
    let cut = |i: usize| {
        let mut at = of * i.min(n) / n.max(1);
        while at > 0 && at < of && sections[at].passage > 0 {
            at -= 1;
        }
        at
    };
    let (start, end) = (cut(index), cut(index + 1));
    sections[start..end].to_vec()
}
