// Σ and maximum over a workgroup of 64, the same for every invocation. For devices without subgroups: every invocation adds all parts in one order,
// with one barrier, where a tree takes six.
//
// parts [2, 64]: two sums can be under way without a barrier between them; tops [64]

var<workgroup> parts: array<f32, 128>;
var<workgroup> tops: array<u32, 64>;

fn total(slot: u32, lane: u32, part: f32) -> f32 {
  parts[64u * slot + lane] = part;
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < 64u; i++) { sum += parts[64u * slot + i]; }
  return sum;
}

fn top(lane: u32, part: u32) -> u32 {
  tops[lane] = part;
  workgroupBarrier();
  var most = 0u;
  for (var i = 0u; i < 64u; i++) { most = max(most, tops[i]); }
  return most;
}
