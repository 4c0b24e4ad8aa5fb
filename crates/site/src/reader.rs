//! One file to one page.

use crate::SiteError;
use crate::html::Selector;
use crate::page::{DropReason, Page, UrlRules, is_html};
use crate::{html, markdown};
use serde::{Deserialize, Serialize};

/// Longest file that is read as a page.
const MAX_PAGE_BYTES: usize = 32 << 20;

/// How pages are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadOptions {
    /// How addresses follow from paths.
    pub url: UrlRules,
    /// CSS selector of the content; without it `data-shirube-body`, `<main>`, `<article>` or the body.
    pub root: Option<String>,
    /// CSS selectors of elements that no text is taken from, beside those that are never content.
    pub exclude_selectors: Vec<String>,
    /// Whether code blocks are searched too. The default model has not seen code; words inside running text are always searched.
    pub code: bool,
    /// Whether pages that ask robots to stay away are searched.
    pub keep_noindex: bool,
    /// Languages to keep, for example `ja`; empty keeps all, and pages that do not state one are always kept.
    pub languages: Vec<String>,
}

/// Reads pages.
#[derive(Debug)]
pub struct Reader {
    options: ReadOptions,
    root: Option<Selector>,
    left_out: Vec<Selector>,
}

impl Reader {
    /// A reader with these options.
    ///
    /// # Errors
    /// [`SiteError::Selector`].
    pub fn new(options: ReadOptions) -> Result<Self, SiteError> {
        let parse = |text: &str| {
            Selector::parse(text).map_err(|error| SiteError::Selector { text: text.to_owned(), what: error })
        };
        let root = options.root.as_deref().map(parse).transpose()?;
        let left_out = core::iter::once(html::LEFT_OUT)
            .chain(options.exclude_selectors.iter().map(String::as_str))
            .map(parse)
            .collect::<Result<_, _>>()?;
        Ok(Self { options, root, left_out })
    }

    /// The page in `bytes`, HTML or Markdown by the ending of `path`.
    ///
    /// # Errors
    /// Why there is nothing to search.
    pub fn read(&self, path: &str, bytes: &[u8]) -> Result<Page, DropReason> {
        if bytes.len() > MAX_PAGE_BYTES {
            return Err(DropReason::TooLarge(bytes.len() as u64));
        }
        let (text, _) = html::decode(bytes);
        let page =
            if is_html(path) { html::read(self, path, &text) } else { markdown::read(self, path, &text) }?;
        let wanted = &self.options.languages;
        if !wanted.is_empty()
            && !page.lang.is_empty()
            && !wanted.iter().any(|w| w.eq_ignore_ascii_case(&page.lang))
        {
            return Err(DropReason::Language(page.lang));
        }
        Ok(page)
    }

    /// The options.
    pub fn options(&self) -> &ReadOptions {
        &self.options
    }

    pub(crate) fn url(&self, path: &str) -> String {
        self.options.url.url(path)
    }

    pub(crate) fn root_selector(&self) -> Option<&Selector> {
        self.root.as_ref()
    }

    pub(crate) fn left_out(&self) -> &[Selector] {
        &self.left_out
    }
}
