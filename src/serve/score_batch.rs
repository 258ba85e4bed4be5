//! Questions for scores that wait together are answered together: one piece of work on an engine thread takes all that
//! have come in by the time it begins.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::oneshot;
use tracing::{debug, info};

use super::engine::{Engine, EngineError, Lane};
use super::{Loaded, ModelStore};
use crate::catalog::{Catalog, ListenRecord, RecentListen};
use crate::recommend::clicks::{Answer, ClickModel, Heard, Question};

/// Questions that one piece of work answers at most: others go to other threads meanwhile.
const MOST: usize = 16;

type Answered = (Question, Option<Answer>);

struct Waiting {
    model: Arc<Loaded<ClickModel>>,
    question: Question,
    answer: oneshot::Sender<Result<Answered, EngineError>>,
}

/// The questions that wait. Cheap to clone.
#[derive(Clone, Default)]
pub struct ScoreBatch {
    waiting: Arc<Mutex<Vec<Waiting>>>,
}

impl std::fmt::Debug for ScoreBatch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ScoreBatch").finish_non_exhaustive()
    }
}

impl ScoreBatch {
    /// Asks, and gives the question back with its answer.
    pub async fn ask(
        &self,
        engine: &Engine,
        model: Arc<Loaded<ClickModel>>,
        question: Question,
    ) -> Result<Answered, EngineError> {
        let (answer, answered) = oneshot::channel();
        let is_first = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push(Waiting { model, question, answer });
            // Whoever comes when others wait already is answered with them.
            waiting.len() % MOST == 1
        };
        if is_first {
            let (engine, waiting, work) = (engine.clone(), self.waiting.clone(), self.waiting.clone());
            // Apart: a caller who goes away takes only the own question along, not those of others.
            tokio::spawn(async move {
                if let Err(error) = engine.run(Lane::Quick, move || answer_some(&work)).await {
                    for one in take_some(&waiting) {
                        let _ = one.answer.send(Err(error));
                    }
                }
            });
        }
        answered.await.map_err(|_| EngineError::Lost)?
    }
}

/// The questions that have waited longest.
fn take_some(waiting: &Mutex<Vec<Waiting>>) -> Vec<Waiting> {
    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    let count = waiting.len().min(MOST);
    waiting.drain(..count).collect()
}

fn answer_some(waiting: &Mutex<Vec<Waiting>>) {
    for Waiting { model, question, answer } in take_some(waiting) {
        if !answer.is_closed() {
            let found = model.model.answer(&question);
            let _ = answer.send(Ok((question, found)));
        }
    }
}

/// How often it is looked for a model that has not been told of the listens since its training.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(250);

/// Tells every model that is loaded of the listens since its training, for as long as the server runs.
pub(super) async fn catch_up(catalog: Catalog, models: ModelStore) {
    loop {
        if let Some(loaded) = models.clicks().filter(|loaded| loaded.model.is_behind()) {
            let moment = loaded.manifest.data.newest_change.as_deref();
            let moment = moment.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
            match catalog.listens_since(moment.unwrap_or(OffsetDateTime::UNIX_EPOCH)).await {
                Ok(recent) => {
                    let heard: Vec<Heard> = recent.into_iter().map(heard).collect();
                    loaded.model.catch_up(&heard);
                    info!(listens = heard.len(), "told the model of the listens since its training");
                }
                Err(error) => {
                    debug!("the listens since the training can't be read yet: {error}");
                }
            }
        }
        tokio::time::sleep(CATCH_UP_INTERVAL).await;
    }
}

fn heard(recent: RecentListen) -> Heard {
    let ListenRecord { user, track, source_system_tab, source_screen_name, source_type, target, .. } = recent.listen;
    let source = [source_system_tab, source_screen_name, source_type];
    Heard { user, track, source, is_new: recent.is_new, target, taken_at: recent.updated_at }
}
