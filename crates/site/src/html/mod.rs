//! Built HTML to sections.
//!
//! The whole page is parsed by the rules of the HTML standard (html5ever), because what is content is decided by what else the page holds: a
//! streaming rewriter would have to guess before it has seen `<main>`. Pages are read one at a time and leave only their text behind.

mod anchor;
mod content;
mod dom;
mod encoding;
mod inline;
mod marks;
mod selector;
mod tree;

pub(crate) use inline::Inline;
pub(crate) use selector::Selector;

use crate::outline::Outline;
use crate::page::{DropReason, Page};
use crate::reader::Reader;
use dom::{Element, Step, heading_level, is_block, is_cell, is_furniture, is_outer_furniture, is_silent};
use marks::{Ignore, PageMarks, mark};
use tree::{NodeId, Tree};

pub(crate) use encoding::decode;

/// Parts of the content area that are not content, as common generators write them.
pub(crate) const LEFT_OUT: &str = "\
    .table-of-contents, .theme-doc-toc-mobile, .theme-doc-breadcrumbs, .theme-doc-version-badge, .pagination-nav, \
    div[class*='codeBlockTitle'], \
    div[class*='language-'] > span.lang, .line-numbers-wrapper, \
    .toctree-wrapper + .headerlink, .contents.topic, a.viewcode-link, div.clipboard, \
    .edit-this-page, .theme-doc-footer, .prev-next-area, .VPDocFooter";

/// Largest weight of a mark.
const MAX_WEIGHT: f32 = 10.0;

/// A page that waits longer before it leads elsewhere, in seconds, is read in the meantime.
const LONGEST_REDIRECT: f32 = 30.0;

/// Between a page's title and the site's name.
const TITLE_SEPARATORS: [&str; 6] = [" | ", " - ", " — ", " – ", " · ", " :: "];

/// Reads one page. `path` is for the address and for messages.
pub(crate) fn read(reader: &Reader, path: &str, html: &str) -> Result<Page, DropReason> {
    let tree = Tree::parse(html);
    let root = tree.root().ok_or(DropReason::Empty)?;
    let mut page = Page { path: path.to_owned(), url: reader.url(path), ..Page::default() };
    page.lang = language(root.attribute("lang").or_else(|| root.attribute("xml:lang")).unwrap_or_default());

    let head = Head::of(root);
    if let Some(to) = head.redirect {
        return Err(DropReason::Redirect(to));
    }
    if head.noindex && !reader.options().keep_noindex {
        return Err(DropReason::NoIndex);
    }

    let mut marks = PageMarks::default();
    let mut bodies: Vec<Element<'_>> = Vec::new();
    let mut inside_ignored: Option<NodeId> = None;
    for step in root.walk() {
        match step {
            Step::Open(element) if inside_ignored.is_none() && marks::is_marked(element) => {
                if marks::ignore(element) == Some(Ignore::All) {
                    inside_ignored = Some(element.id());
                    continue;
                }
                if mark(element, "body").is_some()
                    && !bodies.iter().any(|outer| element.ancestors().any(|a| a.id() == outer.id()))
                {
                    bodies.push(element);
                }
                marks.read(element);
            }
            Step::Close(element) if inside_ignored == Some(element.id()) => inside_ignored = None,
            _ => {}
        }
    }
    marks.finish();
    page.marked = !bodies.is_empty();

    let (mut roots, sure) =
        if bodies.is_empty() { content::find(root, reader.root_selector()) } else { (bodies, true) };
    roots.retain(|root| !root.ancestors().any(|e| marks::ignore(e).is_some()));
    let mut walk = Walk { reader, sure, outline: Outline::default(), code_chars: 0 };
    for root in &roots {
        walk.content(*root);
    }
    let (found, sections) = walk.outline.finish();
    page.code_chars = walk.code_chars;
    page.sections = sections;
    page.title = marks.meta.remove("title").or(found).unwrap_or_else(|| own_title(head.title, &page));
    page.meta = marks.meta;
    page.filters = marks.filters;
    page.sort = marks.sort;
    if page.sections.is_empty() {
        let all = root.children().chain([root]).any(|e| marks::ignore(e).is_some());
        return Err(if all { DropReason::Ignored } else { DropReason::Empty });
    }
    Ok(page)
}

/// `title` without the site's name, where the page's headings show which part that is.
fn own_title(title: String, page: &Page) -> String {
    let is_heading = |text: &str| page.sections.iter().any(|s| s.headings.first().is_some_and(|h| h == text));
    let short = TITLE_SEPARATORS.iter().find_map(|separator| {
        let (own, _) = title.rsplit_once(separator)?;
        is_heading(own).then(|| own.to_owned())
    });
    short.unwrap_or(title)
}

/// What the head of a page says.
#[derive(Default)]
struct Head {
    title: String,
    noindex: bool,
    redirect: Option<String>,
}

impl Head {
    fn of(root: Element<'_>) -> Self {
        let mut head = Self::default();
        let mut graph_title = None;
        for element in root.elements() {
            match element.name() {
                "title" if head.title.is_empty() => {
                    head.title =
                        element.texts().collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ");
                }
                "meta" => {
                    let content = element.attribute("content").unwrap_or_default();
                    let is = |key, name: &str| {
                        element.attribute(key).is_some_and(|v: &str| v.eq_ignore_ascii_case(name))
                    };
                    if is("name", "robots") {
                        let words = content.to_ascii_lowercase();
                        head.noindex |=
                            words.split([',', ' ']).any(|w| matches!(w.trim(), "noindex" | "none"));
                    } else if is("property", "og:title") {
                        graph_title = Some(content.trim().to_owned());
                    } else if is("http-equiv", "refresh") {
                        head.redirect = head.redirect.or_else(|| refresh_target(content));
                    }
                }
                _ => {}
            }
        }
        // `<title>` often ends with the site's name, which a page shares with all others.
        match graph_title {
            Some(short) if !short.is_empty() && (head.title.is_empty() || head.title.starts_with(&short)) => {
                head.title = short
            }
            _ => {}
        }
        head
    }
}

/// The address in `0; url=…`. A page that only reloads itself leads nowhere else.
fn refresh_target(content: &str) -> Option<String> {
    let (wait, after) = content.split_once([';', ','])?;
    if wait.trim().parse::<f32>().is_ok_and(|seconds| seconds > LONGEST_REDIRECT) {
        return None;
    }
    let after = after.trim_start();
    let (key, url) = after.split_once('=')?;
    let url = url.trim().trim_matches(['"', '\'']);
    (key.trim().eq_ignore_ascii_case("url") && !url.is_empty()).then(|| url.to_owned())
}

/// `ja-JP` as `ja`.
fn language(tag: &str) -> String {
    tag.trim().split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase()
}

struct Walk<'a> {
    reader: &'a Reader,
    /// Whether the page says what its content is; otherwise headers and asides are taken for furniture.
    sure: bool,
    outline: Outline,
    code_chars: usize,
}

impl Walk<'_> {
    fn content(&mut self, root: Element<'_>) {
        let mut skipped: Option<NodeId> = None;
        let mut preformatted = 0usize;
        let mut heading: Option<NodeId> = None;
        let mut weighed: Vec<NodeId> = Vec::new();
        for step in root.walk() {
            match step {
                Step::Text(_) | Step::Open(_) if skipped.is_some() => {}
                Step::Text(text) if preformatted > 0 => self.outline.lines(text),
                Step::Text(text) => self.outline.text(text),
                Step::Open(element) => {
                    let name = element.name();
                    if element.id() != root.id() && self.is_skipped(element, heading.is_some())
                        || marks::ignore(element).is_some()
                    {
                        if is_block(element) {
                            self.outline.end_line();
                        }
                        skipped = Some(element.id());
                        continue;
                    }
                    let code = name == "pre" && is_code(element) && !self.reader.options().code;
                    let weight = mark(element, "weight").and_then(|w| w.trim().parse::<f32>().ok());
                    if code || weight.is_some_and(|w| !(w.is_finite() && w > 0.0)) {
                        if code {
                            self.code_chars += element.texts().map(|t| t.chars().count()).sum::<usize>();
                        }
                        self.outline.end_line();
                        skipped = Some(element.id());
                        continue;
                    }
                    preformatted += usize::from(name == "pre");
                    if let Some(weight) = weight {
                        self.outline.push_weight(weight.min(MAX_WEIGHT));
                        weighed.push(element.id());
                    }
                    if is_cell(element) {
                        self.outline.gap();
                    } else if name == "br" || is_block(element) {
                        self.outline.end_line();
                    }
                    if let Some(attributes) = mark(element, "index-attrs") {
                        for value in attributes.split(',').filter_map(|a| element.attribute(a.trim())) {
                            self.outline.text(value);
                            self.outline.gap();
                        }
                    }
                    if let Some(level) = heading_level(element).filter(|_| heading.is_none()) {
                        heading = Some(element.id());
                        self.outline.begin_heading(level, anchor::anchor_of(element));
                    }
                }
                Step::Close(element) => {
                    if let Some(id) = skipped {
                        if id == element.id() {
                            skipped = None;
                        }
                        continue;
                    }
                    if heading == Some(element.id()) {
                        heading = None;
                        self.outline.end_heading();
                    } else if is_block(element) {
                        self.outline.end_line();
                    }
                    if element.name() == "pre" {
                        preformatted = preformatted.saturating_sub(1);
                    }
                    if weighed.last() == Some(&element.id()) {
                        weighed.pop();
                        self.outline.pop_weight();
                    }
                }
            }
        }
        self.outline.end_heading();
        self.outline.end_line();
    }

    fn is_skipped(&self, element: Element<'_>, in_heading: bool) -> bool {
        is_silent(element)
            || is_furniture(element)
            || (!self.sure && is_outer_furniture(element))
            || anchor::is_permalink(element, in_heading)
            || self.reader.left_out().iter().any(|selector| selector.matches(element))
    }
}

/// Whether preformatted text is a program and not, as on older pages, just text with line breaks.
fn is_code(pre: Element<'_>) -> bool {
    let named = |e: Element<'_>| {
        e.classes().any(|c| {
            c.starts_with("language-")
                || c.starts_with("lang-")
                || matches!(c, "highlight" | "code" | "prettyprint" | "shiki" | "sourceCode")
        })
    };
    let around = pre.ancestors().take(2).any(named);
    around || named(pre) || pre.elements().any(|e| matches!(e.name(), "code" | "samp" | "kbd"))
}
