//! Training on n-way lists: distillation as JaColBERTv2.5 has it, or MarginMSE. No in-batch negatives.

use crate::data::{List, Lists, below, packed, unit};
use crate::ops::{self, KlMinMax};
use crate::recipe::Loss;
use crate::student::{Packed, Student};
use crate::train::{BatchLoss, Scored};
use anyhow::{Result, ensure};
use candle_core::Tensor;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use rayon::prelude::*;
use shirube_text::Tokenizer;
use std::sync::Arc;

/// Lists as tokens, markers not included.
#[derive(Clone, Debug)]
pub struct TokenLists {
    queries: Vec<Vec<u32>>,
    documents: Vec<Vec<u32>>,
    lists: Vec<List>,
    /// Documents of a list used at once.
    pub n_way: usize,
    /// Lists left out because they are shorter than `n_way`.
    pub n_short: usize,
    seed: u64,
}

/// One draw of lists: `(query, documents, scores, labels)`.
type Drawn<'a> = Vec<(usize, Vec<usize>, Vec<f32>)>;

impl TokenLists {
    /// Tokenises lists. `n_way` is the shortest list's length if not given. The number that goes with each document is the teacher's logit, or
    /// the label if `by_label`; one of the two must be there.
    ///
    /// # Errors
    /// No lists, or lists without what is trained on.
    pub fn new(
        lists: &Lists,
        tokenizer: &Tokenizer,
        n_way: Option<usize>,
        by_label: bool,
        seed: u64,
    ) -> Result<Self> {
        let shortest = lists.lists.iter().map(|l| l.documents.len()).min().unwrap_or(0);
        let n_way = n_way.unwrap_or(shortest);
        ensure!(n_way >= 2, "lists of {n_way} documents; two or more are needed");
        let kept: Vec<List> = lists
            .lists
            .iter()
            .filter(|l| l.documents.len() >= n_way)
            .map(|l| List { scores: if by_label { l.labels.clone() } else { lists.logits(l) }, ..l.clone() })
            .collect();
        ensure!(!kept.is_empty(), "no list has {n_way} documents; lower n_way");
        ensure!(
            kept.iter().all(|l| l.scores.len() == l.documents.len()),
            "the lists have no {}",
            if by_label {
                "labels; mine them from a set with judgments"
            } else {
                "scores; run a `score` step on them first"
            }
        );
        if by_label {
            ensure!(
                kept.iter().all(|l| l.scores.iter().any(|&x| x > 0.0)),
                "a list has no document with a label above 0, so there is no right answer to learn"
            );
        }
        let ids = |texts: &[(String, String)]| -> Vec<Vec<u32>> {
            texts.par_iter().map(|(_, text)| tokenizer.encode(text).ids).collect()
        };
        Ok(Self {
            queries: ids(&lists.queries),
            documents: ids(&lists.documents),
            n_short: lists.lists.len() - kept.len(),
            lists: kept,
            n_way,
            seed,
        })
    }

    /// Number of lists.
    pub fn n_lists(&self) -> usize {
        self.lists.len()
    }

    /// Lists of about `n_tokens` tokens for a step and worker: the highest document first, then a random choice of the others.
    fn draw(
        &self,
        step: u64,
        worker: u64,
        n_tokens: usize,
        cost: impl Fn(usize, usize) -> usize,
    ) -> Drawn<'_> {
        let mut rng =
            ChaCha8Rng::seed_from_u64(self.seed ^ step.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (worker << 56));
        let (mut out, mut used) = (Vec::new(), 0);
        while used < n_tokens {
            let list = &self.lists[below(&mut rng, self.lists.len())];
            let key = if list.labels.is_empty() { &list.scores } else { &list.labels };
            let first = (0..key.len()).fold(0, |best, i| if key[i] > key[best] { i } else { best });
            let mut order: Vec<usize> = (0..key.len()).filter(|&i| i != first).collect();
            for i in 0..(self.n_way - 1).min(order.len()) {
                let j = i + below(&mut rng, order.len() - i);
                order.swap(i, j);
            }
            let chosen: Vec<usize> = [first].into_iter().chain(order).take(self.n_way).collect();
            let documents: Vec<usize> = chosen.iter().map(|&i| list.documents[i]).collect();
            used += documents.iter().map(|&d| cost(list.query, d)).sum::<usize>();
            out.push((list.query, documents, chosen.iter().map(|&i| list.scores[i]).collect()));
        }
        out
    }

    /// Loss of a cross-encoder: softmax cross-entropy of each list's right answer.
    ///
    /// # Errors
    /// Device errors.
    pub fn cross_encoder_loss(
        &self,
        teacher: &Student,
        depth: usize,
        length: usize,
        n_tokens: usize,
        (step, worker): (u64, u64),
    ) -> Result<BatchLoss> {
        let drawn = self.draw(step, worker, n_tokens, |q, d| {
            (self.queries[q].len() + self.documents[d].len() + 2).min(length)
        });
        let sequences: Vec<Vec<u32>> = drawn
            .iter()
            .flat_map(|(q, documents, _)| documents.iter().map(move |&d| (*q, d)))
            .map(|(q, d)| crate::teacher::pair(&self.queries[q], &self.documents[d], length))
            .collect();
        let scores =
            crate::teacher::pair_scores(teacher, depth, &sequences)?.reshape((drawn.len(), self.n_way))?;
        let loss = ops::cross_entropy(&scores, &vec![0; drawn.len()], None, 1.0)?;
        let hits = first_is_highest(&scores)?;
        Ok(BatchLoss {
            loss,
            accuracy: hits as f64 / drawn.len() as f64,
            n_tokens: sequences.iter().map(Vec::len).sum(),
        })
    }
}

fn first_is_highest(scores: &Tensor) -> Result<usize> {
    let rows: Vec<Vec<f32>> = scores.to_vec2()?;
    Ok(rows.iter().filter(|r| r[1..].iter().all(|s| *s < r[0])).count())
}

/// How a student reads queries and documents in training.
#[derive(Clone, Copy, Debug)]
pub struct StudentInput<'a> {
    /// Marker before a query.
    pub query_marker: u32,
    /// Marker before a document.
    pub document_marker: u32,
    /// Tokens at most in a query, marker included.
    pub query_length: usize,
    /// Tokens at most in a document, marker included.
    pub document_length: usize,
    /// Share of query tokens dropped at random.
    pub query_dropout: f64,
    /// Tokens of documents that are not scored, by id.
    pub skip: &'a [bool],
}

/// The student's loss on the lists of a step and worker.
///
/// # Errors
/// Device errors.
pub fn distill(
    student: &Student,
    lists: &TokenLists,
    depth: usize,
    input: StudentInput<'_>,
    (loss, temperature): (Loss, f32),
    n_tokens: usize,
    (step, worker): (u64, u64),
) -> Result<BatchLoss> {
    let drawn =
        lists.draw(step, worker, n_tokens, |_, d| (lists.documents[d].len() + 1).min(input.document_length));
    let mut rng = ChaCha8Rng::seed_from_u64(
        lists.seed ^ 0xD157_1111 ^ step.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (worker << 56),
    );
    let mut sequences: Vec<Vec<u32>> = Vec::new();
    for (q, ..) in &drawn {
        let ids = &lists.queries[*q];
        let kept = ids.iter().filter(|_| ids.len() < 5 || unit(&mut rng) >= input.query_dropout);
        let mut sequence: Vec<u32> = [input.query_marker].into_iter().chain(kept.copied()).collect();
        sequence.truncate(input.query_length);
        sequences.push(sequence);
    }
    // A document that several lists share is encoded once.
    let mut unique: Vec<usize> = drawn.iter().flat_map(|(_, documents, _)| documents).copied().collect();
    unique.sort_unstable();
    unique.dedup();
    for &d in &unique {
        let mut sequence = vec![input.document_marker];
        sequence.extend_from_slice(&lists.documents[d]);
        sequence.truncate(input.document_length);
        sequences.push(sequence);
    }
    let mut pairs = Vec::new();
    for (row, (_, documents, _)) in drawn.iter().enumerate() {
        for d in documents {
            let at = unique.binary_search(d).expect("every document drawn was made unique above");
            pairs.push((u32::try_from(row)?, u32::try_from(at)?));
        }
    }
    let (ids, offsets) = packed(sequences.iter().map(Vec::as_slice));
    let offsets: Arc<[u32]> = offsets.into();
    let hidden = student.hidden(&Packed { ids: ids.clone(), offsets: offsets.clone() }, depth)?;
    let e = Scored::new(student, &hidden, &ids, &offsets, drawn.len(), input.skip)?;
    let scores = ops::maxsim_pairs(&e.queries, &e.query_offsets, &e.documents, &e.document_offsets, &pairs)?
        .reshape((drawn.len(), lists.n_way))?;
    let wanted: Vec<f32> = drawn.iter().flat_map(|(_, _, scores)| scores).copied().collect();
    let wanted = Tensor::from_vec(wanted, (drawn.len(), lists.n_way), student.device())?;
    let value = match loss {
        Loss::MarginMse => ops::margin_mse(&scores, &wanted)?,
        Loss::Distill | Loss::Contrastive => {
            ops::kl_min_max(&scores, &wanted, KlMinMax { temperature, ..KlMinMax::default() })?
        }
    };
    Ok(BatchLoss {
        loss: value,
        accuracy: first_is_highest(&scores)? as f64 / drawn.len() as f64,
        n_tokens: ids.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::ModelShape;
    use crate::train::{Objective, Outcome, RunOptions, Schedule, optimise};
    use candle_core::{Device, Var};
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    fn shape() -> ModelShape {
        ModelShape {
            hidden_size: 16,
            n_layers: 1,
            n_heads: 2,
            intermediate_size: 24,
            dim: 8,
            global_attention_every: 1,
            local_window: 8,
            query_length: 8,
            document_length: 12,
            query_weight: true,
        }
    }

    /// Four queries of one token each; the teacher likes the document that holds the query's counterpart, then the one before.
    fn lists() -> TokenLists {
        let score = |q: usize, d: usize| {
            if d == q {
                3.0
            } else if d + 1 == q {
                1.0
            } else {
                -1.0
            }
        };
        TokenLists {
            queries: (0..4).map(|q| vec![10 + q]).collect(),
            documents: (0..4).map(|d| vec![30, 20 + d, 31]).collect(),
            lists: (0..4)
                .map(|q| List {
                    query: q,
                    documents: (0..4).collect(),
                    labels: (0..4).map(|d| f32::from(u8::from(d == q))).collect(),
                    scores: (0..4).map(|d| score(q, d)).collect(),
                })
                .collect(),
            n_way: 4,
            n_short: 0,
            seed: 7,
        }
    }

    /// Loss on one batch before and after 120 steps, and parameters that did not move.
    fn learn(name: &str, student: &Student, objective: &Objective<'_>) -> (f32, f32, Vec<String>) {
        let variables: Vec<(String, Var)> =
            student.variables(1).map(|(n, v)| (n.clone(), v.clone())).collect();
        let values = |v: &Var| v.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("values");
        let before: Vec<Vec<f32>> = variables.iter().map(|(_, v)| values(v)).collect();
        let loss = || objective(1000, 0).expect("a loss").loss.to_scalar::<f32>().expect("a number");
        let first = loss();
        let folder = std::env::temp_dir().join(format!("shirube-{name}-{}", std::process::id()));
        let stop = AtomicBool::new(false);
        let options = RunOptions {
            folder: &folder,
            workers: 1,
            ranks: &crate::ranks::Alone,
            stop: &stop,
            save_every: Duration::from_secs(300),
        };
        let schedule = Schedule { steps: 120, learning_rate: 2e-2, warmup: 5, weight_decay: 0.0 };
        let outcome = optimise(&variables, schedule, objective, &options, |_| ()).expect("training");
        assert_eq!(outcome, Outcome::Finished);
        let still = variables
            .iter()
            .zip(&before)
            .filter(|((_, v), before)| values(v) == **before)
            .map(|((n, _), _)| n.clone())
            .collect();
        std::fs::remove_dir_all(&folder).expect("the folder removed");
        (first, loss(), still)
    }

    #[test]
    fn a_student_learns_the_teachers_order_and_every_parameter_takes_part() {
        let (lists, skip) = (lists(), vec![false; 40]);
        let input = StudentInput {
            query_marker: 3,
            document_marker: 4,
            query_length: 8,
            document_length: 12,
            query_dropout: 0.0,
            skip: &skip,
        };
        for (name, loss) in [("kl", Loss::Distill), ("margin", Loss::MarginMse)] {
            let student = Student::random(shape().encoder(40), shape().projection(), 3, &Device::Cpu)
                .expect("a student");
            let (first, last, still) =
                learn(name, &student, &|k, w| distill(&student, &lists, 1, input, (loss, 0.25), 60, (k, w)));
            assert!(last < 0.5 * first, "{name}: {first} to {last}");
            assert!(still.is_empty(), "{name}: {still:?} did not move");
        }
    }

    #[test]
    fn a_cross_encoder_learns_labels_and_every_parameter_takes_part() {
        let lists = TokenLists {
            lists: lists().lists.into_iter().map(|l| List { scores: l.labels.clone(), ..l }).collect(),
            ..lists()
        };
        let teacher =
            Student::random(shape().encoder(40), shape().scalar_head(), 3, &Device::Cpu).expect("a teacher");
        let (first, last, still) =
            learn("teacher", &teacher, &|k, w| lists.cross_encoder_loss(&teacher, 1, 12, 60, (k, w)));
        assert!(last < 0.5 * first, "{first} to {last}");
        assert!(still.is_empty(), "{still:?} did not move");
    }
}
