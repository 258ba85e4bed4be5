//! Tables of KKBox: the first byte says which one.

use std::io::BufReader;

use segue::import::kkbox::{KkboxBatch, KkboxFile, KkboxRows};
use segue::import::{FormatError, Source};

use crate::rows::{LEAST_PIECE, assert_id, assert_name, assert_refusal, assert_rejects, assert_track, refusal};

/// Reads a table.
pub fn run(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let kinds = [KkboxFile::Members, KkboxFile::Songs, KkboxFile::Recordings, KkboxFile::Train, KkboxFile::Test];
    let file = kinds[usize::from(*kind) % kinds.len()]("table.csv".into());
    let (found, refused) = read(&file, bytes, bytes.len() + LEAST_PIECE);
    for batch in &found {
        assert_rejects(&batch.rejects, bytes.len());
        assert_rows(&batch.rows);
    }
    assert_refusal(refused.as_ref(), bytes.len());
    let (again, refused_again) = read(&file, bytes, LEAST_PIECE + bytes.len() % 7);
    assert_eq!(found, again, "it depends on how the file arrives");
    assert_eq!(refused.is_none(), refused_again.is_none());
}

fn read(file: &KkboxFile, bytes: &[u8], piece: usize) -> (Vec<KkboxBatch>, Option<FormatError>) {
    let mut batches = Vec::new();
    let mut hand_over = |batch| {
        batches.push(batch);
        Ok(())
    };
    let outcome = file.read(Source::new(BufReader::with_capacity(piece, bytes)), &mut hand_over);
    (batches, refusal(outcome))
}

fn assert_rows(rows: &KkboxRows) {
    match rows {
        KkboxRows::Users(users) => {
            for user in users {
                assert_id(user.id.as_str());
                for text in [&user.city, &user.gender, &user.registered_via] {
                    assert_name(text.as_deref());
                }
                assert!(user.age.is_none_or(|age| (1..=74).contains(&age)), "{user:?}");
            }
        }
        KkboxRows::Songs(songs) => {
            for song in songs {
                assert_track(&song.track);
                assert_name(song.language.as_deref());
                song.composers.iter().chain(&song.lyricists).for_each(|name| assert_name(Some(name)));
            }
        }
        KkboxRows::Recordings(recordings) => {
            for recording in recordings {
                assert_track(&recording.track);
                assert_name(recording.isrc.as_deref());
            }
        }
        KkboxRows::Listens(listens) => {
            for listen in listens {
                assert_id(listen.user.as_str());
                assert_id(listen.track.as_str());
                let texts = [&listen.source_system_tab, &listen.source_screen_name, &listen.source_type];
                texts.iter().for_each(|text| assert_name(text.as_deref()));
            }
        }
    }
}
