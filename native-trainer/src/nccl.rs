//! Ranks over NCCL (feature `cuda`): one process a GPU, gradients summed on the devices. Another engine starts the processes and carries NCCL's id.

use crate::ranks::Ranks;
use anyhow::{Result, anyhow};
use candle_core::cuda_backend::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::CudaStream;
use candle_core::cuda_backend::cudarc::nccl::{Comm, Id, ReduceOp, result::NcclError};
use std::fmt;
use std::sync::Arc;

/// GPUs that sum over NVLink, PCIe or the network.
pub struct Nccl {
    comm: Comm,
    stream: Arc<CudaStream>,
    launcher: Box<dyn Ranks>,
}

impl fmt::Debug for Nccl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nccl {{ rank {} of {} }}", self.comm.rank(), self.comm.world_size())
    }
}

fn nccl(error: NcclError) -> anyhow::Error {
    anyhow!("NCCL: {error:?}; NCCL_DEBUG=INFO says more")
}

impl Nccl {
    /// Joins `device` with those of the other ranks of `launcher`, each of which must have a GPU of its own.
    ///
    /// # Errors
    /// What NCCL reports: two ranks on one GPU, no way between two machines.
    pub fn start(launcher: Box<dyn Ranks>, device: &CudaDevice) -> Result<Self> {
        let id = if launcher.rank() == 0 { Id::new().map_err(nccl)? } else { Id::uninit([0; 128]) };
        // The sum of rank 0's bytes and everybody else's zeros; bytes are exact in f32.
        let mut bytes: Vec<f32> = id.internal().iter().map(|&b| f32::from(b as u8)).collect();
        if launcher.rank() > 0 {
            bytes.fill(0.0);
        }
        launcher.sum(&mut bytes)?;
        let mut internal = [0; 128];
        for (to, from) in internal.iter_mut().zip(&bytes) {
            *to = *from as u8 as std::ffi::c_char;
        }
        let stream = device.cuda_stream();
        let comm = Comm::from_rank(stream.clone(), launcher.rank(), launcher.size(), Id::uninit(internal))
            .map_err(nccl)?;
        Ok(Self { comm, stream, launcher })
    }
}

impl Ranks for Nccl {
    fn rank(&self) -> usize {
        self.comm.rank()
    }

    fn size(&self) -> usize {
        self.comm.world_size()
    }

    fn abort(&self) -> ! {
        self.launcher.abort()
    }

    fn sum(&self, values: &mut [f32]) -> Result<()> {
        let mut on_device = self.stream.clone_htod(values)?;
        self.comm.all_reduce_in_place(&mut on_device, &ReduceOp::Sum).map_err(nccl)?;
        self.stream.memcpy_dtoh(&on_device, values)?;
        Ok(self.stream.synchronize()?)
    }
}
