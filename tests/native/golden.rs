//! A bundle of every format version must open, or be refused with the message that says how to mend.
//!
//! The newest is remade by `cargo test -p shirube-tests -- --ignored remake_the_golden_bundle`; older ones are never touched again.

use super::support::model;
use shirube_core::{DocId, Role};
use shirube_format::bundle::{Bundle, BundleEntry, folder};
use shirube_index::{Index, IndexOptions};
use shirube_retriever::Kernels;
use shirube_site::BuildOptions;
use shirube_tests::sections;
use std::path::PathBuf;

/// Scores are sums of at most ten similarities; the golden ones were written with six digits.
const SCORE_TOLERANCE: f64 = 1e-4;

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/bundle-v2")
}

fn index(entry: &BundleEntry, files: &[(String, Vec<u8>)], kernels: Kernels) -> (Bundle, Index) {
    let bundle =
        Bundle::assemble(entry, files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))).unwrap();
    (bundle.clone(), Index::open(bundle, kernels).unwrap())
}

#[test]
fn the_bundle_of_format_1_is_refused_with_the_cure() {
    let folder_1 = golden().with_file_name("bundle-v1").join("bundle");
    let message = folder::read(&folder_1).unwrap_err().to_string();
    assert!(message.contains("shirube.json") && message.contains("format 1 is older than 2"), "{message}");
    assert!(message.contains("build it again with `shirube build`"), "{message}");
}

#[test]
fn the_bundle_of_format_2_still_opens_and_answers() {
    let (entry, files) = folder::read(&golden().join("bundle")).unwrap();
    assert_eq!((entry.format, entry.counts.documents, entry.codec.pool_factor), (2, 12, 2));
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
        }
    }
}

#[test]
#[ignore = "writes tests/golden/bundle-v2; a new file there is a change of the format"]
fn remake_the_golden_bundle() {
    let mut model = model();
    let options = BuildOptions {
        name: "golden".to_owned(),
        index: IndexOptions { pool_factor: 2, ..IndexOptions::default() },
    };
    let mut twelve = sections();
    twelve.truncate(12);
    let report = shirube_site::build(twelve, &model, &options, &golden().join("bundle"), |_| {}).unwrap();
    let (_, files) = folder::read(&golden().join("bundle")).unwrap();
    let (_, index) = index(&report.entry, &files, Kernels::scalar());
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
