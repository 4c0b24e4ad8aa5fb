//! The optimiser loop, data parallel over threads, and the contrastive objective on groups.
//!
//! Each worker thread draws its own batch and runs its own tape with single-threaded kernels (two such workers use two cores better than one
//! tape with threaded kernels, see BENCHMARKS.md); gradients are summed in worker order, so that a run is reproducible, then over
//! [`ranks`](crate::ranks).

use crate::data::TokenBatch;
use crate::ops;
use crate::optim::{Parameter, ScheduleFreeAdamW, ScheduleFreeConfig};
use crate::ranks::{Ranks, StepFigures, sum_step};
use crate::runlog::{RunLog, memory_bytes};
use crate::student::{Packed, Student};
use anyhow::{Context as _, Result};
use candle_core::{Tensor, Var};
use std::collections::BTreeMap;
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
    /// Main memory that this process holds, where the system says so.
    pub memory_bytes: Option<u64>,
}

/// How a run goes on the machine.
#[derive(Debug)]
pub struct RunOptions<'a> {
    /// Folder of this step: `model.safetensors`, `state.safetensors`, logs; rank 0 alone writes.
    pub folder: &'a Path,
    /// Worker threads of this process.
    pub workers: usize,
    /// The processes of the run.
    pub ranks: &'a dyn Ranks,
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
    let root = options.ranks.rank() == 0;
    let mut log = if root { Some(RunLog::open(options.folder)?) } else { None };
    let sizes: Vec<usize> = variables.iter().map(|(_, v)| v.elem_count()).collect();
    let first_worker = (options.ranks.rank() * options.workers) as u64;
    let (mut since, mut last_save) = (Instant::now(), Instant::now());
    let (mut total, mut n_steps) = (StepFigures::default(), 0u32);
    let first = optimizer.steps_done();
    for k in first..step.steps {
        let results: Vec<Result<_>> = std::thread::scope(|scope| {
            let handles: Vec<_> = (first_worker..first_worker + options.workers as u64)
                .map(|w| scope.spawn(move || worker_step(variables, objective, k, w)))
                .collect();
            handles
                .into_iter()
                .map(|h| h.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a training worker panicked"))))
                .collect()
        });
        let mut sum: Vec<Vec<f32>> = vec![Vec::new(); variables.len()];
        let mut figures =
            StepFigures { stop: options.stop.load(Ordering::Relaxed), ..StepFigures::default() };
        for result in results {
            let (loss, accuracy, n_tokens, gradients) = result?;
            figures.loss += loss;
            figures.accuracy += accuracy;
            figures.n += 1;
            figures.n_tokens += n_tokens;
            for (a, b) in sum.iter_mut().zip(gradients) {
                if a.is_empty() {
                    *a = b;
                } else {
                    a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
                }
            }
        }
        sum_step(options.ranks, &sizes, &mut sum, &mut figures)?;
        anyhow::ensure!(
            figures.loss.is_finite(),
            "the loss is {} at step {k}; lower learning_rate or lengthen warmup",
            figures.loss
        );
        let scale = 1.0 / figures.n as f32;
        sum.iter_mut().flatten().for_each(|g| *g *= scale);
        let learning_rate = optimizer.learning_rate();
        optimizer.step(&sum)?;
        total.loss += figures.loss;
        total.accuracy += figures.accuracy;
        total.n += figures.n;
        total.n_tokens += figures.n_tokens;
        n_steps += 1;

        let stopping = figures.stop;
        if (k + 1) % 20 == 0 || k + 1 == step.steps || stopping {
            let seconds = since.elapsed().as_secs_f64();
            let progress = Progress {
                step: k + 1,
                steps: step.steps,
                loss: total.loss / total.n as f64,
                accuracy: total.accuracy / total.n as f64,
                tokens_per_second: total.n_tokens as f64 / seconds,
                eta: Duration::from_secs_f64(seconds / f64::from(n_steps) * (step.steps - k - 1) as f64),
                memory_bytes: memory_bytes(),
            };
            if let Some(log) = &mut log {
                let memory = progress.memory_bytes.map(|bytes| ("memory_bytes", bytes as f64));
                let values = [
                    ("loss", progress.loss),
                    ("accuracy", progress.accuracy),
                    ("learning_rate", learning_rate),
                    ("tokens_per_second", progress.tokens_per_second),
                ];
                log.write(progress.step, &values.into_iter().chain(memory).collect::<Vec<_>>())?;
            }
            report(progress);
            (since, total, n_steps) = (Instant::now(), StepFigures::default(), 0);
        }
        if root && (stopping || last_save.elapsed() > options.save_every) {
            save(variables, &optimizer, options.folder)?;
            last_save = Instant::now();
        }
        if stopping && k + 1 < step.steps {
            return Ok(Outcome::Interrupted);
        }
    }
    if root {
        save(variables, &optimizer, options.folder)?;
    }
    Ok(Outcome::Finished)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranks::{Alone, threads};

    /// A bowl whose bottom moves with step and worker; the second parameter takes part for odd workers only.
    fn train(
        ranks: &dyn Ranks,
        workers: usize,
        folder: &Path,
        stop: &AtomicBool,
    ) -> (Outcome, Vec<Vec<u32>>) {
        let var = |name: &str| {
            let start = Tensor::new(&[1f32, -2.0, 0.5], &candle_core::Device::Cpu).expect("values");
            (name.to_owned(), Var::from_tensor(&start).expect("a variable"))
        };
        let variables = [var("always"), var("odd")];
        let objective = |step: u64, worker: u64| {
            let bottom = (step as f64 * 0.1 + worker as f64).sin();
            let square = |(_, v): &(String, Var)| (v.as_tensor() - bottom)?.sqr()?.sum_all();
            let mut loss = square(&variables[0])?;
            if worker % 2 == 1 {
                loss = (loss + square(&variables[1])?)?;
            }
            Ok(BatchLoss { loss, accuracy: 1.0, n_tokens: 3 })
        };
        let options = RunOptions { folder, workers, ranks, stop, save_every: Duration::from_secs(300) };
        let schedule = Schedule { steps: 45, learning_rate: 1e-2, warmup: 3, weight_decay: 0.0 };
        let outcome = optimise(&variables, schedule, &objective, &options, |_| ()).expect("training");
        let bits = |(_, v): &(String, Var)| {
            v.to_vec1::<f32>().expect("values").into_iter().map(f32::to_bits).collect()
        };
        (outcome, variables.iter().map(bits).collect())
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("shirube-ranks-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn two_ranks_take_the_steps_of_one_process_with_twice_the_workers() {
        let (one, two) = (folder("one"), folder("two"));
        let never = AtomicBool::new(false);
        let expected = train(&Alone, 4, &one, &never);
        let found: Vec<_> = std::thread::scope(|scope| {
            let handles: Vec<_> = threads::group(2)
                .into_iter()
                .map(|ranks| {
                    // Only rank 0 may write: the other gets a folder of its own, which must stay empty.
                    let folder = two.join(ranks.rank().to_string());
                    let never = &never;
                    scope.spawn(move || train(&ranks, 2, &folder, never))
                })
                .collect();
            handles.into_iter().map(|h| h.join().expect("a rank")).collect()
        });
        assert_eq!(found[0], found[1], "ranks went apart");
        for (a, b) in expected.1.iter().zip(&found[0].1) {
            for (a, b) in a.iter().zip(b) {
                // Four numbers are added in another order.
                assert!((f32::from_bits(*a) - f32::from_bits(*b)).abs() < 1e-5, "{expected:?} {found:?}");
            }
        }
        let losses = |folder: &Path| -> Vec<f64> {
            let text = std::fs::read_to_string(folder.join("metrics.jsonl")).expect("a log");
            text.lines()
                .map(|l| serde_json::from_str::<serde_json::Value>(l).expect("json")["loss"].as_f64())
                .map(|l| l.expect("a loss"))
                .collect()
        };
        let (a, b) = (losses(&one), losses(&two.join("0")));
        assert!(a.len() == 3 && a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?} {b:?}");
        assert_eq!(std::fs::read_dir(two.join("1")).expect("a folder").count(), 0);
        std::fs::remove_dir_all(one).and_then(|()| std::fs::remove_dir_all(two)).expect("removed");
    }

    #[test]
    fn when_one_rank_is_told_to_stop_all_stop_after_the_same_step() {
        let base = folder("stop");
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let handles: Vec<_> = threads::group(2)
                .into_iter()
                .map(|ranks| {
                    let (folder, stop) =
                        (base.join(ranks.rank().to_string()), AtomicBool::new(ranks.rank() == 1));
                    scope.spawn(move || train(&ranks, 1, &folder, &stop))
                })
                .collect();
            handles.into_iter().map(|h| h.join().expect("a rank")).collect()
        });
        assert_eq!(outcomes[0].0, Outcome::Interrupted);
        assert_eq!(outcomes[0], outcomes[1]);
        assert!(base.join("0/state.safetensors").is_file());
        std::fs::remove_dir_all(base).expect("removed");
    }
}
