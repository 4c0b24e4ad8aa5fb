//! The one error type of this crate.

use shirube_format::FormatError;

/// Why there is no GPU to run on, or why it did not answer. Every one of them is answered by the CPU instead; none is a panic.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// No adapter, or none that may be used.
    #[error("no usable GPU adapter: {reason}; the CPU is used")]
    NoAdapter {
        /// What the browser or driver says.
        reason: String,
    },
    /// The adapter is a program on the CPU, many times slower than SIMD.
    #[error("{name} is a software adapter, far slower than the CPU's own kernels; the CPU is used")]
    Software {
        /// Adapter.
        name: String,
    },
    /// The adapter gave no device.
    #[error("the GPU adapter gave no device: {reason}; the CPU is used")]
    NoDevice {
        /// What the browser or driver says.
        reason: String,
    },
    /// The device went away: driver reset, GPU process gone, or destroyed.
    #[error("the GPU device was lost ({reason}); the CPU answers, and a new device can be asked for")]
    Lost {
        /// What the browser or driver says.
        reason: String,
    },
    /// No memory for a buffer.
    #[error("out of GPU memory while {during}; the CPU is used")]
    OutOfMemory {
        /// What was being done.
        during: &'static str,
    },
    /// The device refused a command: a fault of this crate or of a driver.
    #[error("the GPU refused a command while {during}: {message}; the CPU is used, please report this")]
    Validation {
        /// What was being done.
        during: &'static str,
        /// What the browser or driver says.
        message: String,
    },
    /// Something that these kernels do not run.
    #[error("{what} is {found}, the GPU kernels run {expected}; the CPU is used")]
    Unsupported {
        /// Which setting or dimension.
        what: &'static str,
        /// Its value.
        found: String,
        /// What they run.
        expected: &'static str,
    },
    /// A buffer beyond what one binding holds.
    #[error("{what} takes {found} bytes, this GPU binds {most}; the CPU is used")]
    TooLarge {
        /// Which buffer.
        what: &'static str,
        /// Bytes needed.
        found: u64,
        /// Bytes a binding holds.
        most: u64,
    },
    /// A tensor is absent or of another shape than the manifest says.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Arguments that contradict each other.
    #[error("{what} is {found}, expected {expected}; pass what the documentation of this function says")]
    Shape {
        /// Argument.
        what: &'static str,
        /// Found length or value.
        found: usize,
        /// Expected, or largest.
        expected: usize,
    },
    /// An embedding came back infinite or NaN.
    #[error("embedding {token} is not finite; the weights are damaged or overflow, export the model again")]
    NotFinite {
        /// Kept token, from 0.
        token: usize,
    },
    /// The GPU's result for a fixed input is not the CPU's.
    #[error("the GPU's {what} differs from the CPU's by {difference} (allowed {allowed}); the CPU is used")]
    WrongResult {
        /// What was compared.
        what: &'static str,
        /// Largest difference.
        difference: f32,
        /// Tolerance.
        allowed: f32,
    },
}
