//! `shirube build`.

use crate::downloads;
use crate::offline::{self, Offline};
use crate::package::Package;
use crate::parts::PartArguments;
use crate::source::{Source, passages};
use crate::{open, serve};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use shirube_index::{BuildStage, IndexOptions};
use shirube_retriever::Model;
use shirube_site::arguments::BuildArguments;
use shirube_site::{
    BuildOptions, BundleSummary, Earlier, NotReused, PackageBytes, Progress, Samples, Settings,
    SourceSummary, Spill,
};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a watched source is looked at.
const WATCH_EVERY: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(crate) struct BuildCommand {
    #[command(flatten)]
    flags: BuildArguments,
    /// Folder of the built npm package: its code and the model are put beside the bundle, so that two lines on a page are enough
    #[arg(long, value_name = "DIR")]
    package: Option<PathBuf>,
    #[command(flatten)]
    part: PartArguments,
    /// Keep at most so many MiB of token embeddings in memory, the rest in a file beside OUT until the centroids are made; all in memory if left out
    #[arg(long, value_name = "MIB")]
    memory: Option<usize>,
}

/// How a build runs, beside its settings.
#[derive(Debug)]
pub(crate) struct Run {
    index: IndexOptions,
    limit: Option<usize>,
    fresh: bool,
    centroids_from: Option<PathBuf>,
    shard: Option<(usize, usize)>,
    package: Option<Package>,
    dry_run: bool,
    quiet: bool,
    offline: Offline,
    memory: Option<usize>,
}

impl Run {
    /// As it is without flags.
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            index: settings.index_options(IndexOptions::site()),
            limit: None,
            fresh: false,
            centroids_from: None,
            shard: None,
            package: None,
            dry_run: false,
            quiet: false,
            offline: Offline::default(),
            memory: None,
        }
    }
}

pub(crate) fn run(command: &BuildCommand) -> Result<()> {
    let BuildCommand { flags, package, part, memory } = command;
    let plan = Source::new(flags.settings(), flags.config.as_deref())?;
    // The model first: its absence is the commonest mistake and the quickest to find.
    let packaged = package.as_ref().map(|package| package.join("model"));
    let model = plan.settings.model.as_deref().or(packaged.as_deref());
    let folder = open::model_folder(model, &plan.out)?;
    let model = open::model(&folder)?;
    let how = Run {
        index: plan.settings.index_options(flags.index_options()),
        limit: flags.limit,
        fresh: flags.fresh,
        centroids_from: part.centroids_from.clone(),
        shard: part.shard,
        package: package.clone().map(|package| Package { folder: package, model: folder }),
        dry_run: flags.dry_run,
        quiet: flags.quiet,
        offline: Offline { pwa: flags.pwa, single_file: flags.single_file },
        memory: *memory,
    };
    build_once(&how, &plan, &model)?;
    if !flags.watch {
        return Ok(());
    }
    if let Some(port) = flags.serve {
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
pub(crate) fn build_once(how: &Run, plan: &Source, model: &Model) -> Result<()> {
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
    let out = &plan.out;
    let goes_on = !how.fresh && how.centroids_from.is_none() && !how.dry_run;
    let (read, earlier) = rayon::join(
        || plan.sections(|at, of| show("reading", at, of)),
        || if goes_on { Earlier::read(out) } else { Err(NotReused::Asked) },
    );
    let (mut sections, mut summary) = read?;
    if let Some(limit) = how.limit {
        sections.truncate(limit);
        summary.n_sections = sections.len();
    }
    if sections.is_empty() {
        bar.finish_and_clear();
        write!(std::io::stderr(), "{summary}")?;
        bail!("{}: nothing to search was found", plan.source.display());
    }
    let sections = passages(sections, model, earlier.as_ref().ok().map(Earlier::bundle));
    summary.n_passages = sections.len();
    if how.dry_run {
        bar.finish_and_clear();
        return print(&summary, None, "", start);
    }
    let spill = how.memory.map(|mib| spill(out, mib)).transpose()?;
    let options = BuildOptions { name: plan.name.clone(), index: how.index, spill };
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
    let samples = Samples::of(&sections, downloads::SAMPLES);
    let report = match &how.centroids_from {
        Some(base) => {
            let base = shirube_site::read_bundle(base)
                .with_context(|| format!("the bundle in {} cannot be read", base.display()))?;
            shirube_site::build_over(sections, model, &options.name, &base, out, progress)?
        }
        None if how.fresh => shirube_site::build_fresh(sections, model, &options, out, progress)?,
        None => shirube_site::build_on(earlier, sections, model, &options, out, progress)?,
    };
    let package = match &how.package {
        Some(package) => {
            package.copy(out)?;
            downloads::package_bytes(out)?
        }
        None => PackageBytes { model: downloads::model_bytes(model.manifest())?, ..PackageBytes::default() },
    };
    bar.finish_and_clear();
    summary.n_truncated = report.n_truncated;
    let written = BundleSummary {
        out: out.display().to_string(),
        n_removed: report.removed.len(),
        n_site_files: plan.n_site_files(),
        download: Some(downloads::predict(out, &report.entry, &samples, package)?),
        n_reused: report.n_reused,
        not_reused: report.not_reused,
        ..BundleSummary::of(&report.entry, &report.files)
    };
    let more =
        offline::write(how.offline, plan, how.package.as_ref().map(|package| package.folder.as_path()))?;
    print(&summary, Some(&written), &more, start)
}

/// A file beside `out`, which may not be there yet.
fn spill(out: &Path, mib: usize) -> Result<Spill> {
    let parent = out.parent().unwrap_or(Path::new(""));
    std::fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    let file = parent.join(format!(".shirube-embeddings-{}", std::process::id()));
    Ok(Spill { file, memory_bytes: mib << 20 })
}

fn print(summary: &SourceSummary, written: Option<&BundleSummary>, more: &str, start: Instant) -> Result<()> {
    let mut out = std::io::stdout().lock();
    write!(out, "{summary}")?;
    match written {
        Some(written) => write!(out, "{written}{more}")?,
        None => writeln!(out, "  nothing was written (--dry-run)")?,
    }
    writeln!(out, "  {:.1} s", start.elapsed().as_secs_f64())?;
    Ok(())
}
