//! Playlists and the tracks in them.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::connection::Catalog;
use super::error::CatalogError;
use super::placement_edits::{Edit, EditError, PlaylistState, rewrite};
use super::records::{PlaylistId, PlaylistRow, TrackId, UserId};

/// A playlist without its tracks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Playlist {
    /// the app's id
    pub id: PlaylistId,
    /// its state: a different number after every change
    pub tag: i64,
    /// its title
    pub title: Option<String>,
    /// its description
    pub description: Option<String>,
    /// whether several people edit it
    pub collaborative: bool,
    /// its owner
    pub user_id: Option<UserId>,
    /// followers
    pub num_followers: Option<i32>,
    /// edits, as the source states them
    pub num_edits: Option<i32>,
    /// placements in it
    pub num_tracks: i32,
    /// distinct albums, as the source states them
    pub num_albums: Option<i32>,
    /// distinct artists, as the source states them
    pub num_artists: Option<i32>,
    /// length in milliseconds, as the source states it
    pub duration_ms: Option<i64>,
    /// last change by its owner
    pub modified_at: Option<OffsetDateTime>,
}

/// The fields of a playlist that a client sets, without its tracks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlaylistFields {
    /// its title
    pub title: Option<String>,
    /// its description
    pub description: Option<String>,
    /// whether several people edit it
    pub collaborative: bool,
    /// its owner, added if missing
    pub user_id: Option<UserId>,
    /// followers
    pub num_followers: Option<i32>,
    /// edits
    pub num_edits: Option<i32>,
    /// distinct albums
    pub num_albums: Option<i32>,
    /// distinct artists
    pub num_artists: Option<i32>,
    /// length in milliseconds
    pub duration_ms: Option<i64>,
    /// last change by its owner; none for now
    pub modified_at: Option<OffsetDateTime>,
}

/// A placement with the names that people see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaylistTrack {
    /// position in the playlist, from 0
    pub position: i32,
    /// the app's id of the track
    pub id: TrackId,
    /// title of the track
    pub name: String,
    /// name of its artist, if it has one
    pub artist: Option<String>,
}

/// What a playlist is completed from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlaylistContents {
    /// its title
    pub title: Option<String>,
    /// ids of all of its tracks, in order, as models look them up
    pub tracks: Vec<String>,
}

macro_rules! select_playlists {
    ($condition:tt $(, $argument:expr)*) => {
        sqlx::query_as!(
            Playlist,
            r#"SELECT p.external_id AS "id: PlaylistId", (p.id::bigint << 32) | p.version AS "tag!", p.title,
                      p.description, p.collaborative, u.external_id AS "user_id?: UserId", p.num_followers, p.num_edits,
                      p.num_tracks, p.num_albums, p.num_artists, p.duration_ms, p.modified_at
               FROM playlists p LEFT JOIN users u ON u.id = p.user_id "# + $condition
            $(, $argument)*
        )
    };
}

impl Catalog {
    /// Returns a playlist.
    pub async fn playlist(&self, id: &PlaylistId) -> Result<Option<Playlist>, CatalogError> {
        let playlist = select_playlists!("WHERE p.external_id = $1", id.as_str()).fetch_optional(&self.pool).await?;
        Ok(playlist)
    }

    /// Returns up to `limit` playlists in the order of their ids, from the first one after `after`; with `user`, only that
    /// user's.
    pub async fn playlists_after(
        &self,
        after: &str,
        user: Option<&UserId>,
        limit: i64,
    ) -> Result<Vec<Playlist>, CatalogError> {
        // Two statements: PostgreSQL would plan a combined one for the rarer case.
        let playlists = match user {
            None => {
                let rows = select_playlists!("WHERE p.external_id > $1 ORDER BY p.external_id LIMIT $2", after, limit);
                rows.fetch_all(&self.pool).await?
            }
            Some(user) => {
                let rows = select_playlists!(
                    "WHERE p.external_id > $1 AND u.external_id = $2 ORDER BY p.external_id LIMIT $3",
                    after,
                    user.as_str(),
                    limit
                );
                rows.fetch_all(&self.pool).await?
            }
        };
        Ok(playlists)
    }

    /// Searches titles for `text`, misspelt or not, whatever its accents and punctuation. Returns up to `limit` playlists after the first `offset`, best first;
    /// with `user`, only that user's.
    pub async fn search_playlists(
        &self,
        text: &str,
        user: Option<&UserId>,
        offset: i64,
        limit: i64,
    ) -> Result<Vec<Playlist>, CatalogError> {
        let mut transaction = self.begin_search().await?;
        let playlists = select_playlists!(
            "WHERE segue_search_text(p.title) %> segue_search_text($1, true)
                   AND ($4::text IS NULL OR u.external_id = $4)
               ORDER BY word_similarity(segue_search_text($1, true), segue_search_text(p.title)) DESC,
                        similarity(segue_search_text($1, true), segue_search_text(p.title)) DESC,
                        p.num_followers DESC NULLS LAST, p.external_id
               OFFSET $2 LIMIT $3",
            text,
            offset,
            limit,
            user.map(UserId::as_str)
        )
        .fetch_all(&mut *transaction)
        .await?;
        Ok(playlists)
    }

    /// Creates or changes the playlist `id` to what `decide` makes of its current state, which no one else can change
    /// meanwhile; without tracks in it, the playlist keeps its tracks.
    pub async fn change_playlist<E: From<EditError>>(
        &self,
        id: &PlaylistId,
        decide: impl FnOnce(Option<&Playlist>) -> Result<(PlaylistFields, Option<Vec<TrackId>>), E>,
    ) -> Result<PlaylistState, E> {
        let failed = |error: sqlx::Error| E::from(EditError::from(error));
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let row = sqlx::query_scalar!("SELECT id FROM playlists WHERE external_id = $1 FOR UPDATE", id.as_str())
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed)?;
        let current =
            select_playlists!("WHERE p.id = $1", row).fetch_optional(&mut *transaction).await.map_err(failed)?;
        let (fields, tracks) = decide(current.as_ref())?;
        let state = write_playlist(&mut transaction, id, row.map(PlaylistRow), fields, tracks).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(state)
    }

    /// Deletes the playlist `id` unless `decide` fails. Returns false if there is none.
    pub async fn delete_playlist<E: From<EditError>>(
        &self,
        id: &PlaylistId,
        decide: impl FnOnce(&Playlist) -> Result<(), E>,
    ) -> Result<bool, E> {
        let Some(playlist) = self.playlist(id).await.map_err(EditError::from)? else { return Ok(false) };
        decide(&playlist)?;
        let deleted = sqlx::query!(
            "DELETE FROM playlists WHERE external_id = $1 AND ((id::bigint << 32) | version) = $2",
            id.as_str(),
            playlist.tag
        )
        .execute(&self.pool)
        .await
        .map_err(EditError::from)?;
        if deleted.rows_affected() == 0 {
            return Err(EditError::Raced.into());
        }
        Ok(true)
    }

    /// Returns up to `limit` placements of a playlist from position `from`, in order.
    pub async fn playlist_tracks(
        &self,
        id: &PlaylistId,
        from: i32,
        limit: i64,
    ) -> Result<Vec<PlaylistTrack>, CatalogError> {
        let tracks = sqlx::query_as!(
            PlaylistTrack,
            r#"SELECT pt.position AS "position!", t.uri AS "id!: TrackId", t.name AS "name!", a.name AS "artist?"
             FROM playlists p
             JOIN playlist_tracks pt ON pt.playlist_id = p.id
             JOIN tracks t ON t.id = pt.track_id
             LEFT JOIN artists a ON a.id = t.artist_id
             WHERE p.external_id = $1 AND pt.position >= $2
             ORDER BY pt.position LIMIT $3"#,
            id.as_str(),
            from,
            limit
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(tracks)
    }

    /// Returns title and tracks of a playlist.
    pub async fn playlist_contents(&self, id: &PlaylistId) -> Result<Option<PlaylistContents>, CatalogError> {
        let row = sqlx::query_as!(
            PlaylistContents,
            r#"SELECT p.title,
                      ARRAY(SELECT t.uri FROM playlist_tracks pt JOIN tracks t ON t.id = pt.track_id
                            WHERE pt.playlist_id = p.id ORDER BY pt.position) AS "tracks!"
               FROM playlists p WHERE p.external_id = $1"#,
            id.as_str()
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row)
    }

    /// Returns some playlist with at least `tracks` tracks, the same one each time.
    pub async fn sample_playlist(&self, tracks: i32) -> Result<Option<PlaylistId>, CatalogError> {
        let id = sqlx::query_scalar!(
            r#"SELECT external_id AS "id: PlaylistId" FROM playlists WHERE num_tracks >= $1 ORDER BY md5(external_id) LIMIT 1"#,
            tracks
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(id)
    }
}

async fn write_playlist(
    connection: &mut PgConnection,
    id: &PlaylistId,
    row: Option<PlaylistRow>,
    fields: PlaylistFields,
    tracks: Option<Vec<TrackId>>,
) -> Result<PlaylistState, EditError> {
    if let Some(user) = &fields.user_id {
        sqlx::query!("INSERT INTO users (external_id) VALUES ($1) ON CONFLICT (external_id) DO NOTHING", user.as_str())
            .execute(&mut *connection)
            .await?;
    }
    let row = match row {
        Some(row) => row,
        None => sqlx::query_scalar!(
            "INSERT INTO playlists (external_id) VALUES ($1) ON CONFLICT (external_id) DO NOTHING RETURNING id",
            id.as_str()
        )
        .fetch_optional(&mut *connection)
        .await?
        .map(PlaylistRow)
        .ok_or(EditError::Raced)?,
    };
    if let Some(tracks) = tracks {
        rewrite(connection, row, Edit::Replace(tracks)).await?;
    }
    let written = sqlx::query!(
        r#"UPDATE playlists
           SET title = $2, description = $3, collaborative = $4, num_followers = $5, num_edits = $6, num_albums = $7,
               num_artists = $8, duration_ms = $9, modified_at = COALESCE($10, now()),
               user_id = (SELECT id FROM users WHERE external_id = $11), updated_at = now()
           WHERE id = $1 RETURNING num_tracks, (id::bigint << 32) | version AS "tag!""#,
        row.0,
        fields.title,
        fields.description,
        fields.collaborative,
        fields.num_followers,
        fields.num_edits,
        fields.num_albums,
        fields.num_artists,
        fields.duration_ms,
        fields.modified_at,
        fields.user_id.as_ref().map(UserId::as_str)
    )
    .fetch_one(connection)
    .await?;
    Ok(PlaylistState { num_tracks: written.num_tracks, tag: written.tag })
}
