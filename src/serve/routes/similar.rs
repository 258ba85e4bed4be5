//! Tracks similar to one.

use std::collections::HashMap;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::bundle::{Kind, Vocabulary};
use crate::catalog::TrackName;
use crate::recommend::{Completion, Recommended, Source};
use crate::serve::AppState;
use crate::serve::engine::Lane;
use crate::serve::error::{ApiError, Problem};
use crate::serve::extract::{Limit, query};
use crate::serve::withheld::Reason;

/// Route of similar tracks.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(similar))
}

/// A recommended track.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Item {
    /// the app's id of the track
    #[schema(example = "spotify:track:5Wj1rJnCLpMHdLaxsFtJLs")]
    pub track_id: String,
    /// comparable within one source of one answer: for `ranking` and `neumf` between 0 and 1; for `track2vec` the cosine,
    /// in completions plus a little for popularity; for `popularity` the share of all placements
    #[schema(example = 0.83)]
    pub score: f32,
    /// what recommends it: `ranking`, `neumf`, `track2vec` or `popularity`
    #[schema(example = "track2vec")]
    pub source: String,
    /// title of the track; null when neither the model nor the catalog has it at hand
    pub name: Option<String>,
    /// name of its artist; null likewise
    pub artist: Option<String>,
}

/// Tracks similar to one.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SimilarTracks {
    /// the track asked about
    pub track_id: String,
    /// version of the model that answered
    pub model_version: String,
    /// what the answer rests on: `track2vec`, or `popularity` for a track that the model does not know yet
    #[schema(example = "track2vec")]
    pub source: String,
    /// nearest first
    pub items: Vec<Item>,
}

/// Query of similar tracks.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SimilarQuery {
    /// number of tracks
    #[serde(default)]
    #[param(value_type = i64, minimum = 1, maximum = 500, default = 50)]
    limit: Limit,
    /// a published version of the model; left out, the current one
    version: Option<String>,
}

/// The tracks most like one, nearest first: those that occur in the same places of playlists.
#[utoipa::path(get, path = "/tracks/{id}/similar", tag = "tracks",
    params(("id" = String, Path, description = "the app's id of the track, percent-encoded"), SimilarQuery),
    responses((status = 200, description = "Similar tracks", body = SimilarTracks),
              (status = 404, description = "No such track, or version of the model", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "That version is damaged", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json"),
              (status = 503, description = "No model, or too busy", body = Problem, content_type = "application/problem+json")))]
async fn similar(
    State(state): State<AppState>,
    Path(id): Path<String>,
    parameters: Result<Query<SimilarQuery>, QueryRejection>,
) -> Result<Json<SimilarTracks>, ApiError> {
    let SimilarQuery { limit, version } = query(parameters)?;
    let limit = limit.get();
    let loaded = state.models.similarity_of(version.as_deref()).await?.ok_or(ApiError::NoModel(Kind::Similarity))?;
    let withheld = state.withheld.snapshot();
    // The model may know a track that was deleted since.
    let row = loaded.model.vocabulary().row(&id).filter(|_| withheld.reason(&id) != Some(Reason::Removed));
    if row.is_none() && state.catalog()?.track(&id).await?.is_none() {
        return Err(ApiError::UnknownTrack(id));
    }
    let model_version = loaded.manifest.version.clone();
    let recommended = state
        .engine
        .run(Lane::Quick, move || {
            let withheld = loaded.withheld(&withheld);
            let recommended = match row {
                Some(row) => {
                    loaded.model.nearest(&Completion { seeds: vec![row], withheld, limit, ..Default::default() })
                }
                None => loaded.model.popular(&withheld, limit),
            };
            recommended.iter().map(|item| Scored::new(item, loaded.model.vocabulary())).collect::<Vec<_>>()
        })
        .await?;
    let source = source_of(recommended.first().map(|item| item.source));
    let ids: Vec<String> = recommended.iter().map(|item| item.id.clone()).collect();
    let names = state.names.of(&ids).await;
    let items = recommended.into_iter().map(|item| item.named(&names)).collect();
    Ok(Json(SimilarTracks { track_id: id, model_version, source, items }))
}

/// A recommendation by the app's id, without a name yet.
#[derive(Debug, Clone)]
pub struct Scored {
    /// the app's id
    pub id: String,
    /// see [`Item::score`]
    pub score: f32,
    /// what recommends it
    pub source: Source,
}

impl Scored {
    /// Looks up the id of a recommended row.
    pub fn new(item: &Recommended, vocabulary: &Vocabulary) -> Self {
        Self { id: vocabulary.id(item.row).to_owned(), score: item.score, source: item.source }
    }

    /// With its name, if that is among `names`.
    pub fn named(self, names: &HashMap<String, TrackName>) -> Item {
        let found = names.get(&self.id);
        Item {
            name: found.map(|track| track.name.clone()),
            artist: found.map(|track| track.artist.clone()),
            track_id: self.id,
            score: self.score,
            source: self.source.as_str().to_owned(),
        }
    }
}

/// The source of an answer is that of its first item; of an empty one, popularity had nothing to give either.
pub fn source_of(first: Option<Source>) -> String {
    first.unwrap_or(Source::Popularity).as_str().to_owned()
}
