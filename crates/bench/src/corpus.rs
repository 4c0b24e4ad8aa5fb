//! Retrieval sets as token embeddings, encoded once with one model and kept under `target/bench/embeddings`.
//!
//! A set is a folder with `passages.jsonl.gz`, `queries.jsonl.gz` and `qrels.tsv.gz`, or the sections of a site with the keyword queries made from
//! their headings. Embeddings wait on disk as `f16` (passages) and `f32` (queries), under a name that holds the model's fingerprint: a new model
//! encodes again, a second run reads.

use anyhow::{Context as _, bail, ensure};
use half::f16;
use rayon::prelude::*;
use serde::Deserialize;
use shirube_core::Role;
use shirube_encoder::Model;
use shirube_format::bundle::ModelRef;
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Token embeddings of many texts, one after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Embeddings {
    pub(crate) dim: usize,
    /// `[n_texts + 1]` first row of each text.
    pub(crate) starts: Vec<usize>,
    /// `[n_rows, dim]`
    pub(crate) values: Vec<f32>,
}

impl Embeddings {
    pub(crate) fn new(dim: usize) -> Self {
        Self { dim, starts: vec![0], values: Vec::new() }
    }

    pub(crate) fn push(&mut self, rows: &[f32]) {
        self.values.extend_from_slice(rows);
        self.starts.push(self.values.len() / self.dim);
    }

    /// Those of `texts`, on all cores.
    pub(crate) fn encode(model: &Model, texts: &[String], role: Role) -> anyhow::Result<Self> {
        let mut all = Self::new(model.dim());
        for batch in texts.chunks(512) {
            let encoded: Vec<Vec<f32>> = batch
                .par_iter()
                .map_init(
                    || model.clone(),
                    |model, text| {
                        let input = model.prepare(text, role);
                        model.encode(&input)
                    },
                )
                .collect::<Result<_, _>>()?;
            encoded.iter().for_each(|rows| all.push(rows));
        }
        Ok(all)
    }

    /// Texts.
    pub(crate) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Rows in all.
    pub(crate) fn n_rows(&self) -> usize {
        self.values.len() / self.dim
    }

    /// `[n_tokens, dim]` of one text.
    pub(crate) fn of(&self, text: usize) -> &[f32] {
        &self.values[self.starts[text] * self.dim..self.starts[text + 1] * self.dim]
    }
}

/// Passages, questions, and which passages answer which question.
#[derive(Clone, Debug)]
pub(crate) struct Corpus {
    pub(crate) passages: Embeddings,
    pub(crate) queries: Embeddings,
    /// `[n_queries]` relevant passages.
    pub(crate) relevant: Vec<Vec<u32>>,
}

/// Where the sets lie and what encodes them.
pub(crate) struct Source {
    data: PathBuf,
    cache: PathBuf,
    model: Model,
    fingerprint: String,
}

/// The texts of a set.
#[derive(Default)]
pub(crate) struct Texts {
    pub(crate) passages: Vec<String>,
    pub(crate) queries: Vec<String>,
    pub(crate) relevant: Vec<Vec<u32>>,
}

#[derive(Deserialize)]
struct Line {
    id: String,
    #[serde(default)]
    title: String,
    text: String,
}

/// Sites of the documentation set, and how many of its keyword queries are asked.
const DOCS_SOURCES: [&str; 3] = ["vue", "vite", "react"];
const DOCS_QUERIES: usize = 2000;

impl Source {
    pub(crate) fn open(data: &Path, model: &Path, cache: &Path) -> anyhow::Result<Self> {
        ensure!(
            data.is_dir(),
            "the retrieval sets are not in {}; name their folder with --data",
            data.display()
        );
        let (manifest, files) = shirube_format::model::folder::read(model)
            .with_context(|| format!("opening the model in {}", model.display()))?;
        let fingerprint = ModelRef::of(&manifest).fingerprint.short(12).to_owned();
        let files = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
        let model = Model::load(manifest, files, shirube_kernels::Kernels::detect())?;
        std::fs::create_dir_all(cache)?;
        Ok(Self { data: data.to_owned(), cache: cache.to_owned(), model, fingerprint })
    }

    pub(crate) fn dim(&self) -> usize {
        self.model.dim()
    }

    /// `name` and fingerprint of the model.
    pub(crate) fn model(&self) -> String {
        format!("{} {}", self.model.manifest().name, self.fingerprint)
    }

    /// A set by name: `jaquad/dev`, `jsquad/valid` or another folder of that shape, or `docs`.
    pub(crate) fn corpus(&self, name: &str) -> anyhow::Result<Corpus> {
        let texts = if name == "docs" { self.docs()? } else { Texts::read(&self.data.join(name))? };
        let stem = name.replace('/', "-");
        let passages = self.encoded(&format!("{stem}.passages"), &texts.passages, Role::Document)?;
        let queries = self.encoded(&format!("{stem}.queries"), &texts.queries, Role::Query)?;
        Ok(Corpus { passages, queries, relevant: texts.relevant })
    }

    /// Sections of a few sites without their headings; each query is a page title with a section's heading.
    fn docs(&self) -> anyhow::Result<Texts> {
        let sections: Vec<Line> = json_lines(&self.data.join("docs/sections.jsonl.gz"))?;
        let of_source =
            |id: &str| DOCS_SOURCES.iter().any(|s| id.rsplit_once('-').is_some_and(|(a, _)| a == *s));
        let mut texts = Texts::default();
        let mut places = HashMap::new();
        for section in sections.into_iter().filter(|s| of_source(&s.id)) {
            places.insert(section.id, texts.passages.len() as u32);
            texts.passages.push(section.text);
        }
        let mut all = Vec::new();
        for line in lines(&self.data.join("pairs/pairs.tsv.gz"))? {
            let line = line?;
            let fields: Vec<&str> = line.split('\t').collect();
            let [kind, query, id] = fields[..] else {
                bail!("pairs.tsv.gz: {line:?} is not kind, query, id")
            };
            if let (true, Some(&place)) = (kind.ends_with("-heading"), places.get(id)) {
                all.push((query.to_owned(), place));
            }
        }
        // Evenly from all sites, not the first ones only.
        let step = all.len().div_ceil(DOCS_QUERIES).max(1);
        for (query, place) in all.into_iter().step_by(step) {
            texts.queries.push(query);
            texts.relevant.push(vec![place]);
        }
        Ok(texts)
    }

    fn encoded(&self, name: &str, texts: &[String], role: Role) -> anyhow::Result<Embeddings> {
        let path = self.cache.join(format!("{name}-{}.bin", self.fingerprint));
        if let Some(found) = read(&path, role, self.dim(), texts.len()) {
            return Ok(found);
        }
        let all = Embeddings::encode(&self.model, texts, role)?;
        write(&path, role, &all)?;
        // What is written is what is measured: passages are rounded to f16 on the first run too.
        read(&path, role, self.dim(), texts.len()).context("the embeddings just written do not read back")
    }
}

impl Texts {
    /// Those of a folder with `passages.jsonl.gz`, `queries.jsonl.gz` and `qrels.tsv.gz`.
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Self> {
        let passages: Vec<Line> = json_lines(&folder.join("passages.jsonl.gz"))?;
        let queries: Vec<Line> = json_lines(&folder.join("queries.jsonl.gz"))?;
        let places: HashMap<&str, u32> =
            passages.iter().enumerate().map(|(i, p)| (p.id.as_str(), i as u32)).collect();
        let mut answers: HashMap<String, Vec<u32>> = HashMap::new();
        for line in lines(&folder.join("qrels.tsv.gz"))? {
            let line = line?;
            let mut fields = line.split('\t');
            let (Some(query), Some(passage)) = (fields.next(), fields.next()) else {
                bail!("{}/qrels.tsv.gz: {line:?} is not query, passage, grade", folder.display());
            };
            let place = *places.get(passage).with_context(|| format!("no passage {passage:?}"))?;
            answers.entry(query.to_owned()).or_default().push(place);
        }
        Ok(Self {
            relevant: queries.iter().map(|q| answers.remove(&q.id).unwrap_or_default()).collect(),
            passages: passages.iter().map(Line::document).collect(),
            queries: queries.into_iter().map(|q| q.text).collect(),
        })
    }
}

impl Line {
    fn document(&self) -> String {
        if self.title.is_empty() { self.text.clone() } else { format!("{}\n{}", self.title, self.text) }
    }
}

/// Lines of a gzip file.
fn lines(path: &Path) -> anyhow::Result<impl Iterator<Item = std::io::Result<String>>> {
    let file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    Ok(BufReader::new(flate2::read::GzDecoder::new(file)).lines())
}

fn json_lines<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<Vec<T>> {
    lines(path)?
        .map(|line| serde_json::from_str(&line?).with_context(|| format!("reading {}", path.display())))
        .collect()
}

/// `u32` dim, `u32` texts, `u32[texts]` rows of each, then the values.
fn write(path: &Path, role: Role, all: &Embeddings) -> anyhow::Result<()> {
    let part = path.with_extension("part");
    let mut out = std::io::BufWriter::new(std::fs::File::create(&part)?);
    out.write_all(&(all.dim as u32).to_le_bytes())?;
    out.write_all(&(all.len() as u32).to_le_bytes())?;
    for ends in all.starts.windows(2) {
        out.write_all(&((ends[1] - ends[0]) as u32).to_le_bytes())?;
    }
    for &v in &all.values {
        match role {
            Role::Document => out.write_all(&f16::from_f32(v).to_le_bytes())?,
            Role::Query => out.write_all(&v.to_le_bytes())?,
        }
    }
    out.into_inner()?.sync_all()?;
    std::fs::rename(part, path)?;
    Ok(())
}

fn read(path: &Path, role: Role, dim: usize, n: usize) -> Option<Embeddings> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.read_to_end(&mut bytes).ok()?;
    let number =
        |i: usize| bytes.get(4 * i..4 * i + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize);
    if number(0)? != dim || number(1)? != n {
        return None;
    }
    let mut all = Embeddings::new(dim);
    for i in 0..n {
        all.starts.push(all.starts[i] + number(2 + i)?);
    }
    let values = &bytes[8 + 4 * n..];
    all.values = match role {
        Role::Document => values.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Role::Query => values.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
    };
    (all.values.len() == all.starts[n] * dim).then_some(all)
}
