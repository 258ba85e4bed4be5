//! The formats of `segue import`, with their arguments.

use std::path::PathBuf;

use clap::Subcommand;

use crate::cli::output::Output;

/// Formats that can be imported.
#[derive(Debug, Subcommand)]
pub enum ImportFormat {
    /// Slices of the Million Playlist Dataset: JSON, plain or gzip
    #[command(
        after_help = "Examples:\n  segue import mpd path/to/mpd/data\n  segue import mpd mpd.slice.0-999.json.gz mine.json\n\nA file needs playlists[].pid and tracks[] with track_uri, track_name and artist_name. A file that can't be\nread is rejected as a whole; bad rows are skipped and listed in the rejects file. Importing again changes nothing."
    )]
    Mpd {
        /// Files, or folders with mpd.slice.*.json[.gz]
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// Remove playlists that the files do not have
        ///
        /// Remove playlists of the catalog that the files do not have, whatever they came from. Nothing is removed if a file
        /// or a row was rejected; playlists that changed since the import began stay.
        #[arg(long)]
        prune: bool,
        /// What to report
        #[command(flatten)]
        reporting: Reporting,
    },
    /// Your own tracks, users and playlists as NDJSON, plain or gzip
    #[command(
        after_help = "Examples:\n  segue import ndjson --tracks tracks.ndjson --playlists playlists.ndjson\n  segue import ndjson --playlists /dev/stdin\n\nA line of each kind is an object, such as\n  {\"id\": \"t1\", \"name\": \"So What\", \"artist\": \"Miles Davis\", \"album\": \"Kind of Blue\", \"duration_ms\": 562000}\n  {\"id\": \"u1\"}\n  {\"id\": \"p1\", \"user_id\": \"u1\", \"title\": \"late night jazz\", \"tracks\": [\"t1\", \"t2\"]}\n\nA playlist's tracks are ids of tracks that the catalog has, or objects as in the first line. Bad lines are skipped and\nlisted in the rejects file with their numbers. Importing again changes nothing."
    )]
    Ndjson {
        /// Files of tracks
        #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present_any = ["users", "playlists"])]
        tracks: Vec<PathBuf>,
        /// Files of users
        #[arg(long, value_name = "FILE", num_args = 1..)]
        users: Vec<PathBuf>,
        /// Files of playlists
        #[arg(long, value_name = "FILE", num_args = 1..)]
        playlists: Vec<PathBuf>,
        /// Remove tracks, users or playlists that the files do not have
        ///
        /// Remove rows of the catalog that the files do not have, whatever they came from; of tracks, users and playlists
        /// only those with a file here. Nothing is removed if a file or a row was rejected, or of a kind that has no row.
        /// Tracks in a playlist, rated or played stay, users with a playlist, a rating or a listen, and rows that changed
        /// since the import began.
        #[arg(long)]
        prune: bool,
        /// What to report
        #[command(flatten)]
        reporting: Reporting,
    },
    /// Deezer's playlists for word2vec: music_1.npy and music_2.npy, or text with one playlist per line
    #[command(
        after_help = "Examples:\n  segue import deezer music_1.npy music_2.npy\n  segue import deezer --placeholder-artists ecommerce_sessions.npy\n\nA NumPy file must be an array of lists of strings. Its pickle is parsed and never executed: an opcode that such an\narray does not need is rejected by name and position. Playlists are named after the file: music_1:0, music_1:1, ..."
    )]
    Deezer {
        /// Files
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// Accept files with placeholders instead of artists
        ///
        /// Accept files without artists: every second entry is a placeholder, and ids may be any text.
        #[arg(long)]
        placeholder_artists: bool,
        /// What to report
        #[command(flatten)]
        reporting: Reporting,
    },
    /// Radio playlists of Yes.com: folders with train.txt and song_hash.txt
    #[command(after_help = "Example:\n  segue import yes-radio path/to/yes_small")]
    YesRadio {
        /// Folders, or folders of such folders
        #[arg(required = true, value_name = "FOLDER")]
        folders: Vec<PathBuf>,
        /// What to report
        #[command(flatten)]
        reporting: Reporting,
    },
    /// A MovieLens folder: ratings.csv and movies.csv, or u.data and u.item of ml-100k
    #[command(
        after_help = "Example:\n  segue import movielens path/to/ml-latest-small\n\nUsers become movielens:user:<id>, movies become tracks movielens:movie:<id>. Bad rows are skipped and listed in the\nrejects file. Importing again changes nothing."
    )]
    Movielens(MovielensArguments),
    /// KKBox's listens of the WSDM Cup 2018: a folder with train.csv
    ///
    /// The folder may also hold test.csv, members.csv, songs.csv and song_extra_info.csv.
    #[command(
        after_help = "Example:\n  segue import kkbox path/to/kkbox-music-recommendation-challenge\n\nThe files are in order but have no times: a listen's time is the number of its row, in seconds since 1970 for train.csv\nand since 1980 for test.csv. Bad rows are skipped and listed in the rejects file. Importing again changes nothing."
    )]
    Kkbox {
        /// Folder with train.csv
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
        /// What to report
        #[command(flatten)]
        reporting: Reporting,
    },
    /// Your own ratings: CSV files with a header
    #[command(
        after_help = "Example:\n  segue import ratings mine.csv --lowest 1 --highest 10\n\nColumns, in any order: user_id, track_id and rating; optionally rated_at (seconds since 1970, or RFC 3339), track_name,\nartist_name and genres (separated by |). Tracks that the catalog does not have are added. If a user rated a track\nseveral times, the latest rating counts. Importing again changes nothing."
    )]
    Ratings(RatingsArguments),
}

/// What of MovieLens to import, and how to report.
#[derive(Debug, clap::Args)]
pub struct MovielensArguments {
    /// Folder with ratings.csv or u.data
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
    /// how to import
    #[command(flatten)]
    pub how: RatingsImport,
}

/// Which ratings to import, and how to report.
#[derive(Debug, clap::Args)]
pub struct RatingsArguments {
    /// CSV files, plain or gzip
    #[arg(required = true, value_name = "FILE")]
    pub paths: Vec<PathBuf>,
    /// Remove ratings that the files do not have
    ///
    /// Remove ratings of the catalog that the files do not have, whatever they came from. Nothing is removed if a file or a
    /// row was rejected; ratings that changed since the import began stay.
    #[arg(long)]
    pub prune: bool,
    /// how to import
    #[command(flatten)]
    pub how: RatingsImport,
}

/// How to import ratings.
#[derive(Debug, clap::Args)]
pub struct RatingsImport {
    /// Lowest rating; rows with a lower one are skipped
    ///
    /// Rows with a lower one are skipped. The server has the same setting: rating_lowest at the top of segue.toml, or
    /// SEGUE_RATING_LOWEST, is for both.
    #[arg(
        long,
        alias = "rating-lowest",
        env = "SEGUE_RATING_LOWEST",
        default_value_t = 0.5,
        allow_negative_numbers = true
    )]
    pub lowest: f32,
    /// Highest rating; rows with a higher one are skipped
    ///
    /// Rows with a higher one are skipped. The server has the same setting: rating_highest at the top of segue.toml, or
    /// SEGUE_RATING_HIGHEST, is for both.
    #[arg(
        long,
        alias = "rating-highest",
        env = "SEGUE_RATING_HIGHEST",
        default_value_t = 5.0,
        allow_negative_numbers = true
    )]
    pub highest: f32,
    /// how to report
    #[command(flatten)]
    pub reporting: Reporting,
}

/// What to report.
#[derive(Debug, clap::Args)]
pub struct Reporting {
    /// File for skipped rows [default: in data/rejects/]
    ///
    /// File for skipped rows, one JSON object per line [default: a file in data/rejects/ below the home folder]
    #[arg(long, value_name = "FILE")]
    pub rejects: Option<PathBuf>,
    /// how to print the report
    #[command(flatten)]
    pub output: Output,
}

impl ImportFormat {
    /// Returns its name on the command line, and what to report.
    pub(super) fn reporting(&self) -> (&'static str, &Reporting) {
        match self {
            Self::Mpd { reporting, .. } => ("mpd", reporting),
            Self::Ndjson { reporting, .. } => ("ndjson", reporting),
            Self::Deezer { reporting, .. } => ("deezer", reporting),
            Self::YesRadio { reporting, .. } => ("yes-radio", reporting),
            Self::Movielens(arguments) => ("movielens", &arguments.how.reporting),
            Self::Kkbox { reporting, .. } => ("kkbox", reporting),
            Self::Ratings(arguments) => ("ratings", &arguments.how.reporting),
        }
    }
}
