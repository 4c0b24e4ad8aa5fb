//! How a text becomes the encoder's input: markers, lengths, expansion, skipped tokens.

use serde::{Deserialize, Serialize};

/// Whether a text is searched with or searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Text searched with.
    Query,
    /// Text indexed and scored.
    Document,
}

/// `[MASK]` augmentation of a query (Khattab and Zaharia 2020, section 3.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expansion {
    /// Token appended after the suffix.
    pub token: u32,
    /// Whether real tokens attend to the appended ones. JaColBERT: `false`.
    pub attend: bool,
    /// How many are appended.
    pub rule: ExpansionRule,
}

/// Target length of an augmented query, for `l` real tokens, markers included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpansionRule {
    /// Always `max_length`.
    Fixed,
    /// JaColBERTv2.5 as its paper says (section 3.5): the next multiple of 32, or `l + 8` where that leaves fewer than 8.
    DynamicPaper,
    /// JaColBERTv2.5 as its evaluator computes: `l + 8` if `l % 32 <= 8`, else the next multiple of 32.
    DynamicEvaluator,
    /// At least this many, more where the query is longer: strategy `min` of Sentence Transformers.
    AtLeast(usize),
}

impl ExpansionRule {
    /// The length that a query of `l` real tokens is padded to.
    pub fn target(self, l: usize, max_length: usize) -> usize {
        let next = l.div_ceil(32) * 32;
        match self {
            Self::Fixed => max_length,
            Self::AtLeast(n) => n.max(l),
            Self::DynamicPaper if next - l < 8 => l + 8,
            Self::DynamicEvaluator if l % 32 <= 8 => l + 8,
            Self::DynamicPaper | Self::DynamicEvaluator => next,
        }
    }
}

/// Input rules of one role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRules {
    /// Ids before the text: the role's marker, in BERT models `[CLS]` and the marker.
    pub prefix: Vec<u32>,
    /// Ids after the text: `[SEP]` in BERT models.
    #[serde(default)]
    pub suffix: Vec<u32>,
    /// Longest input in tokens, prefix and suffix included; the text is cut to fit.
    pub max_length: usize,
    /// Augmentation, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expansion: Option<Expansion>,
    /// Ids that are encoded but whose embeddings are not kept (punctuation in documents).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skip: Vec<u32>,
    /// Put before the text, whose first token then gives way to the last id of `prefix`. colbert-ai up to 0.2.19 made room for its
    /// marker in this way, with `". "`; that changes what MeCab sees to the left of a text. `None`: the marker is inserted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overwritten: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::ExpansionRule::{AtLeast, DynamicEvaluator, DynamicPaper, Fixed};

    #[test]
    fn expansion_targets_match_the_published_table() {
        for (l, paper, evaluator) in [
            (5, 32, 13),
            (8, 32, 16),
            (24, 32, 32),
            (25, 33, 32),
            (32, 40, 40),
            (33, 64, 41),
            (41, 64, 64),
            (57, 65, 64),
        ] {
            assert_eq!(DynamicPaper.target(l, 512), paper, "paper rule at {l}");
            assert_eq!(DynamicEvaluator.target(l, 512), evaluator, "evaluator rule at {l}");
            assert_eq!(Fixed.target(l, 32), 32);
            assert_eq!(AtLeast(32).target(l, 512), l.max(32));
        }
    }
}
