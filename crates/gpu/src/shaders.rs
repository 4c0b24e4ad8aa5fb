//! The WGSL texts and what is put in front of them.
//!
//! A kernel is one text; what varies stands in a prelude of constants (widths that size arrays, which branches there are). Not taken: pipeline
//! overrides, which cannot size a private array, and several texts a kernel. A browser caches a compiled pipeline by its text either way.

use core::fmt::Write;
use shirube_core::Packing;

/// What a kernel binds, in order of its bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Uniform,
    Read,
    Write,
}

use Slot::{Read as R, Uniform as U, Write as W};

/// A kernel's text and bindings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
    pub(crate) slots: &'static [Slot],
    uses: Uses,
}

/// What a kernel takes from an extension or, without it, from a baseline that gives the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Uses {
    Nothing,
    /// `dot4`, the product of packed int8.
    Dot,
    /// `total` and `top`, over a workgroup of 64.
    Reduce,
    /// `Half` and `half`, how workgroup memory holds numbers.
    Half,
}

macro_rules! source {
    ($const:ident, $name:literal, $slots:expr, $uses:ident) => {
        pub(crate) const $const: Source = Source {
            name: $name,
            text: include_str!(concat!($name, ".wgsl")),
            slots: &$slots,
            uses: Uses::$uses,
        };
    };
}

source!(EMBED, "embed", [U, U, R, R, R, R, W], Nothing);
source!(ROWS, "rows", [U, U, R, R, R, W, W, W], Reduce);
source!(GEMM_I8, "gemm_i8", [U, U, R, R, R, R, R, W], Dot);
source!(GEMM_F32, "gemm_f32", [U, U, R, R, R, W], Nothing);
source!(ATTENTION, "attention", [U, R, R, R, W], Half);
source!(FINISH, "finish", [U, U, R, R, R, R, W], Reduce);
source!(MAXSIM, "maxsim", [U, U, R, R, R, R, R, R, R, W], Dot);

/// Optional parts of WebGPU. Each speeds one kind of kernel up and has a baseline for devices without it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GpuExtensions {
    /// Language feature `packed_4x8_integer_dot_product`: four products of int8 in one instruction. Exact, as the baseline is.
    pub packed_dot: bool,
    /// Feature `subgroups`: sums and maxima over a workgroup in a few steps instead of 64. Sums run in another order.
    pub subgroups: bool,
    /// Feature `shader-f16`: attention holds keys and values in half the workgroup memory, rounded to 11 bits; sums stay f32.
    pub f16: bool,
}

impl GpuExtensions {
    /// Every one that there is.
    pub const ALL: Self = Self { packed_dot: true, subgroups: true, f16: true };
    /// The baselines.
    pub const NONE: Self = Self { packed_dot: false, subgroups: false, f16: false };

    /// Those that both have.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            packed_dot: self.packed_dot && other.packed_dot,
            subgroups: self.subgroups && other.subgroups,
            f16: self.f16 && other.f16,
        }
    }

    /// Their names: `packed-dot`, `subgroups`, `f16`.
    pub fn names(self) -> Vec<&'static str> {
        let all = [(self.packed_dot, "packed-dot"), (self.subgroups, "subgroups"), (self.f16, "f16")];
        all.into_iter().filter(|(used, _)| *used).map(|(_, name)| name).collect()
    }
}

/// Products of packed int8 by the language feature where there is one.
const DOT_BUILTIN: &str = "fn dot4(a: u32, b: u32) -> i32 { return dot4I8Packed(a, b); }\n";
const DOT_BASELINE: &str = include_str!("dot.wgsl");
const REDUCE_SUBGROUPS: &str = include_str!("reduce_subgroups.wgsl");
const REDUCE_BASELINE: &str = include_str!("reduce.wgsl");
// A number beyond the range of f16 becomes infinite, which the result shows; clamping could hide a NaN.
const HALF_F16: &str = "alias Half = vec4<f16>;\nfn half(v: vec4<f32>) -> Half { return vec4<f16>(v); }\n";
const HALF_BASELINE: &str = "alias Half = vec4<f32>;\nfn half(v: vec4<f32>) -> Half { return v; }\n";

/// A constant of a prelude.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Value {
    Bool(bool),
    U32(u32),
}

/// One kernel with its constants.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) source: Source,
    pub(crate) constants: Vec<(&'static str, Value)>,
}

impl Spec {
    pub(crate) fn new(source: Source, constants: &[(&'static str, Value)]) -> Self {
        Self { source, constants: constants.to_vec() }
    }

    /// The whole text for a device with these extensions.
    pub(crate) fn text(&self, extensions: GpuExtensions) -> String {
        let mut text = String::new();
        // Directives stand first. naga knows subgroups without theirs and refuses it; browsers want it.
        match self.source.uses {
            Uses::Half if extensions.f16 => text.push_str("enable f16;\n"),
            Uses::Reduce if extensions.subgroups && cfg!(target_arch = "wasm32") => {
                text.push_str("enable subgroups;\n");
            }
            _ => {}
        }
        for (name, value) in &self.constants {
            // Writing to a string cannot fail.
            let _ = match value {
                Value::Bool(v) => writeln!(text, "const {name}: bool = {v};"),
                Value::U32(v) => writeln!(text, "const {name}: u32 = {v}u;"),
            };
        }
        text.push_str(match self.source.uses {
            Uses::Nothing => "",
            Uses::Dot if extensions.packed_dot => DOT_BUILTIN,
            Uses::Dot => DOT_BASELINE,
            Uses::Reduce if extensions.subgroups => REDUCE_SUBGROUPS,
            Uses::Reduce => REDUCE_BASELINE,
            Uses::Half if extensions.f16 => HALF_F16,
            Uses::Half => HALF_BASELINE,
        });
        text.push_str(self.source.text);
        text
    }
}

/// Where a row kernel's values come from; `rows.wgsl` has the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowSource {
    Plain = 0,
    Norm = 1,
    GeGlu = 2,
    Gelu = 3,
}

pub(crate) fn embed(int8: bool, positions: bool) -> Spec {
    Spec::new(EMBED, &[("TABLE_I8", Value::Bool(int8)), ("POSITIONS", Value::Bool(positions))])
}

pub(crate) fn rows(source: RowSource, bias: bool, store: bool, quantize: bool) -> Spec {
    Spec::new(
        ROWS,
        &[
            ("SOURCE", Value::U32(source as u32)),
            ("BIAS", Value::Bool(bias)),
            ("STORE", Value::Bool(store)),
            ("QUANTIZE", Value::Bool(quantize)),
        ],
    )
}

pub(crate) fn gemm_i8(columns: u32) -> Spec {
    Spec::new(GEMM_I8, &[("TN", Value::U32(columns))])
}

pub(crate) fn gemm_f32() -> Spec {
    Spec::new(GEMM_F32, &[])
}

/// Keys and values of a tile take at most 8 KiB each (half of that with f16): half of what every WebGPU implementation gives a workgroup.
pub(crate) fn attention(head_dim: usize, rope: bool) -> Spec {
    let tile = (2048 / head_dim).clamp(1, 32);
    Spec::new(
        ATTENTION,
        &[
            ("HEAD4", Value::U32(head_dim as u32 / 4)),
            ("KEY_TILE", Value::U32(tile as u32)),
            ("ROPE", Value::Bool(rope)),
        ],
    )
}

pub(crate) fn finish(query_weight: bool) -> Spec {
    Spec::new(FINISH, &[("WEIGHT", Value::Bool(query_weight))])
}

/// `values` residual values share a byte, a row takes `pitch4` words; `centroids` says whether the codec adds the centroid.
pub(crate) fn maxsim(dim4: usize, packing: Packing, pitch4: usize, centroids: bool) -> Spec {
    Spec::new(
        MAXSIM,
        &[
            ("DIM4", Value::U32(dim4 as u32)),
            ("VALUES", Value::U32(packing.values_per_byte() as u32)),
            ("CODEWORDS", Value::U32(packing.row_bytes(4 * dim4) as u32)),
            ("PITCH4", Value::U32(pitch4 as u32)),
            ("CENTROIDS", Value::Bool(centroids)),
        ],
    )
}

#[cfg(all(test, feature = "native"))]
mod tests {
    use super::*;
    use wgpu::naga;

    /// A sample of every kernel: each branch of each prelude.
    fn all() -> Vec<Spec> {
        let mut specs = vec![gemm_f32(), finish(false), finish(true), maxsim(128, Packing::Bits4, 64, true)];
        specs.extend(Packing::ALL.map(|packing| maxsim(16, packing, 8, packing != Packing::Bits1)));
        specs.push(maxsim(16, Packing::Product { bytes: 7 }, 2, true));
        specs.extend([1, 2, 4].map(gemm_i8));
        for a in [false, true] {
            specs.extend([false, true].map(|b| embed(a, b)));
            specs.extend([8, 32, 64, 256].map(|head_dim| attention(head_dim, a)));
            for (b, c) in [(false, true), (true, false), (true, true)] {
                for source in [RowSource::Plain, RowSource::Norm, RowSource::GeGlu, RowSource::Gelu] {
                    specs.push(rows(source, a, b, c));
                }
            }
        }
        specs
    }

    #[test]
    fn every_shader_parses_and_validates() {
        use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
        for extensions in [
            GpuExtensions::NONE,
            GpuExtensions { packed_dot: true, ..GpuExtensions::NONE },
            GpuExtensions { subgroups: true, ..GpuExtensions::NONE },
            GpuExtensions { f16: true, ..GpuExtensions::NONE },
        ] {
            // What a device without the others has.
            let mut has = Capabilities::empty();
            has.set(Capabilities::SHADER_FLOAT16, extensions.f16);
            has.set(Capabilities::SUBGROUP, extensions.subgroups);
            for spec in all() {
                let text = spec.text(extensions);
                let module = naga::front::wgsl::parse_str(&text)
                    .unwrap_or_else(|e| panic!("{}: {}", spec.source.name, e.emit_to_string(&text)));
                let mut validator = Validator::new(ValidationFlags::all(), has);
                if extensions.subgroups {
                    validator.subgroup_stages(ShaderStages::COMPUTE);
                    validator.subgroup_operations(SubgroupOperationSet::all());
                }
                let info = validator
                    .validate(&module)
                    .unwrap_or_else(|e| panic!("{}: {}", spec.source.name, e.emit_to_string(&text)));
                drop(info);
            }
        }
    }

    #[test]
    fn every_shader_file_is_in_the_list() {
        let named: std::collections::BTreeSet<String> = all()
            .iter()
            .map(|spec| format!("{}.wgsl", spec.source.name))
            .chain(["dot.wgsl", "reduce.wgsl", "reduce_subgroups.wgsl"].map(str::to_owned))
            .collect();
        let found: std::collections::BTreeSet<String> =
            std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name.ends_with(".wgsl"))
                .collect();
        assert_eq!(named, found);
    }

    /// The smallest limits that WebGPU allows (its specification, section 3.6.2).
    #[test]
    fn every_shader_fits_the_default_limits() {
        for spec in all() {
            let storage = spec.source.slots.iter().filter(|s| **s != Slot::Uniform).count();
            assert!(storage <= 8, "{} binds {storage} storage buffers", spec.source.name);
            let text = spec.text(GpuExtensions { packed_dot: true, ..GpuExtensions::NONE });
            let module = naga::front::wgsl::parse_str(&text).unwrap();
            let sizes = naga::proc::Layouter::default();
            let mut layouter = sizes;
            layouter.update(module.to_ctx()).unwrap();
            let shared: u32 = module
                .global_variables
                .iter()
                .filter(|(_, v)| v.space == naga::AddressSpace::WorkGroup)
                .map(|(_, v)| layouter[v.ty].size)
                .sum();
            assert!(shared <= 16_384, "{} takes {shared} bytes of workgroup memory", spec.source.name);
            for (index, slot) in spec.source.slots.iter().enumerate() {
                let found = module.global_variables.iter().find_map(|(_, v)| {
                    let binding = v.binding.as_ref()?;
                    (binding.binding == index as u32).then_some(v.space)
                });
                let fits = match (slot, found) {
                    (Slot::Uniform, Some(naga::AddressSpace::Uniform)) => true,
                    (Slot::Read, Some(naga::AddressSpace::Storage { access })) => {
                        !access.contains(naga::StorageAccess::STORE)
                    }
                    (Slot::Write, Some(naga::AddressSpace::Storage { access })) => {
                        access.contains(naga::StorageAccess::STORE)
                    }
                    _ => false,
                };
                assert!(fits, "{} binding {index} is {found:?}, listed as {slot:?}", spec.source.name);
            }
        }
    }
}
