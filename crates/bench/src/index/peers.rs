//! Other engines as processes of their own, each with one thread: a Rust program around the crate `next-plaid` and a Python script around the package
//! `fast-plaid`, both in `crates/bench/peers`. They answer all questions once for each line they are given. Programs, packages and indexes are made under
//! `target/peers` on first use; that needs the package registries, and next-plaid OpenBLAS. An index stays for the next run of the same embeddings with the
//! same [`KMEANS`].
//!
//! next-plaid builds for both, with all threads: fast-plaid reads the same files (centroids, codes, 4-bit residuals, lists). Building with fast-plaid was given up: it
//! multiplies tokens and centroids in half precision, for which PyTorch has no fast product on a CPU like this one (30 times the time of its f32 product), hours
//! for 100,000 passages.

use crate::corpus::{Corpus, Embeddings};
use crate::frame::Settings;
use anyhow::{Context as _, ensure};
use serde::Deserialize;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// `n_ivf_probe` and `n_full_scores` tried, the fastest first; both engines score a quarter of the latter exactly.
pub(super) const SETTINGS: [(usize, usize); 5] = [(2, 256), (4, 512), (4, 1024), (8, 1024), (8, 4096)];

/// `kmeans_niters` and `max_points_per_centroid` of the build. The first is the default; of the second it is a sixteenth, because k-means would
/// otherwise take hours on a small machine. Neither changes what a search does.
pub(super) const KMEANS: (usize, usize) = (4, 16);

/// Another engine, installed.
pub(super) struct Engine {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<PathBuf>,
    /// Where its indexes lie.
    folder: PathBuf,
    /// Whose indexes it reads, if it does not build.
    builder: Option<Box<Engine>>,
}

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

impl Engine {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        command
    }

    /// Its index of these passages, built if none is there.
    pub(super) fn index(&self, passages: &Embeddings) -> anyhow::Result<PathBuf> {
        let (iterations, points) = KMEANS;
        let key = format!("{}-i{iterations}-p{points}", fingerprint(passages));
        let index = self.folder.join(format!("index-{key}"));
        if index.with_extension("json").exists() {
            return Ok(index);
        }
        if index.exists() {
            std::fs::remove_dir_all(&index)?;
        }
        if let Some(builder) = &self.builder {
            // A copy: each engine leaves files of its own there.
            let built = builder.index(passages)?;
            std::fs::create_dir_all(&index)?;
            for file in std::fs::read_dir(&built)? {
                let file = file?;
                std::fs::copy(file.path(), index.join(file.file_name()))?;
            }
            std::fs::copy(built.with_extension("json"), index.with_extension("json"))?;
            return Ok(index);
        }
        let documents = self.folder.join(format!("documents-{key}.bin"));
        write(&documents, passages, &(0..passages.len()).collect::<Vec<_>>())?;
        let mut build = self.command();
        build.arg("build").args([&documents, &index]).args([iterations, points].map(|n| n.to_string()));
        run(&mut build, &format!("building with {}", self.name))?;
        std::fs::remove_file(documents)?;
        Ok(index)
    }

    /// Starts it over its index of the corpus, with one thread.
    pub(super) fn start(&self, corpus: &Corpus, asked: &[usize]) -> anyhow::Result<Peer> {
        let index = self.index(&corpus.passages)?;
        let queries = self.folder.join("queries.bin");
        write(&queries, &corpus.queries, asked)?;
        let ready = std::fs::read(index.with_extension("json"))?;
        let Ready { index_bytes, build_seconds } = serde_json::from_slice(&ready)?;
        let one = ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"];
        let mut child = self
            .command()
            .arg("search")
            .args([&queries, &index])
            .envs(one.map(|name| (name, "1")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", self.name))?;
        let ask = child.stdin.take().context("its input is piped")?;
        let answers = BufReader::new(child.stdout.take().context("its output is piped")?);
        Ok(Peer { name: self.name, index_bytes, build_seconds, child, ask, answers })
    }
}

impl Peer {
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

/// Where an engine is installed and keeps its indexes.
fn folder(settings: &Settings, name: &str) -> anyhow::Result<PathBuf> {
    let folder = settings.out.join("../peers").join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder.canonicalize()?)
}

pub(super) fn next_plaid(settings: &Settings) -> anyhow::Result<Engine> {
    let folder = folder(settings, "next-plaid")?;
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--quiet", "--release", "--manifest-path"])
        .arg(sources("next-plaid").join("Cargo.toml"));
    run(cargo.arg("--target-dir").arg(folder.join("target")), "building next-plaid")?;
    let program = folder.join("target/release/peer-next-plaid");
    Ok(Engine { name: "next-plaid", program, arguments: Vec::new(), folder, builder: None })
}

pub(super) fn fast_plaid(settings: &Settings) -> anyhow::Result<Engine> {
    let folder = folder(settings, "fast-plaid")?;
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
    let arguments = Vec::from([sources("fast-plaid").join("run.py")]);
    let builder = Some(Box::new(next_plaid(settings)?));
    Ok(Engine { name: "fast-plaid", program: python, arguments, folder, builder })
}
