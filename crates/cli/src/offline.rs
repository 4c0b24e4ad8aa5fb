//! `--pwa` and `--single-file`: what stands beside a bundle for pages without a network.

use anyhow::{Context as _, Result, bail};
use shirube_site::{
    PRECACHE_NAME, Plan, SINGLE_FILE_NAME, is_inlined, is_precached, list, precache, single_file,
};
use std::fs;
use std::path::Path;

/// What is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Offline {
    pub(crate) pwa: bool,
    pub(crate) single_file: bool,
}

/// The bundle folder's address on the site, where it lies in the site's folder.
fn address(plan: &Plan) -> Option<String> {
    let inside = plan.out.strip_prefix(&plan.source).ok().filter(|_| plan.is_folder)?;
    let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
    let base = plan.settings.base.as_deref().unwrap_or("/");
    Some(format!("{}/{}/", base.trim_end_matches('/'), parts.join("/")))
}

/// Writes what is asked for; lines for the summary, what to put on pages first.
pub(crate) fn write(asked: Offline, plan: &Plan, package: Option<&Path>) -> Result<String> {
    let mut said = String::new();
    if let (Some(_), Some(address)) = (package, address(plan)) {
        said += &format!(
            "  on your pages: <script type=\"module\" src=\"{address}ui.js\"></script> <shirube-trigger></shirube-trigger>\n"
        );
    }
    if asked.pwa {
        let out = &plan.out;
        let files = read(out, is_precached)?;
        if !files.iter().any(|(path, _)| path == "shirube.js") {
            bail!("--pwa lists code beside the bundle, and {} holds none; add --package DIR", out.display());
        }
        let text = precache(refs(&files), &address(plan).unwrap_or_default());
        replace(&out.join(PRECACHE_NAME), text.as_bytes())?;
        said += &format!("  {PRECACHE_NAME}: {} files for a service worker\n", files.len());
    }
    if asked.single_file {
        let Some(package) = package else {
            bail!("--single-file takes the code from the npm package; add --package DIR");
        };
        let mut files = read(&plan.out, is_inlined)?;
        let read =
            |name: &str| fs::read(package.join(name)).with_context(|| format!("{name} of the package"));
        files.push(("shirube_wasm_bg.wasm".to_owned(), read("dist/shirube_wasm_bg.wasm")?));
        let code = String::from_utf8(read("dist/inline.js")?).context("dist/inline.js of the package")?;
        let text = single_file(refs(&files), &code);
        replace(&plan.out.join(SINGLE_FILE_NAME), text.as_bytes())?;
        let size = text.len() as f64 / f64::from(1 << 20);
        said += &format!("  {SINGLE_FILE_NAME}: {size:.2} MiB, everything in one script\n");
    }
    Ok(said)
}

fn refs(files: &[(String, Vec<u8>)]) -> impl Iterator<Item = (&str, &[u8])> {
    files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()))
}

fn read(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<(String, Vec<u8>)>> {
    let mut paths: Vec<String> = list(folder, &[])?.into_iter().filter(|path| wanted(path)).collect();
    paths.sort();
    let read = |path: String| {
        let bytes = fs::read(folder.join(&path)).with_context(|| path.clone())?;
        Ok((path, bytes))
    };
    paths.into_iter().map(read).collect()
}

/// Through a neighbour, so that a build killed half-way leaves whole files.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let aside = path.with_extension("part");
    fs::write(&aside, bytes)
        .and_then(|()| fs::rename(&aside, path))
        .with_context(|| format!("cannot write {}", path.display()))
}
