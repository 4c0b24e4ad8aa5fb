//! Whatever CodesDirectory reads is written back the same, and whatever block it reads fits it; everything else is an error. The first two bytes say where
//! the directory ends and the block begins.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shirube_format::bundle::CodesDirectory;

fuzz_target!(|bytes: &[u8]| {
    let Some((&[low, high], rest)) = bytes.split_first_chunk() else { return };
    let (directory, block) = rest.split_at(rest.len().min(usize::from(low) | usize::from(high) << 8));
    if let Ok(found) = CodesDirectory::parse("fuzz", directory) {
        assert_eq!(CodesDirectory::parse("fuzz", &found.to_bytes()).expect("just written"), found);
        if let Ok(codes) = found.parse_block(0, block) {
            assert_eq!(codes.lengths.len(), found.documents.documents_of(0).len());
            assert!(codes.codes.iter().all(|&code| usize::from(code) < found.n_centroids));
        }
    }
});
