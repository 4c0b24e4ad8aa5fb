//! Processes that build at once, and processes that are killed.

use shirube_testkit::{RandomShape, random_model};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (manifest, files) = random_model(1, &RandomShape::default()).quantized().files();
        shirube_format::model::folder::write(&folder.path().join("model"), manifest, &files).unwrap();
        Self(folder)
    }

    /// Sections that all speak of `word`, in `{word}.jsonl`.
    fn sections(&self, word: &str, n: usize) {
        let lines: String = (0..n)
            .map(|i| format!("{{\"id\":\"{word}{i}\",\"title\":\"{word}\",\"text\":\"{word}の{i}番目の本文です。\",\"url\":\"p{i}\"}}\n"))
            .collect();
        std::fs::write(self.0.path().join(format!("{word}.jsonl")), lines).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shirube"));
        command.args(arguments).current_dir(self.0.path()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stderr(Stdio::null()).spawn().unwrap()
    }
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let (entry, mut files) = shirube_format::bundle::folder::read(folder).unwrap();
    files.push(("shirube.json".to_owned(), entry.to_bytes()));
    files.sort();
    files
}

#[test]
fn two_processes_build_halves_that_merge_to_the_whole() {
    let folder = Folder::new();
    folder.sections("所有権", 30);
    let build = ["build", "所有権.jsonl", "--model", "model", "--quiet", "--name", "s", "--out"];
    let with = |more: &[&'static str]| [&build[..], more].concat();
    folder.run(&with(&["base", "--limit", "9"]));
    let over = ["--centroids-from", "base"];
    let mut halves = [
        folder.start(&[&with(&["one", "--shard", "1/2"])[..], &over[..]].concat()),
        folder.start(&[&with(&["two", "--shard", "2/2"])[..], &over[..]].concat()),
    ];
    assert!(halves.iter_mut().all(|half| half.wait().unwrap().success()));
    folder.run(&["merge", "one", "two", "--out", "merged"]);
    folder.run(&[&with(&["whole"])[..], &over[..]].concat());
    assert_eq!(files(&folder.0.path().join("merged")), files(&folder.0.path().join("whole")));

    // A cap on memory changes nothing, and leaves nothing behind.
    folder.run(&with(&["plain"]));
    folder.run(&with(&["capped", "--memory", "0"]));
    assert_eq!(files(&folder.0.path().join("capped")), files(&folder.0.path().join("plain")));
    let left = std::fs::read_dir(folder.0.path()).unwrap().map(|item| item.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with('.')));

    folder.run(&["remove", "merged", "--id", "所有権3"]);
    let (entry, _) = shirube_format::bundle::folder::read(&folder.0.path().join("merged")).unwrap();
    assert_eq!(entry.counts.documents, 29);
    for wrong in [&["--shard", "3/2"][..], &["--shard", "1"], &["--shard", "1/2"]] {
        let status = folder.command(&with(&[&["x"], wrong].concat())).status().unwrap();
        assert_eq!(status.code(), Some(2), "{wrong:?}");
    }
}

/// Killed so often here, in each of two ways to build; `SHIRUBE_KILLS` sets another number, and crates/xtask/scripts/kill-builds.mjs asks for 200 in all.
const KILLS: usize = 8;

fn kills() -> usize {
    std::env::var("SHIRUBE_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS)
}

/// Builds `bundle` from one and the other of two sources in turns, with `more` arguments, and kills each build somewhere: what is found is the bundle of
/// the one before or of this one, every time.
fn kill_builds(folder: &Folder, sources: [&str; 2], more: &[&str]) {
    let bundle = folder.0.path().join("bundle");
    let arguments = sources.map(|source| {
        let build = ["build", source, "--model", "model", "--quiet", "--name", "s", "--out", "bundle"];
        [&build[..], more].concat()
    });
    let mut slowest = Duration::ZERO;
    // The first turn may find anything or nothing there.
    let [_, wholes] = [(); 2].map(|()| {
        [0, 1].map(|next: usize| {
            let start = std::time::Instant::now();
            folder.run(&arguments[next]);
            slowest = slowest.max(start.elapsed());
            files(&bundle)
        })
    });
    assert!(wholes[0] != wholes[1]);
    let mut current = 1;
    for i in 0..kills() {
        let next = 1 - current;
        let mut child = folder.start(&arguments[next]);
        // Spread over the whole run, from before the first byte to after the last.
        let share = (i as f64 * 0.618_034).fract() * 1.1;
        std::thread::sleep(slowest.mul_f64(share));
        let _ = child.kill();
        let _ = child.wait();
        let found = files(&bundle);
        if found == wholes[next] {
            current = next;
        } else {
            assert!(found == wholes[current], "kill {i}: neither the old bundle nor the new one");
        }
    }
    // A build that is left alone mends whatever the killed ones left, and its result is the one that is found.
    let next = 1 - current;
    folder.run(&arguments[next]);
    assert!(files(&bundle) == wholes[next]);
    let left: Vec<_> = ["", "codes", "ivf", "lexical", "sections"]
        .iter()
        .filter_map(|sub| std::fs::read_dir(bundle.join(sub)).ok())
        .flatten()
        .map(|item| item.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    assert_eq!(left.len(), wholes[next].len(), "no file of another build is left: {left:?}");
}

#[test]
fn a_build_killed_anywhere_leaves_the_old_bundle_or_the_new_one_and_never_a_broken_one() {
    let folder = Folder::new();
    folder.sections("所有権", 60);
    folder.sections("再描画", 60);
    kill_builds(&folder, ["所有権.jsonl", "再描画.jsonl"], &["--fresh"]);
}

#[test]
fn an_update_killed_anywhere_leaves_the_old_bundle_or_the_new_one_and_never_a_broken_one() {
    let folder = Folder::new();
    folder.sections("所有権", 60);
    // A few sections changed, one gone, one new.
    let path = |name: &str| folder.0.path().join(name);
    let lines = std::fs::read_to_string(path("所有権.jsonl")).unwrap();
    let changed = lines.replace("7番目の本文", "7番目の書き直した本文");
    let (_, rest) = changed.split_once('\n').unwrap();
    let new = "{\"id\":\"新\",\"title\":\"新しい節\",\"text\":\"新しい本文です。\",\"url\":\"n\"}\n";
    std::fs::write(path("更新.jsonl"), format!("{rest}{new}")).unwrap();
    kill_builds(&folder, ["所有権.jsonl", "更新.jsonl"], &[]);
}
