//! A model alone: sections by their nearness to a query, and weights that are read as they come.

use super::support::{bundle, load_model, model, open, served};
use shirube_core::Role;
use shirube_format::FormatError;
use shirube_retriever::{
    Kernels, ModelLoader, PartName, Place, Reranker, RetrieverError, SearchOptions, Section,
};
use shirube_tests::{random_model, sections};

const QUERY: &str = "所有権と再レンダリング😀";

fn reranker() -> Reranker {
    Reranker::new(model(), Kernels::detect())
}

fn rank(reranker: &mut Reranker, query: &str, sections: Vec<Section>) -> Vec<(u32, f32)> {
    let options = SearchOptions { limit: 1000, ..SearchOptions::default() };
    let results = reranker.rank(query, sections, &options, &|| 0.0).unwrap();
    results.hits.iter().map(|hit| (hit.document.0, hit.score)).collect()
}

/// MaxSim in plain loops.
fn maxsim(query: &[f32], document: &[f32], dim: usize) -> f32 {
    let best = |q: &[f32]| {
        let dots = document.chunks_exact(dim).map(|d| q.iter().zip(d).map(|(a, b)| a * b).sum::<f32>());
        dots.fold(f32::MIN, f32::max)
    };
    query.chunks_exact(dim).map(best).sum()
}

#[test]
fn sections_are_ranked_by_maxsim_of_their_embeddings() {
    let mut reranker = reranker();
    let found = rank(&mut reranker, QUERY, sections());
    assert_eq!(found.len(), sections().len());
    assert!(found.is_sorted_by(|a, b| a.1 > b.1 || (a.1 == b.1 && a.0 < b.0)));
    let dim = reranker.model().dim();
    let query = reranker.encode(QUERY, Role::Query).unwrap();
    for (document, score) in found {
        let text = sections()[document as usize].document().text;
        let expected = maxsim(&query, &reranker.encode(&text, Role::Document).unwrap(), dim);
        assert!((score - expected).abs() <= 1e-4, "section {document}: {score}, expected {expected}");
    }
}

#[test]
fn a_section_scores_the_same_alone_among_others_and_from_kept_embeddings() {
    let mut reranker = reranker();
    let all = rank(&mut reranker, QUERY, sections());
    assert_eq!(reranker.n_kept(), sections().len());
    let other = rank(&mut reranker, "状態", sections());
    assert_ne!(all, other);
    assert_eq!(rank(&mut reranker, QUERY, sections()), all, "from kept embeddings");
    assert_eq!(reranker.n_kept(), sections().len());
    for (document, score) in all {
        let one = vec![sections()[document as usize].clone()];
        assert_eq!(rank(&mut self::reranker(), QUERY, one), [(0, score)]);
    }
}

#[test]
fn matches_are_of_the_tokens_that_a_search_over_the_same_sections_names() {
    let options = SearchOptions { limit: 100, lexical_weight: 0.0, ..SearchOptions::default() };
    let mut opened = open(&bundle(1), model()).unwrap();
    let searched = opened.search(QUERY, &options).unwrap();
    let ranked = reranker().rank(QUERY, sections(), &options, &|| 0.0).unwrap();
    assert_eq!(ranked.query_tokens, searched.query_tokens);
    for hit in &ranked.hits {
        let same = searched.hits.iter().find(|other| other.section.id == hit.section.id);
        let same = same.expect("a search without a limit finds every section");
        assert_eq!(hit.matches.len(), same.matches.len());
        let length = |place: &Place| match place.part {
            PartName::Title => hit.section.title.len(),
            PartName::Heading => hit.section.headings[place.heading].len(),
            PartName::Text => hit.section.text.len(),
        };
        assert!(hit.matches.iter().flat_map(|m| &m.places).all(|place| place.range.end <= length(place)));
        assert!(hit.matches.iter().all(|m| m.similarity <= 1.001));
    }
}

#[test]
fn blank_queries_are_refused_and_empty_sections_are_no_error() {
    let mut reranker = reranker();
    let options = SearchOptions::default();
    let refused = reranker.rank("　", sections(), &options, &|| 0.0);
    assert!(matches!(refused, Err(RetrieverError::EmptyQuery)));
    assert!(reranker.rank(QUERY, Vec::new(), &options, &|| 0.0).unwrap().hits.is_empty());
    assert_eq!(rank(&mut reranker, QUERY, vec![Section::default()]).len(), 1);
}

#[test]
fn weights_may_come_in_any_order_and_twice() {
    let (manifest, files) = served(random_model(1));
    let expected = load_model(&(manifest.clone(), files.clone())).unwrap();
    let mut loader = ModelLoader::new(&manifest).unwrap();
    for (path, bytes) in files.iter().rev() {
        let damaged = bytes[..bytes.len() / 2].to_vec();
        assert!(matches!(
            loader.provide(path, damaged),
            Err(RetrieverError::Format(FormatError::Length { .. }))
        ));
        loader.provide(path, bytes.clone()).unwrap();
        loader.provide(path, bytes.clone()).unwrap();
    }
    assert_eq!(loader.missing().count(), 0);
    let mut ours = Reranker::new(loader.finish(Kernels::detect()).unwrap(), Kernels::detect());
    let mut theirs = Reranker::new(expected, Kernels::detect());
    let encode = |r: &mut Reranker| r.encode(QUERY, Role::Query).unwrap();
    assert_eq!(encode(&mut ours), encode(&mut theirs));
}
