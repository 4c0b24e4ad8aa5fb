//! Cross-encoders: a score for a query and a document read together.
//!
//! Two kinds. One of the student's own architecture, with a head of one output on the first token of `[Q] query [SEP] document`, trained by
//! this tool: a recipe then needs nothing from outside. And BERT or XLM-RoBERTa sequence classifiers in Hugging Face layout, forward only.

use crate::data::{Lists, ScoreKind, packed};
use crate::ops;
use crate::student::{Packed, Student};
use anyhow::{Context as _, Result, bail, ensure};
use candle_core::{D, DType, Device, Tensor};
use rayon::prelude::*;
use serde::Deserialize;
use shirube_text::Tokenizer;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// How a query and a document are read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairShape {
    /// First token, whose hidden state is scored.
    pub first: u32,
    /// Token between query and document.
    pub separator: u32,
    /// Tokens at most.
    pub length: usize,
}

impl PairShape {
    /// `first query separator document`, cut to `length`; the query takes half of it at most.
    pub fn pair(self, query: &[u32], document: &[u32]) -> Vec<u32> {
        let mut ids = vec![self.first];
        ids.extend(query.iter().take((self.length / 2).max(1)));
        ids.push(self.separator);
        ids.extend_from_slice(document);
        ids.truncate(self.length);
        ids
    }
}

/// Scores `[n]` of packed pairs by a cross-encoder of the student's architecture.
///
/// # Errors
/// Device errors.
pub fn pair_scores(teacher: &Student, depth: usize, sequences: &[Vec<u32>]) -> Result<Tensor> {
    let (ids, offsets) = packed(sequences.iter().map(Vec::as_slice));
    let firsts = offsets[..sequences.len()].to_vec();
    let hidden = teacher.hidden(&Packed { ids, offsets: offsets.into(), attended: None }, depth)?;
    Ok(teacher.dense(&ops::gather(&hidden, &firsts)?)?.flatten_all()?)
}

/// A model that scores pairs.
#[derive(Debug)]
pub enum Teacher {
    /// Trained by this tool.
    Own {
        /// Weights, with the head as dense layer.
        model: Box<Student>,
        /// Blocks used.
        depth: usize,
        /// How pairs are put together.
        shape: PairShape,
        /// The recipe's tokenizer.
        tokenizer: Box<Tokenizer>,
    },
    /// From a Hugging Face folder.
    Loaded(Box<CrossEncoder>),
}

impl Teacher {
    /// A score for each `(query, document)`.
    ///
    /// # Errors
    /// Device or tokenizer errors.
    pub fn scores(&self, pairs: &[(&str, &str)]) -> Result<Vec<f32>> {
        let parts: Vec<Vec<f32>> = pairs
            .par_chunks(32)
            .map(|chunk| match self {
                Self::Own { model, depth, shape, tokenizer } => {
                    let sequences: Vec<Vec<u32>> = chunk
                        .iter()
                        .map(|(q, d)| shape.pair(&tokenizer.encode(q).ids, &tokenizer.encode(d).ids))
                        .collect();
                    Ok(pair_scores(&model.detached(), *depth, &sequences)?.to_vec1()?)
                }
                Self::Loaded(model) => {
                    let sequences =
                        chunk.iter().map(|(q, d)| model.encode(q, d)).collect::<Result<Vec<_>>>()?;
                    model.forward(&sequences)
                }
            })
            .collect::<Result<_>>()?;
        Ok(parts.concat())
    }

    /// Scores every list.
    ///
    /// # Errors
    /// As [`Self::scores`]; a score that is not finite.
    pub fn score_lists(&self, lists: &mut Lists, mut say: impl FnMut(usize, usize)) -> Result<()> {
        let n = lists.lists.len();
        for from in (0..n).step_by(256) {
            let to = (from + 256).min(n);
            let pairs: Vec<(&str, &str)> = lists.lists[from..to]
                .iter()
                .flat_map(|l| l.documents.iter().map(move |&d| (l.query, d)))
                .map(|(q, d)| (lists.queries[q].1.as_str(), lists.documents[d].1.as_str()))
                .collect();
            let scores = self.scores(&pairs)?;
            ensure!(scores.iter().all(|s| s.is_finite()), "the teacher gave a score that is not finite");
            let mut rest = scores.as_slice();
            for list in &mut lists.lists[from..to] {
                let (mine, others) = rest.split_at(list.documents.len());
                (list.scores, rest) = (mine.to_vec(), others);
            }
            say(to, n);
        }
        lists.score_kind = ScoreKind::Logit;
        Ok(())
    }
}

#[derive(Clone, Debug, Deserialize)]
struct Config {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    #[serde(default = "default_eps")]
    layer_norm_eps: f32,
    max_position_embeddings: usize,
    #[serde(default)]
    pad_token_id: Option<u32>,
    #[serde(default)]
    hidden_act: Option<String>,
    #[serde(default)]
    position_embedding_type: Option<String>,
}

fn default_eps() -> f32 {
    1e-12
}

/// Token and segment ids of one pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairTokens {
    /// Token ids, specials included.
    pub ids: Vec<u32>,
    /// Segment of each token.
    pub segments: Vec<u32>,
}

/// A BERT or XLM-RoBERTa sequence classifier with one output, as Hugging Face's `transformers` computes it in f32.
pub struct CrossEncoder {
    config: Config,
    /// Position of the first token: padding id + 1 for RoBERTa, 0 for BERT.
    first_position: u32,
    weights: HashMap<String, Tensor>,
    tokenizer: Option<tokenizers::Tokenizer>,
}

impl std::fmt::Debug for CrossEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CrossEncoder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl CrossEncoder {
    /// Reads `config.json`, all `*.safetensors` and, if it is there, `tokenizer.json`.
    ///
    /// # Errors
    /// Missing or damaged files, another architecture, or a classifier with more than one output.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!("cannot read {}; a teacher is a folder with config.json, tokenizer.json and model.safetensors", path.display())
        })?;
        let config: Config = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        let prefix = match config.model_type.as_str() {
            "bert" => "bert.",
            "xlm-roberta" | "roberta" => "roberta.",
            other => bail!("{}: model_type {other:?}; expected bert, roberta or xlm-roberta", path.display()),
        };
        if let Some(act) = &config.hidden_act {
            ensure!(act == "gelu", "{}: hidden_act {act:?}, only gelu is built", path.display());
        }
        if let Some(kind) = &config.position_embedding_type {
            ensure!(
                kind == "absolute",
                "{}: position_embedding_type {kind:?}, only absolute is built",
                path.display()
            );
        }
        ensure!(
            config.num_attention_heads > 0
                && config.hidden_size.is_multiple_of(2 * config.num_attention_heads),
            "{}: hidden_size {} does not cut into {} heads of an even size",
            path.display(),
            config.hidden_size,
            config.num_attention_heads
        );
        let mut files: Vec<_> = std::fs::read_dir(folder)?
            .filter_map(|e| Some(e.ok()?.path()))
            .filter(|p| p.extension().is_some_and(|e| e == "safetensors"))
            .collect();
        files.sort();
        ensure!(!files.is_empty(), "{}: no .safetensors file", folder.display());
        let mut all = HashMap::new();
        for file in &files {
            let tensors = candle_core::safetensors::load(file, &Device::Cpu)
                .with_context(|| file.display().to_string())?;
            for (name, tensor) in tensors {
                let name = name.strip_prefix(prefix).unwrap_or(&name).to_owned();
                if tensor.dtype().is_float() {
                    all.insert(name, tensor.to_dtype(DType::F32)?);
                }
            }
        }
        // Queries, keys and values in one product.
        for i in 0..config.num_hidden_layers {
            for part in ["weight", "bias"] {
                let stack =
                    ["query", "key", "value"].map(|x| format!("encoder.layer.{i}.attention.self.{x}.{part}"));
                let tensors = stack
                    .iter()
                    .map(|n| {
                        all.get(n).with_context(|| format!("{}: tensor {n} is missing", folder.display()))
                    })
                    .collect::<Result<Vec<_>>>()?;
                let joined = Tensor::cat(&tensors, 0)?.contiguous()?;
                all.insert(format!("encoder.layer.{i}.qkv.{part}"), joined);
            }
        }
        let tokenizer = folder.join("tokenizer.json");
        let tokenizer = tokenizer
            .is_file()
            .then(|| tokenizers::Tokenizer::from_file(&tokenizer))
            .transpose()
            .map_err(|e| anyhow::anyhow!("{}: {e}", tokenizer.display()))?;
        let first_position =
            if config.model_type == "bert" { 0 } else { config.pad_token_id.unwrap_or(1) + 1 };
        let mut model = Self { config, first_position, weights: all, tokenizer };
        if let Some(tokenizer) = &mut model.tokenizer {
            let max_length =
                model.config.max_position_embeddings.saturating_sub(model.first_position as usize);
            tokenizer
                .with_truncation(Some(tokenizers::TruncationParams {
                    max_length: max_length.min(512),
                    strategy: tokenizers::TruncationStrategy::OnlySecond,
                    ..tokenizers::TruncationParams::default()
                }))
                .map_err(|e| anyhow::anyhow!("{}: {e}", folder.display()))?;
            tokenizer.with_padding(None);
        }
        // One forward pass of one token finds missing tensors and shapes that do not fit now, not after an hour.
        model
            .forward(&[PairTokens { ids: vec![0], segments: vec![0] }])
            .with_context(|| format!("{}: the weights do not fit config.json", folder.display()))?;
        Ok(model)
    }

    /// Token and segment ids of a pair, by the folder's `tokenizer.json`; the document is cut where both are too long.
    ///
    /// # Errors
    /// A folder without tokenizer, or a query that alone is longer than the model reads.
    pub fn encode(&self, query: &str, document: &str) -> Result<PairTokens> {
        let tokenizer = self.tokenizer.as_ref().context("the teacher's folder has no tokenizer.json")?;
        let encoding = tokenizer
            .encode((query, document), true)
            .map_err(|e| anyhow::anyhow!("cannot tokenise the pair of {query:?}: {e}"))?;
        Ok(PairTokens { ids: encoding.get_ids().to_vec(), segments: encoding.get_type_ids().to_vec() })
    }

    fn get(&self, name: &str) -> Result<&Tensor> {
        self.weights.get(name).with_context(|| format!("tensor {name} is missing"))
    }

    fn linear(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let (w, b) = (self.get(&format!("{name}.weight"))?, self.get(&format!("{name}.bias"))?);
        Ok(ops::linear(x, w, Some(b))?)
    }

    fn norm(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let (w, b) = (self.get(&format!("{name}.weight"))?, self.get(&format!("{name}.bias"))?);
        Ok(ops::layer_norm_bias(x, w, b, self.config.layer_norm_eps)?)
    }

    /// Raw outputs, one a sequence.
    ///
    /// # Errors
    /// Ids or lengths beyond the model's, missing tensors.
    pub fn forward(&self, sequences: &[PairTokens]) -> Result<Vec<f32>> {
        let (ids, offsets) = packed(sequences.iter().map(|s| s.ids.as_slice()));
        let segments: Vec<u32> = sequences.iter().flat_map(|s| &s.segments).copied().collect();
        ensure!(ids.len() == segments.len(), "{} segment ids for {} tokens", segments.len(), ids.len());
        let longest = sequences.iter().map(|s| s.ids.len()).max().unwrap_or(0);
        ensure!(
            longest + self.first_position as usize <= self.config.max_position_embeddings,
            "a pair of {longest} tokens, but the teacher reads {}",
            self.config.max_position_embeddings - self.first_position as usize
        );
        if let Some(id) = ids.iter().find(|&&id| id as usize >= self.config.vocab_size) {
            bail!("token id {id} is outside the teacher's vocabulary of {}", self.config.vocab_size);
        }
        let positions: Vec<u32> =
            sequences.iter().flat_map(|s| (0..s.ids.len() as u32).map(|i| i + self.first_position)).collect();
        let offsets: Arc<[u32]> = offsets.into();
        let mut h = ops::gather(self.get("embeddings.word_embeddings.weight")?, &ids)?;
        h = (h + ops::gather(self.get("embeddings.position_embeddings.weight")?, &positions)?)?;
        // RoBERTa has one row only, whatever the tokenizer says.
        let types = self.get("embeddings.token_type_embeddings.weight")?;
        let last = u32::try_from(types.dim(0)?)?.saturating_sub(1);
        let segments: Vec<u32> = segments.into_iter().map(|s| s.min(last)).collect();
        h = (h + ops::gather(types, &segments)?)?;
        h = self.norm(&h, "embeddings.LayerNorm")?;
        let shape =
            ops::AttentionShape { n_heads: self.config.num_attention_heads, reach: None, rope_theta: None };
        for i in 0..self.config.num_hidden_layers {
            let at = |s: &str| format!("encoder.layer.{i}.{s}");
            let mixed = ops::attention(&self.linear(&h, &at("qkv"))?, &offsets, shape)?;
            let x = (self.linear(&mixed, &at("attention.output.dense"))? + &h)?;
            h = self.norm(&x, &at("attention.output.LayerNorm"))?;
            let inner = self.linear(&h, &at("intermediate.dense"))?.gelu_erf()?;
            let x = (self.linear(&inner, &at("output.dense"))? + &h)?;
            h = self.norm(&x, &at("output.LayerNorm"))?;
        }
        let firsts = ops::gather(&h, &offsets[..sequences.len()])?;
        let scores = if self.config.model_type == "bert" {
            self.linear(&self.linear(&firsts, "pooler.dense")?.tanh()?, "classifier")?
        } else {
            self.linear(&self.linear(&firsts, "classifier.dense")?.tanh()?, "classifier.out_proj")?
        };
        ensure!(
            scores.dim(D::Minus1)? == 1,
            "a classifier of {} outputs; a teacher has one",
            scores.dim(D::Minus1)?
        );
        Ok(scores.flatten_all()?.to_vec1()?)
    }
}
