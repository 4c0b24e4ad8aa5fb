//! Words and meaning in one score.
//!
//! ```text
//! fused(d) = z(maxsim)(d) + lexical_weight * z(bm25)(d)        z(x)(d) = (x(d) - mean(x)) / deviation(x)
//! ```
//!
//! Means and population deviations are taken over all documents, for each query anew: MaxSim grows with the query's length and BM25 with its
//! terms' rarity, so neither has a fixed scale. A score that is the same for all documents says nothing and counts as zero.
//!
//! The way not taken: reciprocal rank fusion. It forgets by how much a document is ahead, which is what separates an exact name from a
//! passing mention.

/// `scores` with mean 0 and deviation 1; all zeros where they do not differ. Sums are 64-bit and in order, so every platform agrees.
fn z_scores(scores: &[f32]) -> impl Iterator<Item = f32> + '_ {
    let n = scores.len().max(1) as f64;
    let mean = scores.iter().map(|&s| f64::from(s)).sum::<f64>() / n;
    let variance = scores.iter().map(|&s| (f64::from(s) - mean).powi(2)).sum::<f64>() / n;
    let scale = if variance > 1e-12 { variance.sqrt().recip() } else { 0.0 };
    scores.iter().map(move |&s| ((f64::from(s) - mean) * scale) as f32)
}

/// The fused score of every document; with a weight of 0 MaxSim as it is.
///
/// # Panics
/// If the two lists do not score the same documents: the caller's mistake.
pub(crate) fn fuse(maxsim: &[f32], lexical: &[f32], lexical_weight: f32) -> Vec<f32> {
    assert_eq!(maxsim.len(), lexical.len(), "both score every document");
    if lexical_weight == 0.0 {
        return maxsim.to_vec();
    }
    z_scores(maxsim).zip(z_scores(lexical)).map(|(m, l)| m + lexical_weight * l).collect()
}

/// The best `k` documents with their scores, best first, ties to the lower id.
pub(crate) fn top_k(scores: &[f32], k: usize) -> Vec<u32> {
    let order = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
    let mut documents: Vec<u32> = (0..scores.len() as u32).collect();
    if k == 0 || documents.is_empty() {
        return Vec::new();
    }
    if documents.len() > k {
        documents.select_nth_unstable_by(k - 1, order);
        documents.truncate(k);
    }
    documents.sort_unstable_by(order);
    documents
}

#[cfg(test)]
mod tests {
    use super::{fuse, top_k};

    #[test]
    fn the_fused_score_is_the_formula_written_out() {
        // Means 2 and 1, deviations sqrt(2/3) and sqrt(2).
        let fused = fuse(&[1.0, 2.0, 3.0], &[3.0, 0.0, 0.0], 0.5);
        let (a, b) = ((2.0f32 / 3.0).sqrt(), 2.0f32.sqrt());
        for (found, expected) in fused.iter().zip([-1.0 / a + 0.5 * 2.0 / b, -0.5 / b, 1.0 / a - 0.5 / b]) {
            assert!((found - expected).abs() < 1e-6, "{found} and {expected}");
        }
    }

    #[test]
    fn words_that_no_document_holds_leave_the_order_to_maxsim() {
        assert_eq!(top_k(&fuse(&[1.0, 3.0, 2.0], &[0.0; 3], 1.0), 3), [1, 2, 0]);
    }

    #[test]
    fn a_weight_of_zero_is_maxsim_itself() {
        assert_eq!(fuse(&[1.0, 3.0], &[9.0, 0.0], 0.0), [1.0, 3.0]);
    }

    #[test]
    fn ties_go_to_the_lower_document_at_every_cut() {
        for k in 0..5 {
            assert_eq!(top_k(&[1.0, 2.0, 2.0, 1.0], k), [1, 2, 0, 3][..k.min(4)]);
        }
        assert!(top_k(&[], 3).is_empty());
    }
}
