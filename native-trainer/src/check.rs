//! `data check`: what a recipe would train on, and what of it stands in the evaluation sets.

use crate::data::{Import, Imported, RetrievalSet, pairs_file, read_pairs, read_sections, read_written};
use crate::pipeline::read_tokenizer;
use crate::recipe::{Recipe, SourceFiles, Step};
use anyhow::Result;
use rayon::prelude::*;
use shirube_text::{Normalizer, Rules, Tokenizer};
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Characters of a run of text that two documents share only when one was copied.
const RUN: usize = 24;
/// Share of a passage's runs above which it counts as seen.
const SEEN: f64 = 0.3;

fn runs(text: &str, rules: &Normalizer) -> Vec<u64> {
    let chars: Vec<char> = rules.normalize(text).text.chars().filter(|c| !c.is_whitespace()).collect();
    chars
        .windows(RUN)
        .map(|w| {
            let mut hasher = DefaultHasher::new();
            w.hash(&mut hasher);
            hasher.finish()
        })
        .collect()
}

/// Counts, lengths and duplicates of one list of texts.
fn describe(name: &str, what: &str, texts: &[String], tokenizer: &Tokenizer) -> String {
    let mut lengths: Vec<usize> = texts.par_iter().map(|t| tokenizer.encode(t).ids.len()).collect();
    lengths.sort_unstable();
    let unique: HashSet<&str> = texts.iter().map(|t| t.trim()).collect();
    let empty = texts.iter().filter(|t| t.trim().is_empty()).count();
    let at = |share: f64| {
        lengths.get(((lengths.len().saturating_sub(1)) as f64 * share) as usize).copied().unwrap_or(0)
    };
    format!(
        "  {name}: {} {what}, {} tokens (median {}, 95 % up to {}, longest {}), {} duplicates, {empty} empty\n",
        texts.len(),
        lengths.iter().sum::<usize>(),
        at(0.5),
        at(0.95),
        at(1.0),
        texts.len() - unique.len()
    )
}

/// One source of training data: its report, its texts, and the questions among them.
fn source(
    recipe: &Recipe,
    source: &SourceFiles,
    tokenizer: &Tokenizer,
) -> Result<(String, Vec<String>, Vec<String>)> {
    let report = |name: &str, what: &str, texts: &[String]| describe(name, what, texts, tokenizer);
    Ok(match source {
        SourceFiles::Set(name) => {
            let set = RetrievalSet::read(&recipe.data.join(name))?;
            let asked: Vec<String> = set.queries.into_iter().map(|q| q.text).collect();
            let texts: Vec<String> = set.passages.into_iter().map(|p| p.text).collect();
            (report(name, "questions", &asked) + &report(name, "passages", &texts), texts, asked)
        }
        SourceFiles::Sections(file) => {
            let texts: Vec<String> =
                read_sections(&recipe.data.join(file))?.into_iter().map(|s| s.text).collect();
            (report(file, "sections", &texts), texts, Vec::new())
        }
        SourceFiles::Pairs => {
            let asked: Vec<String> =
                read_pairs(&pairs_file(&recipe.data)?)?.into_iter().map(|(_, query, _)| query).collect();
            (report("pairs", "keyword queries", &asked), Vec::new(), asked)
        }
        SourceFiles::Written(path) => {
            let asked: Vec<String> =
                read_written(path)?.into_iter().map(|(_, _, question)| question).collect();
            (report(&path.display().to_string(), "written questions", &asked), Vec::new(), asked)
        }
        SourceFiles::Lists(name) => lists(name, Import::new(vec![recipe.data.join(name)]).read()?, &report),
        SourceFiles::Imported(name) => {
            let step = recipe.steps().into_iter().find_map(|step| match step {
                Step::Import(s) if s.name == *name => Some(s),
                _ => None,
            });
            let step = step.expect("the source was taken from this recipe's steps");
            lists(name, step.import(&recipe.data).read()?, &report)
        }
    })
}

fn lists(
    name: &str,
    imported: Imported,
    report: &dyn Fn(&str, &str, &[String]) -> String,
) -> (String, Vec<String>, Vec<String>) {
    let Imported { lists, bad, n_bad, n_rows } = imported;
    let lengths = || lists.lists.iter().map(|l| l.documents.len());
    let scored = lists.lists.iter().filter(|l| !l.scores.is_empty()).count();
    let mut out = format!(
        "  {name}: {} lists of {} to {} documents, {scored} with scores ({:?}); {n_bad} of {n_rows} rows are wrong\n",
        lists.lists.len(),
        lengths().min().unwrap_or(0),
        lengths().max().unwrap_or(0),
        lists.score_kind
    );
    bad.iter().take(5).for_each(|error| out += &format!("    {error}\n"));
    let texts = |list: Vec<(String, String)>| list.into_iter().map(|(_, text)| text).collect::<Vec<_>>();
    let (asked, documents) = (texts(lists.queries), texts(lists.documents));
    out += &report(name, "queries", &asked);
    out += &report(name, "documents", &documents);
    (out, documents, asked)
}

/// The report on all data a recipe names.
///
/// # Errors
/// Unreadable files, with file and line.
pub fn check(recipe: &Recipe) -> Result<String> {
    let tokenizer = read_tokenizer(recipe)?;
    let rules = Normalizer::new(Rules::Shirube1);
    let mut report = "training data\n".to_owned();
    let mut seen: HashSet<u64> = HashSet::new();
    let mut questions: HashSet<String> = HashSet::new();
    for source in recipe.source_files() {
        let (lines, texts, asked) = self::source(recipe, &source, &tokenizer)?;
        report += &lines;
        questions.extend(asked.iter().map(|q| q.trim().to_owned()));
        let found: Vec<Vec<u64>> = texts.par_iter().map(|t| runs(t, &rules)).collect();
        seen.extend(found.into_iter().flatten());
    }
    report += "evaluation sets\n";
    for name in &recipe.eval {
        let set = RetrievalSet::read(&recipe.data.join(name))?;
        let texts: Vec<String> = set.passages.iter().map(|p| p.text.clone()).collect();
        report += &describe(name, "passages", &texts, &tokenizer);
        let copied: Vec<&str> = set
            .passages
            .par_iter()
            .filter(|p| {
                let all = runs(&p.text, &rules);
                let shared = all.iter().filter(|r| seen.contains(r)).count();
                !all.is_empty() && shared as f64 > SEEN * all.len() as f64
            })
            .map(|p| p.id.as_str())
            .collect();
        let asked = set.queries.iter().filter(|q| questions.contains(q.text.trim())).count();
        report += &format!(
            "  {name}: {} passages share more than {:.0} % of their runs of {RUN} characters with training text{}{}; {asked} of {} questions are training questions\n",
            copied.len(),
            100.0 * SEEN,
            if copied.is_empty() { "" } else { ", such as " },
            copied.iter().take(5).copied().collect::<Vec<_>>().join(", "),
            set.queries.len()
        );
    }
    Ok(report)
}
