//! Whatever CodesShard reads is written back the same; everything else is an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shirube_format::bundle::CodesShard;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(found) = CodesShard::parse("fuzz", bytes) {
        assert_eq!(CodesShard::parse("fuzz", &found.to_bytes()).expect("just written"), found);
    }
});
