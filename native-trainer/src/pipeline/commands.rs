//! Commands on a run's results, and stages without a recipe.

use super::{Say, depth_of, dictionary_parts, input_rules, read_student, read_tokenizer, step_index};
use crate::data::{Import, Imported, Lists, RetrievalSet};
use crate::eval::{DEVICE, SetReport, evaluate};
use crate::export::{Dtype, Target};
use crate::merge::{Ingredient, mean};
use crate::recipe::Recipe;
use crate::student::Student;
use crate::teacher::{CrossEncoder, Teacher};
use anyhow::{Context as _, Result};
use shirube_checkpoint::Layout;
use shirube_index::IndexOptions;
use std::path::{Path, PathBuf};

/// Writes the weighted mean of the weights in `folders` to the folder `to`.
///
/// # Errors
/// Unfinished steps, other architectures or tokenizers.
pub fn merge(folders: &[PathBuf], weights: Option<Vec<f64>>, to: &Path) -> Result<()> {
    let parts = folders.iter().map(|f| Ingredient::read(f)).collect::<Result<Vec<_>>>()?;
    let chosen: Vec<&Ingredient> = parts.iter().collect();
    let average = mean(&chosen, &weights.unwrap_or_else(|| vec![1.0; parts.len()]))?;
    std::fs::create_dir_all(to)?;
    Student::save(&average, &to.join("model.safetensors"))?;
    std::fs::write(to.join("config.json"), serde_json::to_vec_pretty(&parts[0].config)?)?;
    Ok(())
}

/// Scores lists with a Hugging Face cross-encoder and writes them with the scores to the folder `to`.
///
/// # Errors
/// Unreadable lists or teacher.
pub fn score(lists: &Path, teacher: &Path, to: &Path, say: Say<'_>) -> Result<()> {
    let teacher = Teacher::Loaded(Box::new(CrossEncoder::read(teacher)?));
    let mut lists = Lists::read(lists)?;
    teacher.score_lists(&mut lists, |done, all| say(format!("{done}/{all} lists")))?;
    lists.write(to)?;
    Ok(())
}

/// Reads scored lists from elsewhere and writes them, with `bad-rows.txt` if rows were passed over, to the folder `to`.
///
/// # Errors
/// Unreadable files, more bad rows than may be passed over, or no list at all.
pub fn import_lists(import: &Import, to: &Path, say: Say<'_>) -> Result<()> {
    let Imported { lists, bad, n_bad, n_rows } = import.read()?;
    let longest = lists.lists.iter().map(|l| l.documents.len()).max().unwrap_or(0);
    let shortest = lists.lists.iter().map(|l| l.documents.len()).min().unwrap_or(0);
    anyhow::ensure!(!lists.lists.is_empty(), "no list in {n_rows} rows");
    lists.write(to)?;
    say(format!(
        "{} lists of {shortest} to {longest} documents, {} queries, {} documents",
        lists.lists.len(),
        lists.queries.len(),
        lists.documents.len()
    ));
    let report = to.join("bad-rows.txt");
    if n_bad > 0 {
        let shown: String = bad.iter().map(|e| format!("{e}\n")).collect();
        std::fs::write(&report, shown).with_context(|| report.display().to_string())?;
        say(format!(
            "{n_bad} of {n_rows} rows were wrong and passed over, the first: {}; see {}",
            bad[0],
            report.display()
        ));
    } else if report.exists() {
        std::fs::remove_file(&report)?;
    }
    Ok(())
}

/// A step of a run.
#[derive(Clone, Copy, Debug)]
pub struct TrainedStep<'a> {
    /// Recipe.
    pub recipe: &'a Recipe,
    /// Its file, which a model's manifest names.
    pub recipe_path: &'a Path,
    /// Folder of the run.
    pub out: &'a Path,
    /// Name; the last one that made a student if absent.
    pub step: Option<&'a str>,
}

/// What `eval` measures; at least one of `trained` and `model`.
#[derive(Clone, Debug, Default)]
pub struct EvalOptions<'a> {
    /// The f32 student of a step, with BM25 and the fusion.
    pub trained: Option<TrainedStep<'a>>,
    /// Also that step as it would be exported, through the compressed index.
    pub shipped: bool,
    /// An exported model, through the compressed index.
    pub model: Option<&'a Path>,
    /// Indexes of the compressed search.
    pub indexes: Vec<IndexOptions>,
    /// Retrieval sets; the recipe's if empty.
    pub sets: Vec<PathBuf>,
}

/// Evaluates on retrieval sets.
///
/// # Errors
/// A step that has not been trained, a model or sets that cannot be read, or nothing to evaluate.
pub fn eval(options: &EvalOptions<'_>) -> Result<Vec<SetReport>> {
    anyhow::ensure!(
        options.trained.is_some() || options.model.is_some(),
        "nothing to evaluate; name a recipe with `--out RUN`, or an exported model with `--model DIR`"
    );
    anyhow::ensure!(
        !options.shipped || options.model.is_none(),
        "--shipped exports the trained step, --model names another model; use one of them"
    );
    let student = match options.trained {
        None => None,
        Some(t) => {
            let tokenizer = read_tokenizer(&t.recipe.in_run(t.out))?;
            let i = step_index(t.recipe, t.step)?;
            let student = read_student(t.recipe, t.out, i, &tokenizer, &DEVICE)?;
            Some((t, tokenizer, i, student, depth_of(t.recipe, t.out, i)?))
        }
    };
    let model = match (options.model, &student) {
        (Some(folder), _) => Some(crate::shipped::read_model(folder)?),
        (None, Some((t, tokenizer, i, student, depth))) if options.shipped => {
            let (manifest, files) = crate::export::assemble(
                &t.recipe.in_run(t.out),
                t.recipe_path,
                (*i, *depth),
                student,
                tokenizer,
                Dtype::Int8,
            )?;
            Some(crate::export::load(&manifest, &files)?)
        }
        _ => None,
    };
    let sets: Vec<PathBuf> = match options.trained {
        Some(t) if options.sets.is_empty() => t.recipe.eval.iter().map(|n| t.recipe.data.join(n)).collect(),
        _ => options.sets.clone(),
    };
    anyhow::ensure!(!sets.is_empty(), "no retrieval set to evaluate on; name one with `--set DIR`");
    let report = |folder: &PathBuf| {
        let set = RetrievalSet::read(folder)?;
        let name = folder.display().to_string();
        let mut report = match &student {
            Some((t, tokenizer, _, student, depth)) => {
                let (query, document) = input_rules(t.recipe, tokenizer);
                evaluate(&name, &set, student, *depth, tokenizer, &query, &document)?
            }
            None => SetReport::empty(&name, &set),
        };
        if let Some(model) = &model {
            crate::shipped::evaluate(&mut report, &set, model, &options.indexes)?;
        }
        Ok(report)
    };
    sets.iter().map(report).collect()
}

/// Exports one step as a model folder and returns the parity report.
///
/// # Errors
/// A step that has not been trained, or a folder that cannot be written.
pub fn export(
    recipe: &Recipe,
    recipe_path: &Path,
    out: &Path,
    step: Option<&str>,
    model: &Path,
    (target, dtype): (Target, Option<Dtype>),
) -> Result<String> {
    let recipe = &recipe.in_run(out);
    let tokenizer = read_tokenizer(recipe)?;
    let i = step_index(recipe, step)?;
    let student = read_student(recipe, out, i, &tokenizer, &DEVICE)?;
    let depth = depth_of(recipe, out, i)?;
    let layout = match target {
        Target::Shirube => {
            let dtype = dtype.unwrap_or_default();
            return crate::export::export(
                recipe,
                recipe_path,
                (i, depth),
                &student,
                &tokenizer,
                model,
                dtype,
            );
        }
        Target::Pylate => Layout::PyLate,
        Target::ColbertAi => Layout::ColbertAi,
    };
    anyhow::ensure!(dtype.is_none(), "--dtype: other libraries get f32; leave it out");
    crate::export::save(recipe, depth, &student, &tokenizer, model, layout)
}

/// Makes `tokenizer.bin` of the tokenizer files in `from`, and puts them and the dictionary they need beside it into the folder `to`: what a recipe's
/// `tokenizer` names. Answers with the ids that `inputs` wants.
///
/// # Errors
/// Files that are missing or of a tokenizer that is not built, by name; a folder that cannot be written.
pub fn import_tokenizer(from: &Path, dictionary: Option<&Path>, to: &Path) -> Result<String> {
    let dictionary = dictionary.map(dictionary_parts).transpose()?.unwrap_or_default();
    let tokenizer = shirube_checkpoint::read_tokenizer(from, &dictionary)?;
    std::fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(to.join(name), bytes).with_context(|| to.join(name).display().to_string())
    };
    for name in shirube_checkpoint::TOKENIZER_FILES {
        if from.join(name).is_file() {
            write(name, &std::fs::read(from.join(name))?)?;
        }
    }
    if tokenizer.step_names()[1] == "mecab" {
        for (name, bytes) in &dictionary {
            write(name, bytes)?;
        }
    }
    write("tokenizer.bin", &tokenizer.to_bytes())?;
    let mut said = format!("{}: {} tokens\n", to.display(), tokenizer.vocab_size());
    for names in [
        ["[CLS]", "<s>"],
        ["[SEP]", "</s>"],
        ["[MASK]", "<mask>"],
        ["[unused0]", "[Q] "],
        ["[unused1]", "[D] "],
    ] {
        if let Some((name, id)) = names.iter().find_map(|name| Some((name, tokenizer.id_of(name)?))) {
            said += &format!("  {name} = {id}\n");
        }
    }
    Ok(said)
}
