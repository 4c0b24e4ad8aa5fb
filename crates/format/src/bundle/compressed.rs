//! Compression inside files: several free hosts do not compress on the wire, and Japanese text shrinks to a third.
//!
//! A *compressed body* is `u32` length of the content and a zlib stream (RFC 1950) up to the end. The length may not exceed what the stream can
//! stand for, and Adler-32 inside the stream refuses damaged bytes even where no digest names them.

use super::MAX_FILE_BYTES;
use super::bytes::Cursor;
use crate::FormatError;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

/// zlib level of the writer: the smallest files; a site's text takes a second or two.
const LEVEL: u8 = 9;

/// Bytes that one byte of a deflate stream can stand for, at most (a 258-byte copy in two bits).
const LARGEST_RATIO: usize = 1032;

/// Appends `content` as a compressed body.
pub(super) fn put(out: &mut Vec<u8>, content: &[u8]) {
    super::bytes::put_u32(out, content.len() as u32);
    out.extend(miniz_oxide::deflate::compress_to_vec_zlib(content, LEVEL));
}

/// Appends `content` as a compressed body whose stream only stores it: for what does not compress.
pub(super) fn put_stored(out: &mut Vec<u8>, content: &[u8]) {
    super::bytes::put_u32(out, content.len() as u32);
    out.extend(miniz_oxide::deflate::compress_to_vec_zlib(content, 0));
}

/// Reads the compressed body that fills the rest of `cursor`. No more is allocated than the compressed bytes can stand for.
pub(super) fn take(cursor: &mut Cursor<'_>, name: &str) -> Result<Vec<u8>, FormatError> {
    let most = cursor.left().saturating_mul(LARGEST_RATIO).min(MAX_FILE_BYTES as usize);
    let content_bytes = cursor.count(name, 0, most)?;
    let compressed = cursor.rest();
    let mut content = vec![0; content_bytes];
    let flags = inflate_flags::TINFL_FLAG_PARSE_ZLIB_HEADER
        | inflate_flags::TINFL_FLAG_COMPUTE_ADLER32
        | inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, n_read, n_written) =
        decompress(&mut DecompressorOxide::new(), compressed, &mut content, 0, flags);
    if status != TINFLStatus::Done || n_read != compressed.len() || n_written != content_bytes {
        return Err(cursor.invalid(format!(
            "zlib ends with {status:?} after {n_read} of {} bytes, {n_written} of {content_bytes} bytes written",
            compressed.len()
        )));
    }
    Ok(content)
}
