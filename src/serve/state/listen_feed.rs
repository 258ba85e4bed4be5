//! Questions for scores: those that wait together are answered together. And the models that answer are told of the
//! listens since their training.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::{debug, info};

use crate::catalog::{Catalog, ListenRecord, RecentListen};
use crate::recommend::clicks::{Answer, ClickModel, Heard, Question};
use crate::serve::capacity::micro_batch::Batch;
use crate::serve::{Loaded, ModelStore};

/// A question, which comes back with its answer.
pub type ScoreBatch = Batch<(Arc<Loaded<ClickModel>>, Question), (Question, Option<Answer>)>;

pub(crate) fn score_batch() -> ScoreBatch {
    Batch::new(|asked| {
        let answer = |(loaded, question): (Arc<Loaded<ClickModel>>, Question)| {
            let answer = loaded.model.answer(&question);
            (question, answer)
        };
        asked.into_iter().map(answer).collect()
    })
}

/// How often it is looked for a model that has not been told of the listens since its training.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(250);

/// Tells every model that is loaded of the listens since its training, for as long as the server runs.
pub(crate) async fn catch_up(catalog: Catalog, models: ModelStore) {
    loop {
        for loaded in models.all_clicks().into_iter().filter(|loaded| loaded.model.is_behind()) {
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
    Heard { user: user.into(), track: track.into(), source, is_new: recent.is_new, target, taken_at: recent.updated_at }
}
