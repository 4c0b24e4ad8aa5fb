//! A whole checkpoint, and the model folder made of it.

use crate::error::CheckpointError;
use crate::network::{Layout, Network};
use crate::rules::Rules;
use crate::tokens::Tokens;
use shirube_core::{EncoderConfig, ExpansionRule, InputRules, ProjectionConfig};
use shirube_encoder::quantize;
use shirube_format::model::{
    MODEL_FORMAT, ModelManifest, Provenance, Quantization, TokenizerInfo, WeightKind, Weights, pack_parts,
};
use shirube_format::{NamedFile, Sha256Hex};
use shirube_text::Tokenizer;
use std::collections::BTreeMap;
use std::path::Path;

/// Tensor bytes in one weights file, which with its header stays below 4 MiB: a broken download loses little, and every free host takes the file.
const PART_BYTES: usize = (4 << 20) - (16 << 10);

/// What a folder does not say, or says otherwise than wanted.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Display name; the folder's if left out.
    pub name: Option<String>,
    /// SPDX expression of the licence; that of the model card if left out.
    pub license: Option<String>,
    /// Parts of the MeCab dictionary, in order, as `shirube dictionary` writes them, and its licence. Needed by models with a `BertJapaneseTokenizer`.
    pub dictionary: Vec<NamedFile>,
    /// Make room for markers as colbert-ai did up to 0.2.19: `". "` before the text, its first token overwritten.
    pub overwrite_markers: bool,
    /// How long augmented queries become; what the folder says if left out. A dynamic rule lets queries grow to the length of documents.
    pub expansion_rule: Option<ExpansionRule>,
}

/// A ColBERT of another library, ready to be converted.
#[derive(Debug)]
pub struct Checkpoint {
    /// Who wrote the folder.
    pub layout: Layout,
    /// Display name.
    pub name: String,
    /// SPDX expression of the licence, `NOASSERTION` where the folder names none.
    pub license: String,
    /// Shape of the encoder.
    pub encoder: EncoderConfig,
    /// Dense layers.
    pub projection: ProjectionConfig,
    /// Input rules of queries.
    pub query: InputRules,
    /// Input rules of documents.
    pub document: InputRules,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The tokenizer as `tokenizer.json`, for other tools; a `BertJapaneseTokenizer` has none.
    pub tokenizer_json: Option<String>,
    /// Parts of the MeCab dictionary that the tokenizer needs; empty for most.
    pub dictionary: Vec<NamedFile>,
    /// All weights, in f32.
    pub weights: Weights,
    /// What was decided where the folder left a choice, and tensors that nothing uses.
    pub notes: Vec<String>,
}

impl Checkpoint {
    /// Reads a folder of any layout that [`Layout`] names.
    ///
    /// # Errors
    /// Files that are missing, damaged or of another checkpoint; anything that changes scores and is not built, by name.
    pub fn read(folder: &Path, options: &Options) -> Result<Self, CheckpointError> {
        let network = Network::read(folder)?;
        let tokens = Tokens::read(&network.root, &options.dictionary)?;
        let Rules { mut query, mut document, mut notes } = Rules::read(folder, &network, &tokens)?;
        if let (Some(rule), Some(expansion)) = (options.expansion_rule, query.expansion.as_mut()) {
            expansion.rule = rule;
            if rule != ExpansionRule::Fixed {
                query.max_length = query.max_length.max(document.max_length);
            }
        }
        if options.overwrite_markers {
            query.overwritten = Some(". ".to_owned());
            document.overwritten = Some(". ".to_owned());
        }
        if !network.unused.is_empty() {
            notes.push(format!(
                "{} tensors are not used: {}",
                network.unused.len(),
                some_of(&network.unused)
            ));
        }
        let found = folder.canonicalize().ok();
        let found =
            found.as_deref().unwrap_or(folder).file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(Self {
            layout: network.layout,
            name: options.name.clone().or(found).unwrap_or_else(|| "converted".to_owned()),
            license: options.license.clone().unwrap_or_else(|| license(folder)),
            encoder: network.encoder,
            projection: ProjectionConfig { dense: network.dense, query_weight: false },
            query,
            document,
            dictionary: if tokens.json.is_none() { options.dictionary.clone() } else { Vec::new() },
            tokenizer: tokens.tokenizer,
            tokenizer_json: tokens.json,
            weights: network.weights,
            notes,
        })
    }

    /// The model's manifest and files, with matrices and embeddings stored as `quantization` says. The manifest's `files` are filled in where the
    /// folder is written ([`shirube_format::model::folder::write`]).
    ///
    /// # Errors
    /// [`CheckpointError::Format`] when a part cannot be written.
    pub fn model(
        &self,
        quantization: Quantization,
    ) -> Result<(ModelManifest, Vec<NamedFile>), CheckpointError> {
        let quantised = quantize(&self.weights, quantization);
        let mut files = pack_parts(&quantised, PART_BYTES)?;
        drop(quantised);
        files
            .extend(self.tokenizer_json.clone().map(|json| ("tokenizer.json".to_owned(), json.into_bytes())));
        files.extend(self.dictionary.iter().cloned());
        files.push(("tokenizer.bin".to_owned(), self.tokenizer.to_bytes()));
        Ok((self.manifest(quantization), files))
    }

    /// The manifest alone.
    pub(crate) fn manifest(&self, quantization: Quantization) -> ModelManifest {
        let [normalizer, segmenter] = self.tokenizer.step_names().map(str::to_owned);
        let subword = self.tokenizer.subword_name().to_owned();
        let sha256 = Sha256Hex::of(&self.tokenizer.to_bytes());
        ModelManifest {
            format: MODEL_FORMAT,
            name: self.name.clone(),
            license: self.license.clone(),
            encoder: self.encoder.clone(),
            projection: self.projection.clone(),
            query: self.query.clone(),
            document: self.document.clone(),
            tokenizer: TokenizerInfo { normalizer, segmenter, subword, sha256 },
            quantization,
            provenance: Provenance {
                source: format!("{} checkpoint {}", self.layout.name(), self.name),
                data: Vec::new(),
                metrics: BTreeMap::new(),
            },
            files: Vec::new(),
        }
    }
}

/// Int8 or int4 for matrices and embeddings alike.
pub fn quantization(kind: WeightKind) -> Quantization {
    Quantization { linear: kind, embeddings: kind }
}

fn some_of(names: &[String]) -> String {
    let shown = names.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > 3 { format!("{shown}, …") } else { shown }
}

/// The licence in the front matter of the model card.
fn license(folder: &Path) -> String {
    let card = std::fs::read_to_string(folder.join("README.md")).unwrap_or_default();
    let mut lines = card.lines();
    let found = (lines.next() == Some("---"))
        .then(|| lines.take_while(|line| *line != "---").find_map(|line| line.strip_prefix("license:")))
        .flatten();
    let name = found.map(|name| name.trim().trim_matches(['"', '\'']).to_lowercase());
    match name.as_deref() {
        None | Some("") => "NOASSERTION".to_owned(),
        Some("mit") => "MIT".to_owned(),
        Some("apache-2.0") => "Apache-2.0".to_owned(),
        Some(other) => other.to_uppercase(),
    }
}
