//! Ratings and listens: what people say of tracks, and what they play.
//!
//! A rating is there once for each user and track, and the one that was given last counts, in whatever order they come
//! in. A listen is there once for each user, track and time. So both can be told any number of times.
//!
//! Requests write rows under locks of their own, and may do so side by side; imports lock the tables, as imports of
//! playlists do, and copy what is missing.

use std::collections::{BTreeSet, HashMap};

use bytes::Buf;
use sqlx::postgres::PgPoolCopyExt;
use sqlx::{Acquire, PgConnection};
use time::OffsetDateTime;

use super::bulk::{CopyRows, skip_foreign_key_checks, upsert_records};
use super::copy::out::CopyOut;
use super::listens::{add_tracks, add_users};
use super::{ArtistRecord, TrackRecord};
use super::{Catalog, CatalogError, can_be_stored};

/// Artist of tracks that a source names without one.
pub(super) const UNKNOWN_ARTIST: &str = "Unknown artist";
/// Parts the genres of a track on the way to PostgreSQL, whose arrays of arrays must be rectangular.
const GENRE_SEPARATOR: &str = "\u{1f}";

/// The scale that an app rates on, both ends included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RatingScale {
    /// the lowest rating
    pub lowest: f32,
    /// the highest rating
    pub highest: f32,
}

impl RatingScale {
    /// The rating itself if it lies on the scale, else what is wrong with it.
    pub fn check(self, rating: f32) -> Result<f32, String> {
        match rating {
            rating if (self.lowest..=self.highest).contains(&rating) => Ok(rating),
            _ => Err(format!("must be a number from {} to {}", self.lowest, self.highest)),
        }
    }
}

/// As precise as PostgreSQL keeps times: what is told twice compares as the same.
pub fn whole_microseconds(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_nanosecond(time.nanosecond() / 1_000 * 1_000).unwrap_or(time)
}

/// A rating as it comes in.
#[derive(Debug, Clone, PartialEq)]
pub struct RatingRecord {
    /// the app's id of the user
    pub user: String,
    /// the app's id of the track
    pub track: String,
    /// on the app's own scale
    pub rating: f32,
    /// when the user gave it
    pub rated_at: OffsetDateTime,
}

/// A listen as it comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenRecord {
    /// the app's id of the user
    pub user: String,
    /// the app's id of the track
    pub track: String,
    /// when it began
    pub listened_at: OffsetDateTime,
    /// the tab of the app that it was played from
    pub source_system_tab: Option<String>,
    /// the screen that it was played from
    pub source_screen_name: Option<String>,
    /// what it was played from: an album, a playlist, a search
    pub source_type: Option<String>,
    /// whether the user listened to it again within a month
    pub target: Option<bool>,
}

/// A track as a source describes it, with its genres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenredTrack {
    /// the track
    pub track: TrackRecord,
    /// names of its genres; none leaves those that are there
    pub genres: Vec<String>,
}

impl GenredTrack {
    /// A track of which nothing but its id is known: that is its name, too.
    pub fn unnamed(uri: &str) -> Self {
        let artist = ArtistRecord { uri: None, name: UNKNOWN_ARTIST.to_owned() };
        let track = TrackRecord { uri: uri.to_owned(), name: uri.to_owned(), artist, album: None, duration_ms: None };
        Self { track, genres: Vec::new() }
    }

    /// A track of that name by nobody known.
    pub fn named(uri: &str, name: &str, genres: Vec<String>) -> Self {
        let mut track = Self::unnamed(uri);
        track.track.name = name.to_owned();
        Self { genres, ..track }
    }
}

/// A listen that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenListen {
    /// its place in the input
    pub place: usize,
    /// whether it was not there before
    pub is_new: bool,
    /// what was known before of whether the user came back to it
    pub target_before: Option<bool>,
    /// when it was written
    pub updated_at: OffsetDateTime,
}

/// What became of feedback that came in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeedbackOutcome {
    /// rows that were not there
    pub added: u64,
    /// rows that are another now
    pub changed: u64,
    /// rows that were there just so, or newer
    pub unchanged: u64,
    /// places in the input of rows about tracks that the catalog does not have; they are not stored
    pub unknown_tracks: Vec<usize>,
}

/// What an import of ratings did to the catalog.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct ImportOutcome {
    /// ratings that were not there
    pub ratings_added: u64,
    /// ratings that are others now
    pub ratings_changed: u64,
    /// ratings that were there just so, or newer
    pub ratings_unchanged: u64,
    /// tracks that were not there
    pub tracks_added: u64,
    /// users who were not there
    pub users_added: u64,
}

impl std::ops::AddAssign for ImportOutcome {
    fn add_assign(&mut self, other: Self) {
        self.ratings_added += other.ratings_added;
        self.ratings_changed += other.ratings_changed;
        self.ratings_unchanged += other.ratings_unchanged;
        self.tracks_added += other.tracks_added;
        self.users_added += other.users_added;
    }
}

/// A rating that a user gave.
#[derive(Debug, Clone, PartialEq)]
pub struct RatedTrack {
    /// the app's id of the track
    pub track: String,
    /// on the app's own scale
    pub rating: f32,
    /// when it was given
    pub rated_at: OffsetDateTime,
}

/// All feedback of a user.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UserFeedback {
    /// ratings, oldest first
    pub ratings: Vec<RatedTrack>,
    /// the app's ids of tracks listened to and not rated, each once
    pub listens: Vec<String>,
}

/// A track that someone rated or listened to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackFeedback {
    /// row id of the track
    pub row: i32,
    /// the app's id
    pub id: String,
    /// names of its genres
    pub genres: Vec<String>,
    /// users who rated or listened to it
    pub users: i64,
}

/// A user who rated or listened to something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedbackUser {
    /// row id of the user
    pub row: i32,
    /// the app's id
    pub id: String,
}

impl Catalog {
    /// Stores ratings, in one transaction. Of several of one track by one user the last one counts; users who were not
    /// there are added. Told once more, nothing changes.
    pub async fn upsert_ratings(&self, ratings: &[RatingRecord]) -> Result<FeedbackOutcome, CatalogError> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        let mentions = ratings.iter().map(|rating| (rating.user.as_str(), rating.track.as_str()));
        let rows = Rows::resolve(&mut transaction, mentions).await?;
        let latest = latest(ratings, &rows);
        let (mut users, mut tracks, mut values, mut times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for ((user, track), rating) in &latest {
            users.push(*user);
            tracks.push(*track);
            values.push(rating.rating);
            times.push(rating.rated_at);
        }
        let written = sqlx::query_scalar!(
            r#"INSERT INTO ratings (user_id, track_id, rating, rated_at)
               SELECT * FROM UNNEST($1::int[], $2::int[], $3::real[], $4::timestamptz[])
               ON CONFLICT (user_id, track_id) DO UPDATE
               SET rating = excluded.rating, rated_at = excluded.rated_at, updated_at = now()
               WHERE excluded.rated_at > ratings.rated_at
                  OR (excluded.rated_at = ratings.rated_at AND excluded.rating <> ratings.rating)
               RETURNING (xmax = 0) AS "is_new!""#,
            &users,
            &tracks,
            &values,
            &times
        )
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(rows.outcome(latest.len(), &written))
    }

    /// Stores listens, in one transaction; users who were not there are added. A listen that is there already takes over
    /// what is said of it now and was not said before. Beside what became of them all, tells of each that was written.
    pub async fn upsert_listens(
        &self,
        listens: &[ListenRecord],
    ) -> Result<(FeedbackOutcome, Vec<WrittenListen>), CatalogError> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        let outcome = write_listens(&mut transaction, listens).await?;
        transaction.commit().await?;
        Ok(outcome)
    }

    /// Imports described tracks, and ratings, in one transaction. Tracks that are rated and not there, nor described, get
    /// their id for a name. Until it is done, other writers of these tables wait; readers don't.
    pub async fn import_ratings(
        &self,
        tracks: &[GenredTrack],
        ratings: &[RatingRecord],
    ) -> Result<ImportOutcome, CatalogError> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        // In the order in which imports of playlists lock them.
        sqlx::query!("LOCK TABLE artists, albums, tracks, users, ratings IN SHARE ROW EXCLUSIVE MODE")
            .execute(&mut *transaction)
            .await?;
        skip_foreign_key_checks(&mut transaction).await?;
        let mut outcome = ImportOutcome::default();
        outcome.tracks_added += upsert_records(&mut transaction, tracks.iter().map(|track| &track.track)).await?;
        set_genres(&mut transaction, tracks).await?;
        outcome.tracks_added +=
            add_tracks(&mut transaction, ratings.iter().map(|rating| rating.track.as_str())).await?;
        outcome.users_added = add_users(&mut transaction, ratings.iter().map(|rating| rating.user.as_str())).await?;
        let mentions = ratings.iter().map(|rating| (rating.user.as_str(), rating.track.as_str()));
        let rows = Rows::resolve(&mut transaction, mentions).await?;
        write_ratings(&mut transaction, &latest(ratings, &rows), &mut outcome).await?;
        transaction.commit().await?;
        Ok(outcome)
    }

    /// Everything that the user with the app's id `user` rated and listened to; nothing for one who is not there.
    pub async fn user_feedback(&self, user: &str) -> Result<UserFeedback, CatalogError> {
        if !can_be_stored(user) {
            return Ok(UserFeedback::default());
        }
        let rows = sqlx::query!(
            r#"SELECT t.uri AS "track!", f.rating, f.at AS "at!"
               FROM (SELECT r.track_id, r.rating, r.rated_at AS at
                     FROM users u JOIN ratings r ON r.user_id = u.id WHERE u.external_id = $1
                     UNION ALL
                     SELECT l.track_id, NULL, max(l.listened_at)
                     FROM users u JOIN listens l ON l.user_id = u.id
                     WHERE u.external_id = $1
                       AND NOT EXISTS (SELECT FROM ratings r WHERE r.user_id = u.id AND r.track_id = l.track_id)
                     GROUP BY l.track_id) f
               JOIN tracks t ON t.id = f.track_id
               ORDER BY f.at, t.uri COLLATE "C""#,
            user
        )
        .fetch_all(&self.pool)
        .await?;
        let mut feedback = UserFeedback::default();
        for row in rows {
            match row.rating {
                Some(rating) => feedback.ratings.push(RatedTrack { track: row.track, rating, rated_at: row.at }),
                None => feedback.listens.push(row.track),
            }
        }
        Ok(feedback)
    }

    /// Every track that someone rated or listened to, by falling number of users (ties by the app's id).
    pub async fn track_feedback(&self) -> Result<Vec<TrackFeedback>, CatalogError> {
        let tracks = sqlx::query_as!(
            TrackFeedback,
            r#"SELECT t.id AS row, t.uri AS id, t.genres, f.users AS "users!"
               FROM (SELECT track_id, count(*) AS users
                     FROM (SELECT user_id, track_id FROM ratings UNION SELECT user_id, track_id FROM listens) pairs
                     GROUP BY track_id) f
               JOIN tracks t ON t.id = f.track_id
               ORDER BY f.users DESC, t.uri COLLATE "C""#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(tracks)
    }

    /// Every user who rated or listened to something, in the order of the app's ids.
    pub async fn feedback_users(&self) -> Result<Vec<FeedbackUser>, CatalogError> {
        let users = sqlx::query_as!(
            FeedbackUser,
            r#"SELECT id AS row, external_id AS id FROM users u
               WHERE EXISTS (SELECT FROM ratings WHERE user_id = u.id)
                  OR EXISTS (SELECT FROM listens WHERE user_id = u.id)
               ORDER BY external_id COLLATE "C""#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(users)
    }

    /// When the newest rating or listen changed.
    pub async fn newest_feedback(&self) -> Result<Option<OffsetDateTime>, CatalogError> {
        let newest = sqlx::query_scalar!(
            "SELECT GREATEST((SELECT max(updated_at) FROM ratings), (SELECT max(updated_at) FROM listens))"
        );
        Ok(newest.fetch_one(&self.pool).await?)
    }

    /// Everything that anyone rated and listened to: once for each user and track, a listen only where there is no
    /// rating. User by user, in the order of the app's ids; of one user oldest first.
    pub async fn feedback(&self) -> Result<FeedbackReader, CatalogError> {
        let stream = self
            .pool
            .copy_out_raw(
                "COPY (SELECT f.user_id, f.track_id, f.is_rating, f.rating, f.at
                       FROM (SELECT user_id, track_id, 1::int2 AS is_rating, rating,
                                    extract(epoch FROM rated_at)::bigint AS at
                             FROM ratings
                             UNION ALL
                             SELECT user_id, track_id, 0::int2, 0::real, max(extract(epoch FROM listened_at)::bigint)
                             FROM listens l
                             WHERE NOT EXISTS (SELECT FROM ratings r
                                               WHERE r.user_id = l.user_id AND r.track_id = l.track_id)
                             GROUP BY user_id, track_id) f
                       JOIN users u ON u.id = f.user_id JOIN tracks t ON t.id = f.track_id
                       ORDER BY u.external_id COLLATE \"C\", f.at, t.uri COLLATE \"C\") TO STDOUT (FORMAT binary)",
            )
            .await?;
        Ok(FeedbackReader(CopyOut::new(stream, [4, 4, 2, 4, 8], "feedback")))
    }
}

/// Rows of [`Catalog::feedback`] as they arrive.
pub struct FeedbackReader(CopyOut<5>);

impl FeedbackReader {
    /// Appends the next rows to `rows`, as (user row, track row, rating or none for a listen, seconds since 1970); false
    /// at the end.
    pub async fn next_rows(&mut self, rows: &mut Vec<(i32, i32, Option<f32>, i64)>) -> Result<bool, CatalogError> {
        let each = |row: &mut bytes::BytesMut| {
            let (user, track, is_rating, rating) = (row.get_i32(), row.get_i32(), row.get_i16(), row.get_f32());
            rows.push((user, track, (is_rating == 1).then_some(rating), row.get_i64()));
        };
        self.0.next_rows(each).await
    }
}

/// Row ids of the users and tracks that a batch mentions.
struct Rows {
    users: HashMap<String, i32>,
    tracks: HashMap<String, i32>,
    /// places of rows about tracks that are not there
    unknown_tracks: Vec<usize>,
    mentions: usize,
}

impl Rows {
    /// Looks tracks up, and users, those added who are mentioned with a track that is there.
    async fn resolve<'a>(
        connection: &mut PgConnection,
        mentions: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Result<Self, CatalogError> {
        let ids: Vec<String> = distinct(mentions.clone().map(|(_, track)| track)).map(ToOwned::to_owned).collect();
        let tracks =
            sqlx::query!("SELECT uri, id FROM tracks WHERE uri = ANY($1)", &ids).fetch_all(&mut *connection).await?;
        let tracks: HashMap<String, i32> = tracks.into_iter().map(|row| (row.uri, row.id)).collect();
        let unknown_tracks = (0..).zip(mentions.clone()).filter(|(_, (_, track))| !tracks.contains_key(*track));
        let unknown_tracks: Vec<usize> = unknown_tracks.map(|(place, _)| place).collect();
        let named = mentions.clone().filter(|(_, track)| tracks.contains_key(*track)).map(|(user, _)| user);
        let ids: Vec<String> = distinct(named).map(ToOwned::to_owned).collect();
        sqlx::query!(
            "INSERT INTO users (external_id) SELECT * FROM UNNEST($1::text[]) ON CONFLICT (external_id) DO NOTHING",
            &ids
        )
        .execute(&mut *connection)
        .await?;
        let users = sqlx::query!("SELECT external_id, id FROM users WHERE external_id = ANY($1)", &ids)
            .fetch_all(connection)
            .await?;
        let users = users.into_iter().map(|row| (row.external_id, row.id)).collect();
        Ok(Self { users, tracks, unknown_tracks, mentions: mentions.count() })
    }

    /// Row ids of a user and a track; none if the catalog does not have the track.
    fn of(&self, user: &str, track: &str) -> Option<(i32, i32)> {
        Some((*self.users.get(user)?, *self.tracks.get(track)?))
    }

    /// After `distinct` rows were sent, and for those that were written it was told whether they are new.
    fn outcome(self, distinct: usize, written: &[bool]) -> FeedbackOutcome {
        let added = written.iter().filter(|&&is_new| is_new).count();
        debug_assert!(distinct <= self.mentions && written.len() <= distinct);
        FeedbackOutcome {
            added: added as u64,
            changed: (written.len() - added) as u64,
            unchanged: (self.mentions - self.unknown_tracks.len() - written.len()) as u64,
            unknown_tracks: self.unknown_tracks,
        }
    }
}

/// In order, so that batches side by side lock rows in one order.
fn distinct<'a>(ids: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    ids.collect::<BTreeSet<&str>>().into_iter()
}

/// The rating that counts of each user and track, in the order of their rows: the one given last, of several at one
/// time the one named last.
fn latest<'a>(ratings: &'a [RatingRecord], rows: &Rows) -> Vec<((i32, i32), &'a RatingRecord)> {
    let mut found: Vec<((i32, i32), &RatingRecord)> =
        ratings.iter().filter_map(|rating| Some((rows.of(&rating.user, &rating.track)?, rating))).collect();
    found.sort_by_key(|(key, rating)| (*key, rating.rated_at)); // stable
    found.reverse();
    found.dedup_by_key(|(key, _)| *key);
    found.reverse();
    found
}

pub(super) async fn set_genres(connection: &mut PgConnection, tracks: &[GenredTrack]) -> Result<(), CatalogError> {
    let genred = || tracks.iter().filter(|track| !track.genres.is_empty());
    let uris: Vec<String> = genred().map(|track| track.track.uri.clone()).collect();
    let genres: Vec<String> = genred().map(|track| track.genres.join(GENRE_SEPARATOR)).collect();
    sqlx::query!(
        "UPDATE tracks t SET genres = string_to_array(input.genres, $3)
         FROM UNNEST($1::text[], $2::text[]) AS input (uri, genres)
         WHERE t.uri = input.uri AND t.genres <> string_to_array(input.genres, $3)",
        &uris,
        &genres,
        GENRE_SEPARATOR
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes listens of tracks that are there, and says of each that is new or changed what it was.
pub(super) async fn write_listens(
    connection: &mut PgConnection,
    listens: &[ListenRecord],
) -> Result<(FeedbackOutcome, Vec<WrittenListen>), CatalogError> {
    let mentions = listens.iter().map(|listen| (listen.user.as_str(), listen.track.as_str()));
    let rows = Rows::resolve(&mut *connection, mentions).await?;
    let mut distinct: Vec<((i32, i32, OffsetDateTime), usize)> = (0..)
        .zip(listens)
        .filter_map(|(place, listen)| {
            let (user, track) = rows.of(&listen.user, &listen.track)?;
            Some(((user, track, listen.listened_at), place))
        })
        .collect();
    // In one order everywhere, so that requests side by side don't wait for each other in a circle.
    distinct.sort_by_key(|(key, _)| *key);
    distinct.dedup_by_key(|(key, _)| *key);
    let users: Vec<i32> = distinct.iter().map(|(key, _)| key.0).collect();
    let tracks: Vec<i32> = distinct.iter().map(|(key, _)| key.1).collect();
    let times: Vec<OffsetDateTime> = distinct.iter().map(|(key, _)| key.2).collect();
    let of = |place: usize| &listens[place];
    let tabs: Vec<Option<String>> = distinct.iter().map(|&(_, place)| of(place).source_system_tab.clone()).collect();
    let screens: Vec<Option<String>> =
        distinct.iter().map(|&(_, place)| of(place).source_screen_name.clone()).collect();
    let types: Vec<Option<String>> = distinct.iter().map(|&(_, place)| of(place).source_type.clone()).collect();
    let targets: Vec<Option<bool>> = distinct.iter().map(|&(_, place)| of(place).target).collect();
    // What a subquery of RETURNING reads is how it was before.
    let written = sqlx::query!(
        r#"INSERT INTO listens (user_id, track_id, listened_at, source_system_tab, source_screen_name, source_type,
                                target)
           SELECT * FROM UNNEST($1::int[], $2::int[], $3::timestamptz[], $4::text[], $5::text[], $6::text[],
                                $7::bool[])
           ON CONFLICT (user_id, track_id, listened_at) DO UPDATE
           SET source_system_tab = COALESCE(excluded.source_system_tab, listens.source_system_tab),
               source_screen_name = COALESCE(excluded.source_screen_name, listens.source_screen_name),
               source_type = COALESCE(excluded.source_type, listens.source_type),
               target = COALESCE(excluded.target, listens.target), updated_at = now()
           WHERE (listens.source_system_tab, listens.source_screen_name, listens.source_type, listens.target)
                 IS DISTINCT FROM
                 (COALESCE(excluded.source_system_tab, listens.source_system_tab),
                  COALESCE(excluded.source_screen_name, listens.source_screen_name),
                  COALESCE(excluded.source_type, listens.source_type), COALESCE(excluded.target, listens.target))
           RETURNING user_id, track_id, listened_at, updated_at, (xmax = 0) AS "is_new!",
                     (SELECT l.target FROM listens l
                      WHERE l.user_id = listens.user_id AND l.track_id = listens.track_id
                        AND l.listened_at = listens.listened_at) AS target_before"#,
        &users,
        &tracks,
        &times,
        tabs.as_slice() as &[Option<String>],
        screens.as_slice() as &[Option<String>],
        types.as_slice() as &[Option<String>],
        targets.as_slice() as &[Option<bool>],
    )
    .fetch_all(connection)
    .await?;
    let mut of_listens: Vec<WrittenListen> = written
        .iter()
        .filter_map(|row| {
            let key = (row.user_id, row.track_id, row.listened_at);
            let found = distinct.binary_search_by_key(&key, |(key, _)| *key).ok()?;
            Some(WrittenListen {
                place: distinct[found].1,
                is_new: row.is_new,
                target_before: row.target_before,
                updated_at: row.updated_at,
            })
        })
        .collect();
    of_listens.sort_by_key(|written| written.place);
    let is_new: Vec<bool> = of_listens.iter().map(|written| written.is_new).collect();
    Ok((rows.outcome(distinct.len(), &is_new), of_listens))
}

async fn write_ratings(
    connection: &mut PgConnection,
    ratings: &[((i32, i32), &RatingRecord)],
    outcome: &mut ImportOutcome,
) -> Result<(), CatalogError> {
    let users: Vec<i32> = ratings.iter().map(|((user, _), _)| *user).collect();
    let tracks: Vec<i32> = ratings.iter().map(|((_, track), _)| *track).collect();
    let stored = sqlx::query!(
        "SELECT r.user_id, r.track_id, r.rating, r.rated_at
         FROM UNNEST($1::int[], $2::int[]) AS input (user_id, track_id)
         JOIN ratings r ON r.user_id = input.user_id AND r.track_id = input.track_id",
        &users,
        &tracks
    )
    .fetch_all(&mut *connection)
    .await?;
    let stored: HashMap<(i32, i32), (f32, OffsetDateTime)> =
        stored.into_iter().map(|row| ((row.user_id, row.track_id), (row.rating, row.rated_at))).collect();
    let mut copy = CopyRows::default();
    let (mut users, mut tracks, mut values, mut times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for ((user, track), rating) in ratings {
        match stored.get(&(*user, *track)) {
            None => {
                let at = rating.rated_at.format(&time::format_description::well_known::Rfc3339);
                let at = at.map_err(|error| CatalogError::Protocol(format!("a time can't be written: {error}")))?;
                copy.field(user).field(track).field(rating.rating).field(at).end_row();
            }
            Some(&(value, at)) if rating.rated_at > at || (rating.rated_at == at && rating.rating != value) => {
                users.push(*user);
                tracks.push(*track);
                values.push(rating.rating);
                times.push(rating.rated_at);
            }
            Some(_) => outcome.ratings_unchanged += 1,
        }
    }
    outcome.ratings_changed += users.len() as u64;
    outcome.ratings_added +=
        copy.send(connection, "COPY ratings (user_id, track_id, rating, rated_at) FROM STDIN").await?;
    if !users.is_empty() {
        sqlx::query!(
            "UPDATE ratings r SET rating = input.rating, rated_at = input.rated_at, updated_at = now()
             FROM UNNEST($1::int[], $2::int[], $3::real[], $4::timestamptz[])
                  AS input (user_id, track_id, rating, rated_at)
             WHERE r.user_id = input.user_id AND r.track_id = input.track_id",
            &users,
            &tracks,
            &values,
            &times
        )
        .execute(connection)
        .await?;
    }
    Ok(())
}
