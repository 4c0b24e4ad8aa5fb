//! Bigram and word BM25
