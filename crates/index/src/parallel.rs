//! Filling a buffer, on all cores where the feature `parallel` is on. Each item depends on its number only, so the result does not depend on the
//! number of threads.

const CHUNK: usize = 256;

/// Fills `out` in chunks of at most 256: `f` gets the number of a chunk's first item, and the chunk.
pub(crate) fn fill_chunks<T: Send>(out: &mut [T], f: impl Fn(usize, &mut [T]) + Sync) {
    #[cfg(feature = "parallel")]
    {
        use rayon::prelude::*;
        out.par_chunks_mut(CHUNK).enumerate().for_each(|(c, chunk)| f(c * CHUNK, chunk));
    }
    #[cfg(not(feature = "parallel"))]
    out.chunks_mut(CHUNK).enumerate().for_each(|(c, chunk)| f(c * CHUNK, chunk));
}
