//! What the encoder promises, on models with random weights.

use proptest::prelude::*;
use shirube_core::{Activation, DenseConfig, Expansion, ExpansionRule, InputRules, Role};
use shirube_encoder::{Encoder, EncoderError, EncoderIds, Model};
use shirube_format::FormatError;
use shirube_format::model::{Quantization, Tensor, WeightKind, Weights};
use shirube_kernels::{GroupedI4, Kernels};
use shirube_testkit::{Random, RandomModel, RandomShape, random_model};

fn load(model: &RandomModel, kernels: Kernels) -> Encoder {
    Encoder::load(&model.manifest, model.weights.clone(), kernels).unwrap()
}

fn small() -> RandomModel {
    random_model(1, &RandomShape::default()).quantized()
}

/// One small model of each architecture.
fn one_of_each() -> [RandomModel; 2] {
    [small(), random_model(1, &RandomShape::small_bert()).stored_as(WeightKind::Int4)]
}

#[test]
fn kept_tokens_have_the_embeddings_they_have_among_all() {
    let mut encoder = load(&small(), Kernels::detect());
    let ids: Vec<u32> = (0..20).map(|i| 260 + i * 7).collect();
    let all = encoder.encode(&ids, Role::Query).unwrap();
    let keep: Vec<bool> = (0..20).map(|i| i % 3 != 1).collect();
    let kept =
        encoder.encode_ids(EncoderIds { ids: &ids, keep: Some(&keep), n_attended: 20 }, Role::Query).unwrap();
    let expected: Vec<f32> =
        all.rows().zip(&keep).filter(|(_, k)| **k).flat_map(|(row, _)| row.to_vec()).collect();
    assert_eq!(kept.data, expected);
    assert_eq!(kept.n_tokens(), 13);

    let none = encoder
        .encode_ids(EncoderIds { ids: &ids, keep: Some(&[false; 20]), n_attended: 20 }, Role::Query)
        .unwrap();
    assert_eq!((none.n_tokens(), none.dim), (0, 16));
}

#[test]
fn expansion_that_only_looks_does_not_change_the_real_tokens() {
    for model in one_of_each() {
        let mut encoder = load(&model, Kernels::detect());
        let real: Vec<u32> = (0..9).map(|i| 300 + i).collect();
        let mut ids = real.clone();
        ids.extend([2; 7]);
        let alone = encoder.encode(&real, Role::Query).unwrap();
        let expanded =
            encoder.encode_ids(EncoderIds { ids: &ids, keep: None, n_attended: 9 }, Role::Query).unwrap();
        assert_eq!(expanded.data[..alone.data.len()], alone.data);
        assert_eq!(expanded.n_tokens(), 16);
        let attended = encoder.encode(&ids, Role::Query).unwrap();
        assert_ne!(attended.data[..alone.data.len()], alone.data);
    }
}

/// Equal ids give equal states unless something tells their places apart.
#[test]
fn learned_positions_and_types_reach_the_embeddings() {
    let model = random_model(4, &RandomShape::small_bert());
    let embeddings =
        |model: &RandomModel| load(model, Kernels::detect()).encode(&[300; 4], Role::Document).unwrap();
    let found = embeddings(&model);
    let first = found.rows().next().unwrap();
    assert!(found.rows().skip(1).all(|row| row != first), "positions say nothing");
    for name in ["position", "token_type"] {
        let name = format!("embeddings.{name}_embeddings.weight");
        let mut without = model.clone();
        let shape = without.weights.iter().find(|(n, _)| *n == name).unwrap().1.shape.clone();
        without.weights.insert(&name, Tensor::f32(&shape, vec![0.0; shape.iter().product()]));
        assert_ne!(embeddings(&without), found, "{name}");
    }
    // A checkpoint without token types is one whose first type is zero.
    let mut none = model.clone();
    none.manifest.encoder.type_vocab_size = 0;
    let mut zero = model.clone();
    zero.weights.insert("embeddings.token_type_embeddings.weight", Tensor::f32(&[2, 48], vec![0.0; 96]));
    assert_eq!(embeddings(&none), embeddings(&zero));
}

/// JaColBERT's input: `[CLS]`, marker, text, `[SEP]`, then masks that nobody looks at; punctuation left out of documents.
#[test]
fn a_bert_query_carries_its_markers_and_a_document_skips_punctuation() {
    let mut model = random_model(5, &RandomShape::small_bert()).quantized();
    let (prefix, suffix) = (vec![0, 3], vec![5]);
    let expansion = Expansion { token: 2, attend: false, rule: ExpansionRule::DynamicPaper };
    model.manifest.query =
        InputRules { prefix, suffix, max_length: 40, expansion: Some(expansion), ..InputRules::default() };
    let (manifest, files) = model.files();
    let files = || files.iter().map(|(n, b)| (n.as_str(), b.as_slice()));
    let mut loaded = Model::load(manifest.clone(), files(), Kernels::detect()).unwrap();
    for (text, length) in [("関数の型", 32), ("関数の型推論を理解したい人のためのコードとテスト", 32)]
    {
        let query = loaded.prepare(text, Role::Query);
        assert_eq!((&query.ids[..2], query.ids[query.n_real - 1]), (&[0, 3][..], 5));
        assert_eq!(query.ids.len(), length.max((query.n_real + 8).min(40)));
        assert!(query.ids[query.n_real..].iter().all(|&id| id == 2));
        let found = loaded.encode(&query).unwrap();
        let input = EncoderIds { ids: &query.ids, keep: None, n_attended: query.n_real };
        assert_eq!(found, loaded.encoder().encode_ids(input, Role::Query).unwrap().data);
        let attended = loaded.encoder().encode(&query.ids, Role::Query).unwrap();
        assert_ne!(found, attended.data);
    }
    let text = "関数、型。";
    let all = loaded.prepare(text, Role::Document);
    let comma = all.ids
        [all.offsets.iter().position(|o| o.is_some_and(|o| text.get(o.range()) == Some("、"))).unwrap()];
    let mut manifest = manifest.clone();
    manifest.document.skip = vec![comma];
    let mut skipping = Model::load(manifest, files(), Kernels::detect()).unwrap();
    let kept = skipping.prepare(text, Role::Document);
    assert_eq!(kept.ids, all.ids, "what is skipped is still attended to");
    let (every, some) = (loaded.encode(&all).unwrap(), skipping.encode(&kept).unwrap());
    let expected: Vec<f32> = every
        .chunks_exact(16)
        .zip(&all.ids)
        .filter(|(_, id)| **id != comma)
        .flat_map(|(row, _)| row.to_vec())
        .collect();
    assert!(some.len() < every.len() && some == expected);
}

#[test]
fn documents_have_length_1_and_queries_the_length_of_their_weight() {
    let model = small();
    let mut encoder = load(&model, Kernels::detect());
    let ids: Vec<u32> = (0..12).map(|i| 270 + i * 3).collect();
    let document = encoder.encode(&ids, Role::Document).unwrap();
    let query = encoder.encode(&ids, Role::Query).unwrap();
    let length = |row: &[f32]| row.iter().map(|v| v * v).sum::<f32>().sqrt();
    let mut lengths = Vec::new();
    for (d, q) in document.rows().zip(query.rows()) {
        assert!((length(d) - 1.0).abs() < 1e-5);
        let weight = length(q);
        assert!(weight > 0.0);
        assert!(d.iter().zip(q).all(|(d, q)| (d * weight - q).abs() < 1e-5));
        lengths.push(weight);
    }
    let (least, most) =
        (lengths.iter().copied().fold(9.0, f32::min), lengths.iter().copied().fold(0.0, f32::max));
    assert!(most > least * 1.05, "the weights {lengths:?} say nothing");
}

#[test]
fn buffers_of_a_longer_text_leave_nothing_behind() {
    let model = small();
    let mut used = load(&model, Kernels::detect());
    let long: Vec<u32> = (0..128).map(|i| 256 + i).collect();
    used.encode(&long, Role::Document).unwrap();
    for n in [1, 2, 17] {
        let fresh = load(&model, Kernels::detect()).encode(&long[..n], Role::Document).unwrap();
        assert_eq!(used.encode(&long[..n], Role::Document).unwrap(), fresh);
    }
}

#[test]
fn a_projection_chain_adds_biases_and_residuals() {
    hold_chain([Activation::Identity; 3]);
}

#[test]
fn activations_of_a_projection_chain_come_before_its_residuals() {
    hold_chain([Activation::Tanh, Activation::Relu, Activation::Gelu]);
    hold_chain([Activation::Silu, Activation::Sigmoid, Activation::Identity]);
}

/// By the definitions, in f64; Gelu's from its integral, the error function as a sum.
fn activated(activation: Activation, x: f32) -> f32 {
    let x = f64::from(x);
    let normal = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let y = match activation {
        Activation::Identity => x,
        Activation::Tanh => x.tanh(),
        Activation::Relu => x.max(0.0),
        Activation::Gelu => {
            let step = x / 2000.0;
            x * (0.5 + (0..2000).map(|i| normal((f64::from(i) + 0.5) * step) * step).sum::<f64>())
        }
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
    };
    y as f32
}

/// Holds the chain of three layers to plain arithmetic.
fn hold_chain(activations: [Activation; 3]) {
    let mut model = random_model(2, &RandomShape { query_weight: false, ..RandomShape::default() });
    let mut random = Random::new(9);
    let chain = [(48, 24, true, true), (24, 24, false, true), (24, 8, true, false)];
    model.manifest.projection.dense.clear();
    let mut weights = Vec::new();
    for (i, &(inputs, outputs, bias, residual)) in chain.iter().enumerate() {
        let activation = activations[i];
        let dense = DenseConfig { in_features: inputs, out_features: outputs, bias, residual, activation };
        model.manifest.projection.dense.push(dense);
        let matrix = random.normals(inputs * outputs, 0.2);
        let side = (residual && inputs != outputs).then(|| random.normals(inputs * outputs, 0.2));
        let shift = if bias { random.normals(outputs, 0.5) } else { vec![0.0; outputs] };
        model.weights.insert(format!("dense.{i}.weight"), Tensor::f32(&[outputs, inputs], matrix.clone()));
        if bias {
            model.weights.insert(format!("dense.{i}.bias"), Tensor::f32(&[outputs], shift.clone()));
        }
        if let Some(side) = &side {
            model
                .weights
                .insert(format!("dense.{i}.residual.weight"), Tensor::f32(&[outputs, inputs], side.clone()));
        }
        weights.push((matrix, side, shift));
    }
    let ids = [300, 301, 302];
    // The hidden states, by a projection that leaves them as they are but for their length.
    let mut plain = model.clone();
    let identity = DenseConfig { in_features: 48, out_features: 48, ..DenseConfig::default() };
    plain.manifest.projection.dense = vec![identity];
    let unit = (0..48 * 48).map(|i| if i % 49 == 0 { 1.0 } else { 0.0 }).collect();
    plain.weights.insert("dense.0.weight", Tensor::f32(&[48, 48], unit));
    let hidden = load(&plain, Kernels::scalar()).encode(&ids, Role::Document).unwrap();

    // Final norms with a known scale bring the length back.
    let found = load(&model, Kernels::scalar()).encode(&ids, Role::Document).unwrap();
    assert_eq!(found.dim, 8);
    let norm = model.weights.clone().take_f32("final_norm.weight", &[48]).unwrap();
    for (state, found) in hidden.rows().zip(found.rows()) {
        // After layer norm, the sum of (state / weight)² is the width.
        let size: f32 = state.iter().zip(&norm).map(|(s, w)| (s / w).powi(2)).sum();
        let mut x: Vec<f32> = state.iter().map(|s| s * (48.0 / size).sqrt()).collect();
        for (i, &(inputs, outputs, _, residual)) in chain.iter().enumerate() {
            let (matrix, side, shift) = &weights[i];
            let product = |m: &[f32], o: usize| (0..inputs).map(|k| m[o * inputs + k] * x[k]).sum::<f32>();
            let next = (0..outputs).map(|o| {
                let added = match (residual, side) {
                    (false, _) => 0.0,
                    (true, None) => x[o],
                    (true, Some(side)) => product(side, o),
                };
                activated(activations[i], product(matrix, o) + shift[o]) + added
            });
            x = next.collect();
        }
        let length = x.iter().map(|v| v * v).sum::<f32>().sqrt();
        for (x, f) in x.iter().zip(found) {
            assert!((x / length - f).abs() < 1e-3, "{} against {f}", x / length);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let model = small();
    let mut encoder = load(&model, Kernels::detect());
    let all = |ids: &[u32], encoder: &mut Encoder| encoder.encode(ids, Role::Query);
    assert_eq!(all(&[], &mut encoder).unwrap().n_tokens(), 0);
    assert!(matches!(
        all(&[3, 512, 4], &mut encoder),
        Err(EncoderError::Token { position: 1, id: 512, vocab_size: 512 })
    ));
    assert!(matches!(all(&[3; 129], &mut encoder), Err(EncoderError::TooLong { found: 129, most: 128 })));
    let short = EncoderIds { ids: &[3, 4], keep: Some(&[true]), n_attended: 2 };
    assert!(matches!(
        encoder.encode_ids(short, Role::Query),
        Err(EncoderError::Input { found: 1, expected: 2, .. })
    ));
    for n_attended in [0, 3] {
        let wrong = EncoderIds { ids: &[3, 4], keep: None, n_attended };
        assert!(matches!(encoder.encode_ids(wrong, Role::Query), Err(EncoderError::Input { .. })));
    }
}

/// Equal integers and scales are the same matrix, whatever they are stored in.
#[test]
fn four_bit_weights_give_the_bits_of_the_same_weights_in_eight() {
    for shape in [RandomShape::default(), RandomShape::small_bert()] {
        let four = random_model(6, &shape).stored_as(WeightKind::Int4);
        let mut eight = four.clone();
        let kind = WeightKind::Int8;
        eight.manifest.quantization = Quantization { linear: kind, embeddings: kind };
        let stems: Vec<String> = four
            .weights
            .iter()
            .filter_map(|(name, _)| Some(name.strip_suffix(".group_scale")?.to_owned()))
            .collect();
        assert!(stems.len() > 8);
        for stem in stems {
            let mut taken = four.weights.clone();
            let (_, tensor) = taken.iter().find(|(name, _)| *name == format!("{stem}.weight")).unwrap();
            let (rows, bytes) = (tensor.shape[0], tensor.shape[1]);
            let cols = 2 * bytes; // all widths of these models are even
            let matrix = GroupedI4::new(
                taken.take_u8(&format!("{stem}.weight"), &[rows, bytes]).unwrap(),
                taken.take_u8(&format!("{stem}.group_scale"), &[rows, cols.div_ceil(32)]).unwrap(),
                taken.take_f32(&format!("{stem}.scale"), &[rows]).unwrap(),
                rows,
                cols,
            )
            .unwrap();
            let (ints, scale) = matrix.expand();
            eight.weights.insert(format!("{stem}.weight"), Tensor::i8(&[rows, cols], ints));
            eight.weights.insert(format!("{stem}.scale"), Tensor::f32(&[rows], scale));
        }
        let ids: Vec<u32> = (0..33).map(|i| 300 + i).collect();
        for kernels in Kernels::all() {
            let encode = |model: &RandomModel| load(model, kernels).encode(&ids, Role::Query).unwrap();
            assert_eq!(encode(&four), encode(&eight), "{}", kernels.kind());
        }
    }
}

#[test]
fn every_tensor_is_needed_in_its_shape_and_type() {
    one_of_each().iter().for_each(every_tensor_is_needed);
}

fn every_tensor_is_needed(model: &RandomModel) {
    let names: Vec<String> = model.weights.iter().map(|(name, _)| name.to_owned()).collect();
    assert!(names.len() > 20);
    for name in names {
        let mut without = Weights::default();
        let mut other_shape = model.weights.clone();
        for (n, tensor) in model.weights.iter() {
            if n != name {
                without.insert(n, tensor.clone());
            }
        }
        other_shape.insert(name.clone(), Tensor::f32(&[2, 2], vec![0.0; 4]));
        for weights in [without, other_shape] {
            match Encoder::load(&model.manifest, weights, Kernels::detect()) {
                Err(EncoderError::Format(FormatError::Tensor { name: found, .. })) => assert_eq!(found, name),
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}

#[test]
fn weights_that_overflow_are_reported_and_not_returned() {
    let mut model = random_model(3, &RandomShape::default());
    let huge = vec![f32::MAX; 48];
    model.weights.insert("final_norm.weight", Tensor::f32(&[48], huge));
    for model in [&model, &model.quantized()] {
        for kernels in Kernels::all() {
            let found = load(model, kernels).encode(&[300, 301], Role::Document);
            assert!(matches!(found, Err(EncoderError::NotFinite { .. })), "{found:?} on {}", kernels.kind());
        }
    }
}

#[test]
fn a_model_loads_from_its_files_and_says_where_tokens_stand() {
    let model = small();
    let (manifest, files) = model.files();
    let borrowed = || files.iter().map(|(n, b)| (n.as_str(), b.as_slice()));
    let mut loaded = Model::load(manifest.clone(), borrowed(), Kernels::detect()).unwrap();
    let text = Random::new(8).text(30);
    let prepared = loaded.prepare(&text, Role::Query);
    assert_eq!(prepared.role(), Role::Query);
    let embeddings = loaded.encode(&prepared).unwrap();
    let ranges: Vec<_> = prepared.kept_ranges().collect();
    assert_eq!(embeddings.len(), ranges.len() * loaded.dim());
    assert_eq!(ranges[0], None, "the marker stands nowhere in the text");
    let mut at = 0;
    for range in ranges[1..].iter().flatten() {
        assert!(
            range.start >= at && range.end > range.start && text.get(range.clone()).is_some(),
            "{range:?}"
        );
        at = range.start;
    }
    let batch = loaded.encode_batch(&[prepared.clone(), loaded.prepare("", Role::Document)]).unwrap();
    assert_eq!(batch[0], embeddings);
    assert_eq!(batch[1].len(), loaded.dim(), "an empty text is its marker");

    let mut other = manifest.clone();
    other.tokenizer.sha256 = shirube_format::Sha256Hex::of(b"another tokenizer");
    let refused = Model::load(other, borrowed(), Kernels::detect());
    assert!(matches!(refused, Err(EncoderError::Format(FormatError::Mismatch { .. }))));
    let mut other = manifest.clone();
    other.tokenizer.normalizer = "nfkc".to_owned();
    let refused = Model::load(other, borrowed(), Kernels::detect());
    assert!(matches!(refused, Err(EncoderError::Format(FormatError::Mismatch { .. }))));
    let without = borrowed().filter(|(n, _)| *n != "tokenizer.bin");
    let refused = Model::load(manifest, without, Kernels::detect());
    assert!(matches!(refused, Err(EncoderError::Format(FormatError::Missing { .. }))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Odd widths make every kernel handle its row ends.
    #[test]
    fn vector_backends_agree_on_any_shape(
        seed in 0_u64..1000,
        heads in 1_usize..4,
        half in 1_usize..20,
        n_layers in 0_usize..4,
        inner in 1_usize..70,
        dim in 1_usize..40,
        n in 1_usize..80,
        kind in prop::sample::select(vec![WeightKind::F32, WeightKind::Int8, WeightKind::Int4]),
        bert in any::<bool>(),
    ) {
        let base = if bert { RandomShape::small_bert() } else { RandomShape::default() };
        let shape = RandomShape {
            hidden_size: heads * half * 2, n_heads: heads, n_layers, intermediate_size: inner, dim, ..base
        };
        let model = random_model(seed, &shape).stored_as(kind);
        let mut random = Random::new(seed);
        let ids: Vec<u32> = (0..n).map(|_| random.below(512) as u32).collect();
        let [_, portable, others @ ..] = &Kernels::all()[..] else { panic!("the portable kernels are always there") };
        let expected = load(&model, *portable).encode(&ids, Role::Query).unwrap();
        prop_assert_eq!(expected.n_tokens(), n);
        for &kernels in others {
            prop_assert_eq!(&load(&model, kernels).encode(&ids, Role::Query).unwrap(), &expected);
        }
    }
}
