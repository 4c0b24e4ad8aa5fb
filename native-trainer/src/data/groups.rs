//! Groups: documents that stand together, with the queries that ask for one of them.
//!
//! A batch is made of whole groups (an article, a page), so that the passages most alike are each other's negatives and every document is
//! encoded once for all its queries: three times fewer tokens than one triple per question, and harder negatives than random ones.

use super::{
    DataError, Glossary, RetrievalSet, Section, Sequence, pairs_file, read_pairs, read_sections, read_written,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use shirube_core::InputRules;
use shirube_text::Tokenizer;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// Token ids of one document, without markers.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// Title and headings.
    pub head: Vec<u32>,
    /// Text.
    pub body: Vec<u32>,
}

/// Documents of one article or page and queries on them.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// Documents, in reading order.
    pub documents: Vec<Document>,
    /// Query tokens and the index of the document they ask for.
    pub queries: Vec<(Vec<u32>, usize)>,
}

/// Where queries come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// Questions written by people, with their passages (`jaquad/train`).
    Questions,
    /// Titles and headings as queries for the text below them; the document's head is hidden in most draws.
    Headings,
    /// Inverse cloze: a sentence asks for the section it was taken from (Lee et al. 2019, section 4).
    Cloze,
    /// Questions written for single sections (`section id <tab> question`).
    Written,
}

/// All groups of one kind.
#[derive(Clone, Debug)]
pub struct GroupSource {
    /// Kind.
    pub kind: SourceKind,
    /// Groups.
    pub groups: Vec<Group>,
}

fn tokens(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text).ids
}

impl GroupSource {
    /// Questions of a retrieval set, grouped by title.
    ///
    /// # Errors
    /// [`DataError`] from reading.
    pub fn questions(folder: &Path, tokenizer: &Tokenizer) -> Result<Self, DataError> {
        let set = RetrievalSet::read(folder)?;
        let mut group_of_title: HashMap<&str, usize> = HashMap::new();
        let mut place = Vec::with_capacity(set.passages.len());
        let mut members: Vec<Vec<usize>> = Vec::new();
        for (i, p) in set.passages.iter().enumerate() {
            let g = *group_of_title.entry(&p.title).or_insert_with(|| {
                members.push(Vec::new());
                members.len() - 1
            });
            place.push((g, members[g].len()));
            members[g].push(i);
        }
        let mut groups: Vec<Group> = members
            .par_iter()
            .map(|list| Group {
                documents: list
                    .iter()
                    .map(|&i| Document {
                        head: tokens(tokenizer, &set.passages[i].title),
                        body: tokens(tokenizer, &set.passages[i].text),
                    })
                    .collect(),
                queries: Vec::new(),
            })
            .collect();
        for (query, relevant) in set.queries.iter().zip(&set.relevant) {
            let (g, d) = place[relevant[0]];
            groups[g].queries.push((tokens(tokenizer, &query.text), d));
        }
        groups.retain(|g| !g.queries.is_empty());
        Ok(Self { kind: SourceKind::Questions, groups })
    }

    /// Sections of raw text grouped by page, with keyword queries where `pairs` has them (`Headings`), the questions of the file `written`
    /// (`Written`), or none (`Cloze`).
    ///
    /// # Errors
    /// [`DataError`] from reading.
    pub fn sections(
        root: &Path,
        kind: SourceKind,
        files: &[String],
        written: Option<&Path>,
        tokenizer: &Tokenizer,
    ) -> Result<Self, DataError> {
        let mut pages: Vec<Vec<Section>> = Vec::new();
        for file in files {
            let mut last: Option<String> = None;
            for section in read_sections(&root.join(file))? {
                if last.as_deref() != Some(section.title.as_str()) {
                    pages.push(Vec::new());
                    last = Some(section.title.clone());
                }
                pages.last_mut().expect("a page was opened above").push(section);
            }
        }
        let mut queries_of: HashMap<String, Vec<Vec<u32>>> = HashMap::new();
        if kind == SourceKind::Headings {
            for (_, query, id) in read_pairs(&pairs_file(root)?)? {
                queries_of.entry(id).or_default().push(tokens(tokenizer, &query));
            }
        }
        if let Some(path) = written {
            let known: HashSet<&str> = pages.iter().flatten().map(|s| s.id.as_str()).collect();
            for (line, id, question) in read_written(path)? {
                if !known.contains(id.as_str()) {
                    let what = format!("no section {id} in {}", files.join(", "));
                    return Err(DataError::Row { path: path.to_owned(), line, what });
                }
                queries_of.entry(id).or_default().push(tokens(tokenizer, &question));
            }
        }
        let mut groups: Vec<Group> = pages
            .into_par_iter()
            .map(|page| {
                let mut group = Group::default();
                for section in page {
                    let body = tokens(tokenizer, &section.text);
                    if body.len() < 16 {
                        continue;
                    }
                    for query in queries_of.get(&section.id).into_iter().flatten() {
                        group.queries.push((query.clone(), group.documents.len()));
                    }
                    group.documents.push(Document { head: tokens(tokenizer, &section.head_text()), body });
                }
                group
            })
            .collect();
        groups.retain(|g| !g.documents.is_empty() && (kind == SourceKind::Cloze || !g.queries.is_empty()));
        Ok(Self { kind, groups })
    }
}

/// One training batch.
#[derive(Clone, Debug, Default)]
pub struct TokenBatch {
    /// First all queries, then all documents.
    pub sequences: Vec<Sequence>,
    /// Number of queries.
    pub n_queries: usize,
    /// For each query, the index of its document among the documents.
    pub targets: Vec<u32>,
}

/// Packs sequences one after the other: ids and `n + 1` offsets.
pub fn packed<'a>(sequences: impl IntoIterator<Item = &'a [u32]>) -> (Vec<u32>, Vec<u32>) {
    let (mut ids, mut offsets) = (Vec::new(), vec![0]);
    for sequence in sequences {
        ids.extend_from_slice(sequence);
        offsets.push(u32::try_from(ids.len()).expect("a batch holds fewer than 2^32 tokens"));
    }
    (ids, offsets)
}

/// Sections of a page that come with a written question: its own and those after it.
const WRITTEN_NEIGHBOURS: usize = 5;

/// Draws batches; a draw depends only on seed, step and worker, so that a resumed run sees the same data.
#[derive(Clone, Debug)]
pub struct Sampler {
    /// Sources with their share of groups drawn.
    pub sources: Vec<(GroupSource, f64)>,
    /// How queries are read.
    pub query: InputRules,
    /// How documents are read.
    pub document: InputRules,
    /// Token that ends a sentence, for inverse cloze.
    pub sentence_end: u32,
    /// Share of query tokens dropped at random, against reliance on single tokens.
    pub query_dropout: f64,
    /// Paraphrases put into queries taken from the text itself (headings, cloze), and how often a term is replaced.
    pub glossary: Option<(Glossary, f64)>,
    /// Seed.
    pub seed: u64,
}

pub(crate) fn unit(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

pub(crate) fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// A query without the share of its tokens that is dropped at random; short ones stay whole.
pub(crate) fn dropped(text: &[u32], share: f64, rng: &mut ChaCha8Rng) -> Vec<u32> {
    text.iter().copied().filter(|_| text.len() < 5 || unit(rng) >= share).collect()
}

impl Sampler {
    /// The batch of `step` for `worker`, of about `n_tokens` tokens.
    pub fn batch(&self, step: u64, worker: u64, n_tokens: usize) -> TokenBatch {
        let mut rng =
            ChaCha8Rng::seed_from_u64(self.seed ^ step.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (worker << 56));
        let total: f64 = self.sources.iter().map(|(_, share)| share).sum();
        let (mut queries, mut documents, mut targets) = (Vec::new(), Vec::new(), Vec::new());
        let mut used = 0;
        // One kind a batch: a heading query must not find the questions' passages as easy negatives.
        let mut pick = unit(&mut rng) * total;
        let source = self
            .sources
            .iter()
            .find(|(_, share)| {
                pick -= share;
                pick <= 0.0
            })
            .or(self.sources.last())
            .map(|(s, _)| s);
        let Some(source) = source else { return TokenBatch::default() };
        while used < n_tokens {
            let group = &source.groups[below(&mut rng, source.groups.len())];
            self.draw(
                source.kind,
                group,
                n_tokens - used,
                &mut rng,
                &mut queries,
                &mut documents,
                &mut targets,
            );
            used = queries.iter().chain(&documents).map(|s: &Sequence| s.ids.len()).sum();
        }
        let n_queries = queries.len();
        queries.append(&mut documents);
        TokenBatch { sequences: queries, n_queries, targets }
    }

    #[expect(clippy::too_many_arguments, reason = "one inner step of `batch`, split off for reading")]
    fn draw(
        &self,
        kind: SourceKind,
        group: &Group,
        budget: usize,
        rng: &mut ChaCha8Rng,
        queries: &mut Vec<Sequence>,
        documents: &mut Vec<Sequence>,
        targets: &mut Vec<u32>,
    ) {
        // A run of neighbours that fits the budget, from a random start. Written questions are few: each brings its section and the next
        // ones of its page, so that a batch holds questions of many pages.
        let (start, n) = match kind {
            SourceKind::Written => (group.queries[below(rng, group.queries.len())].1, WRITTEN_NEIGHBOURS),
            _ => (below(rng, group.documents.len()), group.documents.len()),
        };
        let mut used = 0;
        for k in 0..n.min(group.documents.len()) {
            let at = (start + k) % group.documents.len();
            let document = &group.documents[at];
            let mine: Vec<&Vec<u32>> =
                group.queries.iter().filter(|(_, d)| *d == at).map(|(q, _)| q).collect();
            if kind == SourceKind::Headings && mine.is_empty() {
                continue;
            }
            let number = u32::try_from(documents.len()).expect("a batch holds fewer than 2^32 documents");
            let mut body = document.body.as_slice();
            let mut cut;
            let mut with_head = true;
            let before = queries.len();
            match kind {
                SourceKind::Questions | SourceKind::Written => {
                    for query in mine {
                        queries.push(self.query(query, rng));
                    }
                }
                SourceKind::Headings => {
                    with_head = unit(rng) < 0.3;
                    let query = self.paraphrase(mine[below(rng, mine.len())], rng);
                    queries.push(self.query(&query, rng));
                }
                SourceKind::Cloze => {
                    let Some(range) = self.sentence(body, rng) else { continue };
                    let query = self.paraphrase(&body[range.clone()], rng);
                    queries.push(self.query(&query, rng));
                    if unit(rng) < 0.9 {
                        cut = body[..range.start].to_vec();
                        cut.extend_from_slice(&body[range.end..]);
                        body = &cut;
                    }
                    with_head = unit(rng) < 0.7;
                }
            }
            for _ in before..queries.len() {
                targets.push(number);
            }
            let head: &[u32] = if with_head { &document.head } else { &[] };
            let sequence = Sequence::new(&self.document, head.iter().chain(body).copied());
            used += sequence.ids.len() + queries[before..].iter().map(|s| s.ids.len()).sum::<usize>();
            documents.push(sequence);
            if used >= budget {
                break;
            }
        }
    }

    fn paraphrase(&self, text: &[u32], rng: &mut ChaCha8Rng) -> Vec<u32> {
        match &self.glossary {
            Some((glossary, share)) => glossary.paraphrase(text, *share, rng),
            None => text.to_vec(),
        }
    }

    fn query(&self, text: &[u32], rng: &mut ChaCha8Rng) -> Sequence {
        Sequence::new(&self.query, dropped(text, self.query_dropout, rng))
    }

    /// A sentence of 6 to 40 tokens inside a body that has others.
    fn sentence(&self, body: &[u32], rng: &mut ChaCha8Rng) -> Option<std::ops::Range<usize>> {
        let mut ranges = Vec::new();
        let mut start = 0;
        for (i, &id) in body.iter().enumerate().take(self.document.max_length) {
            if id == self.sentence_end || i + 1 == body.len() {
                if (6..=40).contains(&(i + 1 - start)) && body.len() > i + 1 - start + 8 {
                    ranges.push(start..i + 1);
                }
                start = i + 1;
            }
        }
        if ranges.is_empty() { None } else { Some(ranges.swap_remove(below(rng, ranges.len()))) }
    }
}
