//! Feedback of users: ratings and listens, one or many at once.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::catalog::{
    FeedbackOutcome, ListenRecord, RatingRecord, TextError, TrackId, UserId, WrittenListen, check_name,
    whole_microseconds,
};
use crate::recommend::clicks::Heard;
use crate::serve::AppState;
use crate::serve::http::extract::{Bulk, BulkRow};
use crate::serve::http::problem::{ApiError, FieldError, Problem};

/// Clocks of phones may be ahead so far.
const CLOCK_SKEW: Duration = Duration::days(1);

/// Routes of feedback.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(rate)).routes(routes!(listen))
}

/// A user rated a track.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RatingBody {
    /// the app's id of the user, who need not be there yet
    #[schema(example = "user-17")]
    pub user_id: String,
    /// the app's id of the track
    #[schema(example = "spotify:track:5Wj1rJnCLpMHdLaxsFtJLs")]
    pub track_id: String,
    /// on the app's scale, which the server is told (`--rating-lowest`, `--rating-highest`)
    #[schema(example = 4.5)]
    pub rating: f32,
    /// when the user gave it (RFC 3339); left out, now
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub rated_at: Option<OffsetDateTime>,
}

impl BulkRow for RatingBody {
    const FIELD: &'static str = "ratings";
}

/// A user listened to a track.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenBody {
    /// the app's id of the user, who need not be there yet
    #[schema(example = "user-17")]
    pub user_id: String,
    /// the app's id of the track
    #[schema(example = "spotify:track:5Wj1rJnCLpMHdLaxsFtJLs")]
    pub track_id: String,
    /// when it began (RFC 3339); left out, now
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub listened_at: Option<OffsetDateTime>,
    /// the tab of the app that it was played from
    pub source_system_tab: Option<String>,
    /// the screen that it was played from
    pub source_screen_name: Option<String>,
    /// what it was played from: an album, a playlist, a search
    pub source_type: Option<String>,
    /// whether the user listened to it again within a month
    pub target: Option<bool>,
}

impl BulkRow for ListenBody {
    const FIELD: &'static str = "listens";
}

/// Ratings to store.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RatingsRequest {
    /// up to 10,000
    #[schema(max_items = 10_000)]
    pub ratings: Vec<RatingBody>,
}

/// Listens to store.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ListensRequest {
    /// up to 10,000
    #[schema(max_items = 10_000)]
    pub listens: Vec<ListenBody>,
}

/// What became of feedback.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FeedbackAnswer {
    /// rows that were not there
    pub added: u64,
    /// rows that are others now
    pub changed: u64,
    /// rows that were there just so, or newer
    pub unchanged: u64,
    /// rows that were not stored, by their number from 0: `ratings[3].rating`. All others were
    pub problems: Vec<FieldError>,
}

/// Stores ratings: the last one of a track by a user counts, so that they may be told any number of times.
#[utoipa::path(post, path = "/ratings", tag = "feedback",
    request_body(content((RatingsRequest = "application/json"), (String = "application/x-ndjson")),
                 description = "an object with a list, or one rating a line"),
    responses((status = 200, description = "What became of them; rows with a problem are not stored", body = FeedbackAnswer),
              (status = 400, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
              (status = 413, description = "Body too large", body = Problem, content_type = "application/problem+json"),
              (status = 415, description = "Not declared as JSON", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "No list of ratings", body = Problem, content_type = "application/problem+json"),
              (status = 503, description = "The catalog is away", body = Problem, content_type = "application/problem+json")))]
async fn rate(State(state): State<AppState>, bulk: Bulk<RatingBody>) -> Result<Json<FeedbackAnswer>, ApiError> {
    let now = whole_microseconds(OffsetDateTime::now_utc());
    let rows = bulk.check(|row| {
        let (user, track) = ids(row.user_id, row.track_id)?;
        let rating = state.scale.check(row.rating).map_err(|reason| wrong("rating", &reason))?;
        let rated_at = check_time("rated_at", row.rated_at, now)?;
        Ok(RatingRecord { user, track, rating, rated_at })
    });
    let outcome = state.catalog()?.upsert_ratings(&rows.good).await?;
    Ok(Json(FeedbackAnswer::new(outcome, rows.places, rows.problems, RatingBody::FIELD)))
}

/// Stores listens: one of a track by a user at a time is one, so that they may be told any number of times.
#[utoipa::path(post, path = "/listens", tag = "feedback",
    request_body(content((ListensRequest = "application/json"), (String = "application/x-ndjson")),
                 description = "an object with a list, or one listen a line"),
    responses((status = 200, description = "What became of them; rows with a problem are not stored", body = FeedbackAnswer),
              (status = 400, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
              (status = 413, description = "Body too large", body = Problem, content_type = "application/problem+json"),
              (status = 415, description = "Not declared as JSON", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "No list of listens", body = Problem, content_type = "application/problem+json"),
              (status = 503, description = "The catalog is away", body = Problem, content_type = "application/problem+json")))]
async fn listen(State(state): State<AppState>, bulk: Bulk<ListenBody>) -> Result<Json<FeedbackAnswer>, ApiError> {
    let now = whole_microseconds(OffsetDateTime::now_utc());
    let rows = bulk.check(|row| {
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
            source_system_tab: row.source_system_tab,
            source_screen_name: row.source_screen_name,
            source_type: row.source_type,
            target: row.target,
        })
    });
    let (outcome, written) = state.catalog()?.upsert_listens(&rows.good).await?;
    let models = state.models.all_clicks();
    if !models.is_empty() {
        let mut written = written;
        written.sort_by_key(|one| rows.good[one.place].listened_at);
        let news: Vec<Heard> = written.iter().map(|one| heard(&rows.good[one.place], one)).collect();
        models.iter().for_each(|loaded| loaded.model.hear(&news));
    }
    Ok(Json(FeedbackAnswer::new(outcome, rows.places, rows.problems, ListenBody::FIELD)))
}

/// A listen as the model of click probability hears of it.
fn heard(listen: &ListenRecord, written: &WrittenListen) -> Heard {
    let source = [&listen.source_system_tab, &listen.source_screen_name, &listen.source_type];
    Heard {
        user: listen.user.to_string(),
        track: listen.track.to_string(),
        source: source.map(Clone::clone),
        is_new: written.is_new,
        // What was known before was told before.
        target: listen.target.filter(|_| written.is_new || written.target_before.is_none()),
        taken_at: written.updated_at,
    }
}

impl FeedbackAnswer {
    /// `places` are the numbers in the request of the rows that were handed to the catalog.
    fn new(outcome: FeedbackOutcome, places: Vec<usize>, mut problems: Vec<(usize, FieldError)>, field: &str) -> Self {
        let unknown = outcome.unknown_tracks.iter().map(|&place| {
            let reason = "no track with that id is in the catalog".to_owned();
            let place = places[place];
            (place, FieldError { field: format!("{field}[{place}].track_id"), reason })
        });
        problems.extend(unknown);
        problems.sort_by_key(|(place, _)| *place);
        Self {
            added: outcome.added,
            changed: outcome.changed,
            unchanged: outcome.unchanged,
            problems: problems.into_iter().map(|(_, problem)| problem).collect(),
        }
    }
}

fn wrong(field: &str, reason: &str) -> FieldError {
    FieldError { field: field.to_owned(), reason: reason.to_owned() }
}

fn in_field<T>(field: &str, made: Result<T, TextError>) -> Result<T, FieldError> {
    made.map_err(|error| wrong(field, &error.to_string()))
}

fn ids(user: String, track: String) -> Result<(UserId, TrackId), FieldError> {
    Ok((in_field("user_id", UserId::storable(user))?, in_field("track_id", TrackId::storable(track))?))
}

/// A time in the future would outweigh all that comes before it.
fn check_time(field: &str, time: Option<OffsetDateTime>, now: OffsetDateTime) -> Result<OffsetDateTime, FieldError> {
    match time.map(whole_microseconds) {
        None => Ok(now),
        Some(time) if time > now + CLOCK_SKEW => Err(wrong(field, "lies in the future")),
        Some(time) if time.year() < 1900 => Err(wrong(field, "lies before 1900")),
        Some(time) => Ok(time),
    }
}
