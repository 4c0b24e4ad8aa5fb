//! `shirube inspect`.

use crate::open;
use anyhow::{Context as _, Result};
use shirube_format::bundle::{Bundle, ModelRef, folder};
use shirube_retriever::{Kernels, Need, SearchOptions, report};
use shirube_site::Inspection;
use shirube_site::arguments::InspectArguments;
use std::io::Write as _;

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
        out.write_all(report::explanation(&results).as_bytes())?;
        return Ok(());
    }
    if arguments.json {
        out.write_all(&entry.to_bytes())?;
        return Ok(());
    }
    let longest = bundle.lengths.iter().max().copied().unwrap_or(0);
    write!(out, "{}", Inspection { entry: &entry, longest })?;
    writeln!(out, "\nevery file has the length and SHA-256 that the entry says")?;
    Ok(())
}
