//! Weights from elsewhere to start from: a Hugging Face folder of a BERT or ModernBERT, alone or with the dense layers of a ColBERT.
//!
//! Three layouts: a plain encoder (`config.json`, `*.safetensors`); PyLate's and Sentence-Transformers', where `modules.json` names the encoder's
//! folder and the dense layers'; and colbert-ai's (JaColBERT), where the projection is the tensor `linear.weight` beside the encoder.

use crate::student::Student;
use anyhow::{Context as _, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use shirube_core::{Architecture, DenseConfig, EncoderConfig, ProjectionConfig};
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

#[derive(Deserialize)]
struct Config {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    layer_norm_eps: Option<f32>,
    norm_eps: Option<f32>,
    #[serde(default)]
    type_vocab_size: usize,
    hidden_act: Option<String>,
    hidden_activation: Option<String>,
    position_embedding_type: Option<String>,
    #[serde(default)]
    norm_bias: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    global_attn_every_n_layers: Option<usize>,
    local_attention: Option<usize>,
    global_rope_theta: Option<f32>,
    local_rope_theta: Option<f32>,
    /// Newer files have the rotary bases here, by kind of layer.
    #[serde(default)]
    rope_parameters: Option<BTreeMap<String, Rope>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Rope {
    Layer {
        rope_theta: f32,
        #[serde(default)]
        rope_type: Option<String>,
    },
    Other(serde_json::Value),
}

#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Dense {
    in_features: usize,
    out_features: usize,
    #[serde(default)]
    bias: bool,
    #[serde(default)]
    activation_function: Option<String>,
    #[serde(default)]
    use_residual: bool,
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("cannot read {}; `init` is a folder with config.json and *.safetensors", path.display())
    })?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

fn tensors(folder: &Path) -> Result<BTreeMap<String, Tensor>> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    files.sort();
    ensure!(
        !files.is_empty(),
        "{}: no .safetensors file; convert pickled weights (pytorch_model.bin) with `transformers` first",
        folder.display()
    );
    let mut all = BTreeMap::new();
    for file in files {
        let read = candle_core::safetensors::load(&file, &Device::Cpu)
            .with_context(|| file.display().to_string())?;
        for (name, tensor) in read {
            if tensor.dtype().is_float() {
                all.insert(name, tensor.to_dtype(DType::F32)?);
            }
        }
    }
    Ok(all)
}

/// The name a student has for a checkpoint's tensor: no model prefix, norms' old parameter names replaced.
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

impl Config {
    fn encoder(&self) -> Result<EncoderConfig> {
        let architecture = match self.model_type.as_str() {
            "bert" => Architecture::Bert,
            "modernbert" => Architecture::ModernBert,
            other => bail!("model_type {other:?}; expected bert or modernbert"),
        };
        if let Some(act) = self.hidden_act.as_ref().or(self.hidden_activation.as_ref()) {
            ensure!(act == "gelu", "activation {act:?}; only gelu is built");
        }
        if let Some(kind) = &self.position_embedding_type {
            ensure!(
                kind == "absolute" || kind == "sans_pos",
                "position_embedding_type {kind:?}; only absolute is built"
            );
        }
        let modern = architecture == Architecture::ModernBert;
        ensure!(
            !(modern && (self.norm_bias || self.attention_bias || self.mlp_bias)),
            "a ModernBERT with biases; only one without is built"
        );
        let theta = |kind: &str, old: Option<f32>, usual: f32| -> Result<f32> {
            match self.rope_parameters.as_ref().and_then(|kinds| kinds.get(kind)) {
                Some(Rope::Layer { rope_theta, rope_type }) => {
                    let scaled = rope_type.as_deref().filter(|t| *t != "default");
                    ensure!(scaled.is_none(), "rotary positions of type {scaled:?}; only default is built");
                    Ok(*rope_theta)
                }
                Some(Rope::Other(value)) => bail!("rope_parameters of {kind} are {value}"),
                None => Ok(old.unwrap_or(usual)),
            }
        };
        Ok(EncoderConfig {
            architecture,
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            n_layers: self.num_hidden_layers,
            n_heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size,
            norm_eps: if modern {
                self.norm_eps.unwrap_or(1e-5)
            } else {
                self.layer_norm_eps.unwrap_or(1e-12)
            },
            max_positions: self.max_position_embeddings,
            type_vocab_size: if modern { 0 } else { self.type_vocab_size },
            global_attention_every: if modern { self.global_attn_every_n_layers.unwrap_or(3) } else { 1 },
            local_window: if modern { self.local_attention.unwrap_or(128) } else { 0 },
            rope_theta_global: if modern {
                theta("full_attention", self.global_rope_theta, 160_000.0)?
            } else {
                0.0
            },
            rope_theta_local: if modern {
                theta("sliding_attention", self.local_rope_theta, 10_000.0)?
            } else {
                0.0
            },
        })
    }
}

impl Pretrained {
    /// Reads a folder of any of the three layouts.
    ///
    /// # Errors
    /// Missing or damaged files, and shapes that are not built: each is named.
    pub fn read(folder: &Path) -> Result<Self> {
        let at = |path: &Path| path.display().to_string();
        let modules_path = folder.join("modules.json");
        let modules: Vec<Module> = if modules_path.is_file() { json(&modules_path)? } else { Vec::new() };
        let mut root = folder.to_owned();
        let (mut dense, mut projections) = (Vec::new(), Vec::new());
        for module in &modules {
            let place = folder.join(&module.path);
            match module.kind.rsplit('.').next().unwrap_or_default() {
                "Transformer" => root = place,
                "Dense" => {
                    let config: Dense = json(&place.join("config.json"))?;
                    let linear =
                        config.activation_function.as_deref().is_none_or(|a| a.ends_with("Identity"));
                    ensure!(
                        linear && !config.use_residual,
                        "{}: a dense layer with activation or residual; only plain ones are built",
                        at(&place)
                    );
                    dense.push(DenseConfig {
                        in_features: config.in_features,
                        out_features: config.out_features,
                        bias: config.bias,
                        residual: false,
                    });
                    projections.push((place.clone(), tensors(&place)?));
                }
                // L2 normalisation is what every student ends with.
                "Normalize" => {}
                other => bail!("{}: a module {other}; expected Transformer and Dense", at(&modules_path)),
            }
        }
        let config: Config = json(&root.join("config.json"))?;
        let encoder = config.encoder().with_context(|| at(&root.join("config.json")))?;
        let mut weights: BTreeMap<String, Tensor> =
            tensors(&root)?.into_iter().map(|(name, tensor)| (plain_name(&name), tensor)).collect();
        // colbert-ai's projection stands beside the encoder.
        if dense.is_empty()
            && let Some(weight) = weights.remove("linear.weight")
        {
            let (out_features, in_features) = weight.dims2()?;
            let bias = weights.remove("linear.bias");
            dense.push(DenseConfig { in_features, out_features, bias: bias.is_some(), residual: false });
            weights.insert("dense.0.weight".to_owned(), weight);
            weights.extend(bias.map(|b| ("dense.0.bias".to_owned(), b)));
        }
        for (i, (place, mut found)) in projections.into_iter().enumerate() {
            let weight = found.remove("linear.weight");
            let weight = weight.with_context(|| format!("{}: no tensor linear.weight", at(&place)))?;
            weights.insert(format!("dense.{i}.weight"), weight);
            weights.extend(found.remove("linear.bias").map(|b| (format!("dense.{i}.bias"), b)));
        }
        Ok(Self { encoder, dense, weights })
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
