//! `/users`: list, create, read, delete; bulk requests.

use axum::Json;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::catalog::fields::Omitted;
use crate::catalog::{CatalogError, RowChange, User, UserId, lines};
use crate::serve::http::extract::{
    Id, JsonBody, Page, PageQuery, Preconditions, QueryParameters, in_field, is_ndjson, percent_encode,
};
use crate::serve::http::ndjson;
use crate::serve::http::ndjson::{BulkRows, RowOutcome};
use crate::serve::http::problem::ApiError;
use crate::serve::state::AppState;

/// Returns the routes.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, put, delete))
}

/// A user of the catalog.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct UserBody {
    /// the app's id
    #[schema(example = "user-17")]
    pub id: String,
    /// number of playlists
    pub num_playlists: i64,
    /// number of rated tracks
    pub num_ratings: i64,
    /// number of listens
    pub num_listens: i64,
}

/// A new user, or a line of a bulk request.
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
    /// `cursor` of the next page; null at the end
    pub next: Option<String>,
}

impl From<User> for UserBody {
    fn from(user: User) -> Self {
        let User { id, num_playlists, num_ratings, num_listens } = user;
        Self { id: id.into(), num_playlists, num_ratings, num_listens }
    }
}

/// List users
///
/// Users are in the order of their ids.
#[utoipa::path(get, path = "/users", tag = "users", params(PageQuery),
    responses((status = 200, description = "A page of users", body = UserList)))]
async fn list(
    State(state): State<AppState>,
    QueryParameters(query): QueryParameters<PageQuery>,
) -> Result<Json<UserList>, ApiError> {
    let query = query.into_list();
    let page = query.page()?;
    let Page::After(after) = &page else { return Err(ApiError::UnknownCursor) };
    let users = state.catalog()?.users_after(after, query.limit.get() as i64).await?;
    let next = query.next(&page, users.len(), users.last().map(|user| user.id.as_str()));
    Ok(Json(UserList { items: users.into_iter().map(UserBody::from).collect(), next }))
}

/// Create users
///
/// One user as a JSON object, or any number of users with `application/x-ndjson`: one per line. For a bulk request, the
/// server stores lines as they arrive and responds with a line for each while it still reads others: the client must read
/// while it sends. The last line of the response is a summary.
#[utoipa::path(post, path = "/users", tag = "users", params(ndjson::BulkQuery),
    request_body(content((UserRow = "application/json"), (String = "application/x-ndjson")),
                 description = "one user, or one per line"),
    responses((status = 200, description = "Outcome of each line of a bulk request", body = ndjson::BulkLine, content_type = "application/x-ndjson"),
              (status = 201, description = "The user was created", body = UserBody, headers(("Location" = String, description = "path of the user")))))]
async fn create(
    State(state): State<AppState>,
    QueryParameters(query): QueryParameters<ndjson::BulkQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    if is_ndjson(request.headers()) {
        state.catalog()?;
        return ndjson::store(UserRows(state.clone()), request.into_body(), query, &state.bulk);
    }
    let JsonBody(UserRow { id }) = JsonBody::from_request(request, &state).await?;
    let id = in_field("id", UserId::new(id))?;
    match add(&state, &id).await? {
        true => created(&state, &id).await,
        false => Err(ApiError::AlreadyExists("user", id.into())),
    }
}

/// Read a user
#[utoipa::path(get, path = "/users/{id}", tag = "users",
    params(("id" = String, Path, description = "the app's id of the user, percent-encoded")),
    responses((status = 200, description = "The user", body = UserBody)))]
async fn get(State(state): State<AppState>, Path(id): Path<String>) -> Result<Json<UserBody>, ApiError> {
    let id = user_id(id)?;
    let user = state.catalog()?.user(&id).await?.ok_or(ApiError::UnknownUser(id.into()))?;
    Ok(Json(user.into()))
}

/// Create a user unless it exists
#[utoipa::path(put, path = "/users/{id}", tag = "users",
    params(("id" = Id, Path, description = "the app's id of the user, percent-encoded"),
           ("If-None-Match" = Option<String>, Header, description = "`*`: fail if the user exists")),
    responses((status = 200, description = "The user exists already", body = UserBody),
              (status = 201, description = "The user was created", body = UserBody, headers(("Location" = String, description = "path of the user")))))]
async fn put(
    State(state): State<AppState>,
    Path(id): Path<String>,
    preconditions: Preconditions,
) -> Result<Response, ApiError> {
    let id = in_field("id", UserId::new(id))?;
    if !preconditions.is_empty() {
        preconditions.check_untagged(state.catalog()?.user(&id).await?.is_some())?;
    }
    if add(&state, &id).await? {
        return created(&state, &id).await;
    }
    preconditions.check_new()?;
    let user = state.catalog.user(&id).await?.ok_or(ApiError::Conflict)?;
    Ok(Json(UserBody::from(user)).into_response())
}

/// Delete a user
///
/// Deletes the user's ratings and listens too. The user's playlists stay, without an owner.
#[utoipa::path(delete, path = "/users/{id}", tag = "users",
    params(("id" = String, Path, description = "the app's id of the user, percent-encoded"),
           ("If-Match" = Option<String>, Header, description = "users have no entity tags: only `*` matches")),
    responses((status = 204, description = "The user was deleted")))]
async fn delete(
    State(state): State<AppState>,
    Path(id): Path<String>,
    preconditions: Preconditions,
) -> Result<StatusCode, ApiError> {
    let id = user_id(id)?;
    if !preconditions.is_empty() {
        state.catalog()?.user(&id).await?.ok_or_else(|| ApiError::UnknownUser(id.to_string()))?;
        preconditions.check_untagged(true)?;
    }
    match state.catalog_to_write().await?.delete_user(&id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::UnknownUser(id.into())),
    }
}

/// Returns the id of a user to look up.
fn user_id(id: String) -> Result<UserId, ApiError> {
    UserId::storable(id.as_str()).map_err(|_| ApiError::UnknownUser(id))
}

/// Adds a user; returns whether it is new.
async fn add(state: &AppState, id: &UserId) -> Result<bool, ApiError> {
    let changes = state.catalog_to_write().await?.add_users(std::slice::from_ref(id)).await?;
    Ok(changes.contains(&RowChange::Added))
}

async fn created(state: &AppState, id: &UserId) -> Result<Response, ApiError> {
    let user = state.catalog.user(id).await?.ok_or(ApiError::Conflict)?;
    let location = format!("/users/{}", percent_encode(id.as_str()));
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(UserBody::from(user))).into_response())
}

/// Stores the lines of a bulk request.
struct UserRows(AppState);

impl BulkRows for UserRows {
    type Row = UserId;
    const BATCH_ROWS: usize = 5_000;

    fn parse(&self, line: &[u8]) -> Result<(String, UserId, Vec<Omitted>), String> {
        let (id, omitted) = lines::user(line)?;
        Ok((id.to_string(), id, omitted))
    }

    async fn write(&self, rows: &[UserId]) -> Result<Vec<RowOutcome>, CatalogError> {
        Ok(self.0.catalog_for_batch().await.add_users(rows).await?.into_iter().map(RowOutcome::from).collect())
    }
}
