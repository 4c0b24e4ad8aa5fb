//! The real shaders on a real driver, against the CPU's kernels.
//!
//! Without an adapter each test says so and passes; with `REQUIRE_GPU=1` it fails. A software adapter (Mesa's lavapipe) proves results, never speed.

mod encoder;
mod failures;
mod kernels;
mod maxsim;

use crate::{Gpu, GpuError, GpuExtensions, GpuOptions};

/// Error of one f32 rounding.
pub(super) const UNIT: f32 = f32::EPSILON / 2.0;

/// Error of rounding to f16, where attention holds its keys and values so.
pub(super) fn half_unit(gpu: &Gpu) -> f32 {
    if gpu.info().extensions.f16 { 2.0_f32.powi(-11) } else { 0.0 }
}

/// `exp`, division and square root of WGSL are good to a few units each (WGSL specification, section 15.7.4), GELU's polynomial to 5e-7.
pub(super) const SMOOTH: f32 = 4e-6;

/// Runs `test` on a device with every extension that the adapter has.
pub(super) fn on_gpu(test: impl FnOnce(&Gpu)) {
    on(GpuExtensions::ALL, test);
}

/// Runs `test` on two devices: with every extension that the adapter has, and with none. A kernel uses at most one, so that is each with and without.
pub(super) fn on_gpus(mut test: impl FnMut(&Gpu)) {
    for allow in [GpuExtensions::ALL, GpuExtensions::NONE] {
        on(allow, &mut test);
    }
}

fn on(allow: GpuExtensions, test: impl FnOnce(&Gpu)) {
    let options = GpuOptions { allow_software: true, allow, timed: true };
    match pollster::block_on(Gpu::new(&options)) {
        Ok(gpu) => {
            let used = gpu.info().extensions;
            assert_eq!(used.and(allow), used);
            println!("{}, extensions in use: {:?}", gpu.info().name, used.names());
            test(&gpu);
        }
        Err(GpuError::NoAdapter { reason }) => {
            let required = std::env::var("REQUIRE_GPU").is_ok_and(|value| value == "1");
            assert!(!required, "REQUIRE_GPU=1, but there is no adapter: {reason}");
            println!("skipped, no adapter: {reason}");
        }
        Err(error) => panic!("{error}"),
    }
}

/// Asserts `|found - expected| <= bound` for every element, and NaN where NaN is expected.
pub(super) fn assert_close(what: &str, found: &[f32], expected: &[f32], bound: impl Fn(usize) -> f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let good = (found - expected).abs() <= bound(i) || (found.is_nan() && expected.is_nan());
        assert!(good, "{what}, element {i}: the CPU gives {expected}, the GPU {found}, allowed {}", bound(i));
    }
}
