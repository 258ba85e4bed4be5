//! The app's ids of a model's rows: row to id, and id to row.
//!
//! All ids lie one after another in one string, with an array of where each begins. The way back is a hash table of row
//! numbers that compares against that string, so an id is held once and a row costs about five bytes more.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// Ids of rows 0..n.
#[derive(Debug)]
pub struct Vocabulary {
    text: String,
    offsets: Vec<u64>,
    rows: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Vocabulary {
    /// From the ids in order of rows.
    ///
    /// # Errors
    ///
    /// When an id occurs twice, or there are 2³² or more.
    pub fn new<'a>(ids: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut text = String::new();
        let mut offsets = vec![0];
        for id in ids {
            text.push_str(id);
            offsets.push(text.len() as u64);
        }
        Self::from_parts(text, offsets)
    }

    /// From all ids one after another, and where each begins in bytes, with the end: n + 1 values.
    ///
    /// # Errors
    ///
    /// When the two don't fit together, or an id occurs twice.
    pub fn from_parts(text: String, offsets: Vec<u64>) -> Result<Self, String> {
        let in_order =
            offsets.is_sorted() && offsets.first() == Some(&0) && offsets.last() == Some(&(text.len() as u64));
        if !in_order || offsets.iter().any(|&offset| !text.is_char_boundary(offset as usize)) {
            return Err("the offsets do not divide the text".to_owned());
        }
        let length = u32::try_from(offsets.len() - 1).map_err(|_| "too many rows".to_owned())?;
        let mut vocabulary = Self {
            text,
            offsets,
            rows: HashTable::with_capacity(length as usize),
            hasher: DefaultHashBuilder::default(),
        };
        for row in 0..length {
            let Self { text, offsets, rows, hasher } = &mut vocabulary;
            let id = slice(text, offsets, row);
            let entry = rows.entry(
                hasher.hash_one(id),
                |&other| slice(text, offsets, other) == id,
                |&other| hasher.hash_one(slice(text, offsets, other)),
            );
            match entry {
                hashbrown::hash_table::Entry::Vacant(place) => {
                    place.insert(row);
                }
                hashbrown::hash_table::Entry::Occupied(_) => return Err(format!("the id {id:?} occurs twice")),
            }
        }
        Ok(vocabulary)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// True when there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The id of a row.
    ///
    /// # Panics
    ///
    /// When there is no such row.
    pub fn id(&self, row: u32) -> &str {
        slice(&self.text, &self.offsets, row)
    }

    /// The row of an id.
    pub fn row(&self, id: &str) -> Option<u32> {
        self.rows.find(self.hasher.hash_one(id), |&row| self.id(row) == id).copied()
    }

    /// All ids one after another, and where each begins.
    pub fn parts(&self) -> (&str, &[u64]) {
        (&self.text, &self.offsets)
    }
}

fn slice<'a>(text: &'a str, offsets: &[u64], row: u32) -> &'a str {
    &text[offsets[row as usize] as usize..offsets[row as usize + 1] as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_rows_lead_to_each_other() {
        let ids: Vec<String> = (0..1_000).map(|row| format!("track:{}é", row * 7)).collect();
        let vocabulary = Vocabulary::new(ids.iter().map(String::as_str)).expect("distinct");
        for (row, id) in ids.iter().enumerate() {
            assert_eq!(vocabulary.row(id), Some(row as u32));
            assert_eq!(vocabulary.id(row as u32), id);
        }
        assert_eq!(vocabulary.row("track:1"), None);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(Vocabulary::new(["a", "b", "a"].into_iter()).expect_err("twice").contains("\"a\""));
        assert!(Vocabulary::from_parts("ab".to_owned(), vec![0, 3]).is_err());
        assert!(Vocabulary::from_parts("é".to_owned(), vec![0, 1, 2]).is_err());
        assert!(Vocabulary::from_parts(String::new(), vec![]).is_err());
    }
}
