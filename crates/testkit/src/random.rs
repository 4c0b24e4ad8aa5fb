//! Seeded numbers and texts.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A seeded generator with the few distributions that tests want.
#[derive(Clone, Debug)]
pub struct Random(ChaCha8Rng);

impl Random {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Uniform in [-1, 1).
    pub fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Uniform in 0..`n`; `n` is small against 2^32.
    ///
    /// # Panics
    /// When `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        self.0.next_u32() as usize % n
    }

    /// `n` uniform bytes.
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// About normal with mean 0 and deviation 1: a sum of 6 uniform numbers, never beyond 4.3.
    pub fn normal(&mut self) -> f32 {
        (0..6).map(|_| self.unit()).sum::<f32>() * 0.5_f32.sqrt()
    }

    /// `n` normal numbers times `deviation`.
    pub fn normals(&mut self, n: usize, deviation: f32) -> Vec<f32> {
        (0..n).map(|_| self.normal() * deviation).collect()
    }

    /// `n` rows of width `dim` and length 1.
    pub fn unit_rows(&mut self, n: usize, dim: usize) -> Vec<f32> {
        let mut rows = self.normals(n * dim, 1.0);
        for row in rows.chunks_exact_mut(dim) {
            let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
            row.iter_mut().for_each(|v| *v /= norm);
        }
        rows
    }

    /// `n` characters of kana, common kanji, letters and digits.
    pub fn text(&mut self, n: usize) -> String {
        (0..n).map(|_| CHARACTERS[self.below(CHARACTERS.len())]).collect()
    }
}

/// What random texts and random tokenizers are made of.
pub(crate) const CHARACTERS: [char; 64] = [
    '0', '1', '2', 'a', 'c', 'e', 'i', 'n', 'o', 'r', 's', 't', '、', '。', 'あ', 'い', 'う', 'か', 'が',
    'き', 'く', 'こ', 'さ', 'し', 'す', 'た', 'て', 'で', 'と', 'な', 'に', 'の', 'は', 'を', 'ん', 'ア',
    'イ', 'エ', 'コ', 'ス', 'ト', 'ド', 'ラ', 'ル', 'レ', 'ン', 'ー', '一', '人', '出', '処', '分', '型',
    '変', '定', '性', '手', '数', '時', '有', '権', '理', '用', '関',
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let (mut a, mut b) = (Random::new(3), Random::new(3));
        assert_eq!(a.normals(50, 1.0), b.normals(50, 1.0));
        assert_eq!(a.text(20), b.text(20));
        assert_ne!(a.text(20), Random::new(4).text(20));
    }

    #[test]
    fn normals_have_mean_0_and_deviation_1() {
        let x = Random::new(1).normals(20_000, 1.0);
        let mean = x.iter().sum::<f32>() / x.len() as f32;
        let variance = x.iter().map(|v| v * v).sum::<f32>() / x.len() as f32;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.03, "mean {mean}, variance {variance}");
    }

    #[test]
    fn no_character_stands_twice() {
        let distinct: std::collections::BTreeSet<char> = CHARACTERS.into_iter().collect();
        assert_eq!(distinct.len(), CHARACTERS.len());
    }
}
