//! Token pooling: similar tokens of one document become one stored embedding (Clavié, Chaffin and Adams 2024, "Reducing the Footprint of
//! Multi-Vector Retrieval with Minimal Performance Impact via Token Pooling", section 2, hierarchical variant).
//!
//! Ward's criterion on the Euclidean distance of unit vectors, by the nearest-neighbour chain with Lance-Williams updates: `n²` time and memory,
//! against `n³` for the naive search. The first token is the document marker, which stands for the whole text; it is never merged. What we add is
//! the map from tokens to pooled tokens, without which matches could not be shown.

/// Largest factor; beyond it the published loss passes 5 %.
pub const MAX_POOL_FACTOR: usize = 4;

/// The pooled form of one document.
#[derive(Clone, Debug, PartialEq)]
pub struct Pooled {
    /// `[n_pooled, dim]`, each of length 1, in the order of their first original tokens.
    pub embeddings: Vec<f32>,
    /// `[n_tokens]`: the pooled token of each original one.
    pub map: Vec<u16>,
}

/// Pools `embeddings [n, dim]` (length 1 each, at most 65,535 rows) to `1 + ceil((n - 1) / factor)` rows, or fewer where a mean vanishes.
/// A factor of 1 returns them as they are.
pub fn pool(embeddings: &[f32], dim: usize, factor: usize) -> Pooled {
    let n = embeddings.len() / dim.max(1);
    if factor <= 1 || n <= 2 {
        return Pooled { embeddings: embeddings.to_vec(), map: (0..n as u32).map(|i| i as u16).collect() };
    }
    let groups = ward(&embeddings[dim..], dim, (n - 1).div_ceil(factor));
    let mut map = vec![0_u16; n];
    let n_groups = groups.iter().max().map_or(0, |&g| g + 1);
    let mut sums = vec![0.0_f64; (n_groups + 1) * dim];
    for (i, row) in embeddings.chunks_exact(dim).enumerate() {
        let to = if i == 0 { 0 } else { groups[i - 1] + 1 };
        map[i] = to as u16;
        for (sum, &v) in sums[to * dim..(to + 1) * dim].iter_mut().zip(row) {
            *sum += f64::from(v);
        }
    }
    let mut pooled = Vec::with_capacity(sums.len());
    for (group, sum) in sums.chunks_exact(dim).enumerate() {
        let norm = sum.iter().map(|v| v * v).sum::<f64>().sqrt();
        if norm > 1e-6 {
            pooled.extend(sum.iter().map(|v| (v / norm) as f32));
        } else {
            // Opposite tokens cancel only when a document is squeezed far beyond its content; the first of them then stands for all.
            let first = map.iter().position(|&g| usize::from(g) == group).unwrap_or(0);
            pooled.extend_from_slice(&embeddings[first * dim..(first + 1) * dim]);
        }
    }
    Pooled { embeddings: pooled, map }
}

/// The group of each of the `n` points, numbered by first appearance; `n_groups` of them.
fn ward(points: &[f32], dim: usize, n_groups: usize) -> Vec<usize> {
    let n = points.len() / dim;
    let row = |i: usize| &points[i * dim..(i + 1) * dim];
    // Squared distances, symmetric; f64 because the updates subtract.
    let mut distance = vec![0.0_f64; n * n];
    for i in 0..n {
        for j in 0..i {
            let dot: f32 = row(i).iter().zip(row(j)).map(|(a, b)| a * b).sum();
            let d = f64::from(2.0 - 2.0 * dot).max(0.0);
            distance[i * n + j] = d;
            distance[j * n + i] = d;
        }
    }
    // A merged cluster lives on in the slot of its lower member.
    let mut size = vec![1.0_f64; n];
    let mut alive = vec![true; n];
    let mut merges: Vec<(f64, usize, usize)> = Vec::with_capacity(n.saturating_sub(1));
    let mut chain: Vec<usize> = Vec::new();
    while merges.len() + 1 < n {
        if chain.is_empty() {
            chain.push(alive.iter().position(|&a| a).expect("at least two clusters are alive"));
        }
        loop {
            let top = *chain.last().expect("the chain is not empty here");
            let below = chain.len().checked_sub(2).map(|i| chain[i]);
            // Ties go to the previous link, which ends the chain, and then to the lower number: without that a cycle would be possible.
            let mut best = below.map_or((f64::INFINITY, usize::MAX), |b| (distance[top * n + b], b));
            for j in (0..n).filter(|&j| alive[j] && j != top) {
                let d = distance[top * n + j];
                if d < best.0 {
                    best = (d, j);
                }
            }
            if Some(best.1) == below {
                let (low, high) = (top.min(best.1), top.max(best.1));
                chain.truncate(chain.len() - 2);
                merges.push((best.0, low, high));
                let (a, b) = (size[low], size[high]);
                for k in (0..n).filter(|&k| alive[k] && k != low && k != high) {
                    let c = size[k];
                    let d = ((a + c) * distance[low * n + k] + (b + c) * distance[high * n + k] - c * best.0)
                        / (a + b + c);
                    distance[low * n + k] = d;
                    distance[k * n + low] = d;
                }
                size[low] += size[high];
                alive[high] = false;
                break;
            }
            chain.push(best.1);
        }
    }
    // The chain finds merges out of order; Ward is reducible, so the lowest `n - n_groups` of them are the first ones of the true order.
    // The sort is stable: a merge that rests on an equal one was found later and stays behind it.
    merges.sort_by(|x, y| x.0.total_cmp(&y.0));
    let mut parent: Vec<usize> = (0..n).collect();
    for &(_, low, high) in merges.iter().take(n - n_groups.clamp(1, n)) {
        let (a, b) = (root(&parent, low), root(&parent, high));
        parent[a.max(b)] = a.min(b);
    }
    let mut numbers = vec![usize::MAX; n];
    let mut next = 0;
    (0..n)
        .map(|i| {
            let r = root(&parent, i);
            if numbers[r] == usize::MAX {
                numbers[r] = next;
                next += 1;
            }
            numbers[r]
        })
        .collect()
}

fn root(parent: &[usize], mut i: usize) -> usize {
    while parent[i] != i {
        i = parent[i];
    }
    i
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unit(rows: &[Vec<f32>]) -> Vec<f32> {
        rows.iter()
            .flat_map(|r| {
                let norm = r.iter().map(|v| v * v).sum::<f32>().sqrt();
                r.iter().enumerate().map(move |(d, v)| if norm > 1e-3 { v / norm } else { f32::from(d == 0) })
            })
            .collect()
    }

    /// Ward by its definition: merge the pair whose union adds least to the squared distances from the means, until `n_groups` are left.
    fn naive_ward(points: &[f32], dim: usize, n_groups: usize) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = (0..points.len() / dim).map(|i| vec![i]).collect();
        let spread = |g: &[usize]| -> f64 {
            (0..dim)
                .map(|d| {
                    let values = g.iter().map(|&i| f64::from(points[i * dim + d]));
                    let mean = values.clone().sum::<f64>() / g.len() as f64;
                    values.map(|v| (v - mean).powi(2)).sum::<f64>()
                })
                .sum()
        };
        while groups.len() > n_groups {
            let mut best = (f64::INFINITY, 0, 0);
            for i in 0..groups.len() {
                for j in 0..i {
                    let both: Vec<usize> = groups[i].iter().chain(&groups[j]).copied().collect();
                    let cost = spread(&both) - spread(&groups[i]) - spread(&groups[j]);
                    if cost < best.0 {
                        best = (cost, i, j);
                    }
                }
            }
            let moved = groups.swap_remove(best.1);
            groups[best.2].extend(moved);
        }
        groups.iter_mut().for_each(|g| g.sort_unstable());
        groups.sort();
        groups
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_chain_finds_the_same_groups_as_the_definition(
            rows in prop::collection::vec(prop::collection::vec(-1.0_f32..1.0, 5), 2..24), factor in 2_usize..=4,
        ) {
            let points = unit(&rows);
            let n_groups = rows.len().div_ceil(factor);
            let groups = ward(&points, 5, n_groups);
            let mut found = vec![Vec::new(); n_groups];
            for (i, &g) in groups.iter().enumerate() {
                found[g].push(i);
            }
            found.sort();
            prop_assert_eq!(found, naive_ward(&points, 5, n_groups));
        }

        #[test]
        fn pooled_documents_have_the_announced_length_and_a_whole_map(
            rows in prop::collection::vec(prop::collection::vec(-1.0_f32..1.0, 4), 0..40), factor in 1_usize..=4,
        ) {
            let points = unit(&rows);
            let pooled = pool(&points, 4, factor);
            let n = rows.len();
            let expected = if factor == 1 || n <= 2 { n } else { 1 + (n - 1).div_ceil(factor) };
            prop_assert_eq!(pooled.embeddings.len(), expected * 4);
            prop_assert_eq!(pooled.map.len(), n);
            let mut next = 0;
            for &to in &pooled.map {
                prop_assert!(to <= next, "numbered by first appearance");
                next = next.max(to + 1);
            }
            prop_assert_eq!(usize::from(next), expected);
            if n > 0 {
                prop_assert_eq!(pooled.map.iter().filter(|&&t| t == 0).count(), 1, "the marker stays alone");
                let drift: f32 = (0..4).map(|d| (pooled.embeddings[d] - points[d]).abs()).sum();
                prop_assert!(drift < 1e-5);
            }
            for row in pooled.embeddings.chunks_exact(4) {
                let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
                prop_assert!((norm - 1.0).abs() < 1e-4, "length {}", norm);
            }
        }
    }

    #[test]
    fn equal_tokens_pool_without_end() {
        let points: Vec<f32> = [1.0, 0.0].repeat(33);
        let pooled = pool(&points, 2, 4);
        assert_eq!(pooled.embeddings.len() / 2, 9);
    }

    #[test]
    fn opposite_tokens_do_not_vanish() {
        let pooled = pool(&[1.0, 0.0, 0.0, 1.0, 0.0, -1.0], 2, 2);
        assert_eq!(pooled.embeddings, [1.0, 0.0, 0.0, 1.0]);
        assert_eq!(pooled.map, [0, 1, 1]);
    }
}
