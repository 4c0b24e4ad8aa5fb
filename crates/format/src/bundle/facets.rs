//! What a search must know of every section before it ranks: filters, sort values, weights, and which documents are later passages of a section.
//!
//! It stands at the end of the sections' directory, because hits are chosen by it while the sections themselves stay where they are. A site that
//! uses none of it pays four bytes.
//!
//! | Type | Field |
//! |---|---|
//! | number, documents | how many documents are later passages, and which |
//! | number, for each: document, `f32` | documents with a weight |
//! | number, for each: text, number, for each: text, number, documents | filters: name, values, documents of each value |
//! | number, for each: text, number, for each: document, text | sort values: name, and value of each document that has one |
//!
//! *Documents* ascend; each is a number, the distance from the one before (the first from -1). *Text* is a number of bytes and UTF-8. Names and
//! values ascend by bytes.

use super::Section;
use super::bytes::{Cursor, put_f32s, put_varint};
use crate::FormatError;
use std::collections::BTreeMap;

/// Filters, sort values, weights and passages of all sections.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FacetTable {
    /// Documents with [`Section::passage`] above 0, ascending.
    pub later_passages: Vec<u32>,
    /// Documents with a [`Section::weight`], ascending.
    pub weights: Vec<(u32, f32)>,
    /// Name, value, documents with it, ascending.
    pub filters: BTreeMap<String, BTreeMap<String, Vec<u32>>>,
    /// Name, documents with a value, ascending.
    pub sort: BTreeMap<String, Vec<(u32, String)>>,
}

impl FacetTable {
    /// What `sections` say about themselves.
    pub fn of(sections: &[Section]) -> Self {
        let mut table = Self::default();
        for (document, section) in sections.iter().enumerate() {
            let document = document as u32;
            if section.passage > 0 {
                table.later_passages.push(document);
            }
            table.weights.extend(section.weight.map(|weight| (document, weight)));
            for (name, values) in &section.filters {
                let known = table.filters.entry(name.clone()).or_default();
                for value in values {
                    let documents = known.entry(value.clone()).or_default();
                    if documents.last() != Some(&document) {
                        documents.push(document);
                    }
                }
            }
            for (name, value) in &section.sort {
                table.sort.entry(name.clone()).or_default().push((document, value.clone()));
            }
        }
        table
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.later_passages.len() as u32);
        put_documents(out, self.later_passages.iter().copied(), |_, _| {});
        put_varint(out, self.weights.len() as u32);
        put_documents(out, self.weights.iter().map(|w| w.0), |out, i| put_f32s(out, &[self.weights[i].1]));
        put_varint(out, self.filters.len() as u32);
        for (name, values) in &self.filters {
            put_text(out, name);
            put_varint(out, values.len() as u32);
            for (value, documents) in values {
                put_text(out, value);
                put_varint(out, documents.len() as u32);
                put_documents(out, documents.iter().copied(), |_, _| {});
            }
        }
        put_varint(out, self.sort.len() as u32);
        for (name, values) in &self.sort {
            put_text(out, name);
            put_varint(out, values.len() as u32);
            put_documents(out, values.iter().map(|v| v.0), |out, i| put_text(out, &values[i].1));
        }
    }

    pub(super) fn take(cursor: &mut Cursor<'_>, n_documents: usize) -> Result<Self, FormatError> {
        let mut table = Self {
            later_passages: take_documents(cursor, n_documents, |_| Ok(()))?
                .into_iter()
                .map(|d| d.0)
                .collect(),
            weights: take_documents(cursor, n_documents, |cursor| Ok(cursor.f32s(1)?[0]))?,
            ..Self::default()
        };
        for _ in 0..cursor.n_items("filters", 2)? {
            let name = take_text(cursor)?;
            let mut values = BTreeMap::new();
            for _ in 0..cursor.n_items("values of a filter", 2)? {
                let value = take_text(cursor)?;
                let documents = take_documents(cursor, n_documents, |_| Ok(()))?;
                values.insert(value, documents.into_iter().map(|d| d.0).collect());
            }
            table.filters.insert(name, values);
        }
        for _ in 0..cursor.n_items("sort names", 2)? {
            let name = take_text(cursor)?;
            table.sort.insert(name, take_documents(cursor, n_documents, take_text)?);
        }
        Ok(table)
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u32);
    out.extend_from_slice(text.as_bytes());
}

fn take_text(cursor: &mut Cursor<'_>) -> Result<String, FormatError> {
    let n = cursor.n_items("bytes of text", 1)?;
    Ok(cursor.text(n)?.to_owned())
}

fn put_documents(
    out: &mut Vec<u8>,
    documents: impl Iterator<Item = u32>,
    mut each: impl FnMut(&mut Vec<u8>, usize),
) {
    let mut next = 0;
    for (i, document) in documents.enumerate() {
        put_varint(out, document + 1 - next);
        next = document + 1;
        each(out, i);
    }
}

/// A number, and so many documents, each with what `each` reads.
fn take_documents<T>(
    cursor: &mut Cursor<'_>,
    n_documents: usize,
    mut each: impl FnMut(&mut Cursor<'_>) -> Result<T, FormatError>,
) -> Result<Vec<(u32, T)>, FormatError> {
    let n = cursor.n_items("documents", 1)?;
    let (mut out, mut next) = (Vec::new(), 0_usize);
    for _ in 0..n {
        let gap = cursor.varint()? as usize;
        next += gap;
        if gap == 0 || next > n_documents {
            return Err(cursor.invalid(format!("documents do not ascend below {n_documents}")));
        }
        out.push((next as u32 - 1, each(cursor)?));
    }
    Ok(out)
}
