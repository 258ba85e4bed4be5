//! Tables of ratings: the first byte says which kind.

use std::io::BufReader;

use segue::catalog::RatingScale;
use segue::import::ratings::Reader;
use segue::import::{ParsedRatings, RatingsFile, ReadError, Source};

use crate::rows::{LEAST_PIECE, assert_id, assert_rejects, assert_track};

const SCALE: RatingScale = RatingScale { lowest: 0.5, highest: 5.0 };

/// Reads a table.
pub fn run(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let kinds = [RatingsFile::Movies, RatingsFile::Ratings, RatingsFile::Item, RatingsFile::Data, RatingsFile::Table];
    let file = kinds[usize::from(*kind) % kinds.len()]("table.csv".into());
    let (found, outcome) = read(&file, bytes, bytes.len() + LEAST_PIECE);
    assert_rejects(&found.rejects, bytes.len());
    found.tracks.iter().for_each(assert_track);
    for rating in &found.ratings {
        assert_id(rating.user.as_str());
        assert_id(rating.track.as_str());
        assert!((SCALE.lowest..=SCALE.highest).contains(&rating.rating), "{rating:?}");
        assert!((1..=9_999).contains(&rating.rated_at.year()), "{rating:?}");
    }
    match &outcome {
        Ok(()) => {}
        Err(ReadError::Stopped) => panic!("nothing stops it"),
        Err(ReadError::Format(error)) => {
            assert!(error.offset <= bytes.len() as u64, "{error:?}");
            assert!(!error.reason.is_empty());
        }
    }
    let (again, outcome_again) = read(&file, bytes, LEAST_PIECE + bytes.len() % 7);
    assert_eq!((found.tracks, found.rejects), (again.tracks, again.rejects));
    assert_eq!(found.ratings.len(), again.ratings.len());
    assert_eq!(outcome.is_ok(), outcome_again.is_ok());
}

fn read(file: &RatingsFile, bytes: &[u8], piece: usize) -> (ParsedRatings, Result<(), ReadError>) {
    let mut parsed = ParsedRatings::default();
    let mut hand_over = |batch: ParsedRatings| {
        parsed.tracks.extend(batch.tracks);
        parsed.ratings.extend(batch.ratings);
        parsed.rejects.extend(batch.rejects);
        Ok(())
    };
    let mut reader = Reader::new(file.path(), SCALE, &mut hand_over);
    let source = Source::new(BufReader::with_capacity(piece, bytes));
    let outcome = file.read(source, &mut reader);
    let outcome = reader.flush().and(outcome);
    (parsed, outcome)
}
