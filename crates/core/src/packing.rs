//! How the residual levels of a token stand in bytes. Packer, readers and kernels share this one definition.

use serde::{Deserialize, Serialize};

/// How many levels a residual value has, and how many values share a byte.
///
/// | | levels | values a byte | value `i` of a byte |
/// |---|---|---|---|
/// | `Bits4` | 16 | 2 | `byte >> 4 i & 15` |
/// | `Bits2` | 4 | 4 | `byte >> 2 i & 3` |
/// | `Bits1` | 2 | 8 | `byte >> i & 1` |
/// | `Ternary` | 3 | 5 | `byte / 3^i % 3`; a byte is at most 242 |
///
/// | `Product` | 256 | 1 | the byte itself: a codeword that stands for a run of dimensions |
///
/// Values of one token follow each other, the first in the lowest place; the last byte is filled up with level 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// Sixteen levels, half a byte each.
    #[default]
    Bits4,
    /// Four levels.
    Bits2,
    /// Two levels.
    Bits1,
    /// Three levels, five to a byte.
    Ternary,
    /// A codeword of one byte for each of `bytes` runs of dimensions; run `b` is [`run_start`]`(b)..run_start(b + 1)`.
    Product {
        /// Bytes of a token, and runs.
        bytes: u8,
    },
}

/// First dimension of run `b` of `bytes` over `dim` dimensions: runs differ by at most one in length.
pub const fn run_start(b: usize, bytes: usize, dim: usize) -> usize {
    b * dim / bytes
}

impl Packing {
    /// Every packing of single values, widest first.
    pub const ALL: [Self; 4] = [Self::Bits4, Self::Bits2, Self::Ternary, Self::Bits1];

    /// Levels a value has.
    pub const fn n_levels(self) -> usize {
        match self {
            Self::Bits4 => 16,
            Self::Bits2 => 4,
            Self::Bits1 => 2,
            Self::Ternary => 3,
            Self::Product { .. } => 256,
        }
    }

    /// Values that share a byte.
    pub const fn values_per_byte(self) -> usize {
        match self {
            Self::Bits4 => 2,
            Self::Bits2 => 4,
            Self::Bits1 => 8,
            Self::Ternary => 5,
            Self::Product { .. } => 1,
        }
    }

    /// Bytes of one token of `dim` values.
    pub const fn row_bytes(self, dim: usize) -> usize {
        match self {
            Self::Product { bytes } => bytes as usize,
            _ => dim.div_ceil(self.values_per_byte()),
        }
    }

    /// Length of the longest run of a `Product` of `bytes` over `dim` dimensions.
    pub const fn run_width(bytes: usize, dim: usize) -> usize {
        dim.div_ceil(bytes)
    }

    /// Level of value `i` of a byte. A `Ternary` byte above 242 counts modulo 243.
    pub const fn level(self, byte: u8, i: usize) -> u8 {
        match self {
            Self::Bits4 => byte >> (4 * i) & 15,
            Self::Bits2 => byte >> (2 * i) & 3,
            Self::Bits1 => byte >> i & 1,
            Self::Ternary => byte / [1, 3, 9, 27, 81][i] % 3,
            Self::Product { .. } => byte,
        }
    }

    /// Level of value `d` of a row.
    ///
    /// # Panics
    /// If the row is shorter.
    pub const fn level_of(self, row: &[u8], d: usize) -> u8 {
        let n = self.values_per_byte();
        self.level(row[d / n], d % n)
    }

    /// Appends one row; levels beyond [`Self::n_levels`] are the caller's mistake and spill over.
    pub fn pack(self, levels: &[u8], out: &mut Vec<u8>) {
        let place = |i: usize| match self {
            Self::Bits4 => 1_u8 << (4 * i),
            Self::Bits2 => 1 << (2 * i),
            Self::Bits1 => 1 << i,
            Self::Ternary => [1, 3, 9, 27, 81][i],
            Self::Product { .. } => 1,
        };
        let byte = |chunk: &[u8]| {
            chunk
                .iter()
                .enumerate()
                .fold(0_u8, |byte, (i, &level)| byte.wrapping_add(level.wrapping_mul(place(i))))
        };
        out.extend(levels.chunks(self.values_per_byte()).map(byte));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_comes_back_from_every_place() {
        for packing in Packing::ALL {
            let n = packing.n_levels() as u8;
            for dim in 1..=17 {
                for shift in 0..n {
                    let levels: Vec<u8> = (0..dim).map(|d| (d * 7 + shift) % n).collect();
                    let mut row = Vec::new();
                    packing.pack(&levels, &mut row);
                    assert_eq!(row.len(), packing.row_bytes(usize::from(dim)));
                    for (d, &level) in levels.iter().enumerate() {
                        assert_eq!(packing.level_of(&row, d), level, "{packing:?}, value {d} of {dim}");
                    }
                }
            }
        }
    }

    #[test]
    fn golden_bytes_fix_the_order_of_values() {
        for (packing, levels, bytes) in [
            (Packing::Bits4, &[6, 12, 8][..], &[6 | 12 << 4, 8][..]),
            (Packing::Bits2, &[1, 2, 3, 0, 2], &[1 | 2 << 2 | 3 << 4, 2]),
            (Packing::Bits1, &[1, 0, 0, 0, 0, 0, 0, 1, 1], &[0x81, 1]),
            (Packing::Ternary, &[2, 0, 1, 0, 2, 1], &[2 + 9 + 162, 1]),
        ] {
            let mut row = Vec::new();
            packing.pack(levels, &mut row);
            assert_eq!(row, bytes, "{packing:?}");
        }
    }
}
