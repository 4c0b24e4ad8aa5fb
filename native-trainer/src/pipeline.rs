//! Runs a recipe's steps and the commands on their results.

use crate::data::{GroupSource, RetrievalSet, Sampler, SourceKind};
use crate::eval::{DEVICE, SetReport, evaluate};
use crate::recipe::{Recipe, TrainStep};
use crate::student::Student;
use crate::train::{Outcome, RunOptions, train};
use anyhow::{Context as _, Result};
use shirube_core::InputRules;
use shirube_text::Tokenizer;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Punctuation whose document embeddings are not kept: it matches every text and none in particular.
const SKIPPED: &str = "、。,.・「」『』()[]【】〈〉《》〔〕{}!?:;\"'`";

/// Marker before queries.
pub const QUERY_MARKER: u32 = 3;
/// Marker before documents.
pub const DOCUMENT_MARKER: u32 = 4;

/// Reads the recipe's tokenizer.
///
/// # Errors
/// A missing or damaged file.
pub fn read_tokenizer(recipe: &Recipe) -> Result<Tokenizer> {
    let path = recipe.tokenizer.join("tokenizer.bin");
    let bytes = std::fs::read(&path)
        .with_context(|| format!("cannot read {}; run `shirube-train tokenizer` first", path.display()))?;
    Tokenizer::from_bytes(&bytes).with_context(|| path.display().to_string())
}

/// Input rules of the default model family: one marker, no expansion, punctuation skipped in documents.
pub fn input_rules(recipe: &Recipe, tokenizer: &Tokenizer) -> (InputRules, InputRules) {
    let mut skip: Vec<u32> =
        SKIPPED.chars().filter_map(|c| tokenizer.id_of(c.encode_utf8(&mut [0; 4]))).collect();
    skip.sort_unstable();
    let rules = |marker, max_length, skip| InputRules {
        prefix: vec![marker],
        suffix: vec![],
        max_length,
        expansion: None,
        skip,
    };
    (
        rules(QUERY_MARKER, recipe.model.query_length, vec![]),
        rules(DOCUMENT_MARKER, recipe.model.document_length, skip),
    )
}

fn sampler(
    recipe: &Recipe,
    step: &TrainStep,
    tokenizer: &Tokenizer,
    cache: &mut Vec<(String, GroupSource)>,
) -> Result<Sampler> {
    let mut sources = Vec::new();
    for source in &step.sources {
        let key = format!("{:?} {:?}", source.kind, source.files);
        let groups = match cache.iter().find(|(k, _)| *k == key) {
            Some((_, groups)) => groups.clone(),
            None => {
                let groups = match source.kind {
                    SourceKind::Questions => {
                        let [folder] = source.files.as_slice() else {
                            anyhow::bail!(
                                "step {}: a `questions` source names one folder, found {}",
                                step.name,
                                source.files.len()
                            )
                        };
                        GroupSource::questions(&recipe.data.join(folder), tokenizer)?
                    }
                    kind => GroupSource::sections(&recipe.data, kind, &source.files, tokenizer)?,
                };
                cache.push((key, groups.clone()));
                groups
            }
        };
        sources.push((groups, source.share));
    }
    Ok(Sampler {
        sources,
        query_prefix: vec![QUERY_MARKER],
        document_prefix: vec![DOCUMENT_MARKER],
        query_length: recipe.model.query_length,
        document_length: step.document_length,
        sentence_end: tokenizer.id_of("。").context("the tokenizer has no piece for 。")?,
        query_dropout: step.query_dropout,
        seed: recipe.seed
            ^ step.name.bytes().fold(0u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b))),
    })
}

/// Marks a step as done with exactly these inputs.
fn stamp(recipe: &Recipe, until: usize) -> Result<String> {
    Ok(serde_json::to_string(&(
        recipe.seed,
        recipe.bf16,
        &recipe.model,
        &recipe.tokenizer,
        &recipe.train[..=until],
    ))?)
}

fn step_index(recipe: &Recipe, name: Option<&str>) -> Result<usize> {
    match name {
        None => Ok(recipe.train.len() - 1),
        Some(name) => recipe.train.iter().position(|s| s.name == name).with_context(|| {
            let names: Vec<&str> = recipe.train.iter().map(|s| s.name.as_str()).collect();
            format!("no step {name:?}; the recipe has {}", names.join(", "))
        }),
    }
}

/// Reads the averaged weights of a step.
///
/// # Errors
/// A step that has not been trained.
pub fn read_student(recipe: &Recipe, out: &Path, step: usize, tokenizer: &Tokenizer) -> Result<Student> {
    let path = out.join(&recipe.train[step].name).join("model.safetensors");
    let (encoder, projection) = (recipe.model.encoder(tokenizer.vocab_size()), recipe.model.projection());
    Student::load(encoder, projection, &path, recipe.seed, &DEVICE)
        .with_context(|| format!("cannot read {}; run the recipe first", path.display()))
}

/// Runs all steps of a recipe that are not done yet.
///
/// # Errors
/// Anything a step reports; what was trained so far stays on disk.
pub fn run(
    recipe: &Recipe,
    out: &Path,
    workers: usize,
    stop: &AtomicBool,
    say: &mut dyn FnMut(String),
) -> Result<()> {
    if recipe.bf16 && !crate::ops::matmul::allow_bf16(true) {
        say("bf16 products are not available on this processor; training in f32".to_owned());
    }
    let tokenizer = read_tokenizer(recipe)?;
    let (query, document) = input_rules(recipe, &tokenizer);
    let (encoder, projection) = (recipe.model.encoder(tokenizer.vocab_size()), recipe.model.projection());
    let mut skip = vec![false; tokenizer.vocab_size()];
    document.skip.iter().for_each(|&id| skip[id as usize] = true);
    let mut cache = Vec::new();
    for (i, step) in recipe.train.iter().enumerate() {
        let folder = out.join(&step.name);
        let (done, wanted) = (folder.join("done.json"), stamp(recipe, i)?);
        if std::fs::read_to_string(&done).is_ok_and(|found| found == wanted) {
            say(format!("{}: done already, skipped", step.name));
            continue;
        }
        let student = if i == 0 {
            Student::random(encoder.clone(), projection.clone(), recipe.seed, &DEVICE)?
        } else {
            read_student(recipe, out, i - 1, &tokenizer)?
        };
        let started = folder.join("started.json");
        if folder.join("state.safetensors").is_file()
            && std::fs::read_to_string(&started).is_ok_and(|found| found != wanted)
        {
            say(format!("{}: the recipe has changed, the step starts over", step.name));
            std::fs::remove_file(folder.join("state.safetensors"))?;
        }
        std::fs::create_dir_all(&folder)?;
        std::fs::write(&started, &wanted)?;
        let sampler = sampler(recipe, step, &tokenizer, &mut cache)?;
        for (source, share) in &sampler.sources {
            let (documents, queries) =
                source.groups.iter().fold((0, 0), |(d, q), g| (d + g.documents.len(), q + g.queries.len()));
            say(format!(
                "{}: {:?} share {share}: {} groups, {documents} documents, {queries} queries",
                step.name,
                source.kind,
                source.groups.len()
            ));
        }
        let options = RunOptions { folder: &folder, workers, stop, save_every: Duration::from_secs(300) };
        let outcome = train(&student, step, &sampler, &skip, &options, |p| {
            say(format!(
                "{}: step {}/{} loss {:.4} in-batch R@1 {:.3} {:.0} tokens/s, {} left",
                step.name,
                p.step,
                p.steps,
                p.loss,
                p.accuracy,
                p.tokens_per_second,
                minutes(p.eta)
            ));
        })?;
        if outcome == Outcome::Interrupted {
            say(format!("{}: stopped, state saved in {}", step.name, folder.display()));
            return Ok(());
        }
        let trained = read_student(recipe, out, i, &tokenizer)?;
        let mut reports = Vec::new();
        for name in &recipe.eval {
            let set = RetrievalSet::read(&recipe.data.join(name))?;
            let report = evaluate(name, &set, &trained, step.depth, &tokenizer, &query, &document)?;
            say(report.table());
            reports.push(report);
        }
        std::fs::write(folder.join("eval.json"), serde_json::to_vec(&reports)?)?;
        std::fs::write(&done, &wanted)?;
    }
    Ok(())
}

fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 { format!("{seconds} s") } else { format!("{} min {} s", seconds / 60, seconds % 60) }
}

/// Evaluates one step on the recipe's sets or on others.
///
/// # Errors
/// A step that has not been trained, or unreadable sets.
pub fn eval(recipe: &Recipe, out: &Path, step: Option<&str>, sets: &[PathBuf]) -> Result<Vec<SetReport>> {
    let tokenizer = read_tokenizer(recipe)?;
    let i = step_index(recipe, step)?;
    let student = read_student(recipe, out, i, &tokenizer)?;
    let (query, document) = input_rules(recipe, &tokenizer);
    let folders: Vec<PathBuf> = if sets.is_empty() {
        recipe.eval.iter().map(|n| recipe.data.join(n)).collect()
    } else {
        sets.to_vec()
    };
    folders
        .iter()
        .map(|folder| {
            let set = RetrievalSet::read(folder)?;
            evaluate(
                &folder.display().to_string(),
                &set,
                &student,
                recipe.train[i].depth,
                &tokenizer,
                &query,
                &document,
            )
        })
        .collect()
}

/// Exports one step as a model folder and returns the parity report.
///
/// # Errors
/// A step that has not been trained, or a folder that cannot be written.
pub fn export(
    recipe: &Recipe,
    recipe_path: &Path,
    out: &Path,
    step: Option<&str>,
    model: &Path,
) -> Result<String> {
    let tokenizer = read_tokenizer(recipe)?;
    let i = step_index(recipe, step)?;
    let student = read_student(recipe, out, i, &tokenizer)?;
    crate::export::export(recipe, recipe_path, i, &student, &tokenizer, model)
}
