//! Playlists of a batch.

use std::collections::HashMap;

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::batch::Batch;
use super::known_tracks::KnownTracks;
use super::tracks::{remember, upsert_unknown_tracks};
use super::transaction::begin_bulk;
use super::users::upsert_users;
use crate::catalog::attempts::Attempts;
use crate::catalog::connection::Catalog;
use crate::catalog::copy::CopyRows;
use crate::catalog::error::CatalogError;
use crate::catalog::records::{
    BatchOutcome, PlaylistRecord, RowChange, UnknownTrack, UpsertedPlaylists, UserId, UserRow,
};

impl Catalog {
    /// Upserts a batch of playlists with their tracks, albums, artists and users in one transaction.
    ///
    /// Ids must be distinct within the batch. Absent fields leave what is there; a playlist's tracks are replaced by the
    /// ones given, if any are stated, less those that are named by an id that the catalog does not have: these are
    /// returned. Until it is done, other batches and edits of the same playlists wait; readers don't.
    pub async fn upsert_playlists(&self, playlists: &[PlaylistRecord]) -> Result<UpsertedPlaylists, CatalogError> {
        self.import_playlists(playlists, None).await
    }

    /// The same for one of many batches, which have tracks in common.
    pub(crate) async fn import_playlists(
        &self,
        playlists: &[PlaylistRecord],
        mut known: Option<&mut KnownTracks>,
    ) -> Result<UpsertedPlaylists, CatalogError> {
        let mut attempts = Attempts::default();
        loop {
            match self.try_upsert_playlists(playlists, known.as_deref_mut()).await {
                Err(error) if attempts.again(&error).await => {}
                outcome => return outcome,
            }
        }
    }

    async fn try_upsert_playlists(
        &self,
        playlists: &[PlaylistRecord],
        mut known: Option<&mut KnownTracks>,
    ) -> Result<UpsertedPlaylists, CatalogError> {
        let mut transaction = begin_bulk(&self.pool).await?;
        let ids: Vec<String> = playlists.iter().map(|playlist| playlist.id.to_string()).collect();
        let present = sqlx::query!(
            "SELECT external_id, id FROM playlists WHERE external_id = ANY($1) ORDER BY id FOR UPDATE",
            &ids
        );
        let present = present.fetch_all(&mut *transaction).await?;
        let present: HashMap<String, i32> = present.into_iter().map(|row| (row.external_id, row.id)).collect();
        let batch = Batch::of_playlists(playlists);
        let tracks = upsert_unknown_tracks(&mut transaction, &batch, known.as_deref_mut()).await?;
        let mut outcome = tracks.outcome;
        let named = playlists.iter().filter_map(|playlist| playlist.user.as_ref());
        let (users, users_added) = upsert_users(&mut transaction, named).await?;
        outcome.users_added = users_added;

        let mut unknown_tracks = Vec::new();
        let mut placements: Vec<Vec<i32>> = Vec::with_capacity(playlists.len());
        for (playlist, indices) in batch.placements.iter().enumerate() {
            let mut rows = Vec::with_capacity(indices.len());
            for (track, &index) in indices.iter().enumerate() {
                match tracks.rows[index] {
                    Some(row) => rows.push(row),
                    None => unknown_tracks.push(UnknownTrack { playlist, track }),
                }
            }
            placements.push(rows);
        }
        keep_tracks(&mut transaction, playlists, &mut placements).await?;
        let changes =
            replace_playlists(&mut transaction, playlists, present, &placements, &users, &mut outcome).await?;
        transaction.commit().await?;
        if let Some(known) = known {
            remember(known, &batch, &tracks);
        }
        Ok(UpsertedPlaylists { outcome, unknown_tracks, changes })
    }
}

/// Puts in the tracks that are stored of playlists of which the source says nothing about their tracks.
async fn keep_tracks(
    connection: &mut PgConnection,
    playlists: &[PlaylistRecord],
    placements: &mut [Vec<i32>],
) -> Result<(), CatalogError> {
    let kept: HashMap<&str, usize> = (playlists.iter().zip(0..))
        .filter(|(playlist, _)| playlist.keeps_tracks)
        .map(|(playlist, index)| (playlist.id.as_str(), index))
        .collect();
    if kept.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = kept.keys().map(|id| (*id).to_owned()).collect();
    let stored = sqlx::query!(
        "SELECT p.external_id, pt.track_id
         FROM playlists p JOIN playlist_tracks pt ON pt.playlist_id = p.id
         WHERE p.external_id = ANY($1)
         ORDER BY pt.playlist_id, pt.position",
        &ids
    )
    .fetch_all(connection)
    .await?;
    for row in stored {
        if let Some(&index) = kept.get(row.external_id.as_str()) {
            placements[index].push(row.track_id);
        }
    }
    Ok(())
}

async fn replace_playlists(
    connection: &mut PgConnection,
    playlists: &[PlaylistRecord],
    present: HashMap<String, i32>,
    placements: &[Vec<i32>],
    users: &HashMap<&UserId, UserRow>,
    outcome: &mut BatchOutcome,
) -> Result<Vec<RowChange>, CatalogError> {
    let external_ids: Vec<String> = playlists.iter().map(|playlist| playlist.id.to_string()).collect();
    let titles: Vec<Option<String>> = playlists.iter().map(|playlist| playlist.title.clone()).collect();
    let descriptions: Vec<Option<String>> = playlists.iter().map(|playlist| playlist.description.clone()).collect();
    let collaborative: Vec<Option<bool>> = playlists.iter().map(|playlist| playlist.collaborative).collect();
    let followers: Vec<Option<i32>> = playlists.iter().map(|playlist| playlist.num_followers).collect();
    let edits: Vec<Option<i32>> = playlists.iter().map(|playlist| playlist.num_edits).collect();
    let tracks: Vec<i32> = placements.iter().map(|row| row.len() as i32).collect();
    let albums: Vec<Option<i32>> = playlists.iter().map(|playlist| playlist.num_albums).collect();
    let artists: Vec<Option<i32>> = playlists.iter().map(|playlist| playlist.num_artists).collect();
    let durations: Vec<Option<i64>> = playlists.iter().map(|playlist| playlist.duration_ms).collect();
    let modified: Vec<Option<OffsetDateTime>> = playlists.iter().map(|playlist| playlist.modified_at).collect();

    let users: Vec<Option<i32>> =
        playlists.iter().map(|playlist| users.get(playlist.user.as_ref()?).map(|row| row.0)).collect();

    let mut rows = present.clone();
    if present.len() < playlists.len() {
        let added = sqlx::query!(
            "INSERT INTO playlists (external_id, title, description, collaborative, num_followers, num_edits,
                                    num_tracks, num_albums, num_artists, duration_ms, modified_at, user_id)
             SELECT external_id, title, description, COALESCE(collaborative, false), num_followers, num_edits,
                    num_tracks, num_albums, num_artists, duration_ms, modified_at, user_id
             FROM UNNEST($1::text[], $2::text[], $3::text[], $4::bool[], $5::int[], $6::int[], $7::int[], $8::int[],
                         $9::int[], $10::bigint[], $11::timestamptz[], $12::int[])
                  AS input (external_id, title, description, collaborative, num_followers, num_edits, num_tracks,
                            num_albums, num_artists, duration_ms, modified_at, user_id)
             WHERE NOT EXISTS (SELECT FROM playlists p WHERE p.external_id = input.external_id)
             ON CONFLICT (external_id) DO NOTHING
             RETURNING external_id, id",
            &external_ids,
            titles.as_slice() as &[Option<String>],
            descriptions.as_slice() as &[Option<String>],
            collaborative.as_slice() as &[Option<bool>],
            followers.as_slice() as &[Option<i32>],
            edits.as_slice() as &[Option<i32>],
            &tracks,
            albums.as_slice() as &[Option<i32>],
            artists.as_slice() as &[Option<i32>],
            durations.as_slice() as &[Option<i64>],
            modified.as_slice() as &[Option<OffsetDateTime>],
            users.as_slice() as &[Option<i32>],
        )
        .fetch_all(&mut *connection)
        .await?;
        outcome.playlists_added += added.len() as u64;
        rows.extend(added.into_iter().map(|row| (row.external_id, row.id)));
        if rows.len() < playlists.len() {
            return Err(CatalogError::Raced);
        }
    }

    let mut changed: Vec<i32> = Vec::new();
    // What is there already, so that only playlists with other tracks are written.
    let mut stored: HashMap<i32, Vec<i32>> = HashMap::new();
    if !present.is_empty() {
        let ids: Vec<i32> = present.values().copied().collect();
        changed = sqlx::query_scalar!(
            "UPDATE playlists p
             SET title = COALESCE(input.title, p.title), description = COALESCE(input.description, p.description),
                 collaborative = COALESCE(input.collaborative, p.collaborative), num_followers = COALESCE(input.num_followers, p.num_followers),
                 num_edits = COALESCE(input.num_edits, p.num_edits), num_tracks = input.num_tracks,
                 num_albums = COALESCE(input.num_albums, p.num_albums),
                 num_artists = COALESCE(input.num_artists, p.num_artists),
                 duration_ms = COALESCE(input.duration_ms, p.duration_ms),
                 modified_at = COALESCE(input.modified_at, p.modified_at),
                 user_id = COALESCE(input.user_id, p.user_id), updated_at = now()
             FROM UNNEST($1::text[], $2::text[], $3::text[], $4::bool[], $5::int[], $6::int[], $7::int[], $8::int[],
                         $9::int[], $10::bigint[], $11::timestamptz[], $12::int[])
                  AS input (external_id, title, description, collaborative, num_followers, num_edits, num_tracks,
                            num_albums, num_artists, duration_ms, modified_at, user_id)
             WHERE p.external_id = input.external_id AND p.id = ANY($13)
               AND (p.title, p.description, p.collaborative, p.num_followers, p.num_edits, p.num_tracks, p.num_albums,
                    p.num_artists, p.duration_ms, p.modified_at, p.user_id)
                   IS DISTINCT FROM
                   (COALESCE(input.title, p.title), COALESCE(input.description, p.description), COALESCE(input.collaborative, p.collaborative),
                    COALESCE(input.num_followers, p.num_followers), COALESCE(input.num_edits, p.num_edits),
                    input.num_tracks, COALESCE(input.num_albums, p.num_albums),
                    COALESCE(input.num_artists, p.num_artists), COALESCE(input.duration_ms, p.duration_ms),
                    COALESCE(input.modified_at, p.modified_at), COALESCE(input.user_id, p.user_id))
             RETURNING p.id",
            &external_ids,
            titles.as_slice() as &[Option<String>],
            descriptions.as_slice() as &[Option<String>],
            collaborative.as_slice() as &[Option<bool>],
            followers.as_slice() as &[Option<i32>],
            edits.as_slice() as &[Option<i32>],
            &tracks,
            albums.as_slice() as &[Option<i32>],
            artists.as_slice() as &[Option<i32>],
            durations.as_slice() as &[Option<i64>],
            modified.as_slice() as &[Option<OffsetDateTime>],
            users.as_slice() as &[Option<i32>],
            &ids,
        )
        .fetch_all(&mut *connection)
        .await?;
        let existing = sqlx::query!(
            r#"SELECT playlist_id, array_agg(track_id ORDER BY position) AS "tracks!"
               FROM playlist_tracks WHERE playlist_id = ANY($1) GROUP BY playlist_id"#,
            &ids
        )
        .fetch_all(&mut *connection)
        .await?;
        stored.extend(existing.into_iter().map(|row| (row.playlist_id, row.tracks)));
    }
    let mut replaced: Vec<i32> = Vec::new();
    let mut copy = CopyRows::default();
    for (playlist, tracks) in playlists.iter().zip(placements) {
        let row = rows[playlist.id.as_str()];
        outcome.placements += tracks.len() as u64;
        if present.contains_key(playlist.id.as_str()) {
            if stored.get(&row).map_or(&[][..], Vec::as_slice) == tracks.as_slice() {
                continue;
            }
            replaced.push(row);
        }
        for (position, track) in tracks.iter().enumerate() {
            copy.field(row).field(position).field(track).end_row();
        }
    }
    if !replaced.is_empty() {
        sqlx::query!("DELETE FROM playlist_tracks WHERE playlist_id = ANY($1)", &replaced)
            .execute(&mut *connection)
            .await?;
        sqlx::query!("UPDATE playlists SET updated_at = now() WHERE id = ANY($1)", &replaced)
            .execute(&mut *connection)
            .await?;
    }
    copy.send(connection, "COPY playlist_tracks (playlist_id, position, track_id) FROM STDIN").await?;

    changed.extend(replaced);
    changed.sort_unstable();
    changed.dedup();
    outcome.playlists_changed += changed.len() as u64;
    outcome.playlists_unchanged += (present.len() - changed.len()) as u64;
    let change_of = |playlist: &PlaylistRecord| match present.get(playlist.id.as_str()) {
        None => RowChange::Added,
        Some(row) if changed.binary_search(row).is_ok() => RowChange::Changed,
        Some(_) => RowChange::Unchanged,
    };
    Ok(playlists.iter().map(change_of).collect())
}
