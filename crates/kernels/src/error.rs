//! The one error type of this crate.

/// Why a kernel refused its arguments. Shapes are checked once, at entry; nothing is written when an error comes back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A buffer's length or a dimension does not fit the others.
    #[error(
        "{kernel}: {what} is {found}, expected {expected}; pass buffers of the shapes in the kernel's documentation"
    )]
    Shape {
        /// Kernel.
        kernel: &'static str,
        /// Buffer or dimension.
        what: &'static str,
        /// Expected length or value.
        expected: usize,
        /// Found length or value.
        found: usize,
    },
    /// A dimension is beyond what the kernel's accumulators or buffers hold.
    #[error("{kernel}: {what} is {found}, the kernel holds 1 to {most}; use a smaller model or index")]
    Limit {
        /// Kernel.
        kernel: &'static str,
        /// Dimension.
        what: &'static str,
        /// Largest value.
        most: usize,
        /// Found value.
        found: usize,
    },
    /// Packed data was made by another backend.
    #[error("{kernel}: {what} was packed for another backend; pack it with the `Kernels` that runs it")]
    Layout {
        /// Kernel.
        kernel: &'static str,
        /// Argument.
        what: &'static str,
    },
    /// A document's token range does not lie inside the tokens.
    #[error(
        "{kernel}: document {document} covers tokens {start}..{end} of {n_tokens}; the index is damaged, build it again"
    )]
    Range {
        /// Kernel.
        kernel: &'static str,
        /// Position in the list of ranges.
        document: usize,
        /// First token.
        start: u32,
        /// One past the last token.
        end: u32,
        /// Tokens there are.
        n_tokens: usize,
    },
    /// A token's centroid code has no row in the centroid scores.
    #[error(
        "{kernel}: token {token} has code {code}, but there are {n_centroids} centroids; the index is damaged, build it again"
    )]
    Code {
        /// Kernel.
        kernel: &'static str,
        /// Token.
        token: usize,
        /// Its code.
        code: u16,
        /// Rows of the centroid scores.
        n_centroids: usize,
    },
}
