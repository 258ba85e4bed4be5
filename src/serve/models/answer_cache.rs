//! A cache of recent answers, for repeated requests.
//!
//! It has two generations. An entry that is requested moves to the younger one; once that is full, it becomes the older
//! generation, and the previous older one is dropped. So frequent requests stay cached without a list to keep in order.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug)]
struct Generations<K, T> {
    young: HashMap<K, Arc<[T]>>,
    old: HashMap<K, Arc<[T]>>,
    /// items in the younger generation
    items: usize,
}

/// Cached lists of items by request.
#[derive(Debug)]
pub struct AnswerCache<K, T> {
    generations: Mutex<Generations<K, T>>,
    max_items: usize,
}

impl<K: Hash + Eq + Clone, T> AnswerCache<K, T> {
    /// Returns an empty cache for at most `max_items` items of each generation.
    pub fn new(max_items: usize) -> Self {
        let generations = Generations { young: HashMap::new(), old: HashMap::new(), items: 0 };
        Self { generations: Mutex::new(generations), max_items }
    }

    /// Returns the cached answer to `key`.
    pub fn get(&self, key: &K) -> Option<Arc<[T]>> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = generations.young.get(key) {
            return Some(answer.clone());
        }
        let (key, answer) = generations.old.remove_entry(key)?;
        generations.add(key, answer.clone(), self.max_items);
        Some(answer)
    }

    /// Caches an answer.
    pub fn put(&self, key: K, answer: Arc<[T]>) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.add(key, answer, self.max_items);
    }
}

impl<K: Hash + Eq, T> Generations<K, T> {
    fn add(&mut self, key: K, answer: Arc<[T]>, max_items: usize) {
        // An empty answer takes space too.
        let items = answer.len() + 1;
        if self.items + items > max_items {
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
    fn what_is_requested_again_stays_and_the_rest_is_dropped() {
        let cache: AnswerCache<u32, u32> = AnswerCache::new(12);
        let list = |key: u32| -> Arc<[u32]> { vec![key; 3].into() };
        for key in 0..100 {
            assert_eq!(cache.get(&key), None);
            cache.put(key, list(key));
            assert_eq!(cache.get(&0), Some(list(0)), "requested each time");
        }
        assert_eq!(cache.get(&99), Some(list(99)));
        assert_eq!(cache.get(&50), None);
        let cached = (0..100).filter(|key| cache.get(key).is_some()).count();
        assert!(cached <= 6, "{cached}");
    }
}
