//! Optimisers: schedule-free AdamW (the recipe's) and AdamW with warm-up and decay.
//!
//! Schedule-free AdamW (Defazio et al., "The Road Less Scheduled", algorithm 1 with the AdamW base) needs no end of
//! training to be known. It keeps two iterates: gradients are taken at y, which is what the variables hold, and a plain
//! AdamW-like iterate z. The weights to evaluate, export and average are neither: they are the running mean
//! `x = y + (1 - 1 / beta1) (z - y)`, from [`ScheduleFreeAdamW::averaged`].
//!
//! Step k (from 0), by parameter, as the package `schedulefree` 1.4.1 computes it:
//!
//! ```text
//! lr = learning_rate * scale * min(1, (k + 1) / warmup)     lr_max = max(lr_max, lr)
//! w = lr_max^2    W += w    c = w / W
//! v = beta2 v + (1 - beta2) g^2
//! u = g / (sqrt(v / (1 - beta2^(k + 1))) + epsilon) + weight_decay * y
//! y = y + c (z - y) + lr (beta1 (1 - c) - 1) u
//! z = z - lr u
//! ```
//!
//! Variables are changed in place, z and v are flat buffers beside them: 12 bytes a parameter with y. Gradients come as
//! flat slices in parameter order, so that the gradients of several workers can be summed first; an empty slice means
//! that the parameter took no part in the step and leaves it untouched. Gradients are not clipped.

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Var, bail};
use rayon::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

/// Values updated by one task: large enough to hide the task's cost, small enough to share out an embedding table.
const CHUNK: usize = 1 << 15;

/// One trained variable and its group's settings.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Name in saved state.
    pub name: String,
    /// The weights: f32, contiguous.
    pub var: Var,
    /// Factor on the learning rate.
    pub learning_rate_scale: f64,
    /// Decoupled weight decay, times the learning rate; 0 for norms and biases by custom.
    pub weight_decay: f64,
}

/// Settings of [`ScheduleFreeAdamW`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScheduleFreeConfig {
    /// Learning rate after warm-up; about three times that of a decaying schedule.
    pub learning_rate: f64,
    /// Steps over which the learning rate rises linearly; 0 for none.
    pub warmup: u64,
    /// Weight of the running mean in y; above 0, below 1.
    pub beta1: f64,
    /// Decay of the mean squared gradient.
    pub beta2: f64,
    /// Added to the root of the mean squared gradient.
    pub epsilon: f64,
}

impl Default for ScheduleFreeConfig {
    fn default() -> Self {
        Self { learning_rate: 2.5e-3, warmup: 0, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

/// How the learning rate of [`AdamW`] falls after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// Not at all.
    Constant,
    /// In a straight line to 0 at the last step.
    Linear,
    /// Along half a cosine to 0 at the last step.
    Cosine,
}

/// Settings of [`AdamW`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// Largest learning rate.
    pub learning_rate: f64,
    /// Steps over which it rises linearly; 0 for none.
    pub warmup: u64,
    /// Steps in all, for the decay.
    pub steps: u64,
    /// Shape of the decay.
    pub decay: Decay,
    /// Decay of the mean gradient.
    pub beta1: f64,
    /// Decay of the mean squared gradient.
    pub beta2: f64,
    /// Added to the root of the mean squared gradient.
    pub epsilon: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            warmup: 0,
            steps: 0,
            decay: Decay::Constant,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
        }
    }
}

/// Parameters with two flat buffers each: z and v, or first and second moment.
#[derive(Debug)]
struct Slots {
    parameters: Vec<Parameter>,
    first: Vec<Vec<f32>>,
    second: Vec<Vec<f32>>,
}

/// One update of a chunk: weights, gradient, first and second buffer.
type Update<'a> = &'a (dyn Fn(&mut [f32], &[f32], &mut [f32], &mut [f32]) + Sync);

/// Applies an update to a variable's own storage.
struct InPlace<'a> {
    grad: &'a [f32],
    slots: RefCell<(&'a mut [f32], &'a mut [f32])>,
    update: Update<'a>,
}

impl InplaceOp1 for InPlace<'_> {
    fn name(&self) -> &'static str {
        "optimiser step"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            bail!("optimiser: a variable must be contiguous f32")
        };
        let mut slots = self.slots.borrow_mut();
        let (first, second) = &mut *slots;
        values[start..end]
            .par_chunks_mut(CHUNK)
            .zip(self.grad.par_chunks(CHUNK))
            .zip(first.par_chunks_mut(CHUNK))
            .zip(second.par_chunks_mut(CHUNK))
            .for_each(|(((y, g), a), b)| (self.update)(y, g, a, b));
        Ok(())
    }
}

impl Slots {
    /// `first` starts as a copy of the weights, or as zeros.
    fn new(parameters: Vec<Parameter>, copy: bool) -> Result<Self> {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for parameter in &parameters {
            let values = parameter.var.flatten_all()?.to_vec1::<f32>()?;
            second.push(vec![0.0; values.len()]);
            first.push(if copy { values } else { vec![0.0; values.len()] });
        }
        Ok(Self { parameters, first, second })
    }

    /// Refuses gradients that do not fit before anything is changed.
    fn check(&self, grads: &[Vec<f32>]) -> Result<()> {
        if grads.len() != self.parameters.len() {
            bail!("optimiser: {} gradients for {} parameters", grads.len(), self.parameters.len())
        }
        for (parameter, grad) in self.parameters.iter().zip(grads) {
            let n = parameter.var.elem_count();
            if !grad.is_empty() && grad.len() != n {
                bail!("optimiser: the gradient of {} has {} values, not {n}", parameter.name, grad.len())
            }
        }
        Ok(())
    }

    /// Runs `make(parameter)`'s update on every parameter that has a gradient.
    fn apply<F>(&mut self, grads: &[Vec<f32>], make: impl Fn(&Parameter) -> F) -> Result<()>
    where
        F: Fn(&mut [f32], &[f32], &mut [f32], &mut [f32]) + Sync,
    {
        self.check(grads)?;
        let slots = self.first.iter_mut().zip(&mut self.second);
        for ((parameter, grad), (first, second)) in self.parameters.iter().zip(grads).zip(slots) {
            if grad.is_empty() {
                continue;
            }
            let update = make(parameter);
            if !parameter.var.device().is_cpu() {
                // The state stays in main memory, where gradients were summed: weights come here and go back.
                let mut values = parameter.var.flatten_all()?.to_vec1::<f32>()?;
                values
                    .par_chunks_mut(CHUNK)
                    .zip(grad.par_chunks(CHUNK))
                    .zip(first.par_chunks_mut(CHUNK))
                    .zip(second.par_chunks_mut(CHUNK))
                    .for_each(|(((y, g), a), b)| update(y, g, a, b));
                let var = &parameter.var;
                var.set(&candle_core::Tensor::from_vec(values, var.dims(), var.device())?)?;
                continue;
            }
            let op = InPlace { grad, slots: RefCell::new((first, second)), update: &update };
            parameter.var.inplace_op1(&op)?;
        }
        Ok(())
    }

    fn save(&self, path: &Path, kind: &str, k: u64, numbers: &[f64]) -> Result<()> {
        let mut tensors = Vec::new();
        for ((parameter, first), second) in self.parameters.iter().zip(&self.first).zip(&self.second) {
            let weights = parameter.var.flatten_all()?.to_vec1::<f32>()?;
            for (suffix, values) in [("y", &weights), ("first", first), ("second", second)] {
                let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                tensors.push((format!("{}/{suffix}", parameter.name), parameter.var.dims().to_vec(), bytes));
            }
        }
        let mut views = Vec::with_capacity(tensors.len());
        for (name, dims, bytes) in &tensors {
            let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, dims.clone(), bytes)
                .map_err(|e| candle_core::Error::Msg(format!("{}: {name}: {e}", path.display())))?;
            views.push((name.as_str(), view));
        }
        // Numbers are kept by their bits, so that a resumed run goes on exactly.
        let bits: Vec<String> = numbers.iter().map(|v| format!("{:016x}", v.to_bits())).collect();
        let metadata: HashMap<String, String> = [
            ("optimiser".to_owned(), kind.to_owned()),
            ("steps_done".to_owned(), k.to_string()),
            ("numbers".to_owned(), bits.join(",")),
        ]
        .into();
        let file = safetensors::serialize(views, Some(metadata))
            .map_err(|e| candle_core::Error::Msg(format!("{}: {e}", path.display())))?;
        std::fs::write(path, file).map_err(|e| candle_core::Error::Msg(format!("{}: {e}", path.display())))
    }

    /// Fills variables and buffers from a file; returns steps done and the numbers saved. Changes nothing on an error.
    fn load<const N: usize>(&mut self, path: &Path, kind: &str) -> Result<(u64, [f64; N])> {
        let at = |message: String| candle_core::Error::Msg(format!("{}: {message}", path.display()));
        let file = std::fs::read(path).map_err(|e| at(e.to_string()))?;
        let (_, header) = safetensors::SafeTensors::read_metadata(&file).map_err(|e| at(e.to_string()))?;
        let tensors = safetensors::SafeTensors::deserialize(&file).map_err(|e| at(e.to_string()))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let field = |name: &str| metadata.get(name).map(String::as_str).unwrap_or_default();
        if field("optimiser") != kind {
            return Err(at(format!("holds the state of {:?}, not of {kind:?}", field("optimiser"))));
        }
        let k = field("steps_done").parse::<u64>().map_err(|e| at(format!("steps_done: {e}")))?;
        let numbers: Vec<f64> = field("numbers")
            .split(',')
            .filter_map(|bits| u64::from_str_radix(bits, 16).ok().map(f64::from_bits))
            .collect();
        let numbers: [f64; N] = numbers.try_into().map_err(|found: Vec<f64>| {
            at(format!("expected {N} numbers in the header, found {}", found.len()))
        })?;
        let mut read = Vec::with_capacity(self.parameters.len());
        for parameter in &self.parameters {
            let values = |suffix: &str| -> Result<Vec<f32>> {
                let name = format!("{}/{suffix}", parameter.name);
                let view = tensors.tensor(&name).map_err(|e| at(format!("{name}: {e}")))?;
                if view.dtype() != safetensors::Dtype::F32 || view.shape() != parameter.var.dims() {
                    return Err(at(format!(
                        "{name}: expected f32 {:?}, found {:?} {:?}",
                        parameter.var.dims(),
                        view.dtype(),
                        view.shape()
                    )));
                }
                Ok(view
                    .data()
                    .chunks_exact(4)
                    .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                    .collect())
            };
            read.push((values("y")?, values("first")?, values("second")?));
        }
        for (i, (y, first, second)) in read.into_iter().enumerate() {
            let var = &self.parameters[i].var;
            var.set(&candle_core::Tensor::from_vec(y, var.dims(), var.device())?)?;
            (self.first[i], self.second[i]) = (first, second);
        }
        Ok((k, numbers))
    }
}

/// Schedule-free AdamW; see the module's page for the formula.
#[derive(Debug)]
pub struct ScheduleFreeAdamW {
    config: ScheduleFreeConfig,
    slots: Slots,
    k: u64,
    weight_sum: f64,
    lr_max: f64,
}

const SCHEDULE_FREE: &str = "schedule-free-adamw";

impl ScheduleFreeAdamW {
    /// An optimiser at step 0 whose z is the variables' present content.
    ///
    /// # Errors
    /// When beta1 does not lie between 0 and 1, or a variable is not f32.
    pub fn new(parameters: Vec<Parameter>, config: ScheduleFreeConfig) -> Result<Self> {
        if !(config.beta1 > 0.0 && config.beta1 < 1.0) {
            bail!("optimiser: beta1 must lie between 0 and 1, found {}", config.beta1)
        }
        Ok(Self { config, slots: Slots::new(parameters, true)?, k: 0, weight_sum: 0.0, lr_max: 0.0 })
    }

    /// Takes one step; `grads` by parameter order, an empty one for a parameter that took no part.
    ///
    /// # Errors
    /// When the gradients do not fit the parameters; then nothing has changed.
    pub fn step(&mut self, grads: &[Vec<f32>]) -> Result<()> {
        self.slots.check(grads)?;
        let ScheduleFreeConfig { beta1, beta2, epsilon, .. } = self.config;
        let lr = self.learning_rate();
        self.lr_max = self.lr_max.max(lr);
        let weight = self.lr_max * self.lr_max;
        self.weight_sum += weight;
        let c = if self.weight_sum > 0.0 { weight / self.weight_sum } else { 0.0 };
        let steps = i32::try_from(self.k + 1).unwrap_or(i32::MAX);
        let correction = (1.0 / (1.0 - beta2.powi(steps))) as f32;
        let (beta2, rest, epsilon, mix) = (beta2 as f32, (1.0 - beta2) as f32, epsilon as f32, c as f32);
        self.slots.apply(grads, |parameter| {
            let lr = lr * parameter.learning_rate_scale;
            let (back, lr) = ((lr * (beta1 * (1.0 - c) - 1.0)) as f32, lr as f32);
            let decay = parameter.weight_decay as f32;
            move |y: &mut [f32], g: &[f32], z: &mut [f32], v: &mut [f32]| {
                for (((y, g), z), v) in y.iter_mut().zip(g).zip(z).zip(v) {
                    *v = *v * beta2 + g * g * rest;
                    let u = g / ((*v * correction).sqrt() + epsilon) + decay * *y;
                    *y += mix * (*z - *y) + back * u;
                    *z -= lr * u;
                }
            }
        })?;
        self.k += 1;
        Ok(())
    }

    /// The weights to evaluate, export and average, by parameter order: `x = y + (1 - 1 / beta1) (z - y)`.
    pub fn averaged(&self) -> Vec<Vec<f32>> {
        let weight = (1.0 - 1.0 / self.config.beta1) as f32;
        let parameters = self.slots.parameters.iter().zip(&self.slots.first);
        parameters
            .map(|(parameter, z)| match parameter.var.flatten_all().and_then(|y| y.to_vec1::<f32>()) {
                Ok(y) => y.into_iter().zip(z).map(|(y, z)| y + weight * (z - y)).collect(),
                // `new` read the same variable the same way.
                Err(_) => z.clone(),
            })
            .collect()
    }

    /// Steps taken since step 0, over all resumed runs.
    pub fn steps_done(&self) -> u64 {
        self.k
    }

    /// Learning rate of the next step, before a parameter's scale.
    pub fn learning_rate(&self) -> f64 {
        self.config.learning_rate * warmed(self.k, self.config.warmup)
    }

    /// Writes weights, buffers and counters as one safetensors file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.slots.save(path, SCHEDULE_FREE, self.k, &[self.weight_sum, self.lr_max])
    }

    /// Reads what [`Self::save`] wrote, into the variables as well; training goes on exactly as if it had not stopped.
    ///
    /// # Errors
    /// When the file cannot be read, is another optimiser's, or its tensors do not fit; then nothing has changed.
    pub fn load(&mut self, path: &Path) -> Result<()> {
        let (k, [weight_sum, lr_max]) = self.slots.load(path, SCHEDULE_FREE)?;
        (self.k, self.weight_sum, self.lr_max) = (k, weight_sum, lr_max);
        Ok(())
    }
}

/// Share of the learning rate at step k of a linear warm-up.
fn warmed(k: u64, warmup: u64) -> f64 {
    if k < warmup { (k + 1) as f64 / warmup as f64 } else { 1.0 }
}

/// AdamW (decoupled weight decay) with linear warm-up and a decay to the last step.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    slots: Slots,
    k: u64,
}

const ADAMW: &str = "adamw";

impl AdamW {
    /// An optimiser at step 0.
    ///
    /// # Errors
    /// When a variable is not f32.
    pub fn new(parameters: Vec<Parameter>, config: AdamWConfig) -> Result<Self> {
        Ok(Self { config, slots: Slots::new(parameters, false)?, k: 0 })
    }

    /// Takes one step; `grads` as in [`ScheduleFreeAdamW::step`].
    ///
    /// # Errors
    /// When the gradients do not fit the parameters; then nothing has changed.
    pub fn step(&mut self, grads: &[Vec<f32>]) -> Result<()> {
        let AdamWConfig { beta1, beta2, epsilon, .. } = self.config;
        let steps = i32::try_from(self.k + 1).unwrap_or(i32::MAX);
        let first = 1.0 / (1.0 - beta1.powi(steps));
        let second = (1.0 / (1.0 - beta2.powi(steps))) as f32;
        let lr = self.learning_rate();
        let (mean, square, epsilon) = (beta1 as f32, beta2 as f32, epsilon as f32);
        let (mean_rest, square_rest) = ((1.0 - beta1) as f32, (1.0 - beta2) as f32);
        self.slots.apply(grads, |parameter| {
            let lr = lr * parameter.learning_rate_scale;
            let (keep, pace) = ((1.0 - lr * parameter.weight_decay) as f32, (lr * first) as f32);
            move |w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]| {
                for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
                    *m = *m * mean + g * mean_rest;
                    *v = *v * square + g * g * square_rest;
                    *w = *w * keep - pace * *m / ((*v * second).sqrt() + epsilon);
                }
            }
        })?;
        self.k += 1;
        Ok(())
    }

    /// Steps taken since step 0, over all resumed runs.
    pub fn steps_done(&self) -> u64 {
        self.k
    }

    /// Learning rate of the next step, before a parameter's scale.
    pub fn learning_rate(&self) -> f64 {
        let AdamWConfig { learning_rate, warmup, steps, decay, .. } = self.config;
        let along = self.k.saturating_sub(warmup) as f64 / steps.saturating_sub(warmup).max(1) as f64;
        let along = along.min(1.0);
        let factor = match decay {
            Decay::Constant => 1.0,
            Decay::Linear => 1.0 - along,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * along).cos()),
        };
        learning_rate * warmed(self.k, warmup) * factor
    }

    /// Writes weights, buffers and the step counter as one safetensors file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.slots.save(path, ADAMW, self.k, &[])
    }

    /// Reads what [`Self::save`] wrote, into the variables as well.
    ///
    /// # Errors
    /// When the file cannot be read, is another optimiser's, or its tensors do not fit; then nothing has changed.
    pub fn load(&mut self, path: &Path) -> Result<()> {
        (self.k, []) = self.slots.load(path, ADAMW)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::graddiff::values;
    use candle_core::Device;

    fn parameter(name: &str, n: usize, seed: u64, weight_decay: f64) -> Result<Parameter> {
        let var = Var::from_vec(values(n, seed), n, &Device::Cpu)?;
        Ok(Parameter { name: name.to_owned(), var, learning_rate_scale: 1.0, weight_decay })
    }

    fn weights(parameters: &[Parameter]) -> Vec<Vec<f32>> {
        parameters.iter().map(|p| p.var.to_vec1::<f32>().unwrap()).collect()
    }

    #[test]
    fn a_resumed_run_goes_on_exactly() -> Result<()> {
        let temporary = tempfile::tempdir()?;
        let path = temporary.path().join("optimizer.safetensors");
        let config = ScheduleFreeConfig { learning_rate: 1e-2, warmup: 5, ..Default::default() };
        let make = || -> Result<Vec<Parameter>> {
            Ok(vec![parameter("a", 40_000, 1, 0.1)?, parameter("b", 3, 2, 0.0)?])
        };
        let grads = |k: u64| {
            vec![values(40_000, 10 + k), if k.is_multiple_of(3) { vec![] } else { values(3, 90 + k) }]
        };
        let (through, stopped) = (make()?, make()?);
        let mut optimizer = ScheduleFreeAdamW::new(through.clone(), config)?;
        let mut other = ScheduleFreeAdamW::new(stopped, config)?;
        for k in 0..7 {
            optimizer.step(&grads(k))?;
            other.step(&grads(k))?;
        }
        other.save(&path)?;
        let resumed = make()?;
        let mut other = ScheduleFreeAdamW::new(resumed.clone(), config)?;
        other.load(&path)?;
        assert_eq!(other.steps_done(), 7);
        for k in 7..20 {
            optimizer.step(&grads(k))?;
            other.step(&grads(k))?;
        }
        assert_eq!(weights(&through), weights(&resumed));
        assert_eq!(optimizer.averaged(), other.averaged());
        let mut adam = AdamW::new(make()?, AdamWConfig::default())?;
        let message = adam.load(&path).unwrap_err().to_string();
        assert!(message.contains("schedule-free-adamw"), "{message}");
        std::fs::remove_file(&path)?;
        Ok(())
    }

    #[test]
    fn gradients_that_do_not_fit_change_nothing() -> Result<()> {
        let parameters = vec![parameter("a", 4, 1, 0.0)?, parameter("b", 3, 2, 0.0)?];
        let before = weights(&parameters);
        let mut optimizer = ScheduleFreeAdamW::new(parameters.clone(), ScheduleFreeConfig::default())?;
        let message = optimizer.step(&[vec![1.0; 4], vec![1.0; 4]]).unwrap_err().to_string();
        assert!(message.contains("gradient of b"), "{message}");
        assert_eq!(weights(&parameters), before);
        Ok(())
    }

    #[test]
    fn the_averaged_weights_are_the_weighted_mean_of_z() -> Result<()> {
        let parameters = vec![parameter("a", 5, 1, 0.01)?];
        let config = ScheduleFreeConfig { learning_rate: 1e-2, warmup: 4, ..Default::default() };
        let mut optimizer = ScheduleFreeAdamW::new(parameters, config)?;
        let mut x = [0f64; 5];
        for k in 0..12 {
            optimizer.step(&[values(5, k)])?;
            // After step k, x is the mean of the z so far with weights lr_max^2.
            let c = optimizer.lr_max * optimizer.lr_max / optimizer.weight_sum;
            for (x, z) in x.iter_mut().zip(&optimizer.slots.first[0]) {
                *x += c * (f64::from(*z) - *x);
            }
        }
        for (a, b) in optimizer.averaged()[0].iter().zip(x) {
            assert!((f64::from(*a) - b).abs() < 1e-5, "{a} and {b}");
        }
        Ok(())
    }

    #[test]
    fn adamw_matches_the_textbook_formula() -> Result<()> {
        let parameters = vec![parameter("a", 3, 1, 0.1)?];
        let config = AdamWConfig {
            learning_rate: 1e-2,
            warmup: 2,
            steps: 10,
            decay: Decay::Cosine,
            ..Default::default()
        };
        let mut optimizer = AdamW::new(parameters.clone(), config)?;
        let mut w: Vec<f64> = weights(&parameters)[0].iter().map(|v| f64::from(*v)).collect();
        let (mut m, mut v) = (vec![0f64; 3], vec![0f64; 3]);
        for k in 0..10 {
            let lr = if k < 2 { 0.01 * f64::from(k + 1) / 2.0 } else { 0.01 }
                * if k < 2 {
                    1.0
                } else {
                    0.5 * (1.0 + (std::f64::consts::PI * f64::from(k - 2) / 8.0).cos())
                };
            assert!((optimizer.learning_rate() - lr).abs() < 1e-12);
            let grads = values(3, k as u64 + 5);
            optimizer.step(std::slice::from_ref(&grads))?;
            for i in 0..3 {
                let g = f64::from(grads[i]);
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.999 * v[i] + 0.001 * g * g;
                let (mean, square) = (m[i] / (1.0 - 0.9f64.powi(k + 1)), v[i] / (1.0 - 0.999f64.powi(k + 1)));
                w[i] -= lr * (mean / (square.sqrt() + 1e-8) + 0.1 * w[i]);
            }
        }
        for (a, b) in weights(&parameters)[0].iter().zip(&w) {
            assert!((f64::from(*a) - b).abs() < 1e-6, "{a} and {b}");
        }
        Ok(())
    }
}
