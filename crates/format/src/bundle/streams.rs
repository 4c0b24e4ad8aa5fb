//! What a bundle spares its successor: compressing again what did not change takes most of the time of writing a bundle.

use super::compressed;
use std::collections::HashMap;

/// Compressed blocks of an earlier bundle by what they hold. They are those that this build's compressor makes of the same content, so that a bundle packed
/// with them is equal, byte for byte, to one packed without.
#[derive(Clone, Debug, Default)]
pub struct Streams(HashMap<Vec<u8>, Vec<u8>>);

impl Streams {
    /// Takes a block, a compressed body alone, and its content.
    pub(super) fn keep(&mut self, content: Vec<u8>, block: &[u8]) {
        self.0.insert(content, block.to_vec());
    }

    /// The block of `content`.
    pub(super) fn block(&self, content: &[u8]) -> Vec<u8> {
        self.0.get(content).cloned().unwrap_or_else(|| {
            let mut block = Vec::new();
            compressed::put(&mut block, content);
            block
        })
    }
}
