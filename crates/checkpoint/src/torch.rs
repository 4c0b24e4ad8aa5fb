//! `pytorch_model.bin`: a zip of one pickle and the storages it refers to, all stored as they are.

use crate::error::{CheckpointError, damaged};
use crate::pickle::{self, Ref, Unpickled, Value};
use crate::tensors::{Element, Found};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// Longest pickle program; that of a large language model has a few hundred kilobytes.
const MAX_PICKLE: usize = 16 << 20;
const MAX_ENTRIES: usize = 1 << 16;

/// Where each float tensor of the file lies in `bytes`.
pub(crate) fn tensors(path: &Path, bytes: &[u8]) -> Result<Vec<Found>, CheckpointError> {
    let bad = |what: String| damaged(path, what);
    if bytes.starts_with(&[0x80, 2]) {
        return Err(crate::error::unsupported(
            path,
            "the format that PyTorch wrote before 1.6",
            "PyTorch's zip format and safetensors; load and save it with a current PyTorch",
        ));
    }
    let files = entries(bytes).map_err(bad)?;
    let program =
        files.iter().find(|(name, _)| name.ends_with("/data.pkl") && name.matches('/').count() == 1);
    let Some((name, range)) = program else {
        return Err(bad("no data.pkl: not a file of torch.save".to_owned()));
    };
    let folder = name.trim_end_matches("data.pkl");
    if range.len() > MAX_PICKLE {
        return Err(bad(format!("a pickle of {} bytes, expected at most {MAX_PICKLE}", range.len())));
    }
    if let Some(order) = files.get(&format!("{folder}byteorder"))
        && &bytes[order.clone()] != b"little"
    {
        return Err(crate::error::unsupported(path, "big-endian storage", "little-endian storage"));
    }
    let read = pickle::read(&bytes[range.clone()]).map_err(|(offset, what)| CheckpointError::Pickle {
        path: path.to_owned(),
        offset,
        what,
    })?;
    let root =
        state_dict(&read).ok_or_else(|| bad("the pickle holds no dictionary of tensors".to_owned()))?;
    let mut found = Vec::new();
    for &(key, value) in root {
        let (Value::Text(name), &Value::Tensor(arguments)) = (&read.values[key], &read.values[value]) else {
            continue;
        };
        let tensor = tensor(&read, arguments, |key| files.get(&format!("{folder}data/{key}")).cloned());
        if let Some((element, shape, range)) = tensor.map_err(|what| bad(format!("tensor {name}: {what}")))? {
            found.push(Found { name: name.clone(), element, shape, range });
        }
    }
    Ok(found)
}

/// The entries of the root, or of `state_dict` or `model_state_dict` in it.
fn state_dict(read: &Unpickled) -> Option<&[(Ref, Ref)]> {
    let Value::Dict(root) = &read.values[read.root] else { return None };
    for &(key, value) in root {
        if let (Value::Text(key), Value::Dict(inner)) = (&read.values[key], &read.values[value])
            && matches!(key.as_str(), "state_dict" | "model_state_dict")
        {
            return Some(inner);
        }
    }
    Some(root)
}

type Placed = (Element, Vec<usize>, Range<usize>);

/// Element type, shape and bytes of a tensor; `None` where its elements are no floats.
fn tensor(
    read: &Unpickled,
    arguments: Ref,
    storage: impl Fn(&str) -> Option<Range<usize>>,
) -> Result<Option<Placed>, String> {
    let Value::Tuple(arguments) = &read.values[arguments] else { return Err("no arguments".to_owned()) };
    let &[id, offset, shape, stride, ..] = &arguments[..] else { return Err("too few arguments".to_owned()) };
    let sizes = |at: Ref| match &read.values[at] {
        Value::Tuple(items) if items.len() <= 8 => items.iter().map(|&i| size(&read.values[i])).collect(),
        _ => Err("a shape that is no tuple of up to 8 numbers".to_owned()),
    };
    let (offset, shape, stride): (usize, Vec<usize>, Vec<usize>) =
        (size(&read.values[offset])?, sizes(shape)?, sizes(stride)?);
    let Value::Storage(id) = read.values[id] else { return Err("no storage".to_owned()) };
    let Value::Tuple(id) = &read.values[id] else { return Err("a storage without description".to_owned()) };
    let &[_, kind, key, ..] = &id[..] else { return Err("a storage without description".to_owned()) };
    let (Value::Global(kind), Value::Text(key)) = (&read.values[kind], &read.values[key]) else {
        return Err("a storage without description".to_owned());
    };
    let element = match *kind {
        "torch.FloatStorage" => Element::F32,
        "torch.HalfStorage" => Element::F16,
        "torch.BFloat16Storage" => Element::Bf16,
        "torch.DoubleStorage" => Element::F64,
        _ => return Ok(None),
    };
    let mut expected = 1usize;
    for (&n, &step) in shape.iter().zip(&stride).rev() {
        if n > 1 && step != expected {
            return Err(format!("strides {stride:?} of {shape:?}: it is not stored row by row"));
        }
        expected = expected.checked_mul(n).ok_or("a shape beyond all files")?;
    }
    if shape.len() != stride.len() {
        return Err(format!("strides {stride:?} of {shape:?}"));
    }
    let bytes = storage(key).ok_or_else(|| format!("storage {key} is not in the file"))?;
    let start = offset.checked_mul(element.bytes()).and_then(|at| at.checked_add(bytes.start));
    let end = start.and_then(|start| start.checked_add(expected.checked_mul(element.bytes())?));
    match (start, end) {
        (Some(start), Some(end)) if end <= bytes.end => Ok(Some((element, shape, start..end))),
        _ => {
            Err(format!("{shape:?} from element {offset} is more than its storage of {} bytes", bytes.len()))
        }
    }
}

fn size(value: &Value) -> Result<usize, String> {
    match value {
        Value::Int(n) => usize::try_from(*n).map_err(|_| format!("a size of {n}")),
        _ => Err("a size that is no number".to_owned()),
    }
}

/// Names and places of the files in a zip, all of which must be stored without compression.
fn entries(bytes: &[u8]) -> Result<BTreeMap<String, Range<usize>>, String> {
    // The end record lies within the last 64 KiB, behind it only a comment.
    let from = bytes.len().saturating_sub(22 + 0xffff);
    let end = bytes[from..]
        .windows(4)
        .rposition(|w| w == b"PK\x05\x06")
        .ok_or("no zip: its end record is missing")?
        + from;
    if number(bytes, end + 20, 2)? != bytes.len() - (end + 22) {
        return Err("its end record is cut".to_owned());
    }
    let (mut count, mut at) = (number(bytes, end + 10, 2)?, number(bytes, end + 16, 4)?);
    if (count == 0xffff || at == 0xffff_ffff) && end >= 20 && bytes[end - 20..].starts_with(b"PK\x06\x07") {
        let record = number(bytes, end - 20 + 8, 8)?;
        if bytes.get(record..).is_none_or(|b| !b.starts_with(b"PK\x06\x06")) {
            return Err("its zip64 record is missing".to_owned());
        }
        (count, at) = (number(bytes, record + 32, 8)?, number(bytes, record + 48, 8)?);
    }
    if count > MAX_ENTRIES {
        return Err(format!("{count} files inside, expected at most {MAX_ENTRIES}"));
    }
    let mut out = BTreeMap::new();
    for _ in 0..count {
        if bytes.get(at..).is_none_or(|b| !b.starts_with(b"PK\x01\x02")) {
            return Err(format!("its directory is broken at byte {at}"));
        }
        let method = number(bytes, at + 10, 2)?;
        let (mut packed, mut size) = (number(bytes, at + 20, 4)?, number(bytes, at + 24, 4)?);
        let (name_length, extra_length) = (number(bytes, at + 28, 2)?, number(bytes, at + 30, 2)?);
        let comment_length = number(bytes, at + 32, 2)?;
        let mut local = number(bytes, at + 42, 4)?;
        let name = slice(bytes, at + 46, name_length)?;
        let name = str::from_utf8(name).map_err(|_| "a file name that is not UTF-8")?.to_owned();
        // Zip64: the fields that do not fit stand in an extra field, in this order.
        let extra = slice(bytes, at + 46 + name_length, extra_length)?;
        if let Some(wide) = zip64(extra) {
            let mut next = 0;
            for field in [&mut size, &mut packed, &mut local] {
                if *field == 0xffff_ffff {
                    *field = number(wide, next, 8)?;
                    next += 8;
                }
            }
        }
        if method != 0 || packed != size {
            return Err(format!("{name} is compressed"));
        }
        if bytes.get(local..).is_none_or(|b| !b.starts_with(b"PK\x03\x04")) {
            return Err(format!("{name} is not where the directory says"));
        }
        let start = local + 30 + number(bytes, local + 26, 2)? + number(bytes, local + 28, 2)?;
        slice(bytes, start, size)?;
        out.insert(name, start..start + size);
        at += 46 + name_length + extra_length + comment_length;
    }
    Ok(out)
}

fn zip64(mut extra: &[u8]) -> Option<&[u8]> {
    while extra.len() >= 4 {
        let (id, length) = (number(extra, 0, 2).ok()?, number(extra, 2, 2).ok()?);
        let field = extra.get(4..4 + length)?;
        if id == 1 {
            return Some(field);
        }
        extra = &extra[4 + length..];
    }
    None
}

fn slice(bytes: &[u8], at: usize, n: usize) -> Result<&[u8], String> {
    let end = at.checked_add(n).ok_or("an offset beyond the file")?;
    bytes.get(at..end).ok_or_else(|| format!("it ends before byte {end}"))
}

fn number(bytes: &[u8], at: usize, n: usize) -> Result<usize, String> {
    let wide = slice(bytes, at, n)?.iter().rev().fold(0u64, |sum, &b| sum << 8 | u64::from(b));
    usize::try_from(wide).map_err(|_| "an offset beyond the file".to_owned())
}
