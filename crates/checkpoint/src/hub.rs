//! Checkpoints from a model hub that speaks Hugging Face's routes.
//!
//! Two routes: `GET /api/models/{name}/revision/{revision}?blobs=true` lists the files with their lengths and digests, and
//! `GET /{name}/resolve/{commit}/{file}` gives one, after redirects. Files lie in the cache as the Python package `huggingface_hub` has them
//! (`models--{owner}--{name}/snapshots/{commit}/`), so that what one fetched the other finds. A download that breaks off goes on where it
//! stopped. The way not taken: the crate hf-hub, whose version 1 brings an asynchronous runtime and an HTTP stack of its own.

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use ureq::config::RedirectAuthHeaders;

/// Longest list of files that is read.
const MAX_LIST: u64 = 32 << 20;

/// Why a checkpoint was not fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A name that is not `owner/model`.
    #[error("{name:?} is neither a folder nor the name of a model; give a folder that exists or owner/model")]
    Name {
        /// What was given.
        name: String,
    },
    /// The hub does not know it, or not to this visitor.
    #[error("{url}: {status}; {cure}")]
    Status {
        /// Address asked.
        url: String,
        /// HTTP status.
        status: u16,
        /// What to do.
        cure: &'static str,
    },
    /// No answer.
    #[error(
        "{url}: {source}; check the network, or HF_ENDPOINT where a mirror is meant. What was fetched so far is kept and continued"
    )]
    Transport {
        /// Address asked.
        url: String,
        /// What went wrong.
        source: Box<ureq::Error>,
    },
    /// The answer is not what the routes promise.
    #[error("{url}: {what}; check that HF_ENDPOINT is a hub")]
    Answer {
        /// Address asked.
        url: String,
        /// What is wrong.
        what: String,
    },
    /// A file came with another length or digest than listed.
    #[error("{file}: {what} {found}, but the hub lists {expected}; it was removed, fetch it again")]
    Content {
        /// Name inside the model.
        file: String,
        /// `length` or `SHA-256`.
        what: &'static str,
        /// As listed.
        expected: String,
        /// As received.
        found: String,
    },
    /// The cache cannot be written.
    #[error("{}: {source}; check the disk, or name another cache with HF_HOME", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Where models come from and where they are kept.
#[derive(Clone, Debug)]
pub struct Hub {
    /// Address without a slash at its end, `https://huggingface.co` for the public one.
    pub endpoint: String,
    /// Sent as a bearer token, never to another host than the endpoint's.
    pub token: Option<String>,
    /// Folder with `models--{owner}--{name}` in it.
    pub cache: PathBuf,
}

/// How far a download is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Name inside the model.
    pub file: &'a str,
    /// Bytes of this file that are there.
    pub done: u64,
    /// Bytes it has, where known.
    pub total: Option<u64>,
}

/// A fetched model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Folder with its files.
    pub folder: PathBuf,
    /// The commit it is of.
    pub commit: String,
    /// Bytes that came over the network; the rest was in the cache.
    pub bytes: u64,
    /// Why the hub was not asked: it did not answer, and the cache has the model.
    pub offline: Option<String>,
}

#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Sibling {
    fn size(&self) -> Option<u64> {
        self.lfs.as_ref().and_then(|lfs| lfs.size).or(self.size)
    }
}

/// Whether `name` could be the name of a model: two parts of letters, digits, `-`, `_` and `.`.
pub fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    name.split_once('/').is_some_and(|(owner, model)| part(owner) && part(model))
}

/// Whether a conversion reads this file. Of two formats of the same weights only safetensors are taken.
fn is_needed(file: &str, all: &[Sibling]) -> bool {
    let path = Path::new(file);
    if !path.components().all(|part| matches!(part, Component::Normal(_))) || path.components().count() > 2 {
        return false;
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let folder = file.strip_suffix(name).unwrap_or_default();
    // Modules lie in numbered folders; others hold exports to other formats.
    if !folder.is_empty() && !folder.starts_with(|c: char| c.is_ascii_digit()) {
        return false;
    }
    let here = |name: &str| all.iter().any(|sibling| sibling.rfilename == format!("{folder}{name}"));
    let safe = here("model.safetensors") || here("model.safetensors.index.json");
    match name {
        "artifact.metadata" | "vocab.txt" | "tokenizer.model" | "README.md" => true,
        _ if name.starts_with("pytorch_model") => {
            !safe && (name.ends_with(".bin") || name.ends_with(".json"))
        }
        _ if name.starts_with("model") && name.ends_with(".safetensors") => true,
        _ => name.ends_with(".json"),
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> HubError + '_ {
    move |source| HubError::Io { path: path.to_owned(), source }
}

impl Hub {
    fn agent(&self) -> ureq::Agent {
        ureq::Agent::config_builder()
            .http_status_as_error(false)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .user_agent(concat!("shirube/", env!("CARGO_PKG_VERSION")))
            .build()
            .into()
    }

    fn get(
        &self,
        agent: &ureq::Agent,
        url: &str,
        from: u64,
    ) -> Result<ureq::http::Response<ureq::Body>, HubError> {
        let mut request = agent.get(url);
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        let response = request
            .call()
            .map_err(|source| HubError::Transport { url: url.to_owned(), source: Box::new(source) })?;
        let status = response.status().as_u16();
        let cure = match status {
            200 | 206 | 416 => return Ok(response),
            401 | 403 => {
                "set HF_TOKEN to a token that may read it, and accept its terms on its page if it has any"
            }
            404 => "check owner, name and revision; private models are not found without HF_TOKEN",
            429 => "too many requests; wait a while or set HF_TOKEN",
            _ => "try again later",
        };
        Err(HubError::Status { url: url.to_owned(), status, cure })
    }

    /// The files of `name` at `revision` that a conversion needs, fetched where the cache does not have them.
    ///
    /// # Errors
    /// [`HubError`]. What was fetched before an error is kept: the next call goes on there.
    pub fn fetch(
        &self,
        name: &str,
        revision: &str,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Fetched, HubError> {
        if !is_name(name) {
            return Err(HubError::Name { name: name.to_owned() });
        }
        let home = self.cache.join(format!("models--{}", name.replace('/', "--")));
        let reference = home.join("refs").join(revision.replace('/', "-"));
        let agent = self.agent();
        let url = format!("{}/api/models/{name}/revision/{}?blobs=true", self.endpoint, escape(revision));
        let mut response = match self.get(&agent, &url, 0) {
            Err(error @ HubError::Transport { .. }) => {
                let commit = fs::read_to_string(&reference).unwrap_or_default();
                let folder = home.join("snapshots").join(commit.trim());
                // Only a snapshot that was complete leaves this mark.
                if commit.trim().is_empty() || !folder.join(COMPLETE).is_file() {
                    return Err(error);
                }
                let commit = commit.trim().to_owned();
                return Ok(Fetched { folder, commit, bytes: 0, offline: Some(error.to_string()) });
            }
            other => other?,
        };
        let answer = |what: String| HubError::Answer { url: url.clone(), what };
        let text = response.body_mut().with_config().limit(MAX_LIST).read_to_string();
        let text = text.map_err(|e| answer(format!("the list of files cannot be read: {e}")))?;
        let info: Info = serde_json::from_str(&text).map_err(|e| answer(format!("no list of files: {e}")))?;
        if info.sha.len() < 7 || !info.sha.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(answer("a commit that is none".to_owned()));
        }
        let folder = home.join("snapshots").join(&info.sha);
        let mut bytes = 0;
        for file in info.siblings.iter().filter(|file| is_needed(&file.rfilename, &info.siblings)) {
            bytes += self.file(&agent, name, &info.sha, &folder, file, progress)?;
        }
        fs::create_dir_all(home.join("refs")).map_err(io(&home))?;
        fs::write(folder.join(COMPLETE), "").map_err(io(&folder))?;
        fs::write(&reference, &info.sha).map_err(io(&reference))?;
        Ok(Fetched { folder, commit: info.sha, bytes, offline: None })
    }

    /// Fetches one file where it is not there; the bytes that came.
    fn file(
        &self,
        agent: &ureq::Agent,
        name: &str,
        commit: &str,
        folder: &Path,
        file: &Sibling,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<u64, HubError> {
        let path = folder.join(&file.rfilename);
        let total = file.size();
        let there = fs::metadata(&path).map(|found| found.len()).ok();
        if there.is_some_and(|bytes| total.is_none_or(|total| total == bytes)) {
            return Ok(0);
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io(parent))?;
        }
        let part = folder.join(format!("{}.incomplete", file.rfilename));
        let mut done = fs::metadata(&part).map_or(0, |found| found.len());
        if total.is_some_and(|total| done > total) {
            done = 0;
        }
        let url = format!("{}/{name}/resolve/{commit}/{}", self.endpoint, escape(&file.rfilename));
        let mut came = 0;
        if total.is_none_or(|total| done < total) || total == Some(0) {
            let mut response = self.get(agent, &url, done)?;
            if response.status().as_u16() != 206 {
                // No continuation: from the beginning.
                if response.status().as_u16() == 416 {
                    response = self.get(agent, &url, 0)?;
                }
                done = 0;
            }
            let mut out = OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(done == 0)
                .append(done > 0)
                .open(&part)
                .map_err(io(&part))?;
            let mut reader = response.into_body().into_with_config().limit(u64::MAX).reader();
            let mut buffer = vec![0; 1 << 17];
            loop {
                let n = match reader.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(n) => n,
                    Err(e) => {
                        return Err(HubError::Transport { url, source: Box::new(ureq::Error::Io(e)) });
                    }
                };
                out.write_all(&buffer[..n]).map_err(io(&part))?;
                done += n as u64;
                came += n as u64;
                progress(Progress { file: &file.rfilename, done, total });
            }
            out.flush().map_err(io(&part))?;
        }
        let wrong = |what: &'static str, expected: String, found: String| {
            // What is wrong as a whole must not be continued.
            let _ = fs::remove_file(&part);
            Err(HubError::Content { file: file.rfilename.clone(), what, expected, found })
        };
        if let Some(total) = total.filter(|&total| total != done) {
            if done < total {
                // Cut, not wrong: the part stays.
                let source = std::io::Error::new(
                    std::io::ErrorKind::UnexpectedEof,
                    format!("{done} of {total} bytes came"),
                );
                return Err(HubError::Transport { url, source: Box::new(ureq::Error::Io(source)) });
            }
            return wrong("length", total.to_string(), done.to_string());
        }
        if let Some(expected) = file.lfs.as_ref().and_then(|lfs| lfs.sha256.clone()) {
            let found = digest(&part).map_err(io(&part))?;
            if found != expected {
                return wrong("SHA-256", expected, found);
            }
        }
        fs::rename(&part, &path).map_err(io(&path))?;
        Ok(came)
    }
}

/// Marks a snapshot that has every file it needs.
const COMPLETE: &str = ".shirube-complete";

fn digest(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 17];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A path or revision in an address: everything but letters, digits, `-._~` and `/` as percent escapes.
fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                char::from(b).to_string()
            }
            _ => format!("%{b:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_conversion_reads_is_fetched() {
        let files: Vec<Sibling> = [
            "config.json",
            "model.safetensors",
            "pytorch_model.bin",
            "onnx/model.onnx",
            "onnx/config.json",
            "1_Dense/model.safetensors",
            "1_Dense/pytorch_model.bin",
            "2_Dense/pytorch_model.bin",
            "tf_model.h5",
            "vocab.txt",
            "../../etc/passwd.json",
            "README.md",
        ]
        .map(|name| Sibling { rfilename: name.to_owned(), size: None, lfs: None })
        .into();
        let taken: Vec<&str> =
            files.iter().map(|file| file.rfilename.as_str()).filter(|file| is_needed(file, &files)).collect();
        assert_eq!(
            taken,
            [
                "config.json",
                "model.safetensors",
                "1_Dense/model.safetensors",
                "2_Dense/pytorch_model.bin",
                "vocab.txt",
                "README.md",
            ]
        );
    }

    #[test]
    fn names_of_models_are_told_from_paths() {
        for name in ["answerdotai/JaColBERTv2.5", "a/b"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["./model", "../model", "a/b/c", "/a/b", "model", "a/", "a b/c"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
