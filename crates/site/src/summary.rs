//! What a build says when it is done.

use crate::NotReused;
use crate::page::DropReason;
use core::fmt;
use serde::{Deserialize, Serialize};
use shirube_format::bundle::{BundleEntry, PartKind, RESIDENT_BYTES, Section};
use std::collections::{BTreeMap, BTreeSet};

/// Largest file that free hosts take (Cloudflare Pages: 25 MiB).
const MOST_FILE_BYTES: u64 = 25 << 20;
/// Largest number of files that free hosts take (Cloudflare Pages: 20,000).
const MOST_FILES: usize = 20_000;
/// Paths named for one reason.
const EXAMPLES: usize = 3;

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceSummary {
    /// Where from.
    pub source: String,
    /// Pages with something to search.
    pub n_pages: usize,
    /// Their sections.
    pub n_sections: usize,
    /// What is indexed: passages of sections, most sections being one.
    pub n_passages: usize,
    /// Passages whose end was left out because they are longer than the model reads.
    pub n_truncated: usize,
    /// Files and sections that give nothing, with reasons.
    pub dropped: Vec<(String, DropReason)>,
    /// Pages of each language that pages state.
    pub languages: BTreeMap<String, usize>,
    /// Characters of code blocks that were left out.
    pub code_chars: usize,
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BundleSummary {
    /// Where to.
    pub out: String,
    /// Token embeddings stored.
    pub n_tokens: u64,
    /// Token embeddings before pooling.
    pub n_tokens_before_pooling: u64,
    /// Centroids.
    pub n_centroids: usize,
    /// Name, files and bytes of each part.
    pub parts: Vec<(String, usize, u64)>,
    /// The largest file.
    pub largest: Option<(String, u64)>,
    /// Files that the whole site has, bundle included.
    pub n_site_files: usize,
    /// Files of an earlier bundle that were removed.
    pub n_removed: usize,
    /// What visitors download.
    pub download: Option<Download>,
    /// Passages whose codes were taken over from the earlier bundle.
    pub n_reused: usize,
    /// Why none were, where none were.
    pub not_reused: Option<NotReused>,
}

/// Bytes that a visitor downloads, predicted from the files themselves and from queries asked of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Download {
    /// Code that a page loads for words, compressed by gzip, as nearly every host does; 0 where its folder is not known.
    pub code: u64,
    /// Code that it loads for meaning, likewise.
    pub meaning_code: u64,
    /// Model files. They and the bundle's do not compress, or are compressed already.
    pub model: u64,
    /// What is read of the bundle before the first query by words.
    pub words_start: u64,
    /// What is read of it before the first query by meaning, beside the model: all codes, unless they stay on their host.
    pub meaning_start: u64,
    /// A query by one word: shards of the words and of the hits shown, mean of the sample.
    pub word_query: u64,
    /// The largest of the sample.
    pub word_query_most: u64,
    /// A query by a sentence, mean of the sample.
    pub sentence_query: u64,
    /// The largest of the sample.
    pub sentence_query_most: u64,
    /// Queries sampled of each kind.
    pub n_sampled: (usize, usize),
}

/// Bytes of what lies beside a bundle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackageBytes {
    /// Code for words, by gzip.
    pub code: u64,
    /// Code for meaning, by gzip.
    pub meaning_code: u64,
    /// Model.
    pub model: u64,
}

impl Download {
    /// From the bundle's entry, and the bytes that sampled queries read.
    pub fn new(entry: &BundleEntry, package: PackageBytes, words: &[u64], sentences: &[u64]) -> Self {
        let of = |kinds: &[PartKind]| {
            let files = entry.files.iter().filter(|f| kinds.contains(&f.kind));
            files.map(|f| f.file.bytes).sum::<u64>()
        };
        let mean = |all: &[u64]| all.iter().sum::<u64>() / all.len().max(1) as u64;
        let most = |all: &[u64]| all.iter().copied().max().unwrap_or(0);
        Self {
            code: package.code,
            meaning_code: package.meaning_code,
            model: package.model,
            words_start: entry.to_bytes().len() as u64 + of(&[PartKind::Lexical, PartKind::Sections]),
            meaning_start: if entry.suits_lazy(RESIDENT_BYTES) {
                of(&[PartKind::Centroids, PartKind::Codes, PartKind::Ivf])
            } else {
                of(&[PartKind::Centroids, PartKind::Codes]) + entry.code_bytes()
            },
            word_query: mean(words),
            word_query_most: most(words),
            sentence_query: mean(sentences),
            sentence_query_most: most(sentences),
            n_sampled: (words.len(), sentences.len()),
        }
    }
}

/// `1234567` as `1,234,567`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes in the largest fitting unit.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.2} MiB", bytes as f64 / 1_048_576.0),
    }
}

impl SourceSummary {
    /// Of `sections` in a file at `source`; `left_out` others had no text.
    pub fn of_sections(source: &str, sections: &[Section], left_out: usize) -> Self {
        let pages: BTreeSet<_> = sections.iter().map(|s| (&s.source, &s.page)).collect();
        Self {
            source: source.to_owned(),
            n_pages: pages.len(),
            n_sections: sections.len(),
            dropped: (1..=left_out).map(|n| (format!("section {n}"), DropReason::Empty)).collect(),
            ..Self::default()
        }
    }
}

impl fmt::Display for SourceSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = |n: usize| thousands(n as u64);
        write!(f, "{}: {} pages, {} sections", self.source, n(self.n_pages), n(self.n_sections))?;
        if self.n_passages > self.n_sections {
            write!(f, " in {} passages", n(self.n_passages))?;
        }
        let stated: Vec<String> = self
            .languages
            .iter()
            .filter(|(lang, _)| !lang.is_empty())
            .map(|(lang, pages)| format!("{lang} {}", n(*pages)))
            .collect();
        if stated.len() > 1 {
            write!(f, " ({})", stated.join(", "))?;
        }
        writeln!(f)?;
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (path, reason) in &self.dropped {
            reasons.entry(reason.kind()).or_default().push(path);
        }
        for (reason, paths) in reasons {
            let more = if paths.len() > EXAMPLES { ", …" } else { "" };
            let examples = paths[..paths.len().min(EXAMPLES)].join(", ");
            writeln!(f, "  left out: {} {reason} ({examples}{more})", n(paths.len()))?;
        }
        if self.code_chars > 0 {
            writeln!(
                f,
                "  left out: {} characters of code blocks; --code searches them too",
                n(self.code_chars)
            )?;
        }
        if self.n_truncated > 0 {
            writeln!(
                f,
                "  {} passages are longer than the model reads: their titles leave no room",
                n(self.n_truncated)
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for BundleSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} tokens stored of {}, {} centroids",
            self.out,
            thousands(self.n_tokens),
            thousands(self.n_tokens_before_pooling),
            thousands(self.n_centroids as u64),
        )?;
        let bytes = self.parts.iter().map(|(_, _, bytes)| bytes).sum();
        let files: usize = self.parts.iter().map(|(_, files, _)| files).sum();
        let parts: Vec<String> =
            self.parts.iter().map(|(name, _, bytes)| format!("{name} {}", size(*bytes))).collect();
        writeln!(f, "  {} in {} files: {}", size(bytes), thousands(files as u64), parts.join(", "))?;
        if self.n_removed > 0 {
            writeln!(f, "  {} files of the earlier bundle were removed", self.n_removed)?;
        }
        if let Some(d) = &self.download {
            let code = if d.code > 0 { format!("code {} (gzip) and ", size(d.code)) } else { String::new() };
            let meaning = d.meaning_code + d.model + d.meaning_start;
            let meaning_code =
                if d.code > 0 { format!("code {}, ", size(d.meaning_code)) } else { String::new() };
            writeln!(
                f,
                "  download, first visit: {code}index {} for words, then {} for meaning ({meaning_code}model {}, index {})",
                size(d.words_start),
                size(meaning),
                size(d.model),
                size(d.meaning_start)
            )?;
            writeln!(
                f,
                "  download, a query: {} by a word (at most {}), {} by a sentence (at most {}); {} and {} from this site's headings, tried",
                size(d.word_query),
                size(d.word_query_most),
                size(d.sentence_query),
                size(d.sentence_query_most),
                d.n_sampled.0,
                d.n_sampled.1
            )?;
        }
        match &self.not_reused {
            None => writeln!(f, "  {} passages were known already", thousands(self.n_reused as u64))?,
            Some(NotReused::Unreadable(why) | NotReused::Other(why)) => {
                writeln!(f, "  the earlier bundle was not built upon: {why}")?;
            }
            Some(NotReused::Changed { known, of }) => writeln!(
                f,
                "  the earlier bundle knows {} of {} passages: new centroids were made",
                thousands(*known as u64),
                thousands(*of as u64)
            )?,
            Some(NotReused::Absent | NotReused::Asked) => {}
        }
        for warning in self.warnings() {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}

impl BundleSummary {
    /// What the entry and the other `files` (path, bytes) say about the bundle's parts.
    pub fn of(entry: &BundleEntry, files: &[(String, u64)]) -> Self {
        // A part's directory and its shards begin with its name.
        let part = |name: &str| {
            let of_part = || files.iter().filter(|(path, _)| path.starts_with(name));
            (name.to_owned(), of_part().count(), of_part().map(|(_, bytes)| bytes).sum())
        };
        let parts = ["codes", "ivf", "centroids", "lexical", "sections"].map(part);
        let entry_part = ("entry".to_owned(), 1, entry.to_bytes().len() as u64);
        Self {
            n_tokens: entry.counts.tokens,
            n_tokens_before_pooling: entry.counts.tokens_before_pooling,
            n_centroids: entry.codec.n_centroids,
            parts: parts.into_iter().chain([entry_part]).collect(),
            largest: files.iter().max_by_key(|(_, bytes)| *bytes).cloned(),
            ..Self::default()
        }
    }

    /// What a free host would refuse.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some((path, bytes)) = self.largest.as_ref().filter(|(_, bytes)| *bytes > MOST_FILE_BYTES) {
            warnings.push(format!(
                "{path} has {}; some hosts take no file above {}",
                size(*bytes),
                size(MOST_FILE_BYTES)
            ));
        }
        if self.n_site_files > MOST_FILES {
            warnings.push(format!(
                "the site has {} files; some hosts take no more than {}",
                thousands(self.n_site_files as u64),
                thousands(MOST_FILES as u64)
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1023, 1024, 5 << 20].map(size), ["0 B", "1023 B", "1.0 KiB", "5.00 MiB"]);
    }

    #[test]
    fn reasons_are_counted_with_examples() {
        let redirect = |n: usize| (format!("{n}.html"), DropReason::Redirect("/".to_owned()));
        let mut dropped: Vec<_> = (0..5).map(redirect).collect();
        dropped.push(("x.html".to_owned(), DropReason::NoIndex));
        let summary = SourceSummary {
            source: "dist".to_owned(),
            n_pages: 1234,
            n_sections: 5000,
            n_passages: 6000,
            dropped,
            languages: BTreeMap::from([("ja".to_owned(), 1200), ("en".to_owned(), 34)]),
            ..SourceSummary::default()
        };
        assert_eq!(
            summary.to_string(),
            "dist: 1,234 pages, 5,000 sections in 6,000 passages (en 34, ja 1,200)\n  left out: 1 noindex (x.html)\n  left out: 5 redirects (0.html, 1.html, 2.html, …)\n"
        );
    }

    #[test]
    fn a_download_is_summed_over_the_files_and_averaged_over_the_queries() {
        let d = Download {
            code: 150 << 10,
            meaning_code: 512 << 10,
            model: 7 << 20,
            words_start: 10 << 10,
            meaning_start: 1 << 20,
            word_query: 2048,
            word_query_most: 4096,
            sentence_query: 8192,
            sentence_query_most: 9216,
            n_sampled: (16, 15),
        };
        let text = BundleSummary {
            download: Some(d),
            not_reused: Some(NotReused::Absent),
            ..BundleSummary::default()
        }
        .to_string();
        assert!(
            text.contains(
                "first visit: code 150.0 KiB (gzip) and index 10.0 KiB for words, then 8.50 MiB for meaning (code 512.0 KiB, model 7.00 MiB, index 1.00 MiB)"
            ),
            "{text}"
        );
        assert!(
            text.contains("a query: 2.0 KiB by a word (at most 4.0 KiB), 8.0 KiB by a sentence"),
            "{text}"
        );
    }

    #[test]
    fn limits_of_hosts_are_warned_of() {
        let fine = BundleSummary {
            largest: Some(("a".to_owned(), MOST_FILE_BYTES)),
            n_site_files: MOST_FILES,
            ..BundleSummary::default()
        };
        assert!(fine.warnings().is_empty());
        let over = BundleSummary {
            largest: Some(("a".to_owned(), MOST_FILE_BYTES + 1)),
            n_site_files: MOST_FILES + 1,
            ..fine
        };
        assert_eq!(over.warnings().len(), 2);
        assert!(over.to_string().contains("warning: a has 25.00 MiB"), "{over}");
    }
}
