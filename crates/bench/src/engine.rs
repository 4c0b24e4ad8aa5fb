//! Kernels, query encoding and MaxSim on every backend of this machine, on the same input.
//!
//! | rows | data |
//! |---|---|
//! | `gemm_i8`, `gemm_f32` | random matrices, `m x k` times `k x k`; quantising and packing left out |
//! | `quantize`, `layer_norm`, `geglu`, `attention` | the rest of one block of the default model at 32 and 128 tokens |
//! | `encode` | a random int8 model of the default model's shape: ids to embeddings, everything included |
//! | `maxsim` | 1,000 documents of about 100 tokens, 4,096 centroids, 32 query tokens |
//!
//! `scalar` is the oracle of the tests, in f64 and without tricks: its ratio says what the vector code is worth together with narrow types.
//! `portable` is the same code as the vector backends over plain arrays.
//! Left out: threads, WebAssembly (the browser's bench has it), reading files.

use crate::frame::{Cell, Ratio, Report, Row, Settings};
use crate::timing::race;
use anyhow::{Context as _, ensure};
use shirube_core::Role;
use shirube_encoder::Encoder;
use shirube_kernels::{
    AttentionShape, Epilogue, Kernels, PackedF32, RowSource, quantize_centroid_scores, quantize_rows,
};
use shirube_testkit::{Random, RandomIndex, RandomShape, random_model};
use std::hint::black_box;

/// What a row counts.
#[derive(Clone, Copy)]
enum Unit {
    /// Units of work a second, in this multiple: higher is better.
    Rate(f64, &'static str),
    /// Milliseconds a call: lower is better.
    Milliseconds,
}

/// Least cosine of an int8 embedding between the oracle and a vector backend: f32 sums differ in their last bit, and where that flips the
/// rounding of an activation, a step of 1/127 follows.
const COSINE: f32 = 0.999;

struct Bench {
    seconds: f64,
    report: Report,
}

impl Bench {
    /// Times one competitor per name and adds a row, with ratios of the backend that would be chosen (`simd`) to those in `against`.
    fn row(
        &mut self,
        what: &str,
        work: f64,
        unit: Unit,
        names: &[&str],
        mut runs: Vec<Box<dyn FnMut() + '_>>,
        against: &[&str],
    ) {
        let timings = race(self.seconds, &mut runs);
        let value = |seconds: f64| match unit {
            Unit::Rate(scale, _) => work / seconds / scale,
            Unit::Milliseconds => seconds * 1e3,
        };
        let cells = names
            .iter()
            .zip(&timings)
            .map(|(name, t)| Cell {
                column: (*name).to_owned(),
                value: value(t.least),
                median: value(t.median),
            })
            .collect();
        let label = match unit {
            Unit::Rate(_, label) => label,
            Unit::Milliseconds => "ms",
        };
        self.report.rows.push(Row { what: what.to_owned(), unit: label, cells });
        let words = what.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
        let stem = words.collect::<Vec<_>>().join("_");
        let find = |name: &str| names.iter().position(|n| *n == name).map(|i| timings[i].least);
        let best = Kernels::detect().kind().name();
        for &other in against {
            if let (Some(ours), Some(theirs)) = (find(best), find(other)) {
                self.report
                    .ratios
                    .push(Ratio { name: format!("{stem}_simd_over_{other}"), value: theirs / ours });
            }
        }
    }
}

pub(crate) fn run(settings: &Settings) -> anyhow::Result<Report> {
    let mut bench = Bench { seconds: if settings.quick { 0.06 } else { 0.6 }, report: Report::default() };
    bench.report.notes = vec![
        "one thread; fastest of many short bursts, medians are in the record".to_owned(),
        "scalar is the f64 oracle; portable is the vector code over plain arrays".to_owned(),
    ];
    products(&mut bench)?;
    rows(&mut bench)?;
    encoding(&mut bench)?;
    maxsim(&mut bench)?;
    Ok(bench.report)
}

fn names(all: &[Kernels]) -> Vec<&'static str> {
    all.iter().map(|k| k.kind().name()).collect()
}

/// All backends but the oracle agree in every bit, and with the oracle within `tolerance`.
fn check(what: &str, results: &[Vec<f32>], tolerance: f32) -> anyhow::Result<()> {
    let [oracle, portable, others @ ..] = results else {
        anyhow::bail!("{what}: there is nothing to compare")
    };
    for (i, (a, b)) in oracle.iter().zip(portable).enumerate() {
        ensure!((a - b).abs() <= tolerance, "{what}: element {i} is {b}, the oracle says {a}");
    }
    ensure!(others.iter().all(|o| o == portable), "{what}: vector backends disagree");
    Ok(())
}

fn products(bench: &mut Bench) -> anyhow::Result<()> {
    let all = Kernels::all();
    let mut random = Random::new(1);
    for (m, k) in [(32, 192), (128, 192), (32, 384), (128, 384), (32, 768), (128, 768)] {
        let n = k;
        let (x, w) = (random.normals(m * k, 1.0), random.normals(n * k, 0.05));
        let (ints, scale) = quantize_rows(&w, n, k);
        let macs = (m * n * k) as f64;

        let mut outs = vec![vec![0.0; m * n]; all.len()];
        let mut operands = Vec::new();
        for (kernels, out) in all.iter().zip(&mut outs) {
            let mut acts = kernels.activations();
            kernels.quantize(&x, m, k, &mut acts)?;
            let packed = kernels.pack_i8(&ints, &scale, n, k)?;
            kernels.gemm_i8(&acts, &packed, Epilogue::STORE, out)?;
            operands.push((acts, packed));
        }
        check("gemm_i8", &outs, 0.0)?;
        let runs = all.iter().zip(&mut outs).zip(&operands).map(|((kernels, out), (acts, packed))| {
            boxed(move || kernels.gemm_i8(acts, packed, Epilogue::STORE, out).expect("checked above"))
        });
        let what = format!("gemm_i8 {m}x{k}");
        bench.row(
            &what,
            macs,
            Unit::Rate(1e9, "GMAC/s"),
            &names(&all),
            runs.collect(),
            &["scalar", "portable"],
        );

        if k != 384 {
            let packed = PackedF32::new(&w, n, k)?;
            for (kernels, out) in all.iter().zip(&mut outs) {
                kernels.gemm_f32(&x, m, &packed, Epilogue::STORE, out)?;
            }
            check("gemm_f32", &outs, 1e-3)?;
            let runs = all.iter().zip(&mut outs).map(|(kernels, out)| {
                let (x, packed) = (&x, &packed);
                boxed(move || kernels.gemm_f32(x, m, packed, Epilogue::STORE, out).expect("checked above"))
            });
            let what = format!("gemm_f32 {m}x{k}");
            bench.row(&what, macs, Unit::Rate(1e9, "GMAC/s"), &names(&all), runs.collect(), &["scalar"]);
        }
    }
    Ok(())
}

fn rows(bench: &mut Bench) -> anyhow::Result<()> {
    let all = Kernels::all();
    let shape = RandomShape::default_model();
    let (hidden, inner) = (shape.hidden_size, shape.intermediate_size);
    let mut random = Random::new(2);
    for m in [32, 128] {
        let x = random.normals(m * hidden, 1.0);
        let weight = random.normals(hidden, 1.0);
        let wide = random.normals(m * 2 * inner, 1.0);
        let qkv = random.normals(m * 3 * hidden, 1.0);

        let mut acts: Vec<_> = all.iter().map(Kernels::activations).collect();
        let runs = all.iter().zip(&mut acts).map(|(kernels, acts)| {
            let x = &x;
            boxed(move || kernels.quantize(x, m, hidden, acts).expect("shapes fit"))
        });
        let (rate, count) = (Unit::Rate(1e9, "Gvalue/s"), (m * hidden) as f64);
        bench.row(&format!("quantize {m}x{hidden}"), count, rate, &names(&all), runs.collect(), &[]);

        let mut outs = vec![vec![0.0; m * hidden]; all.len()];
        for (kernels, out) in all.iter().zip(&mut outs) {
            kernels.rows(RowSource::Norm { x: &x, weight: &weight, bias: None, eps: 1e-5 }, hidden, out)?;
        }
        check("layer_norm", &outs, 1e-4)?;
        let runs = all.iter().zip(&mut outs).map(|(kernels, out)| {
            let (x, weight) = (&x, &weight);
            let norm = RowSource::Norm { x, weight, bias: None, eps: 1e-5 };
            boxed(move || kernels.rows(norm, hidden, out).expect("shapes fit"))
        });
        bench.row(&format!("layer_norm {m}x{hidden}"), count, rate, &names(&all), runs.collect(), &[]);

        let mut outs = vec![vec![0.0; m * inner]; all.len()];
        for (kernels, out) in all.iter().zip(&mut outs) {
            kernels.rows(RowSource::GeGlu(&wide), inner, out)?;
        }
        check("geglu", &outs, 1e-4)?;
        let runs = all.iter().zip(&mut outs).map(|(kernels, out)| {
            let wide = &wide;
            boxed(move || kernels.rows(RowSource::GeGlu(wide), inner, out).expect("shapes fit"))
        });
        let count = (m * inner) as f64;
        bench.row(&format!("geglu {m}x{inner}"), count, rate, &names(&all), runs.collect(), &[]);

        let shape = AttentionShape {
            n_tokens: m,
            n_keys: m,
            n_heads: shape.n_heads,
            head_dim: hidden / shape.n_heads,
            reach: None,
        };
        let mut outs = vec![vec![0.0; m * hidden]; all.len()];
        let mut scratch = vec![Vec::new(); all.len()];
        for ((kernels, out), scratch) in all.iter().zip(&mut outs).zip(&mut scratch) {
            kernels.attention(&qkv, shape, scratch, out)?;
        }
        check("attention", &outs, 1e-4)?;
        let runs = all.iter().zip(&mut outs).zip(&mut scratch).map(|((kernels, out), scratch)| {
            let qkv = &qkv;
            boxed(move || kernels.attention(qkv, shape, scratch, out).expect("shapes fit"))
        });
        let macs = (2 * m * m * hidden) as f64;
        let what = format!("attention {m}x{hidden}");
        bench.row(&what, macs, Unit::Rate(1e9, "GMAC/s"), &names(&all), runs.collect(), &[]);
    }
    Ok(())
}

fn encoding(bench: &mut Bench) -> anyhow::Result<()> {
    let all = Kernels::all();
    let model = random_model(3, &RandomShape::default_model()).quantized();
    let mut random = Random::new(4);
    let mut encoders = Vec::new();
    for &kernels in &all {
        encoders.push(
            Encoder::load(&model.manifest, model.weights.clone(), kernels)
                .context("loading the random model")?,
        );
    }
    for (n, role, name) in
        [(12, Role::Query, "query"), (32, Role::Query, "query"), (128, Role::Document, "document")]
    {
        let ids: Vec<u32> = (0..n).map(|_| random.below(model.manifest.encoder.vocab_size) as u32).collect();
        let mut results = Vec::new();
        for encoder in &mut encoders {
            results.push(encoder.encode(&ids, role)?);
        }
        for result in &results[1..] {
            ensure!(result == &results[1], "encode: vector backends disagree");
            for (a, b) in result.rows().zip(results[0].rows()) {
                let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
                let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
                ensure!(cosine > COSINE, "encode: cosine {cosine} with the oracle");
            }
        }
        let runs = encoders.iter_mut().map(|encoder| {
            let ids = &ids;
            boxed(move || {
                black_box(encoder.encode(ids, role).expect("encoded above"));
            })
        });
        let what = format!("encode {name} of {n}");
        bench.row(&what, 1.0, Unit::Milliseconds, &names(&all), runs.collect(), &["scalar", "portable"]);
    }
    Ok(())
}

fn maxsim(bench: &mut Bench) -> anyhow::Result<()> {
    let all = Kernels::all();
    let n_query = 32;
    for dim in [64, 128] {
        let index = RandomIndex::new(5, 1000, 100, 4096, dim);
        let n_tokens = index.codes.len();
        let query = Random::new(6).unit_rows(n_query, dim);
        let plain: Vec<f32> = (0..n_tokens).flat_map(|t| index.decode(t)).collect();
        let packed = PackedF32::new(&query, n_query, dim)?;
        let n_documents = index.documents.len();

        let mut prepared = Vec::new();
        for kernels in &all {
            prepared.push(kernels.maxsim_query(&query, dim, index.table)?);
        }
        let mut centroid_scores = vec![vec![0.0; 4096 * prepared[0].stride()]; all.len()];
        for ((kernels, prepared), out) in all.iter().zip(&prepared).zip(&mut centroid_scores) {
            kernels.centroid_scores(prepared, &index.centroids, out)?;
        }
        check("centroid_scores", &centroid_scores, 1e-5)?;
        let runs = all.iter().zip(&prepared).zip(&mut centroid_scores).map(|((kernels, prepared), out)| {
            let centroids = &index.centroids;
            boxed(move || kernels.centroid_scores(prepared, centroids, out).expect("shapes fit"))
        });
        let what = format!("centroid_scores 4096x{dim}");
        bench.row(&what, 1.0, Unit::Milliseconds, &names(&all), runs.collect(), &[]);

        let rate = Unit::Rate(1e6, "Mtoken/s");
        let mut scores = vec![vec![0.0; n_documents]; all.len()];
        for (((kernels, prepared), cs), out) in
            all.iter().zip(&prepared).zip(&centroid_scores).zip(&mut scores)
        {
            kernels.maxsim(prepared, cs, index.tokens(), &index.documents, out)?;
        }
        check("maxsim", &scores, 1e-4)?;
        let mut exact = vec![0.0; n_documents];
        all[0].maxsim_f32(&packed, &plain, &index.documents, &mut exact)?;
        let bound = n_query as f32 * 0.002; // int8 query tokens in the residual part
        check("maxsim against plain embeddings", &[exact, scores[0].clone()], bound)?;
        let runs = all.iter().zip(&prepared).zip(&centroid_scores).zip(&mut scores).map(
            |(((kernels, prepared), cs), out)| {
                let index = &index;
                boxed(move || {
                    kernels.maxsim(prepared, cs, index.tokens(), &index.documents, out).expect("shapes fit")
                })
            },
        );
        let against = ["scalar", "portable"];
        let what = format!("maxsim 32x{dim} 4-bit, 1000 documents");
        bench.row(&what, n_tokens as f64, rate, &names(&all), runs.collect(), &against);

        let mut bytes = Vec::new();
        quantize_centroid_scores(&centroid_scores[1], &mut bytes);
        let mut approximate = vec![vec![0; n_documents]; all.len()];
        for ((kernels, prepared), out) in all.iter().zip(&prepared).zip(&mut approximate) {
            kernels.maxsim_approximate(prepared, &bytes, &index.codes, &index.documents, out)?;
        }
        ensure!(approximate.iter().all(|a| *a == approximate[0]), "maxsim_approximate: backends disagree");
        let runs = all.iter().zip(&prepared).zip(&mut approximate).map(|((kernels, prepared), out)| {
            let (index, bytes) = (&index, &bytes);
            boxed(move || {
                kernels
                    .maxsim_approximate(prepared, bytes, &index.codes, &index.documents, out)
                    .expect("shapes fit");
            })
        });
        let what = format!("maxsim_approximate 32x{dim}");
        bench.row(&what, n_tokens as f64, rate, &names(&all), runs.collect(), &[]);

        for (kernels, out) in all.iter().zip(&mut scores) {
            kernels.maxsim_f32(&packed, &plain, &index.documents, out)?;
        }
        check("maxsim_f32", &scores, 1e-4)?;
        let runs = all.iter().zip(&mut scores).map(|(kernels, out)| {
            let (packed, plain, documents) = (&packed, &plain, &index.documents);
            boxed(move || kernels.maxsim_f32(packed, plain, documents, out).expect("shapes fit"))
        });
        let what = format!("maxsim_f32 32x{dim}");
        bench.row(&what, n_tokens as f64, rate, &names(&all), runs.collect(), &[]);
    }
    Ok(())
}

fn boxed<'a>(run: impl FnMut() + 'a) -> Box<dyn FnMut() + 'a> {
    Box::new(run)
}
