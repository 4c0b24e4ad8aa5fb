//! A compressed index with random tokens, for kernels and benches.

use crate::Random;
use shirube_kernels::{CompressedTokens, ResidualTable, TokenRange};

/// Random compressed tokens of many documents.
#[derive(Clone, Debug)]
pub struct RandomIndex {
    /// Width of an embedding.
    pub dim: usize,
    /// `[n_centroids, dim]`, rows of length 1.
    pub centroids: Vec<f32>,
    /// `[n_tokens]`
    pub codes: Vec<u16>,
    /// `[n_tokens, dim / 2]`
    pub residuals: Vec<u8>,
    /// `[n_tokens]`, exact for the decoded vectors.
    pub inverse_norms: Vec<f32>,
    /// One range a document.
    pub documents: Vec<TokenRange>,
    /// Residual values.
    pub table: ResidualTable,
}

impl RandomIndex {
    /// `n_documents` of `n_tokens` each (give or take a quarter).
    ///
    /// # Panics
    /// When `dim` is odd, or a count is 0 or beyond its integer type.
    pub fn new(seed: u64, n_documents: usize, n_tokens: usize, n_centroids: usize, dim: usize) -> Self {
        let mut random = Random::new(seed ^ 0x1e46);
        let lengths: Vec<usize> =
            (0..n_documents).map(|_| n_tokens - n_tokens / 4 + random.below(n_tokens / 2 + 1)).collect();
        Self::of_lengths(seed, dim, n_centroids, &lengths)
    }

    /// One document of each of `lengths` tokens.
    ///
    /// # Panics
    /// When `dim` is odd, or a count is beyond its integer type.
    pub fn of_lengths(seed: u64, dim: usize, n_centroids: usize, lengths: &[usize]) -> Self {
        assert!(dim.is_multiple_of(2) && (1..=1 << 16).contains(&n_centroids));
        let mut random = Random::new(seed);
        let centroids = random.unit_rows(n_centroids, dim);
        let spread = 1.6 / (dim as f32).sqrt() / 16.0;
        let table = ResidualTable::quantize(&core::array::from_fn(|i| (i as f32 - 7.5) * spread));
        let mut documents = Vec::with_capacity(lengths.len());
        let mut total = 0_u32;
        for &n in lengths {
            let end = total + u32::try_from(n).expect("few tokens");
            documents.push(TokenRange { start: total, end });
            total = end;
        }
        let total = total as usize;
        let codes = (0..total).map(|_| random.below(n_centroids) as u16).collect();
        let residuals = (0..total * dim / 2).map(|_| random.below(256) as u8).collect();
        let mut index =
            Self { dim, centroids, codes, residuals, inverse_norms: Vec::new(), documents, table };
        index.inverse_norms = (0..total)
            .map(|t| {
                let token = index.raw(t);
                1.0 / token.iter().map(|v| v * v).sum::<f32>().sqrt()
            })
            .collect();
        index
    }

    /// Centroid plus residual of a token, before its norm.
    fn raw(&self, token: usize) -> Vec<f32> {
        let centroid = &self.centroids[usize::from(self.codes[token]) * self.dim..][..self.dim];
        let bytes = &self.residuals[token * self.dim / 2..][..self.dim / 2];
        let nibble = |d: usize| bytes[d / 2] >> (4 * (d % 2));
        centroid.iter().enumerate().map(|(d, c)| c + self.table.value(nibble(d))).collect()
    }

    /// The embedding that a token stands for, of length 1.
    ///
    /// # Panics
    /// When there is no such token.
    pub fn decode(&self, token: usize) -> Vec<f32> {
        self.raw(token).iter().map(|v| v * self.inverse_norms[token]).collect()
    }

    /// The tokens as the kernels take them.
    pub fn tokens(&self) -> CompressedTokens<'_> {
        CompressedTokens {
            codes: &self.codes,
            residuals: &self.residuals,
            inverse_norms: &self.inverse_norms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shirube_kernels::Kernels;

    #[test]
    fn compressed_scores_are_those_of_the_decoded_embeddings() {
        let index = RandomIndex::new(5, 20, 12, 30, 32);
        let query = Random::new(6).unit_rows(9, 32);
        let plain: Vec<f32> = (0..index.codes.len()).flat_map(|t| index.decode(t)).collect();
        for kernels in Kernels::all() {
            let prepared = kernels.maxsim_query(&query, 32, index.table).unwrap();
            let mut centroid_scores = vec![0.0; 30 * prepared.stride()];
            kernels.centroid_scores(&prepared, &index.centroids, &mut centroid_scores).unwrap();
            let (mut found, mut expected) = (vec![0.0; 20], vec![0.0; 20]);
            kernels
                .maxsim(&prepared, &centroid_scores, index.tokens(), &index.documents, &mut found)
                .unwrap();
            let packed = kernels.pack_f32(&query, 9, 32).unwrap();
            kernels.maxsim_f32(&packed, &plain, &index.documents, &mut expected).unwrap();
            // Query tokens are int8 in the residual part: half a step of 127 on a part of about a third of the length.
            for (f, e) in found.iter().zip(&expected) {
                assert!((f - e).abs() < 9.0 * 0.002, "{f} against {e} on {}", kernels.kind());
            }
        }
    }
}
