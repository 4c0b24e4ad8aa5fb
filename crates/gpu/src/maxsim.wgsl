// score(document) = Σ_i max_{t in document} similarity(i, t)
// similarity(i, t) = inverse_norm[t] * (centroid_scores[code[t]][i] + step * query_scale[i] * Σ_d query_int[i][d] * table_int[level[t][d]])
//
// residuals       [n_tokens, PITCH4] packed levels
// tokens          [n_tokens] x: centroid code, y: inverse norm as bits
// offsets         [n_documents + 1] tokens before a document, within this piece of the index
// query_ints      [n_query, query_pitch] words of four int8
// query_scales    [n_query] f32 as bits
// centroid_scores [n_centroids, stride]
// bytes           [256, 2] words of four int8: the VALUES table values that a byte of residual stands for
// codebooks       [dim, 64] words of four int8: what each of 256 codewords stands for in a dimension; read where VALUES is 1
// scores          [n_all_documents]; this piece writes those from first_document on
//
// One workgroup of 64 for a document. 16 tokens at a time are decoded into workgroup memory as int8 (4 * 16 * dim bytes at most), once for all
// query tokens; an invocation holds one query token and every `parts`-th document token, so that short queries leave nobody idle. The
// sum of products is exact; maxima start at the lowest finite f32 and padding never takes part: behind a row's last value stands whatever
// comes next, and meets zeros of the query. The table is read by whole bytes, as the CPU's kernels do. Prelude: DIM4 (dim / 4), PITCH4 (words of a row),
// VALUES (2, 4, 5 or 8 a byte; 1 for codewords), CODEWORDS (bytes of a row that are codewords), CENTROIDS (false for codecs that do not add the centroid), dot4.

struct Maxsim {
  n_query: u32, stride: u32, query_pitch: u32, columns: u32,
  n_documents: u32, first_document: u32, step: f32, unused: u32,
}

@group(0) @binding(0) var<uniform> shape: Maxsim;
@group(0) @binding(1) var<uniform> bytes: array<vec4<u32>, 128>;
@group(0) @binding(2) var<storage, read> residuals: array<u32>;
@group(0) @binding(3) var<storage, read> tokens: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read> offsets: array<u32>;
@group(0) @binding(5) var<storage, read> query_ints: array<u32>;
@group(0) @binding(6) var<storage, read> query_scales: array<u32>;
@group(0) @binding(7) var<storage, read> centroid_scores: array<f32>;
@group(0) @binding(8) var<storage, read> codebooks: array<u32>;
@group(0) @binding(9) var<storage, read_write> scores: array<f32>;

const TILE: u32 = 16u;
const LOWEST: f32 = -0x1.fffffep+127f;

var<workgroup> table: array<u32, 512>;
var<workgroup> decoded: array<u32, TILE * DIM4>;
var<workgroup> best: array<f32, 64>;

fn byte(token: u32, i: u32) -> u32 {
  return (residuals[token * PITCH4 + i / 4u] >> (8u * (i % 4u))) & 255u;
}

// Values 4 w to 4 w + 3 of a token.
fn decode(token: u32, w: u32) -> u32 {
  if (VALUES == 2u) { return table[2u * byte(token, 2u * w)] | (table[2u * byte(token, 2u * w + 1u)] << 16u); }
  if (VALUES == 4u) { return table[2u * byte(token, w)]; }
  if (VALUES == 8u) { return table[2u * byte(token, w / 2u) + w % 2u]; }
  var word = 0u;
  if (VALUES == 1u) {
    for (var j = 0u; j < 4u; j++) {
      let d = 4u * w + j;
      // Codeword b stands for the dimensions from b * dim / CODEWORDS on.
      let code = byte(token, ((d + 1u) * CODEWORDS - 1u) / (4u * DIM4));
      word |= ((codebooks[64u * d + code / 4u] >> (8u * (code % 4u))) & 255u) << (8u * j);
    }
    return word;
  }
  for (var j = 0u; j < 4u; j++) {
    let d = 4u * w + j;
    let place = d % VALUES;
    let value = (table[2u * byte(token, d / VALUES) + place / 4u] >> (8u * (place % 4u))) & 255u;
    word |= value << (8u * j);
  }
  return word;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  for (var i = lane; i < 512u; i += 64u) { table[i] = bytes[i / 4u][i % 4u]; }
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
      for (var at = lane; at < here * DIM4; at += 64u) {
        decoded[at] = decode(tile + at / DIM4, at % DIM4);
      }
      workgroupBarrier();
      for (var t = part; t < here; t += parts) {
        var product = 0;
        for (var d = 0u; d < DIM4; d++) { product += dot4(decoded[t * DIM4 + d], query[d]); }
        let token = tokens[tile + t];
        var base = 0.0;
        if (CENTROIDS) { base = centroid_scores[token.x * shape.stride + i]; }
        let similarity = bitcast<f32>(token.y) * (base + factor * f32(product));
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
