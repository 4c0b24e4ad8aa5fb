//! Any bytes as a bundle's entry, as a model's manifest, and as a file of weights: read, or an error. What is read of an entry is written back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shirube_format::bundle::BundleEntry;
use shirube_format::model::{ModelManifest, Weights};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(entry) = BundleEntry::parse(bytes) {
        assert_eq!(BundleEntry::parse(&entry.to_bytes()).expect("just written"), entry);
    }
    let _ = ModelManifest::parse(bytes);
    let _ = Weights::read([("fuzz", bytes)]);
});
