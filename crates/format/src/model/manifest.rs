//! `manifest.json` of a model folder.

use crate::{FormatError, Sha256Hex};
use serde::{Deserialize, Serialize};
use shirube_core::{Architecture, EncoderConfig, InputRules, ProjectionConfig};

/// The newest model format this build reads and the one it writes.
pub const MODEL_FORMAT: u32 = 1;

/// Everything a reader needs to know before it loads weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelManifest {
    /// [`MODEL_FORMAT`] of the writer.
    pub format: u32,
    /// Display name.
    pub name: String,
    /// SPDX expression of the weights' licence.
    pub license: String,
    /// Encoder shape.
    pub encoder: EncoderConfig,
    /// From hidden states to token embeddings.
    pub projection: ProjectionConfig,
    /// Query input rules.
    pub query: InputRules,
    /// Document input rules.
    pub document: InputRules,
    /// Tokenizer.
    pub tokenizer: TokenizerInfo,
    /// How weights are stored.
    pub quantization: Quantization,
    /// Where the weights come from.
    pub provenance: Provenance,
    /// Every other file of the folder.
    pub files: Vec<FileEntry>,
}

/// One file of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Name inside the folder, `/`-separated.
    pub path: String,
    /// Length.
    pub bytes: u64,
    /// Digest of the content.
    pub sha256: Sha256Hex,
}

/// Which text pipeline the model was trained with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizerInfo {
    /// Normaliser and its rule table's version, for example `shirube-1` or `nfkc`.
    pub normalizer: String,
    /// `none`, `script` or `mecab`.
    pub segmenter: String,
    /// `unigram` or `wordpiece`.
    pub subword: String,
    /// Digest of `tokenizer.bin`: an index made with another one is refused.
    pub sha256: Sha256Hex,
}

/// Storage type of the matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightKind {
    /// 32-bit floats.
    F32,
    /// Symmetric 8-bit integers, one scale per row.
    Int8,
    /// 4-bit integers with a whole-number scale for each 32 columns and an f32 scale per row.
    Int4,
}

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantization {
    /// Type of the linear layers.
    pub linear: WeightKind,
    /// Type of the embedding table.
    pub embeddings: WeightKind,
}

/// Where the weights come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Recipe file and its digest, or the checkpoint converted.
    pub source: String,
    /// Data sets with their licences.
    #[serde(default)]
    pub data: Vec<String>,
    /// Free-form figures: metric name to value.
    #[serde(default)]
    pub metrics: std::collections::BTreeMap<String, f64>,
}

impl FileEntry {
    /// The entry describing `bytes` under `path`.
    pub fn of(path: &str, bytes: &[u8]) -> Self {
        Self { path: path.to_owned(), bytes: bytes.len() as u64, sha256: Sha256Hex::of(bytes) }
    }

    /// Checks length and digest of `bytes` against this entry.
    ///
    /// # Errors
    /// [`FormatError::Html`] when a web page stands in the file's place, [`FormatError::Length`] or [`FormatError::Digest`] otherwise.
    pub fn check(&self, bytes: &[u8]) -> Result<(), FormatError> {
        let found = bytes.len() as u64;
        if found == self.bytes {
            let digest = Sha256Hex::of(bytes);
            if digest == self.sha256 {
                return Ok(());
            }
            if !looks_like_html(bytes) {
                return Err(FormatError::Digest {
                    path: self.path.clone(),
                    expected: self.sha256.clone(),
                    found: digest,
                });
            }
        }
        if looks_like_html(bytes) {
            return Err(FormatError::Html { path: self.path.clone() });
        }
        Err(FormatError::Length { path: self.path.clone(), expected: self.bytes, found })
    }
}

/// Whether a file of a model folder is a part of its dictionary, `dictionary-0.bin` and so on.
pub fn is_dictionary(path: &str) -> bool {
    let number = path.strip_prefix("dictionary-").and_then(|rest| rest.strip_suffix(".bin"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

impl ModelManifest {
    /// The parts of the dictionary that the tokenizer needs, in the order of `files`, in which they are one file. Empty for most models.
    pub fn dictionary(&self) -> impl Iterator<Item = &FileEntry> {
        self.files.iter().filter(|file| is_dictionary(&file.path))
    }

    /// Parses `manifest.json` and checks what can be checked without the weights.
    ///
    /// # Errors
    /// [`FormatError::Newer`], [`FormatError::Html`], [`FormatError::Json`], or [`FormatError::Invalid`] for shapes that cannot work.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let path = "manifest.json";
        crate::model::manifest::check_json_version(path, bytes, 0, MODEL_FORMAT)?;
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|source| FormatError::Json { path: path.to_owned(), source })?;
        manifest.validate().map_err(|what| FormatError::Invalid {
            path: path.to_owned(),
            offset: 0,
            what,
        })?;
        Ok(manifest)
    }

    fn validate(&self) -> Result<(), String> {
        let e = &self.encoder;
        let limits = [
            ("vocab_size", e.vocab_size, 1 << 20),
            ("hidden_size", e.hidden_size, 4096),
            ("n_heads", e.n_heads, 256),
            ("max_positions", e.max_positions, 1 << 16),
            ("intermediate_size", e.intermediate_size.max(usize::from(e.n_layers == 0)), 1 << 15),
        ];
        for (name, value, most) in limits {
            if value == 0 || value > most {
                return Err(format!("encoder.{name} is {value}, expected 1 to {most}"));
            }
        }
        if e.n_layers > 64 {
            return Err(format!("encoder.n_layers is {}, expected at most 64", e.n_layers));
        }
        let most_types = if e.architecture == Architecture::Bert { 16 } else { 0 };
        if e.type_vocab_size > most_types {
            return Err(format!(
                "encoder.type_vocab_size is {}, expected at most {most_types} for this architecture",
                e.type_vocab_size
            ));
        }
        if !e.hidden_size.is_multiple_of(e.n_heads) || !e.head_dim().is_multiple_of(2) {
            return Err(format!(
                "hidden_size {} does not split into {} even heads",
                e.hidden_size, e.n_heads
            ));
        }
        if !(e.norm_eps.is_finite() && e.norm_eps > 0.0) {
            return Err(format!("encoder.norm_eps is {}", e.norm_eps));
        }
        let mut width = e.hidden_size;
        for (i, dense) in self.projection.dense.iter().enumerate() {
            if dense.in_features != width || dense.out_features == 0 || dense.out_features > 4096 {
                return Err(format!(
                    "projection.dense[{i}] maps {} to {}, but {width} values arrive",
                    dense.in_features, dense.out_features
                ));
            }
            width = dense.out_features;
        }
        if self.projection.dense.is_empty() {
            return Err("projection.dense is empty: the head of the checkpoint was lost".to_owned());
        }
        for (role, rules) in [("query", &self.query), ("document", &self.document)] {
            let markers = rules.prefix.len() + rules.suffix.len();
            if rules.max_length <= markers || rules.max_length > e.max_positions {
                return Err(format!(
                    "{role}.max_length is {}, expected {} to {}",
                    rules.max_length,
                    markers + 1,
                    e.max_positions
                ));
            }
            let expansion = rules.expansion.iter().map(|x| x.token);
            if let Some(id) = rules
                .prefix
                .iter()
                .chain(&rules.suffix)
                .copied()
                .chain(expansion)
                .find(|&id| id as usize >= e.vocab_size)
            {
                return Err(format!("{role} marker {id} is outside the vocabulary of {}", e.vocab_size));
            }
        }
        Ok(())
    }
}

/// Whether a web page stands where data should be: servers that answer missing files with a page and status 200.
pub(crate) fn looks_like_html(bytes: &[u8]) -> bool {
    let head = bytes.trim_ascii_start();
    let head = head[..head.len().min(15)].to_ascii_lowercase();
    head.starts_with(b"<!doctype html") || head.starts_with(b"<html")
}

/// Reads only the `format` field, so that a newer file is refused by its version and not by a missing field.
pub(crate) fn check_json_version(
    path: &str,
    bytes: &[u8],
    oldest: u32,
    newest: u32,
) -> Result<(), FormatError> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    if bytes.trim_ascii_start().starts_with(b"<") {
        return Err(FormatError::Html { path: path.to_owned() });
    }
    let version: Version = serde_json::from_slice(bytes)
        .map_err(|source| FormatError::Json { path: path.to_owned(), source })?;
    if version.format > newest {
        return Err(FormatError::Newer { path: path.to_owned(), found: version.format, newest });
    }
    if version.format < oldest {
        return Err(FormatError::Older { path: path.to_owned(), found: version.format, oldest });
    }
    Ok(())
}
