//! A bundle of every format version must open, or be refused with the message that says how to mend.
//!
//! The newest is remade by `cargo test -p shirube-tests -- --ignored remake_the_golden_bundle`; older ones are never touched again.

use super::support::model;
use shirube_core::{DocId, Role};
use shirube_format::bundle::{Bundle, BundleEntry, folder};
use shirube_index::{Index, IndexOptions, LazyOptions, ScoredDocument, Step};
use shirube_retriever::{BundleLoader, Kernels};
use shirube_site::BuildOptions;
use shirube_tests::sections;
use std::path::PathBuf;

/// Scores are sums of at most ten similarities; the golden ones were written with six digits.
const SCORE_TOLERANCE: f64 = 1e-4;

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/bundle-v3")
}

fn index(entry: &BundleEntry, files: &[(String, Vec<u8>)], kernels: Kernels) -> (Bundle, Index) {
    let bundle =
        Bundle::assemble(entry, files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))).unwrap();
    (bundle.clone(), Index::open(bundle, kernels).unwrap())
}

#[test]
fn bundles_of_older_formats_are_refused_with_the_cure() {
    for version in [1, 2] {
        let folder_of = golden().with_file_name(format!("bundle-v{version}")).join("bundle");
        let message = folder::read(&folder_of).unwrap_err().to_string();
        let older = format!("format {version} is older than 3");
        assert!(message.contains("shirube.json") && message.contains(&older), "{message}");
        assert!(message.contains("build it again with `shirube build`"), "{message}");
    }
}

#[test]
fn the_bundle_of_format_3_still_opens_and_answers() {
    let (entry, files) = folder::read(&golden().join("bundle")).unwrap();
    assert_eq!((entry.format, entry.counts.documents, entry.codec.pool_factor), (3, 12, 2));
    let expected: serde_json::Value =
        serde_json::from_slice(&std::fs::read(golden().join("expected.json")).unwrap()).unwrap();
    for kernels in Kernels::all() {
        let (bundle, index) = index(&entry, &files, kernels);
        assert_eq!(bundle.sections, sections()[..12]);
        assert_eq!(bundle.lexical.lengths.len(), 12);
        let queries = expected.as_array().unwrap();
        assert_eq!(queries.len(), 3);
        for query in queries {
            let embeddings: Vec<f32> =
                query["embeddings"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
            let hits = index.search(&index.prepare(&embeddings).unwrap(), 5).unwrap();
            for (hit, expected) in hits.iter().zip(query["hits"].as_array().unwrap()) {
                let (id, score) = (expected[0].as_u64().unwrap() as u32, expected[1].as_f64().unwrap());
                assert_eq!(hit.document, DocId(id), "{} with {}", query["query"], kernels.kind());
                assert!(
                    (f64::from(hit.score) - score).abs() < SCORE_TOLERANCE,
                    "{} is not {score}",
                    hit.score
                );
            }
            let lazy_hits = lazy(&entry, &files, kernels, &embeddings);
            assert_eq!(lazy_hits, hits, "{} from lists", query["query"]);
        }
    }
}

/// The five best by lists and codes as they lie in the shards, nothing left out.
fn lazy(
    entry: &BundleEntry,
    files: &[(String, Vec<u8>)],
    kernels: Kernels,
    embeddings: &[f32],
) -> Vec<ScoredDocument> {
    let mut loader = BundleLoader::new(&entry.to_bytes()).unwrap();
    for f in &entry.files {
        let (path, bytes) = files.iter().find(|(path, _)| *path == f.file.path).unwrap();
        loader.provide(path, bytes.clone()).unwrap();
    }
    assert!(entry.suits_lazy(0) && !entry.suits_lazy(u64::MAX));
    let mut index = loader.lazy_index(kernels).unwrap();
    let query = index.prepare(embeddings).unwrap();
    loop {
        match index.search(&query, &LazyOptions::UNBOUNDED, 5).unwrap() {
            Step::Done(hits) => return hits,
            Step::Needs(needs) => {
                for need in needs {
                    let (_, bytes) = files.iter().find(|(path, _)| *path == need.path).unwrap();
                    let range = need.range.start as usize..need.range.end as usize;
                    index.provide(&need.path, need.range.start, &bytes[range]).unwrap();
                }
            }
        }
    }
}

#[test]
#[ignore = "writes tests/golden/bundle-v3; a new file there is a change of the format"]
fn remake_the_golden_bundle() {
    let mut model = model();
    let options = BuildOptions {
        name: "golden".to_owned(),
        index: IndexOptions { pool_factor: 2, ..IndexOptions::default() },
        ..BuildOptions::default()
    };
    let mut twelve = sections();
    twelve.truncate(12);
    let (bundle, _) = shirube_site::make_bundle(twelve, &model, &options, |_| {}).unwrap();
    // With lists, which so few documents would not have: the sample holds every part.
    let (entry, files) = bundle.pack_with_lists_from(0);
    folder::write(&golden().join("bundle"), &entry, &files).unwrap();
    let (_, index) = index(&entry, &files, Kernels::scalar());
    let queries: Vec<serde_json::Value> = ["再レンダリング", "所有権の使い方", "非同期処理のテスト"]
        .iter()
        .map(|query| {
            let embeddings = model.encode(&model.prepare(query, Role::Query)).unwrap();
            let hits: Vec<_> = index
                .search(&index.prepare(&embeddings).unwrap(), 5)
                .unwrap()
                .iter()
                .map(|h| serde_json::json!([h.document.0, format!("{:.6}", h.score).parse::<f64>().unwrap()]))
                .collect();
            serde_json::json!({"query": query, "embeddings": embeddings, "hits": hits})
        })
        .collect();
    std::fs::write(golden().join("expected.json"), serde_json::to_string(&queries).unwrap() + "\n").unwrap();
}
