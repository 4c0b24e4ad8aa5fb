//! Japanese words by MeCab's lattice over a compact dictionary.
//!
//! [`Dictionary`] is a file of ours that holds what segmentation needs of a MeCab dictionary: words, costs, connection costs,
//! character categories. For unidic-lite it is 4.7 MB where the package is 259 MB, and [`Dictionary::words`] gives the words that
//! MeCab gives, bit for bit. With feature `compile`, [`compile`] reads such a package and writes the file.
//!
//! The ways not taken: MeCab itself in wasm needs the whole package; vibrato gives the same words but its dictionary is 17.6 MB
//! at its smallest; `Intl.Segmenter` cuts differently from browser to browser.

#![forbid(unsafe_code)]

mod characters;
#[cfg(feature = "compile")]
pub mod compile;
mod dictionary;
mod error;
mod lattice;
mod lexicon;
mod matrix;
mod range;
mod trie;

pub use dictionary::{DICTIONARY_FORMAT, Dictionary, crc32};
pub use error::SegmentError;
pub use lattice::Lattice;
pub use trie::Trie;
