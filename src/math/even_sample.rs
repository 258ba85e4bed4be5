//! A few of many, from all over.

/// At most `most` of the items, at even distances from the first on.
pub fn even_sample<T>(items: &[T], most: usize) -> impl Iterator<Item = &T> {
    items.iter().step_by(items.len().div_ceil(most).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_than_asked_for_and_all_where_there_are_few() {
        let items: Vec<usize> = (0..10).collect();
        let sample = |most: usize| even_sample(&items, most).copied().collect::<Vec<usize>>();
        assert_eq!(sample(4), [0, 3, 6, 9]);
        assert_eq!(sample(3), [0, 4, 8]);
        assert_eq!(sample(10), items);
        assert_eq!(sample(50), items);
        assert_eq!(even_sample(&items[..0], 3).count(), 0);
    }
}
