//! What readers hand their rows to: it makes batches of them that are written in one transaction each.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use super::engine::{FileToRead, HandOver, ImportBatch, Writer};
use super::error::ReadError;
use super::report::{Reject, Skipped};
use super::source::{BytesRead, Line};
use crate::catalog::fields::Omitted;
use crate::catalog::{
    BatchOutcome, CatalogError, NamedRows, PlaylistRecord, Prunable, TrackMention, TrackRecord, UnknownTrack, UserId,
};

/// Playlists written in one transaction at most; a slice of the Million Playlist Dataset has 1,000.
const PLAYLISTS: usize = 5_000;
/// Their tracks in one transaction at most, or little more.
const PLACEMENTS: usize = 500_000;
/// Bytes of text in one transaction at most, or little more.
const TEXT_BYTES: usize = 64 << 20;
/// Tracks or users written in one transaction at most.
const OTHERS: usize = 20_000;
/// Skipped rows held at most before they are listed.
const REJECTS: usize = 20_000;

/// Where a row stands in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowPlace {
    /// where it begins, in bytes of the decompressed file
    pub offset: u64,
    /// which one it is
    pub number: RowNumber,
}

/// Which row of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowNumber {
    /// a line, from 1
    Line(u64),
    /// a playlist, from 0
    Playlist(u64),
}

impl fmt::Display for RowNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) => write!(formatter, "line {number}"),
            Self::Playlist(number) => write!(formatter, "playlists[{number}]"),
        }
    }
}

/// What is written in one transaction. Ids are distinct.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// the file that they are from
    pub file: PathBuf,
    /// playlists
    pub playlists: Vec<PlaylistRecord>,
    /// where each of the playlists stands
    pub places: Vec<RowPlace>,
    /// tracks that are in no playlist yet
    pub tracks: Vec<TrackRecord>,
    /// ids of users
    pub users: Vec<UserId>,
    /// rows skipped among all these
    pub rejects: Vec<Reject>,
}

impl ImportBatch for Batch {
    type Outcome = BatchOutcome;

    async fn write(&mut self, writer: &mut Writer) -> Result<(BatchOutcome, Vec<Reject>), CatalogError> {
        let mut outcome = BatchOutcome::default();
        if !self.tracks.is_empty() {
            outcome += writer.catalog.upsert_tracks(&self.tracks).await?;
        }
        if !self.users.is_empty() {
            outcome += writer.catalog.upsert_users(&self.users).await?;
        }
        if !self.playlists.is_empty() {
            let upserted = writer.catalog.import_playlists(&self.playlists, Some(&mut writer.known)).await?;
            outcome += upserted.outcome;
            self.rejects.extend(upserted.unknown_tracks.into_iter().map(|UnknownTrack { playlist, track }| {
                let (place, id) = (self.places[playlist], self.playlists[playlist].tracks[track].id());
                let item = format!("{} tracks[{track}]", place.number);
                let reason = format!("the catalog has no track {id:?}; import it first, or describe it here");
                Reject::new(Skipped::Part, &self.file, place.offset, item, reason)
            }));
        }
        Ok((outcome, std::mem::take(&mut self.rejects)))
    }

    async fn name(&self, named: &mut NamedRows) -> Result<(), CatalogError> {
        named.add(Prunable::Playlists, self.playlists.iter().map(|playlist| playlist.id.as_str())).await?;
        named.add(Prunable::Tracks, self.tracks.iter().map(|track| track.id.as_str())).await?;
        named.add(Prunable::Users, self.users.iter().map(UserId::as_str)).await
    }

    fn rows(&self) -> usize {
        self.playlists.len() + self.tracks.len() + self.users.len()
    }
}

impl FileToRead<Batch> {
    /// A file whose rows `read` puts into a sink. If it `is_whole`, an interrupt stops at its end only, and no rows of it
    /// are written once it turns out not to be in its format, unless it is longer than a batch.
    pub fn new(
        file: &Path,
        is_whole: bool,
        read: impl Fn(&Path, &BytesRead, &mut Sink<'_>) -> Result<(), ReadError> + Send + 'static,
    ) -> Self {
        let read = move |file: &Path, count: &BytesRead, hand_over: HandOver<'_, Batch>| {
            let mut sink = Sink::new(file, hand_over);
            let outcome = read(file, count, &mut sink);
            if is_whole && outcome.is_err() {
                return outcome;
            }
            // The rows before the place where a file turned out bad are good.
            sink.flush().and(outcome)
        };
        Self { file: file.to_owned(), read: Box::new(read), stops_within: !is_whole }
    }
}

/// Takes the rows of one file.
pub struct Sink<'a> {
    file: PathBuf,
    hand_over: HandOver<'a, Batch>,
    batch: Batch,
    ids: HashSet<String>,
    placements: usize,
    text_bytes: usize,
}

impl<'a> Sink<'a> {
    /// For the rows of `file`; `hand_over` gets them a batch at a time.
    pub fn new(file: &Path, hand_over: HandOver<'a, Batch>) -> Self {
        Self {
            file: file.to_owned(),
            hand_over,
            batch: Batch::default(),
            ids: HashSet::new(),
            placements: 0,
            text_bytes: 0,
        }
    }

    /// Takes a playlist. Of several with one id in a file, the last one is right.
    pub fn playlist(&mut self, place: RowPlace, playlist: PlaylistRecord) -> Result<(), ReadError> {
        self.begin(playlist.id.as_str())?;
        self.placements += playlist.tracks.len();
        self.text_bytes += playlist.tracks.iter().map(text_bytes).sum::<usize>();
        self.text_bytes += playlist.description.as_ref().map_or(0, String::len);
        self.batch.playlists.push(playlist);
        self.batch.places.push(place);
        let is_full = self.batch.playlists.len() >= PLAYLISTS || self.placements >= PLACEMENTS;
        self.flush_if(is_full || self.text_bytes >= TEXT_BYTES)
    }

    /// Takes a track. Of several with one id in a file, the last one is right.
    pub fn track(&mut self, track: TrackRecord) -> Result<(), ReadError> {
        self.begin(track.id.as_str())?;
        self.batch.tracks.push(track);
        self.flush_if(self.batch.tracks.len() >= OTHERS)
    }

    /// Takes a user.
    pub fn user(&mut self, id: UserId) -> Result<(), ReadError> {
        self.begin(id.as_str())?;
        self.batch.users.push(id);
        self.flush_if(self.batch.users.len() >= OTHERS)
    }

    /// The text of a line with its place. None of a blank line, nor of one that can't be read, which is skipped.
    pub fn text<'l>(&mut self, line: Line<'l>) -> Result<Option<(RowPlace, &'l str)>, ReadError> {
        let place = RowPlace { offset: line.offset, number: RowNumber::Line(line.number) };
        match line.text {
            Ok(text) if text.trim_ascii().is_empty() => Ok(None),
            Ok(text) => Ok(Some((place, text))),
            Err(problem) => self.reject(place, problem.to_string()).map(|()| None),
        }
    }

    /// Takes a row that is skipped.
    pub fn reject(&mut self, place: RowPlace, reason: impl Into<String>) -> Result<(), ReadError> {
        self.skip(Skipped::Row, place.offset, place.number.to_string(), reason.into())
    }

    /// Takes the fields that were left out of a row.
    pub fn omit(&mut self, place: RowPlace, omitted: Vec<Omitted>) -> Result<(), ReadError> {
        omitted.into_iter().try_for_each(|Omitted { field, reason }| {
            self.skip(Skipped::Part, place.offset, format!("{} {field}", place.number), format!("{field}: {reason}"))
        })
    }

    /// Takes a row, or a part of one, that is skipped, by its path into the file.
    pub fn skip(&mut self, skipped: Skipped, offset: u64, item: String, reason: String) -> Result<(), ReadError> {
        self.batch.rejects.push(Reject::new(skipped, &self.file, offset, item, reason));
        self.flush_if(self.batch.rejects.len() >= REJECTS)
    }

    /// Makes room for a row whose id is already in the batch.
    fn begin(&mut self, id: &str) -> Result<(), ReadError> {
        if self.ids.contains(id) {
            self.flush()?;
        }
        self.ids.insert(id.to_owned());
        Ok(())
    }

    fn flush_if(&mut self, is_full: bool) -> Result<(), ReadError> {
        if is_full { self.flush() } else { Ok(()) }
    }

    /// Hands over what there is.
    pub fn flush(&mut self) -> Result<(), ReadError> {
        self.ids.clear();
        (self.placements, self.text_bytes) = (0, 0);
        let Batch { file: _, playlists, places, tracks, users, rejects } = std::mem::take(&mut self.batch);
        if playlists.is_empty() && tracks.is_empty() && users.is_empty() && rejects.is_empty() {
            return Ok(());
        }
        (self.hand_over)(Batch { file: self.file.clone(), playlists, places, tracks, users, rejects })
    }
}

/// Bytes of the texts of a track.
fn text_bytes(track: &TrackMention) -> usize {
    let of = |text: Option<&String>| text.map_or(0, String::len);
    match track {
        TrackMention::Id(id) => id.as_str().len(),
        TrackMention::Described(track) => {
            track.id.as_str().len()
                + of(track.name.as_ref())
                + of(track.artist.as_ref().and_then(|artist| artist.name.as_ref()))
                + of(track.album.as_ref().and_then(|album| album.name.as_ref()))
        }
    }
}
