//! What can go wrong.

/// Errors of index building.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LexicalError {
    /// A parameter out of range.
    #[error("{name} is {value}; expected {expected}")]
    Parameter {
        /// Its name.
        name: &'static str,
        /// The value given.
        value: f32,
        /// The range.
        expected: &'static str,
    },
    /// More documents than ids.
    #[error("more than 4294967295 documents; split the collection")]
    TooManyDocuments,
}
