//! Our side of `crates/bench/engine/run.mjs`: models written for others to read, and times on request.

use crate::timing::{Timing, race};
use anyhow::{Context as _, bail};
use serde::Serialize;
use shirube_core::Role;
use shirube_encoder::{Encoder, quantize};
use shirube_format::model::{ModelManifest, Quantization, WeightKind, Weights, pack_parts};
use shirube_kernels::{Kernels, PackedF32};
use shirube_testkit::{Products, Random, RandomIndex, RandomShape, random_model};
use std::hint::black_box;
use std::io::{BufRead as _, Write as _};
use std::path::Path;

/// The models of the bench. Vocabularies are small: a look-up costs the same in any table, and files stay small.
fn shapes() -> [(&'static str, RandomShape); 3] {
    let vocab_size = 1024;
    let shipped =
        RandomShape { vocab_size, n_layers: 3, query_weight: false, ..RandomShape::default_model() };
    let minilm = RandomShape { vocab_size, ..RandomShape::minilm() };
    let base = RandomShape { vocab_size, ..RandomShape::bert_base() };
    [("default", shipped), ("minilm", minilm), ("bert-base", base)]
}

const KINDS: [(&str, WeightKind); 3] =
    [("f32", WeightKind::F32), ("int8", WeightKind::Int8), ("int4", WeightKind::Int4)];

/// Writes each model as f32, int8 and int4 to `to/NAME`: `DTYPE.json` and `DTYPE.safetensors`, and `manifest.json` for the f32 one.
pub(crate) fn write_models(to: &Path) -> anyhow::Result<()> {
    for (name, shape) in shapes() {
        let folder = to.join(name);
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let model = random_model(3, &shape);
        for (dtype, kind) in KINDS {
            let mut manifest = model.manifest.clone();
            manifest.quantization = Quantization { linear: kind, embeddings: kind };
            let weights = quantize(&model.weights, manifest.quantization);
            let files = pack_parts(&weights, usize::MAX)?;
            std::fs::write(folder.join(format!("{dtype}.safetensors")), &files[0].1)?;
            let json = serde_json::to_vec(&manifest)?;
            if kind == WeightKind::F32 {
                std::fs::write(folder.join("manifest.json"), &json)?;
            }
            std::fs::write(folder.join(format!("{dtype}.json")), json)?;
        }
    }
    Ok(())
}

/// [`race`], and for the shortest time also processor time of this thread over longer batches, where the system tells it: a long run is never left
/// alone on a busy machine.
fn measure(seconds: f64, runs: &mut [Box<dyn FnMut() + '_>]) -> Vec<Timing> {
    let mut timings = race(seconds, runs);
    for _ in 0..3 {
        for (run, timing) in runs.iter_mut().zip(&mut timings) {
            let calls = (0.05 / timing.least).ceil().max(1.0);
            let Some(start) = processor_seconds() else { continue };
            for _ in 0..calls as usize {
                run();
            }
            if let Some(end) = processor_seconds() {
                timing.least = timing.least.min((end - start) / calls);
            }
        }
    }
    timings
}

/// Processor time of this thread; Linux only. It advances in steps of some milliseconds.
fn processor_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
}

#[derive(Serialize, Default)]
struct Answer {
    least: f64,
    median: f64,
    /// The products with weights of the pass alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    products: Option<f64>,
    /// Attention's products alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    attention: Option<f64>,
    /// Multiply-adds of these products.
    #[serde(skip_serializing_if = "Option::is_none")]
    macs: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    embeddings: Vec<f32>,
}

/// Answers lines on standard input with JSON: `encode BACKEND NAME DTYPE N SECONDS`, `peak BACKEND SECONDS` (seconds a multiply-add),
/// `maxsim BACKEND compressed|plain DOCUMENTS REPEAT DIM SECONDS` (seconds a token).
pub(crate) fn serve(root: &Path) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let names: Vec<_> = Kernels::all().iter().map(|k| k.kind().name()).collect();
    writeln!(out, "{}", serde_json::json!({ "backends": names }))?;
    out.flush()?;
    let mut loaded: Option<(String, Encoder, Products)> = None;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let kernels = |name: &str| {
            let found = Kernels::all().into_iter().find(|k| k.kind().name() == name);
            found.with_context(|| format!("no kernels {name}"))
        };
        let answer = match words[..] {
            ["peak", backend, seconds] => {
                let kernels = kernels(backend)?;
                let macs = kernels.peak_i8(20_000) as f64;
                let timing = measure(
                    seconds.parse()?,
                    &mut [Box::new(|| {
                        black_box(kernels.peak_i8(20_000));
                    })],
                )[0];
                Answer { least: timing.least / macs, median: timing.median / macs, ..Answer::default() }
            }
            ["encode", backend, name, dtype, n, seconds] => {
                let key = format!("{backend} {name} {dtype}");
                if loaded.as_ref().is_none_or(|(old, ..)| *old != key) {
                    drop(loaded.take()); // one model in memory at a time
                    let (encoder, products) = load(root, name, dtype, kernels(backend)?)?;
                    loaded = Some((key, encoder, products));
                }
                let (_, encoder, products) = loaded.as_mut().context("loaded above")?;
                let ids: Vec<u32> = (0..n.parse()?).map(|i| (i * 37 + 11) % 997).collect();
                let embeddings = encoder.encode(&ids, Role::Document)?.data;
                products.prepare(ids.len());
                let macs = (products.macs() * ids.len()) as f64;
                let encode = Box::new(|| drop(encoder.encode(&ids, Role::Document)));
                // Each of the two shares needs the products for itself.
                let products = std::cell::RefCell::new(products);
                let timings = measure(
                    seconds.parse()?,
                    &mut [
                        encode,
                        Box::new(|| products.borrow_mut().run()),
                        Box::new(|| products.borrow_mut().run_attention()),
                    ],
                );
                Answer {
                    least: timings[0].least,
                    median: timings[0].median,
                    products: Some(timings[1].least),
                    attention: Some(timings[2].least),
                    macs: Some(macs),
                    embeddings,
                }
            }
            ["maxsim", backend, way, documents, repeat, dim, seconds] => {
                let documents = (documents.parse()?, repeat.parse()?);
                maxsim(kernels(backend)?, way, documents, dim.parse()?, seconds.parse()?)?
            }
            _ => bail!("{line:?} is not understood"),
        };
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
        out.flush()?;
    }
    Ok(())
}

fn load(root: &Path, name: &str, dtype: &str, kernels: Kernels) -> anyhow::Result<(Encoder, Products)> {
    let folder = root.join(name);
    let manifest = ModelManifest::parse(&std::fs::read(folder.join(format!("{dtype}.json")))?)?;
    let bytes = std::fs::read(folder.join(format!("{dtype}.safetensors")))?;
    let weights = Weights::read([(name, bytes.as_slice())])?;
    let encoder = Encoder::load(&manifest, weights, kernels)?;
    let products = Products::new(&manifest.encoder, encoder.dim(), manifest.quantization.linear, kernels);
    Ok((encoder, products))
}

fn maxsim(
    kernels: Kernels,
    way: &str,
    (documents, repeat): (usize, usize),
    dim: usize,
    seconds: f64,
) -> anyhow::Result<Answer> {
    let mut index = RandomIndex::new(5, documents, 100, 4096, dim);
    let query = Random::new(6).unit_rows(32, dim);
    let mut scores = vec![0.0; documents * repeat];
    index.documents = index.documents.repeat(repeat);
    let timing = if way == "compressed" {
        let mut centroid_scores = Vec::new();
        measure(
            seconds,
            &mut [Box::new(|| {
                let query = kernels.maxsim_query(&query, dim, index.table).expect("shapes fit");
                centroid_scores.resize(4096 * query.stride(), 0.0);
                kernels.centroid_scores(&query, &index.centroids, &mut centroid_scores).expect("shapes fit");
                let (tokens, documents) = (index.tokens(), &index.documents);
                kernels.maxsim(&query, &centroid_scores, tokens, documents, &mut scores).expect("shapes fit");
            })],
        )
    } else {
        let plain: Vec<f32> = (0..index.codes.len()).flat_map(|t| index.decode(t)).collect();
        let packed = PackedF32::new(&query, 32, dim)?;
        measure(
            seconds,
            &mut [Box::new(|| {
                kernels.maxsim_f32(&packed, &plain, &index.documents, &mut scores).expect("shapes fit");
            })],
        )
    };
    let tokens = (index.codes.len() * repeat) as f64;
    Ok(Answer { least: timing[0].least / tokens, median: timing[0].median / tokens, ..Answer::default() })
}
