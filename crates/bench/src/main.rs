//! `shirube-bench NAME [--quick]`: measures, checks the answers it measured, prints a table, writes `target/bench/NAME.json`.
//!
//! Output ends with lines `ratio NAME VALUE`, for scripts. `--quick` takes less than a minute and is noisier.
//! One bench is one module with a function from [`frame::Settings`] to [`frame::Report`], named in [`BENCHES`].

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a bench prints its result")]

mod checkpoints;
mod corpus;
mod engine;
mod frame;
mod index;
mod peers;
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
const BENCHES: [Bench; 7] = [
    Bench {
        name: "engine",
        what: "kernels, query encoding and MaxSim: every backend of this machine",
        run: engine::run,
    },
    Bench {
        name: "index",
        what: "codecs by quality per byte on the sets of --data, then search beside next-plaid and fast-plaid",
        run: index::run,
    },
    Bench {
        name: "checkpoints",
        what: "converted checkpoints beside PyLate: agreement, bytes, time",
        run: checkpoints::run,
    },
    Bench {
        name: "index-search",
        what: "the second half of `index` alone: search beside next-plaid and fast-plaid",
        run: index::run_search,
    },
    Bench {
        name: "crossover",
        what: "the modes of a search on indexes of growing size: where they cross",
        run: index::crossover::run,
    },
    Bench {
        name: "million",
        what: "a million passages built within a memory cap, and searched",
        run: index::million::run,
    },
    Bench {
        name: "lazy",
        what: "an index that stays on its host: kB and requests of a query, and the nDCG@10 kept",
        run: index::lazy::run,
    },
];

/// Measures one part of shirube.
#[derive(Debug, Parser)]
struct Arguments {
    /// Which bench; without it the list is printed.
    name: Option<String>,
    /// Less than a minute, noisier.
    #[arg(long)]
    quick: bool,
    /// Folder of the retrieval sets, for benches that need them.
    #[arg(long, default_value = "../shared/data")]
    data: PathBuf,
    /// Model folder, for benches that need one.
    #[arg(long, default_value = "pkg/model")]
    model: PathBuf,
    /// Folder for the JSON record.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let Some(name) = arguments.name else {
        for bench in BENCHES {
            println!("{:19} {}", bench.name, bench.what);
        }
        return Ok(());
    };
    // The two halves of `crates/bench/engine/run.mjs` that are ours.
    match name.as_str() {
        "engine-models" => return peers::write_models(&arguments.out),
        "engine-server" => return peers::serve(&arguments.out),
        _ => {}
    }
    let settings = Settings {
        quick: arguments.quick,
        data: arguments.data,
        model: arguments.model,
        out: arguments.out.clone(),
    };
    match name.as_str() {
        // What `crates/bench/index/run.mjs` searches in a browser.
        "index-parts" => return index::parts::write(&settings),
        // The slow part of `index-search`, which takes up what this leaves.
        "index-peers" => return index::build_peers(&settings),
        _ => {}
    }
    let Some(bench) = BENCHES.iter().find(|b| b.name == name) else {
        let names: Vec<&str> = BENCHES.iter().map(|b| b.name).collect();
        bail!("there is no bench {name:?}; the benches are: {}", names.join(", "));
    };
    let mut report = (bench.run)(&settings).with_context(|| format!("bench {name}"))?;
    report.name = name;
    report.quick = arguments.quick;
    print!("{}", report.table());
    let path = report.write(&arguments.out)?;
    println!("\nrecord: {}", path.display());
    print!("{}", report.ratio_lines());
    Ok(())
}
