//! The JaColBERTv2.5 recipe on candle: data, student, optimiser loop, evaluation, export.
//!
//! candle is storage, matrix products and the tape; every differentiable operation on the training path is ours (`ops`), because several of
//! candle-nn's lose gradients silently.

pub mod batch;
mod bert;
pub mod check;
pub mod cooccurrence;
mod cut;
pub mod data;
pub mod device;
pub mod distill;
pub mod eval;
pub mod export;
pub mod inputs;
pub mod merge;
pub mod metrics;
pub mod mine;
#[cfg(feature = "mpi")]
pub mod mpi;
#[cfg(feature = "cuda")]
pub mod nccl;
pub mod ops;
pub mod optim;
pub mod pipeline;
pub mod plan;
pub mod pretrain;
pub mod pretrained;
pub mod ranks;
pub mod recipe;
pub mod report;
pub mod rotation;
pub mod runlog;
pub mod shipped;
pub mod student;
pub mod teacher;
pub mod tokenizer;
pub mod train;
pub mod unigram;
