//! `recipe.toml`: every decision of a run in one file.

use crate::data::{Columns, ScoreKind, SourceKind};
use serde::{Deserialize, Serialize};
use shirube_core::{Architecture, DenseConfig, EncoderConfig, Expansion, ExpansionRule, ProjectionConfig};
use std::path::{Path, PathBuf};

/// A whole recipe.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the model.
    pub name: String,
    /// Seed of initialisation and data order.
    pub seed: u64,
    /// Folder with `tokenizer.json` and `tokenizer.bin`.
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
}

/// One step of a recipe.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Step {
    /// Trains the student.
    Train(TrainStep),
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
}

/// Masked-language-model training.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainStep {
    /// Name; also its folder inside the run.
    pub name: String,
    /// Step to start from; random weights, or the model before, if absent.
    #[serde(default)]
    pub from: Option<String>,
    /// Blocks used.
    pub depth: usize,
    /// Optimiser steps.
    pub steps: u64,
    /// Tokens in one worker's batch.
    pub batch_tokens: usize,
    /// Tokens in a sequence.
    pub length: usize,
    /// Learning rate of schedule-free AdamW.
    pub learning_rate: f64,
    /// Warm-up steps.
    pub warmup: u64,
    /// Weight decay of matrices.
    #[serde(default)]
    pub weight_decay: f64,
    /// Batches of a worker whose gradients are added up for one step.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub accumulate: u64,
    /// Share of tokens to predict.
    #[serde(default = "mask_share")]
    pub mask_share: f64,
    /// Section files, relative to the data folder.
    pub files: Vec<String>,
}

fn one() -> u64 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_one(n: &u64) -> bool {
    *n == 1
}

fn mask_share() -> f64 {
    0.3
}

/// Hard negatives for a retrieval set, or for the keyword queries of section files.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MineStep {
    /// Name; also its folder inside the run.
    pub name: String,
    /// Retrieval set, relative to the data folder.
    #[serde(default)]
    pub set: Option<String>,
    /// Section files whose keyword queries (`pairs`) are mined instead.
    #[serde(default)]
    pub files: Vec<String>,
    /// Step whose model searches beside BM25; BM25 alone if absent.
    #[serde(default)]
    pub student: Option<String>,
    /// Documents in a list, the positive included.
    pub n_way: usize,
    /// Candidates taken from each ranking.
    #[serde(default = "top")]
    pub top: usize,
    /// Candidates that score above this share of the positive's score are dropped as likely positives.
    #[serde(default = "max_share")]
    pub max_share: f32,
    /// Queries at most, the first of the set.
    #[serde(default)]
    pub queries: Option<usize>,
}

fn top() -> usize {
    50
}

fn max_share() -> f32 {
    0.95
}

/// A cross-encoder trained on lists with labels.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherStep {
    /// Name; also its folder inside the run.
    pub name: String,
    /// Step whose blocks and embeddings it starts from; random weights if absent.
    #[serde(default)]
    pub from: Option<String>,
    /// Blocks used.
    pub depth: usize,
    /// Step that wrote the lists, or their folder or file relative to the data folder.
    pub lists: String,
    /// Documents of a list used at once.
    pub n_way: usize,
    /// Optimiser steps.
    pub steps: u64,
    /// Tokens in one worker's batch.
    pub batch_tokens: usize,
    /// Tokens at most in query and document together.
    pub length: usize,
    /// Learning rate of schedule-free AdamW.
    pub learning_rate: f64,
    /// Warm-up steps.
    pub warmup: u64,
    /// Weight decay of matrices.
    #[serde(default)]
    pub weight_decay: f64,
    /// Batches of a worker whose gradients are added up for one step.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub accumulate: u64,
}

/// Scores of a cross-encoder for lists.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreStep {
    /// Name; also its folder inside the run.
    pub name: String,
    /// Step that wrote the lists, or their folder or file relative to the data folder.
    pub lists: String,
    /// A `teacher` step, or a folder with a BERT or XLM-RoBERTa cross-encoder in Hugging Face layout.
    pub teacher: String,
}

/// Scored lists from elsewhere: a data set's layout turned into the lists that other steps read.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportStep {
    /// Name; also its folder inside the run.
    pub name: String,
    /// Files of lists, or one folder with the tables `train`, `queries` and `documents`; relative to the data folder.
    pub lists: Vec<String>,
    /// File or folder of the queries' texts, where the lists hold ids and stand alone.
    #[serde(default)]
    pub queries: Option<String>,
    /// File or folder of the documents' texts, where the lists hold ids and stand alone.
    #[serde(default)]
    pub documents: Option<String>,
    /// What the scores are: `logit`, `sigmoid` or `none` (not said, or normalised).
    #[serde(default)]
    pub score_kind: ScoreKind,
    /// Names of columns, where they are not among those known.
    #[serde(default)]
    pub columns: Columns,
    /// Lists at most, the first.
    #[serde(default)]
    pub n_lists: Option<usize>,
    /// Share of rows that may be wrong; they are passed over and named in `bad-rows.txt`.
    #[serde(default = "max_bad_rows")]
    pub max_bad_rows: f64,
}

fn max_bad_rows() -> f64 {
    0.01
}

/// A weighted parameter mean.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MergeStep {
    /// Name; also its folder inside the run.
    pub name: String,
    /// Steps of this recipe, or folders of other runs' steps.
    pub parts: Vec<String>,
    /// Weights of the parts; equal if absent.
    #[serde(default)]
    pub weights: Option<Vec<f64>>,
    /// Which average becomes the model.
    #[serde(default)]
    pub choose: MergeChoice,
}

/// Which average a merge keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MergeChoice {
    /// The weighted mean of all parts.
    #[default]
    Mean,
    /// The greedy soup (Wortsman et al. 2022, recipe 1): parts from best to worst, each kept if the mean does not get worse.
    Soup,
}

/// What a training step minimises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Cross-entropy over all documents of the batch.
    #[default]
    Contrastive,
    /// Kullback-Leibler divergence of min-max normalised scores from the teacher's, list by list (JaColBERTv2.5).
    Distill,
    /// Squared difference of margins to the positive, list by list.
    MarginMse,
    /// Another ColBERT's largest dot product of each query token with each document of a list.
    DistillTokens,
}

impl Loss {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    fn is_contrastive(&self) -> bool {
        *self == Self::Contrastive
    }
}

/// Shape of the student.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Blocks.
    pub n_layers: usize,
    /// Attention heads.
    pub n_heads: usize,
    /// Width inside the feed-forward block.
    pub intermediate_size: usize,
    /// Width of a token embedding.
    pub dim: usize,
    /// ModernBERT: every n-th block attends globally.
    #[serde(default)]
    pub global_attention_every: usize,
    /// ModernBERT: window of the other blocks, in tokens.
    #[serde(default)]
    pub local_window: usize,
    /// Query token limit, marker included.
    pub query_length: usize,
    /// Document token limit, marker included, at inference.
    pub document_length: usize,
    /// Whether query tokens carry learned weights.
    pub query_weight: bool,
    /// Mask tokens that queries are padded with, scored like any other; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expansion: Option<ExpansionShape>,
    /// Block structure.
    #[serde(default = "modern_bert", skip_serializing_if = "is_modern_bert")]
    pub architecture: Architecture,
    /// Folder with weights to start from, in Hugging Face's, PyLate's or colbert-ai's layout; random weights if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// Longest input; 1024, or 512 for BERT, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_positions: Option<usize>,
    /// BERT: rows of the token type table; 2 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub type_vocab_size: Option<usize>,
    /// Added to the variance in norms; 1e-5, or 1e-12 for BERT, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm_eps: Option<f32>,
    /// Rotary base of blocks that see everything; 10,000 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_theta_global: Option<f32>,
    /// Rotary base of blocks with a window; 10,000 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_theta_local: Option<f32>,
    /// Markers, for a tokenizer that this tool did not make.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Inputs>,
}

/// Token ids around a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inputs {
    /// Before a query: in BERT models `[CLS]` and the marker.
    pub query_prefix: Vec<u32>,
    /// Before a document.
    pub document_prefix: Vec<u32>,
    /// After both: `[SEP]` in BERT models.
    #[serde(default)]
    pub suffix: Vec<u32>,
    /// The mask token.
    pub mask: u32,
    /// Characters that are not scored in documents, where each is a token of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip: Option<String>,
}

fn modern_bert() -> Architecture {
    Architecture::ModernBert
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_modern_bert(architecture: &Architecture) -> bool {
    *architecture == Architecture::ModernBert
}

/// Query augmentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpansionShape {
    /// How many mask tokens: `fixed` fills up to `query_length`; `dynamic_paper` and `dynamic_evaluator` are JaColBERTv2.5's two rules, never beyond
    /// `query_length`.
    pub rule: ExpansionRule,
    /// Whether the query's own tokens attend to them; JaColBERT: no.
    #[serde(default)]
    pub attend: bool,
}

impl ExpansionShape {
    /// The augmentation with the mask token's id.
    pub fn with(self, token: u32) -> Expansion {
        Expansion { token, attend: self.attend, rule: self.rule }
    }
}

/// One run of the optimiser.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainStep {
    /// Name; also its folder inside the run.
    pub name: String,
    /// Blocks used: 0 trains a static token table.
    pub depth: usize,
    /// Optimiser steps.
    pub steps: u64,
    /// Tokens in one worker's batch.
    pub batch_tokens: usize,
    /// Tokens at most in a training document.
    pub document_length: usize,
    /// Learning rate of schedule-free AdamW.
    pub learning_rate: f64,
    /// Warm-up steps.
    pub warmup: u64,
    /// Weight decay of matrices.
    #[serde(default)]
    pub weight_decay: f64,
    /// Batches of a worker whose gradients are added up for one step.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub accumulate: u64,
    /// Share of query tokens dropped.
    #[serde(default)]
    pub query_dropout: f64,
    /// Glossary of paraphrases put into queries taken from the text itself, relative to the working folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glossary: Option<PathBuf>,
    /// How often a glossary term in a query is replaced; a third if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paraphrase: Option<f64>,
    /// Data kinds and their shares, for the contrastive loss.
    #[serde(default)]
    pub sources: Vec<Source>,
    /// Loss.
    #[serde(default, skip_serializing_if = "Loss::is_contrastive")]
    pub loss: Loss,
    /// Step to start from; the nearest one before that made a student if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// For the losses on lists: the step that wrote them, or their folder or file relative to the data folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lists: Option<String>,
    /// For the losses on lists: documents of a list used at once; the shortest list's length if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_way: Option<usize>,
    /// Divides the scores of both sides, lower is sharper; if absent 1 for `distill`, 0.1 for `distill_tokens`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// For `distill_tokens`: the ColBERT to learn from, a step of this recipe or the folder of another run's step; same tokenizer, any shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<String>,
    /// Tokens encoded at once; a batch of more goes chunk by chunk, in less memory and with one forward pass more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_tokens: Option<usize>,
}

/// One kind of training data.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Kind.
    pub kind: SourceKind,
    /// Share of batches.
    pub share: f64,
    /// Files relative to the data folder: a retrieval set's folder for `questions`, section files otherwise.
    pub files: Vec<String>,
    /// For `written`: the file of questions, relative to the working folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub questions: Option<PathBuf>,
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
        let recipe: Self =
            toml::from_str(&text).with_context(|| format!("in the recipe {}", path.display()))?;
        recipe.check().with_context(|| path.display().to_string())?;
        Ok(recipe)
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
                Step::Mine(_) | Step::Score(_) | Step::Import(_) | Step::Merge(_) => vec![],
            };
            if let Some((what, n)) = lengths.into_iter().find(|(_, n)| *n < 8) {
                anyhow::bail!("step {name}: {what} is {n} tokens, expected 8 or more");
            }
            let read = match step {
                Step::Train(s) => s.document_length,
                Step::Pretrain(s) => s.length,
                Step::Teacher(s) => s.length,
                Step::Mine(_) | Step::Score(_) | Step::Import(_) | Step::Merge(_) => 0,
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
}

impl Recipe {
    /// Every file and folder trained on, each once, in order of their names.
    pub fn source_files(&self) -> Vec<SourceFiles> {
        let mut out = Vec::new();
        for step in self.steps() {
            match step {
                Step::Train(s) => out.extend(s.sources.into_iter().flat_map(|source| {
                    let make = if source.kind == SourceKind::Questions {
                        SourceFiles::Set
                    } else {
                        SourceFiles::Sections
                    };
                    source.files.into_iter().map(make)
                })),
                Step::Pretrain(s) => out.extend(s.files.into_iter().map(SourceFiles::Sections)),
                Step::Mine(s) => {
                    out.extend(s.set.into_iter().map(SourceFiles::Set));
                    out.extend(s.files.into_iter().map(SourceFiles::Sections));
                }
                Step::Teacher(_) | Step::Score(_) | Step::Import(_) | Step::Merge(_) => {}
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
            Self::Train(s) => &s.name,
            Self::Pretrain(s) => &s.name,
            Self::Mine(s) => &s.name,
            Self::Teacher(s) => &s.name,
            Self::Score(s) => &s.name,
            Self::Import(s) => &s.name,
            Self::Merge(s) => &s.name,
        }
    }

    /// What `kind` says.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Train(_) => "train",
            Self::Pretrain(_) => "pretrain",
            Self::Mine(_) => "mine",
            Self::Teacher(_) => "teacher",
            Self::Score(_) => "score",
            Self::Import(_) => "import",
            Self::Merge(_) => "merge",
        }
    }

    /// Whether the step runs the optimiser: every rank takes part.
    pub fn trains(&self) -> bool {
        matches!(self, Self::Train(_) | Self::Pretrain(_) | Self::Teacher(_))
    }

    /// Blocks trained, where the step says so itself.
    pub fn depth(&self) -> Option<usize> {
        match self {
            Self::Train(s) => Some(s.depth),
            Self::Pretrain(s) => Some(s.depth),
            Self::Teacher(s) => Some(s.depth),
            Self::Mine(_) | Self::Score(_) | Self::Import(_) | Self::Merge(_) => None,
        }
    }

    /// Batches of a worker in an optimiser step.
    pub fn accumulate(&self) -> u64 {
        match self {
            Self::Train(s) => s.accumulate,
            Self::Pretrain(s) => s.accumulate,
            Self::Teacher(s) => s.accumulate,
            Self::Mine(_) | Self::Score(_) | Self::Import(_) | Self::Merge(_) => 1,
        }
    }

    /// Whether the step writes a student's weights.
    pub fn makes_student(&self) -> bool {
        matches!(self, Self::Train(_) | Self::Pretrain(_) | Self::Merge(_))
    }

    /// Names that may be steps it reads.
    fn references(&self) -> Vec<&str> {
        match self {
            Self::Train(s) => s.from.iter().chain(&s.lists).chain(&s.teacher).map(String::as_str).collect(),
            Self::Pretrain(s) => s.from.iter().map(String::as_str).collect(),
            Self::Mine(s) => s.student.iter().map(String::as_str).collect(),
            Self::Teacher(s) => s.from.iter().chain([&s.lists]).map(String::as_str).collect(),
            Self::Score(s) => vec![&s.lists, &s.teacher],
            Self::Import(_) => vec![],
            Self::Merge(s) => s.parts.iter().map(String::as_str).collect(),
        }
    }
}

impl ModelShape {
    /// The encoder's configuration for a vocabulary.
    pub fn encoder(&self, vocab_size: usize) -> EncoderConfig {
        let bert = self.architecture == Architecture::Bert;
        let theta = |given: Option<f32>| if bert { 0.0 } else { given.unwrap_or(10_000.0) };
        EncoderConfig {
            architecture: self.architecture,
            vocab_size,
            hidden_size: self.hidden_size,
            n_layers: self.n_layers,
            n_heads: self.n_heads,
            intermediate_size: self.intermediate_size,
            norm_eps: self.norm_eps.unwrap_or(if bert { 1e-12 } else { 1e-5 }),
            max_positions: self.max_positions.unwrap_or(if bert { 512 } else { 1024 }),
            type_vocab_size: if bert { self.type_vocab_size.unwrap_or(2) } else { 0 },
            global_attention_every: if bert { 1 } else { self.global_attention_every },
            local_window: if bert { 0 } else { self.local_window },
            rope_theta_global: theta(self.rope_theta_global),
            rope_theta_local: theta(self.rope_theta_local),
        }
    }

    /// The projection's configuration.
    pub fn projection(&self) -> ProjectionConfig {
        ProjectionConfig {
            dense: vec![DenseConfig {
                in_features: self.hidden_size,
                out_features: self.dim,
                bias: false,
                residual: false,
            }],
            query_weight: self.query_weight,
        }
    }

    /// The configuration of a cross-encoder's head: one score from the first token.
    pub fn scalar_head(&self) -> ProjectionConfig {
        ProjectionConfig {
            dense: vec![DenseConfig {
                in_features: self.hidden_size,
                out_features: 1,
                bias: false,
                residual: false,
            }],
            query_weight: false,
        }
    }
}

/// A student of one small block, for tests.
#[cfg(test)]
pub(crate) fn small_shape() -> ModelShape {
    ModelShape {
        hidden_size: 16,
        n_layers: 1,
        n_heads: 2,
        intermediate_size: 24,
        dim: 8,
        global_attention_every: 1,
        local_window: 8,
        query_length: 8,
        document_length: 12,
        query_weight: true,
        expansion: None,
        architecture: Architecture::ModernBert,
        init: None,
        max_positions: None,
        type_vocab_size: None,
        norm_eps: None,
        rope_theta_global: None,
        rope_theta_local: None,
        inputs: None,
    }
}
