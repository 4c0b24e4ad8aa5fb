//! Filling a buffer item by item, on all cores where the feature `parallel` is on. Each item depends on its number only, so the result does not
//! depend on the number of threads.

const CHUNK: usize = 256;

/// `out[i] = f(i)`.
pub(crate) fn fill<T: Send>(out: &mut [T], f: impl Fn(usize) -> T + Sync) {
    let fill_chunk = |(c, chunk): (usize, &mut [T])| {
        for (i, slot) in chunk.iter_mut().enumerate() {
            *slot = f(c * CHUNK + i);
        }
    };
    #[cfg(feature = "parallel")]
    {
        use rayon::prelude::*;
        out.par_chunks_mut(CHUNK).enumerate().for_each(fill_chunk);
    }
    #[cfg(not(feature = "parallel"))]
    out.chunks_mut(CHUNK).enumerate().for_each(fill_chunk);
}
