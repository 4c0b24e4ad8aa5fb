//! BERT as a student (Devlin et al. 2019): learned positions and token types, post-norm blocks, GELU, biases. Names are those of its checkpoints.

use crate::ops;
use crate::student::{Packed, Student};
use candle_core::{Result, Tensor, bail};
use shirube_core::EncoderConfig;

/// Names and shapes of the encoder's parameters, in a fixed order.
pub(crate) fn shapes(encoder: &EncoderConfig) -> Vec<(String, Vec<usize>)> {
    let (h, inter) = (encoder.hidden_size, encoder.intermediate_size);
    let mut shapes = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![encoder.vocab_size, h]),
        ("embeddings.position_embeddings.weight".to_owned(), vec![encoder.max_positions, h]),
    ];
    if encoder.type_vocab_size > 0 {
        let name = "embeddings.token_type_embeddings.weight".to_owned();
        shapes.push((name, vec![encoder.type_vocab_size, h]));
    }
    let pair = |shapes: &mut Vec<(String, Vec<usize>)>, name: String, weight: Vec<usize>| {
        let bias = vec![weight[0]];
        shapes.push((format!("{name}.weight"), weight));
        shapes.push((format!("{name}.bias"), bias));
    };
    pair(&mut shapes, "embeddings.LayerNorm".to_owned(), vec![h]);
    for i in 0..encoder.n_layers {
        for (name, weight) in [
            ("attention.self.query", vec![h, h]),
            ("attention.self.key", vec![h, h]),
            ("attention.self.value", vec![h, h]),
            ("attention.output.dense", vec![h, h]),
            ("attention.output.LayerNorm", vec![h]),
            ("intermediate.dense", vec![inter, h]),
            ("output.dense", vec![h, inter]),
            ("output.LayerNorm", vec![h]),
        ] {
            pair(&mut shapes, format!("encoder.layer.{i}.{name}"), weight);
        }
    }
    shapes
}

/// Hidden states `[n_tokens, hidden]` after `depth` blocks.
///
/// # Errors
/// A sequence longer than the position table, or an id outside the vocabulary.
pub(crate) fn hidden(student: &Student, input: &Packed, depth: usize) -> Result<Tensor> {
    let config = &student.encoder;
    let lengths = input.offsets.windows(2).map(|b| b[1] - b[0]);
    let longest = lengths.clone().max().unwrap_or(0) as usize;
    if longest > config.max_positions {
        bail!("a sequence of {longest} tokens, but the student has {} positions", config.max_positions)
    }
    let positions: Vec<u32> = lengths.flat_map(|n| 0..n).collect();
    let norm = |x: &Tensor, name: &str| {
        let (gamma, beta) = (student.get(&format!("{name}.weight")), student.get(&format!("{name}.bias")));
        ops::layer_norm_bias(x, gamma, beta, config.norm_eps)
    };
    let linear = |x: &Tensor, name: &str| {
        ops::linear(x, student.get(&format!("{name}.weight")), Some(student.get(&format!("{name}.bias"))))
    };
    let mut h = (ops::gather(student.table(), &input.ids)?
        + ops::gather(student.get("embeddings.position_embeddings.weight"), &positions)?)?;
    if config.type_vocab_size > 0 {
        let types = student.get("embeddings.token_type_embeddings.weight");
        h = h.broadcast_add(&types.narrow(0, 0, 1)?)?;
    }
    h = norm(&h, "embeddings.LayerNorm")?;
    let shape = ops::AttentionShape { n_heads: config.n_heads, reach: None, rope_theta: None };
    for i in 0..depth.min(config.n_layers) {
        let at = |name: &str| format!("encoder.layer.{i}.{name}");
        // One product for all three; putting the matrices side by side costs little beside it.
        let stacked = |part: &str| -> Result<Tensor> {
            let parts = ["query", "key", "value"]
                .map(|x| student.get(&at(&format!("attention.self.{x}.{part}"))).clone());
            Tensor::cat(&parts, 0)
        };
        let qkv = ops::linear(&h, &stacked("weight")?, Some(&stacked("bias")?))?;
        let mixed = ops::attention_to(&qkv, &input.offsets, input.attended.as_ref(), shape)?;
        let x = (linear(&mixed, &at("attention.output.dense"))? + &h)?;
        h = norm(&x, &at("attention.output.LayerNorm"))?;
        let inner = ops::gelu(&linear(&h, &at("intermediate.dense"))?)?;
        let x = (linear(&inner, &at("output.dense"))? + &h)?;
        h = norm(&x, &at("output.LayerNorm"))?;
    }
    Ok(h)
}
