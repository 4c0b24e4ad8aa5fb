//! The same index in shards, for a reader that needs only the blocks of a query's terms; [`builder`](crate::builder) writes them.
//!
//! Scores are those of [`Bm25Index`](crate::Bm25Index) to the last bit: the files hold counts and lengths, and both sides compute shares and sums
//! in the same order.

use crate::bm25::{Share, best, idf};
use crate::query::{Held, Phrases, Postings, Query};
use crate::{Analyzer, Term};
use shirube_core::DocId;
use shirube_format::FormatError;
use shirube_format::bundle::{LexicalBlock, LexicalDirectory, Need};
use std::collections::{BTreeMap, HashMap};

/// Blocks of the terms that a reader keeps, in bytes; those not used for longest go first.
const CACHE_BYTES: usize = 16 << 20;

/// The text of a term in files: the characters of a bigram, of a lone character or of a word. `None` for tokenizer pieces, which have no place
/// there. A word's characters are Latin letters or digits alone and a bigram has kanji or kana, so that no two terms share a text.
pub(crate) fn key(term: Term) -> Option<String> {
    match term {
        Term::Gram(a, b) => Some(core::iter::once(a).chain(b).collect()),
        Term::Word(word) => Some(word),
        Term::Piece(_) => None,
    }
}

/// What the words of a query give each document.
#[derive(Clone, Debug, Default)]
pub struct WordScores {
    /// `[n_docs]` BM25 with other spellings; 0 for documents without any of the terms.
    pub scores: Vec<f32>,
    /// `[n_docs]` how far each holds the query, by its terms: all bigrams of a word can stand apart from each other, which [`Self::phrases`] tells.
    pub held: Vec<Held>,
    /// An upper bound of the scores that the terms typed give.
    pub bound: f32,
    /// The query's unbroken runs, to be looked for in texts.
    pub phrases: Phrases,
}

/// A directory and the blocks that arrived so far.
///
/// A search either answers or says which blocks it [`Self::needs`]; who has files or a network fetches these, gives them to
/// [`Self::provide`], and asks again.
#[derive(Debug)]
pub struct ShardedIndex {
    analyzer: Analyzer,
    directory: LexicalDirectory,
    mean: f64,
    /// Block, and when it was last used.
    blocks: HashMap<usize, (LexicalBlock, u64)>,
    held_bytes: usize,
    clock: u64,
}

impl ShardedIndex {
    /// An index without blocks.
    pub fn new(directory: LexicalDirectory) -> Self {
        let n = directory.lengths.len().max(1) as f64;
        let mean = directory.lengths.iter().map(|&l| f64::from(l)).sum::<f64>() / n;
        Self { analyzer: Analyzer::grams(), directory, mean, blocks: HashMap::new(), held_bytes: 0, clock: 0 }
    }

    /// Number of documents.
    pub fn n_docs(&self) -> usize {
        self.directory.lengths.len()
    }

    /// Where the blocks are.
    pub fn directory(&self) -> &LexicalDirectory {
        &self.directory
    }

    /// What is not here yet of what `query` asks for; ascending, without repetitions. Once it is, other spellings may ask for more.
    pub fn needs(&self, query: &str) -> Vec<Need> {
        let query = Query::new(&self.analyzer, query);
        let missing = self.missing(&mut query.terms.iter());
        if missing.is_empty() { self.missing(&mut query.more_terms(self)) } else { missing }
    }

    fn missing(&self, terms: &mut dyn Iterator<Item = &Term>) -> Vec<Need> {
        let mut blocks: Vec<usize> = terms.filter_map(|term| self.block_of(term)).collect();
        blocks.sort_unstable();
        blocks.dedup();
        blocks.retain(|block| !self.blocks.contains_key(block));
        blocks.into_iter().map(|block| self.directory.need(block)).collect()
    }

    fn block_of(&self, term: &Term) -> Option<usize> {
        self.directory.block_of(&key(term.clone())?)
    }

    /// The postings of a term whose block is here.
    fn postings_of(&self, term: &Term) -> Option<(u32, shirube_format::bundle::Postings<'_>)> {
        let key = key(term.clone())?;
        let block = self.directory.block_of(&key)?;
        self.blocks.get(&block)?.0.postings(&key)
    }

    /// Takes the bytes from `start` of a shard: all of it, or the range of a need.
    ///
    /// # Errors
    /// As [`BlockTable::split`](shirube_format::bundle::BlockTable::split) and [`LexicalDirectory::parse_block`]; nothing of what was refused is kept.
    pub fn provide(&mut self, path: &str, start: u64, bytes: &[u8]) -> Result<(), FormatError> {
        self.clock += 1;
        for (block, bytes) in self.directory.table.split(path, start, bytes)? {
            let parsed = self.directory.parse_block(block, bytes)?;
            self.held_bytes += parsed.memory_bytes();
            if let Some((old, _)) = self.blocks.insert(block, (parsed, self.clock)) {
                self.held_bytes -= old.memory_bytes();
            }
        }
        Ok(())
    }

    /// Drops what was not used for longest. Between a query's needs and its answer nothing may go, so callers say when.
    fn tidy(&mut self) {
        while self.held_bytes > CACHE_BYTES && self.blocks.len() > 1 {
            let oldest =
                self.blocks.iter().min_by_key(|(block, (_, used))| (*used, **block)).map(|(b, _)| *b);
            let Some((gone, _)) = oldest.and_then(|block| self.blocks.remove(&block)) else { return };
            self.held_bytes -= gone.memory_bytes();
        }
    }

    /// Scores of all documents for `query`, other spellings included; `None` while something is missing.
    pub fn score_all(&mut self, query: &str) -> Option<WordScores> {
        if !self.needs(query).is_empty() {
            return None;
        }
        let query = Query::new(&self.analyzer, query);
        let (scores, held) = query.score(&*self);
        let bound = query.bound(&*self);
        self.clock += 1;
        let used: Vec<usize> = query
            .terms
            .iter()
            .chain(query.more_terms(&*self))
            .filter_map(|term| self.block_of(term))
            .collect();
        for block in used {
            if let Some((_, used)) = self.blocks.get_mut(&block) {
                *used = self.clock;
            }
        }
        self.tidy();
        Some(WordScores { scores, held, bound, phrases: query.into_phrases() })
    }

    /// The distinct terms of `query`, other spellings included, that some document holds, each with its rarity relative to the rarest, 0 to 1: what a
    /// hit is marked by. Terms whose block is not here are left out.
    pub fn weights(&self, query: &str) -> Vec<(String, f32)> {
        let query = Query::new(&self.analyzer, query);
        let mut weights: BTreeMap<String, f64> = BTreeMap::new();
        for term in query.terms.iter().chain(query.more_terms(self)) {
            if let (Some((n_documents, _)), Some(key)) = (self.postings_of(term), key(term.clone())) {
                weights.insert(key, idf(self.n_docs(), n_documents as usize));
            }
        }
        let most = weights.values().copied().fold(f64::MIN_POSITIVE, f64::max);
        weights.into_iter().map(|(term, idf)| (term, (idf / most) as f32)).collect()
    }

    /// As [`Bm25Index::search`](crate::Bm25Index::search); `None` while something is missing.
    pub fn search(&mut self, query: &str, k: usize) -> Option<Vec<(DocId, f32)>> {
        let scores = self.score_all(query)?.scores;
        let found = (0..scores.len() as u32).filter(|&doc| scores[doc as usize] > 0.0).collect();
        Some(best(found, &scores, k))
    }
}

impl Postings for ShardedIndex {
    fn n_docs(&self) -> usize {
        self.directory.lengths.len()
    }

    fn n_documents(&self, term: &Term) -> u32 {
        self.postings_of(term).map_or(0, |(n_documents, _)| n_documents)
    }

    fn for_each(&self, term: &Term, each: &mut dyn FnMut(usize, f32)) {
        let Some((n_documents, postings)) = self.postings_of(term) else { return };
        let (k1, b) = (self.directory.k1, self.directory.b);
        let share = Share::new(k1, b, self.directory.lengths.len(), self.mean, n_documents as usize);
        for (document, count) in postings {
            let document = document as usize;
            each(document, share.of(count, self.directory.lengths[document]));
        }
    }
}
