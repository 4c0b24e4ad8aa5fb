//! From settings to what is built where.

use crate::{SETTINGS_NAME, Settings, SiteError};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Settings with every decision made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The settings.
    pub settings: Settings,
    /// Folder of pages, or JSON Lines file of sections.
    pub source: PathBuf,
    /// Whether the source is a folder.
    pub is_folder: bool,
    /// Bundle folder.
    pub out: PathBuf,
    /// Display name.
    pub name: String,
}

/// What the file system says about a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLook {
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Its last name, links followed.
    pub file_name: String,
}

impl Plan {
    /// The plan of complete `settings`; `look` asks the file system about the source.
    ///
    /// # Errors
    /// [`SiteError::NoSource`], [`SiteError::NoOut`].
    pub fn new(settings: Settings, look: impl FnOnce(&Path) -> SourceLook) -> Result<Self, SiteError> {
        let source = settings.source.clone().ok_or(SiteError::NoSource { file: SETTINGS_NAME })?;
        let SourceLook { is_folder, file_name } = look(&source);
        let out = match &settings.out {
            Some(out) => out.clone(),
            None if is_folder => source.join("shirube"),
            None => return Err(SiteError::NoOut { from: source.display().to_string() }),
        };
        let plain = || file_name.split('.').next().unwrap_or_default().to_owned();
        let name =
            settings.name.clone().unwrap_or_else(|| if is_folder { file_name.clone() } else { plain() });
        Ok(Self { settings, source, is_folder, out, name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(settings: Settings, is_folder: bool) -> Result<Plan, SiteError> {
        Plan::new(settings, |source| SourceLook {
            is_folder,
            file_name: source.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        })
    }

    #[test]
    fn a_folder_holds_its_bundle_and_a_file_needs_a_place_for_it() {
        let source = |path: &str| Settings { source: Some(path.into()), ..Settings::default() };
        let found = plan(source("site/dist.v2"), true).unwrap();
        assert_eq!((found.out, found.name), ("site/dist.v2/shirube".into(), "dist.v2".to_owned()));
        let error = plan(source("a.jsonl.gz"), false).unwrap_err().to_string();
        assert!(error.starts_with("--out DIR is needed: a.jsonl.gz"), "{error}");
        let out = Settings { out: Some("b".into()), ..source("a.jsonl.gz") };
        assert_eq!(plan(out, false).unwrap().name, "a");
        let error = plan(Settings::default(), true).unwrap_err().to_string();
        assert!(error.contains("shirube.toml"), "{error}");
    }
}
