//! `shirube build`.

use crate::package;
use crate::parts::PartArguments;
use crate::source::{Plan, passages};
use crate::{open, serve};
use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use shirube_index::{BucketRule, BuildStage, CodecKind, CodecOptions, IndexOptions};
use shirube_retriever::Model;
use shirube_site::{
    BuildOptions, BundleSummary, NotReused, Progress, Settings, SourceKind, SourceSummary, thousands,
};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often a watched source is looked at.
const WATCH_EVERY: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(crate) struct BuildArguments {
    /// Folder of built HTML or of Markdown, or sections: one JSON object a line with id, title, headings, text, url; plain or gzip
    source: Option<PathBuf>,
    /// Settings file; shirube.toml in the current folder if there is one. Flags come before SHIRUBE_* variables, these before the file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Model folder; PACKAGE/model or OUT/model if left out
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Folder of the built npm package: its code and its model are put beside the bundle, so that two lines on a page are enough
    #[arg(long, value_name = "DIR")]
    package: Option<PathBuf>,
    /// Bundle folder to write; SOURCE/shirube if left out. An earlier bundle in it is replaced
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Display name of the bundle; the source's name if left out
    #[arg(long)]
    name: Option<String>,
    /// Read HTML or Markdown; HTML where there is any, if left out
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Only pages whose path matches this glob; may be given several times
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// No pages whose path matches this glob; may be given several times
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// What every address begins with [default: /]
    #[arg(long, value_name = "URL")]
    base: Option<String>,
    /// Addresses without .html
    #[arg(long)]
    clean_urls: bool,
    /// CSS selector of the content; found by <main>, <article> and marks if left out
    #[arg(long, value_name = "SELECTOR")]
    root: Option<String>,
    /// CSS selector of elements to leave out; may be given several times
    #[arg(long, value_name = "SELECTOR")]
    exclude_selector: Vec<String>,
    /// Search code blocks too
    #[arg(long)]
    code: bool,
    /// Search pages that ask robots to stay away
    #[arg(long)]
    keep_noindex: bool,
    /// Only pages in this language, for example ja; may be given several times
    #[arg(long, value_name = "LANG")]
    language: Vec<String>,
    /// Tokens that become one stored embedding: 1 keeps all, 4 is the smallest index [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=4))]
    pool: Option<u8>,
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
    /// Read and count, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Build again whenever a page changes
    #[arg(long)]
    watch: bool,
    /// Serve the source folder while watching
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "8080", requires = "watch")]
    serve: Option<u16>,
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

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Pages as a site serves them
    Html,
    /// Markdown files
    Markdown,
}

impl BuildArguments {
    fn settings(&self) -> Settings {
        let list = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
        Settings {
            source: self.source.clone(),
            out: self.out.clone(),
            model: self.model.clone(),
            name: self.name.clone(),
            kind: self.kind.map(|kind| match kind {
                Kind::Html => SourceKind::Html,
                Kind::Markdown => SourceKind::Markdown,
            }),
            include: list(&self.include),
            exclude: list(&self.exclude),
            base: self.base.clone(),
            clean_urls: self.clean_urls.then_some(true),
            root: self.root.clone(),
            exclude_selectors: list(&self.exclude_selector),
            code: self.code.then_some(true),
            keep_noindex: self.keep_noindex.then_some(true),
            languages: list(&self.language),
            pool: self.pool,
        }
    }
}

/// How a build runs, beside its settings.
#[derive(Debug)]
pub(crate) struct Run {
    index: IndexOptions,
    limit: Option<usize>,
    fresh: bool,
    centroids_from: Option<PathBuf>,
    shard: Option<(usize, usize)>,
    dry_run: bool,
    quiet: bool,
}

impl Run {
    /// As it is without flags. `pool` is how many tokens become one stored embedding.
    pub(crate) fn new(pool: Option<u8>) -> Self {
        let mut index = IndexOptions::site();
        index.pool_factor = pool.map_or(index.pool_factor, usize::from);
        Self {
            index,
            limit: None,
            fresh: false,
            centroids_from: None,
            shard: None,
            dry_run: false,
            quiet: false,
        }
    }
}

impl BuildArguments {
    fn how(&self, pool: Option<u8>) -> Run {
        let codec = CodecOptions {
            kind: match self.codec {
                Codec::Bits4 => CodecKind::Bits4,
                Codec::Bits2 => CodecKind::Bits2,
                Codec::Ternary => CodecKind::Ternary,
                Codec::Product4 => CodecKind::Product { dims: 4 },
                Codec::Product8 => CodecKind::Product { dims: 8 },
                Codec::Product10 => CodecKind::Product { dims: 10 },
                Codec::Bits1 => CodecKind::Bits1,
                Codec::Sign => CodecKind::Sign,
            },
            buckets: match self.buckets {
                Buckets::Quantile => BucketRule::Quantile,
                Buckets::Uniform => BucketRule::Uniform,
            },
            ..CodecOptions::default()
        };
        let index = IndexOptions { n_centroids: self.centroids, codec, ..Run::new(pool).index };
        Run {
            index,
            limit: self.limit,
            fresh: self.part.fresh,
            centroids_from: self.part.centroids_from.clone(),
            shard: self.part.shard,
            dry_run: self.dry_run,
            quiet: self.quiet,
        }
    }
}

pub(crate) fn run(arguments: &BuildArguments) -> Result<()> {
    let plan = Plan::new(arguments.settings(), arguments.config.as_deref())?;
    // The model first: its absence is the commonest mistake and the quickest to find.
    let packaged = arguments.package.as_ref().map(|package| package.join("model"));
    let model = plan.settings.model.as_deref().or(packaged.as_deref());
    let model = open::model(&open::model_folder(model, &plan.out)?)?;
    let how = arguments.how(plan.settings.pool);
    build_once(&how, &plan, &model)?;
    if let (Some(package), false) = (&arguments.package, how.dry_run) {
        package::copy(package, &plan.out)?;
    }
    if !arguments.watch {
        return Ok(());
    }
    if let Some(port) = arguments.serve {
        let listener = serve::listen(port)?;
        serve::announce(&listener, &plan.source)?;
        let folder = plan.source.clone();
        std::thread::spawn(move || serve::serve(&listener, &folder));
    }
    let mut seen = plan.state()?;
    loop {
        std::thread::sleep(WATCH_EVERY);
        let now = plan.state()?;
        // Two equal looks after a change: a generator that is still writing is left to finish.
        if now != seen {
            std::thread::sleep(WATCH_EVERY);
            if plan.state()? == now {
                seen = now;
                // A page that is broken for a moment must not end the watch.
                if let Err(error) = build_once(&how, &plan, &model) {
                    writeln!(std::io::stderr(), "error: {error:#}")?;
                }
            }
        }
    }
}

/// Reads, encodes and writes once, and prints the summary.
pub(crate) fn build_once(how: &Run, plan: &Plan, model: &Model) -> Result<()> {
    let start = Instant::now();
    let bar = if how.quiet { ProgressBar::hidden() } else { ProgressBar::new(0) };
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
    let (mut sections, mut summary) = plan.sections(|at, of| show("reading", at, of))?;
    if let Some(limit) = how.limit {
        sections.truncate(limit);
        summary.n_sections = sections.len();
    }
    if sections.is_empty() {
        bar.finish_and_clear();
        write!(std::io::stderr(), "{summary}")?;
        bail!("{}: nothing to search was found", plan.source.display());
    }
    let sections = passages(sections, model);
    summary.n_passages = sections.len();
    if how.dry_run {
        bar.finish_and_clear();
        return print(&summary, None, start);
    }
    let options = BuildOptions { name: plan.name.clone(), index: how.index };
    let progress = |progress| match progress {
        Progress::Encode { sections, of } => show("encoding", sections, of),
        Progress::Index(BuildStage::KMeans { round, of }) => show("centroids", round, of),
        Progress::Index(BuildStage::Pack { tokens, of }) => show("packing", tokens, of),
        _ => {}
    };
    let sections = match how.shard {
        Some((i, n)) => shirube_site::shard(sections, i - 1, n),
        None => sections,
    };
    let out = &plan.out;
    let report = match &how.centroids_from {
        Some(base) => {
            let base = shirube_site::read_bundle(base)
                .with_context(|| format!("the bundle in {} cannot be read", base.display()))?;
            shirube_site::build_over(sections, model, &options.name, &base, out, progress)?
        }
        None if how.fresh => shirube_site::build_fresh(sections, model, &options, out, progress)?,
        None => shirube_site::build(sections, model, &options, out, progress)?,
    };
    bar.finish_and_clear();
    summary.n_truncated = report.n_truncated;
    let mut written = BundleSummary::of(&report.entry);
    written.out = plan.out.display().to_string();
    written.n_removed = report.removed.len();
    written.n_site_files = plan.n_site_files();
    print(&summary, Some(&written), start)?;
    let mut out = std::io::stdout().lock();
    match &report.not_reused {
        None => writeln!(out, "  {} passages were known already", thousands(report.n_reused as u64))?,
        Some(NotReused::Unreadable(why) | NotReused::Other(why)) => {
            writeln!(out, "  the earlier bundle was not built upon: {why}")?;
        }
        Some(NotReused::Changed { known, of }) => writeln!(
            out,
            "  the earlier bundle knows {} of {} passages: new centroids were made",
            thousands(*known as u64),
            thousands(*of as u64)
        )?,
        Some(_) => {}
    }
    Ok(())
}

fn print(summary: &SourceSummary, written: Option<&BundleSummary>, start: Instant) -> Result<()> {
    let mut out = std::io::stdout().lock();
    write!(out, "{summary}")?;
    match written {
        Some(written) => write!(out, "{written}")?,
        None => writeln!(out, "  nothing was written (--dry-run)")?,
    }
    writeln!(out, "  {:.1} s", start.elapsed().as_secs_f64())?;
    Ok(())
}
