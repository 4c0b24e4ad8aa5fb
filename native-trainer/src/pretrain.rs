//! Masked-language-model training on raw text, with the embedding table as output layer.

use crate::batch::BatchLoss;
use crate::data::{below, packed, read_sections, unit};
use crate::ops;
use crate::student::{Packed, Student};
use anyhow::{Result, ensure};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use rayon::prelude::*;
use shirube_text::Tokenizer;
use std::path::Path;

/// The mask token of the tokenizers made here.
pub const MASK: u32 = 2;
/// Special tokens and byte pieces stand below this id and are never put in by chance.
const FIRST_PIECE: u32 = 262;

/// Raw text as sequences of tokens.
#[derive(Clone, Debug)]
pub struct Corpus {
    sequences: Vec<Vec<u32>>,
    vocab_size: u32,
    mask_share: f64,
    mask: u32,
    seed: u64,
}

/// Masked sequences, the positions to predict and what stood there.
type Masked = (Vec<Vec<u32>>, Vec<u32>, Vec<u32>);

/// Sections of files (head, line break, text), cut into sequences of `length` tokens; what is shorter than 8 is left out.
///
/// # Errors
/// Unreadable files or no text.
pub fn read_sequences(
    root: &Path,
    files: &[String],
    tokenizer: &Tokenizer,
    length: usize,
) -> Result<Vec<Vec<u32>>> {
    let mut sequences = Vec::new();
    for file in files {
        let sections = read_sections(&root.join(file))?;
        let parts: Vec<Vec<Vec<u32>>> = sections
            .par_iter()
            .map(|s| {
                let ids = tokenizer.encode(&format!("{}\n{}", s.head_text(), s.text)).ids;
                ids.chunks(length).filter(|c| c.len() >= 8).map(<[u32]>::to_vec).collect()
            })
            .collect();
        sequences.extend(parts.into_iter().flatten());
    }
    ensure!(!sequences.is_empty(), "the files {files:?} hold no text of 8 tokens or more");
    Ok(sequences)
}

impl Corpus {
    /// Reads section files, see [`read_sequences`].
    ///
    /// # Errors
    /// Unreadable files, no text, or a mask share that is not between 0 and 1.
    pub fn read(
        root: &Path,
        files: &[String],
        tokenizer: &Tokenizer,
        length: usize,
        (mask_share, mask): (f64, u32),
        seed: u64,
    ) -> Result<Self> {
        ensure!(mask_share > 0.0 && mask_share < 1.0, "mask_share is {mask_share}, expected 0 to 1");
        ensure!(length >= 8, "length is {length}, expected 8 tokens or more");
        let sequences = read_sequences(root, files, tokenizer, length)?;
        Ok(Self { sequences, vocab_size: u32::try_from(tokenizer.vocab_size())?, mask_share, mask, seed })
    }

    /// Tokens in all.
    pub fn n_tokens(&self) -> usize {
        self.sequences.iter().map(Vec::len).sum()
    }

    /// Of the tokens to predict 80 % become the mask, 10 % a random piece, 10 % stay (Devlin et al. 2019, section 3.1).
    fn batch(&self, n_tokens: usize, step: u64, worker: u64) -> Masked {
        let mut rng =
            ChaCha8Rng::seed_from_u64(self.seed ^ step.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (worker << 56));
        let (mut sequences, mut at, mut targets, mut n) = (Vec::new(), Vec::new(), Vec::new(), 0);
        while n < n_tokens || targets.is_empty() {
            let mut ids = self.sequences[below(&mut rng, self.sequences.len())].clone();
            for id in &mut ids {
                if unit(&mut rng) < self.mask_share {
                    at.push(n as u32);
                    targets.push(*id);
                    let u = unit(&mut rng);
                    if u < 0.8 {
                        *id = self.mask;
                    } else if u < 0.9 && self.vocab_size > FIRST_PIECE {
                        *id = FIRST_PIECE + below(&mut rng, (self.vocab_size - FIRST_PIECE) as usize) as u32;
                    }
                }
                n += 1;
            }
            sequences.push(ids);
        }
        (sequences, at, targets)
    }

    /// The loss of a step and worker; accuracy is not measured (it would need all logits) and is 0.
    ///
    /// # Errors
    /// Device errors.
    pub fn loss(
        &self,
        student: &Student,
        depth: usize,
        n_tokens: usize,
        (step, worker): (u64, u64),
    ) -> Result<BatchLoss<'static>> {
        let (sequences, at, targets) = self.batch(n_tokens, step, worker);
        let (ids, offsets) = packed(sequences.iter().map(Vec::as_slice));
        let n_tokens = ids.len();
        let hidden = student.hidden(&Packed { ids, offsets: offsets.into(), attended: None }, depth)?;
        let loss = ops::masked_lm_loss(&ops::gather(&hidden, &at)?, student.table(), &targets)?;
        BatchLoss::whole(loss, 0.0, n_tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_asked_share_is_masked_and_every_target_is_what_stood_there() {
        let corpus = Corpus {
            sequences: (0..50).map(|s| (300 + s..400 + s).collect()).collect(),
            vocab_size: 1000,
            mask_share: 0.3,
            mask: MASK,
            seed: 1,
        };
        let (sequences, at, targets) = corpus.batch(20_000, 3, 0);
        let flat: Vec<u32> = sequences.concat();
        let share = at.len() as f64 / flat.len() as f64;
        assert!((share - 0.3).abs() < 0.02, "{share}");
        let masked = at.iter().filter(|&&i| flat[i as usize] == MASK).count() as f64 / at.len() as f64;
        assert!((masked - 0.8).abs() < 0.03, "{masked}");
        // Sequences run upwards by one: a neighbour that was left alone tells what stood there.
        for (&i, &target) in at.iter().zip(&targets) {
            let i = i as usize;
            if !i.is_multiple_of(100) && !at.contains(&(i as u32 - 1)) {
                assert_eq!(flat[i - 1] + 1, target);
            }
        }
        assert_eq!(corpus.batch(20_000, 3, 0), corpus.batch(20_000, 3, 0));
        assert_ne!(corpus.batch(20_000, 3, 0), corpus.batch(20_000, 4, 0));
    }
}
