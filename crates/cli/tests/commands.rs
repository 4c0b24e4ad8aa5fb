//! The binary as a user runs it: what it prints, where, and its exit codes.

use shirube_testkit::{RandomShape, random_model};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Folder(PathBuf);

impl Folder {
    /// An empty folder with a model of random weights in `model/` and twenty sections in `sections.jsonl`.
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("shirube-cli-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        let (manifest, files) = random_model(1, &RandomShape::default()).quantized().files();
        shirube_format::model::folder::write(&path.join("model"), manifest, &files).unwrap();
        let lines: String = (0..20)
            .map(|i| {
                format!("{{\"id\":\"s{i}\",\"title\":\"題{i}\",\"text\":\"これは{i}番目の本文です。\",\"url\":\"p{i}\"}}\n")
            })
            .collect();
        std::fs::write(path.join("sections.jsonl"), lines).unwrap();
        Self(path)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_shirube")).args(arguments).current_dir(&self.0).output().unwrap()
    }

    fn build(&self) -> Output {
        self.run(&["build", "sections.jsonl", "--model", "model", "--out", "bundle"])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn first_file(folder: &Path) -> PathBuf {
    std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn build_search_and_inspect_agree_on_the_bundle() {
    let folder = Folder::new("whole");
    let built = folder.build();
    assert!(built.status.success(), "{}", text(&built.stderr));
    assert!(text(&built.stdout).starts_with("bundle: 20 sections of "), "{}", text(&built.stdout));

    let found = folder.run(&["search", "bundle", "3番目の本文", "--model", "model", "-k", "4"]);
    assert!(found.status.success(), "{}", text(&found.stderr));
    let lines = text(&found.stdout);
    let ranks =
        lines.lines().filter_map(|l| l.trim_start().split_once(". ")?.0.parse().ok()).collect::<Vec<u32>>();
    assert_eq!(ranks, [1, 2, 3, 4], "{lines}");
    assert!(lines.contains("20 sections in "), "{lines}");

    let json = folder.run(&["search", "bundle", "3番目の本文", "--model", "model", "-k", "4", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["hits"].as_array().unwrap().len(), 4);
    assert_eq!(json["nScored"], 20);

    let entry = folder.run(&["inspect", "bundle", "--json"]);
    let entry: serde_json::Value = serde_json::from_slice(&entry.stdout).unwrap();
    assert_eq!(entry["counts"]["documents"], 20);
    assert!(text(&folder.run(&["inspect", "bundle"]).stdout).contains("sections    20 of "));
}

#[test]
fn a_model_beside_the_bundle_is_found_without_a_flag() {
    let folder = Folder::new("beside");
    std::fs::create_dir(folder.path("bundle")).unwrap();
    std::fs::rename(folder.path("model"), folder.path("bundle/model")).unwrap();
    let built =
        folder.run(&["build", "sections.jsonl", "--out", "bundle", "--quiet", "--pool", "1", "--limit", "5"]);
    assert!(built.status.success(), "{}", text(&built.stderr));
    assert!(built.stderr.is_empty(), "{}", text(&built.stderr));
    assert!(folder.run(&["search", "bundle", "本文"]).status.success());
}

#[test]
fn errors_go_to_standard_error_with_a_cause_and_exit_code_1() {
    let folder = Folder::new("errors");
    assert!(folder.build().status.success());
    let codes = first_file(&folder.path("bundle/codes"));
    // What to break first, what to run, and the words that its message holds.
    type Case<'a> = (&'a dyn Fn(), &'a [&'a str], &'a [&'a str]);
    let cases: [Case<'_>; 7] = [
        (
            &|| {},
            &["search", "nowhere", "x", "--model", "model"],
            &["nowhere", "not a bundle", "shirube build"],
        ),
        (&|| {}, &["search", "bundle", "x"], &["--model DIR"]),
        (&|| {}, &["search", "bundle", "x", "--model", "bundle"], &["not a model folder"]),
        (&|| {}, &["search", "bundle", " ", "--model", "model"], &["the query is empty"]),
        (&|| {}, &["build", "nothing.jsonl", "--model", "model", "--out", "bundle"], &["nothing.jsonl"]),
        (
            &|| std::fs::write(folder.path("bad.jsonl"), "{\"id\":\"a\",\"text\":\"x\"}\n{\"id\":").unwrap(),
            &["build", "bad.jsonl", "--model", "model", "--out", "bundle"],
            &["bad.jsonl:2: "],
        ),
        (
            &|| std::fs::write(&codes, &std::fs::read(&codes).unwrap()[1..]).unwrap(),
            &["inspect", "bundle"],
            &["the bundle in bundle cannot be read", "codes/", "because"],
        ),
    ];
    for (prepare, arguments, words) in cases {
        prepare();
        let output = folder.run(arguments);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
        assert!(message.starts_with("error: "), "{message}");
        for word in words {
            assert!(message.contains(word), "{arguments:?}: {word} not in {message}");
        }
    }
    assert_eq!(folder.run(&["build", "--pool", "9"]).status.code(), Some(2));
}
