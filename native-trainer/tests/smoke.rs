//! The smoke recipe, every stage, and a run that is stopped and resumed.

use candle_core::Device;
use shirube_index::IndexOptions;
use shirube_train::data::Lists;
use shirube_train::export::{Dtype, Target};
use shirube_train::pipeline::{self, EvalOptions, Machine, Only, TrainedStep};
use shirube_train::recipe::{Recipe, Step};
use shirube_train::student::Student;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The smoke recipe.
fn whole() -> Recipe {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut recipe = Recipe::read(&root.join("native-trainer/recipes/smoke.toml")).expect("the smoke recipe");
    recipe.data = root.join(&recipe.data);
    recipe
}

/// The smoke recipe without its first two steps, on the tokenizer of the default model.
fn recipe() -> Recipe {
    let mut recipe = whole();
    recipe.step.drain(..2);
    recipe.tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pkg/model");
    recipe
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).expect("an old run removed");
    }
    folder
}

fn run(recipe: &Recipe, out: &Path, stop: &AtomicBool) -> Vec<String> {
    let mut lines = Vec::new();
    pipeline::run(recipe, out, Machine::alone(1, stop), &mut |line| lines.push(line)).expect("the run");
    lines
}

#[test]
fn the_smoke_recipe_runs_every_stage_and_skips_what_is_done() {
    let (recipe, out) = (whole(), folder("smoke"));
    let lines = run(&recipe, &out, &AtomicBool::new(false));
    for step in recipe.steps() {
        let folder = out.join(step.name());
        assert!(folder.join("done.json").is_file(), "{}: {lines:#?}", step.name());
        assert_eq!(
            folder.join("model.safetensors").is_file(),
            step.makes_student() || step.trains(),
            "{}",
            step.name()
        );
    }
    let scored = Lists::read(&out.join("score")).expect("scored lists");
    assert!(scored.lists.len() > 50 && scored.lists.iter().all(|l| l.scores.len() == 4));
    // No list may hold a second passage that answers its question.
    assert!(scored.lists.iter().all(|l| l.labels == [1.0, 0.0, 0.0, 0.0]));
    let merge: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("merge/merge.json")).expect("a report"))
            .expect("json");
    let (best, soup) = (merge["best_part"].as_f64(), merge["soup"].as_f64());
    assert!(soup >= best && best.is_some_and(|b| b > 0.0), "{merge}");

    let again = run(&recipe, &out, &AtomicBool::new(false));
    assert!(again.iter().all(|line| line.contains("skipped")), "{again:#?}");
    assert_eq!(again.len(), recipe.steps().len());

    let (exported, _) =
        shirube_format::model::folder::read(&out.join("export/model")).expect("a model folder");
    assert_eq!((exported.license.as_str(), exported.encoder.vocab_size), ("CC0-1.0", 1100));
    assert!(exported.provenance.data.contains(&"scores.parquet".to_owned()), "{:?}", exported.provenance);
    let shipped = std::fs::read_to_string(out.join("shipped/eval.json")).expect("a report");
    assert!(shipped.contains("pool 1 fused") && shipped.contains("int8 maxsim"));

    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/smoke.toml");
    let bytes =
        [(Dtype::Int8, "int8", "model"), (Dtype::Int4, "int4", "model-int4")].map(|(dtype, name, to)| {
            let to = out.join(to);
            let report = pipeline::export(&recipe, &source, &out, None, &to, (Target::Shirube, Some(dtype)))
                .expect("an exported model");
            assert!(report.contains(&format!("{name} against f32")), "{report}");
            let (manifest, files) = shirube_format::model::folder::read(&to).expect("a model folder");
            assert!(manifest.provenance.metrics[&format!("{name}_cosine_document")] > 0.9, "{report}");
            files.iter().filter(|(path, _)| path.starts_with("weights")).map(|(_, b)| b.len()).sum::<usize>()
        });
    assert!(bytes[1] * 3 < bytes[0] * 2, "{bytes:?}");

    other_axes_change_no_score(&recipe, &source, &out);
    what_is_exported_is_what_eval_measures(&recipe, &source, &out);
    the_report_shows_curves_metrics_ingredients_and_the_card(&recipe, &out);
}

fn the_report_shows_curves_metrics_ingredients_and_the_card(recipe: &Recipe, out: &Path) {
    let page = shirube_train::report::report(&[out.to_owned(), out.to_owned()], None).expect("a page");
    let steps = recipe.steps();
    for step in &steps {
        assert!(page.contains(&format!("<h3>{} <small>{}<", step.name(), step.kind())), "{}", step.name());
    }
    // The page shows the run twice.
    let n_curves = 2 * steps.iter().filter(|s| s.trains()).count();
    assert_eq!(page.matches("aria-label=\"loss by step\"").count(), n_curves);
    for part in ["<caption>dev: ", "greedy soup", "Ablations", "+0.0000 to +0.0000", "int8_cosine_query"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(
        !page.contains("http://") && !page.contains("https://") && !page.contains("<script"),
        "outside resources"
    );
    assert!(shirube_train::report::report(&[out.join("merge")], None).is_err());
}

fn other_axes_change_no_score(recipe: &Recipe, recipe_path: &Path, out: &Path) {
    let weight = |step: &str| {
        let path = out.join(step).join("model.safetensors");
        let weights = candle_core::safetensors::load(&path, &Device::Cpu).expect("weights");
        weights["dense.0.weight"].flatten_all().and_then(|w| w.to_vec1::<f32>()).expect("f32")
    };
    assert_ne!(weight("merge"), weight("rotate"));
    let maxsim = |step| {
        let trained = Some(TrainedStep { recipe, recipe_path, out, step: Some(step) });
        let report =
            pipeline::eval(&EvalOptions { trained, ..EvalOptions::default() }).expect("a report").remove(0);
        report.method("maxsim").expect("MaxSim").queries.clone()
    };
    assert_eq!(maxsim("merge"), maxsim("rotate"));
}

fn what_is_exported_is_what_eval_measures(recipe: &Recipe, recipe_path: &Path, out: &Path) {
    let index = |pool_factor| IndexOptions { pool_factor, ..IndexOptions::default() };
    let trained = EvalOptions {
        trained: Some(TrainedStep { recipe, recipe_path, out, step: None }),
        shipped: true,
        indexes: vec![index(1), index(2)],
        ..EvalOptions::default()
    };
    let of_step = pipeline::eval(&trained).expect("a report on the step").remove(0);
    let rows =
        ["maxsim", "fused", "int8 maxsim", "bm25-grams", "pool 1 maxsim", "pool 1 fused", "pool 2 fused"];
    for name in rows {
        let method = of_step.method(name).unwrap_or_else(|| panic!("{name}: {}", of_step.table()));
        assert!(method.queries.len() == 74 && method.mean.recall[4] > 0.5, "{name}: {}", of_step.table());
    }
    assert!(of_step.bundles[1].tokens < of_step.bundles[0].tokens, "{:?}", of_step.bundles);

    let model = out.join("model");
    let exported = EvalOptions {
        model: Some(&model),
        indexes: vec![index(2)],
        sets: vec![recipe.data.join("dev")],
        ..EvalOptions::default()
    };
    let of_model = pipeline::eval(&exported).expect("a report on the model").remove(0);
    for method in &of_model.methods {
        assert_eq!(
            Some(&method.queries),
            of_step.method(&method.method).map(|m| &m.queries),
            "{}",
            method.method
        );
    }
    let same = of_model.against(&of_step).expect("one set");
    assert!(same.lines().count() == 6 && same.matches("R@1 +0.0000").count() == 5, "{same}");
    assert!(pipeline::eval(&EvalOptions::default()).is_err());
}

#[test]
fn a_run_stopped_half_way_and_resumed_gives_the_same_bits() {
    let mut recipe = recipe();
    recipe.eval.clear();
    recipe.step.truncate(2);
    // The loop looks at the flag after each step; reports come every 20 steps, so that of 30 steps 20 are done when it is raised.
    let (whole, halves) = (folder("whole"), folder("halves"));
    run(&recipe, &whole, &AtomicBool::new(false));
    let stop = AtomicBool::new(false);
    pipeline::run(&recipe, &halves, Machine::alone(1, &stop), &mut |line| {
        if line.starts_with("\rcontext: step 20/") {
            stop.store(true, Ordering::Relaxed);
        }
    })
    .expect("the first half");
    assert!(!halves.join("context/done.json").exists(), "the run was not stopped");
    stop.store(false, Ordering::Relaxed);
    run(&recipe, &halves, &stop);
    for step in ["pretrain", "context"] {
        for file in ["model.safetensors", "state.safetensors"] {
            let read = |out: &Path| {
                candle_core::safetensors::load(out.join(step).join(file), &candle_core::Device::Cpu)
                    .expect(file)
            };
            let (a, b) = (read(&whole), read(&halves));
            assert_eq!(a.len(), b.len());
            for (name, tensor) in &a {
                let bits = |t: &candle_core::Tensor| -> Vec<u32> {
                    t.flatten_all()
                        .and_then(|t| t.to_vec1::<f32>())
                        .expect("values")
                        .into_iter()
                        .map(f32::to_bits)
                        .collect()
                };
                assert_eq!(bits(tensor), bits(&b[name]), "{step}/{file}: {name}");
            }
        }
    }
}

/// A checkpoint as Hugging Face has it: a random BERT of the recipe's shape with some rows more than the tokenizer has tokens.
fn write_bert(recipe: &Recipe, folder: &Path) {
    let vocab_size = pipeline::read_tokenizer(recipe).expect("the tokenizer").vocab_size() + 8;
    let encoder = recipe.model.encoder(vocab_size);
    let random =
        Student::random(encoder.clone(), recipe.model.projection(), 5, &Device::Cpu).expect("a student");
    let weights = random
        .variables(encoder.n_layers)
        .filter(|(name, _)| name.starts_with("e"))
        .map(|(name, var)| (format!("bert.{name}"), var.as_tensor().clone()))
        .collect();
    std::fs::create_dir_all(folder).expect("a folder");
    Student::save(&weights, &folder.join("model.safetensors")).expect("weights");
    let config = serde_json::json!({
        "model_type": "bert", "vocab_size": vocab_size, "hidden_size": encoder.hidden_size,
        "num_hidden_layers": encoder.n_layers, "num_attention_heads": encoder.n_heads,
        "intermediate_size": encoder.intermediate_size, "max_position_embeddings": encoder.max_positions,
        "type_vocab_size": encoder.type_vocab_size, "layer_norm_eps": encoder.norm_eps, "hidden_act": "gelu",
    });
    std::fs::write(folder.join("config.json"), config.to_string()).expect("a configuration");
}

#[test]
fn a_bert_is_read_from_a_folder_trained_and_exported() {
    let (mut recipe, out) = (recipe(), folder("bert"));
    recipe.model.architecture = shirube_core::Architecture::Bert;
    recipe.model.max_positions = Some(128);
    let start = folder("bert-start");
    write_bert(&recipe, &start);
    recipe.model.init = Some(start);
    recipe.step = vec![recipe.step[1].clone()];
    if let Step::Train(step) = &mut recipe.step[0] {
        step.steps = 3;
    }
    run(&recipe, &out, &AtomicBool::new(false));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/smoke.toml");
    let model = out.join("model");
    let report = pipeline::export(&recipe, &source, &out, None, &model, (Target::Shirube, None))
        .expect("an exported model");
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(model.join("manifest.json")).expect("a manifest"))
            .expect("json");
    assert_eq!(manifest["encoder"]["architecture"], "bert");
    assert_eq!(manifest["query"]["expansion"]["rule"], "dynamic_paper");
    for role in ["query", "document"] {
        let cosine = manifest["provenance"]["metrics"][format!("int8_cosine_{role}")].as_f64();
        assert!(cosine > Some(0.99), "{report}");
    }

    recipe.model.n_heads = 4;
    let never = AtomicBool::new(false);
    let refused = pipeline::run(&recipe, &folder("bert-refused"), Machine::alone(1, &never), &mut |_| ());
    let message = format!("{:#}", refused.expect_err("another shape"));
    assert!(message.contains("n_heads = 2") && message.contains("bert-start"), "{message}");
}

#[test]
fn a_step_starts_over_when_its_data_has_changed_and_wrong_paths_are_found_before_anything_is_trained() {
    let (mut recipe, out, data) = (recipe(), folder("data-changes"), folder("data-of-changes"));
    recipe.eval.clear();
    recipe.step.truncate(2);
    std::fs::create_dir_all(data.join("pairs")).expect("a folder");
    for name in ["sections.jsonl", "pairs/pairs.tsv"] {
        std::fs::copy(recipe.data.join(name), data.join(name)).expect("a copy");
    }
    recipe.data = data.clone();
    let never = AtomicBool::new(false);
    let refused = pipeline::run(&recipe, &out, Machine::alone(1, &never), &mut |_| ());
    let message = format!("{:#}", refused.expect_err("no folder train"));
    assert!(message.contains("step context") && message.contains("queries.jsonl"), "{message}");
    assert!(!out.join("pretrain").exists());

    recipe.step.truncate(1);
    let sections = data.join("sections.jsonl");
    let text = std::fs::read_to_string(&sections).expect("sections");
    assert!(!run(&recipe, &out, &never).iter().any(|line| line.contains("skipped")));
    std::fs::write(&sections, &text).expect("the same again");
    assert!(run(&recipe, &out, &never).iter().all(|line| line.contains("skipped")));
    let first = std::fs::read(out.join("pretrain/model.safetensors")).expect("weights");
    std::fs::write(&sections, text.replace('の', "は")).expect("other text");
    let lines = run(&recipe, &out, &never);
    let again = lines.iter().any(|l| l.contains("sections.jsonl has changed, the step starts over"));
    assert!(again, "{lines:#?}");
    let second = std::fs::read(out.join("pretrain/model.safetensors")).expect("weights");
    assert!(first != second, "trained on the same text");
    std::fs::remove_file(&sections).expect("removed");
    assert!(run(&recipe, &out, &never).iter().all(|line| line.contains("skipped")));
}

#[test]
fn one_stage_runs_alone_where_what_it_reads_is_there() {
    let (mut recipe, out, never) = (recipe(), folder("alone"), AtomicBool::new(false));
    recipe.eval.clear();
    let alone = |only| {
        let mut lines = Vec::new();
        let machine = Machine { only, ..Machine::alone(1, &never) };
        pipeline::run(&recipe, &out, machine, &mut |line| lines.push(line)).map(|_| lines.join("\n"))
    };
    let message = format!("{:#}", alone(Only::Kind("mine")).expect_err("no student yet"));
    assert!(message.contains("context") && message.contains("run the recipe first"), "{message}");
    alone(Only::Kind("pretrain")).expect("pretraining");
    assert!(out.join("pretrain/done.json").is_file() && !out.join("context").exists());
    alone(Only::Name("context")).expect("one step");
    let lines = alone(Only::Kind("mine")).expect("mining");
    assert!(lines.contains("mine: "), "{lines}");
    let message = format!("{:#}", alone(Only::Name("static")).expect_err("no such step"));
    assert!(message.contains("no step \"static\"") && message.contains("context (train)"), "{message}");
}

#[test]
fn recipes_that_cannot_run_are_refused_with_the_step_at_fault() {
    let refused = |change: &dyn Fn(&mut Recipe)| {
        let mut recipe = recipe();
        change(&mut recipe);
        recipe.check().expect_err("refused").to_string()
    };
    assert!(refused(&|r| r.step.clear()).contains("either [[train]]"));
    assert!(refused(&|r| r.step.swap(2, 4)).contains("comes later"));
    assert!(refused(&|r| r.step.push(r.step[0].clone())).contains("both called pretrain"));
    let message = refused(&|r| {
        if let Step::Train(t) = &mut r.step[1] {
            t.lists = Some("lists.jsonl".to_owned());
        }
    });
    assert!(message.contains("step context") && message.contains("lists"), "{message}");
    let message = refused(&|r| {
        if let Step::Train(t) = &mut r.step[1] {
            t.accumulate = 0;
        }
    });
    assert!(message.contains("step context") && message.contains("accumulate"), "{message}");
    assert!(refused(&|r| r.model.document_length = 2000).contains("1024 positions"));
}

#[test]
fn the_template_and_the_default_recipe_are_recipes() {
    for name in ["template", "default"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("recipes/{name}.toml"));
        assert!(!Recipe::read(&path).expect(name).steps().is_empty());
    }
}

#[test]
fn the_data_check_counts_and_finds_an_evaluation_set_that_is_trained_on() {
    let mut recipe = recipe();
    let clean = shirube_train::check::check(&recipe).expect("a report");
    assert!(clean.contains("train: 140 questions"), "{clean}");
    for part in ["import: 60 lists of 6 to 6", "import: 60 queries", "pairs: ", " keyword queries"] {
        assert!(clean.contains(part), "{part} in {clean}");
    }
    assert!(clean.contains("dev: 0 passages share") && clean.contains("; 0 of 74 questions"), "{clean}");
    recipe.eval = vec!["train".to_owned()];
    let leaking = shirube_train::check::check(&recipe).expect("a report");
    assert!(leaking.contains("train: 57 passages share") && leaking.contains("140 of 140"), "{leaking}");
}

#[test]
fn a_plan_names_every_step_and_its_tokens() {
    let plan = shirube_train::plan::plan(&recipe(), &folder("plan"), 2).expect("a plan");
    for step in recipe().steps() {
        assert!(plan.contains(&format!("  {} (", step.name())), "{plan}");
    }
    assert!(plan.contains("30 steps of 1600 tokens"), "{plan}");
}
