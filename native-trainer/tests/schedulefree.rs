//! Our schedule-free AdamW against the package `schedulefree` (tests/golden/schedulefree).

use candle_core::{Device, Var};
use serde::Deserialize;
use shirube_train::optim::{Parameter, ScheduleFreeAdamW, ScheduleFreeConfig};

#[derive(Deserialize)]
struct Golden {
    settings: Settings,
    start: Vec<Vec<f32>>,
    grads: Vec<Vec<Vec<f32>>>,
    y: Vec<Vec<f64>>,
    x: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Settings {
    learning_rate: f64,
    warmup: u64,
    scales: Vec<f64>,
    weight_decay: Vec<f64>,
}

/// f32 state after 50 steps on values of about 1: a few units in the last place a step at most, and rounding does not add up
/// in one direction.
const TOLERANCE: f64 = 4e-6;

#[test]
fn fifty_steps_agree_with_the_reference_package() -> Result<(), Box<dyn std::error::Error>> {
    let golden: Golden = serde_json::from_str(include_str!("golden/schedulefree/golden.json"))?;
    let mut parameters = Vec::new();
    for (i, start) in golden.start.iter().enumerate() {
        parameters.push(Parameter {
            name: i.to_string(),
            var: Var::from_slice(start, start.len(), &Device::Cpu)?,
            learning_rate_scale: golden.settings.scales[i],
            weight_decay: golden.settings.weight_decay[i],
        });
    }
    let Settings { learning_rate, warmup, .. } = golden.settings;
    let config = ScheduleFreeConfig { learning_rate, warmup, ..Default::default() };
    let mut optimizer = ScheduleFreeAdamW::new(parameters.clone(), config)?;
    assert_eq!(golden.grads.len(), 50);
    for grads in &golden.grads {
        optimizer.step(grads)?;
    }
    let trained = parameters.iter().map(|p| p.var.to_vec1::<f32>()).collect::<Result<Vec<_>, _>>()?;
    for (name, ours, theirs) in [("y", &trained, &golden.y), ("x", &optimizer.averaged(), &golden.x)] {
        for (a, b) in ours.iter().flatten().zip(theirs.iter().flatten()) {
            assert!((f64::from(*a) - b).abs() < TOLERANCE, "{name}: {a} and {b}");
        }
    }
    Ok(())
}
