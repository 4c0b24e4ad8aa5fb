//! Input rules: what stands around a text, how long it may be, what is dropped.

use crate::error::{CheckpointError, unsupported};
use crate::files;
use crate::network::{Layout, Network};
use crate::tokens::Tokens;
use serde::Deserialize;
use shirube_core::{Expansion, ExpansionRule, InputRules};
use shirube_text::{PUNCTUATION, SkipReading};
use std::path::{Path, PathBuf};

/// The input rules of a checkpoint and what was decided on the way.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) query: InputRules,
    pub(crate) document: InputRules,
    pub(crate) notes: Vec<String>,
}

/// `artifact.metadata` of colbert-ai, with its defaults.
#[derive(Deserialize)]
#[serde(default)]
struct Metadata {
    query_token_id: String,
    doc_token_id: String,
    query_maxlen: usize,
    doc_maxlen: usize,
    attend_to_mask_tokens: bool,
    mask_punctuation: bool,
    similarity: String,
    interaction: String,
    dim: Option<usize>,
    dynamic_query_maxlen: bool,
    dynamic_querylen_multiples: Option<usize>,
    cap_padding: usize,
}

impl Default for Metadata {
    fn default() -> Self {
        Self {
            query_token_id: "[unused0]".to_owned(),
            doc_token_id: "[unused1]".to_owned(),
            query_maxlen: 32,
            doc_maxlen: 220,
            attend_to_mask_tokens: false,
            mask_punctuation: true,
            similarity: "cosine".to_owned(),
            interaction: "colbert".to_owned(),
            dim: None,
            dynamic_query_maxlen: false,
            dynamic_querylen_multiples: None,
            cap_padding: 0,
        }
    }
}

/// `config_sentence_transformers.json`, both libraries' fields.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    query_prefix: Option<String>,
    document_prefix: Option<String>,
    query_length: Option<usize>,
    document_length: Option<usize>,
    do_query_expansion: Option<bool>,
    attend_to_expansion_tokens: Option<bool>,
    skiplist_words: Option<Vec<String>>,
    similarity_fn_name: Option<String>,
    default_prompt_name: Option<String>,
    prompts: Option<Prompts>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Prompts {
    query: Option<String>,
    document: Option<String>,
}

/// `sentence_bert_config.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TransformerConfig {
    max_seq_length: Option<usize>,
    do_lower_case: bool,
    query_length: Option<usize>,
    document_length: Option<usize>,
    query_expansion: Option<QueryExpansion>,
}

#[derive(Deserialize)]
struct QueryExpansion {
    strategy: String,
    length: usize,
    #[serde(default)]
    attend: bool,
    #[serde(default)]
    token: Option<String>,
}

/// `config.json` of a `MultiVectorMask`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Mask {
    skiplist_words: Option<Vec<String>>,
    skiplist_tasks: Option<Vec<String>>,
    keep_only_token_ids: Option<Vec<u32>>,
}

struct Reader<'a> {
    network: &'a Network,
    tokens: &'a Tokens,
    notes: Vec<String>,
}

impl Rules {
    pub(crate) fn read(folder: &Path, network: &Network, tokens: &Tokens) -> Result<Self, CheckpointError> {
        let mut reader = Reader { network, tokens, notes: Vec::new() };
        let (query, document) = match network.layout {
            Layout::ColbertAi => reader.colbert_ai(folder)?,
            Layout::PyLate => reader.pylate(folder)?,
            Layout::SentenceTransformers => reader.sentence_transformers(folder)?,
            Layout::Encoder => {
                return Err(unsupported(
                    folder,
                    "an encoder without projection",
                    "ColBERT checkpoints of colbert-ai, PyLate and Sentence Transformers; `shirube-train` makes one of an encoder",
                ));
            }
        };
        Ok(Self { query, document, notes: reader.notes })
    }
}

impl Reader<'_> {
    /// The id of a marker.
    fn marker(&self, path: &Path, field: &str, token: &str) -> Result<u32, CheckpointError> {
        self.tokens.id(token).ok_or_else(|| CheckpointError::Mismatch {
            path: path.to_owned(),
            what: format!("{field} {token:?}"),
            expected: "a token of the vocabulary".to_owned(),
            found: "none; its embedding would be random".to_owned(),
        })
    }

    /// Rules with a marker after the first id, where all three libraries put it.
    fn rules(&self, path: &Path, marker: Option<u32>, length: usize) -> Result<InputRules, CheckpointError> {
        let mut prefix = self.tokens.before.clone();
        if let Some(marker) = marker {
            if prefix.is_empty() {
                let what = "a marker without a token before the text: it would stand after the first word";
                return Err(unsupported(path, what, "tokenizers that begin a text with a special token"));
            }
            prefix.insert(1, marker);
        }
        Ok(InputRules {
            prefix,
            suffix: self.tokens.after.clone(),
            max_length: length,
            ..InputRules::default()
        })
    }

    /// `length`, cut to the positions that the encoder has.
    fn length(&mut self, what: &str, length: usize) -> usize {
        let most = self.network.encoder.max_positions;
        if length > most {
            self.notes.push(format!("{what} {length} is cut to the encoder's {most} positions"));
        }
        length.min(most)
    }

    /// What queries are filled up with.
    fn filler(&self, path: &Path) -> Result<u32, CheckpointError> {
        self.tokens.mask.or(self.tokens.end).ok_or_else(|| {
            unsupported(path, "query expansion without mask token", "tokenizers with a mask or end token")
        })
    }

    fn colbert_ai(&mut self, folder: &Path) -> Result<(InputRules, InputRules), CheckpointError> {
        let path = folder.join("artifact.metadata");
        let found: Option<Metadata> = files::json_if_there(&path)?;
        if found.is_none() {
            self.notes.push("no artifact.metadata: the defaults of colbert-ai hold".to_owned());
        }
        let meta = found.unwrap_or_default();
        if meta.similarity != "cosine" {
            return Err(unsupported(&path, format!("similarity {:?}", meta.similarity), "cosine"));
        }
        if meta.interaction != "colbert" {
            return Err(unsupported(&path, format!("interaction {:?}", meta.interaction), "colbert"));
        }
        if let (Some(dim), Some(dense)) = (meta.dim, self.network.dense.last())
            && dim != dense.out_features
        {
            return Err(CheckpointError::Mismatch {
                path,
                what: "dim".to_owned(),
                expected: dim.to_string(),
                found: format!("{} rows of linear.weight", dense.out_features),
            });
        }
        let marker = self.marker(&path, "query_token_id", &meta.query_token_id)?;
        let query_length = self.length("query_maxlen", meta.query_maxlen);
        let document_length = self.length("doc_maxlen", meta.doc_maxlen);
        let mut query = self.rules(&path, Some(marker), query_length)?;
        let mut rule = ExpansionRule::Fixed;
        if meta.dynamic_query_maxlen {
            if meta.dynamic_querylen_multiples.is_some_and(|n| n != 32) {
                let what =
                    format!("dynamic_querylen_multiples {}", meta.dynamic_querylen_multiples.unwrap_or(0));
                return Err(unsupported(&path, what, "32"));
            }
            rule = ExpansionRule::DynamicEvaluator;
            query.max_length = document_length.max(query_length);
            self.notes
                .push("dynamic_query_maxlen: queries grow as the author's evaluator computes".to_owned());
        }
        if meta.cap_padding > 0 {
            self.notes.push(format!(
                "cap_padding {} is of a fork; as in colbert-ai as released, it changes nothing",
                meta.cap_padding
            ));
        }
        query.expansion =
            Some(Expansion { token: self.filler(&path)?, attend: meta.attend_to_mask_tokens, rule });
        let marker = self.marker(&path, "doc_token_id", &meta.doc_token_id)?;
        let mut document = self.rules(&path, Some(marker), document_length)?;
        if meta.mask_punctuation {
            let words = PUNCTUATION.split("").filter(|word| !word.is_empty());
            document.skip = SkipReading::FirstToken.ids(&self.tokens.tokenizer, words);
        }
        Ok((query, document))
    }

    fn pylate(&mut self, folder: &Path) -> Result<(InputRules, InputRules), CheckpointError> {
        let path = folder.join("config_sentence_transformers.json");
        let config: Config = files::json_if_there(&path)?.unwrap_or_default();
        self.transformer()?;
        if let Some(name) =
            config.similarity_fn_name.as_deref().filter(|name| !matches!(*name, "MaxSim" | "cosine"))
        {
            return Err(unsupported(&path, format!("similarity_fn_name {name:?}"), "MaxSim"));
        }
        if let Some(name) = &config.default_prompt_name {
            return Err(unsupported(&path, format!("default_prompt_name {name:?}"), "none"));
        }
        let prefix = |this: &Self, field: &str, given: Option<&String>, usual: &str| {
            let token = given.map_or(usual, String::as_str);
            if token.is_empty() { Ok(None) } else { this.marker(&path, field, token).map(Some) }
        };
        let query_marker = prefix(self, "query_prefix", config.query_prefix.as_ref(), "[Q] ")?;
        let document_marker = prefix(self, "document_prefix", config.document_prefix.as_ref(), "[D] ")?;
        let query_length = self.length("query_length", config.query_length.unwrap_or(32));
        let document_length = self.length("document_length", config.document_length.unwrap_or(180));
        let mut query = self.rules(&path, query_marker, query_length)?;
        if config.do_query_expansion.unwrap_or(true) {
            let attend = config.attend_to_expansion_tokens.unwrap_or(false);
            query.expansion =
                Some(Expansion { token: self.filler(&path)?, attend, rule: ExpansionRule::Fixed });
        }
        let mut document = self.rules(&path, document_marker, document_length)?;
        let words = config.skiplist_words.unwrap_or_else(|| PUNCTUATION.chars().map(String::from).collect());
        document.skip = SkipReading::Token.ids(&self.tokens.tokenizer, words.iter().map(String::as_str));
        let unknown = words.iter().filter(|word| self.tokens.id(word).is_none()).count();
        if unknown > 0 {
            self.notes.push(format!(
                "{unknown} of {} words to skip are not in the vocabulary: as in PyLate, unknown tokens of documents are dropped",
                words.len()
            ));
        }
        Ok((query, document))
    }

    /// `sentence_bert_config.json` of the encoder's folder.
    fn transformer(&self) -> Result<TransformerConfig, CheckpointError> {
        let path = self.network.root.join("sentence_bert_config.json");
        let config: TransformerConfig = files::json_if_there(&path)?.unwrap_or_default();
        if config.do_lower_case {
            return Err(unsupported(&path, "do_lower_case true", "lower-casing by the tokenizer"));
        }
        Ok(config)
    }

    fn sentence_transformers(&mut self, folder: &Path) -> Result<(InputRules, InputRules), CheckpointError> {
        let path = folder.join("config_sentence_transformers.json");
        let config: Config = files::json_if_there(&path)?.unwrap_or_default();
        if let Some(name) =
            config.similarity_fn_name.as_deref().filter(|name| !matches!(*name, "maxsim" | "MaxSim"))
        {
            return Err(unsupported(&path, format!("similarity_fn_name {name:?}"), "maxsim"));
        }
        if !self.network.modules.iter().any(|m| m.kind == "Normalize") {
            let modules = folder.join("modules.json");
            return Err(unsupported(
                &modules,
                "token embeddings without Normalize",
                "embeddings of length 1",
            ));
        }
        let transformer_path = self.network.root.join("sentence_bert_config.json");
        let transformer = self.transformer()?;
        let usual = transformer.max_seq_length.or(self.tokens.max_length);
        let usual = usual.unwrap_or(self.network.encoder.max_positions);
        let prompts = config.prompts.unwrap_or_default();
        let query_marker = self.prompt(&path, "query", prompts.query.as_deref())?;
        let document_marker = self.prompt(&path, "document", prompts.document.as_deref())?;
        let mut length = self.length("query_length", transformer.query_length.unwrap_or(usual));
        let mut expansion = None;
        if let Some(found) = &transformer.query_expansion {
            let wanted = self.length("query_expansion length", found.length);
            let rule = match found.strategy.as_str() {
                "fixed" => {
                    length = wanted;
                    ExpansionRule::Fixed
                }
                "min" => {
                    length = length.max(wanted);
                    ExpansionRule::AtLeast(wanted)
                }
                other => {
                    let what = format!("query_expansion strategy {other:?}");
                    return Err(unsupported(&transformer_path, what, "fixed, min"));
                }
            };
            let token = match &found.token {
                Some(token) => self.marker(&transformer_path, "query_expansion token", token)?,
                None => self.tokens.mask.ok_or_else(|| {
                    unsupported(&transformer_path, "query expansion without mask token", "a named token")
                })?,
            };
            expansion = Some(Expansion { token, attend: found.attend, rule });
        }
        let mut query = self.rules(&path, query_marker, length)?;
        query.expansion = expansion;
        let document_length = self.length("document_length", transformer.document_length.unwrap_or(usual));
        let mut document = self.rules(&path, document_marker, document_length)?;
        let masks: Vec<PathBuf> = self
            .network
            .modules
            .iter()
            .filter(|m| m.kind == "MultiVectorMask")
            .map(|m| m.folder.join("config.json"))
            .collect();
        for path in masks {
            let mask: Mask = files::json_if_there(&path)?.unwrap_or_default();
            if mask.keep_only_token_ids.is_some_and(|ids| !ids.is_empty()) {
                return Err(unsupported(&path, "keep_only_token_ids", "skiplist_words"));
            }
            let tasks = mask.skiplist_tasks.unwrap_or_else(|| vec!["document".to_owned()]);
            let words = mask.skiplist_words.unwrap_or_default();
            let skip = SkipReading::KnownToken.ids(&self.tokens.tokenizer, words.iter().map(String::as_str));
            let n = words.iter().filter(|word| self.tokens.id(word).is_none()).count();
            if n > 0 {
                self.notes.push(format!(
                    "{n} of {} words to skip are not in the vocabulary and are left out",
                    words.len()
                ));
            }
            for (role, rules) in [("query", &mut query), ("document", &mut document)] {
                if tasks.iter().any(|task| task == role) {
                    rules.skip.extend(&skip);
                    rules.skip.sort_unstable();
                    rules.skip.dedup();
                }
            }
        }
        Ok((query, document))
    }

    /// The id of a prompt that is one token, which is how markers are written here.
    fn prompt(&self, path: &Path, role: &str, text: Option<&str>) -> Result<Option<u32>, CheckpointError> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
        // A text behind it shows what becomes of a blank between them.
        let with = self.tokens.tokenizer.encode(&format!("{text}の"));
        let without = self.tokens.tokenizer.encode("の");
        match with.ids.split_first() {
            Some((&marker, rest)) if rest == without.ids => Ok(Some(marker)),
            _ => Err(unsupported(path, format!("prompt {text:?} for {role}"), "prompts that are one token")),
        }
    }
}
