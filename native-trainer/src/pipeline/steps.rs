//! The steps of a run.

use super::{
    EvalOptions, Run, Say, TrainedStep, depth_of, eval, first_student, import_lists, pair_shape,
    read_student, seed_of, step_index,
};
use crate::batch::contrastive;
use crate::cooccurrence::embeddings;
use crate::data::{Glossary, GroupSource, Lists, RetrievalSet, Sampler, SourceKind, read_sections};
use crate::distill::{Number, StudentInput, Target, TokenLists, distill};
use crate::eval::{DEVICE, SetReport, encode, evaluate};
use crate::merge::{Ingredient, StepConfig, greedy_soup, mean};
use crate::mine::{Searcher, mine};
use crate::pretrain::{Corpus, MASK, read_sequences};
use crate::recipe::{
    CooccurrenceStep, EvalStep, ExportStep, ImportStep, Loss, MergeChoice, MergeStep, MineStep, PretrainStep,
    Recipe, RotateStep, ScoreStep, Step, TeacherStep, TrainStep,
};
use crate::rotation::Rotation;
use crate::runlog::memory_bytes;
use crate::student::{EMBEDDING_DEVIATION, Student};
use crate::teacher::{CrossEncoder, Teacher};
use crate::train::{Objective, Outcome, Progress, RunOptions, Schedule, optimise};
use anyhow::{Context as _, Result};
use candle_core::{Tensor, Var};
use shirube_core::{EncoderConfig, InputRules, ProjectionConfig, Role};
use shirube_index::IndexOptions;
use shirube_text::Tokenizer;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

impl Run<'_> {
    /// Index of the step called `name`.
    fn place(&self, name: &str) -> Option<usize> {
        self.steps.iter().position(|s| s.name() == name)
    }

    /// The student to start step `i` from.
    fn start(&self, i: usize, from: Option<&str>) -> Result<Student> {
        let before = match from {
            Some(name) => Some(step_index(self.recipe, Some(name))?),
            None => self.steps[..i].iter().rposition(Step::makes_student),
        };
        match before {
            Some(j) => {
                anyhow::ensure!(
                    self.steps[j].makes_student(),
                    "{} makes no student to start from",
                    self.steps[j].name()
                );
                read_student(self.recipe, self.out, j, &self.tokenizer, self.machine.device)
            }
            None => first_student(self.recipe, &self.tokenizer, self.machine.device),
        }
    }

    /// Lists written by a step, or found in the data folder.
    fn lists(&self, name: &str) -> Result<Lists> {
        let path = match self.place(name) {
            Some(_) => self.out.join(name),
            None => self.recipe.data.join(name),
        };
        Ok(Lists::read(&path)?)
    }

    /// A ColBERT to learn from, with its depth: a step of this recipe, or the folder of another run's step.
    fn colbert(&self, name: &str) -> Result<(Student, usize)> {
        let folder = if self.place(name).is_some() { self.out.join(name) } else { PathBuf::from(name) };
        let Ingredient { config, weights, .. } = Ingredient::read(&folder)?;
        anyhow::ensure!(
            config.tokenizer == self.tokenizer_sha256,
            "{}: it reads another tokenizer, so its query tokens are not the student's; use `score` and `distill`",
            folder.display()
        );
        let encoder = EncoderConfig { n_layers: config.depth, ..config.encoder };
        let student = Student::from_tensors(encoder, config.projection, &weights)
            .with_context(|| folder.display().to_string())?;
        Ok((student, config.depth))
    }

    /// Writes `config.json`, what the weights of a step belong to.
    pub(super) fn record(&self, step: &Step, folder: &Path, projection: ProjectionConfig) -> Result<()> {
        let config = StepConfig {
            encoder: self.recipe.model.encoder(self.tokenizer.vocab_size()),
            projection,
            depth: step.depth().context("only trained steps record their depth")?,
            tokenizer: self.tokenizer_sha256.clone(),
        };
        if self.machine.is_root() {
            std::fs::write(folder.join("config.json"), serde_json::to_vec_pretty(&config)?)?;
        }
        Ok(())
    }

    pub(super) fn evaluate(&self, student: &Student, depth: usize) -> Result<Vec<SetReport>> {
        self.recipe
            .eval
            .iter()
            .map(|name| {
                let set = RetrievalSet::read(&self.recipe.data.join(name))?;
                evaluate(name, &set, student, depth, &self.tokenizer, &self.rules.0, &self.rules.1)
            })
            .collect()
    }

    fn optimise(
        &self,
        variables: &[(String, Var)],
        schedule: Schedule,
        objective: &Objective<'_>,
        (name, accuracy): (&str, &str),
        folder: &Path,
        say: Say<'_>,
    ) -> Result<Outcome> {
        let options = RunOptions {
            folder,
            workers: self.machine.workers,
            ranks: self.machine.ranks,
            stop: self.machine.stop,
            save_every: Duration::from_secs(300),
        };
        let report = |p: Progress| {
            let accuracy =
                if accuracy.is_empty() { String::new() } else { format!(" {accuracy} {:.3}", p.accuracy) };
            let memory = p.memory_bytes.map_or_else(String::new, |bytes| format!(", {} MiB", bytes >> 20));
            say(format!(
                "\r{name}: step {}/{} loss {:.4}{accuracy} {:.0} tokens/s{memory}, {} left",
                p.step,
                p.steps,
                p.loss,
                p.tokens_per_second,
                minutes(p.eta)
            ));
        };
        optimise(variables, schedule, objective, &options, report)
    }

    pub(super) fn train(
        &mut self,
        i: usize,
        step: &TrainStep,
        folder: &Path,
        say: Say<'_>,
    ) -> Result<Outcome> {
        let student = self.start(i, step.from.as_deref())?;
        self.record(&self.steps[i], folder, self.recipe.model.projection())?;
        let schedule = Schedule {
            steps: step.steps,
            learning_rate: step.learning_rate,
            warmup: step.warmup,
            weight_decay: step.weight_decay,
            accumulate: step.accumulate,
        };
        let variables = owned(&student, step.depth);
        let query = self.rules.0.clone();
        let document = InputRules { max_length: step.document_length, ..self.rules.1.clone() };
        if let Some(name) = &step.lists {
            let number = if step.loss == Loss::DistillTokens { Number::Nothing } else { Number::Score };
            let lists = TokenLists::new(
                &self.lists(name)?,
                &self.tokenizer,
                step.n_way,
                number,
                seed_of(self.recipe, &step.name),
            )?;
            say(format!(
                "{}: {} lists of {} documents, {} shorter ones left out",
                step.name,
                lists.n_lists(),
                lists.n_way,
                lists.n_short
            ));
            let input = StudentInput {
                query: &query,
                document: &document,
                query_dropout: step.query_dropout,
                skip: &self.skip,
                chunk_tokens: step.chunk_tokens,
            };
            let other = step.teacher.as_ref().map(|name| self.colbert(name)).transpose()?;
            let target = match (step.loss, &other) {
                (Loss::DistillTokens, Some((teacher, depth))) => {
                    Target::Tokens { teacher, depth: *depth, temperature: step.temperature.unwrap_or(0.1) }
                }
                (Loss::MarginMse, _) => Target::Margins,
                _ => Target::Scores(step.temperature.unwrap_or(1.0)),
            };
            return self.optimise(
                &variables,
                schedule,
                &|k, w| distill(&student, &lists, step.depth, input, target, step.batch_tokens, (k, w)),
                (&step.name, "positive first"),
                folder,
                say,
            );
        }
        let sampler = sampler(self.recipe, step, &self.tokenizer, (&query, document), &mut self.cache)?;
        for (source, share) in &sampler.sources {
            let (documents, queries) =
                source.groups.iter().fold((0, 0), |(d, q), g| (d + g.documents.len(), q + g.queries.len()));
            say(format!(
                "{}: {:?} share {share}: {} groups, {documents} documents, {queries} queries",
                step.name,
                source.kind,
                source.groups.len()
            ));
        }
        self.optimise(
            &variables,
            schedule,
            &|k, w| {
                let batch = sampler.batch(k, w, step.batch_tokens);
                contrastive(&student, &batch, step.depth, &self.skip, step.chunk_tokens)
            },
            (&step.name, "in-batch R@1"),
            folder,
            say,
        )
    }

    pub(super) fn cooccurrence(
        &self,
        i: usize,
        step: &CooccurrenceStep,
        folder: &Path,
        say: Say<'_>,
    ) -> Result<Outcome> {
        let student = self.start(i, None)?;
        let sequences = read_sequences(&self.recipe.data, &step.files, &self.tokenizer, usize::MAX)?;
        say(format!("{}: {} tokens of text", step.name, sequences.iter().map(Vec::len).sum::<usize>()));
        let (vocab_size, width) = student.table().dims2()?;
        let seed = seed_of(self.recipe, &step.name);
        let found = embeddings(&sequences, (vocab_size, width), step.window, EMBEDDING_DEVIATION, seed)?;
        // Ids that stand nowhere keep their random embeddings.
        let mut table = student.table().to_vec2::<f32>()?;
        let mut n = 0;
        for (row, found) in table.iter_mut().zip(found) {
            if let Some(found) = found {
                *row = found;
                n += 1;
            }
        }
        say(format!("{}: embeddings of {n} of {vocab_size} tokens", step.name));
        let table = Tensor::new(table, self.machine.device)?;
        let mut values: BTreeMap<String, Tensor> =
            student.variables(0).map(|(name, v)| (name.clone(), v.as_tensor().clone())).collect();
        values.insert(student.table_name().to_owned(), table);
        self.record(&self.steps[i], folder, self.recipe.model.projection())?;
        Student::save(&values, &folder.join("model.safetensors"))?;
        Ok(Outcome::Finished)
    }

    pub(super) fn pretrain(
        &self,
        i: usize,
        step: &PretrainStep,
        folder: &Path,
        say: Say<'_>,
    ) -> Result<Outcome> {
        let student = self.start(i, step.from.as_deref())?;
        self.record(&self.steps[i], folder, self.recipe.model.projection())?;
        let corpus = Corpus::read(
            &self.recipe.data,
            &step.files,
            &self.tokenizer,
            step.length,
            (step.mask_share, self.recipe.model.inputs.as_ref().map_or(MASK, |i| i.mask)),
            seed_of(self.recipe, &step.name),
        )?;
        say(format!("{}: {} tokens of text", step.name, corpus.n_tokens()));
        let schedule = Schedule {
            steps: step.steps,
            learning_rate: step.learning_rate,
            warmup: step.warmup,
            weight_decay: step.weight_decay,
            accumulate: step.accumulate,
        };
        self.optimise(
            &owned(&student, step.depth),
            schedule,
            &|k, w| corpus.loss(&student, step.depth, step.batch_tokens, (k, w)),
            (&step.name, ""),
            folder,
            say,
        )
    }

    pub(super) fn mine(&self, step: &MineStep, folder: &Path, say: Say<'_>) -> Result<Outcome> {
        let set = match &step.set {
            Some(set) => RetrievalSet::read(&self.recipe.data.join(set))?,
            None => RetrievalSet::from_pairs(&self.recipe.data, &step.files)?,
        };
        let student = match &step.student {
            Some(name) => {
                let j = step_index(self.recipe, Some(name))?;
                let depth = depth_of(self.recipe, self.out, j)?;
                Some((read_student(self.recipe, self.out, j, &self.tokenizer, self.machine.device)?, depth))
            }
            None => None,
        };
        let searcher = student.as_ref().map(|(student, depth)| Searcher {
            student,
            depth: *depth,
            tokenizer: &self.tokenizer,
            rules: (&self.rules.0, &self.rules.1),
        });
        let lists = mine(&set, step, searcher, progress(&step.name, "queries", say))?;
        anyhow::ensure!(
            !lists.lists.is_empty(),
            "no query has {} documents left; lower n_way, raise top or max_share",
            step.n_way
        );
        say(format!(
            "{}: {} lists of {} documents from {} queries",
            step.name,
            lists.lists.len(),
            step.n_way,
            step.queries.unwrap_or(usize::MAX).min(set.queries.len())
        ));
        lists.write(folder)?;
        Ok(Outcome::Finished)
    }

    /// A cross-encoder of the student's shape; its blocks and embeddings from a step, its head new.
    fn cross_encoder(&self, weights: Option<&Path>, whole: bool) -> Result<Student> {
        let encoder = self.recipe.model.encoder(self.tokenizer.vocab_size());
        let head = self.recipe.model.scalar_head();
        let fresh = Student::random(encoder.clone(), head.clone(), self.recipe.seed, self.machine.device)?;
        let Some(path) = weights else { return Ok(fresh) };
        let mut values: BTreeMap<String, Tensor> = fresh
            .variables(encoder.n_layers)
            .map(|(name, v)| (name.clone(), v.as_tensor().clone()))
            .collect();
        let found = candle_core::safetensors::load(path, self.machine.device)
            .with_context(|| format!("cannot read {}; run the recipe first", path.display()))?;
        for (name, tensor) in found {
            if whole || !(name.starts_with("dense.") || name.starts_with("query_weight.")) {
                values.insert(name, tensor);
            }
        }
        Ok(Student::from_tensors(encoder, head, &values)?)
    }

    pub(super) fn teacher(&self, step: &TeacherStep, folder: &Path, say: Say<'_>) -> Result<Outcome> {
        let from = step.from.as_ref().map(|name| self.out.join(name).join("model.safetensors"));
        let teacher = self.cross_encoder(from.as_deref(), false)?;
        self.record(&Step::Teacher(step.clone()), folder, self.recipe.model.scalar_head())?;
        let lists = TokenLists::new(
            &self.lists(&step.lists)?,
            &self.tokenizer,
            Some(step.n_way),
            Number::Label,
            seed_of(self.recipe, &step.name),
        )?;
        let schedule = Schedule {
            steps: step.steps,
            learning_rate: step.learning_rate,
            warmup: step.warmup,
            weight_decay: step.weight_decay,
            accumulate: step.accumulate,
        };
        let shape = pair_shape(self.recipe, step.length);
        self.optimise(
            &owned(&teacher, step.depth),
            schedule,
            &|k, w| lists.cross_encoder_loss(&teacher, step.depth, shape, step.batch_tokens, (k, w)),
            (&step.name, "positive first"),
            folder,
            say,
        )
    }

    pub(super) fn score(&self, step: &ScoreStep, folder: &Path, say: Say<'_>) -> Result<Outcome> {
        let teacher = match self.place(&step.teacher).map(|j| &self.steps[j]) {
            Some(Step::Teacher(t)) => Teacher::Own {
                model: Box::new(
                    self.cross_encoder(Some(&self.out.join(&t.name).join("model.safetensors")), true)?,
                ),
                depth: t.depth,
                shape: pair_shape(self.recipe, t.length),
                tokenizer: Box::new(self.tokenizer.clone()),
            },
            Some(other) => anyhow::bail!("{} is not a teacher step", other.name()),
            None => Teacher::Loaded(Box::new(CrossEncoder::read(Path::new(&step.teacher))?)),
        };
        let mut lists = self.lists(&step.lists)?;
        teacher.score_lists(&mut lists, progress(&step.name, "lists", say))?;
        lists.write(folder)?;
        Ok(Outcome::Finished)
    }

    pub(super) fn import(&self, step: &ImportStep, folder: &Path, say: Say<'_>) -> Result<Outcome> {
        let import = step.import(&self.recipe.data);
        import_lists(&import, folder, &mut |line| say(format!("{}: {line}", step.name)))?;
        Ok(Outcome::Finished)
    }

    pub(super) fn merge(&self, step: &MergeStep, folder: &Path, say: Say<'_>) -> Result<Outcome> {
        let folders: Vec<PathBuf> = step
            .parts
            .iter()
            .map(|part| if self.place(part).is_some() { self.out.join(part) } else { PathBuf::from(part) })
            .collect();
        let parts = folders.iter().map(|f| Ingredient::read(f)).collect::<Result<Vec<_>>>()?;
        let weights = step.weights.clone().unwrap_or_else(|| vec![1.0; parts.len()]);
        let chosen: Vec<&Ingredient> = parts.iter().collect();
        let average = mean(&chosen, &weights)?;
        let first = parts.first().context("a merge needs at least one part")?;
        anyhow::ensure!(
            first.config.tokenizer == self.tokenizer_sha256
                && first.config.encoder == self.recipe.model.encoder(self.tokenizer.vocab_size())
                && first.config.projection == self.recipe.model.projection(),
            "{}: its tokenizer or shape is not this recipe's",
            first.folder.display()
        );
        let depth = first.config.depth;
        let mut rows = Vec::new();
        let mut value = |weights: &BTreeMap<String, Tensor>, label: &str| -> Result<f64> {
            let student = self.student_of(weights)?;
            let reports = self.evaluate(&student, depth)?;
            let ndcg: Vec<f64> = reports
                .iter()
                .filter_map(|r| r.methods.iter().find(|m| m.method == "maxsim"))
                .map(|m| m.mean.ndcg_10)
                .collect();
            let mean = ndcg.iter().sum::<f64>() / ndcg.len().max(1) as f64;
            let line = reports
                .iter()
                .zip(&ndcg)
                .map(|(r, n)| {
                    format!("{} R@1 {:.4} nDCG@10 {n:.4}", r.set, r.recall_1("maxsim").unwrap_or(0.0))
                })
                .collect::<Vec<_>>()
                .join(", ");
            say(format!("{}: {label}: {line}", step.name));
            rows.push(serde_json::json!({"weights": label, "ndcg_10": mean, "sets": reports}));
            Ok(mean)
        };
        let alone = parts
            .iter()
            .map(|p| value(&p.weights, &p.folder.display().to_string()))
            .collect::<Result<Vec<f64>>>()?;
        let of_mean = value(&average, "weighted mean")?;
        let (kept, soup, of_soup) = greedy_soup(&parts, &alone, |w| value(w, "greedy soup, one more part"))?;
        let best = alone.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let names: Vec<String> = kept.iter().map(|&i| parts[i].folder.display().to_string()).collect();
        say(format!(
            "{}: mean nDCG@10 of MaxSim: best part {best:.4}, weighted mean {of_mean:.4}, greedy soup {of_soup:.4} of {}",
            step.name,
            names.join(", ")
        ));
        let weights = if step.choose == MergeChoice::Mean { &average } else { &soup };
        Student::save(weights, &folder.join("model.safetensors"))?;
        std::fs::write(folder.join("config.json"), serde_json::to_vec_pretty(&first.config)?)?;
        let report = serde_json::json!({
            "evaluated": rows, "best_part": best, "mean": of_mean, "soup": of_soup, "soup_parts": names, "chosen": step.choose,
        });
        std::fs::write(folder.join("merge.json"), serde_json::to_vec_pretty(&report)?)?;
        Ok(Outcome::Finished)
    }

    pub(super) fn rotate(&self, i: usize, step: &RotateStep, folder: &Path, say: Say<'_>) -> Result<Outcome> {
        let j = self.maker(i, step.from.as_deref())?;
        let (student, depth) = (
            read_student(self.recipe, self.out, j, &self.tokenizer, &DEVICE)?,
            depth_of(self.recipe, self.out, j)?,
        );
        let mut texts = Vec::new();
        for file in &step.files {
            let sections = read_sections(&self.recipe.data.join(file))?;
            let apart = sections.len().div_ceil(step.n_sections).max(1);
            texts.extend(sections.iter().step_by(apart).map(|s| format!("{}\n{}", s.head_text(), s.text)));
        }
        let encoded = encode(&student, depth, &self.tokenizer, &self.rules.1, Role::Document, &texts)?;
        let (n_tokens, dim) = encoded.embeddings.dims2()?;
        let rows = encoded.embeddings.flatten_all()?.to_vec1::<f32>()?;
        let documents: Vec<&[f32]> =
            encoded.offsets.windows(2).map(|w| &rows[w[0] as usize * dim..w[1] as usize * dim]).collect();
        let found = Rotation::fit(&documents, dim)?;
        say(format!(
            "{}: axes from {n_tokens} tokens of {} sections; an index loses {:.4} of the cosine, before {:.4}",
            step.name,
            texts.len(),
            found.loss_after,
            found.loss_before
        ));
        let weights: BTreeMap<String, Tensor> =
            student.variables(depth).map(|(name, v)| (name.clone(), v.as_tensor().clone())).collect();
        Student::save(&found.apply(&student.projection, &weights)?, &folder.join("model.safetensors"))?;
        std::fs::copy(self.out.join(self.steps[j].name()).join("config.json"), folder.join("config.json"))?;
        Ok(Outcome::Finished)
    }

    /// The step that `from` names, or the nearest one before step `i`, that made a student.
    fn maker(&self, i: usize, from: Option<&str>) -> Result<usize> {
        let j = match from {
            Some(name) => step_index(self.recipe, Some(name))?,
            None => self.steps[..i]
                .iter()
                .rposition(Step::makes_student)
                .context("no step before it makes a student")?,
        };
        anyhow::ensure!(self.steps[j].makes_student(), "{} makes no student", self.steps[j].name());
        Ok(j)
    }

    pub(super) fn eval(&self, i: usize, step: &EvalStep, folder: &Path, say: Say<'_>) -> Result<Outcome> {
        let name = self.steps[self.maker(i, step.from.as_deref())?].name();
        let sets = step.sets.iter().map(|set| self.recipe.data.join(set)).collect();
        let reports = eval(&EvalOptions {
            trained: Some(TrainedStep {
                recipe: self.recipe,
                recipe_path: &self.recipe.path,
                out: self.out,
                step: Some(name),
            }),
            shipped: step.shipped,
            indexes: step
                .pool
                .iter()
                .map(|&pool_factor| IndexOptions { pool_factor, ..IndexOptions::site() })
                .collect(),
            sets,
            ..EvalOptions::default()
        })?;
        reports.iter().for_each(|r| say(r.table()));
        std::fs::write(folder.join("eval.json"), serde_json::to_vec(&reports)?)?;
        Ok(Outcome::Finished)
    }

    pub(super) fn export(&self, i: usize, step: &ExportStep, folder: &Path, say: Say<'_>) -> Result<Outcome> {
        let j = self.maker(i, step.from.as_deref())?;
        let student = read_student(self.recipe, self.out, j, &self.tokenizer, &DEVICE)?;
        let (made, to) = ((j, depth_of(self.recipe, self.out, j)?), step.folder(folder));
        let report = crate::export::export(
            self.recipe,
            &self.recipe.path,
            made,
            &student,
            &self.tokenizer,
            &to,
            step.dtype,
        )?;
        say(format!("{}: {}\n{report}", step.name, to.display()));
        Ok(Outcome::Finished)
    }

    /// A student with these weights; blocks that are not there are the identity.
    fn student_of(&self, weights: &BTreeMap<String, Tensor>) -> Result<Student> {
        let encoder = self.recipe.model.encoder(self.tokenizer.vocab_size());
        let projection = self.recipe.model.projection();
        let fresh =
            Student::random(encoder.clone(), projection.clone(), self.recipe.seed, self.machine.device)?;
        let mut values: BTreeMap<String, Tensor> = fresh
            .variables(encoder.n_layers)
            .map(|(name, v)| (name.clone(), v.as_tensor().clone()))
            .collect();
        values.extend(weights.iter().map(|(n, t)| (n.clone(), t.clone())));
        Ok(Student::from_tensors(encoder, projection, &values)?)
    }
}

fn sampler(
    recipe: &Recipe,
    step: &TrainStep,
    tokenizer: &Tokenizer,
    (query, document): (&InputRules, InputRules),
    cache: &mut Vec<(String, GroupSource)>,
) -> Result<Sampler> {
    let mut sources = Vec::new();
    for source in &step.sources {
        let key = format!("{:?} {:?} {:?}", source.kind, source.files, source.questions);
        let groups = match cache.iter().find(|(k, _)| *k == key) {
            Some((_, groups)) => groups.clone(),
            None => {
                let groups = match source.kind {
                    SourceKind::Questions => {
                        let [folder] = source.files.as_slice() else {
                            anyhow::bail!(
                                "step {}: a `questions` source names one folder, found {}",
                                step.name,
                                source.files.len()
                            )
                        };
                        GroupSource::questions(&recipe.data.join(folder), tokenizer)?
                    }
                    kind => {
                        let written = source.questions.as_deref();
                        anyhow::ensure!(
                            (kind == SourceKind::Written) == written.is_some(),
                            "step {}: a `written` source, and no other, names its file in `questions`",
                            step.name
                        );
                        GroupSource::sections(&recipe.data, kind, &source.files, written, tokenizer)?
                    }
                };
                cache.push((key, groups.clone()));
                groups
            }
        };
        sources.push((groups, source.share));
    }
    Ok(Sampler {
        sources,
        query: query.clone(),
        document,
        sentence_end: tokenizer.id_of("。").context("the tokenizer has no piece for 。")?,
        query_dropout: step.query_dropout,
        glossary: match &step.glossary {
            Some(path) => Some((Glossary::read(path, tokenizer)?, step.paraphrase.unwrap_or(1.0 / 3.0))),
            None => None,
        },
        seed: seed_of(recipe, &step.name),
    })
}

/// Variables by name, as the optimiser takes them.
fn owned(student: &Student, depth: usize) -> Vec<(String, Var)> {
    student.variables(depth).map(|(name, var)| (name.clone(), var.clone())).collect()
}

/// A live line for work of known size: what is done and the time left.
fn progress<'a>(
    name: &'a str,
    what: &'a str,
    say: &'a mut dyn FnMut(String),
) -> impl FnMut(usize, usize) + 'a {
    let started = Instant::now();
    move |done, all| {
        let left = started.elapsed().mul_f64(all.saturating_sub(done) as f64 / done.max(1) as f64);
        let memory = memory_bytes().map_or_else(String::new, |bytes| format!(", {} MiB", bytes >> 20));
        say(format!("\r{name}: {done}/{all} {what}{memory}, {} left", minutes(left)));
    }
}

fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 { format!("{seconds} s") } else { format!("{} min {} s", seconds / 60, seconds % 60) }
}
