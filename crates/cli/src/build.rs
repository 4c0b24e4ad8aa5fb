//! `shirube build`.

use crate::parts::PartArguments;
use crate::{open, size, thousands};
use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use shirube_format::bundle::PartKind;
use shirube_index::{BucketRule, BuildStage, CodecKind, CodecOptions, IndexOptions};
use shirube_site::{BuildOptions, NotReused, Progress};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;

#[derive(Args)]
pub(crate) struct BuildArguments {
    /// Sections: one JSON object a line with id, title, headings, text, url; plain or gzip
    input: PathBuf,
    /// Model folder; OUT/model if left out
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Bundle folder to write; an earlier bundle in it is replaced
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Tokens that become one stored embedding: 1 keeps all, 4 is the smallest index
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=4))]
    pool: u8,
    /// Display name of the bundle; the input's file name if left out
    #[arg(long)]
    name: Option<String>,
    /// Number of centroids; chosen by the number of tokens if left out
    #[arg(long, value_name = "N")]
    centroids: Option<usize>,
    /// What is kept of a token beside its centroid, most bytes first
    #[arg(long, value_enum, default_value_t)]
    codec: Codec,
    /// How residual buckets are chosen
    #[arg(long, value_enum, default_value = "uniform")]
    buckets: Buckets,
    /// Only the first N sections, for a trial
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    part: PartArguments,
    /// No progress bars
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Codec {
    /// Sixteen values a dimension
    Bits4,
    /// Four values a dimension
    Bits2,
    /// Three values a dimension
    Ternary,
    /// One of 256 vectors for each four dimensions
    Product4,
    /// One of 256 vectors for each eight dimensions
    Product8,
    /// One of 256 vectors for each ten dimensions: the smallest that keeps 98 % of the exact nDCG@10
    #[default]
    Product10,
    /// Two values a dimension
    Bits1,
    /// Signs only
    Sign,
}

#[derive(Clone, Copy, ValueEnum)]
enum Buckets {
    /// Equally full buckets
    Quantile,
    /// Equal steps
    Uniform,
}

pub(crate) fn run(arguments: &BuildArguments) -> Result<()> {
    let start = Instant::now();
    // The model first: its absence is the commonest mistake and the quickest to find.
    let model = open::model(&open::model_folder(arguments.model.as_deref(), &arguments.out)?)?;
    let (mut sections, left_out) = shirube_site::read_jsonl(&arguments.input)?;
    if let Some(limit) = arguments.limit {
        sections.truncate(limit);
        if sections.is_empty() {
            bail!("--limit 0 leaves nothing to index");
        }
    }
    let name = arguments.name.clone().unwrap_or_else(|| {
        let name = arguments.input.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        name.split('.').next().unwrap_or_default().to_owned()
    });
    let options = BuildOptions {
        name,
        index: IndexOptions {
            pool_factor: usize::from(arguments.pool),
            n_centroids: arguments.centroids,
            codec: CodecOptions {
                kind: match arguments.codec {
                    Codec::Bits4 => CodecKind::Bits4,
                    Codec::Bits2 => CodecKind::Bits2,
                    Codec::Ternary => CodecKind::Ternary,
                    Codec::Product4 => CodecKind::Product { dims: 4 },
                    Codec::Product8 => CodecKind::Product { dims: 8 },
                    Codec::Product10 => CodecKind::Product { dims: 10 },
                    Codec::Bits1 => CodecKind::Bits1,
                    Codec::Sign => CodecKind::Sign,
                },
                buckets: match arguments.buckets {
                    Buckets::Quantile => BucketRule::Quantile,
                    Buckets::Uniform => BucketRule::Uniform,
                },
                ..CodecOptions::default()
            },
            ..IndexOptions::default()
        },
    };
    let bar = if arguments.quiet { ProgressBar::hidden() } else { ProgressBar::new(0) };
    let style = "{msg:<12} {bar:32} {human_pos}/{human_len} {per_sec} {eta}";
    bar.set_style(ProgressStyle::with_template(style).context("the progress bar's template is fixed")?);
    let show = |message: &'static str, at: usize, of: usize| {
        if bar.message() != message {
            bar.reset();
            bar.set_message(message);
        }
        bar.set_length(of as u64);
        bar.set_position(at as u64);
    };
    let progress = |progress| match progress {
        Progress::Encode { sections, of } => show("encoding", sections, of),
        Progress::Index(BuildStage::KMeans { round, of }) => show("centroids", round, of),
        Progress::Index(BuildStage::Pack { tokens, of }) => show("packing", tokens, of),
        _ => {}
    };
    if let Some((i, n)) = arguments.part.shard {
        sections = shirube_site::shard(sections, i - 1, n);
    }
    let out = &arguments.out;
    let report = match &arguments.part.centroids_from {
        Some(base) => {
            let base = shirube_site::read_bundle(base)
                .with_context(|| format!("the bundle in {} cannot be read", base.display()))?;
            shirube_site::build_over(sections, &model, &options.name, &base, out, progress)?
        }
        None if arguments.part.fresh => shirube_site::build_fresh(sections, &model, &options, out, progress)?,
        None => shirube_site::build(sections, &model, &options, out, progress)?,
    };
    bar.finish_and_clear();

    let entry = &report.entry;
    let bytes = |kind| entry.files_of(kind).map(|f| f.file.bytes + f.shard_bytes).sum::<u64>();
    let total = entry.files.iter().map(|f| f.file.bytes + f.shard_bytes).sum::<u64>();
    let n_files = 1 + entry.files.iter().map(|f| 1 + f.n_shards as usize).sum::<usize>();
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{}: {} sections of {} pages, {} tokens stored of {}, {} centroids",
        arguments.out.display(),
        thousands(entry.counts.documents.into()),
        thousands(entry.counts.pages.into()),
        thousands(entry.counts.tokens),
        thousands(entry.counts.tokens_before_pooling),
        thousands(entry.codec.n_centroids as u64),
    )?;
    writeln!(
        out,
        "{} in {} files: words {}, codes {}, centroids {}, sections {}; {:.1} s",
        size(total),
        n_files,
        size(bytes(PartKind::Lexical)),
        size(bytes(PartKind::Codes)),
        size(bytes(PartKind::Centroids)),
        size(bytes(PartKind::Sections)),
        start.elapsed().as_secs_f64(),
    )?;
    match &report.not_reused {
        None => writeln!(out, "{} sections were known already", thousands(report.n_reused as u64))?,
        Some(NotReused::Unreadable(why) | NotReused::Other(why)) => {
            writeln!(out, "the earlier bundle was not built upon: {why}")?;
        }
        Some(NotReused::Changed { known, of }) => writeln!(
            out,
            "the earlier bundle knows {} of {} sections: new centroids were made",
            thousands(*known as u64),
            thousands(*of as u64)
        )?,
        Some(_) => {}
    }
    if left_out > 0 {
        writeln!(out, "{left_out} sections without any text were left out")?;
    }
    if report.n_truncated > 0 {
        writeln!(
            out,
            "{} sections are longer than the model reads ({} tokens); their ends are not searched. Split them at more headings",
            thousands(report.n_truncated as u64),
            model.manifest().document.max_length,
        )?;
    }
    if !report.removed.is_empty() {
        writeln!(out, "{} files of the earlier bundle were removed", report.removed.len())?;
    }
    Ok(())
}
