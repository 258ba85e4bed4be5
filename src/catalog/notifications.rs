//! Notifications of changes that other processes make: PostgreSQL's LISTEN.

use sqlx::Row;
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

/// A connection that receives notifications. A standby sends none.
#[derive(Debug)]
pub struct ChangeListener {
    listener: PgListener,
    is_subscribed: bool,
}

impl Catalog {
    /// Begins to listen, on a connection of the pool.
    pub async fn listen(&self) -> Result<ChangeListener, CatalogError> {
        let listener = PgListener::connect_with(&self.pool).await?;
        let mut listener = ChangeListener { listener, is_subscribed: false };
        listener.subscribe().await?;
        Ok(listener)
    }
}

impl ChangeListener {
    /// Requests notifications, unless that was done. Without effect on a standby, until it is promoted.
    pub async fn subscribe(&mut self) -> Result<(), CatalogError> {
        if !self.is_subscribed {
            let asked = sqlx::raw_sql("SELECT NOT pg_is_in_recovery()").fetch_one(&mut self.listener).await?;
            self.is_subscribed = asked.try_get(0)?;
            if self.is_subscribed {
                self.listener.listen_all([HIDDEN_TRACKS, API_KEYS, NAMES]).await?;
            }
        }
        Ok(())
    }

    /// Waits for the next change, and returns it with all others that have arrived; none when the connection is lost, and
    /// with it any notifications since.
    pub async fn next(&mut self) -> Result<Option<Changes>, CatalogError> {
        let Some(first) = self.listener.try_recv().await? else { return Ok(None) };
        let mut changes = Changes::default();
        let mut next = Some(first);
        while let Some(notification) = next {
            match notification.channel() {
                API_KEYS => changes.api_keys = true,
                NAMES => changes.names = true,
                _ => changes.hidden_tracks = true,
            }
            next = self.listener.next_buffered();
        }
        Ok(Some(changes))
    }
}
