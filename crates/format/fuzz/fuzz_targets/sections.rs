//! A directory of sections that is read names its documents consistently, and a block holds as many as it says; everything else is an error. The first two
//! bytes say where the directory ends and the block begins.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shirube_format::bundle::{SectionsDirectory, parse_sections};

fuzz_target!(|bytes: &[u8]| {
    let Some((&[low, high], rest)) = bytes.split_first_chunk() else { return };
    let (directory, block) = rest.split_at(rest.len().min(usize::from(low) | usize::from(high) << 8));
    if let Ok(found) = SectionsDirectory::parse("fuzz", directory) {
        assert!(found.documents.block_of(0) < found.documents.table.n_blocks());
        if let Ok(sections) = found.parse_block(0, block) {
            assert_eq!(sections.len(), found.documents.documents_of(0).len());
        }
    }
    for (section, _) in parse_sections("fuzz", block).into_iter().flatten() {
        let document = section.document();
        assert!(document.parts.iter().all(|(_, range)| document.text.get(range.clone()).is_some()));
    }
});
