//! Search of tracks and playlists by what they are called.
//!
//! Names that have all words of the text come first, then those in which the last word is only begun, and last those with
//! similar words. Each kind has an index: of words, of their beginnings, of trigrams. In a large catalog a common word occurs in
//! tens of thousands of names, too many to compare; the popular tracks, which come first anyway, are therefore searched
//! first, and the others if these don't fill the page.

use std::collections::HashSet;

use sqlx::{PgConnection, Postgres, Transaction};

use super::connection::Catalog;
use super::error::CatalogError;
use super::playlists::{Playlist, playlists_of_rows};
use super::records::UserId;
use super::tracks::{Track, tracks_of_rows};

/// Letters of a last word that may be a beginning. Shorter ones begin half of all names.
const FEWEST_LETTERS: usize = 3;

/// A text that is searched for.
struct SearchText {
    /// as names are stored for searches: lower case, no accents, no punctuation
    folded: String,
    /// tsquery for all words
    words: String,
    /// the same with the last word only begun, if it is long enough for that
    begun: Option<String>,
}

impl SearchText {
    fn new(folded: String) -> Self {
        let quote = |word: &str| format!("'{}'", word.replace('\\', "\\\\").replace('\'', "''"));
        let words: Vec<&str> = folded.split(' ').filter(|word| !word.is_empty()).collect();
        let query = words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" & ");
        let is_long = words.last().is_some_and(|last| last.chars().count() >= FEWEST_LETTERS);
        Self { begun: is_long.then(|| format!("{query}:*")), words: query, folded }
    }

    /// The queries for names that have its words, best first.
    fn word_queries(&self) -> impl Iterator<Item = &str> {
        [Some(self.words.as_str()), self.begun.as_deref()].into_iter().flatten()
    }
}

/// Rows that were found, best first, each once.
#[derive(Default)]
struct Found {
    rows: Vec<i32>,
    seen: HashSet<i32>,
}

impl Found {
    fn add(&mut self, rows: Vec<i32>) {
        self.rows.extend(rows.into_iter().filter(|&row| self.seen.insert(row)));
    }

    fn page(&self, offset: usize, limit: usize) -> &[i32] {
        let rest = self.rows.get(offset..).unwrap_or_default();
        &rest[..limit.min(rest.len())]
    }
}

impl Catalog {
    /// Searches titles and artists for `text`, misspelt or not, whatever its accents and punctuation. Returns up to `limit`
    /// tracks after the first `offset`: those that have its words, then similar ones; of equally good ones, those in more
    /// playlists first.
    pub async fn search_tracks(&self, text: &str, offset: usize, limit: usize) -> Result<Vec<Track>, CatalogError> {
        let Some((mut transaction, text)) = self.begin_search(text).await? else { return Ok(Vec::new()) };
        let has_popular = sqlx::query_scalar!(r#"SELECT NOT is_all AS "is!" FROM popular_tracks_estimate"#)
            .fetch_one(&mut *transaction)
            .await?;
        let (wanted, mut found) = (offset + limit, Found::default());
        for query in text.word_queries() {
            // Those that were found before may be among these too.
            let most = (wanted + found.rows.len()) as i64;
            let mut rows = Vec::new();
            if has_popular {
                rows = popular_tracks_with_words(&mut transaction, query, most).await?;
            }
            if rows.len() < most as usize {
                rows = tracks_with_words(&mut transaction, query, most).await?;
            }
            found.add(rows);
            if found.rows.len() >= wanted {
                break;
            }
        }
        if found.rows.len() < wanted {
            let most = (wanted + found.rows.len()) as i64;
            if has_popular {
                found.add(popular_tracks_similar(&mut transaction, &text.folded, most).await?);
            }
            if !has_popular || found.rows.is_empty() {
                found.add(tracks_similar(&mut transaction, &text.folded, most).await?);
            }
        }
        Ok(tracks_of_rows(&mut transaction, found.page(offset, limit)).await?)
    }

    /// Searches titles for `text`, misspelt or not, whatever its accents and punctuation. Returns up to `limit` playlists
    /// after the first `offset`: those that have its words, or similar ones if there are none; shortest titles first, then
    /// those with most followers. With `user`, only that user's.
    pub async fn search_playlists(
        &self,
        text: &str,
        user: Option<&UserId>,
        offset: usize,
        limit: usize,
    ) -> Result<Vec<Playlist>, CatalogError> {
        let Some((mut transaction, text)) = self.begin_search(text).await? else { return Ok(Vec::new()) };
        let (wanted, mut found, user) = (offset + limit, Found::default(), user.map(UserId::as_str));
        for query in text.word_queries() {
            let most = (wanted + found.rows.len()) as i64;
            found.add(playlists_with_words(&mut transaction, query, user, most).await?);
            if found.rows.len() >= wanted {
                break;
            }
        }
        if found.rows.is_empty() {
            found.add(playlists_similar(&mut transaction, &text.folded, user, wanted as i64).await?);
        }
        Ok(playlists_of_rows(&mut transaction, found.page(offset, limit)).await?)
    }

    /// Begins a transaction for a search; nothing if `text` has nothing to search for.
    async fn begin_search(
        &self,
        text: &str,
    ) -> Result<Option<(Transaction<'static, Postgres>, SearchText)>, CatalogError> {
        let mut transaction = self.pool.begin().await?;
        let folded = sqlx::query!(
            r#"SELECT segue_search_text($1, true) AS "text!",
                      set_config('pg_trgm.word_similarity_threshold', '0.45', true) AS threshold,
                      set_config('statement_timeout', '3s', true) AS timeout,
                      -- What a word costs depends on the word.
                      set_config('plan_cache_mode', 'force_custom_plan', true) AS plans,
                      -- The planner takes comparing words for cheap, and would compare those of all rows.
                      set_config('enable_seqscan', 'off', true) AS scans"#,
            text
        )
        .fetch_one(&mut *transaction)
        .await?;
        let text = SearchText::new(folded.text);
        Ok((!text.words.is_empty()).then_some((transaction, text)))
    }
}

async fn popular_tracks_with_words(connection: &mut PgConnection, query: &str, most: i64) -> sqlx::Result<Vec<i32>> {
    sqlx::query_scalar!(
        "SELECT track_id FROM popular_tracks WHERE words @@ $1::text::tsquery
         ORDER BY placements DESC, length(search_text), track_id LIMIT $2",
        query,
        most
    )
    .fetch_all(connection)
    .await
}

async fn tracks_with_words(connection: &mut PgConnection, query: &str, most: i64) -> sqlx::Result<Vec<i32>> {
    sqlx::query_scalar!(
        "SELECT t.id FROM tracks t LEFT JOIN popular_tracks p ON p.track_id = t.id
         WHERE segue_words(t.search_text) @@ $1::text::tsquery
         ORDER BY p.placements DESC NULLS LAST, length(t.search_text), t.id LIMIT $2",
        query,
        most
    )
    .fetch_all(connection)
    .await
}

async fn popular_tracks_similar(connection: &mut PgConnection, text: &str, most: i64) -> sqlx::Result<Vec<i32>> {
    sqlx::query_scalar!(
        "SELECT track_id FROM popular_tracks WHERE search_text %> $1
         ORDER BY word_similarity($1, search_text) DESC, placements DESC, track_id LIMIT $2",
        text,
        most
    )
    .fetch_all(connection)
    .await
}

async fn tracks_similar(connection: &mut PgConnection, text: &str, most: i64) -> sqlx::Result<Vec<i32>> {
    sqlx::query_scalar!(
        "SELECT t.id FROM tracks t LEFT JOIN popular_tracks p ON p.track_id = t.id WHERE t.search_text %> $1
         ORDER BY word_similarity($1, t.search_text) DESC, p.placements DESC NULLS LAST, t.id LIMIT $2",
        text,
        most
    )
    .fetch_all(connection)
    .await
}

async fn playlists_with_words(
    connection: &mut PgConnection,
    query: &str,
    user: Option<&str>,
    most: i64,
) -> sqlx::Result<Vec<i32>> {
    sqlx::query_scalar!(
        "SELECT id FROM playlists WHERE segue_words(segue_search_text(title)) @@ $1::text::tsquery
             AND ($2::text IS NULL OR user_id = (SELECT id FROM users WHERE external_id = $2))
         ORDER BY length(title), num_followers DESC NULLS LAST, id LIMIT $3",
        query,
        user,
        most
    )
    .fetch_all(connection)
    .await
}

async fn playlists_similar(
    connection: &mut PgConnection,
    text: &str,
    user: Option<&str>,
    most: i64,
) -> sqlx::Result<Vec<i32>> {
    sqlx::query_scalar!(
        "SELECT id FROM playlists WHERE segue_search_text(title) %> $1
             AND ($2::text IS NULL OR user_id = (SELECT id FROM users WHERE external_id = $2))
         ORDER BY word_similarity($1, segue_search_text(title)) DESC, num_followers DESC NULLS LAST, id LIMIT $3",
        text,
        user,
        most
    )
    .fetch_all(connection)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_a_text_may_be_a_beginning() {
        let text = |folded: &str| SearchText::new(folded.to_owned());
        assert_eq!(text("love the").words, "'love' & 'the'");
        assert_eq!(text("love the").begun.as_deref(), Some("'love' & 'the':*"));
        assert_eq!(text("the b").word_queries().collect::<Vec<_>>(), ["'the' & 'b'"]);
        assert_eq!(text(" it's  \\ ").words, "'it''s' & '\\\\'");
        assert_eq!(text("").word_queries().collect::<Vec<_>>(), [""]);
    }
}
