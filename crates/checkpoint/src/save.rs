//! A ColBERT written as other libraries write theirs, so that PyLate and colbert-ai load it.
//!
//! A folder says less than a model can be: PyLate knows one rule of augmentation, colbert-ai one skip list. So what was written is read back with the
//! reader of this crate and compared, and a model that the layout cannot say is refused by the name of what would be lost.

use crate::checkpoint::{Checkpoint, Options};
use crate::error::{CheckpointError, io, unsupported};
use crate::network::Layout;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use shirube_core::{
    Activation, Architecture, DenseConfig, EncoderConfig, Expansion, InputRules, ProjectionConfig,
};
use shirube_format::NamedFile;
use shirube_format::model::{Tensor, TensorKind, Weights};
use shirube_text::Tokenizer;
use std::path::Path;

/// Files of a tokenizer, of which a folder has some.
pub const TOKENIZER_FILES: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "added_tokens.json",
    "tokenizer.model",
];

/// A model to be written for another library.
#[derive(Debug)]
pub struct Save<'a> {
    /// [`Layout::PyLate`] or [`Layout::ColbertAi`].
    pub layout: Layout,
    /// Shape of the encoder.
    pub encoder: &'a EncoderConfig,
    /// Dense layers.
    pub projection: &'a ProjectionConfig,
    /// Input rules of queries.
    pub query: &'a InputRules,
    /// Input rules of documents.
    pub document: &'a InputRules,
    /// The tokenizer that the model was trained with.
    pub tokenizer: &'a Tokenizer,
    /// The folder with that tokenizer's files, [`TOKENIZER_FILES`].
    pub tokenizer_folder: &'a Path,
    /// Parts of its dictionary, as in [`Options`].
    pub dictionary: Vec<NamedFile>,
    /// All weights in f32, by the names of `docs/format.md`.
    pub weights: &'a Weights,
    /// SPDX expression of the licence.
    pub license: &'a str,
}

impl Save<'_> {
    /// Writes the folder `to`, which must not be there, and reads it back.
    ///
    /// # Errors
    /// [`CheckpointError::Unsupported`] for a layout that is not written; [`CheckpointError::Inexpressible`] for what the layout cannot say; files that
    /// cannot be written.
    pub fn write(&self, to: &Path) -> Result<(), CheckpointError> {
        if to.exists() {
            let found = std::io::Error::new(std::io::ErrorKind::AlreadyExists, "there is something already");
            return Err(io(to)(found));
        }
        let mut name = to.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let aside = to.with_file_name(name);
        if aside.exists() {
            std::fs::remove_dir_all(&aside).map_err(io(&aside))?;
        }
        let written = self.folder(&aside).and_then(|()| self.check(&aside));
        if let Err(error) = written {
            // The first error is the one to tell.
            let _ = std::fs::remove_dir_all(&aside);
            return Err(error);
        }
        std::fs::rename(&aside, to).map_err(io(to))
    }

    fn folder(&self, to: &Path) -> Result<(), CheckpointError> {
        if self.projection.query_weight {
            return Err(self.lost("learned weights of query tokens", "query_weight = false"));
        }
        std::fs::create_dir_all(to).map_err(io(to))?;
        let mut copied = 0;
        for name in TOKENIZER_FILES {
            let from = self.tokenizer_folder.join(name);
            if from.is_file() {
                std::fs::copy(&from, to.join(name)).map_err(io(&from))?;
                copied += 1;
            }
        }
        if copied == 0 {
            return Err(CheckpointError::Missing {
                folder: self.tokenizer_folder.to_owned(),
                name: TOKENIZER_FILES.join(", "),
                cure: "put the files of the tokenizer beside its tokenizer.bin".to_owned(),
            });
        }
        match self.layout {
            Layout::PyLate => self.pylate(to),
            Layout::ColbertAi => self.colbert_ai(to),
            other => {
                Err(unsupported(to, format!("writing the layout {}", other.name()), "PyLate, colbert-ai"))
            }
        }?;
        let card = format!(
            "---\nlicense: {}\ntags: [ColBERT]\n---\nA ColBERT trained with shirube-train, in the layout of {}.\n",
            self.license.to_lowercase(),
            self.layout.name()
        );
        write(&to.join("README.md"), card.as_bytes())
    }

    fn pylate(&self, to: &Path) -> Result<(), CheckpointError> {
        let mut modules = vec![
            json!({ "idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer" }),
        ];
        for (i, dense) in self.projection.dense.iter().enumerate() {
            let n = i + 1;
            let path = format!("{n}_Dense");
            modules.push(
                json!({ "idx": n, "name": n.to_string(), "path": path, "type": "pylate.models.Dense.Dense" }),
            );
            let folder = to.join(&path);
            std::fs::create_dir_all(&folder).map_err(io(&folder))?;
            let DenseConfig { in_features, out_features, bias, residual, activation } = dense;
            let config = json!({
                "in_features": in_features,
                "out_features": out_features,
                "bias": bias,
                "activation_function": activation_name(*activation),
                "use_residual": residual,
            });
            write_json(&folder.join("config.json"), &config)?;
            let prefix = format!("dense.{i}.");
            write_tensors(&folder.join("model.safetensors"), self.weights, |name| {
                let name = name.strip_prefix(&prefix)?;
                Some(if name.starts_with("residual") { name.to_owned() } else { format!("linear.{name}") })
            })?;
        }
        write_json(&to.join("modules.json"), &json!(modules))?;
        write_tensors(&to.join("model.safetensors"), self.weights, |name| {
            (!name.starts_with("dense.")).then(|| name.to_owned())
        })?;
        write_json(&to.join("config.json"), &self.config(None))?;
        let skipped: Vec<String> =
            self.document.skip.iter().filter_map(|&id| self.tokenizer.piece(id)).collect();
        let expansion = self.query.expansion.as_ref();
        let marker = |rules: &InputRules| {
            rules.prefix.get(1).and_then(|&id| self.tokenizer.piece(id)).unwrap_or_default()
        };
        let config = json!({
            "model_type": "ColBERT",
            "prompts": {},
            "default_prompt_name": null,
            "similarity_fn_name": "MaxSim",
            "query_prefix": marker(self.query),
            "document_prefix": marker(self.document),
            "query_length": self.query.max_length,
            "document_length": self.document.max_length,
            "do_query_expansion": expansion.is_some(),
            "attend_to_expansion_tokens": expansion.is_some_and(|e: &Expansion| e.attend),
            "skiplist_words": skipped,
        });
        write_json(&to.join("config_sentence_transformers.json"), &config)?;
        let longest = self.query.max_length.max(self.document.max_length);
        let transformer = json!({ "max_seq_length": longest, "do_lower_case": false });
        write_json(&to.join("sentence_bert_config.json"), &transformer)
    }

    fn colbert_ai(&self, to: &Path) -> Result<(), CheckpointError> {
        if self.encoder.architecture != Architecture::Bert {
            return Err(self.lost("a ModernBERT", "PyLate's layout"));
        }
        let [
            DenseConfig {
                bias: false, residual: false, activation: Activation::Identity, out_features, ..
            },
        ] = self.projection.dense[..]
        else {
            return Err(self.lost("a projection of other than one matrix", "PyLate's layout"));
        };
        write_tensors(&to.join("model.safetensors"), self.weights, |name| {
            Some(if name == "dense.0.weight" { "linear.weight".to_owned() } else { format!("bert.{name}") })
        })?;
        write_json(&to.join("config.json"), &self.config(Some("HF_ColBERT")))?;
        let marker = |rules: &InputRules| rules.prefix.get(1).and_then(|&id| self.tokenizer.piece(id));
        let metadata = json!({
            "query_token_id": marker(self.query).unwrap_or_default(),
            "doc_token_id": marker(self.document).unwrap_or_default(),
            "query_token": "[Q]",
            "doc_token": "[D]",
            "query_maxlen": self.query.max_length,
            "doc_maxlen": self.document.max_length,
            "dim": out_features,
            "similarity": "cosine",
            "interaction": "colbert",
            "attend_to_mask_tokens": self.query.expansion.as_ref().is_some_and(|e| e.attend),
            "mask_punctuation": !self.document.skip.is_empty(),
        });
        write_json(&to.join("artifact.metadata"), &metadata)
    }

    /// `config.json` as `transformers` 4 and 5 read it.
    fn config(&self, class: Option<&str>) -> Value {
        let e = self.encoder;
        let id = |names: [&str; 2]| names.iter().find_map(|name| self.tokenizer.id_of(name));
        let mut config = json!({
            "vocab_size": e.vocab_size,
            "hidden_size": e.hidden_size,
            "num_hidden_layers": e.n_layers,
            "num_attention_heads": e.n_heads,
            "intermediate_size": e.intermediate_size,
            "max_position_embeddings": e.max_positions,
            "pad_token_id": id(["[PAD]", "<pad>"]),
            "dtype": "float32",
            "torch_dtype": "float32",
        });
        let more = match e.architecture {
            Architecture::Bert => json!({
                "architectures": [class.unwrap_or("BertModel")],
                "model_type": "bert",
                "hidden_act": "gelu",
                "layer_norm_eps": plain(e.norm_eps),
                "type_vocab_size": e.type_vocab_size,
                "position_embedding_type": "absolute",
            }),
            Architecture::ModernBert => {
                let kind =
                    |i| if e.layer_kind(i).reach.is_none() { "full_attention" } else { "sliding_attention" };
                let rope = |theta: f32| json!({ "rope_type": "default", "rope_theta": plain(theta) });
                let (first, last) = (self.query.prefix.first(), self.query.suffix.last());
                json!({
                    "architectures": ["ModernBertModel"],
                    "model_type": "modernbert",
                    "hidden_activation": "gelu",
                    "norm_eps": plain(e.norm_eps),
                    "norm_bias": false,
                    "attention_bias": false,
                    "mlp_bias": false,
                    "global_attn_every_n_layers": e.global_attention_every,
                    "layer_types": (0..e.n_layers).map(kind).collect::<Vec<_>>(),
                    "local_attention": e.local_window,
                    "global_rope_theta": plain(e.rope_theta_global),
                    "local_rope_theta": plain(e.rope_theta_local),
                    "rope_parameters": {
                        "full_attention": rope(e.rope_theta_global),
                        "sliding_attention": rope(e.rope_theta_local),
                    },
                    "bos_token_id": first,
                    "cls_token_id": first,
                    "eos_token_id": last,
                    "sep_token_id": last,
                })
            }
        };
        if let (Some(config), Value::Object(more)) = (config.as_object_mut(), more) {
            config.extend(more);
        }
        config
    }

    /// Reads `folder` back and compares.
    fn check(&self, folder: &Path) -> Result<(), CheckpointError> {
        let options = Options { dictionary: self.dictionary.clone(), ..Options::default() };
        let mut read = Checkpoint::read(folder, &options)?;
        // A distance between global blocks that is longer than the network says nothing.
        let e = &mut read.encoder;
        if (0..e.n_layers).all(|i| e.layer_kind(i) == self.encoder.layer_kind(i)) {
            e.global_attention_every = self.encoder.global_attention_every;
        }
        let of = |rules: &InputRules| {
            [
                ("markers and ends", format!("{:?} text {:?}", rules.prefix, rules.suffix)),
                ("length", rules.max_length.to_string()),
                ("augmentation", format!("{:?}", rules.expansion)),
                ("skipped ids", format!("{:?}", rules.skip)),
                ("text before the marker", format!("{:?}", rules.overwritten)),
            ]
        };
        let mut pairs = vec![
            ("encoder".to_owned(), format!("{:?}", self.encoder), format!("{:?}", read.encoder)),
            ("projection".to_owned(), format!("{:?}", self.projection), format!("{:?}", read.projection)),
        ];
        for (role, ours, theirs) in
            [("queries", self.query, &read.query), ("documents", self.document, &read.document)]
        {
            for ((what, ours), (_, theirs)) in of(ours).into_iter().zip(of(theirs)) {
                pairs.push((format!("{what} of {role}"), ours, theirs));
            }
        }
        for text in crate::SAMPLES {
            let ids = |tokenizer: &Tokenizer| format!("{:?}", tokenizer.encode(text).ids);
            pairs.push((format!("tokens of {text:?}"), ids(self.tokenizer), ids(&read.tokenizer)));
        }
        for (what, ours, theirs) in pairs {
            if ours != theirs {
                return Err(CheckpointError::Inexpressible {
                    layout: self.layout.name(),
                    what,
                    ours,
                    theirs,
                });
            }
        }
        if read.weights != *self.weights {
            let theirs = "other weights".to_owned();
            let (what, ours) = ("weights".to_owned(), "those that were trained".to_owned());
            return Err(CheckpointError::Inexpressible { layout: self.layout.name(), what, ours, theirs });
        }
        Ok(())
    }

    fn lost(&self, what: &str, cure: &str) -> CheckpointError {
        CheckpointError::Inexpressible {
            layout: self.layout.name(),
            what: what.to_owned(),
            ours: "has them".to_owned(),
            theirs: format!("cannot; take {cure}"),
        }
    }
}

/// PyTorch's class, by its whole name.
fn activation_name(activation: Activation) -> &'static str {
    match activation {
        Activation::Identity => "torch.nn.modules.linear.Identity",
        Activation::Tanh => "torch.nn.modules.activation.Tanh",
        Activation::Relu => "torch.nn.modules.activation.ReLU",
        Activation::Gelu => "torch.nn.modules.activation.GELU",
        Activation::Silu => "torch.nn.modules.activation.SiLU",
        Activation::Sigmoid => "torch.nn.modules.activation.Sigmoid",
    }
}

/// The number as it is written, not as the nearest f64: 1e-5 and not 0.000009999999747378752.
fn plain(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    std::fs::write(path, bytes).map_err(io(path))
}

fn write_json(path: &Path, value: &Value) -> Result<(), CheckpointError> {
    write(path, format!("{value:#}\n").as_bytes())
}

/// The tensors that `name` gives a name, as one safetensors file that PyTorch's readers take.
fn write_tensors(
    path: &Path,
    weights: &Weights,
    name: impl Fn(&str) -> Option<String>,
) -> Result<(), CheckpointError> {
    let mut tensors: Vec<(String, &[usize], Vec<u8>)> = Vec::new();
    for (ours, tensor) in weights.iter() {
        if let (Some(theirs), Tensor { shape, data: TensorKind::F32(values) }) = (name(ours), tensor) {
            tensors.push((theirs, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect()));
        }
    }
    // The map's type depends on the features of safetensors.
    let metadata = core::iter::once(("format".to_owned(), "pt".to_owned())).collect();
    let damaged = |e: safetensors::SafeTensorError| crate::error::damaged(path, e.to_string());
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.to_vec(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(damaged)?;
    write(path, &safetensors::serialize(views, Some(metadata)).map_err(damaged)?)
}
