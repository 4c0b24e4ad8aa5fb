//! A model alone: sections by their nearness to a query, without an index between.
//!
//! Every section is encoded, which takes as long as it takes; its embeddings are kept, so that the next query only compares. Callers that show results as
//! they come give a few sections at a time: a section scores the same alone and among others.

use crate::matches::{Word, matches_of, words_of};
use crate::results::{Highlights, Hit, QueryToken, SearchOptions, SearchResults, Stage, Timings};
use crate::retriever::{BackendChoice, Clock, MAX_QUERY_BYTES, floor_char_boundary};
use crate::{Model, RetrieverError};
use shirube_core::{DocId, Role};
use shirube_encoder::EncoderError;
use shirube_format::bundle::Section;
use shirube_kernels::{Epilogue, Kernels, PackedF32, TokenMatch};
use std::collections::{BTreeMap, HashMap};

/// Embeddings of sections that are kept, in bytes: some hundred sections of a wide model.
const KEPT_BYTES: usize = 64 << 20;

/// A model and the embeddings it made lately.
#[derive(Debug)]
pub struct Reranker {
    model: Model,
    kernels: Kernels,
    asked: Option<Asked>,
    kept: Kept,
}

/// The query last asked.
#[derive(Debug)]
struct Asked {
    query: String,
    packed: PackedF32,
    words: Vec<Word>,
    truncated: bool,
}

/// Embeddings by the text they are of; the longest unused go first.
#[derive(Debug, Default)]
struct Kept {
    texts: HashMap<String, (u64, Vec<f32>)>,
    bytes: usize,
    now: u64,
}

impl Kept {
    fn take(&mut self, text: &str) -> Option<Vec<f32>> {
        let (_, embeddings) = self.texts.remove(text)?;
        self.bytes -= size_of_val(embeddings.as_slice());
        Some(embeddings)
    }

    fn put(&mut self, text: String, embeddings: Vec<f32>) {
        self.now += 1;
        self.bytes += size_of_val(embeddings.as_slice());
        self.texts.insert(text, (self.now, embeddings));
        while self.bytes > KEPT_BYTES {
            let oldest = self.texts.iter().min_by_key(|(_, (used, _))| *used).map(|(text, _)| text.clone());
            match oldest {
                Some(text) => drop(self.take(&text)),
                None => break,
            }
        }
    }
}

impl Reranker {
    /// From a model that runs on `kernels`.
    pub fn new(model: Model, kernels: Kernels) -> Self {
        Self { model, kernels, asked: None, kept: Kept::default() }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Which kernels run.
    pub fn backend(&self) -> BackendChoice {
        BackendChoice::of(self.kernels)
    }

    /// Sections whose embeddings are kept.
    pub fn n_kept(&self) -> usize {
        self.kept.texts.len()
    }

    /// Token embeddings `[n_tokens, dim]` of one text.
    ///
    /// # Errors
    /// [`RetrieverError::Encoder`].
    pub fn encode(&mut self, text: &str, role: Role) -> Result<Vec<f32>, RetrieverError> {
        let input = self.model.prepare(&text[..floor_char_boundary(text, MAX_QUERY_BYTES)], role);
        Ok(self.model.encode(&input)?)
    }

    /// `sections` by MaxSim to `query`, best first, ties in the order given; a hit's `document` is its position among them. Of the options, `limit`,
    /// `explain` and `min_similarity` are looked at.
    ///
    /// # Errors
    /// [`RetrieverError::EmptyQuery`], [`RetrieverError::Encoder`].
    pub fn rank(
        &mut self,
        query: &str,
        sections: Vec<Section>,
        options: &SearchOptions,
        clock: Clock<'_>,
    ) -> Result<SearchResults, RetrieverError> {
        let read = &query[..floor_char_boundary(query, MAX_QUERY_BYTES)];
        let start = clock();
        let asked = match self.asked.take().filter(|asked| asked.query == read) {
            Some(asked) => asked,
            None => self.ask(read)?,
        };
        let encoded = clock();
        let n_scored = sections.len();
        let mut hits = Vec::with_capacity(n_scored);
        for (at, section) in sections.into_iter().enumerate() {
            hits.push(self.hit(&asked, at as u32, section, options)?);
        }
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.document.cmp(&b.document)));
        hits.truncate(options.limit);
        let end = clock();
        let results = SearchResults {
            stage: Stage::Meaning,
            query: read.to_owned(),
            hits,
            query_tokens: asked
                .words
                .iter()
                .map(|word| QueryToken { range: word.range.clone(), weight: word.weight })
                .collect(),
            truncated: asked.truncated || read.len() < query.len(),
            n_scored,
            filters: BTreeMap::new(),
            timings: Timings {
                encode_ms: encoded - start,
                score_ms: end - encoded,
                total_ms: end - start,
                ..Timings::default()
            },
        };
        self.asked = Some(asked);
        Ok(results)
    }

    fn ask(&mut self, query: &str) -> Result<Asked, RetrieverError> {
        let input = self.model.prepare(query, Role::Query);
        if input.offsets.iter().flatten().next().is_none() {
            return Err(RetrieverError::EmptyQuery);
        }
        let (dim, embeddings) = (self.model.dim(), self.model.encode(&input)?);
        let packed =
            self.kernels.pack_f32(&embeddings, embeddings.len() / dim, dim).map_err(EncoderError::from)?;
        let words = words_of(&input, &embeddings, dim);
        Ok(Asked { query: query.to_owned(), packed, words, truncated: input.truncated })
    }

    fn hit(
        &mut self,
        asked: &Asked,
        at: u32,
        section: Section,
        options: &SearchOptions,
    ) -> Result<Hit, RetrieverError> {
        let text = section.document();
        let input = self.model.prepare(&text.text, Role::Document);
        let embeddings = match self.kept.take(&text.text) {
            Some(embeddings) => embeddings,
            None => self.model.encode(&input)?,
        };
        let best = self.nearest(&asked.packed, &embeddings)?;
        let maxsim = best.iter().map(|found| found.similarity).sum();
        let matches = if options.explain {
            let ranges: Vec<_> = input.kept_ranges().collect();
            let members = |token: u32| ranges.get(token as usize).cloned().flatten().into_iter().collect();
            matches_of(&asked.words, &best, &text, members)
        } else {
            Vec::new()
        };
        let highlights = Highlights::of(&matches, section.headings.len(), options.min_similarity);
        self.kept.put(text.text, embeddings);
        let document = DocId(at);
        Ok(Hit { document, score: maxsim, maxsim, lexical: 0.0, window: 0.0, section, matches, highlights })
    }

    /// For each query token the nearest of `embeddings [n_tokens, dim]`, the first of equals; none without tokens.
    fn nearest(&self, query: &PackedF32, embeddings: &[f32]) -> Result<Vec<TokenMatch>, RetrieverError> {
        let (n_tokens, n_query) = (embeddings.len() / query.k(), query.n());
        let mut dots = vec![0.0; n_tokens * n_query];
        let product = self.kernels.gemm_f32(embeddings, n_tokens, query, Epilogue::STORE, &mut dots);
        product.map_err(EncoderError::from)?;
        let mut rows = dots.chunks_exact(n_query.max(1)).zip(0..);
        let Some((first, _)) = rows.next() else { return Ok(Vec::new()) };
        let mut best: Vec<_> = first.iter().map(|&similarity| TokenMatch { token: 0, similarity }).collect();
        for (row, token) in rows {
            for (best, &similarity) in best.iter_mut().zip(row) {
                if similarity > best.similarity {
                    *best = TokenMatch { token, similarity };
                }
            }
        }
        Ok(best)
    }
}
