//! A whole model: tokenizer, input rules, encoder.

use crate::{Encoder, EncoderError, EncoderIds};
use core::ops::Deref;
use shirube_core::{InputRules, Role};
use shirube_format::model::{ModelManifest, Weights, WeightsReader};
use shirube_format::{FormatError, Sha256Hex};
use shirube_kernels::Kernels;
use shirube_text::{Dictionary, EncoderInput, TextError, Tokenizer};
use std::sync::Arc;

/// Name of the compact tokenizer in a model folder.
const TOKENIZER: &str = "tokenizer.bin";

/// A text made ready for [`Model::encode`]: the tokenizer's ids with markers, their places in the text, and the role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedText {
    role: Role,
    input: EncoderInput,
}

impl Deref for PreparedText {
    type Target = EncoderInput;

    fn deref(&self) -> &EncoderInput {
        &self.input
    }
}

impl PreparedText {
    /// Whether the text is searched with or searched for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// How many ids, from the first, can be attended to; the rest is expansion that only looks.
    pub fn n_attended(&self) -> usize {
        if self.input.attend_expansion { self.input.ids.len() } else { self.input.n_real }
    }

    /// Bytes of the original text for each kept token, in the order of the embeddings; `None` for markers and expansion.
    pub fn kept_ranges(&self) -> impl Iterator<Item = Option<core::ops::Range<usize>>> + '_ {
        self.input.kept().map(|at| self.input.offsets[at].map(|span| span.range()))
    }
}

/// A model folder in memory. Clones share everything but the encoder's buffers.
#[derive(Clone, Debug)]
pub struct Model {
    manifest: Arc<ModelManifest>,
    tokenizer: Arc<Tokenizer>,
    encoder: Encoder,
}

impl Model {
    /// The model of a manifest and the files it names (`tokenizer.bin`, all `*.safetensors` and the parts of a dictionary; others are not looked at). Lengths and digests
    /// of the weights are the caller's to check, as [`shirube_format::model::folder::read`] and the retriever's loader do.
    ///
    /// # Errors
    /// [`FormatError::Missing`] without a tokenizer or a part of the dictionary, else as [`WeightsReader`] and [`Self::assemble`].
    pub fn load<'a>(
        manifest: ModelManifest,
        files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        kernels: Kernels,
    ) -> Result<Self, EncoderError> {
        let mut tokenizer = None;
        let mut weights = WeightsReader::default();
        let mut dictionary: Vec<Option<&[u8]>> = vec![None; manifest.dictionary().count()];
        for (path, bytes) in files {
            if path == TOKENIZER {
                tokenizer = Some(bytes);
            } else if let Some(at) = manifest.dictionary().position(|file| file.path == path) {
                dictionary[at] = Some(bytes);
            } else if path.ends_with(".safetensors") {
                weights.add(path, bytes)?;
            }
        }
        let Some(tokenizer) = tokenizer else {
            return Err(FormatError::Missing { path: TOKENIZER.to_owned() }.into());
        };
        let dictionary = manifest
            .dictionary()
            .zip(dictionary)
            .map(|(file, bytes)| bytes.ok_or_else(|| FormatError::Missing { path: file.path.clone() }))
            .collect::<Result<Vec<_>, _>>()?;
        Self::assemble(manifest, tokenizer, &dictionary, weights.finish()?, kernels)
    }

    /// The model of a manifest, the content of `tokenizer.bin`, the parts of the dictionary in the manifest's order (none for most models) and the weights.
    ///
    /// # Errors
    /// [`FormatError::Mismatch`] for a tokenizer that is not the manifest's, else as [`Encoder::load`] and [`Tokenizer::open`].
    pub fn assemble(
        manifest: ModelManifest,
        tokenizer: &[u8],
        dictionary: &[&[u8]],
        weights: Weights,
        kernels: Kernels,
    ) -> Result<Self, EncoderError> {
        let bytes = tokenizer;
        let found = Sha256Hex::of(bytes);
        let info = &manifest.tokenizer;
        same("SHA-256 of tokenizer.bin", &info.sha256.0, &found.0)?;
        let dictionary = match dictionary.is_empty() {
            true => None,
            false => Some(Arc::new(Dictionary::from_parts(dictionary).map_err(TextError::from)?)),
        };
        let tokenizer = Tokenizer::open(bytes, dictionary)?;
        let [normalizer, segmenter] = tokenizer.step_names();
        same("tokenizer.normalizer", &info.normalizer, normalizer)?;
        same("tokenizer.segmenter", &info.segmenter, segmenter)?;
        same("tokenizer.subword", &info.subword, tokenizer.subword_name())?;
        if tokenizer.vocab_size() > manifest.encoder.vocab_size {
            let most = format!("at most {}", manifest.encoder.vocab_size);
            return Err(mismatch("pieces of tokenizer.bin", &most, &tokenizer.vocab_size().to_string()));
        }
        let encoder = Encoder::load(&manifest, weights, kernels)?;
        Ok(Self { manifest: Arc::new(manifest), tokenizer: Arc::new(tokenizer), encoder })
    }

    /// The manifest.
    pub fn manifest(&self) -> &ModelManifest {
        &self.manifest
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The encoder, for ids made elsewhere.
    pub fn encoder(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    /// Width of a token embedding.
    pub fn dim(&self) -> usize {
        self.encoder.dim()
    }

    /// Input rules of a role.
    pub fn rules(&self, role: Role) -> &InputRules {
        match role {
            Role::Query => &self.manifest.query,
            Role::Document => &self.manifest.document,
        }
    }

    /// `text` as the encoder's input: normalised, tokenised, cut, with the role's markers.
    pub fn prepare(&self, text: &str, role: Role) -> PreparedText {
        PreparedText { role, input: EncoderInput::new(&self.tokenizer, self.rules(role), text) }
    }

    /// Embeddings of the kept tokens, `[n_kept_tokens, dim]`, row-major.
    ///
    /// # Errors
    /// As [`Encoder::encode_ids`].
    pub fn encode(&mut self, text: &PreparedText) -> Result<Vec<f32>, EncoderError> {
        Ok(self.encoder.encode_ids(ids_of(text), text.role)?.data)
    }

    /// The same for many texts, on all cores with feature `parallel`.
    ///
    /// # Errors
    /// The first error of any text.
    pub fn encode_batch(&mut self, texts: &[PreparedText]) -> Result<Vec<Vec<f32>>, EncoderError> {
        #[cfg(feature = "parallel")]
        {
            use rayon::prelude::*;
            let encoder = &self.encoder;
            let one = |encoder: &mut Encoder, text: &PreparedText| {
                encoder.encode_ids(ids_of(text), text.role).map(|e| e.data)
            };
            texts.par_iter().map_init(|| encoder.clone(), one).collect()
        }
        #[cfg(not(feature = "parallel"))]
        texts.iter().map(|text| self.encode(text)).collect()
    }
}

fn ids_of(text: &PreparedText) -> EncoderIds<'_> {
    EncoderIds { ids: &text.ids, keep: Some(&text.keep), n_attended: text.n_attended() }
}

fn same(what: &str, expected: &str, found: &str) -> Result<(), EncoderError> {
    if expected == found { Ok(()) } else { Err(mismatch(what, expected, found)) }
}

fn mismatch(what: &str, expected: &str, found: &str) -> EncoderError {
    FormatError::Mismatch {
        what: what.to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
        cure: "the model folder holds files of two models; copy it again as a whole".to_owned(),
    }
    .into()
}
