//! What a bundle spares its successor: compressing again what did not change takes most of the time of writing a bundle.

use super::compressed;
use std::collections::HashMap;

/// Content that is kept at most; what comes after is compressed again. A site of 1,500 pages has 20 MiB.
const MOST_BYTES: usize = 256 << 20;

/// Compressed blocks of an earlier bundle by what they hold. They are those that this build's compressor makes of the same content, so that a bundle packed
/// with them is equal, byte for byte, to one packed without.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    blocks: HashMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
}

impl Streams {
    /// Takes a block, a compressed body alone, and its content.
    pub(super) fn keep(&mut self, content: &[u8], block: &[u8]) {
        if self.bytes + content.len() <= MOST_BYTES {
            self.bytes += content.len();
            self.blocks.insert(content.to_vec(), block.to_vec());
        }
    }

    /// The block of `content`.
    pub(super) fn block(&self, content: &[u8]) -> Vec<u8> {
        self.blocks.get(content).cloned().unwrap_or_else(|| {
            let mut block = Vec::new();
            compressed::put(&mut block, content);
            block
        })
    }

    /// How many blocks are kept.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}
