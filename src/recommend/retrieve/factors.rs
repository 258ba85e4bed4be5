//! Folding a playlist into the factorisation.

use crate::bundle::CompletionIndex;
use crate::recommend::linear::{axpy, solve, vectorised};

/// The factor that the playlist of `seeds` would have: one least-squares solve with the tracks' factors held
/// (Hu, Koren, Volinsky 2008). `None` when no seed has a factor.
pub fn fold_in(index: &CompletionIndex, seeds: &[u32]) -> Option<Vec<f32>> {
    let dimensions = index.dimensions();
    let mut matrix = index.gram.to_vec();
    let mut right = vec![0.0; dimensions];
    vectorised(
        #[inline(always)]
        || {
            for &seed in seeds {
                let factor = index.factor(seed);
                axpy(1.0 + index.alpha, factor, &mut right);
                // Only the lower half: that is all the solver reads.
                for (row, &value) in factor.iter().enumerate() {
                    let from = row * dimensions;
                    axpy(index.alpha * value, &factor[..=row], &mut matrix[from..=from + row]);
                }
            }
        },
    );
    (right.iter().any(|&value| value != 0.0) && solve(&mut matrix, &mut right)).then_some(right)
}
