//! `shirube search`.

use crate::open;
use anyhow::{Result, bail};
use shirube_format::bundle::{ModelRef, folder};
use shirube_retriever::{Kernels, Need, SearchMode, SearchOptions, report};
use shirube_site::arguments::SearchArguments;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::Instant;

pub(crate) fn run(arguments: &SearchArguments) -> Result<()> {
    let bundle = open::searchable(&arguments.bundle)?;
    let mut retriever = bundle.open()?;
    if !arguments.words {
        let model = open::model(&open::model_folder(arguments.model.as_deref(), &arguments.bundle)?)?;
        // Before the codes are read: the commonest mistake is another model.
        bundle.entry().model.check(&ModelRef::of(model.manifest()))?;
        let kernels = Kernels::detect();
        if arguments.lazy {
            if bundle.list_files().next().is_none() {
                bail!(
                    "{}: too small for --lazy, it has no lists; leave the option out",
                    arguments.bundle.display()
                );
            }
            retriever.attach(model, bundle.lazy_index(kernels)?, kernels)?;
        } else {
            retriever.attach(model, open::resident(bundle, &arguments.bundle)?, kernels)?;
        }
    }
    let fetch = |need: &Need| folder::read_range(&arguments.bundle, need);
    let options = SearchOptions {
        limit: arguments.limit,
        lexical_weight: arguments.lexical_weight,
        mode: if arguments.exact { SearchMode::Exact } else { SearchMode::Auto },
        ..SearchOptions::default()
    };
    let start = Instant::now();
    let clock = || start.elapsed().as_secs_f64() * 1000.0;
    let mut out = std::io::stdout().lock();
    if arguments.query == "-" {
        for line in std::io::stdin().lock().lines() {
            let results = retriever.answer(&line?, &options, &clock, fetch)?;
            serde_json::to_writer(&mut out, &results)?;
            writeln!(out)?;
        }
        return Ok(());
    }
    let results = retriever.answer(&arguments.query, &options, &clock, fetch)?;
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &results)?;
        writeln!(out)?;
        return Ok(());
    }
    let mark = if out.is_terminal() { ("\u{1b}[1;33m", "\u{1b}[0m") } else { ("", "") };
    out.write_all(report::hits(&results, &retriever.status().backend.kind, mark).as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn words_count_as_much_as_in_the_library_unless_said_otherwise() {
        use clap::{Args as _, FromArgMatches as _};
        let command = shirube_site::arguments::SearchArguments::augment_args(clap::Command::new("search"));
        let matches = command.get_matches_from(["search", "bundle", "query"]);
        let arguments = shirube_site::arguments::SearchArguments::from_arg_matches(&matches).unwrap();
        assert_eq!(arguments.lexical_weight, shirube_retriever::LEXICAL_WEIGHT);
    }
}
