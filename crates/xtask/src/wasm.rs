//! crates/wasm to `shirube_wasm.js` and `shirube_wasm_bg.wasm`; crates/wasm-gpu to `shirube_gpu.js` and `shirube_gpu_bg.wasm`; crates/node to
//! those of `shirube_node`.

use crate::{stamp, toolchain};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// What to build and where to put it.
pub(crate) struct Options {
    /// Output folder, relative to the repository.
    pub(crate) out: PathBuf,
    /// Which face is built.
    pub(crate) face: Face,
    /// Which vector instructions may be used.
    pub(crate) simd: Simd,
    /// Whether the bench's face is compiled in.
    pub(crate) bench: bool,
    /// Whether the kernel conformance suite is compiled in.
    pub(crate) conformance: bool,
    /// Whether wasm-opt runs.
    pub(crate) optimise: bool,
    /// Build even when no input has changed.
    pub(crate) force: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            out: "pkg/dist".into(),
            face: Face::Browser,
            simd: Simd::Simd128,
            bench: false,
            conformance: false,
            optimise: true,
            force: false,
        }
    }
}

/// A crate that becomes WebAssembly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    /// `crates/wasm`: searches in a browser.
    Browser,
    /// `crates/wasm-gpu`: the GPU's module.
    Gpu,
    /// `crates/node`: builds in Node.
    Node,
}

impl Face {
    /// The package, its library and what its files are called.
    fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Browser => ("shirube-wasm", "shirube_wasm", "shirube_wasm"),
            Self::Gpu => ("shirube-wasm-gpu", "shirube_wasm_gpu", "shirube_gpu"),
            Self::Node => ("shirube-node", "shirube_node", "shirube_node"),
        }
    }
}

/// Vector instructions of a build. A module with relaxed instructions does not load where the engine lacks them, so they are a build of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Simd {
    None,
    Simd128,
    Relaxed,
}

impl Simd {
    /// `RUSTFLAGS`, a word for the target folder, one for messages.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::None => ("", "plain", "no SIMD"),
            Self::Simd128 => ("-C target-feature=+simd128", "simd", "simd128"),
            Self::Relaxed => ("-C target-feature=+simd128,+relaxed-simd", "relaxed", "simd128, relaxed-simd"),
        }
    }
}

/// Never `--all-features`: binaryen then writes an import encoding that browsers refuse. The list is what rustc itself enables,
/// and SIMD.
const WASM_OPT: &[&str] = &[
    "--enable-bulk-memory",
    "--enable-bulk-memory-opt",
    "--enable-reference-types",
    "--enable-multivalue",
    "--enable-nontrapping-float-to-int",
    "--enable-sign-ext",
    "--enable-mutable-globals",
    "--enable-call-indirect-overlong",
    "--strip-debug",
    "--strip-producers",
    "-O3",
];

/// Builds unless the stamp beside the output says that nothing has changed.
pub(crate) fn build(options: &Options) -> Result<()> {
    // Asked at run time: a folder that was moved or copied with its target folder keeps working.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    let root = manifest.ancestors().nth(2).context("xtask is not inside the workspace")?;
    let out = root.join(&options.out);
    let (package, library, name) = options.face.names();
    let mut inputs = stamp::package_folders(root, package)?;
    inputs.extend(["Cargo.toml", "crates/xtask/src"].map(|path| root.join(path)));
    inputs.extend([root.join("Cargo.lock")].into_iter().filter(|path| path.exists()));
    let settings = [
        format!("simd {:?}", options.simd),
        format!("bench {}", options.bench),
        format!("conformance {}", options.conformance),
        format!("optimise {}", options.optimise),
    ];
    let stamp = stamp::of(root, &inputs, &settings)?;
    let stamp_path = out.join(format!("{name}.stamp"));
    let wasm = out.join(format!("{name}_bg.wasm"));
    if !options.force && wasm.exists() && std::fs::read_to_string(&stamp_path).is_ok_and(|old| old == stamp) {
        println!("wasm: {} is up to date", options.out.join(name).display());
        return Ok(());
    }

    let toolchain = toolchain::find()?;
    println!("wasm: {}", toolchain.version()?);
    let (flags, folder, kind) = options.simd.words();
    println!(
        "wasm: building {package} ({kind}{})",
        if options.conformance { ", conformance suite" } else { "" }
    );
    // Each set of flags has its own folder: cargo would otherwise rebuild everything at every change of flags.
    let target_dir = root.join("target").join(format!("wasm-{}-{}", toolchain.name(), folder));
    let mut cargo = toolchain.cargo_build();
    cargo
        .current_dir(root)
        .args(["--release", "-p", package, "--lib", "--target-dir"])
        .arg(&target_dir)
        .env("RUSTFLAGS", flags)
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    // The same for every kind of build, so that test builds share the compiled dependencies.
    for setting in ["panic=\"abort\"", "debug=false", "strip=\"none\"", "lto=\"fat\"", "codegen-units=1"] {
        cargo.arg("--config").arg(format!("profile.release.{setting}"));
    }
    if options.conformance {
        cargo.args(["--features", "conformance"]);
    }
    if options.bench {
        cargo.args(["--features", "bench"]);
    }
    run(&mut cargo)?;

    println!("wasm: wasm-bindgen");
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    // The old stamp goes first: an interrupted build must not look finished.
    if stamp_path.exists() {
        std::fs::remove_file(&stamp_path)
            .with_context(|| format!("cannot remove {}", stamp_path.display()))?;
    }
    wasm_bindgen_cli_support::Bindgen::new()
        .input_path(target_dir.join(toolchain::TARGET).join("release").join(format!("{library}.wasm")))
        .web(true)?
        .typescript(true)
        // The package names the file itself, so that bundlers see it once.
        .omit_default_module_path(true)
        .out_name(name)
        .generate(&out)
        .map_err(|error| anyhow::anyhow!("wasm-bindgen: {error:#}"))?;

    if options.optimise {
        let tool = root.join("node_modules/binaryen/bin/wasm-opt");
        if !tool.exists() {
            bail!("{} is missing: run `npm ci` first, or build with --no-opt", tool.display());
        }
        println!("wasm: wasm-opt");
        let small = out.join(format!("{name}_bg.opt.wasm"));
        let mut command = Command::new("node");
        command.arg(tool).args(WASM_OPT);
        if options.simd != Simd::None {
            command.arg("--enable-simd");
        }
        if options.simd == Simd::Relaxed {
            command.arg("--enable-relaxed-simd");
        }
        run(command.arg(&wasm).arg("-o").arg(&small))?;
        std::fs::rename(&small, &wasm).with_context(|| format!("cannot replace {}", wasm.display()))?;
    }
    run(Command::new("node")
        .current_dir(root)
        .arg("crates/xtask/scripts/sizes.mjs")
        .arg(&wasm)
        .arg(out.join(format!("{name}.js"))))?;
    std::fs::write(&stamp_path, stamp).with_context(|| format!("cannot write {}", stamp_path.display()))
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("{program} did not start"))?;
    anyhow::ensure!(status.success(), "{program} failed ({status})");
    Ok(())
}
