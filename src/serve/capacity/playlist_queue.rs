//! Writers of one playlist, one after another: all but the first wait without a connection to the catalog, where their row
//! lock would make them wait with one each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Longest wait for a turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// The playlists that are being written, with the turns of each.
#[derive(Debug, Default)]
pub struct PlaylistQueue(Mutex<HashMap<String, Arc<Semaphore>>>);

/// The right to write a playlist, as long as this is held.
#[derive(Debug)]
pub struct Turn<'a> {
    queue: &'a PlaylistQueue,
    id: String,
    turns: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl PlaylistQueue {
    /// Waits for a turn to write the playlist `id`. Returns none if it did not come in time.
    pub async fn turn(&self, id: &str) -> Option<Turn<'_>> {
        self.turn_within(id, PATIENCE).await
    }

    async fn turn_within(&self, id: &str, patience: Duration) -> Option<Turn<'_>> {
        let turns = self.playlists().entry(id.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(1))).clone();
        let mut turn = Turn { queue: self, id: id.to_owned(), turns: turns.clone(), permit: None };
        turn.permit = Some(tokio::time::timeout(patience, turns.acquire_owned()).await.ok()?.ok()?);
        Some(turn)
    }

    fn playlists(&self) -> MutexGuard<'_, HashMap<String, Arc<Semaphore>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut playlists = self.queue.playlists();
        self.permit = None;
        // The map has it, and this turn: no one else waits.
        if Arc::strong_count(&self.turns) == 2 {
            playlists.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn writers_of_one_playlist_wait_for_each_other_and_nothing_is_left_of_them() {
        let queue = PlaylistQueue::default();
        let first = queue.turn("a").await.expect("free");
        let other = queue.turn("b").await.expect("another playlist");
        assert!(queue.turn_within("a", Duration::from_millis(1)).await.is_none(), "not in time");
        let (second, ()) = tokio::join!(queue.turn("a"), async { drop(first) });
        drop((second.expect("its turn"), other));
        assert!(queue.playlists().is_empty());
    }
}
