// Σ of four products of int8 pairs packed in two words, for browsers without the language feature packed_4x8_integer_dot_product.
// With the feature the host puts `dot4I8Packed` in its place. Both are exact.
fn dot4(a: u32, b: u32) -> i32 {
  let x = bitcast<vec4<i32>>(vec4<u32>(a << 24u, a << 16u, a << 8u, a)) >> vec4<u32>(24u);
  let y = bitcast<vec4<i32>>(vec4<u32>(b << 24u, b << 16u, b << 8u, b)) >> vec4<u32>(24u);
  return x.x * y.x + x.y * y.y + x.z * y.z + x.w * y.w;
}
