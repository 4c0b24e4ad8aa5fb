//! `tokenizer.model` of SentencePiece as the `tokenizer.json` that `transformers` makes of it for a `LlamaTokenizer`.
//!
//! The file is a protocol buffer; only pieces, the kind of model and two settings are read. As in `transformers`, the compiled normalisation rules of the
//! file are not applied: models of that class were trained without them.

use serde_json::{Value, json};

#[derive(Debug, Default)]
struct Model {
    /// Text, score, kind (1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte).
    pieces: Vec<(String, f32, u64)>,
    /// 1 Unigram, 2 BPE.
    kind: u64,
    byte_fallback: bool,
    add_dummy_prefix: Option<bool>,
}

/// The fields of a message: number and content.
struct Fields<'a>(&'a [u8]);

enum Field<'a> {
    Number(u64),
    Float(f32),
    Bytes(&'a [u8]),
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, n: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(n).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn next(&mut self) -> Option<(u64, Field<'a>)> {
        let key = self.varint()?;
        let field = match key & 7 {
            0 => Field::Number(self.varint()?),
            1 => Field::Bytes(self.take(8)?),
            2 => {
                let n = self.varint()?;
                Field::Bytes(self.take(n)?)
            }
            5 => {
                let b = self.take(4)?;
                Field::Float(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            }
            _ => return None,
        };
        Some((key >> 3, field))
    }

    /// Calls `each` for every field.
    fn all(mut self, mut each: impl FnMut(u64, Field<'a>) -> Result<(), String>) -> Result<(), String> {
        while !self.0.is_empty() {
            let left = self.0.len();
            let (number, field) = self
                .next()
                .ok_or_else(|| format!("no SentencePiece model: broken {left} bytes before its end"))?;
            each(number, field)?;
        }
        Ok(())
    }
}

fn parse(bytes: &[u8]) -> Result<Model, String> {
    let mut model = Model { kind: 1, ..Model::default() };
    Fields(bytes).all(|number, field| {
        match (number, field) {
            (1, Field::Bytes(piece)) => {
                let (mut text, mut score, mut kind) = (None, 0.0, 1);
                Fields(piece).all(|number, field| {
                    match (number, field) {
                        (1, Field::Bytes(bytes)) => {
                            text = Some(
                                str::from_utf8(bytes).map_err(|_| "a piece that is not UTF-8")?.to_owned(),
                            );
                        }
                        (2, Field::Float(value)) => score = value,
                        (3, Field::Number(value)) => kind = value,
                        _ => {}
                    }
                    Ok(())
                })?;
                model.pieces.push((text.ok_or("a piece without text")?, score, kind));
            }
            (2, Field::Bytes(trainer)) => Fields(trainer).all(|number, field| {
                match (number, field) {
                    (3, Field::Number(kind)) => model.kind = kind,
                    (35, Field::Number(flag)) => model.byte_fallback = flag != 0,
                    _ => {}
                }
                Ok(())
            })?,
            (3, Field::Bytes(normalizer)) => Fields(normalizer).all(|number, field| {
                if let (3, Field::Number(flag)) = (number, field) {
                    model.add_dummy_prefix = Some(flag != 0);
                }
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    if model.pieces.is_empty() {
        return Err("no SentencePiece model: no pieces".to_owned());
    }
    Ok(model)
}

/// The tokenizer as JSON.
pub(crate) fn tokenizer_json(bytes: &[u8], config: &Value, special: &Value) -> Result<Value, String> {
    let model = parse(bytes)?;
    let unknown = model.pieces.iter().position(|piece| piece.2 == 2).ok_or("no unknown piece")?;
    let body = match model.kind {
        1 => {
            let vocab: Vec<Value> =
                model.pieces.iter().map(|(text, score, _)| json!([text, score])).collect();
            json!({ "type": "Unigram", "unk_id": unknown, "byte_fallback": model.byte_fallback, "vocab": vocab })
        }
        2 => {
            let vocab: serde_json::Map<String, Value> =
                model.pieces.iter().enumerate().map(|(id, piece)| (piece.0.clone(), json!(id))).collect();
            json!({
                "type": "BPE",
                "unk_token": model.pieces[unknown].0,
                "fuse_unk": true,
                "byte_fallback": model.byte_fallback,
                "vocab": vocab,
                "merges": merges(&model.pieces),
            })
        }
        other => {
            return Err(format!("a SentencePiece model of kind {other}, expected 1 (Unigram) or 2 (BPE)"));
        }
    };
    let mut added = crate::tokens::added_tokens(config);
    if added.is_empty() {
        for (id, (text, ..)) in model.pieces.iter().enumerate().filter(|(_, piece)| matches!(piece.2, 2..=4))
        {
            added.push(json!({ "id": id, "content": text, "special": true, "normalized": false }));
        }
    }
    let prefix = config["add_prefix_space"].as_bool().or(model.add_dummy_prefix).unwrap_or(true);
    let legacy = config["legacy"].as_bool().unwrap_or(true);
    let (normalizer, pre_tokenizer) = if legacy {
        let mut steps = Vec::new();
        if prefix {
            steps.push(json!({ "type": "Prepend", "prepend": "▁" }));
        }
        steps.push(json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" }));
        (json!({ "type": "Sequence", "normalizers": steps }), Value::Null)
    } else {
        let scheme = if prefix { "first" } else { "never" };
        (
            Value::Null,
            json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false }),
        )
    };
    let marker = |flag: &str, usual: bool, names: &[&str]| {
        if !config[flag].as_bool().unwrap_or(usual) {
            return None;
        }
        let text = names.iter().find_map(|name| {
            [&config[name], &special[name]]
                .into_iter()
                .find_map(|value| value.as_str().or_else(|| value["content"].as_str()))
        })?;
        let id = model.pieces.iter().position(|piece| piece.0 == text)?;
        Some((text.to_owned(), id))
    };
    let (begin, end) =
        (marker("add_bos_token", true, &["bos_token"]), marker("add_eos_token", false, &["eos_token"]));
    let (mut single, mut ids) = (Vec::new(), serde_json::Map::new());
    let mut add = |found: &Option<(String, usize)>, single: &mut Vec<Value>| {
        if let Some((text, id)) = found {
            single.push(json!({ "SpecialToken": { "id": text, "type_id": 0 } }));
            ids.insert(text.clone(), json!({ "id": text, "ids": [id], "tokens": [text] }));
        }
    };
    add(&begin, &mut single);
    single.push(json!({ "Sequence": { "id": "A", "type_id": 0 } }));
    add(&end, &mut single);
    Ok(json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": { "type": "TemplateProcessing", "single": single, "special_tokens": ids },
        "model": body,
    }))
}

/// The merges that a SentencePiece BPE stands for: every split of a piece into two pieces, in the order of the whole's score.
fn merges(pieces: &[(String, f32, u64)]) -> Vec<Value> {
    let ids: std::collections::HashMap<&str, usize> =
        pieces.iter().enumerate().map(|(id, piece)| (piece.0.as_str(), id)).collect();
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    order.sort_by(|&a, &b| pieces[b].1.total_cmp(&pieces[a].1));
    let mut out = Vec::new();
    for id in order {
        let text = &pieces[id].0;
        let mut here: Vec<(usize, usize, &str, &str)> = text
            .char_indices()
            .skip(1)
            .filter_map(|(at, _)| {
                let (left, right) = text.split_at(at);
                Some((*ids.get(left)?, *ids.get(right)?, left, right))
            })
            .collect();
        here.sort_unstable();
        out.extend(here.into_iter().map(|(_, _, left, right)| json!([left, right])));
    }
    out
}
