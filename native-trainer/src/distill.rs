//! Training on n-way lists: distillation as JaColBERTv2.5 has it, or MarginMSE. No in-batch negatives.

use crate::batch::{Batch, BatchLoss, Scored};
use crate::data::{List, Lists, Sequence, below, dropped};
use crate::ops::{self, KlMinMax};
use crate::student::{Packed, Student};
use crate::teacher::PairShape;
use anyhow::{Result, ensure};
use candle_core::Tensor;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use rayon::prelude::*;
use shirube_core::InputRules;
use shirube_text::Tokenizer;

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

/// What goes with each document of a list in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// A teacher's logit.
    Score,
    /// A label.
    Label,
    /// Nothing: the target is made while training.
    Nothing,
}

/// One draw of lists: `(query, documents, scores, labels)`.
type Drawn<'a> = Vec<(usize, Vec<usize>, Vec<f32>)>;

impl TokenLists {
    /// Tokenises lists. `n_way` is the shortest list's length if not given. `number` says what goes with each document; it must be there.
    ///
    /// # Errors
    /// No lists, or lists without what is trained on.
    pub fn new(
        lists: &Lists,
        tokenizer: &Tokenizer,
        n_way: Option<usize>,
        number: Number,
        seed: u64,
    ) -> Result<Self> {
        let shortest = lists.lists.iter().map(|l| l.documents.len()).min().unwrap_or(0);
        let n_way = n_way.unwrap_or(shortest);
        ensure!(n_way >= 2, "lists of {n_way} documents; two or more are needed");
        let kept: Vec<List> = lists
            .lists
            .iter()
            .filter(|l| l.documents.len() >= n_way)
            .map(|l| {
                let scores = match number {
                    Number::Score => lists.logits(l),
                    Number::Label => l.labels.clone(),
                    Number::Nothing => vec![0.0; l.documents.len()],
                };
                List { scores, ..l.clone() }
            })
            .collect();
        ensure!(!kept.is_empty(), "no list has {n_way} documents; lower n_way");
        ensure!(
            kept.iter().all(|l| l.scores.len() == l.documents.len()),
            "the lists have no {}",
            if number == Number::Label {
                "labels; mine them from a set with judgments"
            } else {
                "scores; run a `score` step on them first"
            }
        );
        if number == Number::Label {
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
        shape: PairShape,
        n_tokens: usize,
        (step, worker): (u64, u64),
    ) -> Result<BatchLoss<'static>> {
        let drawn = self.draw(step, worker, n_tokens, |q, d| {
            (self.queries[q].len() + self.documents[d].len() + 2).min(shape.length)
        });
        let sequences: Vec<Vec<u32>> = drawn
            .iter()
            .flat_map(|(q, documents, _)| documents.iter().map(move |&d| (*q, d)))
            .map(|(q, d)| shape.pair(&self.queries[q], &self.documents[d]))
            .collect();
        let scores =
            crate::teacher::pair_scores(teacher, depth, &sequences)?.reshape((drawn.len(), self.n_way))?;
        let loss = ops::cross_entropy(&scores, &vec![0; drawn.len()], None, 1.0)?;
        let hits = first_is_highest(&scores)?;
        BatchLoss::whole(loss, hits as f64 / drawn.len() as f64, sequences.iter().map(Vec::len).sum())
    }
}

fn first_is_highest(scores: &Tensor) -> Result<usize> {
    let rows: Vec<Vec<f32>> = scores.to_vec2()?;
    Ok(rows.iter().filter(|r| r[1..].iter().all(|s| *s < r[0])).count())
}

/// How a student reads queries and documents in training.
#[derive(Clone, Copy, Debug)]
pub struct StudentInput<'a> {
    /// How queries are read.
    pub query: &'a InputRules,
    /// How documents are read.
    pub document: &'a InputRules,
    /// Share of query tokens dropped at random.
    pub query_dropout: f64,
    /// Tokens of documents that are not scored, by id.
    pub skip: &'a [bool],
    /// Tokens of a chunk, where the batch does not go on one tape.
    pub chunk_tokens: Option<usize>,
}

/// What a student learns from a list.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// The order of the teacher's scores: JaColBERTv2.5's loss at a temperature.
    Scores(f32),
    /// The differences of the teacher's scores to the first document's.
    Margins,
    /// What each query token finds in each document, in the eyes of another ColBERT with the same tokenizer and input rules: for every query token
    /// the Kullback-Leibler divergence between teacher's and student's distributions over the list's documents, the softmax of the token's largest
    /// dot product divided by the temperature. No min-max: a token that matches every document alike has nothing to say.
    Tokens {
        /// The other ColBERT.
        teacher: &'a Student,
        /// Its blocks.
        depth: usize,
        /// Divides dot products, which lie from -1 to 1 times the token's weight.
        temperature: f32,
    },
}

/// The student's loss on one batch of lists.
///
/// # Errors
/// Device errors.
pub fn distill<'a>(
    student: &'a Student,
    lists: &TokenLists,
    depth: usize,
    input: StudentInput<'a>,
    target: Target<'_>,
    n_tokens: usize,
    (step, worker): (u64, u64),
) -> Result<BatchLoss<'a>> {
    let markers = input.document.prefix.len() + input.document.suffix.len();
    let drawn = lists.draw(step, worker, n_tokens, |_, d| {
        (lists.documents[d].len() + markers).min(input.document.max_length)
    });
    let mut rng = ChaCha8Rng::seed_from_u64(
        lists.seed ^ 0xD157_1111 ^ step.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (worker << 56),
    );
    let mut sequences: Vec<Sequence> = drawn
        .iter()
        .map(|(q, ..)| Sequence::new(input.query, dropped(&lists.queries[*q], input.query_dropout, &mut rng)))
        .collect();
    // A document that several lists share is encoded once.
    let mut unique: Vec<usize> = drawn.iter().flat_map(|(_, documents, _)| documents).copied().collect();
    unique.sort_unstable();
    unique.dedup();
    sequences
        .extend(unique.iter().map(|&d| Sequence::new(input.document, lists.documents[d].iter().copied())));
    let mut pairs = Vec::new();
    for (row, (_, documents, _)) in drawn.iter().enumerate() {
        for d in documents {
            let at = unique.binary_search(d).expect("every document drawn was made unique above");
            pairs.push((u32::try_from(row)?, u32::try_from(at)?));
        }
    }
    let batch = Batch {
        input: Packed::of(&sequences),
        n_queries: drawn.len(),
        depth,
        skip: input.skip,
        chunk_tokens: input.chunk_tokens,
    };
    let shape = (drawn.len(), lists.n_way);
    let goal = match target {
        Target::Tokens { teacher, depth, .. } => {
            let theirs = Scored::new(&teacher.detached(), &Batch { depth, ..batch.clone() })?;
            Tokens::new(&theirs, &pairs, lists.n_way)?.rows
        }
        Target::Scores(_) | Target::Margins => {
            let scores: Vec<f32> = drawn.iter().flat_map(|(_, _, scores)| scores).copied().collect();
            Tensor::from_vec(scores, shape, student.device())?
        }
    };
    batch.loss(student, |scored| {
        let share = |scores: &Tensor| first_is_highest(scores).map(|n| n as f64 / shape.0 as f64);
        if let Target::Tokens { temperature, .. } = target {
            let tokens = Tokens::new(scored, &pairs, lists.n_way)?;
            let settings = KlMinMax { temperature, normalise_student: false, normalise_teacher: false };
            let loss = ops::kl_min_max(&tokens.rows, &goal, settings)?;
            return Ok((loss, share(&tokens.sums()?)?));
        }
        let scores = ops::maxsim_pairs(
            &scored.queries,
            &scored.query_offsets,
            &scored.documents,
            &scored.document_offsets,
            &pairs,
        )?
        .reshape(shape)?;
        let loss = match target {
            Target::Margins => ops::margin_mse(&scores, &goal)?,
            Target::Scores(temperature) => {
                ops::kl_min_max(&scores, &goal, KlMinMax { temperature, ..KlMinMax::default() })?
            }
            Target::Tokens { .. } => unreachable!("returned above"),
        };
        Ok((loss, share(&scores)?))
    })
}

/// What each query token finds in each document of its list.
struct Tokens {
    /// `[n_query_tokens, n_way]`.
    rows: Tensor,
    /// Starts of queries in `rows`.
    offsets: std::sync::Arc<[u32]>,
}

impl Tokens {
    fn new(scored: &Scored, pairs: &[(u32, u32)], n_way: usize) -> Result<Self> {
        let found = ops::maxsim_tokens(
            &scored.queries,
            &scored.query_offsets,
            &scored.documents,
            &scored.document_offsets,
            pairs,
        )?;
        // One list's pairs stand one after another, each with all tokens of the query: [n_way, tokens] to [tokens, n_way].
        let mut order = Vec::with_capacity(found.dim(0)?);
        for bounds in scored.query_offsets.windows(2) {
            let tokens = bounds[1] - bounds[0];
            let start = bounds[0] * u32::try_from(n_way)?;
            for token in 0..tokens {
                order.extend((0..u32::try_from(n_way)?).map(|way| start + way * tokens + token));
            }
        }
        let rows = ops::gather(&found.unsqueeze(1)?, &order)?.reshape(((), n_way))?;
        Ok(Self { rows, offsets: scored.query_offsets.clone() })
    }

    /// MaxSim `[n_lists, n_way]`, without a tape.
    fn sums(&self) -> Result<Tensor> {
        let rows = self.rows.detach();
        let sums = self
            .offsets
            .windows(2)
            .map(|b| rows.narrow(0, b[0] as usize, (b[1] - b[0]) as usize)?.sum(0))
            .collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Tensor::stack(&sums, 0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::small_shape as shape;
    use crate::train::{Objective, Outcome, RunOptions, Schedule, optimise};
    use candle_core::{Device, Var};
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    const PAIR: PairShape = PairShape { first: 3, separator: 5, length: 12 };

    fn rules(marker: u32, max_length: usize) -> InputRules {
        InputRules { prefix: vec![marker], max_length, ..InputRules::default() }
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
    fn learn(student: &Student, objective: &Objective<'_>) -> (f32, f32, Vec<String>) {
        let variables: Vec<(String, Var)> =
            student.variables(1).map(|(n, v)| (n.clone(), v.clone())).collect();
        let values = |v: &Var| v.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("values");
        let before: Vec<Vec<f32>> = variables.iter().map(|(_, v)| values(v)).collect();
        let loss = || objective(1000, 0).expect("a loss").value as f32;
        let first = loss();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let stop = AtomicBool::new(false);
        let options = RunOptions {
            folder: folder.path(),
            workers: 1,
            ranks: &crate::ranks::Alone,
            stop: &stop,
            save_every: Duration::from_secs(300),
        };
        let schedule =
            Schedule { steps: 120, learning_rate: 2e-2, warmup: 5, weight_decay: 0.0, accumulate: 1 };
        let outcome = optimise(&variables, schedule, objective, &options, |_| ()).expect("training");
        assert_eq!(outcome, Outcome::Finished);
        let still = variables
            .iter()
            .zip(&before)
            .filter(|((_, v), before)| values(v) == **before)
            .map(|((n, _), _)| n.clone())
            .collect();
        (first, loss(), still)
    }

    #[test]
    fn a_student_learns_the_teachers_order_and_every_parameter_takes_part() {
        let (lists, skip) = (lists(), vec![false; 40]);
        let (query, document) = (rules(3, 8), rules(4, 12));
        let input = StudentInput {
            query: &query,
            document: &document,
            query_dropout: 0.0,
            skip: &skip,
            chunk_tokens: None,
        };
        let student = |seed| {
            Student::random(shape().encoder(40), shape().projection(), seed, &Device::Cpu).expect("a student")
        };
        let teacher = student(8);
        let tokens = Target::Tokens { teacher: &teacher, depth: 1, temperature: 0.1 };
        for (name, target, input) in [
            ("kl", Target::Scores(0.25), input),
            ("kl-chunks", Target::Scores(0.25), StudentInput { chunk_tokens: Some(20), ..input }),
            ("margin", Target::Margins, input),
            ("tokens", tokens, input),
        ] {
            let student = student(3);
            let (first, last, still) =
                learn(&student, &|k, w| distill(&student, &lists, 1, input, target, 60, (k, w)));
            assert!(last < 0.5 * first, "{name}: {first} to {last}");
            assert!(still.is_empty(), "{name}: {still:?} did not move");
        }
    }

    #[test]
    fn token_scores_of_a_copy_are_no_loss_and_sum_to_maxsim() {
        let (lists, skip) = (lists(), vec![false; 40]);
        let student =
            Student::random(shape().encoder(40), shape().projection(), 3, &Device::Cpu).expect("a student");
        let (query, document) = (rules(3, 8), rules(4, 12));
        let input = StudentInput {
            query: &query,
            document: &document,
            query_dropout: 0.0,
            skip: &skip,
            chunk_tokens: None,
        };
        let target = Target::Tokens { teacher: &student, depth: 1, temperature: 0.1 };
        let by_tokens = distill(&student, &lists, 1, input, target, 60, (0, 0)).expect("a loss");
        assert!(by_tokens.value.abs() < 1e-6, "{}", by_tokens.value);
        let by_scores = distill(&student, &lists, 1, input, Target::Scores(1.0), 60, (0, 0)).expect("a loss");
        assert_eq!(by_tokens.accuracy, by_scores.accuracy);
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
            learn(&teacher, &|k, w| lists.cross_encoder_loss(&teacher, 1, PAIR, 60, (k, w)));
        assert!(last < 0.5 * first, "{first} to {last}");
        assert!(still.is_empty(), "{still:?} did not move");
    }
}
