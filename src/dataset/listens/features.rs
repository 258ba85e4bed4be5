//! What describes a listen to a model of clicks: fields (numbers of values, to be embedded) and plain numbers.
//!
//! A [`ClickState`] takes listens one after another. [`describe`] tells of a listen what the state knows *before* it takes
//! it: training replays all listens so, a bundle holds the state at their end, and a server goes on from there. There is
//! one path, and so a listen scored over HTTP and the same one scored offline have the same numbers.
//!
//! * `causal`, the variant that is served: counts, shares and the event before, of what came before alone.
//! * `transductive`, as in the competition: counts and shares of all listens, and windows and the event *after*, too. For
//!   these the listens are replayed backwards: what is before in that direction is after.
//!
//! Targets are known of the past alone in both, and not of a part that is scored: a listen whose target is not known counts
//! and says nothing else.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::history::{Click, Source, TrackFields, UNKNOWN, UserFields};
use crate::dataset::listens::Tastes;

/// Widths of the windows in listens of anyone.
pub const WINDOWS: [u64; 6] = [10, 25, 500, 5_000, 10_000, 50_000];
/// Listens that the windows look back on.
const LONGEST: usize = 50_000;
/// Values of tab, screen and type whose shares of a user's listens are features of their own.
const PROFILE: [usize; 3] = [12, 24, 16];
/// A mean of targets is drawn to the mean of all with the weight of so many listens: for what belongs to a user, a track…
const FEW: f32 = 5.0;
/// … and for what belongs to many.
const MANY: f32 = 20.0;

/// Which features of one subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum FeatureGroup {
    /// age, days of registration and expiry, length of the membership
    Member,
    /// a track's length and year
    Track,
    /// listens of the user, and of the track, its artist, composer, lyricist, genre and recording code's parts
    Counts,
    /// how often the user plays from this source, this artist, language, genre, year; how often the track is played so
    Shares,
    /// listens of the user and of the track within windows of 10 to 50,000 listens, and till now
    Windows,
    /// the user's listen before (and after): how long ago, and what is the same
    Neighbours,
    /// shares of tabs, screens and types among the user's listens
    Profile,
    /// how often users came back, for this user, track, artist, source and their combinations
    Targets,
    /// how near the track and its artist lie to what the user plays, and how long the user's tracks are
    Taste,
}

/// What users may have been asked about: the categorical features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Field {
    /// row of the user
    User,
    /// row of the track
    Track,
    /// artist
    Artist,
    /// city
    City,
    /// gender
    Gender,
    /// way of registration
    RegisteredVia,
    /// language
    Language,
    /// country of the recording code
    Country,
    /// first genre
    FirstGenre,
    /// second genre, of the same table
    SecondGenre,
    /// tab
    Tab,
    /// screen
    Screen,
    /// type
    Type,
    /// of the user's listen before
    BeforeScreen,
    /// likewise
    BeforeType,
    /// likewise
    BeforeLanguage,
    /// of the user's listen after; transductive alone
    AfterScreen,
    /// likewise
    AfterType,
    /// likewise
    AfterLanguage,
}

impl Field {
    /// In the order of [`Row::fields`].
    pub const ALL: [Self; 19] = [
        Self::User,
        Self::Track,
        Self::Artist,
        Self::City,
        Self::Gender,
        Self::RegisteredVia,
        Self::Language,
        Self::Country,
        Self::FirstGenre,
        Self::SecondGenre,
        Self::Tab,
        Self::Screen,
        Self::Type,
        Self::BeforeScreen,
        Self::BeforeType,
        Self::BeforeLanguage,
        Self::AfterScreen,
        Self::AfterType,
        Self::AfterLanguage,
    ];

    /// The field in whose table of embeddings it looks.
    pub fn table(self) -> Self {
        match self {
            Self::SecondGenre => Self::FirstGenre,
            other => other,
        }
    }
}

/// Number of fields.
pub const FIELDS: usize = Field::ALL.len();

/// Who came back how often.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// listens
    pub count: u32,
    /// those of which the target is known
    pub known: u32,
    /// those of them after which the user came back
    pub positive: u32,
}

impl Tally {
    /// The share of those who came back, drawn to `prior` with the weight of `weight` listens.
    #[inline]
    fn mean(self, prior: f32, weight: f32) -> f32 {
        (self.positive as f32 + weight * prior) / (self.known as f32 + weight)
    }
}

/// What is tallied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Key {
    Track = 1,
    Artist,
    Composer,
    Lyricist,
    Genre,
    Country,
    Registrant,
    Year,
    Tab,
    Screen,
    Type,
    Source,
    Language,
    City,
    Via,
    Gender,
    Age,
    ExpiryDay,
    RegistrationMonth,
    UserSource,
    UserTab,
    UserScreen,
    UserType,
    UserLanguage,
    UserArtist,
    UserGenre,
    UserYear,
    TrackTab,
    TrackScreen,
    TrackType,
}

/// 6 bits of what, 32 bits of whom, 26 bits of which value.
#[inline]
fn packed(key: Key, of: u32, value: u32) -> u64 {
    (key as u64) << 58 | u64::from(of) << 26 | u64::from(value & 0x03ff_ffff)
}

/// The three fields of a source as one number: 6, 8 and 6 bits.
#[inline]
fn source_number(source: Source) -> u32 {
    (source.tab & 63) << 14 | (source.screen & 255) << 6 | (source.kind & 63)
}

/// A user's listens so far.
#[derive(Debug, Clone, PartialEq)]
pub struct UserHistory {
    /// all of them
    pub tally: Tally,
    /// number of the last one among all users' listens
    pub last: u64,
    /// number of the first one
    pub first: u64,
    /// the last one's source
    pub source: Source,
    /// its track
    pub track: u32,
    /// its artist
    pub artist: u32,
    /// its language
    pub language: u32,
    /// listens one after another from one source, less one
    pub streak: u32,
    /// length of the tracks of known length, in milliseconds
    pub milliseconds: u64,
    /// their number
    pub timed: u32,
    /// listens from each tab, screen and type
    pub profile: [u32; PROFILE[0] + PROFILE[1] + PROFILE[2]],
    /// numbers of the listens that windows look back on
    recent: VecDeque<u64>,
}

/// What is known at a moment. See the module.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClickState {
    /// listens so far
    events: u64,
    /// all of them
    all: Tally,
    tallies: HashMap<u64, Tally>,
    users: HashMap<u32, UserHistory>,
    /// number of the last listen of each track
    last_of_track: HashMap<u32, u64>,
    /// users and tracks of the last listens
    recent: VecDeque<(u32, u32)>,
    recent_of_track: HashMap<u32, VecDeque<u64>>,
    /// learned now and then from the listens until then
    pub tastes: Arc<Tastes>,
}

/// A listen with what is known of its user and track.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Described<'a> {
    /// the listen
    pub click: Click,
    /// its user
    pub user: &'a UserFields,
    /// its track
    pub track: &'a TrackFields,
}

/// What a listen is called in tallies: each with its weight for means of targets.
fn keys(listen: &Described<'_>) -> [(u64, f32); 30] {
    let (user, track, source) = (listen.user, listen.track, listen.click.source);
    let (who, what) = (listen.click.user, listen.click.track);
    let day = |day: f32| if day.is_nan() { 0 } else { (day as i32 + 100_000).max(1) as u32 };
    [
        (packed(Key::Track, what, 0), FEW),
        (packed(Key::Artist, track.artist, 0), MANY),
        (packed(Key::Composer, track.composer, 0), MANY),
        (packed(Key::Lyricist, track.lyricist, 0), MANY),
        (packed(Key::Genre, track.genres[0], 0), MANY),
        (packed(Key::Country, track.country, 0), MANY),
        (packed(Key::Registrant, track.registrant, 0), MANY),
        (packed(Key::Year, track.year, 0), MANY),
        (packed(Key::Tab, source.tab, 0), MANY),
        (packed(Key::Screen, source.screen, 0), MANY),
        (packed(Key::Type, source.kind, 0), MANY),
        (packed(Key::Source, source_number(source), 0), MANY),
        (packed(Key::Language, track.language, 0), MANY),
        (packed(Key::City, user.city, 0), MANY),
        (packed(Key::Via, user.registered_via, 0), MANY),
        (packed(Key::Gender, user.gender, 0), MANY),
        (packed(Key::Age, user.age, 0), MANY),
        (packed(Key::ExpiryDay, day(user.expires_day), 0), MANY),
        (packed(Key::RegistrationMonth, day(user.registered_day) / 30, 0), MANY),
        (packed(Key::UserSource, who, source_number(source)), FEW),
        (packed(Key::UserTab, who, source.tab), FEW),
        (packed(Key::UserScreen, who, source.screen), FEW),
        (packed(Key::UserType, who, source.kind), FEW),
        (packed(Key::UserLanguage, who, track.language), FEW),
        (packed(Key::UserArtist, who, track.artist), FEW),
        (packed(Key::UserGenre, who, track.genres[0]), FEW),
        (packed(Key::UserYear, who, track.year), FEW),
        (packed(Key::TrackTab, what, source.tab), FEW),
        (packed(Key::TrackScreen, what, source.screen), FEW),
        (packed(Key::TrackType, what, source.kind), FEW),
    ]
}

/// Places in [`keys`] of the tallies whose means of targets are features.
const TARGET_KEYS: [(usize, &str); 20] = [
    (0, "track"),
    (1, "artist"),
    (8, "tab"),
    (9, "screen"),
    (10, "type"),
    (11, "source"),
    (12, "language"),
    (4, "genre"),
    (5, "country"),
    (13, "city"),
    (14, "registered_via"),
    (15, "gender"),
    (16, "age"),
    (17, "expiry_day"),
    (18, "registration_month"),
    (19, "user_source"),
    (20, "user_tab"),
    (21, "user_screen"),
    (22, "user_type"),
    (23, "user_language"),
];
const COUNT_KEYS: [(usize, &str); 8] = [
    (0, "track"),
    (1, "artist"),
    (2, "composer"),
    (3, "lyricist"),
    (4, "genre"),
    (5, "country"),
    (6, "registrant"),
    (7, "year"),
];
const USER_SHARES: [(usize, &str); 5] = [(19, "source"), (24, "artist"), (23, "language"), (25, "genre"), (26, "year")];
const TRACK_SHARES: [(usize, &str); 3] = [(27, "tab"), (28, "screen"), (29, "type")];

/// How many of the last listens were of one user, or of one track, for each window.
pub type WindowCounts = [u32; WINDOWS.len()];

/// What lies around a listen on one side.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Side {
    /// listens of the user within each window
    pub of_user: WindowCounts,
    /// listens of the track within each window
    pub of_track: WindowCounts,
    /// the user's nearest listen on that side
    pub neighbour: Option<Neighbour>,
    /// listens of anyone since the track's nearest one on that side
    pub track_gap: Option<u64>,
}

/// The user's nearest listen on one side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// listens of anyone between, plus one
    pub gap: u64,
    /// where it was played from
    pub source: Source,
    /// its track
    pub track: u32,
    /// its artist
    pub artist: u32,
    /// its language
    pub language: u32,
    /// how many more before it came from the same source
    pub streak: u32,
    /// listens of anyone since the user's first one on that side
    pub since_first: u64,
}

fn counts_within(positions: Option<&VecDeque<u64>>, now: u64) -> WindowCounts {
    let Some(positions) = positions else { return WindowCounts::default() };
    WINDOWS.map(|window| {
        let begin = now.saturating_sub(window);
        (positions.len() - positions.partition_point(|&position| position < begin)) as u32
    })
}

impl ClickState {
    /// Listens so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The share of all who came back.
    #[inline]
    fn prior(&self) -> f32 {
        self.all.mean(0.5, 10.0)
    }

    #[inline]
    fn tally(&self, key: u64) -> Tally {
        self.tallies.get(&key).copied().unwrap_or_default()
    }

    /// What lies before a listen of `user` to `track`.
    pub fn side(&self, user: u32, track: u32) -> Side {
        let history = self.users.get(&user);
        Side {
            of_user: counts_within(history.map(|history| &history.recent), self.events),
            of_track: counts_within(self.recent_of_track.get(&track), self.events),
            neighbour: history.map(|history| Neighbour {
                gap: self.events - history.last,
                source: history.source,
                track: history.track,
                artist: history.artist,
                language: history.language,
                streak: history.streak,
                since_first: self.events - history.first,
            }),
            track_gap: self.last_of_track.get(&track).map(|&last| self.events - last),
        }
    }

    /// Takes a listen: counts it, and if its target is known that too.
    pub fn take(&mut self, listen: &Described<'_>) {
        let Click { user, track, source, target } = listen.click;
        for (key, _) in keys(listen) {
            self.tallies.entry(key).or_default().count += 1;
        }
        let now = self.events;
        self.events += 1;
        self.all.count += 1;
        let history = self.users.entry(user).or_insert_with(|| UserHistory {
            tally: Tally::default(),
            last: now,
            first: now,
            source: Source { tab: u32::MAX, ..Source::default() },
            track,
            artist: UNKNOWN,
            language: UNKNOWN,
            streak: 0,
            milliseconds: 0,
            timed: 0,
            profile: [0; PROFILE[0] + PROFILE[1] + PROFILE[2]],
            recent: VecDeque::new(),
        });
        if listen.track.duration.is_finite() {
            history.milliseconds += (listen.track.duration * 1e3).max(0.0) as u64;
            history.timed += 1;
        }
        history.streak = if history.source == source { history.streak + 1 } else { 0 };
        history.tally.count += 1;
        (history.last, history.source, history.track) = (now, source, track);
        (history.artist, history.language) = (listen.track.artist, listen.track.language);
        let mut begin = 0;
        for (value, length) in [source.tab, source.screen, source.kind].into_iter().zip(PROFILE) {
            if let Some(place) = history.profile[begin..begin + length].get_mut(value as usize) {
                *place += 1;
            }
            begin += length;
        }
        history.recent.push_back(now);
        self.last_of_track.insert(track, now);
        self.recent_of_track.entry(track).or_default().push_back(now);
        self.recent.push_back((user, track));
        self.forget_old();
        if let Some(target) = target {
            self.learn(listen, target);
        }
    }

    /// Takes the target of a listen that was taken before without one.
    pub fn learn(&mut self, listen: &Described<'_>, target: bool) {
        let positive = u32::from(target);
        for (key, _) in keys(listen) {
            let tally = self.tallies.entry(key).or_default();
            tally.known += 1;
            tally.positive += positive;
        }
        self.all.known += 1;
        self.all.positive += positive;
        if let Some(history) = self.users.get_mut(&listen.click.user) {
            history.tally.known += 1;
            history.tally.positive += positive;
        }
    }

    /// Listens leave the windows.
    fn forget_old(&mut self) {
        if self.recent.len() <= LONGEST {
            return;
        }
        let Some((user, track)) = self.recent.pop_front() else { return };
        if let Some(history) = self.users.get_mut(&user) {
            history.recent.pop_front();
        }
        if let Some(positions) = self.recent_of_track.get_mut(&track) {
            positions.pop_front();
            if positions.is_empty() {
                self.recent_of_track.remove(&track);
            }
        }
    }
}

/// Writes numbers one after another.
struct Numbers<'a> {
    values: &'a mut [f32],
    place: usize,
}

impl Numbers<'_> {
    #[inline]
    fn push(&mut self, value: f32) {
        self.values[self.place] = value;
        self.place += 1;
    }

    #[inline]
    fn log(&mut self, count: impl Into<f64>) {
        self.push((count.into() as f32).ln_1p());
    }

    #[inline]
    fn optional(&mut self, value: Option<f32>) {
        self.push(value.unwrap_or(f32::NAN));
    }
}

/// Groups and names of the numbers, in order.
pub fn number_names() -> Vec<(FeatureGroup, String)> {
    let mut names = Vec::new();
    let mut add = |group: FeatureGroup, name: String| names.push((group, name));
    for name in ["age", "registered_day", "expires_day", "membership_days"] {
        add(FeatureGroup::Member, name.to_owned());
    }
    for name in ["track_seconds", "track_year"] {
        add(FeatureGroup::Track, name.to_owned());
    }
    add(FeatureGroup::Counts, "user_count".to_owned());
    COUNT_KEYS.iter().for_each(|(_, name)| add(FeatureGroup::Counts, format!("{name}_count")));
    for name in ["tab", "screen", "type"] {
        add(FeatureGroup::Shares, format!("user_{name}_share"));
    }
    USER_SHARES.iter().for_each(|(_, name)| add(FeatureGroup::Shares, format!("user_{name}_share")));
    TRACK_SHARES.iter().for_each(|(_, name)| add(FeatureGroup::Shares, format!("track_{name}_share")));
    for side in ["before", "after"] {
        for of in ["user", "track"] {
            WINDOWS.iter().for_each(|window| add(FeatureGroup::Windows, format!("{of}_{window}_{side}")));
        }
    }
    for of in ["user", "track"] {
        add(FeatureGroup::Windows, format!("{of}_till_now"));
    }
    for side in ["before", "after"] {
        for name in [
            "gap",
            "same_source",
            "same_screen",
            "same_type",
            "same_artist",
            "streak",
            "since_first",
            "track_count",
            "track_gap",
        ] {
            add(FeatureGroup::Neighbours, format!("{side}_{name}"));
        }
    }
    for (field, length) in ["tab", "screen", "type"].into_iter().zip(PROFILE) {
        (0..length).for_each(|value| add(FeatureGroup::Profile, format!("user_{field}_{value}")));
    }
    for name in std::iter::once("user").chain(TARGET_KEYS.iter().map(|(_, name)| *name)) {
        add(FeatureGroup::Targets, format!("{name}_target"));
        add(FeatureGroup::Targets, format!("{name}_known"));
    }
    for name in ["track_taste", "artist_taste", "user_seconds", "seconds_beyond_users"] {
        add(FeatureGroup::Taste, name.to_owned());
    }
    names
}

/// How many numbers describe a listen; [`number_names`] names them.
pub const NUMBERS: usize = 4
    + 2
    + (1 + COUNT_KEYS.len())
    + (3 + USER_SHARES.len() + TRACK_SHARES.len())
    + (4 * WINDOWS.len() + 2)
    + 2 * 9
    + (PROFILE[0] + PROFILE[1] + PROFILE[2])
    + 2 * (1 + TARGET_KEYS.len())
    + 4;

/// What is known beyond the past, in the transductive variant.
#[derive(Debug, Clone, Copy)]
pub struct Beyond<'a> {
    /// the state after all listens
    pub whole: &'a ClickState,
    /// what lies after the listen
    pub after: &'a Side,
}

/// Describes a listen, by what `past` knows before it takes it. `fields` is of [`FIELDS`] values, `numbers` of [`NUMBERS`];
/// what is not known is 0 in the one and not a number in the other.
pub fn describe(
    past: &ClickState,
    beyond: Option<Beyond<'_>>,
    listen: &Described<'_>,
    fields: &mut [u32],
    numbers: &mut [f32],
) {
    let Described { click, user, track } = *listen;
    let before = past.side(click.user, click.track);
    let after = beyond.map(|beyond| *beyond.after).unwrap_or_default();
    let counted = beyond.map_or(past, |beyond| beyond.whole);
    let source = click.source;
    let value_of = |side: &Side, value: fn(&Neighbour) -> u32| side.neighbour.as_ref().map_or(UNKNOWN, value);
    fields.copy_from_slice(&[
        click.user + 1,
        click.track + 1,
        track.artist,
        user.city,
        user.gender,
        user.registered_via,
        track.language,
        track.country,
        track.genres[0],
        track.genres[1],
        source.tab,
        source.screen,
        source.kind,
        // One more than the value: that there was a listen of unknown source is not that there was none.
        value_of(&before, |near| near.source.screen + 1),
        value_of(&before, |near| near.source.kind + 1),
        value_of(&before, |near| near.language + 1),
        value_of(&after, |near| near.source.screen + 1),
        value_of(&after, |near| near.source.kind + 1),
        value_of(&after, |near| near.language + 1),
    ]);

    let keys = keys(listen);
    let mut to = Numbers { values: numbers, place: 0 };
    to.push(if user.age == UNKNOWN { f32::NAN } else { user.age as f32 });
    to.push(user.registered_day);
    to.push(user.expires_day);
    to.push(user.expires_day - user.registered_day);
    to.push(track.duration);
    to.push(if track.year == UNKNOWN { f32::NAN } else { track.year as f32 });

    let history = counted.users.get(&click.user);
    let of_user = history.map_or(0, |history| history.tally.count);
    let of_track = counted.tally(keys[0].0).count;
    to.log(of_user);
    COUNT_KEYS.iter().for_each(|(place, _)| to.log(counted.tally(keys[*place].0).count));
    shares(counted, history, &keys, source, of_user, of_track, &mut to);
    for side in [&before, &after] {
        side.of_user.iter().for_each(|&count| to.log(count));
        side.of_track.iter().for_each(|&count| to.log(count));
    }
    to.log(past.users.get(&click.user).map_or(0, |history| history.tally.count));
    to.log(past.tally(keys[0].0).count);
    for side in [&before, &after] {
        neighbours(counted, side, listen, &mut to);
    }
    let share = 1.0 / of_user.max(1) as f32;
    match history {
        Some(history) => history.profile.iter().for_each(|&count| to.push(count as f32 * share)),
        None => (0..PROFILE.iter().sum()).for_each(|_| to.push(f32::NAN)),
    }
    targets(past, click.user, &keys, &mut to);
    to.optional(counted.tastes.tracks.of(click.user, click.track));
    to.optional(counted.tastes.artists.of(click.user, track.artist));
    let seconds = history.filter(|history| history.timed > 0);
    let seconds = seconds.map(|history| (history.milliseconds as f64 / 1e3 / f64::from(history.timed)) as f32);
    to.optional(seconds);
    to.optional(seconds.map(|seconds| track.duration - seconds));
}

/// P(value | user) and P(value | track), smoothed as if half a listen more had been of that value.
fn shares(
    counted: &ClickState,
    history: Option<&UserHistory>,
    keys: &[(u64, f32); 30],
    source: Source,
    of_user: u32,
    of_track: u32,
    to: &mut Numbers<'_>,
) {
    let share = |count: u32, all: u32| (all > 0).then(|| (count as f32 + 0.5) / (all as f32 + 1.0));
    let mut begin = 0;
    for ((value, length), key) in [source.tab, source.screen, source.kind].into_iter().zip(PROFILE).zip([20, 21, 22]) {
        let count = match history.map(|history| &history.profile[begin..begin + length]) {
            None => 0,
            Some(profile) => match profile.get(value as usize) {
                Some(&count) => count,
                None => counted.tally(keys[key].0).count,
            },
        };
        to.optional(share(count, of_user));
        begin += length;
    }
    for (place, _) in USER_SHARES {
        to.optional(share(counted.tally(keys[place].0).count, of_user));
    }
    for (place, _) in TRACK_SHARES {
        to.optional(share(counted.tally(keys[place].0).count, of_track));
    }
}

/// The user's nearest listen on one side: how far, what is the same, how popular its track is; and the track's nearest.
fn neighbours(counted: &ClickState, side: &Side, listen: &Described<'_>, to: &mut Numbers<'_>) {
    let source = listen.click.source;
    match &side.neighbour {
        None => (0..8).for_each(|_| to.push(f32::NAN)),
        Some(near) => {
            let flag = |same: bool| f32::from(u8::from(same));
            to.push((near.gap as f32).ln());
            to.push(flag(near.source == source));
            to.push(flag(near.source.screen == source.screen));
            to.push(flag(near.source.kind == source.kind));
            let knows_artists = near.artist != UNKNOWN && listen.track.artist != UNKNOWN;
            to.optional(knows_artists.then(|| flag(near.artist == listen.track.artist)));
            to.push(if near.source == source { (near.streak as f32 + 1.0).ln_1p() } else { 0.0 });
            to.log(near.since_first as f64);
            to.log(counted.tally(packed(Key::Track, near.track, 0)).count);
        }
    }
    to.optional(side.track_gap.map(|gap| (gap as f32).ln()));
}

/// Smoothed means of the targets known so far, and log1p of how many these are. What belongs to a user is drawn to the
/// user's own mean.
fn targets(past: &ClickState, user: u32, keys: &[(u64, f32); 30], to: &mut Numbers<'_>) {
    let prior = past.prior();
    let of_user = past.users.get(&user).map_or(Tally::default(), |history| history.tally);
    to.push(of_user.mean(prior, FEW));
    to.log(of_user.known);
    for (place, _) in TARGET_KEYS {
        let (key, weight) = keys[place];
        let tally = past.tally(key);
        to.push(tally.mean(prior, weight));
        to.log(tally.known);
    }
}

/// A [`ClickState`] as arrays, for files; its tastes have files of their own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StateArrays {
    /// listens so far, and of them: known, positive
    pub scalars: Vec<u64>,
    /// what is tallied, rising
    pub keys: Vec<u64>,
    /// `[keys, 3]`: count, known, positive
    pub tallies: Vec<u32>,
    /// rows of users, rising
    pub users: Vec<u32>,
    /// `[users, HISTORY]`
    pub histories: Vec<u64>,
    /// rows of tracks, rising
    pub tracks: Vec<u32>,
    /// `[tracks]`: number of the last listen of each
    pub last_of_track: Vec<u64>,
    /// `[listens, 2]`: user and track of the last ones
    pub recent: Vec<u32>,
}

/// Numbers of a user's history in [`StateArrays`].
pub const HISTORY: usize = 14 + PROFILE[0] + PROFILE[1] + PROFILE[2];

impl ClickState {
    /// All of it, in an order of its own.
    pub fn to_arrays(&self) -> StateArrays {
        let mut keys: Vec<u64> = self.tallies.keys().copied().collect();
        keys.sort_unstable();
        let mut users: Vec<u32> = self.users.keys().copied().collect();
        users.sort_unstable();
        let mut tracks: Vec<u32> = self.last_of_track.keys().copied().collect();
        tracks.sort_unstable();
        let mut arrays = StateArrays {
            scalars: vec![self.events, self.all.known.into(), self.all.positive.into()],
            ..StateArrays::default()
        };
        for key in &keys {
            let Tally { count, known, positive } = self.tally(*key);
            arrays.tallies.extend([count, known, positive]);
        }
        for history in users.iter().filter_map(|user| self.users.get(user)) {
            let UserHistory { tally, last, first, source, track, artist, language, streak, profile, .. } = history;
            arrays.histories.extend([tally.count, tally.known, tally.positive].map(u64::from));
            arrays.histories.extend([*last, *first]);
            let rest = [source.tab, source.screen, source.kind, *track, *artist, *language, *streak];
            arrays.histories.extend(rest.map(u64::from));
            arrays.histories.extend([history.milliseconds, history.timed.into()]);
            arrays.histories.extend(profile.iter().map(|&count| u64::from(count)));
        }
        arrays.last_of_track = tracks.iter().filter_map(|track| self.last_of_track.get(track).copied()).collect();
        arrays.recent = self.recent.iter().flat_map(|&(user, track)| [user, track]).collect();
        StateArrays { keys, users, tracks, ..arrays }
    }

    /// From arrays.
    ///
    /// # Errors
    ///
    /// Says which of them do not fit together.
    pub fn from_arrays(arrays: &StateArrays) -> Result<Self, String> {
        let &[events, known, positive] = arrays.scalars.as_slice() else {
            return Err("there are not three scalars".to_owned());
        };
        if arrays.tallies.len() != 3 * arrays.keys.len()
            || arrays.histories.len() != HISTORY * arrays.users.len()
            || arrays.last_of_track.len() != arrays.tracks.len()
            || arrays.recent.len() as u64 > 2 * events.min(LONGEST as u64)
        {
            return Err("the arrays of the state are not of one length".to_owned());
        }
        let small = |value: u64| value.min(u64::from(u32::MAX)) as u32;
        let mut state = Self {
            events,
            all: Tally { count: small(events), known: small(known), positive: small(positive) },
            ..Self::default()
        };
        for (&key, tally) in arrays.keys.iter().zip(arrays.tallies.as_chunks::<3>().0) {
            let &[count, known, positive] = tally;
            state.tallies.insert(key, Tally { count, known, positive });
        }
        for (&user, values) in arrays.users.iter().zip(arrays.histories.chunks_exact(HISTORY)) {
            let mut profile = [0; PROFILE[0] + PROFILE[1] + PROFILE[2]];
            profile.iter_mut().zip(&values[14..]).for_each(|(place, &value)| *place = small(value));
            if values[3] >= events || values[4] > values[3] {
                return Err("a user's last listen is none of those counted".to_owned());
            }
            state.users.insert(
                user,
                UserHistory {
                    tally: Tally { count: small(values[0]), known: small(values[1]), positive: small(values[2]) },
                    last: values[3],
                    first: values[4],
                    source: Source { tab: small(values[5]), screen: small(values[6]), kind: small(values[7]) },
                    track: small(values[8]),
                    artist: small(values[9]),
                    language: small(values[10]),
                    streak: small(values[11]),
                    milliseconds: values[12],
                    timed: small(values[13]),
                    profile,
                    recent: VecDeque::new(),
                },
            );
        }
        state.last_of_track = arrays.tracks.iter().copied().zip(arrays.last_of_track.iter().copied()).collect();
        if state.last_of_track.values().any(|&last| last >= events) {
            return Err("a track's last listen is none of those counted".to_owned());
        }
        let first = events - arrays.recent.len() as u64 / 2;
        for (number, &[user, track]) in (first..).zip(arrays.recent.as_chunks::<2>().0) {
            state.recent.push_back((user, track));
            state.recent_of_track.entry(track).or_default().push_back(number);
            let history = state.users.get_mut(&user).ok_or("a listen of a user without a history")?;
            history.recent.push_back(number);
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::listens::Taste;

    const USER: UserFields =
        UserFields { city: 1, gender: 2, registered_via: 1, age: 30, registered_day: 100.0, expires_day: 465.0 };

    fn track(artist: u32) -> TrackFields {
        TrackFields { artist, language: 1, year: 2012, duration: 200.0, ..TrackFields::UNKNOWN }
    }

    fn click(user: u32, track: u32, kind: u32, target: Option<bool>) -> Click {
        Click { user, track, source: Source { tab: 1, screen: 2, kind }, target }
    }

    /// Artists are the tracks' numbers plus one.
    fn take(state: &mut ClickState, click: Click) {
        state.take(&Described { click, user: &USER, track: &track(click.track + 1) });
    }

    /// The number of that name.
    fn number(state: &ClickState, beyond: Option<Beyond<'_>>, click: Click, name: &str) -> f32 {
        let (mut fields, mut numbers) = ([0; FIELDS], [0.0; NUMBERS]);
        let track = track(click.track + 1);
        describe(state, beyond, &Described { click, user: &USER, track: &track }, &mut fields, &mut numbers);
        let place = number_names().iter().position(|(_, one)| one == name);
        numbers[place.unwrap_or_else(|| panic!("no number {name}"))]
    }

    #[track_caller]
    fn near(found: f32, expected: f32) {
        assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
    }

    /// User 0: track 0 from type 1 and came back, track 1 from type 1 and did not, track 0 from type 2; user 1: track 0.
    fn state() -> ClickState {
        let mut state = ClickState::default();
        take(&mut state, click(0, 0, 1, Some(true)));
        take(&mut state, click(0, 1, 1, Some(false)));
        take(&mut state, click(1, 0, 1, Some(true)));
        take(&mut state, click(0, 0, 2, None));
        state
    }

    #[test]
    fn every_number_has_a_name_and_an_own_one() {
        let mut names: Vec<String> = number_names().into_iter().map(|(_, name)| name).collect();
        assert_eq!(names.len(), NUMBERS);
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NUMBERS);
    }

    #[test]
    fn what_is_known_of_the_user_and_the_track_is_told_as_it_is() {
        let state = ClickState::default();
        let asked = click(0, 4, 1, None);
        for (name, expected) in [
            ("age", 30.0),
            ("registered_day", 100.0),
            ("expires_day", 465.0),
            ("membership_days", 365.0),
            ("track_seconds", 200.0),
            ("track_year", 2012.0),
        ] {
            near(number(&state, None, asked, name), expected);
        }
    }

    #[test]
    fn counts_are_logarithms_of_one_more_than_the_listens_before() {
        let state = state();
        let asked = click(0, 0, 1, None);
        near(number(&state, None, asked, "user_count"), 4f32.ln()); // three listens
        near(number(&state, None, asked, "track_count"), 4f32.ln());
        near(number(&state, None, asked, "artist_count"), 4f32.ln());
        near(number(&state, None, asked, "year_count"), 5f32.ln()); // all four are of 2012
        near(number(&state, None, click(5, 9, 1, None), "user_count"), 0.0);
    }

    #[test]
    fn shares_are_smoothed_by_half_a_listen() {
        let state = state();
        let asked = click(0, 0, 1, None);
        // Two of the user's three listens were from type 1, two of the track's three.
        near(number(&state, None, asked, "user_type_share"), 2.5 / 4.0);
        near(number(&state, None, asked, "track_type_share"), 2.5 / 4.0);
        near(number(&state, None, asked, "user_tab_share"), 3.5 / 4.0);
        near(number(&state, None, asked, "user_artist_share"), 2.5 / 4.0);
        near(number(&state, None, asked, "user_source_share"), 2.5 / 4.0);
        assert!(number(&state, None, click(5, 9, 1, None), "user_type_share").is_nan());
    }

    #[test]
    fn the_profile_is_the_mean_of_one_hot_sources() {
        let state = state();
        let asked = click(0, 7, 1, None);
        near(number(&state, None, asked, "user_type_1"), 2.0 / 3.0);
        near(number(&state, None, asked, "user_type_2"), 1.0 / 3.0);
        near(number(&state, None, asked, "user_tab_1"), 1.0);
    }

    #[test]
    fn windows_count_listens_of_anyone_back_from_now() {
        let mut state = ClickState::default();
        take(&mut state, click(0, 0, 1, None));
        (0..9).for_each(|_| take(&mut state, click(1, 1, 1, None)));
        // The tenth last is still within ten, the eleventh is not.
        near(number(&state, None, click(0, 0, 1, None), "user_10_before"), 2f32.ln());
        take(&mut state, click(1, 1, 1, None));
        near(number(&state, None, click(0, 0, 1, None), "user_10_before"), 0.0);
        near(number(&state, None, click(0, 0, 1, None), "user_25_before"), 2f32.ln());
        near(number(&state, None, click(2, 1, 1, None), "track_25_before"), 11f32.ln());
        near(number(&state, None, click(2, 1, 1, None), "track_till_now"), 11f32.ln());
        (0..LONGEST).for_each(|_| take(&mut state, click(3, 3, 1, None)));
        near(number(&state, None, click(0, 0, 1, None), "user_50000_before"), 0.0);
        near(number(&state, None, click(0, 0, 1, None), "user_till_now"), 2f32.ln());
        near(number(&state, None, click(9, 3, 1, None), "track_50000_before"), 50_001f32.ln());
    }

    #[test]
    fn the_listen_before_tells_how_far_and_what_is_the_same() {
        let state = state();
        let asked = click(0, 0, 2, None);
        near(number(&state, None, asked, "before_gap"), 1f32.ln());
        near(number(&state, None, asked, "before_same_source"), 1.0);
        near(number(&state, None, asked, "before_same_artist"), 1.0);
        near(number(&state, None, asked, "before_since_first"), 5f32.ln());
        near(number(&state, None, asked, "before_track_gap"), 1f32.ln());
        let other = click(1, 1, 2, None);
        near(number(&state, None, other, "before_gap"), 2f32.ln());
        near(number(&state, None, other, "before_same_type"), 0.0);
        near(number(&state, None, other, "before_same_screen"), 1.0);
        near(number(&state, None, other, "before_track_gap"), 3f32.ln());
        assert!(number(&state, None, click(5, 9, 1, None), "before_gap").is_nan());
    }

    #[test]
    fn means_of_targets_are_drawn_to_the_mean_of_all_and_unknown_targets_do_not_count() {
        let state = state();
        // Two of three known targets are positive; the mean of all is drawn to one half by ten.
        let prior = (2.0 + 5.0) / (3.0 + 10.0);
        let asked = click(0, 0, 1, None);
        near(number(&state, None, asked, "user_target"), (1.0 + 5.0 * prior) / (2.0 + 5.0));
        near(number(&state, None, asked, "user_known"), 3f32.ln());
        near(number(&state, None, asked, "track_target"), (2.0 + 5.0 * prior) / (2.0 + 5.0));
        near(number(&state, None, asked, "type_target"), (2.0 + 20.0 * prior) / (3.0 + 20.0));
        near(number(&state, None, click(0, 0, 2, None), "user_type_target"), prior);
        // The target of the last listen becomes known later.
        let mut told = state.clone();
        let late = click(0, 0, 2, Some(false));
        told.learn(&Described { click: late, user: &USER, track: &track(1) }, false);
        near(number(&told, None, asked, "user_count"), 4f32.ln());
        near(number(&told, None, asked, "user_known"), 4f32.ln());
    }

    #[test]
    fn tastes_are_products_of_vectors_and_lengths_are_means() {
        let mut state = state();
        let asked = click(0, 1, 1, None);
        assert!(number(&state, None, asked, "track_taste").is_nan());
        let taste = |length: usize, item: u32| Taste {
            users: vec![0],
            user_vectors: vec![2.0; length],
            items: vec![item],
            item_vectors: vec![0.5; length],
        };
        // The artist of track 1 is 2.
        state.tastes = Arc::new(Tastes { tracks: taste(3, 1), artists: taste(2, 2) });
        near(number(&state, None, asked, "track_taste"), 3.0);
        near(number(&state, None, asked, "artist_taste"), 2.0);
        assert!(number(&state, None, click(1, 1, 1, None), "track_taste").is_nan());
        near(number(&state, None, asked, "user_seconds"), 200.0);
        let long = TrackFields { duration: 260.0, ..track(7) };
        state.take(&Described { click: click(0, 6, 1, None), user: &USER, track: &long });
        near(number(&state, None, asked, "user_seconds"), 215.0); // three of 200 s, one of 260
        near(number(&state, None, asked, "seconds_beyond_users"), -15.0);
    }

    #[test]
    fn the_transductive_variant_counts_everything_and_sees_what_comes_after() {
        let mut backwards = ClickState::default();
        take(&mut backwards, click(0, 0, 2, None));
        take(&mut backwards, click(1, 0, 1, None));
        let after = backwards.side(0, 1);
        let (whole, mut past) = (state(), ClickState::default());
        take(&mut past, click(0, 0, 1, Some(true)));
        let beyond = Some(Beyond { whole: &whole, after: &after });
        let asked = click(0, 1, 1, None);
        near(number(&past, beyond, asked, "user_count"), 4f32.ln());
        near(number(&past, beyond, asked, "user_till_now"), 2f32.ln());
        near(number(&past, beyond, asked, "after_gap"), 2f32.ln());
        near(number(&past, beyond, asked, "after_same_type"), 0.0);
        near(number(&past, beyond, asked, "user_10_after"), 2f32.ln());
        // Targets are of the past alone.
        near(number(&past, beyond, asked, "user_known"), 2f32.ln());
        assert!(number(&past, None, asked, "after_gap").is_nan());
    }

    #[test]
    fn a_state_in_arrays_goes_on_as_the_one_that_it_was() {
        let mut state = state();
        let mut again = ClickState::from_arrays(&state.to_arrays()).expect("whole");
        assert_eq!(again, state);
        for one in [&mut state, &mut again] {
            take(one, click(2, 0, 3, Some(true)));
            take(one, click(0, 1, 3, None));
        }
        assert_eq!(again, state);
        let mut broken = state.to_arrays();
        broken.tallies.pop();
        assert!(ClickState::from_arrays(&broken).is_err());
        let mut broken = state.to_arrays();
        broken.last_of_track[0] = 99;
        assert!(ClickState::from_arrays(&broken).expect_err("beyond the end").contains("track"));
    }
}
