//! Where tensors live.

use anyhow::{Result, bail};
use candle_core::Device;

/// The device called `name`: `cpu`, `cuda` (the first GPU, or of several ranks on one machine each its own) or `cuda:N`.
///
/// # Errors
/// An unknown name, a build without CUDA, or a GPU that the driver does not find.
pub fn device(name: &str, rank_here: usize) -> Result<Device> {
    let ordinal = match name.split_once(':') {
        None if name == "cpu" => return Ok(Device::Cpu),
        None if name == "cuda" => rank_here,
        Some(("cuda", number)) => number.parse().map_err(|_| {
            anyhow::anyhow!("device {name:?}: {number:?} is no number of a GPU; the first is cuda:0")
        })?,
        _ => bail!("device {name:?}: expected cpu, cuda or cuda:N"),
    };
    if cfg!(not(feature = "cuda")) {
        bail!("device {name:?}: this program was built without CUDA; build with `--features cuda`");
    }
    Device::new_cuda(ordinal)
        .map_err(|e| anyhow::anyhow!("GPU {ordinal}: {e}; look at nvidia-smi, or train with --device cpu"))
}

/// The number of this process among those on its machine, as MPI launchers say.
pub fn rank_here() -> usize {
    ["OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"]
        .iter()
        .find_map(|name| std::env::var(name).ok()?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::device;

    #[test]
    fn names_that_cannot_be_had_are_refused_with_what_could() {
        assert!(device("cpu", 3).is_ok_and(|d| d.is_cpu()));
        for (name, part) in [("gpu", "cpu, cuda or cuda:N"), ("cuda:x", "no number")] {
            let message = device(name, 0).expect_err(name).to_string();
            assert!(message.contains(part), "{message}");
        }
        if cfg!(not(feature = "cuda")) {
            assert!(device("cuda", 0).expect_err("no CUDA").to_string().contains("--features cuda"));
        }
    }
}
