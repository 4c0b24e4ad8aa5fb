//! The model folder: `manifest.json`, `weights-*.safetensors`, `tokenizer.json`, `tokenizer.bin`, and `dictionary-*.bin` where the
//! tokenizer cuts words by MeCab's rules.
//!
//! Tensor names follow Hugging Face's ModernBERT and BERT checkpoints without their `model.` or `bert.` prefix; the projection chain is
//! `dense.{i}.weight [out, in]` (and `.bias`, `.residual.weight`), the query weight `query_weight.weight [1, hidden]` and
//! `query_weight.bias [1]`. A quantised matrix `x.weight` (I8 `[out, in]`, symmetric) is accompanied by `x.scale` (F32 `[out]`):
//! `value = weight * scale[row]`. In 4 bits, `x.weight` is U8 `[out, ceil(in / 2)]` (column `2 i` in the low half of byte `i`, each plus 8) and
//! `x.group_scale` U8 `[out, ceil(in / 32)]`, 0 to 15: `value = nibble * group_scale[row][column / 32] * scale[row]`. A matrix too large for one part is stored as several tensors `x.weight@{first_row}`.

mod manifest;
mod weights;

pub mod folder;

pub use manifest::{
    FileEntry, MODEL_FORMAT, ModelManifest, Provenance, Quantization, TokenizerInfo, WeightKind,
    is_dictionary,
};
pub(crate) use manifest::{check_json_version, looks_like_html};
pub use weights::{Tensor, TensorKind, TensorRole, Weights, WeightsReader, pack_parts};
