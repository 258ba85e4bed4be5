//! How long a client may keep the server waiting.

use std::time::Duration;

/// The time that a client has left: it shrinks while the server waits for the client, and grows with each byte that moves.
/// Who moves nothing, or less than a least rate, runs out of it.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    most: Duration,
    left: Duration,
    bytes_per_second: f64,
}

impl Patience {
    /// Returns the patience with a client that may pause for `most`, and must move `bytes_per_second` on average.
    pub fn new(most: Duration, bytes_per_second: f64) -> Self {
        Self { most, left: most, bytes_per_second }
    }

    /// Returns how long the server waits now.
    pub fn left(&self) -> Duration {
        self.left
    }

    /// Counts time for which the server waited.
    pub fn waited(&mut self, time: Duration) {
        self.left = self.left.saturating_sub(time);
    }

    /// Counts bytes that moved.
    pub fn moved(&mut self, bytes: usize) {
        let earned = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
        self.left = self.left.saturating_add(earned).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_now_and_then_is_too_slow_and_the_least_rate_is_not() {
        let second = Duration::from_secs(1);
        let mut slow = Patience::new(30 * second, 1_000.0);
        for _ in 0..30 {
            assert!(slow.left() > Duration::ZERO);
            slow.waited(second);
            slow.moved(1);
        }
        assert!(slow.left() < second);
        let mut steady = Patience::new(30 * second, 1_000.0);
        for _ in 0..1_000 {
            steady.waited(10 * second);
            steady.moved(10_000);
        }
        assert_eq!(steady.left(), 30 * second);
        // What is sent in advance does not add up.
        steady.moved(1 << 30);
        steady.waited(30 * second);
        assert_eq!(steady.left(), Duration::ZERO);
    }
}
