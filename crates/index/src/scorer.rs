//! Scoring compressed tokens with one codec, wherever they lie: an [`Index`](crate::Index) passes its own arrays, a lazy reader the shards it has.

use crate::codec::ResidualCodec;
use crate::error::{IndexError, rows};
use shirube_kernels::{
    CompressedTokens, KernelError, Kernels, MaxsimQuery, TokenMatch, TokenRange, quantize_centroid_scores,
};

/// Query tokens whose best centroid scores below this, of 255, are not probed for: particles and padding weigh next to nothing and would bring
/// every document.
const LEAST_PROBED: u8 = 16;

/// Share of the centroids that a document without anything near a token reaches at its best; from `npm run bench -- lazy`, where .002 to .01 did alike.
const BACKGROUND: f32 = 0.005;

/// Stored tokens of a window of [`Scorer::best_windows`]: a sentence or two. From 24 to 96 all do alike (docs/training.md).
pub const WINDOW: u32 = 48;

/// The windows of a document that [`Scorer::best_windows`] scores, in order; a document without tokens is one without tokens.
pub fn windows(document: TokenRange) -> impl Iterator<Item = TokenRange> {
    let TokenRange { start, end } = document;
    let step = WINDOW / 2;
    // A rest of less than half a window stays with the window before it.
    let n = (end.saturating_sub(start).saturating_sub(step)).div_ceil(step).max(2) - 1;
    (0..n).map(move |i| TokenRange {
        start: start + i * step,
        end: if i + 1 == n { end } else { start + i * step + WINDOW },
    })
}

/// A codec and the kernels it runs on; holds no documents.
#[derive(Clone, Debug)]
pub struct Scorer {
    kernels: Kernels,
    codec: ResidualCodec,
}

/// A query prepared for one codec.
#[derive(Debug)]
pub struct PreparedQuery {
    query: MaxsimQuery,
    /// `[n_centroids, stride]`: what the exact stage adds to the residual part; zeros for sign bits.
    base: Vec<f32>,
    /// `[n_centroids, stride]` centroid scores as bytes.
    bytes: Vec<u8>,
}

impl PreparedQuery {
    /// Query tokens.
    pub fn n_tokens(&self) -> usize {
        self.query.n_tokens()
    }
}

impl Scorer {
    /// Scores tokens of `codec`.
    pub fn new(codec: ResidualCodec, kernels: Kernels) -> Self {
        Self { kernels, codec }
    }

    /// Centroids and bucket tables.
    pub fn codec(&self) -> &ResidualCodec {
        &self.codec
    }

    /// Prepares `query_embeddings [n_query_tokens, dim]`: the scores of all centroids, once per query.
    ///
    /// # Errors
    /// [`IndexError::Shape`] or [`IndexError::NotFinite`].
    pub fn prepare(&self, query_embeddings: &[f32]) -> Result<PreparedQuery, IndexError> {
        let tables = self.codec.tables();
        rows("query embeddings", query_embeddings, tables.dim)?;
        let query = self.codec.maxsim_query(self.kernels, query_embeddings).map_err(kernel)?;
        let mut base = vec![0.0; tables.n_centroids() * query.stride()];
        self.kernels.centroid_scores(&query, &tables.centroids, &mut base).map_err(kernel)?;
        let mut bytes = Vec::new();
        quantize_centroid_scores(&base, &mut bytes);
        if !tables.add_centroid {
            base.fill(0.0);
        }
        Ok(PreparedQuery { query, base, bytes })
    }

    /// The centroids whose documents are worth a look, ascending: for each query token its `n_probe` best, but none that scores below `threshold`
    /// (0 to 1) of that token's best. Works on byte scores; ties to the lower centroid.
    pub fn probe(&self, query: &PreparedQuery, n_probe: usize, threshold: f32) -> Vec<u16> {
        let (n, stride) = (query.query.n_tokens(), query.query.stride());
        if n == 0 || n_probe == 0 {
            return Vec::new();
        }
        // For each token its best so far, best first, and what a further one must exceed.
        let mut best: Vec<Vec<(u8, u16)>> = vec![Vec::with_capacity(n_probe + 1); n];
        let mut bar = vec![0_u8; stride];
        for (centroid, row) in query.bytes.chunks_exact(stride).enumerate() {
            if !row.iter().zip(&bar).fold(false, |any, (score, bar)| any | (score > bar)) {
                continue;
            }
            for (i, best) in best.iter_mut().enumerate() {
                if row[i] <= bar[i] {
                    continue;
                }
                let at = best.partition_point(|&(score, _)| score >= row[i]);
                best.insert(at, (row[i], centroid as u16));
                best.truncate(n_probe);
                if best.len() == n_probe {
                    bar[i] = best[n_probe - 1].0;
                }
            }
        }
        let mut probed: Vec<u16> = best
            .iter()
            .filter(|best| best.first().is_some_and(|&(top, _)| top >= LEAST_PROBED))
            .flat_map(|best| {
                let least = f32::from(best[0].0) * threshold;
                best.iter()
                    .filter(move |&&(score, _)| f32::from(score) >= least)
                    .map(|&(_, centroid)| centroid)
            })
            .collect();
        probed.sort_unstable();
        probed.dedup();
        probed
    }

    /// Centroids in the order in which their lists are worth reading, each once: by how far a query token's score there is above what
    /// [any document](Self::background) scores, over the root of the rank among the token's best. For each token its `n_probe` best, but none that scores
    /// below `threshold` (a share) of the best. Works on byte scores; ties to the lower centroid.
    pub(crate) fn ranked(&self, query: &PreparedQuery, n_probe: usize, threshold: f32) -> Vec<u16> {
        let n_centroids = self.codec.tables().n_centroids();
        let mut ranked: Vec<(f32, u16)> = Vec::new();
        for (token, background) in self.background(query).into_iter().enumerate() {
            let scores = query.bytes.chunks_exact(query.query.stride()).map(|row| row[token]);
            let top = scores.clone().max().unwrap_or(0);
            let least = f32::from(top) * threshold;
            let mut near: Vec<(u8, u16)> =
                scores.zip(0..=u16::MAX).filter(|&(score, _)| f32::from(score) >= least).collect();
            let order = |a: &(u8, u16), b: &(u8, u16)| b.0.cmp(&a.0).then(a.1.cmp(&b.1));
            if n_probe < near.len() {
                near.select_nth_unstable_by(n_probe, order);
                near.truncate(n_probe);
            }
            near.sort_unstable_by(order);
            let worth = |(rank, (score, centroid)): (usize, (u8, u16))| {
                ((f32::from(score) - f32::from(background)) / (1.0 + rank as f32).sqrt(), centroid)
            };
            ranked.extend(near.into_iter().enumerate().map(worth));
        }
        ranked.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut seen = vec![false; n_centroids];
        ranked.retain(|&(_, centroid)| !core::mem::replace(&mut seen[usize::from(centroid)], true));
        ranked.into_iter().map(|(_, centroid)| centroid).collect()
    }

    /// `[n_query_tokens]` about what a document scores that has nothing to do with a token: the best of its few dozen tokens at centroids taken at random.
    fn background(&self, query: &PreparedQuery) -> Vec<u8> {
        let rank = (BACKGROUND * self.codec.tables().n_centroids() as f32) as usize;
        let mut background = vec![0; query.n_tokens()];
        for (token, background) in background.iter_mut().enumerate() {
            let mut counts = [0_usize; 256];
            for row in query.bytes.chunks_exact(query.query.stride()) {
                counts[usize::from(row[token])] += 1;
            }
            let mut above = 0;
            let at = counts.iter().rposition(|n| {
                above += n;
                above > rank
            });
            *background = at.unwrap_or(0) as u8;
        }
        background
    }

    /// `[n_query_tokens]` scores of one centroid as bytes, 255 the largest of all tokens and centroids.
    pub(crate) fn centroid_row<'a>(&self, query: &'a PreparedQuery, centroid: u16) -> &'a [u8] {
        let start = usize::from(centroid) * query.query.stride();
        &query.bytes[start..start + query.n_tokens()]
    }

    /// For each query token, above which score every centroid was `read`, and what is assumed of a document that no list named above that.
    ///
    /// # Errors
    /// [`IndexError::Parts`] for a query prepared for another codec.
    pub(crate) fn assumed(&self, query: &PreparedQuery, read: &[bool]) -> Result<Vec<(u8, u8)>, IndexError> {
        if query.bytes.len() != read.len() * query.query.stride() {
            return Err(IndexError::Parts { what: "the query was prepared for another index".to_owned() });
        }
        let mut unread = vec![0; query.n_tokens()];
        for (centroid, _) in read.iter().enumerate().filter(|(_, read)| !**read) {
            for (most, &score) in unread.iter_mut().zip(self.centroid_row(query, centroid as u16)) {
                *most = score.max(*most);
            }
        }
        Ok(unread
            .into_iter()
            .zip(self.background(query))
            .map(|(unread, b)| (unread, b.min(unread)))
            .collect())
    }

    /// What each packed token is multiplied by so that it has length 1; wanted by [`Self::score`], once for each shard read.
    pub fn inverse_norms(&self, codes: &[u16], residuals: &[u8]) -> Vec<f32> {
        self.codec.inverse_norms(codes, residuals)
    }

    /// Approximate scores of `documents`, ranges into `codes`: centroids only, integers of no unit, for ranking candidates.
    ///
    /// # Errors
    /// [`IndexError::Parts`] for ranges or codes out of bounds.
    pub fn approximate(
        &self,
        query: &PreparedQuery,
        codes: &[u16],
        documents: &[TokenRange],
    ) -> Result<Vec<u32>, IndexError> {
        let mut scores = vec![0; documents.len()];
        self.kernels
            .maxsim_approximate(&query.query, &query.bytes, codes, documents, &mut scores)
            .map_err(kernel)?;
        Ok(scores)
    }

    /// MaxSim of `documents`, ranges into `tokens`.
    ///
    /// # Errors
    /// [`IndexError::Parts`] for ranges or codes out of bounds, or a query prepared for another codec.
    pub fn score(
        &self,
        query: &PreparedQuery,
        tokens: CompressedTokens<'_>,
        documents: &[TokenRange],
    ) -> Result<Vec<f32>, IndexError> {
        let mut scores = vec![0.0; documents.len()];
        self.kernels.maxsim(&query.query, &query.base, tokens, documents, &mut scores).map_err(kernel)?;
        Ok(scores)
    }

    /// MaxSim of the best window of each of `documents`: the largest over windows of [`WINDOW`] stored tokens, one beginning every half window, the last going on
    /// to the end. A document no longer than one and a half windows is one window, and has its MaxSim. Never more than the document's MaxSim.
    ///
    /// # Errors
    /// As [`Self::score`].
    pub fn best_windows(
        &self,
        query: &PreparedQuery,
        tokens: CompressedTokens<'_>,
        documents: &[TokenRange],
    ) -> Result<Vec<f32>, IndexError> {
        let (mut all, mut counts) = (Vec::new(), Vec::with_capacity(documents.len()));
        for &document in documents {
            let before = all.len();
            all.extend(windows(document));
            counts.push(all.len() - before);
        }
        let mut scores = self.score(query, tokens, &all)?.into_iter();
        Ok(counts.into_iter().map(|n| scores.by_ref().take(n).reduce(f32::max).unwrap_or_default()).collect())
    }

    /// For each query token, the stored token of `document` that it matched best, the first of equals. With the document's token map
    /// and tokenisation this gives every word's best span; pooled tokens have several.
    ///
    /// # Errors
    /// As [`Self::score`].
    pub fn matches(
        &self,
        query: &PreparedQuery,
        tokens: CompressedTokens<'_>,
        document: TokenRange,
    ) -> Result<Vec<TokenMatch>, IndexError> {
        let mut matches = vec![TokenMatch::default(); query.query.n_tokens()];
        self.kernels
            .maxsim_matches(&query.query, &query.base, tokens, document, &mut Vec::new(), &mut matches)
            .map_err(kernel)?;
        Ok(matches)
    }
}

fn kernel(source: KernelError) -> IndexError {
    IndexError::Parts { what: source.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_overlap_by_half_and_leave_no_token_out() {
        for n in 0..400 {
            let found: Vec<TokenRange> = windows(TokenRange::from(7..7 + n)).collect();
            assert_eq!((found[0].start, found[found.len() - 1].end), (7, 7 + n));
            for pair in found.windows(2) {
                assert_eq!(
                    (pair[1].start, pair[0].end),
                    (pair[0].start + WINDOW / 2, pair[0].start + WINDOW)
                );
            }
            let last = found[found.len() - 1];
            assert!(last.end - last.start <= WINDOW * 3 / 2, "{n} tokens: {last:?}");
            assert!(found.len() == 1 || last.end - last.start > WINDOW / 2, "{n} tokens: {last:?}");
        }
    }
}
