//! The binary as its users meet it: a first recipe, Ctrl+C, bad rows, merges that make no sense.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).expect("an old run removed");
    }
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shirube-train"));
    command.args(args).current_dir(root());
    command
}

fn run(args: &[&str]) -> Output {
    command(args).output().expect("the binary starts")
}

fn error(output: &Output) -> String {
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// One step of masked-language training on `sections`.
fn recipe(folder: &Path, sections: &Path, steps: usize) -> PathBuf {
    let path = folder.join("recipe.toml");
    let text = format!(
        r#"
name = "cli"
seed = 1
tokenizer = "pkg/model"
data = "."
[model]
hidden_size = 16
n_layers = 1
n_heads = 2
intermediate_size = 24
dim = 8
global_attention_every = 1
local_window = 32
query_length = 32
document_length = 96
query_weight = true
[[step]]
kind = "pretrain"
name = "pretrain"
depth = 1
steps = {steps}
batch_tokens = 200
length = 64
learning_rate = 1e-3
warmup = 2
files = [{:?}]
"#,
        text(sections)
    );
    std::fs::write(&path, text).expect("a recipe");
    path
}

fn sample() -> PathBuf {
    root().join("native-trainer/tests/sample/sections.jsonl")
}

#[test]
fn init_writes_a_recipe_once() {
    let path = folder("cli-init").join("recipe.toml");
    let first = run(&["init", text(&path)]);
    assert!(first.status.success() && String::from_utf8_lossy(&first.stdout).contains("data check"));
    shirube_train::recipe::Recipe::read(&path).expect("a recipe that can be read");
    assert!(error(&run(&["init", text(&path)])).contains("recipe.toml"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_the_command_it_prints_goes_on() {
    let folder = folder("cli-interrupt");
    let (path, out) = (recipe(&folder, &sample(), 400), folder.join("run"));
    let args = ["run", text(&path), "--out", text(&out), "--workers", "1"];
    let mut child = command(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    lines.find(|line| line.as_ref().is_ok_and(|l| l.contains("step 20/400"))).expect("a line").expect("text");
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(sent.success());
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert!(child.wait().expect("it ends").success(), "{rest:#?}");
    assert!(rest.iter().any(|l| l.contains("stopped, state saved in")), "{rest:#?}");
    let again = rest.iter().find_map(|l| l.strip_prefix("to go on: ")).expect("the command that goes on");
    assert!(again.ends_with(&args.join(" ")), "{again}");

    let last = run(&args);
    let said = String::from_utf8_lossy(&last.stdout).into_owned();
    assert!(last.status.success(), "{}", String::from_utf8_lossy(&last.stderr));
    assert!(!said.contains("step 20/400") && said.contains("step 400/400"), "{said}");
    assert!(out.join("pretrain/done.json").is_file());
}

#[test]
fn a_bad_row_is_named_with_file_and_line_and_the_run_goes_on_once_it_is_mended() {
    let folder = folder("cli-bad-row");
    let sections = folder.join("sections.jsonl");
    let good = std::fs::read_to_string(sample()).expect("the sample");
    let bad = good.replacen("\"text\":", "\"txt\":", 1);
    std::fs::write(&sections, &bad).expect("written");
    let (path, out) = (recipe(&folder, &sections, 3), folder.join("run"));
    let args = ["run", text(&path), "--out", text(&out), "--workers", "1"];
    let message = error(&run(&args));
    for part in ["step pretrain", "sections.jsonl, line 1", "missing field `text`", "mend or remove the row"]
    {
        assert!(message.contains(part), "{part} in {message}");
    }
    std::fs::write(&sections, &good).expect("mended");
    assert!(run(&args).status.success());
}

#[test]
fn weights_of_other_tokenizers_are_not_merged() {
    let folder = folder("cli-merge");
    let (path, out) = (recipe(&folder, &sample(), 2), folder.join("run"));
    assert!(run(&["run", text(&path), "--out", text(&out), "--workers", "1"]).status.success());
    let (one, two) = (out.join("pretrain"), folder.join("other"));
    std::fs::create_dir_all(&two).expect("a folder");
    std::fs::copy(one.join("model.safetensors"), two.join("model.safetensors")).expect("a copy");
    let config = std::fs::read_to_string(one.join("config.json")).expect("a configuration");
    let value: serde_json::Value = serde_json::from_str(&config).expect("json");
    let hash = value["tokenizer"].as_str().expect("a hash");
    std::fs::write(two.join("config.json"), config.replace(hash, &"0".repeat(64))).expect("written");
    let to = folder.join("merged");
    let message = error(&run(&["merge", text(&one), text(&two), "--to", text(&to)]));
    assert!(message.contains("different tokenizers") && message.contains(hash), "{message}");
    assert!(!to.exists());
    assert!(run(&["merge", text(&one), text(&one), "--weights", "2,1", "--to", text(&to)]).status.success());
    assert!(to.join("model.safetensors").is_file());
}
