//! All pages of a site: what only shows when they are seen together.

use crate::page::{DropReason, Page};
use crate::summary::SourceSummary;
use serde::{Deserialize, Serialize};
use shirube_format::bundle::Section;
use std::collections::{BTreeMap, BTreeSet};

/// Name of the filter that pages of a site in several languages get.
pub const LANGUAGE_FILTER: &str = "lang";

/// The pages of a site that can be searched, and those that cannot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// Pages in the order of their paths.
    pub pages: Vec<Page>,
    /// Paths of files that give nothing, with the reason, in order.
    pub dropped: Vec<(String, DropReason)>,
}

impl Site {
    /// Puts single pages together, in any order. Where one page marks its body, those that do not are left out; of pages with equal text the
    /// first by path stays; where there are several languages, each page can be filtered by its own.
    pub fn gather(read: impl IntoIterator<Item = (String, Result<Page, DropReason>)>) -> Self {
        let mut read: Vec<_> = read.into_iter().collect();
        read.sort_by(|(a, _), (b, _)| a.cmp(b));
        let marked = read.iter().any(|(_, page)| page.as_ref().is_ok_and(|p| p.marked));
        let mut site = Self::default();
        let mut texts: BTreeMap<String, String> = BTreeMap::new();
        for (path, page) in read {
            let reason = match page {
                Err(reason) => reason,
                Ok(page) if marked && !page.marked => DropReason::NoBodyMark,
                Ok(page) => {
                    let text: String = page
                        .sections
                        .iter()
                        .flat_map(|s| [s.text.as_str(), "\u{0}"])
                        .chain([page.title.as_str()])
                        .collect();
                    match texts.get(&text) {
                        Some(first) => DropReason::Duplicate(first.clone()),
                        None => {
                            texts.insert(text, path);
                            site.pages.push(page);
                            continue;
                        }
                    }
                }
            };
            site.dropped.push((path, reason));
        }
        let languages: BTreeSet<String> =
            site.pages.iter().map(|p| p.lang.clone()).filter(|lang| !lang.is_empty()).collect();
        if languages.len() > 1 {
            for page in site.pages.iter_mut().filter(|p| !p.lang.is_empty()) {
                page.filters.entry(LANGUAGE_FILTER.to_owned()).or_insert_with(|| vec![page.lang.clone()]);
            }
        }
        site
    }

    /// Languages that pages state, with the number of pages of each; those that state none under the empty name.
    pub fn languages(&self) -> BTreeMap<&str, usize> {
        let mut found = BTreeMap::new();
        for page in &self.pages {
            *found.entry(page.lang.as_str()).or_default() += 1;
        }
        found
    }

    /// Characters of code blocks that were left out.
    pub fn code_chars(&self) -> usize {
        self.pages.iter().map(|p| p.code_chars).sum()
    }

    /// What was read from `source`.
    pub fn summary(&self, source: &str) -> SourceSummary {
        SourceSummary {
            source: source.to_owned(),
            n_pages: self.pages.len(),
            n_sections: self.pages.iter().map(|p| p.sections.len()).sum(),
            dropped: self.dropped.clone(),
            languages: self.languages().into_iter().map(|(lang, n)| (lang.to_owned(), n)).collect(),
            code_chars: self.code_chars(),
            ..SourceSummary::default()
        }
    }

    /// Every section of every page, in order. `source` names the collection.
    pub fn into_sections(self, source: &str) -> Vec<Section> {
        self.pages.into_iter().flat_map(|page| page.into_sections(source)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::PageSection;

    fn page(path: &str, text: &str, marked: bool, lang: &str) -> (String, Result<Page, DropReason>) {
        let sections = vec![PageSection { text: text.to_owned(), ..PageSection::default() }];
        let page = Page { path: path.to_owned(), sections, marked, lang: lang.to_owned(), ..Page::default() };
        (path.to_owned(), Ok(page))
    }

    #[test]
    fn pages_come_in_order_and_copies_go() {
        let site = Site::gather([
            page("b.html", "二", false, "ja"),
            page("c.html", "一", false, "ja"),
            ("d.html".to_owned(), Err(DropReason::NoIndex)),
            page("a.html", "一", false, "ja"),
        ]);
        assert_eq!(site.pages.iter().map(|p| p.path.as_str()).collect::<Vec<_>>(), ["a.html", "b.html"]);
        assert_eq!(
            site.dropped,
            [
                ("c.html".to_owned(), DropReason::Duplicate("a.html".to_owned())),
                ("d.html".to_owned(), DropReason::NoIndex)
            ]
        );
        assert!(site.pages.iter().all(|p| p.filters.is_empty()), "one language needs no filter");
    }

    #[test]
    fn one_marked_body_drops_unmarked_pages_and_says_so() {
        let site = Site::gather([page("a.html", "一", true, ""), page("b.html", "二", false, "")]);
        assert_eq!(site.pages.len(), 1);
        assert_eq!(site.dropped, [("b.html".to_owned(), DropReason::NoBodyMark)]);
    }

    #[test]
    fn languages_become_a_filter_where_there_are_several() {
        let site = Site::gather([
            page("a.html", "一", false, "ja"),
            page("b.html", "two", false, "en"),
            page("c.html", "三", false, ""),
        ]);
        assert_eq!(site.languages().into_iter().collect::<Vec<_>>(), [("", 1), ("en", 1), ("ja", 1)]);
        let values: Vec<_> = site.pages.iter().map(|p| p.filters.get(LANGUAGE_FILTER).cloned()).collect();
        assert_eq!(values, [Some(vec!["ja".to_owned()]), Some(vec!["en".to_owned()]), None]);
    }
}
