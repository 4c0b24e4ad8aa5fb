//! Query to hits.

use crate::RetrieverError;
use crate::facets::{Facets, Filters};
use crate::fusion::{N_WINDOWED, add_windows, top_k};
use crate::marks::mark;
use crate::matches::{Word, matches_of, words_of};
use crate::results::{
    Answer, Highlights, Hit, Match, QueryToken, SearchOptions, SearchResults, Stage, Timings,
};
use crate::store::SectionStore;
use crate::vectors::{Scores, Vectors, Wanted};
use serde::Serialize;
use shirube_core::{DocId, Role};
use shirube_encoder::{Model, PreparedText};
use shirube_format::FormatError;
use shirube_format::bundle::{
    BlockTable, BundleEntry, LexicalDirectory, ModelRef, Need, Section, SectionsDirectory,
};
use shirube_index::{Index, LazyOptions, PreparedQuery, SearchMode, Step};
use shirube_kernels::Kernels;
use shirube_lexical::{Held, ShardedIndex, WordScores};
use shirube_text::{Normalizer, Rules};
use std::collections::BTreeMap;

/// Longest query that is tokenised, in bytes; what the model reads is far less.
pub(crate) const MAX_QUERY_BYTES: usize = 1 << 18;

/// How often one search by words reads the texts on top to see whether they hold the query unbroken: each may wait for a fetch.
const MOST_READS: usize = 3;

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

impl BackendChoice {
    pub(crate) fn of(kernels: Kernels) -> Self {
        Self {
            kind: kernels.kind().name().to_owned(),
            reason: "the fastest instructions that this build and this machine share".to_owned(),
        }
    }
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
    /// Bytes the index takes in memory; 0 before it is here.
    pub index_bytes: usize,
    /// Whether the index stays on its host, and searches fetch what they need of it.
    pub lazy: bool,
    /// Which kernels run.
    pub backend: BackendChoice,
}

/// A bundle, ready to be searched by words, and by meaning once a model is attached.
///
/// Nothing here reads a file or a network. A search returns results or what it [needs](Answer::Needs); the caller fetches that, gives it to
/// [`Self::provide`], and asks again. What one query brought stays for the next.
#[derive(Debug)]
pub struct Retriever {
    entry: BundleEntry,
    words: ShardedIndex,
    sections: SectionStore,
    facets: Facets,
    normalizer: Normalizer,
    meaning: Option<Meaning>,
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

#[derive(Debug)]
struct Meaning {
    model: Model,
    vectors: Vectors,
    lazy: LazyOptions,
    /// The query last encoded: asking again after a need costs nothing.
    last: Option<Encoded>,
}

#[derive(Debug)]
struct Encoded {
    query: String,
    prepared: PreparedQuery,
    words: Vec<Word>,
    truncated: bool,
    /// Scores, and what they were chosen for where not every document has an exact one.
    scores: Option<(Scores, Option<Chosen>)>,
    timings: Timings,
}

/// What decides which documents are scored where not all are, beside the query.
#[derive(Clone, Debug, PartialEq)]
struct Chosen {
    lexical_weight: f32,
    filters: Filters,
    limit: usize,
    mode: SearchMode,
}

impl Retriever {
    /// The bundle of `entry` with its two directories.
    ///
    /// # Errors
    /// As the directories' readers; [`FormatError::Invalid`] where they and the entry disagree about the number of documents.
    pub fn new(
        entry: BundleEntry,
        words: LexicalDirectory,
        sections: SectionsDirectory,
    ) -> Result<Self, RetrieverError> {
        let n_documents = entry.counts.documents as usize;
        for (what, found) in
            [("lexical", words.lengths.len()), ("sections", sections.documents.n_documents())]
        {
            if found != n_documents {
                return Err(FormatError::Invalid {
                    path: format!("{what} directory"),
                    offset: 0,
                    what: format!("{found} documents, the entry says {n_documents}"),
                }
                .into());
            }
        }
        let status = Status {
            bundle: entry.name.clone(),
            model: entry.model.name.clone(),
            dim: entry.model.dim,
            documents: n_documents,
            pages: entry.counts.pages,
            tokens: usize::try_from(entry.counts.tokens).unwrap_or(usize::MAX),
            index_bytes: 0,
            lazy: false,
            backend: BackendChoice {
                kind: "none".to_owned(),
                reason: "no model is attached: words alone".to_owned(),
            },
        };
        let facets = Facets::new(sections.facets.clone(), n_documents);
        Ok(Self {
            entry,
            words: ShardedIndex::new(words),
            sections: SectionStore::new(sections),
            facets,
            normalizer: Normalizer::new(Rules::Shirube1),
            meaning: None,
            status,
        })
    }

    /// Adds meaning: the model, and the index of the same bundle, an [`Index`] in memory or a [`LazyIndex`](shirube_index::LazyIndex) on its host.
    ///
    /// # Errors
    /// [`FormatError::Mismatch`] if the bundle was made with another model or tokenizer, [`FormatError::Invalid`] for an index of another bundle.
    pub fn attach(
        &mut self,
        model: Model,
        vectors: impl Into<Vectors>,
        kernels: Kernels,
    ) -> Result<(), RetrieverError> {
        self.entry.model.check(&ModelRef::of(model.manifest()))?;
        let vectors = vectors.into();
        if vectors.n_documents() != self.status.documents {
            return Err(FormatError::Invalid {
                path: "codes".to_owned(),
                offset: 0,
                what: format!(
                    "{} documents, the entry says {}",
                    vectors.n_documents(),
                    self.status.documents
                ),
            }
            .into());
        }
        self.status.model = model.manifest().name.clone();
        self.status.index_bytes = vectors.memory_bytes();
        self.status.lazy = matches!(vectors, Vectors::Lazy(_));
        self.status.backend = BackendChoice::of(kernels);
        self.meaning = Some(Meaning { model, vectors, lazy: LazyOptions::default(), last: None });
        Ok(())
    }

    /// What this retriever runs on.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// The entry of the bundle searched.
    pub fn entry(&self) -> &BundleEntry {
        &self.entry
    }

    /// The index searched, once one in memory is attached.
    pub fn index(&self) -> Option<&Index> {
        match &self.meaning.as_ref()?.vectors {
            Vectors::Resident(index) => Some(index),
            Vectors::Lazy(_) => None,
        }
    }

    /// How much of an index on its host a search may ask for from now on.
    pub fn set_lazy_options(&mut self, options: LazyOptions) {
        if let Some(meaning) = &mut self.meaning {
            meaning.lazy = options;
            meaning.last = None;
        }
    }

    /// The tables of blocks whose shards searches may ask for.
    fn block_tables(&self) -> Vec<&BlockTable> {
        let mut tables = vec![&self.words.directory().table, &self.sections.directory().documents.table];
        tables.extend(self.meaning.iter().flat_map(|meaning| meaning.vectors.block_tables()));
        tables
    }

    /// Takes the bytes from `start` of a shard file: all of it, or the range of a [`Need`].
    ///
    /// # Errors
    /// [`RetrieverError::UnknownFile`], or as [`BlockTable::split`](shirube_format::bundle::BlockTable::split) and the blocks' readers. Nothing of what was
    /// refused is kept, and it can be provided again.
    pub fn provide(&mut self, path: &str, start: u64, bytes: &[u8]) -> Result<(), RetrieverError> {
        if self.words.directory().table.owns(path) {
            return Ok(self.words.provide(path, start, bytes)?);
        }
        if self.sections.directory().documents.table.owns(path) {
            return Ok(self.sections.provide(path, start, bytes)?);
        }
        match &mut self.meaning {
            Some(meaning) if meaning.vectors.block_tables().iter().any(|table| table.owns(path)) => {
                meaning.vectors.provide(path, start, bytes)
            }
            _ => Err(RetrieverError::UnknownFile { path: path.to_owned() }),
        }
    }

    /// Every shard there is, for a caller that wants to keep them all.
    pub fn shards(&self) -> impl Iterator<Item = Need> {
        self.block_tables().into_iter().flat_map(BlockTable::whole_shards)
    }

    /// Checks the whole content of a shard without keeping it.
    ///
    /// # Errors
    /// As [`Self::provide`].
    pub fn check_shard(&self, path: &str, bytes: &[u8]) -> Result<(), RetrieverError> {
        match self.block_tables().into_iter().find(|table| table.owns(path)) {
            Some(table) => Ok(table.check(path, bytes)?),
            None => Err(RetrieverError::UnknownFile { path: path.to_owned() }),
        }
    }

    /// Asks [`Self::search`] (or [`Self::search_words`] without a model) until it answers, with `fetch` for what it needs: the way of callers that
    /// can wait for a file.
    ///
    /// # Errors
    /// As these two, and what `fetch` returns.
    pub fn answer(
        &mut self,
        query: &str,
        options: &SearchOptions,
        clock: Clock<'_>,
        mut fetch: impl FnMut(&Need) -> Result<Vec<u8>, FormatError>,
    ) -> Result<SearchResults, RetrieverError> {
        loop {
            let answer = if self.meaning.is_some() {
                self.search(query, options, clock)?
            } else {
                self.search_words(query, options, clock)?
            };
            match answer {
                Answer::Results(results) => return Ok(*results),
                Answer::Needs(needs) => {
                    for need in needs {
                        let bytes = fetch(&need)?;
                        self.provide(&need.path, need.range.start, &bytes)?;
                    }
                }
            }
        }
    }

    /// Token embeddings `[n_tokens, dim]` of one text as it would be searched with or indexed, before pooling and compression.
    ///
    /// # Errors
    /// [`RetrieverError::Encoder`].
    pub fn encode(&mut self, text: &str, role: Role) -> Result<Vec<f32>, RetrieverError> {
        let meaning = self.meaning.as_mut().ok_or(RetrieverError::NoModel)?;
        let cut = floor_char_boundary(text, MAX_QUERY_BYTES);
        let input = meaning.model.prepare(&text[..cut], role);
        Ok(meaning.model.encode(&input)?)
    }

    /// `query` as the encoder reads it, for a caller whose other device computes the embeddings.
    ///
    /// # Errors
    /// [`RetrieverError::NoModel`], [`RetrieverError::EmptyQuery`].
    pub fn query_input(&self, query: &str) -> Result<PreparedText, RetrieverError> {
        let meaning = self.meaning.as_ref().ok_or(RetrieverError::NoModel)?;
        meaning.query_input(&query[..floor_char_boundary(query, MAX_QUERY_BYTES)])
    }

    /// The best sections for the words of `query`: those that hold all of it as typed and unbroken, then those that hold it in other spellings, then those
    /// with parts of it; among each by BM25. Sections without any of its terms never appear. Needs no model.
    ///
    /// # Errors
    /// [`RetrieverError::EmptyQuery`], [`RetrieverError::Setting`] for a limit outside 1 to 1000, [`RetrieverError::UnknownFilter`].
    pub fn search_words(
        &mut self,
        query: &str,
        options: &SearchOptions,
        clock: Clock<'_>,
    ) -> Result<Answer, RetrieverError> {
        let (query, cut) = self.check(query, options)?;
        let allowed = self.facets.allowed(&options.filters)?;
        let start = clock();
        let needs = self.words.needs(query);
        if !needs.is_empty() {
            return Ok(Answer::Needs(needs));
        }
        let WordScores { scores: lexical, held: tiers, bound, phrases } =
            self.words.score_all(query).unwrap_or_default();
        let held: Vec<bool> = lexical
            .iter()
            .enumerate()
            .map(|(i, &score)| score > 0.0 && allowed.as_ref().is_none_or(|allowed| allowed[i]))
            .collect();
        let mut scores = lexical.clone();
        self.facets.weigh(&mut scores, allowed.as_deref());
        // No sum of parts outweighs the whole: each step is an upper bound of what terms can give.
        let lift = |held: Held| bound * f32::from(held as u8);
        scores.iter_mut().zip(&tiers).for_each(|(score, &tier)| *score += lift(tier));
        // Whether the pieces stand together is read in the texts of those on top, which are shown anyway. Who falls makes room for others, a few times.
        let mut read: BTreeMap<u32, Held> = BTreeMap::new();
        let mut n_reads = 0;
        let found = loop {
            let found = self.best(&scores, Some(&held), options);
            let tell = |&d: &u32| tiers[d as usize] > Held::Partly && !read.contains_key(&d);
            let unread: Vec<u32> = found.iter().copied().filter(tell).collect();
            let done = unread.is_empty() || n_reads == MOST_READS;
            // All that is to be shown, not only what is to be read: one fetch in place of two.
            let needs = self.sections.needs(&found);
            if !needs.is_empty() {
                return Ok(Answer::Needs(needs));
            }
            if done {
                break found;
            }
            n_reads += 1;
            for document in unread {
                let Some((section, _)) = self.sections.get(document) else { continue };
                let text = self.normalizer.normalize(&section.document().text).text;
                let claimed = tiers[document as usize];
                let actual = phrases.held_by(&text).min(claimed);
                scores[document as usize] -= lift(claimed) - lift(actual);
                read.insert(document, actual);
            }
        };
        let scored = clock();
        let terms = if options.explain { self.words.weights(query) } else { Vec::new() };
        let mut hits = Vec::with_capacity(found.len());
        for &document in &found {
            let Some((section, _)) = self.sections.get(document) else { continue };
            hits.push(Hit {
                document: DocId(document),
                score: scores[document as usize],
                maxsim: 0.0,
                lexical: lexical[document as usize],
                window: 0.0,
                section: section.clone(),
                matches: Vec::new(),
                highlights: mark(section, &terms, &self.normalizer),
            });
        }
        self.sections.used(&found);
        let end = clock();
        Ok(Answer::Results(Box::new(SearchResults {
            stage: Stage::Words,
            query: query.to_owned(),
            hits,
            query_tokens: Vec::new(),
            truncated: cut,
            n_scored: held.iter().filter(|&&h| h).count(),
            filters: self.facets.counts(&options.filters),
            timings: Timings {
                score_ms: scored - start,
                explain_ms: end - scored,
                total_ms: end - start,
                ..Timings::default()
            },
        })))
    }

    /// The best sections for `query` by words and meaning. All documents are scored, of a large index those that look best; see
    /// [`SearchOptions::mode`].
    ///
    /// # Errors
    /// [`RetrieverError::NoModel`] before [`Self::attach`]; [`RetrieverError::EmptyQuery`], [`RetrieverError::Setting`] for a limit outside 1 to 1000,
    /// [`RetrieverError::LexicalWeight`], [`RetrieverError::UnknownFilter`], [`RetrieverError::Encoder`].
    pub fn search(
        &mut self,
        query: &str,
        options: &SearchOptions,
        clock: Clock<'_>,
    ) -> Result<Answer, RetrieverError> {
        self.search_computed(query, options, None, clock)
    }

    /// [`Self::search`] with what another device computed for the same query. Asked again after a need, it remembers that.
    ///
    /// # Errors
    /// As [`Self::search`], and [`RetrieverError::Computed`] when the lengths are not those of this query and index.
    pub fn search_computed(
        &mut self,
        query: &str,
        options: &SearchOptions,
        computed: Option<Computed>,
        clock: Clock<'_>,
    ) -> Result<Answer, RetrieverError> {
        let (query, cut) = self.check(query, options)?;
        let allowed = self.facets.allowed(&options.filters)?;
        let meaning = self.meaning.as_mut().ok_or(RetrieverError::NoModel)?;
        // Taken out for the time of this search; put back where it must be asked again.
        let mut encoded = match (meaning.last.take(), computed) {
            (Some(last), None) if last.query == query => last,
            (_, computed) => meaning.encode_query(query, computed, clock)?,
        };
        let start = clock();
        let weight = options.lexical_weight;
        let mut needs = if weight > 0.0 { self.words.needs(query) } else { Vec::new() };
        let (limit, mode) = (options.limit, options.mode);
        let chosen = Chosen { lexical_weight: weight, filters: options.filters.clone(), limit, mode };
        let lazy = if mode == SearchMode::Exact { LazyOptions::UNBOUNDED } else { meaning.lazy };
        let known = |(_, of): &(Scores, Option<Chosen>)| of.as_ref().is_none_or(|of| *of == chosen);
        let scores = encoded.scores.take().filter(known);
        if scores.is_none() {
            // Lists of documents beside those of words: one round less.
            needs.extend(meaning.vectors.first_needs(&encoded.prepared, &lazy));
        }
        if !needs.is_empty() {
            encoded.scores = scores;
            meaning.last = Some(encoded);
            return Ok(Answer::Needs(needs));
        }
        let lexical = if weight > 0.0 {
            self.words.score_all(query).unwrap_or_default().scores
        } else {
            vec![0.0; meaning.vectors.n_documents()]
        };
        let wanted = Wanted {
            facets: &self.facets,
            lexical: &lexical,
            lexical_weight: weight,
            allowed: allowed.as_deref(),
            limit,
            mode,
        };
        let (scores, of) = match scores {
            Some(scores) => scores,
            None => match meaning.vectors.score(&encoded.prepared, &lazy, wanted)? {
                Step::Done(scores) => {
                    let of = scores.scored.is_some().then_some(chosen);
                    (scores, of)
                }
                Step::Needs(needs) => {
                    meaning.last = Some(encoded);
                    return Ok(Answer::Needs(needs));
                }
            },
        };
        let mut fused = wanted.fused(&scores.maxsim);
        // Only what was scored can be ranked; the filters were applied before.
        let ranked = scores.scored.as_deref().or(allowed.as_deref());
        let meaning = self.meaning.as_mut().ok_or(RetrieverError::NoModel)?;
        let (mut needs, mut windows) = (Vec::new(), BTreeMap::new());
        // A weight of 0 asks for MaxSim as it is.
        if weight > 0.0 {
            let near = top_k(self.facets.candidates(&fused, ranked), &fused, N_WINDOWED);
            let documents: Vec<DocId> = near.iter().copied().map(DocId).collect();
            match meaning.vectors.best_windows(&encoded.prepared, &lazy, &documents)? {
                Step::Done(best) => {
                    add_windows(&mut fused, &scores.maxsim, allowed.as_deref(), &near, &best);
                    windows.extend(near.into_iter().zip(best));
                }
                Step::Needs(more) => needs = more,
            }
        }
        let found = self.best(&fused, ranked, options);
        needs.extend(self.sections.needs(&found));
        let meaning = self.meaning.as_mut().ok_or(RetrieverError::NoModel)?;
        if !needs.is_empty() {
            encoded.timings.score_ms += clock() - start;
            encoded.timings.total_ms += clock() - start;
            encoded.scores = Some((scores, of));
            meaning.last = Some(encoded);
            return Ok(Answer::Needs(needs));
        }
        let scored = clock();

        let mut hits = Vec::with_capacity(found.len());
        for &document in &found {
            let Some((section, map)) = self.sections.get(document) else { continue };
            let at = document as usize;
            let matches = if options.explain {
                meaning.explain(&encoded, DocId(document), section, map.as_deref())?
            } else {
                Vec::new()
            };
            let highlights = Highlights::of(&matches, section.headings.len(), options.min_similarity);
            hits.push(Hit {
                document: DocId(document),
                score: fused[at],
                maxsim: scores.maxsim[at],
                lexical: lexical[at],
                window: windows.get(&document).copied().unwrap_or_default(),
                section: section.clone(),
                matches,
                highlights,
            });
        }
        self.sections.used(&found);
        let end = clock();
        let timings = Timings {
            score_ms: encoded.timings.score_ms + (scored - start),
            explain_ms: end - scored,
            total_ms: encoded.timings.total_ms + (end - start),
            ..encoded.timings
        };
        let results = SearchResults {
            stage: Stage::Meaning,
            query: query.to_owned(),
            hits,
            query_tokens: encoded
                .words
                .iter()
                .map(|word| QueryToken { range: word.range.clone(), weight: word.weight })
                .collect(),
            truncated: encoded.truncated || cut,
            n_scored: match scores.scored.as_ref().filter(|_| self.status.lazy).or(allowed.as_ref()) {
                Some(counted) => counted.iter().filter(|&&counted| counted).count(),
                None => scores.maxsim.len(),
            },
            filters: self.facets.counts(&options.filters),
            timings,
        };
        meaning.vectors.tidy();
        encoded.scores = Some((scores, of));
        meaning.last = Some(encoded);
        Ok(Answer::Results(Box::new(results)))
    }

    /// The documents to show, in order.
    fn best(&self, scores: &[f32], allowed: Option<&[bool]>, options: &SearchOptions) -> Vec<u32> {
        let candidates = self.facets.candidates(scores, allowed);
        let mut found = top_k(candidates, scores, options.limit);
        if let Some(by) = &options.sort {
            found.sort_by(|a, b| self.facets.compare(by, *a, *b));
        }
        found
    }

    /// The part of the query that is read, and whether something was cut off.
    fn check<'q>(&self, query: &'q str, options: &SearchOptions) -> Result<(&'q str, bool), RetrieverError> {
        if !(1..=1000).contains(&options.limit) {
            return Err(RetrieverError::Setting { name: "limit", found: options.limit, low: 1, high: 1000 });
        }
        if !(0.0..=10.0).contains(&options.lexical_weight) {
            return Err(RetrieverError::LexicalWeight { found: options.lexical_weight });
        }
        self.facets.check_sort(options.sort.as_ref())?;
        let cut = floor_char_boundary(query, MAX_QUERY_BYTES);
        if self.normalizer.normalize(&query[..cut]).text.trim().is_empty() {
            return Err(RetrieverError::EmptyQuery);
        }
        Ok((&query[..cut], cut < query.len()))
    }
}

impl Meaning {
    fn query_input(&self, query: &str) -> Result<PreparedText, RetrieverError> {
        let input = self.model.prepare(query, Role::Query);
        if input.offsets.iter().flatten().next().is_none() {
            return Err(RetrieverError::EmptyQuery);
        }
        Ok(input)
    }

    fn encode_query(
        &mut self,
        query: &str,
        computed: Option<Computed>,
        clock: Clock<'_>,
    ) -> Result<Encoded, RetrieverError> {
        let start = clock();
        let input = self.query_input(query)?;
        let tokenized = clock();
        let elsewhere = computed.as_ref().map_or((0.0, 0.0), |c| (c.encode_ms, c.score_ms));
        let (embeddings, scores) = match computed {
            Some(computed) => {
                let expected = input.kept().count() * self.vectors.dim();
                check_computed("embeddings", computed.embeddings.len(), expected)?;
                (computed.embeddings, computed.maxsim)
            }
            None => (self.model.encode(&input)?, None),
        };
        let done = clock();
        let prepared = self.vectors.prepare(&embeddings)?;
        let scores = match scores {
            Some(maxsim) => {
                check_computed("scores", maxsim.len(), self.vectors.n_documents())?;
                Some((Scores { maxsim, scored: None }, None))
            }
            None => None,
        };
        let end = clock();
        let dim = self.vectors.dim();
        let words = words_of(&input, &embeddings, dim);
        Ok(Encoded {
            query: query.to_owned(),
            prepared,
            words,
            truncated: input.truncated,
            scores,
            timings: Timings {
                tokenize_ms: tokenized - start,
                encode_ms: done - tokenized + elsewhere.0,
                score_ms: end - done + elsewhere.1,
                explain_ms: 0.0,
                total_ms: end - start + elsewhere.0 + elsewhere.1,
            },
        })
    }

    fn explain(
        &self,
        encoded: &Encoded,
        document: DocId,
        section: &Section,
        map: Option<&[u16]>,
    ) -> Result<Vec<Match>, RetrieverError> {
        let best = self.vectors.matches(&encoded.prepared, document)?;
        let text = section.document();
        let input = self.model.prepare(&text.text, Role::Document);
        let ranges: Vec<Option<core::ops::Range<usize>>> = input.kept_ranges().collect();
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
        let members = |token: u32| {
            let members = ranges.iter().enumerate().filter(|(i, _)| match map {
                Some(map) => u32::from(map[*i]) == token,
                None => *i as u32 == token,
            });
            members.filter_map(|(_, range)| range.clone()).collect()
        };
        Ok(matches_of(&encoded.words, &best, &text, members))
    }
}

fn check_computed(what: &'static str, found: usize, expected: usize) -> Result<(), RetrieverError> {
    if found == expected { Ok(()) } else { Err(RetrieverError::Computed { what, found, expected }) }
}

/// The largest character boundary of `text` at or below `at`.
pub(crate) fn floor_char_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0)
}
