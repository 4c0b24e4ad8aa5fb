//! The steps of a forward pass: kernels with their buffers bound, made once for a capacity and run for every batch that fits.

use crate::GpuError;
use crate::device::{Buffer, Gpu, Kernel};
use crate::plan::{Counts, Grid};
use crate::shaders::{self, RowSource, Spec};
use crate::weights::{Linear, Matrix, Norm, act_bytes};
use bytemuck::{Pod, Zeroable};
use std::rc::Rc;

/// `Batch` of the shaders.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub(crate) struct Batch {
    pub(crate) n_rows: u32,
    pub(crate) n_kept: u32,
    pub(crate) weigh: u32,
    pub(crate) unused: u32,
}

/// `Rows` of `rows.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub(crate) struct RowShape {
    pub(crate) width4: u32,
    pub(crate) pitch4: u32,
    pub(crate) eps: f32,
    pub(crate) unused: u32,
}

/// `Gemm` of `gemm_i8.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
struct GemmI8 {
    k16: u32,
    n: u32,
    n_padded: u32,
    flags: u32,
}

/// `Gemm` of `gemm_f32.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub(crate) struct GemmF32 {
    pub(crate) m: u32,
    pub(crate) n: u32,
    pub(crate) k4: u32,
    pub(crate) stride4: u32,
    pub(crate) flags: u32,
    pub(crate) unused: [u32; 3],
}

/// `Attention` of `attention.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub(crate) struct AttentionShape {
    pub(crate) width4: u32,
    pub(crate) reach: u32,
    pub(crate) scale: f32,
    pub(crate) unused: u32,
}

// WebGPU wants uniforms whose size is a multiple of 16.
const _: () = assert!(size_of::<Batch>() == 16 && size_of::<RowShape>() == 16);
const _: () = assert!(size_of::<GemmI8>() == 16 && size_of::<GemmF32>() == 32);
const _: () = assert!(size_of::<AttentionShape>() == 16);

const ADD: u32 = 1;
const WITH_BIAS: u32 = 2;

struct Step {
    kernel: Rc<Kernel>,
    bindings: wgpu::BindGroup,
    grid: Grid,
}

/// Steps in order, and the buffers that only they need.
pub(crate) struct Program {
    gpu: Gpu,
    steps: Vec<Step>,
    batch: Rc<Buffer>,
    /// Quantised activations and their scales.
    acts: Buffer,
    scales: Buffer,
    /// What a kernel binds where its prelude says that it neither reads nor writes there. Writable ones must differ within a dispatch.
    unread: Buffer,
    unwritten: [Buffer; 2],
    uniforms: Vec<Buffer>,
    capacity: usize,
}

impl core::fmt::Debug for Program {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Program({} steps for {} rows)", self.steps.len(), self.capacity)
    }
}

impl Program {
    /// No steps yet, for batches of at most `capacity` rows whose widest quantised row has `widest` values.
    pub(crate) fn new(gpu: &Gpu, capacity: usize, widest: usize) -> Result<Self, GpuError> {
        let batch = Rc::new(gpu.uniform(&Batch::default()));
        Ok(Self {
            gpu: gpu.clone(),
            steps: Vec::new(),
            batch,
            acts: gpu.storage("quantised activations", (capacity * act_bytes(widest)) as u64)?,
            scales: gpu.storage("activation scales", capacity as u64 * 4)?,
            unread: gpu.storage("nothing", 16)?,
            unwritten: [gpu.storage("nothing", 16)?, gpu.storage("nothing", 16)?],
            uniforms: Vec::new(),
            capacity,
        })
    }

    pub(crate) fn batch(&self) -> &Rc<Buffer> {
        &self.batch
    }

    /// Quantised activations of the last quantising step, with their scales.
    #[cfg(test)]
    pub(crate) fn quantized(&self) -> (&Buffer, &Buffer) {
        (&self.acts, &self.scales)
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Dispatches of one run.
    pub(crate) fn n_steps(&self) -> usize {
        self.steps.len()
    }

    pub(crate) fn run(&self, pass: &mut wgpu::ComputePass<'_>, counts: Counts) {
        for step in &self.steps {
            let [x, y] = step.grid.workgroups(counts);
            pass.set_pipeline(&step.kernel.pipeline);
            pass.set_bind_group(0, &step.bindings, &[]);
            pass.dispatch_workgroups(x, y, 1);
        }
    }

    /// Adds a step with uniform `shape` at binding 0; `buffers` are the rest.
    pub(crate) fn step<T: Pod>(&mut self, spec: &Spec, shape: &T, buffers: &[&Buffer], grid: Grid) {
        let kernel = self.gpu.kernel(spec);
        let uniform = self.gpu.uniform(shape);
        let all: Vec<&Buffer> = core::iter::once(&uniform).chain(buffers.iter().copied()).collect();
        let bindings = self.gpu.bind(&kernel, &all);
        self.steps.push(Step { kernel, bindings, grid });
        self.uniforms.push(uniform);
    }

    /// `source(x)` of rows of `width` values: stored in `store`, and quantised for an int8 product if `quantize`.
    pub(crate) fn rows(
        &mut self,
        source: RowSource,
        norm: Option<(&Norm, f32)>,
        x: &Buffer,
        width: usize,
        store: Option<&Buffer>,
        quantize: bool,
    ) {
        let bias = norm.and_then(|(norm, _)| norm.bias.as_ref());
        let spec = shaders::rows(source, bias.is_some(), store.is_some(), quantize);
        let shape = RowShape {
            width4: width as u32 / 4,
            pitch4: act_bytes(width) as u32 / 4,
            eps: norm.map_or(0.0, |(_, eps)| eps),
            unused: 0,
        };
        let kernel = self.gpu.kernel(&spec);
        let uniform = self.gpu.uniform(&shape);
        let bindings = self.gpu.bind(
            &kernel,
            &[
                &uniform,
                &self.batch,
                x,
                norm.map_or(&self.unread, |(norm, _)| &norm.weight),
                bias.unwrap_or(&self.unread),
                store.unwrap_or(&self.unwritten[0]),
                if quantize { &self.acts } else { &self.unwritten[1] },
                // Without QUANTIZE nothing is written there.
                &self.scales,
            ],
        );
        self.steps.push(Step { kernel, bindings, grid: Grid::Rows });
        self.uniforms.push(uniform);
    }

    /// `out [n_rows, n] = product (+ bias) (+ out)`, of the quantised rows or of the f32 rows `x`.
    pub(crate) fn linear(&mut self, linear: &Linear, x: &Buffer, add: bool, out: &Buffer) {
        let n = linear.n as u32;
        let flags = (u32::from(add) * ADD) | (u32::from(linear.bias.is_some()) * WITH_BIAS);
        let (spec, uniform, grid) = match &linear.matrix {
            Matrix::Int8 { n_padded, .. } => {
                let columns = crate::plan::gemm_columns(self.capacity, linear.n);
                let shape =
                    GemmI8 { k16: act_bytes(linear.k) as u32 / 16, n, n_padded: *n_padded as u32, flags };
                (shaders::gemm_i8(columns), self.gpu.uniform(&shape), Grid::GemmI8 { n, columns })
            }
            Matrix::F32(_) => {
                let k4 = linear.k as u32 / 4;
                let shape = GemmF32 { m: 0, n, k4, stride4: n / 4, flags, unused: [0; 3] };
                (shaders::gemm_f32(), self.gpu.uniform(&shape), Grid::GemmF32 { n })
            }
        };
        let kernel = self.gpu.kernel(&spec);
        let bias = linear.bias.as_ref().unwrap_or(&self.unread);
        let bindings = match &linear.matrix {
            Matrix::Int8 { weights, scale, .. } => self
                .gpu
                .bind(&kernel, &[&uniform, &self.batch, &self.acts, &self.scales, weights, scale, bias, out]),
            Matrix::F32(weights) => self.gpu.bind(&kernel, &[&uniform, &self.batch, x, weights, bias, out]),
        };
        self.steps.push(Step { kernel, bindings, grid });
        self.uniforms.push(uniform);
    }
}
