//! Any bytes as a dictionary, with a right checksum: refused, or opened and used, never a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shirube_segment::{Dictionary, crc32};

fuzz_target!(|bytes: &[u8]| {
    let _ = Dictionary::from_bytes(bytes);
    if bytes.len() > 64 {
        let mut bytes = bytes.to_vec();
        bytes[..6].copy_from_slice(b"SHSD\x01\x00");
        let right = crc32(&[&bytes[..60], &bytes[64..]]);
        bytes[60..64].copy_from_slice(&right.to_le_bytes());
        if let Ok(dictionary) = Dictionary::from_bytes(&bytes) {
            for text in ["", "東京都に住む", "カタカナabc 123😀"] {
                assert!(dictionary.words(text).into_iter().all(|word| text.get(word).is_some()));
            }
        }
    }
});
