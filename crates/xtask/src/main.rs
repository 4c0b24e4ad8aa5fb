//! Build commands that cargo alone cannot express. `npm run build` calls them; run one by hand with
//! `cargo run -p shirube-xtask -- wasm --help`.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "this is a command-line tool; its plain lines are its output")]

mod stamp;
mod toolchain;
mod wasm;

use anyhow::{Result, bail};
use std::path::PathBuf;

const HELP: &str = "\
usage: cargo run -p shirube-xtask -- wasm [options]

Builds crates/wasm for the browser: cargo, wasm-bindgen (web target), wasm-opt. Does nothing when no input has changed.

  --out DIR       where the files go (default pkg/dist)
  --gpu           the GPU's module (crates/wasm-gpu) instead of the engine (crates/wasm)
  --node          what `npx shirube` runs on (crates/node) instead; goes to pkg/dist/node unless --out follows
  --no-simd       plain WebAssembly, without simd128; tests compare it with the normal build
  --relaxed       with the relaxed-simd instructions too
  --bench         with the kernels' own face, for benches
  --conformance   with the kernel conformance suite compiled in; for tests
  --no-opt        leave out wasm-opt
  --force         build even when nothing has changed";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("wasm") => {}
        None | Some("--help" | "-h" | "help") => {
            println!("{HELP}");
            return Ok(());
        }
        Some(other) => bail!("unknown command {other:?}\n\n{HELP}"),
    }
    let mut options = wasm::Options::default();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--out" => match arguments.next() {
                Some(path) => options.out = PathBuf::from(path),
                None => bail!("--out needs a folder"),
            },
            "--gpu" => options.face = wasm::Face::Gpu,
            "--node" => {
                options.face = wasm::Face::Node;
                options.out = "pkg/dist/node".into();
            }
            "--no-simd" => options.simd = wasm::Simd::None,
            "--relaxed" => options.simd = wasm::Simd::Relaxed,
            "--bench" => options.bench = true,
            "--conformance" => options.conformance = true,
            "--no-opt" => options.optimise = false,
            "--force" => options.force = true,
            "--release" => {} // what every build is; accepted because fingers type it
            "--help" | "-h" => {
                println!("{HELP}");
                return Ok(());
            }
            other => bail!("unknown option {other:?}\n\n{HELP}"),
        }
    }
    wasm::build(&options)
}
