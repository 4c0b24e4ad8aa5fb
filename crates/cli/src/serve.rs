//! `shirube serve`: a folder over HTTP on this machine, to try a site before it is published.

use anyhow::{Context as _, Result};
use shirube_site::arguments::ServeArguments;
use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Longest request head that is read.
const MAX_HEAD_BYTES: u64 = 16 << 10;

/// Ports tried after the first one where that is taken.
const PORTS: u16 = 20;

pub(crate) fn run(arguments: &ServeArguments) -> Result<()> {
    let listener = listen(arguments.port)?;
    announce(&listener, &arguments.folder)?;
    serve(&listener, &arguments.folder)
}

/// A listener on loopback at `port` or a little above it.
pub(crate) fn listen(port: u16) -> Result<TcpListener> {
    let mut last = None;
    for port in port..=port.saturating_add(PORTS) {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("no port")?)
        .with_context(|| format!("no free port from {port} to {}", port.saturating_add(PORTS)))
}

pub(crate) fn announce(listener: &TcpListener, folder: &Path) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{} at http://localhost:{}/   (Ctrl+C ends)",
        folder.display(),
        listener.local_addr()?.port()
    )?;
    Ok(out.flush()?)
}

/// Answers requests until the process ends.
pub(crate) fn serve(listener: &TcpListener, folder: &Path) -> Result<()> {
    let folder = folder.canonicalize().with_context(|| folder.display().to_string())?;
    for stream in listener.incoming() {
        let folder = folder.clone();
        // A visitor that goes away in the middle is no error of ours.
        std::thread::spawn(move || stream.and_then(|stream| answer(&stream, &folder)).ok());
    }
    Ok(())
}

fn answer(mut stream: &TcpStream, folder: &Path) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut lines = BufReader::new(stream.take(MAX_HEAD_BYTES)).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    // The rest of the head is read, so that closing does not cut the visitor off, and not looked at.
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, kind, body) = match (method, find(folder, target)) {
        ("GET" | "HEAD", Some(path)) => match std::fs::read(&path) {
            Ok(bytes) => ("200 OK", content_type(&path), bytes),
            Err(_) => not_found(),
        },
        ("GET" | "HEAD", None) => not_found(),
        _ => ("405 Method Not Allowed", "text/plain; charset=utf-8", b"405: only GET and HEAD\n".to_vec()),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    if method != "HEAD" {
        stream.write_all(&body)?;
    }
    stream.flush()
}

fn not_found() -> (&'static str, &'static str, Vec<u8>) {
    ("404 Not Found", "text/plain; charset=utf-8", b"404: no such file\n".to_vec())
}

/// The file that an address means: as it stands, as a folder's `index.html`, or with `.html` added. `None` outside the folder.
fn find(folder: &Path, target: &str) -> Option<PathBuf> {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let decoded = shirube_site::decode_path(path)?;
    let relative = Path::new(decoded.trim_start_matches('/'));
    if relative.components().any(|part| !matches!(part, Component::Normal(_))) {
        return None;
    }
    let plain = folder.join(relative);
    let mut html = plain.clone().into_os_string();
    html.push(".html");
    let found =
        [plain.clone(), plain.join("index.html"), PathBuf::from(html)].into_iter().find(|p| p.is_file())?;
    // Links may not lead out of the folder either.
    found.canonicalize().ok().filter(|real| real.starts_with(folder))
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|e| e.to_str()).unwrap_or_default() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" => "application/json; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "txt" | "md" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(folder: &Path, request: &str) -> (String, Vec<u8>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        answer(&listener.accept().unwrap().0, folder).unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        let at = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        (String::from_utf8(all[..at].to_vec()).unwrap(), all[at + 4..].to_vec())
    }

    #[test]
    fn pages_are_found_and_nothing_outside_the_folder_is() {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path();
        let folder = root.join("site");
        std::fs::create_dir_all(folder.join("ガイド")).unwrap();
        for (path, text) in [
            ("site/index.html", "top"),
            ("site/ガイド/index.html", "guide"),
            ("site/a.html", "a"),
            ("secret.txt", "no"),
        ] {
            std::fs::write(root.join(path), text).unwrap();
        }
        let folder = folder.canonicalize().unwrap();
        for (target, body) in [
            ("/", "top"),
            ("/?q=1", "top"),
            ("/a", "a"),
            ("/a.html", "a"),
            ("/%E3%82%AC%E3%82%A4%E3%83%89/", "guide"),
        ] {
            let (head, found) = ask(&folder, &format!("GET {target}"));
            assert!(head.starts_with("HTTP/1.1 200 "), "{target}: {head}");
            assert!(head.contains("text/html") && found == body.as_bytes(), "{target}");
        }
        for target in
            ["/none", "/../secret.txt", "/%2e%2e/secret.txt", "/a/../../secret.txt", "//secret.txt", "/%ff"]
        {
            assert!(ask(&folder, &format!("GET {target}")).0.starts_with("HTTP/1.1 404 "), "{target}");
        }
        let (head, body) = ask(&folder, "HEAD /a");
        assert!(head.contains("Content-Length: 1") && body.is_empty());
        assert!(ask(&folder, "POST /a").0.starts_with("HTTP/1.1 405 "));
    }
}
