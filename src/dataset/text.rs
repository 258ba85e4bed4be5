//! Titles and names as text to match: normalized, and searched by the character n-grams they have in common.

use std::collections::HashMap;

use unicode_normalization::UnicodeNormalization;

use crate::math::top_k::{Best, add_up_rows, sort_best};
use crate::math::{Csr, Values};

/// Lengths of the n-grams, in characters.
const GRAM_LENGTHS: std::ops::RangeInclusive<usize> = 2..=5;
/// Longer text is truncated: the rest of a title of thousands of characters adds nothing.
const LONGEST: usize = 200;

/// Returns the text in lower case, without punctuation, words separated by one space. Equivalent spellings of Unicode are
/// one (NFKC), so that a title matches whether its accents are characters of their own or not. Each emoji is a word of its
/// own; its variations (skin, presentation) are dropped.
pub fn normalise(text: &str) -> String {
    let mut normalised = String::with_capacity(text.len().min(4 * LONGEST));
    let mut push_space = false;
    for character in text.nfkc().flat_map(char::to_lowercase).take(LONGEST) {
        if character.is_alphanumeric() {
            if push_space && !normalised.is_empty() {
                normalised.push(' ');
            }
            push_space = false;
            normalised.push(character);
        } else if is_symbol(character) {
            if !normalised.is_empty() {
                normalised.push(' ');
            }
            normalised.push(character);
            push_space = true;
        } else if character.is_whitespace() || character == '-' || character == '_' || character == '/' {
            push_space = true;
        }
    }
    normalised
}

/// Arrows, dingbats, emoji: signs that people put into titles for what they mean.
fn is_symbol(character: char) -> bool {
    let code = character as u32;
    let modifier = (0x1F3FB..=0x1F3FF).contains(&code) || (0xE0000..=0xE0FFF).contains(&code);
    !modifier && ((0x2190..=0x2BFF).contains(&code) || (0x1F000..=0x1FAFF).contains(&code))
}

/// What a text is taken apart into.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unit {
    /// character n-grams: finds what is spelled alike
    #[default]
    Gram,
    /// whole words: a smaller index for longer lists
    Word,
}

impl Unit {
    fn counts(self, normalised: &str) -> HashMap<u64, f32> {
        match self {
            Self::Gram => grams(normalised),
            Self::Word => words(normalised),
        }
    }
}

/// The words of a normalized text as hashes, with how often each occurs.
fn words(normalised: &str) -> HashMap<u64, f32> {
    let mut counts = HashMap::new();
    for word in normalised.split(' ').filter(|word| !word.is_empty()) {
        let characters: Vec<char> = word.chars().collect();
        *counts.entry(hash(&characters)).or_insert(0.0) += 1.0;
    }
    counts
}

/// The n-grams of a normalized text as hashes, with how often each occurs. Words are padded with a space at both ends,
/// and no n-gram reaches over a word's end, so that beginnings and ends of words count.
fn grams(normalised: &str) -> HashMap<u64, f32> {
    let mut counts = HashMap::new();
    let mut padded: Vec<char> = Vec::new();
    for word in normalised.split(' ').filter(|word| !word.is_empty()) {
        padded.clear();
        padded.push(' ');
        padded.extend(word.chars());
        padded.push(' ');
        for length in GRAM_LENGTHS {
            for gram in padded.windows(length.min(padded.len())) {
                *counts.entry(hash(gram)).or_insert(0.0) += 1.0;
            }
            if length >= padded.len() {
                break;
            }
        }
    }
    counts
}

/// FNV-1a: the hashes are stored, so they must not depend on the program's version.
fn hash(gram: &[char]) -> u64 {
    gram.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &character| {
        (hash ^ u64::from(character as u32)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Texts of rows 0..n, one after another.
#[derive(Debug, Clone, PartialEq)]
pub struct Texts {
    bytes: Values<u8>,
    offsets: Values<u64>,
}

impl Texts {
    /// From texts in order.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut bytes, mut offsets) = (Vec::new(), vec![0]);
        for text in texts {
            bytes.extend_from_slice(text.as_bytes());
            offsets.push(bytes.len() as u64);
        }
        Self { bytes: bytes.into(), offsets: offsets.into() }
    }

    /// From all texts as UTF-8, and where each begins in bytes, with the end: n + 1 values.
    ///
    /// # Errors
    ///
    /// When the two don't fit together, or it is not UTF-8.
    pub fn from_parts(bytes: Values<u8>, offsets: Values<u64>) -> Result<Self, String> {
        let text = std::str::from_utf8(&bytes).map_err(|error| error.to_string())?;
        let whole = offsets.is_sorted() && offsets.first() == Some(&0) && offsets.last() == Some(&(text.len() as u64));
        if !whole || offsets.iter().any(|&offset| !text.is_char_boundary(offset as usize)) {
            return Err("the offsets do not divide the text".to_owned());
        }
        Ok(Self { bytes, offsets })
    }

    /// All texts as UTF-8, and where each begins.
    pub fn parts(&self) -> (&[u8], &[u64]) {
        (&self.bytes, &self.offsets)
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One text.
    pub fn get(&self, row: u32) -> &str {
        let bytes = &self.bytes[self.offsets[row as usize] as usize..self.offsets[row as usize + 1] as usize];
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

/// If a query's terms occur in less than one document of this many, only those documents are visited.
const FEW: usize = 16;

/// Documents to be found by what they have in common with a text: tf-idf with sublinear term frequency, vectors of length 1, cosine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TextIndex {
    /// what texts are taken apart into
    pub unit: Unit,
    /// hash of each n-gram or word (all called terms here), rising
    pub terms: Values<u64>,
    /// for each term the documents that hold it
    pub postings: Csr,
    /// weight of each posting
    pub weights: Values<f32>,
    /// inverse document frequency of each term
    pub idf: Values<f32>,
    /// number of documents
    pub documents: usize,
}

impl TextIndex {
    /// From normalized texts.
    pub fn new<'a>(unit: Unit, texts: impl Iterator<Item = &'a str>) -> Self {
        let mut entries: Vec<(u64, u32, f32)> = Vec::new();
        let mut documents = 0;
        for text in texts {
            entries.extend(unit.counts(text).into_iter().map(|(term, count)| (term, documents, 1.0 + count.ln())));
            documents += 1;
        }
        entries.sort_unstable_by_key(|&(term, document, _)| (term, document));
        let (mut hashes, mut idf, mut lists) = (Vec::new(), Vec::new(), Vec::new());
        let mut norms = vec![0.0f32; documents as usize];
        for group in entries.chunk_by_mut(|left, right| left.0 == right.0) {
            let weight = ((1.0 + documents as f32) / (1.0 + group.len() as f32)).ln() + 1.0;
            for (_, document, value) in group.iter_mut() {
                *value *= weight;
                norms[*document as usize] += *value * *value;
            }
            hashes.push(group[0].0);
            idf.push(weight);
            lists.push(group.iter().map(|entry| entry.1).collect::<Vec<u32>>());
        }
        let weights: Vec<f32> =
            entries.iter().map(|&(_, document, value)| value / norms[document as usize].sqrt()).collect();
        Self {
            unit,
            terms: hashes.into(),
            postings: Csr::from_lists(lists),
            weights: weights.into(),
            idf: idf.into(),
            documents: documents as usize,
        }
    }

    /// The documents that have most in common with a normalized text, and the cosine: best first, at most `limit`.
    pub fn search(&self, normalised: &str, limit: usize) -> Vec<(u32, f32)> {
        let mut query: Vec<(usize, f32)> = Vec::new();
        for (term, count) in self.unit.counts(normalised) {
            if let Ok(place) = self.terms.binary_search(&term) {
                query.push((place, (1.0 + count.ln()) * self.idf[place]));
            }
        }
        // The order of additions must not depend on a hash map's.
        query.sort_unstable_by_key(|&(place, _)| place);
        let norm: f32 = query.iter().map(|(_, value)| value * value).sum();
        let held: usize = query.iter().map(|&(place, _)| self.postings.row(place).len()).sum();
        let parts = query.into_iter().flat_map(|(place, value)| {
            let value = value / norm.sqrt();
            self.postings.row_with(place, &self.weights).map(move |(document, weight)| (document, value * weight))
        });
        let mut found: Vec<(u32, f32)>;
        if held * FEW < self.documents {
            found = parts.collect();
            add_up_rows(&mut found);
        } else {
            let mut scores = vec![0.0f32; self.documents];
            parts.for_each(|(document, part)| scores[document as usize] += part);
            let mut best = Best::new(limit, f32::MIN_POSITIVE);
            (0..).zip(scores).for_each(|(document, score)| best.push(document, score));
            found = best.finish();
        }
        sort_best(&mut found, limit);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_that_people_would_call_the_same_are_the_same() {
        for (title, expected) in [
            ("  Chill-Out  VIBES!! ", "chill out vibes"),
            ("90's", "90s"),
            ("Workout💪🏽💪", "workout 💪 💪"),
            ("❤️", "❤"),
            ("Été", "été"),
            ("E\u{301}te\u{301}", "été"),
            ("Ｃａｆé ﬁne", "café fine"),
            ("...", ""),
        ] {
            assert_eq!(normalise(title), expected, "{title:?}");
        }
        assert!(normalise(&"🔥".repeat(10_000)).chars().count() <= 2 * LONGEST);
    }

    #[test]
    fn the_nearest_texts_share_most_n_grams() {
        let texts = ["country", "old country", "rock", "🔥"];
        let index = TextIndex::new(Unit::Gram, texts.iter().copied());
        let found = index.search("country", 10);
        assert_eq!(found.iter().map(|found| found.0).collect::<Vec<u32>>(), [0, 1]);
        assert!((found[0].1 - 1.0).abs() < 1e-5);
        assert_eq!(index.search("countr", 1)[0].0, 0);
        assert_eq!(index.search("🔥 🔥", 5)[0].0, 3);
        assert!(index.search("", 5).is_empty() && index.search("xyz", 5).is_empty());
        let words = TextIndex::new(Unit::Word, texts.iter().copied());
        assert!(words.search("countr", 1).is_empty());
        assert_eq!(words.search("old rock", 5).iter().map(|found| found.0).collect::<Vec<u32>>(), [2, 1]);
    }
}
