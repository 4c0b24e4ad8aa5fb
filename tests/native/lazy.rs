//! A bundle whose codes stay on their host: the same answers as from memory where nothing is left out, and few bytes where something is.

use super::support::{Files, Opened, fetch, model, open, open_words};
use shirube_format::bundle::Section;
use shirube_index::IndexOptions;
use shirube_retriever::{
    Answer, FormatError, Kernels, LazyOptions, RetrieverError, SearchOptions, SearchResults, Stage,
};
use shirube_site::BuildOptions;
use shirube_tests::sections;

const QUERIES: [&str; 5] = ["所有権の使い方", "再レンダリングを減らしたい", "テスト", "状態", "具体的な例"];

/// Entry and files of the sample sections, some with a weight, one in two passages, with lists.
fn with_lists() -> (Vec<u8>, Files) {
    let mut all = sections();
    for (i, section) in all.iter_mut().enumerate() {
        section.filters.insert("版".to_owned(), vec![if i % 10 == 0 { "v4" } else { "v3" }.to_owned()]);
        section.weight = (i % 7 == 0).then_some(1.5);
    }
    all.insert(8, Section { passage: 1, text: "所有権の続きです。".to_owned(), ..all[7].clone() });
    let options = BuildOptions {
        name: "sample".to_owned(),
        index: IndexOptions { pool_factor: 1, ..IndexOptions::default() },
        ..BuildOptions::default()
    };
    let (bundle, _) = shirube_site::make_bundle(all, &model(), &options, |_| {}).unwrap();
    let (entry, files) = bundle.pack_with_lists_from(0);
    (entry.to_bytes(), files)
}

fn open_lazy(files: &(Vec<u8>, Files), options: LazyOptions) -> Opened {
    let (mut opened, loader) = open_words(files).unwrap();
    let index = loader.lazy_index(Kernels::detect()).unwrap();
    opened.retriever.attach(model(), index, Kernels::detect()).unwrap();
    opened.retriever.set_lazy_options(options);
    opened
}

/// Every answer but what tells where the index lies.
fn same(found: SearchResults) -> SearchResults {
    SearchResults { timings: Default::default(), ..found }
}

#[test]
fn an_unbounded_lazy_search_answers_as_from_memory() {
    let files = with_lists();
    let (mut resident, mut lazy) =
        (open(&files, model()).unwrap(), open_lazy(&files, LazyOptions::UNBOUNDED));
    assert!(!resident.retriever.status().lazy && lazy.retriever.status().lazy);
    for query in QUERIES {
        for (lexical_weight, filter, limit) in [(0.3, None, 10), (0.0, None, 60), (1.0, Some("v4"), 3)] {
            let filters = filter.into_iter().map(|f: &str| ("版".to_owned(), vec![f.to_owned()])).collect();
            let options = SearchOptions { lexical_weight, filters, limit, ..SearchOptions::default() };
            let expected = same(resident.search(query, &options).unwrap());
            let found = same(lazy.search(query, &options).unwrap());
            assert_eq!(found, expected, "{query}, words {lexical_weight}, filter {filter:?}");
            assert_eq!(found.stage, Stage::Meaning);
            assert!(found.hits.iter().all(|hit| !hit.matches.is_empty()));
        }
    }
}

#[test]
fn a_bounded_lazy_search_fetches_little_and_gives_exact_scores() {
    let files = with_lists();
    let mut resident = open(&files, model()).unwrap();
    let options =
        LazyOptions { n_list_requests: 1, n_full_scores: 5, gap_bytes: 0, ..LazyOptions::default() };
    let every = SearchOptions { limit: 100, ..SearchOptions::default() };
    let few = SearchOptions { limit: 3, ..SearchOptions::default() };
    for query in QUERIES {
        let mut lazy = open_lazy(&files, options);
        let mut asked: Vec<String> = Vec::new();
        let found = lazy
            .retriever
            .answer(query, &few, &|| 0.0, |need| {
                asked.push(need.path.clone());
                fetch(&files.1, need)
            })
            .unwrap();
        let of = |folder: &str| asked.iter().filter(|path| path.starts_with(folder)).count();
        assert!(of("ivf/") == 1 && (1..=5).contains(&of("codes/")), "{asked:?}");
        // The documents asked for, and those in the same blocks.
        assert!(found.n_scored >= 5, "{}", found.n_scored);
        let whole = resident.search(query, &every).unwrap();
        for hit in &found.hits {
            let exact = whole.hits.iter().find(|other| other.document == hit.document).unwrap();
            assert_eq!((hit.maxsim, hit.lexical), (exact.maxsim, exact.lexical), "{query}");
            assert_eq!(hit.matches, exact.matches);
        }
        // Words and lists are asked for at once, and nothing twice.
        let again = lazy.retriever.answer(query, &few, &|| 0.0, |need| panic!("{need:?}")).unwrap();
        assert_eq!(again, found);
    }
    let mut lazy = open_lazy(&files, options);
    let Answer::Needs(first) = lazy.retriever.search("所有権", &few, &|| 0.0).unwrap() else {
        panic!("nothing is here")
    };
    assert!(["lexical/", "ivf/"].iter().all(|folder| first.iter().any(|need| need.path.starts_with(folder))));
}

#[test]
fn every_shard_may_be_kept_and_damaged_ones_are_refused() {
    let files = with_lists();
    let mut lazy = open_lazy(&files, LazyOptions::default());
    let shards: Vec<_> = lazy.retriever.shards().collect();
    for folder in ["lexical/", "sections/", "codes/", "ivf/"] {
        assert!(shards.iter().any(|need| need.path.starts_with(folder)), "{folder}");
    }
    for need in &shards {
        let bytes = fetch(&files.1, need).unwrap();
        lazy.retriever.check_shard(&need.path, &bytes).unwrap();
        let mut damaged = bytes.clone();
        damaged[bytes.len() / 2] ^= 8;
        assert!(matches!(
            lazy.retriever.provide(&need.path, 0, &damaged),
            Err(RetrieverError::Format(FormatError::Digest { .. }))
        ));
        lazy.retriever.provide(&need.path, 0, &bytes).unwrap();
    }
    let options = SearchOptions::default();
    assert!(lazy.retriever.answer("所有権", &options, &|| 0.0, |need| panic!("{need:?}")).is_ok());
    let unknown = lazy.retriever.provide("codes/0000000000000000.bin", 0, b"x");
    assert!(matches!(unknown, Err(RetrieverError::Format(FormatError::Unknown { .. }))));
}

#[test]
fn a_small_bundle_has_no_lists_and_is_loaded_whole() {
    let files = super::support::bundle(1);
    let (_, loader) = open_words(&files).unwrap();
    assert!(!loader.entry().suits_lazy(0) && loader.list_files().next().is_none());
    let refused = loader.lazy_index(Kernels::detect());
    assert!(matches!(refused, Err(RetrieverError::Format(FormatError::Missing { .. }))));
}
