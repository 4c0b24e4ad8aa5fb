//! A bundle folder on disk, for native tools.

use super::{BundleEntry, ENTRY_NAME, Need};
use crate::{FormatError, NamedFile};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> FormatError {
    let path = path.display().to_string();
    move |source| FormatError::Io { path, source }
}

/// Reads the entry, every file it names, each checked by length and digest, and every shard, whose name is its checksum.
///
/// # Errors
/// As [`BundleEntry::parse`] and [`FileEntry::check`](crate::model::FileEntry::check); [`FormatError::Missing`] and [`FormatError::Io`].
pub fn read(folder: &Path) -> Result<(BundleEntry, Vec<NamedFile>), FormatError> {
    let entry = BundleEntry::parse(&read_one(folder, ENTRY_NAME)?)?;
    let mut files = Vec::with_capacity(entry.files.len());
    for f in &entry.files {
        let bytes = read_one(folder, &f.file.path)?;
        f.file.check(&bytes)?;
        files.push((f.file.path.clone(), bytes));
    }
    // Their names are their checksums: who puts them together compares them.
    for path in
        super::shard_paths(&entry, files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())))?
    {
        let bytes = read_one(folder, &path)?;
        files.push((path, bytes));
    }
    Ok((entry, files))
}

/// The bytes that `need` names.
///
/// # Errors
/// [`FormatError::Missing`], [`FormatError::Io`]; [`FormatError::Length`] for a file that ends before them.
pub fn read_range(folder: &Path, need: &Need) -> Result<Vec<u8>, FormatError> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let path = folder.join(&need.path);
    let mut file = match std::fs::File::open(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(FormatError::Missing { path: path.display().to_string() });
        }
        other => other.map_err(io(&path))?,
    };
    file.seek(SeekFrom::Start(need.range.start)).map_err(io(&path))?;
    let n = need.range.end - need.range.start;
    let mut bytes = Vec::new();
    file.take(n).read_to_end(&mut bytes).map_err(io(&path))?;
    if (bytes.len() as u64) < n {
        let found = need.range.start + bytes.len() as u64;
        return Err(FormatError::Length { path: need.path.clone(), expected: need.file_bytes, found });
    }
    Ok(bytes)
}

/// The content of one file of the bundle.
///
/// # Errors
/// [`FormatError::Missing`] and [`FormatError::Io`].
pub fn read_one(folder: &Path, name: &str) -> Result<Vec<u8>, FormatError> {
    let path = folder.join(name);
    match std::fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(FormatError::Missing { path: path.display().to_string() })
        }
        other => other.map_err(io(&path)),
    }
}

/// Writes a bundle over whatever stands in `folder`; returns the paths of earlier builds that were removed.
///
/// Every file is written aside and renamed, the entry last, so that a writer killed at any point leaves the earlier bundle usable: files are
/// named by content and none that the old entry names is touched before the new entry stands. Only names that this format gives are ever
/// removed; anything else in the folder is left alone.
///
/// # Errors
/// [`FormatError::Io`].
pub fn write(folder: &Path, entry: &BundleEntry, files: &[NamedFile]) -> Result<Vec<String>, FormatError> {
    write_over(folder, entry, files, |_| false)
}

/// [`write()`], without a look at the files that `is_there`, whole and with this content: those of a bundle that was just read and checked.
///
/// # Errors
/// As [`write()`].
pub fn write_over(
    folder: &Path,
    entry: &BundleEntry,
    files: &[NamedFile],
    is_there: impl Fn(&str) -> bool,
) -> Result<Vec<String>, FormatError> {
    std::fs::create_dir_all(folder).map_err(io(folder))?;
    for (name, bytes) in files.iter().filter(|(name, _)| !is_there(name)) {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(io(parent))?;
        }
        // Same name, same content; only a file that someone damaged is written again.
        if std::fs::read(&path).is_ok_and(|old| old == *bytes) {
            continue;
        }
        replace(&path, bytes)?;
    }
    replace(&folder.join(ENTRY_NAME), &entry.to_bytes())?;
    remove_stale(folder, &files.iter().map(|(path, _)| path.as_str()).collect())
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), FormatError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".part");
    let aside = PathBuf::from(aside);
    let mut file = std::fs::File::create(&aside).map_err(io(&aside))?;
    // On the disk before its name is: a machine that loses power keeps the old file or has the whole new one.
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io(&aside))?;
    std::fs::rename(&aside, path).map_err(io(path))
}

fn remove_stale(folder: &Path, current: &BTreeSet<&str>) -> Result<Vec<String>, FormatError> {
    let mut removed = Vec::new();
    for directory in ["", "codes", "ivf", "sections", "lexical"] {
        let path = folder.join(directory);
        let listing = match std::fs::read_dir(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.map_err(io(&path))?,
        };
        for item in listing {
            let item = item.map_err(io(&path))?;
            let Some(name) = item.file_name().to_str().map(str::to_owned) else { continue };
            let relative = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            if is_bundle_file(&relative) && !current.contains(relative.as_str()) {
                std::fs::remove_file(item.path()).map_err(io(&item.path()))?;
                removed.push(relative);
            }
        }
    }
    removed.sort();
    Ok(removed)
}

/// Whether this format could have written a file of this name inside a bundle folder, finished or not: what a new build may remove. The entry itself is
/// replaced, never removed.
pub fn is_bundle_file(relative: &str) -> bool {
    let done = relative.strip_suffix(".part").unwrap_or(relative);
    if done == ENTRY_NAME {
        return done != relative;
    }
    let ours =
        ["centroids.", "codes.", "codes/", "ivf.", "ivf/", "sections.", "sections/", "lexical.", "lexical/"];
    ours.iter().any(|before| {
        done.strip_prefix(before).and_then(|rest| rest.strip_suffix(".bin")).is_some_and(|hash| {
            hash.len() == super::NAME_DIGITS && hash.bytes().all(|b| b.is_ascii_hexdigit())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::is_bundle_file;

    #[test]
    fn only_names_of_this_format_are_removed() {
        for name in [
            "centroids.0123456789abcdef.bin",
            "codes/0123456789abcdef.bin.part",
            "codes.0123456789abcdef.bin",
            "ivf.0123456789abcdef.bin",
            "ivf/0123456789abcdef.bin",
            "sections/0123456789abcdef.bin",
            "lexical/0123456789abcdef.bin",
            "lexical.0123456789abcdef.bin",
            "shirube.json.part",
        ] {
            assert!(is_bundle_file(name), "{name}");
        }
        for name in [
            "shirube.json",
            "index.html",
            "codes/notes.bin",
            "centroids.bin",
            "sections/0123456789abcdef.json",
            "ui.js",
        ] {
            assert!(!is_bundle_file(name), "{name}");
        }
    }
}
