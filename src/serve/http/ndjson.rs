//! Bulk requests: any number of JSON rows, one per line.
//!
//! The server writes lines to the catalog in batches and responds with a line for each while further ones still arrive: it
//! holds one batch and a few chunks of the response, however many lines there are. It reports an invalid line and skips it.
//! A batch that fails loses only itself; if several fail in a row, the request ends. If the client disconnects or stops
//! reading, it stops after the current batch; lines that it responded to are stored, and any line can be sent again.

use std::collections::HashSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::{Buf, BytesMut};
use futures_util::{FutureExt, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tracing::{debug, error};
use utoipa::{IntoParams, ToSchema};

use super::extract::NDJSON;
use super::patience::Patience;
use super::problem::{ApiError, FieldError};
use crate::catalog::fields::Omitted;
use crate::catalog::{CatalogError, RowChange};

/// The longest line, in bytes.
const MAX_LINE_BYTES: usize = 4 << 20;
/// Bytes of lines after which a batch is written.
const BATCH_BYTES: usize = 8 << 20;
/// Chunks of the response that wait for the client.
const CHUNKS: usize = 16;
/// Batches that may fail in a row: then the catalog is likely to fail the rest too.
const FAILED_BATCHES: u32 = 3;
/// Bytes per second that a client must send.
const LEAST_SENDING: f64 = 1_000.0;
/// Why a row was not stored.
const FAILED: &str = "internal error: see the server's log";
/// The same for a line whose end does not arrive: what unpacks the body finds it damaged.
const UNREADABLE: &str = "the body can't be read any further: send this line and all after it again";
/// The same for a line whose end does not arrive in time.
const TOO_SLOW: &str = "the request arrives too slowly: send this line and all after it again";
/// The same for a row of an id of which another row was not stored: sent again, the earlier one must not replace it.
const FAILED_EARLIER: &str = "an earlier line with this id failed: send both again, in this order";

/// The query of a bulk request.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BulkQuery {
    /// for bulk requests: which lines the response reports
    #[serde(default)]
    #[param(inline)]
    report: ReportedLines,
}

/// Which lines the response reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ReportedLines {
    /// all lines
    #[default]
    All,
    /// lines that are not stored, or not completely
    Problems,
}

/// What happened to a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowOutcome {
    change: RowChange,
    /// tracks of a playlist that the catalog does not have
    unknown_tracks: Vec<String>,
}

impl From<RowChange> for RowOutcome {
    fn from(change: RowChange) -> Self {
        Self { change, unknown_tracks: Vec::new() }
    }
}

impl RowOutcome {
    /// Adds the tracks that were omitted.
    pub fn with_unknown_tracks(self, unknown_tracks: Vec<String>) -> Self {
        Self { unknown_tracks, ..self }
    }
}

/// A line of the response to a bulk request.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct BulkLine {
    /// number of the request's line, from 1; not in the summary
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// the app's id, if the line has a valid one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `added`, `changed`, `unchanged`, `rejected` (the line is invalid), `failed` (the catalog failed; send it again)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "added")]
    pub outcome: Option<String>,
    /// why the line was rejected or failed
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// fields that can't be read or stored, and tracks of a playlist; the row is stored without them
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omitted: Vec<FieldError>,
    /// for playlists: ids of tracks that the catalog does not have; the playlist is stored without them
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown_tracks: Vec<String>,
    /// totals; in the last line only
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<BulkSummary>,
}

/// Totals of a bulk request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BulkSummary {
    /// lines, blank ones not counted
    pub rows: u64,
    /// new rows
    pub added: u64,
    /// rows that changed
    pub changed: u64,
    /// rows that were stored already
    pub unchanged: u64,
    /// invalid lines
    pub rejected: u64,
    /// rows that the catalog failed to store: send them again, in the same order
    pub failed: u64,
}

/// How many bulk requests there may be at once, and how long their clients may neither send nor read.
#[derive(Debug, Clone)]
pub struct BulkLimits {
    places: Arc<Semaphore>,
    idle: Duration,
}

impl BulkLimits {
    /// Returns limits of this many requests, and of this time.
    pub fn new(requests: usize, idle: Duration) -> Self {
        Self { places: Arc::new(Semaphore::new(requests)), idle }
    }
}

/// How lines of one kind are parsed and stored.
pub trait BulkRows: Send + Sync + 'static {
    /// A line after parsing.
    type Row: Send + Sync;
    /// Most rows of one transaction; other writers wait for it.
    const BATCH_ROWS: usize;

    /// Returns id and content of a line, and the fields that were left out of it.
    ///
    /// # Errors
    ///
    /// Says why the line is rejected, and names the field.
    fn parse(&self, line: &[u8]) -> Result<(String, Self::Row, Vec<Omitted>), String>;

    /// Stores rows with distinct ids.
    fn write(&self, rows: &[Self::Row]) -> impl Future<Output = Result<Vec<RowOutcome>, CatalogError>> + Send;
}

/// Starts to store the rows of `body`; the response lasts until all are stored.
///
/// # Errors
///
/// If too many bulk requests are in progress.
pub fn store<R: BulkRows>(rows: R, body: Body, query: BulkQuery, limits: &BulkLimits) -> Result<Response, ApiError> {
    let permit = limits.places.clone().try_acquire_owned().map_err(|_| ApiError::Overloaded)?;
    let idle = limits.idle;
    let (sender, receiver) = mpsc::channel::<Bytes>(CHUNKS);
    tokio::spawn(async move {
        let mut writer = Writer {
            rows,
            report: query.report,
            sender,
            summary: BulkSummary::default(),
            output: BytesMut::new(),
            pending: Vec::new(),
            ids: HashSet::new(),
            pending_bytes: 0,
            failed_ids: HashSet::new(),
            failed_batches: 0,
            idle,
        };
        if let Err(end) = writer.run(body).await {
            debug!("a bulk request ended early: {end}");
        }
        drop(permit);
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
enum EarlyEnd {
    /// The client neither sends nor reads any more.
    Stalled,
    /// The client disconnected.
    Disconnected,
    /// The body is damaged.
    Unreadable,
    /// The catalog failed several times in a row, as the response says.
    Failed,
}

impl fmt::Display for EarlyEnd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Stalled => "the client neither sent nor read",
            Self::Disconnected => "the client disconnected",
            Self::Unreadable => "the body can't be read",
            Self::Failed => "the catalog failed",
        })
    }
}

/// A line that waits for its batch.
enum PendingLine<Row> {
    Row { line: u64, id: String, row: Row, omitted: Vec<FieldError> },
    Failed { line: u64, id: String },
    Rejected { line: u64, reason: String },
}

/// A line of a batch on its way into the response.
enum Line {
    /// stored under this id, less what was left out, unless the batch fails
    Stored(String, Vec<FieldError>),
    Failed(String),
    Rejected(String),
}

/// Why a batch was not stored.
struct Failure {
    is_unavailable: bool,
}

struct Writer<R: BulkRows> {
    rows: R,
    report: ReportedLines,
    sender: mpsc::Sender<Bytes>,
    summary: BulkSummary,
    output: BytesMut,
    pending: Vec<PendingLine<R::Row>>,
    ids: HashSet<String>,
    pending_bytes: usize,
    /// ids of rows that the catalog failed to store
    failed_ids: HashSet<String>,
    /// batches that failed in a row
    failed_batches: u32,
    /// how long the client may neither send nor read
    idle: Duration,
}

impl<R: BulkRows> Writer<R> {
    async fn run(&mut self, body: Body) -> Result<(), EarlyEnd> {
        let mut stream = body.into_data_stream();
        let (mut buffer, mut line, mut is_too_long) = (BytesMut::new(), 1_u64, false);
        let mut patience = Patience::new(self.idle, LEAST_SENDING);
        loop {
            let waiting = Instant::now();
            let mut chunk = match timeout(patience.left(), stream.next()).await {
                Ok(None) => break,
                Ok(Some(Ok(chunk))) => chunk,
                Ok(Some(Err(_))) => return self.end_unread(line, UNREADABLE, EarlyEnd::Unreadable).await,
                Err(_) => return self.end_unread(line, TOO_SLOW, EarlyEnd::Stalled).await,
            };
            patience.waited(waiting.elapsed());
            patience.moved(chunk.len());
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
        self.send_summary().await
    }

    /// Ends a request whose body isn't read beyond the beginning of `line`. Unless the client has gone, it learns why.
    async fn end_unread(&mut self, line: u64, reason: &str, end: EarlyEnd) -> Result<(), EarlyEnd> {
        if self.sender.is_closed() {
            return Err(EarlyEnd::Disconnected);
        }
        self.flush().await?;
        (self.summary.rows, self.summary.failed) = (self.summary.rows + 1, self.summary.failed + 1);
        let (outcome, reason) = (Some("failed".to_owned()), Some(reason.to_owned()));
        self.report(&BulkLine { line: Some(line), outcome, reason, ..BulkLine::default() });
        self.send_summary().await?;
        Err(end)
    }

    async fn send_summary(&mut self) -> Result<(), EarlyEnd> {
        let summary = BulkLine { summary: Some(self.summary.clone()), ..BulkLine::default() };
        self.report(&summary);
        self.send().await
    }

    async fn take(&mut self, line: u64, text: &[u8], is_too_long: bool) -> Result<(), EarlyEnd> {
        if text.trim_ascii().is_empty() {
            return Ok(());
        }
        self.summary.rows += 1;
        let parsed = match is_too_long || text.len() > MAX_LINE_BYTES {
            true => Err(format!("the line is longer than {MAX_LINE_BYTES} bytes")),
            false => catch_unwind(AssertUnwindSafe(|| self.rows.parse(text))).unwrap_or_else(|_| {
                error!("a line of a bulk request made its reader panic");
                Err(FAILED.to_owned())
            }),
        };
        match parsed {
            Ok((id, row, omitted)) => {
                // Of several rows with the same id, the last one wins.
                if self.ids.contains(&id) {
                    self.flush().await?;
                }
                if self.failed_ids.contains(&id) {
                    self.pending.push(PendingLine::Failed { line, id });
                } else {
                    let omitted =
                        omitted.into_iter().map(|Omitted { field, reason }| FieldError { field, reason }).collect();
                    self.ids.insert(id.clone());
                    self.pending.push(PendingLine::Row { line, id, row, omitted });
                }
            }
            Err(reason) => self.pending.push(PendingLine::Rejected { line, reason }),
        }
        self.pending_bytes += text.len();
        if self.pending.len() >= R::BATCH_ROWS || self.pending_bytes >= BATCH_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    /// Writes the pending lines and reports them.
    async fn flush(&mut self) -> Result<(), EarlyEnd> {
        let mut rows = Vec::with_capacity(self.pending.len());
        let mut lines = Vec::with_capacity(self.pending.len());
        for pending in self.pending.drain(..) {
            match pending {
                PendingLine::Row { line, id, row, omitted } => {
                    rows.push(row);
                    lines.push((line, Line::Stored(id, omitted)));
                }
                PendingLine::Failed { line, id } => lines.push((line, Line::Failed(id))),
                PendingLine::Rejected { line, reason } => lines.push((line, Line::Rejected(reason))),
            }
        }
        self.ids.clear();
        self.pending_bytes = 0;
        let outcomes = match rows.is_empty() {
            true => Ok(Vec::new()),
            // A row that panics must not cost the client its answer.
            false => match AssertUnwindSafe(self.rows.write(&rows)).catch_unwind().await {
                Ok(Ok(outcomes)) => Ok(outcomes),
                Ok(Err(failure)) => {
                    error!("a batch of a bulk request failed: {failure}");
                    Err(Failure { is_unavailable: failure.is_unavailable() })
                }
                Err(_) => {
                    error!("a batch of a bulk request panicked");
                    Err(Failure { is_unavailable: false })
                }
            },
        };
        if !rows.is_empty() {
            self.failed_batches = if outcomes.is_err() { self.failed_batches + 1 } else { 0 };
        }
        let gives_up = self.failed_batches >= FAILED_BATCHES;
        let failure = outcomes.as_ref().err().map(|failure| match failure.is_unavailable {
            true if gives_up => "the catalog is unavailable: send this line and all after it again",
            true => "the catalog is unavailable: send this line again",
            false => FAILED,
        });
        let mut outcomes = outcomes.unwrap_or_default().into_iter();
        for (line, row) in lines {
            let reported = match (row, failure) {
                (Line::Rejected(reason), _) => self.rejected(line, reason),
                (Line::Failed(id), _) => self.failed(line, id, FAILED_EARLIER),
                (Line::Stored(id, _), Some(reason)) => self.failed(line, id, reason),
                (Line::Stored(id, omitted), None) => match outcomes.next() {
                    Some(outcome) => BulkLine { omitted, ..self.stored(line, id, outcome) },
                    None => self.failed(line, id, FAILED),
                },
            };
            let is_complete = reported.unknown_tracks.is_empty() && reported.omitted.is_empty();
            if self.report == ReportedLines::All || reported.reason.is_some() || !is_complete {
                self.report(&reported);
            }
        }
        if gives_up {
            self.send_summary().await?;
            return Err(EarlyEnd::Failed);
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
        self.failed_ids.insert(id.clone());
        let (outcome, reason) = (Some("failed".to_owned()), Some(reason.to_owned()));
        BulkLine { line: Some(line), id: Some(id), outcome, reason, ..BulkLine::default() }
    }

    fn report(&mut self, line: &BulkLine) {
        // A struct of strings and numbers always serializes.
        self.output.extend_from_slice(&serde_json::to_vec(line).unwrap_or_default());
        self.output.extend_from_slice(b"\n");
    }

    async fn send(&mut self) -> Result<(), EarlyEnd> {
        if self.output.is_empty() {
            return Ok(());
        }
        let chunk = self.output.split().freeze();
        let sent = timeout(self.idle, self.sender.send(chunk)).await.map_err(|_| EarlyEnd::Stalled)?;
        sent.map_err(|_| EarlyEnd::Disconnected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that panic when they are read, or when they are written.
    struct Panicking;

    impl BulkRows for Panicking {
        type Row = String;
        const BATCH_ROWS: usize = 2;

        fn parse(&self, line: &[u8]) -> Result<(String, String, Vec<Omitted>), String> {
            let line = String::from_utf8_lossy(line).into_owned();
            assert!(line != "unreadable", "a fault of the reader");
            Ok((line.clone(), line, Vec::new()))
        }

        async fn write(&self, rows: &[String]) -> Result<Vec<RowOutcome>, CatalogError> {
            assert!(!rows.contains(&"unwritable".to_owned()), "a fault of the catalog");
            Ok(rows.iter().map(|_| RowOutcome::from(RowChange::Added)).collect())
        }
    }

    #[tokio::test]
    async fn a_line_that_panics_costs_neither_the_answer_nor_the_lines_before_it() {
        let limits = BulkLimits::new(1, Duration::from_secs(30));
        for (body, outcomes) in [
            ("a\nunreadable\nb", vec!["added", "rejected", "added"]),
            ("a\nb\nunwritable\nc\nd", vec!["added", "added", "failed", "failed", "added"]),
        ] {
            let response = store(Panicking, Body::from(body), BulkQuery::default(), &limits).expect("a response");
            let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
            let lines: Vec<BulkLine> = bytes
                .split(|&byte| byte == b'\n')
                .filter(|line| !line.is_empty())
                .map(|line| serde_json::from_slice(line).expect("JSON"))
                .collect();
            let (summary, lines) = lines.split_last().expect("a summary");
            let found: Vec<&str> = lines.iter().filter_map(|line| line.outcome.as_deref()).collect();
            assert_eq!(found, outcomes);
            assert!(summary.summary.is_some());
            // The place among the bulk requests is free again once the task has ended.
            drop(limits.places.acquire().await.expect("not closed"));
        }
    }
}
