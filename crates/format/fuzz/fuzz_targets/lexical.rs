//! A block of words that the directory's reader and its own accept can be searched; everything else is an error. The first two bytes say where the directory
//! ends and the block begins.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shirube_format::bundle::LexicalDirectory;

fuzz_target!(|bytes: &[u8]| {
    let Some((&[low, high], rest)) = bytes.split_first_chunk() else { return };
    let (directory, block) = rest.split_at(rest.len().min(usize::from(low) | usize::from(high) << 8));
    let Ok(found) = LexicalDirectory::parse("fuzz", directory) else { return };
    assert!(found.block_of("\u{10ffff}").is_none_or(|block| block < found.table.n_blocks()));
    if found.table.n_blocks() > 0
        && let Ok(words) = found.parse_block(0, block)
    {
        for term in ["", "の", "所有", "zzz"] {
            if let Some((n_documents, postings)) = words.postings(term) {
                let held: Vec<_> = postings.collect();
                assert_eq!(held.len(), n_documents as usize);
                assert!(held.iter().all(|&(document, count)| count <= found.lengths[document as usize]));
            }
        }
    }
});
