//! The texts of a retrieval set as a site would hold them.
//!
//! A model reads a fixed number of tokens. A site cuts what is longer into passages and answers with the best of them
//! (`shirube_site::passages`); an evaluation that left the rest of a text unread would measure what no reader gets.

use crate::data::RetrievalSet;
use rayon::prelude::*;
use shirube_core::{DocId, InputRules};
use shirube_format::bundle::Section;
use shirube_retriever::top_k;
use shirube_site::passages_by;
use shirube_text::Tokenizer;

/// Passages, and of which text of the set each is one.
#[derive(Debug)]
pub(crate) struct Cut {
    /// Those of one text follow each other.
    sections: Vec<Section>,
    /// What is encoded and indexed of each.
    texts: Vec<String>,
    /// `[n_passages]` indices into the set.
    text_of: Vec<usize>,
    n_texts: usize,
}

impl Cut {
    /// The texts of `set`, cut for a model with this tokenizer and these rules for documents.
    pub(crate) fn new(set: &RetrievalSet, tokenizer: &Tokenizer, rules: &InputRules) -> Self {
        let cut: Vec<Vec<Section>> = set
            .passages
            .par_iter()
            .map(|p| {
                let section = Section {
                    id: p.id.clone(),
                    page: p.title.clone(),
                    title: p.title.clone(),
                    text: p.text.clone(),
                    ..Section::default()
                };
                passages_by(section, tokenizer, rules)
            })
            .collect();
        let text_of = cut.iter().enumerate().flat_map(|(i, passages)| vec![i; passages.len()]).collect();
        let sections: Vec<Section> = cut.into_iter().flatten().collect();
        let texts = sections.iter().map(|section| section.document().text).collect();
        Self { sections, texts, text_of, n_texts: set.passages.len() }
    }

    /// What is encoded and indexed, `[n_passages]`.
    pub(crate) fn texts(&self) -> &[String] {
        &self.texts
    }

    /// The same for a bundle.
    pub(crate) fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The text of the set that a passage is from.
    pub(crate) fn text_of(&self, passage: DocId) -> usize {
        self.text_of[passage.0 as usize]
    }

    /// For each text the score of its best passage, from `[n_passages]`; the least there is for a text without any.
    pub(crate) fn best(&self, scores: &[f32]) -> Vec<f32> {
        let mut best = vec![f32::MIN; self.n_texts];
        for (&text, &score) in self.text_of.iter().zip(scores) {
            best[text] = best[text].max(score);
        }
        best
    }

    /// The best passages of the `n` best texts, from `[n_passages]`, best first.
    pub(crate) fn best_passages(&self, scores: &[f32], n: usize) -> Vec<u32> {
        let mut best: Vec<Option<u32>> = vec![None; self.n_texts];
        for (passage, &text) in (0u32..).zip(&self.text_of) {
            if best[text].is_none_or(|other| scores[passage as usize] > scores[other as usize]) {
                best[text] = Some(passage);
            }
        }
        top_k(best.into_iter().flatten(), scores, n)
    }

    /// [`Self::best`] for every query.
    pub(crate) fn best_rows(&self, rows: &[Vec<f32>]) -> Vec<Vec<f32>> {
        rows.iter().map(|scores| self.best(scores)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Passage, QueryText};
    use crate::eval::{DEVICE, Encoded, SetReport, bm25_scores, top_k};
    use candle_core::Tensor;
    use shirube_core::Role;
    use shirube_index::IndexOptions;
    use shirube_lexical::Analyzer;
    use std::path::Path;

    /// A short text, and one whose answer stands far behind what the model reads at once.
    fn set() -> RetrievalSet {
        let passage = |id: &str, text: String| Passage { id: id.to_owned(), title: "題".to_owned(), text };
        let question = |id: &str, text: &str| QueryText { id: id.to_owned(), text: text.to_owned() };
        let filler = "これは前置きの文です。".repeat(120);
        RetrievalSet {
            passages: vec![
                passage("short", "駅前の図書館は九時に開く。".to_owned()),
                passage("long", format!("{filler}水車小屋の鍵は郵便局にある。")),
                passage("other", filler.clone()),
            ],
            queries: vec![question("1", "水車小屋の鍵はどこ?"), question("2", "図書館は何時に開く?")],
            relevant: vec![vec![1], vec![0]],
            grades: Vec::new(),
        }
    }

    fn model() -> shirube_encoder::Model {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pkg/model");
        crate::shipped::read_model(&folder).expect("the committed model")
    }

    #[test]
    fn a_text_longer_than_the_model_reads_is_read_to_its_end() {
        let (set, model) = (set(), model());
        let rules = model.rules(Role::Document);
        let cut = Cut::new(&set, model.tokenizer(), rules);
        let of_long: Vec<&Section> =
            cut.sections.iter().zip(&cut.text_of).filter(|(_, t)| **t == 1).map(|(s, _)| s).collect();
        assert!(of_long.len() > 2, "{} passages", of_long.len());
        assert_eq!(of_long.iter().map(|s| s.text.as_str()).collect::<String>(), set.passages[1].text);
        assert!(cut.texts.iter().all(|text| !model.prepare(text, Role::Document).truncated));
        assert_eq!(cut.texts[0], set.passages[0].document_text(), "a short text is one passage, as it is");
    }

    #[test]
    fn the_best_passage_stands_for_its_text() {
        let (set, model) = (set(), model());
        let cut = Cut::new(&set, model.tokenizer(), model.rules(Role::Document));
        let mut scores = vec![-1.0; cut.texts.len()];
        let last_of_long = cut.text_of.iter().rposition(|&t| t == 1).expect("it has passages");
        scores[last_of_long] = 3.0;
        scores[0] = 2.0;
        assert_eq!(cut.best(&scores), [2.0, 3.0, -1.0]);
        assert_eq!(cut.text_of(DocId(last_of_long as u32)), 1);
        let words = bm25_scores(&set, cut.texts(), Analyzer::grams(), (0.9, 0.6)).expect("BM25");
        assert_eq!(top_k(&cut.best(&words[0]), 1), [1]);
    }

    #[test]
    fn what_a_reader_gets_finds_an_answer_at_the_end_of_a_long_text() {
        let (set, model) = (set(), model());
        let mut report = SetReport::empty("cut", &set);
        let whole = IndexOptions { pool_factor: 1, ..IndexOptions::default() };
        crate::shipped::evaluate(&mut report, &set, &model, &[whole]).expect("it runs");
        for method in ["int8 maxsim", "bm25-grams", "pool 1 maxsim", "pool 1 fused"] {
            assert_eq!(report.recall_1(method), Some(1.0), "{method}");
        }
        // The model alone, cut off as its rules say, sees nothing but the filler: both long texts are one to it.
        let texts: Vec<String> = set.passages.iter().map(Passage::document_text).collect();
        let Encoded { embeddings, offsets } =
            crate::shipped::encode(&model, Role::Document, &texts[1..]).expect("it encodes");
        let n = (offsets[1]) as usize;
        let rows = |from: usize| -> Vec<Vec<f32>> {
            embeddings.narrow(0, from, n).and_then(|t: Tensor| t.to_device(&DEVICE)?.to_vec2()).expect("rows")
        };
        assert_eq!(rows(0), rows(n));
    }
}
