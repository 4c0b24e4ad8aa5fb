//! A model folder on disk, for native tools.

use super::{FileEntry, ModelManifest};
use crate::{FormatError, NamedFile};
use std::path::Path;

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> FormatError {
    let path = path.display().to_string();
    move |source| FormatError::Io { path, source }
}

/// Reads the manifest and every file it names, each checked by length and digest.
///
/// # Errors
/// As [`ModelManifest::parse`] and [`FileEntry::check`]; [`FormatError::Missing`] and [`FormatError::Io`].
pub fn read(folder: &Path) -> Result<(ModelManifest, Vec<NamedFile>), FormatError> {
    let path = folder.join("manifest.json");
    let manifest = ModelManifest::parse(&std::fs::read(&path).map_err(io(&path))?)?;
    let mut files = Vec::with_capacity(manifest.files.len());
    for entry in &manifest.files {
        let path = folder.join(&entry.path);
        let bytes = match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(FormatError::Missing { path: entry.path.clone() });
            }
            other => other.map_err(io(&path))?,
        };
        entry.check(&bytes)?;
        files.push((entry.path.clone(), bytes));
    }
    Ok((manifest, files))
}

/// Writes a model folder: files aside first, then the manifest, whose `files` are filled in here. An existing model stays usable until the
/// last rename.
///
/// # Errors
/// [`FormatError::Io`].
pub fn write(
    folder: &Path,
    mut manifest: ModelManifest,
    files: &[NamedFile],
) -> Result<ModelManifest, FormatError> {
    std::fs::create_dir_all(folder).map_err(io(folder))?;
    manifest.files = files.iter().map(|(name, bytes)| FileEntry::of(name, bytes)).collect();
    let json = serde_json::to_vec_pretty(&manifest).expect("a manifest holds only JSON-compatible values");
    let aside = |name: &str| folder.join(format!("{name}.part"));
    let all =
        files.iter().map(|(n, b)| (n.as_str(), b.as_slice())).chain([("manifest.json", json.as_slice())]);
    for (name, bytes) in all.clone() {
        let path = aside(name);
        std::fs::write(&path, bytes).map_err(io(&path))?;
    }
    for (name, _) in all {
        let to = folder.join(name);
        std::fs::rename(aside(name), &to).map_err(io(&to))?;
    }
    Ok(manifest)
}
