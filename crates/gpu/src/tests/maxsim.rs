//! The index on the GPU against the CPU's MaxSim.

use super::{UNIT, assert_close, on_gpu, on_gpus};
use crate::{GpuEncoder, GpuError, GpuIndex, GpuText, IndexParts, KernelList};
use shirube_core::{Packing, Role};
use shirube_encoder::Encoder;
use shirube_kernels::{Codebooks, EMPTY_DOCUMENT, Kernels, MaxsimQuery, ResidualTable, TokenRange};
use shirube_testkit::{Random, RandomIndex, RandomShape, random_model};

fn parts(index: &RandomIndex) -> IndexParts<'_> {
    IndexParts {
        dim: index.dim,
        centroids: &index.centroids,
        add_centroid: true,
        table: index.table,
        codebooks: &[],
        tokens: index.tokens(),
        documents: &index.documents,
    }
}

/// Scores by the CPU's kernels.
fn expected(index: &RandomIndex, query: &[f32]) -> Vec<f32> {
    let kernels = Kernels::scalar();
    let prepared = kernels.maxsim_query(query, index.dim, index.table).unwrap();
    expected_of(index, &prepared)
}

fn expected_of(index: &RandomIndex, prepared: &MaxsimQuery) -> Vec<f32> {
    let kernels = Kernels::scalar();
    let n_centroids = index.centroids.len() / index.dim;
    let mut centroid_scores = vec![0.0; n_centroids * prepared.stride()];
    kernels.centroid_scores(prepared, &index.centroids, &mut centroid_scores).unwrap();
    let mut scores = vec![0.0; index.documents.len()];
    kernels.maxsim(prepared, &centroid_scores, index.tokens(), &index.documents, &mut scores).unwrap();
    scores
}

/// Of each of `n_query` similarities, of size about 1: an f32 dot product, four more roundings, and a step of the quantised query where its division
/// rounded otherwise; then their sum in f32.
fn bound(n_query: usize, dim: usize) -> f32 {
    n_query as f32 * ((dim + 8 + n_query) as f32 * UNIT * 2.0 + 1e-4)
}

#[test]
fn every_document_scores_as_on_the_cpu() {
    on_gpus(|gpu| {
        for &(n_query, dim, n_centroids, lengths) in &[
            (1, 4, 1, &[1][..]),
            (3, 8, 2, &[2, 0, 3]),
            (7, 12, 3, &[4, 5]),
            (8, 32, 7, &[15, 16, 17]),
            (9, 48, 5, &[1, 2, 3, 4, 5, 0]),
            (17, 64, 300, &[31, 0, 33]),
            (32, 128, 64, &[16, 17, 40]),
            (33, 96, 9, &[10, 1, 100]),
            (64, 64, 40, &[5, 21]),
            (70, 64, 40, &[5, 21, 64, 65]),
            (200, 16, 40, &[5, 21]),
            (5, 512, 4, &[3, 18]),
        ] {
            let index = RandomIndex::of_lengths(n_query as u64, dim, n_centroids, lengths);
            let query = Random::new(77).unit_rows(n_query, dim);
            let on_gpu = pollster::block_on(GpuIndex::load(gpu, parts(&index))).unwrap();
            assert_eq!(on_gpu.n_documents(), lengths.len());
            let before = gpu.n_submissions();
            let found = pollster::block_on(on_gpu.score(&query)).unwrap();
            assert_eq!(gpu.n_submissions() - before, 1);
            let what = format!("{n_query} x {dim}, documents of {lengths:?}");
            assert_close(&what, &found.scores, &expected(&index, &query), |_| bound(n_query, dim));
            // A shorter query after a longer one finds nothing of it.
            let short = &query[..dim];
            let found = pollster::block_on(on_gpu.score(short)).unwrap();
            assert_close(&what, &found.scores, &expected(&index, short), |_| bound(1, dim));
        }
    });
}

#[test]
fn every_packing_scores_as_on_the_cpu() {
    on_gpu(|gpu| {
        for packing in Packing::ALL {
            for dim in [4, 20, 64, 72] {
                let mut random = Random::new(31);
                let mut index = RandomIndex::of_lengths(6, dim, 11, &[1, 0, 17, 33]);
                let n_tokens = index.codes.len();
                index.table = ResidualTable { packing, ..index.table };
                index.residuals.clear();
                for _ in 0..n_tokens {
                    let levels: Vec<u8> = (0..dim).map(|_| random.below(packing.n_levels()) as u8).collect();
                    packing.pack(&levels, &mut index.residuals);
                }
                let query = random.unit_rows(9, dim);
                let kernels = KernelList::of_index(dim, packing, true);
                pollster::block_on(gpu.compile(&kernels)).unwrap();
                let compiled = gpu.n_kernels();
                let on_gpu = pollster::block_on(GpuIndex::load(gpu, parts(&index))).unwrap();
                let found = pollster::block_on(on_gpu.score(&query)).unwrap();
                let what = format!("{packing:?} of {dim}");
                assert_eq!(
                    gpu.n_kernels(),
                    compiled,
                    "{what}: a kernel more than was known before the index"
                );
                assert_close(&what, &found.scores, &expected(&index, &query), |_| bound(9, dim));
                // Signs of the embedding itself, without its centroid.
                let alone = IndexParts { add_centroid: false, ..parts(&index) };
                let on_gpu = pollster::block_on(GpuIndex::load(gpu, alone)).unwrap();
                let found = pollster::block_on(on_gpu.score(&query)).unwrap();
                index.centroids.fill(0.0);
                assert_close(&what, &found.scores, &expected(&index, &query), |_| bound(9, dim));
            }
        }
    });
}

#[test]
fn codewords_score_as_on_the_cpu() {
    on_gpu(|gpu| {
        for (dim, bytes) in [(4, 1), (4, 4), (12, 5), (64, 7), (64, 8), (64, 64), (72, 11), (128, 13)] {
            let mut random = Random::new(31);
            let mut index = RandomIndex::of_lengths(6, dim, 11, &[1, 0, 17, 33]);
            let packing = Packing::Product { bytes: bytes as u8 };
            let ints: Vec<i8> = (0..bytes * 256 * Packing::run_width(bytes, dim))
                .map(|_| (random.below(255) as i32 - 127) as i8)
                .collect();
            index.table = ResidualTable { packing, ints: [0; 16], ..index.table };
            index.residuals = (0..index.codes.len() * bytes).map(|_| random.below(256) as u8).collect();
            let query = random.unit_rows(9, dim);
            let codebooks = Codebooks { bytes, ints: &ints, step: index.table.step };
            let prepared = Kernels::scalar().maxsim_query_product(&query, dim, codebooks).unwrap();
            let whole = IndexParts { codebooks: &ints, ..parts(&index) };
            let on_gpu = pollster::block_on(GpuIndex::load(gpu, whole)).unwrap();
            let found = pollster::block_on(on_gpu.score(&query)).unwrap();
            let what = format!("{bytes} codewords of {dim}");
            assert_close(&what, &found.scores, &expected_of(&index, &prepared), |_| bound(9, dim));
        }
    });
}

#[test]
fn padding_never_raises_a_score() {
    on_gpu(|gpu| {
        // Every similarity is negative: padding, at 0, would win.
        let mut index = RandomIndex::of_lengths(4, 32, 5, &[1, 15, 17]);
        let query = Random::new(5).unit_rows(3, 32);
        let mean: Vec<f32> = (0..32).map(|d| -(query[d] + query[32 + d] + query[64 + d])).collect();
        for centroid in index.centroids.chunks_exact_mut(32) {
            centroid.copy_from_slice(&mean);
        }
        index.table = ResidualTable { step: 1e-6, ..index.table };
        let on_gpu = pollster::block_on(GpuIndex::load(gpu, parts(&index))).unwrap();
        let found = pollster::block_on(on_gpu.score(&query)).unwrap();
        let expected = expected(&index, &query);
        assert!(expected.iter().all(|s| *s < 0.0), "{expected:?}");
        assert_close("negative scores", &found.scores, &expected, |_| bound(3, 32));
    });
}

#[test]
fn an_index_in_pieces_scores_as_a_whole() {
    on_gpu(|gpu| {
        let mut random = Random::new(12);
        let lengths: Vec<usize> = (0..60).map(|_| random.below(12)).collect();
        let index = RandomIndex::of_lengths(3, 64, 20, &lengths);
        let query = random.unit_rows(6, 64);
        let whole = pollster::block_on(GpuIndex::load(gpu, parts(&index))).unwrap();
        assert_eq!(whole.n_pieces(), 1);
        // 32 bytes a token.
        let cut = pollster::block_on(GpuIndex::load_cut(gpu, parts(&index), 32 * 40)).unwrap();
        assert!(cut.n_pieces() > 5);
        let (a, b) = (pollster::block_on(whole.score(&query)), pollster::block_on(cut.score(&query)));
        assert_eq!(a.unwrap().scores, b.unwrap().scores);
        let found = pollster::block_on(GpuIndex::load_cut(gpu, parts(&index), 32 * 5));
        assert!(matches!(found, Err(GpuError::TooLarge { most: 160, .. })));
    });
}

#[test]
fn more_documents_than_one_dimension_holds_are_all_scored() {
    on_gpu(|gpu| {
        let lengths = vec![1; 66_000];
        let index = RandomIndex::of_lengths(3, 8, 4, &lengths);
        let query = Random::new(1).unit_rows(2, 8);
        let on_gpu = pollster::block_on(GpuIndex::load(gpu, parts(&index))).unwrap();
        let found = pollster::block_on(on_gpu.score(&query)).unwrap();
        assert_close("66,000 documents", &found.scores, &expected(&index, &query), |_| bound(2, 8));
    });
}

#[test]
fn encoding_and_scoring_are_one_submission() {
    let shape = RandomShape { dim: 16, ..RandomShape::default() };
    let model = random_model(5, &shape).quantized();
    on_gpu(|gpu| {
        let index = RandomIndex::of_lengths(3, 16, 10, &[5, 9, 0, 30]);
        let on_gpu = pollster::block_on(GpuIndex::load(gpu, parts(&index))).unwrap();
        let encoder = pollster::block_on(GpuEncoder::load(gpu, &model.manifest, &model.weights)).unwrap();
        let ids: Vec<u32> = (0..9).map(|i| 300 + i * 5).collect();
        let before = gpu.n_submissions();
        let text = GpuText { ids: &ids, keep: None, n_attended: 9 };
        let found = pollster::block_on(on_gpu.search(&encoder, text)).unwrap();
        assert_eq!(gpu.n_submissions() - before, 1);
        // The scores are those of the embeddings that came back.
        assert_eq!(found.embeddings.len(), 9 * 16);
        let weights: f32 = found
            .embeddings
            .chunks_exact(16)
            .map(|row| row.iter().map(|v| v * v).sum::<f32>().sqrt())
            .fold(1.0, f32::max);
        assert_close("scores", &found.scores, &expected(&index, &found.embeddings), |_| {
            weights * bound(9, 16)
        });
        let mut cpu = Encoder::load(&model.manifest, model.weights.clone(), Kernels::detect()).unwrap();
        let on_cpu = cpu.encode(&ids, Role::Query).unwrap();
        assert_close("embeddings", &found.embeddings, &on_cpu.data, |_| 0.03 * weights);
    });
}

#[test]
fn empty_queries_and_empty_indexes_have_an_answer() {
    on_gpu(|gpu| {
        let index = RandomIndex::of_lengths(3, 16, 10, &[5, 0]);
        let on_gpu = pollster::block_on(GpuIndex::load(gpu, parts(&index))).unwrap();
        assert_eq!(pollster::block_on(on_gpu.score(&[])).unwrap().scores, [0.0, 0.0]);
        let query = Random::new(1).unit_rows(2, 16);
        assert_eq!(pollster::block_on(on_gpu.score(&query)).unwrap().scores[1], EMPTY_DOCUMENT);
        let empty = RandomIndex::of_lengths(3, 16, 10, &[0, 0]);
        let on_gpu = pollster::block_on(GpuIndex::load(gpu, parts(&empty))).unwrap();
        assert_eq!(pollster::block_on(on_gpu.score(&query)).unwrap().scores, [EMPTY_DOCUMENT; 2]);
        assert!(matches!(pollster::block_on(on_gpu.score(&[0.0; 17])), Err(GpuError::Shape { .. })));
    });
}

#[test]
fn parts_that_contradict_each_other_are_refused() {
    on_gpu(|gpu| {
        let index = RandomIndex::of_lengths(3, 16, 10, &[5, 4]);
        let good = parts(&index);
        let mut codes = index.codes.clone();
        codes[3] = 10;
        let gap = [TokenRange { start: 0, end: 5 }, TokenRange { start: 6, end: 9 }];
        let short = [TokenRange { start: 0, end: 5 }];
        let mut wrong_code = good;
        wrong_code.tokens.codes = &codes;
        let mut few_norms = good;
        few_norms.tokens.inverse_norms = &index.inverse_norms[1..];
        for bad in [
            wrong_code,
            few_norms,
            IndexParts { documents: &gap, ..good },
            IndexParts { documents: &short, ..good },
            IndexParts { centroids: &index.centroids[1..], ..good },
            IndexParts { codebooks: &[1], ..good },
            IndexParts {
                table: ResidualTable { packing: Packing::Product { bytes: 8 }, ..good.table },
                ..good
            },
            IndexParts {
                table: ResidualTable { packing: Packing::Product { bytes: 0 }, ..good.table },
                ..good
            },
        ] {
            let found = pollster::block_on(GpuIndex::load(gpu, bad)).map(|_| ());
            assert!(matches!(found, Err(GpuError::Shape { .. })), "{found:?}");
        }
    });
}
