//! `GET /tracks/{id}/next`

use axum::Json;
use axum::extract::{Path, State};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::similar::{NeighborRequest, SimilarQuery, SimilarTracks};
use crate::serve::capacity::lane::Lane;
use crate::serve::http::extract::QueryParameters;
use crate::serve::http::problem::ApiError;
use crate::serve::state::AppState;

/// Returns the route.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(next))
}

/// Next tracks
///
/// The tracks most likely to come right after one in a playlist, best first. Falls back to similar tracks if the model has
/// no list for the track.
#[utoipa::path(get, path = "/tracks/{id}/next", tag = "tracks",
    params(("id" = String, Path, description = "the app's id of the track, percent-encoded"), SimilarQuery),
    responses((status = 200, description = "Tracks that come next", body = SimilarTracks)))]
async fn next(
    State(state): State<AppState>,
    Path(id): Path<String>,
    QueryParameters(query): QueryParameters<SimilarQuery>,
) -> Result<Json<SimilarTracks>, ApiError> {
    let request = NeighborRequest::new(&state, id, query).await?;
    let recommended = match request.row {
        Some(row) => {
            let (model, limit, hidden) = (request.model.clone(), request.limit, request.hidden.clone());
            let work = move || model.model.next(row, &model.hidden_rows(&hidden), limit);
            state.engine.run(Lane::Quick, work).await?
        }
        None => request.popular(&state).await?,
    };
    request.shadow(&state, &recommended, |model, row, limit, hidden| {
        model.model.next(row, &model.hidden_rows(hidden), limit)
    });
    Ok(request.response(&state, &recommended).await)
}
