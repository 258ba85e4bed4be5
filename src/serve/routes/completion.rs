//! What comes next in a playlist.

use std::ops::Range;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::playlists::known;
use super::similar::{Item, Scored, source_of};
use crate::bundle::{Kind, Vocabulary};
use crate::catalog::PlaylistContents;
use crate::recommend::completion::{Completed, CompletionModel};
use crate::recommend::dispatch::{Completer, CompletionMethod};
use crate::recommend::explain::Reason;
use crate::recommend::{Completion, SimilarityModel, Source};
use crate::serve::capacity::engine::Lane;
use crate::serve::http::extract::{BoundedList, Diversity, JsonBody, Limit, Object, OptionalJsonBody};
use crate::serve::http::problem::{ApiError, Problem};
use crate::serve::metrics::Fallback;
use crate::serve::models::shadow::share_of_both;
use crate::serve::state::hidden_tracks::Snapshot;
use crate::serve::{AppState, Loaded};

/// Most playlists in one inline request.
const MAX_PLAYLISTS: usize = 64;
/// Most tracks of an inline playlist, and most excluded ones.
const MAX_TRACKS: usize = 10_000;

/// Routes of completion.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(complete)).routes(routes!(complete_inline))
}

/// How to complete a stored playlist. All of it may be left out.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompleteRequest {
    /// number of tracks to recommend
    #[serde(default)]
    pub limit: Limit,
    /// ids of tracks that must not be recommended, up to 10,000
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 10_000)]
    pub exclude: BoundedList<String, MAX_TRACKS>,
    /// what recommends; left out, `ranking`, or `track2vec` as long as no completion model is loaded
    pub model: Option<CompletionMethod>,
    /// a published version of the model; left out, the current one
    pub version: Option<String>,
    /// 0 for the most relevant tracks, towards 1 for ones less and less like each other
    #[serde(default)]
    pub diversity: Diversity,
    /// whether to say why each track is recommended
    #[serde(default)]
    pub explain: bool,
}

/// Playlists to complete that need not be in the catalog.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InlineCompleteRequest {
    /// 1 to 64 playlists
    #[schema(value_type = Vec<InlinePlaylist>, min_items = 1, max_items = 64)]
    pub playlists: BoundedList<Object<InlinePlaylist>, MAX_PLAYLISTS>,
    /// number of tracks to recommend for each
    #[serde(default)]
    pub limit: Limit,
    /// ids of tracks that must not be recommended for any, up to 10,000
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 10_000)]
    pub exclude: BoundedList<String, MAX_TRACKS>,
    /// what recommends; left out, `ranking`, or `track2vec` as long as no completion model is loaded
    pub model: Option<CompletionMethod>,
    /// a published version of the model; left out, the current one
    pub version: Option<String>,
    /// 0 for the most relevant tracks, towards 1 for ones less and less like each other
    #[serde(default)]
    pub diversity: Diversity,
    /// whether to say why each track is recommended
    #[serde(default)]
    pub explain: bool,
}

/// A playlist given in the request.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InlinePlaylist {
    /// its title; `ranking` goes by it, by its first 200 characters
    #[serde(default)]
    #[schema(example = "late night jazz")]
    pub title: Option<String>,
    /// ids of its tracks in order, up to 10,000; without any, `ranking` goes by the title alone
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 10_000)]
    pub tracks: BoundedList<String, MAX_TRACKS>,
}

/// A recommended track with what speaks for it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CompletedItem {
    /// the track
    #[serde(flatten)]
    pub item: Item,
    /// what speaks for it, strongest first; only where `explain` was asked for
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<ReasonBody>,
}

/// Something that speaks for a recommended track.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ReasonBody {
    /// `together`: playlists hold it together with `tracks`; `same_artist`, `same_album`: as `tracks`; `title`: playlists
    /// with a similar title hold it; `artist_in_title`: the title names its artist; `taste`: the factorisation (or the
    /// track vectors) put it near `tracks`; `popularity`
    #[schema(example = "together")]
    pub kind: String,
    /// ids of the playlist's tracks that it refers to, the most telling first
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tracks: Vec<String>,
    /// for `together`: how many playlists hold it and the first of `tracks`
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

/// What comes next in a playlist.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CompletionBody {
    /// what the answer rests on: the model, or `popularity` when there is no known track or title to go by
    #[schema(example = "ranking")]
    pub source: String,
    /// best first; distinct, none of them in the playlist already
    pub items: Vec<CompletedItem>,
    /// tracks of the playlist and the exclusions that the model does not know; they were passed over
    pub unknown_tracks: Vec<String>,
}

/// Completion of a stored playlist.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CompleteResponse {
    /// the playlist
    pub playlist_id: String,
    /// version of the model that answered
    pub model_version: String,
    /// what comes next
    #[serde(flatten)]
    pub completion: CompletionBody,
}

/// Completions of inline playlists.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct InlineCompleteResponse {
    /// version of the model that answered
    pub model_version: String,
    /// one a playlist, in the order of the request
    pub completions: Vec<CompletionBody>,
}

/// What comes next in a stored playlist: tracks that are not in it yet, best first.
#[utoipa::path(post, path = "/playlists/{id}/complete", tag = "playlists",
    params(("id" = String, Path, description = "the app's id of the playlist, percent-encoded")),
    request_body(content = Option<CompleteRequest>, description = "may be left out"),
    responses((status = 200, description = "What comes next", body = CompleteResponse),
              (status = 400, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
              (status = 404, description = "No such playlist, or version of the model", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "That version is damaged", body = Problem, content_type = "application/problem+json"),
              (status = 413, description = "Body too large", body = Problem, content_type = "application/problem+json"),
              (status = 415, description = "Not declared as JSON", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "A field is wrong", body = Problem, content_type = "application/problem+json"),
              (status = 503, description = "No model, catalog away, or too busy", body = Problem, content_type = "application/problem+json")))]
async fn complete(
    State(state): State<AppState>,
    Path(id): Path<String>,
    OptionalJsonBody(request): OptionalJsonBody<CompleteRequest>,
) -> Result<Json<CompleteResponse>, ApiError> {
    // Before the catalog is asked: what is refused should cost nothing.
    state.engine.admits(Lane::Completion, 1)?;
    let id = known(id)?;
    let contents = state.catalog()?.playlist_contents(&id).await?;
    let contents = contents.ok_or_else(|| ApiError::UnknownPlaylist(id.to_string()))?;
    let asked = Asked {
        playlists: vec![contents],
        exclude: request.exclude.0,
        limit: request.limit,
        model: request.model,
        version: request.version,
        diversity: request.diversity,
        explain: request.explain,
    };
    let (model_version, mut completions) = complete_all(&state, asked).await?;
    let completion = completions.pop();
    let completion = completion.ok_or_else(|| ApiError::Internal(anyhow::anyhow!("one playlist, no completion")))?;
    Ok(Json(CompleteResponse { playlist_id: id.into(), model_version, completion }))
}

/// What comes next in up to 64 playlists given in the request.
#[utoipa::path(post, path = "/playlists/complete", tag = "playlists",
    request_body = InlineCompleteRequest,
    responses((status = 200, description = "What comes next in each", body = InlineCompleteResponse),
              (status = 400, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
              (status = 404, description = "No such version of the model", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "That version is damaged", body = Problem, content_type = "application/problem+json"),
              (status = 413, description = "Body too large", body = Problem, content_type = "application/problem+json"),
              (status = 415, description = "Not declared as JSON", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "A field is wrong", body = Problem, content_type = "application/problem+json"),
              (status = 503, description = "No model, or too busy", body = Problem, content_type = "application/problem+json")))]
async fn complete_inline(
    State(state): State<AppState>,
    JsonBody(request): JsonBody<InlineCompleteRequest>,
) -> Result<Json<InlineCompleteResponse>, ApiError> {
    if request.playlists.0.is_empty() {
        let reason = format!("must hold 1 to {MAX_PLAYLISTS} playlists");
        return Err(ApiError::InvalidField { field: "playlists".to_owned(), reason });
    }
    let playlists = request.playlists.0.into_iter();
    let asked = Asked {
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
    let (model_version, completions) = complete_all(&state, asked).await?;
    Ok(Json(InlineCompleteResponse { model_version, completions }))
}

/// Playlists by the app's ids, and how to complete them.
struct Asked {
    playlists: Vec<PlaylistContents>,
    exclude: Vec<String>,
    limit: Limit,
    model: Option<CompletionMethod>,
    version: Option<String>,
    diversity: Diversity,
    explain: bool,
}

/// A completion before the names are known.
struct Answer {
    recommended: Vec<(Scored, Vec<ReasonBody>)>,
    unknown_tracks: Vec<String>,
}

impl Answer {
    fn ids(&self) -> impl Iterator<Item = &str> {
        self.recommended.iter().map(|(item, _)| item.id.as_str())
    }

    /// Whether there was nothing to go by.
    fn is_popularity(&self) -> bool {
        self.recommended.first().is_none_or(|(item, _)| item.source == Source::Popularity)
    }
}

/// The loaded model that answers, and by which method.
enum Answerer {
    Completion(Arc<Loaded<CompletionModel>>, CompletionMethod),
    Similarity(Arc<Loaded<SimilarityModel>>, CompletionMethod),
}

impl Answerer {
    async fn choose(
        state: &AppState,
        model: Option<CompletionMethod>,
        version: Option<&str>,
    ) -> Result<Self, ApiError> {
        let has_completion = state.models.completion().is_some();
        let default = if has_completion { CompletionMethod::Ranking } else { CompletionMethod::Track2vec };
        let method = model.unwrap_or(default);
        let similarity = match method.kind() {
            // A version is one of the kind that answers.
            Kind::Similarity => state.models.similarity_of(version).await?,
            _ => match state.models.completion_of(version).await? {
                Some(loaded) if Completer::Completion(&loaded.model).supports(method) => {
                    return Ok(Self::Completion(loaded, method));
                }
                Some(_) => {
                    let reason = "the loaded completion model was trained without `neumf`";
                    return Err(ApiError::UnknownModel(reason.to_owned()));
                }
                None => state.models.similarity().filter(|_| method == CompletionMethod::Popularity),
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

    fn withheld(&self, list: &Snapshot) -> Arc<[u32]> {
        match self {
            Self::Completion(loaded, _) => loaded.withheld(list),
            Self::Similarity(loaded, _) => loaded.withheld(list),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Completion(..) => Kind::Completion,
            Self::Similarity(..) => Kind::Similarity,
        }
    }

    /// The second version of what answers, where it is due.
    fn shadow(&self, state: &AppState) -> Option<Self> {
        match self {
            Self::Completion(_, method) => {
                let shadow = state.models.completion_shadow().filter(|shadow| shadow.is_due())?;
                Some(Self::Completion(shadow.loaded.clone(), *method))
            }
            Self::Similarity(_, method) => {
                let shadow = state.models.similarity_shadow().filter(|shadow| shadow.is_due())?;
                Some(Self::Similarity(shadow.loaded.clone(), *method))
            }
        }
    }

    /// How a batch is parted: track vectors are scanned once for many playlists, the rest is the work of each.
    fn parts(&self, playlists: usize) -> Vec<Range<usize>> {
        let size = if matches!(self, Self::Completion(..)) { 1 } else { 16 };
        (0..playlists).step_by(size).map(|first| first..(first + size).min(playlists)).collect()
    }
}

/// The version of the model that answered, and a completion for each playlist.
async fn complete_all(state: &AppState, asked: Asked) -> Result<(String, Vec<CompletionBody>), ApiError> {
    let answerer = Answerer::choose(state, asked.model, asked.version.as_deref()).await?;
    let version = answerer.version();
    let (answerer, asked, withheld) = (Arc::new(answerer), Arc::new(asked), state.withheld.snapshot());
    let lane = if asked.playlists.len() == 1 { Lane::Completion } else { Lane::Batch };
    state.metrics.batch(asked.playlists.len());
    if asked.model.is_none() && matches!(*answerer, Answerer::Similarity(..)) {
        state.metrics.fallback(Fallback::NoCompletionModel);
    }
    // The playlists of a batch are for all threads, and others come in between.
    let parts = answerer.parts(asked.playlists.len()).into_iter().map(|part| {
        let (answerer, asked, withheld) = (answerer.clone(), asked.clone(), withheld.clone());
        move || answer(&answerer, &asked, part, &withheld)
    });
    let answers: Vec<Answer> = state.engine.run_all(lane, parts.collect()).await?.into_iter().flatten().collect();
    shadow(state, &answerer, &asked, &withheld, &answers);
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

/// Has the second version, if there is one, answer too: off the path of the request, and only if it has time.
fn shadow(state: &AppState, answerer: &Answerer, asked: &Arc<Asked>, withheld: &Arc<Snapshot>, answers: &[Answer]) {
    let Some(second) = answerer.shadow(state).filter(|_| asked.version.is_none()) else { return };
    let (asked, withheld) = (asked.clone(), withheld.clone());
    let first: Vec<String> = answers.iter().take(1).flat_map(Answer::ids).map(ToOwned::to_owned).collect();
    state.shadow(second.kind(), move || {
        let answers = answer(&second, &asked, 0..1, &withheld);
        share_of_both(&first, answers.iter().flat_map(Answer::ids))
    });
}

/// On an engine thread.
fn answer(answerer: &Answerer, asked: &Asked, part: Range<usize>, withheld: &Snapshot) -> Vec<Answer> {
    let (completer, method) = answerer.completer();
    let vocabulary = completer.vocabulary();
    let withheld = answerer.withheld(withheld);
    let (excluded, unknown_exclusions) = rows(vocabulary, &asked.exclude);
    let mut unknown = Vec::with_capacity(part.len());
    let playlists: Vec<Completion> = asked.playlists[part]
        .iter()
        .map(|playlist| {
            let (seeds, unknown_seeds) = rows(vocabulary, &playlist.tracks);
            unknown.push([unknown_seeds, unknown_exclusions.clone()].concat());
            Completion {
                title: playlist.title.clone(),
                seeds,
                excluded: excluded.clone(),
                withheld: withheld.clone(),
                limit: asked.limit.get(),
                diversity: asked.diversity.get(),
                explain: asked.explain,
            }
        })
        .collect();
    let reasons_of = |item: &Completed| -> Vec<ReasonBody> {
        let reasons = item.reasons.iter().filter(|_| asked.explain);
        reasons.map(|reason| ReasonBody::new(reason, vocabulary)).collect()
    };
    completer
        .complete(method, &playlists)
        .iter()
        .zip(unknown)
        .map(|(items, mut unknown_tracks)| {
            unknown_tracks.sort_unstable();
            unknown_tracks.dedup();
            let recommended =
                items.iter().map(|item| (Scored::new(&item.recommended, vocabulary), reasons_of(item))).collect();
            Answer { recommended, unknown_tracks }
        })
        .collect()
}

/// The rows of the ids that the model knows, and the ids that it does not.
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
