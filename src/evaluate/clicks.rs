//! Click probability: how well probabilities order listens, and how far they can be believed.

use serde::{Deserialize, Serialize};

/// Bins of the reliability table.
const BINS: usize = 10;

/// The area under the ROC curve: the chance that a listen after which the user came back has a higher score than another,
/// ties counting half. One half when all are alike.
pub fn auc(scores: &[f32], targets: &[bool]) -> f64 {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_unstable_by(|&left, &right| scores[left].total_cmp(&scores[right]));
    let (mut ranks, mut positives) = (0.0, 0usize);
    let mut begin = 0;
    while begin < order.len() {
        let mut end = begin;
        while end < order.len() && scores[order[end]] == scores[order[begin]] {
            end += 1;
        }
        let rank = (begin + end + 1) as f64 / 2.0;
        let tied = order[begin..end].iter().filter(|&&row| targets[row]).count();
        ranks += rank * tied as f64;
        positives += tied;
        begin = end;
    }
    let negatives = order.len() - positives;
    if positives == 0 || negatives == 0 {
        return 0.5;
    }
    (ranks - positives as f64 * (positives as f64 + 1.0) / 2.0) / (positives as f64 * negatives as f64)
}

/// A bin of the reliability table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// listens whose probability lies in it
    pub listens: usize,
    /// mean of their probabilities
    pub predicted: f64,
    /// share of them after which the user came back
    pub observed: f64,
}

/// How good probabilities are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClickMetrics {
    /// area under the ROC curve
    pub auc: f64,
    /// mean of −ln of the probability given to what happened
    pub logloss: f64,
    /// mean over tenths of the scale from 0 to 1 of |predicted − observed|, weighted by listens (Naeini et al. 2015)
    pub calibration_error: f64,
    /// area under the curve of each user with both outcomes, weighted by listens
    pub user_auc: f64,
    /// users behind it
    pub users: usize,
    /// listens measured
    pub listens: usize,
    /// share of them after which the user came back
    pub positive: f64,
    /// tenths of the scale
    pub reliability: Vec<ReliabilityBin>,
}

/// Measures log-odds.
pub fn measure_clicks(log_odds: &[f32], targets: &[bool], users: &[u32]) -> ClickMetrics {
    let mut bins = vec![ReliabilityBin::default(); BINS];
    let mut loss = 0.0;
    for (&score, &target) in log_odds.iter().zip(targets) {
        let score = f64::from(score);
        let probability = 1.0 / (1.0 + (-score).exp());
        // −ln p = ln(1 + e^−s), in a form that does not overflow
        let margin = if target { -score } else { score };
        loss += margin.max(0.0) + (-margin.abs()).exp().ln_1p();
        let bin = &mut bins[((probability * BINS as f64) as usize).min(BINS - 1)];
        bin.listens += 1;
        bin.predicted += probability;
        bin.observed += f64::from(u8::from(target));
    }
    let all = targets.len().max(1) as f64;
    let error: f64 = bins.iter().map(|bin| (bin.predicted - bin.observed).abs()).sum::<f64>() / all;
    for bin in &mut bins {
        bin.predicted /= bin.listens.max(1) as f64;
        bin.observed /= bin.listens.max(1) as f64;
    }
    let mut order: Vec<usize> = (0..users.len()).collect();
    order.sort_by_key(|&row| users[row]);
    let (mut sum, mut weight, mut counted) = (0.0, 0.0, 0);
    for rows in order.chunk_by(|&left, &right| users[left] == users[right]) {
        let own: Vec<bool> = rows.iter().map(|&row| targets[row]).collect();
        if own.iter().all(|&target| target == own[0]) {
            continue;
        }
        let scores: Vec<f32> = rows.iter().map(|&row| log_odds[row]).collect();
        sum += auc(&scores, &own) * rows.len() as f64;
        weight += rows.len() as f64;
        counted += 1;
    }
    ClickMetrics {
        auc: auc(log_odds, targets),
        logloss: loss / all,
        calibration_error: error,
        user_auc: if weight > 0.0 { sum / weight } else { 0.5 },
        users: counted,
        listens: targets.len(),
        positive: targets.iter().filter(|&&target| target).count() as f64 / all,
        reliability: bins,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_is_the_share_of_pairs_in_order() {
        let targets = [true, false, true, false, true];
        let scores = [0.9, 0.1, 0.4, 0.4, 0.2];
        // Pairs: .9 above both, .4 above .1 and level with .4, .2 above .1 alone: (2 + 1.5 + 1) / 6
        assert!((auc(&scores, &targets) - 4.5 / 6.0).abs() < 1e-12);
        assert_eq!(auc(&[1.0, 2.0], &[true, true]), 0.5);
        let negated: Vec<f32> = scores.iter().map(|score| -score).collect();
        assert!((auc(&negated, &targets) - 1.5 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn loss_and_calibration_are_those_of_hand_computed_probabilities() {
        // Probabilities .75, .75 and .25, of which one .75 was wrong.
        let odds = 3f32.ln();
        let metrics = measure_clicks(&[odds, odds, -odds], &[true, false, false], &[7, 7, 8]);
        let expected = -(0.75f64.ln() + 0.25f64.ln() + 0.75f64.ln()) / 3.0;
        assert!((metrics.logloss - expected).abs() < 1e-6);
        // Bin of .75: 1.5 predicted, 1 observed; bin of .25: .25 and 0.
        assert!((metrics.calibration_error - 0.75 / 3.0).abs() < 1e-6, "{metrics:?}");
        assert_eq!((metrics.reliability[7].listens, metrics.reliability[7].observed), (2, 0.5));
        // User 7 has one of each, at one score; user 8 has one outcome alone.
        assert_eq!((metrics.user_auc, metrics.users), (0.5, 1));
        assert!(measure_clicks(&[200.0, -200.0], &[false, true], &[1, 2]).logloss.is_finite());
    }
}
