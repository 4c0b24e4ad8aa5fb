//! From a `tokenizer.json` of the crate `tokenizers`.

use super::charsmap;
use super::model::{Merges, Subword};
use super::pattern::Pattern;
use super::split::{Delimiter, Prepend, Split};
use super::steps::Step;
use super::vocabulary::Vocabulary;
use super::{Added, Pipeline};
use crate::TextError;
use crate::normalize::Form;
use serde_json::Value;
use std::collections::BTreeMap;

fn unsupported(what: impl Into<String>) -> TextError {
    TextError::Unsupported { what: what.into() }
}

fn shown(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}

impl Pipeline {
    /// # Errors
    /// [`TextError::Unsupported`] for a part that is not built, by name.
    pub(crate) fn from_tokenizer_json(json: &str) -> Result<Self, TextError> {
        let root: Value = serde_json::from_str(json).map_err(|e| unsupported(format!("not JSON: {e}")))?;
        let mut steps = Vec::new();
        normalizer(&root["normalizer"], &mut steps)?;
        if !super::steps::are_bounded(&steps) {
            return Err(unsupported("a normalizer that makes texts thousands of times as long"));
        }
        let mut splits = Vec::new();
        pre_tokenizer(&root["pre_tokenizer"], &mut splits)?;
        let mut added = Vec::new();
        for token in root["added_tokens"].as_array().into_iter().flatten() {
            added.push(added_token(token)?);
        }
        let (vocabulary, subword) = model(&root["model"])?;
        Ok(Self::new(added, steps, splits, vocabulary, subword))
    }
}

fn added_token(token: &Value) -> Result<Added, TextError> {
    let flag = |name: &str| token[name] == true;
    let (Some(content), Some(id)) = (token["content"].as_str(), token["id"].as_u64()) else {
        return Err(unsupported(format!("added token {}", shown(token))));
    };
    if flag("single_word") {
        return Err(unsupported(format!("added token {content:?} with single_word")));
    }
    let id = u32::try_from(id).map_err(|_| unsupported(format!("added token {content:?} with id {id}")))?;
    Ok(Added {
        content: content.to_owned(),
        id,
        lstrip: flag("lstrip"),
        rstrip: flag("rstrip"),
        normalized: flag("normalized"),
    })
}

fn normalizer(value: &Value, out: &mut Vec<Step>) -> Result<(), TextError> {
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    match value["type"].as_str() {
        None if value.is_null() => {}
        Some("Sequence") => {
            for part in value["normalizers"].as_array().into_iter().flatten() {
                normalizer(part, out)?;
            }
        }
        Some("NFC") => out.push(Step::Form(Form::Nfc)),
        Some("NFD") => out.push(Step::Form(Form::Nfd)),
        Some("NFKC") => out.push(Step::Form(Form::Nfkc)),
        Some("NFKD") => out.push(Step::Form(Form::Nfkd)),
        Some("Lowercase") => out.push(Step::Lowercase),
        Some("Prepend") => out.push(Step::Prepend(text("prepend"))),
        Some("Strip") => {
            out.push(Step::Strip {
                left: value["strip_left"] != false,
                right: value["strip_right"] != false,
            });
        }
        Some("Replace") => match (value["pattern"]["String"].as_str(), value["pattern"]["Regex"].as_str()) {
            (Some(from), _) => out.push(Step::Replace { from: from.to_owned(), to: text("content") }),
            (None, Some(" {2,}")) => out.push(Step::Blanks { to: text("content") }),
            _ => return Err(unsupported(format!("normalizer {}", shown(value)))),
        },
        Some("BertNormalizer") => {
            let flag = |name: &str| value[name] != false;
            let lowercase = flag("lowercase");
            let steps = [
                (flag("clean_text"), Step::CleanText),
                (flag("handle_chinese_chars"), Step::SpaceIdeographs),
                (value["strip_accents"].as_bool().unwrap_or(lowercase), Step::StripAccents),
                (lowercase, Step::Lowercase),
            ];
            out.extend(steps.into_iter().filter(|(wanted, _)| *wanted).map(|(_, step)| step));
        }
        // SentencePiece's compiled rules; empty ones are the identity.
        Some("Precompiled") => {
            if let Some(text) = value["precompiled_charsmap"].as_str().filter(|text| !text.is_empty()) {
                let rules =
                    charsmap::read(text).ok_or_else(|| unsupported("damaged normalizer Precompiled"))?;
                out.push(Step::Rules(rules));
            }
        }
        _ => return Err(unsupported(format!("normalizer {}", shown(value)))),
    }
    Ok(())
}

fn pre_tokenizer(value: &Value, out: &mut Vec<Split>) -> Result<(), TextError> {
    match value["type"].as_str() {
        None if value.is_null() => {}
        Some("Sequence") => {
            for part in value["pretokenizers"].as_array().into_iter().flatten() {
                pre_tokenizer(part, out)?;
            }
        }
        Some("BertPreTokenizer") => out.push(Split::Bert),
        Some("WhitespaceSplit") => out.push(Split::Blanks),
        Some("Digits") => out.push(Split::Digits { each: value["individual_digits"] == true }),
        Some("ByteLevel") => out.push(Split::Bytes {
            blank_first: value["add_prefix_space"] != false,
            pattern: value["use_regex"] != false,
        }),
        Some("Metaspace") => {
            let mark = value["replacement"].as_str().and_then(|text| text.chars().next()).unwrap_or('▁');
            let prepend = match (value["add_prefix_space"].as_bool(), value["prepend_scheme"].as_str()) {
                (Some(false), _) | (_, Some("never")) => Prepend::Never,
                (_, Some("first")) => Prepend::First,
                (_, None | Some("always")) => Prepend::Always,
                _ => return Err(unsupported(format!("pre_tokenizer {}", shown(value)))),
            };
            out.push(Split::Metaspace { mark, prepend, cut: value["split"] != false });
        }
        Some("Split") => {
            let pattern = match (value["pattern"]["String"].as_str(), value["pattern"]["Regex"].as_str()) {
                (Some(text), _) => Pattern::of_text(text),
                (None, Some(expression)) => Pattern::parse(expression).map_err(|what| {
                    unsupported(format!("pre_tokenizer {}: {what} in its expression", shown(value)))
                })?,
                _ => return Err(unsupported(format!("pre_tokenizer {}", shown(value)))),
            };
            let delimiter = match value["behavior"].as_str() {
                Some("Removed") => Delimiter::Removed,
                Some("Isolated") => Delimiter::Isolated,
                Some("MergedWithPrevious") => Delimiter::MergedWithPrevious,
                Some("MergedWithNext") => Delimiter::MergedWithNext,
                Some("Contiguous") => Delimiter::Contiguous,
                _ => return Err(unsupported(format!("pre_tokenizer {}", shown(value)))),
            };
            out.push(Split::Pattern { pattern, invert: value["invert"] == true, delimiter });
        }
        Some("Whitespace") => return Err(unsupported("pre_tokenizer Whitespace, which cuts by \\w")),
        _ => return Err(unsupported(format!("pre_tokenizer {}", shown(value)))),
    }
    Ok(())
}

/// Pieces in order; of equal ones the last id counts, as in the reference.
fn vocabulary<'a>(
    pieces: impl IntoIterator<Item = (&'a str, u64)>,
) -> Result<(Vocabulary, BTreeMap<&'a str, u32>), TextError> {
    let mut sorted = BTreeMap::new();
    for (piece, id) in pieces {
        // No text is an empty piece.
        if piece.is_empty() {
            continue;
        }
        if piece.len() > usize::from(u8::MAX) {
            return Err(unsupported(format!("a piece of {} bytes, more than 255", piece.len())));
        }
        let id = u32::try_from(id).ok().filter(|&id| id < 1 << 24);
        sorted.insert(piece, id.ok_or_else(|| unsupported(format!("an id beyond 2^24 of {piece:?}")))?);
    }
    if sorted.is_empty() || sorted.len() > super::binary::MAX_PIECES {
        return Err(unsupported(format!("a vocabulary of {} pieces", sorted.len())));
    }
    let vocabulary = Vocabulary::new(sorted.iter().map(|(&piece, &id)| (piece, id)));
    Ok((vocabulary.ok_or_else(|| unsupported("a vocabulary beyond 4 GiB"))?, sorted))
}

fn model(value: &Value) -> Result<(Vocabulary, Subword), TextError> {
    match value["type"].as_str() {
        Some("Unigram") => {
            let entries =
                value["vocab"].as_array().ok_or_else(|| unsupported("a Unigram model without vocab"))?;
            let mut scores = Vec::new();
            for entry in entries {
                let score = entry[1].as_f64().filter(|score| score.is_finite());
                let (Some(_), Some(score)) = (entry[0].as_str(), score) else {
                    return Err(unsupported(format!("piece {}", shown(entry))));
                };
                scores.push(score);
            }
            let texts =
                entries.iter().enumerate().map(|(id, e)| (e[0].as_str().unwrap_or_default(), id as u64));
            let (vocabulary, sorted) = vocabulary(texts)?;
            let scores = sorted.values().map(|&id| scores[id as usize]).collect();
            let unknown = value["unk_id"].as_u64().and_then(|id| u32::try_from(id).ok());
            Ok((
                vocabulary,
                Subword::Unigram { scores, unknown, byte_fallback: value["byte_fallback"] == true },
            ))
        }
        Some("WordPiece") => {
            let (vocabulary, sorted) = vocabulary(entries(value)?)?;
            let unknown = value["unk_token"].as_str().unwrap_or("[UNK]");
            let Some(&unknown) = sorted.get(unknown) else {
                return Err(unsupported(format!(
                    "unknown token {unknown:?}, which is not in the vocabulary"
                )));
            };
            let continuation = value["continuing_subword_prefix"].as_str().unwrap_or("##").to_owned();
            let most_chars = value["max_input_chars_per_word"].as_u64().unwrap_or(100);
            let most_chars = usize::try_from(most_chars).unwrap_or(usize::MAX);
            Ok((vocabulary, Subword::WordPiece { unknown, continuation, most_chars }))
        }
        Some("BPE") => {
            for part in ["continuing_subword_prefix", "end_of_word_suffix"] {
                if value[part].as_str().is_some_and(|text| !text.is_empty()) {
                    return Err(unsupported(format!("BPE with {part}")));
                }
            }
            let (vocabulary, sorted) = vocabulary(entries(value)?)?;
            let unknown = match value["unk_token"].as_str() {
                None => None,
                Some(token) => Some(*sorted.get(token).ok_or_else(|| {
                    unsupported(format!("unknown token {token:?}, which is not in the vocabulary"))
                })?),
            };
            let mut pairs = Vec::new();
            for merge in value["merges"].as_array().into_iter().flatten() {
                let (a, b) = match merge.as_str() {
                    Some(text) => text.split_once(' ').unwrap_or_default(),
                    None => (merge[0].as_str().unwrap_or_default(), merge[1].as_str().unwrap_or_default()),
                };
                let (Some(&a), Some(&b)) = (sorted.get(a), sorted.get(b)) else {
                    return Err(unsupported(format!(
                        "merge {}, whose halves are not in the vocabulary",
                        shown(merge)
                    )));
                };
                pairs.push((a, b));
            }
            if pairs.len() > super::binary::MAX_MERGES {
                return Err(unsupported(format!("{} merges", pairs.len())));
            }
            let merges = Merges::new(pairs, &vocabulary)
                .ok_or_else(|| unsupported("a merge whose union is not in the vocabulary"))?;
            let subword = Subword::Bpe {
                merges,
                unknown,
                fuse_unknown: value["fuse_unk"] == true,
                byte_fallback: value["byte_fallback"] == true,
                whole_words: value["ignore_merges"] == true,
            };
            Ok((vocabulary, subword))
        }
        other => Err(unsupported(format!("model {:?}", other.unwrap_or("without type")))),
    }
}

fn entries(model: &Value) -> Result<impl Iterator<Item = (&str, u64)>, TextError> {
    let vocab = model["vocab"].as_object().ok_or_else(|| unsupported("a model without vocab"))?;
    Ok(vocab.iter().map(|(piece, id)| (piece.as_str(), id.as_u64().unwrap_or(u64::MAX))))
}
