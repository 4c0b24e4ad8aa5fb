//! Whatever CodecTables reads is written back the same; everything else is an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shirube_format::bundle::CodecTables;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(found) = CodecTables::parse("fuzz", bytes) {
        assert_eq!(CodecTables::parse("fuzz", &found.to_bytes()).expect("just written"), found);
    }
});
