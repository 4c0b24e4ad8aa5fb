//! Training speed of one worker: tokens per second of process time for forward and backward.
//!
//! Measured: a stack of `layers` blocks of width `hidden` with gated feed-forward, vocabulary 16,384, dim 64, on packed
//! sequences (an eighth are queries of a fixed 32 tokens, the rest documents), in-batch contrastive loss over MaxSim,
//! one thread. Left out: reading data, summing workers' gradients, evaluation. The optimiser's step is given apart.
//!
//! `cargo run --release -p shirube-train --example step_speed -- [layers] [hidden] [inter] [sequences] [length] [steps] [bf16: 0 or 1]`

use candle_core::{Device, Result, Tensor, Var};
use shirube_train::ops::{self, AttentionShape};
use shirube_train::optim::{Parameter, ScheduleFreeAdamW, ScheduleFreeConfig};
use std::sync::Arc;
use std::time::Instant;

const VOCAB: usize = 16_384;
const DIM: usize = 64;
const QUERY_LENGTH: usize = 32;

struct Layer {
    attn_norm: Var,
    qkv: Var,
    attn_out: Var,
    mlp_norm: Var,
    mlp_in: Var,
    mlp_out: Var,
}

struct Model {
    table: Var,
    norm: Var,
    layers: Vec<Layer>,
    final_norm: Var,
    dense: Var,
    n_heads: usize,
}

fn normal(shape: &[usize], seed: u64) -> Result<Var> {
    let scale = 1.7 / (shape[1] as f32).sqrt();
    let values = ops::graddiff::values(shape.iter().product(), seed).into_iter().map(|v| v * scale).collect();
    Var::from_vec::<_, f32>(values, shape, &Device::Cpu)
}

fn ones(n: usize) -> Result<Var> {
    Var::ones(n, candle_core::DType::F32, &Device::Cpu)
}

impl Model {
    fn new(n_layers: usize, h: usize, inter: usize) -> Result<Self> {
        let mut layers = Vec::new();
        for i in 0..n_layers as u64 {
            layers.push(Layer {
                attn_norm: ones(h)?,
                qkv: normal(&[3 * h, h], 10 * i + 1)?,
                attn_out: normal(&[h, h], 10 * i + 2)?,
                mlp_norm: ones(h)?,
                mlp_in: normal(&[2 * inter, h], 10 * i + 3)?,
                mlp_out: normal(&[h, inter], 10 * i + 4)?,
            });
        }
        let n_heads = h / 64;
        let (table, dense) = (normal(&[VOCAB, h], 1000)?, normal(&[DIM, h], 1001)?);
        Ok(Self { table, norm: ones(h)?, layers, final_norm: ones(h)?, dense, n_heads })
    }

    fn vars(&self) -> Vec<Var> {
        let mut vars =
            vec![self.table.clone(), self.norm.clone(), self.final_norm.clone(), self.dense.clone()];
        for l in &self.layers {
            vars.extend(
                [&l.attn_norm, &l.qkv, &l.attn_out, &l.mlp_norm, &l.mlp_in, &l.mlp_out].map(Var::clone),
            );
        }
        vars
    }

    fn embeddings(&self, ids: &[u32], offsets: &Arc<[u32]>) -> Result<Tensor> {
        let mut x = ops::layer_norm(&ops::gather(&self.table, ids)?, &self.norm, 1e-5)?;
        for (i, l) in self.layers.iter().enumerate() {
            let reach = if i % 3 == 0 { None } else { Some(64) };
            let shape = AttentionShape { n_heads: self.n_heads, reach, rope_theta: Some(1e4) };
            let qkv = ops::linear(&ops::layer_norm(&x, &l.attn_norm, 1e-5)?, &l.qkv, None)?;
            x = ops::linear_add(&ops::attention(&qkv, offsets, shape)?, &l.attn_out, &x)?;
            let inner = ops::linear(&ops::layer_norm(&x, &l.mlp_norm, 1e-5)?, &l.mlp_in, None)?;
            x = ops::linear_add(&ops::geglu(&inner)?, &l.mlp_out, &x)?;
        }
        ops::l2_normalize(&ops::linear(&ops::layer_norm(&x, &self.final_norm, 1e-5)?, &self.dense, None)?)
    }
}

/// Seconds of processor time this process has used (Linux; elsewhere wall time since the first call).
fn cpu_seconds(start: Instant) -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    match stat.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()) {
        Some(ns) => ns * 1e-9,
        None => start.elapsed().as_secs_f64(),
    }
}

#[allow(clippy::print_stdout, reason = "the figures are the product")]
fn main() -> Result<()> {
    // SAFETY: this is the first statement of the program, so no other thread can be reading the environment.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    let arg =
        |i: usize, default: usize| std::env::args().nth(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (n_layers, hidden, inter) = (arg(1, 4), arg(2, 256), arg(3, 512));
    let (sequences, length, steps) = (arg(4, 64), arg(5, 128), arg(6, 5));
    let bf16 = ops::matmul::allow_bf16(arg(7, 0) == 1);
    let model = Model::new(n_layers, hidden, inter)?;
    let n_queries = (sequences / 8).max(1);
    let mut offsets = vec![0u32];
    for i in 0..n_queries + sequences {
        offsets.push(offsets[i] + if i < n_queries { QUERY_LENGTH } else { length } as u32);
    }
    let offsets: Arc<[u32]> = offsets.into();
    let n_tokens = offsets[offsets.len() - 1] as usize;
    let ids: Vec<u32> = (0..n_tokens as u64).map(|i| (i * 2_654_435_761 % VOCAB as u64) as u32).collect();
    let split = offsets[n_queries];
    let query_offsets: Arc<[u32]> = offsets[..=n_queries].into();
    let document_offsets: Arc<[u32]> = offsets[n_queries..].iter().map(|o| o - split).collect();
    let target: Vec<u32> = (0..n_queries as u32).map(|i| i * 8).collect();

    let parameters: Vec<Parameter> = model
        .vars()
        .into_iter()
        .enumerate()
        .map(|(i, var)| Parameter { name: i.to_string(), var, learning_rate_scale: 1.0, weight_decay: 0.01 })
        .collect();
    let n_parameters: usize = parameters.iter().map(|p| p.var.elem_count()).sum();
    println!("{n_parameters} parameters, {n_tokens} tokens a step, {:?}, bf16 {bf16}", ops::simd::level());
    let vars = model.vars();
    let mut optimizer = ScheduleFreeAdamW::new(parameters, ScheduleFreeConfig::default())?;
    let start = Instant::now();
    let (mut forward, mut backward, mut update) = (0.0, 0.0, 0.0);
    for step in 0..=steps {
        let t0 = cpu_seconds(start);
        let x = model.embeddings(&ids, &offsets)?;
        let (queries, documents) =
            (x.narrow(0, 0, split as usize)?, x.narrow(0, split as usize, n_tokens - split as usize)?);
        let scores = ops::maxsim_all(&queries, &query_offsets, &documents, &document_offsets)?;
        let loss = ops::cross_entropy(&scores, &target, None, 1.0)?;
        let t1 = cpu_seconds(start);
        let mut store = loss.backward()?;
        let mut grads = Vec::new();
        for var in &vars {
            grads.push(match store.remove(var) {
                Some(grad) => grad.flatten_all()?.to_vec1::<f32>()?,
                None => Vec::new(),
            });
        }
        drop(store);
        let t2 = cpu_seconds(start);
        optimizer.step(&grads)?;
        let t3 = cpu_seconds(start);
        if step > 0 {
            (forward, backward, update) = (forward + t1 - t0, backward + t2 - t1, update + t3 - t2);
        }
        println!("step {step}: loss {:.4}", loss.to_scalar::<f32>()?);
    }
    let n = steps as f64;
    println!(
        "forward {:.3} s, backward {:.3} s, optimiser {:.3} s a step; {:.0} tokens per second of processor time",
        forward / n,
        backward / n,
        update / n,
        n_tokens as f64 * n / (forward + backward)
    );
    Ok(())
}
