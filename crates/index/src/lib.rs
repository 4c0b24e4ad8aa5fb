//! Token embeddings to and from the compressed index
