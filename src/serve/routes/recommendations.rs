//! What to recommend to a user.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::bundle::Kind;
use crate::catalog::{TrackName, UserFeedback, UserId};
use crate::recommend::ratings::{Basis, Heard, RatingsModel};
use crate::serve::capacity::engine::Lane;
use crate::serve::http::extract::{Limit, query};
use crate::serve::http::problem::{ApiError, Problem};
use crate::serve::models::shadow::share_of_both;
use crate::serve::{AppState, Loaded};

/// Most tracks that pages of one list go through.
const MOST_SHOWN: usize = 1_000;
/// The form of cursors: a cursor of another one begins with another byte.
const CURSOR_FORM: u8 = 1;

/// Route of recommendations.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(recommendations))
}

/// Which recommendations.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RecommendationsQuery {
    /// number of tracks
    #[serde(default)]
    #[param(value_type = i64, minimum = 1, maximum = 500, default = 50)]
    limit: Limit,
    /// whether tracks that the user rated or listened to are left out
    #[serde(default = "yes")]
    #[param(default = true)]
    exclude_seen: bool,
    /// `next` of the page before; no track of the pages before comes again
    cursor: Option<String>,
    /// a published version of the model; left out, the current one
    version: Option<String>,
}

fn yes() -> bool {
    true
}

/// Tracks that earlier pages showed, each by a mark of four bytes made of its id. They stay shown whatever comes between
/// two pages: another rating, another model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Shown(Vec<u32>);

impl Shown {
    fn decode(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (&CURSOR_FORM, marks) = bytes.split_first()? else { return None };
        let (marks, rest) = marks.as_chunks::<4>();
        let is_ours = rest.is_empty() && marks.len() <= MOST_SHOWN;
        is_ours.then(|| Self(marks.iter().map(|mark| u32::from_le_bytes(*mark)).collect()))
    }

    fn encode(&self) -> String {
        let marks = self.0.iter().flat_map(|mark| mark.to_le_bytes());
        URL_SAFE_NO_PAD.encode(std::iter::once(CURSOR_FORM).chain(marks).collect::<Vec<u8>>())
    }
}

/// A track recommended to a user.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct UserItem {
    /// the app's id of the track
    #[schema(example = "spotify:track:5Wj1rJnCLpMHdLaxsFtJLs")]
    pub track_id: String,
    /// what items are ordered by: comparable within one answer. The predicted rating, and how well the track goes with
    /// what the user chose; for `popularity` the share of all ratings and listens
    #[schema(example = 4.9)]
    pub score: f32,
    /// the rating that the user would give; null where nothing is known of the user, or the model has seen no ratings
    #[schema(example = 4.3)]
    pub predicted_rating: Option<f32>,
    /// title of the track; null when the catalog is away
    pub name: Option<String>,
    /// name of its artist; null likewise
    pub artist: Option<String>,
}

/// Tracks for a user.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Recommendations {
    /// the user
    pub user_id: String,
    /// version of the model that answered
    pub model_version: String,
    /// what the answer rests on: the user's `ratings`, the user's `listens` where there are no ratings, or `popularity`
    /// for a user without any that the model knows the tracks of
    #[schema(example = "ratings")]
    pub source: String,
    /// best first
    pub items: Vec<UserItem>,
    /// the `cursor` of the next page, if there may be one; after 1,000 tracks there is none
    pub next: Option<String>,
}

/// Tracks for a user, best first: by what the user rated and listened to up to now, the last second included.
#[utoipa::path(get, path = "/users/{id}/recommendations", tag = "users",
    params(("id" = String, Path, description = "the app's id of the user, percent-encoded"), RecommendationsQuery),
    responses((status = 200, description = "Recommendations; popular tracks for a user of whom nothing is known", body = Recommendations),
              (status = 404, description = "No such version of the model, or no such cursor", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "That version is damaged", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json"),
              (status = 503, description = "No model, catalog away, or too busy", body = Problem, content_type = "application/problem+json")))]
async fn recommendations(
    State(state): State<AppState>,
    Path(id): Path<String>,
    parameters: Result<Query<RecommendationsQuery>, QueryRejection>,
) -> Result<Json<Recommendations>, ApiError> {
    let asked = query(parameters)?;
    let shown = asked.cursor.as_deref().map_or_else(|| Some(Shown::default()), Shown::decode);
    let shown = shown.ok_or(ApiError::UnknownCursor)?;
    let loaded = state.models.ratings_of(asked.version.as_deref()).await?.ok_or(ApiError::NoModel(Kind::Ratings))?;
    state.engine.admits(Lane::Quick, 1)?;
    // A text that can't be an id is nobody's.
    let feedback = match UserId::storable(id.as_str()) {
        Ok(user) => state.catalog()?.user_feedback(&user).await?,
        Err(_) => UserFeedback::default(),
    };
    let withheld = state.withheld.snapshot();
    let model_version = loaded.manifest.version.clone();
    let second = state.models.ratings_shadow().filter(|second| asked.version.is_none() && second.is_due());
    let answer = Arc::new(move |loaded: &Loaded<RatingsModel>| {
        let withheld = loaded.withheld(&withheld);
        recommend(&loaded.model, &feedback, &withheld, asked.limit, asked.exclude_seen, shown.clone())
    });
    let first = answer.clone();
    let (basis, mut items, next) = state.engine.run(Lane::Quick, move || first(&loaded)).await?;
    let ids: Vec<String> = items.iter().map(|item| item.track_id.clone()).collect();
    if let Some(second) = second {
        let first = ids.clone();
        state.shadow(Kind::Ratings, move || {
            let (_, items, _) = answer(&second.loaded);
            share_of_both(&first, items.iter().map(|item| item.track_id.as_str()))
        });
    }
    let mut names: HashMap<String, TrackName> = state.names.of(&ids).await;
    for item in &mut items {
        let found = names.remove(&item.track_id);
        (item.name, item.artist) = found.map(|track| (track.name, track.artist)).unzip();
    }
    Ok(Json(Recommendations { user_id: id, model_version, source: basis.as_str().to_owned(), items, next }))
}

/// Items without names, and the cursor of the next page.
fn recommend(
    model: &RatingsModel,
    feedback: &UserFeedback,
    withheld: &[u32],
    limit: Limit,
    exclude_seen: bool,
    mut shown: Shown,
) -> (Basis, Vec<UserItem>, Option<String>) {
    let row = |id: &str| model.vocabulary().row(id);
    let rated = feedback.ratings.iter().filter_map(|rated| {
        let at = rated.rated_at.unix_timestamp();
        Some(Heard { row: row(rated.track.as_str())?, rating: Some(rated.rating), at })
    });
    let played = feedback.listens.iter().filter_map(|id| Some(Heard { row: row(id.as_str())?, rating: None, at: 0 }));
    let heard: Vec<Heard> = rated.chain(played).collect();
    let mut excluded = model.rows_marked(&shown.0);
    excluded.extend_from_slice(withheld);
    if exclude_seen {
        excluded.extend(heard.iter().map(|heard| heard.row));
    }
    excluded.sort_unstable();
    let taste = model.taste(&heard);
    let limit = limit.get().min(MOST_SHOWN - shown.0.len());
    let found = model.recommend(&taste, &excluded, limit);
    shown.0.extend(found.iter().map(|track| model.mark(track.row)));
    let may_go_on = found.len() == limit && shown.0.len() < MOST_SHOWN;
    let items = found.into_iter().map(|track| UserItem {
        track_id: model.vocabulary().id(track.row).to_owned(),
        score: track.score,
        predicted_rating: track.predicted,
        name: None,
        artist: None,
    });
    (taste.basis, items.collect(), may_go_on.then(|| shown.encode()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_others_are_refused() {
        for shown in [Shown::default(), Shown(vec![0, 7, u32::MAX])] {
            assert_eq!(Shown::decode(&shown.encode()), Some(shown));
        }
        let other_form = URL_SAFE_NO_PAD.encode([2, 0, 0, 0, 0]);
        for text in ["", "!", "AQAA", &other_form, &Shown(vec![1; MOST_SHOWN + 1]).encode()] {
            assert_eq!(Shown::decode(text), None, "{text:?}");
        }
    }
}
