//! Other engines as processes of their own, each with one thread: a Rust program around the crate `next-plaid` and a Python script around the package
//! `fast-plaid`, both in `crates/bench/peers`. They read the same embeddings from a file, build an index with all threads, and then, with one, answer all
//! questions once for each line they are given. Programs, packages and indexes are made under `target/peers` on first use; that needs the package
//! registries, and next-plaid OpenBLAS. An index stays for the next run of the same embeddings.

use crate::corpus::{Corpus, Embeddings};
use crate::frame::Settings;
use anyhow::{Context as _, ensure};
use serde::Deserialize;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// `n_ivf_probe` and `n_full_scores` tried; both engines score a quarter of the latter exactly.
pub(super) const SETTINGS: [(usize, usize); 5] = [(8, 4096), (8, 1024), (4, 1024), (4, 512), (2, 256)];

/// A running engine.
pub(super) struct Peer {
    pub(super) name: &'static str,
    pub(super) index_bytes: u64,
    pub(super) build_seconds: f64,
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

#[derive(Deserialize)]
struct Ready {
    index_bytes: u64,
    build_seconds: f64,
}

#[derive(Deserialize)]
struct Answer {
    ms: Vec<f64>,
    hits: Vec<Vec<u32>>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Gone already, or nothing to be done about it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    /// `command` makes the program anew: it is started to build, and again to search.
    fn start(
        name: &'static str,
        command: impl Fn() -> Command,
        corpus: &Corpus,
        asked: &[usize],
        folder: &Path,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let queries = folder.join("queries.bin");
        write(&queries, &corpus.queries, asked)?;
        let index = folder.join(format!("index-{}", fingerprint(&corpus.passages)));
        let ready = index.with_extension("json");
        if !ready.exists() {
            if index.exists() {
                std::fs::remove_dir_all(&index)?;
            }
            let documents = folder.join("documents.bin");
            write(&documents, &corpus.passages, &(0..corpus.passages.len()).collect::<Vec<_>>())?;
            run(command().arg("build").args([&documents, &index]), &format!("building with {name}"))?;
            std::fs::remove_file(documents)?;
        }
        let ready: Ready = serde_json::from_slice(&std::fs::read(ready)?)?;
        let one = ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"];
        let mut child = command()
            .arg("search")
            .args([&queries, &index])
            .envs(one.map(|name| (name, "1")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let ask = child.stdin.take().context("its input is piped")?;
        let answers = BufReader::new(child.stdout.take().context("its output is piped")?);
        let Ready { index_bytes, build_seconds } = ready;
        Ok(Self { name, index_bytes, build_seconds, child, ask, answers })
    }

    fn read<T: serde::de::DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        // Some engines report progress on standard output.
        while !line.starts_with('{') {
            line.clear();
            ensure!(self.answers.read_line(&mut line)? > 0, "{} ended early", self.name);
        }
        serde_json::from_str(&line).with_context(|| format!("what {} says", self.name))
    }

    pub(super) fn ask(&mut self, setting: usize) -> anyhow::Result<(Vec<Vec<u32>>, Vec<f64>)> {
        let (n_probe, n_full_scores) = SETTINGS[setting];
        writeln!(self.ask, "{n_probe} {n_full_scores}")?;
        self.ask.flush()?;
        let Answer { ms, hits } = self.read()?;
        Ok((hits, ms))
    }
}

/// A name for these embeddings: FNV-1a over lengths and values.
fn fingerprint(all: &Embeddings) -> String {
    let starts = all.starts.iter().map(|&n| n as u64);
    let values = all.values.iter().map(|v| u64::from(v.to_bits()));
    let hash = starts
        .chain(values)
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, v| (hash ^ v).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

/// `u32` dim, `u32` texts, `u32[texts]` rows of each, then `f32` values.
fn write(path: &Path, all: &Embeddings, texts: &[usize]) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
    out.write_all(&(all.dim as u32).to_le_bytes())?;
    out.write_all(&(texts.len() as u32).to_le_bytes())?;
    for &t in texts {
        out.write_all(&((all.of(t).len() / all.dim) as u32).to_le_bytes())?;
    }
    for v in texts.iter().flat_map(|&t| all.of(t)) {
        out.write_all(&v.to_le_bytes())?;
    }
    out.into_inner()?;
    Ok(())
}

fn run(command: &mut Command, what: &str) -> anyhow::Result<()> {
    let status = command.stdout(Stdio::null()).status().with_context(|| what.to_owned())?;
    ensure!(status.success(), "{what} ended with {status}");
    Ok(())
}

fn sources(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name)
}

pub(super) fn next_plaid(corpus: &Corpus, asked: &[usize], settings: &Settings) -> anyhow::Result<Peer> {
    let folder = settings.out.join("../peers/next-plaid");
    std::fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--quiet", "--release", "--manifest-path"])
        .arg(sources("next-plaid").join("Cargo.toml"));
    run(cargo.arg("--target-dir").arg(folder.join("target")), "building next-plaid")?;
    let program = || Command::new(folder.join("target/release/peer-next-plaid"));
    Peer::start("next-plaid", program, corpus, asked, &folder)
}

pub(super) fn fast_plaid(corpus: &Corpus, asked: &[usize], settings: &Settings) -> anyhow::Result<Peer> {
    let folder = settings.out.join("../peers/fast-plaid");
    std::fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    let python = folder.join("venv/bin/python");
    let requirements = sources("fast-plaid").join("requirements.txt");
    if !folder.join("venv/installed").exists() {
        run(
            Command::new("python3").args(["-m", "venv"]).arg(folder.join("venv")),
            "making a Python environment",
        )?;
        let mut pip = Command::new(&python);
        run(pip.args(["-m", "pip", "install", "--quiet", "-r"]).arg(requirements), "installing fast-plaid")?;
        std::fs::write(folder.join("venv/installed"), "")?;
    }
    let program = || {
        let mut program = Command::new(&python);
        program.arg(sources("fast-plaid").join("run.py"));
        program
    };
    Peer::start("fast-plaid", program, corpus, asked, &folder)
}
