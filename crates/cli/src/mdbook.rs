//! `shirube mdbook`: a backend of mdBook. It reads what mdBook's own HTML backend has just written and puts a bundle into it.
//!
//! ```toml
//! [output.html]
//!
//! [output.shirube]
//! command = "shirube mdbook"
//! model = "path/to/model"        # and every other setting of shirube.toml
//! ```
//!
//! mdBook runs backends in the order of their names, so `html` comes first; it gives each one a JSON object on standard input, of which only the
//! fields below are read, so that versions of mdBook do not matter.

use crate::build::{Run, build_once};
use crate::open;
use crate::source::Source;
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use shirube_site::Settings;
use std::io::Read as _;
use std::path::PathBuf;

/// Pages of mdBook that repeat others.
const REPEATS: [&str; 2] = ["print.html", "toc.html"];

pub(crate) fn run() -> Result<()> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let context: Value = serde_json::from_str(&text).context(
        "standard input holds no book; set `command = \"shirube mdbook\"` under [output.shirube] in book.toml and run `mdbook build`",
    )?;
    let plan = Source::of(settings(&context)?)?;
    let model = open::model(&open::model_folder(plan.settings.model.as_deref(), &plan.out)?)?;
    build_once(&Run::new(&plan.settings), &plan, &model)
}

/// Settings of the book: those of `[output.shirube]`, and what the rest of `book.toml` implies.
fn settings(context: &Value) -> Result<Settings> {
    let path = |name: &str| {
        context[name].as_str().map(PathBuf::from).with_context(|| format!("the book has no `{name}`"))
    };
    let destination = path("destination")?;
    let html = destination.parent().map(|folder| folder.join("html")).filter(|folder| folder.is_dir());
    let Some(html) = html else {
        bail!(
            "{} does not exist; add [output.html] to book.toml",
            destination.with_file_name("html").display()
        );
    };
    let mut own = context["config"]["output"]["shirube"].clone();
    if let Value::Object(map) = &mut own {
        map.retain(|name, _| !matches!(name.as_str(), "command" | "optional" | "renderers"));
        // mdBook writes names with `-`.
        *map =
            core::mem::take(map).into_iter().map(|(name, value)| (name.replace('-', "_"), value)).collect();
    }
    let mut own: Settings = if own.is_null() {
        Settings::default()
    } else {
        serde_json::from_value(own).context("[output.shirube] in book.toml")?
    };
    let root = path("root")?;
    for path in [&mut own.model, &mut own.out].into_iter().flatten() {
        *path = root.join(&*path);
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let book = Settings {
        source: Some(html),
        name: text(&context["config"]["book"]["title"]),
        base: text(&context["config"]["output"]["html"]["site-url"]),
        exclude: Some(REPEATS.map(str::to_owned).to_vec()),
        ..Settings::default()
    };
    Ok(own.over(book))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_book_and_its_settings_are_read() {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path();
        let context = |own: Value| {
            serde_json::json!({
                "version": "0.5.4", "root": root, "destination": root.join("book/shirube"), "chapters": [],
                "config": {"book": {"title": "Rustの本", "language": "ja"}, "output": {"html": {"site-url": "/book/"}, "shirube": own}},
            })
        };
        let error = settings(&context(Value::Null)).unwrap_err().to_string();
        assert!(error.contains("[output.html]"), "{error}");
        std::fs::create_dir_all(root.join("book/html")).unwrap();
        let own = serde_json::json!({"command": "shirube mdbook", "model": "model", "clean-urls": true});
        let found = settings(&context(own)).unwrap();
        assert_eq!(found.source, Some(root.join("book/html")));
        assert_eq!(found.model, Some(root.join("model")));
        assert_eq!((found.base.as_deref(), found.name.as_deref()), (Some("/book/"), Some("Rustの本")));
        assert_eq!((found.clean_urls, found.exclude.unwrap().len()), (Some(true), 2));
        assert!(settings(&context(serde_json::json!({"colour": 1}))).is_err());
    }
}
