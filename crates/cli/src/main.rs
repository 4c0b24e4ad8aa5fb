//! `shirube`: build, search and inspect a bundle.
//!
//! Results go to standard output, progress and errors to standard error; the exit code is 0, 1 for an error, 2 for wrong usage.

#![forbid(unsafe_code)]

mod build;
mod inspect;
mod open;
mod parts;
mod search;

use clap::{Parser, Subcommand};
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
    /// Turn sections (JSON Lines, plain or .gz) into a bundle that a web server can hand out as it is
    Build(build::BuildArguments),
    /// Make one bundle of several of the same model
    Merge(parts::MergeArguments),
    /// Take sections out of a bundle
    Remove(parts::RemoveArguments),
    /// Search a bundle
    Search(search::SearchArguments),
    /// Show what a bundle holds and what its parts weigh
    Inspect(inspect::InspectArguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Build(arguments) => build::run(&arguments),
        Command::Merge(arguments) => parts::merge(&arguments),
        Command::Remove(arguments) => parts::remove(&arguments),
        Command::Search(arguments) => search::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
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

/// `1234567` as `1,234,567`.
fn thousands(n: u64) -> String {
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
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.2} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_well_formed() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1023, 1024, 5 << 20].map(size), ["0 B", "1023 B", "1.0 KiB", "5.00 MiB"]);
    }
}
