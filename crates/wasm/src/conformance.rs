//! The kernel conformance suite and the normaliser, callable from a test.

use crate::engine::plain;
use crate::error::Failure;
use serde::Serialize;
use shirube_text::{Normalizer, Rules};
use wasm_bindgen::prelude::*;

#[derive(Serialize)]
struct Summary {
    backends: Vec<&'static str>,
    checks: usize,
}

/// Runs every kernel of this build against the scalar oracle: `{backends, checks}`.
///
/// # Errors
/// The first disagreement, as `INTERNAL`.
#[wasm_bindgen]
pub fn conformance(seed: u32) -> Result<JsValue, JsValue> {
    console_error_panic_hook::set_once();
    let summary = shirube_kernels::conformance::run_all(seed.into()).map_err(Failure::internal)?;
    plain(&Summary { backends: summary.backends, checks: summary.n_checks })
}

/// Each of `lines`, which U+0001 ends, as `shirube-1` normalises it: `[[text, start, end, start, end, …], …]`, one pair of UTF-16 offsets a character. What
/// searches by words without this module must come to the same.
#[wasm_bindgen]
pub fn normalized(lines: &str) -> js_sys::Array {
    let normalizer = Normalizer::new(Rules::Shirube1);
    lines
        .split_terminator('\u{1}')
        .map(|line| {
            let found = normalizer.normalize(line);
            let units = |byte: u32| JsValue::from(line[..byte as usize].encode_utf16().count() as u32);
            let places = found.spans.iter().flat_map(|span| [units(span.start), units(span.end)]);
            core::iter::once(JsValue::from(found.text)).chain(places).collect::<js_sys::Array>()
        })
        .collect()
}
