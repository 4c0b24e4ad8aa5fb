//! Sections to bundle.

use crate::SiteError;
use rayon::prelude::*;
use shirube_core::Role;
use shirube_encoder::Model;
use shirube_format::bundle::{Bundle, BundleEntry, ModelRef, Section, folder};
use shirube_index::{BuildStage, IndexBuilder, IndexOptions};
use std::path::Path;

/// Sections encoded between two reports of progress, and held as floats at one time.
const BATCH: usize = 64;

/// Settings of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildOptions {
    /// Display name of the site or collection.
    pub name: String,
    /// How token embeddings are compressed.
    pub index: IndexOptions,
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
    /// Sections whose end was left out because they are longer than the model reads.
    pub n_truncated: usize,
    /// Paths of earlier builds that were removed.
    pub removed: Vec<String>,
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
    if sections.is_empty() {
        return Err(SiteError::NoSections { path: "the list of sections".to_owned() });
    }
    let mut builder = IndexBuilder::new(model.dim(), options.index)?;
    let mut token_maps = Vec::with_capacity(sections.len());
    let mut n_truncated = 0;
    for batch in sections.chunks(BATCH) {
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
        for (embeddings, truncated) in encoded {
            token_maps.push(builder.push(&embeddings)?);
            n_truncated += usize::from(truncated);
        }
        progress(Progress::Encode { sections: token_maps.len(), of: sections.len() });
    }
    let built = builder.finish(|stage| progress(Progress::Index(stage)))?;
    let bundle = Bundle {
        name: options.name.clone(),
        model: ModelRef::of(model.manifest()),
        pool_factor: options.index.pool_factor as u32,
        tokens_before_pooling: built.tokens_before_pooling,
        tables: built.codec.tables().clone(),
        lengths: built.lengths,
        codes: built.packed.codes,
        residuals: built.packed.residuals,
        sections,
        token_maps,
    };
    Ok((bundle, n_truncated))
}

/// Builds a bundle and puts it in `out`, in place of an earlier one: see [`folder::write`] for what a killed build leaves.
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
    let (bundle, n_truncated) = make_bundle(sections, model, options, progress)?;
    let (entry, files) = bundle.pack();
    let removed = folder::write(out, &entry, &files)?;
    Ok(BuildReport { entry, n_truncated, removed })
}
