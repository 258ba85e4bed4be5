//! A recommended track, as several routes return it.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::bundle::Vocabulary;
use crate::catalog::TrackName;
use crate::recommend::{Recommended, Source};

/// A recommended track.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Item {
    /// the app's id of the track
    #[schema(example = "spotify:track:5Wj1rJnCLpMHdLaxsFtJLs")]
    pub track_id: String,
    /// comparable within one source of one response only. `ranking`, `neumf`: between 0 and 1; `track2vec`: the cosine, in
    /// completions plus a little for popularity; `next`: any number; `popularity`: the share of all placements
    #[schema(example = 0.83)]
    pub score: f32,
    /// what recommended it: `ranking`, `neumf`, `track2vec`, `next` or `popularity`
    #[schema(example = "track2vec")]
    pub source: String,
    /// title of the track; null if neither the model nor the catalog can provide it
    pub name: Option<String>,
    /// name of its artist; null likewise, or if it has none
    pub artist: Option<String>,
}

/// A recommendation by the app's id, without a name yet.
#[derive(Debug, Clone)]
pub struct ScoredTrack {
    /// the app's id
    pub id: String,
    /// see [`Item::score`]
    pub score: f32,
    /// what recommended it
    pub source: Source,
}

impl ScoredTrack {
    /// Looks up the id of a recommended row.
    pub fn new(item: &Recommended, vocabulary: &Vocabulary) -> Self {
        Self { id: vocabulary.id(item.row).to_owned(), score: item.score, source: item.source }
    }

    /// Adds the name, if it is among `names`.
    pub fn named(self, names: &HashMap<String, TrackName>) -> Item {
        let found = names.get(&self.id);
        Item {
            name: found.map(|track| track.name.clone()),
            artist: found.and_then(|track| track.artist.clone()),
            track_id: self.id,
            score: self.score,
            source: self.source.as_str().to_owned(),
        }
    }
}

/// Returns the source of a response: that of its first item, or `popularity` if even that has no items.
pub fn source_of(first: Option<Source>) -> String {
    first.unwrap_or(Source::Popularity).as_str().to_owned()
}
