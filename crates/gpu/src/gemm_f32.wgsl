// out[m][n] = Σ_k a[m][k] w[n][k] (+ bias[n]) (+ out[m][n]) in f32.
//
// a   [m, k / 4], w [n, k / 4], bias [n / 4]
// out [m, stride / 4], stride a multiple of 4 and at least n; columns from n on are not meaningful
//
// For unquantised models and for the centroid scores of a query. 8 x 8 invocations of 4 x 4 values, no workgroup memory.
// m of 0 in the shape means the rows of the batch.

struct Gemm { m: u32, n: u32, k4: u32, stride4: u32, flags: u32, u0: u32, u1: u32, u2: u32 }
struct Batch { n_rows: u32, n_kept: u32, weigh: u32, unused: u32 }

@group(0) @binding(0) var<uniform> shape: Gemm;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;

const ADD: u32 = 1u;
const WITH_BIAS: u32 = 2u;

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let n_rows = select(batch.n_rows, shape.m, shape.m > 0u);
  let column = id.x;
  let row = id.y * 4u;
  if (column * 4u >= shape.n || row >= n_rows) { return; }
  let n = vec4<u32>(column * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
  let w_at = min(n, vec4<u32>(shape.n - 1u)) * shape.k4;
  let m = vec4<u32>(row) + vec4<u32>(0u, 1u, 2u, 3u);
  let a_at = min(m, vec4<u32>(n_rows - 1u)) * shape.k4;
  var sums: array<vec4<f32>, 4>;
  for (var k = 0u; k < shape.k4; k++) {
    let y0 = w[w_at.x + k];
    let y1 = w[w_at.y + k];
    let y2 = w[w_at.z + k];
    let y3 = w[w_at.w + k];
    for (var r = 0u; r < 4u; r++) {
      let v = a[a_at[r] + k];
      sums[r] += vec4<f32>(dot(v, y0), dot(v, y1), dot(v, y2), dot(v, y3));
    }
  }
  for (var r = 0u; r < 4u; r++) {
    if (row + r < n_rows) {
      let at = (row + r) * shape.stride4 + column;
      var value = sums[r];
      if ((shape.flags & WITH_BIAS) != 0u) { value += bias[column]; }
      if ((shape.flags & ADD) != 0u) { value += out[at]; }
      out[at] = value;
    }
  }
}
