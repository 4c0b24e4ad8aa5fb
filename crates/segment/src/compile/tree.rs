//! Which row to store as a difference from which.

use rayon::prelude::*;

/// Columns that are looked at to judge how near two rows are. Looking at all of them makes the file .6 % smaller and takes four
/// times as long.
const SAMPLED: usize = 1024;

/// An order of the rows of `costs`, `[n_rows, n_columns]`, and for each place in it the place of the row it is nearest to: a
/// minimum spanning tree by Prim's method, the first row its root. The distance is what the differences would cost, roughly, in bits: the number
/// of differences alone makes a file half as large again.
pub(super) fn spanning_tree(costs: &[i16], n_rows: usize, n_columns: usize) -> (Vec<u16>, Vec<u16>) {
    let stride = n_columns.div_ceil(SAMPLED);
    let n_sampled = n_columns.div_ceil(stride);
    let sample: Vec<i16> =
        costs.chunks_exact(n_columns).flat_map(|row| row.iter().step_by(stride).copied()).collect();
    let row = |at: usize| &sample[at * n_sampled..][..n_sampled];
    // Rows not in the tree yet: which, how far from the tree, from which place in it.
    let mut outside: Vec<(u16, u32, u16)> = (1..n_rows).map(|at| (at as u16, u32::MAX, 0)).collect();
    let (mut order, mut parents) = (vec![0u16], vec![0u16]);
    while !outside.is_empty() {
        let place = order.len() as u16 - 1;
        let newest = row(usize::from(order[usize::from(place)]));
        outside.par_iter_mut().with_min_len(64).for_each(|(at, nearest, parent)| {
            let distance = distance(newest, row(usize::from(*at)));
            if distance < *nearest {
                (*nearest, *parent) = (distance, place);
            }
        });
        let next = (0..outside.len()).min_by_key(|&i| (outside[i].1, outside[i].0)).unwrap_or(0);
        let (at, _, parent) = outside.swap_remove(next);
        order.push(at);
        parents.push(parent);
    }
    (order, parents)
}

fn distance(a: &[i16], b: &[i16]) -> u32 {
    // Sums of 1,024 terms of at most 31 fit 16 bits, in which the compiler uses whole registers; checks for overflow, which cannot
    // happen, would keep it from that where they are on.
    let part = |(a, b): (&[i16], &[i16])| {
        let sum = a.iter().zip(b).fold(0u16, |sum, (&a, &b)| {
            let d = a.wrapping_sub(b).unsigned_abs();
            let price = d.min(1).wrapping_mul(3).wrapping_add(d.min(4));
            sum.wrapping_add(price).wrapping_add((d >> 3).min(8)).wrapping_add((d >> 6).min(16))
        });
        u32::from(sum)
    };
    a.chunks(1024).zip(b.chunks(1024)).map(part).sum()
}
