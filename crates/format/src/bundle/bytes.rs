//! A cursor over a binary file that reports where it stopped, and its mirror for writing.

use crate::FormatError;

/// Reads little-endian values in order.
pub(super) struct Cursor<'a> {
    path: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Checks magic and version, then stands behind them.
    pub(super) fn open(
        path: &'a str,
        bytes: &'a [u8],
        magic: [u8; 4],
        newest: u32,
    ) -> Result<Self, FormatError> {
        let mut cursor = Self { path, bytes, at: 0 };
        let found = cursor.take(4)?;
        if found != magic {
            let what = format!("magic is {found:02x?}, expected {magic:02x?}");
            return Err(FormatError::Invalid { path: path.to_owned(), offset: 0, what });
        }
        let version = cursor.u32()?;
        if version > newest {
            return Err(FormatError::Newer { path: path.to_owned(), found: version, newest });
        }
        if version == 0 {
            return Err(FormatError::Invalid {
                path: path.to_owned(),
                offset: 4,
                what: "version is 0".to_owned(),
            });
        }
        Ok(cursor)
    }

    pub(super) fn invalid(&self, what: String) -> FormatError {
        FormatError::Invalid { path: self.path.to_owned(), offset: self.at as u64, what }
    }

    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], FormatError> {
        let left = self.bytes.len() - self.at;
        if n > left {
            return Err(self.invalid(format!("{n} bytes expected, {left} left")));
        }
        let part = &self.bytes[self.at..self.at + n];
        self.at += n;
        Ok(part)
    }

    pub(super) fn u32(&mut self) -> Result<u32, FormatError> {
        let b = self.take(4)?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// A `u32` that must lie in `low..=high`.
    pub(super) fn count(&mut self, name: &str, low: usize, high: usize) -> Result<usize, FormatError> {
        let value = self.u32()? as usize;
        if value < low || value > high {
            return Err(self.invalid(format!("{name} is {value}, expected {low} to {high}")));
        }
        Ok(value)
    }

    /// Checks that exactly `n` bytes are left, before anything is allocated for them.
    pub(super) fn expect_left(&self, n: usize) -> Result<(), FormatError> {
        let left = self.bytes.len() - self.at;
        if left == n {
            Ok(())
        } else {
            Err(self.invalid(format!("the header announces {n} more bytes, found {left}")))
        }
    }

    /// `n` finite floats.
    pub(super) fn f32s(&mut self, n: usize) -> Result<Vec<f32>, FormatError> {
        let values: Vec<f32> =
            self.take(4 * n)?.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        match values.iter().position(|v| !v.is_finite()) {
            Some(i) => Err(self.invalid(format!("float {i} of the {n} before this byte is not finite"))),
            None => Ok(values),
        }
    }

    /// A cursor over a body without magic and version.
    pub(super) fn body(path: &'a str, bytes: &'a [u8]) -> Self {
        Self { path, bytes, at: 0 }
    }

    /// Whether nothing is left.
    pub(super) fn is_done(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Bytes not read yet.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(self.take(1)?[0])
    }

    /// An unsigned number in groups of seven bits, lowest first, the high bit set in all bytes but the last; at most five bytes, no needless ones.
    pub(super) fn varint(&mut self) -> Result<u32, FormatError> {
        let mut value = 0_u64;
        for i in 0..5 {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                if i > 0 && byte == 0 {
                    break;
                }
                return u32::try_from(value)
                    .map_err(|_| self.invalid(format!("number {value} is above 2^32 - 1")));
            }
        }
        Err(self.invalid("a number has a needless byte or more than five".to_owned()))
    }

    /// A number that must lie in `low..=high`.
    pub(super) fn number(&mut self, name: &str, low: usize, high: usize) -> Result<usize, FormatError> {
        let value = self.varint()? as usize;
        if value < low || value > high {
            return Err(self.invalid(format!("{name} is {value}, expected {low} to {high}")));
        }
        Ok(value)
    }

    /// The number of items of at least `item_bytes` each that follow: refused where the rest of the file cannot hold them.
    pub(super) fn n_items(&mut self, name: &str, item_bytes: usize) -> Result<usize, FormatError> {
        let n = self.varint()? as usize;
        let left = self.bytes.len() - self.at;
        if n.saturating_mul(item_bytes) > left {
            return Err(self.invalid(format!("{n} {name} announced, {left} bytes left")));
        }
        Ok(n)
    }

    /// UTF-8 text of `n` bytes.
    pub(super) fn text(&mut self, n: usize) -> Result<&'a str, FormatError> {
        let at = self.at;
        core::str::from_utf8(self.take(n)?).map_err(|e| FormatError::Invalid {
            path: self.path.to_owned(),
            offset: (at + e.valid_up_to()) as u64,
            what: "text is not UTF-8".to_owned(),
        })
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        self.at = self.bytes.len();
        rest
    }

    /// Zero bytes up to the next multiple of four.
    pub(super) fn align(&mut self) -> Result<(), FormatError> {
        let pad = self.at.next_multiple_of(4) - self.at;
        if self.take(pad)?.iter().any(|&b| b != 0) {
            return Err(self.invalid("padding is not zero".to_owned()));
        }
        Ok(())
    }
}

pub(super) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_f32s(out: &mut Vec<u8>, values: &[f32]) {
    out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
}
