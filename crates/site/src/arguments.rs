//! Flags of the commands that the native program and that of the npm package share.

use crate::{Settings, SourceKind};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use shirube_index::{BucketRule, CodecKind, CodecOptions, IndexOptions};
use std::path::PathBuf;

/// Flags of `shirube build`.
#[derive(Args, Debug)]
pub struct BuildArguments {
    /// Folder of built HTML or of Markdown, or sections: one JSON object a line with id, title, headings, text, url; plain or gzip
    pub source: Option<PathBuf>,
    /// Settings file; shirube.toml in the current folder if there is one. Flags come before SHIRUBE_* variables, these before the file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Model folder; that of the npm package, or OUT/model, if left out
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Bundle folder to write; SOURCE/shirube if left out. An earlier bundle in it is replaced
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Display name of the bundle; the source's name if left out
    #[arg(long)]
    pub name: Option<String>,
    /// Read HTML or Markdown; HTML where there is any, if left out
    #[arg(long, value_enum)]
    pub kind: Option<Kind>,
    /// Only pages whose path matches this glob; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// No pages whose path matches this glob; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// What every address begins with [default: /]
    #[arg(long, value_name = "URL")]
    pub base: Option<String>,
    /// Addresses without .html
    #[arg(long)]
    pub clean_urls: bool,
    /// CSS selector of the content; found by <main>, <article> and marks if left out
    #[arg(long, value_name = "SELECTOR")]
    pub root: Option<String>,
    /// CSS selector of elements to leave out; may be given several times
    #[arg(long, value_name = "SELECTOR")]
    pub exclude_selector: Vec<String>,
    /// Search code blocks too
    #[arg(long)]
    pub code: bool,
    /// Search pages that ask robots to stay away
    #[arg(long)]
    pub keep_noindex: bool,
    /// Only pages in this language, for example ja; may be given several times
    #[arg(long, value_name = "LANG")]
    pub language: Vec<String>,
    /// Tokens that become one stored embedding: 1 keeps all, 4 is the smallest index [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=4))]
    pub pool: Option<u8>,
    /// Number of centroids; chosen by the number of tokens if left out
    #[arg(long, value_name = "N")]
    pub centroids: Option<usize>,
    /// What is kept of a token beside its centroid, most bytes first
    #[arg(long, value_enum, default_value_t)]
    pub codec: Codec,
    /// How residual buckets are chosen
    #[arg(long, value_enum, default_value = "uniform")]
    pub buckets: Buckets,
    /// Only the first N sections, for a trial
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Encode every section, also those that the earlier bundle in OUT knows
    #[arg(long)]
    pub fresh: bool,
    /// Read and count, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Also write precache.json into OUT: the code for a service worker's list, with hashes
    #[arg(long, conflicts_with = "dry_run")]
    pub pwa: bool,
    /// Also write search.js into OUT: index, model, code and elements in one script, for pages opened from file://
    #[arg(long, conflicts_with = "dry_run")]
    pub single_file: bool,
    /// Build again whenever a page changes
    #[arg(long)]
    pub watch: bool,
    /// Serve the source folder while watching
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "8080", requires = "watch")]
    pub serve: Option<u16>,
    /// No progress bars
    #[arg(long, short)]
    pub quiet: bool,
}

/// Flags of `shirube serve`.
#[derive(Args, Debug)]
pub struct ServeArguments {
    /// Folder to serve
    pub folder: PathBuf,
    /// Port; the next free one is taken where it is in use
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
}

/// Flags of `shirube search`.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
pub struct SearchArguments {
    /// Bundle folder
    pub bundle: PathBuf,
    /// What to search for; `-` reads queries from standard input, one a line, and answers each with a line of JSON
    pub query: String,
    /// Model folder; BUNDLE/model if left out
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Number of hits
    #[arg(short = 'k', long = "limit", value_name = "N", default_value_t = 10)]
    pub limit: usize,
    /// How much words (BM25) count beside meaning: 0 is meaning alone, 10 nearly words alone
    #[arg(long, value_name = "W", default_value_t = 0.2)]
    pub lexical_weight: f32,
    /// Read only what the query needs of a large bundle, as a browser does, in place of all codes; of the documents that look best only
    #[arg(long, conflicts_with = "words")]
    pub lazy: bool,
    /// Score every section exactly, however large the bundle: the answer to hold others against
    #[arg(long, conflicts_with = "words")]
    pub exact: bool,
    /// By words alone, without a model
    #[arg(long)]
    pub words: bool,
    /// Print the whole answer as JSON; ranges count bytes
    #[arg(long)]
    pub json: bool,
}

/// Flags of `shirube inspect`.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
pub struct InspectArguments {
    /// Bundle folder; every file is checked
    pub bundle: PathBuf,
    /// Explain the scores of this query's hits, word by word, instead
    pub query: Option<String>,
    /// Model folder; BUNDLE/model if left out
    #[arg(long, value_name = "DIR", requires = "query")]
    pub model: Option<PathBuf>,
    /// Number of hits explained
    #[arg(short = 'k', long = "limit", value_name = "N", default_value_t = 3, requires = "query")]
    pub limit: usize,
    /// Print the entry as JSON
    #[arg(long, conflicts_with = "query")]
    pub json: bool,
}

/// Values of `--codec`.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Codec {
    /// Sixteen values a dimension
    Bits4,
    /// Four values a dimension
    Bits2,
    /// Three values a dimension
    Ternary,
    /// One of 256 vectors for each four dimensions
    Product4,
    /// One of 256 vectors for each eight dimensions
    Product8,
    /// One of 256 vectors for each ten dimensions: the smallest that keeps 98 % of the exact nDCG@10
    #[default]
    Product10,
    /// Two values a dimension
    Bits1,
    /// Signs only
    Sign,
}

/// Values of `--buckets`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Buckets {
    /// Equally full buckets
    Quantile,
    /// Equal steps
    Uniform,
}

/// Values of `--kind`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Kind {
    /// Pages as a site serves them
    Html,
    /// Markdown files
    Markdown,
}

impl BuildArguments {
    /// The settings among the flags.
    pub fn settings(&self) -> Settings {
        let list = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
        Settings {
            source: self.source.clone(),
            out: self.out.clone(),
            model: self.model.clone(),
            name: self.name.clone(),
            kind: self.kind.map(|kind| match kind {
                Kind::Html => SourceKind::Html,
                Kind::Markdown => SourceKind::Markdown,
            }),
            include: list(&self.include),
            exclude: list(&self.exclude),
            base: self.base.clone(),
            clean_urls: self.clean_urls.then_some(true),
            root: self.root.clone(),
            exclude_selectors: list(&self.exclude_selector),
            code: self.code.then_some(true),
            keep_noindex: self.keep_noindex.then_some(true),
            languages: list(&self.language),
            pool: self.pool,
        }
    }

    /// How the index is compressed, without what is a setting too: see [`Settings::index_options`].
    pub fn index_options(&self) -> IndexOptions {
        let codec = CodecOptions {
            kind: match self.codec {
                Codec::Bits4 => CodecKind::Bits4,
                Codec::Bits2 => CodecKind::Bits2,
                Codec::Ternary => CodecKind::Ternary,
                Codec::Product4 => CodecKind::Product { dims: 4 },
                Codec::Product8 => CodecKind::Product { dims: 8 },
                Codec::Product10 => CodecKind::Product { dims: 10 },
                Codec::Bits1 => CodecKind::Bits1,
                Codec::Sign => CodecKind::Sign,
            },
            buckets: match self.buckets {
                Buckets::Quantile => BucketRule::Quantile,
                Buckets::Uniform => BucketRule::Uniform,
            },
            ..CodecOptions::default()
        };
        IndexOptions { n_centroids: self.centroids, codec, ..IndexOptions::site() }
    }
}
