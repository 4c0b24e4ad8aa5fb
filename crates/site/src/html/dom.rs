//! Small questions to the parsed tree.

use super::inline::Inline;
pub(crate) use super::tree::{Element, Step};

/// Elements whose content is no text of the page.
const SILENT: &[&str] = &[
    "script",
    "style",
    "template",
    "noscript",
    "svg",
    "canvas",
    "iframe",
    "object",
    "embed",
    "audio",
    "video",
    "button",
    "select",
    "input",
    "textarea",
    "datalist",
    "dialog",
    "map",
    "head",
    "title",
    "link",
    "meta",
    "rt",
    "rp",
    "annotation",
    "annotation-xml",
];

/// Elements that begin and end a line.
const BLOCKS: &[&str] = &[
    "address",
    "article",
    "aside",
    "blockquote",
    "caption",
    "center",
    "dd",
    "details",
    "dir",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hgroup",
    "hr",
    "legend",
    "li",
    "main",
    "menu",
    "nav",
    "ol",
    "p",
    "pre",
    "section",
    "summary",
    "table",
    "tbody",
    "tfoot",
    "thead",
    "tr",
    "ul",
];

pub(crate) fn is_silent(element: Element<'_>) -> bool {
    // Readings above characters would break the words they explain; `hidden` tabs are one click away and belong to the page.
    SILENT.contains(&element.name())
        || element.attribute("aria-hidden") == Some("true")
        || (element.attribute("hidden").is_some() && element.attribute("role") != Some("tabpanel"))
        || element
            .classes()
            .any(|class| matches!(class, "sr-only" | "visually-hidden" | "screen-reader-text"))
}

/// Whether an element stands on lines of its own. A cell's only paragraph does not.
pub(crate) fn is_block(element: Element<'_>) -> bool {
    let lone = || element.parent().is_some_and(|cell| is_cell(cell) && cell.children().nth(1).is_none());
    BLOCKS.contains(&element.name()) && !(element.name() == "p" && lone())
}

pub(crate) fn is_cell(element: Element<'_>) -> bool {
    matches!(element.name(), "td" | "th")
}

/// The level of a heading, 1 to 6.
pub(crate) fn heading_level(element: Element<'_>) -> Option<u8> {
    match element.name().as_bytes() {
        [b'h', level @ b'1'..=b'6'] => Some(level - b'0'),
        _ => None,
    }
}

/// All text of an element as a reader sees it, on one line.
pub(crate) fn text_of(element: Element<'_>) -> String {
    let mut text = Inline::default();
    let mut inside_silent = None;
    for step in element.walk() {
        match step {
            Step::Text(t) if inside_silent.is_none() => text.push(t),
            Step::Open(child) if inside_silent.is_none() => {
                if is_silent(child) && child.id() != element.id() {
                    inside_silent = Some(child.id());
                } else if is_block(child) || is_cell(child) || child.name() == "br" {
                    text.gap();
                }
            }
            Step::Close(child) if inside_silent == Some(child.id()) => inside_silent = None,
            _ => {}
        }
    }
    text.take()
}

/// Characters of text inside, a rough measure of which part of a page is the content.
pub(crate) fn text_length(element: Element<'_>) -> usize {
    let mut length = 0;
    let mut inside = None;
    for step in element.walk() {
        match step {
            Step::Text(t) if inside.is_none() => length += t.chars().filter(|c| !c.is_whitespace()).count(),
            Step::Open(child) if inside.is_none() && child.id() != element.id() => {
                inside = (is_silent(child) || is_furniture(child)).then(|| child.id());
            }
            Step::Close(child) if inside == Some(child.id()) => inside = None,
            _ => {}
        }
    }
    length
}

/// Parts around the content, wherever they stand.
pub(crate) fn is_furniture(element: Element<'_>) -> bool {
    matches!(element.name(), "nav" | "footer")
        || element
            .attribute("role")
            .is_some_and(|role| matches!(role, "navigation" | "contentinfo" | "search"))
}

/// Parts around the content where a page does not say what its content is.
pub(crate) fn is_outer_furniture(element: Element<'_>) -> bool {
    matches!(element.name(), "header" | "aside")
        || element.attribute("role").is_some_and(|role| matches!(role, "banner" | "complementary"))
}
