//! What a run would do, before it does it: `run --dry-run`.

use crate::inputs::Known;
use crate::pipeline::{depth_of, is_done, read_tokenizer, step_index};
use crate::recipe::{ModelShape, Recipe, Step};
use crate::student::Student;
use anyhow::Result;
use std::path::Path;

/// Floating-point operations a second of one worker, f32 and bf16, as measured on Zen 4 cores in training; other processors differ by a factor
/// of two or three.
const FLOPS: [f64; 2] = [60e9, 120e9];
/// Tokens a second that one worker does not exceed however small the model: gathering, MaxSim, tokens of the batch.
const TOKENS: f64 = 100e3;

/// Parameters in all, and those of the blocks and the projection, which cost multiplications.
fn parameters(model: &ModelShape, vocab_size: usize, depth: usize) -> (usize, usize) {
    let mut encoder = model.encoder(vocab_size);
    encoder.n_layers = depth;
    let shapes = Student::shapes(&encoder, &model.projection());
    let count = |body: bool| {
        shapes
            .iter()
            .filter(|(name, _)| !body || !name.starts_with("embeddings"))
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum()
    };
    (count(false), count(true))
}

/// One paragraph a step: whether it is done, its tokens, steps, memory and time. Memory and time are estimates and say so.
///
/// # Errors
/// An unreadable tokenizer, or a recipe with faults.
pub fn plan(recipe: &Recipe, out: &Path, workers: usize) -> Result<String> {
    recipe.check()?;
    let recipe = &recipe.in_run(out);
    let vocab_size = match recipe.tokenizer_step() {
        Some(step) => step.vocab_size,
        None => read_tokenizer(recipe)?.vocab_size(),
    };
    let model = &recipe.model;
    let mut report = format!(
        "{}: {} steps, {workers} workers; memory and time are estimates\n",
        recipe.name,
        recipe.steps().len()
    );
    let (mut hours, mut known) = (0.0, Known::of_run(recipe, out));
    for (i, step) in recipe.steps().iter().enumerate() {
        let done = is_done(recipe, out, i, &mut known)?;
        let state = if done {
            "done, will be skipped"
        } else if out.join(step.name()).join("state.safetensors").is_file() {
            "begun, goes on if its recipe is the same"
        } else {
            "to do"
        };
        // Batches are filled until they reach their size; a worker's share of the vocabulary's product is that of masked tokens.
        let (steps, batch, output) = match step {
            Step::Train(s) => (s.steps, s.batch_tokens, 0.0),
            Step::Teacher(s) => (s.steps, s.batch_tokens, 0.0),
            Step::Pretrain(s) => {
                (s.steps, s.batch_tokens, s.mask_share * (vocab_size * model.hidden_size) as f64)
            }
            _ => {
                report += &format!("  {} ({}): {state}\n", step.name(), step.kind());
                continue;
            }
        };
        let depth = depth_of(recipe, out, i).or_else(|_| step_index(recipe, None).map(|_| model.n_layers))?;
        let (all, body) = parameters(model, vocab_size, depth);
        let batches = workers as u64 * step.accumulate();
        let tokens = steps as f64 * batch as f64 * batches as f64;
        // What is on a tape at once; chunks are encoded twice, a third more work.
        let chunk = match step {
            Step::Train(s) => s.chunk_tokens.filter(|&c| c < batch),
            _ => None,
        };
        let speed =
            (FLOPS[usize::from(recipe.bf16)] / (6.0 * (body as f64 + output))).min(TOKENS) * workers as f64;
        let seconds = tokens / speed * if chunk.is_some() { 4.0 / 3.0 } else { 1.0 };
        // y, z, v, the averaged copy when saving; a gradient a worker; activations and their gradients.
        let a_token = depth * (10 * model.hidden_size + 3 * model.intermediate_size) + 4 * model.hidden_size;
        let bytes = 16 * all + workers * (4 * all + 8 * chunk.unwrap_or(batch) * a_token);
        report += &format!(
            "  {} ({}): {state}; {:.2} M parameters ({:.2} M in blocks and projection), {steps} steps of {} tokens = {:.1} M tokens, about {:.0} MB and {}\n",
            step.name(),
            step.kind(),
            all as f64 / 1e6,
            body as f64 / 1e6,
            batch as u64 * batches,
            tokens / 1e6,
            bytes as f64 / 1e6,
            time(seconds)
        );
        if !done {
            hours += seconds;
        }
    }
    report += &format!("  still to train: about {}\n", time(hours));
    Ok(report)
}

fn time(seconds: f64) -> String {
    if seconds < 90.0 {
        format!("{seconds:.0} s")
    } else if seconds < 5400.0 {
        format!("{:.0} min", seconds / 60.0)
    } else {
        format!("{:.1} h", seconds / 3600.0)
    }
}
