//! `shirube.json`: the one file of a bundle with a fixed name.

use super::{BUNDLE_FORMAT, ENTRY_NAME, MAX_DIM, MAX_DOCUMENTS, MAX_FILE_BYTES, OLDEST_BUNDLE_FORMAT};
use crate::model::{FileEntry, ModelManifest};
use crate::{FormatError, Sha256Hex};
use serde::{Deserialize, Serialize};
use shirube_core::Packing;

/// Everything a reader needs to know before it fetches the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BundleEntry {
    /// [`BUNDLE_FORMAT`] of the writer.
    pub format: u32,
    /// Display name of the site or collection.
    pub name: String,
    /// Writer and its version.
    pub generator: String,
    /// The model the codes were made with; queries must be encoded by the same one.
    pub model: ModelRef,
    /// Sizes.
    pub counts: BundleCounts,
    /// How token embeddings are compressed.
    pub codec: CodecInfo,
    /// Every other file of the bundle.
    pub files: Vec<BundleFile>,
}

/// Which model a bundle was built with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRef {
    /// Display name, for messages.
    pub name: String,
    /// Digest of everything that decides an embedding; see [`ModelRef::of`].
    pub fingerprint: Sha256Hex,
    /// Digest of `tokenizer.bin`.
    pub tokenizer_sha256: Sha256Hex,
    /// Width of a token embedding.
    pub dim: usize,
}

/// Sizes of a bundle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleCounts {
    /// Distinct `page` values.
    pub pages: u32,
    /// Sections, each a document; ids run from 0.
    pub documents: u32,
    /// Token embeddings stored, after pooling.
    pub tokens: u64,
    /// Token embeddings before pooling.
    pub tokens_before_pooling: u64,
}

/// Kind of codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodecKind {
    /// Nearest centroid and a residual of 4, 2 or 1 bits a value.
    Residual,
    /// Nearest centroid and a residual of three levels a value, five values to a byte.
    Ternary,
    /// Nearest centroid and a residual of a codeword of one byte for each run of dimensions.
    Product,
    /// One bit a value of the embedding itself; the centroid only finds candidates.
    Sign,
}

/// How token embeddings are compressed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodecInfo {
    /// Kind.
    pub kind: CodecKind,
    /// Bits a value takes, rounded up: 4, 2 or 1; 2 for three levels; 1 to 8 for codewords.
    pub nbits: u32,
    /// Width of a token embedding.
    pub dim: usize,
    /// Number of centroids.
    pub n_centroids: usize,
    /// Tokens that one stored embedding stands for on average, 1 to 4; 1 is no pooling.
    pub pool_factor: u32,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    /// [`CodecTables`](super::CodecTables).
    Centroids,
    /// [`CodesDirectory`](super::CodesDirectory).
    Codes,
    /// [`IvfDirectory`](super::IvfDirectory); small bundles have none.
    Ivf,
    /// [`SectionsDirectory`](super::SectionsDirectory).
    Sections,
    /// [`LexicalDirectory`](super::LexicalDirectory).
    Lexical,
    /// A part of a later writer that this reader can do without.
    #[serde(other)]
    Other,
}

/// One file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleFile {
    /// Name, length and digest.
    #[serde(flatten)]
    pub file: FileEntry,
    /// What it holds.
    pub kind: PartKind,
    /// Shard files that a directory names; 0 for other files.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub n_shards: u64,
    /// Bytes of these shards; 0 for other files.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shard_bytes: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl CodecInfo {
    /// What the entry says about `tables`.
    pub fn of(tables: &super::CodecTables, pool_factor: u32) -> Self {
        let (kind, nbits) = match (tables.packing, tables.add_centroid) {
            (_, false) => (CodecKind::Sign, 1),
            (Packing::Bits4, true) => (CodecKind::Residual, 4),
            (Packing::Bits2, true) => (CodecKind::Residual, 2),
            (Packing::Bits1, true) => (CodecKind::Residual, 1),
            (Packing::Ternary, true) => (CodecKind::Ternary, 2),
            (Packing::Product { bytes }, true) => {
                (CodecKind::Product, (8 * u32::from(bytes)).div_ceil(tables.dim as u32))
            }
        };
        Self { kind, nbits, dim: tables.dim, n_centroids: tables.n_centroids(), pool_factor }
    }
}

impl ModelRef {
    /// The reference to the model that `manifest` describes.
    ///
    /// The fingerprint is the SHA-256 of a JSON object of the manifest's `encoder`, `projection`, `query`, `document` and `tokenizer`, and the
    /// entries of its `.safetensors` files. Name, licence and provenance stay out, so that a reworded model card does not make bundles stale.
    pub fn of(manifest: &ModelManifest) -> Self {
        #[derive(Serialize)]
        struct Decisive<'a> {
            encoder: &'a shirube_core::EncoderConfig,
            projection: &'a shirube_core::ProjectionConfig,
            query: &'a shirube_core::InputRules,
            document: &'a shirube_core::InputRules,
            tokenizer: &'a crate::model::TokenizerInfo,
            weights: Vec<&'a FileEntry>,
        }
        let decisive = Decisive {
            encoder: &manifest.encoder,
            projection: &manifest.projection,
            query: &manifest.query,
            document: &manifest.document,
            tokenizer: &manifest.tokenizer,
            weights: manifest.files.iter().filter(|f| f.path.ends_with(".safetensors")).collect(),
        };
        let json = serde_json::to_vec(&decisive).expect("a manifest holds only JSON-compatible values");
        Self {
            name: manifest.name.clone(),
            fingerprint: Sha256Hex::of(&json),
            tokenizer_sha256: manifest.tokenizer.sha256.clone(),
            dim: manifest.projection.dim(),
        }
    }

    /// Checks that `model` may encode queries for a bundle made with `self`.
    ///
    /// # Errors
    /// [`FormatError::Mismatch`], naming the tokenizer where that differs and the weights otherwise.
    pub fn check(&self, model: &Self) -> Result<(), FormatError> {
        let mismatch = |what: &str, expected: &Sha256Hex, found: &Sha256Hex| FormatError::Mismatch {
            what: what.to_owned(),
            expected: format!("{} ({})", self.name, expected.short(12)),
            found: format!("{} ({})", model.name, found.short(12)),
            cure: "build the bundle again with this model, or load the model it was built with".to_owned(),
        };
        if self.tokenizer_sha256 != model.tokenizer_sha256 {
            return Err(mismatch("tokenizer of the bundle", &self.tokenizer_sha256, &model.tokenizer_sha256));
        }
        if self.fingerprint != model.fingerprint {
            return Err(mismatch("model of the bundle", &self.fingerprint, &model.fingerprint));
        }
        Ok(())
    }
}

impl BundleEntry {
    /// Parses `shirube.json` and checks all that can be checked without the other files.
    ///
    /// # Errors
    /// [`FormatError::Newer`], [`FormatError::Older`], [`FormatError::Html`], [`FormatError::Json`], or [`FormatError::Invalid`] for a table that cannot work.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        crate::model::check_json_version(ENTRY_NAME, bytes, OLDEST_BUNDLE_FORMAT, BUNDLE_FORMAT)?;
        let entry: Self = serde_json::from_slice(bytes)
            .map_err(|source| FormatError::Json { path: ENTRY_NAME.to_owned(), source })?;
        entry.validate().map_err(|what| FormatError::Invalid {
            path: ENTRY_NAME.to_owned(),
            offset: 0,
            what,
        })?;
        Ok(entry)
    }

    /// The entry as written: pretty JSON with a final newline.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("an entry holds only JSON-compatible values");
        json.push(b'\n');
        json
    }

    /// Files of one kind: at most one of the kinds known here.
    pub fn files_of(&self, kind: PartKind) -> impl Iterator<Item = &BundleFile> {
        self.files.iter().filter(move |f| f.kind == kind)
    }

    /// Bytes of all codes.
    pub fn code_bytes(&self) -> u64 {
        self.files_of(PartKind::Codes).map(|f| f.shard_bytes).sum()
    }

    /// Whether a search is better answered without loading all codes: they have more than `resident_bytes`, and there are lists.
    pub fn suits_lazy(&self, resident_bytes: u64) -> bool {
        self.code_bytes() > resident_bytes && self.files_of(PartKind::Ivf).next().is_some()
    }

    fn validate(&self) -> Result<(), String> {
        let codec = &self.codec;
        let ranges = [
            ("counts.documents", self.counts.documents as usize, 1, MAX_DOCUMENTS as usize),
            ("codec.nbits", codec.nbits as usize, 1, 8),
            ("codec.dim", codec.dim, 2, MAX_DIM),
            ("codec.n_centroids", codec.n_centroids, 1, 1 << 16),
            ("codec.pool_factor", codec.pool_factor as usize, 1, 4),
        ];
        for (name, value, low, high) in ranges {
            if value < low || value > high {
                return Err(format!("{name} is {value}, expected {low} to {high}"));
            }
        }
        if !codec.dim.is_multiple_of(2) || codec.dim != self.model.dim {
            return Err(format!(
                "codec.dim is {}, model.dim {}, expected equal even numbers",
                codec.dim, self.model.dim
            ));
        }
        let mut names = std::collections::BTreeSet::new();
        for BundleFile { file, .. } in &self.files {
            if !is_plain_path(&file.path) {
                return Err(format!("files: {:?} is not a plain relative path", file.path));
            }
            if !names.insert(file.path.as_str()) {
                return Err(format!("files: {:?} stands twice", file.path));
            }
            if file.bytes > MAX_FILE_BYTES {
                return Err(format!(
                    "files: {} has {} bytes, more than {MAX_FILE_BYTES}",
                    file.path, file.bytes
                ));
            }
        }
        for (kind, least) in [
            (PartKind::Centroids, 1),
            (PartKind::Codes, 1),
            (PartKind::Ivf, 0),
            (PartKind::Lexical, 1),
            (PartKind::Sections, 1),
        ] {
            let n = self.files_of(kind).count();
            if n > 1 || n < least {
                return Err(format!("files: {n} of kind {kind:?}, expected 1"));
            }
        }
        Ok(())
    }
}

/// Whether a path stays inside the bundle on every system and needs no escaping in a URL.
fn is_plain_path(path: &str) -> bool {
    path.len() <= 200
        && path != ENTRY_NAME
        && path.split('/').all(|part| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        })
}

#[cfg(test)]
mod tests {
    use super::is_plain_path;

    #[test]
    fn paths_that_leave_the_bundle_are_not_plain() {
        for path in ["codes/ab12.bin", "centroids.0f.bin"] {
            assert!(is_plain_path(path), "{path}");
        }
        for path in
            ["", "/a", "../a", "a/../b", "a//b", "a\\b", "c:/a", "a b", ".hidden", "shirube.json", "あ"]
        {
            assert!(!is_plain_path(path), "{path}");
        }
    }
}
