//! Lays the catalog's playlists out for retrieval.

use std::collections::HashMap;

use crate::bundle::{CompletionIndex, Derived};
use crate::dataset::top::sort_best;
use crate::dataset::{Corpus, Csr, NONE, TextIndex, Unit, normalise};
use crate::recommend::linear::gram;
use crate::train::als::{AlsSettings, factorise};

/// Neighbours kept of an artist.
const ARTIST_NEIGHBOURS: usize = 50;
/// An artist's neighbours are counted in at most this many of its playlists.
const ARTIST_SAMPLE: usize = 2_000;

/// An index of those of the corpus' playlists that `members` names. `each_iteration` hears of every iteration of the
/// factorisation and may stop it by answering false; then there is no index.
pub fn build_index(
    corpus: &Corpus,
    members: &[u32],
    settings: &AlsSettings,
    each_iteration: impl FnMut(usize) -> bool,
) -> Option<CompletionIndex> {
    let tracks = corpus.artist_of.len();
    let mut last_seen = vec![NONE; tracks];
    let playlists = Csr::from_lists(members.iter().map(|&member| {
        let rows = corpus.sequences.playlists.row(member as usize).iter().copied();
        let mut distinct = Vec::with_capacity(rows.len());
        for row in rows {
            if last_seen[row as usize] != member {
                last_seen[row as usize] = member;
                distinct.push(row);
            }
        }
        distinct
    }));
    let postings = playlists.transpose(tracks);
    let popularity = |row: u32| postings.row(row as usize).len();
    let mut popular: Vec<u32> = (0..tracks as u32).filter(|&row| popularity(row) > 0).collect();
    popular.sort_by_key(|&row| std::cmp::Reverse(popularity(row)));
    let grouped = |of: &[u32], groups: usize| {
        let mut lists = vec![Vec::new(); groups];
        for &row in popular.iter().filter(|&&row| of[row as usize] != NONE) {
            lists[of[row as usize] as usize].push(row);
        }
        lists
    };
    let artist_tracks = grouped(&corpus.artist_of, corpus.artist_names.len());
    let album_tracks = grouped(&corpus.album_of, corpus.album_names.len());
    let album_counts: Vec<u32> =
        album_tracks.iter().map(|rows| rows.iter().map(|&row| popularity(row) as u32).sum()).collect();

    let mut artist_weights = Vec::new();
    let playlist_artists = Csr::from_lists(playlists.iter().map(|rows| {
        let mut artists: Vec<u32> = rows.iter().map(|&row| corpus.artist_of[row as usize]).collect();
        artists.sort_unstable();
        artist_weights.extend(artists.chunk_by(|left, right| left == right).map(|run| (run.len() as f32).ln_1p()));
        artists.dedup();
        artists
    }));
    let artist_postings = playlist_artists.transpose(corpus.artist_names.len());
    let artist_counts: Vec<u32> = artist_postings.iter().map(|list| list.len() as u32).collect();
    let (artist_neighbours, artist_neighbour_weights) = neighbours(&playlist_artists, &artist_postings);

    let mut title_rows: HashMap<String, u32> = HashMap::new();
    let (mut titles, mut titled): (Vec<String>, Vec<Vec<u32>>) = (Vec::new(), Vec::new());
    for (playlist, &member) in members.iter().enumerate() {
        let title = normalise(&corpus.titles[member as usize]);
        if title.is_empty() {
            continue;
        }
        let row = *title_rows.entry(title).or_insert_with_key(|title| {
            titles.push(title.clone());
            titled.push(Vec::new());
            titles.len() as u32 - 1
        });
        titled[row as usize].push(playlist as u32);
    }
    let artist_names: Vec<String> = corpus.artist_names.iter().map(|name| normalise(name)).collect();
    let track_names: Vec<String> = corpus.track_names.iter().map(|name| normalise(name)).collect();
    let factors = factorise(&playlists, &postings, settings, each_iteration)?;
    let mut gram = gram(&factors, settings.factors, settings.threads);
    for diagonal in 0..settings.factors {
        gram[diagonal * settings.factors + diagonal] += settings.regularization;
    }
    let mut index = CompletionIndex {
        popular: popular.into(),
        artist_of: corpus.artist_of.clone().into(),
        album_of: corpus.album_of.clone().into(),
        artist_tracks: Csr::from_lists(artist_tracks),
        album_tracks: Csr::from_lists(album_tracks),
        artist_counts: artist_counts.into(),
        album_counts: album_counts.into(),
        playlist_artists,
        playlist_artist_weights: artist_weights.into(),
        artist_neighbours,
        artist_neighbour_weights: artist_neighbour_weights.into(),
        titles: TextIndex::new(Unit::Gram, titles.iter().map(String::as_str)),
        title_playlists: Csr::from_lists(titled),
        artist_names: TextIndex::new(Unit::Gram, artist_names.iter().map(String::as_str)),
        artist_words: TextIndex::new(Unit::Word, artist_names.iter().map(String::as_str)),
        track_words: TextIndex::new(Unit::Word, track_names.iter().map(String::as_str)),
        factors: factors.into(),
        gram: gram.into(),
        alpha: settings.alpha,
        playlists,
        postings,
        derived: Derived::default(),
    };
    index.derive();
    Some(index)
}

/// For each artist the ones that most often share playlists with it, popularity discounted.
fn neighbours(playlist_artists: &Csr, postings: &Csr) -> (Csr, Vec<f32>) {
    let discount: Vec<f32> = postings.iter().map(|list| (list.len() as f32 + 20.0).powf(0.75)).collect();
    let mut together = vec![0.0f32; postings.rows()];
    let mut weights = Vec::new();
    let lists = (0..postings.rows() as u32).map(|artist| {
        let mut touched: Vec<u32> = Vec::new();
        let list = postings.row(artist as usize);
        let stride = list.len().div_ceil(ARTIST_SAMPLE).max(1);
        for &playlist in list.iter().step_by(stride) {
            for &other in playlist_artists.row(playlist as usize) {
                if together[other as usize] == 0.0 {
                    touched.push(other);
                }
                together[other as usize] += stride as f32;
            }
        }
        let own = (list.len() as f32 + 20.0).powf(0.25);
        let mut scored: Vec<(u32, f32)> = touched
            .iter()
            .filter(|&&other| other != artist)
            .map(|&other| (other, together[other as usize] / (discount[other as usize] * own)))
            .collect();
        for other in touched {
            together[other as usize] = 0.0;
        }
        sort_best(&mut scored, ARTIST_NEIGHBOURS);
        weights.extend(scored.iter().map(|neighbour| neighbour.1));
        scored.into_iter().map(|neighbour| neighbour.0).collect::<Vec<u32>>()
    });
    let lists = Csr::from_lists(lists);
    (lists, weights)
}
