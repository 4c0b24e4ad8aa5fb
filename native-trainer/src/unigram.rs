//! Learning a Unigram vocabulary from word counts.
//!
//! Expectation maximisation with pruning (Kudo 2018, "Subword Regularization", section 3.2; the digamma step and the loss as
//! in SentencePiece). Candidates are all substrings of the words, weighted by the words' counts. The way not taken: the
//! trainer of the crate `tokenizers`, which weighs candidates by the number of distinct words and so loses frequent words
//! (東京 was not a piece of 16,384; see docs/tokenizer.md).

use std::collections::HashMap;

/// What is learned.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Pieces to keep, all characters of the words among them.
    pub n_pieces: usize,
    /// Longest piece in characters.
    pub max_piece_length: usize,
    /// Share of the pieces that survives one pruning.
    pub shrinking_factor: f64,
}

struct Word<'a> {
    /// Byte position of every character, and the length.
    bounds: Vec<usize>,
    text: &'a str,
    count: f64,
}

/// Pieces with their log probabilities, sorted by text. Fewer than asked for if the words have no more substrings.
pub fn learn(words: &[(String, u64)], options: Options) -> Vec<(String, f64)> {
    let words: Vec<Word<'_>> = words
        .iter()
        .map(|(text, count)| Word {
            bounds: text.char_indices().map(|(at, _)| at).chain([text.len()]).collect(),
            text,
            count: *count as f64,
        })
        .collect();
    let mut model = Model::seed(&words, options.max_piece_length);
    let target = options.n_pieces + options.n_pieces / 10;
    loop {
        for _ in 0..2 {
            model = model.maximize(&words, options.max_piece_length);
        }
        if model.pieces.len() <= target {
            break;
        }
        let keep = target.max((model.pieces.len() as f64 * options.shrinking_factor) as usize);
        let before = model.pieces.len();
        model = model.prune(&words, options.max_piece_length, keep);
        if model.pieces.len() == before {
            break;
        }
    }
    let mut pieces = model.pieces;
    // Single characters first, whatever their probability: every word stays spellable.
    pieces.sort_by(|a, b| {
        let single = |p: &(&str, f64)| p.0.chars().nth(1).is_some();
        single(a).cmp(&single(b)).then(b.1.total_cmp(&a.1)).then(a.0.cmp(b.0))
    });
    pieces.truncate(options.n_pieces);
    let mut pieces: Vec<_> = pieces.into_iter().map(|(piece, score)| (piece.to_owned(), score)).collect();
    pieces.sort_by(|a, b| a.0.cmp(&b.0));
    pieces
}

struct Model<'a> {
    pieces: Vec<(&'a str, f64)>,
    ids: HashMap<&'a str, usize>,
}

impl<'a> Model<'a> {
    fn new(pieces: Vec<(&'a str, f64)>) -> Self {
        let ids = pieces.iter().enumerate().map(|(id, &(piece, _))| (piece, id)).collect();
        Self { pieces, ids }
    }

    /// All substrings that occur at least twice, and all characters.
    fn seed(words: &[Word<'a>], max_length: usize) -> Self {
        let mut counts: HashMap<&'a str, f64> = HashMap::new();
        for word in words {
            each_substring(word, max_length, |_, _, piece| *counts.entry(piece).or_default() += word.count);
        }
        let mut pieces: Vec<(&str, f64)> =
            counts.into_iter().filter(|&(piece, n)| n >= 2.0 || piece.chars().nth(1).is_none()).collect();
        pieces.sort_by(|a, b| a.0.cmp(b.0));
        let total: f64 = pieces.iter().map(|(piece, n)| n * piece.chars().count() as f64).sum();
        for (piece, n) in &mut pieces {
            *n = (*n * piece.chars().count() as f64 / total).ln();
        }
        Self::new(pieces)
    }

    /// One step of expectation maximisation; pieces expected less than half a time go, characters stay.
    fn maximize(&self, words: &[Word<'a>], max_length: usize) -> Self {
        let mut expected = vec![0.0f64; self.pieces.len()];
        let mut edges = Vec::new();
        for word in words {
            self.edges(word, max_length, usize::MAX, &mut edges);
            let n = word.bounds.len();
            let mut forward = vec![f64::NEG_INFINITY; n];
            let mut backward = vec![f64::NEG_INFINITY; n];
            forward[0] = 0.0;
            backward[n - 1] = 0.0;
            for &(from, to, id) in &edges {
                forward[to] = log_add(forward[to], forward[from] + self.pieces[id].1);
            }
            for &(from, to, id) in edges.iter().rev() {
                backward[from] = log_add(backward[from], backward[to] + self.pieces[id].1);
            }
            for &(from, to, id) in &edges {
                expected[id] +=
                    word.count * (forward[from] + self.pieces[id].1 + backward[to] - forward[n - 1]).exp();
            }
        }
        let kept: Vec<(&str, f64)> = self
            .pieces
            .iter()
            .zip(&expected)
            .filter(|&(&(piece, _), &n)| n >= 0.5 || piece.chars().nth(1).is_none())
            .map(|(&(piece, _), &n)| (piece, n.max(0.5)))
            .collect();
        let total = digamma(kept.iter().map(|p| p.1).sum());
        Self::new(kept.into_iter().map(|(piece, n)| (piece, digamma(n) - total)).collect())
    }

    /// Keeps the `keep` pieces whose loss would cost the most likelihood, and all characters.
    fn prune(&self, words: &[Word<'a>], max_length: usize, keep: usize) -> Self {
        let mut used = vec![0.0f64; self.pieces.len()];
        let mut edges = Vec::new();
        for word in words {
            self.edges(word, max_length, usize::MAX, &mut edges);
            for id in self.best_path(word.bounds.len(), &edges) {
                used[id] += word.count;
            }
        }
        let total: f64 = used.iter().sum();
        let mut losses: Vec<(f64, usize)> = Vec::new();
        let mut kept: Vec<usize> = Vec::new();
        for (id, &(piece, _)) in self.pieces.iter().enumerate() {
            if piece.chars().nth(1).is_none() {
                kept.push(id);
                continue;
            }
            if used[id] == 0.0 {
                continue;
            }
            let word = Word {
                bounds: piece.char_indices().map(|(at, _)| at).chain([piece.len()]).collect(),
                text: piece,
                count: 0.0,
            };
            self.edges(&word, max_length, id, &mut edges);
            let instead = self.best_path(word.bounds.len(), &edges);
            let with = used[id].ln() - total.ln();
            let total_without = (total + used[id] * (instead.len() as f64 - 1.0)).ln();
            let without: f64 =
                instead.iter().map(|&other| (used[other] + used[id]).ln() - total_without).sum();
            losses.push((used[id] / total * (with - without), id));
        }
        losses.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        kept.extend(losses.iter().take(keep.saturating_sub(kept.len())).map(|&(_, id)| id));
        kept.sort_unstable();
        Self::new(kept.into_iter().map(|id| self.pieces[id]).collect())
    }

    /// Occurrences of pieces in a word as (first character, character after the last, piece), by first character; all but `without`.
    fn edges(
        &self,
        word: &Word<'a>,
        max_length: usize,
        without: usize,
        edges: &mut Vec<(usize, usize, usize)>,
    ) {
        edges.clear();
        each_substring(word, max_length, |from, to, piece| {
            if let Some(&id) = self.ids.get(piece)
                && id != without
            {
                edges.push((from, to, id));
            }
        });
    }

    fn best_path(&self, n: usize, edges: &[(usize, usize, usize)]) -> Vec<usize> {
        let mut best = vec![(f64::NEG_INFINITY, 0, 0); n];
        best[0].0 = 0.0;
        for &(from, to, id) in edges {
            let score = best[from].0 + self.pieces[id].1;
            if score > best[to].0 {
                best[to] = (score, from, id);
            }
        }
        let mut path = Vec::new();
        let mut at = n - 1;
        while at > 0 && best[at].0 > f64::NEG_INFINITY {
            path.push(best[at].2);
            at = best[at].1;
        }
        path
    }
}

fn each_substring<'a>(word: &Word<'a>, max_length: usize, mut each: impl FnMut(usize, usize, &'a str)) {
    let n = word.bounds.len() - 1;
    for from in 0..n {
        for to in from + 1..=n.min(from + max_length) {
            each(from, to, &word.text[word.bounds[from]..word.bounds[to]]);
        }
    }
}

fn log_add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// The logarithmic derivative of the gamma function, by recurrence and its asymptotic series.
fn digamma(mut x: f64) -> f64 {
    let mut result = 0.0;
    while x < 7.0 {
        result -= 1.0 / x;
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    result + x.ln()
        - 0.5 / x
        - inverse * (1.0 / 12.0 - inverse * (1.0 / 120.0 - inverse * (1.0 / 252.0 - inverse / 240.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digamma_is_the_known_function() {
        for (x, expected) in
            [(1.0, -0.577_215_664_901_532_9), (0.5, -1.963_510_026_021_423_5), (10.0, 2.251_752_589_066_721)]
        {
            assert!((digamma(x) - expected).abs() < 1e-9, "digamma({x}) = {}", digamma(x));
        }
    }

    #[test]
    fn a_frequent_word_becomes_a_piece_and_every_character_stays() {
        let words: Vec<(String, u64)> =
            [("東京", 900), ("京都", 800), ("東", 50), ("都", 60), ("大学", 300), ("学", 20), ("珍", 1)]
                .map(|(word, n)| (word.to_owned(), n))
                .into();
        let pieces = learn(&words, Options { n_pieces: 9, max_piece_length: 4, shrinking_factor: 0.75 });
        let texts: Vec<&str> = pieces.iter().map(|(piece, _)| piece.as_str()).collect();
        for expected in ["東京", "京都", "大学", "東", "京", "都", "大", "学", "珍"] {
            assert!(texts.contains(&expected), "{expected} is missing from {texts:?}");
        }
        assert!(pieces.iter().all(|(_, score)| score.is_finite() && *score < 0.0));
        assert!(texts.is_sorted());
    }
}
