//! Playlist completion: `POST /playlists/{id}/complete` and `POST /playlists/complete`.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::playlists::playlist_id;
use super::recommended_track::{Item, ScoredTrack, source_of};
use crate::bundle::{Kind, Vocabulary};
use crate::catalog::PlaylistContents;
use crate::recommend::completion::{Completed, CompletionModel};
use crate::recommend::dispatch::{Completer, CompletionMethod};
use crate::recommend::explain::Reason;
use crate::recommend::{Completion, SimilarityModel, Source};
use crate::serve::capacity::lane::Lane;
use crate::serve::http::extract::{BoundedList, JsonBody, Limit, Object, OptionalJsonBody};
use crate::serve::http::problem::ApiError;
use crate::serve::metrics::Fallback;
use crate::serve::models::LoadedModel;
use crate::serve::models::shadow::overlap;
use crate::serve::state::AppState;
use crate::serve::state::hidden_tracks::Snapshot;

/// Most playlists in one inline request.
const MAX_PLAYLISTS: usize = 64;
/// Most tracks of an inline playlist, and most excluded tracks.
const MAX_TRACKS: usize = 10_000;
/// Most tracks of all playlists of an inline request.
const MAX_TRACKS_IN_ALL: usize = 50_000;
/// Most tracks that an inline request recommends with `diversity` or `explain`: each of them is compared with others.
const MAX_COMPARED: usize = 10_000;

/// Returns the routes.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(complete)).routes(routes!(complete_inline))
}

/// How much to diversify: from 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "f64")]
#[schema(value_type = f32, minimum = 0, maximum = 1)]
pub struct Diversity(f32);

impl Diversity {
    /// Returns the number.
    pub fn get(self) -> f32 {
        self.0
    }
}

impl TryFrom<f64> for Diversity {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        if (0.0..=1.0).contains(&value) { Ok(Self(value as f32)) } else { Err("must be between 0 and 1".to_owned()) }
    }
}

impl PartialSchema for CompletionMethod {
    fn schema() -> RefOr<Schema> {
        let names = ["ranking", "neumf", "track2vec", "popularity"];
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("What recommends."))
            .enum_values(Some(names))
            .into()
    }
}

impl ToSchema for CompletionMethod {
    fn name() -> Cow<'static, str> {
        "CompletionModel".into()
    }
}

/// How to complete a stored playlist. All fields may be omitted.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompleteRequest {
    /// number of tracks to recommend
    #[serde(default)]
    pub limit: Limit,
    /// ids of tracks not to recommend, up to 10,000
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 10_000)]
    pub exclude: BoundedList<String, MAX_TRACKS>,
    /// what recommends; `ranking` if omitted, or `track2vec` if no completion model is loaded
    pub model: Option<CompletionMethod>,
    /// published version of the model; the current one if omitted
    pub version: Option<String>,
    /// 0: the most relevant tracks; towards 1: tracks that are less and less like each other
    #[serde(default)]
    pub diversity: Diversity,
    /// whether to explain each recommendation
    #[serde(default)]
    pub explain: bool,
}

/// Playlists to complete, which the catalog need not have.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InlineCompleteRequest {
    /// 1 to 64 playlists, with up to 50,000 tracks in all
    #[schema(value_type = Vec<InlinePlaylist>, min_items = 1, max_items = 64)]
    pub playlists: BoundedList<Object<InlinePlaylist>, MAX_PLAYLISTS>,
    /// number of tracks to recommend for each; with `diversity` or `explain` up to 10,000 for all playlists together
    #[serde(default)]
    pub limit: Limit,
    /// ids of tracks not to recommend for any playlist, up to 10,000
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 10_000)]
    pub exclude: BoundedList<String, MAX_TRACKS>,
    /// what recommends; `ranking` if omitted, or `track2vec` if no completion model is loaded
    pub model: Option<CompletionMethod>,
    /// published version of the model; the current one if omitted
    pub version: Option<String>,
    /// 0: the most relevant tracks; towards 1: tracks that are less and less like each other
    #[serde(default)]
    pub diversity: Diversity,
    /// whether to explain each recommendation
    #[serde(default)]
    pub explain: bool,
}

/// A playlist given in the request.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InlinePlaylist {
    /// title; `ranking` uses its first 200 characters
    #[serde(default)]
    #[schema(example = "late night jazz")]
    pub title: Option<String>,
    /// ids of the tracks in order, up to 10,000; without any, `ranking` uses the title alone
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 10_000)]
    pub tracks: BoundedList<String, MAX_TRACKS>,
}

/// A recommended track with reasons.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CompletedItem {
    /// the track
    #[serde(flatten)]
    pub item: Item,
    /// why it is recommended, strongest reason first; only with `explain`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<ReasonBody>,
}

/// Why a track is recommended.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ReasonBody {
    /// `together`: playlists contain it together with `tracks`; `same_artist`, `same_album`: as `tracks`; `title`: playlists
    /// with a similar title contain it; `artist_in_title`: the title names its artist; `taste`: the factorization (or the
    /// track vectors) place it near `tracks`; `popularity`
    #[schema(example = "together")]
    pub kind: String,
    /// ids of the playlist's tracks that the reason refers to, most important first
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tracks: Vec<String>,
    /// for `together`: number of playlists with it and the first of `tracks`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub playlists: Option<u32>,
    /// for `title`: the title as it was compared
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

impl ReasonBody {
    fn new(reason: &Reason, vocabulary: &Vocabulary) -> Self {
        let ids = |rows: &[u32]| rows.iter().map(|&row| vocabulary.id(row).to_owned()).collect();
        let mut body = Self { kind: reason.as_str().to_owned(), tracks: Vec::new(), playlists: None, title: None };
        match reason {
            Reason::Together { seeds, playlists } => (body.tracks, body.playlists) = (ids(seeds), Some(*playlists)),
            Reason::SameArtist { seeds } | Reason::SameAlbum { seeds } | Reason::Taste { seeds } => {
                body.tracks = ids(seeds)
            }
            Reason::Title { title } => body.title = Some(title.clone()),
            Reason::ArtistInTitle | Reason::Popularity => {}
        }
        body
    }
}

/// The completion of a playlist.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CompletionBody {
    /// what recommended: the model, or `popularity` without any known track or title
    #[schema(example = "ranking")]
    pub source: String,
    /// best first; distinct, and not in the playlist yet
    pub items: Vec<CompletedItem>,
    /// tracks of the playlist that the model does not know; they were ignored
    pub unknown_tracks: Vec<String>,
}

/// Completion of a stored playlist.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CompleteResponse {
    /// the playlist
    pub playlist_id: String,
    /// version of the model that recommended
    pub model_version: String,
    /// the completion
    #[serde(flatten)]
    pub completion: CompletionBody,
    /// ids of `exclude` that the model does not know; they were ignored
    pub unknown_exclusions: Vec<String>,
}

/// Completions of inline playlists.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct InlineCompleteResponse {
    /// version of the model that recommended
    pub model_version: String,
    /// one for each playlist, in the order of the request
    pub completions: Vec<CompletionBody>,
    /// ids of `exclude` that the model does not know; they were ignored
    pub unknown_exclusions: Vec<String>,
}

/// Complete a stored playlist
///
/// Recommends tracks to add to a playlist of the catalog: none that it contains already, best first.
#[utoipa::path(post, path = "/playlists/{id}/complete", tag = "playlists",
    params(("id" = String, Path, description = "the app's id of the playlist, percent-encoded")),
    request_body(content = Option<CompleteRequest>, description = "may be omitted"),
    responses((status = 200, description = "The completion", body = CompleteResponse)))]
async fn complete(
    State(state): State<AppState>,
    Path(id): Path<String>,
    OptionalJsonBody(request): OptionalJsonBody<CompleteRequest>,
) -> Result<Json<CompleteResponse>, ApiError> {
    // Before the query of the catalog: a rejected request should cost nothing.
    state.engine.admits(Lane::Completion, 1)?;
    let id = playlist_id(id)?;
    let contents = state.catalog()?.playlist_contents(&id).await?;
    let contents = contents.ok_or_else(|| ApiError::UnknownPlaylist(id.to_string()))?;
    let InlineCompleteResponse { model_version, mut completions, unknown_exclusions } =
        complete_all(&state, vec![contents], request).await?;
    let completion = completions.pop();
    let completion = completion.ok_or_else(|| ApiError::Internal(anyhow::anyhow!("one playlist, no completion")))?;
    Ok(Json(CompleteResponse { playlist_id: id.into(), model_version, completion, unknown_exclusions }))
}

/// Complete inline playlists
///
/// Recommends tracks to add to up to 64 playlists given in the request.
#[utoipa::path(post, path = "/playlists/complete", tag = "playlists",
    request_body = InlineCompleteRequest,
    responses((status = 200, description = "A completion for each playlist", body = InlineCompleteResponse)))]
async fn complete_inline(
    State(state): State<AppState>,
    JsonBody(request): JsonBody<InlineCompleteRequest>,
) -> Result<Json<InlineCompleteResponse>, ApiError> {
    if request.playlists.0.is_empty() {
        let reason = format!("must contain 1 to {MAX_PLAYLISTS} playlists");
        return Err(ApiError::invalid("playlists", reason));
    }
    check_cost(&request)?;
    let playlists = request.playlists.0.into_iter();
    let playlists = playlists
        .map(|Object(playlist)| PlaylistContents { title: playlist.title, tracks: playlist.tracks.0 })
        .collect();
    let options = CompleteRequest {
        exclude: request.exclude,
        limit: request.limit,
        model: request.model,
        version: request.version,
        diversity: request.diversity,
        explain: request.explain,
    };
    complete_all(&state, playlists, options).await.map(Json)
}

/// Rejects a request that would occupy the engine for long.
fn check_cost(request: &InlineCompleteRequest) -> Result<(), ApiError> {
    let tracks: usize = request.playlists.0.iter().map(|Object(playlist)| playlist.tracks.0.len()).sum();
    if tracks > MAX_TRACKS_IN_ALL {
        let reason = format!("have {tracks} tracks in all; the maximum is {MAX_TRACKS_IN_ALL}: send fewer at once");
        return Err(ApiError::invalid("playlists", reason));
    }
    let recommended = request.playlists.0.len() * request.limit.get();
    if (request.explain || request.diversity.get() > 0.0) && recommended > MAX_COMPARED {
        let reason = format!(
            "with `diversity` or `explain` the maximum is {MAX_COMPARED} for all playlists together, not {recommended}"
        );
        return Err(ApiError::invalid("limit", reason));
    }
    Ok(())
}

/// Playlists to complete by the app's ids, and how.
struct Job {
    model: ChosenModel,
    playlists: Vec<PlaylistContents>,
    options: CompleteRequest,
    hidden: Arc<Snapshot>,
    /// what `exclude` is to `model`, looked up once
    excluded: OnceLock<Known>,
}

/// Ids as a model knows them.
struct Known {
    /// rows of the ids that it knows
    rows: Vec<u32>,
    /// the others, rising, each once
    unknown: Vec<String>,
}

/// A completion without names yet.
struct UnnamedCompletion {
    recommended: Vec<(ScoredTrack, Vec<ReasonBody>)>,
    unknown_tracks: Vec<String>,
}

impl UnnamedCompletion {
    fn ids(&self) -> impl Iterator<Item = &str> {
        self.recommended.iter().map(|(item, _)| item.id.as_str())
    }

    /// Returns whether nothing was known to recommend from.
    fn is_popularity(&self) -> bool {
        self.recommended.first().is_none_or(|(item, _)| item.source == Source::Popularity)
    }
}

/// The loaded model that recommends, and by which method.
enum ChosenModel {
    Completion(Arc<LoadedModel<CompletionModel>>, CompletionMethod),
    Similarity(Arc<LoadedModel<SimilarityModel>>, CompletionMethod),
}

impl ChosenModel {
    async fn new(state: &AppState, model: Option<CompletionMethod>, version: Option<&str>) -> Result<Self, ApiError> {
        let has_completion = state.models.current::<CompletionModel>().is_some();
        let default = if has_completion { CompletionMethod::Ranking } else { CompletionMethod::Track2vec };
        let method = model.unwrap_or(default);
        let similarity = match method.kind() {
            // The version is one of the kind that recommends.
            Kind::Similarity => state.models.version(version).await?,
            _ => match state.models.version(version).await? {
                Some(loaded) if Completer::Completion(&loaded.model).supports(method) => {
                    return Ok(Self::Completion(loaded, method));
                }
                Some(_) => {
                    let reason = "the completion model was trained without `neumf`";
                    return Err(ApiError::UnknownModel(reason.to_owned()));
                }
                None => state.models.current().filter(|_| method == CompletionMethod::Popularity),
            },
        };
        let missing = if model == Some(CompletionMethod::Track2vec) { Kind::Similarity } else { Kind::Completion };
        similarity.map(|loaded| Self::Similarity(loaded, method)).ok_or(ApiError::NoModel(missing))
    }

    fn completer(&self) -> (Completer<'_>, CompletionMethod) {
        match self {
            Self::Completion(loaded, method) => (Completer::Completion(&loaded.model), *method),
            Self::Similarity(loaded, method) => (Completer::Similarity(&loaded.model), *method),
        }
    }

    fn version(&self) -> String {
        match self {
            Self::Completion(loaded, _) => loaded.manifest.version.clone(),
            Self::Similarity(loaded, _) => loaded.manifest.version.clone(),
        }
    }

    fn hidden_rows(&self, hidden: &Snapshot) -> Arc<[u32]> {
        match self {
            Self::Completion(loaded, _) => loaded.hidden_rows(hidden),
            Self::Similarity(loaded, _) => loaded.hidden_rows(hidden),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Completion(..) => Kind::Completion,
            Self::Similarity(..) => Kind::Similarity,
        }
    }

    /// Returns the shadow version of the model if it also answers this request.
    fn shadow(&self, state: &AppState, version: Option<&str>) -> Option<Self> {
        match self {
            Self::Completion(_, method) => Some(Self::Completion(state.models.due_shadow(version)?, *method)),
            Self::Similarity(_, method) => Some(Self::Similarity(state.models.due_shadow(version)?, *method)),
        }
    }

    /// Splits a batch: track vectors are scanned once for many playlists, other models work on each separately.
    fn parts(&self, playlists: usize) -> Vec<Range<usize>> {
        let size = if matches!(self, Self::Completion(..)) { 1 } else { 16 };
        (0..playlists).step_by(size).map(|first| first..(first + size).min(playlists)).collect()
    }
}

/// Completes each playlist.
async fn complete_all(
    state: &AppState,
    playlists: Vec<PlaylistContents>,
    options: CompleteRequest,
) -> Result<InlineCompleteResponse, ApiError> {
    let model = ChosenModel::new(state, options.model, options.version.as_deref()).await?;
    let model_version = model.version();
    let lane = if playlists.len() == 1 { Lane::Completion } else { Lane::Batch };
    state.metrics.batch(playlists.len());
    if options.model.is_none() && matches!(model, ChosenModel::Similarity(..)) {
        state.metrics.fallback(Fallback::NoCompletionModel);
    }
    let (hidden, excluded) = (state.hidden_tracks.snapshot(), OnceLock::new());
    let job = Arc::new(Job { model, playlists, options, hidden, excluded });
    // The playlists of a batch go to all threads, and other requests in between.
    let parts = job.model.parts(job.playlists.len()).into_iter().map(|part| {
        let job = job.clone();
        move || job.complete(part)
    });
    let completions = state.engine.run_all(lane, parts.collect()).await?;
    let completions: Vec<UnnamedCompletion> = completions.into_iter().flatten().collect();
    let unknown_exclusions = job.excluded.get().map(|excluded| excluded.unknown.clone()).unwrap_or_default();
    shadow(state, job, &completions);
    let popular = completions.iter().filter(|completion| completion.is_popularity());
    popular.for_each(|_| state.metrics.fallback(Fallback::Popularity));
    let ids: Vec<String> = completions.iter().flat_map(UnnamedCompletion::ids).map(ToOwned::to_owned).collect();
    let names = state.names.of(&ids).await;
    let completions = completions.into_iter().map(|completion| CompletionBody {
        source: source_of(completion.recommended.first().map(|(item, _)| item.source)),
        items: completion
            .recommended
            .into_iter()
            .map(|(item, reasons)| CompletedItem { item: item.named(&names), reasons })
            .collect(),
        unknown_tracks: completion.unknown_tracks,
    });
    Ok(InlineCompleteResponse { model_version, completions: completions.collect(), unknown_exclusions })
}

/// Lets the shadow version answer too, if there is one: off the path of the request, and only if it has time.
fn shadow(state: &AppState, job: Arc<Job>, completions: &[UnnamedCompletion]) {
    let Some(shadow) = job.model.shadow(state, job.options.version.as_deref()) else { return };
    let first: Vec<String> =
        completions.iter().take(1).flat_map(UnnamedCompletion::ids).map(ToOwned::to_owned).collect();
    state.run_shadow(shadow.kind(), move || {
        let excluded = known(shadow.completer().0.vocabulary(), &job.options.exclude.0);
        let completions = job.complete_with(&shadow, &excluded.rows, 0..1);
        overlap(&first, completions.iter().flat_map(UnnamedCompletion::ids))
    });
}

impl Job {
    /// Completes some of the playlists, on an engine thread.
    fn complete(&self, part: Range<usize>) -> Vec<UnnamedCompletion> {
        let vocabulary = self.model.completer().0.vocabulary();
        let excluded = self.excluded.get_or_init(|| known(vocabulary, &self.options.exclude.0));
        self.complete_with(&self.model, &excluded.rows, part)
    }

    /// Completes some of the playlists by `model`, without the rows `excluded`.
    fn complete_with(&self, model: &ChosenModel, excluded: &[u32], part: Range<usize>) -> Vec<UnnamedCompletion> {
        let (completer, method) = model.completer();
        let vocabulary = completer.vocabulary();
        let withheld = model.hidden_rows(&self.hidden);
        let mut unknown = Vec::with_capacity(part.len());
        let playlists: Vec<Completion> = self.playlists[part]
            .iter()
            .map(|playlist| {
                let tracks = known(vocabulary, &playlist.tracks);
                unknown.push(tracks.unknown);
                Completion {
                    title: playlist.title.clone(),
                    seeds: tracks.rows,
                    excluded: excluded.to_vec(),
                    withheld: withheld.clone(),
                    limit: self.options.limit.get(),
                    diversity: self.options.diversity.get(),
                    explain: self.options.explain,
                }
            })
            .collect();
        let reasons_of = |item: &Completed| -> Vec<ReasonBody> {
            let reasons = item.reasons.iter().filter(|_| self.options.explain);
            reasons.map(|reason| ReasonBody::new(reason, vocabulary)).collect()
        };
        let completed = completer.complete(method, &playlists).into_iter().zip(unknown);
        let completions = completed.map(|(items, unknown_tracks)| {
            let items = items.iter().map(|item| (ScoredTrack::new(&item.recommended, vocabulary), reasons_of(item)));
            UnnamedCompletion { recommended: items.collect(), unknown_tracks }
        });
        completions.collect()
    }
}

/// Looks ids up.
fn known(vocabulary: &Vocabulary, ids: &[String]) -> Known {
    let mut rows = Vec::with_capacity(ids.len());
    let mut unknown = Vec::new();
    for id in ids {
        match vocabulary.row(id) {
            Some(row) => rows.push(row),
            None => unknown.push(id.clone()),
        }
    }
    unknown.sort_unstable();
    unknown.dedup();
    Known { rows, unknown }
}
