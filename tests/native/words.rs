//! MeCab words and WordPiece ids against fugashi and transformers, with the committed part of unidic-lite and, where it was made, with all of it.

use super::support::{Files, load_model, served};
use serde_json::Value;
use shirube_core::{InputRules, Role};
use shirube_format::model::ModelManifest;
use shirube_retriever::{Kernels, ModelLoader};
use shirube_segment::Dictionary;
use shirube_tests::model_with;
use shirube_text::{EncoderInput, Normalizer, PUNCTUATION, Rules, SkipReading, TextError, Tokenizer};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn golden(name: &str) -> Vec<u8> {
    let path = repository().join("tests/golden/segment").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

static TINY: LazyLock<Arc<Dictionary>> = LazyLock::new(|| {
    Arc::new(Dictionary::from_bytes(&golden("tiny.bin")).expect("the committed dictionary opens"))
});

/// All of unidic-lite, which `npm test` installs and compiles.
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
fn whole() -> Option<Arc<Dictionary>> {
    let part = |i| std::fs::read(repository().join(format!("target/dictionary/dictionary-{i}.bin"))).ok();
    let parts: Vec<Vec<u8>> = (0..).map_while(part).collect();
    if parts.is_empty() {
        assert!(std::env::var_os("REQUIRE_DICTIONARY").is_none(), "target/dictionary holds no dictionary");
        eprintln!("skipped: target/dictionary holds no dictionary; `npm test` makes it");
        return None;
    }
    Some(Arc::new(Dictionary::from_parts(&parts).expect("the dictionary opens")))
}

fn cases(which: fn(&Value) -> bool) -> Vec<Value> {
    let text = String::from_utf8(golden("cases.jsonl")).expect("UTF-8");
    let all = text.lines().map(|line| serde_json::from_str(line).expect("a case is JSON"));
    all.filter(which).collect()
}

fn tiny(case: &Value) -> bool {
    case["tiny"] == true
}

fn text(case: &Value) -> &str {
    case["text"].as_str().expect("a text")
}

fn ids(case: &Value) -> Vec<u32> {
    case.as_array().expect("ids").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

fn tokenizer(dictionary: &Arc<Dictionary>) -> Tokenizer {
    let vocab = String::from_utf8(golden("vocab.txt")).expect("UTF-8");
    Tokenizer::bert_japanese(&vocab, &[], dictionary.clone()).expect("the vocabulary is one")
}

/// Words and ids of every case, and ids after `". "`.
fn compare(dictionary: &Arc<Dictionary>, cases: &[Value]) {
    let nfkc = Normalizer::new(Rules::Nfkc);
    let tokenizer = tokenizer(dictionary);
    let again = Tokenizer::open(&tokenizer.to_bytes(), Some(dictionary.clone())).expect("our own file opens");
    let plain = InputRules { prefix: vec![2, 5], suffix: vec![3], max_length: 512, ..InputRules::default() };
    let overwritten = InputRules { overwritten: Some(". ".to_owned()), ..plain.clone() };
    for case in cases {
        let normalized = nfkc.normalize(text(case)).text;
        let words: Vec<&str> =
            dictionary.words(&normalized).into_iter().map(|word| &normalized[word]).collect();
        let expected: Vec<&str> =
            case["words"].as_array().expect("words").iter().filter_map(Value::as_str).collect();
        assert_eq!(words, expected, "words of {:?}", text(case));
        let encoding = tokenizer.encode(text(case));
        let expected = ids(&case["ids"]);
        assert_eq!(encoding.ids, expected, "ids of {:?}", text(case));
        assert_eq!(again.encode(text(case)), encoding);
        for (span, next) in encoding.offsets.iter().zip(encoding.offsets.iter().skip(1)) {
            assert!(span.start <= next.start && span.end <= next.end, "offsets go back in {:?}", text(case));
        }
        for span in &encoding.offsets {
            assert!(text(case).get(span.range()).is_some_and(|part| !part.is_empty()), "{span:?}");
        }
        let input = EncoderInput::new(&tokenizer, &plain, text(case));
        assert_eq!(input.ids, [&[2, 5], &expected[..], &[3]].concat());
        let expected = match &case["overwritten"] {
            Value::Null => expected,
            other => ids(other)[1..].to_vec(),
        };
        let input = EncoderInput::new(&tokenizer, &overwritten, text(case));
        assert_eq!(input.ids, [&[2, 5], &expected[..], &[3]].concat(), "after \". \": {:?}", text(case));
        for span in input.offsets.iter().flatten() {
            assert!(text(case).get(span.range()).is_some_and(|part| !part.is_empty()), "{span:?}");
        }
    }
}

#[test]
fn words_and_ids_are_those_of_fugashi_and_transformers() {
    let cases = cases(tiny);
    assert!(cases.len() > 40);
    compare(&TINY, &cases);
}

#[test]
fn words_and_ids_are_those_of_fugashi_and_transformers_with_the_whole_dictionary() {
    let Some(whole) = whole() else { return };
    let cases = cases(|_| true);
    assert!(cases.len() > 400);
    compare(&whole, &cases);
}

#[test]
fn skip_lists_are_read_in_three_ways() {
    let tokenizer = tokenizer(&TINY);
    let punctuation = || PUNCTUATION.split("").filter(|word| !word.is_empty());
    let all: Vec<u32> = (16..48).collect();
    for reading in [SkipReading::FirstToken, SkipReading::Token, SkipReading::KnownToken] {
        assert_eq!(reading.ids(&tokenizer, punctuation()), all, "{reading:?}");
    }
    let words = ["!", "日本", "no such word"];
    let (unknown, japan) = (tokenizer.unk_id(), tokenizer.id_of("日本").expect("a piece"));
    assert_eq!(SkipReading::Token.ids(&tokenizer, words), [unknown, 16, japan]);
    assert_eq!(SkipReading::KnownToken.ids(&tokenizer, words), [16, japan]);
}

#[test]
fn added_tokens_are_one_id_wherever_they_stand() {
    let vocab = String::from_utf8(golden("vocab.txt")).expect("UTF-8");
    let n = vocab.lines().count() as u32;
    let added = [("[Q] ".to_owned(), n), ("[Q]".to_owned(), n + 1)];
    let tokenizer = Tokenizer::bert_japanese(&vocab, &added, TINY.clone()).expect("the vocabulary is one");
    assert_eq!(tokenizer.vocab_size(), n as usize + 2);
    assert_eq!((tokenizer.id_of("[Q] "), tokenizer.piece(n).as_deref()), (Some(n), Some("[Q] ")));
    let encoding = tokenizer.encode("[Q] 日[Q]本");
    assert_eq!((encoding.ids[0], encoding.ids[2]), (n, n + 1), "of those that begin together the longest");
    let again = Tokenizer::open(&tokenizer.to_bytes(), Some(TINY.clone())).expect("our own file opens");
    assert_eq!(again.encode("[Q] 日[Q]本"), encoding);
}

#[test]
fn a_vocabulary_without_berts_tokens_is_refused() {
    let error = Tokenizer::bert_japanese("[PAD]\n[CLS]\n", &[], TINY.clone()).expect_err("no [UNK]");
    assert!(error.to_string().contains("it has no [UNK]"), "{error}");
}

#[test]
fn a_tokenizer_asks_for_the_dictionary_it_was_made_with() {
    let bytes = tokenizer(&TINY).to_bytes();
    assert!(matches!(Tokenizer::from_bytes(&bytes), Err(TextError::NoDictionary)));
    for at in 0..bytes.len().min(300) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        assert!(Tokenizer::open(&damaged, Some(TINY.clone())).is_err(), "a flip in byte {at} went unseen");
        assert!(Tokenizer::open(&bytes[..at], Some(TINY.clone())).is_err(), "the first {at} bytes opened");
    }
    let Some(whole) = whole() else { return };
    assert!(matches!(Tokenizer::open(&bytes, Some(whole)), Err(TextError::OtherDictionary { .. })));
}

#[test]
fn a_damaged_dictionary_is_refused() {
    let bytes = golden("tiny.bin");
    for at in (0..bytes.len()).step_by(bytes.len() / 97) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 16;
        assert!(Dictionary::from_bytes(&damaged).is_err(), "a flip in byte {at} went unseen");
        assert!(Dictionary::from_bytes(&bytes[..at]).is_err(), "the first {at} bytes opened");
    }
}

/// A model whose tokenizer is the golden one, its dictionary in two parts.
fn model_files() -> (ModelManifest, Files) {
    let (manifest, mut files) = model_with(&tokenizer(&TINY), 3);
    let dictionary = golden("tiny.bin");
    let (a, b) = dictionary.split_at(dictionary.len() / 2);
    files.push(("dictionary-0.bin".to_owned(), a.to_vec()));
    files.push(("dictionary-1.bin".to_owned(), b.to_vec()));
    (manifest, files)
}

#[test]
fn a_model_that_needs_a_dictionary_asks_for_its_parts_and_opens_with_them() {
    let (manifest, files) = served(model_files());
    let mut loader = ModelLoader::new(&manifest).expect("the manifest parses");
    let required: Vec<String> = loader.required().iter().map(|file| file.path.clone()).collect();
    for part in ["dictionary-0.bin", "dictionary-1.bin"] {
        assert!(required.iter().any(|path| path == part), "{part} is not asked for");
    }
    // In any order, as a network delivers them.
    for (path, bytes) in files.iter().rev() {
        loader.provide(path, bytes.clone()).expect("each file is the manifest's");
    }
    let model = loader.finish(Kernels::detect()).expect("the model opens");
    let case = &cases(tiny)[3];
    let prepared = model.prepare(text(case), Role::Query);
    assert_eq!(&prepared.ids[1..], ids(&case["ids"]));
}

#[test]
fn a_model_without_the_dictionary_it_needs_is_refused() {
    let (manifest, mut files) = model_files();
    files.retain(|(path, _)| !path.starts_with("dictionary-"));
    let error = load_model(&served((manifest, files))).map(drop).expect_err("no dictionary");
    assert!(error.to_string().contains("dictionary-*.bin"), "{error}");
}
