//! How many candidates are retrieved and ranked.

/// The longest list that the ranking is trained for: that of the RecSys Challenge 2018.
pub const LONGEST_ANSWER: usize = 500;

/// Returns how many candidates the trees rank for a list of `limit` tracks. A long list gains from more of them (half of
/// the held-out tracks are among 2,000, .47 among 1,500); a short one does not, and is faster: with 750 instead of 1,200
/// the best ten of the development challenge have as many hits (.2428 and .2426).
pub fn candidates_for(limit: usize) -> usize {
    (4 * limit).max((700 + 5 * limit).min(1_200))
}

/// Returns how many tracks are inspected to choose `candidates` from: each costs reading a factor somewhere in memory.
/// For a long list that pays: the factors find tracks that are rare in neighboring playlists.
pub fn closer_look_for(candidates: usize) -> usize {
    let times = if candidates >= candidates_for(LONGEST_ANSWER) { 4 } else { 2 };
    times * candidates
}

/// Returns how many candidates go through all trees for the best `limit`.
pub fn finalists_for(limit: usize) -> usize {
    const FEWEST: usize = 600;
    (2 * limit).max(FEWEST)
}
