//! Ratings as they are written: one for each user and track. The one given last counts, in whatever order they arrive,
//! so that sending one again changes nothing.
//!
//! Requests lock only the rows that they write, and may run concurrently; imports run one at a time, copy what is missing,
//! and are repeated if a request adds the same rating meanwhile.

use std::collections::HashMap;

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::attempts::Attempts;
use super::connection::Catalog;
use super::copy::CopyRows;
use super::error::CatalogError;
use super::records::{FeedbackOutcome, RatingRecord, RatingsOutcome, TrackRecord, TrackRow, UserRow};
use super::upsert::{Mentions, add_tracks, begin_bulk, upsert_track_records, upsert_users};

impl Catalog {
    /// Upserts ratings in one transaction, and adds missing users. Of several ratings of one track by one user, the last
    /// one counts.
    pub async fn upsert_ratings(&self, ratings: &[RatingRecord]) -> Result<FeedbackOutcome, CatalogError> {
        let mut attempts = Attempts::default();
        loop {
            match self.try_upsert_ratings(ratings).await {
                Err(error) if attempts.again(&error).await => {}
                outcome => return outcome,
            }
        }
    }

    async fn try_upsert_ratings(&self, ratings: &[RatingRecord]) -> Result<FeedbackOutcome, CatalogError> {
        let mut transaction = self.pool.begin().await?;
        let mentions = resolve(&mut transaction, ratings).await?;
        let latest = latest(ratings, &mentions);
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
            &users as &[UserRow],
            &tracks as &[TrackRow],
            &values,
            &times
        )
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(mentions.outcome(&written))
    }

    /// Imports tracks and ratings in one transaction. Rated tracks that are neither described nor in the catalog are added
    /// under their ids. Until then, other batches wait; readers and requests with other ratings don't.
    pub async fn import_ratings(
        &self,
        tracks: &[TrackRecord],
        ratings: &[RatingRecord],
    ) -> Result<RatingsOutcome, CatalogError> {
        let mut attempts = Attempts::default();
        loop {
            match self.try_import_ratings(tracks, ratings).await {
                Err(error) if attempts.again(&error).await => {}
                outcome => return outcome,
            }
        }
    }

    async fn try_import_ratings(
        &self,
        tracks: &[TrackRecord],
        ratings: &[RatingRecord],
    ) -> Result<RatingsOutcome, CatalogError> {
        let mut transaction = begin_bulk(&self.pool).await?;
        let described = upsert_track_records(&mut transaction, tracks).await?.outcome;
        let named = add_tracks(&mut transaction, ratings.iter().map(|rating| &rating.track)).await?;
        let (_, users_added) = upsert_users(&mut transaction, ratings.iter().map(|rating| &rating.user)).await?;
        let mut outcome = RatingsOutcome {
            ratings: ratings.len() as u64,
            tracks_added: described.tracks_added + named,
            tracks_changed: described.tracks_changed,
            artists_added: described.artists_added,
            artists_changed: described.artists_changed,
            users_added,
            ..RatingsOutcome::default()
        };
        let mentions = resolve(&mut transaction, ratings).await?;
        write_ratings(&mut transaction, &latest(ratings, &mentions), &mut outcome).await?;
        transaction.commit().await?;
        Ok(outcome)
    }
}

async fn resolve(connection: &mut PgConnection, ratings: &[RatingRecord]) -> Result<Mentions, CatalogError> {
    Mentions::resolve(connection, ratings.iter().map(|rating| (&rating.user, &rating.track))).await
}

/// A user and a track, and the rating that counts.
type Latest<'a> = ((UserRow, TrackRow), &'a RatingRecord);

/// Returns the rating that counts for each user and track, in the order of their rows: the one given last; of several
/// at one time, the last in the input.
fn latest<'a>(ratings: &'a [RatingRecord], mentions: &Mentions) -> Vec<Latest<'a>> {
    let mut found: Vec<Latest<'a>> =
        ratings.iter().filter_map(|rating| Some((mentions.rows(&rating.user, &rating.track)?, rating))).collect();
    found.sort_by_key(|(key, rating)| (*key, rating.rated_at)); // stable
    found.reverse();
    found.dedup_by_key(|(key, _)| *key);
    found.reverse();
    found
}

async fn write_ratings(
    connection: &mut PgConnection,
    ratings: &[Latest<'_>],
    outcome: &mut RatingsOutcome,
) -> Result<(), CatalogError> {
    let (users, tracks): (Vec<UserRow>, Vec<TrackRow>) = ratings.iter().map(|(rows, _)| *rows).unzip();
    let stored = sqlx::query!(
        "SELECT r.user_id, r.track_id, r.rating, r.rated_at
         FROM UNNEST($1::int[], $2::int[]) AS input (user_id, track_id)
         JOIN ratings r ON r.user_id = input.user_id AND r.track_id = input.track_id",
        &users as &[UserRow],
        &tracks as &[TrackRow]
    )
    .fetch_all(&mut *connection)
    .await?;
    let stored: HashMap<(UserRow, TrackRow), (f32, OffsetDateTime)> = stored
        .into_iter()
        .map(|row| ((UserRow(row.user_id), TrackRow(row.track_id)), (row.rating, row.rated_at)))
        .collect();
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
             WHERE r.user_id = input.user_id AND r.track_id = input.track_id
               AND (input.rated_at > r.rated_at OR (input.rated_at = r.rated_at AND input.rating <> r.rating))",
            &users as &[UserRow],
            &tracks as &[TrackRow],
            &values,
            &times
        )
        .execute(connection)
        .await?;
    }
    Ok(())
}
