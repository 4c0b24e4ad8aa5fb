//! The tokenizer of a checkpoint, and the tokens that stand around a text.

use crate::error::{CheckpointError, damaged, unsupported};
use crate::files;
use crate::spm;
use serde_json::{Value, json};
use shirube_format::NamedFile;
use shirube_format::model::is_dictionary;
use shirube_text::{Dictionary, Tokenizer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A tokenizer with what its folder says about special tokens.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) tokenizer: Tokenizer,
    /// Ids before and after a text.
    pub(crate) before: Vec<u32>,
    pub(crate) after: Vec<u32>,
    /// Ids of `[MASK]` and of the end of a sequence, where the tokenizer has them.
    pub(crate) mask: Option<u32>,
    pub(crate) end: Option<u32>,
    /// Longest input by `model_max_length`, if it is a real limit.
    pub(crate) max_length: Option<usize>,
    /// The `tokenizer.json` of the folder or one that says the same; a `BertJapaneseTokenizer` cannot be written as one.
    pub(crate) json: Option<String>,
}

/// What tokenizers can be read.
const SUPPORTED: &str = "tokenizer.json; vocab.txt of a BertTokenizer or BertJapaneseTokenizer; tokenizer.model of a LlamaTokenizer";

impl Tokens {
    pub(crate) fn read(folder: &Path, dictionary: &[NamedFile]) -> Result<Self, CheckpointError> {
        let config_path = folder.join("tokenizer_config.json");
        let config: Value = files::json_if_there(&config_path)?.unwrap_or_else(|| json!({}));
        let special: Value =
            files::json_if_there(&folder.join("special_tokens_map.json"))?.unwrap_or_else(|| json!({}));
        for side in ["padding_side", "truncation_side"] {
            if config[side] == "left" {
                return Err(unsupported(&config_path, format!("{side} left"), "right"));
            }
        }
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let (tokenizer, json) = if is_japanese(folder, &config) {
            let tokenizer = japanese(folder, &config, &config_path, dictionary)?;
            before.extend(tokenizer.id_of("[CLS]"));
            after.extend(tokenizer.id_of("[SEP]"));
            (tokenizer, None)
        } else {
            let (path, json) = tokenizer_json(folder, &config, &special, &config_path)?;
            let tokenizer = Tokenizer::from_hugging_face(&json)
                .map_err(|source| CheckpointError::Tokenizer { path: path.clone(), source })?;
            let root: Value = serde_json::from_str(&json)
                .map_err(|source| CheckpointError::Json { path: path.clone(), source })?;
            around(&root["post_processor"], &mut before, &mut after)
                .map_err(|what| unsupported(&path, what, "templates of special tokens around one text"))?;
            (tokenizer, Some(json))
        };
        let named = |name: &str, usual: &[&str]| {
            let token = [&config[name], &special[name]].into_iter().find_map(token_text);
            match token {
                Some(token) => tokenizer.id_of(token),
                None => usual.iter().find_map(|token| tokenizer.id_of(token)),
            }
        };
        let max_length =
            config["model_max_length"].as_f64().filter(|&n| (1.0..1e9).contains(&n)).map(|n| n as usize);
        Ok(Self {
            mask: named("mask_token", &["[MASK]", "<mask>"]),
            end: named("eos_token", &[]),
            max_length,
            tokenizer,
            before,
            after,
            json,
        })
    }

    /// The id of a token by name, as `convert_tokens_to_ids` gives it; `None` where that is the unknown token for want of a better one.
    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.id_of(token)
    }
}

/// The text of a token, written as such or as an object.
fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

/// The folder's `tokenizer.json`, or one that says what its other files say.
fn tokenizer_json(
    folder: &Path,
    config: &Value,
    special: &Value,
    config_path: &Path,
) -> Result<(PathBuf, String), CheckpointError> {
    let path = folder.join("tokenizer.json");
    if path.is_file() {
        let text = files::text(&path)?;
        return Ok((path, text));
    }
    let class = config["tokenizer_class"].as_str().unwrap_or("BertTokenizer");
    let class = class.trim_end_matches("Fast");
    let path = folder.join("vocab.txt");
    if path.is_file() && class == "BertTokenizer" {
        let text = files::text(&path)?;
        return Ok((path, word_piece_json(&text, config, special).to_string()));
    }
    let model = folder.join("tokenizer.model");
    if model.is_file() && class == "LlamaTokenizer" {
        let bytes = std::fs::read(&model).map_err(crate::error::io(&model))?;
        let json = spm::tokenizer_json(&bytes, config, special).map_err(|what| damaged(&model, what))?;
        return Ok((model, json.to_string()));
    }
    if path.is_file() || model.is_file() {
        return Err(unsupported(
            config_path,
            format!("tokenizer_class {class:?} without tokenizer.json"),
            SUPPORTED,
        ));
    }
    Err(CheckpointError::Missing {
        folder: folder.to_owned(),
        name: "tokenizer.json, vocab.txt or tokenizer.model".to_owned(),
        cure: "copy the tokenizer's files of the checkpoint too".to_owned(),
    })
}

fn is_japanese(folder: &Path, config: &Value) -> bool {
    !folder.join("tokenizer.json").is_file()
        && (config["tokenizer_class"] == "BertJapaneseTokenizer" || config["word_tokenizer_type"].is_string())
}

/// A `BertJapaneseTokenizer` with MeCab and WordPiece.
fn japanese(
    folder: &Path,
    config: &Value,
    config_path: &Path,
    dictionary: &[NamedFile],
) -> Result<Tokenizer, CheckpointError> {
    for (field, expected, default) in [
        ("word_tokenizer_type", json!("mecab"), json!("basic")),
        ("subword_tokenizer_type", json!("wordpiece"), json!("wordpiece")),
        ("do_lower_case", json!(false), json!(false)),
        ("do_word_tokenize", json!(true), json!(true)),
        ("do_subword_tokenize", json!(true), json!(true)),
    ] {
        let found = config.get(field).filter(|value| !value.is_null()).unwrap_or(&default);
        if *found != expected {
            return Err(unsupported(config_path, format!("{field} {found}"), &expected.to_string()));
        }
    }
    let arguments = &config["mecab_kwargs"];
    for (field, expected) in [
        ("mecab_dic", json!("unidic_lite")),
        ("normalize_text", json!(true)),
        ("do_lower_case", json!(false)),
    ] {
        let found = arguments.get(field).filter(|value| !value.is_null());
        if let Some(found) = found.filter(|found| **found != expected) {
            return Err(unsupported(
                config_path,
                format!("mecab_kwargs {field} {found}"),
                &expected.to_string(),
            ));
        }
    }
    let path = folder.join("vocab.txt");
    let vocabulary = files::text(&path)?;
    if dictionary.is_empty() {
        return Err(CheckpointError::Missing {
            folder: folder.to_owned(),
            name: "dictionary for the words of a BertJapaneseTokenizer".to_owned(),
            cure: "`pip download unidic-lite`, unpack it, and give its folder `dicdir` with --dictionary"
                .to_owned(),
        });
    }
    let tokenizer = |source| CheckpointError::Tokenizer { path: path.clone(), source };
    let parts = dictionary.iter().filter(|(name, _)| is_dictionary(name));
    let parts: Vec<&[u8]> = parts.map(|(_, bytes)| bytes.as_slice()).collect();
    let dictionary = Dictionary::from_parts(&parts).map_err(|e| tokenizer(e.into()))?;
    let mut added: Vec<(String, u32)> = Vec::new();
    for token in added_tokens(config) {
        if let (Some(content), Some(id)) = (token["content"].as_str(), token["id"].as_u64()) {
            added.extend(u32::try_from(id).ok().map(|id| (content.to_owned(), id)));
        }
    }
    let more: BTreeMap<String, u32> =
        files::json_if_there(&folder.join("added_tokens.json"))?.unwrap_or_default();
    added.extend(more);
    added.sort();
    added.dedup();
    Tokenizer::bert_japanese(&vocabulary, &added, Arc::new(dictionary)).map_err(tokenizer)
}

/// What a `BertTokenizer` with this vocabulary does.
fn word_piece_json(vocabulary: &str, config: &Value, special: &Value) -> Value {
    let mut vocab = serde_json::Map::new();
    for (id, line) in vocabulary.lines().enumerate() {
        vocab.insert(line.to_owned(), json!(id));
    }
    let name = |name: &str, usual: &str| {
        [&config[name], &special[name]].into_iter().find_map(token_text).unwrap_or(usual).to_owned()
    };
    let mut added = added_tokens(config);
    let specials = ["cls_token", "sep_token", "mask_token", "pad_token", "unk_token"];
    for (field, usual) in specials.into_iter().zip(["[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]"]) {
        let content = name(field, usual);
        if let Some(id) = vocab.get(&content)
            && !added.iter().any(|token| token["content"] == content.as_str())
        {
            added.push(json!({ "id": id, "content": content, "special": true, "normalized": false }));
        }
    }
    let (cls, sep) = (name("cls_token", "[CLS]"), name("sep_token", "[SEP]"));
    let flag = |name: &str, usual: bool| config[name].as_bool().unwrap_or(usual);
    json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": true,
            "handle_chinese_chars": flag("tokenize_chinese_chars", true),
            "strip_accents": config["strip_accents"],
            "lowercase": flag("do_lower_case", true),
        },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": {
            "type": "BertProcessing",
            "sep": [sep, vocab.get(&sep)],
            "cls": [cls, vocab.get(&cls)],
        },
        "model": {
            "type": "WordPiece",
            "unk_token": name("unk_token", "[UNK]"),
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocab,
        },
    })
}

/// The `added_tokens_decoder` of a configuration as `tokenizer.json` has them.
pub(crate) fn added_tokens(config: &Value) -> Vec<Value> {
    let mut added: Vec<Value> = Vec::new();
    for (id, token) in config["added_tokens_decoder"].as_object().into_iter().flatten() {
        let mut token = token.clone();
        if let (Some(object), Ok(id)) = (token.as_object_mut(), id.parse::<u32>()) {
            object.insert("id".to_owned(), json!(id));
            added.push(token);
        }
    }
    added.sort_by_key(|token| token["id"].as_u64());
    added
}

/// Adds the ids that a post-processor puts before and after one text.
fn around(value: &Value, before: &mut Vec<u32>, after: &mut Vec<u32>) -> Result<(), String> {
    let id = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| format!("post_processor with id {value}"))
    };
    match value["type"].as_str() {
        None if value.is_null() => {}
        Some("ByteLevel") => {}
        Some("Sequence") => {
            for part in value["processors"].as_array().into_iter().flatten() {
                around(part, before, after)?;
            }
        }
        Some("BertProcessing" | "RobertaProcessing") => {
            before.insert(0, id(&value["cls"][1])?);
            after.push(id(&value["sep"][1])?);
        }
        Some("TemplateProcessing") => {
            let mut seen = false;
            for part in value["single"].as_array().into_iter().flatten() {
                if part["Sequence"].is_object() {
                    seen = true;
                    continue;
                }
                let token = part["SpecialToken"]["id"].as_str().ok_or("a template of other parts")?;
                for found in value["special_tokens"][token]["ids"].as_array().into_iter().flatten() {
                    if seen { after.push(id(found)?) } else { before.push(id(found)?) }
                }
            }
        }
        other => return Err(format!("post_processor {:?}", other.unwrap_or("without type"))),
    }
    Ok(())
}

/// The tokenizer of a folder, without the rest of a checkpoint. `dictionary` is as in [`crate::Options`].
///
/// # Errors
/// Files that are missing, damaged or of a kind that is not built.
pub fn read_tokenizer(folder: &Path, dictionary: &[NamedFile]) -> Result<Tokenizer, CheckpointError> {
    Ok(Tokens::read(folder, dictionary)?.tokenizer)
}
