//! Normalisation and tokenisation, one code for trainer, indexer and browser
