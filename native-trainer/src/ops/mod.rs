//! The trainer's own differentiable operations on candle tensors.
//!
//! Candle keeps the storage and the tape; every operation in the training path is ours, because candle's own are slow on
//! a CPU and several of candle-nn's lose gradients without an error. Activations are packed: `[n_tokens, width]`, f32,
//! row-major and contiguous, with sequences given by offsets (`n_sequences + 1` entries, the first 0, the last
//! `n_tokens`). There is no padding, so no masked row can reach a maximum, a norm or a softmax.
//!
//! Each operation runs on the calling thread only: the trainer's parallelism is one graph a worker. On a CPU the fused
//! kernels run (AVX-512, AVX2 or portable code, chosen once at run time); on any other device the same formula is
//! composed from candle's differentiable operations, which the tests also use as an oracle.
//!
//! | operation | in | out |
//! |---|---|---|
//! | [`gather`] | table `[vocab, h]`, ids `[n]` | `[n, h]` |
//! | [`linear`], [`linear_add`] | x `[n, k]`, w `[m, k]` | `[n, m]` |
//! | [`layer_norm`] | x `[n, h]`, gamma `[h]` | `[n, h]` |
//! | [`geglu`] | `[n, 2 * inter]` | `[n, inter]` |
//! | [`gelu`] | any | same |
//! | [`attention`], [`attention_to`] | qkv `[n, 3 * h]`, offsets | `[n, h]` |
//! | [`l2_normalize`] | `[n, d]` | `[n, d]` |
//! | [`softplus`] | any | same |
//! | [`maxsim_all`], [`maxsim_pairs`], [`maxsim_tokens`] | query and document embeddings, offsets | `[n_queries, n_documents]`, `[n_pairs]`, `[query tokens of all pairs]` |
//! | [`cross_entropy`], [`kl_min_max`], [`margin_mse`], [`masked_lm_loss`] | scores or hidden rows | scalar |
//!
//! Gradients reach only the arguments named as such on each function; teacher scores, ids and offsets are constants.

mod attention;
mod batched;
#[cfg(target_arch = "x86_64")]
mod bf16;
mod cross_entropy;
mod gather;
mod geglu;
mod gelu;
pub mod graddiff;
mod kl_min_max;
mod l2_normalize;
mod layer_norm;
mod linear;
mod margin_mse;
mod masked_lm;
pub mod matmul;
mod maxsim;
mod memory;
mod shell;
pub mod simd;
mod softplus;

pub use attention::{AttentionShape, attention, attention_to};
pub use cross_entropy::cross_entropy;
pub use gather::gather;
pub use geglu::geglu;
pub use gelu::gelu;
pub use kl_min_max::{KlMinMax, kl_min_max};
pub use l2_normalize::l2_normalize;
pub use layer_norm::{layer_norm, layer_norm_bias};
pub use linear::{linear, linear_add};
pub use margin_mse::margin_mse;
pub use masked_lm::masked_lm_loss;
pub use maxsim::{maxsim_all, maxsim_pairs, maxsim_tokens};
pub use softplus::softplus;

use candle_core::{CpuStorage, Layout, Result, Storage, StorageRef, Tensor, bail};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};

static COMPOSE: AtomicBool = AtomicBool::new(false);

/// Composes every operation from candle's own on the CPU too, as on a GPU: slower, for comparing the two. Returns what was set before. The whole
/// process is affected.
pub fn compose_everything(on: bool) -> bool {
    COMPOSE.swap(on, Ordering::Relaxed)
}

/// Whether an operation on `x` is composed from candle's own.
fn composes(x: &Tensor) -> bool {
    !x.device().is_cpu() || COMPOSE.load(Ordering::Relaxed)
}

/// The f32 values of a contiguous tensor in main memory, held for reading.
struct Floats<'a> {
    guard: StorageRef<'a>,
    start: usize,
    end: usize,
}

impl Deref for Floats<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match &*self.guard {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.start..self.end],
            _ => &[],
        }
    }
}

/// Borrows the values of `tensor` for the operation `op`.
fn floats<'a>(tensor: &'a Tensor, op: &'static str) -> Result<Floats<'a>> {
    let (guard, layout) = tensor.storage_and_layout();
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("{op}: a tensor of shape {:?} is not contiguous; call contiguous() on it first", layout.dims())
    };
    if !matches!(&*guard, Storage::Cpu(CpuStorage::F32(_))) {
        bail!("{op}: expected f32 on the CPU, found {:?} on {:?}", guard.dtype(), guard.device().location())
    }
    Ok(Floats { guard, start, end })
}

/// The f32 values behind one argument of a custom operation.
fn slice<'a>(storage: &'a CpuStorage, layout: &Layout, op: &'static str) -> Result<&'a [f32]> {
    let CpuStorage::F32(values) = storage else {
        bail!("{op}: expected f32, found {:?}", storage_dtype(storage))
    };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => bail!(
            "{op}: a tensor of shape {:?} is not contiguous; call contiguous() on it first",
            layout.dims()
        ),
    }
}

fn storage_dtype(storage: &CpuStorage) -> candle_core::DType {
    use candle_core::backend::BackendStorage;
    storage.dtype()
}

/// A CPU tensor that owns `values`.
fn tensor(values: Vec<f32>, dims: &[usize]) -> Result<Tensor> {
    Tensor::from_vec(values, dims, &candle_core::Device::Cpu)
}

/// Sums over the rows of a matrix of `width` columns: the gradient of a bias.
fn column_sums(rows: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0f32; width];
    for row in rows.chunks_exact(width.max(1)) {
        for (sum, v) in sums.iter_mut().zip(row) {
            *sum += *v;
        }
    }
    sums
}

/// Checks that `offsets` cut `n_tokens` rows into sequences.
fn check_offsets(op: &'static str, what: &'static str, offsets: &[u32], n_tokens: usize) -> Result<()> {
    let ordered = offsets.windows(2).all(|pair| pair[0] <= pair[1]);
    if offsets.first() != Some(&0) || offsets.last().map(|&last| last as usize) != Some(n_tokens) || !ordered
    {
        bail!(
            "{op}: {what} offsets must rise from 0 to the {n_tokens} rows given, found {} entries ending at {:?}",
            offsets.len(),
            offsets.last()
        )
    }
    Ok(())
}

/// The two sizes of a matrix argument.
fn dims2(op: &'static str, what: &'static str, tensor: &Tensor) -> Result<(usize, usize)> {
    match tensor.dims() {
        &[rows, columns] => Ok((rows, columns)),
        other => bail!("{op}: {what} must be a matrix, found shape {other:?}"),
    }
}
