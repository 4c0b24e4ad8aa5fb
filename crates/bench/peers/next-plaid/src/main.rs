//! `peer-next-plaid DOCUMENTS QUERIES INDEX`: builds an index, prints its size, then for each line `n_ivf_probe n_full_scores` answers all queries.

use ndarray::Array2;
use next_plaid::{IndexConfig, MmapIndex, SearchParameters};
use std::io::BufRead as _;
use std::time::Instant;

fn read(path: &str) -> Vec<Array2<f32>> {
    let bytes = std::fs::read(path).expect("the bench wrote this file");
    let number = |i: usize| u32::from_le_bytes(bytes[4 * i..4 * i + 4].try_into().expect("four bytes")) as usize;
    let (dim, n) = (number(0), number(1));
    let mut at = 8 + 4 * n;
    (0..n)
        .map(|i| {
            let rows = number(2 + i);
            let values = bytes[at..at + 4 * rows * dim].chunks_exact(4);
            at += 4 * rows * dim;
            let values = values.map(|b| f32::from_le_bytes(b.try_into().expect("four bytes"))).collect();
            Array2::from_shape_vec((rows, dim), values).expect("rows of dim")
        })
        .collect()
}

fn folder_bytes(path: &std::path::Path) -> u64 {
    std::fs::read_dir(path)
        .expect("the index was just written")
        .map(|entry| {
            let entry = entry.expect("readable");
            let meta = entry.metadata().expect("readable");
            if meta.is_dir() { folder_bytes(&entry.path()) } else { meta.len() }
        })
        .sum()
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let (documents, queries) = (read(&arguments[1]), read(&arguments[2]));
    std::fs::create_dir_all(&arguments[3]).expect("a folder for the index");
    let start = Instant::now();
    let index = MmapIndex::create_with_kmeans(&documents, &arguments[3], &IndexConfig::default()).expect("an index");
    let seconds = start.elapsed().as_secs_f64();
    drop(documents);
    let bytes = folder_bytes(std::path::Path::new(&arguments[3]));
    println!("{{\"index_bytes\": {bytes}, \"build_seconds\": {seconds}}}");
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line");
        let numbers: Vec<usize> = line.split_whitespace().map(|n| n.parse().expect("a number")).collect();
        let parameters = SearchParameters {
            n_ivf_probe: numbers[0],
            n_full_scores: numbers[1],
            top_k: 10,
            // The default, 0.4, is for embeddings of length 1; ours carry a weight in their length.
            centroid_score_threshold: None,
            ..SearchParameters::default()
        };
        let (mut ms, mut hits) = (Vec::new(), Vec::new());
        for query in &queries {
            let start = Instant::now();
            let found = index.search(query, &parameters, None).expect("an answer");
            ms.push(start.elapsed().as_secs_f64() * 1e3);
            hits.push(found.passage_ids);
        }
        println!("{{\"ms\": {ms:?}, \"hits\": {hits:?}}}");
    }
}
