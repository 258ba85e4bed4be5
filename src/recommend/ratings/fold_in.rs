//! A user's taste from the user's ratings: one linear solve, at request time as in training.
//!
//! What is left of a rating after the track's base is x · w + s + ε: x describes the track, w is the user's taste with
//! the prior N(0, Λ⁻¹), s an effect of the session in which the rating was given, with variance ρ, and ε noise of
//! variance 1 (all in units of the noise). That is a Gaussian process with the kernel x Λ⁻¹ x' + ρ [same session]
//! (Rasmussen and Williams 2006, section 2.1), in the form whose cost is linear in the ratings: w is the mean of its
//! posterior,
//!
//! w = (Λ + Xᵀ R⁻¹ X)⁻¹ Xᵀ R⁻¹ e, with R = 1 + ρ [same session].
//!
//! R⁻¹ is known in closed form: with the n ratings of a session taken off their mean, it leaves what is off the mean as
//! it is and multiplies what n means say by 1/(1 + n ρ). So nothing large is ever subtracted from something as large.

use crate::math::linear::{add_outer, axpy, dot, solve};

/// A rating to learn from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Residual {
    /// row of the track
    pub row: u32,
    /// the rating less the track's base
    pub value: f32,
    /// seconds since 1970
    pub at: i64,
}

/// What is assumed of users before anything is known of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prior<'a> {
    /// `[D]`: diagonal of Λ
    pub precisions: &'a [f32],
    /// ρ
    pub session_ratio: f32,
    /// a pause of more seconds ends a session
    pub session_gap_seconds: i64,
}

/// A stretch of time without a long pause.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Session {
    /// first and last rating, in seconds since 1970
    pub first: i64,
    /// see `first`
    pub last: i64,
    /// what ratings in it are off
    pub effect: f32,
}

/// What a user's ratings say of the user.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FoldedIn {
    /// `[D]`: w
    pub weights: Vec<f32>,
    /// in order of time
    pub sessions: Vec<Session>,
}

impl FoldedIn {
    /// The effect of the session that a rating at `at` would belong to; 0 in a new one.
    pub fn session_effect(&self, at: i64, gap_seconds: i64) -> f32 {
        let distance = |session: &Session| (session.first - at).max(at - session.last).max(0);
        let after = self.sessions.partition_point(|session| session.first <= at);
        let near = self.sessions[after.saturating_sub(1)..].iter().take(2);
        let nearest = near.min_by_key(|session| distance(session));
        nearest.filter(|session| distance(session) <= gap_seconds).map_or(0.0, |session| session.effect)
    }
}

/// The taste behind `residuals`, oldest first; `features` is `[T, D]`.
pub fn fold_in(residuals: &[Residual], features: &[f32], prior: Prior<'_>) -> FoldedIn {
    let columns = prior.precisions.len();
    let feature = |row: u32| &features[row as usize * columns..(row as usize + 1) * columns];
    let mut matrix = vec![0.0; columns * columns];
    for (column, &precision) in prior.precisions.iter().enumerate() {
        matrix[column * columns + column] = precision;
    }
    let mut weights = vec![0.0; columns];
    let (mut means, mut sessions) = (Vec::new(), Vec::new());
    let mut off = vec![0.0; columns];
    for session in residuals.chunk_by(|left, right| right.at - left.at <= prior.session_gap_seconds) {
        let count = session.len() as f32;
        let mut mean = vec![0.0; columns];
        session.iter().for_each(|residual| axpy(1.0 / count, feature(residual.row), &mut mean));
        let mean_value = session.iter().map(|residual| residual.value).sum::<f32>() / count;
        for residual in session {
            for ((off, value), mean) in off.iter_mut().zip(feature(residual.row)).zip(&mean) {
                *off = value - mean;
            }
            add_outer(1.0, &off, &mut matrix);
            axpy(residual.value - mean_value, &off, &mut weights);
        }
        let weight = count / (1.0 + count * prior.session_ratio);
        add_outer(weight, &mean, &mut matrix);
        axpy(weight * mean_value, &mean, &mut weights);
        let (first, last) = (session[0].at, session[session.len() - 1].at);
        sessions.push(Session { first, last, effect: weight * prior.session_ratio });
        means.push((mean, mean_value));
    }
    if !solve(&mut matrix, &mut weights) {
        weights.fill(0.0);
    }
    for (session, (mean, mean_value)) in sessions.iter_mut().zip(means) {
        session.effect *= mean_value - dot(&mean, &weights);
    }
    FoldedIn { weights, sessions }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn residual(row: u32, value: f32, at: i64) -> Residual {
        Residual { row, value, at }
    }

    /// Two ratings and one column: (Λ + Σ x²) w = Σ x e.
    #[test]
    fn without_sessions_it_is_ridge_regression() {
        let prior = Prior { precisions: &[2.0], session_ratio: 0.0, session_gap_seconds: 10 };
        let folded = fold_in(&[residual(0, 1.0, 0), residual(1, -2.0, 1_000)], &[1.0, 3.0], prior);
        assert!((folded.weights[0] - (1.0 - 6.0) / (2.0 + 1.0 + 9.0)).abs() < 1e-6, "{folded:?}");
        assert_eq!(folded.session_effect(0, 10), 0.0);
    }

    /// Against the same Gaussian process in its other form, with kernels between ratings: α = (K + 1)⁻¹ e.
    #[test]
    fn with_sessions_it_is_the_gaussian_process_with_their_kernel() {
        let features = [1.0, 0.5, 1.0, -0.3, 1.0, 0.8, 1.0, 0.1];
        let (precisions, ratio) = ([4.0, 2.0], 0.6);
        let ratings = [residual(0, 0.7, 0), residual(1, -0.2, 50), residual(2, 1.1, 90), residual(3, -0.9, 5_000)];
        let prior = Prior { precisions: &precisions, session_ratio: ratio, session_gap_seconds: 100 };
        let folded = fold_in(&ratings, &features, prior);

        let session = |rating: &Residual| rating.at > 1_000;
        let kernel = |left: &Residual, right: &Residual| {
            let columns = 0..2usize;
            let linear: f32 = columns
                .map(|column| {
                    features[left.row as usize * 2 + column] * features[right.row as usize * 2 + column]
                        / precisions[column]
                })
                .sum();
            linear + if session(left) == session(right) { ratio } else { 0.0 }
        };
        let mut matrix: Vec<f32> = ratings
            .iter()
            .flat_map(|left| ratings.iter().map(move |right| (left, right)))
            .map(|(left, right)| kernel(left, right) + f32::from(left == right))
            .collect();
        let mut alphas: Vec<f32> = ratings.iter().map(|rating| rating.value).collect();
        assert!(solve(&mut matrix, &mut alphas));
        for asked in [residual(1, 0.0, 100), residual(0, 0.0, 5_050)] {
            let expected: f32 = ratings.iter().zip(&alphas).map(|(rating, alpha)| alpha * kernel(&asked, rating)).sum();
            let feature = &features[asked.row as usize * 2..][..2];
            let found = dot(feature, &folded.weights) + folded.session_effect(asked.at, 100);
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
        // In a session of its own, and without ratings.
        assert_eq!(folded.session_effect(2_500, 100), 0.0);
        assert_eq!(fold_in(&[], &features, prior).weights, [0.0, 0.0]);
    }

    #[test]
    fn a_session_is_found_from_before_and_behind() {
        let session = |first, last, effect| Session { first, last, effect };
        let folded = FoldedIn { weights: vec![], sessions: vec![session(100, 200, 0.5), session(400, 500, -0.5)] };
        let effects = [50, 95, 150, 209, 211, 395, 505, 600].map(|at| folded.session_effect(at, 10));
        assert_eq!(effects, [0.0, 0.5, 0.5, 0.5, 0.0, -0.5, -0.5, 0.0]);
    }
}
