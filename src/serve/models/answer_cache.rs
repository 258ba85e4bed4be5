//! Answers that were given lately, for when the same is asked again.
//!
//! Two generations: what is asked for moves to the younger one; once that is full it becomes the older one, and what was
//! not asked for meanwhile goes. So what is asked for often stays, without a list to keep in order.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug)]
struct Generations<K, T> {
    young: HashMap<K, Arc<[T]>>,
    old: HashMap<K, Arc<[T]>>,
    /// items in the younger one
    items: usize,
}

/// Lists of items by what was asked.
#[derive(Debug)]
pub struct Kept<K, T> {
    generations: Mutex<Generations<K, T>>,
    most_items: usize,
}

impl<K: Hash + Eq + Clone, T> Kept<K, T> {
    /// None yet; at most `most_items` items of each generation.
    pub fn new(most_items: usize) -> Self {
        let generations = Generations { young: HashMap::new(), old: HashMap::new(), items: 0 };
        Self { generations: Mutex::new(generations), most_items }
    }

    /// The answer to `key`, if it is there.
    pub fn get(&self, key: &K) -> Option<Arc<[T]>> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = generations.young.get(key) {
            return Some(answer.clone());
        }
        let (key, answer) = generations.old.remove_entry(key)?;
        generations.add(key, answer.clone(), self.most_items);
        Some(answer)
    }

    /// Keeps an answer.
    pub fn put(&self, key: K, answer: Arc<[T]>) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.add(key, answer, self.most_items);
    }
}

impl<K: Hash + Eq, T> Generations<K, T> {
    fn add(&mut self, key: K, answer: Arc<[T]>, most_items: usize) {
        // An empty answer takes room too.
        let items = answer.len() + 1;
        if self.items + items > most_items {
            self.old = std::mem::take(&mut self.young);
            self.items = 0;
        }
        if self.young.insert(key, answer).is_none() {
            self.items += items;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_again_stays_and_the_rest_goes() {
        let kept: Kept<u32, u32> = Kept::new(12);
        let list = |key: u32| -> Arc<[u32]> { vec![key; 3].into() };
        for key in 0..100 {
            assert_eq!(kept.get(&key), None);
            kept.put(key, list(key));
            assert_eq!(kept.get(&0), Some(list(0)), "asked for each time");
        }
        assert_eq!(kept.get(&99), Some(list(99)));
        assert_eq!(kept.get(&50), None);
        let there = (0..100).filter(|key| kept.get(key).is_some()).count();
        assert!(there <= 6, "{there}");
    }
}
