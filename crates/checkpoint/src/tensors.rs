//! The tensors of a folder: safetensors, alone or in shards, or `pytorch_model.bin`.

use crate::error::{CheckpointError, damaged, io, unsupported};
use crate::torch;
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use shirube_format::model::Tensor;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Element types that are read; all become f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    F16,
    Bf16,
    F32,
    F64,
}

impl Element {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    fn read(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Self::Bf16 => bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Self::F32 => {
                bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
            }
            Self::F64 => bytes
                .chunks_exact(8)
                .map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32)
                .collect(),
        }
    }
}

/// A float tensor inside a file's bytes.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) element: Element,
    pub(crate) shape: Vec<usize>,
    pub(crate) range: Range<usize>,
}

/// Float tensors by name, in f32, and the files they came from.
pub(crate) type Tensors = BTreeMap<String, Tensor>;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

const SAFETENSORS: &str = "model.safetensors";
const TORCH: &str = "pytorch_model.bin";

/// The weight files of `folder`: the one file or the shards an index names, safetensors before PyTorch's.
pub(crate) fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    for (whole, index) in
        [(SAFETENSORS, "model.safetensors.index.json"), (TORCH, "pytorch_model.bin.index.json")]
    {
        let path = folder.join(whole);
        if path.is_file() {
            return Ok(vec![path]);
        }
        let path = folder.join(index);
        if path.is_file() {
            let index: Index = crate::files::json(&path)?;
            let names: BTreeSet<&String> = index.weight_map.values().collect();
            return names
                .into_iter()
                .map(|name| {
                    // A name with folders could lead out of the checkpoint.
                    if name.contains(['/', '\\']) || name.starts_with('.') {
                        return Err(damaged(&path, format!("a shard called {name:?}")));
                    }
                    Ok(folder.join(name))
                })
                .collect();
        }
    }
    Err(CheckpointError::Missing {
        folder: folder.to_owned(),
        name: format!("{SAFETENSORS}, {TORCH} or index of shards"),
        cure: "copy the whole checkpoint, large files included (`git lfs pull` in a clone)".to_owned(),
    })
}

/// All float tensors of `folder`. One file at a time is in memory beside them.
pub(crate) fn read(folder: &Path) -> Result<Tensors, CheckpointError> {
    let mut all = Tensors::new();
    for path in weight_files(folder)? {
        let bytes = std::fs::read(&path).map_err(io(&path))?;
        for found in find(&path, &bytes)? {
            let data = found.element.read(&bytes[found.range]);
            if let Some(at) = data.iter().position(|v| !v.is_finite()) {
                return Err(damaged(
                    &path,
                    format!("tensor {}: element {at} is not a finite number", found.name),
                ));
            }
            all.insert(found.name, Tensor::f32(&found.shape, data));
        }
    }
    Ok(all)
}

fn find(path: &Path, bytes: &[u8]) -> Result<Vec<Found>, CheckpointError> {
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(damaged(
            path,
            "a pointer of Git LFS in place of the weights (`git lfs pull` fetches them)",
        ));
    }
    if path.extension().is_some_and(|e| e == "bin") {
        let found = torch::tensors(path, bytes)?;
        // Names may share a storage (tied weights), but not all of them the largest one.
        let total = found.iter().map(|f| f.range.len()).fold(0, usize::saturating_add);
        if total > bytes.len().saturating_mul(2) {
            return Err(damaged(path, format!("tensors of {total} bytes in a file of {}", bytes.len())));
        }
        return Ok(found);
    }
    let file = SafeTensors::deserialize(bytes).map_err(|e| damaged(path, format!("not safetensors: {e}")))?;
    let base = bytes.as_ptr().addr();
    let mut out = Vec::new();
    for (name, view) in file.tensors() {
        let element = match view.dtype() {
            Dtype::F16 => Element::F16,
            Dtype::BF16 => Element::Bf16,
            Dtype::F32 => Element::F32,
            Dtype::F64 => Element::F64,
            // Position ids and counters.
            Dtype::I64 | Dtype::I32 | Dtype::I16 | Dtype::I8 | Dtype::U8 | Dtype::BOOL => continue,
            other => {
                return Err(unsupported(
                    path,
                    format!("tensor {name} of type {other:?}"),
                    "F16, BF16, F32, F64",
                ));
            }
        };
        // A view is a slice of `bytes`: its place is kept in its stead, so that both formats are read alike.
        let start = view.data().as_ptr().addr() - base;
        out.push(Found {
            name,
            element,
            shape: view.shape().to_vec(),
            range: start..start + view.data().len(),
        });
    }
    Ok(out)
}
