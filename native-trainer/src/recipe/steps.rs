//! What the steps of a recipe say.

use crate::data::{Columns, Import, ScoreKind, SourceKind};
use crate::export::Dtype;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A tokenizer of the recipe's own. `tokenizer` names the step in place of a folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerStep {
    /// Name; also its folder inside the run.
    pub name: String,
    /// Text files relative to the data folder, cut where the script changes; sections, or `.tsv` with text in the second column.
    #[serde(default)]
    pub files: Vec<String>,
    /// Word counts relative to the data folder, lines of `word <tab> count`, as `scripts/mecab_words.py` writes them: pieces then cross no word border.
    #[serde(default)]
    pub words: Vec<String>,
    /// Ids in all: special tokens, byte pieces and pieces.
    #[serde(default = "vocab_size")]
    pub vocab_size: usize,
    /// Words seen fewer times are left out.
    #[serde(default = "min_count")]
    pub min_count: u32,
    /// Characters seen fewer times fall back to bytes.
    #[serde(default = "min_char_count")]
    pub min_char_count: u32,
    /// Longest piece in characters.
    #[serde(default = "max_piece_length")]
    pub max_piece_length: usize,
}

fn vocab_size() -> usize {
    16_384
}

fn min_count() -> u32 {
    3
}

fn min_char_count() -> u32 {
    100
}

fn max_piece_length() -> usize {
    12
}

/// Token embeddings from which tokens stand near each other; where a student starts in place of random ones.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CooccurrenceStep {
    /// Name; also its folder inside the run.
    pub name: String,
    /// Tokens to each side that count as near.
    #[serde(default = "window")]
    pub window: usize,
    /// Section files, relative to the data folder.
    pub files: Vec<String>,
}

fn window() -> usize {
    5
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

impl ImportStep {
    /// What it reads, from the data folder `data`.
    pub fn import(&self, data: &Path) -> Import {
        let at = |name: &String| data.join(name);
        Import {
            lists: self.lists.iter().map(at).collect(),
            queries: self.queries.as_ref().map(at),
            documents: self.documents.as_ref().map(at),
            score_kind: self.score_kind,
            columns: self.columns.clone(),
            n_lists: self.n_lists,
            max_bad_rows: self.max_bad_rows,
        }
    }
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

/// Other axes for a student's embeddings: every score stays, and the index's codewords lose less.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateStep {
    /// Name; also its folder inside the run.
    pub name: String,
    /// Step whose student is turned; the nearest one before that made a student if absent.
    #[serde(default)]
    pub from: Option<String>,
    /// Section files whose embeddings choose the axes, relative to the data folder.
    pub files: Vec<String>,
    /// Sections read of each file, evenly spaced.
    #[serde(default = "n_sections")]
    pub n_sections: usize,
}

fn n_sections() -> usize {
    2000
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

/// Metrics of a step's student. Those of the f32 student come with every `train` and `merge` step; this one adds what the reader gets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalStep {
    /// Name; also its folder inside the run.
    pub name: String,
    /// Step whose student is measured; the nearest one before that made a student if absent.
    #[serde(default)]
    pub from: Option<String>,
    /// Also quantised to int8 and through the compressed index, as the browser searches.
    #[serde(default)]
    pub shipped: bool,
    /// Pool factors of those indexes.
    #[serde(default = "pool")]
    pub pool: Vec<usize>,
    /// Retrieval sets relative to the data folder; the recipe's if empty.
    #[serde(default)]
    pub sets: Vec<String>,
}

fn pool() -> Vec<usize> {
    vec![1]
}

/// A model folder that the browser loads.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportStep {
    /// Name; also its folder inside the run.
    pub name: String,
    /// Step whose student is exported; the nearest one before that made a student if absent.
    #[serde(default)]
    pub from: Option<String>,
    /// How weights are stored: `int8` or `int4`.
    #[serde(default)]
    pub dtype: Dtype,
    /// Folder to write, relative to the working folder; `model` in the step's folder if absent.
    #[serde(default)]
    pub to: Option<PathBuf>,
}

impl ExportStep {
    /// The model folder, where `folder` is the step's own.
    pub fn folder(&self, folder: &Path) -> PathBuf {
        self.to.clone().unwrap_or_else(|| folder.join("model"))
    }
}
