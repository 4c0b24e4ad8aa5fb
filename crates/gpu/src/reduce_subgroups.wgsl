// The functions of reduce.wgsl with subgroups: each subgroup adds up all 64 parts, 64 / size an invocation. Nothing is taken for granted about which
// invocations share a subgroup, how many do, or whether all of a subgroup are active: they number themselves.

var<workgroup> parts: array<f32, 128>;
var<workgroup> tops: array<u32, 64>;

fn total(slot: u32, lane: u32, part: f32) -> f32 {
  parts[64u * slot + lane] = part;
  workgroupBarrier();
  let members = subgroupAdd(1u);
  let first = subgroupExclusiveAdd(1u);
  var sum = 0.0;
  for (var i = first; i < 64u; i += members) { sum += parts[64u * slot + i]; }
  return subgroupAdd(sum);
}

fn top(lane: u32, part: u32) -> u32 {
  tops[lane] = part;
  workgroupBarrier();
  let members = subgroupAdd(1u);
  let first = subgroupExclusiveAdd(1u);
  var most = 0u;
  for (var i = first; i < 64u; i += members) { most = max(most, tops[i]); }
  return subgroupMax(most);
}
