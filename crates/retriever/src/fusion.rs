//! Words and meaning in one score.
//!
//! ```text
//! fused(d) = maxsim(d) / max maxsim + lexical_weight * bm25(d) / max bm25
//! ```
//!
//! The maxima are taken over the documents of one query: MaxSim grows with the query's length and BM25 with its terms' rarity, so neither
//! has a fixed scale, but the best document of each is a scale that a search over a few shards knows as well as one over everything.
//! Words can add at most `lexical_weight`, however rare they are. A list whose best score is not above zero says nothing and counts as zero.
//!
//! Ways not taken: sums of z-scores, which need the scores of all documents and let one rare word outvote everything (R@1 on JaQuAD dev
//! .893 at its best weight, .895 this way, chosen there; .931 both on JSQuAD); reciprocal rank fusion, which forgets by how much a
//! document is ahead, and that is what separates an exact name from a passing mention.

/// How much words count beside meaning unless the caller says otherwise.
pub const LEXICAL_WEIGHT: f32 = 0.3;

/// What a list's scores are multiplied by: one over its best score.
fn scale(scores: &[f32]) -> f32 {
    let best = scores.iter().copied().fold(0.0, f32::max);
    if best > 0.0 { best.recip() } else { 0.0 }
}

/// The fused score of every document; with a weight of 0 MaxSim as it is.
///
/// # Panics
/// If the two lists do not score the same documents: the caller's mistake.
pub fn fuse(maxsim: &[f32], lexical: &[f32], lexical_weight: f32) -> Vec<f32> {
    assert_eq!(maxsim.len(), lexical.len(), "both score every document");
    if lexical_weight == 0.0 {
        return maxsim.to_vec();
    }
    let (m_scale, l_scale) = (scale(maxsim), lexical_weight * scale(lexical));
    maxsim.iter().zip(lexical).map(|(m, l)| m * m_scale + l * l_scale).collect()
}

/// The population deviation of `scores`.
pub(crate) fn deviation(scores: &[f32]) -> f32 {
    let n = scores.len().max(1) as f64;
    let mean = scores.iter().map(|&s| f64::from(s)).sum::<f64>() / n;
    (scores.iter().map(|&s| (f64::from(s) - mean).powi(2)).sum::<f64>() / n).sqrt() as f32
}

/// The best `k` of `documents`, best first, ties to the lower id.
pub(crate) fn top_k(mut documents: Vec<u32>, scores: &[f32], k: usize) -> Vec<u32> {
    let order = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
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
        let fused = fuse(&[1.0, 2.0, 4.0], &[3.0, 1.5, 0.0], 0.5);
        assert_eq!(fused, [0.25 + 0.5, 0.5 + 0.25, 1.0]);
    }

    #[test]
    fn words_add_at_most_their_weight_however_rare() {
        let fused = fuse(&[1.0, 0.9, 0.3], &[0.0, 0.0, 1e6], 0.4);
        assert!((fused[2] - 0.7).abs() < 1e-6 && fused[0] > fused[2], "{fused:?}");
    }

    #[test]
    fn a_list_without_a_positive_score_says_nothing() {
        assert_eq!(top_k(vec![0, 1], &fuse(&[-1.0, -2.0], &[0.0, 1.0], 0.4), 2), [1, 0]);
    }

    #[test]
    fn words_that_no_document_holds_leave_the_order_to_maxsim() {
        assert_eq!(top_k(vec![0, 1, 2], &fuse(&[1.0, 3.0, 2.0], &[0.0; 3], 1.0), 3), [1, 2, 0]);
    }

    #[test]
    fn a_weight_of_zero_is_maxsim_itself() {
        assert_eq!(fuse(&[1.0, 3.0], &[9.0, 0.0], 0.0), [1.0, 3.0]);
    }

    #[test]
    fn ties_go_to_the_lower_document_at_every_cut() {
        for k in 0..5 {
            assert_eq!(top_k(vec![0, 1, 2, 3], &[1.0, 2.0, 2.0, 1.0], k), [1, 2, 0, 3][..k.min(4)]);
        }
        assert!(top_k(Vec::new(), &[], 3).is_empty());
    }
}
