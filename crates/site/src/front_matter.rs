//! The block of settings at the top of a Markdown file: YAML between `---`, TOML between `+++`.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What front matter says about a page.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct FrontMatter {
    pub(crate) title: Option<String>,
    pub(crate) lang: String,
    pub(crate) draft: bool,
    pub(crate) ignored: bool,
    pub(crate) noindex: bool,
    /// Address below the base, from `permalink` or `url`.
    pub(crate) address: Option<String>,
    pub(crate) weight: Option<f32>,
    pub(crate) meta: BTreeMap<String, String>,
    pub(crate) filters: BTreeMap<String, Vec<String>>,
    pub(crate) sort: BTreeMap<String, String>,
}

impl FrontMatter {
    /// The front matter of `text`, empty where there is none, and the rest.
    pub(crate) fn split(text: &str) -> Result<(Self, &str), String> {
        let text = text.trim_start_matches('\u{feff}');
        for (fence, toml) in [("---", false), ("+++", true)] {
            let Some((block, body)) = block(text, fence) else { continue };
            let value = if toml {
                toml::from_str::<Value>(block).map_err(|error| error.message().to_owned())?
            } else {
                yaml(block)?
            };
            return match value {
                Value::Object(map) => Ok((Self::of(&map), body)),
                Value::Null => Ok((Self::default(), body)),
                _ => Err("it is no list of names and values".to_owned()),
            };
        }
        Ok((Self::default(), text))
    }

    fn of(map: &Map<String, Value>) -> Self {
        let string = |name: &str| map.get(name).and_then(text);
        let is = |name: &str, wanted: bool| map.get(name).and_then(Value::as_bool) == Some(wanted);
        let mut front = Self {
            title: string("title"),
            lang: string("lang")
                .unwrap_or_default()
                .split(['-', '_'])
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase(),
            draft: is("draft", true) || is("published", false),
            ignored: is("search", false) || is("pagefind", false) || is("shirube", false),
            noindex: is("noindex", true) || string("robots").is_some_and(|r| r.contains("noindex")),
            address: string("permalink").or_else(|| string("url")).filter(|a| a.starts_with('/')),
            ..Self::default()
        };
        for name in ["tags", "categories"] {
            let values = map.get(name).map(list).unwrap_or_default();
            if !values.is_empty() {
                front.filters.insert(name.to_owned(), values);
            }
        }
        if let Some(date) = string("date") {
            front.sort.insert("date".to_owned(), date);
        }
        if let Some(Value::Object(own)) = map.get("shirube") {
            let each = |name: &str| own.get(name).and_then(Value::as_object).into_iter().flatten();
            front.meta.extend(each("meta").filter_map(|(k, v)| Some((k.clone(), text(v)?))));
            front.sort.extend(each("sort").filter_map(|(k, v)| Some((k.clone(), text(v)?))));
            front.filters.extend(each("filters").map(|(k, v)| (k.clone(), list(v))));
            front.weight = own
                .get("weight")
                .and_then(Value::as_f64)
                .map(|w| w as f32)
                .filter(|w| *w > 0.0 && w.is_finite());
        }
        front
    }
}

/// What stands between two fences at the top, and what follows.
fn block<'a>(text: &'a str, fence: &str) -> Option<(&'a str, &'a str)> {
    let rest = text.strip_prefix(fence)?;
    let rest = rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix('\n'))?;
    let mut at = 0;
    for line in rest.split_inclusive('\n') {
        if line.trim_end() == fence {
            return Some((&rest[..at], &rest[at + line.len()..]));
        }
        at += line.len();
    }
    None
}

fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Bool(bool) => bool.to_string(),
        // TOML dates come as an object of one.
        Value::Object(map) if map.len() == 1 => map.values().next().and_then(text)?,
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

fn list(value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.iter().filter_map(text).collect(),
        other => text(other).into_iter().collect(),
    }
}

/// A value that is being filled.
enum Open {
    List(Vec<Value>),
    /// The map and the name whose value comes next.
    Map(Map<String, Value>, Option<String>),
}

/// The first YAML document in `text`. Anchors and tags are of no use in front matter and are passed over.
fn yaml(text: &str) -> Result<Value, String> {
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|error| error.to_string())?;
        let value = match event {
            Event::Scalar(text, style, _, _) => scalar(&text, style),
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Map::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(list)) => Value::Array(list),
                Some(Open::Map(map, _)) => Value::Object(map),
                None => return Err("it ends what it has not begun".to_owned()),
            },
            Event::Alias(_) => Value::Null,
            _ => continue,
        };
        match open.last_mut() {
            None => return Ok(value),
            Some(Open::List(list)) => list.push(value),
            Some(Open::Map(map, name)) => match name.take() {
                None => *name = Some(self::text(&value).unwrap_or_default()),
                Some(name) => {
                    map.insert(name, value);
                }
            },
        }
    }
    Ok(Value::Null)
}

/// A plain scalar by YAML's core rules; a quoted one is text.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(n), _) => Value::from(n),
            (_, Ok(n)) if n.is_finite() => Value::from(n),
            _ => Value::String(text.to_owned()),
        },
    }
}
