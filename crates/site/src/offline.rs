//! What pages need to search without a network: a list for service workers, and everything in one script.

use serde::Serialize;
use shirube_format::Sha256Hex;
use shirube_format::bundle::base64;

/// File of the list beside a bundle.
pub const PRECACHE_NAME: &str = "precache.json";

/// File of the script beside a bundle.
pub const SINGLE_FILE_NAME: &str = "search.js";

/// Digits of a file's SHA-256 in the list.
const REVISION_DIGITS: usize = 16;

#[derive(Serialize)]
struct Entry {
    url: String,
    revision: String,
}

/// Whether a service worker keeps the file at a path inside a bundle folder: code that a page loads. Data and model are kept by the package itself, which
/// verifies them; the GPU's module is never needed.
pub fn is_precached(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let code = [".js", ".css", ".wasm"].iter().any(|end| name.ends_with(end));
    code && name != "gpu.js" && !name.starts_with("shirube_gpu") && path != SINGLE_FILE_NAME
}

/// The list as Workbox takes it, one entry a line, ascending by path: `files` are paths inside the bundle folder with their content, of those that
/// [`is_precached`]; `before` comes before each path.
pub fn precache<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>, before: &str) -> String {
    let mut files: Vec<_> = files.into_iter().collect();
    files.sort_unstable_by_key(|&(path, _)| path);
    let lines: Vec<String> = files
        .into_iter()
        .map(|(path, bytes)| {
            let revision = Sha256Hex::of(bytes).short(REVISION_DIGITS).to_owned();
            serde_json::to_string(&Entry { url: format!("{before}{path}"), revision })
                .expect("two strings can be written as JSON")
        })
        .collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

/// Whether a file of a bundle folder, its model among them, goes into the script. All codes are in memory there, so that lists would find what is at hand.
pub fn is_inlined(path: &str) -> bool {
    let left_out = [".js", ".css", ".wasm", ".part", ".md"].iter().any(|end| path.ends_with(end));
    let name = path.rsplit('/').next().unwrap_or(path);
    let list = path.starts_with("ivf.") || path.starts_with("ivf/");
    !(left_out || list || name == "tokenizer.json" || path == PRECACHE_NAME)
}

/// The text of a classic script that searches without a server: `files`, the engine's module among them, in the order given, and `code`, the package's
/// `inline.js`.
pub fn single_file<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>, code: &str) -> String {
    let parts: Vec<String> = files
        .into_iter()
        .map(|(path, bytes)| {
            let path = serde_json::to_string(path).expect("a string can be written as JSON");
            format!("{path}:\"{}\"", base64::encode(bytes))
        })
        .collect();
    format!("globalThis.shirubeFiles={{{}}};\n{code}", parts.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_names_code_by_its_content_and_leaves_out_what_the_package_keeps_itself() {
        for path in ["ui.js", "chunk-DRZHVMIN.js", "shirube_wasm_bg.wasm", "ui.css"] {
            assert!(is_precached(path), "{path}");
        }
        for path in [
            "gpu.js",
            "shirube_gpu_bg.wasm",
            "shirube.json",
            "codes/0123.bin",
            "search.js",
            "model/x.safetensors",
        ] {
            assert!(!is_precached(path), "{path}");
        }
        let text = precache([("ui.js", &b"b"[..]), ("a.js", b"a")], "/docs/shirube/");
        let list: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(list[0]["url"], "/docs/shirube/a.js");
        assert_eq!(list[1]["revision"], "3e23e8160039594a");
        assert_eq!(text.lines().count(), 4);
    }

    #[test]
    fn the_script_holds_files_as_base64_before_the_code() {
        for path in ["shirube.json", "codes/0123.bin", "model/manifest.json", "model/tokenizer.bin"] {
            assert!(is_inlined(path), "{path}");
        }
        for path in
            ["ivf.0123.bin", "ivf/0123.bin", "model/tokenizer.json", "ui.js", "precache.json", "x.part"]
        {
            assert!(!is_inlined(path), "{path}");
        }
        let script = single_file([("shirube.json", &b"{}"[..]), ("a\"b", b"xyz")], "run();");
        assert_eq!(
            script,
            "globalThis.shirubeFiles={\"shirube.json\":\"e30=\",\n\"a\\\"b\":\"eHl6\"};\nrun();"
        );
    }
}
