//! Tracks that must not be recommended: hidden ones, and deleted ones that a model still knows.
//!
//! The whole list is in memory, so that a request asks nobody. What this server hides or deletes it knows at once; what
//! others do, PostgreSQL tells it, and it reads the list anew. A change made here while the list is being read is put on
//! top of what was read: the reading may have begun before it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use crate::catalog::{Catalog, CatalogError};

/// Why a track is withheld.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// hidden
    Hidden,
    /// deleted
    Removed,
}

/// The list at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// another one for each list
    pub number: u64,
    tracks: HashMap<String, Reason>,
}

impl Snapshot {
    /// The app's ids of the tracks.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.tracks.keys().map(String::as_str)
    }

    /// Why a track is withheld, if it is.
    pub fn reason(&self, id: &str) -> Option<Reason> {
        self.tracks.get(id).copied()
    }
}

/// A track, and why it is withheld now, if it is.
type Note = (String, Option<Reason>);

/// The list as it changes. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Withheld {
    current: Arc<ArcSwap<Snapshot>>,
    /// changes made here since the reading under way began
    recent: Arc<Mutex<Vec<Note>>>,
}

impl Withheld {
    /// The list as it is now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Takes note of changes that are in the catalog by now.
    pub fn note(&self, changes: Vec<Note>) {
        let mut recent = self.recent();
        let current = self.current.load();
        if changes.iter().all(|(id, reason)| current.reason(id) == *reason) {
            return;
        }
        let mut tracks = current.tracks.clone();
        apply(&mut tracks, &changes);
        recent.extend(changes);
        self.current.store(Arc::new(Snapshot { number: current.number + 1, tracks }));
    }

    /// Reads the list anew. Not to be called twice at once.
    pub async fn refresh(&self, catalog: &Catalog) -> Result<(), CatalogError> {
        self.recent().clear();
        let rows = catalog.hidden_tracks().await?;
        let mut tracks: HashMap<String, Reason> = HashMap::with_capacity(rows.len());
        for row in rows {
            tracks.insert(row.id.into(), if row.is_removed { Reason::Removed } else { Reason::Hidden });
        }
        let mut recent = self.recent();
        apply(&mut tracks, &recent);
        recent.clear();
        let current = self.current.load();
        if tracks != current.tracks {
            self.current.store(Arc::new(Snapshot { number: current.number + 1, tracks }));
        }
        Ok(())
    }

    fn recent(&self) -> MutexGuard<'_, Vec<Note>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn apply(tracks: &mut HashMap<String, Reason>, changes: &[Note]) {
    for (id, reason) in changes {
        match reason {
            Some(reason) => tracks.insert(id.clone(), *reason),
            None => tracks.remove(id),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_made_here_is_known_at_once_and_taken_back_at_once() {
        let withheld = Withheld::default();
        withheld.note(vec![("a".to_owned(), Some(Reason::Hidden)), ("b".to_owned(), Some(Reason::Removed))]);
        let first = withheld.snapshot();
        assert_eq!((first.reason("a"), first.reason("b")), (Some(Reason::Hidden), Some(Reason::Removed)));
        withheld.note(vec![("a".to_owned(), None)]);
        let second = withheld.snapshot();
        assert_eq!((second.reason("a"), second.ids().count()), (None, 1));
        assert!(second.number > first.number);
        withheld.note(vec![("a".to_owned(), None)]);
        assert_eq!(withheld.snapshot().number, second.number, "nothing changed");
    }
}
