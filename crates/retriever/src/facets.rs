//! Filters with counts, section weights, and passages that answer for one section.

use crate::RetrieverError;
use serde::Serialize;
use shirube_format::bundle::FacetTable;
use std::collections::BTreeMap;

/// What to keep: for each name, any one of the values; every name must hold.
pub type Filters = BTreeMap<String, Vec<String>>;

/// Weights outside this range are drawn to its ends: a slip of the pen must not hide a site.
const WEIGHTS: core::ops::RangeInclusive<f32> = 0.01..=100.0;

/// One value of a filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FilterCount {
    /// The value.
    pub value: String,
    /// Sections that have it among those that every other filter keeps.
    pub n_sections: usize,
}

/// Order of the hits by a value of their own instead of by score.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct SortBy {
    /// Name in [`Section::sort`].
    pub name: String,
    /// Largest first.
    #[serde(default)]
    pub descending: bool,
}

/// What the sections say about themselves, ready for a search.
#[derive(Debug, Default)]
pub(crate) struct Facets {
    /// Name, value, documents with it, ascending.
    filters: BTreeMap<String, BTreeMap<String, Vec<u32>>>,
    /// The first passage of each document's section.
    first_passages: Vec<u32>,
    /// ln(weight) of each document; empty where all are 1.
    log_weights: Vec<f32>,
    /// Name, values by document.
    sort: BTreeMap<String, BTreeMap<u32, String>>,
}

impl Facets {
    pub(crate) fn new(table: FacetTable, n_documents: usize) -> Self {
        let mut facets = Self {
            filters: table.filters,
            first_passages: (0..n_documents as u32).collect(),
            log_weights: Vec::new(),
            sort: table.sort.into_iter().map(|(name, values)| (name, values.into_iter().collect())).collect(),
        };
        for document in table.later_passages {
            // A later passage without anything before it is a section of its own.
            if let Some(before) = (document as usize).checked_sub(1) {
                facets.first_passages[document as usize] = facets.first_passages[before];
            }
        }
        if !table.weights.is_empty() {
            facets.log_weights = vec![0.0; n_documents];
            for (document, weight) in table.weights {
                let weight = if weight.is_finite() { weight } else { 1.0 };
                facets.log_weights[document as usize] =
                    f64::from(weight.clamp(*WEIGHTS.start(), *WEIGHTS.end())).ln() as f32;
            }
        }
        facets
    }

    /// Whether each document passes; `None` lets all pass.
    pub(crate) fn allowed(&self, filters: &Filters) -> Result<Option<Vec<bool>>, RetrieverError> {
        for name in filters.keys() {
            if !self.filters.contains_key(name) {
                let known = self.filters.keys().cloned().collect();
                return Err(RetrieverError::UnknownFilter { name: name.clone(), known });
            }
        }
        Ok(self.passing(filters.iter().filter(|(_, values)| !values.is_empty())))
    }

    fn passing<'a>(&self, filters: impl Iterator<Item = (&'a String, &'a Vec<String>)>) -> Option<Vec<bool>> {
        let mut allowed: Option<Vec<bool>> = None;
        for (name, values) in filters {
            let mut here = vec![false; self.first_passages.len()];
            let known = self.filters.get(name);
            for document in values.iter().filter_map(|v| known?.get(v)).flatten() {
                here[*document as usize] = true;
            }
            allowed = Some(match allowed {
                None => here,
                Some(all) => all.iter().zip(here).map(|(&a, b)| a && b).collect(),
            });
        }
        allowed
    }

    /// Every filter with its values and what each would leave, given `filters` on the other names.
    pub(crate) fn counts(&self, filters: &Filters) -> BTreeMap<String, Vec<FilterCount>> {
        let count = |(name, values): (&String, &BTreeMap<String, Vec<u32>>)| {
            let others = self.passing(filters.iter().filter(|(n, v)| *n != name && !v.is_empty()));
            let passes = |document: u32| others.as_ref().is_none_or(|others| others[document as usize]);
            let counts = values.iter().map(|(value, documents)| FilterCount {
                value: value.clone(),
                n_sections: documents
                    .iter()
                    .filter(|&&d| passes(d) && self.first_passages[d as usize] == d)
                    .count(),
            });
            (name.clone(), counts.collect())
        };
        self.filters.iter().map(count).collect()
    }

    /// Adds each document's weight to its score: `score + deviation * ln(weight)`, so that a weight means the same on every scale of scores. The deviation
    /// is that of the documents that are `allowed`.
    pub(crate) fn weigh(&self, scores: &mut [f32], allowed: Option<&[bool]>) {
        if self.log_weights.is_empty() {
            return;
        }
        let deviation = crate::fusion::deviation(scores, allowed);
        scores.iter_mut().zip(&self.log_weights).for_each(|(score, log)| *score += deviation * log);
    }

    /// The documents to rank: those that pass, and of each section only the best passage, ties to the first.
    pub(crate) fn candidates(&self, scores: &[f32], allowed: Option<&[bool]>) -> Vec<u32> {
        let mut best: Vec<u32> = Vec::with_capacity(scores.len());
        for document in 0..scores.len() as u32 {
            if allowed.is_some_and(|allowed| !allowed[document as usize]) {
                continue;
            }
            match best.last_mut() {
                Some(last)
                    if self.first_passages[*last as usize] == self.first_passages[document as usize] =>
                {
                    if scores[document as usize].total_cmp(&scores[*last as usize]).is_gt() {
                        *last = document;
                    }
                }
                _ => best.push(document),
            }
        }
        best
    }

    /// Refuses an order by a value that no section has.
    pub(crate) fn check_sort(&self, by: Option<&SortBy>) -> Result<(), RetrieverError> {
        match by {
            Some(by) if !self.sort.contains_key(&by.name) => {
                let known = self.sort.keys().cloned().collect();
                Err(RetrieverError::UnknownSort { name: by.name.clone(), known })
            }
            _ => Ok(()),
        }
    }

    /// How two documents stand to each other: by number where both values are numbers, else by text; those without the value come last.
    pub(crate) fn compare(&self, by: &SortBy, a: u32, b: u32) -> core::cmp::Ordering {
        let values = self.sort.get(&by.name);
        let value = |document: u32| values.and_then(|values| values.get(&document));
        match (value(a), value(b)) {
            (Some(a), Some(b)) => {
                let order = match (a.parse::<f64>(), b.parse::<f64>()) {
                    (Ok(a), Ok(b)) => a.total_cmp(&b),
                    _ => a.cmp(b),
                };
                if by.descending { order.reverse() } else { order }
            }
            (a, b) => b.is_some().cmp(&a.is_some()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shirube_format::bundle::Section;

    fn of(sections: &[Section]) -> Facets {
        Facets::new(FacetTable::of(sections), sections.len())
    }

    fn section(filters: &[(&str, &[&str])], passage: u32, weight: Option<f32>) -> Section {
        let filters = filters
            .iter()
            .map(|(name, values)| ((*name).to_owned(), values.iter().map(|&v| v.to_owned()).collect()))
            .collect();
        Section { filters, passage, weight, ..Section::default() }
    }

    fn want(filters: &[(&str, &[&str])]) -> Filters {
        section(filters, 0, None).filters
    }

    #[test]
    fn any_value_of_a_name_and_every_name_must_hold() {
        let facets = of(&[
            section(&[("版", &["3"]), ("言語", &["ja"])], 0, None),
            section(&[("版", &["4", "3"])], 0, None),
            section(&[("版", &["5"]), ("言語", &["en", "ja"])], 0, None),
            section(&[], 0, None),
        ]);
        for (filters, expected) in [
            (want(&[]), None),
            (want(&[("版", &[])]), None),
            (want(&[("版", &["3"])]), Some(vec![true, true, false, false])),
            (want(&[("版", &["4", "5"])]), Some(vec![false, true, true, false])),
            (want(&[("版", &["3", "5"]), ("言語", &["ja"])]), Some(vec![true, false, true, false])),
            (want(&[("版", &["9"])]), Some(vec![false; 4])),
        ] {
            assert_eq!(facets.allowed(&filters).unwrap(), expected, "{filters:?}");
        }
        let error = facets.allowed(&want(&[("年", &["1"])])).unwrap_err().to_string();
        assert!(error.contains("年") && error.contains("版, 言語"), "{error}");
    }

    #[test]
    fn counts_hold_under_the_other_filters_and_count_a_section_once() {
        let a: &[(&str, &[&str])] = &[("版", &["3"]), ("言語", &["ja"])];
        let facets = of(&[
            section(a, 0, None),
            section(a, 1, None),
            section(&[("版", &["4"]), ("言語", &["ja"])], 0, None),
            section(&[("版", &["4"]), ("言語", &["en"])], 0, None),
        ]);
        let counts = |filters: &Filters, name: &str| {
            facets.counts(filters)[name].iter().map(|c| (c.value.clone(), c.n_sections)).collect::<Vec<_>>()
        };
        let pair = |v: &str, n| (v.to_owned(), n);
        assert_eq!(counts(&want(&[]), "版"), [pair("3", 1), pair("4", 2)]);
        assert_eq!(counts(&want(&[("言語", &["ja"])]), "版"), [pair("3", 1), pair("4", 1)]);
        assert_eq!(counts(&want(&[("版", &["3"])]), "版"), [pair("3", 1), pair("4", 2)]);
    }

    #[test]
    fn the_best_passage_answers_for_its_section() {
        let facets = of(&[0, 1, 2, 0, 0, 1].map(|passage| section(&[], passage, None)));
        assert_eq!(facets.candidates(&[1.0, 3.0, 3.0, 0.0, 2.0, 1.0], None), [1, 3, 4]);
        assert_eq!(
            facets.candidates(&[1.0, 3.0, 3.0, 0.0, 2.0, 1.0], Some(&[true, false, true, false, true, true])),
            [2, 4]
        );
        // A passage without a section before it is a section of its own.
        assert_eq!(of(&[section(&[], 4, None)]).candidates(&[1.0], None), [0]);
    }

    #[test]
    fn a_weight_of_one_changes_nothing_and_more_lifts() {
        let facets = of(&[section(&[], 0, None), section(&[], 0, Some(2.0)), section(&[], 0, Some(0.0))]);
        let mut scores = [1.0, 1.0, 1.0];
        facets.weigh(&mut scores, None);
        assert_eq!(scores, [1.0; 3], "scores that do not differ have no scale");
        let mut scores = [0.0, 2.0, 4.0];
        facets.weigh(&mut scores, None);
        let deviation = (8.0f32 / 3.0).sqrt();
        assert_eq!(scores[0], 0.0);
        assert!((scores[1] - (2.0 + deviation * 2.0f32.ln())).abs() < 1e-5);
        assert!(scores[2] < 0.0 && scores[2].is_finite(), "a weight of zero stays a number: {scores:?}");
    }

    #[test]
    fn numbers_sort_as_numbers_and_missing_values_last() {
        let with = |value: Option<&str>| Section {
            sort: value.map(|v| ("順".to_owned(), v.to_owned())).into_iter().collect(),
            ..Section::default()
        };
        let sections = [None, Some("10"), Some("9"), None, Some("100")].map(with);
        let facets = of(&sections);
        for (descending, expected) in [(false, [2, 1, 4, 0, 3]), (true, [4, 1, 2, 0, 3])] {
            let by = SortBy { name: "順".to_owned(), descending };
            let mut documents = [0, 1, 2, 3, 4];
            documents.sort_by(|a, b| facets.compare(&by, *a, *b));
            assert_eq!(documents, expected);
            assert!(facets.check_sort(Some(&by)).is_ok());
        }
        let unknown = SortBy { name: "日付".to_owned(), descending: false };
        let error = facets.check_sort(Some(&unknown)).unwrap_err().to_string();
        assert!(error.contains("日付") && error.contains("順"), "{error}");
    }
}
