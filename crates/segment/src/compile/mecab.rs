//! Reading MeCab's binary dictionaries (format 102): `sys.dic`, `unk.dic`, `matrix.bin`, `char.bin`.

use crate::characters::{Character, N_CHARACTERS};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

/// Errors of reading a package and writing our file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The operating system refused.
    #[error("{path}: {source}; name the folder that holds sys.dic, unk.dic, matrix.bin and char.bin")]
    Io {
        /// File.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that is not what MeCab writes.
    #[error("{path}: {what}; install the package again (pip install unidic-lite)")]
    Damaged {
        /// File.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// A dictionary beyond the limits of our format.
    #[error("the dictionary is too large for this format: {what}")]
    TooLarge {
        /// Its sizes.
        what: String,
    },
}

/// One reading of a surface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) left: u16,
    pub(crate) right: u16,
    pub(crate) cost: i16,
}

/// A MeCab dictionary in memory, features left out.
#[derive(Clone)]
pub struct MecabDictionary {
    pub(crate) surfaces: Vec<(String, Vec<Token>)>,
    /// By category, in the order of `char.bin`.
    pub(crate) unknown: Vec<Vec<Token>>,
    pub(crate) characters: Vec<u32>,
    pub(crate) n_left: usize,
    pub(crate) n_right: usize,
    /// `[n_left, n_right]`, row-major: left id of the right word, right id of the left word.
    connections: Vec<i16>,
    /// First 16 bytes of a SHA-256 over the four files.
    pub(crate) source: [u8; 16],
}

impl std::fmt::Debug for MecabDictionary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MecabDictionary")
            .field("surfaces", &self.surfaces.len())
            .field("n_left", &self.n_left)
            .field("n_right", &self.n_right)
            .finish_non_exhaustive()
    }
}

impl MecabDictionary {
    /// The dictionary in `folder`, the `dicdir` of a package.
    ///
    /// # Errors
    /// [`CompileError::Io`], [`CompileError::Damaged`].
    pub fn read(folder: &Path) -> Result<Self, CompileError> {
        let mut digest = Sha256::new();
        let mut open = |name: &str| {
            let path = folder.join(name);
            let bytes =
                std::fs::read(&path).map_err(|source| CompileError::Io { path: path.clone(), source })?;
            digest.update((bytes.len() as u64).to_le_bytes());
            digest.update(&bytes);
            Ok((path, bytes))
        };
        let (path, bytes) = open("sys.dic")?;
        let damaged = |path: PathBuf| move |what: String| CompileError::Damaged { path, what };
        let system = TokenFile::parse(&bytes).map_err(damaged(path.clone()))?;
        let surfaces = system.surfaces().map_err(damaged(path))?;
        let (n_left, n_right) = (system.n_left, system.n_right);
        drop(bytes);
        let (path, bytes) = open("char.bin")?;
        let (names, characters) = categories(&bytes).map_err(damaged(path))?;
        let (path, bytes) = open("unk.dic")?;
        let unknown = unknown(&bytes, &names).map_err(damaged(path))?;
        let (path, bytes) = open("matrix.bin")?;
        let connections = connections(&bytes, n_left, n_right).map_err(damaged(path.clone()))?;
        let ids = surfaces.iter().map(|(_, tokens)| tokens).chain(&unknown).flatten();
        if let Some(token) =
            ids.clone().find(|t| usize::from(t.left) >= n_left || usize::from(t.right) >= n_right)
        {
            return Err(damaged(path)(format!(
                "{token:?} is outside of {n_left} left and {n_right} right ids"
            )));
        }
        let mut source = [0; 16];
        source.copy_from_slice(&digest.finalize()[..16]);
        Ok(Self { surfaces, unknown, characters, n_left, n_right, connections, source })
    }

    /// Cost of a word with right id `right` before one with left id `left`.
    pub(crate) fn connection(&self, left: u16, right: u16) -> i16 {
        self.connections[usize::from(left) * self.n_right + usize::from(right)]
    }

    /// A dictionary from its parts, for tests.
    #[cfg(test)]
    pub(crate) fn of(
        surfaces: Vec<(String, Vec<Token>)>,
        unknown: Vec<Vec<Token>>,
        characters: Vec<u32>,
        n_ids: usize,
        connections: Vec<i16>,
    ) -> Self {
        Self { surfaces, unknown, characters, n_left: n_ids, n_right: n_ids, connections, source: [7; 16] }
    }

    /// Keeps only the surfaces that `wanted` takes, for small dictionaries in tests: texts whose substrings are all wanted keep their words.
    pub fn retain(&mut self, mut wanted: impl FnMut(&str) -> bool) {
        self.surfaces.retain(|(surface, _)| wanted(surface));
        // Another dictionary now.
        let mut digest = Sha256::new();
        digest.update(self.source);
        self.surfaces.iter().for_each(|(surface, _)| digest.update(format!("{surface}\0")));
        self.source.copy_from_slice(&digest.finalize()[..16]);
    }

    /// The licence under which a part of `folder` may be handed on: the package's file `BSD`, or `LICENSE` or `COPYING`.
    ///
    /// # Errors
    /// [`CompileError::Io`] where there is none.
    pub fn license(folder: &Path) -> Result<String, CompileError> {
        let names = ["BSD", "LICENSE", "COPYING"];
        let path = names.map(|name| folder.join(name)).into_iter().find(|path| path.is_file());
        let path = path.unwrap_or_else(|| folder.join(names[0]));
        std::fs::read_to_string(&path).map_err(|source| CompileError::Io { path, source })
    }

    /// Surfaces and tokens.
    pub fn counts(&self) -> (usize, usize) {
        (self.surfaces.len(), self.surfaces.iter().map(|(_, tokens)| tokens.len()).sum())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, String> {
    let four = bytes.get(at..at + 4).ok_or_else(|| format!("it ends before byte {}", at + 4))?;
    Ok(u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}

/// A `.dic` file: header of 72 bytes, double array, tokens of 16 bytes, features.
struct TokenFile<'a> {
    n_left: usize,
    n_right: usize,
    /// `(base, check)` of 4 bytes each.
    array: &'a [u8],
    tokens: &'a [u8],
}

/// Marks the file together with its length.
const MAGIC: u32 = 0xef71_8f77;
const VERSION: u32 = 102;
const HEADER_BYTES: usize = 72;

impl<'a> TokenFile<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let field = |i: usize| u32_at(bytes, i * 4).map(|n| n as usize);
        if u32_at(bytes, 0)? ^ MAGIC != bytes.len() as u32 {
            return Err("it does not begin as a MeCab dictionary of its length does".to_owned());
        }
        if field(1)? != VERSION as usize {
            return Err(format!("version {}, expected {VERSION}", field(1)?));
        }
        let charset = bytes.get(40..HEADER_BYTES).unwrap_or_default();
        let charset = String::from_utf8_lossy(charset).trim_end_matches('\0').to_ascii_lowercase();
        if charset != "utf8" && charset != "utf-8" {
            return Err(format!("charset {charset}, expected UTF-8"));
        }
        let (n_array, n_tokens) = (field(6)?, field(7)?);
        let body = bytes.get(HEADER_BYTES..).unwrap_or_default();
        let array = body.get(..n_array).ok_or("its double array is cut off")?;
        let tokens = body.get(n_array..n_array + n_tokens).ok_or("its tokens are cut off")?;
        Ok(Self { n_left: field(4)?, n_right: field(5)?, array, tokens })
    }

    fn unit(&self, at: usize) -> Option<(i32, u32)> {
        let base = u32_at(self.array, at * 8).ok()? as i32;
        Some((base, u32_at(self.array, at * 8 + 4).ok()?))
    }

    /// All keys with their tokens, in the order of their bytes.
    fn surfaces(&self) -> Result<Vec<(String, Vec<Token>)>, String> {
        let mut out = Vec::new();
        let (root, _) = self.unit(0).ok_or("its double array is empty")?;
        let mut stack = vec![(root, Vec::new())];
        while let Some((base, key)) = stack.pop() {
            let at = usize::try_from(base).map_err(|_| "its double array goes astray")?;
            if key.len() > 1 << 10 {
                return Err("its double array goes in circles".to_owned());
            }
            if let Some((value, check)) = self.unit(at)
                && check == at as u32
                && value < 0
            {
                let value = !value as usize;
                let surface = String::from_utf8(key.clone())
                    .map_err(|_| format!("the surface {key:02x?} is not UTF-8"))?;
                out.push((surface, self.tokens(value >> 8, value & 0xff)?));
            }
            for byte in (0..=255u8).rev() {
                if let Some((next, check)) = self.unit(at + 1 + usize::from(byte))
                    && check == at as u32
                    && next >= 0
                {
                    let mut key = key.clone();
                    key.push(byte);
                    stack.push((next, key));
                }
            }
        }
        Ok(out)
    }

    fn tokens(&self, first: usize, n: usize) -> Result<Vec<Token>, String> {
        let bytes = self
            .tokens
            .get(first * 16..(first + n) * 16)
            .ok_or_else(|| format!("tokens {first} to {} are beyond its end", first + n))?;
        let u16_at = |token: &[u8], at: usize| u16::from_le_bytes([token[at], token[at + 1]]);
        Ok(bytes
            .chunks_exact(16)
            .map(|token| Token {
                left: u16_at(token, 0),
                right: u16_at(token, 2),
                cost: u16_at(token, 6) as i16,
            })
            .collect())
    }
}

/// Names of the categories, and the table of characters.
fn categories(bytes: &[u8]) -> Result<(Vec<String>, Vec<u32>), String> {
    let n = u32_at(bytes, 0)? as usize;
    let names = bytes.get(4..4 + 32 * n).filter(|_| n <= 18).ok_or("its categories are cut off")?;
    let names = names
        .chunks_exact(32)
        .map(|name| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned())
        .collect();
    let table = &bytes[4 + 32 * n..];
    if table.len() != N_CHARACTERS * 4 {
        return Err(format!("{} bytes of characters, expected {}", table.len(), N_CHARACTERS * 4));
    }
    let table: Vec<u32> =
        table.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
    match table.iter().find(|&&c| Character(c).category() >= n) {
        Some(c) => Err(format!("character {c:08x} has none of the {n} categories")),
        None => Ok((names, table)),
    }
}

/// The tokens of each category.
fn unknown(bytes: &[u8], names: &[String]) -> Result<Vec<Vec<Token>>, String> {
    let mut surfaces = TokenFile::parse(bytes)?.surfaces()?;
    names
        .iter()
        .map(|name| {
            let at = surfaces.iter().position(|(key, _)| key == name);
            at.map(|at| surfaces.swap_remove(at).1).ok_or_else(|| format!("it has no category {name}"))
        })
        .collect()
}

/// The matrix, `[n_left, n_right]`.
fn connections(bytes: &[u8], n_left: usize, n_right: usize) -> Result<Vec<i16>, String> {
    // The file counts the other way round: first the right ids of left words.
    let sizes = u32_at(bytes, 0)?;
    let (right, left) = ((sizes & 0xffff) as usize, (sizes >> 16) as usize);
    if bytes.len() != 4 + right * left * 2 || left < n_left || right < n_right {
        return Err(format!(
            "{} bytes for {right} x {left} costs, where sys.dic has {n_right} x {n_left} ids",
            bytes.len()
        ));
    }
    let cost = |left: usize, at: usize| {
        let at = 4 + (left * right + at) * 2;
        i16::from_le_bytes([bytes[at], bytes[at + 1]])
    };
    Ok((0..n_left).flat_map(|left| (0..n_right).map(move |at| cost(left, at))).collect())
}
