//! A device that goes away, and adapters that are not to be used.

use super::on_gpu;
use crate::{Gpu, GpuEncoder, GpuError, GpuOptions, GpuText};
use shirube_testkit::{RandomShape, random_model};

#[test]
fn a_lost_device_is_an_error_and_a_new_one_works() {
    let model = random_model(5, &RandomShape::default()).quantized();
    on_gpu(|gpu| {
        let text = GpuText { ids: &[3, 300], keep: None, n_attended: 2 };
        let encoder = pollster::block_on(GpuEncoder::load(gpu, &model.manifest, &model.weights)).unwrap();
        pollster::block_on(encoder.encode(&[text], true)).unwrap();
        gpu.destroy();
        let found = pollster::block_on(encoder.encode(&[text], true));
        assert!(matches!(found, Err(GpuError::Lost { .. } | GpuError::Validation { .. })), "{found:?}");
        let found = pollster::block_on(GpuEncoder::load(gpu, &model.manifest, &model.weights)).map(|_| ());
        assert!(found.is_err());
        let options = GpuOptions { allow_software: true, ..GpuOptions::default() };
        let gpu = pollster::block_on(Gpu::new(&options)).unwrap();
        let encoder = pollster::block_on(GpuEncoder::load(&gpu, &model.manifest, &model.weights)).unwrap();
        pollster::block_on(encoder.encode(&[text], true)).unwrap();
    });
}

#[test]
fn a_software_adapter_is_refused_unless_asked_for() {
    on_gpu(|gpu| {
        let plain = pollster::block_on(Gpu::new(&GpuOptions::default()));
        assert_eq!(matches!(plain, Err(GpuError::Software { .. })), gpu.info().software);
    });
}

#[test]
fn a_command_that_the_device_refuses_is_an_error() {
    on_gpu(|gpu| {
        let small = gpu.storage("small", 16).unwrap();
        let mut submission = gpu.begin();
        let large = gpu.storage("large", 64).unwrap();
        submission.copy(&large, &small, 64);
        let found = pollster::block_on(submission.finish("testing", &[(&small, 16)]));
        assert!(matches!(found, Err(GpuError::Validation { during: "testing", .. })), "{found:?}");
        // The device is as good as before.
        let submission = gpu.begin();
        pollster::block_on(submission.finish("testing", &[(&small, 16)])).unwrap();
        let found = gpu.storage("too large", gpu.info().binding_bytes + 1);
        assert!(matches!(found, Err(GpuError::TooLarge { .. })));
    });
}
