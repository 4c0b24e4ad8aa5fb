//! `shirube-train`: from raw text to a model the browser loads.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to its user")]

use anyhow::{Context as _, Result};
use candle_core::Device;
use clap::{Parser, Subcommand};
use shirube_index::IndexOptions;
use shirube_train::data::{Import, ScoreKind};
use shirube_train::eval::SetReport;
use shirube_train::export::{Dtype, Target};
use shirube_train::pipeline::{Machine, Only};
use shirube_train::ranks::{Alone, Ranks};
use shirube_train::train::Outcome;
use shirube_train::{device, pipeline, recipe::Recipe};
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

static STOP: AtomicBool = AtomicBool::new(false);

#[derive(Parser)]
#[command(
    name = "shirube-train",
    version,
    about = "Trains a Japanese ColBERT student and exports it for the browser"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the normalised training text, one line a section (input of MeCab).
    TokenizerCorpus(shirube_train::tokenizer::CorpusArgs),
    /// Write a commented recipe to start from.
    Init {
        /// File to write; an existing one is left alone.
        recipe: PathBuf,
    },
    /// Look at data before training.
    #[command(subcommand)]
    Data(DataCommand),
    /// Train a Unigram tokenizer on MeCab words.
    TokenizerTrain(shirube_train::tokenizer::TrainArgs),
    /// Run the steps of a recipe; finished ones are skipped, an interrupted one goes on.
    Run {
        #[command(flatten)]
        run: RunArgs,
        /// Run this step alone; what it reads from must be done.
        #[arg(long)]
        step: Option<String>,
        /// Only say what would be done: steps, tokens, memory, time.
        #[arg(long)]
        dry_run: bool,
    },
    /// Run the `cooccurrence` step of a recipe alone.
    Cooccurrence(RunArgs),
    /// Run the `pretrain` steps of a recipe alone.
    Pretrain(RunArgs),
    /// Run the `train` steps of a recipe alone.
    Train(RunArgs),
    /// Run the `mine` steps of a recipe alone.
    Mine(RunArgs),
    /// Run the `teacher` steps of a recipe alone.
    Teacher(RunArgs),
    /// Put runs on one HTML page: loss curves, metrics, differences from the first run, model card.
    Report {
        /// Folders of runs; the others are held against the first.
        #[arg(required = true)]
        runs: Vec<PathBuf>,
        /// Model folder whose card is shown; each run's own `model` folder if absent.
        #[arg(long)]
        model: Option<PathBuf>,
        /// Page to write.
        #[arg(long, default_value = "report.html")]
        to: PathBuf,
    },
    /// Average the weights of finished steps, of any runs with one architecture and tokenizer.
    Merge {
        /// Folders of finished steps.
        #[arg(required = true)]
        parts: Vec<PathBuf>,
        /// Weights of the parts, separated by commas; equal if absent.
        #[arg(long, value_delimiter = ',')]
        weights: Option<Vec<f64>>,
        /// Folder to write.
        #[arg(long)]
        to: PathBuf,
    },
    /// Score lists with a BERT or XLM-RoBERTa cross-encoder in Hugging Face layout.
    Score {
        /// Lists: a folder with queries.jsonl, documents.jsonl and train.jsonl, or a file with texts inside.
        lists: PathBuf,
        /// Folder with config.json, tokenizer.json and model.safetensors.
        #[arg(long)]
        teacher: PathBuf,
        /// Folder to write.
        #[arg(long)]
        to: PathBuf,
    },
    /// Turn scored lists from elsewhere (parquet, JSON lines, TSV) into lists that `score` and recipes read.
    Import {
        /// Files of lists, or one folder with the tables train, queries and documents.
        #[arg(required = true)]
        lists: Vec<PathBuf>,
        /// File or folder of the queries' texts, where the lists hold ids and stand alone.
        #[arg(long)]
        queries: Option<PathBuf>,
        /// File or folder of the documents' texts.
        #[arg(long)]
        documents: Option<PathBuf>,
        /// What the scores are: logit, sigmoid, or none (not said, or normalised).
        #[arg(long, default_value = "none", value_parser = score_kind)]
        score_kind: ScoreKind,
        /// Lists at most, the first.
        #[arg(long)]
        n_lists: Option<usize>,
        /// Share of rows that may be wrong and are passed over.
        #[arg(long, default_value_t = 0.01)]
        max_bad_rows: f64,
        /// Folder to write.
        #[arg(long)]
        to: PathBuf,
    },
    /// Evaluate a trained step with BM25 and the fusion beside it, or what the reader gets of it.
    Eval(EvalArgs),
    /// Make `tokenizer.bin` of another library's tokenizer files, to train on with it; prints the ids for `inputs`.
    TokenizerImport {
        /// Folder with tokenizer.json, vocab.txt or tokenizer.model, and tokenizer_config.json.
        folder: PathBuf,
        /// Folder with dictionary-0.bin and so on, as `shirube dictionary` writes them: for a tokenizer that cuts words as MeCab does.
        #[arg(long)]
        dictionary: Option<PathBuf>,
        /// Folder to write.
        #[arg(long)]
        out: PathBuf,
    },
    /// Quantise a trained step, check it against f32 and write the model folder; or write it in f32 for another library.
    Export {
        /// Recipe.
        recipe: PathBuf,
        /// Folder of the run.
        #[arg(long)]
        out: PathBuf,
        /// Step; the last one if absent.
        #[arg(long)]
        step: Option<String>,
        /// Model folder to write.
        #[arg(long)]
        model: PathBuf,
        /// How weights are stored; int8 if absent. Other libraries get f32.
        #[arg(long, value_enum)]
        dtype: Option<Dtype>,
        /// Whose layout is written.
        #[arg(long = "layout", value_enum, default_value_t)]
        target: Target,
    },
}

#[derive(clap::Args)]
struct RunArgs {
    /// Recipe.
    recipe: PathBuf,
    /// Folder of the run.
    #[arg(long)]
    out: PathBuf,
    /// Worker threads of this process.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// cpu, cuda or cuda:N; the recipe's if absent.
    #[arg(long)]
    device: Option<String>,
}

/// The processes of this run: those that `mpirun` or `srun` started, else this one.
fn ranks() -> Result<Box<dyn Ranks>> {
    let launched =
        ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"].iter().any(|v| std::env::var_os(v).is_some());
    if !launched {
        return Ok(Box::new(Alone));
    }
    #[cfg(feature = "mpi")]
    return Ok(Box::new(shirube_train::mpi::Mpi::start()?));
    #[cfg(not(feature = "mpi"))]
    anyhow::bail!("started by an MPI launcher, but built without MPI; build with `--features mpi`")
}

/// The same processes, summing over NCCL where each has a GPU.
fn over_gpus(ranks: Box<dyn Ranks>, device: &Device) -> Result<Box<dyn Ranks>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(gpu) if ranks.size() > 1 => Ok(Box::new(shirube_train::nccl::Nccl::start(ranks, gpu)?)),
        _ => Ok(ranks),
    }
}

/// Runs steps on the device and processes that arguments and surroundings ask for.
fn run(args: &RunArgs, only: Only<'_>) -> Result<()> {
    let recipe = Recipe::read(&args.recipe)?;
    let name = args.device.as_deref().or(recipe.device.as_deref()).unwrap_or("cpu");
    let device = device::device(name, device::rank_here())?;
    let ranks = over_gpus(ranks()?, &device)?;
    let machine = Machine { workers: args.workers, stop: &STOP, ranks: &*ranks, device: &device, only };
    let result = run_on(&recipe, &args.out, machine);
    if let (Err(error), true) = (&result, ranks.size() > 1) {
        eprintln!("Error on rank {}: {error:?}", ranks.rank());
        ranks.abort();
    }
    result
}

fn run_on(recipe: &Recipe, out: &Path, machine: Machine<'_>) -> Result<()> {
    let root = machine.ranks.rank() == 0;
    ctrlc::set_handler(move || {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        if root {
            eprintln!("\nstopping after this step and saving (again to quit at once)");
        }
    })
    .context("cannot listen for Ctrl+C")?;
    let live = std::io::stdout().is_terminal();
    let mut open_line = false;
    let mut say = |line: String| match line.strip_prefix('\r') {
        Some(state) if live => {
            open_line = true;
            print!("\r\x1b[2K{state}");
            // A terminal that went away is no reason to stop training.
            let _ = std::io::stdout().flush();
        }
        state => {
            if std::mem::take(&mut open_line) {
                println!();
            }
            println!("{}", state.unwrap_or(&line));
        }
    };
    let outcome = pipeline::run(recipe, out, machine, &mut say)?;
    if outcome == Outcome::Interrupted && root {
        let command: Vec<String> = std::env::args().collect();
        println!("to go on: {}", command.join(" "));
    }
    Ok(())
}

#[derive(clap::Args)]
struct EvalArgs {
    /// Recipe; with --out it adds the rows of the f32 student.
    #[arg(requires = "out")]
    recipe: Option<PathBuf>,
    /// Folder of the run.
    #[arg(long, requires = "recipe")]
    out: Option<PathBuf>,
    /// Step; the last one if absent.
    #[arg(long, requires = "recipe")]
    step: Option<String>,
    /// Also quantise the step and search its compressed index as the browser does.
    #[arg(long, requires = "recipe")]
    shipped: bool,
    /// Search the compressed index of this exported model as the browser does; needs no recipe.
    #[arg(long, conflicts_with = "shipped")]
    model: Option<PathBuf>,
    /// Pool factors of compressed indexes, separated by commas; 1 is what `shirube build` takes.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    pool: Vec<usize>,
    /// Retrieval sets instead of the recipe's.
    #[arg(long)]
    set: Vec<PathBuf>,
    /// Compare, by paired bootstrap, with a report that --json or `run` (eval.json) wrote.
    #[arg(long, value_name = "REPORT")]
    against: Option<PathBuf>,
    /// Write the report as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn eval(args: &EvalArgs) -> Result<()> {
    let recipe = match &args.recipe {
        Some(path) => Some((Recipe::read(path)?, path)),
        None => None,
    };
    let other: Option<Vec<SetReport>> = match &args.against {
        None => None,
        Some(path) => Some(
            serde_json::from_slice(&std::fs::read(path).with_context(|| path.display().to_string())?)
                .with_context(|| format!("{} is not a report of `eval`", path.display()))?,
        ),
    };
    let trained = match (&recipe, &args.out) {
        (Some((recipe, recipe_path)), Some(out)) => {
            Some(pipeline::TrainedStep { recipe, recipe_path, out, step: args.step.as_deref() })
        }
        _ => None,
    };
    let index = |&pool_factor| IndexOptions { pool_factor, ..IndexOptions::site() };
    let options = pipeline::EvalOptions {
        trained,
        shipped: args.shipped,
        model: args.model.as_deref(),
        indexes: args.pool.iter().map(index).collect(),
        sets: args.set.clone(),
    };
    let reports = pipeline::eval(&options)?;
    for report in &reports {
        println!("{}", report.table());
        if let Some(other) = &other {
            match other.iter().find_map(|o| report.against(o)) {
                Some(comparison) => println!("{comparison}"),
                None => println!("{}: the other report has no such set\n", report.set),
            }
        }
    }
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&reports)?)
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
}

#[derive(Subcommand)]
enum DataCommand {
    /// Counts, lengths, duplicates, and overlap with the evaluation sets, of all data a recipe names.
    Check {
        /// Recipe.
        recipe: PathBuf,
        /// Folder of the run, where the recipe's own tokenizer is.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Makes a retrieval set of sections and questions written for them.
    Set {
        /// File of sections; may be given several times.
        #[arg(long, required = true)]
        sections: Vec<PathBuf>,
        /// Lines `section id <tab> question`.
        #[arg(long)]
        questions: PathBuf,
        /// Folder of the set.
        #[arg(long)]
        to: PathBuf,
    },
}

fn score_kind(name: &str) -> Result<ScoreKind, String> {
    match name {
        "none" => Ok(ScoreKind::None),
        "logit" => Ok(ScoreKind::Logit),
        "sigmoid" => Ok(ScoreKind::Sigmoid),
        other => Err(format!("{other:?}; expected none, logit or sigmoid")),
    }
}

fn main() -> Result<()> {
    // Kernels are single-threaded per worker; candle's pool behind elementwise additions takes one lock and spins, and would only fight
    // the workers for cores.
    // SAFETY: this is the first statement of the program, so no other thread can be reading the environment.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    match Cli::parse().command {
        Command::TokenizerCorpus(args) => shirube_train::tokenizer::run_corpus(&args),
        Command::TokenizerTrain(args) => shirube_train::tokenizer::run_train(&args),
        Command::Init { recipe } => {
            use std::io::Write as _;
            let mut file = std::fs::File::create_new(&recipe)
                .with_context(|| format!("cannot create {}", recipe.display()))?;
            file.write_all(include_bytes!("../recipes/template.toml"))?;
            println!(
                "{} written; set `data` and `tokenizer`, then `shirube-train data check` and `run --dry-run`",
                recipe.display()
            );
            Ok(())
        }
        Command::Data(DataCommand::Check { recipe, out }) => {
            let recipe = Recipe::read(&recipe)?.in_run(&out.unwrap_or_default());
            print!("{}", shirube_train::check::check(&recipe)?);
            Ok(())
        }
        Command::Data(DataCommand::Set { sections, questions, to }) => {
            let set = shirube_train::data::RetrievalSet::from_written(&sections, &questions)?;
            set.write(&to)?;
            println!("{}: {} passages, {} questions", to.display(), set.passages.len(), set.queries.len());
            Ok(())
        }
        Command::Run { run, dry_run: true, .. } => {
            print!("{}", shirube_train::plan::plan(&Recipe::read(&run.recipe)?, &run.out, run.workers)?);
            Ok(())
        }
        Command::Run { run: args, step, dry_run: false } => {
            run(&args, step.as_deref().map_or(Only::All, Only::Name))
        }
        Command::Cooccurrence(args) => run(&args, Only::Kind("cooccurrence")),
        Command::Pretrain(args) => run(&args, Only::Kind("pretrain")),
        Command::Train(args) => run(&args, Only::Kind("train")),
        Command::Mine(args) => run(&args, Only::Kind("mine")),
        Command::Teacher(args) => run(&args, Only::Kind("teacher")),
        Command::Report { runs, model, to } => {
            let page = shirube_train::report::report(&runs, model.as_deref())?;
            std::fs::write(&to, page).with_context(|| to.display().to_string())?;
            println!("{} written", to.display());
            Ok(())
        }
        Command::Merge { parts, weights, to } => pipeline::merge(&parts, weights, &to),
        Command::Score { lists, teacher, to } => {
            pipeline::score(&lists, &teacher, &to, &mut |line| println!("{line}"))
        }
        Command::Import { lists, queries, documents, score_kind, n_lists, max_bad_rows, to } => {
            let import =
                Import { queries, documents, score_kind, n_lists, max_bad_rows, ..Import::new(lists) };
            pipeline::import_lists(&import, &to, &mut |line| println!("{line}"))
        }
        Command::Eval(args) => eval(&args),
        Command::TokenizerImport { folder, dictionary, out } => {
            print!("{}", pipeline::import_tokenizer(&folder, dictionary.as_deref(), &out)?);
            Ok(())
        }
        Command::Export { recipe, out, step, model, dtype, target } => {
            let read = Recipe::read(&recipe)?;
            let report = pipeline::export(&read, &recipe, &out, step.as_deref(), &model, (target, dtype))?;
            println!("{report}");
            Ok(())
        }
    }
}
