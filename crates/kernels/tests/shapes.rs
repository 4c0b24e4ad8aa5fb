//! Arguments that do not fit are refused with the kernel, the argument, and both lengths; nothing is read or written out of bounds.

use shirube_core::Packing;
use shirube_kernels::{
    AttentionShape, BackendKind, CompressedTokens, EMPTY_DOCUMENT, Epilogue, GroupedI4, KernelError, Kernels,
    MAX_DIM, MAX_K, MAX_K_I4, MAX_QUERY_TOKENS, ResidualTable, RowSource, TokenMatch, TokenRange,
};

const TABLE: ResidualTable = ResidualTable { packing: Packing::Bits4, ints: [1; 16], step: 0.1 };

fn shape(what: &str, found: Result<(), KernelError>) {
    match found {
        Err(KernelError::Shape { what: w, .. }) => assert_eq!(w, what),
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn every_kernel_refuses_lengths_that_do_not_fit() {
    for k in Kernels::all() {
        let weights = k.pack_i8(&[1; 12], &[1.0; 3], 3, 4).unwrap();
        let plain = k.pack_f32(&[1.0; 12], 3, 4).unwrap();
        let mut acts = k.activations();
        shape("x", k.quantize(&[0.0; 7], 2, 4, &mut acts));
        k.quantize(&[0.0; 8], 2, 4, &mut acts).unwrap();
        shape("out", k.gemm_i8(&acts, &weights, Epilogue::STORE, &mut [0.0; 5]));
        let four = GroupedI4::new(vec![0x99; 6], vec![1; 3], vec![1.0; 3], 3, 4).unwrap();
        let four = k.pack_i4(&four).unwrap();
        shape("out", k.gemm_i4(&acts, &four, Epilogue::STORE, &mut [0.0; 5]));
        shape("bias", k.gemm_i4(&acts, &four, Epilogue { bias: Some(&[0.0; 2]), add: false }, &mut [0.0; 6]));
        let bias = Epilogue { bias: Some(&[0.0; 2]), add: false };
        shape("bias", k.gemm_i8(&acts, &weights, bias, &mut [0.0; 6]));
        shape("bias", k.gemm_f32(&[0.0; 8], 2, &plain, bias, &mut [0.0; 6]));
        shape("a", k.gemm_f32(&[0.0; 7], 2, &plain, Epilogue::STORE, &mut [0.0; 6]));
        shape("out", k.gemm_f32(&[0.0; 8], 2, &plain, Epilogue::STORE, &mut [0.0; 7]));
        k.quantize(&[0.0; 10], 2, 5, &mut acts).unwrap();
        shape("a.k", k.gemm_i8(&acts, &weights, Epilogue::STORE, &mut [0.0; 6]));
        shape("a.k", k.gemm_i4(&acts, &four, Epilogue::STORE, &mut [0.0; 6]));
        shape("weights", k.pack_i8(&[1; 11], &[1.0; 3], 3, 4).map(|_| ()));
        shape("scale", k.pack_i8(&[1; 12], &[1.0; 4], 3, 4).map(|_| ()));
        shape("weights", k.pack_f32(&[1.0; 11], 3, 4).map(|_| ()));
        for (what, x, weight, bias, out) in [
            ("x", 7, 4, None, 4),
            ("weight", 8, 3, None, 8),
            ("bias", 8, 4, Some(3), 8),
            ("out", 8, 4, None, 4),
        ] {
            let (x, weight, bias) = (vec![0.0; x], vec![1.0; weight], bias.map(|n| vec![0.0; n]));
            let norm = RowSource::Norm { x: &x, weight: &weight, bias: bias.as_deref(), eps: 1e-5 };
            shape(what, k.rows(norm, 4, &mut vec![0.0; out]));
            let what = if what == "out" { "store" } else { what };
            shape(what, k.quantize_from(norm, 4, Some(&mut vec![0.0; out]), &mut acts));
        }
        shape("x", k.rows(RowSource::GeGlu(&[0.0; 10]), 2, &mut [0.0; 4]));
        shape("out", k.rows(RowSource::GeGlu(&[0.0; 8]), 2, &mut [0.0; 6]));
        shape("head_dim", k.rope(&mut [0.0; 6], 6, 3, 1, &[0.0; 1], &[0.0; 1]));
        shape("cos", k.rope(&mut [0.0; 8], 4, 4, 1, &[0.0; 3], &[0.0; 4]));
        shape("sin", k.rope(&mut [0.0; 8], 4, 4, 1, &[0.0; 4], &[0.0; 3]));
        shape("x", k.l2_normalize(&mut [0.0; 7], 2));
        let attention = AttentionShape { n_tokens: 2, n_keys: 2, n_heads: 1, head_dim: 4, reach: None };
        shape("qkv", k.attention(&[0.0; 23], attention, &mut Vec::new(), &mut [0.0; 8]));
        shape("out", k.attention(&[0.0; 24], attention, &mut Vec::new(), &mut [0.0; 9]));
    }
}

#[test]
fn maxsim_refuses_lengths_and_ranges_that_do_not_fit() {
    for k in Kernels::all() {
        let query = k.maxsim_query(&[0.5; 12], 4, TABLE).unwrap();
        let scores = vec![0.0; 2 * query.stride()];
        let tokens = CompressedTokens { codes: &[0, 1, 1], residuals: &[0; 6], inverse_norms: &[1.0; 3] };
        let good = [TokenRange { start: 0, end: 3 }];
        k.maxsim(&query, &scores, tokens, &good, &mut [0.0]).unwrap();
        shape("scores", k.maxsim(&query, &scores, tokens, &good, &mut [0.0; 2]));
        shape("centroid_scores", k.maxsim(&query, &scores[1..], tokens, &good, &mut [0.0]));
        let short = CompressedTokens { residuals: &[0; 5], ..tokens };
        shape("residuals", k.maxsim(&query, &scores, short, &good, &mut [0.0]));
        let short = CompressedTokens { inverse_norms: &[1.0; 2], ..tokens };
        shape("inverse_norms", k.maxsim(&query, &scores, short, &good, &mut [0.0]));
        for bad in [
            TokenRange { start: 0, end: 4 },
            TokenRange { start: 2, end: 1 },
            TokenRange { start: 0, end: u32::MAX },
        ] {
            let found = k.maxsim(&query, &scores, tokens, &[good[0], bad], &mut [0.0; 2]);
            assert!(matches!(found, Err(KernelError::Range { document: 1, n_tokens: 3, .. })), "{found:?}");
            let bytes = vec![0; scores.len()];
            let found = k.maxsim_approximate(&query, &bytes, tokens.codes, &[bad], &mut [0]);
            assert!(matches!(found, Err(KernelError::Range { .. })), "{found:?}");
            let plain = k.pack_f32(&[0.5; 12], 3, 4).unwrap();
            let found = k.maxsim_f32(&plain, &[0.0; 12], &[bad], &mut [0.0]);
            assert!(matches!(found, Err(KernelError::Range { .. })), "{found:?}");
        }
        shape(
            "best",
            k.maxsim_matches(
                &query,
                &scores,
                tokens,
                good[0],
                &mut Vec::new(),
                &mut [TokenMatch::default(); 2],
            ),
        );
        shape("centroids", k.centroid_scores(&query, &[0.0; 9], &mut vec![0.0; 2 * query.stride()]));
        shape("out", k.centroid_scores(&query, &[0.0; 8], &mut vec![0.0; query.stride()]));
        shape("query_embeddings", k.maxsim_query(&[0.5; 13], 4, TABLE).map(|_| ()));
    }
}

#[test]
fn dimensions_beyond_the_buffers_are_refused() {
    let limit = |found: Result<(), KernelError>| {
        assert!(matches!(found, Err(KernelError::Limit { .. })), "{found:?}")
    };
    for k in Kernels::all() {
        limit(k.pack_i8(&[], &[], 0, 0).map(|_| ()));
        limit(k.pack_i8(&[], &[], 0, MAX_K + 1).map(|_| ()));
        let long = GroupedI4::quantize(&vec![1.0; MAX_K_I4 + 1], 1, MAX_K_I4 + 1);
        limit(k.pack_i4(&long).map(|_| ()));
        limit(k.maxsim_query(&[], 0, TABLE).map(|_| ()));
        limit(k.maxsim_query(&[], MAX_DIM + 2, TABLE).map(|_| ()));
        limit(k.maxsim_query(&vec![0.0; 2 * (MAX_QUERY_TOKENS + 1)], 2, TABLE).map(|_| ()));
        let attention = AttentionShape { n_tokens: 2, n_keys: 3, n_heads: 1, head_dim: 4, reach: None };
        limit(k.attention(&[0.0; 24], attention, &mut Vec::new(), &mut [0.0; 8]));
    }
}

#[test]
fn the_largest_query_and_dimension_fit() {
    for k in Kernels::all() {
        let query = vec![0.01; MAX_QUERY_TOKENS * MAX_DIM];
        let query = k.maxsim_query(&query, MAX_DIM, TABLE).unwrap();
        let scores = vec![0.25; query.stride()];
        let residuals = vec![0; MAX_DIM / 2 * 9];
        let tokens = CompressedTokens { codes: &[0; 9], residuals: &residuals, inverse_norms: &[1.0; 9] };
        let mut out = [0.0];
        k.maxsim(&query, &scores, tokens, &[TokenRange { start: 0, end: 9 }], &mut out).unwrap();
        // 0.25 and 512 products of 0.01 and 0.1, for each query token.
        let expected = MAX_QUERY_TOKENS as f32 * (0.25 + MAX_DIM as f32 * 0.01 * 0.1);
        assert!((out[0] / expected - 1.0).abs() < 1e-5, "{} on {}", out[0], k.kind());
    }
}

#[test]
fn operands_of_another_backend_are_refused() {
    let all = Kernels::all();
    let [first, rest @ ..] = &all[..] else { panic!("the scalar kernels are always there") };
    for k in rest {
        let weights = first.pack_i8(&[1; 4], &[1.0], 1, 4).unwrap();
        let mut acts = k.activations();
        k.quantize(&[1.0; 4], 1, 4, &mut acts).unwrap();
        let found = k.gemm_i8(&acts, &weights, Epilogue::STORE, &mut [0.0]);
        assert!(matches!(found, Err(KernelError::Layout { what: "weights", .. })), "{found:?}");
        let four = first.pack_i4(&GroupedI4::quantize(&[1.0; 4], 1, 4)).unwrap();
        let found = k.gemm_i4(&acts, &four, Epilogue::STORE, &mut [0.0]);
        assert!(matches!(found, Err(KernelError::Layout { what: "weights", .. })), "{found:?}");
        let found = first.gemm_i8(&acts, &weights, Epilogue::STORE, &mut [0.0]);
        assert!(matches!(found, Err(KernelError::Layout { what: "a", .. })), "{found:?}");
        assert!(matches!(first.quantize(&[1.0; 4], 1, 4, &mut acts), Err(KernelError::Layout { .. })));
        let query = first.maxsim_query(&[1.0; 4], 4, TABLE).unwrap();
        let tokens = CompressedTokens { codes: &[], residuals: &[], inverse_norms: &[] };
        let found = k.maxsim(&query, &[], tokens, &[], &mut []);
        assert!(matches!(found, Err(KernelError::Layout { what: "query", .. })), "{found:?}");
    }
}

#[test]
fn documents_without_tokens_score_below_all_others() {
    for k in Kernels::all() {
        let query = k.maxsim_query(&[-1.0, 0.0], 2, TABLE).unwrap();
        let mut scores = vec![0.0; query.stride()];
        k.centroid_scores(&query, &[1e3, 0.0], &mut scores).unwrap();
        let tokens = CompressedTokens { codes: &[0], residuals: &[0], inverse_norms: &[1.0] };
        let documents = [TokenRange { start: 0, end: 0 }, TokenRange { start: 0, end: 1 }];
        let mut out = [0.0; 2];
        k.maxsim(&query, &scores, tokens, &documents, &mut out).unwrap();
        assert_eq!(out[0], EMPTY_DOCUMENT);
        assert!(out[1] < -900.0 && out[1] > EMPTY_DOCUMENT, "a negative score stays negative: {}", out[1]);
        let (mut bytes, mut approximate) = (Vec::new(), [9; 2]);
        shirube_kernels::quantize_centroid_scores(&scores, &mut bytes);
        k.maxsim_approximate(&query, &bytes, tokens.codes, &documents, &mut approximate).unwrap();
        assert_eq!(approximate, [0, 0], "bytes hold no negative scores");
    }
}

#[test]
fn matches_add_up_to_the_score_and_ties_go_to_the_first_token() {
    for k in Kernels::all() {
        let query = k
            .maxsim_query(
                &[1.0, 0.0, 0.0, 1.0, 0.6, 0.8],
                2,
                ResidualTable { packing: Packing::Bits4, ints: [0; 16], step: 0.0 },
            )
            .unwrap();
        let mut scores = vec![0.0; 3 * query.stride()];
        k.centroid_scores(&query, &[1.0, 0.0, 0.0, 1.0, -1.0, 0.0], &mut scores).unwrap();
        let tokens =
            CompressedTokens { codes: &[2, 2, 1, 0, 1, 0], residuals: &[0; 6], inverse_norms: &[1.0; 6] };
        let document = TokenRange { start: 1, end: 6 };
        let mut best = [TokenMatch::default(); 3];
        k.maxsim_matches(&query, &scores, tokens, document, &mut Vec::new(), &mut best).unwrap();
        assert_eq!(best.map(|b| b.token), [2, 1, 1]);
        let mut out = [0.0];
        k.maxsim(&query, &scores, tokens, &[document], &mut out).unwrap();
        assert!((best.iter().map(|b| b.similarity).sum::<f32>() - out[0]).abs() < 1e-6);
    }
}

#[test]
fn backends_are_found_by_kind_and_named() {
    for k in Kernels::all() {
        assert_eq!(Kernels::of(k.kind()).unwrap().kind(), k.kind());
        assert!(!k.kind().name().is_empty());
    }
    assert_eq!(Kernels::scalar().kind(), BackendKind::Scalar);
    assert_ne!(Kernels::detect().kind(), BackendKind::Scalar);
}
