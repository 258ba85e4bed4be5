//! Playlist completion: `POST /playlists/{id}/complete` and `POST /playlists/complete`.

use std::ops::Range;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::recommended_track::{Item, ScoredTrack, source_of};
use crate::bundle::{Kind, Vocabulary};
use crate::catalog::PlaylistContents;
use crate::recommend::completion;
use crate::recommend::completion::Completed;
use crate::recommend::diversify::{diversify, likeness, pool_for};
use crate::recommend::explain::Reason;
use crate::recommend::{Completion, Recommended, SimilarityModel, Source};
use crate::serve::capacity::engine::Lane;
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

/// What recommends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CompletionModel {
    /// several retrievers and a learned ranking
    Ranking,
    /// NeuMF with clustered neighbors, filled up with popular tracks
    Neumf,
    /// track vectors, filled up with popular tracks
    Track2vec,
    /// the most popular tracks, the same for everyone
    Popularity,
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
    pub model: Option<CompletionModel>,
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
    /// 1 to 64 playlists
    #[schema(value_type = Vec<InlinePlaylist>, min_items = 1, max_items = 64)]
    pub playlists: BoundedList<Object<InlinePlaylist>, MAX_PLAYLISTS>,
    /// number of tracks to recommend for each
    #[serde(default)]
    pub limit: Limit,
    /// ids of tracks not to recommend for any playlist, up to 10,000
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 10_000)]
    pub exclude: BoundedList<String, MAX_TRACKS>,
    /// what recommends; `ranking` if omitted, or `track2vec` if no completion model is loaded
    pub model: Option<CompletionModel>,
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
    /// tracks of the playlist and of `exclude` that the model does not know; they were ignored
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
}

/// Completions of inline playlists.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct InlineCompleteResponse {
    /// version of the model that recommended
    pub model_version: String,
    /// one for each playlist, in the order of the request
    pub completions: Vec<CompletionBody>,
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
    // Before the catalog is request: what is refused should cost nothing.
    state.engine.admits(Lane::Completion, 1)?;
    let contents = state.catalog()?.playlist_contents(&id).await?;
    let contents = contents.ok_or_else(|| ApiError::UnknownPlaylist(id.clone()))?;
    let request = CompletionRequest {
        playlists: vec![contents],
        exclude: request.exclude.0,
        limit: request.limit,
        model: request.model,
        version: request.version,
        diversity: request.diversity,
        explain: request.explain,
    };
    let (model_version, mut completions) = complete_all(&state, request).await?;
    let completion = completions.pop();
    let completion = completion.ok_or_else(|| ApiError::Internal(anyhow::anyhow!("one playlist, no completion")))?;
    Ok(Json(CompleteResponse { playlist_id: id, model_version, completion }))
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
    let playlists = request.playlists.0.into_iter();
    let request = CompletionRequest {
        playlists: playlists
            .map(|Object(playlist)| PlaylistContents { title: playlist.title, tracks: playlist.tracks.0 })
            .collect(),
        exclude: request.exclude.0,
        limit: request.limit,
        model: request.model,
        version: request.version,
        diversity: request.diversity,
        explain: request.explain,
    };
    let (model_version, completions) = complete_all(&state, request).await?;
    Ok(Json(InlineCompleteResponse { model_version, completions }))
}

/// Playlists by the app's ids, and how to complete them.
struct CompletionRequest {
    playlists: Vec<PlaylistContents>,
    exclude: Vec<String>,
    limit: Limit,
    model: Option<CompletionModel>,
    version: Option<String>,
    diversity: Diversity,
    explain: bool,
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

/// The model that recommends.
enum Answerer {
    Completion(Arc<LoadedModel<completion::CompletionModel>>, CompletionModel),
    Similarity(Arc<LoadedModel<SimilarityModel>>, CompletionModel),
}

impl Answerer {
    async fn choose(state: &AppState, model: Option<CompletionModel>, version: Option<&str>) -> Result<Self, ApiError> {
        use CompletionModel::{Neumf, Popularity, Ranking, Track2vec};
        let (mut completion, mut similarity) = (state.models.current(), state.models.current());
        // The version is one of the kind that recommends.
        match model {
            Some(Track2vec) => similarity = state.models.version(version).await?,
            None if completion.is_none() => similarity = state.models.version(version).await?,
            _ => completion = state.models.version(version).await?,
        }
        match (model, completion, similarity) {
            (None | Some(Ranking), Some(loaded), _) => Ok(Self::Completion(loaded, Ranking)),
            (Some(Neumf), Some(loaded), _) if loaded.model.has_neumf() => Ok(Self::Completion(loaded, Neumf)),
            (Some(Neumf), Some(_), _) => {
                Err(ApiError::UnknownModel("the completion model was trained without `neumf`".to_owned()))
            }
            (Some(Popularity), Some(loaded), _) => Ok(Self::Completion(loaded, Popularity)),
            (None | Some(Track2vec), _, Some(loaded)) => Ok(Self::Similarity(loaded, Track2vec)),
            (Some(Popularity), None, Some(loaded)) => Ok(Self::Similarity(loaded, Popularity)),
            (Some(Track2vec), _, None) => Err(ApiError::NoModel(Kind::Similarity)),
            _ => Err(ApiError::NoModel(Kind::Completion)),
        }
    }

    fn version(&self) -> String {
        match self {
            Self::Completion(loaded, _) => loaded.manifest.version.clone(),
            Self::Similarity(loaded, _) => loaded.manifest.version.clone(),
        }
    }

    fn vocabulary(&self) -> &Vocabulary {
        match self {
            Self::Completion(loaded, _) => loaded.model.vocabulary(),
            Self::Similarity(loaded, _) => loaded.model.vocabulary(),
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
            Self::Completion(_, model) => Some(Self::Completion(state.models.due_shadow(version)?, *model)),
            Self::Similarity(_, model) => Some(Self::Similarity(state.models.due_shadow(version)?, *model)),
        }
    }

    /// Splits a batch: track vectors are scanned once for many playlists, other models work on each separately.
    fn parts(&self, playlists: usize) -> Vec<Range<usize>> {
        let size = if matches!(self, Self::Completion(..)) { 1 } else { 16 };
        (0..playlists).step_by(size).map(|first| first..(first + size).min(playlists)).collect()
    }

    fn complete(&self, playlists: &[Completion]) -> Vec<Vec<Completed>> {
        let diversifies = matches!(self, Self::Completion(_, CompletionModel::Ranking));
        if diversifies || playlists.iter().all(|playlist| playlist.diversity == 0.0) {
            return self.most_relevant(playlists);
        }
        let with_pool = |playlist: &Completion| Completion { limit: pool_for(playlist.limit), ..playlist.clone() };
        let pools = self.most_relevant(&playlists.iter().map(with_pool).collect::<Vec<_>>());
        let alike = |left, right| match self {
            Self::Completion(loaded, _) => likeness(&loaded.model.bundle().index, left, right),
            Self::Similarity(loaded, _) => loaded.model.likeness(left, right),
        };
        let choose = |(pool, playlist): (Vec<Completed>, &Completion)| -> Vec<Completed> {
            let rows: Vec<u32> = pool.iter().map(|item| item.recommended.row).collect();
            let relevance: Vec<f32> = pool.iter().map(|item| item.recommended.score).collect();
            let chosen = diversify(alike, &rows, &relevance, playlist.diversity, playlist.limit);
            chosen.into_iter().map(|index| pool[index].clone()).collect()
        };
        pools.into_iter().zip(playlists).map(choose).collect()
    }

    fn most_relevant(&self, playlists: &[Completion]) -> Vec<Vec<Completed>> {
        let popular = |popular: &dyn Fn(&[u32], usize) -> Vec<Recommended>| -> Vec<Vec<Completed>> {
            let answers = playlists.iter().map(|playlist| popular(&playlist.forbidden(), playlist.limit));
            answers.map(|items| items.into_iter().map(Completed::from).collect()).collect()
        };
        match self {
            Self::Completion(loaded, CompletionModel::Popularity) => {
                popular(&|rows, limit| loaded.model.popular(rows, limit))
            }
            Self::Similarity(loaded, CompletionModel::Popularity) => {
                popular(&|rows, limit| loaded.model.popular(rows, limit))
            }
            Self::Completion(loaded, CompletionModel::Neumf) => {
                playlists.iter().map(|playlist| loaded.model.complete_by_neumf(playlist)).collect()
            }
            Self::Completion(loaded, _) => playlists.iter().map(|playlist| loaded.model.complete(playlist)).collect(),
            Self::Similarity(loaded, _) => {
                let answers = loaded.model.complete(playlists).into_iter();
                answers.map(|items| items.into_iter().map(Completed::from).collect()).collect()
            }
        }
    }
}

/// Returns the version of the model, and a completion for each playlist.
async fn complete_all(state: &AppState, request: CompletionRequest) -> Result<(String, Vec<CompletionBody>), ApiError> {
    let answerer = Answerer::choose(state, request.model, request.version.as_deref()).await?;
    let version = answerer.version();
    let (answerer, request, hidden) = (Arc::new(answerer), Arc::new(request), state.hidden_tracks.snapshot());
    let lane = if request.playlists.len() == 1 { Lane::Completion } else { Lane::Batch };
    state.metrics.batch(request.playlists.len());
    if request.model.is_none() && matches!(*answerer, Answerer::Similarity(..)) {
        state.metrics.fallback(Fallback::NoCompletionModel);
    }
    // The playlists of a batch go to all threads, and other requests in between.
    let parts = answerer.parts(request.playlists.len()).into_iter().map(|part| {
        let (answerer, request, hidden) = (answerer.clone(), request.clone(), hidden.clone());
        move || answer(&answerer, &request, part, &hidden)
    });
    let answers: Vec<UnnamedCompletion> =
        state.engine.run_all(lane, parts.collect()).await?.into_iter().flatten().collect();
    shadow(state, &answerer, &request, &hidden, &answers);
    let popular = answers.iter().filter(|answer| answer.is_popularity());
    popular.for_each(|_| state.metrics.fallback(Fallback::Popularity));
    let items = answers.iter().flat_map(|answer| &answer.recommended);
    let all: Vec<String> = items.map(|(item, _)| item.id.clone()).collect();
    let names = state.names.of(&all).await;
    let completions = answers.into_iter().map(|answer| CompletionBody {
        source: source_of(answer.recommended.first().map(|(item, _)| item.source)),
        items: answer
            .recommended
            .into_iter()
            .map(|(item, reasons)| CompletedItem { item: item.named(&names), reasons })
            .collect(),
        unknown_tracks: answer.unknown_tracks,
    });
    Ok((version, completions.collect()))
}

/// Lets the shadow version answer too, if there is one: off the path of the request, and only if it has time.
fn shadow(
    state: &AppState,
    answerer: &Answerer,
    request: &Arc<CompletionRequest>,
    hidden: &Arc<Snapshot>,
    answers: &[UnnamedCompletion],
) {
    let Some(second) = answerer.shadow(state, request.version.as_deref()) else { return };
    let (request, hidden) = (request.clone(), hidden.clone());
    let first: Vec<String> = answers.iter().take(1).flat_map(UnnamedCompletion::ids).map(ToOwned::to_owned).collect();
    state.run_shadow(second.kind(), move || {
        let answers = answer(&second, &request, 0..1, &hidden);
        overlap(&first, answers.iter().flat_map(UnnamedCompletion::ids))
    });
}

/// Completes some of the playlists, on an engine thread.
fn answer(
    answerer: &Answerer,
    request: &CompletionRequest,
    part: Range<usize>,
    hidden: &Snapshot,
) -> Vec<UnnamedCompletion> {
    let vocabulary = answerer.vocabulary();
    let withheld = answerer.hidden_rows(hidden);
    let (excluded, unknown_exclusions) = rows(vocabulary, &request.exclude);
    let mut unknown = Vec::with_capacity(part.len());
    let playlists: Vec<Completion> = request.playlists[part]
        .iter()
        .map(|playlist| {
            let (seeds, unknown_seeds) = rows(vocabulary, &playlist.tracks);
            unknown.push([unknown_seeds, unknown_exclusions.clone()].concat());
            Completion {
                title: playlist.title.clone(),
                seeds,
                excluded: excluded.clone(),
                withheld: withheld.clone(),
                limit: request.limit.get(),
                diversity: request.diversity.get(),
                explain: request.explain,
            }
        })
        .collect();
    let reasons_of = |item: &Completed| -> Vec<ReasonBody> {
        let reasons = item.reasons.iter().filter(|_| request.explain);
        reasons.map(|reason| ReasonBody::new(reason, vocabulary)).collect()
    };
    answerer
        .complete(&playlists)
        .iter()
        .zip(unknown)
        .map(|(items, mut unknown_tracks)| {
            unknown_tracks.sort_unstable();
            unknown_tracks.dedup();
            let recommended =
                items.iter().map(|item| (ScoredTrack::new(&item.recommended, vocabulary), reasons_of(item))).collect();
            UnnamedCompletion { recommended, unknown_tracks }
        })
        .collect()
}

/// Returns the rows of the ids that the model knows, and the ids that it does not know.
fn rows(vocabulary: &Vocabulary, ids: &[String]) -> (Vec<u32>, Vec<String>) {
    let mut rows = Vec::with_capacity(ids.len());
    let mut unknown = Vec::new();
    for id in ids {
        match vocabulary.row(id) {
            Some(row) => rows.push(row),
            None => unknown.push(id.clone()),
        }
    }
    (rows, unknown)
}
