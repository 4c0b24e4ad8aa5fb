//! What one file gives: a page of sections, or a reason why it gives none.

use core::fmt;
use serde::{Deserialize, Serialize};
use shirube_format::bundle::Section;
use std::collections::BTreeMap;

/// A page and its sections, as read from one file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// Path of the file inside the source folder, `/` between its parts.
    pub path: String,
    /// Where the page stands on the site.
    pub url: String,
    /// Primary language in lower case, for example `ja`; empty where the page does not say.
    pub lang: String,
    /// Title.
    pub title: String,
    /// Shown beside a hit.
    pub meta: BTreeMap<String, String>,
    /// What a search can be narrowed by.
    pub filters: BTreeMap<String, Vec<String>>,
    /// What hits can be ordered by.
    pub sort: BTreeMap<String, String>,
    /// Sections in reading order; each has text.
    pub sections: Vec<PageSection>,
    /// Whether the page marks its body (`data-shirube-body`). Where any page does, those that do not are left out.
    pub marked: bool,
    /// Characters of code blocks that were left out.
    pub code_chars: usize,
}

/// A piece of a page under one heading.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PageSection {
    /// Headings, outermost first; empty for the lead. The page's title is not among them.
    pub headings: Vec<String>,
    /// Fragment inside the page; empty for the lead, and for a heading that nothing on the page can be linked by.
    pub anchor: String,
    /// Plain text, one line a block.
    pub text: String,
    /// How much it counts; absent is 1.
    pub weight: Option<f32>,
}

/// Why a file gives nothing to search.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DropReason {
    /// `<meta name="robots" content="noindex">`, or `noindex` in front matter.
    NoIndex,
    /// The page only leads elsewhere.
    Redirect(String),
    /// No text was found.
    Empty,
    /// The whole page is under `data-shirube-ignore`, or its front matter says `search: false`.
    Ignored,
    /// Front matter says `draft: true`.
    Draft,
    /// Other pages mark their body, this one does not.
    NoBodyMark,
    /// The page is in a language that was not asked for.
    Language(String),
    /// The page's text is that of another page.
    Duplicate(String),
    /// The file is longer than a page can be.
    TooLarge(u64),
    /// Front matter could not be read.
    FrontMatter(String),
}

impl DropReason {
    /// The reason without what is particular to one page; reports count by it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoIndex => "noindex",
            Self::Redirect(_) => "redirects",
            Self::Empty => "no text",
            Self::Ignored => "ignored by a mark",
            Self::Draft => "drafts",
            Self::NoBodyMark => "without data-shirube-body, which other pages have",
            Self::Language(_) => "in another language",
            Self::Duplicate(_) => "the same as another page",
            Self::TooLarge(_) => "too large",
            Self::FrontMatter(_) => "unreadable front matter",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redirect(to) => write!(f, "redirects to {to}"),
            Self::Language(found) => write!(f, "in language {found:?}"),
            Self::Duplicate(of) => write!(f, "the same as {of}"),
            Self::TooLarge(bytes) => write!(f, "{bytes} bytes is too large for a page"),
            Self::FrontMatter(what) => write!(f, "front matter: {what}"),
            other => f.write_str(other.kind()),
        }
    }
}

impl Page {
    /// The page's sections as a bundle holds them. `source` names the collection.
    pub fn into_sections(self, source: &str) -> Vec<Section> {
        let page = without_ending(&self.path).to_owned();
        let mut used: BTreeMap<String, u32> = BTreeMap::new();
        let section = |s: PageSection| {
            let mut id = page.clone();
            if !s.anchor.is_empty() {
                id = format!("{page}#{}", s.anchor);
            }
            let n = used.entry(id.clone()).or_default();
            *n += 1;
            if *n > 1 {
                id = format!("{id}~{n}");
            }
            Section {
                id,
                source: source.to_owned(),
                page: page.clone(),
                url: with_fragment(&self.url, &s.anchor),
                title: self.title.clone(),
                headings: s.headings,
                anchor: s.anchor,
                text: s.text,
                filters: self.filters.clone(),
                meta: self.meta.clone(),
                sort: self.sort.clone(),
                weight: s.weight,
                passage: 0,
            }
        };
        self.sections.into_iter().map(section).collect()
    }
}

/// `guide/a.html` as `guide/a`.
pub(crate) fn without_ending(path: &str) -> &str {
    let name = path.rfind('/').map_or(0, |at| at + 1);
    path[name..].rfind('.').map_or(path, |at| if at == 0 { path } else { &path[..name + at] })
}

fn with_fragment(url: &str, anchor: &str) -> String {
    if anchor.is_empty() { url.to_owned() } else { format!("{url}#{}", escape(anchor)) }
}

/// Percent-encodes all that is not allowed in a path or a fragment.
pub(crate) fn escape(text: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~')
        .remove(b'/')
        .remove(b':')
        .remove(b'@')
        .remove(b'!')
        .remove(b'$')
        .remove(b'&')
        .remove(b'(')
        .remove(b')')
        .remove(b'*')
        .remove(b'+')
        .remove(b',')
        .remove(b';')
        .remove(b'=');
    utf8_percent_encode(text, KEPT).to_string()
}

/// A percent-encoded path as text; `None` where it is no UTF-8.
pub fn decode_path(path: &str) -> Option<String> {
    percent_encoding::percent_decode_str(path).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// How the address of a page follows from its path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UrlRules {
    /// What every address begins with: `/`, `/docs/` or `https://example.com/`.
    pub base: String,
    /// Whether `guide/a.html` is served as `guide/a`.
    pub clean: bool,
}

impl Default for UrlRules {
    fn default() -> Self {
        Self { base: "/".to_owned(), clean: false }
    }
}

impl UrlRules {
    /// The address of the page at `path`. `index.html`, `index.md` and `README.md` stand for their folder.
    pub fn url(&self, path: &str) -> String {
        let stem = without_ending(path);
        let (folder, name) = stem.rsplit_once('/').map_or(("", stem), |(folder, name)| (folder, name));
        let mut url = self.base.clone();
        if !url.ends_with('/') {
            url.push('/');
        }
        if !folder.is_empty() {
            url += &escape(folder);
            url.push('/');
        }
        let markdown = !is_html(path);
        if name != "index" && !(markdown && name == "README") {
            url += &escape(name);
            if !self.clean {
                url += if markdown { ".html" } else { &path[stem.len()..] };
            }
        }
        url
    }
}

pub(crate) fn is_html(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    [".html", ".htm", ".xhtml"].iter().any(|ending| lower.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_from_paths() {
        let plain = UrlRules::default();
        let clean = UrlRules { base: "https://example.com/docs".to_owned(), clean: true };
        for (path, expected, expected_clean) in [
            ("index.html", "/", "https://example.com/docs/"),
            ("guide/index.html", "/guide/", "https://example.com/docs/guide/"),
            ("guide/a.html", "/guide/a.html", "https://example.com/docs/guide/a"),
            ("guide/v1.2.htm", "/guide/v1.2.htm", "https://example.com/docs/guide/v1.2"),
            (
                "ガイド/はじめ に.html",
                "/%E3%82%AC%E3%82%A4%E3%83%89/%E3%81%AF%E3%81%98%E3%82%81%20%E3%81%AB.html",
                "https://example.com/docs/%E3%82%AC%E3%82%A4%E3%83%89/%E3%81%AF%E3%81%98%E3%82%81%20%E3%81%AB",
            ),
            ("a/README.md", "/a/", "https://example.com/docs/a/"),
            ("a/b.md", "/a/b.html", "https://example.com/docs/a/b"),
            ("README.html", "/README.html", "https://example.com/docs/README"),
        ] {
            assert_eq!(plain.url(path), expected);
            assert_eq!(clean.url(path), expected_clean);
        }
    }

    #[test]
    fn sections_get_distinct_ids_and_linkable_addresses() {
        let section = |anchor: &str| PageSection { anchor: anchor.to_owned(), ..PageSection::default() };
        let page = Page {
            path: "guide/a.html".to_owned(),
            url: "/guide/a.html".to_owned(),
            sections: ["", "概要", "概要", "x y"].map(section).to_vec(),
            ..Page::default()
        };
        let sections = page.into_sections("docs");
        let ids: Vec<_> = sections.iter().map(|s| (s.id.as_str(), s.url.as_str())).collect();
        assert_eq!(
            ids,
            [
                ("guide/a", "/guide/a.html"),
                ("guide/a#概要", "/guide/a.html#%E6%A6%82%E8%A6%81"),
                ("guide/a#概要~2", "/guide/a.html#%E6%A6%82%E8%A6%81"),
                ("guide/a#x y", "/guide/a.html#x%20y"),
            ]
        );
    }
}
