//! Every option of a recipe is explained.

use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Names of the public fields in a source file that a recipe's text can set.
fn fields(source: &str) -> Vec<&str> {
    let mut fields = Vec::new();
    let mut before = "";
    for line in source.lines().map(str::trim) {
        let field = line.strip_prefix("pub ").and_then(|rest| rest.split_once(':')).map(|(name, _)| name);
        if let Some(name) = field.filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
            && before != "#[serde(skip)]"
        {
            fields.push(name);
        }
        before = line;
    }
    fields
}

#[test]
fn every_option_of_a_recipe_stands_in_the_documentation() {
    let page = read("../docs/training.md");
    let options = page
        .split("### Every option")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next())
        .expect("the tables");
    let sources = ["src/recipe/mod.rs", "src/recipe/steps.rs", "src/recipe/shape.rs"].map(read);
    let all: Vec<&str> = sources.iter().flat_map(|source| fields(source)).collect();
    assert!(all.len() > 90, "{all:?}");
    for name in all {
        assert!(options.contains(&format!("`{name}`")), "{name} is not in the tables of docs/training.md");
    }
}

#[test]
fn the_recipe_that_init_writes_names_every_option_of_the_model_and_every_kind_of_step() {
    let template = read("recipes/template.toml");
    for name in fields(&read("src/recipe/shape.rs")) {
        assert!(template.contains(name), "{name}");
    }
    for kind in [
        "tokenizer",
        "cooccurrence",
        "train",
        "pretrain",
        "mine",
        "teacher",
        "score",
        "import",
        "merge",
        "rotate",
        "eval",
        "export",
    ] {
        assert!(template.contains(&format!("kind = \"{kind}\"")), "{kind}");
    }
}
