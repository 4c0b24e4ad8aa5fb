//! `shirube-bench NAME [--quick]`: measures, checks the answers it measured, prints a table, writes `target/bench/NAME.json`.
//!
//! Output ends with lines `ratio NAME VALUE`, for scripts. `--quick` takes less than a minute and is noisier.
//! One bench is one module with a function from [`frame::Settings`] to [`frame::Report`], named in [`BENCHES`].

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a bench prints its result")]

mod engine;
mod frame;
mod timing;

use anyhow::{Context as _, bail};
use clap::Parser;
use frame::{Report, Settings};
use std::path::PathBuf;

/// One bench.
struct Bench {
    name: &'static str,
    what: &'static str,
    run: fn(&Settings) -> anyhow::Result<Report>,
}

/// Every bench.
const BENCHES: [Bench; 1] = [Bench {
    name: "engine",
    what: "kernels, query encoding and MaxSim: every backend of this machine",
    run: engine::run,
}];

/// Measures one part of shirube.
#[derive(Debug, Parser)]
struct Arguments {
    /// Which bench; without it the list is printed.
    name: Option<String>,
    /// Less than a minute, noisier.
    #[arg(long)]
    quick: bool,
    /// Folder for the JSON record.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let Some(name) = arguments.name else {
        for bench in BENCHES {
            println!("{:10} {}", bench.name, bench.what);
        }
        return Ok(());
    };
    let Some(bench) = BENCHES.iter().find(|b| b.name == name) else {
        let names: Vec<&str> = BENCHES.iter().map(|b| b.name).collect();
        bail!("there is no bench {name:?}; the benches are: {}", names.join(", "));
    };
    let mut report =
        (bench.run)(&Settings { quick: arguments.quick }).with_context(|| format!("bench {name}"))?;
    report.name = name;
    report.quick = arguments.quick;
    print!("{}", report.table());
    let path = report.write(&arguments.out)?;
    println!("\nrecord: {}", path.display());
    print!("{}", report.ratio_lines());
    Ok(())
}
