//! The network of a checkpoint: encoder, projection, weights.

use crate::config::{Config, shapes};
use crate::error::{CheckpointError, unsupported};
use crate::files;
use crate::tensors::{self, Tensors};
use serde::Deserialize;
use shirube_core::{Activation, DenseConfig, EncoderConfig};
use shirube_format::model::Weights;
use std::path::{Path, PathBuf};

/// Who wrote a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// Stanford's colbert-ai, JaColBERT among its models: one folder, the projection is the tensor `linear.weight` beside the encoder.
    ColbertAi,
    /// PyLate: `modules.json` names the encoder's folder and the dense layers'; input rules in `config_sentence_transformers.json`.
    PyLate,
    /// Sentence Transformers from version 6: as PyLate, with input rules in `sentence_bert_config.json` and a module for the skip list.
    SentenceTransformers,
    /// An encoder alone, without projection: something to train from, not a ColBERT.
    Encoder,
}

impl Layout {
    /// For messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::ColbertAi => "colbert-ai",
            Self::PyLate => "PyLate",
            Self::SentenceTransformers => "Sentence Transformers multi-vector",
            Self::Encoder => "encoder without projection",
        }
    }
}

/// What a folder's network is made of.
#[derive(Debug)]
pub struct Network {
    /// Who wrote the folder.
    pub layout: Layout,
    /// Folder of the encoder and its tokenizer: the checkpoint's or one inside it.
    pub root: PathBuf,
    /// Shape of the encoder.
    pub encoder: EncoderConfig,
    /// Dense layers in order; empty for [`Layout::Encoder`].
    pub dense: Vec<DenseConfig>,
    /// The tensors that encoder and dense layers are made of, in f32, by the names of `docs/format.md`.
    pub weights: Weights,
    /// Tensors of the files that nothing here uses (poolers, training heads), by the names in the files.
    pub unused: Vec<String>,
    /// Modules of `modules.json` in order, with their folders; empty without that file.
    pub(crate) modules: Vec<Module>,
}

/// A module of `modules.json`.
#[derive(Clone, Debug)]
pub(crate) struct Module {
    /// The last part of the class name.
    pub(crate) kind: String,
    pub(crate) folder: PathBuf,
}

#[derive(Deserialize)]
struct ModuleEntry {
    #[serde(default)]
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct DenseFile {
    in_features: usize,
    out_features: usize,
    #[serde(default = "yes")]
    bias: bool,
    #[serde(default)]
    activation_function: Option<String>,
    #[serde(default)]
    use_residual: bool,
    #[serde(default)]
    module_input_name: Option<String>,
    #[serde(default)]
    module_output_name: Option<String>,
}

fn yes() -> bool {
    true
}

/// The name a tensor has here: no model prefix, the old names of norm parameters replaced.
fn plain_name(name: &str) -> String {
    let name = ["bert.", "model."].iter().find_map(|p| name.strip_prefix(p)).unwrap_or(name);
    if let Some(stem) = name.strip_suffix(".gamma") {
        format!("{stem}.weight")
    } else if let Some(stem) = name.strip_suffix(".beta") {
        format!("{stem}.bias")
    } else {
        name.to_owned()
    }
}

impl Network {
    /// Reads a folder of any layout.
    ///
    /// # Errors
    /// Files that are missing, damaged or of another checkpoint; architectures, activations and modules that are not built, by name.
    pub fn read(folder: &Path) -> Result<Self, CheckpointError> {
        let modules = modules(folder)?;
        let root = modules
            .iter()
            .find(|m| m.kind == "Transformer")
            .map_or_else(|| folder.to_owned(), |m| m.folder.clone());
        let path = root.join("config.json");
        if !path.is_file() {
            return Err(CheckpointError::Missing {
                folder: root,
                name: "config.json".to_owned(),
                cure: "give the folder of a checkpoint as its library saves it".to_owned(),
            });
        }
        let config: Config = files::json(&path)?;
        let encoder = config.encoder(&path)?;
        let mut found: Tensors =
            tensors::read(&root)?.into_iter().map(|(name, tensor)| (plain_name(&name), tensor)).collect();
        let (mut dense, mut weights) = (Vec::new(), Weights::default());
        for module in modules.iter().filter(|m| m.kind == "Dense") {
            read_dense(&module.folder, &mut dense, &mut weights)?;
        }
        let stanford =
            config.architectures.is_some_and(|names| names.iter().any(|name| name == "HF_ColBERT"));
        if dense.is_empty()
            && let Some(weight) = found.remove("linear.weight")
        {
            let &[out_features, in_features] = &weight.shape[..] else {
                return Err(mismatch(&root, "linear.weight", "a matrix", &format!("{:?}", weight.shape)));
            };
            let bias = found.remove("linear.bias");
            let bias_there = bias.is_some();
            dense.push(DenseConfig { in_features, out_features, bias: bias_there, ..DenseConfig::default() });
            weights.insert("dense.0.weight", weight);
            if let Some(bias) = bias {
                weights.insert("dense.0.bias", bias);
            }
        } else if stanford && dense.is_empty() {
            return Err(CheckpointError::Missing {
                folder: root,
                name: "tensor linear.weight".to_owned(),
                cure: "the projection was lost when this checkpoint was saved; take the original".to_owned(),
            });
        }
        for (name, shape) in shapes(&encoder) {
            let Some(tensor) = found.remove(&name) else {
                return Err(CheckpointError::Missing {
                    folder: root,
                    name: format!("tensor {name}"),
                    cure: "config.json says that it is there; copy the whole checkpoint".to_owned(),
                });
            };
            if tensor.shape != shape {
                let found = format!("{:?}", tensor.shape);
                return Err(mismatch(&root, &format!("shape of {name}"), &format!("{shape:?}"), &found));
            }
            weights.insert(name, tensor);
        }
        let layout = match (dense.is_empty(), modules.is_empty()) {
            (true, _) => Layout::Encoder,
            (false, true) => Layout::ColbertAi,
            (false, false) if modules.iter().any(|m| m.kind == "MultiVectorMask") => {
                Layout::SentenceTransformers
            }
            (false, false) => Layout::PyLate,
        };
        Ok(Self { layout, root, encoder, dense, weights, unused: found.into_keys().collect(), modules })
    }
}

fn modules(folder: &Path) -> Result<Vec<Module>, CheckpointError> {
    let path = folder.join("modules.json");
    let entries: Vec<ModuleEntry> = files::json_if_there(&path)?.unwrap_or_default();
    let mut out = Vec::new();
    for entry in entries {
        let kind = entry.kind.rsplit('.').next().unwrap_or_default().to_owned();
        if !matches!(kind.as_str(), "Transformer" | "Dense" | "Normalize" | "MultiVectorMask") {
            let supported =
                "Transformer, Dense, MultiVectorMask, Normalize: models with one embedding a token";
            return Err(unsupported(&path, format!("module {}", entry.kind), supported));
        }
        if entry.path.starts_with(['/', '\\']) || entry.path.contains("..") {
            return Err(crate::error::damaged(&path, format!("a module in {:?}", entry.path)));
        }
        out.push(Module { kind, folder: folder.join(entry.path) });
    }
    Ok(out)
}

/// Appends one dense module, with its tensors.
fn read_dense(
    folder: &Path,
    dense: &mut Vec<DenseConfig>,
    weights: &mut Weights,
) -> Result<(), CheckpointError> {
    let path = folder.join("config.json");
    let config: DenseFile = files::json(&path)?;
    let activation = activation(&path, config.activation_function.as_deref())?;
    for name in [&config.module_input_name, &config.module_output_name].into_iter().flatten() {
        if name != "token_embeddings" {
            return Err(unsupported(&path, format!("a dense layer of {name:?}"), "token_embeddings"));
        }
    }
    let i = dense.len();
    let layer = DenseConfig {
        in_features: config.in_features,
        out_features: config.out_features,
        bias: config.bias,
        residual: config.use_residual,
        activation,
    };
    let mut found = tensors::read(folder)?;
    let (rows, cols) = (layer.out_features, layer.in_features);
    let mut parts = vec![("linear.weight", format!("dense.{i}.weight"), vec![rows, cols])];
    if layer.bias {
        parts.push(("linear.bias", format!("dense.{i}.bias"), vec![rows]));
    }
    if layer.residual && rows != cols {
        parts.push(("residual.weight", format!("dense.{i}.residual.weight"), vec![rows, cols]));
    }
    for (theirs, ours, shape) in parts {
        let Some(tensor) = found.remove(theirs) else {
            return Err(CheckpointError::Missing {
                folder: folder.to_owned(),
                name: format!("tensor {theirs}"),
                cure: "the module's config.json says that it is there; copy the whole checkpoint".to_owned(),
            });
        };
        if tensor.shape != shape {
            let found = format!("{:?}", tensor.shape);
            return Err(mismatch(folder, &format!("shape of {theirs}"), &format!("{shape:?}"), &found));
        }
        weights.insert(ours, tensor);
    }
    dense.push(layer);
    Ok(())
}

/// The activation of a dense module: a class of PyTorch, which the libraries make without arguments.
fn activation(path: &Path, class: Option<&str>) -> Result<Activation, CheckpointError> {
    let Some(class) = class else { return Ok(Activation::Identity) };
    let name = class.strip_prefix("torch.nn.modules.").and_then(|name| name.split_once('.'));
    Ok(match name {
        Some(("linear", "Identity")) => Activation::Identity,
        Some(("activation", "Tanh")) => Activation::Tanh,
        Some(("activation", "ReLU")) => Activation::Relu,
        Some(("activation", "GELU")) => Activation::Gelu,
        Some(("activation", "SiLU")) => Activation::Silu,
        Some(("activation", "Sigmoid")) => Activation::Sigmoid,
        _ => {
            let supported = "Identity, Tanh, ReLU, GELU, SiLU, Sigmoid of torch.nn";
            return Err(unsupported(path, format!("activation {class}"), supported));
        }
    })
}

fn mismatch(path: &Path, what: &str, expected: &str, found: &str) -> CheckpointError {
    CheckpointError::Mismatch {
        path: path.to_owned(),
        what: what.to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
}
