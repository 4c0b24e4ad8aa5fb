//! What a reader of other people's folders must withstand, and what it says.

use shirube_checkpoint::{Checkpoint, CheckpointError, Network, Options};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

struct Copy(TempDir);

impl Copy {
    /// A copy of a golden checkpoint, removed when dropped.
    fn of(name: &str) -> Self {
        let from =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/checkpoints").join(name);
        let to = tempfile::tempdir().unwrap();
        copy(&from, to.path());
        Self(to)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// Replaces text in a file.
    fn edit(&self, file: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from), "{file} does not contain {from}");
        std::fs::write(self.path(file), text.replacen(from, to, 1)).unwrap();
    }

    fn read(&self) -> Result<Checkpoint, CheckpointError> {
        Checkpoint::read(self.0.path(), &Options::default())
    }

    fn refusal(&self) -> String {
        self.read().expect_err("it is refused").to_string()
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn whatever_changes_scores_and_is_not_built_is_refused_by_name() {
    for (name, file, from, to, said) in [
        (
            "pylate-bert",
            "config.json",
            "\"model_type\": \"bert\"",
            "\"model_type\": \"lfm2\"",
            "model_type \"lfm2\"",
        ),
        (
            "pylate-bert",
            "config.json",
            "\"hidden_act\": \"gelu\"",
            "\"hidden_act\": \"relu\"",
            "hidden_act \"relu\"",
        ),
        ("pylate-bert", "1_Dense/config.json", "Identity", "Tanh", "Tanh"),
        ("pylate-bert", "modules.json", "pylate.models.Dense.Dense", "x.Pooling", "module x.Pooling"),
        (
            "pylate-bert",
            "config_sentence_transformers.json",
            "\"[Q] \"",
            "\"[QQ] \"",
            "query_prefix \"[QQ] \"",
        ),
        (
            "pylate-modernbert",
            "config.json",
            "\"attention_bias\": false",
            "\"attention_bias\": true",
            "attention_bias true",
        ),
        ("pylate-modernbert", "tokenizer.json", "\"Metaspace\"", "\"Whitespace\"", "Whitespace"),
        (
            "pylate-modernbert",
            "config_sentence_transformers.json",
            "\"MaxSim\"",
            "\"XTR\"",
            "similarity_fn_name \"XTR\"",
        ),
        ("colbert-ai-bert", "artifact.metadata", "\"cosine\"", "\"l2\"", "similarity \"l2\""),
        ("colbert-ai-bert", "artifact.metadata", "\"[unused0]\"", "\"質問s\"", "query_token_id \"質問s\""),
        ("colbert-ai-bert", "artifact.metadata", "\"dim\": 24", "\"dim\": 128", "expected 128, found 24"),
        (
            "colbert-ai-bert",
            "tokenizer_config.json",
            "\"BertTokenizer\"",
            "\"ElectraTokenizer\"",
            "ElectraTokenizer",
        ),
        (
            "colbert-ai-bert",
            "tokenizer_config.json",
            "\"BertTokenizer\"",
            "\"BertJapaneseTokenizer\"",
            "word_tokenizer_type",
        ),
        ("colbert-ai-mecab", "tokenizer_config.json", "unidic_lite", "ipadic", "mecab_dic \"ipadic\""),
        ("colbert-ai-mecab", "vocab.txt", "[PAD]", "[PAD]", "--dictionary"),
        (
            "st-modernbert",
            "config_sentence_transformers.json",
            "\"[D] \"",
            "\"passage: \"",
            "prompt \"passage: \"",
        ),
    ] {
        let copy = Copy::of(name);
        copy.edit(file, from, to);
        let message = copy.refusal();
        assert!(message.contains(said), "{name}, {file}: {message}");
    }
}

#[test]
fn files_that_are_not_there_are_asked_for() {
    for (name, file, said) in [
        ("pylate-bert", "model.safetensors", "no model.safetensors, pytorch_model.bin"),
        ("pylate-bert", "config.json", "no config.json"),
        ("pylate-bert", "tokenizer.json", "no tokenizer.json, vocab.txt or tokenizer.model"),
        ("pylate-bert", "1_Dense/model.safetensors", "1_Dense"),
        ("colbert-ai-bert", "vocab.txt", "no tokenizer.json, vocab.txt or tokenizer.model"),
    ] {
        let copy = Copy::of(name);
        std::fs::remove_file(copy.path(file)).unwrap();
        let message = copy.refusal();
        assert!(message.contains(said), "{name} without {file}: {message}");
    }
    let copy = Copy::of("pylate-bert");
    std::fs::write(copy.path("model.safetensors"), "version https://git-lfs.github.com/spec/v1\n").unwrap();
    assert!(copy.refusal().contains("git lfs pull"));
}

#[test]
fn a_head_that_was_lost_is_noticed() {
    // The encoder's file alone, as a loader that does not know the head would save it.
    let copy = Copy::of("colbert-ai-bert");
    std::fs::remove_file(copy.path("pytorch_model.bin")).unwrap();
    let other = Copy::of("pylate-bert");
    std::fs::copy(other.path("model.safetensors"), copy.path("model.safetensors")).unwrap();
    assert!(copy.refusal().contains("linear.weight"));
}

#[test]
fn a_pickle_that_is_cut_or_changed_is_an_error_or_the_same_network() {
    let copy = Copy::of("colbert-ai-bert");
    let path = copy.path("pytorch_model.bin");
    let whole = std::fs::read(&path).unwrap();
    let pickle = whole.windows(8).position(|w| w == b"data.pkl").unwrap();
    let end = whole.len();
    for cut in [0, 1, 30, pickle, pickle + 100, end / 2, end - 400, end - 23, end - 1] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        assert!(Network::read(copy.0.path()).is_err(), "the first {cut} bytes opened");
    }
    // Every seventh byte of the pickle's beginning and of the zip's directory: no panic, whatever comes of it.
    for at in (pickle..pickle + 700).step_by(7).chain((end - 1500..end).step_by(7)) {
        let mut changed = whole.clone();
        changed[at] ^= 0x55;
        std::fs::write(&path, &changed).unwrap();
        let _ = Network::read(copy.0.path());
    }
    let evil = whole.windows(11).position(|w| w == b"torch._util").unwrap();
    let mut changed = whole.clone();
    changed[evil..evil + 11].copy_from_slice(b"posix._util");
    std::fs::write(&path, &changed).unwrap();
    let message = Network::read(copy.0.path()).unwrap_err().to_string();
    assert!(message.contains("posix._utils") && message.contains("nothing is executed"), "{message}");
}

#[test]
fn shards_give_the_same_network_and_stay_inside_the_folder() {
    let copy = Copy::of("pylate-bert");
    let before = copy.read().unwrap();
    std::fs::rename(copy.path("model.safetensors"), copy.path("model-00001-of-00001.safetensors")).unwrap();
    let index = |shard: &str| format!("{{\"weight_map\": {{\"embeddings.LayerNorm.bias\": \"{shard}\"}}}}");
    let path = copy.path("model.safetensors.index.json");
    std::fs::write(&path, index("model-00001-of-00001.safetensors")).unwrap();
    assert_eq!(copy.read().unwrap().weights, before.weights);
    std::fs::write(&path, index("../model.safetensors")).unwrap();
    assert!(copy.refusal().contains("a shard called"));
}
