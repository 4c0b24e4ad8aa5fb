// embeddings[t] = x[kept[t]] / max(|x[kept[t]]|, 1e-12), in queries times softplus(states[kept[t]] · weight + bias)
//
// kept       [n_kept] rows
// x          [n_rows, dim / 4], the projected rows
// states     [n_rows, hidden / 4], the final hidden states
// weight     [hidden / 4]
// embeddings [n_kept, dim / 4]
//
// One workgroup of 64 a kept row; sums as in rows.wgsl. Prelude: WEIGHT (whether the model has a query weight), total.

struct Finish { dim4: u32, hidden4: u32, bias: f32, unused: u32 }
struct Batch { n_rows: u32, n_kept: u32, weigh: u32, unused: u32 }

@group(0) @binding(0) var<uniform> shape: Finish;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> kept: array<u32>;
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> states: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> embeddings: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = kept[group.x];
  var square = 0.0;
  for (var j = lane; j < shape.dim4; j += 64u) {
    let v = x[row * shape.dim4 + j];
    square += dot(v, v);
  }
  var factor = 1.0 / max(sqrt(total(0u, lane, square)), 1e-12);
  if (WEIGHT && batch.weigh != 0u) {
    var product = 0.0;
    for (var j = lane; j < shape.hidden4; j += 64u) { product += dot(states[row * shape.hidden4 + j], weight[j]); }
    let z = total(1u, lane, product) + shape.bias;
    factor *= max(z, 0.0) + log(1.0 + exp(-abs(z)));
  }
  for (var j = lane; j < shape.dim4; j += 64u) {
    embeddings[group.x * shape.dim4 + j] = x[row * shape.dim4 + j] * factor;
  }
}
