//! The index against the formula, term by term.

use proptest::prelude::*;
use shirube_lexical::{Analyzer, Bm25Index, LexicalBuilder, ShardedIndex, Term};
use std::collections::HashMap;

fn terms(text: &str) -> Vec<Term> {
    let mut terms = Vec::new();
    Analyzer::bigrams().terms(text, |term| terms.push(term));
    terms
}

/// Scores by the formula in the crate's documentation, in f64, without an index.
fn scores(texts: &[String], query: &str, k1: f64, b: f64) -> Vec<f64> {
    let documents: Vec<Vec<Term>> = texts.iter().map(|text| terms(text)).collect();
    let n = documents.len() as f64;
    let mean = documents.iter().map(Vec::len).sum::<usize>() as f64 / n;
    let mut df: HashMap<Term, f64> = HashMap::new();
    for term in terms(query) {
        df.entry(term.clone())
            .or_insert_with(|| documents.iter().filter(|d| d.contains(&term)).count() as f64);
    }
    documents
        .iter()
        .map(|document| {
            let share = |term: &Term| {
                let tf = document.iter().filter(|t| *t == term).count() as f64;
                if tf == 0.0 {
                    return 0.0;
                }
                let idf = (1.0 + (n - df[term] + 0.5) / (df[term] + 0.5)).ln();
                idf * tf / (tf + k1 * (1.0 - b + b * document.len() as f64 / mean))
            };
            terms(query).iter().map(share).sum()
        })
        .collect()
}

fn text(max: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select("東京都の駅ab1、 ".chars().collect::<Vec<_>>()), 0..max)
        .prop_map(|chars| chars.into_iter().collect())
}

const PIECES: &[&str] = &[
    "サー",
    "バ",
    "ー",
    "ター",
    "フェ",
    "イス",
    "取",
    "り",
    "扱",
    "い",
    "人",
    "々",
    "ヶ",
    "月",
    "ri",
    "ngo",
    "りんご",
    "リンゴ",
    "の",
    " ",
    "、",
];

/// Texts whose words have other spellings.
fn spelled(max: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 0..max).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, rng_seed: proptest::test_runner::RngSeed::Fixed(11), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hits_are_the_best_documents_of_the_formula_in_order(
        texts in prop::collection::vec(text(12), 1..20),
        query in text(8),
        k in 0usize..25,
        k1 in 0.0f32..2.0,
        b in 0.0f32..1.0,
    ) {
        let index = Bm25Index::build(&texts, Analyzer::bigrams(), k1, b).expect("parameters are in range");
        let expected = scores(&texts, &query, f64::from(k1), f64::from(b));
        let hits = index.search(&query, k);
        prop_assert_eq!(hits.len(), expected.iter().filter(|&&score| score > 0.0).count().min(k));
        for (doc, score) in &hits {
            let exact = expected[doc.0 as usize];
            prop_assert!((f64::from(*score) - exact).abs() <= 1e-5 * (1.0 + exact), "{} and {}", score, exact);
        }
        for pair in hits.windows(2) {
            prop_assert!(pair[0].1 > pair[1].1 || pair[0].1 == pair[1].1 && pair[0].0 < pair[1].0);
        }
        // Nothing left out scores higher than the last hit.
        if let Some((_, last)) = hits.last() {
            for (doc, exact) in expected.iter().enumerate() {
                let found = hits.iter().any(|hit| hit.0.0 as usize == doc);
                prop_assert!(found || *exact <= f64::from(*last) + 1e-5 * (1.0 + exact));
            }
        }
    }

    #[test]
    fn shards_answer_to_the_last_bit_as_memory_does_and_ask_only_for_what_is_missing(
        texts in prop::collection::vec(spelled(12), 1..20),
        queries in prop::collection::vec(spelled(8), 1..6),
        k in 0usize..25,
        k1 in 0.0f32..2.0,
        b in 0.0f32..1.0,
    ) {
        let memory = Bm25Index::build(&texts, Analyzer::grams(), k1, b).expect("parameters are in range");
        let mut builder = LexicalBuilder::new(k1, b).expect("parameters are in range");
        for text in &texts {
            builder.push(text).expect("few documents");
        }
        let (_, directory, files) = builder.finish().pack();
        let mut shards = ShardedIndex::new(directory);
        for query in &queries {
            // The terms typed first, then those of other spellings.
            for round in 0..3 {
                let needs = shards.needs(query);
                prop_assert_eq!(shards.search(query, k).is_none(), !needs.is_empty());
                prop_assert!(round < 2 || needs.is_empty());
                for need in needs {
                    let (_, bytes) = files.iter().find(|(path, _)| *path == need.path).expect("a need names a file");
                    shards.provide(&need.path, need.range.start, &bytes[need.range.start as usize..need.range.end as usize]).expect("honest bytes");
                }
            }
            prop_assert_eq!(shards.search(query, k), Some(memory.search(query, k)));
        }
    }

    #[test]
    fn documents_taken_over_from_earlier_parts_have_the_words_of_their_text(
        texts in prop::collection::vec(spelled(12), 1..12),
        order in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..3), 1..20),
    ) {
        let new = || LexicalBuilder::new(0.9, 0.6).expect("parameters are in range");
        let earlier = texts.split_at(texts.len() / 2);
        let parts = [earlier.0, earlier.1].map(|texts| {
            let mut builder = new();
            texts.iter().for_each(|text| builder.push(text).expect("few documents"));
            builder.finish()
        });
        let (mut over, mut whole) = (new(), new());
        for (at, way) in order {
            let i = at.index(texts.len());
            whole.push(&texts[i]).expect("few documents");
            let (part, document) = if i < earlier.0.len() { (0, i) } else { (1, i - earlier.0.len()) };
            match way {
                0 => over.push(&texts[i]),
                _ => over.push_known(part, document as u32, parts[part].lengths[document]),
            }
            .expect("few documents");
        }
        prop_assert_eq!(over.finish_over(&[&parts[0], &parts[1]]), whole.finish());
    }
}
