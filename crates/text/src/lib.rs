//! Normalisation and tokenisation, one code for trainer, indexer and browser.

#![forbid(unsafe_code)]

mod binary;
mod error;
mod input;
mod normalize;
mod rules;
mod segment;
mod tokenizer;
mod unigram;

pub use binary::TOKENIZER_FORMAT;
pub use error::TextError;
pub use input::EncoderInput;
pub use normalize::{Normalized, Normalizer, Rules, Span};
pub use segment::{Script, Segment, Segmenter, script, script_pattern, script_runs};
pub use tokenizer::{Encoding, Tokenizer};
