//! Each kernel alone, at sizes one below, at and above a workgroup's.

use super::{SMOOTH, UNIT, assert_close, half_unit, on_gpu, on_gpus};
use crate::device::{Buffer, Gpu};
use crate::plan::{Counts, Grid};
use crate::program::{AttentionShape, Batch, Program};
use crate::shaders::{self, RowSource};
use crate::weights::{Linear, Norm, Tensors, act_bytes};
use shirube_format::model::{Tensor, WeightKind, Weights};
use shirube_kernels::{Epilogue, Kernels, RowSource as Rows, quantize_rows};
use shirube_testkit::Random;

/// Runs a program for `n_rows` rows and reads the start of some buffers back.
fn run(gpu: &Gpu, program: &Program, counts: Counts, results: &[(&Buffer, usize)]) -> Vec<u8> {
    gpu.write(
        program.batch(),
        &[Batch { n_rows: counts.n_rows, n_kept: counts.n_kept, weigh: 0, unused: 0 }],
    );
    let mut submission = gpu.begin();
    submission.pass(|pass| program.run(pass, counts));
    let results: Vec<_> = results.iter().map(|(buffer, bytes)| (*buffer, *bytes as u64)).collect();
    pollster::block_on(submission.finish("testing", &results)).unwrap().bytes
}

fn rows(n: usize) -> Counts {
    Counts { n_rows: n as u32, n_blocks: 0, n_kept: 0 }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytemuck::pod_collect_to_vec(bytes)
}

#[test]
fn int8_products_are_exact_at_every_edge() {
    on_gpus(|gpu| {
        let mut random = Random::new(1);
        for &(m, k, n, capacity) in &[
            (1, 4, 4, 64),
            (2, 12, 4, 64),
            (3, 16, 16, 64),
            (4, 20, 60, 64),
            (15, 64, 64, 64),
            (16, 48, 68, 64),
            (17, 256, 768, 64),
            (64, 384, 128, 64),
            (65, 32, 132, 4096),
            (130, 1024, 36, 4096),
        ] {
            let x = random.normals(m * k, 1.0);
            let (mut ints, scale) = quantize_rows(&random.normals(n * k, 1.0), n, k);
            if k == 1024 {
                // The largest sums there are.
                ints.fill(127);
            }
            let (bias, base) = (random.normals(n, 1.0), random.normals(m * n, 1.0));
            let mut weights = Weights::default();
            weights.insert("w.weight", Tensor::i8(&[n, k], ints.clone()));
            weights.insert("w.scale", Tensor::f32(&[n], scale.clone()));
            weights.insert("w.bias", Tensor::f32(&[n], bias.clone()));
            for (with_bias, add) in [(false, false), (true, true)] {
                let kernels = Kernels::scalar();
                let packed = kernels.pack_i8(&ints, &scale, n, k).unwrap();
                let mut acts = kernels.activations();
                kernels.quantize(&x, m, k, &mut acts).unwrap();
                let mut expected = base.clone();
                let epilogue = Epilogue { bias: with_bias.then_some(&bias[..]), add };
                kernels.gemm_i8(&acts, &packed, epilogue, &mut expected).unwrap();

                let tensors = Tensors::of(&weights);
                let linear = Linear::load(gpu, &tensors, "w", [n, k], WeightKind::Int8, with_bias).unwrap();
                let mut program = Program::new(gpu, capacity, k).unwrap();
                let x = gpu.upload("x", &x).unwrap();
                let out = gpu.upload("out", &base).unwrap();
                program.rows(RowSource::Plain, None, &x, k, None, true);
                program.linear(&linear, &x, add, &out);
                let found = floats(&run(gpu, &program, rows(m), &[(&out, m * n * 4)]));
                // The integers are exact; scale, bias and sum round once each. Where quantising divides by another bit, one integer may differ.
                assert_close(&format!("[{m}, {k}] x [{n}, {k}]"), &found, &expected, |i| {
                    let step = acts.scale()[i / n] * scale[i % n] * 127.0;
                    4.0 * UNIT * (expected[i].abs() + base[i].abs() + bias[i % n].abs()) + step * 1.01
                });
                let off = found
                    .iter()
                    .zip(&expected)
                    .filter(|(f, e)| (*f - *e).abs() > 1e-5 * (1.0 + e.abs()))
                    .count();
                assert!(off * 50 <= found.len(), "{off} of {} products are off", found.len());
            }
        }
    });
}

#[test]
fn f32_products_agree_within_their_rounding() {
    on_gpu(|gpu| {
        let mut random = Random::new(2);
        for &(m, k, n) in &[(1, 4, 4), (3, 8, 12), (31, 64, 32), (33, 100, 36), (65, 256, 64)] {
            let (x, w) = (random.normals(m * k, 1.0), random.normals(n * k, 1.0));
            let (bias, base) = (random.normals(n, 1.0), random.normals(m * n, 1.0));
            let kernels = Kernels::scalar();
            let mut expected = base.clone();
            let packed = kernels.pack_f32(&w, n, k).unwrap();
            let epilogue = Epilogue { bias: Some(&bias), add: true };
            kernels.gemm_f32(&x, m, &packed, epilogue, &mut expected).unwrap();

            let mut weights = Weights::default();
            weights.insert("w.weight", Tensor::f32(&[n, k], w.clone()));
            weights.insert("w.bias", Tensor::f32(&[n], bias));
            let tensors = Tensors::of(&weights);
            let linear = Linear::load(gpu, &tensors, "w", [n, k], WeightKind::F32, true).unwrap();
            let mut program = Program::new(gpu, 64, k).unwrap();
            let (rows_in, out) = (gpu.upload("x", &x).unwrap(), gpu.upload("out", &base).unwrap());
            program.linear(&linear, &rows_in, true, &out);
            let found = floats(&run(gpu, &program, rows(m), &[(&out, m * n * 4)]));
            assert_close(&format!("[{m}, {k}] x [{n}, {k}]"), &found, &expected, |i| {
                let size: f32 = (0..k).map(|at| (x[i / n * k + at] * w[i % n * k + at]).abs()).sum();
                (k + 4) as f32 * UNIT * (size + 4.0)
            });
        }
    });
}

/// Quantised rows as the scalar kernel makes them: scales, then integers.
fn quantized(x: &[f32], m: usize, k: usize) -> (Vec<f32>, Vec<i8>) {
    let kernels = Kernels::scalar();
    let mut acts = kernels.activations();
    kernels.quantize(x, m, k, &mut acts).unwrap();
    (acts.scale().to_vec(), (0..m * k).map(|i| acts.get(i / k, i % k)).collect())
}

#[test]
fn row_kernels_agree_with_the_oracle() {
    on_gpus(|gpu| {
        let mut random = Random::new(3);
        let kernels = Kernels::scalar();
        for width in [4, 8, 16, 60, 64, 68, 252, 256, 260, 384, 1024] {
            let m = 5;
            let mut x = random.normals(2 * m * width, 2.0);
            // A row of nothing and a row of nearly nothing.
            x[2 * width..3 * width].fill(0.0);
            x[3 * width..4 * width].fill(1e-34);
            let (weight, bias) = (random.normals(width, 1.0), random.normals(width, 1.0));
            let mut weights = Weights::default();
            weights.insert("n.weight", Tensor::f32(&[width], weight.clone()));
            weights.insert("n.bias", Tensor::f32(&[width], bias.clone()));
            let tensors = Tensors::of(&weights);
            for (source, with_bias) in [
                (RowSource::Plain, false),
                (RowSource::Norm, false),
                (RowSource::Norm, true),
                (RowSource::GeGlu, false),
                (RowSource::Gelu, false),
            ] {
                let mut expected = x[..m * width].to_vec();
                match source {
                    RowSource::Plain => {}
                    RowSource::Norm => {
                        let bias = with_bias.then_some(&bias[..]);
                        let source = Rows::Norm { x: &x[..m * width], weight: &weight, bias, eps: 1e-5 };
                        kernels.rows(source, width, &mut expected).unwrap();
                    }
                    RowSource::GeGlu => kernels.rows(Rows::GeGlu(&x), width, &mut expected).unwrap(),
                    RowSource::Gelu => {
                        kernels.rows(Rows::Gelu(&x[..m * width]), width, &mut expected).unwrap();
                    }
                }
                let norm = Norm::load(gpu, &tensors, "n", width, with_bias).unwrap();
                let norm = (source == RowSource::Norm).then_some((&norm, 1e-5));
                let mut program = Program::new(gpu, 64, width).unwrap();
                let input = gpu.upload("x", &x).unwrap();
                let out = gpu.storage("out", (m * width * 4) as u64).unwrap();
                program.rows(source, norm, &input, width, Some(&out), true);
                let pitch = act_bytes(width);
                let (acts, scales) = program.quantized();
                let bytes =
                    run(gpu, &program, rows(m), &[(&out, m * width * 4), (acts, m * pitch), (scales, m * 4)]);
                let what = format!("{source:?} of width {width}, bias {with_bias}");
                let found = floats(&bytes[..m * width * 4]);
                assert_close(&what, &found, &expected, |i| SMOOTH * (4.0 + expected[i].abs()));
                // What is quantised is what was stored: so the integers are judged from there.
                let (scale, ints) = quantized(&found, m, width);
                let packed = &bytes[m * width * 4..][..m * pitch];
                let found_scale = floats(&bytes[m * width * 4 + m * pitch..]);
                assert_close(&what, &found_scale, &scale, |i| 4.0 * UNIT * scale[i]);
                for row in 0..m {
                    for j in 0..pitch {
                        let int = packed[row * pitch + j].cast_signed();
                        if j >= width {
                            assert_eq!(int, 0, "{what}: padding");
                            continue;
                        }
                        let expected = ints[row * width + j];
                        let exact = found[row * width + j] / scale[row];
                        let tie = (exact.fract().abs() - 0.5).abs() < 1e-4;
                        let good = int == expected || (tie && (int - expected).abs() == 1);
                        assert!(good, "{what}: {exact} became {int}, expected {expected}");
                    }
                }
            }
        }
    });
}

#[test]
fn rows_that_are_not_finite_get_the_scale_nan() {
    on_gpus(|gpu| {
        let width = 68;
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 37, 67] {
                let mut x = vec![1.0; 2 * width];
                x[at] = bad;
                let mut program = Program::new(gpu, 64, width).unwrap();
                let input = gpu.upload("x", &x).unwrap();
                program.rows(RowSource::Plain, None, &input, width, None, true);
                let (_, scales) = program.quantized();
                let scales = floats(&run(gpu, &program, rows(2), &[(scales, 8)]));
                assert!(scales[0].is_nan() && scales[1] == 1.0 / 127.0, "{bad} at {at}: {scales:?}");
            }
        }
    });
}

#[test]
fn attention_agrees_with_the_oracle() {
    on_gpus(|gpu| {
        let mut random = Random::new(4);
        let kernels = Kernels::scalar();
        // Texts of (tokens, keys) in one batch; heads; width of a head; reach.
        type Case<'a> = (&'a [(usize, usize)], usize, usize, Option<usize>);
        let cases: &[Case<'_>] = &[
            (&[(1, 1)], 1, 8, None),
            (&[(2, 2), (1, 1), (31, 31)], 2, 16, None),
            (&[(32, 32), (33, 33)], 3, 32, Some(1)),
            (&[(65, 65), (5, 3)], 2, 24, Some(8)),
            (&[(100, 100)], 2, 64, Some(16)),
            (&[(130, 130)], 1, 64, None),
            // Tokens that cannot be attended to; the last of the second case see no key at all.
            (&[(20, 12), (40, 10)], 2, 16, None),
            (&[(70, 10)], 2, 16, Some(4)),
            (&[(40, 40)], 1, 256, Some(3)),
        ];
        for (case, &(texts, n_heads, head_dim, reach)) in cases.iter().enumerate() {
            let width = n_heads * head_dim;
            let n: usize = texts.iter().map(|(tokens, _)| tokens).sum();
            let sharp = if case % 2 == 0 { 1.0 } else { 4.0 };
            let qkv = random.normals(n * 3 * width, sharp);
            let (mut expected, mut blocks) = (Vec::new(), Vec::new());
            let mut first = 0;
            for &(n_tokens, n_keys) in texts {
                let shape = shirube_kernels::AttentionShape { n_tokens, n_keys, n_heads, head_dim, reach };
                let mut out = vec![0.0; n_tokens * width];
                let rows = &qkv[first * 3 * width..][..n_tokens * 3 * width];
                kernels.attention(rows, shape, &mut Vec::new(), &mut out).unwrap();
                expected.extend(out);
                for start in (first..first + n_tokens).step_by(32) {
                    blocks.push([start as u32, first as u32, n_tokens as u32, n_keys as u32]);
                }
                first += n_tokens;
            }
            let mut program = Program::new(gpu, 64, 16).unwrap();
            let (input, blocks_in) =
                (gpu.upload("qkv", &qkv).unwrap(), gpu.upload("blocks", &blocks).unwrap());
            let rope = gpu.storage("none", 16).unwrap();
            let out = gpu.storage("out", (n * width * 4) as u64).unwrap();
            let shape = AttentionShape {
                width4: width as u32 / 4,
                reach: reach.map_or(u32::MAX, |r| r as u32),
                scale: 1.0 / (head_dim as f32).sqrt(),
                unused: 0,
            };
            let grid = Grid::Attention { n_heads: n_heads as u32 };
            let spec = shaders::attention(head_dim, false);
            program.step(&spec, &shape, &[&input, &blocks_in, &rope, &out], grid);
            let counts = Counts { n_rows: n as u32, n_blocks: blocks.len() as u32, n_kept: 0 };
            let found = floats(&run(gpu, &program, counts, &[(&out, n * width * 4)]));
            // The softmax turns an error of its input into a relative one of its output; WGSL's exp may be off by more units for larger inputs.
            let logits = 16.0 * sharp * sharp * (head_dim as f32).sqrt();
            let exact = 4.0 * sharp * (SMOOTH + 4.0 * UNIT * (logits * head_dim as f32 + n as f32));
            // A rounded key moves its logit by about a unit of it, a rounded value the output by one.
            let typical = sharp * sharp * (1.0 + (head_dim as f32).sqrt());
            let bound = exact + 4.0 * sharp * half_unit(gpu) * (1.0 + typical);
            assert_close(&format!("attention case {case}"), &found, &expected, |_| bound);
        }
    });
}
