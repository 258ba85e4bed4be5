//! What a server knows of all listens so far: counts, shares and targets, windows, and each user's last listen.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use super::history::{Click, Listen, ListenSource, UNKNOWN};
use super::taste::Tastes;

/// Widths of the windows in listens of anyone.
pub const WINDOWS: [u64; 6] = [10, 25, 500, 5_000, 10_000, 50_000];
/// The widest of them.
const LONGEST: usize = 50_000;
/// Values of tab, screen and type whose shares of a user's listens are features of their own.
pub(super) const PROFILE: [usize; 3] = [12, 24, 16];
/// A mean of targets is drawn to the mean of all with the weight of so many listens: for what belongs to a user, a track…
pub(super) const FEW: f32 = 5.0;
/// … and for what belongs to many.
const MANY: f32 = 20.0;

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
    pub(super) fn mean(self, prior: f32, weight: f32) -> f32 {
        (self.positive as f32 + weight * prior) / (self.known as f32 + weight)
    }
}

/// 6 bits of what, from 1, 32 bits of whom, 26 bits of which value.
#[inline]
pub(super) fn packed(key: Key, of: u32, value: u32) -> u64 {
    (key as u64 + 1) << 58 | u64::from(of) << 26 | u64::from(value & 0x03ff_ffff)
}

/// The three fields of a source as one number: 6, 8 and 6 bits.
#[inline]
fn source_number(source: ListenSource) -> u32 {
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
    pub source: ListenSource,
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

impl UserHistory {
    /// Listens from each tab (field 0), screen (1) or type (2).
    #[inline]
    pub(super) fn profile_of(&self, field: usize) -> &[u32] {
        let begin = PROFILE[..field].iter().sum();
        &self.profile[begin..][..PROFILE[field]]
    }
}

/// What is known at a moment. See [`super::describe`].
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

/// Makes [`Key`] and [`keys`] from one table: `name: of whom, value, weight` of the tally in means of targets. Stored
/// states count the names in this order.
macro_rules! keys {
    ($click:ident, $user:ident, $track:ident => $($key:ident: $of:expr, $value:expr, $weight:expr;)*) => {
        /// What is tallied.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Key {
            $($key),*
        }

        /// The names of a listen in tallies, in the order of [`Key`], each with its weight in means of targets.
        pub(super) type Keys = [(u64, f32); [$(Key::$key),*].len()];

        /// The keys of a listen.
        pub(super) fn keys(listen: &Listen<'_>) -> Keys {
            let Listen { click: $click, user: $user, track: $track } = *listen;
            [$((packed(Key::$key, $of, $value), $weight)),*]
        }
    };
}

keys! { click, user, track =>
    Track: click.track, 0, FEW;
    Artist: track.artist, 0, MANY;
    Composer: track.composer, 0, MANY;
    Lyricist: track.lyricist, 0, MANY;
    Genre: track.genres[0], 0, MANY;
    Country: track.country, 0, MANY;
    Registrant: track.registrant, 0, MANY;
    Year: track.year, 0, MANY;
    Tab: click.source.tab, 0, MANY;
    Screen: click.source.screen, 0, MANY;
    Type: click.source.kind, 0, MANY;
    Source: source_number(click.source), 0, MANY;
    Language: track.language, 0, MANY;
    City: user.city, 0, MANY;
    Via: user.registered_via, 0, MANY;
    Gender: user.gender, 0, MANY;
    Age: user.age, 0, MANY;
    ExpiryDay: day_number(user.expires_day), 0, MANY;
    RegistrationMonth: day_number(user.registered_day) / 30, 0, MANY;
    UserSource: click.user, source_number(click.source), FEW;
    UserTab: click.user, click.source.tab, FEW;
    UserScreen: click.user, click.source.screen, FEW;
    UserType: click.user, click.source.kind, FEW;
    UserLanguage: click.user, track.language, FEW;
    UserArtist: click.user, track.artist, FEW;
    UserGenre: click.user, track.genres[0], FEW;
    UserYear: click.user, track.year, FEW;
    TrackTab: click.track, click.source.tab, FEW;
    TrackScreen: click.track, click.source.screen, FEW;
    TrackType: click.track, click.source.kind, FEW;
}

/// A day as a value; 0 if it is not known.
fn day_number(day: f32) -> u32 {
    if day.is_nan() { 0 } else { (day as i32 + 100_000).max(1) as u32 }
}

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
    pub source: ListenSource,
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
    pub(super) fn prior(&self) -> f32 {
        self.all.mean(0.5, 10.0)
    }

    /// All listens of a user.
    pub(super) fn user(&self, user: u32) -> Option<&UserHistory> {
        self.users.get(&user)
    }

    #[inline]
    pub(super) fn tally(&self, key: u64) -> Tally {
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
    pub fn take(&mut self, listen: &Listen<'_>) {
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
            source: ListenSource { tab: u32::MAX, ..ListenSource::default() },
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
    pub fn learn(&mut self, listen: &Listen<'_>, target: bool) {
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

/// Most listens, and most of one kind, that a file may say were counted.
const MOST_EVENTS: u64 = 1 << 62;
const MOST_TALLIED: u32 = u32::MAX / 2;

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
        // They are added to.
        if events > MOST_EVENTS || arrays.tallies.iter().any(|&count| count > MOST_TALLIED) {
            return Err("it counts more listens than there can be".to_owned());
        }
        let small = |value: u64| value.min(u64::from(u32::MAX)) as u32;
        let count = |value: u64| value.min(u64::from(MOST_TALLIED)) as u32;
        let mut state = Self {
            events,
            all: Tally { count: count(events), known: count(known), positive: count(positive) },
            ..Self::default()
        };
        for (&key, tally) in arrays.keys.iter().zip(arrays.tallies.as_chunks::<3>().0) {
            let &[all, known, positive] = tally;
            state.tallies.insert(key, Tally { count: all, known, positive });
        }
        for (&user, values) in arrays.users.iter().zip(arrays.histories.chunks_exact(HISTORY)) {
            let mut profile = [0; PROFILE[0] + PROFILE[1] + PROFILE[2]];
            profile.iter_mut().zip(&values[14..]).for_each(|(place, &value)| *place = count(value));
            if values[3] >= events || values[4] > values[3] {
                return Err("a user's last listen is none of those counted".to_owned());
            }
            state.users.insert(
                user,
                UserHistory {
                    tally: Tally { count: count(values[0]), known: count(values[1]), positive: count(values[2]) },
                    last: values[3],
                    first: values[4],
                    source: ListenSource { tab: small(values[5]), screen: small(values[6]), kind: small(values[7]) },
                    track: small(values[8]),
                    artist: small(values[9]),
                    language: small(values[10]),
                    streak: count(values[11]),
                    milliseconds: values[12].min(MOST_EVENTS),
                    timed: count(values[13]),
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
    use crate::dataset::listens::{TrackFields, UserFields};

    fn take(state: &mut ClickState, user: u32, track: u32, kind: u32, target: Option<bool>) {
        let click = Click { user, track, source: ListenSource { tab: 1, screen: 2, kind }, target };
        let fields =
            TrackFields { artist: track + 1, language: 1, year: 2012, duration: 200.0, ..TrackFields::UNKNOWN };
        state.take(&Listen { click, user: &UserFields::UNKNOWN, track: &fields });
    }

    #[test]
    fn a_state_in_arrays_goes_on_as_the_one_that_it_was() {
        let mut state = ClickState::default();
        take(&mut state, 0, 0, 1, Some(true));
        take(&mut state, 0, 1, 1, Some(false));
        take(&mut state, 1, 0, 1, Some(true));
        take(&mut state, 0, 0, 2, None);
        let mut again = ClickState::from_arrays(&state.to_arrays()).expect("whole");
        assert_eq!(again, state);
        for one in [&mut state, &mut again] {
            take(one, 2, 0, 3, Some(true));
            take(one, 0, 1, 3, None);
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
