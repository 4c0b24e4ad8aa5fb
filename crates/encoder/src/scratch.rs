//! Buffers of the forward pass.

use shirube_kernels::{Activations, Kernels};

/// Buffers, grown to the longest text so far.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// `[n, hidden]`: the residual stream.
    pub(crate) x: Vec<f32>,
    /// `[n, hidden]`; the final hidden states, when a transformer is done.
    pub(crate) normed: Vec<f32>,
    /// `[n, 3 hidden]`, `[n, 2 inner]` and what was longer before: see [`room`].
    pub(crate) wide: Vec<f32>,
    /// `[n, hidden]`, likewise.
    pub(crate) mixed: Vec<f32>,
    pub(crate) attention: Vec<f32>,
    pub(crate) operand: Operand,
    pub(crate) rope: Vec<Rope>,
}

/// The left side of a product.
#[derive(Debug)]
pub(crate) struct Operand {
    /// Of integer products.
    pub(crate) acts: Activations,
    /// Of f32 products, where the rows are made for it.
    pub(crate) rows: Vec<f32>,
}

/// The first `len` numbers of a buffer that never shrinks: what a smaller use leaves behind needs no zeros when a larger one comes.
pub(crate) fn room(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// Sines and cosines of one base, `[positions, head_dim / 2]`.
#[derive(Debug)]
pub(crate) struct Rope {
    theta: f32,
    pub(crate) cos: Vec<f32>,
    pub(crate) sin: Vec<f32>,
}

impl Rope {
    /// `angle = position * theta^(-2 i / head_dim)`, in f64: f32 would lose digits at far positions.
    fn grow(&mut self, n_positions: usize, head_dim: usize) {
        let half = head_dim / 2;
        for position in self.cos.len() / half.max(1)..n_positions {
            for i in 0..half {
                let frequency = f64::from(self.theta).powf(-2.0 * i as f64 / head_dim as f64);
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                self.cos.push(cos as f32);
                self.sin.push(sin as f32);
            }
        }
    }
}

impl Scratch {
    pub(crate) fn new(kernels: Kernels) -> Self {
        Self {
            x: Vec::new(),
            normed: Vec::new(),
            wide: Vec::new(),
            mixed: Vec::new(),
            attention: Vec::new(),
            operand: Operand { acts: kernels.activations(), rows: Vec::new() },
            rope: Vec::new(),
        }
    }

    /// Position of the tables of `theta` in `rope`, covering `n_positions`.
    pub(crate) fn rope(&mut self, theta: f32, n_positions: usize, head_dim: usize) -> usize {
        let at = self.rope.iter().position(|r| r.theta == theta).unwrap_or_else(|| {
            self.rope.push(Rope { theta, cos: Vec::new(), sin: Vec::new() });
            self.rope.len() - 1
        });
        self.rope[at].grow(n_positions, head_dim);
        at
    }
}
