//! Ranks over MPI (feature `mpi`): processes on one machine or many, started by `mpirun` or `srun`.

use crate::ranks::Ranks;
use anyhow::{Result, bail};
use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator as _, CommunicatorCollectives as _};
use std::fmt;

/// The processes that the launcher started. Dropping it ends MPI, which waits for the others.
pub struct Mpi {
    world: SimpleCommunicator,
    _universe: Universe,
}

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mpi {{ rank {} of {} }}", self.rank(), self.size())
    }
}

impl Mpi {
    /// Joins the other processes. Only the calling thread may use it.
    ///
    /// # Errors
    /// When MPI was started before in this process, or cannot have other threads beside the one that calls it.
    pub fn start() -> Result<Self> {
        let Some((universe, level)) = mpi::initialize_with_threading(Threading::Funneled) else {
            bail!("MPI was started before in this process")
        };
        if level < Threading::Funneled {
            bail!(
                "this MPI allows no threads beside it, and every worker is one; install one built with thread support"
            )
        }
        Ok(Self { world: universe.world(), _universe: universe })
    }
}

impl Ranks for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.world.size() as usize
    }

    fn sum(&self, values: &mut [f32]) -> Result<()> {
        let own = values.to_vec();
        self.world.all_reduce_into(&own[..], values, SystemOperation::sum());
        Ok(())
    }

    fn abort(&self) -> ! {
        self.world.abort(1)
    }

    fn barrier(&self) -> Result<()> {
        self.world.barrier();
        Ok(())
    }
}
