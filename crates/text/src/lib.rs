//! Normalisation and tokenisation, one code for trainer, indexer and browser.
//!
//! A text goes through three steps, each named in the model's manifest: [`Normalizer`] (NFKC and a frozen rule table, with
//! offsets), [`script_runs`] (cuts where the script changes) or MeCab words, and a Unigram or WordPiece model (pieces inside a
//! cut). [`Tokenizer`] is all three, read from `tokenizer.bin`; [`EncoderInput`] adds markers, lengths and expansion.
//!
//! ```
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../pkg/model/tokenizer.bin");
//! # let bytes = std::fs::read(path)?;
//! use shirube_text::Tokenizer;
//! let tokenizer = Tokenizer::from_bytes(&bytes)?;
//! let text = "ﾘﾎﾟｼﾞﾄﾘを作る";
//! let encoding = tokenizer.encode(text);
//! assert_eq!(tokenizer.piece(encoding.ids[0]).as_deref(), Some("リポジトリ"));
//! assert_eq!(&text[encoding.offsets[0].range()], "ﾘﾎﾟｼﾞﾄﾘ");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The way not taken: the crate `tokenizers` in the browser, 640 KB of wasm and more, for the same ids.

#![forbid(unsafe_code)]

mod bert_japanese;
mod binary;
mod error;
mod input;
mod normalize;
mod pipeline;
mod rules;
mod segment;
mod skip;
mod tokenizer;
mod unigram;
mod wordpiece;
mod wordpiece_file;

pub use binary::TOKENIZER_FORMAT;
pub use error::TextError;
pub use input::EncoderInput;
pub use normalize::{Normalized, Normalizer, Rules, Span};
pub use segment::{Script, Segment, Segmenter, script, script_pattern, script_runs};
pub use shirube_segment::{Dictionary, SegmentError};
pub use skip::{PUNCTUATION, SkipReading};
pub(crate) use tokenizer::Subword;
pub use tokenizer::{Encoding, Tokenizer};
