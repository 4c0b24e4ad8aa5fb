//! Every operation and loss of the training path against PyTorch: values and gradients (tests/golden/ops), fused and as composed for a GPU.

use candle_core::{Device, Result, Tensor, Var};
use serde::Deserialize;
use shirube_train::ops::{self, AttentionShape, KlMinMax};
use std::collections::BTreeSet;
use std::sync::Arc;

#[derive(Deserialize)]
struct Input {
    shape: Vec<usize>,
    values: Vec<f32>,
}

#[derive(Deserialize)]
struct Case {
    op: String,
    inputs: Vec<Input>,
    output: Vec<f32>,
    weights: Vec<f32>,
    gradients: Vec<Vec<f32>>,
    #[serde(default)]
    ids: Vec<u32>,
    #[serde(default)]
    targets: Vec<u32>,
    #[serde(default)]
    offsets: Vec<u32>,
    #[serde(default)]
    query_offsets: Vec<u32>,
    #[serde(default)]
    document_offsets: Vec<u32>,
    #[serde(default)]
    pairs: Vec<(u32, u32)>,
    #[serde(default)]
    n_heads: usize,
    reach: Option<usize>,
    rope_theta: Option<f32>,
    attended: Option<Vec<u32>>,
    #[serde(default)]
    teacher: Vec<f32>,
    #[serde(default)]
    temperature: f32,
    #[serde(default)]
    normalise_student: bool,
    #[serde(default)]
    normalise_teacher: bool,
}

/// Of the largest value: f32 against f64, and an exponential good to some units in the last place.
const TOLERANCE: f32 = 2e-5;

fn run(case: &Case, x: &[Var]) -> Result<Tensor> {
    let x = |i: usize| x[i].as_tensor();
    let arc = |offsets: &[u32]| -> Arc<[u32]> { offsets.into() };
    let (qo, doff) = (arc(&case.query_offsets), arc(&case.document_offsets));
    let teacher = || Tensor::from_vec(case.teacher.clone(), x(0).dims(), &Device::Cpu);
    match case.op.as_str() {
        "linear" => ops::linear(x(0), x(1), None),
        "linear_bias" => ops::linear(x(0), x(1), Some(x(2))),
        "linear_add" => ops::linear_add(x(0), x(1), x(2)),
        "layer_norm" => ops::layer_norm(x(0), x(1), 1e-5),
        "layer_norm_bias" => ops::layer_norm_bias(x(0), x(1), x(2), 1e-12),
        "geglu" => ops::geglu(x(0)),
        "gelu" => ops::gelu(x(0)),
        "softplus" => ops::softplus(x(0)),
        "l2_normalize" => ops::l2_normalize(x(0)),
        "gather" => ops::gather(x(0), &case.ids),
        "attention" => {
            let shape =
                AttentionShape { n_heads: case.n_heads, reach: case.reach, rope_theta: case.rope_theta };
            let attended = case.attended.as_deref().map(arc);
            ops::attention_to(x(0), &arc(&case.offsets), attended.as_ref(), shape)
        }
        "maxsim_all" => ops::maxsim_all(x(0), &qo, x(1), &doff),
        "maxsim_pairs" => ops::maxsim_pairs(x(0), &qo, x(1), &doff, &case.pairs),
        "maxsim_tokens" => ops::maxsim_tokens(x(0), &qo, x(1), &doff, &case.pairs),
        "kl_min_max" => ops::kl_min_max(
            x(0),
            &teacher()?,
            KlMinMax {
                temperature: case.temperature,
                normalise_student: case.normalise_student,
                normalise_teacher: case.normalise_teacher,
            },
        ),
        "margin_mse" => ops::margin_mse(x(0), &teacher()?),
        "cross_entropy" => ops::cross_entropy(x(0), &case.targets, None, 1.0),
        "masked_lm_loss" => ops::masked_lm_loss(x(0), x(1), &case.targets),
        other => panic!("no operation {other}"),
    }
}

/// Panics where two lists differ by more than the tolerance of the largest expected value.
fn close(ours: &[f32], theirs: &[f32], what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let scale = theirs.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= TOLERANCE * scale, "{what}, element {i}: {a}, PyTorch has {b}");
    }
}

#[test]
fn values_and_gradients_are_those_of_pytorch() -> Result<()> {
    agree("fused")?;
    ops::compose_everything(true);
    let composed = agree("composed");
    ops::compose_everything(false);
    composed
}

fn agree(way: &str) -> Result<()> {
    let cases: Vec<Case> = serde_json::from_str(include_str!("golden/ops/ops.json")).expect("golden cases");
    let mut seen = BTreeSet::new();
    for (number, case) in cases.iter().enumerate() {
        let what = format!("{way}, case {number}, {}", case.op);
        let vars = case
            .inputs
            .iter()
            .map(|i| Var::from_vec(i.values.clone(), i.shape.as_slice(), &Device::Cpu))
            .collect::<Result<Vec<_>>>()?;
        let output = run(case, &vars)?;
        close(&output.flatten_all()?.to_vec1::<f32>()?, &case.output, &what);
        let weights = Tensor::from_vec(case.weights.clone(), output.dims(), &Device::Cpu)?;
        let store = (output * weights)?.sum_all()?.backward()?;
        for (i, (var, theirs)) in vars.iter().zip(&case.gradients).enumerate() {
            let Some(grad) = store.get(var) else { panic!("{what}: input {i} has no gradient") };
            close(&grad.flatten_all()?.to_vec1::<f32>()?, theirs, &format!("{what}, gradient of input {i}"));
        }
        seen.insert(case.op.as_str());
    }
    assert_eq!(seen.len(), 18, "{seen:?}");
    Ok(())
}
