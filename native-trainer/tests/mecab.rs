//! A BERT on MeCab words and WordPiece, as JaColBERT is one: trained and exported with the dictionary it needs (tests/golden/segment).

use shirube_core::ExpansionRule;
use shirube_text::{Dictionary, Tokenizer};
use shirube_train::export::Target;
use shirube_train::pipeline::{self, Machine};
use shirube_train::recipe::{ExpansionShape, Inputs, Recipe, Step};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn a_bert_on_mecab_words_is_trained_and_exported_with_its_dictionary() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mecab");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).expect("an old run removed");
    }
    let tokenizer_folder = folder.join("tokenizer");
    std::fs::create_dir_all(&tokenizer_folder).expect("a folder");
    let golden = root().join("tests/golden/segment");
    let dictionary = std::fs::read(golden.join("tiny.bin")).expect("the small dictionary");
    let opened = Dictionary::from_parts(&[&dictionary]).expect("it opens");
    let vocab = std::fs::read_to_string(golden.join("vocab.txt")).expect("a vocabulary");
    let tokenizer = Tokenizer::bert_japanese(&vocab, &[], Arc::new(opened)).expect("a tokenizer");
    std::fs::write(tokenizer_folder.join("tokenizer.bin"), tokenizer.to_bytes()).expect("written");

    let path = root().join("native-trainer/recipes/smoke.toml");
    let mut recipe = Recipe::read(&path).expect("the smoke recipe");
    recipe.data = root().join(&recipe.data);
    recipe.tokenizer = tokenizer_folder.clone();
    recipe.step.retain(|step| ["context", "export"].contains(&step.name()));
    if let Step::Train(step) = &mut recipe.step[0] {
        step.steps = 2;
    }
    let id = |piece: &str| tokenizer.id_of(piece).expect("a special token");
    recipe.model.architecture = shirube_core::Architecture::Bert;
    recipe.model.max_positions = Some(128);
    recipe.model.inputs = Some(Inputs {
        query_prefix: vec![id("[CLS]"), 10],
        document_prefix: vec![id("[CLS]"), 11],
        suffix: vec![id("[SEP]")],
        mask: id("[MASK]"),
        skip: None,
    });
    let (out, never) = (folder.join("run"), AtomicBool::new(false));
    let run = |recipe: &Recipe| pipeline::run(recipe, &out, Machine::alone(1, &never), &mut |_| ());
    let message = format!("{:#}", run(&recipe).expect_err("no dictionary yet"));
    assert!(message.contains("tokenizer.bin") && message.contains("dictionary"), "{message}");
    std::fs::write(tokenizer_folder.join("dictionary-0.bin"), &dictionary).expect("written");
    run(&recipe).expect("the run");

    let (manifest, files) =
        shirube_format::model::folder::read(&out.join("export/model")).expect("a model folder");
    let info = &manifest.tokenizer;
    assert_eq!((info.segmenter.as_str(), info.subword.as_str()), ("mecab", "wordpiece"));
    assert!(files.iter().any(|(name, bytes)| name == "dictionary-0.bin" && *bytes == dictionary));
    assert!(manifest.provenance.metrics["int8_cosine_query"] > 0.99, "{:?}", manifest.provenance.metrics);
    let files = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    let model = shirube_encoder::Model::load(manifest.clone(), files, shirube_kernels::Kernels::detect())
        .expect("the browser's own reader");
    assert_eq!(model.tokenizer().encode("京都の寺").ids, tokenizer.encode("京都の寺").ids);

    // For other libraries: what their layouts cannot say is refused by name, and what was written is what they read.
    let export = |recipe: &Recipe, target| {
        let to = folder.join("saved");
        let _ = std::fs::remove_dir_all(&to);
        pipeline::export(recipe, &path, &out, Some("context"), &to, (target, None)).map(|_| to)
    };
    let refused = |recipe: &Recipe, target| format!("{:#}", export(recipe, target).expect_err("refused"));
    assert!(refused(&recipe, Target::Pylate).contains("learned weights of query tokens"));
    recipe.model.query_weight = false;
    recipe.step.truncate(1);
    run(&recipe).expect("the run");
    assert!(refused(&recipe, Target::Pylate).contains("vocab.txt"), "no files of a tokenizer");
    let config = r#"{"tokenizer_class":"BertJapaneseTokenizer","word_tokenizer_type":"mecab","subword_tokenizer_type":"wordpiece","mecab_kwargs":{"mecab_dic":"unidic_lite"}}"#;
    std::fs::write(tokenizer_folder.join("vocab.txt"), &vocab).expect("written");
    std::fs::write(tokenizer_folder.join("tokenizer_config.json"), config).expect("written");
    let message = refused(&recipe, Target::Pylate);
    assert!(message.contains("augmentation of queries") && message.contains("DynamicPaper"), "{message}");
    recipe.model.expansion = Some(ExpansionShape { rule: ExpansionRule::Fixed, attend: false });
    run(&recipe).expect("the run");
    assert!(refused(&recipe, Target::ColbertAi).contains("skipped ids of documents"));
    let saved = export(&recipe, Target::Pylate).expect("PyLate's layout");
    assert!(saved.join("1_Dense/model.safetensors").is_file() && !folder.join("saved.part").exists());

    // And back: the tool starts from it.
    let imported = folder.join("imported");
    let said = pipeline::import_tokenizer(&saved, Some(&tokenizer_folder), &imported).expect("a tokenizer");
    assert!(said.contains("[MASK] = "), "{said}");
    assert_eq!(
        std::fs::read(imported.join("tokenizer.bin")).expect("written"),
        std::fs::read(tokenizer_folder.join("tokenizer.bin")).expect("written")
    );
    recipe.tokenizer = imported;
    recipe.model.init = Some(saved);
    run(&recipe).expect("a run that starts from what was exported");
}
