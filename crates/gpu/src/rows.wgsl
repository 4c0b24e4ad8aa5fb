// What stands between two products, row by row: v = source(x), stored as f32 and quantised to int8.
//
//   SOURCE 0  v = x
//   SOURCE 1  v = (x - mean) / sqrt(variance + eps) * weight (+ bias)        layer norm
//   SOURCE 2  v = gelu(x[..width]) * x[width..]                              GeGLU
//   SOURCE 3  v = gelu(x)
//   int = round(v * 127 / max |v|), ties to even; scale = max |v| / 127; 0 for a row of nearly nothing, NaN for a row that is not finite
//
// x      [n_rows, width / 4], GeGLU [n_rows, 2 width / 4]
// weight, bias [width / 4], norms only
// out    [n_rows, width / 4], with STORE
// acts   [n_rows, pitch / 4] words of four int8, columns from width on are 0, with QUANTIZE
// scales [n_rows] f32 as bits, with QUANTIZE
//
// One workgroup of 64 a row. Sums are 64 partial sums, joined as reduce.wgsl or reduce_subgroups.wgsl says.
// The row is read again for each pass (it stays in the first cache) and GELU computed twice; a row kept in workgroup memory would bound
// its width. The largest magnitude is compared as bits: ordered like the numbers, and NaN cannot get lost.
// Prelude: SOURCE, BIAS, STORE, QUANTIZE, total, top.

struct Rows { width4: u32, pitch4: u32, eps: f32, n_rows: u32 }
struct Batch { n_rows: u32, n_kept: u32, weigh: u32, unused: u32 }

@group(0) @binding(0) var<uniform> shape: Rows;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> acts: array<u32>;
@group(0) @binding(7) var<storage, read_write> scales: array<u32>;

const NOT_FINITE: u32 = 0x7f800000u;
// Below this magnitude 127 / max would overflow.
const SMALLEST_MAX: f32 = 1e-30;

// x Φ(x), with a rational approximation of Φ on [-5.515, 5.515], 7.5e-9 from it before rounding; the SIMD kernels use the same.
fn gelu(v: vec4<f32>) -> vec4<f32> {
  let x = clamp(v, vec4<f32>(-5.515), vec4<f32>(5.515));
  let t = x * x;
  var p = vec4<f32>(2.2656234e-8);
  p = p * t + 6.351622e-6;
  p = p * t + 1.6952916e-4;
  p = p * t + 4.681427e-3;
  p = p * t + 3.3927027e-2;
  p = p * t + 0.39894223;
  var q = vec4<f32>(1.1947559e-6);
  q = q * t + 7.384561e-5;
  q = q * t + 1.8884351e-3;
  q = q * t + 2.8687432e-2;
  q = q * t + 0.25170833;
  q = q * t + 1.0;
  return v * (0.5 + x * p / q);
}

fn value(row: u32, j: u32, mean: f32, inverse: f32) -> vec4<f32> {
  if (SOURCE == 1u) {
    var v = (x[row * shape.width4 + j] - mean) * inverse * weight[j];
    if (BIAS) { v += bias[j]; }
    return v;
  }
  if (SOURCE == 2u) {
    let at = row * 2u * shape.width4 + j;
    return gelu(x[at]) * x[at + shape.width4];
  }
  if (SOURCE == 3u) { return gelu(x[row * shape.width4 + j]); }
  return x[row * shape.width4 + j];
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group.x;
  let width = f32(shape.width4 * 4u);
  var mean = 0.0;
  var inverse = 1.0;
  if (SOURCE == 1u) {
    var sum = vec4<f32>();
    for (var j = lane; j < shape.width4; j += 64u) { sum += x[row * shape.width4 + j]; }
    mean = total(0u, lane, sum.x + sum.y + sum.z + sum.w) / width;
    var square = vec4<f32>();
    for (var j = lane; j < shape.width4; j += 64u) {
      let d = x[row * shape.width4 + j] - mean;
      square += d * d;
    }
    inverse = 1.0 / sqrt(total(1u, lane, square.x + square.y + square.z + square.w) / width + shape.eps);
  }
  var most = vec4<u32>();
  for (var j = lane; j < shape.width4; j += 64u) {
    let v = value(row, j, mean, inverse);
    if (STORE) { out[row * shape.width4 + j] = v; }
    if (QUANTIZE) { most = max(most, bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu)); }
  }
  if (QUANTIZE) {
    let largest = top(lane, max(max(most.x, most.y), max(most.z, most.w)));
    let finite = largest < NOT_FINITE;
    let magnitude = bitcast<f32>(select(0u, largest, finite));
    let usable = magnitude >= SMALLEST_MAX;
    let factor = select(0.0, 127.0 / max(magnitude, SMALLEST_MAX), usable);
    if (lane == 0u) {
      let scale = select(0.0, magnitude / 127.0, usable);
      // A NaN made of bits: arithmetic is allowed to assume that there are none.
      scales[row] = select(0x7fc00000u, bitcast<u32>(scale), finite);
    }
    for (var j = lane; j < shape.pitch4; j += 64u) {
      var packed = 0u;
      if (j < shape.width4 && finite) {
        let ints = bitcast<vec4<u32>>(vec4<i32>(round(value(row, j, mean, inverse) * factor))) & vec4<u32>(255u);
        packed = ints.x | (ints.y << 8u) | (ints.z << 16u) | (ints.w << 24u);
      }
      acts[row * shape.pitch4 + j] = packed;
    }
  }
}
