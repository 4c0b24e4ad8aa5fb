//! Against the Python package `tokenizers` (see tests/golden/tokenizer/README.md).

use serde::Deserialize;
use shirube_text::{Rules, Segmenter, Tokenizer};
use std::path::PathBuf;

#[derive(Deserialize)]
struct Case {
    text: String,
    normalized: String,
    ids: Vec<u32>,
    /// In characters of `normalized`.
    offsets: Vec<(usize, usize)>,
}

fn read(path: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn cases() -> Vec<Case> {
    let lines = String::from_utf8(read("tests/golden/tokenizer/cases.jsonl")).expect("cases are UTF-8");
    lines.lines().map(|line| serde_json::from_str(line).expect("a case is a JSON object")).collect()
}

fn tokenizer() -> Tokenizer {
    Tokenizer::from_bytes(&read("pkg/model/tokenizer.bin")).expect("the shipped tokenizer opens")
}

#[test]
fn ids_and_offsets_equal_those_of_the_reference() {
    let tokenizer = tokenizer();
    let cases = cases();
    assert!(cases.len() > 400, "only {} cases", cases.len());
    for case in cases {
        let normalized = tokenizer.normalizer().normalize(&case.text);
        assert_eq!(normalized.text, case.normalized, "normal form of {:?}", case.text);
        let encoding = tokenizer.encode(&case.text);
        assert_eq!(encoding.ids, case.ids, "ids of {:?}", case.text);
        // A normalised text is its own normal form, so that its offsets are the reference's, in bytes.
        let bytes: Vec<usize> =
            case.normalized.char_indices().map(|(at, _)| at).chain([case.normalized.len()]).collect();
        let expected: Vec<(usize, usize)> = case.offsets.iter().map(|&(a, b)| (bytes[a], bytes[b])).collect();
        let found: Vec<(usize, usize)> = tokenizer
            .encode(&case.normalized)
            .offsets
            .iter()
            .map(|span| (span.start as usize, span.end as usize))
            .collect();
        assert_eq!(found, expected, "offsets of {:?}", case.text);
    }
}

#[test]
fn both_forms_of_the_shipped_tokenizer_hold_the_same() {
    let json = String::from_utf8(read("pkg/model/tokenizer.json")).expect("tokenizer.json is UTF-8");
    let converted = Tokenizer::from_tokenizer_json(&json, Rules::Shirube1, Segmenter::Script)
        .expect("our own file converts");
    assert_eq!(converted.to_bytes(), read("pkg/model/tokenizer.bin"));
}

#[test]
fn the_shipped_tokenizer_has_the_ids_that_models_count_on() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.vocab_size(), 16_384);
    for (id, name) in ["[PAD]", "[UNK]", "[MASK]", "[Q]", "[D]", "[SEP]", "<0x00>"].iter().enumerate() {
        assert_eq!(tokenizer.piece(id as u32).as_deref(), Some(*name));
    }
    assert_eq!(tokenizer.piece(261).as_deref(), Some("<0xFF>"));
    assert_eq!(tokenizer.piece(16_384), None);
    for id in 262..16_384 {
        let piece = tokenizer.piece(id).expect("every id below the size has a piece");
        assert_eq!(tokenizer.id_of(&piece), Some(id));
    }
    for kana in ('!'..='~').filter(|c| !c.is_ascii_uppercase()).chain('ぁ'..='ゖ').chain('ァ'..='ー') {
        assert!(tokenizer.id_of(&kana.to_string()).is_some(), "{kana} is no piece");
    }
}

#[test]
fn the_pattern_in_tokenizer_json_is_the_segmenter() {
    let json: serde_json::Value = serde_json::from_slice(&read("pkg/model/tokenizer.json")).expect("JSON");
    assert_eq!(json["pre_tokenizer"]["pattern"]["Regex"], shirube_text::script_pattern());
}

#[test]
fn a_damaged_file_is_an_error_and_never_a_panic() {
    let bytes = read("pkg/model/tokenizer.bin");
    for cut in (0..bytes.len()).step_by(97).chain(0..200) {
        assert!(Tokenizer::from_bytes(&bytes[..cut]).is_err(), "the first {cut} bytes opened");
    }
    for at in (0..bytes.len()).step_by(211).chain(0..200) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(Tokenizer::from_bytes(&flipped).is_err(), "a flip in byte {at} went unseen");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(Tokenizer::from_bytes(&longer).is_err());
}
