//! `sections/{hash}.bin`: what is shown for a hit, and how its tokens were pooled.
//!
//! | Offset | Type | Field |
//! |---|---|---|
//! | 0 | `u8[4]` | magic `SHRS` |
//! | 4 | `u32` | version, 1 |
//! | 8 | `u32` | `json_bytes`, length of the JSON below |
//! | 12 | zlib | JSON, compressed (RFC 1950) up to the end of the file |
//!
//! ```json
//! {"first_document": 0, "sections": [
//!   {"id": "vue-00001", "source": "vue", "page": "guide/a11y", "url": "https://…#skip-link", "title": "…",
//!    "headings": ["…"], "anchor": "skip-link", "text": "…", "map8": "AAEBAg=="}]}
//! ```
//!
//! `map8` (or `map16` where a document has more than 256 stored tokens) is Base64 of one unsigned number (little-endian) for each token
//! embedding that the encoder kept: the number of the stored token inside the document that it was pooled into. Both are absent without
//! pooling. Character offsets are not stored: the reader tokenises the section's text again with the same tokenizer.
//!
//! Compressed here and not by the server, because several free hosts do not compress, and Japanese text shrinks to a third.

use super::bytes::{Cursor, put_u32};
use super::{MAX_FILE_BYTES, base64};
use crate::FormatError;
use core::ops::Range;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// zlib level of the writer: the smallest files; a site's sections take well under a second.
const COMPRESSION_LEVEL: u8 = 9;

const MAGIC: [u8; 4] = *b"SHRS";
const VERSION: u32 = 1;
/// Bytes that one byte of a deflate stream can stand for, at most (a 258-byte copy in two bits).
const LARGEST_RATIO: usize = 1032;

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

/// Sections of documents `first_document..`.
#[derive(Clone, Debug, PartialEq)]
pub struct SectionsShard {
    /// First document.
    pub first_document: u32,
    /// Sections in document order.
    pub sections: Vec<Section>,
    /// For each section, for each token embedding that the encoder kept, the stored token it was pooled into; `None` without pooling.
    pub token_maps: Vec<Option<Vec<u16>>>,
}

#[derive(Serialize, Deserialize)]
struct StoredShard {
    first_document: u32,
    sections: Vec<StoredSection>,
}

#[derive(Serialize, Deserialize)]
struct StoredSection {
    #[serde(flatten)]
    section: Section,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    map8: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    map16: Option<String>,
}

impl SectionsShard {
    /// The file's content.
    pub fn to_bytes(&self) -> Vec<u8> {
        let sections = self.sections.iter().zip(&self.token_maps).map(|(section, map)| {
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
            StoredSection { section: section.clone(), map8, map16 }
        });
        let stored = StoredShard { first_document: self.first_document, sections: sections.collect() };
        let json = serde_json::to_vec(&stored).expect("sections hold only JSON-compatible values");
        let mut out = MAGIC.to_vec();
        put_u32(&mut out, VERSION);
        put_u32(&mut out, json.len() as u32);
        out.extend(miniz_oxide::deflate::compress_to_vec_zlib(&json, COMPRESSION_LEVEL));
        out
    }

    /// Reads the file; `path` is only for messages.
    ///
    /// # Errors
    /// [`FormatError::Newer`], [`FormatError::Json`] or [`FormatError::Invalid`].
    pub fn parse(path: &str, bytes: &[u8]) -> Result<Self, FormatError> {
        let json = inflate(path, bytes)?;
        let stored: StoredShard = serde_json::from_slice(&json)
            .map_err(|source| FormatError::Json { path: path.to_owned(), source })?;
        let mut shard =
            Self { first_document: stored.first_document, sections: Vec::new(), token_maps: Vec::new() };
        for (i, s) in stored.sections.into_iter().enumerate() {
            let map =
                decode_map(s.map8.as_deref(), s.map16.as_deref()).map_err(|what| FormatError::Invalid {
                    path: path.to_owned(),
                    offset: 0,
                    what: format!("section {i} ({}): {what}", s.section.id),
                })?;
            shard.sections.push(s.section);
            shard.token_maps.push(map);
        }
        Ok(shard)
    }
}

/// The JSON inside the file. No more is allocated than the compressed bytes can stand for.
fn inflate(path: &str, bytes: &[u8]) -> Result<Vec<u8>, FormatError> {
    let mut cursor = Cursor::open(path, bytes, MAGIC, VERSION)?;
    let most = bytes.len().saturating_mul(LARGEST_RATIO).min(MAX_FILE_BYTES as usize);
    let json_bytes = cursor.count("json_bytes", 0, most)?;
    let compressed = cursor.rest();
    let mut json = vec![0; json_bytes];
    let flags = inflate_flags::TINFL_FLAG_PARSE_ZLIB_HEADER
        | inflate_flags::TINFL_FLAG_COMPUTE_ADLER32
        | inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, n_read, n_written) =
        decompress(&mut DecompressorOxide::new(), compressed, &mut json, 0, flags);
    if status != TINFLStatus::Done || n_read != compressed.len() || n_written != json_bytes {
        return Err(cursor.invalid(format!(
            "zlib ends with {status:?} after {n_read} of {} bytes, {n_written} of {json_bytes} bytes written",
            compressed.len()
        )));
    }
    Ok(json)
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
    fn token_maps_survive_in_one_and_two_bytes() {
        let shard = SectionsShard {
            first_document: 7,
            sections: vec![section("a", &[], "b"), section("c", &["d"], "e"), section("f", &[], "g")],
            token_maps: vec![None, Some(vec![0, 1, 1, 255]), Some(vec![0, 256, 65535])],
        };
        assert_eq!(SectionsShard::parse("s", &shard.to_bytes()).unwrap(), shard);
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
        let shard =
            SectionsShard { first_document: 0, sections: vec![plain, marked], token_maps: vec![None, None] };
        assert_eq!(SectionsShard::parse("s", &shard.to_bytes()).unwrap(), shard);
    }
}
