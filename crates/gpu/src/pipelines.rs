//! Which kernels a model and an index need, known before their weights are here.
//!
//! Compiling takes longer than a query, and in browsers the thread that asks for a pipeline's first use waits for it. So a page compiles while the
//! weights download: the lists here follow from the manifest and from the codec's tables, both small, and a test holds them against what loading and
//! searching really ask for.

use crate::device::Gpu;
use crate::encoder::supported;
use crate::shaders::{self, RowSource, Slot, Spec};
use crate::{GpuError, plan, transformer};
use shirube_core::{Architecture, Packing};
use shirube_format::model::{ModelManifest, WeightKind};
use std::collections::BTreeMap;

/// Kernels by their texts; see the module.
#[derive(Clone, Debug, Default)]
pub struct KernelList {
    specs: Vec<Spec>,
}

/// A kernel as a WebGPU pipeline needs it.
#[derive(Clone, Debug)]
pub struct KernelText {
    /// Name of its file.
    pub name: &'static str,
    /// WGSL; the entry point is `main`.
    pub code: String,
    /// Types of the buffers of group 0, in order, as WebGPU names them: `uniform`, `read-only-storage` or `storage`.
    pub bindings: Vec<&'static str>,
}

impl KernelList {
    /// What queries need of a model with `manifest` on `gpu`.
    ///
    /// # Errors
    /// [`GpuError::Unsupported`] for models that these kernels do not run.
    pub fn of_encoder(gpu: &Gpu, manifest: &ModelManifest) -> Result<Self, GpuError> {
        supported(manifest)?;
        let row_bytes = transformer::row_bytes(&manifest.encoder, &manifest.projection);
        // Programs for queries: the one that is always there, and one for queries longer than that.
        let longest = manifest.query.max_length.min(manifest.encoder.max_positions);
        let capacities = [1, longest]
            .into_iter()
            .filter_map(|n_rows| plan::capacity(n_rows, row_bytes, gpu.info().binding_bytes));
        let mut list = Self::default();
        for capacity in capacities {
            list.encoder(manifest, capacity);
        }
        Ok(list)
    }

    /// What scoring an index of this codec needs.
    pub fn of_index(dim: usize, packing: Packing, add_centroid: bool) -> Self {
        let pitch = packing.row_bytes(dim).next_multiple_of(4);
        Self {
            specs: vec![
                shaders::rows(RowSource::Plain, false, false, true),
                shaders::gemm_f32(),
                shaders::maxsim(dim / 4, packing, pitch / 4, add_centroid),
            ],
        }
    }

    /// Both lists.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.specs.extend(other.specs);
        self
    }

    /// Each kernel once that `gpu` has not compiled yet.
    pub fn texts(&self, gpu: &Gpu) -> Vec<KernelText> {
        let by_text: BTreeMap<String, &Spec> = self.specs.iter().map(|spec| (gpu.text(spec), spec)).collect();
        by_text
            .into_iter()
            .filter(|(code, _)| !gpu.has_kernel(code))
            .map(|(code, spec)| {
                let bindings = spec.source.slots.iter().map(|slot| match slot {
                    Slot::Uniform => "uniform",
                    Slot::Read => "read-only-storage",
                    Slot::Write => "storage",
                });
                KernelText { name: spec.source.name, code, bindings: bindings.collect() }
            })
            .collect()
    }

    pub(crate) fn specs(&self) -> &[Spec] {
        &self.specs
    }

    /// The steps of `transformer` and `encoder` for a program of `capacity` rows, without their buffers.
    fn encoder(&mut self, manifest: &ModelManifest, capacity: usize) {
        let config = &manifest.encoder;
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let table_int8 = manifest.quantization.embeddings != WeightKind::F32;
        // 4-bit weights are int8 on the device.
        let int8 = manifest.quantization.linear != WeightKind::F32;
        let modern = config.architecture == Architecture::ModernBert;
        let bias = !modern;
        let mut add = |spec| self.specs.push(spec);
        let product = |n| {
            if int8 { shaders::gemm_i8(plan::gemm_columns(capacity, n)) } else { shaders::gemm_f32() }
        };
        let projects_int8 = int8 && !manifest.projection.dense.is_empty();
        add(shaders::embed(table_int8, !modern));
        let first_int8 = if config.n_layers > 0 { int8 } else { !modern && projects_int8 };
        add(shaders::rows(RowSource::Norm, bias, true, first_int8));
        for i in 0..config.n_layers {
            if modern && i > 0 {
                add(shaders::rows(RowSource::Norm, false, !int8, int8));
            }
            add(product(3 * hidden));
            add(shaders::attention(config.head_dim(), modern));
            if int8 {
                add(shaders::rows(RowSource::Plain, false, false, true));
            }
            add(product(hidden));
            // BERT's norms stand on the stream, which the next product adds to.
            add(shaders::rows(RowSource::Norm, bias, !modern || !int8, int8));
            add(product(if modern { 2 * inner } else { inner }));
            let source = if modern { RowSource::GeGlu } else { RowSource::Gelu };
            add(shaders::rows(source, false, !int8, int8));
            if !modern {
                let next_int8 = if i + 1 < config.n_layers { int8 } else { projects_int8 };
                add(shaders::rows(RowSource::Norm, true, true, next_int8));
            }
        }
        if modern {
            add(shaders::rows(RowSource::Norm, false, true, projects_int8));
        }
        for (i, layer) in manifest.projection.dense.iter().enumerate() {
            let same = layer.out_features == layer.in_features;
            if i > 0 && int8 {
                add(shaders::rows(RowSource::Plain, false, false, true));
            }
            if layer.residual && same {
                add(shaders::rows(RowSource::Plain, false, true, false));
            }
            add(product(layer.out_features));
        }
        add(shaders::finish(manifest.projection.query_weight));
    }
}
