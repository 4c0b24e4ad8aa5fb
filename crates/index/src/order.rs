//! An order of the centroids in which neighbours have near numbers, so that the lists a query token probes lie in one block of a file or a few.
//!
//! Recursive bisection: the set is put in order along the line between two far points of it and cut in the middle, and each half again; about
//! `n log n` products. Not taken: a tour through nearest neighbours, which brings pairs closer and the eight nearest of a token hardly.

/// Puts `centroids [n, dim]` in that order. The same centroids give the same order.
pub(crate) fn order(centroids: &mut Vec<f32>, dim: usize) {
    let mut places: Vec<u32> = (0..(centroids.len() / dim) as u32).collect();
    bisect(centroids, dim, &mut places);
    *centroids = places.iter().flat_map(|&i| &centroids[i as usize * dim..][..dim]).copied().collect();
}

fn bisect(centroids: &[f32], dim: usize, places: &mut [u32]) {
    if places.len() <= 2 {
        return;
    }
    let row = |i: u32| &centroids[i as usize * dim..][..dim];
    let farthest = |from: u32| {
        let distance = |i: u32| row(from).iter().zip(row(i)).map(|(x, y)| (x - y) * (x - y)).sum::<f32>();
        let far = places.iter().map(|&i| (distance(i), i));
        far.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1))).map_or(from, |(_, i)| i)
    };
    let a = farthest(places[0]);
    let b = farthest(a);
    let line: Vec<f32> = row(a).iter().zip(row(b)).map(|(x, y)| y - x).collect();
    let along = |i: u32| row(i).iter().zip(&line).map(|(x, l)| x * l).sum::<f32>();
    let mut placed: Vec<(f32, u32)> = places.iter().map(|&i| (along(i), i)).collect();
    placed.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    places.iter_mut().zip(placed).for_each(|(to, (_, i))| *to = i);
    let (left, right) = places.split_at_mut(places.len() / 2);
    bisect(centroids, dim, left);
    bisect(centroids, dim, right);
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn neighbours_come_together_and_nothing_is_lost() {
        // Sixteen clusters on a circle, their points visited in a scattered order.
        let points: Vec<f32> = (0..256_u32)
            .flat_map(|i| {
                let angle = (i * 7 % 16) as f32 * 0.39 + (i / 16) as f32 * 0.002;
                [angle.cos(), angle.sin()]
            })
            .collect();
        let mut ordered = points.clone();
        order(&mut ordered, 2);
        let steps = |points: &[f32]| -> f32 {
            let rows: Vec<&[f32]> = points.chunks_exact(2).collect();
            rows.windows(2).map(|w| (w[0][0] - w[1][0]).hypot(w[0][1] - w[1][1])).sum()
        };
        assert!(steps(&ordered) < 0.2 * steps(&points), "{} of {}", steps(&ordered), steps(&points));
        let sorted = |points: &[f32]| {
            let mut bits: Vec<_> = points.chunks_exact(2).map(|p| (p[0].to_bits(), p[1].to_bits())).collect();
            bits.sort_unstable();
            bits
        };
        assert_eq!(sorted(&ordered), sorted(&points));
        for mut few in [vec![], vec![1.0, 0.0], vec![0.5; 12]] {
            let n = few.len();
            order(&mut few, 2);
            assert_eq!(few.len(), n);
        }
    }
}
