//! `shirube`: build, search and inspect a bundle.
//!
//! Results go to standard output, progress and errors to standard error; the exit code is 0, 1 for an error, 2 for wrong usage.

#![forbid(unsafe_code)]

mod build;
mod convert;
mod dictionary;
mod downloads;
mod inspect;
mod mdbook;
mod offline;
mod open;
mod package;
mod parts;
mod search;
mod serve;
mod source;

use clap::{Parser, Subcommand};
use shirube_site::arguments::{InspectArguments, SearchArguments, ServeArguments};
use shirube_site::{size, thousands};
use std::io::Write as _;
use std::process::ExitCode;

/// Japanese semantic search that runs in the reader's browser.
#[derive(Parser)]
#[command(name = "shirube", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Turn a folder of built HTML or of Markdown, or sections in JSON Lines, into a bundle that a web server can hand out as it is
    Build(Box<build::BuildCommand>),
    /// Make one bundle of several of the same model
    Merge(parts::MergeArguments),
    /// Take sections out of a bundle
    Remove(parts::RemoveArguments),
    /// Search a bundle
    Search(SearchArguments),
    /// Show what a bundle holds and what its parts weigh; with a query, where the scores of its hits come from
    Inspect(InspectArguments),
    /// Write the compact dictionary that tokenizers with MeCab need, from a package such as unidic-lite (docs/segmentation.md)
    Dictionary(dictionary::DictionaryArguments),
    /// Build as a backend of mdBook: the book comes on standard input (docs/site.md)
    Mdbook,
    /// Turn a ColBERT checkpoint of another library into a model folder (docs/checkpoints.md)
    Convert(convert::ConvertArguments),
    /// Serve a folder on this machine, to try its search
    Serve(ServeArguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Build(arguments) => build::run(&arguments),
        Command::Merge(arguments) => parts::merge(&arguments),
        Command::Remove(arguments) => parts::remove(&arguments),
        Command::Search(arguments) => search::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Dictionary(arguments) => dictionary::run(&arguments),
        Command::Convert(arguments) => convert::run(&arguments),
        Command::Mdbook => mdbook::run(),
        Command::Serve(arguments) => serve::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = format!("error: {error}\n");
            let mut last = error.to_string();
            for cause in error.chain().skip(1).map(ToString::to_string) {
                // Many messages carry their cause already.
                if !last.contains(&cause) {
                    text += &format!("  because: {cause}\n");
                }
                last = cause;
            }
            // Nowhere is left to report that this failed.
            let _ = std::io::stderr().write_all(text.as_bytes());
            ExitCode::FAILURE
        }
    }
}

/// Whether the reader of our output (`head`, a pager) went away.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_well_formed() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }
}
