//! Long arrays of which a request touches few rows.

/// An array as long as a table of the index that is all zeros between requests: writes are recorded, and only
/// those are cleared. Saves clearing megabytes for every request.
///
/// One bit for each row says whether it was written to. The bits of a hundred thousand rows fit the first-level cache, so
/// the question whether a row is new never waits for the row itself: additions to many rows overlap.
#[derive(Debug, Default)]
pub struct Sparse<T> {
    values: Vec<T>,
    /// bit `row % 64` of word `row / 64`: whether the row was touched
    touched: Vec<u64>,
}

impl<T: Copy + Default> Sparse<T> {
    /// Makes room for `length` rows.
    pub fn reserve(&mut self, length: usize) {
        if self.values.len() < length {
            self.values.resize(length, T::default());
            self.touched.resize(length.div_ceil(64), 0);
        }
    }

    /// The value of a row, to be changed.
    #[inline]
    pub fn touch(&mut self, row: u32) -> &mut T {
        self.touched[row as usize / 64] |= 1 << (row % 64);
        &mut self.values[row as usize]
    }

    /// Whether a row was touched.
    #[inline]
    pub fn holds(&self, row: u32) -> bool {
        self.touched[row as usize / 64] >> (row % 64) & 1 == 1
    }

    /// The value of a row.
    #[inline]
    pub fn get(&self, row: u32) -> T {
        self.values[row as usize]
    }

    /// Rows that were touched, rising.
    pub fn touched(&self) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.touched).flat_map(|(word, &bits)| rows_of(word, bits))
    }

    /// All zeros again.
    pub fn clear(&mut self) {
        for (word, bits) in (0..).zip(&mut self.touched) {
            for row in rows_of(word, *bits) {
                self.values[row as usize] = T::default();
            }
            *bits = 0;
        }
    }
}

/// The rows whose bits are set in a word.
fn rows_of(word: u32, mut bits: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let row = (bits != 0).then(|| word * 64 + bits.trailing_zeros());
        bits &= bits.wrapping_sub(1);
        row
    })
}
