//! All parts of a bundle in memory: to files, and back with every cross-check.

use super::part::block_content;
use super::{
    BUNDLE_FORMAT, BlockTable, BundleCounts, BundleEntry, BundleFile, CodecInfo, CodecTables, CodesBlock,
    CodesDirectory, IvfDirectory, LISTS_FROM_BYTES, LexicalDirectory, LexicalPart, ModelRef, NAME_DIGITS,
    PartKind, Section, SectionsDirectory, Streams,
};
use crate::model::FileEntry;
use crate::{FormatError, Sha256Hex};
use std::collections::BTreeMap;

/// What [`BundleEntry::generator`] says of this build.
const GENERATOR: &str = concat!("shirube ", env!("CARGO_PKG_VERSION"));

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
    /// `[n_tokens, row_bytes]` packed residuals.
    pub residuals: Vec<u8>,
    /// `[n_documents]`.
    pub sections: Vec<Section>,
    /// `[n_documents]` for each token embedding that the encoder kept, the stored token it was pooled into; `None` without pooling.
    pub token_maps: Vec<Option<Vec<u16>>>,
    /// Documents by words.
    pub lexical: LexicalPart,
}

impl Bundle {
    /// The bundle's entry and its other files. Equal bundles give equal bytes.
    ///
    /// # Panics
    /// If `lengths`, `sections` and `token_maps` differ in length, or codes and residuals are not those of the lengths: the caller's mistake.
    pub fn pack(&self) -> (BundleEntry, Vec<(String, Vec<u8>)>) {
        self.pack_over(&Streams::default())
    }

    /// [`Self::pack`], equal byte for byte, in less time where `known` holds the blocks of a bundle that had much of the same content.
    ///
    /// # Panics
    /// As [`Self::pack`].
    pub fn pack_over(&self, known: &Streams) -> (BundleEntry, Vec<(String, Vec<u8>)>) {
        self.pack_as(LISTS_FROM_BYTES, known)
    }

    /// [`Self::pack`] with lists of documents by centroid where the codes have more than `lists_from` bytes: 0 always, [`u64::MAX`] never.
    ///
    /// # Panics
    /// As [`Self::pack`].
    pub fn pack_with_lists_from(&self, lists_from: u64) -> (BundleEntry, Vec<(String, Vec<u8>)>) {
        self.pack_as(lists_from, &Streams::default())
    }

    fn pack_as(&self, lists_from: u64, known: &Streams) -> (BundleEntry, Vec<(String, Vec<u8>)>) {
        let n_documents = self.lengths.len();
        assert!(
            self.sections.len() == n_documents
                && self.token_maps.len() == n_documents
                && self.lexical.lengths.len() == n_documents,
            "{n_documents} documents, {} sections, {} token maps, {} lexical lengths",
            self.sections.len(),
            self.token_maps.len(),
            self.lexical.lengths.len()
        );
        let mut files: Vec<(BundleFile, Vec<u8>)> = Vec::new();
        let mut shards_of: Vec<(String, Vec<u8>)> = Vec::new();
        // The words first: a visitor reads them first.
        let (bytes, directory, of_words) = self.lexical.pack_over(known);
        files.push(directory_file(PartKind::Lexical, bytes, &directory.table));
        shards_of.extend(of_words);
        let (bytes, directory, of_sections) =
            SectionsDirectory::pack(&self.sections, &self.token_maps, known);
        files.push(directory_file(PartKind::Sections, bytes, &directory.documents.table));
        shards_of.extend(of_sections);
        let bytes = self.tables.to_bytes();
        files.push((bundle_file(PartKind::Centroids, &bytes), bytes));
        let n_centroids = self.tables.n_centroids();
        let codes = CodesBlock {
            lengths: self.lengths.clone(),
            codes: self.codes.clone(),
            residuals: self.residuals.clone(),
        };
        let (bytes, directory, of_codes) =
            CodesDirectory::pack(self.tables.dim, self.tables.packing, n_centroids, &codes);
        drop(codes);
        let code_bytes = directory.documents.table.total_bytes();
        files.push(directory_file(PartKind::Codes, bytes, &directory.documents.table));
        shards_of.extend(of_codes);
        if code_bytes > lists_from {
            let (bytes, directory, of_lists) =
                IvfDirectory::pack_over(&self.lengths, &self.codes, n_centroids, known);
            files.push(directory_file(PartKind::Ivf, bytes, &directory.table));
            shards_of.extend(of_lists);
        }

        let (table, mut files): (Vec<_>, Vec<_>) = files
            .into_iter()
            .map(|(entry, bytes)| {
                let path = entry.file.path.clone();
                (entry, (path, bytes))
            })
            .unzip();
        files.extend(shards_of);
        let pages: std::collections::BTreeSet<_> =
            self.sections.iter().map(|s| (&s.source, &s.page)).collect();
        let entry = BundleEntry {
            format: BUNDLE_FORMAT,
            name: self.name.clone(),
            generator: GENERATOR.to_owned(),
            model: self.model.clone(),
            counts: BundleCounts {
                pages: pages.len() as u32,
                documents: n_documents as u32,
                tokens: self.codes.len() as u64,
                tokens_before_pooling: self.tokens_before_pooling,
            },
            codec: CodecInfo::of(&self.tables, self.pool_factor),
            files: table,
        };
        (entry, files)
    }

    /// Puts the files of `entry` and all shards together. Length and digest of the entry's files must have been checked with
    /// [`FileEntry::check`](crate::model::FileEntry::check); order does not matter, and files that nothing names are ignored.
    ///
    /// # Errors
    /// [`FormatError::Missing`], whatever the parts' readers return, or [`FormatError::Invalid`] for parts that do not fit together.
    pub fn assemble<'a>(
        entry: &BundleEntry,
        files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self, FormatError> {
        Self::assemble_and(entry, files, |_, _| {})
    }

    /// [`Self::assemble`], and the compressed blocks for [`Self::pack_over`]; none of a bundle that another version wrote, whose compressor may be another.
    ///
    /// # Errors
    /// As [`Self::assemble`].
    pub fn assemble_keeping<'a>(
        entry: &BundleEntry,
        files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<(Self, Streams), FormatError> {
        let mut streams = Streams::default();
        let bundle = if entry.generator == GENERATOR {
            Self::assemble_and(entry, files, |content, block| streams.keep(content, block))?
        } else {
            Self::assemble(entry, files)?
        };
        Ok((bundle, streams))
    }

    /// `keep` gets the content of every compressed block and the block.
    fn assemble_and<'a>(
        entry: &BundleEntry,
        files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        mut keep: impl FnMut(&[u8], &[u8]),
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

        let mut bundle = Self::assemble_index(entry, files.iter().map(|(path, bytes)| (*path, *bytes)))?;
        let lengths = &bundle.lengths;
        let n_documents = lengths.len();
        let documents = |f: &BundleFile, found: usize| {
            let what = format!("holds {found} documents, the codes {n_documents}");
            (found == n_documents).then_some(()).ok_or_else(|| invalid(f, what))
        };
        let shard = |path: &str| {
            files.get(path).copied().ok_or_else(|| FormatError::Missing { path: path.to_owned() })
        };
        let (mut sections, mut token_maps) = (Vec::new(), Vec::new());
        for f in entry.files_of(PartKind::Sections) {
            let directory = SectionsDirectory::parse(&f.file.path, get(f)?)?;
            documents(f, directory.documents.n_documents())?;
            for path in directory.documents.table.paths() {
                for (block, bytes) in directory.documents.table.split(&path, 0, shard(&path)?)? {
                    let content = block_content(&path, bytes)?;
                    keep(&content, bytes);
                    for (section, map) in directory.parse_content(block, &content)? {
                        let document = sections.len();
                        let n_tokens = lengths[document];
                        if let Some(&t) = map.iter().flatten().find(|&&t| t >= n_tokens) {
                            return Err(invalid(
                                f,
                                format!("document {document}: the map names token {t} of {n_tokens}"),
                            ));
                        }
                        sections.push(section);
                        token_maps.push(map);
                    }
                }
            }
        }
        let mut lexical = LexicalPart::default();
        for f in entry.files_of(PartKind::Lexical) {
            let directory = LexicalDirectory::parse(&f.file.path, get(f)?)?;
            documents(f, directory.lengths.len())?;
            let mut blocks = Vec::with_capacity(directory.table.n_blocks());
            for path in directory.table.paths() {
                for (block, bytes) in directory.table.split(&path, 0, shard(&path)?)? {
                    let found = directory.parse_block(block, bytes)?;
                    keep(found.content(), bytes);
                    blocks.push(found);
                }
            }
            lexical = LexicalPart::unpack(&directory, &blocks);
        }
        // Lists repeat what the codes say, and are remade from them; who keeps a whole bundle still wants to know that they can be read.
        for f in entry.files_of(PartKind::Ivf) {
            let directory = IvfDirectory::parse(&f.file.path, get(f)?)?;
            documents(f, directory.n_documents())?;
            for path in directory.table.paths() {
                for (block, bytes) in directory.table.split(&path, 0, shard(&path)?)? {
                    let content = block_content(&directory.table.path_of(block), bytes)?;
                    directory.parse_content(block, &content)?;
                    keep(&content, bytes);
                }
            }
        }
        (bundle.sections, bundle.token_maps, bundle.lexical) = (sections, token_maps, lexical);
        Ok(bundle)
    }

    /// The tables and codes of `entry` alone, from the files that it names and the shards of codes: sections and words stay empty.
    ///
    /// # Errors
    /// As [`Self::assemble`].
    pub fn assemble_index<'a>(
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
            if CodecInfo::of(&found, entry.codec.pool_factor) != entry.codec {
                let what = format!(
                    "holds {:?}, the entry says {:?}",
                    CodecInfo::of(&found, entry.codec.pool_factor),
                    entry.codec
                );
                return Err(invalid(f, what));
            }
            tables = Some(found);
        }
        let tables = tables.ok_or_else(|| FormatError::Missing { path: "centroids.*.bin".to_owned() })?;

        let mut all = CodesBlock::default();
        for f in entry.files_of(PartKind::Codes) {
            let directory = CodesDirectory::parse(&f.file.path, get(f)?)?;
            directory.belongs_to(&f.file.path, &tables, entry.counts.documents)?;
            all = directory.unpack(|path| {
                files.get(path).copied().ok_or_else(|| FormatError::Missing { path: path.to_owned() })
            })?;
        }
        let CodesBlock { lengths, codes, residuals } = all;
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
            sections: Vec::new(),
            token_maps: Vec::new(),
            lexical: LexicalPart::default(),
        })
    }
}

/// The paths of all shards that the directories among `files` name; `files` hold at least these directories.
///
/// # Errors
/// [`FormatError::Missing`] for a directory that is not there, or as the directories' readers.
pub fn shard_paths<'a>(
    entry: &BundleEntry,
    files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<Vec<String>, FormatError> {
    let files: BTreeMap<&str, &[u8]> = files.into_iter().collect();
    let mut paths = Vec::new();
    for f in &entry.files {
        let path = f.file.path.as_str();
        let bytes = || files.get(path).copied().ok_or_else(|| FormatError::Missing { path: path.to_owned() });
        match f.kind {
            PartKind::Lexical => paths.extend(LexicalDirectory::parse(path, bytes()?)?.table.paths()),
            PartKind::Sections => {
                paths.extend(SectionsDirectory::parse(path, bytes()?)?.documents.table.paths());
            }
            PartKind::Codes => paths.extend(CodesDirectory::parse(path, bytes()?)?.documents.table.paths()),
            PartKind::Ivf => paths.extend(IvfDirectory::parse(path, bytes()?)?.table.paths()),
            PartKind::Centroids | PartKind::Other => {}
        }
    }
    Ok(paths)
}

fn bundle_file(kind: PartKind, bytes: &[u8]) -> BundleFile {
    let sha256 = Sha256Hex::of(bytes);
    let hash = sha256.short(NAME_DIGITS);
    let path = match kind {
        PartKind::Codes => format!("codes.{hash}.bin"),
        PartKind::Ivf => format!("ivf.{hash}.bin"),
        PartKind::Sections => format!("sections.{hash}.bin"),
        PartKind::Lexical => format!("lexical.{hash}.bin"),
        PartKind::Centroids | PartKind::Other => format!("centroids.{hash}.bin"),
    };
    BundleFile {
        file: FileEntry { path, bytes: bytes.len() as u64, sha256 },
        kind,
        n_shards: 0,
        shard_bytes: 0,
    }
}

fn directory_file(kind: PartKind, bytes: Vec<u8>, table: &BlockTable) -> (BundleFile, Vec<u8>) {
    let mut file = bundle_file(kind, &bytes);
    (file.n_shards, file.shard_bytes) = (table.n_shards() as u64, table.total_bytes());
    (file, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{CentroidForm, ENTRY_NAME, folder};
    use shirube_core::Packing;

    /// Enough documents for several shards of both kinds; values come from a multiplicative hash, no generator needed.
    fn sample() -> Bundle {
        let hash = |i: usize| (i as u32).wrapping_mul(2_654_435_761) >> 7;
        let (dim, n_centroids, n_documents) = (8, 5, 700);
        let lengths: Vec<u16> =
            (0..n_documents).map(|i| if i % 9 == 4 { 0 } else { 20 + (hash(i) % 40) as u16 }).collect();
        let n_tokens: usize = lengths.iter().map(|&n| usize::from(n)).sum();
        let section = |i: usize| Section {
            id: format!("s-{i}"),
            page: format!("p-{}", i / 3),
            title: format!("題{i}"),
            headings: vec!["見出し".to_owned(); i % 3],
            text: "本文です。".repeat(i % 40),
            ..Section::default()
        };
        Bundle {
            name: "sample".to_owned(),
            model: ModelRef {
                name: "m".to_owned(),
                fingerprint: Sha256Hex::of(b"model"),
                tokenizer_sha256: Sha256Hex::of(b"tokenizer"),
                dim,
            },
            pool_factor: 2,
            tokens_before_pooling: 2 * n_tokens as u64,
            tables: CodecTables {
                dim,
                packing: Packing::Bits4,
                add_centroid: true,
                centroid_form: CentroidForm::F16,
                bucket_cutoffs: (0..15).map(|i| (i as f32 - 7.0) / 32.0).collect(),
                bucket_weights: (0..16).map(|i| (16 * i - 120) as i8).collect(),
                codebooks: Vec::new(),
                weight_scale: 1.0 / 512.0,
                centroids: (0..n_centroids * dim).map(|i| (hash(i) % 64) as f32 / 64.0 - 0.5).collect(),
            },
            codes: (0..n_tokens).map(|i| (hash(i) % n_centroids as u32) as u16).collect(),
            residuals: (0..n_tokens * dim / 2).map(|i| hash(i) as u8).collect(),
            sections: (0..n_documents).map(section).collect(),
            token_maps: lengths
                .iter()
                .enumerate()
                .map(|(i, &n)| (i % 5 != 0).then(|| (0..2 * n).map(|t| t / 2).collect()))
                .collect(),
            lexical: words(n_documents),
            lengths,
        }
    }

    /// A word in every third document, a word of its own in each.
    fn words(n_documents: usize) -> LexicalPart {
        use crate::bundle::{TermPostings, push_posting};
        let mut terms = std::collections::BTreeMap::new();
        for document in 0..n_documents as u32 {
            let own = (format!("語{document}"), 1, document % 3);
            for (term, every, count) in [("本文".to_owned(), 3, 2), own] {
                let t: &mut (TermPostings, Option<u32>) = terms.entry(term.clone()).or_default();
                if document % every == 0 {
                    push_posting(&mut t.0.bytes, t.1, document, count.max(1));
                    (t.0.term, t.1) = (term, Some(document));
                    t.0.n_documents += 1;
                }
            }
        }
        let terms = terms.into_values().map(|t| t.0).collect();
        LexicalPart { k1: 1.5, b: 0.75, lengths: vec![4; n_documents], terms }
    }

    fn refs(files: &[(String, Vec<u8>)]) -> impl Iterator<Item = (&str, &[u8])> {
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }

    #[test]
    fn a_bundle_survives_its_files() {
        assert_eq!(sample().pack().0.files_of(PartKind::Ivf).count(), 0, "a small bundle has no lists");
        let (entry, files) = sample().pack_with_lists_from(0);
        for kind in [PartKind::Codes, PartKind::Ivf] {
            assert!(entry.files_of(kind).all(|f| f.n_shards > 0), "{kind:?}");
        }
        assert!(entry.files_of(PartKind::Sections).all(|f| f.n_shards > 1));
        assert_eq!(
            shard_paths(&entry, refs(&files)).unwrap(),
            files[entry.files.len()..].iter().map(|f| f.0.clone()).collect::<Vec<_>>()
        );
        let entry = BundleEntry::parse(&entry.to_bytes()).unwrap();
        for f in &entry.files {
            let (_, bytes) = files.iter().find(|(name, _)| *name == f.file.path).unwrap();
            f.file.check(bytes).unwrap();
        }
        assert_eq!(Bundle::assemble(&entry, refs(&files)).unwrap(), sample());
        assert_eq!(sample().pack_with_lists_from(0), (entry, files), "equal bundles give equal bytes");
    }

    #[test]
    fn a_bundle_packed_over_another_is_the_same_and_compresses_only_what_is_new() {
        let (entry, files) = sample().pack_with_lists_from(0);
        let (mut bundle, streams) = Bundle::assemble_keeping(&entry, refs(&files)).unwrap();
        assert_eq!(bundle, sample());
        bundle.sections[350].text.push_str("続き");
        bundle.lexical.terms.remove(3);
        let (again, without) = (bundle.pack_as(0, &streams), bundle.pack_with_lists_from(0));
        assert!(again == without && again != (entry.clone(), files.clone()));
        let n_new = again.1.iter().filter(|(path, _)| files.iter().all(|f| f.0 != *path)).count();
        assert!((4..10).contains(&n_new), "{n_new} files are new");
        // A block whose stream is another one than the compressor's own shows that it is taken over.
        let mut other = Vec::new();
        super::super::compressed::put_stored(
            &mut other,
            &block_content("x", &files_of(&files, "sections/")[0]).unwrap(),
        );
        let mut streams = Streams::default();
        streams.keep(&block_content("x", &other).unwrap(), &other);
        assert!(sample().pack_over(&streams).1.iter().any(|(_, bytes)| *bytes == other));
        let foreign = BundleEntry { generator: "shirube 0.0.1".to_owned(), ..entry };
        let (_, streams) = Bundle::assemble_keeping(&foreign, refs(&files)).unwrap();
        assert!(streams.is_empty(), "nothing of another version's");
    }

    fn files_of(files: &[(String, Vec<u8>)], folder: &str) -> Vec<Vec<u8>> {
        files.iter().filter(|(path, _)| path.starts_with(folder)).map(|(_, bytes)| bytes.clone()).collect()
    }

    #[test]
    fn cut_and_flipped_files_are_errors_and_never_panics() {
        let (entry, files) = sample().pack_with_lists_from(0);
        for kind in
            [PartKind::Centroids, PartKind::Codes, PartKind::Ivf, PartKind::Sections, PartKind::Lexical]
        {
            let f = entry.files_of(kind).last().unwrap();
            let whole = &files.iter().find(|(name, _)| *name == f.file.path).unwrap().1;
            let parse = |bytes: &[u8]| match kind {
                PartKind::Centroids => CodecTables::parse("x", bytes).err(),
                PartKind::Codes => CodesDirectory::parse("x", bytes).err(),
                PartKind::Ivf => IvfDirectory::parse("x", bytes).err(),
                PartKind::Lexical => LexicalDirectory::parse("x", bytes).err(),
                _ => SectionsDirectory::parse("x", bytes).err(),
            };
            assert!(parse(whole).is_none());
            for n in (0..whole.len()).step_by(64).chain(0..whole.len().min(128)).chain([whole.len() - 1]) {
                assert!(
                    matches!(f.file.check(&whole[..n]), Err(FormatError::Length { .. })),
                    "{kind:?} cut at {n}"
                );
                assert!(parse(&whole[..n]).is_some(), "{kind:?} cut at {n} was read without its digest");
            }
            let mut longer = whole.clone();
            longer.push(b'0');
            assert!(parse(&longer).is_some(), "{kind:?} with a byte more");
            let mut bytes = whole.clone();
            for bit in (0..8 * whole.len().min(256)).chain((0..8 * whole.len()).step_by(1009)) {
                bytes[bit / 8] ^= 1 << (bit % 8);
                // Length and digest catch every flip; without them a reader may see another valid file, but never panics.
                assert!(matches!(
                    f.file.check(&bytes),
                    Err(FormatError::Digest { .. } | FormatError::Html { .. })
                ));
                let _ = parse(&bytes);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn a_cut_or_flipped_entry_is_an_error_or_another_valid_entry() {
        let (entry, files) = sample().pack();
        let whole = entry.to_bytes();
        for n in (0..whole.len() - 2).step_by(64) {
            assert!(BundleEntry::parse(&whole[..n]).is_err(), "cut at {n}");
        }
        let mut bytes = whole.clone();
        for bit in 0..8 * whole.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(found) = BundleEntry::parse(&bytes) {
                let checked = found.files.iter().all(|f| {
                    files.iter().any(|(name, bytes)| *name == f.file.path && f.file.check(bytes).is_ok())
                });
                if checked && bit % 8 == 0 {
                    let _ = Bundle::assemble(&found, refs(&files));
                }
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn headers_cannot_ask_for_memory_that_the_file_does_not_hold() {
        let (_, files) = sample().pack_with_lists_from(0);
        for start in ["sections.", "lexical.", "codes.", "ivf."] {
            let directory = files.iter().find(|(name, _)| name.starts_with(start)).unwrap().1.clone();
            for value in [0, 1, u32::MAX, 64 << 20] {
                let mut bytes = directory.clone();
                bytes[8..12].copy_from_slice(&u32::to_le_bytes(value));
                let found = match start {
                    "sections." => SectionsDirectory::parse("x", &bytes).err(),
                    "codes." => CodesDirectory::parse("x", &bytes).err(),
                    "ivf." => IvfDirectory::parse("x", &bytes).err(),
                    _ => LexicalDirectory::parse("x", &bytes).err(),
                };
                assert!(matches!(found, Some(FormatError::Invalid { .. })), "{start} {value}");
            }
        }
        let tables = files.iter().find(|(name, _)| name.starts_with("centroids.")).unwrap().1.clone();
        for (at, value) in [
            (8, 512_u32),
            (12, 1 << 16),
            (12, 0),
            (16, 2),
            (16, 5),
            (20, 2),
            (20, 4),
            (84, f32::NAN.to_bits()),
            (84, 0),
        ] {
            let mut bytes = tables.clone();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            assert!(
                matches!(CodecTables::parse("x", &bytes), Err(FormatError::Invalid { .. })),
                "{value} at {at}"
            );
        }
    }

    #[test]
    fn a_newer_version_is_refused_by_its_version() {
        let (mut entry, files) = sample().pack_with_lists_from(0);
        for (name, bytes) in &files[..entry.files.len()] {
            let mut bytes = bytes.clone();
            bytes[4] = 99;
            let found = match name.split(['/', '.']).next() {
                Some("sections") => SectionsDirectory::parse(name, &bytes).err(),
                Some("lexical") => LexicalDirectory::parse(name, &bytes).err(),
                Some("codes") => CodesDirectory::parse(name, &bytes).err(),
                Some("ivf") => IvfDirectory::parse(name, &bytes).err(),
                _ => CodecTables::parse(name, &bytes).err(),
            };
            assert!(matches!(found, Some(FormatError::Newer { found: 99, .. })), "{name}: {found:?}");
        }
        entry.format = BUNDLE_FORMAT + 1;
        assert!(matches!(BundleEntry::parse(&entry.to_bytes()), Err(FormatError::Newer { .. })));
        entry.format = 1;
        let message = BundleEntry::parse(&entry.to_bytes()).unwrap_err().to_string();
        assert!(message.contains("format 1") && message.contains("shirube build"), "{message}");
    }

    #[test]
    fn parts_of_different_builds_do_not_go_together() {
        let (entry, files) = sample().pack();
        let mut other = sample();
        other.tables.dim = 4;
        other.model.dim = 4;
        other.residuals.truncate(other.codes.len() * 2);
        let (_, others) = other.pack();
        for kind in ["centroids.", "codes.", "codes/"] {
            let foreign = &others.iter().find(|(name, _)| name.starts_with(kind)).unwrap().1;
            let mut mixed = files.clone();
            mixed.iter_mut().find(|(name, _)| name.starts_with(kind)).unwrap().1 = foreign.clone();
            let found = Bundle::assemble(&entry, refs(&mixed)).unwrap_err();
            let refused = matches!(
                found,
                FormatError::Invalid { .. } | FormatError::Length { .. } | FormatError::Digest { .. }
            );
            assert!(refused, "{kind}: {found}");
        }
        assert!(matches!(Bundle::assemble(&entry, refs(&files[1..])), Err(FormatError::Missing { .. })));
        let mut wild = sample();
        wild.token_maps[1] = Some(vec![u16::MAX]);
        let (entry, files) = wild.pack();
        assert!(matches!(Bundle::assemble(&entry, refs(&files)), Err(FormatError::Invalid { .. })));
    }

    #[test]
    fn another_tokenizer_or_model_is_a_mismatch_that_names_the_cure() {
        let bundle = sample().model;
        let tokenizer = ModelRef { tokenizer_sha256: Sha256Hex::of(b"other"), ..bundle.clone() };
        let weights = ModelRef { fingerprint: Sha256Hex::of(b"other"), ..bundle.clone() };
        assert!(bundle.check(&bundle).is_ok());
        for (model, word) in [(tokenizer, "tokenizer"), (weights, "model")] {
            let message = bundle.check(&model).unwrap_err().to_string();
            assert!(message.contains(word) && message.contains("build the bundle again"), "{message}");
        }
    }

    #[test]
    fn writing_again_removes_only_stale_files_of_this_format() {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().to_owned();
        let (entry, files) = sample().pack();
        assert!(folder::write(&root, &entry, &files).unwrap().is_empty());
        std::fs::write(root.join("index.html"), "mine").unwrap();
        // What a killed writer leaves behind, and a damaged file that the next build needs.
        std::fs::write(root.join("codes/0123456789abcdef.bin.part"), "half").unwrap();
        std::fs::write(root.join(&files[0].0), "damaged").unwrap();
        assert!(matches!(folder::read(&root), Err(FormatError::Length { .. })));
        let mut smaller = sample();
        smaller.sections[3].text = "新しい本文".to_owned();
        let (entry, files) = smaller.pack();
        // A writer killed before its entry stands: the old entry still names whole files.
        for (name, bytes) in &files {
            let path = root.join(name);
            if !path.exists() {
                std::fs::write(path, bytes).unwrap();
            }
        }
        std::fs::write(root.join("shirube.json.part"), "{").unwrap();
        let (first_entry, first_files) = sample().pack();
        std::fs::write(root.join(&first_files[0].0), &first_files[0].1).unwrap();
        assert_eq!(folder::read(&root).unwrap(), (first_entry, first_files));
        let removed = folder::write(&root, &entry, &files).unwrap();
        assert_eq!(removed.len(), 3, "one changed shard, its directory and the half file: {removed:?}");
        let (found, contents) = folder::read(&root).unwrap();
        assert_eq!(Bundle::assemble(&found, refs(&contents)).unwrap(), smaller);
        assert_eq!(std::fs::read_to_string(root.join("index.html")).unwrap(), "mine");
        std::fs::remove_file(root.join(ENTRY_NAME)).unwrap();
        assert!(matches!(folder::read(&root), Err(FormatError::Missing { .. })));
        std::fs::remove_dir_all(&root).unwrap();
    }
}
