//! Calibration of scores, and the weights of an ensemble's members.

use crate::bundle::ClickMember;
use crate::dataset::listens::ClickTable;
use crate::evaluate::{ClickMetrics, measure_clicks};

/// Chooses the members' weights by forward selection with replacement (Caruana et al. 2004) for the least loss on the
/// validation part, and calibrates their sum.
///
/// Returns slope and intercept of the sum, and what the ensemble scores on the validation part.
pub(super) fn weigh(
    members: &mut [ClickMember],
    scores: &[Vec<f32>],
    validation: &ClickTable,
) -> ((f32, f32), ClickMetrics) {
    /// Choices; each weighs as much as the others.
    const ROUNDS: usize = 20;
    let mut picks = vec![0usize; scores.len()];
    let mut sum = vec![0.0f32; validation.rows()];
    for round in 1..=ROUNDS {
        let loss = |member: usize| {
            let mean: Vec<f32> =
                sum.iter().zip(&scores[member]).map(|(sum, score)| (sum + score) / round as f32).collect();
            measure_clicks(&mean, &validation.targets, &[]).logloss
        };
        let losses: Vec<f64> = (0..scores.len()).map(loss).collect();
        let best = (0..scores.len()).min_by(|&left, &right| losses[left].total_cmp(&losses[right])).unwrap_or(0);
        picks[best] += 1;
        sum.iter_mut().zip(&scores[best]).for_each(|(sum, score)| *sum += score);
    }
    for (member, count) in members.iter_mut().zip(picks) {
        member.weight = count as f32 / ROUNDS as f32;
    }
    sum.iter_mut().for_each(|sum| *sum /= ROUNDS as f32);
    let (slope, intercept) = calibrate(&sum, &validation.targets);
    let calibrated: Vec<f32> = sum.iter().map(|score| slope * score + intercept).collect();
    ((slope, intercept), measure_clicks(&calibrated, &validation.targets, &validation.users))
}

/// Slope and intercept that make log-odds of scores (Platt 1999), by Newton's method with steps halved until the loss falls;
/// drawn a little to 1 and 0.
pub(super) fn calibrate(scores: &[f32], targets: &[bool]) -> (f32, f32) {
    /// Weight of the prior that scores are right as they are.
    const PRIOR: (f64, f64) = (10.0, 1.0);
    let loss = |slope: f64, intercept: f64| {
        let of_rows = scores.iter().zip(targets).map(|(&score, &target)| {
            let odds = slope * f64::from(score) + intercept;
            let margin = if target { -odds } else { odds };
            margin.max(0.0) + (-margin.abs()).exp().ln_1p()
        });
        of_rows.sum::<f64>() + 0.5 * (PRIOR.0 * (slope - 1.0).powi(2) + PRIOR.1 * intercept.powi(2))
    };
    let (mut slope, mut intercept) = (1.0f64, 0.0f64);
    let mut current = loss(slope, intercept);
    for _ in 0..50 {
        let (mut by_slope, mut by_intercept) = (PRIOR.0 * (slope - 1.0), PRIOR.1 * intercept);
        let (mut second_slope, mut second_both, mut second_intercept) = (PRIOR.0, 0.0, PRIOR.1);
        for (&score, &target) in scores.iter().zip(targets) {
            let score = f64::from(score);
            let probability = 1.0 / (1.0 + (-(slope * score + intercept)).exp());
            let error = probability - f64::from(u8::from(target));
            let curvature = probability * (1.0 - probability);
            by_slope += error * score;
            by_intercept += error;
            second_slope += curvature * score * score;
            second_both += curvature * score;
            second_intercept += curvature;
        }
        let determinant = second_slope * second_intercept - second_both * second_both;
        let slope_step = (second_intercept * by_slope - second_both * by_intercept) / determinant;
        let intercept_step = (second_slope * by_intercept - second_both * by_slope) / determinant;
        let halved = (0..30).map(|halvings| 0.5f64.powi(halvings)).find_map(|share| {
            let next = (slope - share * slope_step, intercept - share * intercept_step);
            let found = loss(next.0, next.1);
            (found < current).then_some((next, found))
        });
        let Some((next, found)) = halved else { break };
        (slope, intercept) = next;
        let gained = current - found;
        current = found;
        if gained < 1e-9 * current.abs() {
            break;
        }
    }
    (slope as f32, intercept as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calibration_finds_the_odds_behind_scores() {
        // Scores twice too large, by one too high; 800 listens at each of two odds.
        let (mut scores, mut targets) = (Vec::new(), Vec::new());
        for (odds, positive) in [(3f32.ln(), 600), (-(3f32.ln()), 200)] {
            for listen in 0..800 {
                scores.push(2.0 * odds + 1.0);
                targets.push(listen < positive);
            }
        }
        let (slope, intercept) = calibrate(&scores, &targets);
        assert!((slope - 0.5).abs() < 0.02 && (intercept + 0.5).abs() < 0.03, "{slope} {intercept}");
    }
}
