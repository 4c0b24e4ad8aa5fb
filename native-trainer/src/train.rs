//! The optimiser loop, data parallel over threads, and the contrastive objective on groups.
//!
//! Each worker thread draws its own batch and runs its own tape with single-threaded kernels (two such workers use two cores better than one
//! tape with threaded kernels, see BENCHMARKS.md); gradients are summed in worker order, so that a run is reproducible.

use crate::data::TokenBatch;
use crate::ops;
use crate::optim::{Parameter, ScheduleFreeAdamW, ScheduleFreeConfig};
use crate::student::{Packed, Student};
use anyhow::{Context as _, Result};
use candle_core::{Tensor, Var};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a step of the loop reports.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Optimiser steps done.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Mean loss over the last report's interval.
    pub loss: f64,
    /// Share of queries whose document scored highest in the batch, over the same interval.
    pub accuracy: f64,
    /// Training speed.
    pub tokens_per_second: f64,
    /// Estimated time left.
    pub eta: Duration,
}

/// How a run goes on the machine.
#[derive(Debug)]
pub struct RunOptions<'a> {
    /// Folder of this step: `model.safetensors`, `state.safetensors`, `metrics.jsonl`.
    pub folder: &'a Path,
    /// Worker threads.
    pub workers: usize,
    /// Set from outside to stop after the current step, saving state.
    pub stop: &'a AtomicBool,
    /// How often state is saved.
    pub save_every: Duration,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps were done.
    Finished,
    /// Stopped; the same command goes on from here.
    Interrupted,
}

/// What an objective says of one batch.
#[derive(Debug)]
pub struct BatchLoss {
    /// Scalar with its tape.
    pub loss: Tensor,
    /// Share of examples whose right answer scored highest.
    pub accuracy: f64,
    /// Tokens encoded.
    pub n_tokens: usize,
}

/// The loss of the batch of a step for a worker. It must depend on these two numbers and the variables alone, so that a resumed run goes on
/// exactly.
pub type Objective<'a> = dyn Fn(u64, u64) -> Result<BatchLoss> + Sync + 'a;

/// Settings of the optimiser.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Steps.
    pub steps: u64,
    /// Learning rate after warm-up.
    pub learning_rate: f64,
    /// Warm-up steps.
    pub warmup: u64,
    /// Weight decay of matrices other than the embedding table.
    pub weight_decay: f64,
}

/// In-batch contrastive loss.
///
/// # Errors
/// Device errors.
pub fn contrastive(student: &Student, batch: &TokenBatch, depth: usize, skip: &[bool]) -> Result<BatchLoss> {
    let offsets: Arc<[u32]> = batch.offsets.as_slice().into();
    let hidden = student.hidden(&Packed { ids: batch.ids.clone(), offsets: offsets.clone() }, depth)?;
    let scored = Scored::new(student, &hidden, &batch.ids, &offsets, batch.n_queries, skip)?;
    let scores =
        ops::maxsim_all(&scored.queries, &scored.query_offsets, &scored.documents, &scored.document_offsets)?;
    let loss = ops::cross_entropy(&scores, &batch.targets, None, 1.0)?;
    let rows: Vec<Vec<f32>> = scores.to_vec2()?;
    let hits = rows
        .iter()
        .zip(&batch.targets)
        .filter(|(row, target)| {
            row.iter().enumerate().all(|(j, s)| j == **target as usize || *s < row[**target as usize])
        })
        .count();
    Ok(BatchLoss { loss, accuracy: hits as f64 / batch.n_queries.max(1) as f64, n_tokens: batch.ids.len() })
}

/// Embeddings that MaxSim reads.
pub(crate) struct Scored {
    pub(crate) queries: Tensor,
    pub(crate) query_offsets: Arc<[u32]>,
    pub(crate) documents: Tensor,
    pub(crate) document_offsets: Arc<[u32]>,
}

impl Scored {
    /// Projects hidden states of `n_queries` queries and the documents after them. Skipped tokens (punctuation) are encoded, so that others
    /// see them, but never scored.
    pub(crate) fn new(
        student: &Student,
        hidden: &Tensor,
        ids: &[u32],
        offsets: &[u32],
        n_queries: usize,
        skip: &[bool],
    ) -> Result<Self> {
        let n_query_tokens = offsets[n_queries] as usize;
        let queries = student.project_query(&hidden.narrow(0, 0, n_query_tokens)?)?;
        let mut kept = Vec::new();
        let mut document_offsets = vec![0];
        for window in offsets[n_queries..].windows(2) {
            kept.extend((window[0]..window[1]).filter(|&t| !skip[ids[t as usize] as usize]));
            document_offsets.push(u32::try_from(kept.len())?);
        }
        Ok(Self {
            queries,
            query_offsets: offsets[..=n_queries].into(),
            documents: student.project(&ops::gather(hidden, &kept)?)?,
            document_offsets: document_offsets.into(),
        })
    }
}

/// Runs an objective and its backward pass: loss, accuracy, tokens, gradients by parameter order.
fn worker_step(
    variables: &[(String, Var)],
    objective: &Objective<'_>,
    step: u64,
    worker: u64,
) -> Result<(f64, f64, usize, Vec<Vec<f32>>)> {
    let BatchLoss { loss, accuracy, n_tokens } = objective(step, worker)?;
    let mut store = loss.backward()?;
    let gradients = variables
        .iter()
        .map(|(_, v)| match store.remove(v) {
            Some(g) => g.flatten_all()?.to_vec1::<f32>(),
            None => Ok(Vec::new()),
        })
        .collect::<candle_core::Result<Vec<_>>>()?;
    Ok((f64::from(loss.to_scalar::<f32>()?), accuracy, n_tokens, gradients))
}

/// The averaged weights by name: what is evaluated, exported and merged.
fn averaged(variables: &[(String, Var)], optimizer: &ScheduleFreeAdamW) -> Result<BTreeMap<String, Tensor>> {
    variables
        .iter()
        .zip(optimizer.averaged())
        .map(|((name, v), x)| Ok((name.clone(), Tensor::from_vec(x, v.dims(), v.device())?)))
        .collect()
}

fn save(variables: &[(String, Var)], optimizer: &ScheduleFreeAdamW, folder: &Path) -> Result<()> {
    Student::save(&averaged(variables, optimizer)?, &folder.join("model.safetensors"))?;
    let aside: PathBuf = folder.join("state.part");
    optimizer.save(&aside)?;
    std::fs::rename(&aside, folder.join("state.safetensors"))?;
    Ok(())
}

/// Trains `variables` in place through all steps, from the state in the folder if there is one. At the end (or when stopped) the folder holds
/// the averaged weights and the state to go on from.
///
/// # Errors
/// Data, device and file errors; a loss that is not finite.
pub fn optimise(
    variables: &[(String, Var)],
    schedule: Schedule,
    objective: &Objective<'_>,
    options: &RunOptions<'_>,
    mut report: impl FnMut(Progress),
) -> Result<Outcome> {
    std::fs::create_dir_all(options.folder)?;
    let step = schedule;
    let parameters = variables
        .iter()
        .map(|(name, var)| Parameter {
            name: name.clone(),
            var: var.clone(),
            learning_rate_scale: 1.0,
            weight_decay: if var.dims().len() == 2 && !name.starts_with("embeddings") {
                step.weight_decay
            } else {
                0.0
            },
        })
        .collect();
    let config = ScheduleFreeConfig {
        learning_rate: step.learning_rate,
        warmup: step.warmup,
        ..ScheduleFreeConfig::default()
    };
    let mut optimizer = ScheduleFreeAdamW::new(parameters, config)?;
    let state = options.folder.join("state.safetensors");
    if state.is_file() {
        optimizer.load(&state).with_context(|| format!("cannot resume from {}", state.display()))?;
    }
    let mut log =
        std::fs::OpenOptions::new().create(true).append(true).open(options.folder.join("metrics.jsonl"))?;
    let (mut since, mut last_save) = (Instant::now(), Instant::now());
    let (mut loss_sum, mut hit_sum, mut n, mut n_tokens) = (0.0, 0.0, 0u32, 0usize);
    let first = optimizer.steps_done();
    for k in first..step.steps {
        let results: Vec<Result<_>> = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..options.workers as u64)
                .map(|w| scope.spawn(move || worker_step(variables, objective, k, w)))
                .collect();
            handles
                .into_iter()
                .map(|h| h.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a training worker panicked"))))
                .collect()
        });
        let mut sum: Vec<Vec<f32>> = Vec::new();
        for result in results {
            let (loss, hits, tokens, gradients) = result?;
            anyhow::ensure!(
                loss.is_finite(),
                "the loss is {loss} at step {k}; lower learning_rate or lengthen warmup"
            );
            loss_sum += loss;
            hit_sum += hits;
            n += 1;
            n_tokens += tokens;
            if sum.is_empty() {
                sum = gradients;
            } else {
                for (a, b) in sum.iter_mut().zip(gradients) {
                    if a.is_empty() {
                        *a = b;
                    } else {
                        a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
                    }
                }
            }
        }
        let scale = 1.0 / options.workers as f32;
        sum.iter_mut().flatten().for_each(|g| *g *= scale);
        optimizer.step(&sum)?;

        let stopping = options.stop.load(Ordering::Relaxed);
        if (k + 1) % 20 == 0 || k + 1 == step.steps || stopping {
            let seconds = since.elapsed().as_secs_f64();
            let steps_here = f64::from(n) / options.workers as f64;
            let progress = Progress {
                step: k + 1,
                steps: step.steps,
                loss: loss_sum / f64::from(n),
                accuracy: hit_sum / f64::from(n),
                tokens_per_second: n_tokens as f64 / seconds,
                eta: Duration::from_secs_f64(seconds / steps_here * (step.steps - k - 1) as f64),
            };
            writeln!(
                log,
                "{}",
                json!({"step": progress.step, "loss": progress.loss, "accuracy": progress.accuracy, "tokens_per_second": progress.tokens_per_second})
            )?;
            report(progress);
            (since, loss_sum, hit_sum, n, n_tokens) = (Instant::now(), 0.0, 0.0, 0, 0);
        }
        if stopping || last_save.elapsed() > options.save_every {
            save(variables, &optimizer, options.folder)?;
            last_save = Instant::now();
        }
        if stopping && k + 1 < step.steps {
            return Ok(Outcome::Interrupted);
        }
    }
    save(variables, &optimizer, options.folder)?;
    Ok(Outcome::Finished)
}
