//! Query to hits.

use crate::RetrieverError;
use crate::facets::Facets;
use crate::fusion::{fuse, top_k};
use crate::results::{Highlights, Hit, Match, Place, QueryToken, SearchOptions, SearchResults, Timings};
use serde::Serialize;
use shirube_core::{DocId, Role};
use shirube_encoder::{Model, PreparedText};
use shirube_format::FormatError;
use shirube_format::bundle::{Bundle, ModelRef, Section};
use shirube_index::{Index, PreparedQuery};
use shirube_kernels::{Kernels, TokenMatch};
use shirube_lexical::{Analyzer, Bm25Index};

/// Longest query that is tokenised, in bytes; what the model reads is far less.
const MAX_QUERY_BYTES: usize = 1 << 18;

/// BM25's saturation: the best of eight pairs with [`BM25_B`] on JaQuAD dev, within a point of the best on its training part.
pub const BM25_K1: f32 = 0.9;
/// BM25's damping by length, beside [`BM25_K1`].
pub const BM25_B: f32 = 0.6;

/// Milliseconds of some clock; only differences are used. The browser passes `performance.now`, native callers an `Instant`.
pub type Clock<'a> = &'a dyn Fn() -> f64;

/// Which kernels run, and why these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendChoice {
    /// Name of the instruction set, for example `simd128`.
    pub kind: String,
    /// Why it was chosen, in a short sentence.
    pub reason: String,
}

/// What a retriever runs on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Name of the bundle.
    pub bundle: String,
    /// Name of the model.
    pub model: String,
    /// Width of a token embedding.
    pub dim: usize,
    /// Sections searched.
    pub documents: usize,
    /// Pages they come from.
    pub pages: u32,
    /// Token embeddings stored.
    pub tokens: usize,
    /// Bytes the index takes in memory.
    pub index_bytes: usize,
    /// Which kernels run.
    pub backend: BackendChoice,
}

/// A model and a bundle, ready to be searched.
#[derive(Debug)]
pub struct Retriever {
    model: Model,
    index: Index,
    lexical: Bm25Index,
    sections: Vec<Section>,
    token_maps: Vec<Option<Vec<u16>>>,
    facets: Facets,
    status: Status,
}

/// What another device computed for a query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Computed {
    /// `[n_query_tokens, dim]`, from the input that [`Retriever::query_input`] gave.
    pub embeddings: Vec<f32>,
    /// MaxSim of every document, `[n_documents]`; `None` leaves it to this side.
    pub maxsim: Option<Vec<f32>>,
    /// Milliseconds for the embeddings.
    pub encode_ms: f64,
    /// Milliseconds for the scores.
    pub score_ms: f64,
}

impl Retriever {
    /// Puts a model and a bundle together.
    ///
    /// # Errors
    /// [`FormatError::Mismatch`] if the bundle was made with another model or tokenizer; [`RetrieverError::Index`].
    pub fn new(model: Model, mut bundle: Bundle, kernels: Kernels) -> Result<Self, RetrieverError> {
        bundle.model.check(&ModelRef::of(model.manifest()))?;
        let sections = core::mem::take(&mut bundle.sections);
        let token_maps = core::mem::take(&mut bundle.token_maps);
        let name = core::mem::take(&mut bundle.name);
        let index = Index::open(bundle, kernels)?;
        let texts = sections.iter().map(|s| s.document().text);
        let lexical = Bm25Index::build(texts, Analyzer::grams(), BM25_K1, BM25_B)?;
        let pages: std::collections::BTreeSet<_> = sections.iter().map(|s| (&s.source, &s.page)).collect();
        let status = Status {
            bundle: name,
            model: model.manifest().name.clone(),
            dim: index.dim(),
            documents: index.n_documents(),
            pages: pages.len() as u32,
            tokens: index.n_tokens(),
            index_bytes: index.memory_bytes(),
            backend: BackendChoice {
                kind: kernels.kind().name().to_owned(),
                reason: "the fastest instructions that this build and this machine share".to_owned(),
            },
        };
        let facets = Facets::of(&sections);
        Ok(Self { model, index, lexical, sections, token_maps, facets, status })
    }

    /// What this retriever runs on.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// The index searched.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The section of a document.
    pub fn section(&self, document: DocId) -> Option<&Section> {
        self.sections.get(document.0 as usize)
    }

    /// Token embeddings `[n_tokens, dim]` of one text as it would be searched with or indexed, before pooling and compression.
    ///
    /// # Errors
    /// [`RetrieverError::Encoder`].
    pub fn encode(&mut self, text: &str, role: Role) -> Result<Vec<f32>, RetrieverError> {
        let cut = floor_char_boundary(text, MAX_QUERY_BYTES);
        let input = self.model.prepare(&text[..cut], role);
        Ok(self.model.encode(&input)?)
    }

    /// `query` as the encoder reads it, for a caller whose other device computes the embeddings.
    ///
    /// # Errors
    /// [`RetrieverError::EmptyQuery`].
    pub fn query_input(&self, query: &str) -> Result<PreparedText, RetrieverError> {
        let input = self.model.prepare(&query[..floor_char_boundary(query, MAX_QUERY_BYTES)], Role::Query);
        if input.offsets.iter().flatten().next().is_none() {
            return Err(RetrieverError::EmptyQuery);
        }
        Ok(input)
    }

    /// The best sections for `query`. All documents are scored.
    ///
    /// # Errors
    /// [`RetrieverError::EmptyQuery`], [`RetrieverError::Setting`] for a limit outside 1 to 1000, [`RetrieverError::LexicalWeight`],
    /// [`RetrieverError::UnknownFilter`], [`RetrieverError::Encoder`].
    pub fn search(
        &mut self,
        query: &str,
        options: &SearchOptions,
        clock: Clock<'_>,
    ) -> Result<SearchResults, RetrieverError> {
        self.search_computed(query, options, None, clock)
    }

    /// [`Self::search`] with what another device computed for the same query.
    ///
    /// # Errors
    /// As [`Self::search`], and [`RetrieverError::Computed`] when the lengths are not those of this query and index.
    pub fn search_computed(
        &mut self,
        query: &str,
        options: &SearchOptions,
        computed: Option<Computed>,
        clock: Clock<'_>,
    ) -> Result<SearchResults, RetrieverError> {
        if !(1..=1000).contains(&options.limit) {
            return Err(RetrieverError::Setting { name: "limit", found: options.limit, low: 1, high: 1000 });
        }
        if !(0.0..=10.0).contains(&options.lexical_weight) {
            return Err(RetrieverError::LexicalWeight { found: options.lexical_weight });
        }
        let allowed = self.facets.allowed(&options.filters)?;
        let start = clock();
        let cut = floor_char_boundary(query, MAX_QUERY_BYTES);
        let input = self.query_input(query)?;
        let tokenized = clock();
        let elsewhere = computed.as_ref().map_or((0.0, 0.0), |c| (c.encode_ms, c.score_ms));
        let (embeddings, scores) = match computed {
            Some(computed) => {
                let expected = input.kept().count() * self.index.dim();
                check_computed("embeddings", computed.embeddings.len(), expected)?;
                (computed.embeddings, computed.maxsim)
            }
            None => (self.model.encode(&input)?, None),
        };
        let encoded = clock();
        let prepared = self.index.prepare(&embeddings)?;
        let maxsim = match scores {
            Some(scores) => {
                check_computed("scores", scores.len(), self.index.n_documents())?;
                scores
            }
            None => self.index.score_all(&prepared)?,
        };
        let mut lexical = vec![0.0; maxsim.len()];
        for (document, score) in self.lexical.search(&query[..cut], maxsim.len()) {
            lexical[document.0 as usize] = score;
        }
        let mut fused = fuse(&maxsim, &lexical, options.lexical_weight);
        self.facets.weigh(&mut fused);
        let candidates = self.facets.candidates(&fused, allowed.as_deref());
        let mut found = top_k(candidates, &fused, options.limit);
        if let Some(by) = &options.sort {
            found.sort_by(|a, b| by.compare(&self.sections[*a as usize], &self.sections[*b as usize]));
        }
        let scored = clock();

        let dim = self.index.dim();
        // Position among all embeddings and place in the query of those that stand for text; markers have no place.
        let words: Vec<(usize, core::ops::Range<usize>, f32)> = input
            .kept_ranges()
            .enumerate()
            .filter_map(|(i, range)| {
                let weight = embeddings[i * dim..(i + 1) * dim].iter().map(|v| v * v).sum::<f32>().sqrt();
                Some((i, range?, weight))
            })
            .collect();
        let mut hits = Vec::with_capacity(found.len());
        for document in found {
            let at = document as usize;
            let section = self.sections[at].clone();
            let document = DocId(document);
            let matches =
                if options.explain { self.explain(&prepared, document, &words)? } else { Vec::new() };
            let highlights = Highlights::of(&matches, section.headings.len(), options.min_similarity);
            hits.push(Hit {
                document,
                score: fused[at],
                maxsim: maxsim[at],
                lexical: lexical[at],
                section,
                matches,
                highlights,
            });
        }
        let end = clock();
        Ok(SearchResults {
            query: query[..cut].to_owned(),
            hits,
            query_tokens: words.into_iter().map(|(_, range, weight)| QueryToken { range, weight }).collect(),
            truncated: input.truncated || cut < query.len(),
            n_scored: allowed.map_or(self.index.n_documents(), |a| a.iter().filter(|&&a| a).count()),
            filters: self.facets.counts(&options.filters),
            timings: Timings {
                tokenize_ms: tokenized - start,
                encode_ms: encoded - tokenized + elsewhere.0,
                score_ms: scored - encoded + elsewhere.1,
                explain_ms: end - scored,
                total_ms: end - start + elsewhere.0 + elsewhere.1,
            },
        })
    }

    fn explain(
        &self,
        prepared: &PreparedQuery,
        document: DocId,
        words: &[(usize, core::ops::Range<usize>, f32)],
    ) -> Result<Vec<Match>, RetrieverError> {
        let best = self.index.matches(prepared, document)?;
        let text = self.sections[document.0 as usize].document();
        let input = self.model.prepare(&text.text, Role::Document);
        let ranges: Vec<Option<core::ops::Range<usize>>> = input.kept_ranges().collect();
        let map = self.token_maps[document.0 as usize].as_deref();
        if map.is_some_and(|map| map.len() != ranges.len()) {
            return Err(FormatError::Invalid {
                path: format!("document {}", document.0),
                offset: 0,
                what: format!(
                    "its token map has {} entries, its text {} tokens",
                    map.map_or(0, <[u16]>::len),
                    ranges.len()
                ),
            }
            .into());
        }
        let places = |token: u32| {
            let members = ranges.iter().enumerate().filter(|(i, _)| match map {
                Some(map) => u32::from(map[*i]) == token,
                None => *i as u32 == token,
            });
            join(members.filter_map(|(_, range)| range.clone()))
                .into_iter()
                .flat_map(|range| text.locate(&range).map(Place::new).collect::<Vec<_>>())
                .collect()
        };
        let matches = words.iter().enumerate().filter_map(|(query_token, (i, _, weight))| {
            let TokenMatch { token, similarity } = *best.get(*i)?;
            let cosine = if *weight > 1e-6 { similarity / weight } else { 0.0 };
            Some(Match { query_token, similarity: cosine, contribution: similarity, places: places(token) })
        });
        Ok(matches.collect())
    }
}

fn check_computed(what: &'static str, found: usize, expected: usize) -> Result<(), RetrieverError> {
    if found == expected { Ok(()) } else { Err(RetrieverError::Computed { what, found, expected }) }
}

/// Ascending ranges with touching neighbours made one.
fn join(ranges: impl Iterator<Item = core::ops::Range<usize>>) -> Vec<core::ops::Range<usize>> {
    let mut out: Vec<core::ops::Range<usize>> = Vec::new();
    for range in ranges {
        match out.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => out.push(range),
        }
    }
    out
}

/// The largest character boundary of `text` at or below `at`.
fn floor_char_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0)
}
