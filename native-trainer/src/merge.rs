//! Averages of weights: the last stage of JaColBERTv2.5, and the cheapest gain in it.
//!
//! What is averaged are the averaged iterates of schedule-free AdamW (`model.safetensors` of a finished step), never the raw ones.

use anyhow::{Context as _, Result, ensure};
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use shirube_core::{EncoderConfig, ProjectionConfig};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a step's weights belong to: `config.json` beside them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepConfig {
    /// Encoder shape.
    pub encoder: EncoderConfig,
    /// Projection.
    pub projection: ProjectionConfig,
    /// Blocks trained.
    pub depth: usize,
    /// SHA-256 of `tokenizer.bin`.
    pub tokenizer: String,
}

/// The weights of one finished step.
#[derive(Clone, Debug)]
pub struct Ingredient {
    /// Folder.
    pub folder: PathBuf,
    /// Shape and tokenizer.
    pub config: StepConfig,
    /// Weights by name, f32.
    pub weights: BTreeMap<String, Tensor>,
}

impl Ingredient {
    /// Reads `config.json` and `model.safetensors` of a step's folder.
    ///
    /// # Errors
    /// Missing or damaged files.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!("cannot read {}; run the step's recipe (finished steps only record it)", path.display())
        })?;
        let config = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        let path = folder.join("model.safetensors");
        let weights = candle_core::safetensors::load(&path, &Device::Cpu)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { folder: folder.to_owned(), config, weights: weights.into_iter().collect() })
    }
}

/// The weighted mean of parameters. Weights need not sum to 1.
///
/// # Errors
/// No parts, other tokenizers or shapes, weights that are negative or sum to 0.
pub fn mean(parts: &[&Ingredient], weights: &[f64]) -> Result<BTreeMap<String, Tensor>> {
    let first = parts.first().context("a merge needs at least one part")?;
    ensure!(parts.len() == weights.len(), "{} weights for {} parts", weights.len(), parts.len());
    let total: f64 = weights.iter().sum();
    ensure!(
        weights.iter().all(|w| w.is_finite() && *w >= 0.0) && total > 0.0,
        "the weights {weights:?} must be 0 or more and not all 0"
    );
    for part in &parts[1..] {
        let (a, b) = (&first.config, &part.config);
        let names = || format!("{} and {}", first.folder.display(), part.folder.display());
        ensure!(
            a.tokenizer == b.tokenizer,
            "{}: different tokenizers ({} and {}); a mean of their weights means nothing",
            names(),
            a.tokenizer,
            b.tokenizer
        );
        ensure!(
            a == b,
            "{}: different architectures; expected {:?} {:?} of depth {}, found {:?} {:?} of depth {}",
            names(),
            a.encoder,
            a.projection,
            a.depth,
            b.encoder,
            b.projection,
            b.depth
        );
        ensure!(
            first.weights.keys().eq(part.weights.keys()),
            "{}: the files hold different tensors",
            names()
        );
    }
    let mut out = BTreeMap::new();
    for (name, tensor) in &first.weights {
        let mut sum = vec![0f64; tensor.elem_count()];
        for (part, weight) in parts.iter().zip(weights) {
            let other = &part.weights[name];
            ensure!(
                other.dims() == tensor.dims(),
                "{}: {name} has shape {:?}, in {} it has {:?}",
                part.folder.display(),
                other.dims(),
                first.folder.display(),
                tensor.dims()
            );
            for (s, v) in sum.iter_mut().zip(other.flatten_all()?.to_vec1::<f32>()?) {
                *s += weight / total * f64::from(v);
            }
        }
        let values: Vec<f32> = sum.into_iter().map(|v| v as f32).collect();
        out.insert(name.clone(), Tensor::from_vec(values, tensor.dims(), &Device::Cpu)?);
    }
    Ok(out)
}

/// The greedy soup: parts from best to worst, each kept if the mean of those kept does not score lower. Returns the indices kept, the weights
/// and their score.
///
/// # Errors
/// What `mean` and `score` report.
pub fn greedy_soup(
    parts: &[Ingredient],
    alone: &[f64],
    mut score: impl FnMut(&BTreeMap<String, Tensor>) -> Result<f64>,
) -> Result<(Vec<usize>, BTreeMap<String, Tensor>, f64)> {
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by(|&a, &b| alone[b].total_cmp(&alone[a]).then(a.cmp(&b)));
    let best = *order.first().context("a merge needs at least one part")?;
    let (mut kept, mut soup, mut reached) = (vec![best], parts[best].weights.clone(), alone[best]);
    for &i in &order[1..] {
        let trial: Vec<usize> = kept.iter().copied().chain([i]).collect();
        let chosen: Vec<&Ingredient> = trial.iter().map(|&k| &parts[k]).collect();
        let weights = mean(&chosen, &vec![1.0; chosen.len()])?;
        let value = score(&weights)?;
        if value >= reached {
            (kept, soup, reached) = (trial, weights, value);
        }
    }
    Ok((kept, soup, reached))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(values: [f32; 2], tokenizer: &str, hidden: usize) -> Ingredient {
        let shape = crate::recipe::ModelShape { hidden_size: hidden, dim: 2, ..crate::recipe::small_shape() };
        Ingredient {
            folder: PathBuf::from(format!("{tokenizer}{hidden}")),
            config: StepConfig {
                encoder: shape.encoder(10),
                projection: shape.projection(),
                depth: 1,
                tokenizer: tokenizer.to_owned(),
            },
            weights: [("w".to_owned(), Tensor::new(&values, &Device::Cpu).expect("a tensor"))].into(),
        }
    }

    fn values(weights: &BTreeMap<String, Tensor>) -> Vec<f32> {
        weights["w"].to_vec1().expect("values")
    }

    #[test]
    fn a_mean_weighs_its_parts() {
        let (a, b) = (part([0.0, 4.0], "t", 4), part([8.0, 0.0], "t", 4));
        assert_eq!(values(&mean(&[&a, &b], &[1.0, 1.0]).expect("a mean")), [4.0, 2.0]);
        assert_eq!(values(&mean(&[&a, &b], &[3.0, 1.0]).expect("a mean")), [2.0, 3.0]);
    }

    #[test]
    fn other_tokenizers_and_architectures_are_refused_by_name() {
        let a = part([0.0, 4.0], "t", 4);
        let message = mean(&[&a, &part([0.0; 2], "u", 4)], &[1.0; 2]).expect_err("refused").to_string();
        assert!(message.contains("different tokenizers") && message.contains("u4"), "{message}");
        let message = mean(&[&a, &part([0.0; 2], "t", 8)], &[1.0; 2]).expect_err("refused").to_string();
        assert!(message.contains("different architectures"), "{message}");
        assert!(mean(&[&a], &[0.0]).is_err());
        assert!(mean(&[], &[]).is_err());
    }

    #[test]
    fn a_greedy_soup_leaves_out_what_makes_it_worse() {
        let parts = [part([1.0, 0.0], "t", 4), part([100.0, 0.0], "t", 4), part([3.0, 0.0], "t", 4)];
        // Best at 2: parts 0 and 2 are each one off, their mean is right, part 1 spoils it.
        let quality =
            |w: &BTreeMap<String, Tensor>| -> Result<f64> { Ok(-f64::from((values(w)[0] - 2.0).abs())) };
        let alone: Vec<f64> = parts.iter().map(|p| quality(&p.weights).expect("a value")).collect();
        let (kept, soup, reached) = greedy_soup(&parts, &alone, quality).expect("a soup");
        assert_eq!(kept, [0, 2]);
        assert_eq!(values(&soup), [2.0, 0.0]);
        assert_eq!(reached, 0.0);
    }
}
