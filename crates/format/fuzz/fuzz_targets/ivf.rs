//! Whatever IvfDirectory reads is written back the same, and whatever lists it reads ascend; everything else is an error. The first two bytes say where the
//! directory ends and the block begins.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shirube_format::bundle::IvfDirectory;

fuzz_target!(|bytes: &[u8]| {
    let Some((&[low, high], rest)) = bytes.split_first_chunk() else { return };
    let (directory, block) = rest.split_at(rest.len().min(usize::from(low) | usize::from(high) << 8));
    if let Ok(found) = IvfDirectory::parse("fuzz", directory) {
        assert_eq!(IvfDirectory::parse("fuzz", &found.to_bytes()).expect("just written"), found);
        for list in found.parse_block(0, block).into_iter().flatten() {
            assert!(list.windows(2).all(|w| w[0] < w[1]));
            assert!(list.iter().all(|&document| (document as usize) < found.n_documents()));
        }
    }
});
