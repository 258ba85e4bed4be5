//! `GET /users/{id}/recommendations`

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::bundle::Kind;
use crate::catalog::{TrackName, UserFeedback, UserId};
use crate::recommend::ratings::{Basis, RatingsModel, TasteEvent};
use crate::serve::capacity::lane::Lane;
use crate::serve::http::extract::{Limit, QueryParameters};
use crate::serve::http::problem::ApiError;
use crate::serve::models::LoadedModel;
use crate::serve::models::shadow::overlap;
use crate::serve::state::AppState;

/// Most tracks over all pages of one list.
const MAX_RECOMMENDED: usize = 1_000;
/// The format of cursors: cursors of other formats begin with another byte.
const CURSOR_FORMAT: u8 = 1;

/// Returns the route.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(recommendations))
}

/// The query of recommendations.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RecommendationsQuery {
    /// number of tracks
    #[serde(default)]
    #[param(value_type = i64, minimum = 1, maximum = 500, default = 50)]
    limit: Limit,
    /// whether to omit tracks that the user rated or listened to
    #[serde(default = "yes")]
    #[param(default = true)]
    exclude_seen: bool,
    /// `next` of the previous page; tracks of previous pages are not repeated
    cursor: Option<String>,
    /// published version of the model; the current one if omitted
    version: Option<String>,
}

fn yes() -> bool {
    true
}

/// The tracks of previous pages, each by a mark of four bytes computed from its id. It remains valid whatever changes between
/// two pages: another rating, another model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct PageCursor(Vec<u32>);

impl PageCursor {
    fn decode(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (&CURSOR_FORMAT, marks) = bytes.split_first()? else { return None };
        let (marks, rest) = marks.as_chunks::<4>();
        let is_valid = rest.is_empty() && marks.len() <= MAX_RECOMMENDED;
        is_valid.then(|| Self(marks.iter().map(|mark| u32::from_le_bytes(*mark)).collect()))
    }

    fn encode(&self) -> String {
        let marks = self.0.iter().flat_map(|mark| mark.to_le_bytes());
        URL_SAFE_NO_PAD.encode(std::iter::once(CURSOR_FORMAT).chain(marks).collect::<Vec<u8>>())
    }
}

/// A track recommended to a user.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct UserItem {
    /// the app's id of the track
    #[schema(example = "spotify:track:5Wj1rJnCLpMHdLaxsFtJLs")]
    pub track_id: String,
    /// orders the items; comparable within one response only. The predicted rating plus how well the track goes with what
    /// the user chose; for `popularity` the share of all ratings and listens
    #[schema(example = 4.9)]
    pub score: f32,
    /// predicted rating; null if nothing is known of the user, or the model has seen no ratings
    #[schema(example = 4.3)]
    pub predicted_rating: Option<f32>,
    /// title of the track; null if the catalog is unavailable
    pub name: Option<String>,
    /// name of the artist; null likewise, or if it has none
    pub artist: Option<String>,
}

/// Recommendations for a user.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Recommendations {
    /// the user
    pub user_id: String,
    /// version of the model that recommended
    pub model_version: String,
    /// what the recommendations are based on: the user's `ratings`, without any the user's `listens`, or `popularity` if the
    /// model knows none of the tracks
    #[schema(example = "ratings")]
    pub source: String,
    /// best first
    pub items: Vec<UserItem>,
    /// `cursor` of the next page; null at the end, and after 1,000 tracks
    pub next: Option<String>,
}

/// Recommendations for a user
///
/// Best first, from all ratings and listens so far, including those of the last second.
#[utoipa::path(get, path = "/users/{id}/recommendations", tag = "users",
    params(("id" = String, Path, description = "the app's id of the user, percent-encoded"), RecommendationsQuery),
    responses((status = 200, description = "Recommendations; popular tracks if nothing is known of the user", body = Recommendations)))]
async fn recommendations(
    State(state): State<AppState>,
    Path(id): Path<String>,
    QueryParameters(query): QueryParameters<RecommendationsQuery>,
) -> Result<Json<Recommendations>, ApiError> {
    let cursor = query.cursor.as_deref().map_or_else(|| Some(PageCursor::default()), PageCursor::decode);
    let cursor = cursor.ok_or(ApiError::UnknownCursor)?;
    let loaded = state.model::<RatingsModel>(query.version.as_deref()).await?;
    state.engine.admits(Lane::Quick, 1)?;
    // A text that can't be an id is no user's.
    let feedback = match UserId::storable(id.as_str()) {
        Ok(user) => state.catalog()?.user_feedback(&user).await?,
        Err(_) => UserFeedback::default(),
    };
    let hidden = state.hidden_tracks.snapshot();
    let model_version = loaded.manifest.version.clone();
    let shadow = state.models.due_shadow::<RatingsModel>(query.version.as_deref());
    let answer = Arc::new(move |loaded: &LoadedModel<RatingsModel>| {
        let hidden = loaded.hidden_rows(&hidden);
        recommend(&loaded.model, &feedback, &hidden, query.limit, query.exclude_seen, cursor.clone())
    });
    let first = answer.clone();
    let (basis, mut items, next) = state.engine.run(Lane::Quick, move || first(&loaded)).await?;
    let ids: Vec<String> = items.iter().map(|item| item.track_id.clone()).collect();
    if let Some(shadow) = shadow {
        let first = ids.clone();
        state.run_shadow(Kind::Ratings, move || {
            let (_, items, _) = answer(&shadow);
            overlap(&first, items.iter().map(|item| item.track_id.as_str()))
        });
    }
    let mut names: HashMap<String, TrackName> = state.names.of(&ids).await;
    for item in &mut items {
        let found = names.remove(&item.track_id);
        (item.name, item.artist) = found.map_or((None, None), |track| (Some(track.name), track.artist));
    }
    Ok(Json(Recommendations { user_id: id, model_version, source: basis.as_str().to_owned(), items, next }))
}

/// Returns items without names, and the cursor of the next page.
fn recommend(
    model: &RatingsModel,
    feedback: &UserFeedback,
    hidden: &[u32],
    limit: Limit,
    exclude_seen: bool,
    mut cursor: PageCursor,
) -> (Basis, Vec<UserItem>, Option<String>) {
    let row = |id: &str| model.vocabulary().row(id);
    let rated = feedback.ratings.iter().filter_map(|rated| {
        let at = rated.rated_at.unix_timestamp();
        Some(TasteEvent { row: row(rated.track.as_str())?, rating: Some(rated.rating), at })
    });
    let played =
        feedback.listens.iter().filter_map(|id| Some(TasteEvent { row: row(id.as_str())?, rating: None, at: 0 }));
    let heard: Vec<TasteEvent> = rated.chain(played).collect();
    let mut excluded = model.rows_marked(&cursor.0);
    excluded.extend_from_slice(hidden);
    if exclude_seen {
        excluded.extend(heard.iter().map(|heard| heard.row));
    }
    excluded.sort_unstable();
    let taste = model.taste(&heard);
    let limit = limit.get().min(MAX_RECOMMENDED - cursor.0.len());
    let found = model.recommend(&taste, &excluded, limit);
    cursor.0.extend(found.iter().map(|track| model.mark(track.row)));
    let has_next = found.len() == limit && cursor.0.len() < MAX_RECOMMENDED;
    let items = found.into_iter().map(|track| UserItem {
        track_id: model.vocabulary().id(track.row).to_owned(),
        score: track.score,
        predicted_rating: track.predicted,
        name: None,
        artist: None,
    });
    (taste.basis, items.collect(), has_next.then(|| cursor.encode()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_others_are_rejected() {
        for cursor in [PageCursor::default(), PageCursor(vec![0, 7, u32::MAX])] {
            assert_eq!(PageCursor::decode(&cursor.encode()), Some(cursor));
        }
        let other_format = URL_SAFE_NO_PAD.encode([2, 0, 0, 0, 0]);
        for text in ["", "!", "AQAA", &other_format, &PageCursor(vec![1; MAX_RECOMMENDED + 1]).encode()] {
            assert_eq!(PageCursor::decode(text), None, "{text:?}");
        }
    }
}
