//! Browser face of [`shirube_gpu`]: a module of its own beside the engine, loaded only where there is a GPU, so that pages without one do not pay.
//!
//! The engine tokenises, keeps the index and answers on the CPU; this side gets the same weights and index once, and then for each query token ids in and
//! embeddings and scores out. Errors are `{code, message, cure}` as the engine's; each of them means that the engine answers instead.

#![forbid(unsafe_code)]

#[cfg(target_arch = "wasm32")]
mod engine;
mod error;

#[cfg(target_arch = "wasm32")]
pub use engine::GpuEngine;
