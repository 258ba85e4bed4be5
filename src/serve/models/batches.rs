//! Requests that wait together share one pass over a model.

use std::sync::Arc;

use super::slot::LoadedModel;
use crate::recommend::clicks::{Answer, ClickModel, Question};
use crate::recommend::{Completion, Recommended, SimilarityModel};
use crate::serve::capacity::micro_batch::MicroBatch;
use crate::serve::state::hidden_tracks::Snapshot;

/// Requests for the tracks nearest to one: those that wait together share a pass over the model's table.
pub type NearestBatch = MicroBatch<NearestQuery, Vec<Recommended>>;

/// Requests for click probabilities; each comes back with its result.
pub type ScoreBatch = MicroBatch<(Arc<LoadedModel<ClickModel>>, Question), (Question, Option<Answer>)>;

/// A request for the `limit` tracks nearest to that of a row, without hidden ones.
#[derive(Clone)]
pub struct NearestQuery {
    /// the model that answers
    pub model: Arc<LoadedModel<SimilarityModel>>,
    /// the track's row
    pub row: u32,
    /// number of tracks
    pub limit: usize,
    /// tracks not to recommend
    pub hidden: Arc<Snapshot>,
}

impl NearestQuery {
    /// Returns the request as the model takes it.
    pub fn completion(&self) -> Completion {
        let withheld = self.model.hidden_rows(&self.hidden);
        Completion { seeds: vec![self.row], limit: self.limit, withheld, ..Completion::default() }
    }
}

/// Returns a batch without requests.
pub fn nearest_batch() -> NearestBatch {
    MicroBatch::new(|queries| {
        let mut answers = Vec::with_capacity(queries.len());
        // All are of one model, except while another takes over.
        for queries in queries.chunk_by(|left, right| Arc::ptr_eq(&left.model, &right.model)) {
            let completions: Vec<Completion> = queries.iter().map(NearestQuery::completion).collect();
            answers.extend(queries[0].model.model.nearest_to_each(&completions));
        }
        answers
    })
}

/// Returns a batch without requests.
pub fn score_batch() -> ScoreBatch {
    MicroBatch::new(|questions| {
        let answer = |(loaded, question): (Arc<LoadedModel<ClickModel>>, Question)| {
            let answer = loaded.model.answer(&question);
            (question, answer)
        };
        questions.into_iter().map(answer).collect()
    })
}
