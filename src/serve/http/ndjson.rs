//! Bulk requests: rows of JSON, one a line, in any number.
//!
//! Lines are read, written to the catalog a batch at a time, and answered with a line each, while further ones are still
//! arriving: what is held is a batch and a few chunks of answer, however many lines there are. A line that is wrong is
//! answered so and passed over. A client that goes away or stops reading ends it after the batch under way; what was
//! answered is stored, and lines can be sent again.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::{Buf, BytesMut};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};
use tracing::{debug, error};
use utoipa::{IntoParams, ToSchema};

use super::extract::{NDJSON, Object, parse};
use super::problem::ApiError;
use crate::catalog::{CatalogError, RowChange};

/// The longest line, in bytes.
const MAX_LINE_BYTES: usize = 4 << 20;
/// Bytes of lines written in one transaction at most, or little more.
const BYTES_AT_ONCE: usize = 8 << 20;
/// Chunks of answer that wait for the client.
const CHUNKS: usize = 16;
/// How long a client may neither send nor read.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a bulk request is answered.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BulkQuery {
    /// which lines of a bulk request are answered
    #[serde(default)]
    #[param(inline)]
    report: Report,
}

/// Which lines are answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Report {
    /// every one
    #[default]
    All,
    /// those that are not stored, or not whole
    Problems,
}

/// What became of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowOutcome {
    change: RowChange,
    /// tracks that a playlist names and the catalog does not have
    unknown_tracks: Vec<String>,
}

impl From<RowChange> for RowOutcome {
    fn from(change: RowChange) -> Self {
        Self { change, unknown_tracks: Vec::new() }
    }
}

impl RowOutcome {
    /// With tracks that were left out.
    pub fn with_unknown_tracks(self, unknown_tracks: Vec<String>) -> Self {
        Self { unknown_tracks, ..self }
    }
}

/// A line of the answer to a bulk request.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct BulkLine {
    /// number of the line that it answers, from 1; not in the summary
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// the app's id, where the line has one that can be read
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `added`, `changed`, `unchanged`, `rejected` (the line is wrong), `failed` (the catalog failed; send it again)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "added")]
    pub outcome: Option<String>,
    /// why it is rejected or failed
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// for playlists: tracks that the catalog does not have; the playlist is stored without them
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown_tracks: Vec<String>,
    /// the last line
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<BulkSummary>,
}

/// What became of all lines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BulkSummary {
    /// lines that are not blank
    pub rows: u64,
    /// rows that were not there
    pub added: u64,
    /// rows that are others now
    pub changed: u64,
    /// rows that were there just so
    pub unchanged: u64,
    /// lines that are wrong
    pub rejected: u64,
    /// rows that the catalog did not take: from the first of them on nothing is stored
    pub failed: u64,
}

/// What lines of one kind are and where they go.
pub trait BulkRows: Send + Sync + 'static {
    /// A line after parsing.
    type Row: Send + Sync;
    /// Rows written in one transaction at most. Other writers wait meanwhile.
    const ROWS_AT_ONCE: usize;

    /// Id and content of a line.
    fn parse(&self, line: &[u8]) -> Result<(String, Self::Row), ApiError>;

    /// Writes rows of distinct ids.
    fn write(&self, rows: &[Self::Row]) -> impl Future<Output = Result<Vec<RowOutcome>, CatalogError>> + Send;
}

/// Parses a line, which must be an object.
pub fn parse_row<T: DeserializeOwned>(line: &[u8]) -> Result<T, ApiError> {
    parse(line).map(|Object(row)| row)
}

/// Begins to write what `body` holds; the answer goes on as long as that does.
///
/// # Errors
///
/// When too many are under way.
pub fn answer<R: BulkRows>(
    rows: R,
    body: Body,
    asked: BulkQuery,
    places: &Arc<Semaphore>,
) -> Result<Response, ApiError> {
    let place = places.clone().try_acquire_owned().map_err(|_| ApiError::Overloaded)?;
    let (sender, receiver) = mpsc::channel::<Bytes>(CHUNKS);
    tokio::spawn(async move {
        let mut writer = Writer {
            rows,
            report: asked.report,
            sender,
            summary: BulkSummary::default(),
            output: BytesMut::new(),
            pending: Vec::new(),
            ids: HashSet::new(),
            pending_bytes: 0,
        };
        if let Err(end) = writer.run(body).await {
            debug!("a bulk request ended early: {end}");
        }
        drop(place);
    });
    let stream = futures_util::stream::unfold(receiver, async |mut receiver| {
        let chunk = receiver.recv().await?;
        Some((Ok::<Bytes, std::convert::Infallible>(chunk), receiver))
    });
    let headers = [(CONTENT_TYPE, HeaderValue::from_static(NDJSON))];
    Ok((headers, Body::from_stream(stream)).into_response())
}

/// Why a bulk request ends before its last line.
#[derive(Debug)]
enum End {
    /// The client sends or reads nothing any more.
    Stalled,
    /// The client is gone.
    Gone,
    /// The catalog failed; the client has been told.
    Failed,
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Stalled => "the client neither sent nor read",
            Self::Gone => "the client is gone",
            Self::Failed => "the catalog failed",
        })
    }
}

/// A line that waits for its batch.
enum Pending<Row> {
    Row { line: u64, id: String, row: Row },
    Rejected { line: u64, reason: String },
}

struct Writer<R: BulkRows> {
    rows: R,
    report: Report,
    sender: mpsc::Sender<Bytes>,
    summary: BulkSummary,
    output: BytesMut,
    pending: Vec<Pending<R::Row>>,
    ids: HashSet<String>,
    pending_bytes: usize,
}

impl<R: BulkRows> Writer<R> {
    async fn run(&mut self, body: Body) -> Result<(), End> {
        let mut stream = body.into_data_stream();
        let (mut buffer, mut line, mut is_too_long) = (BytesMut::new(), 1_u64, false);
        loop {
            let chunk = tokio::time::timeout(PATIENCE, stream.next()).await.map_err(|_| End::Stalled)?;
            let Some(chunk) = chunk else { break };
            let mut chunk = chunk.map_err(|_| End::Gone)?;
            while let Some(end) = chunk.iter().position(|&byte| byte == b'\n') {
                let rest = chunk.split_to(end);
                chunk.advance(1);
                buffer.extend_from_slice(&rest);
                self.take(line, &buffer, is_too_long).await?;
                buffer.clear();
                is_too_long = false;
                line += 1;
            }
            is_too_long |= buffer.len() + chunk.len() > MAX_LINE_BYTES;
            if is_too_long {
                buffer.clear();
                buffer.extend_from_slice(b"?"); // not blank
            } else {
                buffer.extend_from_slice(&chunk);
            }
        }
        self.take(line, &buffer, is_too_long).await?;
        self.flush().await?;
        let summary = BulkLine { summary: Some(self.summary.clone()), ..BulkLine::default() };
        self.tell(&summary);
        self.send().await
    }

    async fn take(&mut self, line: u64, text: &[u8], is_too_long: bool) -> Result<(), End> {
        if text.trim_ascii().is_empty() {
            return Ok(());
        }
        self.summary.rows += 1;
        let parsed = match is_too_long || text.len() > MAX_LINE_BYTES {
            true => Err(format!("the line is longer than {MAX_LINE_BYTES} bytes")),
            false => self.rows.parse(text).map_err(|error| error.to_string()),
        };
        match parsed {
            Ok((id, row)) => {
                // Of several rows with one id, the last one is right.
                if !self.ids.insert(id.clone()) {
                    self.flush().await?;
                    self.ids.insert(id.clone());
                }
                self.pending.push(Pending::Row { line, id, row });
            }
            Err(reason) => self.pending.push(Pending::Rejected { line, reason }),
        }
        self.pending_bytes += text.len();
        if self.pending.len() >= R::ROWS_AT_ONCE || self.pending_bytes >= BYTES_AT_ONCE {
            self.flush().await?;
        }
        Ok(())
    }

    /// Writes what waits, and answers it.
    async fn flush(&mut self) -> Result<(), End> {
        let mut rows = Vec::with_capacity(self.pending.len());
        let mut lines = Vec::with_capacity(self.pending.len());
        for pending in self.pending.drain(..) {
            match pending {
                Pending::Row { line, id, row } => {
                    rows.push(row);
                    lines.push((line, Ok(id)));
                }
                Pending::Rejected { line, reason } => lines.push((line, Err(reason))),
            }
        }
        self.ids.clear();
        self.pending_bytes = 0;
        let outcomes = match rows.is_empty() {
            true => Ok(Vec::new()),
            false => self.rows.write(&rows).await,
        };
        let failure = outcomes.as_ref().err().map(|failure| {
            error!("a batch of a bulk request failed: {failure}");
            match failure.is_unavailable() {
                true => "the catalog is unavailable; send this line and those behind it again",
                false => "the server failed; the logs say more",
            }
        });
        let mut outcomes = outcomes.unwrap_or_default().into_iter();
        for (line, row) in lines {
            let answer = match (row, failure) {
                (Err(reason), _) => self.rejected(line, reason),
                (Ok(id), Some(reason)) => self.failed(line, id, reason),
                (Ok(id), None) => match outcomes.next() {
                    Some(outcome) => self.stored(line, id, outcome),
                    None => self.failed(line, id, "the server failed; the logs say more"),
                },
            };
            if self.report == Report::All || answer.reason.is_some() || !answer.unknown_tracks.is_empty() {
                self.tell(&answer);
            }
        }
        if failure.is_some() {
            let summary = BulkLine { summary: Some(self.summary.clone()), ..BulkLine::default() };
            self.tell(&summary);
            self.send().await?;
            return Err(End::Failed);
        }
        self.send().await
    }

    fn stored(&mut self, line: u64, id: String, outcome: RowOutcome) -> BulkLine {
        let (count, name) = match outcome.change {
            RowChange::Added => (&mut self.summary.added, "added"),
            RowChange::Changed => (&mut self.summary.changed, "changed"),
            RowChange::Unchanged => (&mut self.summary.unchanged, "unchanged"),
        };
        *count += 1;
        let unknown_tracks = outcome.unknown_tracks;
        BulkLine {
            line: Some(line),
            id: Some(id),
            outcome: Some(name.to_owned()),
            unknown_tracks,
            ..BulkLine::default()
        }
    }

    fn rejected(&mut self, line: u64, reason: String) -> BulkLine {
        self.summary.rejected += 1;
        let outcome = Some("rejected".to_owned());
        BulkLine { line: Some(line), outcome, reason: Some(reason), ..BulkLine::default() }
    }

    fn failed(&mut self, line: u64, id: String, reason: &str) -> BulkLine {
        self.summary.failed += 1;
        let (outcome, reason) = (Some("failed".to_owned()), Some(reason.to_owned()));
        BulkLine { line: Some(line), id: Some(id), outcome, reason, ..BulkLine::default() }
    }

    fn tell(&mut self, line: &BulkLine) {
        // A struct of strings and numbers always serialises.
        self.output.extend_from_slice(&serde_json::to_vec(line).unwrap_or_default());
        self.output.extend_from_slice(b"\n");
    }

    async fn send(&mut self) -> Result<(), End> {
        if self.output.is_empty() {
            return Ok(());
        }
        let chunk = self.output.split().freeze();
        let sent = tokio::time::timeout(PATIENCE, self.sender.send(chunk)).await.map_err(|_| End::Stalled)?;
        sent.map_err(|_| End::Gone)
    }
}
