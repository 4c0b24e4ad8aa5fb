//! A whole model made of the trainer's operations: every parameter learns, and bf16 products change gradients little.

use candle_core::{Device, Result, Tensor, Var};
use shirube_train::ops::{self, AttentionShape, KlMinMax};
use std::collections::BTreeMap;
use std::sync::Arc;

const VOCAB: usize = 48;
const HIDDEN: usize = 64;
const INTER: usize = 96;
const DIM: usize = 32;

struct Model {
    vars: BTreeMap<String, Var>,
}

impl Model {
    fn new() -> Result<Self> {
        let mut vars = BTreeMap::new();
        let mut add = |name: String, shape: &[usize]| -> Result<()> {
            let values = ops::graddiff::values(shape.iter().product(), vars.len() as u64 + 1);
            let scale = if shape.len() == 2 { 1.7 / (shape[1] as f32).sqrt() } else { 0.2 };
            let base = if name.ends_with("norm") { 1.0 } else { 0.0 };
            let values: Vec<f32> = values.into_iter().map(|v| base + v * scale).collect();
            vars.insert(name, Var::from_vec(values, shape, &Device::Cpu)?);
            Ok(())
        };
        add("table".to_owned(), &[VOCAB, HIDDEN])?;
        for i in 0..2 {
            add(format!("{i}.attn_norm"), &[HIDDEN])?;
            add(format!("{i}.qkv"), &[3 * HIDDEN, HIDDEN])?;
            add(format!("{i}.attn_out"), &[HIDDEN, HIDDEN])?;
            add(format!("{i}.mlp_norm"), &[HIDDEN])?;
            add(format!("{i}.mlp_in"), &[2 * INTER, HIDDEN])?;
            add(format!("{i}.mlp_out"), &[HIDDEN, INTER])?;
        }
        add("final_norm".to_owned(), &[HIDDEN])?;
        add("beta".to_owned(), &[HIDDEN])?;
        add("dense".to_owned(), &[DIM, HIDDEN])?;
        add("query_weight".to_owned(), &[1, HIDDEN])?;
        add("query_bias".to_owned(), &[1])?;
        Ok(Self { vars })
    }

    fn get(&self, name: &str) -> &Tensor {
        self.vars[name].as_tensor()
    }

    /// Sum of every loss over one batch of 2 queries and 4 documents.
    fn loss(&self) -> Result<Tensor> {
        let offsets: Arc<[u32]> = [0, 20, 37, 70, 103, 136, 160].into();
        let ids: Vec<u32> = (0..160u32).map(|i| i * 29 % VOCAB as u32).collect();
        let mut x = ops::gather(self.get("table"), &ids)?;
        for i in 0..2 {
            let p = |name: &str| self.get(&format!("{i}.{name}"));
            let shape = AttentionShape { n_heads: 2, reach: (i == 1).then_some(4), rope_theta: Some(1e4) };
            let qkv = ops::linear(&ops::layer_norm(&x, p("attn_norm"), 1e-5)?, p("qkv"), None)?;
            x = ops::linear_add(&ops::attention(&qkv, &offsets, shape)?, p("attn_out"), &x)?;
            let inner = ops::linear(&ops::layer_norm(&x, p("mlp_norm"), 1e-5)?, p("mlp_in"), None)?;
            x = ops::linear_add(&ops::geglu(&inner)?, p("mlp_out"), &x)?;
        }
        let hidden = ops::layer_norm_bias(&x, self.get("final_norm"), self.get("beta"), 1e-5)?;
        let unit = ops::l2_normalize(&ops::linear(&hidden, self.get("dense"), None)?)?;
        let (query_hidden, query_unit) = (hidden.narrow(0, 0, 37)?, unit.narrow(0, 0, 37)?);
        let logit = ops::linear(&query_hidden, self.get("query_weight"), Some(self.get("query_bias")))?;
        let queries = query_unit.broadcast_mul(&ops::softplus(&logit)?)?;
        let documents = unit.narrow(0, 37, 123)?;
        let (query_offsets, document_offsets) = ([0, 20, 37].into(), [0, 33, 66, 99, 123].into());
        let scores = ops::maxsim_all(&queries, &query_offsets, &documents, &document_offsets)?;
        let pairs = [(0, 0), (0, 1), (0, 2), (1, 3), (1, 2), (1, 0)];
        let listed = ops::maxsim_pairs(&queries, &query_offsets, &documents, &document_offsets, &pairs)?;
        let listed = listed.reshape((2, 3))?;
        let teacher = Tensor::new(&[[3f32, 1.0, 0.5], [0.2, 0.9, 0.1]], &Device::Cpu)?;
        let targets: Vec<u32> = ids.iter().map(|id| (id + 1) % VOCAB as u32).collect();
        let contrastive = ops::cross_entropy(&scores, &[0, 3], Some(&[vec![2], vec![]]), 1.0)?;
        let distilled =
            ops::kl_min_max(&listed, &teacher, KlMinMax { temperature: 0.25, ..Default::default() })?;
        let margins = (ops::margin_mse(&listed, &teacher)? * 0.1)?;
        let masked = ops::masked_lm_loss(&hidden, self.get("table"), &targets)?;
        ((contrastive + distilled)? + (margins + masked)?)?.to_dtype(candle_core::DType::F32)
    }

    fn gradients(&self) -> Result<BTreeMap<String, Vec<f32>>> {
        let store = self.loss()?.backward()?;
        let mut grads = BTreeMap::new();
        for (name, var) in &self.vars {
            let Some(grad) = store.get(var) else { candle_core::bail!("{name} has no gradient") };
            grads.insert(name.clone(), grad.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(grads)
    }
}

fn norm(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn every_parameter_gets_a_gradient_and_bf16_products_change_it_little() -> Result<()> {
    let model = Model::new()?;
    assert!(!ops::matmul::allow_bf16(false));
    let exact = model.gradients()?;
    for (name, grad) in &exact {
        assert!(grad.iter().all(|g| g.is_finite()), "{name} has a gradient that is not finite");
        assert!(norm(grad.iter().copied()) > 1e-6, "{name} does not learn");
    }
    // Directional derivative along the gradient, against the loss itself.
    let length = exact.values().map(|g| norm(g.iter().copied()).powi(2)).sum::<f64>();
    let step = 2e-3 / length.sqrt();
    let shifted = |sign: f64| -> Result<f64> {
        let moved = Model::new()?;
        for (name, var) in &moved.vars {
            let values = var.flatten_all()?.to_vec1::<f32>()?;
            let values = values
                .iter()
                .zip(&exact[name])
                .map(|(v, g)| v + (sign * step) as f32 * g)
                .collect::<Vec<_>>();
            var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu)?)?;
        }
        Ok(f64::from(moved.loss()?.to_scalar::<f32>()?))
    };
    let slope = (shifted(1.0)? - shifted(-1.0)?) / (2.0 * step);
    assert!((slope / length - 1.0).abs() < 0.05, "slope {slope} along a gradient of square {length}");

    // What a GPU runs, on the CPU.
    ops::compose_everything(true);
    let composed = model.gradients();
    ops::compose_everything(false);
    for (name, composed) in composed? {
        let exact = &exact[&name];
        let difference = norm(exact.iter().zip(&composed).map(|(a, b)| a - b)) / norm(exact.iter().copied());
        assert!(difference < 1e-3, "{name}: composed, the gradient moved by {difference}");
    }

    if !ops::matmul::allow_bf16(true) {
        return Ok(()); // Nothing more to compare on this processor.
    }
    let rounded = model.gradients()?;
    ops::matmul::allow_bf16(false);
    for (name, exact) in &exact {
        let difference =
            norm(exact.iter().zip(&rounded[name]).map(|(a, b)| a - b)) / norm(exact.iter().copied());
        assert!(difference > 0.0, "{name}: bf16 was not used");
        // Rounding is 2^-9 a factor; a changed MaxSim winner moves one token's share of a gradient.
        assert!(difference < 0.1, "{name}: gradient moved by {difference}");
    }
    Ok(())
}
