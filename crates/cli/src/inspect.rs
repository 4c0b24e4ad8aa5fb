//! `shirube inspect`.

use crate::{explain, open, size, thousands};
use anyhow::{Context as _, Result};
use clap::Args;
use shirube_format::bundle::{Bundle, PartKind};
use shirube_format::bundle::{ModelRef, folder};
use shirube_retriever::{Kernels, Need, SearchOptions};
use std::io::Write as _;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct InspectArguments {
    /// Bundle folder; every file is checked
    bundle: PathBuf,
    /// Explain the scores of this query's hits, word by word, instead
    query: Option<String>,
    /// Model folder; BUNDLE/model if left out
    #[arg(long, value_name = "DIR", requires = "query")]
    model: Option<PathBuf>,
    /// Number of hits explained
    #[arg(short = 'k', long = "limit", value_name = "N", default_value_t = 3, requires = "query")]
    limit: usize,
    /// Print the entry as JSON
    #[arg(long, conflicts_with = "query")]
    json: bool,
}

pub(crate) fn run(arguments: &InspectArguments) -> Result<()> {
    let (entry, files) = open::bundle(&arguments.bundle)?;
    let bundle =
        Bundle::assemble(&entry, files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())))
            .with_context(|| format!("the bundle in {} cannot be read", arguments.bundle.display()))?;
    let mut out = std::io::stdout().lock();
    if let Some(query) = &arguments.query {
        let model = open::model(&open::model_folder(arguments.model.as_deref(), &arguments.bundle)?)?;
        let loader = open::searchable(&arguments.bundle)?;
        let mut retriever = loader.open()?;
        loader.entry().model.check(&ModelRef::of(model.manifest()))?;
        retriever.attach(model, open::resident(loader, &arguments.bundle)?, Kernels::detect())?;
        let options = SearchOptions { limit: arguments.limit, ..SearchOptions::default() };
        let fetch = |need: &Need| folder::read_range(&arguments.bundle, need);
        let results = retriever.answer(query, &options, &|| 0.0, fetch)?;
        return Ok(explain::print(&mut out, &results)?);
    }
    if arguments.json {
        out.write_all(&entry.to_bytes())?;
        return Ok(());
    }
    let (counts, codec) = (&entry.counts, &entry.codec);
    let per = |bytes: u64, n: u64| if n == 0 { 0.0 } else { bytes as f64 / n as f64 };
    let documents = u64::from(counts.documents);
    writeln!(out, "{} (format {}, {})", entry.name, entry.format, entry.generator)?;
    writeln!(
        out,
        "model       {} {} (tokenizer {})",
        entry.model.name,
        entry.model.fingerprint.short(12),
        entry.model.tokenizer_sha256.short(12)
    )?;
    writeln!(out, "sections    {} of {} pages", thousands(documents), thousands(counts.pages.into()))?;
    writeln!(
        out,
        "tokens      {} stored, {} before pooling (factor {}), {:.1} a section, longest {}",
        thousands(counts.tokens),
        thousands(counts.tokens_before_pooling),
        codec.pool_factor,
        per(counts.tokens, documents),
        bundle.lengths.iter().max().copied().unwrap_or(0),
    )?;
    writeln!(
        out,
        "codec       {}, {} bits, {} dimensions, {} centroids",
        format!("{:?}", codec.kind).to_lowercase(),
        codec.nbits,
        codec.dim,
        thousands(codec.n_centroids as u64)
    )?;
    writeln!(
        out,
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
                out,
                "{name:<12}{n:>6}{:>13}{:>14.1}{:>16.1}",
                size(bytes),
                per(bytes, documents),
                per(bytes, counts.tokens)
            )?;
        }
    }
    writeln!(
        out,
        "{:<12}{:>6}{:>13}{:>14.1}{:>16.1}",
        "all",
        total.0,
        size(total.1),
        per(total.1, documents),
        per(total.1, counts.tokens)
    )?;
    writeln!(out, "\nevery file has the length and SHA-256 that the entry says")?;
    Ok(())
}
