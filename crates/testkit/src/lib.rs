//! Generators, tolerances and golden readers for tests
