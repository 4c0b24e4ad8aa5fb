//! `shirube convert` as a user runs it: from a folder, and from a hub that a thread of the test plays.

use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/checkpoints").join(name)
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self(folder)
    }

    fn run(&self, arguments: &[&str], endpoint: Option<&str>) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shirube"));
        command.args(arguments);
        self.alone(&mut command, endpoint);
        command.output().unwrap()
    }

    /// A home of its own and no proxy between it and this machine.
    fn alone(&self, command: &mut Command, endpoint: Option<&str>) {
        command.current_dir(self.0.path()).env("HF_HOME", self.0.path().join("hub"));
        for name in [
            "HF_TOKEN",
            "HF_TOKEN_PATH",
            "HF_HUB_CACHE",
            "HF_ENDPOINT",
            "ALL_PROXY",
            "HTTP_PROXY",
            "HTTPS_PROXY",
        ] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        if let Some(endpoint) = endpoint {
            command.env("HF_ENDPOINT", endpoint).env("HF_TOKEN", "hf_secret");
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_converted_folder_builds_and_searches() {
    let folder = Folder::new();
    for (name, dtype, embeddings, kind) in [
        ("pylate-bert", "int8", "int8", "int8"),
        ("colbert-ai-bert", "int4", "int4", "int4"),
        ("pylate-modernbert", "int4", "int8", "int4 with int8 embeddings"),
        ("st-modernbert", "int8", "int4", "int8 with int4 embeddings"),
    ] {
        let out = format!("{name}-{dtype}");
        let source = golden(name);
        let mut arguments =
            vec!["convert", source.to_str().unwrap(), &out, "--dtype", dtype, "--license", "MIT"];
        if embeddings != dtype {
            arguments.extend(["--embeddings", embeddings]);
        }
        let converted = folder.run(&arguments, None);
        assert!(converted.status.success(), "{name}: {}", text(&converted.stderr));
        let said = text(&converted.stdout);
        assert!(said.contains(&format!("{kind} against f32, query tokens")), "{said}");
        let lines: String = (0..6)
            .map(|i| format!("{{\"id\":\"s{i}\",\"title\":\"題{i}\",\"text\":\"所有権の{i}番目の本文です。\",\"url\":\"p{i}\"}}\n"))
            .collect();
        std::fs::write(folder.0.path().join("sections.jsonl"), lines).unwrap();
        let built =
            folder.run(&["build", "sections.jsonl", "--model", &out, "--out", "bundle", "--quiet"], None);
        assert!(built.status.success(), "{name}: {}", text(&built.stderr));
        let found = folder.run(&["search", "bundle", "所有権とは", "--model", &out], None);
        assert!(
            found.status.success() && text(&found.stdout).contains("題"),
            "{name}: {}",
            text(&found.stderr)
        );
    }
}

#[test]
fn what_cannot_be_converted_is_said_with_a_way_out() {
    let folder = Folder::new();
    for (source, said) in [
        (golden("colbert-ai-mecab").to_str().unwrap(), "--dictionary"),
        (golden("tokenizers/llama-bpe").to_str().unwrap(), "no config.json"),
        ("no/such/folder", "no such folder"),
    ] {
        let refused = folder.run(&["convert", source, "out"], None);
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains(said), "{source}: {}", text(&refused.stderr));
        assert!(!folder.0.path().join("out").exists());
    }
}

/// What the hub does wrong on purpose.
#[derive(Default)]
struct Faults {
    /// The first answer with this file ends after so many bytes.
    cut: Option<(&'static str, usize)>,
    /// This file's digest is listed wrongly.
    digest: Option<&'static str>,
}

/// A hub with one model behind a token. Large files are redirected to another host name, as to a CDN.
struct Hub {
    endpoint: String,
    requests: Arc<Mutex<Vec<String>>>,
}

fn files(folder: &Path, prefix: &str, out: &mut HashMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            files(&path, &format!("{name}/"), out);
        } else {
            out.insert(name, std::fs::read(&path).unwrap());
        }
    }
}

impl Hub {
    fn start(model: &str, faults: Faults) -> Self {
        Self::with("tester/small", model, faults)
    }

    /// A hub that has the golden folder `model` as `name`.
    fn with(name: &'static str, model: &str, faults: Faults) -> Self {
        let mut all = HashMap::new();
        files(&golden(model), "", &mut all);
        all.insert("onnx/model.onnx".to_owned(), vec![0; 10]);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            let mut faults = faults;
            for stream in listener.incoming().flatten() {
                let _ = answer(&stream, port, name, &all, &mut faults, &seen);
            }
        });
        Self { endpoint: format!("http://127.0.0.1:{port}"), requests }
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

fn answer(
    mut stream: &TcpStream,
    port: u16,
    model: &str,
    files: &HashMap<String, Vec<u8>>,
    faults: &mut Faults,
    seen: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let (mut authorized, mut from) = (false, 0);
    for line in lines {
        let line = line?.to_lowercase();
        if line.is_empty() {
            break;
        }
        authorized |= line == "authorization: bearer hf_secret";
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().unwrap();
        }
    }
    let target = request.split(' ').nth(1).unwrap_or_default().to_owned();
    seen.lock().unwrap().push(format!("{target} {}{from}", if authorized { "token " } else { "" }));
    let mut reply = |status: &str, headers: &str, body: &[u8], sent: usize| {
        write!(
            stream,
            "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        )?;
        stream.write_all(&body[..sent.min(body.len())])
    };
    if target.starts_with(&format!("/api/models/{model}/revision/main")) && authorized {
        let mut siblings: Vec<String> = files
            .iter()
            .map(|(name, bytes)| {
                let mut digest: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
                if faults.digest == Some(name.as_str()) {
                    digest = digest.replace(|c: char| c.is_ascii_digit(), "0");
                }
                let lfs = format!("\"lfs\":{{\"sha256\":\"{digest}\",\"size\":{}}},", bytes.len());
                let lfs = if name.ends_with(".safetensors") { lfs } else { String::new() };
                format!("{{\"rfilename\":\"{name}\",{lfs}\"size\":{}}}", bytes.len())
            })
            .collect();
        siblings.sort();
        let body = format!("{{\"sha\":\"{COMMIT}\",\"siblings\":[{}]}}", siblings.join(","));
        return reply("200 OK", "Content-Type: application/json\r\n", body.as_bytes(), usize::MAX);
    }
    let resolved = format!("/{model}/resolve/{COMMIT}/");
    if let Some(name) =
        target.strip_prefix(&resolved).filter(|name| authorized && name.ends_with(".safetensors"))
    {
        let to = format!("Location: http://localhost:{port}/cdn/{name}\r\n");
        return reply("302 Found", &to, b"", 0);
    }
    let name = target.strip_prefix("/cdn/").or_else(|| target.strip_prefix(&resolved).filter(|_| authorized));
    let Some(bytes) = name.and_then(|name| files.get(name)) else {
        return reply(if authorized { "404 Not Found" } else { "401 Unauthorized" }, "", b"no", usize::MAX);
    };
    let sent = match faults.cut {
        Some((cut, sent)) if Some(cut) == name => {
            faults.cut = None;
            sent
        }
        _ => usize::MAX,
    };
    if from > 0 {
        let range = format!("Content-Range: bytes {from}-{}/{}\r\n", bytes.len() - 1, bytes.len());
        return reply("206 Partial Content", &range, &bytes[from..], sent);
    }
    reply("200 OK", "", bytes, sent)
}

#[test]
fn a_model_is_fetched_once_by_its_name_and_converted() {
    let folder = Folder::new();
    let hub = Hub::start("pylate-bert", Faults::default());
    let fetched = folder.run(&["convert", "tester/small", "out"], Some(&hub.endpoint));
    assert!(fetched.status.success(), "{}", text(&fetched.stderr));
    assert!(text(&fetched.stdout).starts_with("tester/small (PyLate"), "{}", text(&fetched.stdout));
    let requests = hub.requests();
    assert!(requests.iter().any(|r| r.starts_with("/cdn/1_Dense/model.safetensors")), "{requests:?}");
    assert!(!requests.iter().any(|r| r.contains("onnx")), "{requests:?}");
    for request in &requests {
        assert_eq!(
            request.contains(" token "),
            !request.starts_with("/cdn/"),
            "{request}: the token is the hub's alone"
        );
    }
    let again = folder.run(&["convert", "tester/small", "out"], Some(&hub.endpoint));
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert_eq!(hub.requests().len(), 1, "only the list is asked for again");
    // The Python package finds the files in the same place.
    assert!(
        folder
            .0
            .path()
            .join(format!("hub/hub/models--tester--small/snapshots/{COMMIT}/1_Dense/config.json"))
            .is_file()
    );
    // Nobody listens there: the cache answers, and it is said.
    let offline = folder.run(&["convert", "tester/small", "out"], Some("http://127.0.0.1:9"));
    assert!(offline.status.success(), "{}", text(&offline.stderr));
    assert!(text(&offline.stderr).contains("the copy in the cache is used"), "{}", text(&offline.stderr));
}

#[test]
fn a_download_that_broke_off_goes_on_where_it_stopped() {
    let folder = Folder::new();
    let hub =
        Hub::start("pylate-bert", Faults { cut: Some(("model.safetensors", 50_000)), ..Faults::default() });
    let broken = folder.run(&["convert", "tester/small", "out"], Some(&hub.endpoint));
    assert_eq!(broken.status.code(), Some(1));
    assert!(text(&broken.stderr).contains("kept and continued"), "{}", text(&broken.stderr));
    hub.requests();
    let whole = folder.run(&["convert", "tester/small", "out"], Some(&hub.endpoint));
    assert!(whole.status.success(), "{}", text(&whole.stderr));
    let requests = hub.requests();
    assert!(requests.iter().any(|r| r == "/cdn/model.safetensors 50000"), "{requests:?}");
}

#[test]
fn a_hub_that_refuses_or_gives_other_bytes_is_an_error() {
    let folder = Folder::new();
    let hub = Hub::start("pylate-bert", Faults { digest: Some("model.safetensors"), ..Faults::default() });
    for (name, said) in
        [("tester/small", "SHA-256"), ("tester/absent", "404; check owner, name and revision")]
    {
        let refused = folder.run(&["convert", name, "out"], Some(&hub.endpoint));
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains(said), "{name}: {}", text(&refused.stderr));
    }
    let nobody = folder.run(&["convert", "tester/small", "out"], Some("http://127.0.0.1:9"));
    assert!(text(&nobody.stderr).contains("HF_ENDPOINT"), "{}", text(&nobody.stderr));
    assert!(!folder.0.path().join("out").exists());
}

/// The commands of docs/jacolbert.md, typed as they stand there but for those that fetch: the dictionary is the one that `npm test` has made of the same package, and of
/// the npm package there is what the last command looks for.
#[cfg(unix)]
#[test]
#[expect(clippy::print_stderr, reason = "a test that skips says why")]
fn the_commands_of_the_jacolbert_page_work_as_they_are_written() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let dictionary = root.join("target/dictionary");
    if !dictionary.join("dictionary-0.bin").is_file() {
        assert!(std::env::var_os("REQUIRE_DICTIONARY").is_none(), "target/dictionary holds no dictionary");
        eprintln!("skipped: target/dictionary holds no dictionary; `npm test` makes it");
        return;
    }
    let page = std::fs::read_to_string(root.join("docs/jacolbert.md")).unwrap();
    let block = page.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let commands: Vec<&str> = block.lines().collect();
    assert_eq!(commands.len(), 4, "{commands:?}");
    let search =
        page.split('`').find(|text| text.starts_with("shirube search ")).expect("a search in the page");

    let folder = Folder::new();
    let unpacked = folder.0.path().join("unidic-lite-1.0.8/unidic_lite");
    std::fs::create_dir_all(&unpacked).unwrap();
    std::os::unix::fs::symlink(dictionary.canonicalize().unwrap(), unpacked.join("dicdir")).unwrap();
    std::fs::create_dir_all(folder.0.path().join("dist")).unwrap();
    let html = "<html lang=ja><head><title>メモ化</title></head><body><main><h1>メモ化</h1><p>再レンダリングを減らすには、値をメモ化します。</p></main></body></html>";
    std::fs::write(folder.0.path().join("dist/index.html"), html).unwrap();
    let package = folder.0.path().join("node_modules/shirube");
    for name in ["dist/ui.js", "model/manifest.json"] {
        std::fs::create_dir_all(package.join(name).parent().unwrap()).unwrap();
        std::fs::write(package.join(name), name).unwrap();
    }
    let hub = Hub::with("answerdotai/JaColBERTv2.5", "colbert-ai-mecab", Faults::default());
    let bin = Path::new(env!("CARGO_BIN_EXE_shirube")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    assert!(commands[0].starts_with("pip download") && commands[2] == "npm install shirube", "{commands:?}");
    for command in [commands[1], commands[3], search] {
        let mut shell = Command::new("sh");
        shell.args(["-ec", command]).env("PATH", &path);
        folder.alone(&mut shell, Some(&hub.endpoint));
        let done = shell.output().unwrap();
        assert!(done.status.success(), "{command}: {}", text(&done.stderr));
        if command == search {
            assert!(text(&done.stdout).contains("メモ化"), "{}", text(&done.stdout));
        }
    }
    let beside = folder.0.path().join("dist/shirube");
    assert!(beside.join("ui.js").is_file());
    for name in ["manifest.json", "dictionary-0.bin", "dictionary-LICENSE.txt"] {
        let (written, copied) =
            (folder.0.path().join("jacolbert").join(name), beside.join("model").join(name));
        assert_eq!(std::fs::read(written).unwrap(), std::fs::read(copied).unwrap(), "{name}");
    }
}
