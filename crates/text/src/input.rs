//! The encoder's input: markers, text, expansion, and what is kept of the output.

use crate::{Encoding, Span, Tokenizer};
use shirube_core::InputRules;

/// One text as the encoder takes it: prefix, text, suffix, expansion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncoderInput {
    /// Token ids.
    pub ids: Vec<u32>,
    /// For each id its bytes in the original text; `None` for markers and expansion.
    pub offsets: Vec<Option<Span>>,
    /// For each id whether its embedding is kept; `false` for ids on the role's skip list.
    pub keep: Vec<bool>,
    /// Ids before the expansion.
    pub n_real: usize,
    /// Whether real tokens attend to the expansion (it always attends to them). `true` without expansion.
    pub attend_expansion: bool,
    /// Whether the text was longer than fits.
    pub truncated: bool,
}

impl EncoderInput {
    /// `text` by `rules`. The text is cut so that prefix, text and suffix take at most `max_length` ids; the markers are
    /// never cut. Expansion never goes beyond `max_length`.
    pub fn new(tokenizer: &Tokenizer, rules: &InputRules, text: &str) -> Self {
        let encoding = match &rules.overwritten {
            Some(lead) => encode_after(tokenizer, lead, text),
            None => tokenizer.encode(text),
        };
        let room = rules.max_length.saturating_sub(rules.prefix.len() + rules.suffix.len());
        let n_text = encoding.ids.len().min(room);
        let mut ids = rules.prefix.clone();
        ids.extend_from_slice(&encoding.ids[..n_text]);
        ids.extend_from_slice(&rules.suffix);
        let n_real = ids.len();
        let mut offsets = vec![None; rules.prefix.len()];
        offsets.extend(encoding.offsets[..n_text].iter().copied().map(Some));
        let mut attend_expansion = true;
        if let Some(expansion) = &rules.expansion {
            attend_expansion = expansion.attend;
            let target = expansion.rule.target(n_real, rules.max_length).min(rules.max_length).max(n_real);
            ids.resize(target, expansion.token);
        }
        offsets.resize(ids.len(), None);
        let keep = ids.iter().map(|id| !rules.skip.contains(id)).collect();
        Self { ids, offsets, keep, n_real, attend_expansion, truncated: n_text < encoding.ids.len() }
    }

    /// Positions whose embeddings are kept, ascending.
    pub fn kept(&self) -> impl Iterator<Item = usize> + '_ {
        self.keep.iter().enumerate().filter(|&(_, &keep)| keep).map(|(at, _)| at)
    }
}

/// The tokens of `text` as they are after `lead`, whose first token is left out; offsets are those in `text`.
fn encode_after(tokenizer: &Tokenizer, lead: &str, text: &str) -> Encoding {
    let mut encoding = tokenizer.encode(&format!("{lead}{text}"));
    let first = usize::from(!encoding.ids.is_empty());
    encoding.ids.drain(..first);
    encoding.offsets.drain(..first);
    for span in &mut encoding.offsets {
        span.start = span.start.saturating_sub(lead.len() as u32);
        span.end = span.end.saturating_sub(lead.len() as u32);
    }
    encoding
}
