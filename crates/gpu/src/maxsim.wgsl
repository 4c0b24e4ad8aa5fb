// score(document) = Σ_i max_{t in document} similarity(i, t)
// similarity(i, t) = inverse_norm[t] * (centroid_scores[code[t]][i] + step * query_scale[i] * Σ_d query_int[i][d] * table_int[residual[t][d]])
//
// residuals       [n_tokens, WORDS] packed residuals
// tokens          [n_tokens] x: centroid code, y: inverse norm as bits
// offsets         [n_documents + 1] tokens before a document, within this piece of the index
// query_ints      [n_query, query_pitch] words of four int8
// query_scales    [n_query] f32 as bits
// centroid_scores [n_centroids, stride]
// bytes           what a byte of residual decodes to: 8 / NBITS values of int8; for 4 bits two of them in the low half of a word
// scores          [n_all_documents]; this piece writes those from first_document on
//
// One workgroup of 64 for a document. 16 tokens at a time are decoded into workgroup memory as int8 (4 * 16 * dim bytes at most), once for all
// query tokens; an invocation holds one query token and every `parts`-th document token, so that short queries leave nobody idle. The
// sum of products is exact; maxima start at the lowest finite f32 and padding never takes part. The table is read by whole bytes: half as many look-ups as by
// nibbles. Prelude: DIM4 (dim / 4 rounded up to even), NBITS, dot4.

struct Maxsim {
  n_query: u32, stride: u32, query_pitch: u32, columns: u32,
  n_documents: u32, first_document: u32, step: f32, unused: u32,
}

@group(0) @binding(0) var<uniform> shape: Maxsim;
@group(0) @binding(1) var<uniform> bytes: array<vec4<u32>, 64>;
@group(0) @binding(2) var<storage, read> residuals: array<u32>;
@group(0) @binding(3) var<storage, read> tokens: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read> offsets: array<u32>;
@group(0) @binding(5) var<storage, read> query_ints: array<u32>;
@group(0) @binding(6) var<storage, read> query_scales: array<u32>;
@group(0) @binding(7) var<storage, read> centroid_scores: array<f32>;
@group(0) @binding(8) var<storage, read_write> scores: array<f32>;

const TILE: u32 = 16u;
const LOWEST: f32 = -0x1.fffffep+127f;
// Residual words of a token.
const WORDS: u32 = DIM4 * NBITS / 8u;

var<workgroup> table: array<u32, 256>;
var<workgroup> decoded: array<u32, TILE * DIM4>;
var<workgroup> best: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  for (var i = lane; i < 256u; i += 64u) { table[i] = bytes[i / 4u][i % 4u]; }
  let document = group.x + group.y * 32768u;
  var begin = 0u;
  var end = 0u;
  if (document < shape.n_documents) {
    begin = offsets[document];
    end = offsets[document + 1u];
  }
  let columns = shape.columns;
  let parts = 64u / columns;
  let part = lane / columns;
  var sum = 0.0;
  for (var first_query = 0u; first_query < shape.n_query; first_query += columns) {
    let i = min(first_query + lane % columns, shape.n_query - 1u);
    var query: array<u32, DIM4>;
    for (var d = 0u; d < DIM4; d++) { query[d] = query_ints[i * shape.query_pitch + d]; }
    let factor = bitcast<f32>(query_scales[i]) * shape.step;
    var most = LOWEST;
    workgroupBarrier();
    for (var tile = begin; tile < end; tile += TILE) {
      let here = min(TILE, end - tile);
      for (var at = lane; at < here * WORDS; at += 64u) {
        let word = residuals[tile * WORDS + at];
        let a = table[word & 255u];
        let b = table[(word >> 8u) & 255u];
        let c = table[(word >> 16u) & 255u];
        let d = table[word >> 24u];
        if (NBITS == 4u) {
          decoded[at * 2u] = a | (b << 16u);
          decoded[at * 2u + 1u] = c | (d << 16u);
        } else {
          decoded[at * 4u] = a;
          decoded[at * 4u + 1u] = b;
          decoded[at * 4u + 2u] = c;
          decoded[at * 4u + 3u] = d;
        }
      }
      workgroupBarrier();
      for (var t = part; t < here; t += parts) {
        var product = 0;
        for (var d = 0u; d < DIM4; d++) { product += dot4(decoded[t * DIM4 + d], query[d]); }
        let token = tokens[tile + t];
        let similarity = bitcast<f32>(token.y) * (centroid_scores[token.x * shape.stride + i] + factor * f32(product));
        most = max(most, similarity);
      }
      workgroupBarrier();
    }
    best[lane] = most;
    workgroupBarrier();
    if (lane == 0u) {
      for (var q = 0u; q < min(columns, shape.n_query - first_query); q++) {
        var top = LOWEST;
        for (var p = 0u; p < parts; p++) { top = max(top, best[p * columns + q]); }
        sum += top;
      }
    }
    workgroupBarrier();
  }
  if (lane == 0u && document < shape.n_documents) {
    scores[shape.first_document + document] = select(sum, LOWEST, begin == end);
  }
}
