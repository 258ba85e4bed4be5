//! Ratings and listens together, as they are read.

use bytes::Buf;
use sqlx::postgres::PgPoolCopyExt;
use time::OffsetDateTime;

use super::connection::Catalog;
use super::copy::CopyOut;
use super::error::CatalogError;
use super::records::{TrackId, TrackRow, UserId, UserRow};

/// A rating that a user gave.
#[derive(Debug, Clone, PartialEq)]
pub struct RatedTrack {
    /// which track
    pub track: TrackId,
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
    /// tracks listened to and not rated, each once
    pub listens: Vec<TrackId>,
}

/// A track that someone rated or listened to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackFeedback {
    /// its row
    pub row: TrackRow,
    /// the app's id
    pub id: TrackId,
    /// names of its genres
    pub genres: Vec<String>,
    /// users who rated or listened to it
    pub users: i64,
}

/// A user who rated or listened to something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedbackUser {
    /// their row
    pub row: UserRow,
    /// the app's id
    pub id: UserId,
}

impl Catalog {
    /// Returns everything that a user rated and listened to, nothing for an unknown user.
    pub async fn user_feedback(&self, user: &UserId) -> Result<UserFeedback, CatalogError> {
        let rows = sqlx::query!(
            r#"SELECT t.uri AS "track!: TrackId", f.rating, f.at AS "at!"
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
            user.as_str()
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

    /// Returns the tracks that someone rated or listened to, by falling number of users (ties by the app's id).
    pub async fn track_feedback(&self) -> Result<Vec<TrackFeedback>, CatalogError> {
        let tracks = sqlx::query_as!(
            TrackFeedback,
            r#"SELECT t.id AS row, t.uri AS "id: TrackId", t.genres, f.users AS "users!"
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

    /// Returns the users who rated or listened to something, in the order of the app's ids.
    pub async fn feedback_users(&self) -> Result<Vec<FeedbackUser>, CatalogError> {
        let users = sqlx::query_as!(
            FeedbackUser,
            r#"SELECT id AS row, external_id AS "id: UserId" FROM users u
               WHERE EXISTS (SELECT FROM ratings WHERE user_id = u.id)
                  OR EXISTS (SELECT FROM listens WHERE user_id = u.id)
               ORDER BY external_id COLLATE "C""#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(users)
    }

    /// Returns when a rating or listen last changed.
    pub async fn newest_feedback(&self) -> Result<Option<OffsetDateTime>, CatalogError> {
        let newest = sqlx::query_scalar!(
            "SELECT GREATEST((SELECT max(updated_at) FROM ratings), (SELECT max(updated_at) FROM listens))"
        );
        Ok(newest.fetch_one(&self.pool).await?)
    }

    /// Streams all ratings and listens: one for each user and track, a listen only where there is no rating. User by user
    /// in the order of the app's ids, oldest first.
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
    pub async fn next_rows(
        &mut self,
        rows: &mut Vec<(UserRow, TrackRow, Option<f32>, i64)>,
    ) -> Result<bool, CatalogError> {
        let each = |row: &mut bytes::BytesMut| {
            let (user, track, is_rating, rating) = (row.get_i32(), row.get_i32(), row.get_i16(), row.get_f32());
            rows.push((UserRow(user), TrackRow(track), (is_rating == 1).then_some(rating), row.get_i64()));
        };
        self.0.next_rows(each).await
    }
}
