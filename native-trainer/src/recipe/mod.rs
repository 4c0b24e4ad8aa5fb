//! `recipe.toml`: every decision of a run in one file.

mod shape;
mod steps;

#[cfg(test)]
pub(crate) use shape::small_shape;
pub use shape::{ExpansionShape, Inputs, ModelShape};
pub use steps::{
    CooccurrenceStep, EvalStep, ExportStep, ImportStep, Loss, MergeChoice, MergeStep, MineStep, PretrainStep,
    RotateStep, ScoreStep, Source, TeacherStep, TokenizerStep, TrainStep,
};

use crate::data::SourceKind;
use serde::{Deserialize, Serialize};
use shirube_core::Architecture;
use std::path::{Path, PathBuf};

/// A whole recipe.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the model.
    pub name: String,
    /// Seed of initialisation and data order.
    pub seed: u64,
    /// Licence of the model, an SPDX expression, for its manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Folder with `tokenizer.json` and `tokenizer.bin`, or the name of a `tokenizer` step.
    pub tokenizer: PathBuf,
    /// Data folder.
    pub data: PathBuf,
    /// Linear layers multiply in bf16 with f32 sums where the processor can: about 1.5 times the speed.
    #[serde(default)]
    pub bf16: bool,
    /// Shape.
    pub model: ModelShape,
    /// Retrieval sets evaluated after each step, relative to `data`.
    #[serde(default)]
    pub eval: Vec<String>,
    /// `cpu` (the default), `cuda` or `cuda:N`; a flag of the command goes before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Training steps, in order; each starts from the one before. The short form of a recipe that only trains.
    #[serde(default)]
    pub train: Vec<TrainStep>,
    /// Steps of any kind, in order. A recipe has either these or `train`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub step: Vec<Step>,
    /// File that it was read from; empty for one made in code.
    #[serde(skip)]
    pub path: PathBuf,
    /// Folder of the run, where a `tokenizer` step writes; see [`Self::in_run`].
    #[serde(skip)]
    pub run: PathBuf,
}

/// One step of a recipe.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Step {
    /// Trains a tokenizer.
    Tokenizer(TokenizerStep),
    /// Trains the student.
    Train(TrainStep),
    /// Makes the student's token embeddings from co-occurrence statistics.
    Cooccurrence(CooccurrenceStep),
    /// Trains the student's blocks as a masked-language model on raw text.
    Pretrain(PretrainStep),
    /// Finds hard negatives.
    Mine(MineStep),
    /// Trains a cross-encoder of the student's shape.
    Teacher(TeacherStep),
    /// Scores lists with a cross-encoder.
    Score(ScoreStep),
    /// Reads scored lists from elsewhere.
    Import(ImportStep),
    /// Averages steps.
    Merge(MergeStep),
    /// Turns the axes of a student's embeddings for the index's codewords.
    Rotate(RotateStep),
    /// Measures a student.
    Eval(EvalStep),
    /// Writes a student as a model folder.
    Export(ExportStep),
}

impl Recipe {
    /// Reads a recipe; relative paths in it are taken from the working folder.
    ///
    /// # Errors
    /// An unreadable file, unknown or missing fields (with line), or a recipe without steps.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the recipe {}", path.display()))?;
        let mut recipe: Self =
            toml::from_str(&text).with_context(|| format!("in the recipe {}", path.display()))?;
        recipe.path = path.to_owned();
        recipe.check().with_context(|| path.display().to_string())?;
        Ok(recipe)
    }

    /// The recipe as run in the folder `out`, where its own tokenizer is.
    pub fn in_run(&self, out: &Path) -> Self {
        Self { run: out.to_owned(), ..self.clone() }
    }

    /// The step that `tokenizer` names, if it names one.
    pub fn tokenizer_step(&self) -> Option<&TokenizerStep> {
        self.step.iter().find_map(|step| match step {
            Step::Tokenizer(s) if Path::new(&s.name) == self.tokenizer => Some(s),
            _ => None,
        })
    }

    /// Folder with `tokenizer.json` and `tokenizer.bin`.
    pub fn tokenizer_folder(&self) -> PathBuf {
        match self.tokenizer_step() {
            Some(step) => self.run.join(&step.name),
            None => self.tokenizer.clone(),
        }
    }

    /// All steps in order, whichever form they were written in.
    pub fn steps(&self) -> Vec<Step> {
        if self.step.is_empty() {
            self.train.iter().cloned().map(Step::Train).collect()
        } else {
            self.step.clone()
        }
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// The first fault, with the step's name.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.train.is_empty() != self.step.is_empty(),
            "a recipe needs either [[train]] steps or [[step]] entries, found {} and {}",
            self.train.len(),
            self.step.len()
        );
        let model = &self.model;
        anyhow::ensure!(
            model.architecture == Architecture::Bert
                || (model.global_attention_every > 0 && model.local_window > 1),
            "[model] needs global_attention_every (1 or more) and local_window (2 or more)"
        );
        let longest = model.encoder(1).max_positions;
        for (what, n) in [("query_length", model.query_length), ("document_length", model.document_length)] {
            anyhow::ensure!(
                n <= longest,
                "[model] {what} is {n} tokens, but the model has {longest} positions"
            );
        }
        let steps = self.steps();
        for (i, step) in steps.iter().enumerate() {
            let name = step.name();
            anyhow::ensure!(
                !name.is_empty()
                    && name.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c))
                    && !name.starts_with('.'),
                "step {name:?}: a name is a folder's name: letters, digits, - _ ."
            );
            if let Some(j) = steps[..i].iter().position(|s| s.name() == name) {
                anyhow::bail!("steps {} and {} are both called {name}; give each its own name", j + 1, i + 1);
            }
        }
        for (i, step) in steps.iter().enumerate() {
            let name = step.name();
            for other in step.references() {
                anyhow::ensure!(
                    !steps[i..].iter().any(|s| s.name() == other),
                    "step {name}: {other} comes later or is the step itself; a step can only use earlier ones"
                );
            }
            let lengths = match step {
                Step::Train(s) => vec![
                    ("batch_tokens", s.batch_tokens),
                    ("document_length", s.document_length),
                    ("chunk_tokens", s.chunk_tokens.unwrap_or(usize::MAX)),
                ],
                Step::Pretrain(s) => vec![("batch_tokens", s.batch_tokens), ("length", s.length)],
                Step::Teacher(s) => vec![("batch_tokens", s.batch_tokens), ("length", s.length)],
                _ => vec![],
            };
            if let Some((what, n)) = lengths.into_iter().find(|(_, n)| *n < 8) {
                anyhow::bail!("step {name}: {what} is {n} tokens, expected 8 or more");
            }
            let read = match step {
                Step::Train(s) => s.document_length,
                Step::Pretrain(s) => s.length,
                Step::Teacher(s) => s.length,
                _ => 0,
            };
            anyhow::ensure!(
                read <= longest,
                "step {name}: texts of {read} tokens, but the model has {longest} positions"
            );
            anyhow::ensure!(
                step.accumulate() > 0,
                "step {name}: accumulate is 0; at least one batch makes a step"
            );
            if let Step::Train(t) = step {
                let on_lists = t.loss != Loss::Contrastive;
                anyhow::ensure!(
                    on_lists == t.lists.is_some() && on_lists == t.sources.is_empty(),
                    "step {name}: the contrastive loss needs `sources`, the other losses need `lists`; not both"
                );
                anyhow::ensure!(
                    (t.loss == Loss::DistillTokens) == t.teacher.is_some(),
                    "step {name}: `teacher` goes with the loss `distill_tokens`, and that loss needs it"
                );
            }
            if let Step::Tokenizer(t) = step {
                anyhow::ensure!(i == 0, "step {name}: a tokenizer is the first step, all others read it");
                anyhow::ensure!(
                    t.files.is_empty() != t.words.is_empty(),
                    "step {name}: name either text `files` or `words` with their counts"
                );
                anyhow::ensure!(
                    Path::new(name) == self.tokenizer,
                    "step {name}: nothing uses it; set tokenizer = {name:?}"
                );
            }
            if let Step::Cooccurrence(c) = step {
                anyhow::ensure!(
                    self.model.init.is_none() && !steps[..i].iter().any(Step::makes_student),
                    "step {name}: it is where a student starts, so it comes before all others that make one, and not with [model] init"
                );
                anyhow::ensure!(c.window > 0, "step {name}: window is 0, expected 1 token or more");
            }
            if let Step::Rotate(r) = step {
                anyhow::ensure!(
                    r.n_sections > 1 && !r.files.is_empty(),
                    "step {name}: axes need `files` and n_sections of 2 or more"
                );
            }
            if let Step::Eval(e) = step {
                anyhow::ensure!(
                    !e.pool.is_empty() && e.pool.iter().all(|&p| p > 0),
                    "step {name}: pool factors are 1 or more"
                );
            }
            if let Step::Mine(m) = step {
                anyhow::ensure!(
                    m.set.is_some() == m.files.is_empty(),
                    "step {name}: name either a retrieval `set` or section `files`"
                );
            }
            if let Some(depth) = step.depth() {
                anyhow::ensure!(
                    depth <= self.model.n_layers,
                    "step {name}: depth {depth}, but the model has {} layers",
                    self.model.n_layers
                );
            }
        }
        Ok(())
    }
}

/// One file or folder that a recipe trains on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceFiles {
    /// Folder of a retrieval set.
    Set(String),
    /// Section file.
    Sections(String),
    /// Keyword queries of the data folder, `pairs/pairs.tsv`.
    Pairs,
    /// Questions written for sections.
    Written(PathBuf),
    /// Lists that no step of the recipe writes.
    Lists(String),
    /// Lists that an `import` step reads, by its name.
    Imported(String),
}

impl Recipe {
    /// Every file and folder trained on, each once, in order of their names.
    pub fn source_files(&self) -> Vec<SourceFiles> {
        let steps = self.steps();
        let lists = |name: &String| {
            let made = steps.iter().any(|step| step.name() == name);
            (!made).then(|| SourceFiles::Lists(name.clone()))
        };
        let mut out = Vec::new();
        for step in &steps {
            match step {
                Step::Tokenizer(s) => {
                    let sections = s.files.iter().filter(|name| !name.contains(".tsv"));
                    out.extend(sections.cloned().map(SourceFiles::Sections));
                }
                Step::Train(s) => {
                    for source in &s.sources {
                        let make = match source.kind {
                            SourceKind::Questions => SourceFiles::Set,
                            _ => SourceFiles::Sections,
                        };
                        out.extend(source.files.iter().cloned().map(make));
                        out.extend((source.kind == SourceKind::Headings).then_some(SourceFiles::Pairs));
                        out.extend(source.questions.clone().map(SourceFiles::Written));
                    }
                    out.extend(s.lists.iter().filter_map(lists));
                }
                Step::Cooccurrence(s) => out.extend(s.files.iter().cloned().map(SourceFiles::Sections)),
                Step::Pretrain(s) => out.extend(s.files.iter().cloned().map(SourceFiles::Sections)),
                Step::Mine(s) => {
                    out.extend(s.set.clone().map(SourceFiles::Set));
                    out.extend(s.files.iter().cloned().map(SourceFiles::Sections));
                    out.extend((!s.files.is_empty()).then_some(SourceFiles::Pairs));
                }
                Step::Teacher(s) => out.extend(lists(&s.lists)),
                Step::Score(s) => out.extend(lists(&s.lists)),
                Step::Import(s) => out.push(SourceFiles::Imported(s.name.clone())),
                Step::Rotate(s) => out.extend(s.files.iter().cloned().map(SourceFiles::Sections)),
                Step::Merge(_) | Step::Eval(_) | Step::Export(_) => {}
            }
        }
        out.sort();
        out.dedup();
        out
    }
}

impl Step {
    /// Name; also the step's folder inside the run.
    pub fn name(&self) -> &str {
        match self {
            Self::Tokenizer(s) => &s.name,
            Self::Train(s) => &s.name,
            Self::Cooccurrence(s) => &s.name,
            Self::Pretrain(s) => &s.name,
            Self::Mine(s) => &s.name,
            Self::Teacher(s) => &s.name,
            Self::Score(s) => &s.name,
            Self::Import(s) => &s.name,
            Self::Merge(s) => &s.name,
            Self::Rotate(s) => &s.name,
            Self::Eval(s) => &s.name,
            Self::Export(s) => &s.name,
        }
    }

    /// What `kind` says.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Tokenizer(_) => "tokenizer",
            Self::Train(_) => "train",
            Self::Cooccurrence(_) => "cooccurrence",
            Self::Pretrain(_) => "pretrain",
            Self::Mine(_) => "mine",
            Self::Teacher(_) => "teacher",
            Self::Score(_) => "score",
            Self::Import(_) => "import",
            Self::Merge(_) => "merge",
            Self::Rotate(_) => "rotate",
            Self::Eval(_) => "eval",
            Self::Export(_) => "export",
        }
    }

    /// Whether the step runs the optimiser: every rank takes part.
    pub fn trains(&self) -> bool {
        matches!(self, Self::Train(_) | Self::Pretrain(_) | Self::Teacher(_))
    }

    /// Blocks used, where the step says so itself.
    pub fn depth(&self) -> Option<usize> {
        match self {
            Self::Train(s) => Some(s.depth),
            Self::Cooccurrence(_) => Some(0),
            Self::Pretrain(s) => Some(s.depth),
            Self::Teacher(s) => Some(s.depth),
            _ => None,
        }
    }

    /// Batches of a worker in an optimiser step.
    pub fn accumulate(&self) -> u64 {
        match self {
            Self::Train(s) => s.accumulate,
            Self::Pretrain(s) => s.accumulate,
            Self::Teacher(s) => s.accumulate,
            _ => 1,
        }
    }

    /// Whether the step writes a student's weights.
    pub fn makes_student(&self) -> bool {
        matches!(
            self,
            Self::Train(_) | Self::Cooccurrence(_) | Self::Pretrain(_) | Self::Merge(_) | Self::Rotate(_)
        )
    }

    /// Names that may be steps it reads.
    fn references(&self) -> Vec<&str> {
        match self {
            Self::Train(s) => s.from.iter().chain(&s.lists).chain(&s.teacher).map(String::as_str).collect(),
            Self::Pretrain(s) => s.from.iter().map(String::as_str).collect(),
            Self::Mine(s) => s.student.iter().map(String::as_str).collect(),
            Self::Teacher(s) => s.from.iter().chain([&s.lists]).map(String::as_str).collect(),
            Self::Score(s) => vec![&s.lists, &s.teacher],
            Self::Import(_) | Self::Tokenizer(_) | Self::Cooccurrence(_) => vec![],
            Self::Rotate(s) => s.from.iter().map(String::as_str).collect(),
            Self::Eval(s) => s.from.iter().map(String::as_str).collect(),
            Self::Export(s) => s.from.iter().map(String::as_str).collect(),
            Self::Merge(s) => s.parts.iter().map(String::as_str).collect(),
        }
    }
}
