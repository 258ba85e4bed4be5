//! Will this user come back to this track? Probabilities from a clicks bundle and the state of all listens so far.
//!
//! The same functions score offline and over HTTP. The state changes with every listen that a server receives; users and
//! tracks that are newer than the training get rows after those of the bundle, count in the state like all others, and
//! have no embedding of their own.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use time::{Duration, OffsetDateTime};

use crate::bundle::{ClickBundle, ClickMember, Scorer};
use crate::dataset::listens::{
    Click, ClickState, FIELDS, Listen, ListenSource, NUMBERS, SourceValues, TrackFields, UNKNOWN, UserFields, describe,
};

/// The row of an unknown user or track: no listen and no table of embeddings has it.
const NOBODY: u32 = u32::MAX - 1;

impl ClickMember {
    /// Log-odds of rows that [`describe`] describes: `[rows, FIELDS]` and `[rows, NUMBERS]`, calibrated.
    pub fn score(&self, fields: &[u32], numbers: &[f32]) -> Vec<f32> {
        let mut scores = self.raw(fields, numbers);
        scores.iter_mut().for_each(|score| *score = self.slope * *score + self.intercept);
        scores
    }

    /// The same before calibration.
    pub fn raw(&self, fields: &[u32], numbers: &[f32]) -> Vec<f32> {
        match &self.scorer {
            Scorer::Networks(networks) => {
                let inputs = self.encoding.encode(fields, numbers);
                let mut sums = vec![0.0f32; fields.len() / FIELDS];
                for network in networks {
                    let scores = network.score(&inputs.fields, &inputs.numbers);
                    sums.iter_mut().zip(scores).for_each(|(sum, score)| *sum += score);
                }
                let share = 1.0 / networks.len().max(1) as f32;
                sums.iter_mut().for_each(|sum| *sum *= share);
                sums
            }
            Scorer::Trees(trees) => trees.score(&tree_features(&self.encoding.numbers, numbers)),
        }
    }
}

/// Returns the inputs of trees: some of the numbers, as they are.
pub fn tree_features(places: &[usize], numbers: &[f32]) -> Vec<f32> {
    numbers.chunks_exact(NUMBERS).flat_map(|row| places.iter().map(|&place| row[place])).collect()
}

/// Log-odds of an ensemble: the weighted sum of its members', calibrated.
pub fn ensemble(members: &[ClickMember], calibration: (f32, f32), fields: &[u32], numbers: &[f32]) -> Vec<f32> {
    let mut sums = vec![0.0f32; fields.len() / FIELDS];
    for member in members.iter().filter(|member| member.weight > 0.0) {
        let scores = member.score(fields, numbers);
        sums.iter_mut().zip(scores).for_each(|(sum, score)| *sum += member.weight * score);
    }
    sums.iter_mut().for_each(|sum| *sum = calibration.0 * *sum + calibration.1);
    sums
}

/// The name that requests use for all members together.
pub const ENSEMBLE: &str = "ensemble";

/// The probability behind log-odds.
pub fn probability(log_odds: f32) -> f32 {
    1.0 / (1.0 + (-log_odds).exp())
}

/// A request for scores.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Question {
    /// the app's id of the user
    pub user: String,
    /// the app's ids of the tracks
    pub tracks: Vec<String>,
    /// values of the fields of [`SourceValues::NAMES`]
    pub source: [Option<String>; 3],
    /// name of the member to use; none for all of them
    pub model: Option<String>,
}

/// The response to a [`Question`].
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// for each track the probability that the user comes back to it
    pub probabilities: Vec<f32>,
    /// whether nothing is known of the user
    pub unknown_user: bool,
    /// places of the tracks of which nothing is known
    pub unknown_tracks: Vec<usize>,
    /// fields of the source whose value is not known
    pub unknown_sources: Vec<&'static str>,
}

/// A listen that a server receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedListen {
    /// the app's id of the user
    pub user: String,
    /// the app's id of the track
    pub track: String,
    /// values of the fields of [`SourceValues::NAMES`]
    pub source: [Option<String>; 3],
    /// whether it is new, or was received before without its target
    pub is_new: bool,
    /// whether the user came back, if that is new
    pub target: Option<bool>,
    /// when it began
    pub listened_at: OffsetDateTime,
    /// when the transaction began in which the catalog took it
    pub taken_at: OffsetDateTime,
}

/// Longest time from when a transaction takes a listen until the models receive it.
const LONGEST_WAY: Duration = Duration::MINUTE;

/// The listens that came in before a model was loaded.
#[derive(Debug)]
struct CaughtUp {
    /// when the catalog took the last of them
    last: OffsetDateTime,
    /// user, track and time of those that a model may yet receive, and when the catalog took them
    recent: HashMap<(String, String, OffsetDateTime), OffsetDateTime>,
}

impl CaughtUp {
    fn new(listens: &[ObservedListen]) -> Self {
        let last = listens.iter().map(|heard| heard.taken_at).max().unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let recent = listens.iter().filter(|heard| heard.taken_at > last - LONGEST_WAY);
        let recent = recent.map(|heard| (Self::key(heard), heard.taken_at)).collect();
        Self { last, recent }
    }

    fn key(heard: &ObservedListen) -> (String, String, OffsetDateTime) {
        (heard.user.clone(), heard.track.clone(), heard.listened_at)
    }

    /// Returns whether a listen is among them. Times alone do not tell: a transaction that began before others may end
    /// after them.
    fn has(&self, heard: &ObservedListen) -> bool {
        if heard.taken_at > self.last {
            return false;
        }
        let is_old = heard.taken_at <= self.last - LONGEST_WAY;
        is_old || self.recent.get(&Self::key(heard)).is_some_and(|&taken_at| heard.taken_at <= taken_at)
    }
}

/// What changes while a server runs.
#[derive(Debug)]
struct LiveState {
    state: ClickState,
    /// rows of users and tracks that came after the training
    users: HashMap<String, u32>,
    tracks: HashMap<String, u32>,
    /// those that came in before this model was loaded; none until they are read
    caught_up: Option<CaughtUp>,
    /// listens received while those are read, in order
    pending: Vec<ObservedListen>,
}

/// A loaded clicks bundle.
#[derive(Debug)]
pub struct ClickModel {
    bundle: ClickBundle,
    live: RwLock<LiveState>,
}

impl ClickModel {
    /// Takes over a bundle.
    ///
    /// It counts listens once [`ClickModel::catch_up`] has added those since the training.
    pub fn new(mut bundle: ClickBundle) -> Self {
        let state = std::mem::take(&mut bundle.state);
        let (users, tracks, pending) = Default::default();
        let live = LiveState { state, users, tracks, caught_up: None, pending };
        Self { bundle, live: RwLock::new(live) }
    }

    /// Whether the listens since the training are still missing.
    pub fn is_behind(&self) -> bool {
        self.live.read().unwrap_or_else(PoisonError::into_inner).caught_up.is_none()
    }

    /// Says that the listens since the training are about to be read: what was received so far is among them.
    pub fn begin_to_catch_up(&self) {
        self.live.write().unwrap_or_else(PoisonError::into_inner).pending.clear();
    }

    /// Adds the listens between the training and now, in order, and then those that were received meanwhile.
    pub fn catch_up(&self, listens: &[ObservedListen]) {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        if live.caught_up.is_some() {
            return;
        }
        listens.iter().for_each(|heard| self.take(&mut live, heard));
        let pending = std::mem::take(&mut live.pending);
        let caught_up = CaughtUp::new(listens);
        pending.iter().filter(|heard| !caught_up.has(heard)).for_each(|heard| self.take(&mut live, heard));
        live.caught_up = Some(caught_up);
    }

    /// The bundle without its state, which is kept up to date here.
    pub fn bundle(&self) -> &ClickBundle {
        &self.bundle
    }

    /// Names of the members that requests can name.
    pub fn names(&self) -> Vec<&str> {
        let members = self.bundle.members.iter().map(|member| member.name.as_str());
        members.chain((self.bundle.members.len() > 1).then_some(ENSEMBLE)).collect()
    }

    /// Numbers of the values of a source; names of the fields whose value is not known.
    fn source(&self, values: &[Option<String>; 3]) -> (ListenSource, Vec<&'static str>) {
        let (mut numbers, mut unknown) = ([UNKNOWN; 3], Vec::new());
        for field in 0..3 {
            let Some(value) = values[field].as_deref().filter(|value| !value.is_empty()) else { continue };
            match self.bundle.sources.number(field, value) {
                Some(number) => numbers[field] = number,
                None => unknown.push(SourceValues::NAMES[field]),
            }
        }
        let [tab, screen, kind] = numbers;
        (ListenSource { tab, screen, kind }, unknown)
    }

    fn user_fields(&self, row: u32) -> &UserFields {
        self.bundle.user_fields.get(row as usize).unwrap_or(&UserFields::UNKNOWN)
    }

    fn track_fields(&self, row: u32) -> &TrackFields {
        self.bundle.track_fields.get(row as usize).unwrap_or(&TrackFields::UNKNOWN)
    }

    /// Computes probabilities; none if no member has the requested name.
    pub fn answer(&self, question: &Question) -> Option<Answer> {
        let named = question.model.as_deref().filter(|name| *name != ENSEMBLE);
        let member = match named {
            Some(name) => Some(self.bundle.members.iter().find(|member| member.name == name)?),
            None => None,
        };
        let (source, unknown_sources) = self.source(&question.source);
        let count = question.tracks.len();
        let (mut fields, mut numbers) = (vec![0; count * FIELDS], vec![0.0; count * NUMBERS]);
        let mut unknown_tracks = Vec::new();
        let unknown_user;
        {
            let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
            let row = self.bundle.users.row(&question.user).or_else(|| live.users.get(&question.user).copied());
            unknown_user = row.is_none();
            let user = row.unwrap_or(NOBODY);
            for (place, id) in question.tracks.iter().enumerate() {
                let row = self.bundle.tracks.row(id).or_else(|| live.tracks.get(id).copied());
                if row.is_none() {
                    unknown_tracks.push(place);
                }
                let track = row.unwrap_or(NOBODY);
                let listen = Listen {
                    click: Click { user, track, source, target: None },
                    user: self.user_fields(user),
                    track: self.track_fields(track),
                };
                let fields = &mut fields[place * FIELDS..(place + 1) * FIELDS];
                let numbers = &mut numbers[place * NUMBERS..(place + 1) * NUMBERS];
                describe(&live.state, None, &listen, fields, numbers);
            }
        }
        let log_odds = match member {
            Some(member) => member.score(&fields, &numbers),
            None => ensemble(&self.bundle.members, self.bundle.ensemble, &fields, &numbers),
        };
        let probabilities = log_odds.into_iter().map(probability).collect();
        Some(Answer { probabilities, unknown_user, unknown_tracks, unknown_sources })
    }

    /// Adds listens, in order. Until it has caught up it keeps them for then.
    pub fn hear(&self, listens: &[ObservedListen]) {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        match &live.caught_up {
            None => live.pending.extend_from_slice(listens),
            Some(caught_up) => {
                let new: Vec<&ObservedListen> = listens.iter().filter(|heard| !caught_up.has(heard)).collect();
                new.into_iter().for_each(|heard| self.take(&mut live, heard));
            }
        }
    }

    fn take(&self, live: &mut LiveState, heard: &ObservedListen) {
        let LiveState { state, users, tracks, .. } = live;
        let next = (self.bundle.users.len() + users.len()) as u32;
        let user = self.bundle.users.row(&heard.user);
        let user = user.unwrap_or_else(|| *users.entry(heard.user.clone()).or_insert(next));
        let next = (self.bundle.tracks.len() + tracks.len()) as u32;
        let track = self.bundle.tracks.row(&heard.track);
        let track = track.unwrap_or_else(|| *tracks.entry(heard.track.clone()).or_insert(next));
        let (source, _) = self.source(&heard.source);
        let click = Click { user, track, source, target: heard.target };
        let listen = Listen { click, user: self.user_fields(user), track: self.track_fields(track) };
        match (heard.is_new, heard.target) {
            (true, _) => state.take(&listen),
            (false, Some(target)) => state.learn(&listen, target),
            (false, None) => {}
        }
    }
}
