//! A binary range coder with adaptive probabilities, written once for both directions.
//!
//! What a section holds is described by one function over [`Coder`]: the writer passes values through it, the reader gets
//! them back, and the two cannot drift apart. The arithmetic is LZMA's (carry and cache in the writer, 32-bit range); the
//! probability of a bit is the mean of a fast and a slow estimate, which costs one addition and saves 3 % of the matrix.

/// The probability that a bit is set, learned as bits pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bit {
    fast: u16,
    slow: u16,
}

impl Bit {
    pub(crate) const NEW: Self = Self { fast: 1 << 15, slow: 1 << 15 };

    /// In units of 2^-15, from 35 to 32,732: neither estimate reaches its ends, so no bit is ever impossible.
    #[inline]
    fn probability(self) -> u32 {
        (u32::from(self.fast) + u32::from(self.slow)) >> 2
    }

    #[inline]
    fn learn(&mut self, bit: bool) {
        if bit {
            self.fast += (u16::MAX - self.fast) >> 4;
            self.slow += (u16::MAX - self.slow) >> 7;
        } else {
            self.fast -= self.fast >> 4;
            self.slow -= self.slow >> 7;
        }
    }
}

/// One direction of the coder. Every method takes the value to write and returns the value read; the writer returns what it
/// was given, the reader does not look at it.
pub(crate) trait Coder {
    /// One bit under `model`.
    fn bit(&mut self, model: &mut Bit, bit: bool) -> bool;

    /// The lowest `n` bits of `value`, each equally likely, `n` at most 16.
    fn raw(&mut self, n: u32, value: u32) -> u32;

    /// The lowest `n` bits of `value` from the highest on, each under the model its predecessors select. `models` has `2^n`.
    #[inline]
    fn tree(&mut self, models: &mut [Bit], n: u32, value: u32) -> u32 {
        let mut node = 1;
        for i in (0..n).rev() {
            let bit = self.bit(&mut models[node], value >> i & 1 == 1);
            node = node << 1 | usize::from(bit);
        }
        node as u32 - (1 << n)
    }

    /// A number below 2^17 - 1: its magnitude by a tree, then the bits below its highest one.
    #[inline]
    fn number(&mut self, models: &mut NumberModels, context: usize, value: u32) -> u32 {
        let value = value.wrapping_add(1);
        let magnitude = &mut models.magnitude[context << 5..][..32];
        let high = self.tree(magnitude, 5, 31 - value.max(1).leading_zeros()).min(16);
        let learned = high.min(models.learned);
        let mut out = 1;
        if learned > 0 {
            let width = 1usize << models.learned;
            let at = (context * 17 + high as usize) * width;
            let top = value >> (high - learned) & ((1 << learned) - 1);
            out = out << learned | self.tree(&mut models.mantissa[at..][..width], learned, top);
        }
        let rest = high - learned;
        if rest > 0 {
            out = out << rest | self.raw(rest, value & ((1 << rest) - 1));
        }
        out - 1
    }
}

/// Models of [`Coder::number`], by context.
pub(crate) struct NumberModels {
    magnitude: Vec<Bit>,
    mantissa: Vec<Bit>,
    learned: u32,
}

impl NumberModels {
    /// `learned` bits below the highest are modelled, the rest are stored as they are.
    pub(crate) fn new(contexts: usize, learned: u32) -> Self {
        Self {
            magnitude: vec![Bit::NEW; contexts << 5],
            mantissa: vec![Bit::NEW; (contexts * 17) << learned],
            learned,
        }
    }
}

/// The reading direction. Past its end it reads zeros and says so in [`Self::overrun`].
pub(crate) struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
    code: u32,
    range: u32,
}

/// A writer's last bytes may be read twice over before its values end.
const SLACK: usize = 4;

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let mut decoder = Self { bytes, at: 0, code: 0, range: u32::MAX };
        // The writer's first byte is its empty cache.
        for _ in 0..5 {
            decoder.code = decoder.code << 8 | decoder.next();
        }
        decoder
    }

    #[inline]
    fn next(&mut self) -> u32 {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        u32::from(byte)
    }

    /// Whether more was read than there is.
    pub(crate) fn overrun(&self) -> bool {
        self.at > self.bytes.len() + SLACK
    }
}

impl Coder for Decoder<'_> {
    #[inline]
    fn bit(&mut self, model: &mut Bit, _: bool) -> bool {
        let bound = (self.range >> 15) * model.probability();
        let bit = self.code < bound;
        if bit {
            self.range = bound;
        } else {
            self.code -= bound;
            self.range -= bound;
        }
        model.learn(bit);
        while self.range < 1 << 24 {
            self.range <<= 8;
            self.code = self.code << 8 | self.next();
        }
        bit
    }

    #[inline]
    fn raw(&mut self, n: u32, _: u32) -> u32 {
        let unit = self.range >> n;
        // A damaged file can hold a code beyond the range.
        let value = (self.code / unit).min((1 << n) - 1);
        self.code = self.code.wrapping_sub(value * unit);
        self.range = unit;
        while self.range < 1 << 24 {
            self.range <<= 8;
            self.code = self.code << 8 | self.next();
        }
        value
    }
}

/// The writing direction.
#[cfg(feature = "compile")]
pub(crate) struct Encoder {
    low: u64,
    range: u32,
    cache: u8,
    /// Bytes that a carry could still change.
    pending: u64,
    out: Vec<u8>,
}

#[cfg(feature = "compile")]
impl Encoder {
    pub(crate) fn new() -> Self {
        Self { low: 0, range: u32::MAX, cache: 0, pending: 1, out: Vec::new() }
    }

    fn shift(&mut self) {
        if (self.low as u32) < 0xff00_0000 || self.low >> 32 != 0 {
            let carry = (self.low >> 32) as u8;
            let mut byte = self.cache;
            for _ in 0..self.pending {
                self.out.push(byte.wrapping_add(carry));
                byte = 0xff;
            }
            self.pending = 0;
            self.cache = (self.low >> 24) as u8;
        }
        self.pending += 1;
        self.low = (self.low & 0x00ff_ffff) << 8;
    }

    fn normalize(&mut self) {
        while self.range < 1 << 24 {
            self.range <<= 8;
            self.shift();
        }
    }

    /// Bytes written so far.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        for _ in 0..5 {
            self.shift();
        }
        self.out
    }
}

#[cfg(feature = "compile")]
impl Coder for Encoder {
    fn bit(&mut self, model: &mut Bit, bit: bool) -> bool {
        let bound = (self.range >> 15) * model.probability();
        if bit {
            self.range = bound;
        } else {
            self.low += u64::from(bound);
            self.range -= bound;
        }
        model.learn(bit);
        self.normalize();
        bit
    }

    fn raw(&mut self, n: u32, value: u32) -> u32 {
        let unit = self.range >> n;
        self.low += u64::from(value) * u64::from(unit);
        self.range = unit;
        self.normalize();
        value
    }
}

#[cfg(all(test, feature = "compile"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let numbers: Vec<u32> =
            (0..3000u32).map(|i| i.wrapping_mul(2_654_435_761) >> (15 + i % 17)).collect();
        let mut encoder = Encoder::new();
        let pass = |coder: &mut dyn FnMut(&mut NumberModels, &mut Bit, u32) -> u32| -> Vec<u32> {
            let (mut models, mut bit) = (NumberModels::new(1, 3), Bit::NEW);
            numbers.iter().map(|&n| coder(&mut models, &mut bit, n)).collect()
        };
        let written = pass(&mut |models, bit, n| {
            encoder.bit(bit, n % 7 == 0);
            encoder.number(models, 0, n)
        });
        assert_eq!(written, numbers);
        let bytes = encoder.finish();
        let mut decoder = Decoder::new(&bytes);
        let read = pass(&mut |models, bit, n| {
            assert_eq!(decoder.bit(bit, false), n % 7 == 0);
            decoder.number(models, 0, 0)
        });
        assert_eq!(read, numbers);
        assert!(!decoder.overrun());
    }

    #[test]
    fn reading_past_the_end_is_noticed() {
        let mut decoder = Decoder::new(&[1, 2, 3, 4, 5, 6]);
        for _ in 0..64 {
            decoder.raw(16, 0);
        }
        assert!(decoder.overrun());
    }
}
