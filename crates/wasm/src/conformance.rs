//! The kernel conformance suite, callable from a test page.

use crate::engine::plain;
use crate::error::Failure;
use serde::Serialize;
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
