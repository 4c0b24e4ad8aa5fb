//! The shipped tokenizer against the crate `tokenizers` on the same `tokenizer.json`.

use shirube_text::Tokenizer;
use std::path::Path;

fn repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn shipped() -> (String, Tokenizer) {
    let json = std::fs::read_to_string(repository("pkg/model/tokenizer.json"))
        .expect("the shipped tokenizer.json is committed");
    let bytes =
        std::fs::read(repository("pkg/model/tokenizer.bin")).expect("the shipped tokenizer.bin is committed");
    (json, Tokenizer::from_bytes(&bytes).expect("the shipped tokenizer.bin opens"))
}

#[test]
fn the_compact_tokenizer_gives_the_ids_of_the_crate_tokenizers() {
    let (json, ours) = shipped();
    let cases = std::fs::read_to_string(repository("tests/golden/tokenizer/cases.jsonl"))
        .expect("golden cases are committed");
    let lines: Vec<String> = cases
        .lines()
        .map(|l| {
            serde_json::from_str::<serde_json::Value>(l).expect("a golden case is JSON")["text"]
                .as_str()
                .expect("text")
                .to_owned()
        })
        .collect();
    assert!(lines.len() > 400, "only {} golden cases", lines.len());
    shirube_train::tokenizer::check_against_reference(&json, &ours, &lines).unwrap();
}

#[test]
fn a_tokenizer_with_another_vocabulary_is_caught() {
    let (json, ours) = shipped();
    let other = json.replacen("\"東京\"", "\"東亰\"", 1);
    assert_ne!(json, other, "東京 is a piece");
    assert!(shirube_train::tokenizer::check_against_reference(&other, &ours, &["東京へ行く"]).is_err());
}
