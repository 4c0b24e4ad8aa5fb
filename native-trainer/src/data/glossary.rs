//! Other words for the same thing, for queries that do not share words with their documents.

use super::groups::{below, unit};
use super::{DataError, lines};
use rand_chacha::ChaCha8Rng;
use shirube_text::Tokenizer;
use std::collections::HashMap;
use std::path::Path;

/// A term's tokens and those of each paraphrase.
type Entry = (Vec<u32>, Vec<Vec<u32>>);

/// Terms and their paraphrases as token ids.
///
/// The file has one term a line: `term <tab> paraphrase|paraphrase|...`.
#[derive(Clone, Debug, Default)]
pub struct Glossary {
    /// By a term's first token: the whole term and its paraphrases, longer terms first.
    terms: HashMap<u32, Vec<Entry>>,
}

impl Glossary {
    /// Reads a glossary.
    ///
    /// # Errors
    /// [`DataError::Row`] for a line without a term, a tab or a paraphrase.
    pub fn read(path: &Path, tokenizer: &Tokenizer) -> Result<Self, DataError> {
        let mut terms: HashMap<u32, Vec<Entry>> = HashMap::new();
        for line in lines(path)? {
            let (line, text) = line?;
            let row = |what: &str| DataError::Row { path: path.to_owned(), line, what: what.to_owned() };
            let (term, paraphrases) =
                text.split_once('\t').ok_or_else(|| row("expected a term, a tab and its paraphrases"))?;
            let ids = tokenizer.encode(term).ids;
            let others: Vec<Vec<u32>> =
                paraphrases.split('|').map(|p| tokenizer.encode(p).ids).filter(|p| !p.is_empty()).collect();
            if others.is_empty() {
                return Err(row("no paraphrase after the tab"));
            }
            let first = *ids.first().ok_or_else(|| row("no term before the tab"))?;
            terms.entry(first).or_default().push((ids, others));
        }
        for group in terms.values_mut() {
            group.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then(a.0.cmp(&b.0)));
        }
        Ok(Self { terms })
    }

    /// `ids` with each term replaced, with probability `share`, by one of its paraphrases.
    pub(crate) fn paraphrase(&self, ids: &[u32], share: f64, rng: &mut ChaCha8Rng) -> Vec<u32> {
        let mut out = Vec::with_capacity(ids.len());
        let mut rest = ids;
        while let Some((&first, after)) = rest.split_first() {
            let found = self.terms.get(&first).into_iter().flatten().find(|(term, _)| rest.starts_with(term));
            match found {
                Some((term, others)) if unit(rng) < share => {
                    out.extend_from_slice(&others[below(rng, others.len())]);
                    rest = &rest[term.len()..];
                }
                _ => {
                    out.push(first);
                    rest = after;
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng as _;

    fn glossary() -> Glossary {
        let mut terms = HashMap::new();
        terms.insert(1, vec![(vec![1, 2], vec![vec![9]]), (vec![1], vec![vec![8, 8]])]);
        Glossary { terms }
    }

    #[test]
    fn the_longest_term_is_replaced_and_the_rest_is_kept() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(glossary().paraphrase(&[5, 1, 2, 1, 7], 1.0, &mut rng), [5, 9, 8, 8, 7]);
    }

    #[test]
    fn a_share_of_zero_changes_nothing() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(glossary().paraphrase(&[5, 1, 2, 1, 7], 0.0, &mut rng), [5, 1, 2, 1, 7]);
    }
}
