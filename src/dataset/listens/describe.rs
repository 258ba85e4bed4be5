//! What describes a listen to a model of clicks: fields (numbers of values, to be embedded) and plain numbers.
//!
//! A [`ClickState`] takes listens one after another. [`describe`] describes a listen by what the state knows *before* it
//! takes it: training replays all listens this way, a bundle stores the state at their end, and a server continues from
//! there. There is one path, so a listen scored over HTTP and the same one scored offline have the same numbers.
//!
//! * `causal`, the variant that is served: counts, shares and the previous listen, of the past alone.
//! * `transductive`, as in the competition: counts and shares of all listens, and windows and the *next* listen, too. For
//!   these the listens are replayed backwards: what is before in that direction is after.
//!
//! Both use the targets of the past alone, and none of a part that is scored: a listen whose target is not known is
//! counted and has no other effect.

use super::history::{Listen, UNKNOWN};
use super::schema::{FIELDS, FeatureGroup};
use super::state::{ClickState, FEW, Key, Keys, Neighbour, PROFILE, Side, Tally, UserHistory, WINDOWS, keys, packed};

/// Tallies whose means of targets are features.
const TARGETS: [(Key, &str); 20] = [
    (Key::Track, "track"),
    (Key::Artist, "artist"),
    (Key::Tab, "tab"),
    (Key::Screen, "screen"),
    (Key::Type, "type"),
    (Key::Source, "source"),
    (Key::Language, "language"),
    (Key::Genre, "genre"),
    (Key::Country, "country"),
    (Key::City, "city"),
    (Key::Via, "registered_via"),
    (Key::Gender, "gender"),
    (Key::Age, "age"),
    (Key::ExpiryDay, "expiry_day"),
    (Key::RegistrationMonth, "registration_month"),
    (Key::UserSource, "user_source"),
    (Key::UserTab, "user_tab"),
    (Key::UserScreen, "user_screen"),
    (Key::UserType, "user_type"),
    (Key::UserLanguage, "user_language"),
];
/// Tallies whose counts are features.
const COUNTS: [(Key, &str); 8] = [
    (Key::Track, "track"),
    (Key::Artist, "artist"),
    (Key::Composer, "composer"),
    (Key::Lyricist, "lyricist"),
    (Key::Genre, "genre"),
    (Key::Country, "country"),
    (Key::Registrant, "registrant"),
    (Key::Year, "year"),
];
/// Tallies whose shares of the user's listens are features.
const USER_SHARES: [(Key, &str); 5] = [
    (Key::UserSource, "source"),
    (Key::UserArtist, "artist"),
    (Key::UserLanguage, "language"),
    (Key::UserGenre, "genre"),
    (Key::UserYear, "year"),
];
/// Tallies whose shares of the track's listens are features.
const TRACK_SHARES: [(Key, &str); 3] = [(Key::TrackTab, "tab"), (Key::TrackScreen, "screen"), (Key::TrackType, "type")];

/// A feature of the user's nearest listen on one side.
type NeighbourFeature = (&'static str, fn(&Moment<'_>, &Neighbour) -> f32);

/// How far the user's nearest listen on one side is, what is the same, how popular its track is.
const NEIGHBOUR: [NeighbourFeature; 8] = [
    ("gap", |_, near| (near.gap as f32).ln()),
    ("same_source", |moment, near| flag(near.source == moment.listen.click.source)),
    ("same_screen", |moment, near| flag(near.source.screen == moment.listen.click.source.screen)),
    ("same_type", |moment, near| flag(near.source.kind == moment.listen.click.source.kind)),
    ("same_artist", |moment, near| match [near.artist, moment.listen.track.artist] {
        [UNKNOWN, _] | [_, UNKNOWN] => f32::NAN,
        [near, this] => flag(near == this),
    }),
    ("streak", |moment, near| match near.source == moment.listen.click.source {
        true => (near.streak as f32 + 1.0).ln_1p(),
        false => 0.0,
    }),
    ("since_first", |_, near| log(near.since_first as f64)),
    ("track_count", |moment, near| log(moment.counted.tally(packed(Key::Track, near.track, 0)).count)),
];

/// Makes [`number_names`], [`NUMBERS`] and the function that computes the numbers from one table: `group: "name" = value`,
/// in the order in which stored models count them. A block is repeated for each entry of its list.
macro_rules! numbers {
    ($moment:ident => $(
        $group:ident $(for $index:pat, $item:pat in $list:expr)? => { $($name:literal = $value:expr;)* }
    )*) => {
        /// How many numbers describe a listen; [`number_names`] names them.
        pub const NUMBERS: usize = 0 $(+ [$($name),*].len() $(* $list.len())?)*;

        /// Groups and names of the numbers, in order.
        #[expect(unused_variables, reason = "a name uses some of its entry, the value the rest")]
        pub fn number_names() -> Vec<(FeatureGroup, String)> {
            let mut names = Vec::with_capacity(NUMBERS);
            $(numbers!(@each $(($index, $item) in $list)? => { $(names.push((FeatureGroup::$group, format!($name)));)* });)*
            names
        }

        #[expect(unused_variables, reason = "a name uses some of its entry, the value the rest")]
        fn write_numbers($moment: &Moment<'_>, numbers: &mut [f32]) {
            let mut place = 0;
            $(numbers!(@each $(($index, $item) in $list)? => { $(numbers[place] = $value; place += 1;)* });)*
        }
    };
    (@each => { $($body:tt)* }) => { $($body)* };
    (@each ($index:pat, $item:pat) in $list:expr => { $($body:tt)* }) => {
        for ($index, $item) in $list.into_iter().enumerate() { $($body)* }
    };
}

numbers! { moment =>
    Member => {
        "age" = known(moment.listen.user.age);
        "registered_day" = moment.listen.user.registered_day;
        "expires_day" = moment.listen.user.expires_day;
        "membership_days" = moment.listen.user.expires_day - moment.listen.user.registered_day;
    }
    Track => {
        "track_seconds" = moment.listen.track.duration;
        "track_year" = known(moment.listen.track.year);
    }
    Counts => {
        "user_count" = log(moment.of_user);
    }
    Counts for _, (key, name) in COUNTS => {
        "{name}_count" = log(moment.count(key));
    }
    Shares => {
        "user_tab_share" = share(moment.of_source(0, moment.listen.click.source.tab, Key::UserTab), moment.of_user);
        "user_screen_share" = share(moment.of_source(1, moment.listen.click.source.screen, Key::UserScreen), moment.of_user);
        "user_type_share" = share(moment.of_source(2, moment.listen.click.source.kind, Key::UserType), moment.of_user);
    }
    Shares for _, (key, name) in USER_SHARES => {
        "user_{name}_share" = share(moment.count(key), moment.of_user);
    }
    Shares for _, (key, name) in TRACK_SHARES => {
        "track_{name}_share" = share(moment.count(key), moment.of_track);
    }
    Windows for nth, window in WINDOWS => {
        "user_{window}_before" = log(moment.before.of_user[nth]);
    }
    Windows for nth, window in WINDOWS => {
        "track_{window}_before" = log(moment.before.of_track[nth]);
    }
    Windows for nth, window in WINDOWS => {
        "user_{window}_after" = log(moment.after.of_user[nth]);
    }
    Windows for nth, window in WINDOWS => {
        "track_{window}_after" = log(moment.after.of_track[nth]);
    }
    Windows => {
        "user_till_now" = log(moment.own.count);
        "track_till_now" = log(moment.past.tally(moment.key(Key::Track).0).count);
    }
    Neighbours for _, (name, value) in NEIGHBOUR => {
        "before_{name}" = moment.before.neighbour.as_ref().map_or(f32::NAN, |near| value(moment, near));
    }
    Neighbours => {
        "before_track_gap" = moment.before.track_gap.map_or(f32::NAN, |gap| (gap as f32).ln());
    }
    Neighbours for _, (name, value) in NEIGHBOUR => {
        "after_{name}" = moment.after.neighbour.as_ref().map_or(f32::NAN, |near| value(moment, near));
    }
    Neighbours => {
        "after_track_gap" = moment.after.track_gap.map_or(f32::NAN, |gap| (gap as f32).ln());
    }
    Profile for value, _ in [(); PROFILE[0]] => {
        "user_tab_{value}" = moment.profile(value);
    }
    Profile for value, _ in [(); PROFILE[1]] => {
        "user_screen_{value}" = moment.profile(PROFILE[0] + value);
    }
    Profile for value, _ in [(); PROFILE[2]] => {
        "user_type_{value}" = moment.profile(PROFILE[0] + PROFILE[1] + value);
    }
    Targets => {
        "user_target" = moment.own.mean(moment.prior, FEW);
        "user_known" = log(moment.own.known);
    }
    Targets for nth, (key, name) in TARGETS => {
        "{name}_target" = moment.targets[nth].mean(moment.prior, moment.key(key).1);
        "{name}_known" = log(moment.targets[nth].known);
    }
    Taste => {
        "track_taste" = optional(moment.counted.tastes.tracks.of(moment.listen.click.user, moment.listen.click.track));
        "artist_taste" = optional(moment.counted.tastes.artists.of(moment.listen.click.user, moment.listen.track.artist));
        "user_seconds" = optional(moment.seconds);
        "seconds_beyond_users" = optional(moment.seconds.map(|seconds| moment.listen.track.duration - seconds));
    }
}

#[inline]
fn log(count: impl Into<f64>) -> f32 {
    (count.into() as f32).ln_1p()
}

#[inline]
fn flag(is_so: bool) -> f32 {
    f32::from(u8::from(is_so))
}

#[inline]
fn optional(value: Option<f32>) -> f32 {
    value.unwrap_or(f32::NAN)
}

#[inline]
fn known(value: u32) -> f32 {
    if value == UNKNOWN { f32::NAN } else { value as f32 }
}

/// P(value | user) or P(value | track), smoothed as if half a listen more had been of that value.
#[inline]
fn share(count: u32, all: u32) -> f32 {
    if all > 0 { (count as f32 + 0.5) / (all as f32 + 1.0) } else { f32::NAN }
}

/// A listen with all that its numbers are computed from.
struct Moment<'a> {
    listen: &'a Listen<'a>,
    past: &'a ClickState,
    /// the state that counts and shares are of
    counted: &'a ClickState,
    before: Side,
    after: Side,
    keys: Keys,
    /// the user's listens, of `counted`
    history: Option<&'a UserHistory>,
    /// their number
    of_user: u32,
    /// 1 / their number
    share_of_one: f32,
    /// listens to the track, of `counted`
    of_track: u32,
    /// mean length of their tracks
    seconds: Option<f32>,
    /// the user's listens, of `past`
    own: Tally,
    /// of `past`
    targets: [Tally; TARGETS.len()],
    prior: f32,
}

impl Moment<'_> {
    #[inline]
    fn key(&self, key: Key) -> (u64, f32) {
        self.keys[key as usize]
    }

    #[inline]
    fn count(&self, key: Key) -> u32 {
        self.counted.tally(self.key(key).0).count
    }

    /// How many of the user's listens were from a tab, screen or type.
    fn of_source(&self, field: usize, value: u32, key: Key) -> u32 {
        let Some(history) = self.history else { return 0 };
        history.profile_of(field).get(value as usize).copied().unwrap_or_else(|| self.count(key))
    }

    /// The share of the user's listens that were from one of the tabs, screens and types, one after another.
    #[inline]
    fn profile(&self, value: usize) -> f32 {
        self.history.map_or(f32::NAN, |history| history.profile[value] as f32 * self.share_of_one)
    }
}

/// What is known beyond the past, in the transductive variant.
#[derive(Debug, Clone, Copy)]
pub struct Hindsight<'a> {
    /// the state after all listens
    pub whole: &'a ClickState,
    /// what lies after the listen
    pub after: &'a Side,
}

/// Describes a listen by what `past` knows before it takes it. `fields` has [`FIELDS`] values, `numbers` has [`NUMBERS`];
/// what is not known is 0 in the former and not a number in the latter.
pub fn describe(
    past: &ClickState,
    hindsight: Option<Hindsight<'_>>,
    listen: &Listen<'_>,
    fields: &mut [u32],
    numbers: &mut [f32],
) {
    let Listen { click, user, track } = *listen;
    let before = past.side(click.user, click.track);
    let after = hindsight.map(|hindsight| *hindsight.after).unwrap_or_default();
    let counted = hindsight.map_or(past, |hindsight| hindsight.whole);
    let source = click.source;
    let value_of = |side: &Side, value: fn(&Neighbour) -> u32| side.neighbour.as_ref().map_or(UNKNOWN, value);
    let values: [u32; FIELDS] = [
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
    ];
    fields.copy_from_slice(&values);

    let history = counted.user(click.user);
    let of_user = history.map_or(0, |history| history.tally.count);
    let keys = keys(listen);
    let timed = history.filter(|history| history.timed > 0);
    let moment = Moment {
        listen,
        past,
        counted,
        before,
        after,
        keys,
        history,
        of_user,
        share_of_one: 1.0 / of_user.max(1) as f32,
        of_track: counted.tally(keys[0].0).count,
        seconds: timed.map(|history| (history.milliseconds as f64 / 1e3 / f64::from(history.timed)) as f32),
        own: past.user(click.user).map_or(Tally::default(), |history| history.tally),
        targets: TARGETS.map(|(key, _)| past.tally(keys[key as usize].0)),
        prior: past.prior(),
    };
    write_numbers(&moment, numbers);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::dataset::listens::taste::{Taste, Tastes};
    use crate::dataset::listens::{Click, ListenSource, TrackFields, UserFields};

    const USER: UserFields =
        UserFields { city: 1, gender: 2, registered_via: 1, age: 30, registered_day: 100.0, expires_day: 465.0 };

    fn track(artist: u32) -> TrackFields {
        TrackFields { artist, language: 1, year: 2012, duration: 200.0, ..TrackFields::UNKNOWN }
    }

    fn click(user: u32, track: u32, kind: u32, target: Option<bool>) -> Click {
        Click { user, track, source: ListenSource { tab: 1, screen: 2, kind }, target }
    }

    /// Artists are the tracks' numbers plus one.
    fn take(state: &mut ClickState, click: Click) {
        state.take(&Listen { click, user: &USER, track: &track(click.track + 1) });
    }

    /// The number of that name.
    fn number(state: &ClickState, beyond: Option<Hindsight<'_>>, click: Click, name: &str) -> f32 {
        let (mut fields, mut numbers) = ([0; FIELDS], [0.0; NUMBERS]);
        let track = track(click.track + 1);
        describe(state, beyond, &Listen { click, user: &USER, track: &track }, &mut fields, &mut numbers);
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
        (0..50_000).for_each(|_| take(&mut state, click(3, 3, 1, None)));
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
        told.learn(&Listen { click: late, user: &USER, track: &track(1) }, false);
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
        state.take(&Listen { click: click(0, 6, 1, None), user: &USER, track: &long });
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
        let beyond = Some(Hindsight { whole: &whole, after: &after });
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
}
