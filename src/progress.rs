//! Progress of long work: a bar on a terminal, a log line every few seconds elsewhere.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::Notify;
use tracing::info;

/// Seconds between two log lines where there is no terminal.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// How far a piece of work is.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    total: u64,
    bar: Option<ProgressBar>,
    last_line: Mutex<Instant>,
}

impl Progress {
    /// Starts showing progress of `what` out of `total` units.
    pub fn start(what: &'static str, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total);
            let style =
                ProgressStyle::with_template("{prefix:>12} {bar:32} {percent:>3}% {elapsed} (eta {eta})  {msg}");
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar.set_prefix(what);
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { what, total, bar, last_line: Mutex::new(Instant::now()) }
    }

    /// Says that `done` units are done, and `message` about them.
    pub fn at(&self, done: u64, message: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(message());
            return;
        }
        let Ok(mut last_line) = self.last_line.lock() else { return };
        if last_line.elapsed() >= LOG_INTERVAL {
            *last_line = Instant::now();
            let percent = (done * 100).checked_div(self.total).unwrap_or(100);
            info!("{} {percent}%: {}", self.what, message());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Whether the person asked to stop. Cheap to clone and to ask.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    inner: Arc<InterruptInner>,
}

#[derive(Debug, Default)]
struct InterruptInner {
    raised: AtomicBool,
    notify: Notify,
}

impl Interrupt {
    /// Asks everyone who holds this to stop.
    pub fn raise(&self) {
        self.inner.raised.store(true, Ordering::SeqCst);
        self.inner.notify.notify_waiters();
    }

    /// True once someone asked to stop.
    pub fn is_raised(&self) -> bool {
        self.inner.raised.load(Ordering::SeqCst)
    }

    /// Waits until someone asks to stop.
    pub async fn raised(&self) {
        let notified = self.inner.notify.notified();
        if !self.is_raised() {
            notified.await;
        }
    }
}
