//! The tokens whose document embeddings are not kept, from words in a checkpoint's settings.

use crate::Tokenizer;

/// The 32 characters of ASCII punctuation, the skip list of ColBERT (Python's `string.punctuation`).
pub const PUNCTUATION: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

/// How a list of words becomes a list of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReading {
    /// colbert-ai: the first token of each word as a text.
    FirstToken,
    /// PyLate: the word as a token; one that the vocabulary does not have is the unknown token, so that all unknown tokens of
    /// documents are dropped with it.
    Token,
    /// Sentence Transformers from version 6: the word as a token; one that the vocabulary does not have is passed over.
    KnownToken,
}

impl SkipReading {
    /// Ascending ids, each once, for [`shirube_core::InputRules::skip`].
    pub fn ids<'w>(self, tokenizer: &Tokenizer, words: impl IntoIterator<Item = &'w str>) -> Vec<u32> {
        let id = |word: &str| match self {
            Self::FirstToken => tokenizer.encode(word).ids.first().copied(),
            Self::Token => Some(tokenizer.id_of(word).unwrap_or(tokenizer.unk_id())),
            Self::KnownToken => tokenizer.id_of(word),
        };
        let mut ids: Vec<u32> = words.into_iter().filter_map(id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}
