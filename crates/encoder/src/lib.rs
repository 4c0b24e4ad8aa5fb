//! Text to token embeddings: tokenizer, input rules, quantised transformer, projection, L2.
//!
//! [`Encoder`] takes ids; [`Model`] is a whole model folder and takes text. The transformer is ModernBERT (Warner et al. 2024): pre-norm blocks
//! with rotary positions, GeGLU and alternating global and windowed attention; shapes come from the manifest. What
//! `transformers` computes is committed in `tests/golden/encoder` and held to.
//!
//! Int8 matrices have one scale per output row ([`quantize_rows`]), activations one per token, taken from the activations themselves: no
//! calibration set, and integer products that are exact on every backend. Not taken: calibrated static scales, which save a pass over a few
//! hundred numbers a row and lose accuracy on outliers.

#![forbid(unsafe_code)]

mod encoder;
mod error;
mod layers;
mod model;

pub use encoder::{Encoder, EncoderIds, TokenEmbeddings};
pub use error::EncoderError;
pub use model::{Model, PreparedText};
pub use shirube_kernels::quantize_rows;
