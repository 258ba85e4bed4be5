//! The listens that click models receive: those since their training when they are loaded, then each new one.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::{debug, info};

use crate::catalog::{Catalog, ListenRecord, RecentListen, WrittenListen};
use crate::recommend::clicks::{ClickModel, ObservedListen};
use crate::serve::models::ModelStore;

/// How often the server checks for a model that lacks the listens since its training.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(250);

/// Sends every loaded model the listens since its training, as long as the server runs.
pub async fn catch_up(catalog: Catalog, models: ModelStore) {
    loop {
        for loaded in models.all::<ClickModel>().into_iter().filter(|loaded| loaded.model.is_behind()) {
            let moment = loaded.manifest.data.newest_change.as_deref();
            let moment = moment.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
            loaded.model.begin_to_catch_up();
            match catalog.listens_since(moment.unwrap_or(OffsetDateTime::UNIX_EPOCH)).await {
                Ok(recent) => {
                    let listens: Vec<ObservedListen> = recent.into_iter().map(recent_listen).collect();
                    loaded.model.catch_up(&listens);
                    info!(listens = listens.len(), "the click model caught up with the listens since its training");
                }
                Err(error) => debug!("can't read the listens since the training yet: {error}"),
            }
        }
        tokio::time::sleep(CATCH_UP_INTERVAL).await;
    }
}

/// Sends all loaded models the listens that were just written: `written` refers to `rows`.
pub fn publish(models: &ModelStore, rows: &[ListenRecord], mut written: Vec<WrittenListen>) {
    let models = models.all::<ClickModel>();
    if models.is_empty() {
        return;
    }
    written.sort_by_key(|one| rows[one.place].listened_at);
    let listens: Vec<ObservedListen> = written.iter().map(|one| new_listen(&rows[one.place], one)).collect();
    models.iter().for_each(|loaded| loaded.model.hear(&listens));
}

fn recent_listen(recent: RecentListen) -> ObservedListen {
    let ListenRecord { user, track, listened_at, source_system_tab, source_screen_name, source_type, target } =
        recent.listen;
    let source = [source_system_tab, source_screen_name, source_type];
    ObservedListen {
        user: user.into(),
        track: track.into(),
        source,
        is_new: recent.is_new,
        target,
        listened_at,
        taken_at: recent.updated_at,
    }
}

fn new_listen(listen: &ListenRecord, written: &WrittenListen) -> ObservedListen {
    let source = [&listen.source_system_tab, &listen.source_screen_name, &listen.source_type];
    ObservedListen {
        user: listen.user.to_string(),
        track: listen.track.to_string(),
        source: source.map(Clone::clone),
        is_new: written.is_new,
        // The models received a target that the catalog had before.
        target: listen.target.filter(|_| written.is_new || written.target_before.is_none()),
        listened_at: listen.listened_at,
        taken_at: written.updated_at,
    }
}
