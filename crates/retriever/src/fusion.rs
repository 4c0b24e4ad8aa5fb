//! Words and meaning in one score.
//!
//! ```text
//! fused(d) = maxsim(d) / max maxsim + lexical_weight * bm25(d) / max bm25
//! score(d) = fused(d) + WINDOW_WEIGHT * window(d) / max maxsim       for the N_WINDOWED best by fused; fused(d) for the others
//! ```
//!
//! `window` is MaxSim of the document's best window, a sentence or two ([`Scorer::best_windows`](shirube_index::Scorer::best_windows)): an answer stands together,
//! and MaxSim alone cannot tell it from a text that has the same words scattered over it. Nothing is taken from anyone, so that who is not looked at
//! stays below who is, and the order of the first hits does not depend on how many are asked for.
//!
//! The maxima are taken over the documents of one query that its filters let through: MaxSim grows with the query's length and BM25 with its terms'
//! rarity, so neither has a fixed scale, but the best document of each is a scale that a search over a few shards knows as well as one over everything.
//! Words can add at most `lexical_weight`, however rare they are. A list whose best score is not above zero says nothing and counts as zero.
//!
//! Ways not taken: sums of z-scores, which need the scores of all documents and let one rare word outvote everything (R@1 on JaQuAD dev
//! .893 at its best weight, .895 this way, chosen there; .931 both on JSQuAD); reciprocal rank fusion, which forgets by how much a
//! document is ahead, and that is what separates an exact name from a passing mention.

/// How much words count beside meaning unless the caller says otherwise.
pub const LEXICAL_WEIGHT: f32 = 0.2;

/// How much a document's best window counts beside all of it.
pub const WINDOW_WEIGHT: f32 = 0.3;

/// Documents whose best window is looked at.
pub const N_WINDOWED: usize = 50;

/// Adds to the fused scores of `documents` what their best windows have: `windows`, in the order of `documents`,
/// on the scale of the documents that are `allowed`; `None` is all.
pub fn add_windows(
    fused: &mut [f32],
    maxsim: &[f32],
    allowed: Option<&[bool]>,
    documents: &[u32],
    windows: &[f32],
) {
    let scale = WINDOW_WEIGHT * scale(maxsim, allowed);
    for (&document, window) in documents.iter().zip(windows) {
        fused[document as usize] += scale * window.max(0.0);
    }
}

/// Whether `document` counts; `None` is all.
fn counts(allowed: Option<&[bool]>, document: usize) -> bool {
    allowed.is_none_or(|allowed| allowed[document])
}

/// What a list's scores are multiplied by: one over the best score of those that count.
fn scale(scores: &[f32], allowed: Option<&[bool]>) -> f32 {
    let counted = scores.iter().enumerate().filter(|(d, _)| counts(allowed, *d));
    let best = counted.map(|(_, &score)| score).fold(0.0, f32::max);
    if best > 0.0 { best.recip() } else { 0.0 }
}

/// The fused score of every document; with a weight of 0 MaxSim as it is.
///
/// # Panics
/// If the two lists do not score the same documents: the caller's mistake.
pub fn fuse(maxsim: &[f32], lexical: &[f32], lexical_weight: f32) -> Vec<f32> {
    fuse_among(maxsim, lexical, lexical_weight, None)
}

/// [`fuse`] on the scale of the documents that are `allowed`.
pub(crate) fn fuse_among(
    maxsim: &[f32],
    lexical: &[f32],
    lexical_weight: f32,
    allowed: Option<&[bool]>,
) -> Vec<f32> {
    assert_eq!(maxsim.len(), lexical.len(), "both score every document");
    if lexical_weight == 0.0 {
        return maxsim.to_vec();
    }
    let (m_scale, l_scale) = (scale(maxsim, allowed), lexical_weight * scale(lexical, allowed));
    maxsim.iter().zip(lexical).map(|(m, l)| m * m_scale + l * l_scale).collect()
}

/// The population deviation of the `scores` of documents that are `allowed`.
pub(crate) fn deviation(scores: &[f32], allowed: Option<&[bool]>) -> f32 {
    let counted =
        || scores.iter().enumerate().filter(|(d, _)| counts(allowed, *d)).map(|(_, &score)| f64::from(score));
    let n = counted().count().max(1) as f64;
    let mean = counted().sum::<f64>() / n;
    (counted().map(|score| (score - mean).powi(2)).sum::<f64>() / n).sqrt() as f32
}

/// The best `k` of `documents`, best first, ties to the lower id.
pub fn top_k(documents: impl IntoIterator<Item = u32>, scores: &[f32], k: usize) -> Vec<u32> {
    let order = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
    if k == 0 {
        return Vec::new();
    }
    // Room for twice as many: whenever it is full the better half stays, and most of what comes later is below that at a glance.
    let room = k.saturating_mul(2).max(64);
    let (mut kept, mut least) = (Vec::new(), f32::NEG_INFINITY);
    for document in documents {
        if scores[document as usize] < least {
            continue;
        }
        kept.push(document);
        if kept.len() == room {
            kept.select_nth_unstable_by(k - 1, order);
            kept.truncate(k);
            least = scores[kept[k - 1] as usize];
        }
    }
    if kept.len() > k {
        kept.select_nth_unstable_by(k - 1, order);
        kept.truncate(k);
    }
    kept.sort_unstable_by(order);
    kept
}

#[cfg(test)]
mod tests {
    use super::{WINDOW_WEIGHT, add_windows, deviation, fuse, fuse_among, top_k};
    use proptest::prelude::*;

    #[test]
    fn the_fused_score_is_the_formula_written_out() {
        let fused = fuse(&[1.0, 2.0, 4.0], &[3.0, 1.5, 0.0], 0.5);
        assert_eq!(fused, [0.25 + 0.5, 0.5 + 0.25, 1.0]);
    }

    #[test]
    fn a_best_window_adds_its_share_and_takes_nothing_from_anyone() {
        let maxsim = [4.0, 3.9, 1.0, 2.0];
        let fused = fuse(&maxsim, &[0.0; 4], 0.3);
        let mut with = fused.clone();
        add_windows(&mut with, &maxsim, None, &[0, 1, 2], &[2.0, 3.6, -1.0]);
        assert!((with[0] - (1.0 + WINDOW_WEIGHT * 0.5)).abs() < 1e-6, "{with:?}");
        assert_eq!((with[2], with[3]), (fused[2], fused[3]));
        assert_eq!(top_k(vec![0, 1, 2, 3], &with, 2), [1, 0], "the words stand together there");
        let mut none = fused.clone();
        add_windows(&mut none, &[-1.0; 4], None, &[0], &[5.0]);
        assert_eq!(none, fused);
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

    #[test]
    fn what_a_filter_leaves_out_tells_no_scale() {
        let allowed = [true, false, true];
        let fused = fuse_among(&[1.0, 8.0, 2.0], &[3.0, 9.0, 0.0], 0.5, Some(&allowed));
        assert_eq!((fused[0], fused[2]), (0.5 + 0.5, 1.0));
        assert_eq!(deviation(&[1.0, 8.0, 3.0], Some(&allowed)), 1.0);
    }

    proptest! {
        #[test]
        fn the_best_are_those_of_a_full_sort(scores in prop::collection::vec(-3_i8..3, 0..400), k in 0_usize..70) {
            let scores: Vec<f32> = scores.into_iter().map(f32::from).collect();
            let mut sorted: Vec<u32> = (0..scores.len() as u32).collect();
            sorted.sort_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b)));
            sorted.truncate(k);
            prop_assert_eq!(top_k(0..scores.len() as u32, &scores, k), sorted);
        }
    }
}
