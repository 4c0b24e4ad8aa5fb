//! Data parallel training: several processes, one a device or core, whose gradients are summed once an optimiser step.
//!
//! A process is a rank. Every rank draws its own batches, and all hold the same weights: they start from the same seed or state and take the same
//! steps, because [`Ranks::sum`] gives every rank the same bits. With n ranks of w workers a step is that of one process with n * w workers. Rank 0
//! alone writes files, evaluates and runs the steps that do not train; the others wait for it.
//!
//! Engines: [`Alone`]; `mpi` across processes and machines (feature `mpi`). The way not taken is a parameter server or sockets of our own: launchers, interconnects and failure of a rank are what MPI is for.

use anyhow::Result;
use std::fmt::Debug;

/// The processes of a run.
pub trait Ranks: Debug {
    /// Which one this is, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// Replaces `values` by their sum over all ranks, which must all call this with as many values; every rank gets the same bits.
    ///
    /// # Errors
    /// A lost connection.
    fn sum(&self, values: &mut [f32]) -> Result<()>;

    /// Returns when every rank has called it.
    ///
    /// # Errors
    /// A lost connection.
    fn barrier(&self) -> Result<()> {
        self.sum(&mut [0.0])
    }

    /// Ends every rank at once, because this one cannot go on and the others would wait for it.
    fn abort(&self) -> ! {
        std::process::exit(1)
    }

    /// Whether any rank says yes; all get the same answer.
    ///
    /// # Errors
    /// A lost connection.
    fn any(&self, yes: bool) -> Result<bool> {
        let mut count = [f32::from(u8::from(yes))];
        self.sum(&mut count)?;
        Ok(count[0] > 0.0)
    }
}

/// One process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn sum(&self, _values: &mut [f32]) -> Result<()> {
        Ok(())
    }
}

/// What one optimiser step says beside its gradients, summed over workers and then over ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepFigures {
    /// Sum of losses.
    pub loss: f64,
    /// Sum of accuracies.
    pub accuracy: f64,
    /// Losses summed.
    pub n: u64,
    /// Tokens encoded.
    pub n_tokens: usize,
    /// Whether any rank was told to stop.
    pub stop: bool,
}

/// Sums a step over all ranks in one message: gradients (zeros where a parameter took no part on this rank), which parameters took part, figures.
/// `gradients` come by parameter order, empty for a parameter that took no part; `sizes` are the parameters' lengths. Counts are exact up to 2^24.
///
/// # Errors
/// A lost connection.
pub fn sum_step(
    ranks: &dyn Ranks,
    sizes: &[usize],
    gradients: &mut [Vec<f32>],
    figures: &mut StepFigures,
) -> Result<()> {
    if ranks.size() == 1 {
        return Ok(());
    }
    let n: usize = sizes.iter().sum();
    let mut flat = Vec::with_capacity(n + sizes.len() + 5);
    for (gradient, &size) in gradients.iter().zip(sizes) {
        flat.extend_from_slice(gradient);
        if gradient.is_empty() {
            flat.resize(flat.len() + size, 0.0);
        }
    }
    flat.extend(gradients.iter().map(|g| f32::from(u8::from(!g.is_empty()))));
    let stop = f32::from(u8::from(figures.stop));
    let counts = [figures.n as f32, figures.n_tokens as f32];
    flat.extend([figures.loss as f32, figures.accuracy as f32, counts[0], counts[1], stop]);
    ranks.sum(&mut flat)?;
    let (values, rest) = flat.split_at(n);
    let (taken, sums) = rest.split_at(sizes.len());
    let mut start = 0;
    for ((gradient, &size), &taken) in gradients.iter_mut().zip(sizes).zip(taken) {
        gradient.clear();
        if taken > 0.0 {
            gradient.extend_from_slice(&values[start..start + size]);
        }
        start += size;
    }
    *figures = StepFigures {
        loss: f64::from(sums[0]),
        accuracy: f64::from(sums[1]),
        n: sums[2] as u64,
        n_tokens: sums[3] as usize,
        stop: sums[4] > 0.0,
    };
    Ok(())
}

/// Ranks that are threads of one process, for tests.
#[cfg(test)]
pub(crate) mod threads {
    use super::*;
    use std::sync::{Arc, Barrier, Mutex};

    #[derive(Debug)]
    pub(crate) struct Thread {
        rank: usize,
        parts: Arc<Mutex<Vec<Vec<f32>>>>,
        barrier: Arc<Barrier>,
    }

    /// `n` ranks; each goes to a thread of its own.
    pub(crate) fn group(n: usize) -> Vec<Thread> {
        let (parts, barrier) = (Arc::new(Mutex::new(vec![Vec::new(); n])), Arc::new(Barrier::new(n)));
        (0..n).map(|rank| Thread { rank, parts: parts.clone(), barrier: barrier.clone() }).collect()
    }

    impl Ranks for Thread {
        fn rank(&self) -> usize {
            self.rank
        }

        fn size(&self) -> usize {
            self.parts.lock().expect("no rank panicked").len()
        }

        fn sum(&self, values: &mut [f32]) -> Result<()> {
            self.parts.lock().expect("no rank panicked")[self.rank] = values.to_vec();
            self.barrier.wait();
            let parts = self.parts.lock().expect("no rank panicked").clone();
            anyhow::ensure!(parts.iter().all(|p| p.len() == values.len()), "ranks sum different lengths");
            for (i, v) in values.iter_mut().enumerate() {
                *v = parts.iter().map(|p| p[i]).fold(0.0, |a, b| a + b);
            }
            self.barrier.wait();
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_took_part_on_one_rank_takes_part_on_all_and_stop_is_agreed() {
        let sums: Vec<_> = std::thread::scope(|scope| {
            let handles: Vec<_> = threads::group(2)
                .into_iter()
                .map(|ranks| {
                    scope.spawn(move || {
                        let r = ranks.rank();
                        let second = if r == 0 { vec![] } else { vec![5.0, 6.0] };
                        let mut gradients = vec![vec![1.0 + r as f32], second, vec![]];
                        let mut figures = StepFigures {
                            loss: 1.0 + r as f64,
                            accuracy: 0.5,
                            n: 1,
                            n_tokens: 10 + r,
                            stop: r == 1,
                        };
                        sum_step(&ranks, &[1, 2, 3], &mut gradients, &mut figures).expect("a sum");
                        (gradients, figures)
                    })
                })
                .collect();
            handles.into_iter().map(|h| h.join().expect("a rank")).collect()
        });
        let figures = StepFigures { loss: 3.0, accuracy: 1.0, n: 2, n_tokens: 21, stop: true };
        let expected = (vec![vec![3.0], vec![5.0, 6.0], vec![]], figures);
        assert_eq!(sums, [expected.clone(), expected]);
    }
}
