//! The papers on the door against the tree they describe.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn folders(path: &Path) -> BTreeSet<String> {
    std::fs::read_dir(path)
        .expect("the folder exists")
        .map(|item| item.expect("a readable folder"))
        .filter(|item| item.path().join("Cargo.toml").is_file())
        .map(|item| item.file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn the_map_of_the_crates_names_every_crate_and_no_other() {
    let map = std::fs::read_to_string(repository().join("crates/README.md"))
        .expect("crates/README.md is committed");
    let named: BTreeSet<String> = map
        .lines()
        .filter_map(|line| {
            line.split('|').nth(2)?.trim().strip_prefix('`')?.strip_suffix('`').map(str::to_owned)
        })
        .collect();
    assert_eq!(named, folders(&repository().join("crates")));
}

#[test]
fn dependencies_point_only_to_floors_above_in_the_map() {
    let map = std::fs::read_to_string(repository().join("crates/README.md"))
        .expect("crates/README.md is committed");
    let floors: Vec<(String, u32)> = map
        .lines()
        .filter_map(|line| {
            let mut cells = line.split('|').skip(1);
            let floor = cells.next()?.trim().parse().ok()?;
            Some((cells.next()?.trim().trim_matches('`').to_owned(), floor))
        })
        .collect();
    assert!(floors.len() >= 10, "the map lists {} crates with a floor", floors.len());
    for (name, floor) in &floors {
        let manifest = std::fs::read_to_string(repository().join("crates").join(name).join("Cargo.toml"))
            .expect("a manifest");
        let shipped = manifest.split("[dev-dependencies]").next().unwrap_or_default();
        for (other, other_floor) in &floors {
            let used = shipped.lines().any(|l| {
                l.starts_with(&format!("shirube-{other}.")) || l.starts_with(&format!("shirube-{other} "))
            });
            assert!(
                !used || other_floor <= floor,
                "{name} (floor {floor}) uses {other} (floor {other_floor})"
            );
        }
    }
}

#[test]
fn the_shipped_model_and_demo_stay_within_their_budget() {
    let files = |folder: &str| -> u64 {
        let mut sum = 0;
        let mut folders = vec![repository().join(folder)];
        while let Some(path) = folders.pop() {
            for item in std::fs::read_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())) {
                let item = item.expect("a readable folder");
                let kind = item.file_type().expect("a file type");
                if kind.is_dir() {
                    folders.push(item.path());
                } else {
                    sum += item.metadata().expect("metadata").len();
                }
            }
        }
        sum
    };
    let total = files("pkg/model") + files("www/bundle");
    assert!(
        total < 12 << 20,
        "default model, tokenizer and demo index are {total} bytes, the budget is 12 MiB"
    );
}
