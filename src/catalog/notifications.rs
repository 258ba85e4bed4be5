//! Notifications of changes that other processes make: PostgreSQL's LISTEN.

use sqlx::postgres::PgListener;

use super::connection::Catalog;
use super::error::CatalogError;

/// Triggers notify this channel when a track is hidden, shown, deleted or added again.
const HIDDEN_TRACKS: &str = "segue_withheld";
/// Triggers notify this channel when tracks or artists get other names.
const NAMES: &str = "segue_names";
/// Triggers notify this channel when keys change.
const API_KEYS: &str = "segue_api_keys";

/// What changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// which tracks must not be recommended
    pub hidden_tracks: bool,
    /// which keys there are
    pub api_keys: bool,
    /// what tracks and their artists are called
    pub names: bool,
}

/// A connection that receives notifications.
#[derive(Debug)]
pub struct ChangeListener(PgListener);

impl Catalog {
    /// Begins to listen, on a connection of the pool.
    pub async fn listen(&self) -> Result<ChangeListener, CatalogError> {
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.listen_all([HIDDEN_TRACKS, API_KEYS, NAMES]).await?;
        Ok(ChangeListener(listener))
    }
}

impl ChangeListener {
    /// Waits for the next change, and returns it with all others that have arrived; none when the connection is lost, and
    /// with it any notifications since.
    pub async fn next(&mut self) -> Result<Option<Changes>, CatalogError> {
        let Some(first) = self.0.try_recv().await? else { return Ok(None) };
        let mut changes = Changes::default();
        let mut next = Some(first);
        while let Some(notification) = next {
            match notification.channel() {
                API_KEYS => changes.api_keys = true,
                NAMES => changes.names = true,
                _ => changes.hidden_tracks = true,
            }
            next = self.0.next_buffered();
        }
        Ok(Some(changes))
    }
}
