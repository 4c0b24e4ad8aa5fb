//! Settings of a build: from `shirube.toml`, from variables of the environment, from flags.

use crate::{FileOptions, ReadOptions, SiteError, SourceKind, UrlRules};
use serde::{Deserialize, Serialize};
use shirube_index::IndexOptions;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Name of the settings file.
pub const SETTINGS_NAME: &str = "shirube.toml";

/// What variables of the environment begin with: `SHIRUBE_CLEAN_URLS=true` sets `clean_urls`.
const VARIABLE_PREFIX: &str = "SHIRUBE_";

/// Everything that can be set. Each field is optional, so that one source of settings can be laid over another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Folder of built HTML or of Markdown, or a JSON Lines file of sections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<PathBuf>,
    /// Bundle folder; `shirube` inside the source folder if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<PathBuf>,
    /// Model folder; `model` inside the bundle folder if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// Display name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `html` or `markdown`; told by the files if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<SourceKind>,
    /// Globs of paths to read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include: Option<Vec<String>>,
    /// Globs of paths to leave out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude: Option<Vec<String>>,
    /// What every address begins with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Whether addresses go without `.html`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clean_urls: Option<bool>,
    /// CSS selector of the content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// CSS selectors of elements to leave out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude_selectors: Option<Vec<String>>,
    /// Whether code blocks are searched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<bool>,
    /// Whether `noindex` pages are searched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_noindex: Option<bool>,
    /// Languages to keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub languages: Option<Vec<String>>,
    /// Tokens that become one stored embedding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<u8>,
}

/// Names of settings that hold lists, for variables, which separate them by commas.
const LISTS: &[&str] = &["include", "exclude", "exclude_selectors", "languages"];

impl Settings {
    /// The settings in the text of a `shirube.toml`; paths in it are relative to `folder`. `path` is for messages.
    ///
    /// # Errors
    /// [`SiteError::Settings`].
    pub fn parse(path: &str, text: &str, folder: &Path) -> Result<Self, SiteError> {
        let mut settings: Self = toml::from_str(text)
            .map_err(|error| SiteError::Settings { path: path.to_owned(), what: error.to_string() })?;
        for path in [&mut settings.source, &mut settings.out, &mut settings.model].into_iter().flatten() {
            *path = folder.join(&*path);
        }
        Ok(settings)
    }

    /// The settings in variables of the environment. Variables that name no setting are other tools' business.
    ///
    /// # Errors
    /// [`SiteError::Settings`] for a value that its setting does not take.
    pub fn of_variables(variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, SiteError> {
        let mut settings = Self::default();
        for (variable, text) in variables {
            let Some(name) = variable.strip_prefix(VARIABLE_PREFIX).map(str::to_ascii_lowercase) else {
                continue;
            };
            let typed = if LISTS.contains(&name.as_str()) {
                Value::Array(text.split(',').map(|part| Value::String(part.trim().to_owned())).collect())
            } else if let Ok(bool) = text.parse::<bool>() {
                Value::Boolean(bool)
            } else if let Ok(number) = text.parse::<i64>() {
                Value::Integer(number)
            } else {
                Value::String(text.clone())
            };
            let with = |value| Self::deserialize(Value::Table(Table::from_iter([(name.clone(), value)])));
            // A name may look like a number.
            match with(typed).or_else(|error| with(Value::String(text)).map_err(|_| error)) {
                Ok(found) => settings = settings.over(found),
                Err(error) if error.to_string().contains("unknown field") => {}
                Err(error) => {
                    let what = error.to_string();
                    return Err(SiteError::Settings { path: format!("variable {variable}"), what });
                }
            }
        }
        Ok(settings)
    }

    /// These settings, with those of `other` where these say nothing.
    #[must_use]
    pub fn over(self, other: Self) -> Self {
        Self {
            source: self.source.or(other.source),
            out: self.out.or(other.out),
            model: self.model.or(other.model),
            name: self.name.or(other.name),
            kind: self.kind.or(other.kind),
            include: self.include.or(other.include),
            exclude: self.exclude.or(other.exclude),
            base: self.base.or(other.base),
            clean_urls: self.clean_urls.or(other.clean_urls),
            root: self.root.or(other.root),
            exclude_selectors: self.exclude_selectors.or(other.exclude_selectors),
            code: self.code.or(other.code),
            keep_noindex: self.keep_noindex.or(other.keep_noindex),
            languages: self.languages.or(other.languages),
            pool: self.pool.or(other.pool),
        }
    }

    /// How pages are read.
    pub fn read_options(&self) -> ReadOptions {
        let url = UrlRules {
            base: self.base.clone().unwrap_or_else(|| UrlRules::default().base),
            clean: self.clean_urls.unwrap_or(false),
        };
        ReadOptions {
            url,
            root: self.root.clone(),
            exclude_selectors: self.exclude_selectors.clone().unwrap_or_default(),
            code: self.code.unwrap_or(false),
            keep_noindex: self.keep_noindex.unwrap_or(false),
            languages: self.languages.clone().unwrap_or_default(),
        }
    }

    /// `options` with what is set here.
    pub fn index_options(&self, options: IndexOptions) -> IndexOptions {
        IndexOptions { pool_factor: self.pool.map_or(options.pool_factor, usize::from), ..options }
    }

    /// Which files are read.
    pub fn file_options(&self) -> FileOptions {
        FileOptions {
            kind: self.kind,
            include: self.include.clone().unwrap_or_default(),
            exclude: self.exclude.clone().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_come_before_variables_before_the_file() {
        let file = Settings::parse(
            "shirube.toml",
            "source = 'dist'\nname = '一'\nbase = '/a/'\npool = 2",
            Path::new("site"),
        )
        .unwrap();
        let variables = [
            ("SHIRUBE_NAME", "2026"),
            ("SHIRUBE_POOL", "3"),
            ("SHIRUBE_EXCLUDE", "a, b"),
            ("SHIRUBE_OTHER", "x"),
            ("HOME", "/"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let variables = Settings::of_variables(variables).unwrap();
        let flags = Settings { pool: Some(4), ..Settings::default() };
        let all = flags.over(variables).over(file);
        assert_eq!(all.source, Some(PathBuf::from("site/dist")));
        assert_eq!((all.name.as_deref(), all.pool), (Some("2026"), Some(4)));
        assert_eq!(all.read_options().url.base, "/a/");
        assert_eq!(all.file_options().exclude, ["a", "b"]);
    }

    #[test]
    fn mistakes_name_their_place() {
        let error =
            Settings::parse("shirube.toml", "pool = 2\nbasis = '/'", Path::new("")).unwrap_err().to_string();
        assert!(error.starts_with("shirube.toml: ") && error.contains("basis"), "{error}");
        let error =
            Settings::of_variables([("SHIRUBE_POOL".to_owned(), "many".to_owned())]).unwrap_err().to_string();
        assert!(error.contains("SHIRUBE_POOL"), "{error}");
    }
}
