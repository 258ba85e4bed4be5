//! Repeats transactions that gave way to another writer: PostgreSQL ended them because of a deadlock, a lock that took too
//! long, or a row that another one added or deleted in between.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use tracing::debug;

use super::error::CatalogError;

/// Most attempts of a transaction.
const ATTEMPTS: u32 = 6;
/// Most attempts that end with a lock that was not free in time: each takes as long as a request waits for a lock.
const LOCK_TIMEOUTS: u32 = 2;
/// Mean pause before the second attempt; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(20);

/// Why a transaction gave way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contention {
    /// a deadlock, or a row that another writer added or deleted in between
    Raced,
    /// a lock that was not free in time
    LockTimeout,
}

/// An error that says whether the transaction would succeed if it were repeated.
pub(super) trait GivesWay: std::fmt::Display {
    /// Returns why the transaction gave way to another writer, if it did.
    fn contention(&self) -> Option<Contention>;
}

impl GivesWay for CatalogError {
    fn contention(&self) -> Option<Contention> {
        let code = match self {
            Self::Sql(sqlx::Error::Database(error)) => error.code(),
            Self::Raced => return Some(Contention::Raced),
            _ => None,
        };
        match code.as_deref() {
            Some("55P03") => Some(Contention::LockTimeout),
            // Deadlocks and serialization failures; foreign keys and unique values that another writer broke.
            Some("40P01" | "40001" | "23503" | "23505") => Some(Contention::Raced),
            _ => None,
        }
    }
}

/// Counts the attempts of one transaction.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    failed: u32,
    lock_timeouts: u32,
}

impl Attempts {
    /// Returns whether to repeat the transaction that ended with `error`, after a pause of random length: two that gave way
    /// to each other must not meet again.
    pub(super) async fn again(&mut self, error: &impl GivesWay) -> bool {
        let Some(contention) = error.contention() else { return false };
        self.failed += 1;
        self.lock_timeouts += u32::from(contention == Contention::LockTimeout);
        if self.failed >= ATTEMPTS || self.lock_timeouts >= LOCK_TIMEOUTS {
            return false;
        }
        debug!(attempt = self.failed, "repeating a transaction: {error}");
        let share = f64::from(RandomState::new().build_hasher().finish() as u32) / f64::from(u32::MAX);
        tokio::time::sleep(PAUSE.mul_f64((0.5 + share) * f64::from(1 << (self.failed - 1)))).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_transaction_that_gives_way_is_repeated_a_few_times_and_another_error_is_final() {
        let (mut attempts, mut repeated) = (Attempts::default(), 0);
        while attempts.again(&CatalogError::Raced).await {
            repeated += 1;
        }
        assert_eq!(repeated, ATTEMPTS - 1);
        assert!(!Attempts::default().again(&CatalogError::Sql(sqlx::Error::PoolTimedOut)).await);
    }
}
