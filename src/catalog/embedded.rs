//! The private PostgreSQL that Segue runs when no `DATABASE_URL` is set.
//!
//! A cluster in `data/postgres` below `SEGUE_HOME`, made with the `initdb` of an installed PostgreSQL and reached only
//! through a Unix socket inside that folder, which is closed to other users. It listens on no network port.
//!
//! Several processes may use it at once (a server, and an import beside it): each holds a shared lock meanwhile, the first
//! one starts the cluster and the last one stops it. A process that is killed leaves the cluster running; the next one
//! uses it, and stops it in the end. If the cluster dies while it is used, [`EmbeddedPostgres::revive`] starts it again.
//!
//! A process counts as the cluster's only if it runs in the cluster's folder, whatever number `postmaster.pid` has: after a
//! crash or a restart of the machine, that number may be another process's, even another home's PostgreSQL.
//!
//! PostgreSQL refuses to run as root. As root, Segue therefore runs the cluster as the system's `postgres` user; where
//! that user can't reach the folder (a checkout in `/root`, a temporary folder), the server process gets the capability to
//! pass through folders that it may not list, rather than opening those folders to everyone.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use tracing::{debug, info, warn};

/// The user and the database inside the private cluster.
const NAME: &str = "segue";
/// The longest path that fits a Unix socket address, less PostgreSQL's file name in it.
const MAX_SOCKET_FOLDER: usize = 107 - "/.s.PGSQL.5432".len();

/// How long a cluster that is starting or stopping, or the rest of one that died, may take.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(20);
/// A number that no process can have: the kernel's largest is 2²².
const NO_PROCESS: u32 = (1 << 22) + 1;

/// Why the private PostgreSQL is unavailable.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// No programs of PostgreSQL in any place where distributions put them, or not where the user says they are.
    #[error(
        "no PostgreSQL 15 or newer found (looked for initdb and pg_ctl in {looked}): install it (Debian and \
         Ubuntu: apt-get install postgresql), set SEGUE_POSTGRES_BIN to the folder of its programs, or set DATABASE_URL \
         to a server of your own"
    )]
    NotInstalled {
        /// the folders that were searched
        looked: String,
    },
    /// A PostgreSQL program failed.
    #[error("{program} failed ({status}): {output}")]
    Program {
        /// which program
        program: String,
        /// its exit status
        status: String,
        /// the last lines that it printed, or that the server wrote to its log
        output: String,
    },
    /// An operation on files failed.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// what was being done
        what: &'static str,
        /// to which file
        path: PathBuf,
        /// the reason
        source: io::Error,
    },
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EmbeddedError {
    move |source| EmbeddedError::Io { what, path: path.to_owned(), source }
}

/// A share in the running private cluster, which stops when the last holder in any process releases it.
#[derive(Debug)]
pub struct EmbeddedPostgres {
    programs: Programs,
    data: PathBuf,
    /// Held exclusively while the cluster is started or stopped.
    gate: File,
    /// Held shared for as long as this process uses the cluster.
    users: File,
    /// Keeps `/proc/self/fd/N` alive where the folder's own path is too long for a socket address.
    folder: File,
    /// Whether this process no longer uses it. Held while the cluster is started or stopped: the gate only keeps other
    /// processes out.
    released: Mutex<bool>,
}

impl EmbeddedPostgres {
    /// Starts the cluster in `home/data/postgres`, or joins the one that already runs there. Creates it on first use.
    ///
    /// Blocking: takes a second or two on first use, milliseconds to join.
    pub fn start(home: &Path) -> Result<Self, EmbeddedError> {
        let parent = home.join("data");
        fs::create_dir_all(&parent).map_err(io_error("could not create", &parent))?;
        let parent = parent.canonicalize().map_err(io_error("could not resolve", &parent))?;
        let data = parent.join("postgres");
        let programs = Programs::find(&parent)?;

        let gate = lock_file(&parent.join("postgres.gate"))?;
        let users = lock_file(&parent.join("postgres.users"))?;
        gate.lock().map_err(io_error("could not lock", &parent))?;
        if !data.join("PG_VERSION").exists() {
            programs.create_cluster(&data)?;
        }
        programs.ensure_running(&data)?;
        users.lock_shared().map_err(io_error("could not lock", &parent))?;
        let folder = File::open(&data).map_err(io_error("could not open", &data))?;
        gate.unlock().map_err(io_error("could not unlock", &parent))?;
        Ok(Self { programs, data, gate, users, folder, released: Mutex::new(false) })
    }

    /// Returns how to connect to it.
    pub fn connect_options(&self) -> PgConnectOptions {
        let socket_folder = if self.data.as_os_str().len() <= MAX_SOCKET_FOLDER {
            self.data.clone()
        } else {
            PathBuf::from(format!("/proc/self/fd/{}", self.folder.as_raw_fd()))
        };
        PgConnectOptions::new_without_pgpass()
            .host(&socket_folder.to_string_lossy())
            .port(5432)
            .username(NAME)
            .database(NAME)
    }

    /// Starts the cluster again if it died. Does nothing once it is released.
    ///
    /// Blocking, like [`EmbeddedPostgres::start`].
    pub fn revive(&self) -> Result<(), EmbeddedError> {
        let released = self.released.lock().unwrap_or_else(PoisonError::into_inner);
        if *released || state(&self.data) == State::Ready {
            return Ok(());
        }
        self.gate.lock().map_err(io_error("could not lock", &self.data))?;
        let running = self.programs.ensure_running(&self.data);
        self.gate.unlock().map_err(io_error("could not unlock", &self.data))?;
        running
    }

    /// Releases the cluster for all holders of this value, and stops it if no other process uses it.
    pub fn release(&self) -> Result<(), EmbeddedError> {
        let mut released = self.released.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *released, true) {
            return Ok(());
        }
        self.gate.lock().map_err(io_error("could not lock", &self.data))?;
        self.users.unlock().map_err(io_error("could not unlock", &self.data))?;
        // Other users of the cluster hold this lock shared.
        if self.users.try_lock().is_ok() && state(&self.data) != State::Stopped {
            debug!("stopping the private PostgreSQL");
            self.programs.run("pg_ctl", &["stop", "-D", &text(&self.data), "-m", "fast", "-w", "-s"])?;
        }
        self.users.unlock().and_then(|()| self.gate.unlock()).map_err(io_error("could not unlock", &self.data))
    }
}

impl Drop for EmbeddedPostgres {
    fn drop(&mut self) {
        if let Err(error) = self.release() {
            warn!("could not stop the private PostgreSQL: {error}");
        }
    }
}

fn lock_file(path: &Path) -> Result<File, EmbeddedError> {
    File::options().create(true).truncate(false).write(true).open(path).map_err(io_error("could not open", path))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// What a cluster does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No process is the cluster's.
    Stopped,
    /// It is starting or stopping.
    Changing,
    /// It accepts connections.
    Ready,
}

/// Whether a process is a PostgreSQL that runs in the cluster's folder.
fn runs_in(data: &Path, process: &str) -> bool {
    let process = Path::new("/proc").join(process);
    match (fs::metadata(process.join("cwd")), fs::metadata(data), fs::read_to_string(process.join("comm"))) {
        (Ok(folder), Ok(data), Ok(name)) => {
            (folder.dev(), folder.ino()) == (data.dev(), data.ino()) && name.contains("postgres")
        }
        _ => false,
    }
}

/// The state of the cluster, from its own `postmaster.pid`: the process's number first, its state in the eighth line.
fn state(data: &Path) -> State {
    let lines = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let mut lines = lines.lines().map(str::trim);
    match (lines.next(), lines.nth(6)) {
        (Some(process), status) if runs_in(data, process) => match status {
            Some("ready" | "standby") if accepts(data) => State::Ready,
            _ => State::Changing,
        },
        _ => State::Stopped,
    }
}

/// Whether someone listens on the cluster's socket.
fn accepts(data: &Path) -> bool {
    File::open(data).is_ok_and(|folder| {
        // The folder's own path may be too long for a socket's address.
        UnixStream::connect(format!("/proc/self/fd/{}/.s.PGSQL.5432", folder.as_raw_fd())).is_ok()
    })
}

/// Processes that are left of a cluster whose first one died: they end soon, and until then no new one can start.
fn has_processes(data: &Path) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.into_iter().any(|entry| runs_in(data, &entry.file_name().to_string_lossy()))
}

/// Waits until `condition` holds, for [`PATIENCE`] at most. Returns whether it does.
fn wait_until(condition: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !condition() {
        if began.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
    true
}

/// Makes a `postmaster.pid` that a dead cluster left behind name no process: PostgreSQL would not start if another process
/// had the number by now. The rest of the file tells PostgreSQL what else was left behind.
fn forget_process(data: &Path) -> Result<(), EmbeddedError> {
    let path = data.join("postmaster.pid");
    match fs::read_to_string(&path) {
        Ok(text) => {
            let rest = text.split_once('\n').map_or("", |(_, rest)| rest);
            fs::write(&path, format!("{NO_PROCESS}\n{rest}")).map_err(io_error("could not write", &path))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error("could not read", &path)(error)),
    }
}

/// Returns the folder of PostgreSQL's programs: the one that `SEGUE_POSTGRES_BIN` names, or else the one of `version` (the
/// cluster's: others can't run it), or else that of the newest that is installed.
pub fn postgres_programs(version: Option<u32>) -> Result<PathBuf, EmbeddedError> {
    let has_programs = |bin: &PathBuf| bin.join("initdb").is_file() && bin.join("pg_ctl").is_file();
    if let Some(bin) = std::env::var_os("SEGUE_POSTGRES_BIN").filter(|bin| !bin.is_empty()).map(PathBuf::from) {
        let looked = bin.display().to_string();
        return Some(bin).filter(has_programs).ok_or(EmbeddedError::NotInstalled { looked });
    }
    // Debian and Ubuntu have a folder for each version.
    let mut installed: Vec<(u32, PathBuf)> = (fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten())
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(version, _)| *version >= 15)
        .collect();
    by_preference(&mut installed, version);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut bins = installed.into_iter().map(|(_, bin)| bin).chain(std::env::split_paths(&path));
    let looked = "/usr/lib/postgresql/*/bin and PATH".to_owned();
    bins.find(has_programs).ok_or(EmbeddedError::NotInstalled { looked })
}

/// Sorts versions: the wanted one first, then from the newest to the oldest.
fn by_preference<T>(installed: &mut [(u32, T)], wanted: Option<u32>) {
    installed.sort_by_key(|&(version, _)| std::cmp::Reverse((Some(version) == wanted, version)));
}

/// PostgreSQL's programs, and the user to run them as.
#[derive(Debug)]
struct Programs {
    bin: PathBuf,
    run_as: RunAs,
}

/// Root can't run PostgreSQL itself.
#[derive(Debug)]
enum RunAs {
    /// The current user, who is not root.
    Myself,
    /// The system's `postgres` user, with the capabilities named (in `setpriv`'s terms).
    PostgresUser { uid: u32, gid: u32, capability: Option<&'static str> },
}

impl Programs {
    /// The programs for the cluster in `folder`, and the user who may run them there.
    fn find(folder: &Path) -> Result<Self, EmbeddedError> {
        let version = fs::read_to_string(folder.join("postgres/PG_VERSION")).ok();
        let bin = postgres_programs(version.and_then(|version| version.trim().parse().ok()))?;
        let am_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        if !am_root {
            return Ok(Self { bin, run_as: RunAs::Myself });
        }
        let account = |flag| {
            run(Command::new("id").args([flag, "postgres"]))?.trim().parse::<u32>().map_err(|error| {
                EmbeddedError::Program {
                    program: "id".to_owned(),
                    status: "not a number".to_owned(),
                    output: error.to_string(),
                }
            })
        };
        let (uid, gid) = (account("-u")?, account("-g")?);
        let mut programs = Self { bin, run_as: RunAs::PostgresUser { uid, gid, capability: None } };
        let reachable = programs.command(Path::new("/usr/bin/test")).arg("-x").arg(folder).status();
        if !reachable.is_ok_and(|status| status.success()) {
            // dac_read_search is the smaller power; containers are often given only dac_override.
            let capability = ["+dac_read_search", "+dac_override"].into_iter().find(|capability| {
                programs.run_as = RunAs::PostgresUser { uid, gid, capability: Some(capability) };
                let passes = programs.command(Path::new("/usr/bin/test")).arg("-e").arg(folder.join(".")).status();
                passes.is_ok_and(|status| status.success())
            });
            debug!(?capability, "the postgres user can't reach {}", folder.display());
            programs.run_as = RunAs::PostgresUser { uid, gid, capability };
        }
        Ok(programs)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = match &self.run_as {
            RunAs::Myself => Command::new(program),
            RunAs::PostgresUser { uid, gid, capability } => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}")).arg("--clear-groups");
                if let Some(capability) = capability {
                    command.arg(format!("--inh-caps={capability}")).arg(format!("--ambient-caps={capability}"));
                }
                command.arg(program);
                command
            }
        };
        // A variable meant for another server must not reach this one.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command.current_dir("/");
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String, EmbeddedError> {
        run(self.command(&self.bin.join(program)).args(arguments))
    }

    fn create_cluster(&self, data: &Path) -> Result<(), EmbeddedError> {
        info!("creating the private PostgreSQL in {}", data.display());
        // In a folder beside it, renamed when complete: an interrupted initdb leaves nothing that looks like a cluster.
        let unfinished = data.with_extension("unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(io_error("could not remove", &unfinished))?;
        }
        fs::create_dir(&unfinished).map_err(io_error("could not create", &unfinished))?;
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o700))
            .map_err(io_error("could not set the mode of", &unfinished))?;
        if let RunAs::PostgresUser { uid, gid, .. } = &self.run_as {
            chown(&unfinished, Some(*uid), Some(*gid))
                .map_err(io_error("could not change the owner of", &unfinished))?;
        }
        // `trust` applies to the socket alone, which lies in a folder that no one else may enter.
        // Bytes are the order of texts; letters are those of all languages, or searches would only know English ones.
        let folder = text(&unfinished);
        let mut arguments = vec!["-D", &folder, "-U", NAME, "-A", "trust", "--no-instructions"];
        arguments.extend(["-E", "UTF8", "--locale=C", "--lc-ctype=C.UTF-8"]);
        self.run("initdb", &arguments)?;
        fs::write(unfinished.join("segue.conf"), SETTINGS).map_err(io_error("could not write", &unfinished))?;
        let conf = unfinished.join("postgresql.conf");
        let settings = fs::read_to_string(&conf).map_err(io_error("could not read", &conf))?;
        fs::write(&conf, format!("{settings}\ninclude 'segue.conf'\n")).map_err(io_error("could not write", &conf))?;
        fs::set_permissions(unfinished.join("segue.conf"), fs::Permissions::from_mode(0o644))
            .map_err(io_error("could not set the mode of", &conf))?;
        fs::rename(&unfinished, data).map_err(io_error("could not rename", &unfinished))
    }

    /// Starts the cluster unless it runs, and waits until it accepts connections. Under the gate.
    fn ensure_running(&self, data: &Path) -> Result<(), EmbeddedError> {
        wait_until(|| state(data) != State::Changing);
        if state(data) == State::Ready {
            return Ok(());
        }
        wait_until(|| !has_processes(data));
        forget_process(data)?;
        self.start(data)
    }

    fn start(&self, data: &Path) -> Result<(), EmbeddedError> {
        let log = data.join("server.log");
        // pg_ctl detaches the server from this process's terminal, so that Ctrl-C reaches this process alone.
        let arguments = ["start", "-D", &text(data), "-l", &text(&log), "-w", "-t", "120", "-s"];
        self.run("pg_ctl", &arguments).map_err(|error| match fs::read_to_string(&log) {
            Ok(log) => EmbeddedError::Program {
                program: "the private PostgreSQL".to_owned(),
                status: "did not start".to_owned(),
                output: tail(&log),
            },
            Err(_) => error,
        })?;
        let exists = "SELECT 1 FROM pg_database WHERE datname = 'segue'";
        // psql takes a list of hosts, separated by commas, none longer than a socket's address. The folder's own path may
        // be longer, or have commas.
        let folder = File::open(data).map_err(io_error("could not open", data))?;
        let host = format!("/proc/{}/fd/{}", std::process::id(), folder.as_raw_fd());
        let psql = |sql: &str| {
            let mut command = Command::new(self.bin.join("psql"));
            run(command.args(["-h", &host, "-U", NAME, "-d", "postgres", "-XAtqc", sql]).env_remove("PGPORT"))
        };
        if psql(exists)?.trim().is_empty() {
            psql("CREATE DATABASE segue")?;
        }
        Ok(())
    }
}

/// Memory for a catalog on a laptop, and bulk imports that don't stall on checkpoints.
const SETTINGS: &str = "\
listen_addresses = ''
unix_socket_directories = '.'
shared_buffers = '256MB'
max_wal_size = '4GB'
checkpoint_timeout = '15min'
work_mem = '64MB'
maintenance_work_mem = '256MB'
max_connections = 100
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
";

fn run(command: &mut Command) -> Result<String, EmbeddedError> {
    let program = format!("{:?}", command.get_program());
    let Output { status, stdout, stderr } = command.output().map_err(|error| EmbeddedError::Program {
        program: program.clone(),
        status: "not started".to_owned(),
        output: error.to_string(),
    })?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let output = String::from_utf8_lossy(&stderr).into_owned() + &String::from_utf8_lossy(&stdout);
    Err(EmbeddedError::Program { program, status: status.to_string(), output: tail(&output) })
}

fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_runs_on_its_own_version_and_a_new_one_on_the_newest() {
        for (wanted, first) in [(None, 17), (Some(15), 15), (Some(16), 16), (Some(18), 17)] {
            let mut installed = [(15, ()), (17, ()), (16, ())];
            by_preference(&mut installed, wanted);
            assert_eq!(installed[0].0, first, "{wanted:?}");
        }
    }
}
