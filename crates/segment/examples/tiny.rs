//! `cargo run -p shirube-segment --features compile --example tiny -- DICDIR`: writes `tests/golden/segment/tiny.bin`, the part of unidic-lite
//! that the cases marked `tiny` in `cases.jsonl` need. Every surface that stands somewhere in one of them is in it, so their words are those
//! that the whole dictionary gives.

use shirube_segment::compile::{MecabDictionary, compile};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/segment");
    let nfkc = icu_normalizer::ComposingNormalizer::new_nfkc();
    let mut texts = String::new();
    for line in std::fs::read_to_string(folder.join("cases.jsonl"))?.lines() {
        let case: serde_json::Value = serde_json::from_str(line)?;
        if case["tiny"] == true {
            texts += &nfkc.normalize(case["text"].as_str().unwrap_or_default());
            texts.push('\0');
        }
    }
    let dicdir = std::env::args().nth(1).ok_or("name the dicdir of unidic-lite")?;
    let mut dictionary = MecabDictionary::read(dicdir.as_ref())?;
    dictionary.retain(|surface| texts.contains(surface));
    std::fs::write(folder.join("tiny.bin"), compile(&dictionary)?.bytes)?;
    Ok(())
}
