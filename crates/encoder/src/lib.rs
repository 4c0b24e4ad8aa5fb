//! Text to token embeddings: quantised transformer, projection, L2
