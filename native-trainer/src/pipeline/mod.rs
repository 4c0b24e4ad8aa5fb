//! Runs a recipe's steps and the commands on their results.

mod commands;
mod steps;

pub use commands::{EvalOptions, TrainedStep, eval, export, import_lists, import_tokenizer, merge, score};

use crate::data::{GroupSource, RetrievalSet};
use crate::eval::DEVICE;
use crate::inputs::{self, Known};
use crate::merge::Ingredient;
use crate::pretrain::MASK;
use crate::pretrained::Pretrained;
use crate::ranks::{Alone, Ranks};
use crate::recipe::{Inputs, Recipe, Step, TokenizerStep};
use crate::report::RunNote;
use crate::student::Student;
use crate::teacher::PairShape;
use crate::tokenizer::{TrainArgs, count_runs, read_counts};
use crate::train::Outcome;
use anyhow::{Context as _, Result};
use candle_core::{Device, DeviceLocation};
use serde::Serialize;
use shirube_core::InputRules;
use shirube_format::{NamedFile, Sha256Hex};
use shirube_text::{Dictionary, Tokenizer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Punctuation whose document embeddings are not kept: it matches every text and none in particular.
const SKIPPED: &str = "、。,.・「」『』()[]【】〈〉《》〔〕{}!?:;\"'`";

/// Marker before queries.
pub const QUERY_MARKER: u32 = 3;
/// Marker before documents.
pub const DOCUMENT_MARKER: u32 = 4;
/// Separator between query and document of a pair.
pub const SEPARATOR: u32 = 5;

/// Reads the recipe's tokenizer.
///
/// # Errors
/// A missing or damaged file.
pub fn read_tokenizer(recipe: &Recipe) -> Result<Tokenizer> {
    let path = recipe.tokenizer_folder().join("tokenizer.bin");
    let bytes = std::fs::read(&path)
        .with_context(|| match recipe.tokenizer_step() {
            Some(step) => format!("cannot read {}; run the step {} first, and name the run's folder with --out", path.display(), step.name),
            None => format!("cannot read {}; name a folder with tokenizer.bin, or make one with a `tokenizer` step or `shirube-train tokenizer-train`", path.display()),
        })?;
    let parts = dictionary_parts(&recipe.tokenizer_folder())?;
    let dictionary = match parts.is_empty() {
        true => None,
        false => {
            let parts: Vec<&[u8]> = parts.iter().map(|(_, bytes)| bytes.as_slice()).collect();
            Some(Arc::new(Dictionary::from_parts(&parts).with_context(|| path.display().to_string())?))
        }
    };
    Tokenizer::open(&bytes, dictionary).with_context(|| path.display().to_string())
}

/// Names and bytes of `dictionary-0.bin` and so on in a tokenizer's folder, in order; none for tokenizers that need no dictionary.
///
/// # Errors
/// Unreadable files.
pub fn dictionary_parts(folder: &Path) -> Result<Vec<NamedFile>> {
    let names = (0..).map(|i| format!("dictionary-{i}.bin")).take_while(|name| folder.join(name).is_file());
    let read = |name: String| {
        let path = folder.join(&name);
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok((name, bytes))
    };
    names.map(read).collect()
}

/// How pairs of query and document are put together for a cross-encoder of the recipe's own, of `length` tokens at most: `[CLS] query [SEP] document` by
/// the recipe's markers, or those of the tokenizers made here.
pub fn pair_shape(recipe: &Recipe, length: usize) -> PairShape {
    let inputs = recipe.model.inputs.as_ref();
    PairShape {
        first: inputs.and_then(|i| i.query_prefix.first()).copied().unwrap_or(QUERY_MARKER),
        separator: inputs.and_then(|i| i.suffix.first()).copied().unwrap_or(SEPARATOR),
        length,
    }
}

/// Input rules of queries and documents: the recipe's own markers, or those of the tokenizers made here, with the recipe's query augmentation;
/// punctuation skipped in documents.
pub fn input_rules(recipe: &Recipe, tokenizer: &Tokenizer) -> (InputRules, InputRules) {
    let own = Inputs {
        query_prefix: vec![QUERY_MARKER],
        document_prefix: vec![DOCUMENT_MARKER],
        suffix: vec![],
        mask: MASK,
        skip: None,
    };
    let inputs = recipe.model.inputs.clone().unwrap_or(own);
    let skipped = inputs.skip.as_deref().unwrap_or(SKIPPED);
    let mut skip: Vec<u32> =
        skipped.chars().filter_map(|c| tokenizer.id_of(c.encode_utf8(&mut [0; 4]))).collect();
    skip.sort_unstable();
    let query = InputRules {
        prefix: inputs.query_prefix,
        suffix: inputs.suffix.clone(),
        max_length: recipe.model.query_length,
        expansion: recipe.model.expansion.map(|e| e.with(inputs.mask)),
        ..InputRules::default()
    };
    let document = InputRules {
        prefix: inputs.document_prefix,
        suffix: inputs.suffix,
        max_length: recipe.model.document_length,
        skip,
        ..InputRules::default()
    };
    (query, document)
}

/// Marks a step as done with exactly these inputs.
fn stamp(recipe: &Recipe, until: usize) -> Result<String> {
    fn with(recipe: &Recipe, steps: &impl Serialize) -> Result<String> {
        Ok(serde_json::to_string(&(recipe.seed, recipe.bf16, &recipe.model, &recipe.tokenizer, steps))?)
    }
    if recipe.step.is_empty() {
        with(recipe, &&recipe.train[..=until])
    } else {
        with(recipe, &&recipe.step[..=until])
    }
}

/// Whether a step is finished with exactly the recipe and the data as they are up to it.
///
/// # Errors
/// Data files that cannot be read.
pub fn is_done(recipe: &Recipe, out: &Path, step: usize, known: &mut Known) -> Result<bool> {
    let wanted = stamp(recipe, step)?;
    let folder = out.join(recipe.steps()[step].name());
    let same_lines = std::fs::read_to_string(folder.join("done.json")).is_ok_and(|found| found == wanted);
    Ok(same_lines && known.changed(recipe, step, &folder)?.is_none())
}

/// The step named, or the last one that made a student.
///
/// # Errors
/// A name that is not there.
pub fn step_index(recipe: &Recipe, name: Option<&str>) -> Result<usize> {
    let steps = recipe.steps();
    match name {
        None => steps.iter().rposition(Step::makes_student).context("no step of the recipe makes a student"),
        Some(name) => steps.iter().position(|s| s.name() == name).with_context(|| {
            let names: Vec<&str> = steps.iter().map(Step::name).collect();
            format!("no step {name:?}; the recipe has {}", names.join(", "))
        }),
    }
}

/// Reads the averaged weights of a step.
///
/// # Errors
/// A step that has not been trained.
pub fn read_student(
    recipe: &Recipe,
    out: &Path,
    step: usize,
    tokenizer: &Tokenizer,
    device: &Device,
) -> Result<Student> {
    let path = out.join(recipe.steps()[step].name()).join("model.safetensors");
    let (encoder, projection) = (recipe.model.encoder(tokenizer.vocab_size()), recipe.model.projection());
    Student::load(encoder, projection, &path, recipe.seed, device)
        .with_context(|| format!("cannot read {}; run the recipe first", path.display()))
}

/// Blocks of the student that a step made.
///
/// # Errors
/// A merge that has not been run.
pub fn depth_of(recipe: &Recipe, out: &Path, step: usize) -> Result<usize> {
    let steps = recipe.steps();
    match steps[step].depth() {
        Some(depth) => Ok(depth),
        None => Ok(Ingredient::read(&out.join(steps[step].name()))?.config.depth),
    }
}

/// Mixes a step's name into the seed.
fn seed_of(recipe: &Recipe, name: &str) -> u64 {
    recipe.seed ^ name.bytes().fold(0u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)))
}

/// The student that a recipe starts from: the weights in `init`, or random ones.
///
/// # Errors
/// A folder that cannot be read, or whose shape is not the recipe's.
pub fn first_student(recipe: &Recipe, tokenizer: &Tokenizer, device: &Device) -> Result<Student> {
    let (encoder, projection) = (recipe.model.encoder(tokenizer.vocab_size()), recipe.model.projection());
    match &recipe.model.init {
        None => Ok(Student::random(encoder, projection, recipe.seed, device)?),
        Some(folder) => Pretrained::read(folder)?
            .student(encoder, projection, recipe.seed, device)
            .with_context(|| folder.display().to_string()),
    }
}

/// Everything that the steps of a run share.
struct Run<'a> {
    recipe: &'a Recipe,
    steps: Vec<Step>,
    out: &'a Path,
    machine: Machine<'a>,
    tokenizer: Tokenizer,
    tokenizer_sha256: String,
    rules: (InputRules, InputRules),
    skip: Vec<bool>,
    cache: Vec<(String, GroupSource)>,
}

/// Where lines for the user go. A line that starts with a carriage return is the state of the step at hand and takes the place of the one before.
pub type Say<'a> = &'a mut dyn FnMut(String);

/// How a recipe is run.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// Worker threads of this process.
    pub workers: usize,
    /// Set from outside to save and stop.
    pub stop: &'a AtomicBool,
    /// The processes of the run.
    pub ranks: &'a dyn Ranks,
    /// Where models are trained and evaluated.
    pub device: &'a Device,
    /// The steps to run.
    pub only: Only<'a>,
}

/// Which steps of a recipe are run; those that they read from must be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only<'a> {
    /// Every step.
    All,
    /// Steps of one kind, as `kind` says it.
    Kind(&'a str),
    /// The step of this name.
    Name(&'a str),
}

impl Only<'_> {
    fn takes(self, step: &Step) -> bool {
        match self {
            Self::All => true,
            Self::Kind(kind) => step.kind() == kind,
            Self::Name(name) => step.name() == name,
        }
    }
}

impl<'a> Machine<'a> {
    /// This process alone, on the CPU.
    pub fn alone(workers: usize, stop: &'a AtomicBool) -> Self {
        Self { workers, stop, ranks: &Alone, device: &DEVICE, only: Only::All }
    }

    fn is_root(&self) -> bool {
        self.ranks.rank() == 0
    }
}

/// Empties and marks a step's folder for what it is about to do; rank 0 alone.
fn begin(recipe: &Recipe, out: &Path, i: usize, known: &mut Known, say: Say<'_>) -> Result<()> {
    let (name, wanted) = (recipe.steps()[i].name().to_owned(), stamp(recipe, i)?);
    let folder = out.join(&name);
    let (started, state) = (folder.join("started.json"), folder.join("state.safetensors"));
    let why = match known.changed(recipe, i, &folder)? {
        _ if std::fs::read_to_string(&started).is_ok_and(|found| found != wanted) => {
            Some("the recipe has changed".to_owned())
        }
        Some(path) => Some(format!("{} has changed", path.display())),
        None => None,
    };
    if let (Some(why), true) = (why, state.is_file()) {
        say(format!("{name}: {why}, the step starts over"));
        std::fs::remove_file(state)?;
    }
    std::fs::create_dir_all(&folder)?;
    inputs::note(&folder, &known.of_steps(recipe, i)?)?;
    Ok(std::fs::write(&started, &wanted)?)
}

/// Trains the recipe's own tokenizer, which all other steps read.
fn make_tokenizer(recipe: &Recipe, step: &TokenizerStep, folder: &Path) -> Result<()> {
    let at = |names: &[String]| -> Vec<PathBuf> { names.iter().map(|n| recipe.data.join(n)).collect() };
    let words = match step.words.as_slice() {
        [] => count_runs(&at(&step.files))?,
        words => read_counts(&at(words))?,
    };
    let args = TrainArgs {
        words: Vec::new(),
        vocab_size: step.vocab_size,
        min_count: step.min_count,
        min_char_count: step.min_char_count,
        max_piece_length: step.max_piece_length,
        out: folder.to_owned(),
    };
    crate::tokenizer::write(words, &args)
}

fn write_note(recipe: &Recipe, out: &Path, machine: Machine<'_>) -> Result<()> {
    let note = RunNote {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        recipe: recipe.clone(),
        workers: machine.workers,
        ranks: machine.ranks.size(),
        device: match machine.device.location() {
            DeviceLocation::Cpu => format!("CPU, {:?}", crate::ops::simd::level()),
            other => format!("{other:?}"),
        },
    };
    Ok(std::fs::write(out.join("run.json"), serde_json::to_vec_pretty(&note)?)?)
}

/// Runs all steps of a recipe that are not done yet. Rank 0 alone talks and writes.
///
/// # Errors
/// Anything a step reports; what was trained so far stays on disk.
pub fn run(recipe: &Recipe, out: &Path, machine: Machine<'_>, say: Say<'_>) -> Result<Outcome> {
    let (root, ranks) = (machine.is_root(), machine.ranks);
    let mut nobody = |_| ();
    let say: Say<'_> = if root { say } else { &mut nobody };
    recipe.check()?;
    let recipe = &recipe.in_run(out);
    anyhow::ensure!(machine.workers > 0, "0 workers; at least one is needed");
    anyhow::ensure!(
        machine.device.is_cpu() || machine.workers == 1,
        "{} workers on one GPU would only wait for each other; use --workers 1 and larger batches",
        machine.workers
    );
    if recipe.bf16 && !crate::ops::matmul::allow_bf16(true) && machine.device.is_cpu() {
        say("bf16 products are not available on this processor; training in f32".to_owned());
    }
    let steps = recipe.steps();
    let last = steps.iter().rposition(|step| machine.only.takes(step)).with_context(|| {
        let all: Vec<String> = steps.iter().map(|s| format!("{} ({})", s.name(), s.kind())).collect();
        let what = match machine.only {
            Only::All => "no step".to_owned(),
            Only::Kind(kind) => format!("no step of kind {kind}"),
            Only::Name(name) => format!("no step {name:?}"),
        };
        format!("{what}; the recipe has {}", all.join(", "))
    })?;
    let mut known = Known::of_run(recipe, out);
    // Paths that are wrong are found now, and not after hours.
    if !is_done(recipe, out, last, &mut known)? {
        known.of_steps(recipe, last)?;
        for set in &recipe.eval {
            RetrievalSet::files(&recipe.data.join(set)).context("eval")?;
        }
    }
    if root {
        std::fs::create_dir_all(out)?;
        write_note(recipe, out, machine)?;
    }
    if let Some(step) = recipe.tokenizer_step().filter(|s| machine.only.takes(&Step::Tokenizer((*s).clone())))
    {
        if is_done(recipe, out, 0, &mut known)? {
            say(format!("{}: done already, skipped", step.name));
        } else {
            ranks.barrier()?;
            if root {
                let folder = out.join(&step.name);
                begin(recipe, out, 0, &mut known, say)?;
                make_tokenizer(recipe, step, &folder).with_context(|| format!("step {}", step.name))?;
                std::fs::write(folder.join("done.json"), stamp(recipe, 0)?)?;
                say(format!("{}: written to {}", step.name, folder.display()));
            }
            ranks.barrier()?;
        }
        if last == 0 {
            return Ok(Outcome::Finished);
        }
    }
    let tokenizer = read_tokenizer(recipe)?;
    let rules = input_rules(recipe, &tokenizer);
    let mut skip = vec![false; tokenizer.vocab_size()];
    rules.1.skip.iter().for_each(|&id| skip[id as usize] = true);
    let bin = std::fs::read(recipe.tokenizer_folder().join("tokenizer.bin"))?;
    let tokenizer_sha256 = Sha256Hex::of(&bin).to_string();
    let mut run =
        Run { recipe, steps, out, machine, tokenizer, tokenizer_sha256, rules, skip, cache: Vec::new() };
    for i in 0..run.steps.len() {
        let step = run.steps[i].clone();
        if !machine.only.takes(&step) || matches!(step, Step::Tokenizer(_)) {
            continue;
        }
        // Agreed by all, and nobody goes on before rank 0 has written what the step before made.
        if ranks.any(machine.stop.load(Ordering::Relaxed))? {
            say(format!("stopped before {}", step.name()));
            return Ok(Outcome::Interrupted);
        }
        let folder = out.join(step.name());
        let (done, wanted) = (folder.join("done.json"), stamp(recipe, i)?);
        if is_done(recipe, out, i, &mut known)? {
            if matches!(step, Step::Train(_) | Step::Pretrain(_)) && !folder.join("config.json").is_file() {
                run.record(&step, &folder, recipe.model.projection())?;
            }
            say(format!("{}: done already, skipped", step.name()));
            continue;
        }
        ranks.barrier()?; // all have looked before anything changes
        if root {
            begin(recipe, out, i, &mut known, say)?;
        }
        ranks.barrier()?;
        if !(root || step.trains()) {
            continue;
        }
        let outcome = match &step {
            Step::Train(s) => run.train(i, s, &folder, say),
            Step::Cooccurrence(s) => run.cooccurrence(i, s, &folder, say),
            Step::Pretrain(s) => run.pretrain(i, s, &folder, say),
            Step::Mine(s) => run.mine(s, &folder, say),
            Step::Teacher(s) => run.teacher(s, &folder, say),
            Step::Score(s) => run.score(s, &folder, say),
            Step::Import(s) => run.import(s, &folder, say),
            Step::Merge(s) => run.merge(s, &folder, say),
            Step::Rotate(s) => run.rotate(i, s, &folder, say),
            Step::Eval(s) => run.eval(i, s, &folder, say),
            Step::Export(s) => run.export(i, s, &folder, say),
            Step::Tokenizer(_) => unreachable!("passed over above"),
        }
        .with_context(|| format!("step {}", step.name()))?;
        if outcome == Outcome::Interrupted {
            say(format!("{}: stopped, state saved in {}", step.name(), folder.display()));
            return Ok(outcome);
        }
        if !root {
            continue;
        }
        if matches!(step, Step::Train(_) | Step::Merge(_)) {
            let trained = read_student(recipe, out, i, &run.tokenizer, machine.device)?;
            let reports = run.evaluate(&trained, depth_of(recipe, out, i)?)?;
            reports.iter().for_each(|r| say(r.table()));
            std::fs::write(folder.join("eval.json"), serde_json::to_vec(&reports)?)?;
        }
        std::fs::write(&done, &wanted)?;
    }
    ranks.barrier()?;
    Ok(Outcome::Finished)
}
