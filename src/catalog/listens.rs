//! Who listened to what, in order, with what is known of the users and of the tracks: the ground of click probability.

use std::collections::{BTreeSet, HashSet};

use futures_util::{Stream, TryStreamExt};
use sqlx::{Acquire, PgConnection};
use time::{Date, OffsetDateTime};

use super::bulk::{CopyRows, skip_foreign_key_checks, upsert_records};
use super::feedback::{UNKNOWN_ARTIST, set_genres, write_listens};
use super::{Catalog, CatalogError, GenredTrack, ListenRecord};

/// Parts the members of a list on the way to PostgreSQL, whose arrays of arrays must be rectangular.
const LIST_SEPARATOR: &str = "\u{1f}";

/// What is known of a user. None leaves what is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserRecord {
    /// the app's id
    pub id: String,
    /// city, as the app numbers or names it
    pub city: Option<String>,
    /// age in years
    pub age: Option<i16>,
    /// gender, as the app has it
    pub gender: Option<String>,
    /// way of registration
    pub registered_via: Option<String>,
    /// day of registration
    pub registered_on: Option<Date>,
    /// day on which the subscription ends
    pub expires_on: Option<Date>,
}

/// A track with what is known beyond its name. None, or no member of a list, leaves what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SongRecord {
    /// the track and its genres
    pub track: GenredTrack,
    /// language, as the app numbers or names it
    pub language: Option<String>,
    /// who wrote the music
    pub composers: Vec<String>,
    /// who wrote the words
    pub lyricists: Vec<String>,
}

/// Name and recording code of a track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingRecord {
    /// the app's id
    pub id: String,
    /// its title
    pub name: String,
    /// International Standard Recording Code
    pub isrc: Option<String>,
}

/// What an import of listens and what goes with them did to the catalog.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct ListeningOutcome {
    /// listens that were not there
    pub listens_added: u64,
    /// listens of which more is known now
    pub listens_changed: u64,
    /// tracks that were not there
    pub tracks_added: u64,
    /// users who were not there
    pub users_added: u64,
    /// users of whom something else is known now
    pub users_changed: u64,
}

impl std::ops::AddAssign for ListeningOutcome {
    fn add_assign(&mut self, other: Self) {
        self.listens_added += other.listens_added;
        self.listens_changed += other.listens_changed;
        self.tracks_added += other.tracks_added;
        self.users_added += other.users_added;
        self.users_changed += other.users_changed;
    }
}

/// A user as models see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserAttributes {
    /// row id
    pub row: i32,
    /// the app's id
    pub id: String,
    /// city
    pub city: Option<String>,
    /// age in years
    pub age: Option<i16>,
    /// gender
    pub gender: Option<String>,
    /// way of registration
    pub registered_via: Option<String>,
    /// days from the first of January 2000 to the registration
    pub registered_day: Option<i32>,
    /// days from then to the end of the subscription
    pub expires_day: Option<i32>,
}

/// A track as models see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackAttributes {
    /// row id
    pub row: i32,
    /// the app's id
    pub id: String,
    /// name of its artist, if known
    pub artist: Option<String>,
    /// language
    pub language: Option<String>,
    /// names of genres
    pub genres: Vec<String>,
    /// who wrote the music
    pub composers: Vec<String>,
    /// who wrote the words
    pub lyricists: Vec<String>,
    /// International Standard Recording Code
    pub isrc: Option<String>,
    /// length in milliseconds
    pub duration_ms: Option<i32>,
}

/// A listen as models see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenRow {
    /// row id of the user
    pub user: i32,
    /// row id of the track
    pub track: i32,
    /// tab that it was played from
    pub source_system_tab: Option<String>,
    /// screen that it was played from
    pub source_screen_name: Option<String>,
    /// what it was played from
    pub source_type: Option<String>,
    /// whether the user came back to it
    pub target: Option<bool>,
}

/// A listen that came in or changed lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentListen {
    /// the listen
    pub listen: ListenRecord,
    /// whether it came in; else it changed
    pub is_new: bool,
    /// when
    pub updated_at: OffsetDateTime,
}

impl Catalog {
    /// Adds users, and what is said of them, in one transaction; ids must be distinct.
    pub async fn import_users(&self, users: &[UserRecord]) -> Result<ListeningOutcome, CatalogError> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        sqlx::query!("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE").execute(&mut *transaction).await?;
        let ids: Vec<String> = users.iter().map(|user| user.id.clone()).collect();
        let users_added = add_users(&mut transaction, ids.iter().map(String::as_str)).await?;
        let cities: Vec<Option<String>> = users.iter().map(|user| user.city.clone()).collect();
        let ages: Vec<Option<i16>> = users.iter().map(|user| user.age).collect();
        let genders: Vec<Option<String>> = users.iter().map(|user| user.gender.clone()).collect();
        let ways: Vec<Option<String>> = users.iter().map(|user| user.registered_via.clone()).collect();
        let registered: Vec<Option<Date>> = users.iter().map(|user| user.registered_on).collect();
        let expires: Vec<Option<Date>> = users.iter().map(|user| user.expires_on).collect();
        let changed = sqlx::query!(
            "UPDATE users u
             SET city = COALESCE(input.city, u.city), age = COALESCE(input.age, u.age),
                 gender = COALESCE(input.gender, u.gender),
                 registered_via = COALESCE(input.registered_via, u.registered_via),
                 registered_on = COALESCE(input.registered_on, u.registered_on),
                 expires_on = COALESCE(input.expires_on, u.expires_on)
             FROM UNNEST($1::text[], $2::text[], $3::int2[], $4::text[], $5::text[], $6::date[], $7::date[])
                  AS input (id, city, age, gender, registered_via, registered_on, expires_on)
             WHERE u.external_id = input.id
               AND (u.city, u.age, u.gender, u.registered_via, u.registered_on, u.expires_on) IS DISTINCT FROM
                   (COALESCE(input.city, u.city), COALESCE(input.age, u.age), COALESCE(input.gender, u.gender),
                    COALESCE(input.registered_via, u.registered_via), COALESCE(input.registered_on, u.registered_on),
                    COALESCE(input.expires_on, u.expires_on))",
            &ids,
            cities.as_slice() as &[Option<String>],
            ages.as_slice() as &[Option<i16>],
            genders.as_slice() as &[Option<String>],
            ways.as_slice() as &[Option<String>],
            registered.as_slice() as &[Option<Date>],
            expires.as_slice() as &[Option<Date>]
        )
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        transaction.commit().await?;
        Ok(ListeningOutcome { users_added, users_changed: changed.saturating_sub(users_added), ..Default::default() })
    }

    /// Adds tracks, and what is said of them, in one transaction; ids must be distinct.
    pub async fn import_songs(&self, songs: &[SongRecord]) -> Result<ListeningOutcome, CatalogError> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        lock_tracks(&mut transaction).await?;
        let tracks_added = upsert_records(&mut transaction, songs.iter().map(|song| &song.track.track)).await?;
        let genred: Vec<GenredTrack> = songs.iter().map(|song| song.track.clone()).collect();
        set_genres(&mut transaction, &genred).await?;
        let ids: Vec<String> = songs.iter().map(|song| song.track.track.uri.clone()).collect();
        let languages: Vec<Option<String>> = songs.iter().map(|song| song.language.clone()).collect();
        let list = |names: &[String]| (!names.is_empty()).then(|| names.join(LIST_SEPARATOR));
        let composers: Vec<Option<String>> = songs.iter().map(|song| list(&song.composers)).collect();
        let lyricists: Vec<Option<String>> = songs.iter().map(|song| list(&song.lyricists)).collect();
        sqlx::query!(
            "UPDATE tracks t
             SET language = COALESCE(input.language, t.language),
                 composers = COALESCE(string_to_array(input.composers, $5), t.composers),
                 lyricists = COALESCE(string_to_array(input.lyricists, $5), t.lyricists)
             FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[]) AS input (id, language, composers, lyricists)
             WHERE t.uri = input.id
               AND (t.language, t.composers, t.lyricists) IS DISTINCT FROM
                   (COALESCE(input.language, t.language), COALESCE(string_to_array(input.composers, $5), t.composers),
                    COALESCE(string_to_array(input.lyricists, $5), t.lyricists))",
            &ids,
            languages.as_slice() as &[Option<String>],
            composers.as_slice() as &[Option<String>],
            lyricists.as_slice() as &[Option<String>],
            LIST_SEPARATOR
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(ListeningOutcome { tracks_added, ..ListeningOutcome::default() })
    }

    /// Names tracks and adds their recording codes, in one transaction; those that are not there are added, by no known
    /// artist. Ids must be distinct.
    pub async fn import_recordings(&self, recordings: &[RecordingRecord]) -> Result<ListeningOutcome, CatalogError> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        lock_tracks(&mut transaction).await?;
        let ids: Vec<String> = recordings.iter().map(|recording| recording.id.clone()).collect();
        let tracks_added = add_tracks(&mut transaction, ids.iter().map(String::as_str)).await?;
        let names: Vec<String> = recordings.iter().map(|recording| recording.name.clone()).collect();
        let codes: Vec<Option<String>> = recordings.iter().map(|recording| recording.isrc.clone()).collect();
        sqlx::query!(
            "UPDATE tracks t
             SET name = CASE WHEN input.name = '' THEN t.name ELSE input.name END, isrc = COALESCE(input.isrc, t.isrc)
             FROM UNNEST($1::text[], $2::text[], $3::text[]) AS input (id, name, isrc)
             WHERE t.uri = input.id
               AND (t.name, t.isrc) IS DISTINCT FROM
                   (CASE WHEN input.name = '' THEN t.name ELSE input.name END, COALESCE(input.isrc, t.isrc))",
            &ids,
            &names,
            codes.as_slice() as &[Option<String>]
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(ListeningOutcome { tracks_added, ..ListeningOutcome::default() })
    }

    /// Imports listens in one transaction; users and tracks that are not there are added, tracks under their ids.
    pub async fn import_listens(&self, listens: &[ListenRecord]) -> Result<ListeningOutcome, CatalogError> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        lock_tracks(&mut transaction).await?;
        sqlx::query!("LOCK TABLE users, listens IN SHARE ROW EXCLUSIVE MODE").execute(&mut *transaction).await?;
        skip_foreign_key_checks(&mut transaction).await?;
        let tracks_added = add_tracks(&mut transaction, listens.iter().map(|listen| listen.track.as_str())).await?;
        let users_added = add_users(&mut transaction, listens.iter().map(|listen| listen.user.as_str())).await?;
        let (outcome, _) = write_listens(&mut transaction, listens).await?;
        transaction.commit().await?;
        let (listens_added, listens_changed) = (outcome.added, outcome.changed);
        Ok(ListeningOutcome { listens_added, listens_changed, tracks_added, users_added, users_changed: 0 })
    }

    /// Every user, in the order of the app's ids.
    pub fn user_attributes(&self) -> impl Stream<Item = Result<UserAttributes, CatalogError>> + '_ {
        sqlx::query_as!(
            UserAttributes,
            r#"SELECT id AS row, external_id AS id, city, age, gender, registered_via,
                      registered_on - '2000-01-01'::date AS registered_day, expires_on - '2000-01-01'::date AS expires_day
               FROM users ORDER BY external_id COLLATE "C""#
        )
        .fetch(&self.pool)
        .map_err(CatalogError::from)
    }

    /// Every track that was listened to or of which more is known than its name, in the order of the app's ids.
    pub fn track_attributes(&self) -> impl Stream<Item = Result<TrackAttributes, CatalogError>> + '_ {
        sqlx::query_as!(
            TrackAttributes,
            r#"SELECT t.id AS row, t.uri AS id, NULLIF(a.name, $1) AS artist, t.language, t.genres, t.composers,
                      t.lyricists, t.isrc, t.duration_ms
               FROM tracks t JOIN artists a ON a.id = t.artist_id
               WHERE t.language IS NOT NULL OR t.isrc IS NOT NULL OR EXISTS (SELECT FROM listens WHERE track_id = t.id)
               ORDER BY t.uri COLLATE "C""#,
            UNKNOWN_ARTIST
        )
        .fetch(&self.pool)
        .map_err(CatalogError::from)
    }

    /// When the newest listen came in or changed.
    pub async fn newest_listen(&self) -> Result<Option<OffsetDateTime>, CatalogError> {
        Ok(sqlx::query_scalar!("SELECT max(updated_at) FROM listens").fetch_one(&self.pool).await?)
    }

    /// Every listen as it was at `moment`, oldest first; at one time in the order of the app's ids.
    pub fn listens(&self, moment: OffsetDateTime) -> impl Stream<Item = Result<ListenRow, CatalogError>> + '_ {
        sqlx::query_as!(
            ListenRow,
            r#"SELECT l.user_id AS "user", l.track_id AS track, l.source_system_tab, l.source_screen_name, l.source_type,
                      l.target
               FROM listens l JOIN users u ON u.id = l.user_id JOIN tracks t ON t.id = l.track_id
               WHERE l.updated_at <= $1
               ORDER BY l.listened_at, u.external_id COLLATE "C", t.uri COLLATE "C""#,
            moment
        )
        .fetch(&self.pool)
        .map_err(CatalogError::from)
    }

    /// Listens that came in or changed after `moment`, in the order in which they did.
    pub async fn listens_since(&self, moment: OffsetDateTime) -> Result<Vec<RecentListen>, CatalogError> {
        let rows = sqlx::query!(
            r#"SELECT u.external_id AS "user", t.uri AS track, l.listened_at, l.source_system_tab, l.source_screen_name,
                      l.source_type, l.target, l.updated_at, l.added_at > $1 AS "is_new!"
               FROM listens l JOIN users u ON u.id = l.user_id JOIN tracks t ON t.id = l.track_id
               WHERE l.updated_at > $1
               ORDER BY l.updated_at, l.listened_at, u.external_id COLLATE "C", t.uri COLLATE "C""#,
            moment
        )
        .fetch_all(&self.pool)
        .await?;
        let recent = rows.into_iter().map(|row| RecentListen {
            listen: ListenRecord {
                user: row.user,
                track: row.track,
                listened_at: row.listened_at,
                source_system_tab: row.source_system_tab,
                source_screen_name: row.source_screen_name,
                source_type: row.source_type,
                target: row.target,
            },
            is_new: row.is_new,
            updated_at: row.updated_at,
        });
        Ok(recent.collect())
    }
}

/// In the order in which imports of playlists lock them.
async fn lock_tracks(connection: &mut PgConnection) -> Result<(), CatalogError> {
    sqlx::query!("LOCK TABLE artists, albums, tracks IN SHARE ROW EXCLUSIVE MODE").execute(connection).await?;
    Ok(())
}

/// Tracks that are not there, under their ids for names.
pub(super) async fn add_tracks<'a>(
    connection: &mut PgConnection,
    ids: impl Iterator<Item = &'a str>,
) -> Result<u64, CatalogError> {
    let ids: Vec<String> = ids.collect::<BTreeSet<&str>>().into_iter().map(ToOwned::to_owned).collect();
    let known = sqlx::query_scalar!("SELECT uri FROM tracks WHERE uri = ANY($1)", &ids).fetch_all(&mut *connection);
    let known: HashSet<String> = known.await?.into_iter().collect();
    let unknown: Vec<GenredTrack> =
        ids.iter().filter(|id| !known.contains(*id)).map(|id| GenredTrack::unnamed(id)).collect();
    if unknown.is_empty() {
        return Ok(0);
    }
    upsert_records(connection, unknown.iter().map(|track| &track.track)).await
}

/// Users who are not there.
pub(super) async fn add_users<'a>(
    connection: &mut PgConnection,
    ids: impl Iterator<Item = &'a str>,
) -> Result<u64, CatalogError> {
    let ids: Vec<String> = ids.collect::<BTreeSet<&str>>().into_iter().map(ToOwned::to_owned).collect();
    let known = sqlx::query_scalar!("SELECT external_id FROM users WHERE external_id = ANY($1)", &ids);
    let known: HashSet<String> = known.fetch_all(&mut *connection).await?.into_iter().collect();
    let mut copy = CopyRows::default();
    for id in ids.iter().filter(|id| !known.contains(*id)) {
        copy.text(id).end_row();
    }
    copy.send(connection, "COPY users (external_id) FROM STDIN").await
}
