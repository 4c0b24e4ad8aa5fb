//! Files of the npm package beside a bundle.

/// Whether a file of the package's `dist` folder goes beside a bundle: what pages load by an address, not what only bundlers and Node take.
pub fn is_package_file(name: &str) -> bool {
    let ours = [".js", ".css", ".wasm"].iter().any(|end| name.ends_with(end));
    ours && !["inline.js", "slim.js", "shirube_wasm.js", "shirube_gpu.js"].contains(&name)
}

/// Whether a page that searches by words loads the file beside a bundle in any case: `host.js` comes only where no worker starts, the style sheet where a
/// page asks for it, and `shirube.js` where a page calls the engine itself.
pub fn is_page_code(name: &str) -> bool {
    ["ui.js", "worker.js"].contains(&name)
}

/// Whether a page loads the file, beside the model, before it searches by meaning. Of the engine's two modules the one with relaxed SIMD counts, which
/// most browsers take; the other is of about the same size. The module of the GPU comes only where there is one.
pub fn is_meaning_code(name: &str) -> bool {
    name == "shirube_relaxed_bg.wasm"
}

/// Whether a file is one of those that earlier versions of the package named by their content: it stays behind when it is not removed.
pub fn is_chunk(name: &str) -> bool {
    let hash = ["chunk-", "host-"].iter().find_map(|start| name.strip_prefix(start)?.strip_suffix(".js"));
    hash.is_some_and(|hash| {
        hash.len() == 8 && hash.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    })
}

/// Bytes of `content` as gzip sends them, for predictions: hosts differ by a few percent.
pub fn gzip_bytes(content: &[u8]) -> u64 {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let written = encoder.write_all(content).and_then(|()| encoder.finish());
    written.expect("memory takes every write").len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_makes_repetitions_small() {
        assert!((20..60).contains(&gzip_bytes(&[7; 10_000])));
    }

    #[test]
    fn what_pages_load_goes_beside_a_bundle() {
        for name in ["ui.js", "ui.css", "gpu.js", "shirube_gpu_bg.wasm", "host.js"] {
            assert!(is_package_file(name), "{name}");
        }
        for name in ["inline.js", "slim.js", "shirube_wasm.js", "shirube_wasm.d.ts", "shirube_wasm.stamp"] {
            assert!(!is_package_file(name), "{name}");
        }
        assert!(is_page_code("worker.js") && !is_page_code("host.js"));
        assert!(is_chunk("chunk-DRZHVMIN.js") && is_chunk("host-64CO6B53.js"));
        assert!(!is_page_code("gpu.js") && !is_chunk("chunk-mine.js") && !is_chunk("ui.js"));
    }
}
