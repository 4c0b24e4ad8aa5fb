//! Any bytes as `tokenizer.bin`: refused, or opened, used and written back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shirube_text::Tokenizer;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(found) = Tokenizer::from_bytes(bytes) {
        let written = found.to_bytes();
        let again = Tokenizer::from_bytes(&written).expect("just written");
        assert_eq!(again.to_bytes(), written);
    }
});
