//! What can go wrong.

/// Errors of normalisation, tokenisation and input building.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The name of a rule table this build does not have.
    #[error(
        "normaliser `{name}` is not one of shirube-1, nfkc; update the package or rebuild the model with one of these"
    )]
    UnknownNormalizer {
        /// Name found, cut to 40 characters.
        name: String,
    },
    /// The name of a segmenter this build does not have.
    #[error(
        "segmenter `{name}` is not one of none, script, mecab; update the package or rebuild the model with one of these"
    )]
    UnknownSegmenter {
        /// Name found, cut to 40 characters.
        name: String,
    },
    /// The bytes are not a `tokenizer.bin`.
    #[error(
        "{bytes} bytes do not begin as a tokenizer.bin does (SHTK); check that the address gives the file and not an error page"
    )]
    NotATokenizer {
        /// Length of what was read.
        bytes: usize,
    },
    /// A format version this build does not read.
    #[error(
        "tokenizer format {found} is above {supported}, the newest this build reads (tokenizer.bin, byte 4); update the package or export the model again"
    )]
    NewerFormat {
        /// Version found.
        found: u16,
        /// Newest version this build reads.
        supported: u16,
    },
    /// A `tokenizer.bin` that contradicts itself.
    #[error("tokenizer.bin is damaged: {part}, byte {offset}; fetch or export it again")]
    Damaged {
        /// Part of the file.
        part: &'static str,
        /// Byte offset.
        offset: usize,
    },
    /// A `tokenizer.json` that the compact form cannot hold.
    #[error("tokenizer.json cannot be converted: {what}; use one made by shirube-train tokenizer-train")]
    Unsupported {
        /// What stands in the way.
        what: String,
    },
    /// A tokenizer that cuts words with a dictionary, and there is none.
    #[error(
        "this tokenizer cuts words by a dictionary and none was given; put the files dictionary-*.bin that `shirube dictionary` writes beside it"
    )]
    NoDictionary,
    /// A tokenizer that was made with another dictionary.
    #[error(
        "the tokenizer was made with the dictionary {expected}, not with {found}; write the dictionary again from the package it was made with"
    )]
    OtherDictionary {
        /// Source in the tokenizer, in hexadecimal.
        expected: String,
        /// Source of the dictionary given.
        found: String,
    },
    /// A `vocab.txt` that is no BERT vocabulary.
    #[error("vocab.txt cannot be used: {what}; take the file that belongs to the checkpoint")]
    Vocabulary {
        /// What is wrong with it.
        what: String,
    },
    /// A dictionary that cannot be read.
    #[error(transparent)]
    Dictionary(#[from] shirube_segment::SegmentError),
}
