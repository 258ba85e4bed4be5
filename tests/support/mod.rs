//! What the test binaries share: databases of their own, files to import, the built program, a running server.

pub mod app;
pub mod clicks;
pub mod database;
pub mod program;
pub mod ratings;
pub mod slices;
pub mod training;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;

/// Longest wait for what a server does: long enough on a machine that is busy with other things, and shorter than the
/// minute after which a server reads everything again, notified or not.
pub const PATIENCE: Duration = Duration::from_secs(50);

/// A port where nothing listens, and where nobody else can as long as this is held.
#[derive(Debug)]
pub struct ClosedPort(TcpSocket);

impl ClosedPort {
    /// A free one.
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
        Self(socket)
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.0.local_addr().expect("an address").port()
    }
}

/// The folder of PostgreSQL's programs.
pub fn postgres_programs() -> PathBuf {
    segue::catalog::postgres_programs(None).expect("a PostgreSQL")
}

/// Copies a folder with its links as links.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
        let target = to.join(entry.file_name());
        let kind = entry.file_type().expect("a type");
        if kind.is_symlink() {
            let link = fs::read_link(entry.path()).expect("a link");
            std::os::unix::fs::symlink(link, target).expect("a new link");
        } else if kind.is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// Waits until `condition` gives a value; `what` is for the person who reads of the failure.
pub fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(began.elapsed() < limit, "waited {limit:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until `condition` gives a value, letting others run meanwhile, for [`PATIENCE`] at most.
pub async fn wait_until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
