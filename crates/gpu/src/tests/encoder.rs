//! Whole models with random weights, against the CPU's encoder.

use super::{assert_close, half_unit, on_gpu, on_gpus};
use crate::{GpuEncoder, GpuError, GpuText, KernelList};
use shirube_core::{DenseConfig, Role};
use shirube_encoder::{Encoder, EncoderIds};
use shirube_format::model::{Tensor, WeightKind};
use shirube_kernels::Kernels;
use shirube_testkit::{Random, RandomModel, RandomShape, random_model};

/// Of an unquantised model only f32 rounding differs, through a few layers.
const F32_BOUND: f32 = 5e-5;

/// In a quantised model a difference of one rounding can move an activation to the next of 127 steps, and that one product by as much; through the
/// layers of a random model a value of an embedding moved by up to 0.012 here. A wrong kernel is off by the size of the values, about 0.25.
const INT8_BOUND: f32 = 0.03;

/// Mean cosine between the embeddings of both.
const INT8_COSINE: f32 = 0.9995;

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn shapes() -> Vec<RandomShape> {
    vec![
        RandomShape::default(),
        RandomShape {
            hidden_size: 128,
            n_layers: 4,
            n_heads: 2,
            intermediate_size: 192,
            dim: 64,
            max_positions: 200,
            ..RandomShape::default()
        },
        RandomShape { n_layers: 0, query_weight: false, ..RandomShape::default() },
        RandomShape::small_bert(),
    ]
}

fn texts(random: &mut Random, vocab_size: usize, longest: usize) -> Vec<Vec<u32>> {
    [1, 2, 31, 32, 33, longest, 7]
        .iter()
        .map(|&n| (0..n).map(|_| random.below(vocab_size) as u32).collect())
        .collect()
}

fn compare(model: &RandomModel, bound: f32) {
    on_gpus(|gpu| {
        // Keys and values rounded to f16 move an embedding by a few of its units.
        let bound = bound + 8.0 * half_unit(gpu);
        let mut cpu = Encoder::load(&model.manifest, model.weights.clone(), Kernels::detect()).unwrap();
        let encoder = pollster::block_on(GpuEncoder::load(gpu, &model.manifest, &model.weights)).unwrap();
        let mut random = Random::new(8);
        let longest = model.manifest.encoder.max_positions;
        let ids = texts(&mut random, model.manifest.encoder.vocab_size, longest);
        let keeps: Vec<Vec<bool>> =
            ids.iter().map(|ids| ids.iter().map(|_| random.below(4) > 0).collect()).collect();
        for role in [Role::Query, Role::Document] {
            // Expansion that only looks: the last fifth.
            let attended = |n: usize| n - n / 5;
            let inputs: Vec<GpuText<'_>> = ids
                .iter()
                .zip(&keeps)
                .map(|(ids, keep)| GpuText { ids, keep: Some(keep), n_attended: attended(ids.len()) })
                .collect();
            let found = pollster::block_on(encoder.encode(&inputs, role == Role::Query)).unwrap();
            assert_eq!(found.texts.len(), inputs.len());
            let mut cosines = Vec::new();
            for (text, found) in inputs.iter().zip(&found.texts) {
                let ids = EncoderIds { ids: text.ids, keep: text.keep, n_attended: text.n_attended };
                let expected = cpu.encode_ids(ids, role).unwrap();
                let what = format!("{} tokens as {role:?}", text.ids.len());
                assert_close(&what, found, &expected.data, |i| {
                    let row = &expected.data[i / expected.dim * expected.dim..][..expected.dim];
                    bound * row.iter().map(|v| v * v).sum::<f32>().sqrt()
                });
                cosines
                    .extend(expected.rows().zip(found.chunks_exact(expected.dim)).map(|(a, b)| cosine(a, b)));
            }
            let mean = cosines.iter().sum::<f32>() / cosines.len() as f32;
            assert!(mean > INT8_COSINE, "mean cosine {mean} as {role:?}");
        }
    });
}

#[test]
fn an_unquantised_model_gives_the_embeddings_of_the_cpu() {
    for (seed, shape) in (0..).zip(shapes()) {
        compare(&random_model(seed, &shape), F32_BOUND);
    }
}

#[test]
fn a_quantised_model_gives_the_embeddings_of_the_cpu() {
    for (seed, shape) in (0..).zip(shapes()) {
        for kind in [WeightKind::Int8, WeightKind::Int4] {
            compare(&random_model(seed, &shape).stored_as(kind), INT8_BOUND);
        }
    }
}

#[test]
fn a_projection_chain_adds_biases_and_residuals() {
    let mut model = random_model(2, &RandomShape { query_weight: false, ..RandomShape::default() });
    let mut random = Random::new(9);
    model.manifest.projection.dense.clear();
    for (i, (inputs, outputs, bias, residual)) in
        [(48, 24, true, true), (24, 24, false, true), (24, 8, true, false)].into_iter().enumerate()
    {
        let dense = DenseConfig {
            in_features: inputs,
            out_features: outputs,
            bias,
            residual,
            ..DenseConfig::default()
        };
        model.manifest.projection.dense.push(dense);
        let mut insert = |name: String, shape: &[usize]| {
            let values = random.normals(shape.iter().product(), 0.3);
            model.weights.insert(name, Tensor::f32(shape, values));
        };
        insert(format!("dense.{i}.weight"), &[outputs, inputs]);
        insert(format!("dense.{i}.bias"), &[outputs]);
        if residual && inputs != outputs {
            insert(format!("dense.{i}.residual.weight"), &[outputs, inputs]);
        }
    }
    compare(&model, F32_BOUND);
    compare(&model.quantized(), INT8_BOUND);
}

#[test]
fn a_text_has_the_same_embeddings_alone_and_in_a_batch() {
    let model = random_model(5, &RandomShape::default()).quantized();
    on_gpu(|gpu| {
        let encoder = pollster::block_on(GpuEncoder::load(gpu, &model.manifest, &model.weights)).unwrap();
        let ids = texts(&mut Random::new(6), 512, 128);
        let inputs: Vec<GpuText<'_>> =
            ids.iter().map(|ids| GpuText { ids, keep: None, n_attended: ids.len() }).collect();
        let batch = pollster::block_on(encoder.encode(&inputs, true)).unwrap().texts;
        for (text, batch) in inputs.iter().zip(&batch) {
            let alone = pollster::block_on(encoder.encode(&[*text], true)).unwrap().texts;
            assert_eq!(&alone[0], batch, "{} tokens", text.ids.len());
        }
        // More tokens than one submission takes.
        let many: Vec<GpuText<'_>> = inputs.iter().cycle().take(7 * 22).copied().collect();
        let before = gpu.n_submissions();
        let found = pollster::block_on(encoder.encode(&many, true)).unwrap();
        assert!(gpu.n_submissions() - before >= 2);
        assert!(found.texts.iter().zip(batch.iter().cycle()).all(|(a, b)| a == b));
        assert!(found.gpu_ms.is_none_or(|ms| ms > 0.0));
    });
}

#[test]
fn a_query_is_one_submission() {
    let model = random_model(5, &RandomShape::default()).quantized();
    on_gpu(|gpu| {
        let encoder = pollster::block_on(GpuEncoder::load(gpu, &model.manifest, &model.weights)).unwrap();
        let before = gpu.n_submissions();
        let text = GpuText { ids: &[3, 300, 301], keep: None, n_attended: 3 };
        pollster::block_on(encoder.encode(&[text], true)).unwrap();
        assert_eq!(gpu.n_submissions() - before, 1);
        // Eight for each of two layers but one fewer in the first, and the ends.
        assert!(encoder.n_dispatches().unwrap() <= 8 * 2 + 6);
    });
}

#[test]
fn the_kernels_of_a_model_are_known_from_its_manifest() {
    let mut models: Vec<RandomModel> = shapes().iter().map(|shape| random_model(9, shape)).collect();
    models.extend(shapes().iter().map(|shape| random_model(9, shape).quantized()));
    for model in models {
        on_gpu(|gpu| {
            let list = KernelList::of_encoder(gpu, &model.manifest).unwrap();
            let n_texts = list.texts(gpu).len();
            pollster::block_on(gpu.compile(&list)).unwrap();
            let compiled = gpu.n_kernels();
            assert_eq!((compiled, list.texts(gpu).len()), (n_texts, 0));
            let encoder = pollster::block_on(GpuEncoder::load(gpu, &model.manifest, &model.weights)).unwrap();
            for n in [1, model.manifest.query.max_length.min(encoder.max_tokens())] {
                let ids: Vec<u32> = (0..n as u32).collect();
                let text = GpuText { ids: &ids, keep: None, n_attended: n };
                pollster::block_on(encoder.encode(&[text], true)).unwrap();
            }
            assert_eq!(gpu.n_kernels(), compiled, "{:?}", model.manifest.encoder);
        });
    }
}

#[test]
fn input_that_does_not_fit_is_refused() {
    let model = random_model(5, &RandomShape::default()).quantized();
    on_gpu(|gpu| {
        let encoder = pollster::block_on(GpuEncoder::load(gpu, &model.manifest, &model.weights)).unwrap();
        let long = vec![5; 129];
        let bad = [
            GpuText { ids: &long, keep: None, n_attended: 129 },
            GpuText { ids: &[512], keep: None, n_attended: 1 },
            GpuText { ids: &[5, 6], keep: Some(&[true]), n_attended: 2 },
            GpuText { ids: &[5, 6], keep: None, n_attended: 0 },
            GpuText { ids: &[5, 6], keep: None, n_attended: 3 },
        ];
        for text in bad {
            let found = pollster::block_on(encoder.encode(&[text], true));
            assert!(matches!(found, Err(GpuError::Shape { .. })), "{text:?}: {found:?}");
        }
        let none = GpuText { ids: &[], keep: None, n_attended: 0 };
        let dropped = GpuText { ids: &[5, 6], keep: Some(&[false, false]), n_attended: 2 };
        let found = pollster::block_on(encoder.encode(&[none, dropped], true)).unwrap();
        assert_eq!(found.texts, [Vec::<f32>::new(), Vec::new()]);
        let found = pollster::block_on(encoder.encode(&[], true)).unwrap();
        assert!(found.texts.is_empty());
    });
}

#[test]
fn weights_that_overflow_are_told() {
    let mut model = random_model(5, &RandomShape::default());
    let huge = vec![3e38; 16 * 48];
    model.weights.insert("dense.0.weight", Tensor::f32(&[16, 48], huge));
    on_gpu(|gpu| {
        let encoder = pollster::block_on(GpuEncoder::load(gpu, &model.manifest, &model.weights)).unwrap();
        let text = GpuText { ids: &[3, 300], keep: None, n_attended: 2 };
        let found = pollster::block_on(encoder.encode(&[text], true));
        assert!(matches!(found, Err(GpuError::NotFinite { token: 0 })), "{found:?}");
    });
}
