//! Files to pages.

use crate::error::{js, json, parse};
use serde::{Deserialize, Serialize};
use shirube_site::{DropReason, FileRules, Page, Reader, Settings};
use wasm_bindgen::prelude::*;

/// What one file gave.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Page(Page),
    Dropped(DropReason),
}

/// Those of `paths` (relative to the source, `/` between parts) that are pages, in order.
///
/// # Errors
/// For settings that are not.
#[wasm_bindgen]
pub fn pages(settings: &str, paths: Vec<String>) -> Result<Vec<String>, JsError> {
    let settings: Settings = parse("settings", settings).map_err(js)?;
    Ok(FileRules::new(&settings.file_options()).pages(paths))
}

/// Reads pages.
#[wasm_bindgen]
#[derive(Debug)]
pub struct PageReader(Reader);

#[wasm_bindgen]
impl PageReader {
    /// A reader with the settings given as JSON.
    ///
    /// # Errors
    /// For a bad selector.
    #[wasm_bindgen(constructor)]
    pub fn new(settings: &str) -> Result<Self, JsError> {
        console_error_panic_hook::set_once();
        let settings: Settings = parse("settings", settings).map_err(js)?;
        Ok(Self(Reader::new(settings.read_options()).map_err(js)?))
    }

    /// What the file at `path` gives, as JSON for [`Build::page`](crate::Build::page).
    pub fn read(&self, path: &str, bytes: &[u8]) -> String {
        json(&match self.0.read(path, bytes) {
            Ok(page) => Outcome::Page(page),
            Err(reason) => Outcome::Dropped(reason),
        })
    }
}
