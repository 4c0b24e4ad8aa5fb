//! The one error type of this crate.

use shirube_format::FormatError;
use shirube_kernels::KernelError;
use shirube_text::TextError;

/// Why an encoder was not loaded or did not encode.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncoderError {
    /// A weight file or the manifest was refused.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The tokenizer was refused.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A matrix is too large for the kernels, or shapes in the manifest contradict each other.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// More ids than the model has positions for.
    #[error("{found} tokens, the model takes {most}; cut the text by the manifest's max_length")]
    TooLong {
        /// Ids given.
        found: usize,
        /// Positions of the model.
        most: usize,
    },
    /// An id that the embedding table does not have.
    #[error(
        "token {id} at position {position} is outside the vocabulary of {vocab_size}; encode with the model's own tokenizer"
    )]
    Token {
        /// Position in the input.
        position: usize,
        /// The id.
        id: u32,
        /// Rows of the embedding table.
        vocab_size: usize,
    },
    /// The mask of kept positions has another length than the ids, or the attended part is longer.
    #[error("{what} is {found}, but there are {expected} ids; make ids and mask together")]
    Input {
        /// Which argument.
        what: &'static str,
        /// Ids given.
        expected: usize,
        /// Length found.
        found: usize,
    },
    /// The weights turn this input into infinities or NaN.
    #[error("embedding {token} is not finite; the weights are damaged or overflow, export the model again")]
    NotFinite {
        /// Kept token, from 0.
        token: usize,
    },
}
