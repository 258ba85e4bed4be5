//! Names as sources write them, and what they state.
//!
//! A source states a name only if there is something in it: an empty or blank name, and one that stands for none, say
//! nothing, like one that is missing. Readers of all formats make names here.

/// The text trimmed and without NUL, which PostgreSQL can't hold; none if nothing is left.
pub fn stated(text: &str) -> Option<String> {
    let text = text.trim();
    let text = if text.contains('\0') { text.replace('\0', "").trim().to_owned() } else { text.to_owned() };
    Some(text).filter(|text| !text.is_empty())
}

/// The members of a list that state something; none if no member does.
pub fn stated_list(texts: impl IntoIterator<Item = impl AsRef<str>>) -> Option<Vec<String>> {
    let stated: Vec<String> = texts.into_iter().filter_map(|text| stated(text.as_ref())).collect();
    Some(stated).filter(|stated| !stated.is_empty())
}

/// Whether a name stands for "there is no artist, or nobody knows": "Unknown artist" in any case, and `[unknown]`,
/// `<unknown>` and the like, which taggers and media libraries write. "Unknown" and "Various Artists" are names.
pub fn means_no_artist(name: &str) -> bool {
    means_none(name, &["unknown artist"], &["unknown", "unknown artist", "no artist"])
}

/// Whether a name stands for "on no album": "Unknown album" in any case, `[unknown]`, `[non-album tracks]` and the like.
pub fn means_no_album(name: &str) -> bool {
    means_none(name, &["unknown album"], &["unknown", "unknown album", "no album", "non-album tracks"])
}

/// Whether a name is one of `plain`, or of `bracketed` in brackets, in any case.
fn means_none(name: &str, plain: &[&str], bracketed: &[&str]) -> bool {
    let is_one_of = |name: &str, names: &[&str]| names.iter().any(|other| name.trim().eq_ignore_ascii_case(other));
    let inner = [('[', ']'), ('<', '>'), ('(', ')')]
        .into_iter()
        .find_map(|(open, close)| name.trim().strip_prefix(open)?.strip_suffix(close));
    name.trim().is_empty() || is_one_of(name, plain) || inner.is_some_and(|inner| is_one_of(inner, bracketed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_or_stands_for_none_states_nothing() {
        assert_eq!(stated(" So What\0 ").as_deref(), Some("So What"));
        assert_eq!((stated(""), stated(" \t"), stated("\0 \0")), (None, None, None));
        assert_eq!(stated_list(["", " rock "]), Some(vec!["rock".to_owned()]));
        assert_eq!(stated_list([""]), None);
        for name in ["", " ", "Unknown artist", "UNKNOWN ARTIST", "[unknown]", "<Unknown>", "(unknown artist)"] {
            assert!(means_no_artist(name), "{name:?}");
        }
        for name in ["Unknown", "Various Artists", "Unknown Mortal Orchestra", "[spunge]", "None", "Unknown album"] {
            assert!(!means_no_artist(name), "{name:?}");
        }
        assert!(means_no_album("Unknown Album") && means_no_album("[non-album tracks]") && !means_no_album("Unknown"));
    }
}
