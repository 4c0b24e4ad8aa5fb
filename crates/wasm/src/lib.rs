//! Browser face: wasm-bindgen types and error mapping
