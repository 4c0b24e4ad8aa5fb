// out[m][n] = (Σ_k a[m][k] w[n][k]) * (a_scale[m] * w_scale[n]) (+ bias[n]) (+ out[m][n]); the sum is exact.
//
// a       [n_rows, k16] vectors of sixteen int8
// a_scale [n_rows] f32 as bits
// w       [k16, n_padded] vectors of sixteen int8: neighbouring invocations read neighbouring vectors
// w_scale, bias [n_padded]
// out     [n_rows, n]
//
// A workgroup of 16 x 4 invocations, each 4 rows by TN columns that lie 16 apart. No workgroup memory: a model's matrices fit the cache,
// rows are read by 16 invocations at once, and on software adapters a tile in workgroup memory was 2 to 3 times slower.
// Prelude: TN (1, 2 or 4: few columns an invocation give small products more workgroups), dot4.

struct Gemm { k: u32, n: u32, n_padded: u32, flags: u32 }
struct Batch { n_rows: u32, n_kept: u32, weigh: u32, unused: u32 }

@group(0) @binding(0) var<uniform> shape: Gemm;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> a: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> a_scale: array<u32>;
@group(0) @binding(4) var<storage, read> w: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> w_scale: array<f32>;
@group(0) @binding(6) var<storage, read> bias: array<f32>;
@group(0) @binding(7) var<storage, read_write> out: array<f32>;

const ADD: u32 = 1u;
const WITH_BIAS: u32 = 2u;

fn dot16(x: vec4<u32>, y: vec4<u32>) -> i32 {
  return dot4(x.x, y.x) + dot4(x.y, y.y) + dot4(x.z, y.z) + dot4(x.w, y.w);
}

@compute @workgroup_size(16, 4)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
  let row = (group.y * 4u + lane.y) * 4u;
  let column = group.x * 16u * TN + lane.x;
  if (row >= batch.n_rows || column >= shape.n) { return; }
  let last = batch.n_rows - 1u;
  let a0 = row * shape.k;
  let a1 = min(row + 1u, last) * shape.k;
  let a2 = min(row + 2u, last) * shape.k;
  let a3 = min(row + 3u, last) * shape.k;
  var sums: array<vec4<i32>, TN>;
  for (var k = 0u; k < shape.k; k++) {
    let x0 = a[a0 + k];
    let x1 = a[a1 + k];
    let x2 = a[a2 + k];
    let x3 = a[a3 + k];
    for (var i = 0u; i < TN; i++) {
      let y = w[k * shape.n_padded + column + 16u * i];
      sums[i] += vec4<i32>(dot16(x0, y), dot16(x1, y), dot16(x2, y), dot16(x3, y));
    }
  }
  for (var i = 0u; i < TN; i++) {
    let n = column + 16u * i;
    if (n < shape.n) {
      for (var r = 0u; r < 4u; r++) {
        let m = row + r;
        if (m < batch.n_rows) {
          var value = f32(sums[i][r]) * (bitcast<f32>(a_scale[m]) * w_scale[n]);
          if ((shape.flags & WITH_BIAS) != 0u) { value += bias[n]; }
          if ((shape.flags & ADD) != 0u) { value += out[m * shape.n + n]; }
          out[m * shape.n + n] = value;
        }
      }
    }
  }
}
