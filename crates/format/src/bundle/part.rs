//! What the four parts of a bundle that come in blocks share: a directory file and, in shards under a folder, blocks.
//!
//! A directory is the part's magic, a `u32` version, and a compressed body. A block is a compressed body alone. Both are read to their last byte.

use super::bytes::{Cursor, put_u32};
use super::compressed;
use crate::FormatError;

/// One kind of directory and where its blocks lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) magic: [u8; 4],
    /// Newest version, the one written.
    pub(super) version: u32,
    /// Folder of the shards inside the bundle.
    pub(super) folder: &'static str,
}

impl Part {
    /// The directory's file.
    pub(super) fn directory(&self, body: &[u8]) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        put_u32(&mut out, self.version);
        compressed::put(&mut out, body);
        out
    }

    /// What `read` makes of the directory's file, all of it; `path` is only for messages.
    pub(super) fn read_directory<T>(
        &self,
        path: &str,
        bytes: &[u8],
        read: impl FnOnce(&mut Cursor<'_>) -> Result<T, FormatError>,
    ) -> Result<T, FormatError> {
        let mut cursor = Cursor::open(path, bytes, self.magic, self.version)?;
        let body = compressed::take(&mut cursor, "bytes of the directory")?;
        read_content(path, &body, read)
    }
}

/// What a block held before compression; `path` is only for messages.
pub(super) fn block_content(path: &str, bytes: &[u8]) -> Result<Vec<u8>, FormatError> {
    compressed::take(&mut Cursor::body(path, bytes), "bytes of the block")
}

/// What `read` makes of the content of a directory or block, all of it; `path` is only for messages.
pub(super) fn read_content<T>(
    path: &str,
    content: &[u8],
    read: impl FnOnce(&mut Cursor<'_>) -> Result<T, FormatError>,
) -> Result<T, FormatError> {
    let mut cursor = Cursor::body(path, content);
    let found = read(&mut cursor)?;
    if !cursor.is_done() {
        return Err(cursor.invalid(format!("{} bytes are left", cursor.left())));
    }
    Ok(found)
}
