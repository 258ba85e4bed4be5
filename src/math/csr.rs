//! Lists of rows, one after another: row `r` is `items[offsets[r]..offsets[r + 1]]`. Also known as the positions of a
//! sparse binary matrix in compressed sparse row (CSR) form.

use super::Values;

/// Lists of rows of another table.
#[derive(Debug, Clone, PartialEq)]
pub struct Csr {
    offsets: Values<u64>,
    items: Values<u32>,
}

impl Default for Csr {
    fn default() -> Self {
        Self { offsets: vec![0].into(), items: Values::default() }
    }
}

impl Csr {
    /// From where each list begins in `items`, with the end: rows + 1 values.
    ///
    /// # Errors
    ///
    /// When the two don't fit together, or an item is not below `columns`.
    pub fn from_parts(offsets: Values<u64>, items: Values<u32>, columns: usize) -> Result<Self, String> {
        let whole = offsets.is_sorted() && offsets.first() == Some(&0) && offsets.last() == Some(&(items.len() as u64));
        if !whole {
            return Err("the offsets do not divide the items".to_owned());
        }
        if let Some(item) = items.iter().find(|&&item| item as usize >= columns) {
            return Err(format!("there is no row {item}, only {columns}"));
        }
        Ok(Self { offsets, items })
    }

    /// Returns a list that holds a row twice, and that row. Rising lists cost one comparison an item, others are sorted; a
    /// table of all rows would trust their number, which a damaged file may say.
    pub fn repeated(&self) -> Option<(usize, u32)> {
        let mut sorted: Vec<u32> = Vec::new();
        for (number, list) in self.iter().enumerate() {
            let rises = list.array_windows().fold(true, |rises, [left, right]| rises & (left < right));
            if rises {
                continue;
            }
            sorted.clear();
            sorted.extend_from_slice(list);
            sorted.sort_unstable();
            if let Some([row, _]) = sorted.array_windows().find(|[left, right]| left == right) {
                return Some((number, *row));
            }
        }
        None
    }

    /// From lists in order.
    pub fn from_lists<I: IntoIterator<Item = u32>>(lists: impl IntoIterator<Item = I>) -> Self {
        let (mut offsets, mut items) = (vec![0], Vec::new());
        for list in lists {
            items.extend(list);
            offsets.push(items.len() as u64);
        }
        Self { offsets: offsets.into(), items: items.into() }
    }

    /// Groups 0..`of.len()` by what each belongs to, a number below `groups`; rising within a group.
    pub fn group(of: &[u32], groups: usize) -> Self {
        let mut offsets = vec![0u64; groups + 1];
        for &group in of {
            offsets[group as usize + 1] += 1;
        }
        for group in 0..groups {
            offsets[group + 1] += offsets[group];
        }
        let mut next: Vec<u64> = offsets[..groups].to_vec();
        let mut items = vec![0u32; of.len()];
        for (member, &group) in of.iter().enumerate() {
            let place = &mut next[group as usize];
            items[*place as usize] = member as u32;
            *place += 1;
        }
        Self { offsets: offsets.into(), items: items.into() }
    }

    /// For each of `columns` the rows whose lists hold it, rising; a row that holds it twice is there twice.
    pub fn transpose(&self, columns: usize) -> Self {
        self.transpose_with(columns, &vec![(); self.items.len()]).0
    }

    /// The same with what `values` holds for each item, one value an item of all lists, in the order of the new lists.
    pub fn transpose_with<T: Copy + Default>(&self, columns: usize, values: &[T]) -> (Self, Vec<T>) {
        let mut offsets = vec![0u64; columns + 1];
        for &item in self.items.iter() {
            offsets[item as usize + 1] += 1;
        }
        for column in 0..columns {
            offsets[column + 1] += offsets[column];
        }
        let mut next: Vec<u64> = offsets[..columns].to_vec();
        let mut items = vec![0u32; self.items.len()];
        let mut transposed = vec![T::default(); values.len()];
        for row in 0..self.rows() {
            for (item, value) in self.row_with(row, values) {
                let place = &mut next[item as usize];
                items[*place as usize] = row as u32;
                transposed[*place as usize] = value;
                *place += 1;
            }
        }
        (Self { offsets: offsets.into(), items: items.into() }, transposed)
    }

    /// Number of lists.
    #[inline]
    pub fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// One list.
    #[inline]
    pub fn row(&self, row: usize) -> &[u32] {
        &self.items[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }

    /// One list, each item with what `values` holds for it: one value an item of all lists, in their order.
    #[inline]
    pub fn row_with<'a, T: Copy>(&'a self, row: usize, values: &'a [T]) -> impl Iterator<Item = (u32, T)> + 'a {
        let values = &values[self.offsets[row] as usize..self.offsets[row + 1] as usize];
        self.row(row).iter().copied().zip(values.iter().copied())
    }

    /// All lists.
    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        (0..self.rows()).map(|row| self.row(row))
    }

    /// Where each list begins in [`Csr::items`], and the end.
    pub fn offsets(&self) -> &[u64] {
        &self.offsets
    }

    /// All lists one after another.
    pub fn items(&self) -> &[u32] {
        &self.items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposing_turns_lists_of_items_into_lists_of_rows() {
        let lists = Csr::from_lists([vec![2, 0], vec![], vec![0, 3, 0]]);
        let transposed = lists.transpose(4);
        assert_eq!(transposed, Csr::from_lists([vec![0, 2, 2], vec![], vec![0], vec![2]]));
        let (again, values) = lists.transpose_with(4, &['a', 'b', 'c', 'd', 'e']);
        assert_eq!((again, values), (transposed, vec!['b', 'c', 'e', 'a', 'd']));
        let values: Vec<(u32, char)> = lists.row_with(2, &['a', 'b', 'c', 'd', 'e']).collect();
        assert_eq!(values, [(0, 'c'), (3, 'd'), (0, 'e')]);
        assert_eq!(Csr::group(&[1, 0, 1], 3), Csr::from_lists([vec![1], vec![0, 2], vec![]]));
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let parts = |offsets: &[u64], items: &[u32]| {
            Csr::from_parts(offsets.to_vec().into(), items.to_vec().into(), 3).map(|csr| csr.rows())
        };
        assert_eq!(parts(&[0, 1, 3], &[0, 2, 1]), Ok(2));
        assert!(parts(&[0, 2, 1, 3], &[0, 2, 1]).is_err());
        assert!(parts(&[0, 2], &[0, 2, 1]).is_err());
        assert!(parts(&[], &[]).is_err());
        assert!(parts(&[0, 1], &[3]).expect_err("too high").contains("no row 3"));
    }
}
