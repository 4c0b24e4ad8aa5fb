//! Weights from elsewhere to start from: a Hugging Face folder of a BERT or ModernBERT, alone or with the dense layers of a ColBERT.
//!
//! The crate `shirube-checkpoint` reads the folders: a plain encoder, PyLate's and Sentence Transformers' modules, colbert-ai's (JaColBERT).

use crate::student::Student;
use anyhow::{Result, ensure};
use candle_core::{Device, Tensor};
use shirube_checkpoint::Network;
use shirube_core::{Architecture, DenseConfig, EncoderConfig, ProjectionConfig};
use shirube_format::model::TensorKind;
use std::collections::BTreeMap;
use std::path::Path;

/// An encoder read from a folder, with its projection if there is one.
#[derive(Debug)]
pub struct Pretrained {
    /// Shape.
    pub encoder: EncoderConfig,
    /// Dense layers, in order; empty where the folder holds an encoder alone.
    pub dense: Vec<DenseConfig>,
    weights: BTreeMap<String, Tensor>,
}

impl Pretrained {
    /// Reads a folder of any layout that [`Network`] knows.
    ///
    /// # Errors
    /// Missing or damaged files, and shapes that are not built: each is named.
    pub fn read(folder: &Path) -> Result<Self> {
        let network = Network::read(folder)?;
        let mut weights = BTreeMap::new();
        for (name, tensor) in network.weights.iter() {
            if let TensorKind::F32(values) = &tensor.data {
                let shape = tensor.shape.as_slice();
                weights.insert(name.to_owned(), Tensor::from_slice(values, shape, &Device::Cpu)?);
            }
        }
        Ok(Self { encoder: network.encoder, dense: network.dense, weights })
    }

    /// A student of the recipe's shape with these weights, on `device`. Dense layers and query weights that the folder does not hold start at random; rows of
    /// the embedding table beyond the tokenizer's vocabulary are dropped.
    ///
    /// # Errors
    /// Every difference between the recipe's shape and the folder's, with the lines that would fit; missing tensors.
    pub fn student(
        mut self,
        encoder: EncoderConfig,
        projection: ProjectionConfig,
        seed: u64,
        device: &Device,
    ) -> Result<Student> {
        let differences = differences(&encoder, &self.encoder);
        ensure!(
            differences.is_empty(),
            "[model] is not the shape of the folder in `init`; write\n{}",
            differences.join("\n")
        );
        ensure!(
            self.encoder.vocab_size >= encoder.vocab_size,
            "the tokenizer has {} tokens, the weights in `init` {}; use the tokenizer that they were trained with",
            encoder.vocab_size,
            self.encoder.vocab_size
        );
        ensure!(
            self.dense.is_empty() || self.dense == projection.dense,
            "the projection of the folder in `init` is {:?}, the recipe's {:?}; set dim, or leave the folder's out",
            self.dense,
            projection.dense
        );
        let table = match encoder.architecture {
            Architecture::Bert => "embeddings.word_embeddings.weight",
            Architecture::ModernBert => "embeddings.tok_embeddings.weight",
        };
        if let Some(tensor) = self.weights.get_mut(table)
            && tensor.dim(0)? > encoder.vocab_size
        {
            *tensor = tensor.narrow(0, 0, encoder.vocab_size)?.contiguous()?;
        }
        let fresh = Student::random(encoder.clone(), projection.clone(), seed, &Device::Cpu)?;
        for (name, var) in fresh.variables(encoder.n_layers) {
            if name.starts_with("dense.") || name.starts_with("query_weight.") {
                self.weights.entry(name.clone()).or_insert_with(|| var.as_tensor().clone());
            }
        }
        for tensor in self.weights.values_mut() {
            *tensor = tensor.to_device(device)?;
        }
        Ok(Student::from_tensors(encoder, projection, &self.weights)?)
    }
}

/// Lines of `[model]` that would have to change for the recipe's shape to be the folder's. The vocabulary is the tokenizer's matter.
fn differences(recipe: &EncoderConfig, folder: &EncoderConfig) -> Vec<String> {
    let mut out = Vec::new();
    if recipe.architecture != folder.architecture {
        let name = match folder.architecture {
            Architecture::Bert => "bert",
            Architecture::ModernBert => "modern_bert",
        };
        out.push(format!("architecture = {name:?}"));
    }
    for (name, a, b) in [
        ("hidden_size", recipe.hidden_size, folder.hidden_size),
        ("n_layers", recipe.n_layers, folder.n_layers),
        ("n_heads", recipe.n_heads, folder.n_heads),
        ("intermediate_size", recipe.intermediate_size, folder.intermediate_size),
        ("max_positions", recipe.max_positions, folder.max_positions),
        ("type_vocab_size", recipe.type_vocab_size, folder.type_vocab_size),
    ] {
        if a != b {
            out.push(format!("{name} = {b}  # the recipe has {a}"));
        }
    }
    if (recipe.norm_eps - folder.norm_eps).abs() > 1e-3 * folder.norm_eps {
        out.push(format!("norm_eps = {:e}  # the recipe has {:e}", folder.norm_eps, recipe.norm_eps));
    }
    if folder.architecture == Architecture::ModernBert {
        for (name, a, b) in [
            ("global_attention_every", recipe.global_attention_every, folder.global_attention_every),
            ("local_window", recipe.local_window, folder.local_window),
        ] {
            if a != b {
                out.push(format!("{name} = {b}  # the recipe has {a}"));
            }
        }
        for (name, a, b) in [
            ("rope_theta_global", recipe.rope_theta_global, folder.rope_theta_global),
            ("rope_theta_local", recipe.rope_theta_local, folder.rope_theta_local),
        ] {
            if a != b {
                out.push(format!("{name} = {b:?}  # the recipe has {a:?}"));
            }
        }
    }
    out
}
