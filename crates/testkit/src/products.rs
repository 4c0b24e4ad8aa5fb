//! The products of one forward pass and nothing else, for benches: what a pass takes beyond them is norms, softmax, activations, quantising, copies.
//!
//! Two kinds: products with weights, and attention's own (scores, and weighted sums of values), which are f32.

use crate::Random;
use shirube_core::{Architecture, EncoderConfig};
use shirube_format::model::WeightKind;
use shirube_kernels::{Activations, AttentionShape, Epilogue, GROUP, GroupedI4, Kernels, PackedI4, PackedI8};

/// Random quantised matrices of the shapes of a model's blocks and projection, and the shapes of its attention.
#[derive(Debug)]
pub struct Products {
    kernels: Kernels,
    matrices: Vec<Matrix>,
    acts: Vec<(usize, Activations)>,
    out: Vec<f32>,
    config: EncoderConfig,
    qkv: Vec<f32>,
    mixed: Vec<f32>,
    scratch: Vec<f32>,
}

#[derive(Debug)]
enum Matrix {
    Int8(PackedI8),
    Int4(PackedI4),
}

impl Products {
    /// Products of a model of `config` with embeddings of `dim`, in int8 or int4.
    ///
    /// # Panics
    /// For f32, and for shapes beyond the kernels' limits.
    pub fn new(config: &EncoderConfig, dim: usize, kind: WeightKind, kernels: Kernels) -> Self {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let wide = if config.architecture == Architecture::ModernBert { 2 * inner } else { inner };
        let block = [(3 * hidden, hidden), (hidden, hidden), (wide, hidden), (hidden, inner)];
        let shapes = (0..config.n_layers).flat_map(|_| block).chain([(dim, hidden)]);
        let mut random = Random::new(11);
        let matrices = shapes
            .map(|(n, k)| {
                // Any numbers do: what a product costs does not depend on them.
                let scale = vec![0.01; n];
                match kind {
                    WeightKind::Int4 => {
                        let nibbles = random.bytes(n * k.div_ceil(2));
                        let groups = vec![7; n * k.div_ceil(GROUP)];
                        let grouped = GroupedI4::new(nibbles, groups, scale, n, k).expect("shapes fit");
                        Matrix::Int4(kernels.pack_i4(&grouped).expect("widths below the limit"))
                    }
                    WeightKind::Int8 => {
                        let ints: Vec<i8> =
                            random.bytes(n * k).iter().map(|b| b.cast_signed().max(-127)).collect();
                        Matrix::Int8(kernels.pack_i8(&ints, &scale, n, k).expect("shapes fit"))
                    }
                    WeightKind::F32 => panic!("products of integers"),
                }
            })
            .collect();
        let config = config.clone();
        let (acts, out) = (Vec::new(), Vec::new());
        let (qkv, mixed, scratch) = (Vec::new(), Vec::new(), Vec::new());
        Self { kernels, matrices, acts, out, config, qkv, mixed, scratch }
    }

    /// Multiply-adds a token of the products with weights.
    pub fn macs(&self) -> usize {
        self.matrices.iter().map(|m| m.shape()).map(|(n, k)| n * k).sum()
    }

    /// Quantises the input of [`Self::run`]: `m` tokens.
    ///
    /// # Panics
    /// Never: shapes fit.
    pub fn prepare(&mut self, m: usize) {
        let mut random = Random::new(12);
        self.qkv = random.normals(m * 3 * self.config.hidden_size, 1.0);
        self.mixed.resize(m * self.config.hidden_size, 0.0);
        self.acts.clear();
        for matrix in &self.matrices {
            let (n, k) = matrix.shape();
            if self.acts.iter().all(|(width, _)| *width != k) {
                let mut acts = self.kernels.activations();
                self.kernels.quantize(&random.normals(m * k, 1.0), m, k, &mut acts).expect("shapes fit");
                self.acts.push((k, acts));
            }
            if self.out.len() < m * n {
                self.out.resize(m * n, 0.0);
            }
        }
    }

    /// Every product with weights once, on what [`Self::prepare`] made.
    ///
    /// # Panics
    /// Without [`Self::prepare`].
    pub fn run(&mut self) {
        for matrix in &self.matrices {
            let (n, k) = matrix.shape();
            let (_, acts) = self.acts.iter().find(|(width, _)| *width == k).expect("prepare comes first");
            let out = &mut self.out[..acts.m() * n];
            match matrix {
                Matrix::Int8(w) => self.kernels.gemm_i8(acts, w, Epilogue::STORE, out),
                Matrix::Int4(w) => self.kernels.gemm_i4(acts, w, Epilogue::STORE, out),
            }
            .expect("shapes fit");
        }
    }

    /// Every product of attention once, likewise.
    ///
    /// # Panics
    /// Without [`Self::prepare`].
    pub fn run_attention(&mut self) {
        let Self { kernels, config, qkv, mixed, scratch, .. } = self;
        let n_tokens = mixed.len() / config.hidden_size;
        for i in 0..config.n_layers {
            let reach = match config.architecture {
                Architecture::ModernBert => config.layer_kind(i).reach,
                Architecture::Bert => None,
            };
            let (n_heads, head_dim) = (config.n_heads, config.head_dim());
            let shape = AttentionShape { n_tokens, n_keys: n_tokens, n_heads, head_dim, reach };
            kernels.attention_products(qkv, shape, scratch, mixed).expect("prepare comes first");
        }
    }
}

impl Matrix {
    fn shape(&self) -> (usize, usize) {
        match self {
            Self::Int8(w) => (w.n(), w.k()),
            Self::Int4(w) => (w.n(), w.k()),
        }
    }
}
