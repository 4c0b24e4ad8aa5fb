//! `shirube convert`.

use crate::{size, thousands};
use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use shirube_checkpoint::hub::{Hub, is_name};
use shirube_checkpoint::{Checkpoint, Layout, Options, Reference, SAMPLES};
use shirube_core::{Architecture, EncoderConfig, ExpansionRule, Role};
use shirube_format::NamedFile;
use shirube_format::model::{Quantization, WeightKind, folder, is_dictionary};
use shirube_retriever::{Kernels, Model};
use shirube_segment::compile::{LICENSE_FILE, MecabDictionary, compile};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Args)]
pub(crate) struct ConvertArguments {
    /// Folder of a ColBERT checkpoint of colbert-ai, PyLate or Sentence Transformers, or its name on the hub: owner/model
    source: String,
    /// Model folder to write
    out: PathBuf,
    /// How matrices and embeddings are stored
    #[arg(long, value_enum, default_value_t)]
    dtype: Dtype,
    /// How the embedding table is stored, where that should differ
    #[arg(long, value_enum, value_name = "DTYPE")]
    embeddings: Option<Dtype>,
    /// For a BertJapaneseTokenizer: the `dicdir` of the Python package unidic-lite, or a folder that `shirube dictionary` wrote
    #[arg(long, value_name = "DIR")]
    dictionary: Option<PathBuf>,
    /// How long queries become by [MASK] tokens; what the checkpoint says if left out
    #[arg(long, value_enum, value_name = "RULE")]
    query_length: Option<QueryLength>,
    /// Make room for markers as colbert-ai did up to 0.2.19, when a text was tokenised with ". " before it
    #[arg(long)]
    overwrite_markers: bool,
    /// Branch, tag or commit on the hub
    #[arg(long, default_value = "main")]
    revision: String,
    /// Display name; the checkpoint's if left out
    #[arg(long)]
    name: Option<String>,
    /// SPDX expression of the licence; that of the model card if left out
    #[arg(long)]
    license: Option<String>,
    /// No progress bars
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Dtype {
    /// One byte a weight and a scale per row
    #[default]
    Int8,
    /// Half a byte a weight, a scale for each 32 columns and one per row
    Int4,
}

impl Dtype {
    fn kind(self) -> WeightKind {
        match self {
            Self::Int8 => WeightKind::Int8,
            Self::Int4 => WeightKind::Int4,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum QueryLength {
    /// Always query_length
    Fixed,
    /// JaColBERTv2.5's paper: the next multiple of 32, at least 8 more than the query has
    Paper,
    /// JaColBERTv2.5's evaluator: 8 more than the query has, or the next multiple of 32
    Evaluator,
}

pub(crate) fn run(arguments: &ConvertArguments) -> Result<()> {
    let start = Instant::now();
    let (source, card_name) = source(arguments)?;
    let options = Options {
        name: arguments.name.clone().or(card_name),
        license: arguments.license.clone(),
        dictionary: arguments.dictionary.as_deref().map(dictionary).transpose()?.unwrap_or_default(),
        overwrite_markers: arguments.overwrite_markers,
        expansion_rule: arguments.query_length.map(|rule| match rule {
            QueryLength::Fixed => ExpansionRule::Fixed,
            QueryLength::Paper => ExpansionRule::DynamicPaper,
            QueryLength::Evaluator => ExpansionRule::DynamicEvaluator,
        }),
    };
    let checkpoint = Checkpoint::read(&source, &options)
        .with_context(|| format!("the checkpoint in {} cannot be converted", source.display()))?;
    let (dtype, embeddings) = (arguments.dtype, arguments.embeddings.unwrap_or(arguments.dtype));
    let kind_name = dtype.name();
    let said_kind = if embeddings.kind() == dtype.kind() {
        kind_name.to_owned()
    } else {
        format!("{kind_name} with {} embeddings", embeddings.name())
    };
    let mut lines = describe(&checkpoint);
    let quantization = Quantization { linear: dtype.kind(), embeddings: embeddings.kind() };
    let (mut manifest, files) = checkpoint.model(quantization)?;
    let dictionary_files = checkpoint.dictionary.len();
    // The check runs on what is written, against the weights as they were.
    let mut reference = Reference::new(checkpoint)?;
    let named = || files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
    manifest.files =
        files.iter().map(|(path, bytes)| shirube_format::model::FileEntry::of(path, bytes)).collect();
    let mut model = Model::load(manifest.clone(), named(), Kernels::detect())
        .context("the converted model cannot be loaded")?;
    for (role, role_name) in [(Role::Query, "query"), (Role::Document, "document")] {
        let found = reference.compare(&mut model, role, SAMPLES)?;
        lines.push(format!(
            "{said_kind} against f32, {role_name} tokens of {} texts: mean cosine {:.4}, least {:.4}",
            SAMPLES.len(),
            found.mean,
            found.least
        ));
        manifest.provenance.metrics.insert(format!("{kind_name}_cosine_{role_name}"), found.mean);
    }
    folder::write(&arguments.out, manifest, &files)
        .with_context(|| format!("the model cannot be written to {}", arguments.out.display()))?;
    let bytes = |wanted: &dyn Fn(&str) -> bool| -> u64 {
        files.iter().filter(|(path, _)| wanted(path)).map(|(_, bytes)| bytes.len() as u64).sum()
    };
    let mut parts = format!(
        "{} of weights, {} of tokenizer",
        size(bytes(&|path| path.ends_with(".safetensors"))),
        size(bytes(&|path| path == "tokenizer.bin"))
    );
    if dictionary_files > 0 {
        parts += &format!(", {} of dictionary", size(bytes(&|path| is_dictionary(path))));
    }
    lines.push(format!("{}: {parts}, in {:.0} s", arguments.out.display(), start.elapsed().as_secs_f64()));
    lines.push(format!("next: shirube build SITE --model {}", arguments.out.display()));
    let mut out = std::io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// The checkpoint's folder, fetched where it is on the hub, and the name it has there.
fn source(arguments: &ConvertArguments) -> Result<(PathBuf, Option<String>)> {
    let given = Path::new(&arguments.source);
    if given.is_dir() {
        return Ok((given.to_owned(), None));
    }
    if !is_name(&arguments.source) {
        bail!("{}: no such folder, and no name of a model on the hub (owner/model)", arguments.source);
    }
    let hub = hub_of_environment()?;
    let bar = if arguments.quiet { ProgressBar::hidden() } else { ProgressBar::new(0) };
    bar.set_style(
        ProgressStyle::with_template(
            "{msg:24!} {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
        )
        .expect("the template is well formed"),
    );
    let fetched = hub.fetch(&arguments.source, &arguments.revision, &mut |progress| {
        if bar.message() != progress.file {
            bar.set_message(progress.file.to_owned());
            bar.reset();
        }
        bar.set_length(progress.total.unwrap_or(progress.done));
        bar.set_position(progress.done);
    });
    bar.finish_and_clear();
    let fetched = fetched.with_context(|| format!("{} cannot be fetched", arguments.source))?;
    if let Some(reason) = &fetched.offline {
        let note = format!("note: {reason}\nnote: the copy in the cache is used, {}\n", fetched.commit);
        // Nowhere is left to report that this failed.
        let _ = std::io::stderr().write_all(note.as_bytes());
    }
    Ok((fetched.folder, Some(arguments.source.clone())))
}

/// The hub as the Python package `huggingface_hub` would find it.
fn hub_of_environment() -> Result<Hub> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let home = || {
        let user = variable("HOME")
            .or_else(|| variable("USERPROFILE"))
            .context("no HOME; set HF_HOME to a folder")?;
        let cache = variable("XDG_CACHE_HOME").map_or_else(|| Path::new(&user).join(".cache"), PathBuf::from);
        anyhow::Ok(variable("HF_HOME").map_or_else(|| cache.join("huggingface"), PathBuf::from))
    };
    let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
    let cache = match variable("HF_HUB_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => home()?.join("hub"),
    };
    let token = variable("HF_TOKEN").or_else(|| {
        let path =
            variable("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(home().ok()?.join("token")))?;
        std::fs::read_to_string(path)
            .ok()
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty())
    });
    Ok(Hub { endpoint: endpoint.trim_end_matches('/').to_owned(), token, cache })
}

/// The parts of a dictionary, compiled where the folder is a package.
fn dictionary(folder: &Path) -> Result<Vec<NamedFile>> {
    let mut parts: Vec<NamedFile> = Vec::new();
    let read = |name: &str| {
        std::fs::read(folder.join(name)).with_context(|| folder.join(name).display().to_string())
    };
    if folder.join("sys.dic").is_file() {
        let license = MecabDictionary::license(folder)?;
        let compiled = compile(&MecabDictionary::read(folder)?)?;
        parts.extend(compiled.parts().map(|(name, bytes)| (name, bytes.to_vec())));
        parts.push((LICENSE_FILE.to_owned(), license.into_bytes()));
        return Ok(parts);
    }
    while folder.join(format!("dictionary-{}.bin", parts.len())).is_file() {
        let name = format!("dictionary-{}.bin", parts.len());
        parts.push((name.clone(), read(&name)?));
    }
    if parts.is_empty() {
        bail!(
            "{}: neither sys.dic nor dictionary-0.bin; give the folder `dicdir` of the Python package unidic-lite",
            folder.display()
        );
    }
    if folder.join(LICENSE_FILE).is_file() {
        parts.push((LICENSE_FILE.to_owned(), read(LICENSE_FILE)?));
    }
    Ok(parts)
}

/// What was read, in a few lines.
fn describe(checkpoint: &Checkpoint) -> Vec<String> {
    let EncoderConfig { architecture, hidden_size, n_layers, .. } = &checkpoint.encoder;
    let architecture = match architecture {
        Architecture::Bert => "BERT",
        Architecture::ModernBert => "ModernBERT",
    };
    let parameters: usize = checkpoint.weights.iter().map(|(_, t)| t.shape.iter().product::<usize>()).sum();
    let layout = match checkpoint.layout {
        Layout::ColbertAi | Layout::PyLate | Layout::SentenceTransformers => checkpoint.layout.name(),
        _ => "checkpoint",
    };
    let mut lines = vec![
        format!("{} ({layout}, {})", checkpoint.name, checkpoint.license),
        format!(
            "{architecture} {n_layers} x {hidden_size}, {} parameters, {} tokens, embeddings of {}",
            thousands(parameters as u64),
            thousands(checkpoint.tokenizer.vocab_size() as u64),
            checkpoint.projection.dim()
        ),
    ];
    let expansion = checkpoint.query.expansion.as_ref().map_or_else(
        || "not filled up".to_owned(),
        |x| {
            let attended = if x.attend { "attended to" } else { "not attended to" };
            let rule = match x.rule {
                ExpansionRule::Fixed => "always".to_owned(),
                ExpansionRule::AtLeast(n) => format!("at least to {n}"),
                ExpansionRule::DynamicPaper => "as the paper says".to_owned(),
                ExpansionRule::DynamicEvaluator => "as the author's evaluator does".to_owned(),
            };
            format!("filled up with token {} {rule} ({attended})", x.token)
        },
    );
    lines.push(format!(
        "queries: prefix {:?}, up to {} tokens, {expansion}",
        checkpoint.query.prefix, checkpoint.query.max_length
    ));
    lines.push(format!(
        "documents: prefix {:?}, up to {} tokens, {} token ids skipped",
        checkpoint.document.prefix,
        checkpoint.document.max_length,
        checkpoint.document.skip.len()
    ));
    lines.extend(checkpoint.notes.iter().map(|note| format!("note: {note}")));
    lines
}
