//! Tracks found by what people call them: artist and title in any order, or the title alone, whatever the case and the
//! punctuation. "Come Together" is found as "Come Together - Remastered 2009" where no track is called just so.

use super::normalise;
use crate::math::top_k::sort_best;

/// Characters of the pieces by which names are compared that are not the same.
const PIECE: usize = 3;

/// Rows of tracks that a query matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrackMatches {
    /// Tracks of one artist and title, additions aside; several where a catalog has it several times, in order of rows.
    Track(Vec<u32>),
    /// Tracks of this title by different artists, in order of rows.
    Several(Vec<u32>),
    /// None; those whose names have most in common with the query, best first.
    Nearest(Vec<u32>),
}

/// What a track is called, normalized.
#[derive(Debug, Default)]
struct Name {
    artist: String,
    title: String,
    /// length of the title without what was added to it, in bytes of `title`
    bare: usize,
}

impl Name {
    fn new(title: &str, artist: &str) -> Self {
        let addition = [" (", " [", " - "].iter().filter_map(|mark| title.find(mark)).min();
        let bare = normalise(&title[..addition.unwrap_or(title.len())]);
        let title = normalise(title);
        // A title that is nothing but an addition is that.
        let bare = if bare.is_empty() || !title.starts_with(&bare) { title.len() } else { bare.len() };
        Self { artist: normalise(artist), title, bare }
    }

    fn bare_title(&self) -> &str {
        &self.title[..self.bare]
    }
}

/// Names of rows 0..n.
#[derive(Debug, Default)]
pub struct TrackFinder {
    names: Vec<Name>,
}

impl TrackFinder {
    /// From titles and artists in order of rows; rows without either can't be found.
    pub fn new<'a>(names: impl Iterator<Item = Option<(&'a str, &'a str)>>) -> Self {
        let name = |name: Option<(&str, &str)>| name.map(|(title, artist)| Name::new(title, artist));
        Self { names: names.map(|one| name(one).unwrap_or_default()).collect() }
    }

    /// What `query` means; of the nearest names at most `limit`.
    pub fn find(&self, query: &str, limit: usize) -> TrackMatches {
        // A dash between words needs no blanks around it.
        let query = normalise(&query.replace(['–', '—'], " "));
        if query.is_empty() {
            return TrackMatches::Nearest(Vec::new());
        }
        let rows = |matches: &dyn Fn(&Name) -> bool| -> Vec<u32> {
            let named = (0..).zip(&self.names).filter(|(_, name)| !name.title.is_empty());
            named.filter(|(_, name)| matches(name)).map(|(row, _)| row).collect()
        };
        let is_pair = |left: &str, right: &str| {
            query.strip_prefix(left).and_then(|rest| rest.strip_prefix(' ')).is_some_and(|rest| rest == right)
        };
        let is_track = |artist: &str, title: &str| is_pair(artist, title) || is_pair(title, artist);
        // The first way that finds any counts.
        let ways: [&dyn Fn(&Name) -> bool; 4] = [
            &|name| is_track(&name.artist, &name.title),
            &|name| is_track(&name.artist, name.bare_title()),
            &|name| name.title == query,
            &|name| name.bare_title() == query,
        ];
        let found = ways.into_iter().map(rows).find(|rows| !rows.is_empty()).unwrap_or_default();
        match found.split_first() {
            None => TrackMatches::Nearest(self.nearest(&query, limit)),
            Some((&first, others)) => {
                let key = |row: u32| {
                    let name = &self.names[row as usize];
                    (&name.artist, name.bare_title())
                };
                // Tracks without an artist have none in common.
                let is_same = |&row: &u32| key(row) == key(first) && !key(row).0.is_empty();
                if others.iter().all(is_same) { TrackMatches::Track(found) } else { TrackMatches::Several(found) }
            }
        }
    }

    /// Rows whose names share most pieces with `query`; a name that has all of them and more is nearer than one that
    /// lacks some.
    fn nearest(&self, query: &str, limit: usize) -> Vec<u32> {
        let wanted = pieces(query);
        let mut scored: Vec<(u32, f32)> = Vec::new();
        for (row, Name { artist, title, .. }) in (0..).zip(&self.names) {
            let name = pieces(&format!("{artist} {title}"));
            let common = in_common(&wanted, &name) as f32;
            if common > 0.0 {
                let covered = common / wanted.len() as f32;
                scored.push((row, 0.75 * covered + 0.25 * common / name.len() as f32));
            }
        }
        sort_best(&mut scored, limit);
        scored.into_iter().map(|(row, _)| row).collect()
    }
}

/// The pieces of every word with a blank at either end, in order.
fn pieces(normalised: &str) -> Vec<[char; PIECE]> {
    let mut pieces = Vec::with_capacity(normalised.len() + 2);
    let mut word: Vec<char> = Vec::new();
    for text in normalised.split(' ') {
        word.clear();
        word.push(' ');
        word.extend(text.chars());
        word.push(' ');
        pieces.extend(word.windows(PIECE).filter_map(|piece| <[char; PIECE]>::try_from(piece).ok()));
    }
    pieces.sort_unstable();
    pieces
}

/// How many of two ordered lists are in both.
fn in_common<T: Ord>(left: &[T], right: &[T]) -> usize {
    let (mut count, mut right) = (0, right.iter().peekable());
    for item in left {
        while right.next_if(|other| *other < item).is_some() {}
        if right.next_if(|other| *other == item).is_some() {
            count += 1;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finder() -> TrackFinder {
        let names = [
            ("So What", "Miles Davis"),
            ("So What", "P!nk"),
            ("Naima", "John Coltrane"),
            ("Naima", "John Coltrane"),
            ("Come Together - Remastered 2009", "The Beatles"),
            ("Together", "Somebody Else"),
        ];
        TrackFinder::new(names.into_iter().map(Some).chain([None]))
    }

    #[test]
    fn artist_and_title_are_found_in_either_order_whatever_the_case_and_the_punctuation() {
        for query in ["Miles Davis – So What", "miles davis-so what?", "SO WHAT, miles davis", "Miles Davis–So What"]
        {
            assert_eq!(finder().find(query, 5), TrackMatches::Track(vec![0]), "{query}");
        }
        assert_eq!(finder().find("p!nk - so what", 5), TrackMatches::Track(vec![1]));
        assert_eq!(finder().find("Pnk So What", 5), TrackMatches::Track(vec![1]));
    }

    #[test]
    fn a_title_alone_is_enough_when_it_is_one_artists() {
        assert_eq!(finder().find("naima", 5), TrackMatches::Track(vec![2, 3]));
        assert_eq!(finder().find("So What", 5), TrackMatches::Several(vec![0, 1]));
    }

    #[test]
    fn what_was_added_to_a_title_need_not_be_said() {
        assert_eq!(finder().find("the beatles – come together", 5), TrackMatches::Track(vec![4]));
        assert_eq!(finder().find("come together", 5), TrackMatches::Track(vec![4]));
        assert_eq!(finder().find("come together remastered 2009", 5), TrackMatches::Track(vec![4]));
        assert_eq!(finder().find("Together", 5), TrackMatches::Track(vec![5]));
    }

    #[test]
    fn where_nothing_is_called_so_the_nearest_names_are_given() {
        let nearest = |query: &str| match finder().find(query, 2) {
            TrackMatches::Nearest(rows) => rows,
            other => panic!("{other:?}"),
        };
        assert_eq!(nearest("Beatles – Come Togther")[0], 4);
        assert_eq!(nearest("Jon Coltrain Naima"), [2, 3]);
        assert!(nearest("").is_empty() && nearest("?!").is_empty() && nearest("xyzzy").is_empty());
    }
}
