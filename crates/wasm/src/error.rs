//! Every error as the object that the package's `ShirubeError` is made from.

use js_sys::{Object, Reflect};
use shirube_encoder::EncoderError;
use shirube_retriever::{FormatError, RetrieverError};
use shirube_text::TextError;
use wasm_bindgen::JsValue;

/// A code of the package's `ShirubeErrorCode`, and the message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn bad_argument(message: impl Into<String>) -> Self {
        Self { code: "BAD_ARGUMENT", message: message.into() }
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self { code: "INTERNAL", message: message.into() }
    }
}

impl From<RetrieverError> for Failure {
    fn from(error: RetrieverError) -> Self {
        Self { code: code(&error), message: error.to_string() }
    }
}

impl From<FormatError> for Failure {
    fn from(error: FormatError) -> Self {
        RetrieverError::from(error).into()
    }
}

fn code(error: &RetrieverError) -> &'static str {
    match error {
        RetrieverError::EmptyQuery => "EMPTY_QUERY",
        RetrieverError::NoModel => "NO_MODEL",
        RetrieverError::Setting { .. }
        | RetrieverError::LexicalWeight { .. }
        | RetrieverError::Computed { .. }
        | RetrieverError::UnknownFilter { .. }
        | RetrieverError::UnknownSort { .. }
        | RetrieverError::UnknownFile { .. } => "BAD_ARGUMENT",
        RetrieverError::Format(error) | RetrieverError::Encoder(EncoderError::Format(error)) => {
            format_code(error)
        }
        RetrieverError::Encoder(EncoderError::Text(error)) => text_code(error),
        // Shapes that contradict each other, values that are not finite: all from files that should not be as they are.
        _ => "ASSET_DAMAGED",
    }
}

fn text_code(error: &TextError) -> &'static str {
    match error {
        TextError::NewerFormat { .. }
        | TextError::UnknownNormalizer { .. }
        | TextError::UnknownSegmenter { .. } => "VERSION_NEWER",
        _ => "ASSET_DAMAGED",
    }
}

fn format_code(error: &FormatError) -> &'static str {
    match error {
        FormatError::Newer { .. } => "VERSION_NEWER",
        FormatError::Older { .. } => "VERSION_OLDER",
        FormatError::Missing { .. } => "ASSET_MISSING",
        FormatError::Html { .. } => "ASSET_IS_HTML",
        FormatError::Mismatch { .. } => "MODEL_MISMATCH",
        _ => "ASSET_DAMAGED",
    }
}

/// What happened, and what to do: messages of this project put the cure after the last semicolon.
fn split(message: &str) -> (&str, &str) {
    message.rsplit_once("; ").unwrap_or((message, ""))
}

impl From<Failure> for JsValue {
    fn from(failure: Failure) -> Self {
        let (message, cure) = split(&failure.message);
        let object = Object::new();
        for (key, value) in [("code", failure.code), ("message", message), ("cure", cure)] {
            // Setting a property of a fresh plain object cannot fail.
            let _ = Reflect::set(&object, &key.into(), &value.into());
        }
        object.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_a_file_can_be_wrong_has_its_code() {
        let path = || "codes/0.bin".to_owned();
        let cases = [
            (FormatError::Newer { path: path(), found: 2, newest: 1 }, "VERSION_NEWER"),
            (FormatError::Older { path: path(), found: 1, oldest: 2 }, "VERSION_OLDER"),
            (FormatError::Missing { path: path() }, "ASSET_MISSING"),
            (FormatError::Html { path: path() }, "ASSET_IS_HTML"),
            (FormatError::Length { path: path(), expected: 2, found: 1 }, "ASSET_DAMAGED"),
            (FormatError::Invalid { path: path(), offset: 0, what: "x".to_owned() }, "ASSET_DAMAGED"),
        ];
        for (error, code) in cases {
            let failure = Failure::from(error);
            assert_eq!(failure.code, code, "{}", failure.message);
        }
        let wrapped = RetrieverError::Encoder(EncoderError::Format(FormatError::Html { path: path() }));
        assert_eq!(Failure::from(wrapped).code, "ASSET_IS_HTML");
        assert_eq!(Failure::from(RetrieverError::EmptyQuery).code, "EMPTY_QUERY");
    }

    #[test]
    fn the_cure_stands_after_the_last_semicolon() {
        assert_eq!(split("a; b; mend it"), ("a; b", "mend it"));
        assert_eq!(split("no cure known"), ("no cure known", ""));
    }
}
