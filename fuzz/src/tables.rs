//! Tables of ratings: the first byte says which kind.

use std::io::BufReader;

use segue::catalog::RatingScale;
use segue::import::{FormatError, ParsedRatings, RatingsFile, Source};

use crate::rows::{LEAST_PIECE, assert_id, assert_refusal, assert_rejects, assert_track, refusal};

const SCALE: RatingScale = RatingScale { lowest: 0.5, highest: 5.0 };

/// Reads a table.
pub fn run(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let kinds = [RatingsFile::Movies, RatingsFile::Ratings, RatingsFile::Item, RatingsFile::Data, RatingsFile::Table];
    let file = kinds[usize::from(*kind) % kinds.len()]("table.csv".into());
    let (found, refused) = read(&file, bytes, bytes.len() + LEAST_PIECE);
    assert_rejects(&found.rejects, bytes.len());
    found.tracks.iter().for_each(assert_track);
    for rating in &found.ratings {
        assert_id(rating.user.as_str());
        assert_id(rating.track.as_str());
        assert!((SCALE.lowest..=SCALE.highest).contains(&rating.rating), "{rating:?}");
        assert!((1..=9_999).contains(&rating.rated_at.year()), "{rating:?}");
    }
    assert_refusal(refused.as_ref(), bytes.len());
    let (again, refused_again) = read(&file, bytes, LEAST_PIECE + bytes.len() % 7);
    assert_eq!((found.tracks, found.rejects), (again.tracks, again.rejects));
    assert_eq!(found.ratings.len(), again.ratings.len());
    assert_eq!(refused.is_none(), refused_again.is_none());
}

fn read(file: &RatingsFile, bytes: &[u8], piece: usize) -> (ParsedRatings, Option<FormatError>) {
    let (parsed, outcome) = file.parse(Source::new(BufReader::with_capacity(piece, bytes)), SCALE);
    (parsed, refusal(outcome))
}
