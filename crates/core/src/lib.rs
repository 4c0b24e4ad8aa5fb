//! Shapes, ids and configuration shared by every floor.
//!
//! Nothing here reads a file, touches a GPU or knows about JavaScript: the types are what the other crates agree on.

#![forbid(unsafe_code)]

mod encoder;
mod ids;
mod input;
mod packing;

pub use encoder::{Activation, Architecture, DenseConfig, EncoderConfig, LayerKind, ProjectionConfig};
pub use ids::DocId;
pub use input::{Expansion, ExpansionRule, InputRules, Role};
pub use packing::{Packing, run_start};
