//! Named tensors across several safetensors parts.

use crate::FormatError;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::BTreeMap;

/// Element type and content of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum TensorKind {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 8-bit integers.
    I8(Vec<i8>),
    /// Bytes: two 4-bit integers each, or group scales.
    U8(Vec<u8>),
}

/// Which part of [`super::Quantization`] says how a tensor is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorRole {
    /// The matrix of a linear layer.
    Linear,
    /// The table of token embeddings.
    Embeddings,
    /// Norms, biases, scales, and the tables and weights that are small: positions, token types, the query weight. Always F32.
    Other,
}

impl TensorRole {
    /// The role of a tensor, by name and shape.
    pub fn of(name: &str, shape: &[usize]) -> Self {
        match (shape.len(), name.strip_suffix(".weight")) {
            (2, Some("embeddings.tok_embeddings" | "embeddings.word_embeddings")) => Self::Embeddings,
            (
                2,
                Some("query_weight" | "embeddings.position_embeddings" | "embeddings.token_type_embeddings"),
            ) => Self::Other,
            (2, Some(_)) => Self::Linear,
            _ => Self::Other,
        }
    }
}

/// A row-major tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Lengths of the axes, outermost first.
    pub shape: Vec<usize>,
    /// Elements.
    pub data: TensorKind,
}

/// All tensors of a model by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
}

/// Weights whose files come one by one: a file's bytes can go as soon as it is added, so that a model never stands in memory twice.
#[derive(Clone, Debug, Default)]
pub struct WeightsReader {
    whole: Weights,
    /// Tensors that are cut by rows, by name and first row.
    rows: BTreeMap<String, BTreeMap<usize, Tensor>>,
}

impl WeightsReader {
    /// Copies the tensors out of one part; `path` is only for messages. Parts may come in any order. A part that is refused leaves nothing behind.
    ///
    /// # Errors
    /// [`FormatError::Invalid`] for a part that is not safetensors, holds another element type or a non-finite float, or a tensor that is here already.
    pub fn add(&mut self, path: &str, bytes: &[u8]) -> Result<(), FormatError> {
        let invalid = |what: String| FormatError::Invalid { path: path.to_owned(), offset: 0, what };
        let file = SafeTensors::deserialize(bytes).map_err(|e| invalid(format!("not safetensors: {e}")))?;
        let mut found = Vec::with_capacity(file.len());
        for (name, view) in file.tensors() {
            let row = name.rsplit_once('@').and_then(|(base, row)| Some((base, row.parse::<usize>().ok()?)));
            let known = match row {
                Some((base, row)) => self.rows.get(base).is_some_and(|rows| rows.contains_key(&row)),
                None => self.whole.contains(&name),
            };
            if known {
                return Err(invalid(format!("tensor {name} stands in two files")));
            }
            let tensor = from_view(&view).map_err(|what| invalid(format!("tensor {name}: {what}")))?;
            let place = row.map(|(base, row)| (base.to_owned(), row));
            found.push((name, place, tensor));
        }
        for (name, place, tensor) in found {
            match place {
                Some((base, row)) => drop(self.rows.entry(base).or_default().insert(row, tensor)),
                None => self.whole.insert(name, tensor),
            }
        }
        Ok(())
    }

    /// All tensors, those cut by rows in one piece.
    ///
    /// # Errors
    /// [`FormatError::Invalid`] for rows with gaps.
    pub fn finish(mut self) -> Result<Weights, FormatError> {
        while let Some((name, parts)) = self.rows.pop_first() {
            let whole = join_rows(parts).map_err(|what| FormatError::Invalid {
                path: "weights".to_owned(),
                offset: 0,
                what: format!("tensor {name}: {what}"),
            })?;
            self.whole.insert(name, whole);
        }
        Ok(self.whole)
    }
}

impl Tensor {
    /// A float tensor.
    pub fn f32(shape: &[usize], data: Vec<f32>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len());
        Self { shape: shape.to_vec(), data: TensorKind::F32(data) }
    }

    /// An 8-bit tensor.
    pub fn i8(shape: &[usize], data: Vec<i8>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len());
        Self { shape: shape.to_vec(), data: TensorKind::I8(data) }
    }

    /// A tensor of bytes.
    pub fn u8(shape: &[usize], data: Vec<u8>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len());
        Self { shape: shape.to_vec(), data: TensorKind::U8(data) }
    }

    fn len(&self) -> usize {
        match &self.data {
            TensorKind::F32(data) => data.len(),
            TensorKind::I8(data) => data.len(),
            TensorKind::U8(data) => data.len(),
        }
    }

    fn describe(&self) -> String {
        let kind = match self.data {
            TensorKind::F32(_) => "F32",
            TensorKind::I8(_) => "I8",
            TensorKind::U8(_) => "U8",
        };
        format!("{kind} {:?}", self.shape)
    }
}

impl Weights {
    /// Adds or replaces a tensor.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.tensors.insert(name.into(), tensor);
    }

    /// Names and tensors, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(n, t)| (n.as_str(), t))
    }

    /// Whether a tensor of this name exists.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Reads the parts of a model. Parts may come in any order.
    ///
    /// # Errors
    /// As [`WeightsReader::add`] and [`WeightsReader::finish`].
    pub fn read<'a>(parts: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Self, FormatError> {
        let mut reader = WeightsReader::default();
        for (path, bytes) in parts {
            reader.add(path, bytes)?;
        }
        reader.finish()
    }

    /// Takes out an F32 tensor of exactly this shape.
    ///
    /// # Errors
    /// [`FormatError::Tensor`] if it is absent or differs.
    pub fn take_f32(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, FormatError> {
        match self.tensors.remove(name) {
            Some(Tensor { shape: s, data: TensorKind::F32(data) }) if s == shape => Ok(data),
            other => Err(unexpected(name, "F32", shape, other)),
        }
    }

    /// Takes out an I8 tensor of exactly this shape.
    ///
    /// # Errors
    /// [`FormatError::Tensor`] if it is absent or differs.
    pub fn take_i8(&mut self, name: &str, shape: &[usize]) -> Result<Vec<i8>, FormatError> {
        match self.tensors.remove(name) {
            Some(Tensor { shape: s, data: TensorKind::I8(data) }) if s == shape => Ok(data),
            other => Err(unexpected(name, "I8", shape, other)),
        }
    }

    /// Takes out a U8 tensor of exactly this shape.
    ///
    /// # Errors
    /// [`FormatError::Tensor`] if it is absent or differs.
    pub fn take_u8(&mut self, name: &str, shape: &[usize]) -> Result<Vec<u8>, FormatError> {
        match self.tensors.remove(name) {
            Some(Tensor { shape: s, data: TensorKind::U8(data) }) if s == shape => Ok(data),
            other => Err(unexpected(name, "U8", shape, other)),
        }
    }
}

fn unexpected(name: &str, kind: &str, shape: &[usize], found: Option<Tensor>) -> FormatError {
    FormatError::Tensor {
        name: name.to_owned(),
        expected: format!("{kind} {shape:?}"),
        found: found.map_or_else(|| "nothing".to_owned(), |t| t.describe()),
    }
}

fn from_view(view: &TensorView<'_>) -> Result<Tensor, String> {
    let shape = view.shape().to_vec();
    let data = match view.dtype() {
        Dtype::F32 => {
            let values: Vec<f32> =
                view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            if let Some(i) = values.iter().position(|v| !v.is_finite()) {
                return Err(format!("element {i} is not a finite number"));
            }
            TensorKind::F32(values)
        }
        Dtype::I8 => TensorKind::I8(view.data().iter().map(|&b| b.cast_signed()).collect()),
        Dtype::U8 => TensorKind::U8(view.data().to_vec()),
        other => return Err(format!("element type {other:?}, expected F32, I8 or U8")),
    };
    Ok(Tensor { shape, data })
}

/// Rows of one tensor by their first row, in one piece.
fn join_rows(mut parts: BTreeMap<usize, Tensor>) -> Result<Tensor, String> {
    let Some((0, mut whole)) = parts.pop_first() else {
        return Err("rows do not start at 0".to_owned());
    };
    if whole.shape.is_empty() {
        return Err("rows of a number".to_owned());
    }
    // Room for all rows at once: growing would hold two copies of a large table.
    let more: usize = parts.values().map(Tensor::len).sum();
    match &mut whole.data {
        TensorKind::F32(a) => a.reserve_exact(more),
        TensorKind::I8(a) => a.reserve_exact(more),
        TensorKind::U8(a) => a.reserve_exact(more),
    }
    // Each part goes as soon as it is copied.
    for (row, part) in parts {
        if row != whole.shape[0]
            || part.shape.len() != whole.shape.len()
            || part.shape[1..] != whole.shape[1..]
        {
            return Err(format!("rows from {row} do not continue {:?}", whole.shape));
        }
        whole.shape[0] += part.shape[0];
        match (&mut whole.data, part.data) {
            (TensorKind::F32(a), TensorKind::F32(b)) => a.extend(b),
            (TensorKind::I8(a), TensorKind::I8(b)) => a.extend(b),
            (TensorKind::U8(a), TensorKind::U8(b)) => a.extend(b),
            _ => return Err("row parts have different types".to_owned()),
        }
    }
    Ok(whole)
}

/// The weights as safetensors files of at most about `part_bytes` of tensor data each: `(file name, content)`.
///
/// Tensors larger than a part are cut by rows. The result depends only on the weights, so equal models give equal files.
///
/// # Errors
/// [`FormatError::Invalid`] if safetensors refuses a tensor.
pub fn pack_parts(weights: &Weights, part_bytes: usize) -> Result<Vec<(String, Vec<u8>)>, FormatError> {
    struct Piece {
        name: String,
        dtype: Dtype,
        shape: Vec<usize>,
        bytes: Vec<u8>,
    }
    let mut pieces = Vec::new();
    for (name, tensor) in weights.iter() {
        let (dtype, bytes): (_, Vec<u8>) = match &tensor.data {
            TensorKind::F32(v) => (Dtype::F32, v.iter().flat_map(|x| x.to_le_bytes()).collect()),
            TensorKind::I8(v) => (Dtype::I8, v.iter().map(|&x| x.cast_unsigned()).collect()),
            TensorKind::U8(v) => (Dtype::U8, v.clone()),
        };
        let n_rows = tensor.shape.first().copied().unwrap_or(1).max(1);
        let row_bytes = bytes.len() / n_rows;
        let rows_a_piece = (part_bytes / row_bytes.max(1)).max(1);
        if rows_a_piece >= n_rows {
            pieces.push(Piece { name: name.to_owned(), dtype, shape: tensor.shape.clone(), bytes });
            continue;
        }
        for (i, chunk) in bytes.chunks(rows_a_piece * row_bytes).enumerate() {
            let mut shape = tensor.shape.clone();
            shape[0] = chunk.len() / row_bytes;
            pieces.push(Piece {
                name: format!("{name}@{}", i * rows_a_piece),
                dtype,
                shape,
                bytes: chunk.to_vec(),
            });
        }
    }
    let mut parts: Vec<Vec<Piece>> = vec![Vec::new()];
    let mut filled = 0;
    for piece in pieces {
        if filled > 0 && filled + piece.bytes.len() > part_bytes {
            parts.push(Vec::new());
            filled = 0;
        }
        filled += piece.bytes.len();
        parts.last_mut().expect("one part exists from the start").push(piece);
    }
    let mut files = Vec::with_capacity(parts.len());
    for (i, part) in parts.iter().enumerate() {
        let name = format!("weights-{:02}.safetensors", i + 1);
        let invalid = |e: safetensors::SafeTensorError| FormatError::Invalid {
            path: name.clone(),
            offset: 0,
            what: e.to_string(),
        };
        let views = part
            .iter()
            .map(|p| Ok((p.name.as_str(), TensorView::new(p.dtype, p.shape.clone(), &p.bytes)?)))
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
            .map_err(invalid)?;
        let bytes = safetensors::serialize(views, None).map_err(invalid)?;
        files.push((name, bytes));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Weights {
        let mut w = Weights::default();
        w.insert("a.weight", Tensor::i8(&[7, 3], (0..21).collect()));
        w.insert("a.scale", Tensor::f32(&[7], (0..7).map(|i| i as f32).collect()));
        w.insert("norm.weight", Tensor::f32(&[3], vec![1.0; 3]));
        w.insert("four.weight", Tensor::u8(&[5, 2], (0..10).collect()));
        w
    }

    #[test]
    fn weights_survive_being_cut_into_small_parts() {
        for part_bytes in [4, 9, 20, 1000] {
            let files = pack_parts(&sample(), part_bytes).unwrap();
            let back = Weights::read(files.iter().rev().map(|(n, b)| (n.as_str(), b.as_slice()))).unwrap();
            assert_eq!(back, sample(), "parts of {part_bytes} bytes");
        }
    }

    #[test]
    fn a_tensor_that_stands_in_two_files_is_refused_and_the_rest_stays() {
        let files = pack_parts(&sample(), 9).unwrap();
        let mut reader = WeightsReader::default();
        for (name, bytes) in &files {
            reader.add(name, bytes).unwrap();
            assert!(matches!(reader.add(name, bytes), Err(FormatError::Invalid { .. })));
        }
        assert_eq!(reader.finish().unwrap(), sample());
    }

    #[test]
    fn a_missing_row_part_is_refused() {
        let files = pack_parts(&sample(), 9).unwrap();
        let broken = files
            .iter()
            .filter(|(_, b)| !b.windows(10).any(|w| w == b"a.weight@3"))
            .map(|(n, b)| (n.as_str(), b.as_slice()));
        assert!(matches!(Weights::read(broken), Err(FormatError::Invalid { .. })));
    }

    #[test]
    fn non_finite_floats_are_refused_at_the_door() {
        let mut w = Weights::default();
        w.insert("x", Tensor::f32(&[2], vec![1.0, f32::NAN]));
        let files = pack_parts(&w, 100).unwrap();
        assert!(Weights::read(files.iter().map(|(n, b)| (n.as_str(), b.as_slice()))).is_err());
    }
}
