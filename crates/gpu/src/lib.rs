//! Encoder and MaxSim in WGSL on wgpu: WebGPU in browsers, Vulkan natively, the same shaders.
//!
//! The problem: a GPU answers a query in a few milliseconds only if it is asked once. The way taken: weights and index stay on the device, a query is
//! one submission of few dispatches (eight a layer, three for MaxSim), and one small read-back brings embeddings and scores. Everything runs within
//! the limits that every WebGPU implementation has: tables and indexes beyond 128 MiB are cut into pieces, grids beyond 65,535 workgroups folded.
//! Not taken: a `Backend` of `shirube-kernels` for each kernel, because its buffers live on the CPU and each call would wait for the GPU.
//!
//! | file | holds |
//! |---|---|
//! | `*.wgsl` | the kernels; each opens with its formula and layouts |
//! | `shaders` | their texts, bindings and preludes |
//! | `plan` | grids, capacities, runs: pure functions |
//! | `pipelines` | which kernels a model and an index need, before their weights are here |
//! | `device` | device, pipelines, buffers, submissions, errors |
//! | `weights`, `program`, `transformer`, `encoder` | the forward pass: ModernBERT and BERT |
//! | `maxsim` | the index |
//!
//! A native build has only `plan` and the error type, unless feature `native` brings wgpu in.

#![forbid(unsafe_code)]

mod error;
pub mod plan;

#[cfg(any(target_arch = "wasm32", feature = "native"))]
mod device;
#[cfg(any(target_arch = "wasm32", feature = "native"))]
mod encoder;
#[cfg(any(target_arch = "wasm32", feature = "native"))]
mod maxsim;
#[cfg(any(target_arch = "wasm32", feature = "native"))]
mod pipelines;
#[cfg(any(target_arch = "wasm32", feature = "native"))]
mod program;
#[cfg(any(target_arch = "wasm32", feature = "native"))]
mod shaders;
#[cfg(any(target_arch = "wasm32", feature = "native"))]
mod transformer;
#[cfg(any(target_arch = "wasm32", feature = "native"))]
mod weights;

#[cfg(any(target_arch = "wasm32", feature = "native"))]
pub use device::{Gpu, GpuInfo, GpuOptions};
#[cfg(any(target_arch = "wasm32", feature = "native"))]
pub use encoder::{GpuEmbeddings, GpuEncoder, GpuText};
pub use error::GpuError;
#[cfg(any(target_arch = "wasm32", feature = "native"))]
pub use maxsim::{GpuIndex, GpuScores, IndexParts};

#[cfg(any(target_arch = "wasm32", feature = "native"))]
pub use pipelines::{KernelList, KernelText};
#[cfg(any(target_arch = "wasm32", feature = "native"))]
pub use shaders::GpuExtensions;

#[cfg(all(test, feature = "native"))]
#[expect(clippy::print_stdout, reason = "a test that skips says so")]
mod tests;
