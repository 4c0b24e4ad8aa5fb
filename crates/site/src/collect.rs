//! Files of a folder.

use crate::page::{DropReason, is_html};
use crate::{Reader, Site, SiteError};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Never part of a site, whatever is included.
const NEVER: &[&str] = &["**/node_modules/**", "**/404.html", "**/404/index.html"];

/// What a folder is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// Pages as a site serves them.
    Html,
    /// Markdown files.
    Markdown,
}

/// Which files are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileOptions {
    /// HTML or Markdown; without it HTML where there is any, else Markdown.
    pub kind: Option<SourceKind>,
    /// Globs of paths to read; empty reads all.
    pub include: Vec<String>,
    /// Globs of paths to leave out.
    pub exclude: Vec<String>,
}

/// Decides by path which files are pages.
#[derive(Debug)]
pub struct FileRules {
    kind: Option<SourceKind>,
    include: Vec<String>,
    exclude: Vec<String>,
}

impl FileRules {
    /// The rules of `options`.
    pub fn new(options: &FileOptions) -> Self {
        let globs =
            |patterns: &[String]| patterns.iter().map(|p| p.trim_end_matches('/').to_owned()).collect();
        let never: Vec<String> = NEVER.iter().map(|&glob| glob.to_owned()).collect();
        Self {
            kind: options.kind,
            include: globs(&options.include),
            exclude: globs(&[options.exclude.clone(), never].concat()),
        }
    }

    /// Those of `paths` (relative to the source folder, `/` between parts) that are pages, in order.
    pub fn pages(&self, paths: impl IntoIterator<Item = String>) -> Vec<String> {
        let wanted = |path: &String| {
            (self.include.is_empty() || self.include.iter().any(|glob| is_match(glob, path)))
                && !self.exclude.iter().any(|glob| is_match(glob, path))
        };
        let mut found: Vec<String> =
            paths.into_iter().filter(|p| kind_of(p).is_some()).filter(wanted).collect();
        let kind = self.kind.unwrap_or_else(|| {
            if found.iter().any(|p| is_html(p)) { SourceKind::Html } else { SourceKind::Markdown }
        });
        found.retain(|path| kind_of(path) == Some(kind));
        found.sort();
        found
    }
}

fn kind_of(path: &str) -> Option<SourceKind> {
    let lower = path.to_ascii_lowercase();
    if is_html(&lower) {
        return Some(SourceKind::Html);
    }
    [".md", ".mdx", ".markdown"].iter().any(|e| lower.ends_with(e)).then_some(SourceKind::Markdown)
}

/// Whether a glob names a path or a folder that it lies in.
fn is_match(glob: &str, path: &str) -> bool {
    let folders = path.match_indices('/').map(|(at, _)| &path[..at]);
    folders.chain([path]).any(|part| fast_glob::glob_match(glob, part))
}

/// Paths of all files under `root`, relative to it, without hidden ones and without the folders in `skip`.
///
/// # Errors
/// [`SiteError::Read`].
pub fn list(root: &Path, skip: &[PathBuf]) -> Result<Vec<String>, SiteError> {
    let same = |a: &Path, b: &Path| match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    };
    let walk = walkdir::WalkDir::new(root).follow_links(true).into_iter().filter_entry(|entry| {
        let hidden = entry.depth() > 0 && entry.file_name().to_string_lossy().starts_with('.');
        let skipped = entry.file_type().is_dir() && skip.iter().any(|s| same(s, entry.path()));
        !(hidden || skipped)
    });
    let mut paths = Vec::new();
    for entry in walk {
        let entry = entry.map_err(|error| SiteError::Read {
            path: error.path().unwrap_or(root).display().to_string(),
            source: error.into(),
        })?;
        if entry.file_type().is_file()
            && let Ok(relative) = entry.path().strip_prefix(root)
        {
            let parts: Vec<_> =
                relative.components().map(|part| part.as_os_str().to_string_lossy()).collect();
            paths.push(parts.join("/"));
        }
    }
    Ok(paths)
}

/// Reads the pages at `paths` under `root`, on all cores. `progress` gets the number of pages read.
///
/// # Errors
/// [`SiteError::Read`] for a file that the system refuses: a page that is there but cannot be opened is no page to leave out silently.
pub fn read_site(
    root: &Path,
    paths: &[String],
    reader: &Reader,
    progress: impl Fn(usize) + Sync,
) -> Result<Site, SiteError> {
    let n_read = AtomicUsize::new(0);
    let read = |path: &String| {
        let file = root.join(path);
        let bytes = std::fs::read(&file)
            .map_err(|source| SiteError::Read { path: file.display().to_string(), source })?;
        let page: Result<_, DropReason> = reader.read(path, &bytes);
        progress(n_read.fetch_add(1, Ordering::Relaxed) + 1);
        Ok((path.clone(), page))
    };
    let pages: Vec<_> = paths.par_iter().map(read).collect::<Result<_, SiteError>>()?;
    Ok(Site::gather(pages))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(options: FileOptions, paths: &[&str]) -> Vec<String> {
        FileRules::new(&options).pages(paths.iter().map(|&p| p.to_owned()))
    }

    #[test]
    fn built_pages_come_before_their_sources() {
        let both = ["b.html", "a.md", "x/c.HTM", "y.css", "404.html", "ja/404.html", "node_modules/x/i.html"];
        assert_eq!(pages(FileOptions::default(), &both), ["b.html", "x/c.HTM"]);
        let markdown = FileOptions { kind: Some(SourceKind::Markdown), ..FileOptions::default() };
        assert_eq!(pages(markdown, &both), ["a.md"]);
        assert_eq!(pages(FileOptions::default(), &["b.mdx", "a.md", "x.txt"]), ["a.md", "b.mdx"]);
    }

    #[test]
    fn globs_include_and_exclude_files_and_folders() {
        let options = |include: &[&str], exclude: &[&str]| FileOptions {
            include: include.iter().map(|&g| g.to_owned()).collect(),
            exclude: exclude.iter().map(|&g| g.to_owned()).collect(),
            ..FileOptions::default()
        };
        let all = ["a.html", "guide/b.html", "guide/old/c.html", "api/d.html"];
        assert_eq!(pages(options(&["guide"], &[]), &all), ["guide/b.html", "guide/old/c.html"]);
        assert_eq!(pages(options(&[], &["**/old", "api/**"]), &all), ["a.html", "guide/b.html"]);
        assert_eq!(pages(options(&["*.html"], &[]), &all), ["a.html"]);
        assert_eq!(pages(options(&["{guide,api}/*"], &["**/old/**"]), &all), ["api/d.html", "guide/b.html"]);
    }
}
