//! What `shirube inspect` says of a bundle.

use crate::{size, thousands};
use core::fmt;
use shirube_format::bundle::{BundleEntry, PartKind};

/// What a bundle holds and what its parts weigh, as text.
#[derive(Clone, Copy, Debug)]
pub struct Inspection<'a> {
    /// Its entry.
    pub entry: &'a BundleEntry,
    /// Stored tokens of the longest section.
    pub longest: u16,
}

impl fmt::Display for Inspection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = self.entry;
        let (counts, codec) = (&self.entry.counts, &self.entry.codec);
        let per = |bytes: u64, n: u64| if n == 0 { 0.0 } else { bytes as f64 / n as f64 };
        let documents = u64::from(counts.documents);
        writeln!(f, "{} (format {}, {})", entry.name, entry.format, entry.generator)?;
        writeln!(
            f,
            "model       {} {} (tokenizer {})",
            entry.model.name,
            entry.model.fingerprint.short(12),
            entry.model.tokenizer_sha256.short(12)
        )?;
        writeln!(f, "sections    {} of {} pages", thousands(documents), thousands(counts.pages.into()))?;
        writeln!(
            f,
            "tokens      {} stored, {} before pooling (factor {}), {:.1} a section, longest {}",
            thousands(counts.tokens),
            thousands(counts.tokens_before_pooling),
            codec.pool_factor,
            per(counts.tokens, documents),
            self.longest,
        )?;
        writeln!(
            f,
            "codec       {}, {} bits, {} dimensions, {} centroids",
            format!("{:?}", codec.kind).to_lowercase(),
            codec.nbits,
            codec.dim,
            thousands(codec.n_centroids as u64)
        )?;
        writeln!(
            f,
            "\n{:<12}{:>6}{:>13}{:>14}{:>16}",
            "part", "files", "bytes", "B a section", "B stored token"
        )?;
        let mut total = (0, 0);
        for (name, kind) in [
            ("words", PartKind::Lexical),
            ("centroids", PartKind::Centroids),
            ("codes", PartKind::Codes),
            ("lists", PartKind::Ivf),
            ("sections", PartKind::Sections),
            ("other", PartKind::Other),
        ] {
            let n = entry.files_of(kind).map(|f| 1 + f.n_shards as usize).sum::<usize>();
            let bytes: u64 = entry.files_of(kind).map(|f| f.file.bytes + f.shard_bytes).sum();
            total = (total.0 + n, total.1 + bytes);
            if n > 0 {
                writeln!(
                    f,
                    "{name:<12}{n:>6}{:>13}{:>14.1}{:>16.1}",
                    size(bytes),
                    per(bytes, documents),
                    per(bytes, counts.tokens)
                )?;
            }
        }
        writeln!(
            f,
            "{:<12}{:>6}{:>13}{:>14.1}{:>16.1}",
            "all",
            total.0,
            size(total.1),
            per(total.1, documents),
            per(total.1, counts.tokens)
        )?;
        Ok(())
    }
}
