//! A digest over everything a build reads, so that an unchanged build is skipped in milliseconds.

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The hexadecimal digest over `settings` and the names and contents of all files under `paths`.
pub(crate) fn of(root: &Path, paths: &[PathBuf], settings: &[String]) -> Result<String> {
    let mut files = BTreeSet::new();
    for path in paths {
        collect(path, &mut files)?;
    }
    let mut hash = Sha256::new();
    for setting in settings {
        part(&mut hash, setting.as_bytes());
    }
    for file in &files {
        part(&mut hash, file.strip_prefix(root).unwrap_or(file).to_string_lossy().as_bytes());
        part(&mut hash, &std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Length before content, so that no two lists of parts give the same bytes.
fn part(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

fn collect(path: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    if path.is_file() {
        files.insert(path.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))? {
        collect(&entry?.path(), files)?;
    }
    Ok(())
}

/// The folders of `package` and of every workspace package it depends on.
pub(crate) fn package_folders(root: &Path, package: &str) -> Result<Vec<PathBuf>> {
    let output = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("cargo metadata did not start")?;
    anyhow::ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata wrote no JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let mut waiting = vec![package.to_owned()];
    let mut seen = BTreeSet::new();
    let mut folders = Vec::new();
    while let Some(name) = waiting.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let Some(found) = packages.iter().find(|p| p["name"] == name.as_str()) else { continue };
        let manifest = found["manifest_path"].as_str().context("a package without a manifest path")?;
        let folder = Path::new(manifest).parent().context("a manifest without a folder")?;
        folders.push(folder.join("Cargo.toml"));
        folders.push(folder.join("src"));
        let dependencies = found["dependencies"].as_array().into_iter().flatten();
        waiting.extend(
            dependencies
                .filter(|d| d["path"].is_string() && d["kind"].is_null())
                .filter_map(|d| d["name"].as_str().map(str::to_owned)),
        );
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_changes_with_contents_names_and_settings_only() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path();
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        let stamp = |settings: &[&str]| {
            let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
            of(folder, &[folder.to_owned()], &settings).unwrap()
        };
        std::fs::create_dir_all(folder.join("inner")).unwrap();
        write("a", "1");
        write("inner/b", "2");
        let first = stamp(&["x"]);
        write("a", "1");
        assert_eq!(stamp(&["x"]), first, "writing the same again changes nothing");
        assert_ne!(stamp(&["x", ""]), first);
        write("a", "3");
        assert_ne!(stamp(&["x"]), first);
        write("a", "1");
        std::fs::rename(folder.join("inner/b"), folder.join("inner/c")).unwrap();
        assert_ne!(stamp(&["x"]), first);
    }

    #[test]
    fn the_browser_face_depends_on_the_kernels_but_not_on_the_command_line() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        let folders = package_folders(root, "shirube-wasm").unwrap();
        assert!(folders.contains(&root.join("crates/kernels/src")));
        assert!(!folders.contains(&root.join("crates/cli/src")));
    }
}
