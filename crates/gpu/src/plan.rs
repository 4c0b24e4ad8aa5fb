//! What is dispatched where: pure functions of sizes, without a GPU.

/// Workgroups that one dimension of a dispatch holds in every WebGPU implementation.
pub const MAX_WORKGROUPS: u32 = 65_535;

/// Bytes that one binding holds in every WebGPU implementation.
pub const MAX_BINDING_BYTES: u64 = 128 << 20;

/// Documents in one row of the MaxSim grid; `maxsim.wgsl` has the same number.
const DOCUMENTS_A_ROW: u32 = 32_768;

/// Queries that one attention workgroup takes; `attention.wgsl` has the same number.
pub const ATTENTION_BLOCK: usize = 32;

/// Rows that a product's workgroup covers, and invocations along its columns; `gemm_i8.wgsl` has the same numbers.
const GEMM_ROWS: u32 = 16;
const GEMM_LANES: u32 = 16;

/// How many values of one batch a step covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Tokens of all texts.
    pub n_rows: u32,
    /// Attention blocks of all texts.
    pub n_blocks: u32,
    /// Embeddings kept.
    pub n_kept: u32,
}

/// The shape of a step's grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grid {
    /// One workgroup a row.
    Rows,
    /// One invocation for four of `width4 * 4` values of a row, 64 to a workgroup.
    Elements {
        /// Values of a row, divided by 4.
        width4: u32,
    },
    /// An int8 product with `n` columns, `columns` of them in an invocation.
    GemmI8 {
        /// Columns.
        n: u32,
        /// Columns an invocation.
        columns: u32,
    },
    /// An f32 product with `n` columns.
    GemmF32 {
        /// Columns.
        n: u32,
    },
    /// One workgroup an attention block and head.
    Attention {
        /// Heads.
        n_heads: u32,
    },
    /// One workgroup a kept row.
    Kept,
}

impl Grid {
    /// Workgroups in x and y.
    pub fn workgroups(self, counts: Counts) -> [u32; 2] {
        match self {
            Self::Rows => [counts.n_rows, 1],
            Self::Elements { width4 } => [width4.div_ceil(64), counts.n_rows],
            Self::GemmI8 { n, columns } => {
                [n.div_ceil(GEMM_LANES * columns), counts.n_rows.div_ceil(GEMM_ROWS)]
            }
            Self::GemmF32 { n } => [n.div_ceil(32), counts.n_rows.div_ceil(32)],
            Self::Attention { n_heads } => [counts.n_blocks, n_heads],
            Self::Kept => [counts.n_kept, 1],
        }
    }
}

/// Columns of an int8 product that one invocation takes: as many as leave enough invocations to fill a GPU. 4096 are a few waves on a small one.
pub fn gemm_columns(n_rows: usize, n: usize) -> u32 {
    let invocations = |columns: usize| n_rows.div_ceil(4) * n.div_ceil(columns);
    [4, 2].into_iter().find(|&columns| invocations(columns) >= 4096).unwrap_or(1) as u32
}

/// Room for tokens: of the sizes that programs are made for, the smallest that holds `n_rows`, as far as a binding of `row_bytes` a token and a
/// dispatch allow. `None` when it does not fit at all.
pub fn capacity(n_rows: usize, row_bytes: usize, binding_bytes: u64) -> Option<usize> {
    let most = max_rows(row_bytes, binding_bytes);
    let size = [64, 512, 4096].into_iter().find(|&size| size >= n_rows).unwrap_or(n_rows);
    (n_rows <= most).then_some(size.min(most))
}

/// Tokens that fit one submission.
pub fn max_rows(row_bytes: usize, binding_bytes: u64) -> usize {
    let by_binding = binding_bytes / row_bytes.max(1) as u64;
    by_binding.min(MAX_WORKGROUPS.into()).min(8192) as usize
}

/// Texts of `lengths` tokens in runs of at most `most` tokens each, in order. A text longer than `most` is a run of its own.
pub fn runs(lengths: impl IntoIterator<Item = usize>, most: usize) -> Vec<core::ops::Range<usize>> {
    let mut runs: Vec<core::ops::Range<usize>> = Vec::new();
    let mut filled = 0;
    for (i, length) in lengths.into_iter().enumerate() {
        match runs.last_mut() {
            Some(run) if filled + length <= most => {
                run.end = i + 1;
                filled += length;
            }
            _ => {
                runs.push(i..i + 1);
                filled = length;
            }
        }
    }
    runs
}

/// Workgroups for `n_documents` documents of one piece of an index.
pub fn maxsim_workgroups(n_documents: u32) -> [u32; 2] {
    [n_documents.min(DOCUMENTS_A_ROW), n_documents.div_ceil(DOCUMENTS_A_ROW)]
}

/// Query tokens side by side in a MaxSim workgroup of 64: the smallest power of two that holds them all, 8 to 64. The rest of the workgroup shares out
/// the document's tokens.
pub fn maxsim_columns(n_query: usize) -> u32 {
    n_query.next_power_of_two().clamp(8, 64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_grid_covers_its_values_within_the_limits() {
        for n_rows in [1, 15, 16, 17, 63, 64, 65, 4096, 8192] {
            let counts = Counts { n_rows, n_blocks: n_rows.div_ceil(32), n_kept: n_rows };
            for n in [4, 16, 60, 64, 68, 768, 3072] {
                for columns in [1, 2, 4] {
                    let [x, y] = Grid::GemmI8 { n, columns }.workgroups(counts);
                    assert!(x * 16 * columns >= n && (x - 1) * 16 * columns < n && y * 16 >= n_rows);
                    assert!(x.max(y) <= MAX_WORKGROUPS);
                }
                let [x, y] = Grid::GemmF32 { n }.workgroups(counts);
                assert!(x * 32 >= n && y * 32 >= n_rows);
                let [x, y] = Grid::Elements { width4: n / 4 }.workgroups(counts);
                assert!(x * 64 >= n / 4 && y == n_rows);
            }
        }
    }

    #[test]
    fn more_documents_than_a_dimension_holds_take_two() {
        for n in [1, 32_768, 32_769, 65_536, 1_000_000, 100_000_000] {
            let [x, y] = maxsim_workgroups(n);
            assert!(x <= MAX_WORKGROUPS && y <= MAX_WORKGROUPS);
            assert!(u64::from(x) * u64::from(y) >= n.into());
        }
        assert_eq!(maxsim_workgroups(0), [0, 0]);
    }

    #[test]
    fn columns_shrink_until_there_is_enough_to_do() {
        assert_eq!(gemm_columns(32, 256), 1);
        assert_eq!(gemm_columns(64, 768), 2);
        assert_eq!(gemm_columns(4096, 256), 4);
        assert_eq!([1, 8, 9, 32, 33, 200].map(maxsim_columns), [8, 8, 16, 32, 64, 64]);
    }

    #[test]
    fn a_submission_stays_within_one_binding() {
        // BERT-base: 3072 wide.
        assert_eq!(capacity(32, 3072 * 4, MAX_BINDING_BYTES), Some(64));
        assert_eq!(capacity(5000, 3072 * 4, MAX_BINDING_BYTES), Some(5000));
        assert_eq!(capacity(100_000, 3072 * 4, MAX_BINDING_BYTES), None);
        assert_eq!(max_rows(1 << 20, MAX_BINDING_BYTES), 128);
        assert_eq!(capacity(100, 1 << 20, MAX_BINDING_BYTES), Some(128));
    }

    #[test]
    fn runs_keep_order_and_hold_every_text_once() {
        let lengths = [5, 5, 5, 20, 1, 9, 0, 10];
        let found = runs(lengths, 10);
        assert_eq!(found, [0..2, 2..3, 3..4, 4..7, 7..8]);
        for run in found {
            let total: usize = lengths[run.clone()].iter().sum();
            assert!(total <= 10 || run.len() == 1);
        }
        assert!(runs([], 10).is_empty());
    }
}
