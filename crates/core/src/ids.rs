//! Identifiers.

use serde::{Deserialize, Serialize};

/// The number of a document inside one bundle, from 0, in the order it was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DocId(pub u32);
