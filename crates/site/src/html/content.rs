//! Which part of a page is its content.

use super::dom::{Element, is_furniture, is_silent, text_length};
use super::selector::Selector;

/// Ids and classes that name the content where a page has neither `<main>` nor `<article>`.
const NAMED: &[&str] =
    &["#main-content", "#content", "#contents", "#main", ".markdown-body", ".body", ".content", ".main"];

/// The elements whose text is the page's content, in document order, and whether the page itself says so.
///
/// In order: the owner's selector; `<main>`; within it an only `<article>` that holds most of it (the rest is navigation); `<article>`s; an
/// element whose name says content and that holds most of the page; the body.
pub(crate) fn find<'a>(root: Element<'a>, own: Option<&Selector>) -> (Vec<Element<'a>>, bool) {
    if let Some(own) = own {
        return (outermost(root.elements().filter(|e| own.matches(*e)).collect()), true);
    }
    let body = root.children().find(|e| e.name() == "body").unwrap_or(root);
    let named = |name: &str, role: &str| {
        let found = body
            .elements()
            .filter(|e| (e.name() == name || e.attribute("role") == Some(role)) && !inside_furniture(*e));
        outermost(found.collect())
    };
    let articles = named("article", "article");
    let main = named("main", "main");
    if let [main] = main[..] {
        let inside: Vec<_> =
            articles.iter().copied().filter(|a| a.ancestors().any(|n| n.id() == main.id())).collect();
        if let [article] = inside[..]
            && text_length(article) * 2 >= text_length(main)
        {
            return (vec![article], true);
        }
    }
    for found in [main, articles] {
        if found.iter().any(|e| text_length(*e) > 0) {
            return (found, true);
        }
    }
    let whole = text_length(body);
    let is_named = |e: Element<'_>| {
        NAMED.iter().any(|name| match name.split_at(1) {
            ("#", id) => e.attribute("id") == Some(id),
            (_, class) => e.classes().any(|c| c == class),
        })
    };
    let most = outermost(body.elements().filter(|e| is_named(*e) && !inside_furniture(*e)).collect())
        .into_iter()
        .find(|e| whole > 0 && text_length(*e) * 2 >= whole);
    match most {
        Some(content) => (vec![content], true),
        None => (vec![body], false),
    }
}

fn inside_furniture(element: Element<'_>) -> bool {
    core::iter::once(element).chain(element.ancestors()).any(|e| is_furniture(e) || is_silent(e))
}

/// Without those that lie inside another.
fn outermost(elements: Vec<Element<'_>>) -> Vec<Element<'_>> {
    let ids: std::collections::BTreeSet<_> = elements.iter().map(|e| e.id()).collect();
    elements.into_iter().filter(|e| !e.ancestors().any(|a| ids.contains(&a.id()))).collect()
}
