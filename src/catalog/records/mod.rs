//! Shapes of rows as sources state them, and the ids that they go by.

pub mod columns;
mod feedback;
pub mod fields;
mod ids;
pub mod lines;
mod names;
mod outcomes;
mod playlists;
pub mod times;
mod tracks;
mod users;

pub use feedback::{ListenRecord, RatingRecord, RatingScale, feedback_time};
pub use ids::{
    AlbumId, AlbumRow, ArtistId, ArtistRow, MAX_ID_BYTES, PlaylistId, PlaylistRow, TextError, TrackId, TrackRow,
    UserId, UserRow, check_id, check_name,
};
pub use names::{means_no_album, means_no_artist, stated, stated_list};
pub use outcomes::{
    BatchOutcome, FeedbackOutcome, ListensOutcome, RatingsOutcome, RowChange, UnknownTrack, UpsertedPlaylists,
    WrittenListen,
};
pub use playlists::PlaylistRecord;
pub use tracks::{AlbumRecord, ArtistRecord, RecordingRecord, SongRecord, TrackMention, TrackRecord};
pub use users::UserRecord;
