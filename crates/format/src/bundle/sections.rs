//! Sections: what is shown for a hit, and how its tokens were pooled.
//!
//! `sections.{hash}.bin`, the directory, is `SHRS`, version `u32` 2, then a compressed body: the blocks of documents
//! ([`DocumentBlocks`]) and the facets ([`FacetTable`]).
//!
//! A block in `sections/{hash}.bin` is a compressed body: JSON,
//!
//! ```json
//! [{"id": "vue-00001", "source": "vue", "page": "guide/a11y", "url": "https://…#skip-link", "title": "…",
//!   "headings": ["…"], "anchor": "skip-link", "text": "…", "map8": "AAEBAg=="}]
//! ```
//!
//! `map8` (or `map16` where a document has more than 256 stored tokens) is Base64 of one unsigned number (little-endian) for each token
//! embedding that the encoder kept: the number of the stored token inside the document that it was pooled into. Both are absent without
//! pooling. Character offsets are not stored: the reader tokenises the section's text again with the same tokenizer.
//!
//! Blocks are small, because the hits on view come from as many of them.

use super::blocks::BlockTable;
use super::documents::DocumentBlocks;
use super::part::{Part, block_content};
use super::{FacetTable, Streams, base64};
use crate::{FormatError, NamedFile};
use core::ops::Range;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const PART: Part = Part { magic: *b"SHRS", version: 2, folder: "sections" };

/// A block closes at the first section that takes it to so many bytes before compression (about a third of it after).
const BLOCK_BYTES: usize = 8192;

/// Blocks grow beyond that where there would be more of them than this: the directory is read before the first answer.
const MAX_BLOCKS: usize = 16_384;

/// One section of a page, or one passage of a section that is longer than the model reads: the unit that is indexed and shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// Stable name given by the source.
    pub id: String,
    /// Name of the collection the page is from; may be empty.
    #[serde(default)]
    pub source: String,
    /// Path of the page.
    #[serde(default)]
    pub page: String,
    /// Where a hit leads.
    #[serde(default)]
    pub url: String,
    /// Title of the page.
    #[serde(default)]
    pub title: String,
    /// Path of headings inside the page, outermost first; empty for its lead.
    #[serde(default)]
    pub headings: Vec<String>,
    /// Fragment of the section inside the page, without `#`.
    #[serde(default)]
    pub anchor: String,
    /// Plain text.
    #[serde(default)]
    pub text: String,
    /// What a search can be narrowed by: name to values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub filters: BTreeMap<String, Vec<String>>,
    /// What is shown beside a hit: name to value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    /// What hits can be ordered by: name to value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sort: BTreeMap<String, String>,
    /// How much more this section counts than others, above 0; absent is 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f32>,
    /// 0 for the first or only passage of a section; the later passages follow their section directly and share its `id`. A search returns the
    /// best passage of a section.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub passage: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// A part of a section that enters the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SectionPart {
    /// [`Section::title`].
    Title,
    /// Number `.0` of [`Section::headings`].
    Heading(usize),
    /// [`Section::text`].
    Text,
}

/// A section as the encoder reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentText {
    /// Title, headings joined with ` > `, text; empty parts left out, one line break between parts.
    pub text: String,
    /// Byte range of each part inside `text`, ascending.
    pub parts: Vec<(SectionPart, Range<usize>)>,
}

impl Section {
    /// The document that stands for this section everywhere: in training, in the index and when matches are shown.
    pub fn document(&self) -> DocumentText {
        let mut document = DocumentText { text: String::new(), parts: Vec::new() };
        let mut push = |part, separator: &str, text: &str| {
            if text.is_empty() {
                return;
            }
            if !document.text.is_empty() {
                document.text.push_str(separator);
            }
            let start = document.text.len();
            document.text.push_str(text);
            document.parts.push((part, start..document.text.len()));
        };
        push(SectionPart::Title, "\n", &self.title);
        let mut separator = "\n";
        for (i, heading) in self.headings.iter().enumerate() {
            push(SectionPart::Heading(i), separator, heading);
            if !heading.is_empty() {
                separator = " > ";
            }
        }
        push(SectionPart::Text, "\n", &self.text);
        document
    }
}

impl DocumentText {
    /// The pieces of `range` (bytes of `self.text`) inside each part, with byte ranges relative to that part.
    pub fn locate(&self, range: &Range<usize>) -> impl Iterator<Item = (SectionPart, Range<usize>)> {
        self.parts.iter().filter_map(move |(part, whole)| {
            let start = range.start.max(whole.start);
            let end = range.end.min(whole.end);
            (start < end).then(|| (*part, start - whole.start..end - whole.start))
        })
    }
}

/// Where the sections are.
#[derive(Clone, Debug, PartialEq)]
pub struct SectionsDirectory {
    /// Where the blocks are.
    pub documents: DocumentBlocks,
    /// What a search must know of all sections.
    pub facets: FacetTable,
}

/// A section and, for each token embedding that the encoder kept of it, the stored token it was pooled into; `None` without pooling.
pub type StoredSection = (Section, Option<Vec<u16>>);

#[derive(Deserialize)]
struct JsonSection {
    #[serde(flatten)]
    section: Section,
    #[serde(default)]
    map8: Option<String>,
    #[serde(default)]
    map16: Option<String>,
}

impl SectionsDirectory {
    /// The directory's file and the shards. Equal sections give equal bytes.
    pub(super) fn pack(
        sections: &[Section],
        token_maps: &[Option<Vec<u16>>],
        known: &Streams,
    ) -> (Vec<u8>, Self, Vec<NamedFile>) {
        let size = |i: usize| {
            let s = &sections[i];
            s.text.len()
                + s.title.len()
                + s.headings.iter().map(String::len).sum::<usize>()
                + 200
                + token_maps[i].as_ref().map_or(0, Vec::len)
        };
        let total: usize = (0..sections.len()).map(size).sum();
        let block_bytes = BLOCK_BYTES.max(total.div_ceil(MAX_BLOCKS));
        let (mut blocks, mut counts) = (Vec::new(), Vec::new());
        let (mut first, mut filled) = (0, 0);
        for i in 0..sections.len() {
            filled += size(i);
            if filled >= block_bytes || i + 1 == sections.len() {
                blocks.push(known.block(&json_of(&sections[first..=i], &token_maps[first..=i])));
                counts.push(i + 1 - first);
                (first, filled) = (i + 1, 0);
            }
        }
        let (table, files) = BlockTable::write(PART.folder, &blocks);
        let documents = DocumentBlocks::new(table, &counts);
        let directory = Self { documents, facets: FacetTable::of(sections) };
        (directory.to_bytes(), directory, files)
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        self.documents.put(&mut body);
        self.facets.put(&mut body);
        PART.directory(&body)
    }

    /// Reads the file; `path` is only for messages.
    ///
    /// # Errors
    /// [`FormatError::Newer`] or [`FormatError::Invalid`].
    pub fn parse(path: &str, bytes: &[u8]) -> Result<Self, FormatError> {
        PART.read_directory(path, bytes, |cursor| {
            let documents = DocumentBlocks::take(cursor, PART.folder)?;
            let facets = FacetTable::take(cursor, documents.n_documents())?;
            Ok(Self { documents, facets })
        })
    }

    /// Reads the block of that number.
    ///
    /// # Errors
    /// [`FormatError::Json`] or [`FormatError::Invalid`].
    pub fn parse_block(&self, block: usize, bytes: &[u8]) -> Result<Vec<StoredSection>, FormatError> {
        self.parse_content(block, &block_content(&self.documents.table.path_of(block), bytes)?)
    }

    /// Reads the content of the block of that number.
    pub(super) fn parse_content(&self, block: usize, json: &[u8]) -> Result<Vec<StoredSection>, FormatError> {
        let path = self.documents.table.path_of(block);
        let sections = parse_json(&path, json)?;
        let expected = self.documents.documents_of(block);
        if sections.len() != expected.len() {
            return Err(FormatError::Invalid {
                path,
                offset: 0,
                what: format!(
                    "block {block} holds {} sections, the directory says {}",
                    sections.len(),
                    expected.len()
                ),
            });
        }
        Ok(sections)
    }
}

/// A section on its way out.
#[derive(Serialize)]
struct JsonSectionRef<'a> {
    #[serde(flatten)]
    section: &'a Section,
    #[serde(skip_serializing_if = "Option::is_none")]
    map8: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    map16: Option<String>,
}

fn json_of(sections: &[Section], token_maps: &[Option<Vec<u16>>]) -> Vec<u8> {
    let stored: Vec<JsonSectionRef<'_>> = sections
        .iter()
        .zip(token_maps)
        .map(|(section, map)| {
            let (mut map8, mut map16) = (None, None);
            match map {
                Some(map) if map.iter().all(|&t| t < 256) => {
                    map8 = Some(base64::encode(&map.iter().map(|&t| t as u8).collect::<Vec<_>>()));
                }
                Some(map) => {
                    map16 =
                        Some(base64::encode(&map.iter().flat_map(|t| t.to_le_bytes()).collect::<Vec<_>>()))
                }
                None => {}
            }
            JsonSectionRef { section, map8, map16 }
        })
        .collect();
    serde_json::to_vec(&stored).expect("sections hold only JSON-compatible values")
}

/// The sections of one block; `path` is only for messages.
///
/// # Errors
/// [`FormatError::Json`] or [`FormatError::Invalid`].
pub fn parse_sections(path: &str, bytes: &[u8]) -> Result<Vec<StoredSection>, FormatError> {
    parse_json(path, &block_content(path, bytes)?)
}

fn parse_json(path: &str, json: &[u8]) -> Result<Vec<StoredSection>, FormatError> {
    let stored: Vec<JsonSection> =
        serde_json::from_slice(json).map_err(|source| FormatError::Json { path: path.to_owned(), source })?;
    let mut sections = Vec::with_capacity(stored.len());
    for (i, s) in stored.into_iter().enumerate() {
        let map = decode_map(s.map8.as_deref(), s.map16.as_deref()).map_err(|what| FormatError::Invalid {
            path: path.to_owned(),
            offset: 0,
            what: format!("section {i} ({}): {what}", s.section.id),
        })?;
        sections.push((s.section, map));
    }
    Ok(sections)
}

fn decode_map(map8: Option<&str>, map16: Option<&str>) -> Result<Option<Vec<u16>>, String> {
    match (map8, map16) {
        (None, None) => Ok(None),
        (Some(text), None) => {
            let bytes = base64::decode(text).ok_or("map8 is not Base64")?;
            Ok(Some(bytes.into_iter().map(u16::from).collect()))
        }
        (None, Some(text)) => {
            let bytes = base64::decode(text)
                .filter(|b| b.len().is_multiple_of(2))
                .ok_or("map16 is not Base64 of pairs of bytes")?;
            Ok(Some(bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect()))
        }
        (Some(_), Some(_)) => Err("map8 and map16 both present".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(title: &str, headings: &[&str], text: &str) -> Section {
        Section {
            title: title.to_owned(),
            headings: headings.iter().map(|&h| h.to_owned()).collect(),
            text: text.to_owned(),
            ..Section::default()
        }
    }

    #[test]
    fn a_document_leaves_out_empty_parts() {
        for (title, headings, text, expected) in [
            ("題", &["一", "二"][..], "本文", "題\n一 > 二\n本文"),
            ("題", &[], "本文", "題\n本文"),
            ("", &["一"], "", "一"),
            ("", &["", "二"], "本文", "二\n本文"),
            ("", &[], "", ""),
        ] {
            assert_eq!(section(title, headings, text).document().text, expected);
        }
    }

    #[test]
    fn ranges_of_the_document_fall_into_its_parts() {
        let document = section("題", &["一", "二"], "本文").document();
        assert_eq!(document.text, "題\n一 > 二\n本文");
        let whole: Vec<_> = document.locate(&(0..document.text.len())).collect();
        assert_eq!(
            whole,
            [
                (SectionPart::Title, 0..3),
                (SectionPart::Heading(0), 0..3),
                (SectionPart::Heading(1), 0..3),
                (SectionPart::Text, 0..6)
            ]
        );
        let start = document.text.find("文").unwrap();
        assert_eq!(document.locate(&(start..start + 3)).collect::<Vec<_>>(), [(SectionPart::Text, 3..6)]);
        assert_eq!(document.locate(&(3..4)).count(), 0, "the separator belongs to no part");
    }

    #[test]
    fn sections_and_token_maps_survive_their_blocks() {
        let mut sections = vec![section("a", &[], "b"), section("c", &["d"], "e"), section("f", &[], "g")];
        let mut maps = vec![None, Some(vec![0, 1, 1, 255]), Some(vec![0, 256, 65535])];
        for i in 0..200 {
            sections.push(section("題", &[], &"本文です。".repeat(i % 50)));
            maps.push(None);
        }
        let (bytes, directory, files) = SectionsDirectory::pack(&sections, &maps, &Streams::default());
        assert!(directory.documents.table.n_blocks() > 3);
        assert_eq!(SectionsDirectory::parse("d", &bytes).unwrap(), directory);
        for (document, (section, map)) in sections.iter().zip(&maps).enumerate() {
            let block = directory.documents.block_of(document as u32);
            let need = directory.documents.need(block);
            let (_, file) = files.iter().find(|(path, _)| *path == need.path).unwrap();
            let found = directory
                .parse_block(block, &file[need.range.start as usize..need.range.end as usize])
                .unwrap();
            let at = document - directory.documents.documents_of(block).start as usize;
            assert_eq!((&found[at].0, &found[at].1), (section, map));
        }
        for n in 0..bytes.len() {
            assert!(SectionsDirectory::parse("d", &bytes[..n]).is_err(), "cut at {n}");
        }
    }

    #[test]
    fn filters_and_their_kin_survive_and_cost_nothing_where_absent() {
        let plain = section("a", &[], "b");
        let json = serde_json::to_string(&plain).unwrap();
        for name in ["filters", "meta", "sort", "weight", "passage"] {
            assert!(!json.contains(name), "{json}");
        }
        let one = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let marked = Section {
            filters: BTreeMap::from([("版".to_owned(), vec!["v3".to_owned(), "v4".to_owned()])]),
            meta: one("image", "/a.png"),
            sort: one("date", "2026-11-20"),
            weight: Some(2.5),
            passage: 3,
            ..plain.clone()
        };
        let sections = vec![plain, marked];
        let (bytes, directory, files) =
            SectionsDirectory::pack(&sections, &[None, None], &Streams::default());
        assert_eq!(SectionsDirectory::parse("d", &bytes).unwrap(), directory);
        assert_eq!(directory.facets, FacetTable::of(&sections));
        let found = directory.parse_block(0, &files[0].1).unwrap();
        assert_eq!(found.into_iter().map(|(section, _)| section).collect::<Vec<_>>(), sections);
    }
}
