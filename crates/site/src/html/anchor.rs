//! Where a heading can be linked to.
//!
//! Generators put the name in different places: on the heading (VitePress, Docusaurus, Starlight), on a link inside it (mdBook, older tools), on the
//! section around it (Sphinx), on an empty element before it (docutils, old HTML), or only in the permalink beside it (GitHub).

use super::dom::Element;
use percent_encoding::percent_decode_str;

/// Classes of links that only copy a heading's address.
const PERMALINKS: &[&str] = &[
    "headerlink",
    "header-anchor",
    "hash-link",
    "heading-anchor",
    "anchorjs-link",
    "sl-anchor-link",
    "anchor-link",
    "permalink",
    "headline-anchor",
];

/// Whether a link is a sign that copies an address (`#`, `¶`) and no part of the text. Without a class that says so, only inside a heading.
pub(crate) fn is_permalink(element: Element<'_>, in_heading: bool) -> bool {
    if element.name() != "a" || !element.attribute("href").is_some_and(|href| href.starts_with('#')) {
        return false;
    }
    let named = element.classes().any(|class| PERMALINKS.contains(&class));
    named || (in_heading && !element.texts().any(|text| text.chars().any(char::is_alphanumeric)))
}

/// The fragment that leads to `heading`, decoded; empty if there is none.
pub(crate) fn anchor_of(heading: Element<'_>) -> String {
    heading
        .elements()
        .find_map(own_name)
        .or_else(|| name_of_section(heading))
        .or_else(|| name_before(heading))
        .or_else(|| heading.elements().find_map(target))
        .or_else(|| heading.next_siblings().next().and_then(target))
        .unwrap_or_default()
}

fn own_name(element: Element<'_>) -> Option<String> {
    let name =
        element.attribute("id").or_else(|| element.attribute("name").filter(|_| element.name() == "a"))?;
    (!name.trim().is_empty()).then(|| name.trim().to_owned())
}

/// The fragment that a link leads to.
fn target(element: Element<'_>) -> Option<String> {
    let fragment = element.attribute("href").filter(|_| element.name() == "a")?.strip_prefix('#')?;
    let name = percent_decode_str(fragment).decode_utf8().ok()?;
    (!name.is_empty()).then(|| name.into_owned())
}

/// The id of the section that the heading opens, with at most one wrapper (`<section id><header><h2>`) between them.
fn name_of_section(heading: Element<'_>) -> Option<String> {
    let mut inner = heading;
    for _ in 0..2 {
        let outer = inner.parent()?;
        if inner.previous_siblings().any(|e| !is_empty(e)) {
            return None;
        }
        match outer.name() {
            "section" | "div" => return own_name(outer),
            "header" | "hgroup" => inner = outer,
            _ => return None,
        }
    }
    None
}

fn name_before(heading: Element<'_>) -> Option<String> {
    heading.previous_siblings().next().filter(|e| is_empty(*e)).and_then(own_name)
}

fn is_empty(element: Element<'_>) -> bool {
    matches!(element.name(), "a" | "span") && element.texts().all(|text| text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::html::tree::Tree;

    #[test]
    fn anchors_are_found_where_generators_put_them() {
        for (html, expected) in [
            ("<h2 id=概要>概要</h2>", "概要"),
            ("<h2><a class=header href='#x' id=x>題</a></h2>", "x"),
            ("<h2><a name=old></a>題</h2>", "old"),
            ("<section id=s><h2>題<a class=headerlink href='#s'>¶</a></h2></section>", "s"),
            ("<section id=s><span id=label></span><h2>題</h2></section>", "s"),
            ("<section id=s><header><h2>題</h2></header></section>", "s"),
            ("<section id=s><p>先</p><h2>題</h2></section>", ""),
            ("<p>前</p><a id=before></a><h2>題</h2>", "before"),
            ("<h2>題<a href='#%E6%A6%82%E8%A6%81'>#</a></h2>", "概要"),
            ("<div><h2>題</h2><a class=anchor href='#x'></a></div>", "x"),
            ("<h2>題</h2><p>文</p><a href='#far'>遠い</a>", ""),
            ("<h2 id=' '>題</h2>", ""),
        ] {
            let tree = Tree::parse(html);
            let heading = tree.root().unwrap().elements().find(|e| e.name() == "h2").unwrap();
            assert_eq!(anchor_of(heading), expected, "{html}");
        }
    }

    #[test]
    fn signs_are_told_from_linked_headings() {
        for (html, expected) in [
            ("<a href='#x'>#</a>", true),
            ("<a href='#x'>\u{200b}</a>", true),
            ("<a class=headerlink href='#x'>Link to this heading</a>", true),
            ("<a class=header href='#x'>所有権とは</a>", false),
            ("<a href='/x'>¶</a>", false),
            ("<b>#</b>", false),
        ] {
            let tree = Tree::parse(html);
            let link = tree.root().unwrap().elements().find(|e| matches!(e.name(), "a" | "b")).unwrap();
            assert_eq!(is_permalink(link, true), expected, "{html}");
        }
    }
}
