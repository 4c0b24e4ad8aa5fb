//! Sections to bundle to hits.

use super::support::{bundle, fetch, load_model, model, open, open_words, search, served};
use shirube_format::bundle::{Bundle, Section, folder};
use shirube_lexical::{Analyzer, Bm25Index};
use shirube_retriever::{
    BM25_B, BM25_K1, Filters, PartName, RetrieverError, SearchMode, SearchOptions, SearchResults, Stage,
};
use shirube_site::BuildOptions;
use shirube_tests::{random_model, sections};
use tempfile::tempdir;

#[test]
fn a_section_is_found_by_its_own_words() {
    let mut retriever = open(&bundle(1), model()).unwrap();
    let mut n_first = 0;
    for (i, section) in sections().iter().enumerate() {
        let results = search(&mut retriever, &section.document().text).unwrap();
        assert_eq!(results.hits.len(), 10);
        assert!(results.hits.windows(2).all(|w| (w[0].score, w[1].document) > (w[1].score, w[0].document) || w[0].score > w[1].score));
        n_first += usize::from(results.hits[0].document.0 as usize == i);
    }
    // Query and document differ in their marker, which random weights spread over all tokens; most must still come first.
    assert!(n_first >= 40, "{n_first} of 50");
}

#[test]
fn a_bundle_read_back_from_disk_gives_the_same_ids_and_scores() {
    let folder = tempdir().unwrap();
    let options = BuildOptions { name: "sample".to_owned(), ..BuildOptions::default() };
    let report = shirube_site::build(sections(), &model(), &options, folder.path(), |_| {}).unwrap();
    assert_eq!(report.entry.counts.documents, 50);
    assert_eq!(report.entry.counts.pages, 10);
    assert!(report.entry.counts.tokens * 2 <= report.entry.counts.tokens_before_pooling + 2 * 50);
    let (entry, files) = folder::read(folder.path()).unwrap();
    assert_eq!((entry.to_bytes(), files.clone()), bundle(2), "the files on disk are those made in memory");

    let mut first = open(&bundle(2), model()).unwrap();
    let mut again = open(&(entry.to_bytes(), files), load_model(&served(random_model(1))).unwrap()).unwrap();
    for query in ["再レンダリングを減らしたい", "所有権とは", "テスト", "😀"] {
        assert_eq!(search(&mut first, query).unwrap(), search(&mut again, query).unwrap());
    }
}

#[test]
fn building_twice_over_a_folder_changes_nothing() {
    let folder = tempdir().unwrap();
    let options = BuildOptions { name: "sample".to_owned(), ..BuildOptions::default() };
    let build = || shirube_site::build(sections(), &model(), &options, folder.path(), |_| {}).unwrap();
    let first = build();
    let second = build();
    assert_eq!(first.entry, second.entry);
    assert!(second.removed.is_empty());
}

#[test]
fn matches_stand_where_the_words_are() {
    for pool_factor in [1, 2, 4] {
        let mut retriever = open(&bundle(pool_factor), model()).unwrap();
        let results = search(&mut retriever, "所有権のライフタイム").unwrap();
        let words: Vec<&str> = results.query_tokens.iter().map(|t| &results.query[t.range.clone()]).collect();
        assert_eq!(words, ["所有権", "の", "ライフタイム"]);
        for hit in &results.hits {
            assert_eq!(hit.matches.len(), words.len());
            let shares: f32 = hit.matches.iter().map(|m| m.contribution).sum();
            // The marker's share is the rest of the score.
            assert!((-1.01..=1.01).contains(&(hit.maxsim - shares)), "MaxSim {}, words {shares}", hit.maxsim);
            for m in &hit.matches {
                assert!(
                    (m.similarity - m.contribution).abs() < 1e-3,
                    "a model without weights has queries of length 1"
                );
                assert!((-1.01..=1.01).contains(&m.similarity));
                for place in &m.places {
                    let part: &str = match place.part {
                        PartName::Title => &hit.section.title,
                        PartName::Heading => &hit.section.headings[place.heading],
                        PartName::Text => &hit.section.text,
                    };
                    assert!(!part[place.range.clone()].is_empty(), "the range lies on character boundaries");
                }
            }
            for (marks, text) in
                [(&hit.highlights.title, &hit.section.title), (&hit.highlights.text, &hit.section.text)]
            {
                assert!(marks.windows(2).all(|w| w[0].range.end <= w[1].range.start));
                assert!(
                    marks
                        .iter()
                        .all(|m| text.get(m.range.clone()).is_some() && (0.0..=1.0).contains(&m.strength))
                );
            }
        }
    }
}

#[test]
fn ranges_in_utf16_cut_the_same_words() {
    let emoji = Section {
        id: "e".to_owned(),
        title: "😀所有権".to_owned(),
        text: "😀😀所有権の概要".to_owned(),
        ..Section::default()
    };
    let options = BuildOptions::default();
    let (bundle, _) = shirube_site::make_bundle(vec![emoji], &model(), &options, |_| {}).unwrap();
    let (entry, files) = bundle.pack();
    let mut retriever = open(&(entry.to_bytes(), files), model()).unwrap();
    let options = SearchOptions { min_similarity: -1.0, ..SearchOptions::default() };
    let bytes = retriever.search("😀 所有権", &options).unwrap();
    let units = bytes.clone().into_utf16();
    let cut = |text: &str, range: &core::ops::Range<usize>| -> String {
        String::from_utf16(&text.encode_utf16().collect::<Vec<_>>()[range.clone()]).unwrap()
    };
    for (b, u) in bytes.query_tokens.iter().zip(&units.query_tokens) {
        assert_eq!(bytes.query[b.range.clone()], cut(&units.query, &u.range));
    }
    let (b, u) = (&bytes.hits[0], &units.hits[0]);
    assert!(!b.highlights.text.is_empty() || !b.highlights.title.is_empty());
    for (b, u) in b.highlights.text.iter().zip(&u.highlights.text) {
        assert_eq!(bytes.hits[0].section.text[b.range.clone()], cut(&units.hits[0].section.text, &u.range));
    }
}

#[test]
fn empty_queries_are_a_typed_error_and_endless_ones_are_cut() {
    let mut retriever = open(&bundle(2), model()).unwrap();
    for query in ["", " ", "\u{3000}\n\t", "\u{200b}"] {
        assert!(matches!(search(&mut retriever, query), Err(RetrieverError::EmptyQuery)), "{query:?}");
    }
    let long = "再レンダリング".repeat(100_000 / 7);
    let results = search(&mut retriever, &long).unwrap();
    assert!(results.truncated && results.hits.len() == 10);
    assert!(results.query_tokens.len() < 128);
    assert!(!search(&mut retriever, "再レンダリング").unwrap().truncated);
    let huge = "あ".repeat(1 << 20);
    assert!(search(&mut retriever, &huge).unwrap().query.len() <= 1 << 18);
    for limit in [0, 1001] {
        let options = SearchOptions { limit, ..SearchOptions::default() };
        assert!(matches!(
            retriever.search("所有権", &options),
            Err(RetrieverError::Setting { name: "limit", .. })
        ));
    }
}

#[test]
fn documents_of_emoji_only_are_indexed_and_found() {
    let mut all = sections();
    all.push(Section {
        id: "emoji".to_owned(), text: "😀👩‍👩‍👧‍👦🇯🇵".repeat(3), ..Section::default()
    });
    let (bundle, _) = shirube_site::make_bundle(all, &model(), &BuildOptions::default(), |_| {}).unwrap();
    let (entry, files) = bundle.pack();
    let mut retriever = open(&(entry.to_bytes(), files), model()).unwrap();
    let results = search(&mut retriever, "👩‍👩‍👧‍👦").unwrap();
    assert!(results.hits.iter().any(|h| h.section.id == "emoji"));
}

#[test]
fn progress_reaches_every_stage_and_long_sections_are_counted() {
    let mut all = sections();
    all[0].text = "再レンダリング".repeat(200);
    let mut seen = Vec::new();
    let (bundle, n_truncated): (Bundle, usize) =
        shirube_site::make_bundle(all, &model(), &BuildOptions::default(), |p| seen.push(format!("{p:?}")))
            .unwrap();
    assert_eq!((bundle.sections.len(), n_truncated), (50, 1));
    for stage in ["Encode { sections: 50, of: 50 }", "KMeans", "Pack"] {
        assert!(seen.iter().any(|s| s.contains(stage)), "{stage} in {seen:?}");
    }
}

#[test]
fn the_lexical_weight_goes_from_meaning_alone_to_words_first() {
    let mut retriever = open(&bundle(1), model()).unwrap();
    let mut scores = |lexical_weight: f32| {
        let options = SearchOptions { lexical_weight, limit: 12, ..SearchOptions::default() };
        retriever.search("所有権のライフタイム", &options).map(|results| results.hits)
    };
    let meaning = scores(0.0).unwrap();
    assert!(meaning.iter().all(|hit| hit.score == hit.maxsim));
    assert!(meaning.windows(2).all(|pair| pair[0].maxsim >= pair[1].maxsim));
    let words = scores(10.0).unwrap();
    let best = words.iter().map(|hit| hit.lexical).fold(0.0, f32::max);
    assert!(best > 0.0, "the words of the query occur");
    assert_eq!(words[0].lexical, best);
    for wrong in [-0.1, 10.1, f32::NAN] {
        assert!(matches!(scores(wrong), Err(RetrieverError::LexicalWeight { .. })), "{wrong}");
    }
}

#[test]
fn filters_narrow_before_ranking_and_passages_answer_for_their_section() {
    let mut all = sections();
    for (i, section) in all.iter_mut().enumerate() {
        section.filters.insert("版".to_owned(), vec![if i % 10 == 0 { "v4" } else { "v3" }.to_owned()]);
        section.sort.insert("順".to_owned(), (100 - i).to_string());
        // Every topic's second section is a passage of its first.
        if i % 5 == 1 {
            section.passage = 1;
        }
    }
    let (bundle, _) = shirube_site::make_bundle(all, &model(), &BuildOptions::default(), |_| {}).unwrap();
    let (entry, files) = bundle.pack();
    let mut retriever = open(&(entry.to_bytes(), files), model()).unwrap();
    let mut hits = |filters: &[(&str, &str)], sort| {
        let filters =
            filters.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()])).collect();
        let options = SearchOptions { limit: 1000, filters, sort, ..SearchOptions::default() };
        retriever.search("所有権のライフタイム", &options)
    };
    let everything = hits(&[], None).unwrap();
    assert_eq!((everything.hits.len(), everything.n_scored), (40, 50));
    for topic in 0..10 {
        let of_topic = everything.hits.iter().filter(|h| h.document.0 / 5 == topic && h.document.0 % 5 < 2);
        assert_eq!(of_topic.count(), 1, "one of the two passages of topic {topic}");
    }
    let counts: Vec<_> = everything.filters["版"].iter().map(|c| (c.value.as_str(), c.n_sections)).collect();
    assert_eq!(counts, [("v3", 35), ("v4", 5)]);

    let newest = hits(&[("版", "v4")], None).unwrap();
    assert_eq!((newest.hits.len(), newest.n_scored), (5, 5));
    assert!(newest.hits.iter().all(|h| h.document.0.is_multiple_of(10)));
    let by = shirube_retriever::SortBy { name: "順".to_owned(), descending: false };
    let sorted = hits(&[("版", "v4")], Some(by)).unwrap();
    assert_eq!(sorted.hits.iter().map(|h| h.document.0).collect::<Vec<_>>(), [40, 30, 20, 10, 0]);
    assert!(matches!(hits(&[("年", "2026")], None), Err(RetrieverError::UnknownFilter { .. })));
}

#[test]
fn words_answer_without_a_model_and_from_a_few_files() {
    let files = bundle(2);
    let (mut opened, _) = open_words(&files).unwrap();
    let mut asked = std::collections::BTreeSet::new();
    let options = SearchOptions::default();
    let results = opened
        .retriever
        .answer("所有権の使い方", &options, &|| 0.0, |need| {
            asked.insert(need.path.clone());
            fetch(&files.1, need)
        })
        .unwrap();
    assert_eq!(results.stage, Stage::Words);
    assert!(results.hits[0].section.title.contains("所有権"));
    assert!(
        results.hits.iter().all(|hit| hit.lexical > 0.0 && hit.score >= hit.lexical && hit.maxsim == 0.0)
    );
    assert!(
        asked.iter().all(|path| path.starts_with("lexical/") || path.starts_with("sections/")),
        "{asked:?}"
    );
    let marks = &results.hits[0].highlights.title;
    assert!(marks.iter().any(|m| &results.hits[0].section.title[m.range.clone()] == "所有権"), "{marks:?}");
    // Nothing is asked for twice.
    let again =
        opened.retriever.answer("所有権の使い方", &options, &|| 0.0, |need| panic!("{need:?}")).unwrap();
    assert_eq!(again, results);
    assert!(matches!(opened.retriever.search("所有権", &options, &|| 0.0), Err(RetrieverError::NoModel)));
    assert!(matches!(opened.search(" \u{3000}", &options), Err(RetrieverError::EmptyQuery)));
    assert!(opened.search("qqq", &options).unwrap().hits.is_empty());
}

#[test]
fn words_in_shards_score_exactly_as_words_in_memory() {
    let files = bundle(2);
    let (mut opened, _) = open_words(&files).unwrap();
    let texts: Vec<String> = sections().iter().map(|s| s.document().text).collect();
    let memory = Bm25Index::build(&texts, Analyzer::grams(), BM25_K1, BM25_B).unwrap();
    for query in ["所有権の使い方", "具体的な例", "テスト テスト", "ライフタイムとジェネリクス", "状"]
    {
        let options = SearchOptions { limit: 50, ..SearchOptions::default() };
        let found = opened.search(query, &options).unwrap();
        let mut found: Vec<_> = found.hits.iter().map(|hit| (hit.document, hit.lexical)).collect();
        // Hits that hold the whole query stand first whatever their score.
        found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        assert_eq!(found, memory.search(query, 50), "{query}");
    }
}

#[test]
fn a_hit_that_holds_the_query_unbroken_stands_above_those_with_its_pieces() {
    let section =
        |id: &str, text: &str| Section { id: id.to_owned(), text: text.to_owned(), ..Section::default() };
    // The pieces of 東京都 and of サーバー設定 often, apart from each other; then the words themselves, once in a long text.
    let pieces = "東京と京都、東京と京都、東京と京都。サーバー、バー設定、サーバー、設定。".repeat(3);
    let long = "これは別の話題についての長い説明で、";
    let mut sections = vec![
        section("pieces", &pieces),
        section("whole", &format!("{}東京都のサーバー設定{}", long.repeat(4), long.repeat(4))),
        section("spelled", &format!("{}サーバ設定{}", long.repeat(4), long.repeat(4))),
    ];
    sections.extend((0..8).map(|i| section(&format!("other-{i}"), long)));
    let options = BuildOptions { name: "pieces".to_owned(), ..BuildOptions::default() };
    let (bundle, _) = shirube_site::make_bundle(sections, &model(), &options, |_| {}).unwrap();
    let (entry, files) = bundle.pack();
    let (mut opened, _) = open_words(&(entry.to_bytes(), files)).unwrap();
    for limit in [1, 2, 3, 10] {
        let options = SearchOptions { limit, ..SearchOptions::default() };
        let mut ids = |query| -> Vec<String> {
            opened.search(query, &options).unwrap().hits.into_iter().map(|hit| hit.section.id).collect()
        };
        assert_eq!(ids("東京都")[0], "whole", "limit {limit}");
        let found = ids("サーバー設定");
        assert_eq!(found[0], "whole", "limit {limit}");
        assert_eq!(found.get(1).map_or("spelled", String::as_str), "spelled", "limit {limit}");
        assert_eq!(found.get(2).map_or("pieces", String::as_str), "pieces", "limit {limit}");
    }
    let results = opened.search("サーバー設定", &SearchOptions::default()).unwrap();
    let marked: Vec<&str> = results.hits[1]
        .highlights
        .text
        .iter()
        .map(|m| &results.hits[1].section.text[m.range.clone()])
        .collect();
    assert_eq!(marked.concat(), "サーバ設定", "another spelling is marked as well");
}

/// Hits and their scores.
fn ranking(results: &SearchResults) -> Vec<(u32, f32, f32)> {
    results.hits.iter().map(|hit| (hit.document.0, hit.score, hit.maxsim)).collect()
}

#[test]
fn every_stage_of_a_search_in_memory_answers_as_scoring_all_does_filters_words_and_weights_included() {
    let mut all = sections();
    for (i, section) in all.iter_mut().enumerate() {
        section.filters.insert("版".to_owned(), vec![if i % 3 == 0 { "v4" } else { "v3" }.to_owned()]);
        section.weight = (i % 7 == 0).then_some(1.5);
    }
    all.insert(8, Section { passage: 1, text: "所有権の続きです。".to_owned(), ..all[7].clone() });
    let (bundle, _) = shirube_site::make_bundle(all, &model(), &BuildOptions::default(), |_| {}).unwrap();
    let (entry, files) = bundle.pack();
    let mut retriever = open(&(entry.to_bytes(), files), model()).unwrap();
    for query in ["所有権の使い方", "再レンダリングを減らしたい", "テスト"] {
        for (lexical_weight, filter, limit) in [(0.3, None, 10), (0.0, None, 60), (1.0, Some("v4"), 5)] {
            let filters: Filters =
                filter.into_iter().map(|f: &str| ("版".to_owned(), vec![f.to_owned()])).collect();
            let mut search = |mode| {
                let filters = filters.clone();
                let options =
                    SearchOptions { lexical_weight, filters, limit, mode, ..SearchOptions::default() };
                retriever.search(query, &options).unwrap()
            };
            let exact = search(SearchMode::Exact);
            assert!(!exact.hits.is_empty() && exact.hits.iter().all(|hit| !hit.matches.is_empty()));
            assert_eq!(search(SearchMode::Auto), exact, "a small index is scored exactly");
            // The scan keeps more documents than there are; a probe leaves out those that no query token and no word comes near.
            let scan = search(SearchMode::Scan);
            assert_eq!(
                (ranking(&scan), scan.n_scored),
                (ranking(&exact), exact.n_scored),
                "{query} {filter:?}"
            );
            let probe = ranking(&search(SearchMode::Probe));
            assert_eq!(probe[0], ranking(&exact)[0], "{query} {filter:?}");
            assert!(
                probe.iter().all(|hit| limit < 60 || ranking(&exact).contains(hit)),
                "{query} {filter:?}"
            );
        }
    }
}
