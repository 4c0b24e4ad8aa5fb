//! From a command line to a plan. Flags are those of the native command, by the same definition.

use crate::error::{js, parse};
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use shirube_site::arguments::{BuildArguments, InspectArguments, SearchArguments, ServeArguments};
use shirube_site::{Plan, Settings, SourceLook};
use std::path::Path;
use wasm_bindgen::prelude::*;

/// Japanese semantic search that runs in the reader's browser.
#[derive(Parser, Debug)]
#[command(name = "shirube", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Turn a folder of built HTML or of Markdown, or sections in JSON Lines, into a bundle that a web server can hand out as it is
    Build(Box<NodeBuild>),
    /// Search a bundle
    Search(SearchArguments),
    /// Show what a bundle holds and what its parts weigh; with a query, where the scores of its hits come from
    Inspect(InspectArguments),
    /// Serve a folder on this machine, to try its search
    Serve(ServeArguments),
}

#[derive(Args, Debug)]
struct NodeBuild {
    #[command(flatten)]
    flags: BuildArguments,
    /// Threads that read and encode [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Write the bundle alone, without the package's code and model beside it
    #[arg(long)]
    no_assets: bool,
}

/// What a command line asks for.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase", tag = "command")]
enum Asked {
    #[serde(rename_all = "camelCase")]
    Build {
        settings: Box<Settings>,
        config: Option<String>,
        how: How,
        threads: Option<u16>,
        assets: bool,
        pwa: bool,
        single_file: bool,
        watch: bool,
        serve: Option<u16>,
        quiet: bool,
    },
    Serve {
        folder: String,
        port: u16,
    },
    Search {
        flags: SearchArguments,
    },
    Inspect {
        flags: InspectArguments,
    },
    /// Help, or a mistake: text to print and the exit code.
    Say {
        text: String,
        code: i32,
    },
}

/// How a build runs, beside its settings.
#[derive(Clone, Debug, Default, Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct How {
    /// Values of `--codec`, `--buckets` and `--centroids`.
    pub(crate) codec: Vec<String>,
    pub(crate) limit: Option<usize>,
    pub(crate) fresh: bool,
    pub(crate) dry_run: bool,
}

/// Flags of a build that say how the index is compressed, as words, so that they can cross to JavaScript and come back.
#[derive(Parser, Debug)]
#[command(no_binary_name = true)]
pub(crate) struct Again {
    #[command(flatten)]
    pub(crate) flags: BuildArguments,
}

/// The command line `words` (without the program's name) as JSON: `{command: "build" | "serve" | "say", …}`.
#[wasm_bindgen]
pub fn command(words: Vec<String>) -> String {
    console_error_panic_hook::set_once();
    let asked = match Arguments::try_parse_from(core::iter::once("shirube".to_owned()).chain(words.clone())) {
        Err(error) => Asked::Say { text: error.render().to_string(), code: error.exit_code() },
        Ok(Arguments { command: Command::Serve(serve) }) => {
            Asked::Serve { folder: serve.folder.display().to_string(), port: serve.port }
        }
        Ok(Arguments { command: Command::Search(flags) }) => Asked::Search { flags },
        Ok(Arguments { command: Command::Inspect(flags) }) => Asked::Inspect { flags },
        Ok(Arguments { command: Command::Build(build) }) => {
            let NodeBuild { flags, threads, no_assets } = *build;
            Asked::Build {
                settings: Box::new(flags.settings()),
                config: flags.config.as_ref().map(|path| path.display().to_string()),
                how: How {
                    codec: codec_words(&words),
                    limit: flags.limit,
                    fresh: flags.fresh,
                    dry_run: flags.dry_run,
                },
                threads,
                assets: !no_assets,
                pwa: flags.pwa,
                single_file: flags.single_file,
                watch: flags.watch,
                serve: flags.serve,
                quiet: flags.quiet,
            }
        }
    };
    crate::error::json(&asked)
}

/// The flags of a checked command line that say how the index is compressed.
fn codec_words(words: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if ["--codec", "--buckets", "--centroids"].contains(&word.as_str()) {
            kept.push(word.clone());
            kept.extend(words.next().cloned());
        } else if ["--codec=", "--buckets=", "--centroids="].iter().any(|start| word.starts_with(start)) {
            kept.push(word.clone());
        }
    }
    kept
}

/// Settings as JSON: `flags` (JSON) over `variables` (JSON, `[[name, value], …]`) over the text of a settings file, where there is one.
///
/// # Errors
/// For a setting that is not understood, with its place.
#[wasm_bindgen]
pub fn settings(
    flags: &str,
    variables: &str,
    path: Option<String>,
    text: Option<String>,
) -> Result<String, JsError> {
    console_error_panic_hook::set_once();
    let flags: Settings = parse("settings", flags).map_err(js)?;
    let variables: Vec<(String, String)> = parse("variables", variables).map_err(js)?;
    let mut all = flags.over(Settings::of_variables(variables).map_err(js)?);
    if let (Some(path), Some(text)) = (path, text) {
        let folder = Path::new(&path).parent().unwrap_or(Path::new(""));
        all = all.over(Settings::parse(&path, &text, folder).map_err(js)?);
    }
    Ok(crate::error::json(&all))
}

/// The plan of complete settings as JSON. `is_folder` and `file_name` say what the source is, and its last name with links followed.
///
/// # Errors
/// Where no source is named, or no place for a bundle.
#[wasm_bindgen]
pub fn plan(settings: &str, is_folder: bool, file_name: String) -> Result<String, JsError> {
    console_error_panic_hook::set_once();
    let settings: Settings = parse("settings", settings).map_err(js)?;
    let plan = Plan::new(settings, |_| SourceLook { is_folder, file_name }).map_err(js)?;
    Ok(crate::error::json(&plan))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(words: &[&str]) -> serde_json::Value {
        serde_json::from_str(&command(words.iter().map(|&w| w.to_owned()).collect())).unwrap()
    }

    #[test]
    fn arguments_are_well_formed() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
        Again::command().debug_assert();
    }

    #[test]
    fn flags_become_settings_and_mistakes_say_what_the_native_command_says() {
        let build = ask(&["build", "dist", "--pool", "2", "--codec", "bits2", "--exclude", "a", "--dry-run"]);
        assert_eq!(build["command"], "build");
        assert_eq!(build["settings"], serde_json::json!({"source": "dist", "pool": 2, "exclude": ["a"]}));
        assert_eq!(build["how"]["codec"], serde_json::json!(["--codec", "bits2"]));
        assert_eq!((&build["how"]["dryRun"], &build["assets"]), (&true.into(), &true.into()));
        assert_eq!(ask(&["serve", "dist"])["port"], 8080);
        assert_eq!(ask(&["search", "dist/shirube", "状態", "-k", "3"])["flags"]["limit"], 3);
        assert_eq!(ask(&["inspect", "dist/shirube"])["flags"]["query"], serde_json::Value::Null);
        let wrong = ask(&["build", "--pool", "9"]);
        assert_eq!((&wrong["command"], &wrong["code"]), (&"say".into(), &2.into()));
        assert!(wrong["text"].as_str().unwrap().contains("9 is not in 1..=4"), "{wrong}");
        assert_eq!(ask(&["--help"])["code"], 0);
        assert_eq!(ask(&[])["code"], 2);
    }
}
