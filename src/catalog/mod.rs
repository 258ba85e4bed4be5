//! The catalog in PostgreSQL: artists, albums, tracks, users, playlists and their placements,
//! ratings and listens.
//!
//! This module and those below it are the only place with SQL. `migrations/` has the tables and says why they are as
//! they are. Ids in signatures are the app's own ([`TrackId`] and so on), unless a type says `Row`.
//!
//! * [`records`]: shapes of rows as they come in, and ids
//! * `upsert`: writes batches of them; `copy` moves rows in and out by PostgreSQL's COPY
//! * a file a resource with its queries: `tracks`, `playlists`, `users`, `ratings`, `listens`, `api_keys`
//! * what training reads: `placements`, `descriptions`, `feedback`, `attributes`
//! * `deferred_indexes`: what a first import builds at its end
//! * `attempts`: repeats transactions that gave way to another writer
//! * `connection`, `notifications` (LISTEN), and the private PostgreSQL, [`embedded`]

mod api_keys;
mod attempts;
mod attributes;
mod connection;
mod copy;
mod deferred_indexes;
mod descriptions;
pub mod embedded;
mod error;
mod feedback;
mod listens;
mod notifications;
mod placement_edits;
mod placements;
mod playlists;
mod popular_tracks;
mod prune;
mod ratings;
pub mod records;
mod search;
mod tracks;
mod upsert;
mod users;

pub use api_keys::{ApiKey, KeyHash, Scope};
pub use attributes::{TrackAttributes, UserAttributes};
pub use connection::{Catalog, CatalogCounts, MIGRATOR, SCHEMA};
pub use deferred_indexes::DeferredIndexes;
pub use descriptions::TrackDescription;
pub use embedded::{EmbeddedError, EmbeddedPostgres, postgres_programs};
pub use error::CatalogError;
pub use feedback::{FeedbackReader, FeedbackUser, RatedTrack, TrackFeedback, UserFeedback};
pub use listens::{ListenRow, RecentListen};
pub use notifications::{ChangeListener, Changes};
pub use placement_edits::{Edit, EditError, PlaylistState};
pub use placements::{PlacementReader, TrackUsage};
pub use playlists::{Playlist, PlaylistContents, PlaylistFields, PlaylistTrack};
pub use prune::{NamedRows, Prunable, Pruned};
pub use records::*;
pub use tracks::{HiddenTrack, RenamedTrack, Track, TrackName};
pub(crate) use upsert::KnownTracks;
pub use users::User;
