//! `shirube-train report`: runs as one HTML page without outside resources, to keep, to mail, to compare.
//!
//! What it shows is read from the runs' folders alone: `run.json`, and of each step `metrics.jsonl`, `eval.json`, `merge.json`. The first run is
//! the one that the others are held against (paired bootstrap on the same questions).

mod chart;

use crate::eval::{MethodReport, SetReport};
use crate::metrics::{Comparison, QueryMetrics, RECALL_AT};
use crate::recipe::{Recipe, Step};
use anyhow::{Context as _, Result};
use chart::{Curve, chart};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What `run` notes about itself in `run.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunNote {
    /// Version of this tool.
    pub version: String,
    /// The recipe as run.
    pub recipe: Recipe,
    /// Worker threads of a process.
    pub workers: usize,
    /// Processes.
    pub ranks: usize,
    /// Device, and on a CPU the instructions used.
    pub device: String,
}

/// One step's files.
struct StepFiles {
    name: String,
    kind: &'static str,
    curves: Vec<Curve>,
    tokens_per_second: Option<f64>,
    memory_bytes: Option<f64>,
    sets: Vec<SetReport>,
    merge: Option<serde_json::Value>,
}

struct RunFiles {
    label: String,
    note: RunNote,
    steps: Vec<StepFiles>,
    model: Option<serde_json::Value>,
}

/// The page for `runs`, and `model` (a model folder) in place of the runs' own `model` folders.
///
/// # Errors
/// A folder that `run` has not written.
pub fn report(runs: &[PathBuf], model: Option<&Path>) -> Result<String> {
    let runs = runs.iter().map(|folder| read_run(folder, model)).collect::<Result<Vec<_>>>()?;
    let first = runs.first().context("name at least one run's folder")?;
    let mut body = format!("<h1>{}</h1>\n", escape(&first.note.recipe.name));
    if runs.len() > 1 {
        body += &comparison(&runs);
    }
    for run in &runs {
        body += &section(run);
    }
    for run in &runs {
        if let Some(manifest) = &run.model {
            body += &card(manifest);
            if model.is_some() {
                break;
            }
        }
    }
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{}</title><style>{}</style></head><body>\n{body}</body></html>\n",
        escape(&first.note.recipe.name),
        include_str!("report.css")
    ))
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).with_context(|| path.display().to_string())?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

fn read_run(folder: &Path, model: Option<&Path>) -> Result<RunFiles> {
    let note: RunNote = json(&folder.join("run.json"))?.with_context(|| {
        format!(
            "{} has no run.json; name a folder that `shirube-train run --out` wrote (an older one: run it again, finished steps are skipped)",
            folder.display()
        )
    })?;
    let mut steps = Vec::new();
    for step in note.recipe.steps() {
        let at = folder.join(step.name());
        if at.is_dir() {
            let (curves, speed, memory) = read_metrics(&at.join("metrics.jsonl"))?;
            steps.push(StepFiles {
                name: step.name().to_owned(),
                kind: step.kind(),
                curves,
                tokens_per_second: speed,
                memory_bytes: memory,
                sets: json(&at.join("eval.json"))?.unwrap_or_default(),
                merge: json(&at.join("merge.json"))?,
            });
        }
    }
    // What `export --model RUN/model` wrote, else what the last `export` step did.
    let by_hand = folder.join("model");
    let by_step = note.recipe.steps().into_iter().rev().find_map(|step| match step {
        Step::Export(s) => Some(s.folder(&folder.join(&s.name))),
        _ => None,
    });
    let own = by_step.filter(|_| !by_hand.join("manifest.json").is_file()).unwrap_or(by_hand);
    let model = json(&model.unwrap_or(&own).join("manifest.json"))?;
    Ok(RunFiles { label: folder.display().to_string(), note, steps, model })
}

/// Loss and accuracy by step, mean speed, largest memory. Where a run was killed and resumed, the later of two rows of one step holds.
fn read_metrics(path: &Path) -> Result<(Vec<Curve>, Option<f64>, Option<f64>)> {
    let Ok(text) = std::fs::read_to_string(path) else { return Ok((Vec::new(), None, None)) };
    let mut rows = std::collections::BTreeMap::new();
    for (i, line) in text.lines().enumerate() {
        let row: serde_json::Value =
            serde_json::from_str(line).with_context(|| format!("{}, line {}", path.display(), i + 1))?;
        rows.insert(row["step"].as_u64().unwrap_or(0), row);
    }
    let of = |name: &str| -> Vec<(f64, f64)> {
        rows.iter().filter_map(|(step, row)| Some((*step as f64, row[name].as_f64()?))).collect()
    };
    let curves = ["loss", "accuracy"]
        .map(|name| Curve { name: name.to_owned(), points: of(name) })
        .into_iter()
        .filter(|c| c.points.iter().any(|p| p.1 != 0.0))
        .collect();
    let speeds = of("tokens_per_second");
    let speed = (!speeds.is_empty()).then(|| speeds.iter().map(|p| p.1).sum::<f64>() / speeds.len() as f64);
    Ok((curves, speed, of("memory_bytes").into_iter().map(|p| p.1).reduce(f64::max)))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn section(run: &RunFiles) -> String {
    let note = &run.note;
    let mut out = format!(
        "<section><h2>Run {}</h2>\n<p>{} step(s), seed {}, {} process(es) of {} worker(s), {}; shirube-train {}</p>\n",
        escape(&run.label),
        note.recipe.steps().len(),
        note.recipe.seed,
        note.ranks,
        note.workers,
        escape(&note.device),
        escape(&note.version)
    );
    for step in &run.steps {
        let _ = writeln!(out, "<h3>{} <small>{}</small></h3>", escape(&step.name), step.kind);
        let mut facts = Vec::new();
        if let Some(speed) = step.tokens_per_second {
            facts.push(format!("{speed:.0} tokens/s"));
        }
        if let Some(bytes) = step.memory_bytes {
            facts.push(format!("{:.0} MiB at most", bytes / f64::from(1 << 20)));
        }
        if !facts.is_empty() {
            let _ = writeln!(out, "<p>{}</p>", facts.join(", "));
        }
        if !step.curves.is_empty() {
            out += "<div class=\"charts\">";
            out.extend(step.curves.iter().map(chart));
            out += "</div>\n";
        }
        for set in &step.sets {
            out += &metrics_table(set);
        }
        if let Some(merge) = &step.merge {
            out += &ingredients(merge);
        }
    }
    let recipe = toml::to_string(&note.recipe).unwrap_or_default();
    out + &format!("<details><summary>Recipe</summary><pre>{}</pre></details></section>\n", escape(&recipe))
}

fn metrics_table(set: &SetReport) -> String {
    let heads = RECALL_AT.map(|k| format!("<th>R@{k}</th>")).concat();
    let mut out = format!(
        "<table><caption>{}: {} passages, {} queries</caption><tr><th></th>{heads}<th>MRR@10</th><th>nDCG@10</th><th>MAP@10</th></tr>\n",
        escape(&set.set),
        set.n_passages,
        set.n_queries
    );
    for m in &set.methods {
        let QueryMetrics { recall, mrr_10, ndcg_10, map_10 } = m.mean;
        let cells: String =
            recall.iter().chain([&mrr_10, &ndcg_10, &map_10]).map(|v| format!("<td>{v:.4}</td>")).collect();
        let _ = writeln!(out, "<tr><th>{}</th>{cells}</tr>", escape(&m.method));
    }
    out + "</table>\n"
}

/// What a merge was made of.
fn ingredients(merge: &serde_json::Value) -> String {
    let mut out = String::from(
        "<table><caption>Parts and means, MaxSim alone</caption><tr><th></th><th>mean nDCG@10</th></tr>\n",
    );
    for row in merge["evaluated"].as_array().into_iter().flatten() {
        let label = row["weights"].as_str().unwrap_or_default();
        let value = row["ndcg_10"].as_f64().unwrap_or(f64::NAN);
        let _ = writeln!(out, "<tr><th>{}</th><td>{value:.4}</td></tr>", escape(label));
    }
    out + "</table>\n"
}

/// The last evaluated step of every run, held against the first run's.
fn comparison(runs: &[RunFiles]) -> String {
    let last = |run: &RunFiles| {
        run.steps.iter().rfind(|s| !s.sets.is_empty()).map(|s| (s.name.clone(), s.sets.clone()))
    };
    let all: Vec<_> = runs.iter().map(|r| (r.label.clone(), last(r))).collect();
    let Some((_, Some((_, base)))) = all.first() else { return String::new() };
    let mut out = String::from("<section><h2>Ablations</h2>\n");
    for set in base {
        for name in ["maxsim", "fused"] {
            let Some(reference) = set.method(name) else { continue };
            let _ = writeln!(
                out,
                "<table><caption>{}, {name}</caption><tr><th>run</th><th>R@1</th><th>nDCG@10</th><th>difference in nDCG@10</th><th>95 %</th><th>p</th></tr>",
                escape(&set.set)
            );
            for (label, found) in &all {
                let Some((step, sets)) = found else { continue };
                let Some(m) = sets.iter().find(|s| s.set == set.set).and_then(|s| s.method(name)) else {
                    continue;
                };
                let values = |m: &MethodReport| m.queries.iter().map(|q| q.ndcg_10).collect::<Vec<_>>();
                let difference = if m.queries.len() == reference.queries.len() && !std::ptr::eq(m, reference)
                {
                    let c = Comparison::new(&values(m), &values(reference), 1);
                    format!(
                        "<td>{:+.4}</td><td>{:+.4} to {:+.4}</td><td>{:.4}</td>",
                        c.difference, c.interval.0, c.interval.1, c.p
                    )
                } else {
                    "<td></td><td></td><td></td>".to_owned()
                };
                let _ = writeln!(
                    out,
                    "<tr><th>{} <small>{}</small></th><td>{:.4}</td><td>{:.4}</td>{difference}</tr>",
                    escape(label),
                    escape(step),
                    m.mean.recall[0],
                    m.mean.ndcg_10
                );
            }
            out += "</table>\n";
        }
    }
    out + "<p>Differences are from the first run on the same questions; p is one-sided, by paired bootstrap.</p></section>\n"
}

/// The model card: the manifest as a list.
fn card(manifest: &serde_json::Value) -> String {
    let mut out =
        format!("<section><h2>Model {}</h2>\n<dl>\n", escape(manifest["name"].as_str().unwrap_or_default()));
    let mut add = |name: &str, value: &serde_json::Value| {
        let text = match value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Array(items) if items.iter().all(serde_json::Value::is_string) => {
                items.iter().filter_map(|i| i.as_str()).collect::<Vec<_>>().join(", ")
            }
            other => other.to_string(),
        };
        let _ = writeln!(out, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(&text));
    };
    add("license", &manifest["license"]);
    for part in ["encoder", "projection", "quantization", "tokenizer"] {
        for (name, value) in manifest[part].as_object().into_iter().flatten() {
            add(&format!("{part}: {}", name.replace('_', " ")), value);
        }
    }
    add("source", &manifest["provenance"]["source"]);
    add("data", &manifest["provenance"]["data"]);
    for (name, value) in manifest["provenance"]["metrics"].as_object().into_iter().flatten() {
        add(name, value);
    }
    let bytes: u64 =
        manifest["files"].as_array().into_iter().flatten().filter_map(|f| f["bytes"].as_u64()).sum();
    add("bytes", &bytes.into());
    out + "</dl></section>\n"
}
