//! Whether the catalog is available to requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{info, warn};

/// Whether requests may use the catalog. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CatalogGate(Arc<AtomicBool>);

impl Default for CatalogGate {
    /// Open: until the first check, requests try.
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl CatalogGate {
    /// Returns whether requests may use the catalog.
    pub fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Opens or closes it.
    pub fn set(&self, open: bool) {
        if self.0.swap(open, Ordering::Relaxed) != open {
            match open {
                true => info!("the catalog is available again"),
                false => warn!("the catalog is unavailable; requests that need it get 503 until it is back"),
            }
        }
    }
}
