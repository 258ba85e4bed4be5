//! Listens in order, with what is known of users and tracks, as numbers.
//!
//! Every text becomes the number of a value, from 1 in order of first sight; 0 is "not known".

use std::collections::HashMap;

use futures_util::TryStreamExt;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::catalog::{Catalog, CatalogError, ListenRow, TrackAttributes, TrackRow, UserAttributes, UserRow};
use crate::dataset::DataFingerprint;

/// The number of a value that is not known.
pub const UNKNOWN: u32 = 0;
/// Two-digit years of recording codes up to this are of this century.
const LAST_YEAR: u32 = 30;

/// What is known of a user.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UserFields {
    /// city
    pub city: u32,
    /// gender
    pub gender: u32,
    /// way of registration
    pub registered_via: u32,
    /// age in years; 0 if not known
    pub age: u32,
    /// days from 2000 to the registration; not a number if not known
    pub registered_day: f32,
    /// days from 2000 to the end of the subscription, likewise
    pub expires_day: f32,
}

impl UserFields {
    /// A user of whom nothing is known.
    pub const UNKNOWN: Self =
        Self { city: 0, gender: 0, registered_via: 0, age: 0, registered_day: f32::NAN, expires_day: f32::NAN };

    /// As whole numbers, for files.
    pub fn words(&self) -> [u32; 6] {
        let days = [self.registered_day.to_bits(), self.expires_day.to_bits()];
        [self.city, self.gender, self.registered_via, self.age, days[0], days[1]]
    }

    /// From [`UserFields::words`].
    pub fn from_words(words: [u32; 6]) -> Self {
        let [city, gender, registered_via, age, registered, expires] = words;
        let (registered_day, expires_day) = (f32::from_bits(registered), f32::from_bits(expires));
        Self { city, gender, registered_via, age, registered_day, expires_day }
    }
}

/// What is known of a track.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrackFields {
    /// artist
    pub artist: u32,
    /// language
    pub language: u32,
    /// first and second genre
    pub genres: [u32; 2],
    /// first composer
    pub composer: u32,
    /// first lyricist
    pub lyricist: u32,
    /// country of the recording code
    pub country: u32,
    /// country and registrant of the recording code
    pub registrant: u32,
    /// year of the recording code; 0 if not known
    pub year: u32,
    /// length in seconds; not a number if not known
    pub duration: f32,
}

impl TrackFields {
    /// A track of which nothing is known.
    pub const UNKNOWN: Self = Self {
        artist: 0,
        language: 0,
        genres: [0; 2],
        composer: 0,
        lyricist: 0,
        country: 0,
        registrant: 0,
        year: 0,
        duration: f32::NAN,
    };

    /// As whole numbers, for files.
    pub fn words(&self) -> [u32; 10] {
        [
            self.artist,
            self.language,
            self.genres[0],
            self.genres[1],
            self.composer,
            self.lyricist,
            self.country,
            self.registrant,
            self.year,
            self.duration.to_bits(),
        ]
    }

    /// From [`TrackFields::words`].
    pub fn from_words(words: [u32; 10]) -> Self {
        let [artist, language, first, second, composer, lyricist, country, registrant, year, duration] = words;
        let (genres, duration) = ([first, second], f32::from_bits(duration));
        Self { artist, language, genres, composer, lyricist, country, registrant, year, duration }
    }
}

/// Where in the app something was played from: tab, screen and type as numbers of values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListenSource {
    /// tab
    pub tab: u32,
    /// screen
    pub screen: u32,
    /// type
    pub kind: u32,
}

/// A user begins to listen to a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Click {
    /// row of the user
    pub user: u32,
    /// row of the track
    pub track: u32,
    /// where it was played from
    pub source: ListenSource,
    /// whether the user came back to it, if that is known
    pub target: Option<bool>,
}

/// A listen with what is known of its user and track.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Listen<'a> {
    /// the listen
    pub click: Click,
    /// its user
    pub user: &'a UserFields,
    /// its track
    pub track: &'a TrackFields,
}

/// Values of the three fields of a source, by number; the first one is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceValues {
    /// of tabs, of screens, of types
    pub fields: [Vec<String>; 3],
}

impl SourceValues {
    /// Names of the fields in requests.
    pub const NAMES: [&'static str; 3] = ["source_system_tab", "source_screen_name", "source_type"];
    /// Most values of a field that are distinguished.
    pub const MOST: [usize; 3] = [63, 255, 63];

    /// The number of a value of field `field`; none if it is not there.
    pub fn number(&self, field: usize, value: &str) -> Option<u32> {
        self.fields[field].iter().position(|known| known == value).map(|number| number as u32)
    }
}

/// All listens of the catalog.
#[derive(Debug, Clone)]
pub struct Listening {
    /// the app's id of each user's row, rising
    pub user_ids: Vec<String>,
    /// what is known of each user
    pub users: Vec<UserFields>,
    /// the app's id of each track's row, rising
    pub track_ids: Vec<String>,
    /// what is known of each track
    pub tracks: Vec<TrackFields>,
    /// what sources are called
    pub sources: SourceValues,
    /// oldest first
    pub clicks: Vec<Click>,
    /// what this is: for `playlists` read users, for `placements` listens
    pub fingerprint: DataFingerprint,
}

/// Numbers values in order of first sight, from 1.
#[derive(Debug, Default)]
struct Numbers(HashMap<String, u32>);

impl Numbers {
    fn of(&mut self, value: Option<&str>) -> u32 {
        let Some(value) = value.filter(|value| !value.is_empty()) else { return UNKNOWN };
        if let Some(&number) = self.0.get(value) {
            return number;
        }
        let number = self.0.len() as u32 + 1;
        self.0.insert(value.to_owned(), number);
        number
    }
}

/// Country, country and registrant, and year of a recording code (ISO 3901): two letters, three letters or digits, two
/// digits, five digits; hyphens don't count.
pub fn recording_code(code: &str) -> Option<(&str, &str, u32)> {
    let code = code.trim();
    if code.len() < 7 || !code.is_ascii() {
        return None;
    }
    let year: u32 = code[5..7].parse().ok()?;
    Some((&code[..2], &code[..5], if year <= LAST_YEAR { 2000 + year } else { 1900 + year }))
}

impl Listening {
    /// Reads the catalog.
    pub async fn load(catalog: &Catalog) -> Result<Self, CatalogError> {
        let newest_change = catalog.newest_listen().await?;
        let mut builder = ListeningBuilder::default();
        let mut users = std::pin::pin!(catalog.user_attributes());
        while let Some(user) = users.try_next().await? {
            builder.user(&user);
        }
        let mut tracks = std::pin::pin!(catalog.track_attributes());
        while let Some(track) = tracks.try_next().await? {
            builder.track(&track);
        }
        let mut listens = std::pin::pin!(catalog.listens(newest_change.unwrap_or(OffsetDateTime::UNIX_EPOCH)));
        while let Some(listen) = listens.try_next().await? {
            builder.listen(&listen);
        }
        let newest_change =
            newest_change.and_then(|time| time.format(&time::format_description::well_known::Rfc3339).ok());
        Ok(builder.finish(newest_change))
    }

    /// The listen at a place, with what is known of its user and track.
    pub fn listen(&self, place: usize) -> Listen<'_> {
        let click = self.clicks[place];
        let user = self.users.get(click.user as usize).unwrap_or(&UserFields::UNKNOWN);
        let track = self.tracks.get(click.track as usize).unwrap_or(&TrackFields::UNKNOWN);
        Listen { click, user, track }
    }

    /// Places of the listens of which the target is known.
    pub fn labelled(&self) -> Vec<usize> {
        (0..self.clicks.len()).filter(|&row| self.clicks[row].target.is_some()).collect()
    }
}

/// Makes a [`Listening`] of rows of the catalog, in the order users, tracks, listens.
#[derive(Debug, Default)]
pub struct ListeningBuilder {
    user_ids: Vec<String>,
    users: Vec<UserFields>,
    track_ids: Vec<String>,
    tracks: Vec<TrackFields>,
    user_rows: HashMap<UserRow, u32>,
    track_rows: HashMap<TrackRow, u32>,
    values: [Numbers; 10],
    sources: [Numbers; 3],
    clicks: Vec<Click>,
}

impl ListeningBuilder {
    /// Adds a user.
    pub fn user(&mut self, user: &UserAttributes) {
        let [city, gender, via, ..] = &mut self.values;
        self.user_rows.insert(user.row, self.users.len() as u32);
        self.user_ids.push(user.id.to_string());
        self.users.push(UserFields {
            city: city.of(user.city.as_deref()),
            gender: gender.of(user.gender.as_deref()),
            registered_via: via.of(user.registered_via.as_deref()),
            age: user.age.map_or(UNKNOWN, |age| age.max(0) as u32),
            registered_day: user.registered_day.map_or(f32::NAN, |day| day as f32),
            expires_day: user.expires_day.map_or(f32::NAN, |day| day as f32),
        });
    }

    /// Adds a track.
    pub fn track(&mut self, track: &TrackAttributes) {
        let [_, _, _, artist, language, genre, composer, lyricist, country, registrant] = &mut self.values;
        let code = track.isrc.as_deref().and_then(recording_code);
        let mut genres = track.genres.iter().map(|name| genre.of(Some(name)));
        self.track_rows.insert(track.row, self.tracks.len() as u32);
        self.track_ids.push(track.id.to_string());
        self.tracks.push(TrackFields {
            artist: artist.of(track.artist.as_deref()),
            language: language.of(track.language.as_deref()),
            genres: [genres.next().unwrap_or(UNKNOWN), genres.next().unwrap_or(UNKNOWN)],
            composer: composer.of(track.composers.first().map(String::as_str)),
            lyricist: lyricist.of(track.lyricists.first().map(String::as_str)),
            country: country.of(code.map(|code| code.0)),
            registrant: registrant.of(code.map(|code| code.1)),
            year: code.map_or(UNKNOWN, |code| code.2),
            duration: track.duration_ms.map_or(f32::NAN, |length| length as f32 / 1e3),
        });
    }

    /// Adds a listen; one of a user or track that is not there is left out: the next training has it.
    pub fn listen(&mut self, listen: &ListenRow) {
        let (Some(&user), Some(&track)) = (self.user_rows.get(&listen.user), self.track_rows.get(&listen.track)) else {
            return;
        };
        let texts = [&listen.source_system_tab, &listen.source_screen_name, &listen.source_type];
        let mut numbers = [UNKNOWN; 3];
        for field in 0..3 {
            let number = self.sources[field].of(texts[field].as_deref());
            // The value stays in the list, but rare ones beyond what is told apart are one.
            numbers[field] = if number as usize > SourceValues::MOST[field] { UNKNOWN } else { number };
        }
        let [tab, screen, kind] = numbers;
        self.clicks.push(Click { user, track, source: ListenSource { tab, screen, kind }, target: listen.target });
    }

    /// All of it.
    pub fn finish(self, newest_change: Option<String>) -> Listening {
        let fields = [0, 1, 2].map(|field| {
            let mut values = vec![String::new(); self.sources[field].0.len() + 1];
            for (value, &number) in &self.sources[field].0 {
                values[number as usize].clone_from(value);
            }
            values.truncate(SourceValues::MOST[field] + 1);
            values
        });
        let mut hash = Sha256::new();
        for id in self.user_ids.iter().chain(&self.track_ids).chain(fields.iter().flatten()) {
            hash.update(id.as_bytes());
            hash.update(b"\n");
        }
        self.users.iter().for_each(|user| hash.update(bytemuck::cast_slice::<u32, u8>(&user.words())));
        self.tracks.iter().for_each(|track| hash.update(bytemuck::cast_slice::<u32, u8>(&track.words())));
        for click in &self.clicks {
            let target = click.target.map_or(2, u32::from);
            let ListenSource { tab, screen, kind } = click.source;
            hash.update(bytemuck::cast_slice::<u32, u8>(&[click.user, click.track, tab, screen, kind, target]));
        }
        let fingerprint = DataFingerprint {
            playlists: self.user_ids.len() as u64,
            tracks: self.track_ids.len() as u64,
            placements: self.clicks.len() as u64,
            newest_change,
            sha256: hex::encode(hash.finalize()),
        };
        Listening {
            user_ids: self.user_ids,
            users: self.users,
            track_ids: self.track_ids,
            tracks: self.tracks,
            sources: SourceValues { fields },
            clicks: self.clicks,
            fingerprint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_code_tells_country_registrant_and_year() {
        assert_eq!(recording_code("TWUM71200043"), Some(("TW", "TWUM7", 2012)));
        assert_eq!(recording_code("GBAYE6800011"), Some(("GB", "GBAYE", 1968)));
        assert_eq!(recording_code("TWUM"), None);
        assert_eq!(recording_code("TWUM7xx00043"), None);
    }
}
