//! Users: read, create, delete, one or many at once.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::catalog::{Catalog, CatalogError, RowChange, User, UserId};
use crate::serve::AppState;
use crate::serve::http::extract::{Id, JsonBody, Page, PageQuery, Preconditions, in_field, is_ndjson, query, segment};
use crate::serve::http::ndjson;
use crate::serve::http::ndjson::{BulkRows, RowOutcome};
use crate::serve::http::problem::{ApiError, Problem};

/// Routes under `/users`.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, put, delete))
}

/// A user.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct UserBody {
    /// the app's id
    #[schema(example = "user-17")]
    pub id: String,
    /// playlists
    pub num_playlists: i64,
    /// tracks rated
    pub num_ratings: i64,
    /// listens
    pub num_listens: i64,
}

/// A user to create, or a line of a bulk request.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserRow {
    /// the app's id
    #[schema(example = "user-17", value_type = Id)]
    pub id: String,
}

/// A page of users.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct UserList {
    /// in the order of their ids
    pub items: Vec<UserBody>,
    /// the `cursor` of the next page, if there may be one
    pub next: Option<String>,
}

impl From<User> for UserBody {
    fn from(user: User) -> Self {
        let User { id, num_playlists, num_ratings, num_listens } = user;
        Self { id: id.into(), num_playlists, num_ratings, num_listens }
    }
}

/// Users in the order of their ids.
#[utoipa::path(get, path = "/users", tag = "users", params(PageQuery),
    responses((status = 200, description = "A page of users", body = UserList),
              (status = 404, description = "No such cursor", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json")))]
async fn list(
    State(state): State<AppState>,
    parameters: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<UserList>, ApiError> {
    let asked = query(parameters)?.into_list();
    let page = asked.page()?;
    let Page::After(after) = &page else { return Err(ApiError::UnknownCursor) };
    let users = state.catalog()?.users_after(after, asked.limit.get() as i64).await?;
    let next = asked.next(&page, users.len(), users.last().map(|user| user.id.as_str()));
    Ok(Json(UserList { items: users.into_iter().map(UserBody::from).collect(), next }))
}

/// Creates a user, or many: one JSON object, or one a line (`application/x-ndjson`), of any number.
///
/// Lines are taken as they arrive, and answered with a line each while the rest is still being read: a client has to read
/// while it sends. The last line is a summary.
#[utoipa::path(post, path = "/users", tag = "users", params(ndjson::BulkQuery),
    request_body(content((UserRow = "application/json"), (String = "application/x-ndjson")),
                 description = "a user, or one a line"),
    responses((status = 200, description = "What became of each line", body = ndjson::BulkLine, content_type = "application/x-ndjson"),
              (status = 201, description = "It is created", body = UserBody, headers(("Location" = String, description = "its path"))),
              (status = 400, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "There is one with that id", body = Problem, content_type = "application/problem+json"),
              (status = 413, description = "Body too large", body = Problem, content_type = "application/problem+json"),
              (status = 415, description = "Not declared as JSON", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "A field is wrong", body = Problem, content_type = "application/problem+json")))]
async fn create(
    State(state): State<AppState>,
    parameters: Result<Query<ndjson::BulkQuery>, QueryRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let asked = query(parameters)?;
    if is_ndjson(request.headers()) {
        return ndjson::answer(UserRows(state.catalog()?.clone()), request.into_body(), asked, &state.bulk);
    }
    let JsonBody(UserRow { id }) = JsonBody::from_request(request, &state).await?;
    let id = in_field("id", UserId::new(id))?;
    match add(&state, &id).await? {
        true => created(&state, &id).await,
        false => Err(ApiError::AlreadyExists("user", id.into())),
    }
}

/// A user of the catalog.
#[utoipa::path(get, path = "/users/{id}", tag = "users",
    params(("id" = String, Path, description = "the app's id of the user, percent-encoded")),
    responses((status = 200, description = "The user", body = UserBody),
              (status = 404, description = "No such user", body = Problem, content_type = "application/problem+json")))]
async fn get(State(state): State<AppState>, Path(id): Path<String>) -> Result<Json<UserBody>, ApiError> {
    let id = known(id)?;
    let user = state.catalog()?.user(&id).await?.ok_or(ApiError::UnknownUser(id.into()))?;
    Ok(Json(user.into()))
}

/// Creates a user, if there is none with that id.
#[utoipa::path(put, path = "/users/{id}", tag = "users",
    params(("id" = Id, Path, description = "the app's id of the user, percent-encoded"),
           ("If-None-Match" = Option<String>, Header, description = "`*`: fail if there is one")),
    responses((status = 200, description = "It was there", body = UserBody),
              (status = 201, description = "It is created", body = UserBody, headers(("Location" = String, description = "its path"))),
              (status = 412, description = "It was there, and must not be", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "Not an id", body = Problem, content_type = "application/problem+json")))]
async fn put(
    State(state): State<AppState>,
    Path(id): Path<String>,
    preconditions: Preconditions,
) -> Result<Response, ApiError> {
    let id = in_field("id", UserId::new(id))?;
    if add(&state, &id).await? {
        return created(&state, &id).await;
    }
    preconditions.check_new()?;
    let user = state.catalog.user(&id).await?.ok_or(ApiError::Conflict)?;
    Ok(Json(UserBody::from(user)).into_response())
}

/// Deletes a user with all ratings and listens. Playlists stay, and are nobody's.
#[utoipa::path(delete, path = "/users/{id}", tag = "users",
    params(("id" = String, Path, description = "the app's id of the user, percent-encoded")),
    responses((status = 204, description = "It is gone"),
              (status = 404, description = "No such user", body = Problem, content_type = "application/problem+json")))]
async fn delete(State(state): State<AppState>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    let id = known(id)?;
    match state.catalog()?.delete_user(&id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::UnknownUser(id.into())),
    }
}

/// The id of a user to look up.
fn known(id: String) -> Result<UserId, ApiError> {
    UserId::storable(id.as_str()).map_err(|_| ApiError::UnknownUser(id))
}

/// Whether it was not there.
async fn add(state: &AppState, id: &UserId) -> Result<bool, ApiError> {
    let changes = state.catalog()?.add_users(std::slice::from_ref(id)).await?;
    Ok(changes.contains(&RowChange::Added))
}

async fn created(state: &AppState, id: &UserId) -> Result<Response, ApiError> {
    let user = state.catalog.user(id).await?.ok_or(ApiError::Conflict)?;
    let location = format!("/users/{}", segment(id.as_str()));
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(UserBody::from(user))).into_response())
}

/// Writes lines of bulk requests.
struct UserRows(Catalog);

impl BulkRows for UserRows {
    type Row = UserId;
    const ROWS_AT_ONCE: usize = 5_000;

    fn parse(&self, line: &[u8]) -> Result<(String, UserId), ApiError> {
        let UserRow { id } = ndjson::parse_row(line)?;
        let id = in_field("id", UserId::new(id))?;
        Ok((id.to_string(), id))
    }

    async fn write(&self, rows: &[UserId]) -> Result<Vec<RowOutcome>, CatalogError> {
        Ok(self.0.add_users(rows).await?.into_iter().map(RowOutcome::from).collect())
    }
}
