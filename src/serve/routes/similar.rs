//! `GET /tracks/{id}/similar`, and what it shares with the tracks that come next.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::recommended_track::{Item, ScoredTrack, source_of};
use crate::bundle::Kind;
use crate::catalog::TrackId;
use crate::recommend::{Recommended, SimilarityModel};
use crate::serve::capacity::lane::Lane;
use crate::serve::http::extract::{Limit, QueryParameters};
use crate::serve::http::problem::ApiError;
use crate::serve::models::LoadedModel;
use crate::serve::models::batches::NearestQuery;
use crate::serve::models::shadow::overlap;
use crate::serve::state::AppState;
use crate::serve::state::hidden_tracks::{Reason, Snapshot};

/// Returns the route.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(similar))
}

/// Tracks that go with one.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SimilarTracks {
    /// the requested track
    pub track_id: String,
    /// version of the model that recommended
    pub model_version: String,
    /// what recommended: `track2vec` or `next`, or `popularity` for a track that the model does not know yet
    #[schema(example = "track2vec")]
    pub source: String,
    /// best first
    pub items: Vec<Item>,
}

/// The query of similar and next tracks.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SimilarQuery {
    /// number of tracks
    #[serde(default)]
    #[param(value_type = i64, minimum = 1, maximum = 500, default = 50)]
    limit: Limit,
    /// published version of the model; the current one if omitted
    version: Option<String>,
}

/// Similar tracks
///
/// Nearest first: tracks that occur in the same contexts of playlists.
#[utoipa::path(get, path = "/tracks/{id}/similar", tag = "tracks",
    params(("id" = String, Path, description = "the app's id of the track, percent-encoded"), SimilarQuery),
    responses((status = 200, description = "Similar tracks", body = SimilarTracks)))]
async fn similar(
    State(state): State<AppState>,
    Path(id): Path<String>,
    QueryParameters(query): QueryParameters<SimilarQuery>,
) -> Result<Json<SimilarTracks>, ApiError> {
    let request = NeighborRequest::new(&state, id, query).await?;
    let recommended = match request.row {
        Some(row) => nearest(&state, &request, row).await?,
        None => request.popular(&state).await?.into(),
    };
    request.shadow(&state, &recommended, |model, row, limit, hidden| {
        let query = NearestQuery { model: model.clone(), row, limit, hidden: hidden.clone() };
        model.model.nearest_to_each(&[query.completion()]).into_iter().next().unwrap_or_default()
    });
    Ok(request.response(&state, &recommended).await)
}

/// Returns the tracks nearest to a row. Few tracks are requested again and again: their answers are cached.
async fn nearest(state: &AppState, request: &NeighborRequest, row: u32) -> Result<Arc<[Recommended]>, ApiError> {
    let NeighborRequest { model, limit, hidden, .. } = request;
    let key = (hidden.number, row, *limit);
    let cached = model.similar_cache.get(&key);
    state.metrics.similar_cache(cached.is_some());
    if let Some(cached) = cached {
        return Ok(cached);
    }
    let query = NearestQuery { model: model.clone(), row, limit: *limit, hidden: hidden.clone() };
    let found: Arc<[Recommended]> = state.nearest.ask(&state.engine, query).await?.into();
    model.similar_cache.put(key, found.clone());
    Ok(found)
}

/// A request for tracks that go with one, and the model that recommends them.
pub struct NeighborRequest {
    id: String,
    /// the model that recommends
    pub model: Arc<LoadedModel<SimilarityModel>>,
    /// row of the track; `None` if the model does not know it
    pub row: Option<u32>,
    /// number of tracks
    pub limit: usize,
    /// tracks not to recommend
    pub hidden: Arc<Snapshot>,
    version: Option<String>,
}

impl NeighborRequest {
    /// Returns the request for a track that the model or the catalog knows.
    pub async fn new(state: &AppState, id: String, query: SimilarQuery) -> Result<Self, ApiError> {
        let SimilarQuery { limit, version } = query;
        let model = state.model::<SimilarityModel>(version.as_deref()).await?;
        let hidden = state.hidden_tracks.snapshot();
        // The model may know a track that was deleted since.
        let row = model.model.vocabulary().row(&id).filter(|_| hidden.reason(&id) != Some(Reason::Removed));
        if row.is_none() {
            let track = TrackId::storable(id.as_str()).map_err(|_| ApiError::UnknownTrack(id.clone()))?;
            state.catalog()?.track(&track).await?.ok_or_else(|| ApiError::UnknownTrack(id.clone()))?;
        }
        Ok(Self { id, model, row, limit: limit.get(), hidden, version })
    }

    /// Returns popular tracks.
    pub async fn popular(&self, state: &AppState) -> Result<Vec<Recommended>, ApiError> {
        let (model, limit, hidden) = (self.model.clone(), self.limit, self.hidden.clone());
        Ok(state.engine.run(Lane::Quick, move || model.model.popular(&model.hidden_rows(&hidden), limit)).await?)
    }

    /// Lets a shadow version answer too, if there is one; `find` does so for a track that it knows.
    pub fn shadow(
        &self,
        state: &AppState,
        recommended: &[Recommended],
        find: impl FnOnce(&Arc<LoadedModel<SimilarityModel>>, u32, usize, &Arc<Snapshot>) -> Vec<Recommended>
        + Send
        + 'static,
    ) {
        let Some(shadow) = state.models.due_shadow::<SimilarityModel>(self.version.as_deref()) else { return };
        let vocabulary = self.model.model.vocabulary();
        let first: Vec<String> = recommended.iter().map(|item| vocabulary.id(item.row).to_owned()).collect();
        let (id, limit, hidden) = (self.id.clone(), self.limit, self.hidden.clone());
        state.run_shadow(Kind::Similarity, move || {
            let vocabulary = shadow.model.vocabulary();
            let found = match vocabulary.row(&id) {
                Some(row) => find(&shadow, row, limit, &hidden),
                None => shadow.model.popular(&shadow.hidden_rows(&hidden), limit),
            };
            overlap(&first, found.iter().map(|item| vocabulary.id(item.row)))
        });
    }

    /// Returns the response, with the names that are available.
    pub async fn response(self, state: &AppState, recommended: &[Recommended]) -> Json<SimilarTracks> {
        let source = source_of(recommended.first().map(|item| item.source));
        let vocabulary = self.model.model.vocabulary();
        let scored: Vec<ScoredTrack> = recommended.iter().map(|item| ScoredTrack::new(item, vocabulary)).collect();
        let ids: Vec<String> = scored.iter().map(|item| item.id.clone()).collect();
        let names = state.names.of(&ids).await;
        let items = scored.into_iter().map(|item| item.named(&names)).collect();
        let model_version = self.model.manifest.version.clone();
        Json(SimilarTracks { track_id: self.id, model_version, source, items })
    }
}
