//! What is known of users and tracks beyond their names, for models of who listens to what again.

use futures_util::{Stream, TryStreamExt};
use time::Date;

use super::attempts::Attempts;
use super::connection::Catalog;
use super::error::CatalogError;
use super::records::{ListensOutcome, RecordingRecord, SongRecord, TrackId, TrackRow, UserId, UserRecord, UserRow};
use super::upsert::{begin_bulk, upsert_track_records, upsert_users};

/// Separates the members of a list on the way to PostgreSQL, whose arrays of arrays must be rectangular.
const LIST_SEPARATOR: &str = "\u{1f}";

/// A user as models see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserAttributes {
    /// its row
    pub row: UserRow,
    /// the app's id
    pub id: UserId,
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
    /// its row
    pub row: TrackRow,
    /// the app's id
    pub id: TrackId,
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

impl Catalog {
    /// Imports users with their attributes in one transaction; ids must be distinct.
    pub async fn import_users(&self, users: &[UserRecord]) -> Result<ListensOutcome, CatalogError> {
        let mut attempts = Attempts::default();
        loop {
            match self.try_import_users(users).await {
                Err(error) if attempts.again(&error).await => {}
                outcome => return outcome,
            }
        }
    }

    async fn try_import_users(&self, users: &[UserRecord]) -> Result<ListensOutcome, CatalogError> {
        // Under the lock of all batches: two that change the same users would deadlock.
        let mut transaction = begin_bulk(&self.pool).await?;
        let (_, users_added) = upsert_users(&mut transaction, users.iter().map(|user| &user.id)).await?;
        let ids: Vec<String> = users.iter().map(|user| user.id.to_string()).collect();
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
        Ok(ListensOutcome { users_added, users_changed: changed.saturating_sub(users_added), ..Default::default() })
    }

    /// Imports tracks with their attributes in one transaction; ids must be distinct.
    pub async fn import_songs(&self, songs: &[SongRecord]) -> Result<ListensOutcome, CatalogError> {
        let mut attempts = Attempts::default();
        loop {
            match self.try_import_songs(songs).await {
                Err(error) if attempts.again(&error).await => {}
                outcome => return outcome,
            }
        }
    }

    async fn try_import_songs(&self, songs: &[SongRecord]) -> Result<ListensOutcome, CatalogError> {
        let mut transaction = begin_bulk(&self.pool).await?;
        let mut upserted = upsert_track_records(&mut transaction, songs.iter().map(|song| &song.track)).await?;
        let ids: Vec<String> = songs.iter().map(|song| song.track.id.to_string()).collect();
        let languages: Vec<Option<String>> = songs.iter().map(|song| song.language.clone()).collect();
        let list = |names: &[String]| (!names.is_empty()).then(|| names.join(LIST_SEPARATOR));
        let composers: Vec<Option<String>> = songs.iter().map(|song| list(&song.composers)).collect();
        let lyricists: Vec<Option<String>> = songs.iter().map(|song| list(&song.lyricists)).collect();
        let changed = sqlx::query_scalar!(
            r#"UPDATE tracks t
               SET language = COALESCE(input.language, t.language),
                   composers = COALESCE(string_to_array(input.composers, $5), t.composers),
                   lyricists = COALESCE(string_to_array(input.lyricists, $5), t.lyricists)
               FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY
                    AS input (id, language, composers, lyricists, place)
               WHERE t.uri = input.id
                 AND (t.language, t.composers, t.lyricists) IS DISTINCT FROM
                     (COALESCE(input.language, t.language), COALESCE(string_to_array(input.composers, $5), t.composers),
                      COALESCE(string_to_array(input.lyricists, $5), t.lyricists))
               RETURNING input.place AS "place!""#,
            &ids,
            languages.as_slice() as &[Option<String>],
            composers.as_slice() as &[Option<String>],
            lyricists.as_slice() as &[Option<String>],
            LIST_SEPARATOR
        )
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        upserted.mark_changed(changed);
        Ok(upserted.into())
    }

    /// Imports names and recording codes of tracks in one transaction; ids must be distinct.
    pub async fn import_recordings(&self, recordings: &[RecordingRecord]) -> Result<ListensOutcome, CatalogError> {
        let mut attempts = Attempts::default();
        loop {
            match self.try_import_recordings(recordings).await {
                Err(error) if attempts.again(&error).await => {}
                outcome => return outcome,
            }
        }
    }

    async fn try_import_recordings(&self, recordings: &[RecordingRecord]) -> Result<ListensOutcome, CatalogError> {
        let mut transaction = begin_bulk(&self.pool).await?;
        let tracks = recordings.iter().map(|recording| &recording.track);
        let mut upserted = upsert_track_records(&mut transaction, tracks).await?;
        let ids: Vec<String> = recordings.iter().map(|recording| recording.track.id.to_string()).collect();
        let codes: Vec<Option<String>> = recordings.iter().map(|recording| recording.isrc.clone()).collect();
        let changed = sqlx::query_scalar!(
            r#"UPDATE tracks t SET isrc = input.isrc
               FROM UNNEST($1::text[], $2::text[]) WITH ORDINALITY AS input (id, isrc, place)
               WHERE t.uri = input.id AND t.isrc IS DISTINCT FROM input.isrc AND input.isrc IS NOT NULL
               RETURNING input.place AS "place!""#,
            &ids,
            codes.as_slice() as &[Option<String>]
        )
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        upserted.mark_changed(changed);
        Ok(upserted.into())
    }

    /// Streams all users, in the order of the app's ids.
    pub fn user_attributes(&self) -> impl Stream<Item = Result<UserAttributes, CatalogError>> + '_ {
        sqlx::query_as!(
            UserAttributes,
            r#"SELECT id AS row, external_id AS "id: UserId", city, age, gender, registered_via,
                      registered_on - '2000-01-01'::date AS registered_day, expires_on - '2000-01-01'::date AS expires_day
               FROM users ORDER BY external_id COLLATE "C""#
        )
        .fetch(&self.pool)
        .map_err(CatalogError::from)
    }

    /// Streams the tracks that were listened to or have attributes, in the order of the app's ids.
    pub fn track_attributes(&self) -> impl Stream<Item = Result<TrackAttributes, CatalogError>> + '_ {
        sqlx::query_as!(
            TrackAttributes,
            r#"SELECT t.id AS "row!", t.uri AS "id!: TrackId", a.name AS "artist?", t.language, t.genres AS "genres!",
                      t.composers AS "composers!", t.lyricists AS "lyricists!", t.isrc, t.duration_ms
               FROM tracks t LEFT JOIN artists a ON a.id = t.artist_id
               WHERE t.language IS NOT NULL OR t.isrc IS NOT NULL OR EXISTS (SELECT FROM listens WHERE track_id = t.id)
               ORDER BY t.uri COLLATE "C""#
        )
        .fetch(&self.pool)
        .map_err(CatalogError::from)
    }
}
