//! Kernels and encoder alone, driven and timed by a bench page.

use crate::error::Failure;
use core::hint::black_box;
use shirube_core::{DocId, Role};
use shirube_encoder::Encoder;
use shirube_format::bundle::CodecTables;
use shirube_format::model::{ModelManifest, WeightKind, Weights};
use shirube_index::{BuiltIndex, Index, IndexError, Packed, ResidualCodec, SearchMode, SearchOptions};
use shirube_kernels::{Kernels, PackedF32};
use shirube_testkit::{Products, Random, RandomIndex, RandomShape, random_model};
use wasm_bindgen::prelude::*;

/// Names of the vector kernels that run here, slowest first.
#[wasm_bindgen]
pub fn backends() -> Vec<String> {
    Kernels::all().iter().map(|k| k.kind().name().to_owned()).collect()
}

fn kernels(name: &str) -> Result<Kernels, Failure> {
    let found = Kernels::all().into_iter().find(|k| k.kind().name() == name);
    found.ok_or_else(|| Failure::bad_argument(format!("no kernels {name:?} here")))
}

/// Multiply-adds done by `steps` steps of the integer instruction alone.
///
/// # Errors
/// Kernels that do not run here.
#[wasm_bindgen]
pub fn peak(backend: &str, steps: usize) -> Result<f64, JsValue> {
    Ok(kernels(backend)?.peak_i8(steps) as f64)
}

/// An encoder alone, and the products of its pass alone.
#[wasm_bindgen]
#[derive(Debug)]
pub struct BenchEncoder {
    encoder: Encoder,
    products: Products,
}

#[wasm_bindgen]
impl BenchEncoder {
    /// The encoder of a manifest and one safetensors file.
    ///
    /// # Errors
    /// What does not fit.
    #[wasm_bindgen(constructor)]
    pub fn new(manifest: &[u8], weights: Vec<u8>, backend: &str) -> Result<Self, JsValue> {
        let kernels = kernels(backend)?;
        let failed = |e: &dyn core::fmt::Display| Failure::internal(e.to_string());
        let manifest = ModelManifest::parse(manifest).map_err(|e| failed(&e))?;
        let parts = Weights::read([("weights", weights.as_slice())]).map_err(|e| failed(&e))?;
        drop(weights);
        let encoder = Encoder::load(&manifest, parts, kernels).map_err(|e| failed(&e))?;
        let kind = match manifest.quantization.linear {
            WeightKind::F32 => return Err(Failure::bad_argument("int8 or int4 weights").into()),
            kind => kind,
        };
        let products = Products::new(&manifest.encoder, encoder.dim(), kind, kernels);
        Ok(Self { encoder, products })
    }

    /// Embeddings of `ids`.
    ///
    /// # Errors
    /// Ids outside the vocabulary.
    pub fn encode(&mut self, ids: &[u32]) -> Result<Vec<f32>, JsValue> {
        let found = self.encoder.encode(ids, Role::Document).map_err(|e| Failure::internal(e.to_string()))?;
        Ok(found.data)
    }

    /// Prepares [`Self::products`] for `m` tokens; returns multiply-adds a token.
    pub fn prepare(&mut self, m: usize) -> f64 {
        self.products.prepare(m);
        self.products.macs() as f64
    }

    /// Every product with weights of a pass, nothing else.
    pub fn products(&mut self) {
        self.products.run();
    }

    /// Every product of attention of a pass, nothing else.
    #[wasm_bindgen(js_name = attentionProducts)]
    pub fn attention_products(&mut self) {
        self.products.run_attention();
    }
}

/// One product `[m, k] x [k, k]`.
#[wasm_bindgen]
#[derive(Debug)]
pub struct BenchProduct {
    run: Products,
}

#[wasm_bindgen]
impl BenchProduct {
    /// A product of `m` rows in `int8` or `int4`.
    ///
    /// # Errors
    /// Kernels that do not run here.
    #[wasm_bindgen(constructor)]
    pub fn new(dtype: &str, m: usize, k: usize, backend: &str) -> Result<Self, JsValue> {
        let kind = if dtype == "int4" { WeightKind::Int4 } else { WeightKind::Int8 };
        let shape = RandomShape { hidden_size: k, n_layers: 0, ..RandomShape::small_bert() };
        let mut run = Products::new(&random_model(0, &shape).manifest.encoder, k, kind, kernels(backend)?);
        run.prepare(m);
        Ok(Self { run })
    }

    /// The product, `times` times.
    pub fn run(&mut self, times: usize) {
        for _ in 0..times {
            self.run.run();
        }
    }
}

/// MaxSim of 32 query tokens over compressed codes and over plain embeddings of the same documents.
#[wasm_bindgen]
#[derive(Debug)]
pub struct BenchMaxsim {
    kernels: Kernels,
    index: RandomIndex,
    plain: Vec<f32>,
    query: Vec<f32>,
    packed: PackedF32,
    centroid_scores: Vec<f32>,
    scores: Vec<f32>,
}

#[wasm_bindgen]
impl BenchMaxsim {
    /// `documents` of about 100 tokens; `repeat` times the same list is scored.
    ///
    /// # Errors
    /// Kernels that do not run here.
    #[wasm_bindgen(constructor)]
    pub fn new(documents: usize, repeat: usize, dim: usize, backend: &str) -> Result<Self, JsValue> {
        let kernels = kernels(backend)?;
        let mut index = RandomIndex::new(5, documents, 100, 4096, dim);
        let query = Random::new(6).unit_rows(32, dim);
        let plain = (0..index.codes.len()).flat_map(|t| index.decode(t)).collect();
        index.documents = index.documents.repeat(repeat);
        let packed = PackedF32::new(&query, 32, dim).map_err(|e| Failure::internal(e.to_string()))?;
        let scores = vec![0.0; index.documents.len()];
        Ok(Self { kernels, index, plain, query, packed, centroid_scores: Vec::new(), scores })
    }

    /// Tokens scored by one call.
    pub fn tokens(&self) -> f64 {
        self.index.documents.iter().map(|d| f64::from(d.end - d.start)).sum()
    }

    /// From compressed codes, the query's preparation and centroid scores included. Returns the scores.
    ///
    /// # Errors
    /// Never: shapes fit.
    pub fn compressed(&mut self) -> Result<Vec<f32>, JsValue> {
        self.score().map_err(|e| Failure::internal(e.to_string()))?;
        Ok(black_box(&self.scores).clone())
    }

    /// From plain f32 embeddings, without compression. Returns the scores.
    ///
    /// # Errors
    /// Never: shapes fit.
    pub fn plain(&mut self) -> Result<Vec<f32>, JsValue> {
        self.kernels
            .maxsim_f32(&self.packed, &self.plain, &self.index.documents, &mut self.scores)
            .map_err(|e| Failure::internal(e.to_string()))?;
        Ok(black_box(&self.scores).clone())
    }
}

impl BenchMaxsim {
    fn score(&mut self) -> Result<(), shirube_kernels::KernelError> {
        let query = self.kernels.maxsim_query(&self.query, self.index.dim, self.index.table)?;
        self.centroid_scores.resize(4096 * query.stride(), 0.0);
        self.kernels.centroid_scores(&query, &self.index.centroids, &mut self.centroid_scores)?;
        self.kernels.maxsim(
            &query,
            &self.centroid_scores,
            self.index.tokens(),
            &self.index.documents,
            &mut self.scores,
        )
    }
}

/// A dictionary alone.
#[wasm_bindgen]
#[derive(Debug)]
pub struct BenchDictionary(shirube_text::Dictionary);

#[wasm_bindgen]
impl BenchDictionary {
    /// The dictionary of a file in one piece.
    ///
    /// # Errors
    /// Bytes that are none.
    #[wasm_bindgen(constructor)]
    pub fn new(bytes: &[u8]) -> Result<Self, JsValue> {
        let dictionary = shirube_text::Dictionary::from_bytes(bytes);
        Ok(Self(dictionary.map_err(|e| Failure::internal(e.to_string()))?))
    }

    /// The words of each line of `text`: joined by U+001F in a line.
    pub fn words(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() * 2);
        for (i, line) in text.split('\n').enumerate() {
            out.push_str(if i == 0 { "" } else { "\n" });
            for (i, word) in self.0.words(line).into_iter().enumerate() {
                out.push_str(if i == 0 { "" } else { "\u{1f}" });
                out.push_str(&line[word]);
            }
        }
        out
    }
}

/// A whole index in memory, from the parts that `shirube-bench index-parts` writes.
#[wasm_bindgen]
#[derive(Debug)]
pub struct BenchIndex(Index);

#[wasm_bindgen]
impl BenchIndex {
    /// Tables as in a bundle; lengths and codes of all tokens; residuals.
    ///
    /// # Errors
    /// Parts that do not fit together, kernels that do not run here.
    #[wasm_bindgen(constructor)]
    pub fn new(
        tables: &[u8],
        lengths: Vec<u16>,
        codes: Vec<u16>,
        residuals: Vec<u8>,
        backend: &str,
    ) -> Result<Self, JsValue> {
        let failed = |e: &dyn core::fmt::Display| Failure::internal(e.to_string());
        let tables = CodecTables::parse("tables", tables).map_err(|e| failed(&e))?;
        let built = BuiltIndex {
            codec: ResidualCodec::new(tables),
            tokens_before_pooling: codes.len() as u64,
            packed: Packed { codes, residuals },
            lengths,
        };
        let index = Index::from_built(&built, kernels(backend)?).map_err(|e| failed(&e))?;
        Ok(Self(index))
    }

    /// The best ten documents for `query_embeddings [n_query_tokens, dim]`, from preparing the query on. `mode` is `auto`, `exact`, `scan` or `probe`; 0
    /// takes the default of a number.
    ///
    /// # Errors
    /// An unknown mode.
    pub fn search(
        &self,
        query_embeddings: &[f32],
        mode: &str,
        n_probe: usize,
        n_candidates: usize,
    ) -> Result<Vec<u32>, JsValue> {
        let mode = match mode {
            "auto" => SearchMode::Auto,
            "exact" => SearchMode::Exact,
            "scan" => SearchMode::Scan,
            "probe" => SearchMode::Probe,
            _ => return Err(Failure::bad_argument(format!("no mode {mode:?}")).into()),
        };
        let default = SearchOptions::default();
        let or = |n: usize, default: usize| if n == 0 { default } else { n };
        let options = SearchOptions {
            mode,
            n_probe: or(n_probe, default.n_probe),
            n_candidates: or(n_candidates, default.n_candidates),
            ..default
        };
        let failed = |e: IndexError| Failure::internal(e.to_string());
        let prepared = self.0.prepare(query_embeddings).map_err(failed)?;
        let found = self.0.search_with(&prepared, &options).map_err(failed)?;
        Ok(found.hits.iter().map(|hit| hit.document.0).collect())
    }

    /// Scores every document by centroids alone, or exactly; returns a sum, so that nothing is left out.
    ///
    /// # Errors
    /// Never: shapes fit.
    pub fn score_all(&self, query_embeddings: &[f32], exact: bool) -> Result<f64, JsValue> {
        let failed = |e: IndexError| Failure::internal(e.to_string());
        let prepared = self.0.prepare(query_embeddings).map_err(failed)?;
        if exact {
            return Ok(self.0.score_all(&prepared).map_err(failed)?.iter().map(|&s| f64::from(s)).sum());
        }
        let all: Vec<DocId> = (0..self.0.n_documents() as u32).map(DocId).collect();
        let scores = self.0.approximate(&prepared, &all).map_err(failed)?;
        Ok(scores.into_iter().map(f64::from).sum())
    }
}
