//! What a step reads from outside its run, by content: changed data makes a finished step start over as a changed recipe does.
//!
//! A step's folder holds `inputs.json`: each file that the step or one above it reads, with its length, time of change and SHA-256. Files whose length
//! and time are as noted are not read again. Folders without it, of older runs, count as unchanged; so do files that are gone, which nothing can be
//! trained on again.

use crate::data::{RetrievalSet, SourceKind, list_files, pairs_file};
use crate::recipe::{Recipe, Step};
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Name of the record in a step's folder.
pub const RECORD: &str = "inputs.json";

/// One file as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Path as the recipe gives it.
    pub path: PathBuf,
    /// Length.
    pub bytes: u64,
    /// Nanoseconds since 1970 of the last change.
    pub modified: u64,
    /// Digest of the content.
    pub sha256: String,
}

/// Length and time of change.
fn stat(path: &Path) -> std::io::Result<(u64, u64)> {
    let meta = path.metadata()?;
    let since = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok((meta.len(), u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)))
}

fn digest(path: &Path) -> std::io::Result<String> {
    let (mut file, mut hasher, mut buffer) = (std::fs::File::open(path)?, Sha256::new(), vec![0u8; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().iter().map(|b| format!("{b:02x}")).collect()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// Digests of files, each taken once.
#[derive(Debug, Default)]
pub struct Known(HashMap<PathBuf, Input>);

impl Known {
    /// What the steps of the run in `out` have noted.
    pub fn of_run(recipe: &Recipe, out: &Path) -> Self {
        let mut known = HashMap::new();
        for step in recipe.steps() {
            for input in noted(&out.join(step.name())).into_iter().flatten() {
                known.insert(input.path.clone(), input);
            }
        }
        Self(known)
    }

    fn input(&mut self, path: &Path) -> Result<Input> {
        let at = || format!("cannot read {}", path.display());
        let (bytes, modified) = stat(path).with_context(at)?;
        if let Some(found) = self.0.get(path)
            && (found.bytes, found.modified) == (bytes, modified)
        {
            return Ok(found.clone());
        }
        let input = Input { path: path.to_owned(), bytes, modified, sha256: digest(path).with_context(at)? };
        self.0.insert(path.to_owned(), input.clone());
        Ok(input)
    }

    /// The files of steps up to `until`.
    ///
    /// # Errors
    /// A file that is not there, with the step that names it.
    pub fn of_steps(&mut self, recipe: &Recipe, until: usize) -> Result<Vec<Input>> {
        files(recipe, until)?.iter().map(|path| self.input(path)).collect()
    }

    /// The first file that is no longer what the record in `folder` says, if any.
    ///
    /// # Errors
    /// Files that are there and cannot be read.
    pub fn changed(&mut self, recipe: &Recipe, until: usize, folder: &Path) -> Result<Option<PathBuf>> {
        let Some(before) = noted(folder) else { return Ok(None) };
        // What is gone cannot have been changed for training.
        let Ok(paths) = files(recipe, until) else { return Ok(None) };
        let now = paths.iter().map(|path| self.input(path)).collect::<Result<Vec<_>>>()?;
        // By content alone: a data folder may move.
        let differs = now.iter().zip(&before).find(|(a, b)| a.sha256 != b.sha256).map(|(a, _)| a);
        let further = now.get(before.len()).or(before.get(now.len()));
        Ok(differs.or(further).map(|input| input.path.clone()))
    }
}

/// The record in a step's folder; none where it is absent or damaged.
fn noted(folder: &Path) -> Option<Vec<Input>> {
    serde_json::from_slice(&std::fs::read(folder.join(RECORD)).ok()?).ok()
}

/// Writes the record of a step.
///
/// # Errors
/// A folder that cannot be written.
pub fn note(folder: &Path, inputs: &[Input]) -> Result<()> {
    let path = folder.join(RECORD);
    std::fs::write(&path, serde_json::to_vec_pretty(inputs)?).with_context(|| path.display().to_string())
}

/// Every file that steps up to `until` read, each once, in the order of the steps.
fn files(recipe: &Recipe, until: usize) -> Result<Vec<PathBuf>> {
    let steps = recipe.steps();
    let names: HashSet<&str> = steps.iter().map(Step::name).collect();
    let mut all = Vec::new();
    if let Some(folder) = &recipe.model.init {
        all.extend(weights_under(folder).context("[model] init")?);
    }
    if recipe.tokenizer_step().is_none() {
        all.push(recipe.tokenizer.join("tokenizer.bin")); // names its dictionary by a digest
    }
    for step in &steps[..=until] {
        all.extend(of_step(recipe, step, &names).with_context(|| format!("step {}", step.name()))?);
    }
    let mut seen = HashSet::new();
    all.retain(|path| seen.insert(path.clone()));
    Ok(all)
}

fn of_step(recipe: &Recipe, step: &Step, steps: &HashSet<&str>) -> Result<Vec<PathBuf>> {
    let at = |name: &String| recipe.data.join(name);
    let mut out = Vec::new();
    let lists = |out: &mut Vec<PathBuf>, name: &String| -> Result<()> {
        if !steps.contains(name.as_str()) {
            out.extend(present(list_files(&at(name))?)?);
        }
        Ok(())
    };
    match step {
        Step::Tokenizer(s) => out.extend(s.files.iter().chain(&s.words).map(at)),
        Step::Train(s) => {
            for source in &s.sources {
                let paths = source.files.iter().map(at);
                match source.kind {
                    SourceKind::Questions => {
                        for folder in paths {
                            out.extend(RetrievalSet::files(&folder)?);
                        }
                    }
                    SourceKind::Headings => out.extend(paths.chain([pairs_file(&recipe.data)?])),
                    SourceKind::Cloze => out.extend(paths),
                    SourceKind::Written => out.extend(paths.chain(source.questions.clone())),
                }
            }
            out.extend(s.glossary.clone());
            s.lists.iter().try_for_each(|name| lists(&mut out, name))?;
            for other in s.teacher.iter().filter(|name| !steps.contains(name.as_str())) {
                out.push(Path::new(other).join("model.safetensors"));
            }
        }
        Step::Cooccurrence(s) => out.extend(s.files.iter().map(at)),
        Step::Pretrain(s) => out.extend(s.files.iter().map(at)),
        Step::Mine(s) => match &s.set {
            Some(set) => out.extend(RetrievalSet::files(&at(set))?),
            None => out.extend(s.files.iter().map(at).chain([pairs_file(&recipe.data)?])),
        },
        Step::Teacher(s) => lists(&mut out, &s.lists)?,
        Step::Score(s) => {
            lists(&mut out, &s.lists)?;
            if !steps.contains(s.teacher.as_str()) {
                out.extend(weights_under(Path::new(&s.teacher))?);
            }
        }
        Step::Import(s) => {
            for name in s.lists.iter().chain(&s.queries).chain(&s.documents) {
                out.extend(present(list_files(&at(name))?)?);
            }
        }
        Step::Rotate(s) => out.extend(s.files.iter().map(at)),
        Step::Merge(s) => {
            for part in s.parts.iter().filter(|name| !steps.contains(name.as_str())) {
                out.push(Path::new(part).join("model.safetensors"));
            }
            // They decide what goes into a soup.
            for set in &recipe.eval {
                out.extend(RetrievalSet::files(&at(set))?);
            }
        }
        Step::Eval(s) => {
            for set in if s.sets.is_empty() { &recipe.eval } else { &s.sets } {
                out.extend(RetrievalSet::files(&at(set))?);
            }
        }
        Step::Export(_) => {
            for set in recipe.eval.iter().take(1) {
                out.extend(RetrievalSet::files(&at(set))?);
            }
        }
    }
    present(out)
}

fn present(files: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    match files.iter().find(|path| !path.is_file()) {
        Some(missing) => anyhow::bail!("{} is not there; mend the path in the recipe", missing.display()),
        None => Ok(files),
    }
}

/// Configuration and weights in a folder and those below it.
fn weights_under(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut out = Vec::new();
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            out.extend(weights_under(&path)?);
        } else if path.extension().is_some_and(|e| e == "json" || e == "safetensors") {
            out.push(path);
        }
    }
    out.sort();
    Ok(out)
}
