//! Playlists and the tracks in them.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::attempts::Attempts;
use super::connection::Catalog;
use super::error::CatalogError;
use super::placement_edits::{EditError, PlaylistState, replace_tracks};
use super::records::{PlaylistId, PlaylistRow, TrackId, UserId, UserRow};
use super::upsert::upsert_users;

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

    /// Creates or changes the playlist `id` to what `decide` makes of its current state, which no one else can change
    /// meanwhile; without `tracks`, the playlist keeps its tracks. Calls `decide` again if the change is repeated because of
    /// another writer.
    pub async fn change_playlist<E: From<EditError>>(
        &self,
        id: &PlaylistId,
        tracks: Option<&[TrackId]>,
        mut decide: impl FnMut(Option<&Playlist>) -> Result<PlaylistFields, E>,
    ) -> Result<PlaylistState, E> {
        let mut attempts = Attempts::default();
        loop {
            match self.try_change_playlist(id, tracks, &mut decide).await {
                Ok(decided) => return decided,
                Err(error) if attempts.again(&error).await => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn try_change_playlist<E>(
        &self,
        id: &PlaylistId,
        tracks: Option<&[TrackId]>,
        decide: &mut impl FnMut(Option<&Playlist>) -> Result<PlaylistFields, E>,
    ) -> Result<Result<PlaylistState, E>, EditError> {
        let mut transaction = self.pool.begin().await?;
        let row = sqlx::query_scalar!("SELECT id FROM playlists WHERE external_id = $1 FOR UPDATE", id.as_str())
            .fetch_optional(&mut *transaction)
            .await?;
        let current = select_playlists!("WHERE p.id = $1", row).fetch_optional(&mut *transaction).await?;
        let fields = match decide(current.as_ref()) {
            Ok(fields) => fields,
            Err(refused) => return Ok(Err(refused)),
        };
        let current = row.zip(current).map(|(row, current)| (PlaylistRow(row), current.num_tracks as usize));
        let state = write_playlist(&mut transaction, id, current, fields, tracks).await?;
        transaction.commit().await?;
        Ok(Ok(state))
    }

    /// Deletes the playlist `id` unless `decide` fails. Returns false if there is none.
    pub async fn delete_playlist<E: From<EditError>>(
        &self,
        id: &PlaylistId,
        mut decide: impl FnMut(&Playlist) -> Result<(), E>,
    ) -> Result<bool, E> {
        let mut attempts = Attempts::default();
        loop {
            let Some(playlist) = self.playlist(id).await.map_err(EditError::from)? else { return Ok(false) };
            decide(&playlist)?;
            let deleted = sqlx::query!(
                "DELETE FROM playlists WHERE external_id = $1 AND ((id::bigint << 32) | version) = $2",
                id.as_str(),
                playlist.tag
            );
            let error = match deleted.execute(&self.pool).await {
                Ok(deleted) if deleted.rows_affected() > 0 => return Ok(true),
                Ok(_) => EditError::Raced,
                Err(error) => error.into(),
            };
            if !attempts.again(&error).await {
                return Err(error.into());
            }
        }
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

/// Returns the playlists of `rows`, in that order.
pub(super) async fn playlists_of_rows(connection: &mut PgConnection, rows: &[i32]) -> sqlx::Result<Vec<Playlist>> {
    let playlists = select_playlists!(
        "JOIN unnest($1::int[]) WITH ORDINALITY AS listed (row, place) ON listed.row = p.id ORDER BY listed.place",
        rows
    );
    playlists.fetch_all(connection).await
}

async fn write_playlist(
    connection: &mut PgConnection,
    id: &PlaylistId,
    current: Option<(PlaylistRow, usize)>,
    fields: PlaylistFields,
    tracks: Option<&[TrackId]>,
) -> Result<PlaylistState, EditError> {
    let (row, length) = match current {
        Some(current) => current,
        None => sqlx::query_scalar!(
            "INSERT INTO playlists (external_id) VALUES ($1) ON CONFLICT (external_id) DO NOTHING RETURNING id",
            id.as_str()
        )
        .fetch_optional(&mut *connection)
        .await?
        .map(|row| (PlaylistRow(row), 0))
        .ok_or(EditError::Raced)?,
    };
    if let Some(tracks) = tracks {
        replace_tracks(connection, row, length, tracks).await?;
    }
    let (users, _) = upsert_users(connection, &fields.user_id).await?;
    let user = users.into_values().next().map(|UserRow(row)| row);
    let written = sqlx::query!(
        r#"UPDATE playlists
           SET title = $2, description = $3, collaborative = $4, num_followers = $5, num_edits = $6, num_albums = $7,
               num_artists = $8, duration_ms = $9, modified_at = COALESCE($10, now()),
               user_id = $11, updated_at = now()
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
        user
    )
    .fetch_one(connection)
    .await?;
    Ok(PlaylistState { num_tracks: written.num_tracks, tag: written.tag })
}
