//! The unquantised model, to hold a converted one to.

use crate::{Checkpoint, CheckpointError, quantization};
use shirube_core::{InputRules, Role};
use shirube_encoder::{Encoder, EncoderIds, Model, TokenEmbeddings};
use shirube_format::model::{ModelManifest, WeightKind};
use shirube_kernels::Kernels;
use shirube_text::{EncoderInput, Tokenizer};

/// Texts that every conversion is compared on: plain and technical Japanese, Latin letters, numbers, punctuation.
pub const SAMPLES: [&str; 6] = [
    "再レンダリングを減らすにはどうすればよいか",
    "東京都庁の展望室は何階にありますか？",
    "所有権（ownership）は、実行時の費用なしにメモリを安全に使うための仕組みです。",
    "京都は794年から1868年まで日本の都であり、「平安京」と呼ばれた。",
    "状態が変わると、コンポーネントは新しい値で描き直されます。",
    "夏目漱石は1867年に江戸の牛込馬場下横町で生まれた小説家である。",
];

/// A checkpoint in f32.
#[derive(Debug)]
pub struct Reference {
    encoder: Encoder,
    tokenizer: Tokenizer,
    query: InputRules,
    document: InputRules,
}

/// How far two models are apart over the token embeddings of one role.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// Mean cosine.
    pub mean: f64,
    /// Least cosine.
    pub least: f64,
    /// Token embeddings compared.
    pub n_tokens: usize,
}

impl Reference {
    /// Takes the weights over, so that they are in memory once.
    ///
    /// # Errors
    /// [`CheckpointError::Encoder`] for shapes that contradict each other.
    pub fn new(checkpoint: Checkpoint) -> Result<Self, CheckpointError> {
        let manifest: ModelManifest = checkpoint.manifest(quantization(WeightKind::F32));
        let Checkpoint { tokenizer, query, document, weights, .. } = checkpoint;
        let encoder = Encoder::load(&manifest, weights, Kernels::detect())?;
        Ok(Self { encoder, tokenizer, query, document })
    }

    /// Ids, kept positions and expansion of `text`.
    pub fn input(&self, text: &str, role: Role) -> EncoderInput {
        let rules = match role {
            Role::Query => &self.query,
            Role::Document => &self.document,
        };
        EncoderInput::new(&self.tokenizer, rules, text)
    }

    /// Token embeddings of `text`, in f32.
    ///
    /// # Errors
    /// As [`Encoder::encode_ids`].
    pub fn encode(&mut self, text: &str, role: Role) -> Result<TokenEmbeddings, CheckpointError> {
        let input = self.input(text, role);
        let n_attended = if input.attend_expansion { input.ids.len() } else { input.n_real };
        Ok(self
            .encoder
            .encode_ids(EncoderIds { ids: &input.ids, keep: Some(&input.keep), n_attended }, role)?)
    }

    /// How well `model` agrees with this over `texts`.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn compare<'t>(
        &mut self,
        model: &mut Model,
        role: Role,
        texts: impl IntoIterator<Item = &'t str>,
    ) -> Result<Agreement, CheckpointError> {
        let mut pairs = Pairs::default();
        for text in texts {
            let expected = self.encode(text, role)?;
            let found = model.encode(&model.prepare(text, role))?;
            pairs.add(&found, &expected.data, expected.dim);
        }
        Ok(pairs.agreement())
    }
}

/// Cosines of rows, summed up.
#[derive(Clone, Copy, Debug)]
pub struct Pairs {
    sum: f64,
    least: f64,
    n: usize,
}

impl Default for Pairs {
    fn default() -> Self {
        Self { sum: 0.0, least: f64::INFINITY, n: 0 }
    }
}

impl Pairs {
    /// Adds the rows of two matrices `[n, dim]`. A row without partner counts as a cosine of -1.
    pub fn add(&mut self, found: &[f32], expected: &[f32], dim: usize) {
        let dot =
            |u: &[f32], v: &[f32]| u.iter().zip(v).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        for (a, b) in found.chunks_exact(dim).zip(expected.chunks_exact(dim)) {
            self.push(dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-12));
        }
        for _ in 0..(found.len().abs_diff(expected.len()) / dim) {
            self.push(-1.0);
        }
    }

    fn push(&mut self, cosine: f64) {
        self.sum += cosine;
        self.least = self.least.min(cosine);
        self.n += 1;
    }

    /// Mean and least of all rows so far.
    pub fn agreement(self) -> Agreement {
        Agreement { mean: self.sum / self.n.max(1) as f64, least: self.least, n_tokens: self.n }
    }
}
