//! Token embeddings waiting for their codec: in memory, and beyond a cap in a file.

use crate::error::IndexError;
use half::f16;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// Rows read from a file at once.
const ROWS: usize = 4096;

/// `f16` rows in the order they came: first those in the file, then those in memory.
#[derive(Debug)]
pub(crate) struct TokenStore {
    dim: usize,
    memory: Vec<f16>,
    spill: Option<Spill>,
}

#[derive(Debug)]
struct Spill {
    path: PathBuf,
    file: File,
    n_rows: usize,
    memory_bytes: usize,
}

impl Drop for Spill {
    fn drop(&mut self) {
        // Nobody can be told any more; a file left behind is harmless.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> IndexError {
    let path = path.display().to_string();
    move |source| IndexError::Io { path, what: source.to_string() }
}

impl TokenStore {
    pub(crate) fn new(dim: usize) -> Self {
        Self { dim, memory: Vec::new(), spill: None }
    }

    pub(crate) fn spill_to(&mut self, path: &Path, memory_bytes: usize) -> Result<(), IndexError> {
        let file = File::options().read(true).write(true).create_new(true).open(path).map_err(io(path))?;
        self.spill = Some(Spill { path: path.to_owned(), file, n_rows: 0, memory_bytes });
        Ok(())
    }

    pub(crate) fn n_rows(&self) -> usize {
        self.spill.as_ref().map_or(0, |s| s.n_rows) + self.memory.len() / self.dim
    }

    pub(crate) fn push(&mut self, rows: &[f32]) -> Result<(), IndexError> {
        self.memory.extend(rows.iter().map(|&v| f16::from_f32(v)));
        if let Some(spill) = &mut self.spill
            && 2 * self.memory.len() > spill.memory_bytes
        {
            let bytes: Vec<u8> = self.memory.iter().flat_map(|v| v.to_le_bytes()).collect();
            spill.file.write_all(&bytes).map_err(io(&spill.path))?;
            spill.n_rows += self.memory.len() / self.dim;
            self.memory.clear();
        }
        Ok(())
    }

    /// Gives all rows to `f`, at most `n_rows` at once, in order.
    pub(crate) fn chunks(
        &mut self,
        n_rows: usize,
        mut f: impl FnMut(&[f32]) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        let mut values = Vec::new();
        if let Some(Spill { path, file, n_rows: spilled, .. }) = &mut self.spill {
            file.seek(SeekFrom::Start(0)).map_err(io(path))?;
            let mut left = *spilled;
            let mut bytes = Vec::new();
            while left > 0 {
                let n = left.min(n_rows).min(ROWS);
                bytes.resize(2 * n * self.dim, 0);
                file.read_exact(&mut bytes).map_err(io(path))?;
                values.clear();
                values.extend(bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()));
                f(&values)?;
                left -= n;
            }
        }
        for chunk in self.memory.chunks(n_rows * self.dim) {
            values.clear();
            values.extend(chunk.iter().map(|v| v.to_f32()));
            f(&values)?;
        }
        Ok(())
    }

    /// The rows with these numbers, which ascend.
    pub(crate) fn gather(&mut self, numbers: &[usize]) -> Result<Vec<f32>, IndexError> {
        let dim = self.dim;
        let mut out = Vec::with_capacity(numbers.len() * dim);
        let (mut first, mut wanted) = (0, numbers.iter().peekable());
        self.chunks(ROWS, |chunk| {
            let n = chunk.len() / dim;
            while let Some(&i) = wanted.next_if(|&&i| i < first + n) {
                out.extend_from_slice(&chunk[(i - first) * dim..][..dim]);
            }
            first += n;
            Ok(())
        })?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_the_same_from_memory_and_from_a_file_that_is_gone_afterwards() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("spill");
        let row = |i: usize| [i as f32, 0.5, -(i as f32)];
        let mut in_memory = TokenStore::new(3);
        let mut spilled = TokenStore::new(3);
        spilled.spill_to(&path, 100).unwrap();
        assert!(
            matches!(TokenStore::new(3).spill_to(&path, 1), Err(IndexError::Io { .. })),
            "never another's file"
        );
        for i in 0..1000 {
            in_memory.push(&row(i)).unwrap();
            spilled.push(&row(i)).unwrap();
        }
        assert!(spilled.memory.len() < 60 && path.metadata().unwrap().len() > 5000);
        let wanted = [0, 1, 17, 500, 998, 999];
        let expected: Vec<f32> = wanted.iter().flat_map(|&i| row(i)).collect();
        for store in [&mut in_memory, &mut spilled] {
            assert_eq!(store.n_rows(), 1000);
            for _ in 0..2 {
                assert_eq!(store.gather(&wanted).unwrap(), expected);
            }
            let mut all = Vec::new();
            store
                .chunks(7, |chunk| {
                    assert!(chunk.len() <= 21);
                    all.extend_from_slice(chunk);
                    Ok(())
                })
                .unwrap();
            assert_eq!(all, (0..1000).flat_map(row).collect::<Vec<_>>());
        }
        drop(spilled);
        assert!(!path.exists());
    }
}
