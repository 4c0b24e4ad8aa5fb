//! The binary as a user runs it: what it prints, where, and its exit codes.

use shirube_testkit::{RandomShape, random_model};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    /// An empty folder with a model of random weights in `model/` and twenty sections in `sections.jsonl`.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (manifest, files) = random_model(1, &RandomShape::default()).quantized().files();
        shirube_format::model::folder::write(&folder.path().join("model"), manifest, &files).unwrap();
        let lines: String = (0..20)
            .map(|i| {
                format!("{{\"id\":\"s{i}\",\"title\":\"題{i}\",\"text\":\"これは{i}番目の本文です。\",\"url\":\"p{i}\"}}\n")
            })
            .collect();
        std::fs::write(folder.path().join("sections.jsonl"), lines).unwrap();
        Self(folder)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_shirube"))
            .args(arguments)
            .current_dir(self.0.path())
            .output()
            .unwrap()
    }

    fn build(&self) -> Output {
        self.run(&["build", "sections.jsonl", "--model", "model", "--out", "bundle"])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
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
    let folder = Folder::new();
    let built = folder.build();
    assert!(built.status.success(), "{}", text(&built.stderr));
    assert!(
        text(&built.stdout).starts_with("sections.jsonl: 1 pages, 20 sections\nbundle: "),
        "{}",
        text(&built.stdout)
    );

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

    let explained = folder.run(&["inspect", "bundle", "3番目の本文", "--model", "model", "-k", "2"]);
    assert!(explained.status.success(), "{}", text(&explained.stderr));
    let lines = text(&explained.stdout);
    assert_eq!(lines.matches("meaning (MaxSim)").count(), 2, "{lines}");
    assert!(lines.contains("本文 ~ ") || lines.contains("本 ~ "), "{lines}");
    assert!(lines.contains("the query's marker"), "{lines}");
}

#[test]
fn a_model_beside_the_bundle_is_found_without_a_flag() {
    let folder = Folder::new();
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
    let folder = Folder::new();
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

/// A small site: an index, a guide with two sections, a redirect, a page that hides.
fn site(folder: &Folder) {
    let pages = [
        (
            "site/index.html",
            "<html lang=ja><title>店</title><main><h1>ようこそ</h1><p>ここは入り口です。</p></main>",
        ),
        (
            "site/guide/a.html",
            "<html lang=ja><main><h1>手引き</h1><p>前置き。</p><h2 id=use>使い方</h2><p>これは使い方の説明です。</p></main>",
        ),
        ("site/old.html", "<meta http-equiv=refresh content='0;url=/guide/a.html'>"),
        ("site/hidden.html", "<meta name=robots content=noindex><p>見えない頁です。"),
        ("site/en.html", "<html lang=en><main><p>English text</p></main>"),
    ];
    for (path, html) in pages {
        let path = folder.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, html).unwrap();
    }
}

#[test]
fn a_folder_of_html_becomes_a_bundle_inside_it_with_reasons_for_what_is_left_out() {
    let folder = Folder::new();
    site(&folder);
    let built = folder.run(&["build", "site", "--model", "model", "--language", "ja", "--quiet"]);
    assert!(built.status.success(), "{}", text(&built.stderr));
    let said = text(&built.stdout);
    for words in [
        "site: 2 pages, 3 sections\n",
        "left out: 1 in another language (en.html)",
        "left out: 1 noindex (hidden.html)",
        "left out: 1 redirects (old.html)",
    ] {
        assert!(said.contains(words), "{words:?} not in {said}");
    }
    let json = folder.run(&["search", "site/shirube", "使い方", "--model", "model", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let mut urls: Vec<&str> =
        json["hits"].as_array().unwrap().iter().map(|h| h["section"]["url"].as_str().unwrap()).collect();
    urls.sort_unstable();
    assert_eq!(urls, ["/", "/guide/a.html", "/guide/a.html#use"]);
    // The bundle lies inside the folder and is not read as a part of it.
    let again = folder.run(&["build", "site", "--model", "model", "--language", "ja", "--quiet"]);
    assert!(text(&again.stdout).starts_with("site: 2 pages, 3 sections\n"));
}

#[test]
fn settings_come_from_flags_variables_and_the_file_in_that_order() {
    let folder = Folder::new();
    site(&folder);
    std::fs::write(
        folder.path("shirube.toml"),
        "source = 'site'\nmodel = 'model'\nbase = '/docs/'\nname = '名'\nexclude = ['en.html']\n",
    )
    .unwrap();
    let build = |arguments: &[&str], variables: &[(&str, &str)]| {
        let output = Command::new(env!("CARGO_BIN_EXE_shirube"))
            .args([&["build", "--quiet"], arguments].concat())
            .envs(variables.iter().copied())
            .current_dir(folder.0.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let entry = folder.run(&["inspect", "site/shirube", "--json"]);
        let entry: serde_json::Value = serde_json::from_slice(&entry.stdout).unwrap();
        (entry["name"].as_str().unwrap().to_owned(), entry["codec"]["pool_factor"].as_u64().unwrap())
    };
    assert_eq!(build(&[], &[]), ("名".to_owned(), 1));
    assert_eq!(build(&[], &[("SHIRUBE_NAME", "別"), ("SHIRUBE_POOL", "3")]), ("別".to_owned(), 3));
    assert_eq!(build(&["--pool", "1"], &[("SHIRUBE_POOL", "3")]), ("名".to_owned(), 1));
    std::fs::write(folder.path("shirube.toml"), "basis = '/'").unwrap();
    let wrong = folder.run(&["build", "site", "--model", "model"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stderr).contains("basis"), "{}", text(&wrong.stderr));
}

#[test]
fn a_dry_run_writes_nothing_and_an_empty_site_fails_with_reasons() {
    let folder = Folder::new();
    site(&folder);
    let dry = folder.run(&["build", "site", "--model", "model", "--dry-run", "--quiet"]);
    assert!(dry.status.success(), "{}", text(&dry.stderr));
    assert!(text(&dry.stdout).contains("nothing was written"));
    assert!(!folder.path("site/shirube").exists());
    let nothing = folder.run(&["build", "site", "--model", "model", "--include", "hidden.html", "--quiet"]);
    assert_eq!(nothing.status.code(), Some(1));
    let said = text(&nothing.stderr);
    assert!(
        said.contains("1 noindex (hidden.html)") && said.contains("nothing to search was found"),
        "{said}"
    );
    assert!(!folder.path("site/shirube").exists());
}

#[test]
fn mdbook_hands_over_a_book_and_finds_the_bundle_inside_its_html() {
    use std::io::Write as _;
    let folder = Folder::new();
    site(&folder);
    std::fs::create_dir_all(folder.path("book")).unwrap();
    std::fs::rename(folder.path("site"), folder.path("book/html")).unwrap();
    std::fs::write(folder.path("book/html/print.html"), "<main><p>すべての頁をもう一度。</p></main>")
        .unwrap();
    let context = serde_json::json!({
        "version": "0.5.4", "root": folder.0.path(), "destination": folder.path("book/shirube"), "chapters": [], "items": [],
        "config": {
            "book": {"title": "本", "language": "ja", "src": "src"},
            "output": {"html": {"site-url": "/book/"}, "shirube": {"command": "shirube mdbook", "model": "model", "languages": ["ja"]}},
        },
    });
    let run = |input: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_shirube"))
            .arg("mdbook")
            .current_dir(folder.0.path())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let built = run(&context.to_string());
    assert!(built.status.success(), "{}", text(&built.stderr));
    let json = folder.run(&["search", "book/html/shirube", "使い方", "--model", "model", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let mut urls: Vec<&str> =
        json["hits"].as_array().unwrap().iter().map(|h| h["section"]["url"].as_str().unwrap()).collect();
    urls.sort_unstable();
    assert_eq!(
        urls,
        ["/book/", "/book/guide/a.html", "/book/guide/a.html#use"],
        "print.html is no page of its own"
    );
    let wrong = run("");
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stderr).contains("command = \"shirube mdbook\""), "{}", text(&wrong.stderr));
}
