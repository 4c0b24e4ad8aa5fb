//! A query made ready: its terms, its other spellings, and what it takes for a document to hold it.
//!
//! ```text
//! score(q, d) = sum over terms t of q: bm25(t, d)
//!             + sum over places p: max(0, max over spellings v at p: f(v) * sum over terms of v: bm25(t, d) - sum over terms typed there: bm25(t, d))
//! f(v)        = weight(v) * min(1, idf of the terms typed / idf of the terms of v)
//! ```
//!
//! A spelling counts in documents that hold all terms of its word. It can only add, and what it adds stays below what the spelling typed gives: a rare variant counts no more than the common word it stands
//! for. Documents with both spellings count once. A spelling is looked up where fewer than [`RARE`] documents hold the one typed; with more of these
//! nothing of it would be seen, and its postings need not be read.
//!
//! The way not taken: to fold spellings in the index. It halves the postings' reads, but then nothing tells サーバ from サーバー, and a rule that is
//! wrong once is wrong until every site is built again.

use crate::bm25::idf;
use crate::variants::{Variant, variants};
use crate::{Analyzer, Term};
use core::ops::Range;
use std::collections::HashMap;

/// Documents with the spelling typed from which on no other is looked for.
pub(crate) const RARE: u32 = 50;

/// Most spellings of one run that a text is searched for.
const MOST_SPELLINGS: usize = 32;

/// How far a document holds a query, the lowest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Held {
    /// Some of its terms.
    #[default]
    Partly,
    /// All of it, some in another spelling.
    Spelled,
    /// All of it as typed.
    Exactly,
}

/// Postings, wherever they are.
pub(crate) trait Postings {
    /// Number of documents in all.
    fn n_docs(&self) -> usize;
    /// Number of documents that hold `term`.
    fn n_documents(&self, term: &Term) -> u32;
    /// Calls `each` with every document that holds `term` and the term's share of its score.
    fn for_each(&self, term: &Term, each: &mut dyn FnMut(usize, f32));
}

/// A query, analysed.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    /// In order, repetitions included.
    pub(crate) terms: Vec<Term>,
    spellings: Vec<Spelling>,
    phrases: Phrases,
}

/// One other spelling: `terms` in place of those of `window`.
#[derive(Clone, Debug)]
struct Spelling {
    window: Range<usize>,
    terms: Vec<Term>,
    /// Distinct terms of the word in this spelling, without what stands around it: who does not hold them all does not hold the word.
    word: Vec<Term>,
    /// 0 where it tells only whether a document holds the query.
    weight: f32,
    last_resort: bool,
}

/// The unbroken runs of a query, each in every spelling, the one typed first: what a text is searched for to see whether it holds the query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Phrases(Vec<Vec<String>>);

impl Phrases {
    /// How far `text`, normalised as the index is, holds every run unbroken.
    pub fn held_by(&self, text: &str) -> Held {
        let mut held = Held::Exactly;
        for run in &self.0 {
            match run.iter().position(|spelling| text.contains(spelling.as_str())) {
                Some(0) => {}
                Some(_) => held = Held::Spelled,
                None => return Held::Partly,
            }
        }
        held
    }
}

impl Query {
    pub(crate) fn new(analyzer: &Analyzer, text: &str) -> Self {
        let mut terms = Vec::new();
        analyzer.terms(text, |term| terms.push(term));
        let mut query = Self { terms, spellings: Vec::new(), phrases: Phrases::default() };
        let Some(normalizer) = analyzer.spells() else { return query };
        let text = normalizer.normalize(text).text;
        let found = variants(&text);
        for variant in &found {
            let changed =
                format!("{}{}{}", &text[..variant.range.start], variant.text, &text[variant.range.end..]);
            let mut terms = Vec::new();
            analyzer.terms(&changed, |term| terms.push(term));
            let (a, b) = (&query.terms, &terms);
            let head = a.iter().zip(b).take_while(|(a, b)| a == b).count();
            let room = a.len().min(b.len()) - head;
            let tail = a.iter().rev().zip(b.iter().rev()).take(room).take_while(|(a, b)| a == b).count();
            let (window, new) = (head..a.len() - tail, b[head..b.len() - tail].to_vec());
            // At the end of the query such a spelling has all terms of the one typed, and more.
            if !window.is_empty() {
                let mut word = Vec::new();
                let range =
                    word_around(&changed, variant.range.start..variant.range.start + variant.text.len());
                analyzer.terms(&changed[range], |term| {
                    if !word.contains(&term) && terms.contains(&term) {
                        word.push(term);
                    }
                });
                // A word that only goes on (サーバー for サーバ) is found by the terms of the one typed; what is around it must not count for it.
                let mut goes_on = !variant.last_resort;
                analyzer.terms(&text[word_around(&text, variant.range.clone())], |term| {
                    goes_on &= word.contains(&term)
                });
                let Variant { last_resort, .. } = *variant;
                let weight = if goes_on { 0.0 } else { variant.weight };
                query.spellings.push(Spelling { window, terms: new, word, weight, last_resort });
            }
        }
        // Windows that overlap are one place.
        query.spellings.sort_by_key(|s| (s.window.start, s.window.end));
        query.phrases = Phrases(
            Analyzer::runs(&text)
                .map(|run| {
                    let mut spellings = vec![text[run.clone()].to_owned()];
                    // From the last place to the first, so that earlier ones keep theirs; one spelling a place.
                    let inside =
                        found.iter().filter(|v| run.start <= v.range.start && v.range.end <= run.end);
                    let mut places: Vec<_> = inside.collect();
                    places.sort_by_key(|v| core::cmp::Reverse((v.range.start, v.range.end)));
                    let mut done: Vec<(String, usize)> = vec![(spellings[0].clone(), run.len())];
                    for v in places {
                        let range = v.range.start - run.start..v.range.end - run.start;
                        let more: Vec<_> = done
                            .iter()
                            .filter(|(_, from)| range.end <= *from)
                            .map(|(s, _)| {
                                (format!("{}{}{}", &s[..range.start], v.text, &s[range.end..]), range.start)
                            })
                            .take(MOST_SPELLINGS.saturating_sub(done.len()))
                            .collect();
                        done.extend(more);
                    }
                    spellings.extend(done.into_iter().skip(1).map(|(spelling, _)| spelling));
                    spellings
                })
                .collect(),
        );
        query
    }

    pub(crate) fn into_phrases(self) -> Phrases {
        self.phrases
    }

    /// The spellings worth looking up, given the postings of the terms typed.
    fn active<'a>(&'a self, postings: &'a dyn Postings) -> impl Iterator<Item = &'a Spelling> {
        self.spellings.iter().filter(|s| {
            let most = self.terms[s.window.clone()].iter().map(|t| postings.n_documents(t));
            if s.last_resort { most.max() == Some(0) } else { most.min() < Some(RARE) }
        })
    }

    /// Terms of the spellings worth looking up; needs the postings of [`Self::terms`].
    pub(crate) fn more_terms<'a>(&'a self, postings: &'a dyn Postings) -> impl Iterator<Item = &'a Term> {
        self.active(postings).flat_map(|s| &s.terms)
    }

    /// The score of every document and how far it holds the query, by its terms; needs the postings of all terms.
    pub(crate) fn score(&self, postings: &dyn Postings) -> (Vec<f32>, Vec<Held>) {
        let n_docs = postings.n_docs();
        let mut scores = vec![0.0_f32; n_docs];
        for term in &self.terms {
            postings.for_each(term, &mut |document, share| scores[document] += share);
        }
        let active: Vec<&Spelling> = self.active(postings).collect();
        let held = self.held(&active, postings);
        let rarity =
            |terms: &[Term]| terms.iter().map(|t| idf(n_docs, postings.n_documents(t) as usize)).sum::<f64>();
        for place in places(&active) {
            let mut gains = vec![0.0_f32; n_docs];
            for spelling in place.iter().filter(|s| s.weight > 0.0 && !s.terms.is_empty()) {
                let typed = &self.terms[spelling.window.clone()];
                let factor =
                    f64::from(spelling.weight) * (rarity(typed) / rarity(&spelling.terms).max(1e-9)).min(1.0);
                let mut gain = vec![0.0_f32; n_docs];
                let mut add = |term: &Term, factor: f32| {
                    postings.for_each(term, &mut |document, share| gain[document] += factor * share);
                };
                spelling.terms.iter().for_each(|term| add(term, factor as f32));
                typed.iter().for_each(|term| add(term, -1.0));
                let mut n_held = vec![0_usize; n_docs];
                for term in &spelling.word {
                    postings.for_each(term, &mut |document, _| n_held[document] += 1);
                }
                for ((best, gain), n_held) in gains.iter_mut().zip(gain).zip(n_held) {
                    if n_held == spelling.word.len() {
                        *best = best.max(gain);
                    }
                }
            }
            scores.iter_mut().zip(gains).for_each(|(score, gain)| *score += gain);
        }
        (scores, held)
    }

    /// How far each document holds the query by its terms. Queries of more than 64 terms in all are held by none: those are sentences.
    fn held(&self, active: &[&Spelling], postings: &dyn Postings) -> Vec<Held> {
        let n_docs = postings.n_docs();
        let mut bits: HashMap<&Term, u32> = HashMap::new();
        for term in self.terms.iter().chain(active.iter().flat_map(|s| &s.terms)) {
            let next = bits.len() as u32;
            bits.entry(term).or_insert(next);
        }
        if bits.is_empty() || bits.len() > 64 {
            return vec![Held::Partly; n_docs];
        }
        let mut masks = vec![0_u64; n_docs];
        for (term, bit) in &bits {
            postings.for_each(term, &mut |document, _| masks[document] |= 1 << bit);
        }
        let mask_of = |terms: &[Term]| terms.iter().fold(0_u64, |mask, term| mask | 1 << bits[term]);
        let typed = mask_of(&self.terms);
        // A place is held by its own terms or by those of a spelling with the rest of the place's.
        let mut outside = typed;
        let places: Vec<Vec<u64>> = places(active)
            .map(|place| {
                let (start, end) = place
                    .iter()
                    .fold((usize::MAX, 0), |(s, e), p| (s.min(p.window.start), e.max(p.window.end)));
                let own = mask_of(&self.terms[start..end]);
                let elsewhere = mask_of(&self.terms[..start]) | mask_of(&self.terms[end..]);
                outside &= !own | elsewhere;
                core::iter::once(own)
                    .chain(place.iter().map(|s| {
                        mask_of(&self.terms[start..s.window.start])
                            | mask_of(&s.terms)
                            | mask_of(&self.terms[s.window.end..end])
                    }))
                    .collect()
            })
            .collect();
        let has = |mask: u64, wanted: u64| mask & wanted == wanted;
        masks
            .into_iter()
            .map(|mask| {
                if has(mask, typed) {
                    Held::Exactly
                } else if has(mask, outside)
                    && places.iter().all(|p| p.iter().any(|&wanted| has(mask, wanted)))
                {
                    Held::Spelled
                } else {
                    Held::Partly
                }
            })
            .collect()
    }

    /// An upper bound of what the terms typed can give a document.
    pub(crate) fn bound(&self, postings: &dyn Postings) -> f32 {
        self.terms.iter().map(|t| idf(postings.n_docs(), postings.n_documents(t) as usize)).sum::<f64>()
            as f32
    }
}

/// The word that the piece `range` of `text` belongs to: in katakana the whole run, elsewhere the piece with what a bigram needs.
fn word_around(text: &str, range: Range<usize>) -> Range<usize> {
    let before = |at: usize| text[..at].chars().next_back();
    let after = |at: usize| text[at..].chars().next();
    let katakana = |c: &char| matches!(c, 'ァ'..='ヺ' | 'ー');
    let (mut start, mut end) = (range.start, range.end);
    if text[range].chars().all(|c| katakana(&c)) {
        while let Some(c) = before(start).filter(katakana) {
            start -= c.len_utf8();
        }
        while let Some(c) = after(end).filter(katakana) {
            end += c.len_utf8();
        }
    }
    let n = text[start..end].chars().count();
    if n < 2 {
        start -= before(start).map_or(0, char::len_utf8);
    }
    if n < 1 {
        end += after(end).map_or(0, char::len_utf8);
    }
    start..end
}

/// Spellings, ascending by their windows, in groups of those that share terms.
fn places<'a, 'q>(spellings: &'a [&'q Spelling]) -> impl Iterator<Item = &'a [&'q Spelling]> {
    let mut rest = spellings;
    core::iter::from_fn(move || {
        let mut end = rest.first()?.window.end;
        let n = 1 + rest[1..]
            .iter()
            .take_while(|s| {
                s.window.start < end && {
                    end = end.max(s.window.end);
                    true
                }
            })
            .count();
        let (place, after) = rest.split_at(n);
        rest = after;
        Some(place)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bm25Index;

    fn index(texts: &[&str]) -> Bm25Index {
        Bm25Index::build(texts, Analyzer::grams(), 0.9, 0.6).expect("parameters are in range")
    }

    fn found(texts: &[&str], query: &str) -> Vec<u32> {
        index(texts).search(query, 10).iter().map(|hit| hit.0.0).collect()
    }

    /// What the terms say of each text, and what the text itself says.
    fn held(texts: &[&str], query: &str) -> Vec<(Held, Held)> {
        let query = Query::new(&Analyzer::grams(), query);
        let (_, by_terms) = query.score(&index(texts));
        let normalizer = shirube_text::Normalizer::new(shirube_text::Rules::Shirube1);
        let by_text = texts.iter().map(|text| query.phrases.held_by(&normalizer.normalize(text).text));
        by_terms.into_iter().zip(by_text).collect()
    }

    #[test]
    fn another_spelling_is_found_and_stands_below_the_one_typed() {
        for (typed, other) in [
            ("サーバの設定", "サーバーの設定"),
            ("サーバーの設定", "サーバの設定"),
            ("サーバコンポーネント", "サーバーコンポーネント"),
            ("ウェブ", "ウエブ"),
            ("インターフェース", "インターフェイス"),
            ("取り扱い", "取扱い"),
            ("取扱", "取り扱い"),
            ("三ヶ月", "三か月"),
            ("人々", "人人"),
            ("りんご", "リンゴ"),
            ("こんぽーねんと", "コンポーネント"),
        ] {
            // The other spelling is the rarer one: alone that would put it first.
            let texts = [other, "花", typed, typed, typed, "鳥"];
            assert_eq!(found(&texts, typed), [2, 3, 4, 0], "{typed} and {other}");
            assert_eq!(found(&["花", other, "鳥"], typed)[0], 1, "{other} alone");
            let held = held(&texts, typed);
            assert_eq!(held[2], (Held::Exactly, Held::Exactly), "{typed}");
            assert!(held[0] == (Held::Spelled, Held::Spelled), "{other} for {typed}: {:?}", held[0]);
        }
    }

    #[test]
    fn letters_are_kana_only_where_no_document_has_the_word() {
        assert_eq!(found(&["花", "コンポーネントの設計", "鳥"], "konpo-nento"), [1]);
        assert_eq!(found(&["花", "美味しいすし", "鳥"], "sushi"), [1]);
        assert_eq!(found(&["sushi", "美味しいすし"], "sushi"), [0]);
    }

    #[test]
    fn a_voiced_sound_is_never_taken_for_an_unvoiced_one() {
        assert_eq!(found(&["カギ", "ガキ", "カキ"], "カギ"), [0]);
        assert_eq!(found(&["はは", "ばば", "ぱぱ"], "ばば"), [1]);
    }

    #[test]
    fn a_part_of_a_compound_finds_it_and_the_other_way_round() {
        assert_eq!(found(&["花", "内包表記の書き方"], "内包表記"), [1]);
        assert_eq!(found(&["花", "表記"], "内包表記"), [1]);
        assert_eq!(held(&["内包表記の書き方", "表記"], "表記"), [(Held::Exactly, Held::Exactly); 2]);
    }

    #[test]
    fn pieces_that_stand_apart_are_no_exact_hit() {
        let texts = ["東京と京都", "東京都", "東京"];
        assert_eq!(
            held(&texts, "東京都"),
            [(Held::Exactly, Held::Partly), (Held::Exactly, Held::Exactly), (Held::Partly, Held::Partly)]
        );
        // Words with a blank between may stand apart.
        assert_eq!(held(&["京都と東京"], "東京 京都"), [(Held::Exactly, Held::Exactly)]);
    }

    #[test]
    fn pieces_of_another_spelling_alone_add_nothing() {
        let index = index(&["セーラーと花", "パーティーの花", "マンディーの花"]);
        let query = Query::new(&Analyzer::grams(), "マンディと花");
        let typed = Query { spellings: Vec::new(), ..query.clone() };
        let (without, with) = (typed.score(&index).0, query.score(&index).0);
        // ーと and ィー are pieces of マンディーと; only the last text has the word.
        assert_eq!(without[..2], with[..2]);
        assert!(with[2] >= without[2], "{with:?}");
    }

    #[test]
    fn a_sentence_is_held_by_nothing_but_itself() {
        let sentence = "配列から条件に合うものだけを取り出して別の配列に入れたいときにはどうすればよいのかを知りたい人のための短い説明の文章";
        assert_eq!(held(&["配列", sentence], sentence)[0], (Held::Partly, Held::Partly));
        let long = sentence.repeat(40);
        assert!(!found(&["配列"], &long).is_empty());
    }
}
