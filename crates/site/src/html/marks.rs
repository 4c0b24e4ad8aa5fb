//! `data-shirube-*` attributes, with `data-pagefind-*` as aliases.

use super::dom::{Element, text_of};
use std::collections::BTreeMap;

const PREFIXES: [&str; 2] = ["data-shirube-", "data-pagefind-"];

/// The value of `data-shirube-{name}`, or of `data-pagefind-{name}`.
pub(crate) fn mark<'a>(element: Element<'a>, name: &str) -> Option<&'a str> {
    PREFIXES.iter().find_map(|prefix| {
        element
            .attributes()
            .find_map(|(key, value)| (key.strip_prefix(prefix) == Some(name)).then_some(value))
    })
}

/// Whether an element has any mark at all: most have none, and are not asked for each.
pub(crate) fn is_marked(element: Element<'_>) -> bool {
    element.attributes().any(|(key, _)| PREFIXES.iter().any(|prefix| key.starts_with(prefix)))
}

/// How much of an element is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ignore {
    /// Its text.
    Text,
    /// Its text, and its metadata, filters and sort values.
    All,
}

pub(crate) fn ignore(element: Element<'_>) -> Option<Ignore> {
    mark(element, "ignore").map(|value| match value.trim() {
        "all" => Ignore::All,
        _ => Ignore::Text,
    })
}

/// `(name, value)` pairs of a capturing mark: `name` takes the element's text, `name[attribute]` an attribute, `name:value` the value as
/// written. Several are separated by commas; one with a value as written takes all the rest, so it may hold commas itself.
pub(crate) fn captures(element: Element<'_>, specification: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = specification;
    while !rest.trim().is_empty() {
        let (piece, after) = rest.split_once(',').unwrap_or((rest, ""));
        let (name, value) = if let Some((name, value)) =
            rest.split_once(':').filter(|(name, _)| !name.contains(','))
        {
            rest = "";
            (name, value.trim().to_owned())
        } else if let Some((name, attribute)) = piece.trim().strip_suffix(']').and_then(|p| p.split_once('['))
        {
            rest = after;
            (name, element.attribute(attribute.trim()).unwrap_or_default().trim().to_owned())
        } else {
            rest = after;
            (piece, text_of(element))
        };
        let name = name.trim();
        if !name.is_empty() && !value.is_empty() {
            found.push((name.to_owned(), value));
        }
    }
    found
}

/// What the marks of a page say about it.
#[derive(Debug, Default)]
pub(crate) struct PageMarks {
    pub(crate) meta: BTreeMap<String, String>,
    pub(crate) filters: BTreeMap<String, Vec<String>>,
    pub(crate) sort: BTreeMap<String, String>,
    default_meta: BTreeMap<String, String>,
}

impl PageMarks {
    /// Takes in one marked element. The first value of a name stays, but filters collect all.
    pub(crate) fn read(&mut self, element: Element<'_>) {
        let each = |name: &str| mark(element, name).map(|value| captures(element, value)).unwrap_or_default();
        for (name, value) in each("meta") {
            self.meta.entry(name).or_insert(value);
        }
        for (name, value) in each("default-meta") {
            self.default_meta.entry(name).or_insert(value);
        }
        for (name, value) in each("sort") {
            self.sort.entry(name).or_insert(value);
        }
        for (name, value) in each("filter") {
            let values = self.filters.entry(name).or_default();
            if !values.contains(&value) {
                values.push(value);
            }
        }
    }

    /// Ends reading: defaults fill what no element gave.
    pub(crate) fn finish(&mut self) {
        for (name, value) in core::mem::take(&mut self.default_meta) {
            self.meta.entry(name).or_insert(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::html::tree::Tree;

    #[test]
    fn captures_take_text_attributes_and_written_values() {
        let tree = Tree::parse("<i src=' /a.png ' data-x=''> 本\n文 <script>x</script></i>");
        let element = tree.root().unwrap().elements().find(|e| e.name() == "i").unwrap();
        for (text, expected) in [
            ("題", &[("題", "本文")][..]),
            ("image[src]", &[("image", "/a.png")]),
            ("a:b", &[("a", "b")]),
            (
                "題, image[src], 著者:夏目, 漱石",
                &[("題", "本文"), ("image", "/a.png"), ("著者", "夏目, 漱石")],
            ),
            ("none[data-none], empty[data-x], :v, a:", &[]),
            ("", &[]),
            (" , ,", &[]),
        ] {
            let found = captures(element, text);
            let found: Vec<_> = found.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }
}
