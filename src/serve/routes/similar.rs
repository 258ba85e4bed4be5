//! Tracks similar to one, and those that come after it.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::bundle::{Kind, Vocabulary};
use crate::catalog::{TrackId, TrackName};
use crate::recommend::{Completion, Recommended, SimilarityModel, Source};
use crate::serve::capacity::engine::Lane;
use crate::serve::capacity::micro_batch::Batch;
use crate::serve::http::extract::{Limit, query};
use crate::serve::http::problem::{ApiError, Problem};
use crate::serve::models::shadow::share_of_both;
use crate::serve::state::hidden_tracks::{Reason, Snapshot};
use crate::serve::{AppState, Loaded};

/// Routes of what goes with a track.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(similar)).routes(routes!(next))
}

/// A recommended track.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Item {
    /// the app's id of the track
    #[schema(example = "spotify:track:5Wj1rJnCLpMHdLaxsFtJLs")]
    pub track_id: String,
    /// comparable within one source of one answer: for `ranking` and `neumf` between 0 and 1; for `track2vec` the cosine,
    /// in completions plus a little for popularity; for `next` any number; for `popularity` the share of all placements
    #[schema(example = 0.83)]
    pub score: f32,
    /// what recommends it: `ranking`, `neumf`, `track2vec`, `next` or `popularity`
    #[schema(example = "track2vec")]
    pub source: String,
    /// title of the track; null when neither the model nor the catalog has it at hand
    pub name: Option<String>,
    /// name of its artist; null likewise
    pub artist: Option<String>,
}

/// Tracks that go with one.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SimilarTracks {
    /// the track asked about
    pub track_id: String,
    /// version of the model that answered
    pub model_version: String,
    /// what the answer rests on: `track2vec` or `next`, or `popularity` for a track that the model does not know yet
    #[schema(example = "track2vec")]
    pub source: String,
    /// best first
    pub items: Vec<Item>,
}

/// Questions for the tracks nearest to one: those that wait together share a pass over the model's table.
pub type NearestBatch = Batch<NearestQuestion, Vec<Recommended>>;

/// How many tracks nearest to that of a row, none of those that are not to be recommended now.
pub struct NearestQuestion {
    model: Arc<Loaded<SimilarityModel>>,
    row: u32,
    limit: usize,
    withheld: Arc<Snapshot>,
}

/// An empty one.
pub fn nearest_batch() -> NearestBatch {
    Batch::new(|asked| {
        let mut answers = Vec::with_capacity(asked.len());
        // All of one model, but for the moment in which another takes over.
        for asked in asked.chunk_by(|left, right| Arc::ptr_eq(&left.model, &right.model)) {
            let model = &asked[0].model;
            let question = |one: &NearestQuestion| nearest_to(model, one.row, one.limit, &one.withheld);
            answers.extend(model.model.nearest_to_each(&asked.iter().map(question).collect::<Vec<_>>()));
        }
        answers
    })
}

fn nearest_to(model: &Loaded<SimilarityModel>, row: u32, limit: usize, withheld: &Snapshot) -> Completion {
    Completion { seeds: vec![row], limit, withheld: model.withheld(withheld), ..Completion::default() }
}

/// Query of similar tracks.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SimilarQuery {
    /// number of tracks
    #[serde(default)]
    #[param(value_type = i64, minimum = 1, maximum = 500, default = 50)]
    limit: Limit,
    /// a published version of the model; left out, the current one
    version: Option<String>,
}

/// The tracks most like one, nearest first: those that occur in the same places of playlists.
#[utoipa::path(get, path = "/tracks/{id}/similar", tag = "tracks",
    params(("id" = String, Path, description = "the app's id of the track, percent-encoded"), SimilarQuery),
    responses((status = 200, description = "Similar tracks", body = SimilarTracks),
              (status = 404, description = "No such track, or version of the model", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "That version is damaged", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json"),
              (status = 503, description = "No model, or too busy", body = Problem, content_type = "application/problem+json")))]
async fn similar(
    State(state): State<AppState>,
    Path(id): Path<String>,
    parameters: Result<Query<SimilarQuery>, QueryRejection>,
) -> Result<Json<SimilarTracks>, ApiError> {
    let asked = Asked::new(&state, id, query(parameters)?).await?;
    let recommended = match asked.row {
        Some(row) => asked.nearest(&state, row).await?,
        None => asked.popular(&state).await?.into(),
    };
    asked.shadow(&state, &recommended, |model, row, limit, withheld| {
        let answers = model.model.nearest_to_each(&[nearest_to(model, row, limit, withheld)]);
        answers.into_iter().next().unwrap_or_default()
    });
    Ok(asked.answer(&state, &recommended).await)
}

/// The tracks most likely to come right after one, best first: learned from what follows what in playlists. Where there is
/// no list for a track, similar ones.
#[utoipa::path(get, path = "/tracks/{id}/next", tag = "tracks",
    params(("id" = String, Path, description = "the app's id of the track, percent-encoded"), SimilarQuery),
    responses((status = 200, description = "Tracks that come next", body = SimilarTracks),
              (status = 404, description = "No such track", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json"),
              (status = 503, description = "No model, or too busy", body = Problem, content_type = "application/problem+json")))]
async fn next(
    State(state): State<AppState>,
    Path(id): Path<String>,
    parameters: Result<Query<SimilarQuery>, QueryRejection>,
) -> Result<Json<SimilarTracks>, ApiError> {
    let asked = Asked::new(&state, id, query(parameters)?).await?;
    let recommended = match asked.row {
        Some(row) => {
            let (model, limit, withheld) = (asked.model.clone(), asked.limit, asked.withheld.clone());
            let work = move || model.model.next(row, &model.withheld(&withheld), limit);
            state.engine.run(Lane::Quick, work).await?
        }
        None => asked.popular(&state).await?,
    };
    asked.shadow(&state, &recommended, |model, row, limit, withheld| {
        model.model.next(row, &model.withheld(withheld), limit)
    });
    Ok(asked.answer(&state, &recommended).await)
}

/// What is asked of a track, by the model that answers.
struct Asked {
    id: String,
    model: Arc<Loaded<SimilarityModel>>,
    /// of the track; none if the model does not know it
    row: Option<u32>,
    limit: usize,
    withheld: Arc<Snapshot>,
    is_of_version: bool,
}

impl Asked {
    async fn new(state: &AppState, id: String, parameters: SimilarQuery) -> Result<Self, ApiError> {
        let SimilarQuery { limit, version } = parameters;
        let model = state.models.similarity_of(version.as_deref()).await?;
        let model = model.ok_or(ApiError::NoModel(Kind::Similarity))?;
        let withheld = state.withheld.snapshot();
        // The model may know a track that was deleted since.
        let row = model.model.vocabulary().row(&id).filter(|_| withheld.reason(&id) != Some(Reason::Removed));
        if row.is_none() {
            let track = TrackId::storable(id.as_str()).map_err(|_| ApiError::UnknownTrack(id.clone()))?;
            state.catalog()?.track(&track).await?.ok_or_else(|| ApiError::UnknownTrack(id.clone()))?;
        }
        Ok(Self { id, model, row, limit: limit.get(), withheld, is_of_version: version.is_some() })
    }

    /// Those nearest to the track's row. Few tracks are asked for again and again: their answers are at hand.
    async fn nearest(&self, state: &AppState, row: u32) -> Result<Arc<[Recommended]>, ApiError> {
        let Self { model, limit, withheld, .. } = self;
        let key = (withheld.number, row, *limit);
        let kept = model.kept.get(&key);
        state.metrics.kept(kept.is_some());
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let question = NearestQuestion { model: model.clone(), row, limit: *limit, withheld: withheld.clone() };
        let found: Arc<[Recommended]> = state.nearest.ask(&state.engine, question).await?.into();
        model.kept.put(key, found.clone());
        Ok(found)
    }

    async fn popular(&self, state: &AppState) -> Result<Vec<Recommended>, ApiError> {
        let (model, limit, withheld) = (self.model.clone(), self.limit, self.withheld.clone());
        Ok(state.engine.run(Lane::Quick, move || model.model.popular(&model.withheld(&withheld), limit)).await?)
    }

    /// Has the second version, if there is one, answer too; `find` is how, for a track that it knows.
    fn shadow(
        &self,
        state: &AppState,
        recommended: &[Recommended],
        find: impl FnOnce(&Loaded<SimilarityModel>, u32, usize, &Snapshot) -> Vec<Recommended> + Send + 'static,
    ) {
        let Some(second) = state.models.similarity_shadow().filter(|second| !self.is_of_version && second.is_due())
        else {
            return;
        };
        let vocabulary = self.model.model.vocabulary();
        let first: Vec<String> = recommended.iter().map(|item| vocabulary.id(item.row).to_owned()).collect();
        let (id, limit, withheld) = (self.id.clone(), self.limit, self.withheld.clone());
        state.shadow(Kind::Similarity, move || {
            let model = &second.loaded;
            let vocabulary = model.model.vocabulary();
            let found = match vocabulary.row(&id) {
                Some(row) => find(model, row, limit, &withheld),
                None => model.model.popular(&model.withheld(&withheld), limit),
            };
            share_of_both(&first, found.iter().map(|item| vocabulary.id(item.row)))
        });
    }

    /// With names, if they are at hand.
    async fn answer(self, state: &AppState, recommended: &[Recommended]) -> Json<SimilarTracks> {
        let source = source_of(recommended.first().map(|item| item.source));
        let scored: Vec<Scored> =
            recommended.iter().map(|item| Scored::new(item, self.model.model.vocabulary())).collect();
        let ids: Vec<String> = scored.iter().map(|item| item.id.clone()).collect();
        let names = state.names.of(&ids).await;
        let items = scored.into_iter().map(|item| item.named(&names)).collect();
        Json(SimilarTracks { track_id: self.id, model_version: self.model.manifest.version.clone(), source, items })
    }
}

/// A recommendation by the app's id, without a name yet.
#[derive(Debug, Clone)]
pub struct Scored {
    /// the app's id
    pub id: String,
    /// see [`Item::score`]
    pub score: f32,
    /// what recommends it
    pub source: Source,
}

impl Scored {
    /// Looks up the id of a recommended row.
    pub fn new(item: &Recommended, vocabulary: &Vocabulary) -> Self {
        Self { id: vocabulary.id(item.row).to_owned(), score: item.score, source: item.source }
    }

    /// With its name, if that is among `names`.
    pub fn named(self, names: &HashMap<String, TrackName>) -> Item {
        let found = names.get(&self.id);
        Item {
            name: found.map(|track| track.name.clone()),
            artist: found.map(|track| track.artist.clone()),
            track_id: self.id,
            score: self.score,
            source: self.source.as_str().to_owned(),
        }
    }
}

/// The source of an answer is that of its first item; of an empty one, popularity had nothing to give either.
pub fn source_of(first: Option<Source>) -> String {
    first.unwrap_or(Source::Popularity).as_str().to_owned()
}
