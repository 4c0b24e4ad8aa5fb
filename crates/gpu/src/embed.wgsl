// out[row] = table[id(row)] * scale[id(row)] (+ positions[position(row)])
//
// tokens    [n_rows] x: id, y: position in its text
// table     TABLE_I8: [n_table, pitch / 4] words of four int8; else [n_table, pitch] f32 as bits. One piece of the whole table: a binding
//           holds 128 MiB, so a table may take several dispatches, each of which writes the rows whose id is in its piece
// scale     [n_table], with TABLE_I8
// positions [max_positions, width / 4], with POSITIONS
// out       [n_rows, width / 4]
//
// One invocation writes four values. Prelude: TABLE_I8, POSITIONS.

struct Embed { first: u32, n_table: u32, pitch: u32, width4: u32 }
struct Batch { n_rows: u32, n_kept: u32, weigh: u32, unused: u32 }

@group(0) @binding(0) var<uniform> shape: Embed;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> tokens: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read> table: array<u32>;
@group(0) @binding(4) var<storage, read> scale: array<f32>;
@group(0) @binding(5) var<storage, read> positions: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let column = id.x;
  let row = id.y;
  if (column >= shape.width4 || row >= batch.n_rows) { return; }
  let token = tokens[row];
  if (token.x < shape.first || token.x - shape.first >= shape.n_table) { return; }
  let at = token.x - shape.first;
  var value: vec4<f32>;
  if (TABLE_I8) {
    let word = table[at * (shape.pitch / 4u) + column];
    let ints = bitcast<vec4<i32>>(vec4<u32>(word << 24u, word << 16u, word << 8u, word)) >> vec4<u32>(24u);
    value = vec4<f32>(ints) * scale[at];
  } else {
    let origin = at * shape.pitch + column * 4u;
    value = vec4<f32>(
      bitcast<f32>(table[origin]), bitcast<f32>(table[origin + 1u]), bitcast<f32>(table[origin + 2u]), bitcast<f32>(table[origin + 3u]));
  }
  if (POSITIONS) {
    value += positions[token.y * shape.width4 + column];
  }
  out[row * shape.width4 + column] = value;
}
