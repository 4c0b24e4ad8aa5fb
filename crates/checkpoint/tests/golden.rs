//! Against PyLate, Sentence Transformers and transformers (see tests/golden/checkpoints/README.md).

use serde::Deserialize;
use shirube_checkpoint::{Checkpoint, Layout, Options, Pairs, Reference, quantization};
use shirube_core::Role;
use shirube_encoder::Model;
use shirube_format::model::{FileEntry, TensorKind, WeightKind, Weights};
use shirube_kernels::Kernels;
use shirube_text::Tokenizer;
use std::path::PathBuf;

/// Least cosine of an f32 token embedding with the reference's: both are f32 with other orders of summation.
const F32_COSINE: f64 = 0.9999;
/// Least mean cosine of int8 token embeddings. The networks are 32 wide with wide random weights, which is harder than real ones.
const INT8_COSINE: f64 = 0.98;

const CHECKPOINTS: [(&str, Layout); 4] = [
    ("pylate-bert", Layout::PyLate),
    ("pylate-modernbert", Layout::PyLate),
    ("colbert-ai-bert", Layout::ColbertAi),
    ("st-modernbert", Layout::SentenceTransformers),
];

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/checkpoints").join(name)
}

fn read(name: &str) -> Checkpoint {
    Checkpoint::read(&folder(name), &Options::default()).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[derive(Deserialize)]
struct Golden {
    query: Vec<Case>,
    document: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
}

/// Role, text, ids and embeddings `[n, dim]` of every case.
fn cases(name: &str, dim: usize) -> Vec<(Role, Case, Vec<f32>)> {
    let golden = std::fs::read(folder(name).join("golden.json")).expect("the golden file is committed");
    let golden: Golden = serde_json::from_slice(&golden).unwrap();
    let bytes = std::fs::read(folder(name).join("golden.safetensors")).expect("the golden file is committed");
    let weights = Weights::read([("golden", bytes.as_slice())]).unwrap();
    let rows = |tensor: String| {
        let found = weights.iter().find(|(name, _)| *name == tensor).expect("every case has its tensor").1;
        let TensorKind::F32(data) = &found.data else { panic!("{tensor} is not F32") };
        assert_eq!(found.shape[1], dim, "width of {tensor}");
        data.clone()
    };
    let all = [(Role::Query, "query", golden.query), (Role::Document, "document", golden.document)];
    all.into_iter()
        .flat_map(|(role, name, cases)| {
            cases.into_iter().enumerate().map(move |(i, case)| (role, case, format!("{name}.{i}")))
        })
        .map(|(role, case, tensor)| (role, case, rows(tensor)))
        .collect()
}

#[test]
fn every_layout_gives_the_ids_and_the_embeddings_of_its_library() {
    for (name, layout) in CHECKPOINTS {
        let checkpoint = read(name);
        assert_eq!(checkpoint.layout, layout, "{name}");
        hold_embeddings(name, checkpoint);
    }
}

fn hold_embeddings(name: &str, checkpoint: Checkpoint) {
    let dim = checkpoint.projection.dim();
    let mut reference = Reference::new(checkpoint).unwrap();
    for (role, case, expected) in cases(name, dim) {
        let what = format!("{name}: {role:?} {:?}", case.text);
        assert_eq!(reference.input(&case.text, role).ids, case.ids, "{what}");
        let found = reference.encode(&case.text, role).unwrap();
        assert_eq!(found.data.len(), expected.len(), "{what}");
        let mut pairs = Pairs::default();
        pairs.add(&found.data, &expected, dim);
        let least = pairs.agreement().least;
        assert!(least >= F32_COSINE, "{what}: cosine {least}");
    }
}

/// JaColBERT's layout and tokenizer, with all of unidic-lite, which `npm test` installs and compiles.
#[test]
#[expect(clippy::print_stderr, reason = "a test that skips says why")]
fn a_bert_japanese_tokenizer_gives_the_ids_and_the_embeddings_of_pylate() {
    let home = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/dictionary");
    let part = |i: usize| {
        let name = format!("dictionary-{i}.bin");
        std::fs::read(home.join(&name)).ok().map(|bytes| (name, bytes))
    };
    let dictionary: Vec<(String, Vec<u8>)> = (0..).map_while(part).collect();
    if dictionary.is_empty() {
        assert!(std::env::var_os("REQUIRE_DICTIONARY").is_none(), "target/dictionary holds no dictionary");
        eprintln!("skipped: target/dictionary holds no dictionary; `npm test` makes it");
        return;
    }
    let options = Options { dictionary, ..Options::default() };
    let name = "colbert-ai-mecab";
    let checkpoint = Checkpoint::read(&folder(name), &options).unwrap();
    for Line { text, ids } in lines(name) {
        assert_eq!(checkpoint.tokenizer.encode(&text).ids, ids, "ids of {text:?}");
    }
    let (mut manifest, files) = checkpoint.model(quantization(WeightKind::Int8)).unwrap();
    manifest.files = files.iter().map(|(path, bytes)| FileEntry::of(path, bytes)).collect();
    let named = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
    Model::load(manifest, named, Kernels::detect()).expect("a model folder with its dictionary");
    hold_embeddings(name, checkpoint);
}

#[test]
fn converted_folders_load_and_stay_close_to_their_library() {
    for (name, _) in CHECKPOINTS {
        let checkpoint = read(name);
        let dim = checkpoint.projection.dim();
        let (manifest, files) = checkpoint.model(quantization(WeightKind::Int8)).unwrap();
        let files = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
        let mut model =
            Model::load(manifest, files, Kernels::detect()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut pairs = Pairs::default();
        for (role, case, expected) in cases(name, dim) {
            let found = model.encode(&model.prepare(&case.text, role)).unwrap();
            pairs.add(&found, &expected, dim);
        }
        let mean = pairs.agreement().mean;
        assert!(mean >= INT8_COSINE, "{name}: mean cosine {mean}");
    }
}

#[derive(Deserialize)]
struct Line {
    text: String,
    ids: Vec<u32>,
}

fn lines(name: &str) -> Vec<Line> {
    let text =
        std::fs::read_to_string(folder(name).join("tokens.jsonl")).expect("the golden file is committed");
    let lines: Vec<Line> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() > 150, "only {} lines in {name}", lines.len());
    lines
}

fn hold(name: &str, tokenizer: &Tokenizer) {
    // What is written must be what was read.
    let tokenizer = [tokenizer.clone(), Tokenizer::from_bytes(&tokenizer.to_bytes()).unwrap()];
    for Line { text, ids } in lines(name) {
        for tokenizer in &tokenizer {
            let encoding = tokenizer.encode(&text);
            assert_eq!(encoding.ids, ids, "{name}: ids of {text:?}");
            let mut last = (0, 0);
            for span in encoding.offsets {
                let (start, end) = (span.start as usize, span.end as usize);
                assert!(start < end && start >= last.0 && end >= last.1, "{name}: {span:?} in {text:?}");
                assert!(
                    text.is_char_boundary(start) && text.is_char_boundary(end),
                    "{name}: {span:?} in {text:?}"
                );
                last = (start, end);
            }
        }
    }
}

#[test]
fn tokenizers_give_the_ids_of_the_reference_with_spans_that_never_go_back() {
    for (name, _) in CHECKPOINTS {
        hold(name, &read(name).tokenizer);
    }
    for name in ["llama-bpe", "llama-unigram", "word-piece-cased", "split-bpe", "precompiled-unigram"] {
        let name = format!("tokenizers/{name}");
        let json = std::fs::read_to_string(folder(&name).join("tokenizer.json")).unwrap();
        hold(&name, &Tokenizer::from_hugging_face(&json).unwrap_or_else(|e| panic!("{name}: {e}")));
    }
}

#[test]
fn sentencepiece_files_give_the_ids_of_their_reference() {
    for name in ["tokenizers/spm-unigram", "tokenizers/spm-bpe"] {
        hold(
            name,
            &shirube_checkpoint::read_tokenizer(&folder(name), &[]).unwrap_or_else(|e| panic!("{name}: {e}")),
        );
    }
}

#[test]
fn damaged_tokenizer_files_are_errors_and_never_panic() {
    for name in [
        "tokenizers/llama-bpe",
        "tokenizers/llama-unigram",
        "tokenizers/split-bpe",
        "tokenizers/precompiled-unigram",
    ] {
        let json = std::fs::read_to_string(folder(name).join("tokenizer.json")).unwrap();
        let bytes = Tokenizer::from_hugging_face(&json).unwrap().to_bytes();
        for cut in (0..bytes.len()).step_by(61).chain(0..100) {
            assert!(Tokenizer::from_bytes(&bytes[..cut]).is_err(), "{name}: the first {cut} bytes opened");
        }
        for at in (0..bytes.len()).step_by(37).chain(0..100) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(Tokenizer::from_bytes(&flipped).is_err(), "{name}: a flip in byte {at} went unseen");
        }
    }
}
