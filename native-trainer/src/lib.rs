//! The JaColBERTv2.5 recipe on candle.

pub mod ops;
