//! Folding a playlist into the factorization.

use crate::bundle::CompletionIndex;
use crate::math::linear::{add_outer, axpy, solve, vectorised};

/// The factor that the playlist of `seeds` would have: one least-squares solve with the tracks' factors held
/// (Hu, Koren, Volinsky 2008). `None` when no seed has a factor.
pub fn fold_in(index: &CompletionIndex, seeds: &[u32]) -> Option<Vec<f32>> {
    let dimensions = index.dimensions();
    let mut matrix = index.gram.to_vec();
    let mut right = vec![0.0; dimensions];
    vectorised(
        #[inline(always)]
        || {
            seeds.iter().for_each(|&seed| axpy(1.0 + index.alpha, index.factor(seed), &mut right));
            // Only the upper half: that is all the solver reads. Four seeds at a time, so that a sum is read and written
            // once for them.
            let (fours, rest) = seeds.as_chunks::<4>();
            for four in fours {
                let factors = four.map(|seed| index.factor(seed));
                for (row, sums) in matrix.chunks_exact_mut(dimensions).enumerate() {
                    let [one, two, three, four] = factors.map(|factor| &factor[row..]);
                    let along = [one[0], two[0], three[0], four[0]].map(|value| index.alpha * value);
                    let columns = one.iter().zip(two).zip(three).zip(four);
                    for (sum, (((one, two), three), four)) in sums[row..].iter_mut().zip(columns) {
                        *sum += along[0] * one + along[1] * two + along[2] * three + along[3] * four;
                    }
                }
            }
            rest.iter().for_each(|&seed| add_outer(index.alpha, index.factor(seed), &mut matrix));
        },
    );
    (right.iter().any(|&value| value != 0.0) && solve(&mut matrix, &mut right)).then_some(right)
}
