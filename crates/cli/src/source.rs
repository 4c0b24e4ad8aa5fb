//! What is built from: settings from all their places, and the sections they lead to.

use anyhow::{Context as _, Result};
use rayon::prelude::*;
use shirube_format::bundle::{Bundle, ModelRef, Section};
use shirube_retriever::Model;
use shirube_site::{
    FileRules, KnownPassages, Plan, Reader, SETTINGS_NAME, Settings, SourceLook, SourceSummary,
};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A plan, and the files that it is about.
#[derive(Debug)]
pub(crate) struct Source(Plan);

impl Deref for Source {
    type Target = Plan;

    fn deref(&self) -> &Plan {
        &self.0
    }
}

impl Source {
    /// Flags over variables over the settings file: `config`, or `shirube.toml` here if there is one.
    pub(crate) fn new(flags: Settings, config: Option<&Path>) -> Result<Self> {
        let file = match config {
            Some(path) => Some(path.to_owned()),
            None => Some(PathBuf::from(SETTINGS_NAME)).filter(|path| path.is_file()),
        };
        let file = match file {
            Some(path) => {
                let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                Settings::parse(&path.display().to_string(), &text, path.parent().unwrap_or(Path::new("")))?
            }
            None => Settings::default(),
        };
        Self::of(flags.over(Settings::of_variables(std::env::vars())?).over(file))
    }

    /// The source of settings that are complete.
    pub(crate) fn of(settings: Settings) -> Result<Self> {
        let plan = Plan::new(settings, |source| {
            let real = source.canonicalize().unwrap_or_else(|_| source.to_owned());
            let file_name = real.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
            SourceLook { is_folder: source.is_dir(), file_name }
        })?;
        Ok(Self(plan))
    }

    /// Every section of the source, not yet cut into passages, with the summary so far. `progress` gets pages read and pages in all.
    pub(crate) fn sections(
        &self,
        progress: impl Fn(usize, usize) + Sync,
    ) -> Result<(Vec<Section>, SourceSummary)> {
        let source = self.source.display().to_string();
        if self.is_folder {
            let reader = Reader::new(self.settings.read_options())?;
            let paths = self.paths()?;
            let site = shirube_site::read_site(&self.source, &paths, &reader, |n| progress(n, paths.len()))?;
            let summary = site.summary(&source);
            return Ok((site.into_sections(""), summary));
        }
        let (sections, left_out) = shirube_site::read_jsonl(&self.source)?;
        let summary = SourceSummary::of_sections(&source, &sections, left_out);
        Ok((sections, summary))
    }

    /// Paths of the pages in the source folder.
    fn paths(&self) -> Result<Vec<String>> {
        let rules = FileRules::new(&self.settings.file_options());
        Ok(rules.pages(shirube_site::list(&self.source, std::slice::from_ref(&self.out))?))
    }

    /// Files of the whole site, the bundle among them.
    pub(crate) fn n_site_files(&self) -> usize {
        let here =
            if self.is_folder { shirube_site::list(&self.source, &[]).map_or(0, |l| l.len()) } else { 0 };
        let inside = self.out.starts_with(&self.source);
        here + if inside { 0 } else { shirube_site::list(&self.out, &[]).map_or(0, |l| l.len()) }
    }

    /// What changes when a page does: path, length and time of every page.
    pub(crate) fn state(&self) -> Result<Vec<(String, u64, Option<SystemTime>)>> {
        let paths = if self.is_folder { self.paths()? } else { vec![String::new()] };
        let look = |path: String| {
            let file = if path.is_empty() { self.source.clone() } else { self.source.join(&path) };
            let metadata = std::fs::metadata(file).ok();
            (
                path,
                metadata.as_ref().map_or(0, std::fs::Metadata::len),
                metadata.and_then(|m| m.modified().ok()),
            )
        };
        Ok(paths.into_iter().map(look).collect())
    }
}

/// `sections` cut to what the model reads, as an `earlier` bundle has them where it was made with the same model.
pub(crate) fn passages(sections: Vec<Section>, model: &Model, earlier: Option<&Bundle>) -> Vec<Section> {
    let known = match earlier {
        Some(bundle) if bundle.model == ModelRef::of(model.manifest()) => KnownPassages::of(&bundle.sections),
        _ => KnownPassages::default(),
    };
    let cut = |section| shirube_site::passages_with(section, model, &known);
    sections.into_par_iter().flat_map_iter(cut).collect()
}
