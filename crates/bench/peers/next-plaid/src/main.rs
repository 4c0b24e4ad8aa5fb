//! `peer-next-plaid build DOCUMENTS INDEX kmeans_niters max_points_per_centroid`: builds an index and writes its size and the seconds taken to `INDEX.json`.
//! `peer-next-plaid search QUERIES INDEX`: for each line `n_ivf_probe n_full_scores` answers all queries.
//! `peer-next-plaid maxsim`: for each line `documents tokens dim seconds` answers with seconds of its exact MaxSim of 32 query tokens over so many plain documents.

extern crate blas_src;

use ndarray::{Array2, Axis};
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

fn build(documents: &str, folder: &str, kmeans_niters: usize, max_points_per_centroid: usize) {
    let documents = read(documents);
    std::fs::create_dir_all(folder).expect("a folder for the index");
    let start = Instant::now();
    let config = IndexConfig { kmeans_niters, max_points_per_centroid, ..IndexConfig::default() };
    MmapIndex::create_with_kmeans(&documents, folder, &config).expect("an index");
    let seconds = start.elapsed().as_secs_f64();
    let bytes = folder_bytes(std::path::Path::new(folder));
    let ready = format!("{{\"index_bytes\": {bytes}, \"build_seconds\": {seconds}}}");
    std::fs::write(format!("{folder}.json"), ready).expect("writable");
}

/// Numbers of a fixed sequence in [-1, 1): what a product costs does not depend on them.
fn numbers(rows: usize, dim: usize) -> Array2<f32> {
    let mut state = 1_u32;
    Array2::from_shape_fn((rows, dim), |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    })
}

/// Times `maxsim_score` over all documents in bursts, as the bench does for the others: the shortest counts.
fn maxsim() {
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line");
        let words: Vec<f64> = line.split_whitespace().map(|n| n.parse().expect("a number")).collect();
        let (documents, tokens, dim) = (words[0] as usize, words[1] as usize, words[2] as usize);
        let query = numbers(32, dim);
        let all = numbers(documents * tokens, dim);
        let run = || -> f32 {
            let documents = all.axis_chunks_iter(Axis(0), tokens);
            documents.map(|d| next_plaid::maxsim::maxsim_score(&query.view(), &d)).sum()
        };
        std::hint::black_box(run());
        let mut bursts = Vec::new();
        while bursts.len() < 3 || bursts.iter().sum::<f64>() < words[3] {
            let start = Instant::now();
            std::hint::black_box(run());
            bursts.push(start.elapsed().as_secs_f64());
        }
        bursts.sort_by(f64::total_cmp);
        println!("{{\"least\": {}, \"median\": {}}}", bursts[0], bursts[bursts.len() / 2]);
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments[1] == "maxsim" {
        return maxsim();
    }
    if arguments[1] == "build" {
        let number = |i: usize| arguments[i].parse().expect("a number");
        return build(&arguments[2], &arguments[3], number(4), number(5));
    }
    let queries = read(&arguments[2]);
    let index = MmapIndex::load(&arguments[3]).expect("the index just built");
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
