//! How many candidates are retrieved and ranked.

/// The longest answer that the ranking is trained for: that of the RecSys Challenge 2018.
pub const LONGEST_ANSWER: usize = 500;

/// Candidates that are ranked by the trees for an answer of `limit` tracks. A long answer gains from more of them (half
/// of what playlists go on with is among 2,000, .47 among 1,500); a short one does not, and is sooner there: with 750
/// instead of 1,200 the best ten of the development challenge hold as many hits (.2428 and .2426).
pub fn candidates_for(limit: usize) -> usize {
    (4 * limit).max((700 + 5 * limit).min(1_200))
}

/// Tracks that are looked at closer to choose `candidates` from: each costs a look at a factor somewhere in memory. For a
/// long answer that is worth while: the factors find tracks that neighbouring playlists hold too seldom.
pub fn closer_look_for(candidates: usize) -> usize {
    let times = if candidates >= candidates_for(LONGEST_ANSWER) { 4 } else { 2 };
    times * candidates
}

/// Candidates that go through all trees for the best `limit`.
pub fn finalists_for(limit: usize) -> usize {
    const FEWEST: usize = 600;
    (2 * limit).max(FEWEST)
}
