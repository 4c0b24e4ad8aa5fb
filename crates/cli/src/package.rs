//! The npm package's code and the model beside a bundle, so that two lines on a page are enough.

use anyhow::{Context as _, Result, bail};
use shirube_site::{is_chunk, is_package_file};
use std::fs;
use std::path::{Path, PathBuf};

/// What stands beside a bundle.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    /// Folder of the built npm package.
    pub(crate) folder: PathBuf,
    /// Folder of the model that the bundle was made with.
    pub(crate) model: PathBuf,
}

impl Package {
    /// Copies what a page loads into the bundle folder `out`: the package's `dist`, without types and notes of the build, and the model.
    ///
    /// # Errors
    /// A folder that is not the built package, or a file that cannot be copied.
    pub(crate) fn copy(&self, out: &Path) -> Result<()> {
        let dist = self.folder.join("dist");
        if !dist.join("ui.js").is_file() {
            bail!(
                "{}: no dist/ui.js; name the folder of the npm package `shirube`, built (`npm run build` in its repository)",
                self.folder.display()
            );
        }
        files(&dist, out, is_package_file)?;
        let model = out.join("model");
        if !model.is_dir() || self.model.canonicalize()? != model.canonicalize()? {
            files(&self.model, &model, |name| !name.ends_with(".md"))?;
        }
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
    use super::Package;
    use std::fs;

    #[test]
    fn the_packages_code_and_the_bundles_model_are_copied_and_types_are_not() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path();
        let (package, out) = (folder.join("package"), folder.join("out"));
        for name in [
            "dist/types/ui.d.ts",
            "dist/ui.js",
            "dist/shirube_wasm.d.ts",
            "model/manifest.json",
            "../other/manifest.json",
            "../other/README.md",
        ] {
            let path = package.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        fs::create_dir_all(&out).unwrap();
        for name in ["chunk-OLDOLD12.js", "chunk-mine.js"] {
            fs::write(out.join(name), name).unwrap();
        }
        let beside = Package { folder: package, model: folder.join("other") };
        beside.copy(&out).unwrap();
        assert!(!out.join("chunk-OLDOLD12.js").exists() && out.join("chunk-mine.js").exists());
        assert_eq!(fs::read_to_string(out.join("ui.js")).unwrap(), "dist/ui.js");
        assert_eq!(fs::read_to_string(out.join("model/manifest.json")).unwrap(), "../other/manifest.json");
        for absent in ["types", "shirube_wasm.d.ts", "model/README.md"] {
            assert!(!out.join(absent).exists(), "{absent}");
        }
        // The next build reads the model beside the bundle.
        Package { model: out.join("model"), ..beside.clone() }.copy(&out).unwrap();
        assert_eq!(fs::read_to_string(out.join("model/manifest.json")).unwrap(), "../other/manifest.json");
        let error = Package { folder: folder.to_owned(), ..beside }.copy(&out).unwrap_err().to_string();
        assert!(error.contains("npm run build"), "{error}");
        fs::remove_dir_all(folder).unwrap();
    }
}
