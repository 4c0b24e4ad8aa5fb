//! Every error as the object that the package reads.

use shirube_gpu::GpuError;

/// The package's code for an error of the GPU.
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
pub(crate) fn code(error: &GpuError) -> &'static str {
    match error {
        GpuError::NoAdapter { .. } | GpuError::NoDevice { .. } => "GPU_UNAVAILABLE",
        GpuError::Software { .. } => "GPU_SOFTWARE",
        GpuError::Lost { .. } => "GPU_LOST",
        GpuError::OutOfMemory { .. } | GpuError::TooLarge { .. } => "GPU_MEMORY",
        GpuError::Unsupported { .. } => "GPU_UNSUPPORTED",
        GpuError::Format(_) | GpuError::NotFinite { .. } => "ASSET_DAMAGED",
        GpuError::Shape { .. } => "BAD_ARGUMENT",
        GpuError::WrongResult { .. } => "GPU_WRONG",
        _ => "GPU_REFUSED",
    }
}

/// What happened, and what to do: messages of this project put the cure after the last semicolon.
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
pub(crate) fn split(message: &str) -> (&str, &str) {
    message.rsplit_once("; ").unwrap_or((message, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_lose_the_gpu_has_its_code() {
        let reason = || "x".to_owned();
        for (error, expected) in [
            (GpuError::NoAdapter { reason: reason() }, "GPU_UNAVAILABLE"),
            (GpuError::NoDevice { reason: reason() }, "GPU_UNAVAILABLE"),
            (GpuError::Software { name: reason() }, "GPU_SOFTWARE"),
            (GpuError::Lost { reason: reason() }, "GPU_LOST"),
            (GpuError::OutOfMemory { during: "x" }, "GPU_MEMORY"),
            (GpuError::Validation { during: "x", message: reason() }, "GPU_REFUSED"),
        ] {
            assert_eq!(code(&error), expected);
            assert!(!split(&error.to_string()).1.is_empty(), "{error} says what happens now");
        }
    }
}
