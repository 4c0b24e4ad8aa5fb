//! What goes beside a bundle.

use wasm_bindgen::prelude::*;

/// Whether a file of the package's `dist` folder goes beside a bundle.
#[wasm_bindgen(js_name = isPackageFile)]
pub fn is_package_file(name: &str) -> bool {
    shirube_site::is_package_file(name)
}

/// Whether a page loads the file before it searches by meaning.
#[wasm_bindgen(js_name = isMeaningCode)]
pub fn is_meaning_code(name: &str) -> bool {
    shirube_site::is_meaning_code(name)
}

/// Whether a page that searches by words loads the file in any case.
#[wasm_bindgen(js_name = isPageCode)]
pub fn is_page_code(name: &str) -> bool {
    shirube_site::is_page_code(name)
}

/// Whether a file is named by its content.
#[wasm_bindgen(js_name = isChunk)]
pub fn is_chunk(name: &str) -> bool {
    shirube_site::is_chunk(name)
}

/// Bytes of `content` as gzip sends them.
#[wasm_bindgen(js_name = gzipBytes)]
pub fn gzip_bytes(content: &[u8]) -> f64 {
    shirube_site::gzip_bytes(content) as f64
}
