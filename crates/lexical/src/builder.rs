//! The writer of the same index in shards.

use crate::bm25::check_parameters;
use crate::shards::key;
use crate::{Analyzer, LexicalError};
use shirube_format::bundle::{LexicalPart, Postings, TermPostings, push_posting};
use std::collections::{BTreeMap, HashMap};

/// Collects documents, in order, into the words of a bundle. Postings wait packed: one or two bytes each.
///
/// A document that an earlier bundle holds has its words there: [`Self::push_known`] takes them over without a look at the text, to the same bytes.
#[derive(Debug)]
pub struct LexicalBuilder {
    analyzer: Analyzer,
    k1: f32,
    b: f32,
    lengths: Vec<u32>,
    /// Postings and the last document in them.
    terms: HashMap<String, (TermPostings, u32)>,
    /// For each earlier part, documents taken over: number there, number here.
    known: Vec<Vec<(u32, u32)>>,
}

impl LexicalBuilder {
    /// A builder for bigrams and single kanji with BM25's parameters, as [`Bm25Index::build`](crate::Bm25Index::build).
    ///
    /// # Errors
    /// [`LexicalError::Parameter`].
    pub fn new(k1: f32, b: f32) -> Result<Self, LexicalError> {
        check_parameters(k1, b)?;
        let analyzer = Analyzer::grams();
        Ok(Self { analyzer, k1, b, lengths: Vec::new(), terms: HashMap::new(), known: Vec::new() })
    }

    /// Number of the next document.
    fn next(&self) -> Result<u32, LexicalError> {
        let next = u32::try_from(self.lengths.len()).ok();
        next.filter(|&d| d < u32::MAX).ok_or(LexicalError::TooManyDocuments)
    }

    /// Adds the next document.
    ///
    /// # Errors
    /// [`LexicalError::TooManyDocuments`].
    pub fn push(&mut self, text: &str) -> Result<(), LexicalError> {
        let document = self.next()?;
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        let mut n_terms = 0;
        self.analyzer.terms(text, |term| {
            if let Some(key) = key(term) {
                *counts.entry(key).or_default() += 1;
                n_terms += 1;
            }
        });
        self.lengths.push(n_terms);
        for (term, count) in counts {
            let (postings, last) = self.terms.entry(term).or_default();
            let previous = (postings.n_documents > 0).then_some(*last);
            push_posting(&mut postings.bytes, previous, document, count);
            postings.n_documents += 1;
            *last = document;
        }
        Ok(())
    }

    /// Adds the next document, whose text is that of `document` in `parts[part]` of [`Self::finish_over`]; it has `n_terms` there
    /// ([`LexicalPart::lengths`]).
    ///
    /// # Errors
    /// [`LexicalError::TooManyDocuments`].
    pub fn push_known(&mut self, part: usize, document: u32, n_terms: u32) -> Result<(), LexicalError> {
        let next = self.next()?;
        if self.known.len() <= part {
            self.known.resize_with(part + 1, Vec::new);
        }
        self.known[part].push((document, next));
        self.lengths.push(n_terms);
        Ok(())
    }

    /// The words of all documents, where none was taken over.
    pub fn finish(self) -> LexicalPart {
        self.finish_over(&[])
    }

    /// The words of all documents.
    ///
    /// # Panics
    /// If a document was taken over from a part that is not among `parts`: the caller's mistake.
    pub fn finish_over(mut self, parts: &[&LexicalPart]) -> LexicalPart {
        assert!(self.known.len() <= parts.len(), "{} earlier parts, {} given", self.known.len(), parts.len());
        let mut found: Vec<(u32, u32)> = Vec::new();
        for (part, mut known) in parts.iter().zip(core::mem::take(&mut self.known)) {
            known.sort_unstable();
            // Where the documents of a number begin in `known`.
            let starts: Vec<usize> = (0..=part.lengths.len() as u32)
                .map(|document| known.partition_point(|&(there, _)| there < document))
                .collect();
            for term in &part.terms {
                found.clear();
                for (document, count) in Postings::new(&term.bytes) {
                    let document = document as usize;
                    let here = starts.get(document..document + 2).map_or(0..0, |at| at[0]..at[1]);
                    found.extend(known[here].iter().map(|&(_, here)| (here, count)));
                }
                if !found.is_empty() {
                    self.take_over(&term.term, &mut found);
                }
            }
        }
        let mut terms: Vec<TermPostings> =
            self.terms.into_iter().map(|(term, (postings, _))| TermPostings { term, ..postings }).collect();
        terms.sort_unstable_by(|a, b| a.term.cmp(&b.term));
        LexicalPart { k1: self.k1, b: self.b, lengths: self.lengths, terms }
    }

    /// Puts the `found` documents and counts of a term among those that are here.
    fn take_over(&mut self, term: &str, found: &mut Vec<(u32, u32)>) {
        // Most terms are new here: their entry takes the one copy of the name.
        let (postings, last) = match self.terms.get_mut(term) {
            Some(here) => here,
            None => self.terms.entry(term.to_owned()).or_default(),
        };
        found.extend(Postings::new(&postings.bytes));
        // Mostly ascending already.
        found.sort();
        postings.bytes.clear();
        let mut previous = None;
        for &(document, count) in &*found {
            push_posting(&mut postings.bytes, previous, document, count);
            previous = Some(document);
        }
        (postings.n_documents, *last) = (found.len() as u32, previous.unwrap_or_default());
    }
}
