//! `/ratings` and `/listens`: feedback of users.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Deserializer, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::catalog::fields::{optional, optional_text, required, required_id};
use crate::catalog::{
    FeedbackOutcome, ListenRecord, RatingRecord, TextError, TrackId, UserId, check_name, feedback_time, stated, times,
};
use crate::serve::http::extract::{RowBody, Rows};
use crate::serve::http::problem::{ApiError, FieldError, UNKNOWN_TRACK_ID};
use crate::serve::state::{AppState, listen_feed};

/// Returns the routes.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(rate)).routes(routes!(listen))
}

/// A rating of a track by a user.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RatingBody {
    /// the app's id of the user; created if new
    #[schema(example = "user-17")]
    pub user_id: String,
    /// the app's id of the track
    #[schema(example = "spotify:track:5Wj1rJnCLpMHdLaxsFtJLs")]
    pub track_id: String,
    /// on the app's scale: `--rating-lowest` to `--rating-highest` of the server
    #[schema(example = 4.5)]
    pub rating: f32,
    /// when the user rated (RFC 3339); now if omitted
    #[serde(default, with = "times::optional")]
    pub rated_at: Option<OffsetDateTime>,
}

/// How a line of ratings is read.
#[derive(Deserialize)]
#[serde(remote = "RatingBody", deny_unknown_fields)]
struct RatingLine {
    #[serde(deserialize_with = "required_id")]
    user_id: String,
    #[serde(deserialize_with = "required_id")]
    track_id: String,
    #[serde(deserialize_with = "required")]
    rating: f32,
    #[serde(default, deserialize_with = "optional")]
    rated_at: Option<OffsetDateTime>,
}

impl RowBody for RatingBody {
    const FIELD: &'static str = "ratings";

    fn from_line<'de, D: Deserializer<'de>>(line: D) -> Result<Self, D::Error> {
        RatingLine::deserialize(line)
    }
}

/// A listen of a track by a user.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenBody {
    /// the app's id of the user; created if new
    #[schema(example = "user-17")]
    pub user_id: String,
    /// the app's id of the track
    #[schema(example = "spotify:track:5Wj1rJnCLpMHdLaxsFtJLs")]
    pub track_id: String,
    /// when it began (RFC 3339); now if omitted
    #[serde(default, with = "times::optional")]
    pub listened_at: Option<OffsetDateTime>,
    /// the tab of the app from which it was played
    pub source_system_tab: Option<String>,
    /// the screen from which it was played
    pub source_screen_name: Option<String>,
    /// what it was played from: an album, a playlist, a search
    pub source_type: Option<String>,
    /// whether the user came back to the track within a month
    pub target: Option<bool>,
}

/// How a line of listens is read.
#[derive(Deserialize)]
#[serde(remote = "ListenBody", deny_unknown_fields)]
struct ListenLine {
    #[serde(deserialize_with = "required_id")]
    user_id: String,
    #[serde(deserialize_with = "required_id")]
    track_id: String,
    #[serde(default, deserialize_with = "optional")]
    listened_at: Option<OffsetDateTime>,
    #[serde(default, deserialize_with = "optional_text")]
    source_system_tab: Option<String>,
    #[serde(default, deserialize_with = "optional_text")]
    source_screen_name: Option<String>,
    #[serde(default, deserialize_with = "optional_text")]
    source_type: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    target: Option<bool>,
}

impl RowBody for ListenBody {
    const FIELD: &'static str = "listens";

    fn from_line<'de, D: Deserializer<'de>>(line: D) -> Result<Self, D::Error> {
        ListenLine::deserialize(line)
    }
}

/// Ratings to store.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RatingsRequest {
    /// up to 10,000 ratings
    #[schema(max_items = 10_000)]
    pub ratings: Vec<RatingBody>,
}

/// Listens to store.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ListensRequest {
    /// up to 10,000 listens
    #[schema(max_items = 10_000)]
    pub listens: Vec<ListenBody>,
}

/// What happened to feedback.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FeedbackAnswer {
    /// new rows
    pub added: u64,
    /// rows that changed
    pub changed: u64,
    /// rows that were stored already, or are newer in the catalog
    pub unchanged: u64,
    /// rows that were not stored, by index: `ratings[3].rating`. All others were stored
    pub problems: Vec<FieldError>,
}

/// Store ratings
///
/// Only the latest rating of a track by a user counts, so ratings can safely be sent again.
#[utoipa::path(post, path = "/ratings", tag = "feedback",
    request_body(content((RatingsRequest = "application/json"), (String = "application/x-ndjson")),
                 description = "an object with a list, or one rating per line. In lines, ids and times may be numbers"),
    responses((status = 200, description = "Totals, and the rows that were not stored", body = FeedbackAnswer)))]
async fn rate(State(state): State<AppState>, rows: Rows<RatingBody>) -> Result<Json<FeedbackAnswer>, ApiError> {
    let now = OffsetDateTime::now_utc();
    let rows = rows.check(|row| {
        let (user, track) = ids(row.user_id, row.track_id)?;
        let rating = state.scale.check(row.rating).map_err(|reason| invalid("rating", &reason))?;
        let rated_at = check_time("rated_at", row.rated_at, now)?;
        Ok(RatingRecord { user, track, rating, rated_at })
    });
    let outcome = state.catalog_to_write().await?.upsert_ratings(&rows.valid).await?;
    Ok(Json(FeedbackAnswer::new(outcome, rows.indices, rows.problems, RatingBody::FIELD)))
}

/// Store listens
///
/// Listens with the same user, track and time count once, so listens can safely be sent again.
#[utoipa::path(post, path = "/listens", tag = "feedback",
    request_body(content((ListensRequest = "application/json"), (String = "application/x-ndjson")),
                 description = "an object with a list, or one listen per line. In lines, ids and times may be numbers"),
    responses((status = 200, description = "Totals, and the rows that were not stored", body = FeedbackAnswer)))]
async fn listen(State(state): State<AppState>, rows: Rows<ListenBody>) -> Result<Json<FeedbackAnswer>, ApiError> {
    let now = OffsetDateTime::now_utc();
    let rows = rows.check(|row| {
        let (user, track) = ids(row.user_id, row.track_id)?;
        let listened_at = check_time("listened_at", row.listened_at, now)?;
        let sources = [
            ("source_system_tab", &row.source_system_tab),
            ("source_screen_name", &row.source_screen_name),
            ("source_type", &row.source_type),
        ];
        for (field, text) in sources {
            text.as_deref().map_or(Ok(()), |text| in_field(field, check_name(text)))?;
        }
        Ok(ListenRecord {
            user,
            track,
            listened_at,
            source_system_tab: row.source_system_tab.as_deref().and_then(stated),
            source_screen_name: row.source_screen_name.as_deref().and_then(stated),
            source_type: row.source_type.as_deref().and_then(stated),
            target: row.target,
        })
    });
    let (outcome, written) = state.catalog_to_write().await?.upsert_listens(&rows.valid).await?;
    listen_feed::publish(&state.models, &rows.valid, written);
    Ok(Json(FeedbackAnswer::new(outcome, rows.indices, rows.problems, ListenBody::FIELD)))
}

impl FeedbackAnswer {
    /// `indices` are those in the request of the rows that went to the catalog.
    fn new(outcome: FeedbackOutcome, indices: Vec<usize>, mut problems: Vec<(usize, FieldError)>, field: &str) -> Self {
        let unknown = outcome.unknown_tracks.iter().map(|&row| {
            let index = indices[row];
            (index, invalid(&format!("{field}[{index}].track_id"), UNKNOWN_TRACK_ID))
        });
        problems.extend(unknown);
        problems.sort_by_key(|(index, _)| *index);
        Self {
            added: outcome.added,
            changed: outcome.changed,
            unchanged: outcome.unchanged,
            problems: problems.into_iter().map(|(_, problem)| problem).collect(),
        }
    }
}

fn invalid(field: &str, reason: &str) -> FieldError {
    FieldError { field: field.to_owned(), reason: reason.to_owned() }
}

fn in_field<T>(field: &str, value: Result<T, TextError>) -> Result<T, FieldError> {
    value.map_err(|error| invalid(field, &error.to_string()))
}

fn ids(user: String, track: String) -> Result<(UserId, TrackId), FieldError> {
    Ok((in_field("user_id", UserId::new(user))?, in_field("track_id", TrackId::new(track))?))
}

/// Checks a time that a row states; without one it is now.
fn check_time(field: &str, time: Option<OffsetDateTime>, now: OffsetDateTime) -> Result<OffsetDateTime, FieldError> {
    feedback_time(time.unwrap_or(now), now).map_err(|reason| invalid(field, &reason))
}
