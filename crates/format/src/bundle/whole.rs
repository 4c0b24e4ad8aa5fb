//! All parts of a bundle in memory: to files, and back with every cross-check.

use super::{
    BUNDLE_FORMAT, BundleCounts, BundleEntry, BundleFile, CodecInfo, CodecKind, CodecTables, CodesShard,
    ModelRef, NAME_DIGITS, NBITS, PartKind, SHARD_BYTES, Section, SectionsShard,
};
use crate::model::FileEntry;
use crate::{FormatError, Sha256Hex};
use std::collections::BTreeMap;

/// The content of a bundle.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    /// Display name of the site or collection.
    pub name: String,
    /// The model the codes were made with.
    pub model: ModelRef,
    /// Tokens that one stored embedding stands for, 1 to 4.
    pub pool_factor: u32,
    /// Token embeddings before pooling.
    pub tokens_before_pooling: u64,
    /// Centroids and bucket tables.
    pub tables: CodecTables,
    /// `[n_documents]` stored tokens of each document.
    pub lengths: Vec<u16>,
    /// `[n_tokens]` centroid of each token.
    pub codes: Vec<u16>,
    /// `[n_tokens, dim / 2]` packed residuals.
    pub residuals: Vec<u8>,
    /// `[n_documents]`.
    pub sections: Vec<Section>,
    /// `[n_documents]`; see [`SectionsShard::token_maps`].
    pub token_maps: Vec<Option<Vec<u16>>>,
}

impl Bundle {
    /// The bundle's entry and its other files. Equal bundles give equal bytes.
    ///
    /// # Panics
    /// If `lengths`, `sections` and `token_maps` differ in length, or codes and residuals are not those of the lengths: the caller's mistake.
    pub fn pack(&self) -> (BundleEntry, Vec<(String, Vec<u8>)>) {
        let n_documents = self.lengths.len();
        assert!(
            self.sections.len() == n_documents && self.token_maps.len() == n_documents,
            "{n_documents} documents, {} sections, {} token maps",
            self.sections.len(),
            self.token_maps.len()
        );
        let mut files: Vec<(BundleFile, Vec<u8>)> = Vec::new();
        let mut add = |kind, bytes: Vec<u8>, first: usize, n: usize| {
            let sha256 = Sha256Hex::of(&bytes);
            let hash = sha256.short(NAME_DIGITS);
            let path = match kind {
                PartKind::Codes => format!("codes/{hash}.bin"),
                PartKind::Sections => format!("sections/{hash}.json"),
                PartKind::Centroids | PartKind::Other => format!("centroids.{hash}.bin"),
            };
            let file = FileEntry { path, bytes: bytes.len() as u64, sha256 };
            files.push((
                BundleFile { file, kind, first_document: first as u32, n_documents: n as u32 },
                bytes,
            ));
        };
        add(PartKind::Centroids, self.tables.to_bytes(), 0, 0);

        let token_bytes = 2 + self.tables.dim / 2;
        let mut token = 0;
        let code_sizes = self.lengths.iter().map(|&n| 2 + usize::from(n) * token_bytes);
        for range in shards(code_sizes) {
            let lengths = self.lengths[range.clone()].to_vec();
            let tokens = token..token + lengths.iter().map(|&n| usize::from(n)).sum::<usize>();
            token = tokens.end;
            let shard = CodesShard {
                dim: self.tables.dim,
                n_centroids: self.tables.n_centroids(),
                first_document: range.start as u32,
                lengths,
                codes: self.codes[tokens.clone()].to_vec(),
                residuals: self.residuals
                    [tokens.start * (self.tables.dim / 2)..tokens.end * (self.tables.dim / 2)]
                    .to_vec(),
            };
            add(PartKind::Codes, shard.to_bytes(), range.start, range.len());
        }
        assert_eq!(token, self.codes.len(), "the lengths cover all codes");

        let section_sizes = self.sections.iter().zip(&self.token_maps).map(|(s, map)| {
            s.text.len()
                + s.title.len()
                + s.headings.iter().map(String::len).sum::<usize>()
                + 200
                + map.as_ref().map_or(0, Vec::len)
        });
        for range in shards(section_sizes) {
            let shard = SectionsShard {
                first_document: range.start as u32,
                sections: self.sections[range.clone()].to_vec(),
                token_maps: self.token_maps[range.clone()].to_vec(),
            };
            add(PartKind::Sections, shard.to_bytes(), range.start, range.len());
        }

        let (table, files): (Vec<_>, Vec<_>) = files
            .into_iter()
            .map(|(entry, bytes)| {
                let path = entry.file.path.clone();
                (entry, (path, bytes))
            })
            .unzip();
        let pages: std::collections::BTreeSet<_> =
            self.sections.iter().map(|s| (&s.source, &s.page)).collect();
        let entry = BundleEntry {
            format: BUNDLE_FORMAT,
            name: self.name.clone(),
            generator: concat!("shirube ", env!("CARGO_PKG_VERSION")).to_owned(),
            model: self.model.clone(),
            counts: BundleCounts {
                pages: pages.len() as u32,
                documents: n_documents as u32,
                tokens: self.codes.len() as u64,
                tokens_before_pooling: self.tokens_before_pooling,
            },
            codec: CodecInfo {
                kind: CodecKind::Residual,
                nbits: NBITS,
                dim: self.tables.dim,
                n_centroids: self.tables.n_centroids(),
                pool_factor: self.pool_factor,
            },
            files: table,
        };
        (entry, files)
    }

    /// Puts the files of `entry` together. Their length and digest must have been checked with
    /// [`FileEntry::check`](crate::model::FileEntry::check); order does not matter, and files that the entry does not name are ignored.
    ///
    /// # Errors
    /// [`FormatError::Missing`], whatever the parts' readers return, or [`FormatError::Invalid`] for parts that do not fit together.
    pub fn assemble<'a>(
        entry: &BundleEntry,
        files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self, FormatError> {
        let files: BTreeMap<&str, &[u8]> = files.into_iter().collect();
        let get = |f: &BundleFile| {
            files
                .get(f.file.path.as_str())
                .copied()
                .ok_or_else(|| FormatError::Missing { path: f.file.path.clone() })
        };
        let invalid = |f: &BundleFile, what: String| FormatError::Invalid {
            path: f.file.path.clone(),
            offset: 0,
            what,
        };

        let mut tables = None;
        for f in entry.files_of(PartKind::Centroids) {
            let found = CodecTables::parse(&f.file.path, get(f)?)?;
            if found.dim != entry.codec.dim || found.n_centroids() != entry.codec.n_centroids {
                let what = format!(
                    "{} centroids of {} values, the entry says {} of {}",
                    found.n_centroids(),
                    found.dim,
                    entry.codec.n_centroids,
                    entry.codec.dim
                );
                return Err(invalid(f, what));
            }
            tables = Some(found);
        }
        let tables = tables.ok_or_else(|| FormatError::Missing { path: "centroids.*.bin".to_owned() })?;

        let (mut lengths, mut codes, mut residuals) = (Vec::new(), Vec::new(), Vec::new());
        for f in entry.files_of(PartKind::Codes) {
            let shard = CodesShard::parse(&f.file.path, get(f)?)?;
            if shard.dim != tables.dim || shard.n_centroids != tables.n_centroids() {
                let what = format!(
                    "codes of dim {} and {} centroids do not belong to the tables",
                    shard.dim, shard.n_centroids
                );
                return Err(invalid(f, what));
            }
            check_range(shard.first_document, shard.lengths.len(), f).map_err(|what| invalid(f, what))?;
            lengths.extend(shard.lengths);
            codes.extend(shard.codes);
            residuals.extend(shard.residuals);
        }
        let (mut sections, mut token_maps) = (Vec::new(), Vec::new());
        for f in entry.files_of(PartKind::Sections) {
            let shard = SectionsShard::parse(&f.file.path, get(f)?)?;
            check_range(shard.first_document, shard.sections.len(), f).map_err(|what| invalid(f, what))?;
            for (i, map) in shard.token_maps.iter().enumerate() {
                let document = sections.len() + i;
                let n_tokens = lengths.get(document).copied().unwrap_or(0);
                if let Some(&t) = map.iter().flatten().find(|&&t| t >= n_tokens) {
                    return Err(invalid(
                        f,
                        format!("document {document}: the map names token {t} of {n_tokens}"),
                    ));
                }
            }
            sections.extend(shard.sections);
            token_maps.extend(shard.token_maps);
        }
        if codes.len() as u64 != entry.counts.tokens {
            return Err(FormatError::Invalid {
                path: super::ENTRY_NAME.to_owned(),
                offset: 0,
                what: format!(
                    "the codes hold {} tokens, counts.tokens is {}",
                    codes.len(),
                    entry.counts.tokens
                ),
            });
        }
        Ok(Self {
            name: entry.name.clone(),
            model: entry.model.clone(),
            pool_factor: entry.codec.pool_factor,
            tokens_before_pooling: entry.counts.tokens_before_pooling,
            tables,
            lengths,
            codes,
            residuals,
            sections,
            token_maps,
        })
    }
}

fn check_range(first: u32, n: usize, f: &BundleFile) -> Result<(), String> {
    if first == f.first_document && n == f.n_documents as usize {
        return Ok(());
    }
    Err(format!(
        "holds {n} documents from {first}, the entry says {} from {}",
        f.n_documents, f.first_document
    ))
}

/// Runs of items whose sizes add up to about [`SHARD_BYTES`].
fn shards(sizes: impl Iterator<Item = usize>) -> Vec<core::ops::Range<usize>> {
    let (mut ranges, mut start, mut filled, mut n) = (Vec::new(), 0, 0, 0);
    for size in sizes {
        filled += size;
        n += 1;
        if filled >= SHARD_BYTES {
            ranges.push(start..n);
            (start, filled) = (n, 0);
        }
    }
    if start < n {
        ranges.push(start..n);
    }
    ranges
}
