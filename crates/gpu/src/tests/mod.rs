//! The real shaders on a real driver, against the CPU's kernels.
//!
//! Without an adapter each test says so and passes; with `REQUIRE_GPU=1` it fails. A software adapter (Mesa's lavapipe) proves results, never speed.

mod encoder;
mod failures;
mod kernels;
mod maxsim;

use crate::{Gpu, GpuError, GpuOptions};

/// Error of one f32 rounding.
pub(super) const UNIT: f32 = f32::EPSILON / 2.0;

/// `exp`, division and square root of WGSL are good to a few units each (WGSL specification, section 15.7.4), GELU's polynomial to 5e-7.
pub(super) const SMOOTH: f32 = 4e-6;

/// Runs `test` on a device.
pub(super) fn on_gpu(test: impl FnOnce(&Gpu)) {
    on(true, test);
}

/// Runs `test` on devices with and without the packed int8 product.
pub(super) fn on_gpus(mut test: impl FnMut(&Gpu)) {
    for allow_packed_dot in [true, false] {
        on(allow_packed_dot, &mut test);
    }
}

fn on(allow_packed_dot: bool, test: impl FnOnce(&Gpu)) {
    let options = GpuOptions { allow_software: true, allow_packed_dot, timed: true };
    match pollster::block_on(Gpu::new(&options)) {
        Ok(gpu) => {
            assert!(allow_packed_dot || !gpu.info().packed_dot);
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
