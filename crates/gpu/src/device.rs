//! A device, its pipelines and buffers, and the one way to wait for a result.

use crate::GpuError;
use crate::pipelines::KernelList;
use crate::shaders::{GpuExtensions, Slot, Spec};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

/// What to ask a GPU for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GpuOptions {
    /// Whether an adapter that is a program on the CPU may be used. For tests: it proves results, never speed.
    pub allow_software: bool,
    /// Which extensions may be used where they are there. For tests of the baselines; on the web `subgroups` is used where the page asked for it.
    pub allow: GpuExtensions,
    /// Whether the time on the GPU is measured, where timestamps are available.
    pub timed: bool,
}

impl Default for GpuOptions {
    fn default() -> Self {
        Self { allow_software: false, allow: GpuExtensions::ALL, timed: false }
    }
}

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuInfo {
    /// Name of the adapter, as far as it is told; browsers keep it back.
    pub name: String,
    /// Driver, likewise.
    pub driver: String,
    /// Whether the adapter is a program on the CPU.
    pub software: bool,
    /// The extensions in use.
    pub extensions: GpuExtensions,
    /// Bytes that one binding holds.
    pub binding_bytes: u64,
}

/// A GPU device. Clones are the same device. On the web it must stay in the worker or page that made it.
#[derive(Clone, Debug)]
pub struct Gpu {
    inner: Rc<Inner>,
}

#[derive(Debug)]
struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    info: GpuInfo,
    /// Why the device is gone, once it is.
    lost: Arc<Mutex<Option<String>>>,
    pipelines: RefCell<HashMap<String, Rc<Kernel>>>,
    /// A read-back buffer that nobody uses now.
    spare: RefCell<Option<Buffer>>,
    timer: Option<Timer>,
    n_submissions: Cell<u64>,
}

/// Timestamps of one submission.
#[derive(Debug)]
struct Timer {
    queries: wgpu::QuerySet,
    resolved: Buffer,
    period_ns: f32,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.pipelines.get_mut().clear();
        self.spare.get_mut().take();
        self.device.destroy();
    }
}

/// A buffer that is destroyed when dropped: on the web, dropping alone frees nothing until the garbage collector comes by.
#[derive(Debug)]
pub(crate) struct Buffer(wgpu::Buffer);

impl Drop for Buffer {
    fn drop(&mut self) {
        self.0.destroy();
    }
}

impl core::ops::Deref for Buffer {
    type Target = wgpu::Buffer;

    fn deref(&self) -> &wgpu::Buffer {
        &self.0
    }
}

/// A compiled kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

/// One submission under way: commands are recorded into it, then it is sent and its result awaited.
pub(crate) struct Submission<'a> {
    gpu: &'a Gpu,
    pub(crate) encoder: wgpu::CommandEncoder,
    n_passes: u32,
}

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) gpu_ms: Option<f64>,
}

impl Gpu {
    /// A device of the machine's best adapter.
    ///
    /// # Errors
    /// [`GpuError::NoAdapter`], [`GpuError::Software`], [`GpuError::NoDevice`].
    pub async fn new(options: &GpuOptions) -> Result<Self, GpuError> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let wish = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        let adapter = instance
            .request_adapter(&wish)
            .await
            .map_err(|error| GpuError::NoAdapter { reason: error.to_string() })?;
        let found = adapter.get_info();
        let software = found.device_type == wgpu::DeviceType::Cpu;
        let name = if found.name.is_empty() { "the adapter".to_owned() } else { found.name };
        if software && !options.allow_software {
            return Err(GpuError::Software { name });
        }
        let words = instance.wgsl_language_features();
        let features = adapter.features();
        #[cfg_attr(not(target_arch = "wasm32"), expect(unused_mut, reason = "set once more on the web"))]
        let mut extensions = options.allow.and(GpuExtensions {
            packed_dot: words.contains(wgpu::WgslLanguageFeatures::Packed4x8IntegerDotProduct),
            subgroups: features.contains(wgpu::Features::SUBGROUP),
            f16: features.contains(wgpu::Features::SHADER_F16),
        });
        let timestamps = wgpu::Features::TIMESTAMP_QUERY;
        let timed = options.timed && features.contains(timestamps);
        let mut required_features = wgpu::Features::empty();
        required_features.set(timestamps, timed);
        required_features.set(wgpu::Features::SUBGROUP, extensions.subgroups);
        required_features.set(wgpu::Features::SHADER_F16, extensions.f16);
        // Everything fits the limits that every implementation has; a larger binding only saves cutting an index into pieces.
        let offered = adapter.limits();
        let required_limits = wgpu::Limits {
            max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size.min(1 << 30),
            max_buffer_size: offered.max_buffer_size.min(1 << 30),
            ..wgpu::Limits::default()
        };
        let binding_bytes =
            required_limits.max_storage_buffer_binding_size.min(required_limits.max_buffer_size);
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("shirube"),
                required_features,
                required_limits,
                ..Default::default()
            })
            .await
            .map_err(|error| GpuError::NoDevice { reason: error.to_string() })?;
        // wgpu 30 has no word for this feature on the web: the page adds it to the request, and the device knows.
        #[cfg(target_arch = "wasm32")]
        {
            extensions.subgroups = options.allow.subgroups && web_feature(&device, "subgroups");
        }
        let lost = Arc::new(Mutex::new(None));
        let told = Arc::clone(&lost);
        device.set_device_lost_callback(move |reason, message| {
            let message = if message.is_empty() { format!("{reason:?}") } else { message };
            if let Ok(mut told) = told.lock() {
                told.get_or_insert(message);
            }
        });
        // Errors are asked for with scopes; what escapes them must not end the program, and shows in the self-check.
        device.on_uncaptured_error(Arc::new(|_| {}));
        let timer = timed.then(|| Timer {
            queries: device.create_query_set(&wgpu::QuerySetDescriptor {
                label: None,
                ty: wgpu::QueryType::Timestamp,
                count: 2 * MAX_TIMED_PASSES,
            }),
            resolved: Buffer(device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: TIMESTAMP_BYTES,
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            })),
            period_ns: queue.get_timestamp_period(),
        });
        let info = GpuInfo { name, driver: found.driver, software, extensions, binding_bytes };
        Ok(Self {
            inner: Rc::new(Inner {
                device,
                queue,
                info,
                lost,
                pipelines: RefCell::default(),
                spare: RefCell::default(),
                timer,
                n_submissions: Cell::new(0),
            }),
        })
    }

    /// What this device is.
    pub fn info(&self) -> &GpuInfo {
        &self.inner.info
    }

    /// Why the device is gone, once it is. All work on it fails from then on; ask for a new one.
    pub fn lost(&self) -> Option<String> {
        self.inner.lost.lock().ok().and_then(|lost| lost.clone())
    }

    /// Submissions so far: one a query.
    pub fn n_submissions(&self) -> u64 {
        self.inner.n_submissions.get()
    }

    /// Destroys the device and all its buffers at once. Work under way ends with [`GpuError::Lost`].
    pub fn destroy(&self) {
        self.inner.device.destroy();
    }

    /// The error of work that failed `while` something: loss first, since it causes the others.
    pub(crate) fn failure(&self, during: &'static str, error: Option<wgpu::Error>) -> GpuError {
        match (self.lost(), error) {
            (Some(reason), _) => GpuError::Lost { reason },
            (None, Some(wgpu::Error::OutOfMemory { .. })) => GpuError::OutOfMemory { during },
            (None, Some(error)) => GpuError::Validation { during, message: error.to_string() },
            (None, None) => GpuError::Lost { reason: "the result could not be read".to_owned() },
        }
    }

    /// Runs `work`, and gives its errors of memory and validation.
    pub(crate) async fn checked<T>(
        &self,
        during: &'static str,
        work: impl FnOnce() -> Result<T, GpuError>,
    ) -> Result<T, GpuError> {
        let memory = self.inner.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = self.inner.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let done = work();
        // Both are popped before either is awaited: scopes are a stack.
        let (validation, memory) = (validation.pop(), memory.pop());
        // A buffer that found no memory is invalid in everything after it, so that error is the cause of the other.
        let memory = memory.await;
        let validation = validation.await;
        let done = done?;
        match memory.or(validation) {
            None => Ok(done),
            error => Err(self.failure(during, error)),
        }
    }

    /// A buffer of `bytes`, rounded up to what buffers must have.
    pub(crate) fn buffer(&self, bytes: u64, usage: wgpu::BufferUsages) -> Buffer {
        Buffer(self.inner.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes.next_multiple_of(16).max(16),
            usage,
            mapped_at_creation: false,
        }))
    }

    /// A storage buffer to be read and written, refused when no binding can hold it.
    pub(crate) fn storage(&self, what: &'static str, bytes: u64) -> Result<Buffer, GpuError> {
        self.check_binding(what, bytes)?;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        Ok(self.buffer(bytes, usage))
    }

    /// A storage buffer with this content.
    pub(crate) fn upload<T: bytemuck::NoUninit>(
        &self,
        what: &'static str,
        values: &[T],
    ) -> Result<Buffer, GpuError> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let buffer = self.storage(what, bytes.len() as u64)?;
        self.write(&buffer, values);
        Ok(buffer)
    }

    /// A uniform buffer with this content.
    pub(crate) fn uniform<T: bytemuck::NoUninit>(&self, value: &T) -> Buffer {
        let bytes = bytemuck::bytes_of(value);
        let buffer =
            self.buffer(bytes.len() as u64, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST);
        self.write(&buffer, bytes);
        buffer
    }

    /// Writes to the start of a buffer, before the next submission. Not through a mapping: on the web that copies once more.
    pub(crate) fn write<T: bytemuck::NoUninit>(&self, buffer: &Buffer, values: &[T]) {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let whole = bytes.len() / 4 * 4;
        self.inner.queue.write_buffer(buffer, 0, &bytes[..whole]);
        if whole < bytes.len() {
            let mut rest = [0; 4];
            rest[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
            self.inner.queue.write_buffer(buffer, whole as u64, &rest);
        }
    }

    pub(crate) fn check_binding(&self, what: &'static str, bytes: u64) -> Result<(), GpuError> {
        let most = self.inner.info.binding_bytes;
        if bytes <= most { Ok(()) } else { Err(GpuError::TooLarge { what, found: bytes, most }) }
    }

    /// The text of `spec` for this device.
    pub(crate) fn text(&self, spec: &Spec) -> String {
        spec.text(self.inner.info.extensions)
    }

    /// Compiles `kernels`, so that loading and searching need no other.
    ///
    /// On the web a page first makes the same pipelines by `createComputePipelineAsync` on [`Self::web_device`], for which wgpu has no call: the
    /// browser then has them, and this takes milliseconds.
    ///
    /// # Errors
    /// [`GpuError::Lost`], [`GpuError::OutOfMemory`], [`GpuError::Validation`].
    pub async fn compile(&self, kernels: &KernelList) -> Result<(), GpuError> {
        let compile = || {
            for spec in kernels.specs() {
                self.kernel(spec);
            }
            Ok(())
        };
        self.checked("compiling", compile).await
    }

    /// Kernels compiled so far.
    pub fn n_kernels(&self) -> usize {
        self.inner.pipelines.borrow().len()
    }

    pub(crate) fn has_kernel(&self, text: &str) -> bool {
        self.inner.pipelines.borrow().contains_key(text)
    }

    /// The browser's own `GPUDevice`.
    #[cfg(target_arch = "wasm32")]
    pub fn web_device(&self) -> wasm_bindgen::JsValue {
        self.inner.device.as_webgpu().map_or(wasm_bindgen::JsValue::NULL, |device| device.clone().into())
    }

    /// The compiled kernel of `spec`, from the cache where it has been asked for before.
    pub(crate) fn kernel(&self, spec: &Spec) -> Rc<Kernel> {
        let text = self.text(spec);
        if let Some(kernel) = self.inner.pipelines.borrow().get(&text) {
            return Rc::clone(kernel);
        }
        let device = &self.inner.device;
        let entries: Vec<_> = (0_u32..)
            .zip(spec.source.slots)
            .map(|(binding, slot)| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: match slot {
                        Slot::Uniform => wgpu::BufferBindingType::Uniform,
                        Slot::Read => wgpu::BufferBindingType::Storage { read_only: true },
                        Slot::Write => wgpu::BufferBindingType::Storage { read_only: false },
                    },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(spec.source.name),
            entries: &entries,
        });
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(spec.source.name),
            source: wgpu::ShaderSource::Wgsl(text.as_str().into()),
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(spec.source.name),
            bind_group_layouts: &[Some(&layout)],
            ..Default::default()
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(spec.source.name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Every kernel writes its workgroup memory before it reads it. On the web this is not ours to choose.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        let kernel = Rc::new(Kernel { pipeline, layout });
        self.inner.pipelines.borrow_mut().insert(text, Rc::clone(&kernel));
        kernel
    }

    pub(crate) fn bind(&self, kernel: &Kernel, buffers: &[&Buffer]) -> wgpu::BindGroup {
        let entries: Vec<_> = (0_u32..)
            .zip(buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        self.inner.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &kernel.layout,
            entries: &entries,
        })
    }

    pub(crate) fn begin(&self) -> Submission<'_> {
        let encoder = self.inner.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        Submission { gpu: self, encoder, n_passes: 0 }
    }
}

/// Whether a browser's device was made with a feature.
#[cfg(target_arch = "wasm32")]
fn web_feature(device: &wgpu::Device, name: &str) -> bool {
    use wasm_bindgen::{JsCast as _, JsValue};
    let Some(device) = device.as_webgpu() else { return false };
    let device: JsValue = device.clone().into();
    // A set in all but its type.
    js_sys::Reflect::get(&device, &"features".into())
        .is_ok_and(|features| features.unchecked_into::<js_sys::Set>().has(&name.into()))
}

/// More passes than this in one submission are not timed.
const MAX_TIMED_PASSES: u32 = 16;
const TIMESTAMP_BYTES: u64 = 2 * MAX_TIMED_PASSES as u64 * 8;

impl Submission<'_> {
    /// Runs `record` in a compute pass. Dispatches of a pass run in order, each seeing what those before it wrote.
    pub(crate) fn pass(&mut self, record: impl FnOnce(&mut wgpu::ComputePass<'_>)) {
        let at = self.n_passes;
        self.n_passes += 1;
        let timestamp_writes = self.gpu.inner.timer.as_ref().filter(|_| at < MAX_TIMED_PASSES).map(|timer| {
            wgpu::ComputePassTimestampWrites {
                query_set: &timer.queries,
                beginning_of_pass_write_index: Some(2 * at),
                end_of_pass_write_index: Some(2 * at + 1),
            }
        });
        let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
        record(&mut self.encoder.begin_compute_pass(&descriptor));
    }

    /// Copies the start of one buffer to the start of another.
    pub(crate) fn copy(&mut self, from: &Buffer, to: &Buffer, bytes: u64) {
        self.encoder.copy_buffer_to_buffer(from, 0, to, 0, bytes);
    }

    /// Sends what was recorded and brings back the first bytes of `results`, one after the other, in one read. Scores and embeddings only: reading
    /// copies the whole range.
    pub(crate) async fn finish(
        mut self,
        during: &'static str,
        results: &[(&Buffer, u64)],
    ) -> Result<Answer, GpuError> {
        let gpu = self.gpu;
        let inner = &gpu.inner;
        let timed = self.n_passes.min(MAX_TIMED_PASSES);
        let timer = inner.timer.as_ref().filter(|_| timed > 0);
        let data: u64 = results.iter().map(|(_, bytes)| bytes).sum();
        let total = data.next_multiple_of(8) + if timer.is_some() { TIMESTAMP_BYTES } else { 0 };
        let spare = inner.spare.borrow_mut().take().filter(|spare| spare.size() >= total);
        let target = spare.unwrap_or_else(|| {
            gpu.buffer(total.next_power_of_two(), wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)
        });
        let mut at = 0;
        for (buffer, bytes) in results {
            self.encoder.copy_buffer_to_buffer(buffer, 0, &target, at, *bytes);
            at += bytes;
        }
        let at = data.next_multiple_of(8);
        if let Some(timer) = timer {
            self.encoder.resolve_query_set(&timer.queries, 0..2 * timed, &timer.resolved, 0);
            self.encoder.copy_buffer_to_buffer(&timer.resolved, 0, &target, at, TIMESTAMP_BYTES);
        }
        let memory = inner.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = inner.device.push_error_scope(wgpu::ErrorFilter::Validation);
        inner.queue.submit([self.encoder.finish()]);
        inner.n_submissions.set(inner.n_submissions.get() + 1);
        let (validation, memory) = (validation.pop(), memory.pop());
        let mapped = Mapped::default();
        let told = mapped.clone();
        target.slice(..total).map_async(wgpu::MapMode::Read, move |result| told.set(result.is_ok()));
        // On the web this does nothing: the browser's event loop brings the result.
        let polled = inner.device.poll(wgpu::PollType::wait_indefinitely());
        let ok = if polled.is_err() && !mapped.is_set() { false } else { mapped.wait().await };
        if let Some(error) = memory.await.or(validation.await) {
            return Err(gpu.failure(during, Some(error)));
        }
        if !ok {
            return Err(gpu.failure(during, None));
        }
        let answer = {
            let Ok(view) = target.slice(..total).get_mapped_range() else {
                return Err(gpu.failure(during, None));
            };
            let gpu_ms = timer.map(|timer| {
                let stamps: Vec<u64> = view[at as usize..]
                    .chunks_exact(8)
                    .take(2 * timed as usize)
                    .map(|b| u64::from_le_bytes(b.try_into().unwrap_or_default()))
                    .collect();
                let ticks: u64 = stamps.chunks_exact(2).map(|s| s[1].saturating_sub(s[0])).sum();
                ticks as f64 * f64::from(timer.period_ns) / 1e6
            });
            Answer { bytes: view[..data as usize].to_vec(), gpu_ms }
        };
        target.unmap();
        *inner.spare.borrow_mut() = Some(target);
        Ok(answer)
    }
}

/// Whether a buffer was mapped, to be waited for.
#[derive(Clone, Default)]
struct Mapped(Arc<Mutex<(Option<bool>, Option<Waker>)>>);

impl Mapped {
    fn set(&self, ok: bool) {
        if let Ok(mut state) = self.0.lock() {
            state.0 = Some(ok);
            if let Some(waker) = state.1.take() {
                waker.wake();
            }
        }
    }

    fn is_set(&self) -> bool {
        self.0.lock().is_ok_and(|state| state.0.is_some())
    }

    async fn wait(&self) -> bool {
        std::future::poll_fn(|context| match self.0.lock() {
            Ok(mut state) => match state.0 {
                Some(ok) => Poll::Ready(ok),
                None => {
                    state.1 = Some(context.waker().clone());
                    Poll::Pending
                }
            },
            Err(_) => Poll::Ready(false),
        })
        .await
    }
}
