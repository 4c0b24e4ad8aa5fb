//! What can go wrong.

/// Errors of reading a dictionary.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// The bytes are not a dictionary of ours.
    #[error(
        "{bytes} bytes do not begin as a dictionary does (SHSD); check that the parts are given in order and that the address gives them and not an error page"
    )]
    NotADictionary {
        /// Length of what was read.
        bytes: usize,
    },
    /// A format version this build does not read.
    #[error(
        "dictionary format {found} is not {supported}, the one this build reads (byte 4); update the package or write the dictionary again with `shirube dictionary`"
    )]
    OtherFormat {
        /// Version found.
        found: u16,
        /// Version this build reads.
        supported: u16,
    },
    /// A dictionary that contradicts itself.
    #[error("the dictionary is damaged: {part}; fetch it again or write it again with `shirube dictionary`")]
    Damaged {
        /// Part of the file.
        part: &'static str,
    },
}
