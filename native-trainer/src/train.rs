//! The optimiser loop, data parallel over threads.
//!
//! Each worker thread draws its own batch and runs its own tape with single-threaded kernels (two such workers use two cores better than one
//! tape with threaded kernels, see BENCHMARKS.md); gradients are summed in worker order, so that a run is reproducible, then over
//! [`ranks`](crate::ranks).

use crate::batch::BatchLoss;
use crate::optim::{Parameter, ScheduleFreeAdamW, ScheduleFreeConfig};
use crate::ranks::{Ranks, StepFigures, sum_step};
use crate::runlog::{RunLog, memory_bytes};
use crate::student::Student;
use anyhow::{Context as _, Result};
use candle_core::{Tensor, Var};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
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

/// The loss of a batch, by the batch's number and the worker. It must depend on these two numbers and the variables alone, so that a resumed run goes on
/// exactly.
pub type Objective<'a> = dyn Fn(u64, u64) -> Result<BatchLoss<'a>> + Sync + 'a;

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
    /// Batches of a worker whose gradients make one step, at least 1.
    pub accumulate: u64,
}

/// The gradients of a loss by parameter order; empty where a parameter took no part.
///
/// # Errors
/// Device errors.
pub fn gradients(variables: &[(String, Var)], loss: BatchLoss<'_>) -> Result<Vec<Vec<f32>>> {
    let mut sum = vec![Vec::new(); variables.len()];
    for part in loss.parts {
        let mut store = part?.backward()?;
        let part = variables
            .iter()
            .map(|(_, v)| match store.remove(v) {
                Some(g) => g.flatten_all()?.to_vec1::<f32>(),
                None => Ok(Vec::new()),
            })
            .collect::<candle_core::Result<Vec<_>>>()?;
        add(&mut sum, part);
    }
    Ok(sum)
}

/// Adds gradients to a sum, either of which may lack a parameter.
fn add(sum: &mut [Vec<f32>], more: Vec<Vec<f32>>) {
    for (a, b) in sum.iter_mut().zip(more) {
        if a.is_empty() {
            *a = b;
        } else {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        }
    }
}

/// Runs an objective and its backward pass on a worker's batches of one step: sums of loss, accuracy, tokens and gradients.
fn worker_step(
    variables: &[(String, Var)],
    objective: &Objective<'_>,
    batches: std::ops::Range<u64>,
    worker: u64,
) -> Result<(f64, f64, usize, Vec<Vec<f32>>)> {
    let mut sum = (0.0, 0.0, 0, vec![Vec::new(); variables.len()]);
    for batch in batches {
        let loss = objective(batch, worker)?;
        sum.0 += loss.value;
        sum.1 += loss.accuracy;
        sum.2 += loss.n_tokens;
        add(&mut sum.3, gradients(variables, loss)?);
    }
    Ok(sum)
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
    let accumulate = step.accumulate;
    anyhow::ensure!(accumulate > 0, "accumulate is 0; at least one batch makes a step");
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
        let batches = k * accumulate..(k + 1) * accumulate;
        let results: Vec<Result<_>> = std::thread::scope(|scope| {
            let handles: Vec<_> = (first_worker..first_worker + options.workers as u64)
                .map(|w| {
                    let batches = batches.clone();
                    scope.spawn(move || worker_step(variables, objective, batches, w))
                })
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
            figures.n += accumulate;
            figures.n_tokens += n_tokens;
            add(&mut sum, gradients);
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
            BatchLoss::whole(loss, 1.0, 3)
        };
        let options = RunOptions { folder, workers, ranks, stop, save_every: Duration::from_secs(300) };
        let schedule =
            Schedule { steps: 45, learning_rate: 1e-2, warmup: 3, weight_decay: 0.0, accumulate: 1 };
        let outcome = optimise(&variables, schedule, &objective, &options, |_| ()).expect("training");
        let bits = |(_, v): &(String, Var)| {
            v.to_vec1::<f32>().expect("values").into_iter().map(f32::to_bits).collect()
        };
        (outcome, variables.iter().map(bits).collect())
    }

    fn temporary() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    #[test]
    fn two_ranks_take_the_steps_of_one_process_with_twice_the_workers() {
        let temporary = temporary();
        let (one, two) = (temporary.path().join("one"), temporary.path().join("two"));
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
    }

    #[test]
    fn a_step_of_three_batches_is_a_step_on_their_mean_also_when_resumed() {
        let base = temporary();
        let bottom = |batch: u64| (batch as f64 * 0.3).sin();
        let run = |name: &str, accumulate: u64, stops: bool| -> Vec<f32> {
            let start = Tensor::new(&[1f32, -2.0, 0.5], &candle_core::Device::Cpu).expect("values");
            let variables = [("x".to_owned(), Var::from_tensor(&start).expect("a variable"))];
            let folder = base.path().join(name);
            let stop = AtomicBool::new(stops);
            let square = |batch: u64| -> Result<Tensor> {
                Ok((variables[0].1.as_tensor() - bottom(batch))?.sqr()?.sum_all()?)
            };
            let objective = |batch: u64, _: u64| {
                let loss = if accumulate == 3 {
                    square(batch)?
                } else {
                    (((square(3 * batch)? + square(3 * batch + 1)?)? + square(3 * batch + 2)?)? / 3.0)?
                };
                BatchLoss::whole(loss, 1.0, 3)
            };
            let options = RunOptions {
                folder: &folder,
                workers: 1,
                ranks: &Alone,
                stop: &stop,
                save_every: Duration::from_secs(300),
            };
            let schedule =
                Schedule { steps: 12, learning_rate: 1e-2, warmup: 3, weight_decay: 0.0, accumulate };
            let mut outcome = optimise(&variables, schedule, &objective, &options, |_| ()).expect("training");
            if stops {
                assert_eq!(outcome, Outcome::Interrupted);
                stop.store(false, Ordering::Relaxed);
                outcome = optimise(&variables, schedule, &objective, &options, |_| ()).expect("training");
            }
            assert_eq!(outcome, Outcome::Finished);
            variables[0].1.to_vec1().expect("values")
        };
        let (mean, accumulated, resumed) =
            (run("mean", 1, false), run("accumulated", 3, false), run("resumed", 3, true));
        assert_eq!(accumulated, resumed);
        for (a, b) in mean.iter().zip(&accumulated) {
            // Sums in another order.
            assert!((a - b).abs() < 1e-5, "{mean:?} and {accumulated:?}");
        }
    }

    #[test]
    fn when_one_rank_is_told_to_stop_all_stop_after_the_same_step() {
        let base = temporary();
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let handles: Vec<_> = threads::group(2)
                .into_iter()
                .map(|ranks| {
                    let (folder, stop) =
                        (base.path().join(ranks.rank().to_string()), AtomicBool::new(ranks.rank() == 1));
                    scope.spawn(move || train(&ranks, 1, &folder, &stop))
                })
                .collect();
            handles.into_iter().map(|h| h.join().expect("a rank")).collect()
        });
        assert_eq!(outcomes[0].0, Outcome::Interrupted);
        assert_eq!(outcomes[0], outcomes[1]);
        assert!(base.path().join("0/state.safetensors").is_file());
    }
}
