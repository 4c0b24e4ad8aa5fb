//! ColBERT checkpoints of other libraries to a model folder. Native only.
//!
//! [`Checkpoint::read`] reads a folder of colbert-ai, PyLate or Sentence Transformers into one description: network, weights, tokenizer, input rules.
//! [`Checkpoint::model`] makes the files of a model folder of it. Everything that changes a score is taken over or refused by name
//! (`docs/checkpoints.md`). [`Network`] is the part without tokenizer, for those who train on; [`Save`] is the way back.
//!
//! Weights come from safetensors or from `pytorch_model.bin`, whose pickle is read as data and never executed.

#![forbid(unsafe_code)]

mod checkpoint;
mod config;
mod error;
mod files;
#[cfg(feature = "hub")]
pub mod hub;
mod network;
mod pickle;
mod reference;
mod rules;
mod save;
mod spm;
mod tensors;
mod tokens;
mod torch;

pub use checkpoint::{Checkpoint, Options, quantization};
pub use error::CheckpointError;
pub use network::{Layout, Network};
pub use reference::{Agreement, Pairs, Reference, SAMPLES};
pub use save::{Save, TOKENIZER_FILES};
pub use tokens::read_tokenizer;
