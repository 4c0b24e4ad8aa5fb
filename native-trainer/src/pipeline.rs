//! Runs a recipe's steps and the commands on their results.

use crate::batch::contrastive;
use crate::data::{Glossary, GroupSource, Import, Imported, Lists, RetrievalSet, Sampler, SourceKind};
use crate::distill::{Number, StudentInput, Target, TokenLists, distill};
use crate::eval::{DEVICE, SetReport, evaluate};
use crate::export::Dtype;
use crate::inputs::{self, Known};
use crate::merge::{Ingredient, StepConfig, greedy_soup, mean};
use crate::mine::{Searcher, mine};
use crate::pretrain::{Corpus, MASK};
use crate::pretrained::Pretrained;
use crate::ranks::{Alone, Ranks};
use crate::recipe::{
    ImportStep, Inputs, Loss, MergeChoice, MergeStep, MineStep, PretrainStep, Recipe, ScoreStep, Step,
    TeacherStep, TrainStep,
};
use crate::report::RunNote;
use crate::student::Student;
use crate::teacher::{CrossEncoder, Teacher};
use crate::train::{Objective, Outcome, Progress, RunOptions, Schedule, optimise};
use anyhow::{Context as _, Result};
use candle_core::{Device, DeviceLocation, Tensor, Var};
use serde::Serialize;
use shirube_core::{EncoderConfig, InputRules, ProjectionConfig};
use shirube_format::Sha256Hex;
use shirube_index::IndexOptions;
use shirube_text::Tokenizer;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
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
        .with_context(|| format!("cannot read {}; name a folder with tokenizer.bin, or make one with `shirube-train tokenizer-train`", path.display()))?;
    Tokenizer::from_bytes(&bytes).with_context(|| path.display().to_string())
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

fn sampler(
    recipe: &Recipe,
    step: &TrainStep,
    tokenizer: &Tokenizer,
    (query, document): (&InputRules, InputRules),
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
                    kind => {
                        let written = source.questions.as_deref();
                        anyhow::ensure!(
                            (kind == SourceKind::Written) == written.is_some(),
                            "step {}: a `written` source, and no other, names its file in `questions`",
                            step.name
                        );
                        GroupSource::sections(&recipe.data, kind, &source.files, written, tokenizer)?
                    }
                };
                cache.push((key, groups.clone()));
                groups
            }
        };
        sources.push((groups, source.share));
    }
    Ok(Sampler {
        sources,
        query: query.clone(),
        document,
        sentence_end: tokenizer.id_of("。").context("the tokenizer has no piece for 。")?,
        query_dropout: step.query_dropout,
        glossary: match &step.glossary {
            Some(path) => Some((Glossary::read(path, tokenizer)?, step.paraphrase.unwrap_or(1.0 / 3.0))),
            None => None,
        },
        seed: seed_of(recipe, &step.name),
    })
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
}

impl<'a> Machine<'a> {
    /// This process alone, on the CPU.
    pub fn alone(workers: usize, stop: &'a AtomicBool) -> Self {
        Self { workers, stop, ranks: &Alone, device: &DEVICE }
    }

    fn is_root(&self) -> bool {
        self.ranks.rank() == 0
    }
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
    anyhow::ensure!(machine.workers > 0, "0 workers; at least one is needed");
    anyhow::ensure!(
        machine.device.is_cpu() || machine.workers == 1,
        "{} workers on one GPU would only wait for each other; use --workers 1 and larger batches",
        machine.workers
    );
    if recipe.bf16 && !crate::ops::matmul::allow_bf16(true) && machine.device.is_cpu() {
        say("bf16 products are not available on this processor; training in f32".to_owned());
    }
    let tokenizer = read_tokenizer(recipe)?;
    let rules = input_rules(recipe, &tokenizer);
    let mut skip = vec![false; tokenizer.vocab_size()];
    rules.1.skip.iter().for_each(|&id| skip[id as usize] = true);
    let tokenizer_sha256 = Sha256Hex::of(&std::fs::read(recipe.tokenizer.join("tokenizer.bin"))?).to_string();
    let mut run = Run {
        recipe,
        steps: recipe.steps(),
        out,
        machine,
        tokenizer,
        tokenizer_sha256,
        rules,
        skip,
        cache: Vec::new(),
    };
    if root {
        std::fs::create_dir_all(out)?;
        let note = RunNote {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            recipe: recipe.clone(),
            workers: machine.workers,
            ranks: ranks.size(),
            device: match machine.device.location() {
                DeviceLocation::Cpu => format!("CPU, {:?}", crate::ops::simd::level()),
                other => format!("{other:?}"),
            },
        };
        std::fs::write(out.join("run.json"), serde_json::to_vec_pretty(&note)?)?;
    }
    let mut known = Known::of_run(recipe, out);
    // Paths that are wrong are found now, and not after hours.
    let last = run.steps.len() - 1;
    if !is_done(recipe, out, last, &mut known)? {
        known.of_steps(recipe, last)?;
        for set in &recipe.eval {
            RetrievalSet::files(&recipe.data.join(set)).context("eval")?;
        }
    }
    for i in 0..run.steps.len() {
        let step = run.steps[i].clone();
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
            let (started, state) = (folder.join("started.json"), folder.join("state.safetensors"));
            let why = match known.changed(recipe, i, &folder)? {
                _ if std::fs::read_to_string(&started).is_ok_and(|found| found != wanted) => {
                    Some("the recipe has changed".to_owned())
                }
                Some(path) => Some(format!("{} has changed", path.display())),
                None => None,
            };
            if let (Some(why), true) = (why, state.is_file()) {
                say(format!("{}: {why}, the step starts over", step.name()));
                std::fs::remove_file(state)?;
            }
            std::fs::create_dir_all(&folder)?;
            inputs::note(&folder, &known.of_steps(recipe, i)?)?;
            std::fs::write(&started, &wanted)?;
        }
        ranks.barrier()?;
        if !(root || step.trains()) {
            continue;
        }
        let outcome = match &step {
            Step::Train(s) => run.train(i, s, &folder, say),
            Step::Pretrain(s) => run.pretrain(i, s, &folder, say),
            Step::Mine(s) => run.mine(s, &folder, say),
            Step::Teacher(s) => run.teacher(s, &folder, say),
            Step::Score(s) => run.score(s, &folder, say),
            Step::Import(s) => run.import(s, &folder, say),
            Step::Merge(s) => run.merge(s, &folder, say),
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

impl Run<'_> {
    /// Index of the step called `name`.
    fn place(&self, name: &str) -> Option<usize> {
        self.steps.iter().position(|s| s.name() == name)
    }

    /// The student to start step `i` from.
    fn start(&self, i: usize, from: Option<&str>) -> Result<Student> {
        let before = match from {
            Some(name) => Some(step_index(self.recipe, Some(name))?),
            None => self.steps[..i].iter().rposition(Step::makes_student),
        };
        match before {
            Some(j) => {
                anyhow::ensure!(
                    self.steps[j].makes_student(),
                    "{} makes no student to start from",
                    self.steps[j].name()
                );
                read_student(self.recipe, self.out, j, &self.tokenizer, self.machine.device)
            }
            None => first_student(self.recipe, &self.tokenizer, self.machine.device),
        }
    }

    /// Lists written by a step, or found in the data folder.
    fn lists(&self, name: &str) -> Result<Lists> {
        let path = match self.place(name) {
            Some(_) => self.out.join(name),
            None => self.recipe.data.join(name),
        };
        Ok(Lists::read(&path)?)
    }

    /// A ColBERT to learn from, with its depth: a step of this recipe, or the folder of another run's step.
    fn colbert(&self, name: &str) -> Result<(Student, usize)> {
        let folder = if self.place(name).is_some() { self.out.join(name) } else { PathBuf::from(name) };
        let Ingredient { config, weights, .. } = Ingredient::read(&folder)?;
        anyhow::ensure!(
            config.tokenizer == self.tokenizer_sha256,
            "{}: it reads another tokenizer, so its query tokens are not the student's; use `score` and `distill`",
            folder.display()
        );
        let encoder = EncoderConfig { n_layers: config.depth, ..config.encoder };
        let student = Student::from_tensors(encoder, config.projection, &weights)
            .with_context(|| folder.display().to_string())?;
        Ok((student, config.depth))
    }

    /// Writes `config.json`, what the weights of a step belong to.
    fn record(&self, step: &Step, folder: &Path, projection: ProjectionConfig) -> Result<()> {
        let config = StepConfig {
            encoder: self.recipe.model.encoder(self.tokenizer.vocab_size()),
            projection,
            depth: step.depth().context("only trained steps record their depth")?,
            tokenizer: self.tokenizer_sha256.clone(),
        };
        if self.machine.is_root() {
            std::fs::write(folder.join("config.json"), serde_json::to_vec_pretty(&config)?)?;
        }
        Ok(())
    }

    fn evaluate(&self, student: &Student, depth: usize) -> Result<Vec<SetReport>> {
        self.recipe
            .eval
            .iter()
            .map(|name| {
                let set = RetrievalSet::read(&self.recipe.data.join(name))?;
                evaluate(name, &set, student, depth, &self.tokenizer, &self.rules.0, &self.rules.1)
            })
            .collect()
    }

    fn optimise(
        &self,
        variables: &[(String, Var)],
        schedule: Schedule,
        objective: &Objective<'_>,
        (name, accuracy): (&str, &str),
        folder: &Path,
        say: Say<'_>,
    ) -> Result<Outcome> {
        let options = RunOptions {
            folder,
            workers: self.machine.workers,
            ranks: self.machine.ranks,
            stop: self.machine.stop,
            save_every: Duration::from_secs(300),
        };
        let report = |p: Progress| {
            let accuracy =
                if accuracy.is_empty() { String::new() } else { format!(" {accuracy} {:.3}", p.accuracy) };
            let memory = p.memory_bytes.map_or_else(String::new, |bytes| format!(", {} MiB", bytes >> 20));
            say(format!(
                "\r{name}: step {}/{} loss {:.4}{accuracy} {:.0} tokens/s{memory}, {} left",
                p.step,
                p.steps,
                p.loss,
                p.tokens_per_second,
                minutes(p.eta)
            ));
        };
        optimise(variables, schedule, objective, &options, report)
    }

    fn train(&mut self, i: usize, step: &TrainStep, folder: &Path, say: Say<'_>) -> Result<Outcome> {
        let student = self.start(i, step.from.as_deref())?;
        self.record(&self.steps[i], folder, self.recipe.model.projection())?;
        let schedule = Schedule {
            steps: step.steps,
            learning_rate: step.learning_rate,
            warmup: step.warmup,
            weight_decay: step.weight_decay,
            accumulate: step.accumulate,
        };
        let variables = owned(&student, step.depth);
        let query = self.rules.0.clone();
        let document = InputRules { max_length: step.document_length, ..self.rules.1.clone() };
        if let Some(name) = &step.lists {
            let number = if step.loss == Loss::DistillTokens { Number::Nothing } else { Number::Score };
            let lists = TokenLists::new(
                &self.lists(name)?,
                &self.tokenizer,
                step.n_way,
                number,
                seed_of(self.recipe, &step.name),
            )?;
            say(format!(
                "{}: {} lists of {} documents, {} shorter ones left out",
                step.name,
                lists.n_lists(),
                lists.n_way,
                lists.n_short
            ));
            let input = StudentInput {
                query: &query,
                document: &document,
                query_dropout: step.query_dropout,
                skip: &self.skip,
                chunk_tokens: step.chunk_tokens,
            };
            let other = step.teacher.as_ref().map(|name| self.colbert(name)).transpose()?;
            let target = match (step.loss, &other) {
                (Loss::DistillTokens, Some((teacher, depth))) => {
                    Target::Tokens { teacher, depth: *depth, temperature: step.temperature.unwrap_or(0.1) }
                }
                (Loss::MarginMse, _) => Target::Margins,
                _ => Target::Scores(step.temperature.unwrap_or(1.0)),
            };
            return self.optimise(
                &variables,
                schedule,
                &|k, w| distill(&student, &lists, step.depth, input, target, step.batch_tokens, (k, w)),
                (&step.name, "positive first"),
                folder,
                say,
            );
        }
        let sampler = sampler(self.recipe, step, &self.tokenizer, (&query, document), &mut self.cache)?;
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
        self.optimise(
            &variables,
            schedule,
            &|k, w| {
                let batch = sampler.batch(k, w, step.batch_tokens);
                contrastive(&student, &batch, step.depth, &self.skip, step.chunk_tokens)
            },
            (&step.name, "in-batch R@1"),
            folder,
            say,
        )
    }

    fn pretrain(&self, i: usize, step: &PretrainStep, folder: &Path, say: Say<'_>) -> Result<Outcome> {
        let student = self.start(i, step.from.as_deref())?;
        self.record(&self.steps[i], folder, self.recipe.model.projection())?;
        let corpus = Corpus::read(
            &self.recipe.data,
            &step.files,
            &self.tokenizer,
            step.length,
            (step.mask_share, self.recipe.model.inputs.as_ref().map_or(MASK, |i| i.mask)),
            seed_of(self.recipe, &step.name),
        )?;
        say(format!("{}: {} tokens of text", step.name, corpus.n_tokens()));
        let schedule = Schedule {
            steps: step.steps,
            learning_rate: step.learning_rate,
            warmup: step.warmup,
            weight_decay: step.weight_decay,
            accumulate: step.accumulate,
        };
        self.optimise(
            &owned(&student, step.depth),
            schedule,
            &|k, w| corpus.loss(&student, step.depth, step.batch_tokens, (k, w)),
            (&step.name, ""),
            folder,
            say,
        )
    }

    fn mine(&self, step: &MineStep, folder: &Path, say: Say<'_>) -> Result<Outcome> {
        let set = match &step.set {
            Some(set) => RetrievalSet::read(&self.recipe.data.join(set))?,
            None => RetrievalSet::from_pairs(&self.recipe.data, &step.files)?,
        };
        let student = match &step.student {
            Some(name) => {
                let j = step_index(self.recipe, Some(name))?;
                let depth = depth_of(self.recipe, self.out, j)?;
                Some((read_student(self.recipe, self.out, j, &self.tokenizer, self.machine.device)?, depth))
            }
            None => None,
        };
        let searcher = student.as_ref().map(|(student, depth)| Searcher {
            student,
            depth: *depth,
            tokenizer: &self.tokenizer,
            rules: (&self.rules.0, &self.rules.1),
        });
        let lists = mine(&set, step, searcher)?;
        anyhow::ensure!(
            !lists.lists.is_empty(),
            "no query has {} documents left; lower n_way, raise top or max_share",
            step.n_way
        );
        say(format!(
            "{}: {} lists of {} documents from {} queries",
            step.name,
            lists.lists.len(),
            step.n_way,
            step.queries.unwrap_or(usize::MAX).min(set.queries.len())
        ));
        lists.write(folder)?;
        Ok(Outcome::Finished)
    }

    /// A cross-encoder of the student's shape; its blocks and embeddings from a step, its head new.
    fn cross_encoder(&self, weights: Option<&Path>, whole: bool) -> Result<Student> {
        let encoder = self.recipe.model.encoder(self.tokenizer.vocab_size());
        let head = self.recipe.model.scalar_head();
        let fresh = Student::random(encoder.clone(), head.clone(), self.recipe.seed, self.machine.device)?;
        let Some(path) = weights else { return Ok(fresh) };
        let mut values: BTreeMap<String, Tensor> = fresh
            .variables(encoder.n_layers)
            .map(|(name, v)| (name.clone(), v.as_tensor().clone()))
            .collect();
        let found = candle_core::safetensors::load(path, self.machine.device)
            .with_context(|| format!("cannot read {}; run the recipe first", path.display()))?;
        for (name, tensor) in found {
            if whole || !(name.starts_with("dense.") || name.starts_with("query_weight.")) {
                values.insert(name, tensor);
            }
        }
        Ok(Student::from_tensors(encoder, head, &values)?)
    }

    fn teacher(&self, step: &TeacherStep, folder: &Path, say: Say<'_>) -> Result<Outcome> {
        let from = step.from.as_ref().map(|name| self.out.join(name).join("model.safetensors"));
        let teacher = self.cross_encoder(from.as_deref(), false)?;
        self.record(&Step::Teacher(step.clone()), folder, self.recipe.model.scalar_head())?;
        let lists = TokenLists::new(
            &self.lists(&step.lists)?,
            &self.tokenizer,
            Some(step.n_way),
            Number::Label,
            seed_of(self.recipe, &step.name),
        )?;
        let schedule = Schedule {
            steps: step.steps,
            learning_rate: step.learning_rate,
            warmup: step.warmup,
            weight_decay: step.weight_decay,
            accumulate: step.accumulate,
        };
        self.optimise(
            &owned(&teacher, step.depth),
            schedule,
            &|k, w| lists.cross_encoder_loss(&teacher, step.depth, step.length, step.batch_tokens, (k, w)),
            (&step.name, "positive first"),
            folder,
            say,
        )
    }

    fn score(&self, step: &ScoreStep, folder: &Path, say: Say<'_>) -> Result<Outcome> {
        let teacher = match self.place(&step.teacher).map(|j| &self.steps[j]) {
            Some(Step::Teacher(t)) => Teacher::Own {
                model: Box::new(
                    self.cross_encoder(Some(&self.out.join(&t.name).join("model.safetensors")), true)?,
                ),
                depth: t.depth,
                length: t.length,
                tokenizer: Box::new(self.tokenizer.clone()),
            },
            Some(other) => anyhow::bail!("{} is not a teacher step", other.name()),
            None => Teacher::Loaded(Box::new(CrossEncoder::read(Path::new(&step.teacher))?)),
        };
        let mut lists = self.lists(&step.lists)?;
        teacher.score_lists(&mut lists, |done, all| say(format!("{}: {done}/{all} lists", step.name)))?;
        lists.write(folder)?;
        Ok(Outcome::Finished)
    }

    fn import(&self, step: &ImportStep, folder: &Path, say: Say<'_>) -> Result<Outcome> {
        let at = |name: &String| self.recipe.data.join(name);
        let import = Import {
            lists: step.lists.iter().map(at).collect(),
            queries: step.queries.as_ref().map(at),
            documents: step.documents.as_ref().map(at),
            score_kind: step.score_kind,
            columns: step.columns.clone(),
            n_lists: step.n_lists,
            max_bad_rows: step.max_bad_rows,
        };
        import_lists(&import, folder, &mut |line| say(format!("{}: {line}", step.name)))?;
        Ok(Outcome::Finished)
    }

    fn merge(&self, step: &MergeStep, folder: &Path, say: Say<'_>) -> Result<Outcome> {
        let folders: Vec<PathBuf> = step
            .parts
            .iter()
            .map(|part| if self.place(part).is_some() { self.out.join(part) } else { PathBuf::from(part) })
            .collect();
        let parts = folders.iter().map(|f| Ingredient::read(f)).collect::<Result<Vec<_>>>()?;
        let weights = step.weights.clone().unwrap_or_else(|| vec![1.0; parts.len()]);
        let chosen: Vec<&Ingredient> = parts.iter().collect();
        let average = mean(&chosen, &weights)?;
        let first = parts.first().context("a merge needs at least one part")?;
        anyhow::ensure!(
            first.config.tokenizer == self.tokenizer_sha256
                && first.config.encoder == self.recipe.model.encoder(self.tokenizer.vocab_size())
                && first.config.projection == self.recipe.model.projection(),
            "{}: its tokenizer or shape is not this recipe's",
            first.folder.display()
        );
        let depth = first.config.depth;
        let mut rows = Vec::new();
        let mut value = |weights: &BTreeMap<String, Tensor>, label: &str| -> Result<f64> {
            let student = self.student_of(weights)?;
            let reports = self.evaluate(&student, depth)?;
            let ndcg: Vec<f64> = reports
                .iter()
                .filter_map(|r| r.methods.iter().find(|m| m.method == "maxsim"))
                .map(|m| m.mean.ndcg_10)
                .collect();
            let mean = ndcg.iter().sum::<f64>() / ndcg.len().max(1) as f64;
            let line = reports
                .iter()
                .zip(&ndcg)
                .map(|(r, n)| {
                    format!("{} R@1 {:.4} nDCG@10 {n:.4}", r.set, r.recall_1("maxsim").unwrap_or(0.0))
                })
                .collect::<Vec<_>>()
                .join(", ");
            say(format!("{}: {label}: {line}", step.name));
            rows.push(serde_json::json!({"weights": label, "ndcg_10": mean, "sets": reports}));
            Ok(mean)
        };
        let alone = parts
            .iter()
            .map(|p| value(&p.weights, &p.folder.display().to_string()))
            .collect::<Result<Vec<f64>>>()?;
        let of_mean = value(&average, "weighted mean")?;
        let (kept, soup, of_soup) = greedy_soup(&parts, &alone, |w| value(w, "greedy soup, one more part"))?;
        let best = alone.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let names: Vec<String> = kept.iter().map(|&i| parts[i].folder.display().to_string()).collect();
        say(format!(
            "{}: mean nDCG@10 of MaxSim: best part {best:.4}, weighted mean {of_mean:.4}, greedy soup {of_soup:.4} of {}",
            step.name,
            names.join(", ")
        ));
        let weights = if step.choose == MergeChoice::Mean { &average } else { &soup };
        Student::save(weights, &folder.join("model.safetensors"))?;
        std::fs::write(folder.join("config.json"), serde_json::to_vec_pretty(&first.config)?)?;
        let report = serde_json::json!({
            "evaluated": rows, "best_part": best, "mean": of_mean, "soup": of_soup, "soup_parts": names, "chosen": step.choose,
        });
        std::fs::write(folder.join("merge.json"), serde_json::to_vec_pretty(&report)?)?;
        Ok(Outcome::Finished)
    }

    /// A student with these weights; blocks that are not there are the identity.
    fn student_of(&self, weights: &BTreeMap<String, Tensor>) -> Result<Student> {
        let encoder = self.recipe.model.encoder(self.tokenizer.vocab_size());
        let projection = self.recipe.model.projection();
        let fresh =
            Student::random(encoder.clone(), projection.clone(), self.recipe.seed, self.machine.device)?;
        let mut values: BTreeMap<String, Tensor> = fresh
            .variables(encoder.n_layers)
            .map(|(name, v)| (name.clone(), v.as_tensor().clone()))
            .collect();
        values.extend(weights.iter().map(|(n, t)| (n.clone(), t.clone())));
        Ok(Student::from_tensors(encoder, projection, &values)?)
    }
}

/// Variables by name, as the optimiser takes them.
fn owned(student: &Student, depth: usize) -> Vec<(String, Var)> {
    student.variables(depth).map(|(name, var)| (name.clone(), var.clone())).collect()
}

/// Writes the weighted mean of the weights in `folders` to the folder `to`.
///
/// # Errors
/// Unfinished steps, other architectures or tokenizers.
pub fn merge(folders: &[PathBuf], weights: Option<Vec<f64>>, to: &Path) -> Result<()> {
    let parts = folders.iter().map(|f| Ingredient::read(f)).collect::<Result<Vec<_>>>()?;
    let chosen: Vec<&Ingredient> = parts.iter().collect();
    let average = mean(&chosen, &weights.unwrap_or_else(|| vec![1.0; parts.len()]))?;
    std::fs::create_dir_all(to)?;
    Student::save(&average, &to.join("model.safetensors"))?;
    std::fs::write(to.join("config.json"), serde_json::to_vec_pretty(&parts[0].config)?)?;
    Ok(())
}

/// Scores lists with a Hugging Face cross-encoder and writes them with the scores to the folder `to`.
///
/// # Errors
/// Unreadable lists or teacher.
pub fn score(lists: &Path, teacher: &Path, to: &Path, say: Say<'_>) -> Result<()> {
    let teacher = Teacher::Loaded(Box::new(CrossEncoder::read(teacher)?));
    let mut lists = Lists::read(lists)?;
    teacher.score_lists(&mut lists, |done, all| say(format!("{done}/{all} lists")))?;
    lists.write(to)?;
    Ok(())
}

/// Reads scored lists from elsewhere and writes them, with `bad-rows.txt` if rows were passed over, to the folder `to`.
///
/// # Errors
/// Unreadable files, more bad rows than may be passed over, or no list at all.
pub fn import_lists(import: &Import, to: &Path, say: Say<'_>) -> Result<()> {
    let Imported { lists, bad, n_bad, n_rows } = import.read()?;
    let longest = lists.lists.iter().map(|l| l.documents.len()).max().unwrap_or(0);
    let shortest = lists.lists.iter().map(|l| l.documents.len()).min().unwrap_or(0);
    anyhow::ensure!(!lists.lists.is_empty(), "no list in {n_rows} rows");
    lists.write(to)?;
    say(format!(
        "{} lists of {shortest} to {longest} documents, {} queries, {} documents",
        lists.lists.len(),
        lists.queries.len(),
        lists.documents.len()
    ));
    let report = to.join("bad-rows.txt");
    if n_bad > 0 {
        let shown: String = bad.iter().map(|e| format!("{e}\n")).collect();
        std::fs::write(&report, shown).with_context(|| report.display().to_string())?;
        say(format!(
            "{n_bad} of {n_rows} rows were wrong and passed over, the first: {}; see {}",
            bad[0],
            report.display()
        ));
    } else if report.exists() {
        std::fs::remove_file(&report)?;
    }
    Ok(())
}

fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 { format!("{seconds} s") } else { format!("{} min {} s", seconds / 60, seconds % 60) }
}

/// A step of a run.
#[derive(Clone, Copy, Debug)]
pub struct TrainedStep<'a> {
    /// Recipe.
    pub recipe: &'a Recipe,
    /// Its file, which a model's manifest names.
    pub recipe_path: &'a Path,
    /// Folder of the run.
    pub out: &'a Path,
    /// Name; the last one that made a student if absent.
    pub step: Option<&'a str>,
}

/// What `eval` measures; at least one of `trained` and `model`.
#[derive(Clone, Debug, Default)]
pub struct EvalOptions<'a> {
    /// The f32 student of a step, with BM25 and the fusion.
    pub trained: Option<TrainedStep<'a>>,
    /// Also that step as it would be exported, through the compressed index.
    pub shipped: bool,
    /// An exported model, through the compressed index.
    pub model: Option<&'a Path>,
    /// Indexes of the compressed search.
    pub indexes: Vec<IndexOptions>,
    /// Retrieval sets; the recipe's if empty.
    pub sets: Vec<PathBuf>,
}

/// Evaluates on retrieval sets.
///
/// # Errors
/// A step that has not been trained, a model or sets that cannot be read, or nothing to evaluate.
pub fn eval(options: &EvalOptions<'_>) -> Result<Vec<SetReport>> {
    anyhow::ensure!(
        options.trained.is_some() || options.model.is_some(),
        "nothing to evaluate; name a recipe with `--out RUN`, or an exported model with `--model DIR`"
    );
    anyhow::ensure!(
        !options.shipped || options.model.is_none(),
        "--shipped exports the trained step, --model names another model; use one of them"
    );
    let student = match options.trained {
        None => None,
        Some(t) => {
            let tokenizer = read_tokenizer(t.recipe)?;
            let i = step_index(t.recipe, t.step)?;
            let student = read_student(t.recipe, t.out, i, &tokenizer, &DEVICE)?;
            Some((t, tokenizer, i, student, depth_of(t.recipe, t.out, i)?))
        }
    };
    let model = match (options.model, &student) {
        (Some(folder), _) => Some(crate::shipped::read_model(folder)?),
        (None, Some((t, tokenizer, i, student, depth))) if options.shipped => {
            let (manifest, files) = crate::export::assemble(
                t.recipe,
                t.recipe_path,
                (*i, *depth),
                student,
                tokenizer,
                Dtype::Int8,
            )?;
            Some(crate::export::load(&manifest, &files)?)
        }
        _ => None,
    };
    let sets: Vec<PathBuf> = match options.trained {
        Some(t) if options.sets.is_empty() => t.recipe.eval.iter().map(|n| t.recipe.data.join(n)).collect(),
        _ => options.sets.clone(),
    };
    anyhow::ensure!(!sets.is_empty(), "no retrieval set to evaluate on; name one with `--set DIR`");
    let report = |folder: &PathBuf| {
        let set = RetrievalSet::read(folder)?;
        let name = folder.display().to_string();
        let mut report = match &student {
            Some((t, tokenizer, _, student, depth)) => {
                let (query, document) = input_rules(t.recipe, tokenizer);
                evaluate(&name, &set, student, *depth, tokenizer, &query, &document)?
            }
            None => SetReport::empty(&name, &set),
        };
        if let Some(model) = &model {
            crate::shipped::evaluate(&mut report, &set, model, &options.indexes)?;
        }
        Ok(report)
    };
    sets.iter().map(report).collect()
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
    dtype: Dtype,
) -> Result<String> {
    let tokenizer = read_tokenizer(recipe)?;
    let i = step_index(recipe, step)?;
    let student = read_student(recipe, out, i, &tokenizer, &DEVICE)?;
    let depth = depth_of(recipe, out, i)?;
    crate::export::export(recipe, recipe_path, (i, depth), &student, &tokenizer, model, dtype)
}
