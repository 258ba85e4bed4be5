//! Tracks that must not be recommended: hidden ones, and deleted ones that a model still knows.
//!
//! The whole list is in memory, so that requests need no query. The server applies its own changes at once; PostgreSQL
//! notifies it of changes by others, and it reloads the list. Changes made here during a reload are applied on top of what
//! was read: the reload may have begun before them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use crate::catalog::{Catalog, CatalogError};

/// Why a track must not be recommended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// it is hidden
    Hidden,
    /// it was deleted
    Removed,
}

/// The list at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// different for each list
    pub number: u64,
    tracks: HashMap<String, Reason>,
}

impl Snapshot {
    /// Returns the app's ids of the tracks.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.tracks.keys().map(String::as_str)
    }

    /// Returns why a track must not be recommended, if so.
    pub fn reason(&self, id: &str) -> Option<Reason> {
        self.tracks.get(id).copied()
    }
}

/// A track, and why it must not be recommended from now on, if so.
type Change = (String, Option<Reason>);

/// The list as it changes. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct HiddenTracks {
    current: Arc<ArcSwap<Snapshot>>,
    /// changes made here since the reload in progress began
    recent: Arc<Mutex<Vec<Change>>>,
}

impl HiddenTracks {
    /// Returns the list as it is now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Applies changes that the catalog already has.
    pub fn apply(&self, changes: Vec<Change>) {
        let mut recent = self.recent();
        let current = self.current.load();
        if changes.iter().all(|(id, reason)| current.reason(id) == *reason) {
            return;
        }
        let mut tracks = current.tracks.clone();
        apply_changes(&mut tracks, &changes);
        recent.extend(changes);
        self.current.store(Arc::new(Snapshot { number: current.number + 1, tracks }));
    }

    /// Reloads the list. Must not run twice at once.
    pub async fn refresh(&self, catalog: &Catalog) -> Result<(), CatalogError> {
        self.recent().clear();
        let rows = catalog.hidden_tracks().await?;
        let mut tracks: HashMap<String, Reason> = HashMap::with_capacity(rows.len());
        for row in rows {
            tracks.insert(row.id.into(), if row.is_removed { Reason::Removed } else { Reason::Hidden });
        }
        let mut recent = self.recent();
        apply_changes(&mut tracks, &recent);
        recent.clear();
        let current = self.current.load();
        if tracks != current.tracks {
            self.current.store(Arc::new(Snapshot { number: current.number + 1, tracks }));
        }
        Ok(())
    }

    fn recent(&self) -> MutexGuard<'_, Vec<Change>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn apply_changes(tracks: &mut HashMap<String, Reason>, changes: &[Change]) {
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
    fn a_change_made_here_applies_at_once_and_is_undone_at_once() {
        let hidden = HiddenTracks::default();
        hidden.apply(vec![("a".to_owned(), Some(Reason::Hidden)), ("b".to_owned(), Some(Reason::Removed))]);
        let first = hidden.snapshot();
        assert_eq!((first.reason("a"), first.reason("b")), (Some(Reason::Hidden), Some(Reason::Removed)));
        hidden.apply(vec![("a".to_owned(), None)]);
        let second = hidden.snapshot();
        assert_eq!((second.reason("a"), second.ids().count()), (None, 1));
        assert!(second.number > first.number);
        hidden.apply(vec![("a".to_owned(), None)]);
        assert_eq!(hidden.snapshot().number, second.number, "nothing changed");
    }
}
