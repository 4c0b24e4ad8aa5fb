//! What quantisation does to the ranking of a trained model: every passage of jsquad/valid scored exactly, no index between.

use super::cell;
use crate::corpus::{Corpus, Embeddings, Texts};
use crate::frame::{Ratio, Report, Row, Settings};
use crate::index::{Quality, exact, quality, questions};
use shirube_core::Role;
use shirube_encoder::Model;

/// Questions with `--quick`; all 4,442 without.
const QUICK: usize = 600;

/// Rows of a model in several storages, the first of which is f32.
pub(super) struct Table {
    texts: Texts,
    n_questions: usize,
    recall: Row,
    ndcg: Row,
    kept: Row,
    whole: Option<Quality>,
    ratios: Vec<Ratio>,
}

impl Table {
    pub(super) fn new(settings: &Settings, name: &str) -> anyhow::Result<Self> {
        let row = |what: &str, unit| Row { what: format!("{name}: {what}"), unit, cells: Vec::new() };
        Ok(Self {
            texts: Texts::read(&settings.data.join("jsquad/valid"))?,
            n_questions: if settings.quick { QUICK } else { usize::MAX },
            recall: row("jsquad/valid R@1", "share"),
            ndcg: row("jsquad/valid nDCG@10", "share"),
            kept: row("nDCG@10 kept", "%"),
            whole: None,
            ratios: Vec::new(),
        })
    }

    /// Adds a column, and for all but the first the share of nDCG@10 that is kept and the points of R@1 that are lost.
    pub(super) fn add(&mut self, label: &str, model: &Model) -> anyhow::Result<()> {
        let corpus = Corpus {
            passages: Embeddings::encode(model, &self.texts.passages, Role::Document)?,
            queries: Embeddings::encode(model, &self.texts.queries, Role::Query)?,
            relevant: self.texts.relevant.clone(),
        };
        let asked = questions(&corpus, self.n_questions);
        let relevant: Vec<&[u32]> = asked.iter().map(|&q| corpus.relevant[q].as_slice()).collect();
        let found = quality(&exact(&corpus, &asked)?, &relevant);
        let whole = *self.whole.get_or_insert(found);
        self.recall.cells.push(cell(label, found.recall_1));
        self.ndcg.cells.push(cell(label, found.ndcg));
        self.kept.cells.push(cell(label, 100.0 * found.ndcg / whole.ndcg));
        if self.recall.cells.len() > 1 {
            let lost = 100.0 * (whole.recall_1 - found.recall_1);
            self.ratios.push(Ratio { name: format!("ndcg-kept-{label}"), value: found.ndcg / whole.ndcg });
            self.ratios.push(Ratio { name: format!("r1-points-lost-{label}"), value: lost });
        }
        Ok(())
    }

    pub(super) fn finish(self, report: &mut Report) {
        report.rows.extend([self.recall, self.ndcg, self.kept]);
        report.ratios.extend(self.ratios);
    }
}
