//! Playlists like the query: by the tracks they share, and by title.

use super::query::Query;
use super::sums::{ARTIST_NEIGHBOURS, LAST_SEEDS, NEIGHBOURS, Neighbour, Neighbourhood, TITLED, TrackSums};
use super::workspace::Workspace;
use crate::bundle::CompletionIndex;
use crate::math::even_sample;
use crate::math::top_k::sort_best;

/// A seed in this many playlists counts about half of one in a single playlist (exponent of Kelen et al. 2018).
const POPULARITY_EXPONENT: f32 = 0.38;
/// Most playlists of an artist that are inspected.
const ARTIST_POSTINGS: usize = 5_000;
/// Most playlists of a track that are inspected: a track in more of them says little about what goes with it, and a
/// hundred such tracks would cost more than everything else.
const TRACK_POSTINGS: usize = 20_000;
/// Distinct titles that vote.
const TITLES: usize = 200;

/// Finds playlists that share tracks or the title's words.
pub fn neighbours(
    index: &CompletionIndex,
    query: &Query,
    workspace: &mut Workspace,
) -> (Vec<Neighbour>, Neighbourhood) {
    let mut about = Neighbourhood::default();
    let playlists = index.playlists.rows().max(1) as f32;
    let first_of_last = query.seeds.len().saturating_sub(LAST_SEEDS);
    let overlaps = &mut workspace.overlaps;
    for (position, &seed) in query.seeds.iter().enumerate() {
        let popularity = index.popularity(seed) as f32;
        let similarity = 1.0 / (((popularity - 1.0).max(0.0)).powf(POPULARITY_EXPONENT) + 1.0);
        let item = (playlists / popularity).ln().max(1e-3) / (popularity + 20.0).powf(0.25);
        let last = f32::from(u8::from(position >= first_of_last));
        for &playlist in even_sample(index.postings.row(seed as usize), TRACK_POSTINGS) {
            let overlap = overlaps.touch(playlist);
            overlap.seeds += 1.0;
            overlap.similarity += similarity;
            overlap.item += item;
            overlap.last += last;
        }
    }
    let root = (query.seeds.len().max(1) as f32).sqrt();
    let mut found: Vec<(u32, f32)> = Vec::new();
    for playlist in overlaps.touched() {
        let overlap = overlaps.get(playlist);
        let length = index.playlists.row(playlist as usize).len() as f32;
        // One that holds nothing but seeds has nothing to give; often it is the very playlist that is asked about.
        if overlap.seeds < length {
            about.most_seeds = about.most_seeds.max(overlap.seeds);
            found.push((playlist, overlap.similarity / (length.sqrt() * root)));
        }
    }
    about.overlapping = found.len();
    sort_best(&mut found, NEIGHBOURS);
    let highest = found.first().map_or(1.0, |neighbour| neighbour.1);
    about.best_similarity = found.first().map_or(0.0, |neighbour| neighbour.1);

    let by_title = &mut workspace.titles;
    if !query.title.is_empty() {
        let titles = index.titles.search(&query.title, TITLES);
        about.best_title = titles.first().map_or(0.0, |title| title.1);
        let mut titled = 0;
        for (title, similarity) in titles {
            if titled >= TITLED {
                break;
            }
            let same = f32::from(u8::from(similarity > 0.9999));
            for &playlist in even_sample(index.title_playlists.row(title as usize), TITLED - titled) {
                titled += 1;
                *by_title.touch(playlist) = [similarity * similarity, same];
                about.same_title += usize::from(same > 0.0);
            }
        }
    }
    let mut neighbours: Vec<Neighbour> = found
        .iter()
        .map(|&(playlist, similarity)| {
            let overlap = overlaps.get(playlist);
            let [title, same_title] = by_title.get(playlist);
            let share = similarity / highest;
            let gives = TrackSums {
                knn: share * share,
                item: overlap.item,
                together: 1.0,
                last: overlap.last,
                title,
                same_title,
                joint: (share + title) * share,
                artist_knn: 0.0,
            };
            Neighbour { playlist, gives }
        })
        .collect();
    for playlist in by_title.touched() {
        if !overlaps.holds(playlist) {
            let [title, same_title] = by_title.get(playlist);
            let gives = TrackSums { title, same_title, ..TrackSums::default() };
            neighbours.push(Neighbour { playlist, gives });
        }
    }
    (neighbours, about)
}

/// Adds playlists that are near by their artists: as playlist-kNN, with artists in place of tracks.
pub fn add_by_artists(
    index: &CompletionIndex,
    query: &Query,
    neighbours: &mut Vec<Neighbour>,
    workspace: &mut Workspace,
) {
    let Workspace { by_artists, places, .. } = workspace;
    let mut artists: Vec<u32> = query.seeds.iter().filter_map(|&seed| index.artist(seed)).collect();
    artists.sort_unstable();
    for run in artists.chunk_by(|left, right| left == right) {
        let postings = index.derived.artist_postings.row(run[0] as usize);
        let weight = (run.len() as f32 / (postings.len() as f32 + 5.0)).sqrt();
        for &playlist in even_sample(postings, ARTIST_POSTINGS) {
            *by_artists.touch(playlist) += weight;
        }
    }
    let mut found: Vec<(u32, f32)> = by_artists
        .touched()
        .map(|playlist| {
            (playlist, by_artists.get(playlist) / (index.playlists.row(playlist as usize).len() as f32).sqrt())
        })
        .collect();
    sort_best(&mut found, ARTIST_NEIGHBOURS);
    let lowest = if found.len() == ARTIST_NEIGHBOURS { found.last().map_or(0.0, |last| last.1) } else { 0.0 };
    let highest = found.first().map_or(1.0, |first| first.1);
    for (place, neighbour) in neighbours.iter().enumerate() {
        *places.touch(neighbour.playlist) = place as u32 + 1;
    }
    for (playlist, similarity) in found {
        let above = (similarity - lowest) / highest;
        let artist_knn = above * above;
        match places.get(playlist) {
            0 if artist_knn > 0.0 => {
                let gives = TrackSums { artist_knn, ..TrackSums::default() };
                neighbours.push(Neighbour { playlist, gives });
            }
            0 => {}
            place => neighbours[place as usize - 1].gives.artist_knn = artist_knn,
        }
    }
}
