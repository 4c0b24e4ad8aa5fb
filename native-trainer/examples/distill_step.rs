//! The other side of `npm run bench -- train`: a distillation step of ours on one thread or a GPU, in f32.
//!
//! Started as `distill_step FOLDER [cpu|composed|cuda]` after `native-trainer/scripts/pylate_step.py FOLDER` has written the weights: reads them, compares the
//! gradients of the first batch with PyTorch's, then takes one optimiser step for each line on standard input, which names a batch, and answers
//! with one line of JSON. `composed` is what a GPU runs, on the CPU.

use anyhow::{Context as _, Result, ensure};
use candle_core::{Device, Tensor, Var};
use serde::Deserialize;
use shirube_core::{Architecture, DenseConfig, EncoderConfig, ProjectionConfig};
use shirube_train::data::packed;
use shirube_train::ops::{self, KlMinMax};
use shirube_train::optim::{Parameter, ScheduleFreeAdamW, ScheduleFreeConfig};
use shirube_train::student::{Packed, Student};
use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

#[derive(Deserialize)]
struct Shape {
    vocab_size: usize,
    hidden_size: usize,
    n_layers: usize,
    n_heads: usize,
    intermediate_size: usize,
    norm_eps: f32,
    global_attention_every: usize,
    local_window: usize,
    rope_theta_global: f32,
    rope_theta_local: f32,
    dim: usize,
}

#[derive(Deserialize)]
struct Batch {
    queries: Vec<Vec<u32>>,
    documents: Vec<Vec<u32>>,
    scores: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct Task {
    shape: Shape,
    first: String,
    batches: BTreeMap<String, Batch>,
}

fn student(shape: &Shape, folder: &std::path::Path, device: &Device) -> Result<Student> {
    let encoder = EncoderConfig {
        architecture: Architecture::ModernBert,
        vocab_size: shape.vocab_size,
        hidden_size: shape.hidden_size,
        n_layers: shape.n_layers,
        n_heads: shape.n_heads,
        intermediate_size: shape.intermediate_size,
        norm_eps: shape.norm_eps,
        max_positions: 1024,
        type_vocab_size: 0,
        global_attention_every: shape.global_attention_every,
        local_window: shape.local_window,
        rope_theta_global: shape.rope_theta_global,
        rope_theta_local: shape.rope_theta_local,
    };
    let dense =
        DenseConfig { in_features: shape.hidden_size, out_features: shape.dim, ..DenseConfig::default() };
    let projection = ProjectionConfig { dense: vec![dense], query_weight: false };
    let values: BTreeMap<String, Tensor> =
        candle_core::safetensors::load(folder.join("model.safetensors"), device)?.into_iter().collect();
    Ok(Student::from_tensors(encoder, projection, &values)?)
}

/// Loss with its tape, and tokens encoded: what `distill` does after drawing its lists.
fn loss(student: &Student, batch: &Batch, depth: usize) -> Result<(Tensor, usize)> {
    let texts = batch.queries.iter().chain(&batch.documents).map(Vec::as_slice);
    let (ids, offsets) = packed(texts);
    let offsets: Arc<[u32]> = offsets.into();
    let (n_tokens, n_queries) = (ids.len(), batch.queries.len());
    let hidden = student.hidden(&Packed { ids, offsets: offsets.clone(), attended: None }, depth)?;
    let split = offsets[n_queries] as usize;
    let queries = student.project_query(&hidden.narrow(0, 0, split)?)?;
    let documents = student.project(&hidden.narrow(0, split, n_tokens - split)?)?;
    let query_offsets: Arc<[u32]> = offsets[..=n_queries].into();
    let document_offsets: Arc<[u32]> = offsets[n_queries..].iter().map(|o| o - split as u32).collect();
    let n_way = batch.documents.len() / n_queries;
    let pairs: Vec<(u32, u32)> = (0..batch.documents.len()).map(|d| ((d / n_way) as u32, d as u32)).collect();
    let scores = ops::maxsim_pairs(&queries, &query_offsets, &documents, &document_offsets, &pairs)?;
    let wanted = Tensor::new(batch.scores.clone(), student.device())?;
    // As PyLate: the student's scores are normalised, the teacher's taken as they are.
    let settings = KlMinMax { normalise_teacher: false, ..KlMinMax::default() };
    Ok((ops::kl_min_max(&scores.reshape((n_queries, n_way))?, &wanted, settings)?, n_tokens))
}

fn gradients(loss: &Tensor, variables: &[(String, Var)]) -> Result<Vec<Vec<f32>>> {
    let mut store = loss.backward()?;
    variables
        .iter()
        .map(|(name, v)| {
            let gradient = store.remove(v).with_context(|| format!("{name} has no gradient"))?;
            Ok(gradient.flatten_all()?.to_vec1::<f32>()?)
        })
        .collect()
}

/// Largest difference of a parameter's gradient from PyTorch's, relative to the latter's length.
fn largest_difference(
    folder: &std::path::Path,
    variables: &[(String, Var)],
    found: &[Vec<f32>],
) -> Result<f64> {
    let expected = candle_core::safetensors::load(folder.join("gradients.safetensors"), &Device::Cpu)?;
    ensure!(expected.len() == variables.len(), "{} gradients, expected {}", variables.len(), expected.len());
    let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    let mut largest = 0f64;
    for ((name, _), found) in variables.iter().zip(found) {
        let expected = expected.get(name).with_context(|| format!("PyTorch has no gradient of {name}"))?;
        let expected = expected.flatten_all()?.to_vec1::<f32>()?;
        let length = norm(&mut expected.iter().copied());
        let difference = norm(&mut expected.iter().zip(found).map(|(a, b)| a - b));
        ensure!(length > 0.0, "the gradient of {name} is zero, there is nothing to compare");
        largest = largest.max(difference / length);
    }
    Ok(largest)
}

fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours that outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Bytes of the GPU's memory in use, by whomever.
fn device_bytes() -> usize {
    #[cfg(feature = "cuda")]
    if let Ok((free, total)) = candle_core::cuda_backend::cudarc::driver::result::mem_get_info() {
        return total - free;
    }
    0
}

#[allow(clippy::print_stdout, reason = "the bench reads the answers")]
fn main() -> Result<()> {
    // SAFETY: this is the first statement of the program, so no other thread can be reading the environment.
    unsafe {
        std::env::set_var("CANDLE_NUM_THREADS", "1");
        std::env::set_var("RAYON_NUM_THREADS", "1");
    }
    let folder = PathBuf::from(std::env::args().nth(1).context("usage: distill_step FOLDER [DEVICE]")?);
    let name = std::env::args().nth(2).unwrap_or_else(|| "cpu".to_owned());
    ops::compose_everything(name == "composed");
    let device = shirube_train::device::device(if name == "composed" { "cpu" } else { &name }, 0)?;
    let task: Task = serde_json::from_slice(&std::fs::read(folder.join("task.json"))?)?;
    let (student, depth) = (student(&task.shape, &folder, &device)?, task.shape.n_layers);
    let variables: Vec<(String, Var)> =
        student.variables(depth).map(|(name, v)| (name.clone(), v.clone())).collect();
    let (first, _) = loss(&student, &task.batches[&task.first], depth)?;
    let difference = largest_difference(&folder, &variables, &gradients(&first, &variables)?)?;
    let parameters = variables
        .iter()
        .map(|(name, var)| Parameter {
            name: name.clone(),
            var: var.clone(),
            learning_rate_scale: 1.0,
            weight_decay: 0.01,
        })
        .collect();
    let config = ScheduleFreeConfig { learning_rate: 1e-5, ..ScheduleFreeConfig::default() };
    let mut optimizer = ScheduleFreeAdamW::new(parameters, config)?;
    let n_parameters: usize = variables.iter().map(|(_, v)| v.elem_count()).sum();
    println!(
        "{}",
        serde_json::json!({"ready": {"instructions": format!("{:?}", ops::simd::level()), "parameters": n_parameters, "gradient_difference": difference}})
    );
    for line in std::io::stdin().lock().lines() {
        let batch = &task.batches[line?.trim()];
        let (wall, cpu) = (Instant::now(), cpu_seconds());
        let (value, n_tokens) = loss(&student, batch, depth)?;
        optimizer.step(&gradients(&value, &variables)?)?;
        let answer = serde_json::json!({
            "loss": value.to_scalar::<f32>()?,
            "tokens": n_tokens,
            "cpu_s": cpu_seconds() - cpu,
            "wall_s": wall.elapsed().as_secs_f64(),
            "device_bytes": device_bytes(),
        });
        println!("{answer}");
    }
    Ok(())
}
