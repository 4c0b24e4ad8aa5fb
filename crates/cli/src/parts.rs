//! Bundles in parts: `--shard` and `--centroids-from` of `shirube build`, `shirube merge` and `shirube remove`.

use crate::open;
use anyhow::{Context as _, Result, bail};
use clap::Args;
use shirube_format::bundle::folder;
use shirube_site::thousands;
use std::io::Write as _;
use std::path::PathBuf;

/// How a build stands to other bundles.
#[derive(Args)]
pub(crate) struct PartArguments {
    /// Use the centroids and the pooling of this bundle; parts built over one bundle can be merged without loss
    #[arg(long, value_name = "BUNDLE", conflicts_with = "fresh")]
    pub(crate) centroids_from: Option<PathBuf>,
    /// Build only part I of N, counted from 1
    #[arg(long, value_name = "I/N", value_parser = shard, requires = "centroids_from")]
    pub(crate) shard: Option<(usize, usize)>,
}

fn shard(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    match parts {
        Some((i, n)) if (1..=n).contains(&i) => Ok((i, n)),
        _ => Err("expected I/N with I from 1 to N, for example 2/8".to_owned()),
    }
}

#[derive(Args)]
pub(crate) struct MergeArguments {
    /// Bundle folders, in the order of their sections
    #[arg(required = true, num_args = 2..)]
    bundles: Vec<PathBuf>,
    /// Bundle folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Model folder; only needed for bundles over different centroids, of which all but the first are encoded again
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
}

pub(crate) fn merge(arguments: &MergeArguments) -> Result<()> {
    let bundles = arguments
        .bundles
        .iter()
        .map(|path| {
            shirube_site::read_bundle(path)
                .with_context(|| format!("the bundle in {} cannot be read", path.display()))
        })
        .collect::<Result<Vec<_>>>()?;
    let model = arguments.model.as_deref().map(open::model).transpose()?;
    let n = bundles.len();
    let bundle = shirube_site::merge(bundles, model.as_ref(), |_| {})?;
    let (entry, files) = bundle.pack();
    folder::write(&arguments.out, &entry, &files)?;
    writeln!(
        std::io::stdout(),
        "{}: {} sections of {n} bundles",
        arguments.out.display(),
        thousands(entry.counts.documents.into())
    )?;
    Ok(())
}

#[derive(Args)]
pub(crate) struct RemoveArguments {
    /// Bundle folder; it is replaced by what is left
    bundle: PathBuf,
    /// Remove the sections of this page; may be given several times
    #[arg(long, value_name = "PAGE", required_unless_present = "id")]
    page: Vec<String>,
    /// Remove the section with this id; may be given several times
    #[arg(long, value_name = "ID")]
    id: Vec<String>,
}

pub(crate) fn remove(arguments: &RemoveArguments) -> Result<()> {
    let mut bundle = shirube_site::read_bundle(&arguments.bundle)
        .with_context(|| format!("the bundle in {} cannot be read", arguments.bundle.display()))?;
    let n = shirube_site::remove(&mut bundle, |section| {
        arguments.page.contains(&section.page) || arguments.id.contains(&section.id)
    })?;
    if n == 0 {
        bail!("no section has one of these pages or ids; nothing was changed");
    }
    let (entry, files) = bundle.pack();
    folder::write(&arguments.bundle, &entry, &files)?;
    let left = thousands(entry.counts.documents.into());
    writeln!(std::io::stdout(), "{}: {n} sections removed, {left} left", arguments.bundle.display())?;
    Ok(())
}
