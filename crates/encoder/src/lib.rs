//! Text to token embeddings: tokenizer, input rules, quantised transformer, projection, L2.
//!
//! [`Encoder`] takes ids; [`Model`] is a whole model folder and takes text. The manifest names shape and
//! architecture: ModernBERT (Warner et al. 2024) or BERT (Devlin et al. 2019). What `transformers` computes for both is committed in
//! `tests/golden/encoder` and held to.
//!
//! Int8 matrices have one scale per output row ([`quantize_rows`]), activations one per token, taken from the activations themselves: no
//! calibration set, and integer products that are exact on every backend. Not taken: calibrated static scales, which save a pass over a few
//! hundred numbers a row and lose accuracy on outliers.

#![forbid(unsafe_code)]

mod bert;
mod encoder;
mod error;
mod layers;
mod model;
mod modern_bert;
mod quantize;
mod scratch;

pub use encoder::{Encoder, EncoderIds, TokenEmbeddings};
pub use error::EncoderError;
pub use model::{Model, PreparedText};
pub use quantize::quantize;
pub use shirube_kernels::quantize_rows;
