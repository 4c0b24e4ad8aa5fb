//! The npm package's code and the model beside a bundle, so that two lines on a page are enough.

use anyhow::{Context as _, Result, bail};
use shirube_site::{is_chunk, is_package_file};
use std::fs;
use std::path::Path;

/// Copies what a page loads from the package folder `package` into the bundle folder `out`: `dist`, without types and notes of the build, and `model`.
///
/// # Errors
/// A folder that is not the built package, or a file that cannot be copied.
pub(crate) fn copy(package: &Path, out: &Path) -> Result<()> {
    let (dist, model) = (package.join("dist"), package.join("model"));
    if !dist.join("ui.js").is_file() || !model.join("manifest.json").is_file() {
        bail!(
            "{}: no dist/ui.js or no model/manifest.json; name the folder of the npm package `shirube`, built (`npm run build` in its repository)",
            package.display()
        );
    }
    files(&dist, out, is_package_file)?;
    files(&model, &out.join("model"), |name| !name.ends_with(".md"))?;
    // Chunks of an earlier version of the package.
    for entry in fs::read_dir(out).with_context(|| format!("cannot read {}", out.display()))? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if is_chunk(name) && !dist.join(name).exists() {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn files(from: &Path, to: &Path, wanted: impl Fn(&str) -> bool) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if path.is_file() && wanted(name) {
            // Through a neighbour, so that a build killed half-way leaves whole files.
            let (aside, at) = (to.join(format!("{name}.part")), to.join(name));
            fs::copy(&path, &aside)
                .and_then(|_| fs::rename(&aside, &at))
                .with_context(|| format!("cannot copy {} to {}", path.display(), at.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::copy;
    use std::fs;

    #[test]
    fn code_and_model_are_copied_and_types_are_not() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path();
        let (package, out) = (folder.join("package"), folder.join("out"));
        for name in [
            "dist/types/ui.d.ts",
            "dist/ui.js",
            "dist/shirube_wasm.d.ts",
            "model/manifest.json",
            "model/README.md",
        ] {
            let path = package.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        fs::create_dir_all(&out).unwrap();
        for name in ["chunk-OLDOLD12.js", "chunk-mine.js"] {
            fs::write(out.join(name), name).unwrap();
        }
        copy(&package, &out).unwrap();
        assert!(!out.join("chunk-OLDOLD12.js").exists() && out.join("chunk-mine.js").exists());
        assert_eq!(fs::read_to_string(out.join("ui.js")).unwrap(), "dist/ui.js");
        assert!(out.join("model/manifest.json").is_file());
        for absent in ["types", "shirube_wasm.d.ts", "model/README.md"] {
            assert!(!out.join(absent).exists(), "{absent}");
        }
        let error = copy(folder, &out).unwrap_err().to_string();
        assert!(error.contains("npm run build"), "{error}");
        fs::remove_dir_all(folder).unwrap();
    }
}
