//! Diversification by maximal marginal relevance (Carbonell and Goldstein 1998).

use crate::bundle::CompletionIndex;
use crate::math::linear::dot;

/// How much of the likeness of two tracks is that they have the same artist; the rest is the cosine of their factors.
const SAME_ARTIST: f32 = 0.5;
/// Fewest tracks that a diversified list is chosen from.
const POOL: usize = 300;

/// Returns how many of the most relevant tracks a diversified list of `limit` is chosen from: for a fan of a prolific
/// artist, the best few dozen may all be by that artist.
pub fn pool_for(limit: usize) -> usize {
    (3 * limit).max(POOL)
}

/// Returns how alike two tracks are, 0..1: half the cosine of their factors, and half that they have the same artist.
pub fn likeness(index: &CompletionIndex, left: u32, right: u32) -> f32 {
    let norms = index.derived.inverse_norm[left as usize] * index.derived.inverse_norm[right as usize];
    let cosine = dot(index.factor(left), index.factor(right)) * norms;
    let same_artist = index.artist(left).is_some_and(|artist| index.artist(right) == Some(artist));
    (1.0 - SAME_ARTIST) * cosine.max(0.0) + SAME_ARTIST * f32::from(u8::from(same_artist))
}

/// Chooses `limit` of `rows` (best first, with their `relevance`), one by one: each time the one that has most of
/// (1 − diversity) · relevance − diversity · likeness to the most similar one chosen before; relevance is scaled to 0..1.
/// Returns indices into `rows`.
pub fn diversify(
    likeness: impl Fn(u32, u32) -> f32,
    rows: &[u32],
    relevance: &[f32],
    diversity: f32,
    limit: usize,
) -> Vec<usize> {
    let highest = relevance.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let lowest = relevance.iter().copied().fold(f32::INFINITY, f32::min);
    let span = (highest - lowest).max(f32::MIN_POSITIVE);
    let relevance: Vec<f32> = relevance.iter().map(|value| (value - lowest) / span).collect();
    let mut nearest = vec![0.0f32; rows.len()];
    let mut left: Vec<usize> = (0..rows.len()).collect();
    let mut chosen = Vec::with_capacity(limit.min(rows.len()));
    let value = |place: usize, nearest: &[f32]| (1.0 - diversity) * relevance[place] - diversity * nearest[place];
    while chosen.len() < limit {
        // The first of equal ones: `left` is in order of relevance.
        let best = left
            .iter()
            .enumerate()
            .rev()
            .max_by(|&(_, &one), &(_, &other)| value(one, &nearest).total_cmp(&value(other, &nearest)));
        let Some((position, &place)) = best else { break };
        left.remove(position);
        chosen.push(place);
        for &other in &left {
            nearest[other] = nearest[other].max(likeness(rows[place], rows[other]));
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four tracks of two artists; tracks 0 and 1 have the same factor.
    fn index() -> CompletionIndex {
        let mut index = CompletionIndex {
            postings: crate::math::Csr::from_lists([[0], [0], [0], [0]]),
            artist_of: vec![0, 0, 1, 1].into(),
            artist_counts: vec![1, 1].into(),
            factors: vec![1.0, 0.0, 1.0, 0.0, 0.6, 0.8, 0.0, 1.0].into(),
            gram: vec![1.0; 4].into(),
            ..CompletionIndex::default()
        };
        index.derive();
        index
    }

    #[test]
    fn more_diversity_puts_what_is_alike_further_back() {
        let (rows, relevance, index) = ([0, 1, 2, 3], [1.0, 0.9, 0.5, 0.0], index());
        let alike = |left, right| likeness(&index, left, right);
        let order = |diversity| diversify(alike, &rows, &relevance, diversity, 4);
        assert_eq!(order(0.0), [0, 1, 2, 3]);
        assert_eq!(order(0.6), [0, 2, 1, 3]);
        assert_eq!(order(1.0), [0, 3, 2, 1]);
        assert_eq!(diversify(alike, &rows, &relevance, 0.5, 2).len(), 2);
        assert!(diversify(alike, &[], &[], 0.5, 2).is_empty());

        let without = CompletionIndex { artist_of: vec![crate::dataset::NONE; 4].into(), ..index };
        // Half the cosine: they have no artist in common.
        assert!((likeness(&without, 2, 3) - 0.4).abs() < 1e-6);
    }
}
