//! Listens: one for each user, track and time, so that sending one again changes nothing.
//!
//! Requests lock only the rows that they write, and may run concurrently; imports run one at a time beside them.

use futures_util::{Stream, TryStreamExt};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::attempts::Attempts;
use super::connection::Catalog;
use super::error::CatalogError;
use super::records::{
    FeedbackOutcome, ListenRecord, ListensOutcome, TrackId, TrackRow, UserId, UserRow, WrittenListen,
};
use super::upsert::{Mentions, add_tracks, begin_bulk, upsert_users};

/// A listen as models see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenRow {
    /// row of the user
    pub user: UserRow,
    /// row of the track
    pub track: TrackRow,
    /// tab that it was played from
    pub source_system_tab: Option<String>,
    /// screen that it was played from
    pub source_screen_name: Option<String>,
    /// what it was played from
    pub source_type: Option<String>,
    /// whether the user came back to it
    pub target: Option<bool>,
}

/// A listen that was added or changed lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentListen {
    /// the listen
    pub listen: ListenRecord,
    /// whether it was added; else it changed
    pub is_new: bool,
    /// when
    pub updated_at: OffsetDateTime,
}

impl Catalog {
    /// Upserts listens in one transaction, and adds missing users. A stored listen keeps the fields that are left out.
    /// Returns what became of all listens, and each that was written.
    pub async fn upsert_listens(
        &self,
        listens: &[ListenRecord],
    ) -> Result<(FeedbackOutcome, Vec<WrittenListen>), CatalogError> {
        let mut attempts = Attempts::default();
        loop {
            match self.try_upsert_listens(listens).await {
                Err(error) if attempts.again(&error).await => {}
                outcome => return outcome,
            }
        }
    }

    async fn try_upsert_listens(
        &self,
        listens: &[ListenRecord],
    ) -> Result<(FeedbackOutcome, Vec<WrittenListen>), CatalogError> {
        let mut transaction = self.pool.begin().await?;
        let outcome = write_listens(&mut transaction, listens).await?;
        transaction.commit().await?;
        Ok(outcome)
    }

    /// Imports listens in one transaction, and adds missing users and tracks, the tracks under their ids.
    pub async fn import_listens(&self, listens: &[ListenRecord]) -> Result<ListensOutcome, CatalogError> {
        let mut attempts = Attempts::default();
        loop {
            match self.try_import_listens(listens).await {
                Err(error) if attempts.again(&error).await => {}
                outcome => return outcome,
            }
        }
    }

    async fn try_import_listens(&self, listens: &[ListenRecord]) -> Result<ListensOutcome, CatalogError> {
        let mut transaction = begin_bulk(&self.pool).await?;
        let tracks_added = add_tracks(&mut transaction, listens.iter().map(|listen| &listen.track)).await?;
        let (_, users_added) = upsert_users(&mut transaction, listens.iter().map(|listen| &listen.user)).await?;
        let (outcome, _) = write_listens(&mut transaction, listens).await?;
        transaction.commit().await?;
        Ok(ListensOutcome {
            listens: listens.len() as u64,
            listens_added: outcome.added,
            listens_changed: outcome.changed,
            tracks_added,
            users_added,
            ..ListensOutcome::default()
        })
    }

    /// Returns when a listen was last added or changed.
    pub async fn newest_listen(&self) -> Result<Option<OffsetDateTime>, CatalogError> {
        Ok(sqlx::query_scalar!("SELECT max(updated_at) FROM listens").fetch_one(&self.pool).await?)
    }

    /// Streams the listens up to `moment`, oldest first; those of one time in the order of the app's ids.
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

    /// Returns the listens that were added or changed after `moment`, in that order.
    pub async fn listens_since(&self, moment: OffsetDateTime) -> Result<Vec<RecentListen>, CatalogError> {
        let rows = sqlx::query!(
            r#"SELECT u.external_id AS "user: UserId", t.uri AS "track: TrackId", l.listened_at, l.source_system_tab, l.source_screen_name,
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

/// Upserts listens of tracks that are in the catalog. Returns each one added or changed, with its previous state.
async fn write_listens(
    connection: &mut PgConnection,
    listens: &[ListenRecord],
) -> Result<(FeedbackOutcome, Vec<WrittenListen>), CatalogError> {
    let pairs = listens.iter().map(|listen| (&listen.user, &listen.track));
    let mentions = Mentions::resolve(&mut *connection, pairs).await?;
    let mut distinct: Vec<((UserRow, TrackRow, OffsetDateTime), usize)> = (0..)
        .zip(listens)
        .filter_map(|(place, listen)| {
            let (user, track) = mentions.rows(&listen.user, &listen.track)?;
            Some(((user, track, listen.listened_at), place))
        })
        .collect();
    // In one order everywhere, so that concurrent requests don't deadlock.
    distinct.sort_by_key(|(key, _)| *key);
    distinct.dedup_by_key(|(key, _)| *key);
    let users: Vec<UserRow> = distinct.iter().map(|(key, _)| key.0).collect();
    let tracks: Vec<TrackRow> = distinct.iter().map(|(key, _)| key.1).collect();
    let times: Vec<OffsetDateTime> = distinct.iter().map(|(key, _)| key.2).collect();
    let of = |place: usize| &listens[place];
    let tabs: Vec<Option<String>> = distinct.iter().map(|&(_, place)| of(place).source_system_tab.clone()).collect();
    let screens: Vec<Option<String>> =
        distinct.iter().map(|&(_, place)| of(place).source_screen_name.clone()).collect();
    let types: Vec<Option<String>> = distinct.iter().map(|&(_, place)| of(place).source_type.clone()).collect();
    let targets: Vec<Option<bool>> = distinct.iter().map(|&(_, place)| of(place).target).collect();
    // A subquery of RETURNING reads the previous state.
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
        &users as &[UserRow],
        &tracks as &[TrackRow],
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
            let key = (UserRow(row.user_id), TrackRow(row.track_id), row.listened_at);
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
    Ok((mentions.outcome(&is_new), of_listens))
}
