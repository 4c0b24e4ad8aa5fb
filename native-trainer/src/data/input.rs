//! Texts as the student reads them: the model's input rules on token ids, the same as `shirube_text::EncoderInput` makes from text.

use shirube_core::InputRules;

/// One input: markers, text, augmentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    /// Token ids.
    pub ids: Vec<u32>,
    /// The first so many are attended to; augmentation behind them may only look.
    pub n_attended: usize,
}

impl Sequence {
    /// `text` by `rules`: cut so that markers and text take at most `max_length`, then padded as the augmentation says.
    pub fn new(rules: &InputRules, text: impl IntoIterator<Item = u32>) -> Self {
        let room = rules.max_length.saturating_sub(rules.prefix.len() + rules.suffix.len());
        let mut ids = rules.prefix.clone();
        ids.extend(text.into_iter().take(room));
        ids.extend_from_slice(&rules.suffix);
        let mut n_attended = ids.len();
        if let Some(expansion) = &rules.expansion {
            let target = expansion.rule.target(ids.len(), rules.max_length).min(rules.max_length);
            ids.resize(target.max(ids.len()), expansion.token);
            if expansion.attend {
                n_attended = ids.len();
            }
        }
        Self { ids, n_attended }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shirube_core::{Expansion, ExpansionRule};
    use shirube_text::{EncoderInput, Tokenizer};

    #[test]
    fn ids_are_those_of_the_shipped_encoders_input() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../pkg/model/tokenizer.bin");
        let tokenizer =
            Tokenizer::from_bytes(&std::fs::read(path).expect("the tokenizer")).expect("it opens");
        let rules = [ExpansionRule::Fixed, ExpansionRule::DynamicPaper, ExpansionRule::DynamicEvaluator];
        let rules =
            rules.into_iter().flat_map(|r| [false, true].map(|attend| Some((r, attend)))).chain([None]);
        for rule in rules {
            for (max_length, suffix) in [(32, vec![]), (48, vec![5]), (512, vec![5])] {
                let rules = InputRules {
                    prefix: vec![3],
                    suffix,
                    max_length,
                    expansion: rule.map(|(rule, attend)| Expansion { token: 2, attend, rule }),
                    ..InputRules::default()
                };
                for n in [0, 1, 5, 20, 40, 90] {
                    let text = "検索の速さ ".repeat(n);
                    let theirs = EncoderInput::new(&tokenizer, &rules, &text);
                    let ours = Sequence::new(&rules, tokenizer.encode(&text).ids);
                    assert_eq!(ours.ids, theirs.ids);
                    let seen = if theirs.attend_expansion { theirs.ids.len() } else { theirs.n_real };
                    assert_eq!(ours.n_attended, seen);
                }
            }
        }
    }
}
