// out_i = Σ_j softmax_j(q_i · k_j / √head_dim) v_j over the keys j that i sees, for one head of one text (Dao et al. 2022, "FlashAttention",
// algorithm 1: a running maximum and sum instead of a row of scores, so that a text's length is not bounded by workgroup memory).
//
// qkv    [n_rows, 3 width / 4]: queries, keys, values, each [n_heads, head_dim]
// blocks [n_blocks] x: first row of the block's 32 queries, y: first row of the text, z: its tokens, w: how many of them can be attended to
// rope   [positions, 2, head_dim / 8] cosines, then sines, with ROPE: (v[i], v[i + h]) -> (v[i] cos - v[i + h] sin, v[i + h] cos + v[i] sin)
// out    [n_rows, width / 4]; zeros for a query that sees no key
//
// One workgroup of 32 invocations for a block and a head, one query each; keys and values come through workgroup memory KEY_TILE at a time,
// 2 * KEY_TILE * head_dim * 4 bytes, at most 16 KiB, or half of that with f16: what is read 32 times takes half the way, sums stay f32. Keys are rotated once for each block of queries; a pass of its own for them would be one more
// dispatch in every layer. Prelude: HEAD4 (head_dim / 4), KEY_TILE, ROPE, Half, half.

struct Attention { width4: u32, reach: u32, scale: f32, unused: u32 }

@group(0) @binding(0) var<uniform> shape: Attention;
@group(0) @binding(1) var<storage, read> qkv: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> blocks: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> rope: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;

// The lowest finite number, nearly.
const LOWEST: f32 = -3.0e38;
const HALF4: u32 = HEAD4 / 2u;

var<workgroup> keys: array<Half, KEY_TILE * HEAD4>;
var<workgroup> values: array<Half, KEY_TILE * HEAD4>;

@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let block = blocks[group.x];
  let head = group.y * HEAD4;
  let first = block.y;
  let n_tokens = block.z;
  let n_keys = block.w;
  let start = block.x - first;
  // The last block of a text may be short: its spare invocations take its last token, and store nothing.
  let i = min(start + lane, n_tokens - 1u);
  let row = (first + i) * 3u * shape.width4 + head;

  var q: array<vec4<f32>, HEAD4>;
  for (var d = 0u; d < HALF4; d++) {
    let low = qkv[row + d];
    let high = qkv[row + HALF4 + d];
    if (ROPE) {
      let c = rope[(i * 2u) * HALF4 + d];
      let s = rope[(i * 2u + 1u) * HALF4 + d];
      q[d] = (low * c - high * s) * shape.scale;
      q[HALF4 + d] = (high * c + low * s) * shape.scale;
    } else {
      q[d] = low * shape.scale;
      q[HALF4 + d] = high * shape.scale;
    }
  }

  // Keys that some query of the block sees.
  let low_key = select(0u, start - min(start, shape.reach), shape.reach < n_tokens);
  let high_key = select(n_keys, min(n_keys, start + 32u + shape.reach), shape.reach < n_tokens);
  var most = LOWEST;
  var total = 0.0;
  var mix: array<vec4<f32>, HEAD4>;
  for (var tile = low_key; tile < high_key; tile += KEY_TILE) {
    let here = min(KEY_TILE, high_key - tile);
    for (var at = lane; at < here * HALF4; at += 32u) {
      let key = tile + at / HALF4;
      let d = at % HALF4;
      let origin = (first + key) * 3u * shape.width4 + head + shape.width4 + d;
      let low = qkv[origin];
      let high = qkv[origin + HALF4];
      let to = (at / HALF4) * HEAD4 + d;
      if (ROPE) {
        let c = rope[(key * 2u) * HALF4 + d];
        let s = rope[(key * 2u + 1u) * HALF4 + d];
        keys[to] = half(low * c - high * s);
        keys[to + HALF4] = half(high * c + low * s);
      } else {
        keys[to] = half(low);
        keys[to + HALF4] = half(high);
      }
      values[to] = half(qkv[origin + shape.width4]);
      values[to + HALF4] = half(qkv[origin + shape.width4 + HALF4]);
    }
    workgroupBarrier();
    var scores: array<f32, KEY_TILE>;
    var tile_most = most;
    for (var k = 0u; k < here; k++) {
      let key = tile + k;
      let distance = max(key, i) - min(key, i);
      var score = LOWEST;
      if (distance <= shape.reach) {
        var sum = vec4<f32>();
        for (var d = 0u; d < HEAD4; d++) { sum += q[d] * vec4<f32>(keys[k * HEAD4 + d]); }
        score = sum.x + sum.y + sum.z + sum.w;
      }
      scores[k] = score;
      tile_most = max(tile_most, score);
    }
    let shrink = exp(most - tile_most);
    total *= shrink;
    for (var d = 0u; d < HEAD4; d++) { mix[d] *= shrink; }
    for (var k = 0u; k < here; k++) {
      let key = tile + k;
      let distance = max(key, i) - min(key, i);
      if (distance <= shape.reach) {
        let p = exp(scores[k] - tile_most);
        total += p;
        for (var d = 0u; d < HEAD4; d++) { mix[d] += p * vec4<f32>(values[k * HEAD4 + d]); }
      }
    }
    most = tile_most;
    workgroupBarrier();
  }
  if (start + lane < n_tokens) {
    let inverse = select(0.0, 1.0 / max(total, 1e-30), total > 0.0);
    for (var d = 0u; d < HEAD4; d++) { out[(first + i) * shape.width4 + head + d] = mix[d] * inverse; }
  }
}
