//! Generators for tests and benches: seeded numbers, Japanese-looking texts, whole models with random weights.
//!
//! Shipped code never uses this crate. The same seed gives the same bytes on every machine.

#![forbid(unsafe_code)]

mod compressed;
mod model;
#[cfg(feature = "yardstick")]
mod products;
mod random;

pub use compressed::RandomIndex;
pub use model::{RandomModel, RandomShape, random_model};
#[cfg(feature = "yardstick")]
pub use products::Products;
pub use random::Random;
