//! The built program, run as a person would.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::wait_for;

/// Longest wait for anything that the program does here, such as a demo on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// A home folder of its own for the program, open to its owner alone.
#[derive(Debug)]
pub struct Home {
    folder: PathBuf,
    _temporary: TempDir,
}

fn private_folder() -> TempDir {
    tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o700)).tempdir().expect("a folder")
}

impl Home {
    /// An empty one.
    pub fn new() -> Self {
        let temporary = private_folder();
        Self { folder: temporary.path().to_owned(), _temporary: temporary }
    }

    /// One whose path is longer than a Unix socket's address can be.
    pub fn with_long_path() -> Self {
        let temporary = private_folder();
        let folder = temporary.path().join("l".repeat(60)).join("o".repeat(60)).join("ng");
        fs::create_dir_all(&folder).expect("folders");
        Self { folder, _temporary: temporary }
    }

    /// One whose path has characters that shells, URLs and lists of hosts take for something else.
    pub fn with_odd_path() -> Self {
        let temporary = private_folder();
        let folder = temporary.path().join("a home, é & 100%");
        fs::create_dir_all(&folder).expect("folders");
        Self { folder, _temporary: temporary }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Where bundles are.
    pub fn models(&self) -> PathBuf {
        self.folder.join("models")
    }

    /// The program in this folder, with nothing of the surroundings' settings.
    pub fn segue(&self, arguments: &[&str]) -> Segue {
        self.command(Command::new(env!("CARGO_BIN_EXE_segue")), arguments)
    }

    /// The same where no file can grow beyond `kib` KiB: as if the disk were full then.
    pub fn segue_with_room_for(&self, kib: usize, arguments: &[&str]) -> Segue {
        let mut shell = Command::new("sh");
        // Without the trap the signal would end the program before it hears of the error.
        shell.args(["-c", &format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", 2 * kib)]);
        shell.arg(env!("CARGO_BIN_EXE_segue"));
        self.command(shell, arguments)
    }

    /// The same where no more than `files` files can be open.
    pub fn segue_with_files(&self, files: usize, arguments: &[&str]) -> Segue {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_segue")]);
        self.command(shell, arguments)
    }

    /// The same in a cgroup that may use no more than so many bytes of memory; none where cgroups can't be made.
    pub fn segue_with_memory(&self, bytes: u64, arguments: &[&str]) -> Option<(Segue, MemoryGroup)> {
        let group = MemoryGroup::new(bytes)?;
        let mut shell = Command::new("sh");
        let join = format!("echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"", group.0.display());
        shell.args(["-c", &join, env!("CARGO_BIN_EXE_segue")]);
        Some((self.command(shell, arguments), group))
    }

    fn command(&self, mut command: Command, arguments: &[&str]) -> Segue {
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            let is_setting = text == "DATABASE_URL" || text.starts_with("SEGUE_") || text.starts_with("PG");
            if is_setting && text != "SEGUE_POSTGRES_BIN" {
                command.env_remove(name);
            }
        }
        command.args(arguments).current_dir(&self.folder).env("SEGUE_HOME", &self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Segue(command)
    }

    /// Command lines of processes that mention this folder.
    pub fn processes(&self) -> Vec<String> {
        let folder = self.folder.to_string_lossy();
        fs::read_dir("/proc")
            .expect("/proc")
            .flatten()
            .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
            .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
            .filter(|line| line.contains(folder.as_ref()))
            .collect()
    }

    /// That the private PostgreSQL was there and does not run any more.
    pub fn assert_postgres_has_stopped(&self) {
        let data = self.folder.join("data/postgres");
        assert!(data.join("PG_VERSION").exists(), "no cluster in {}", data.display());
        assert!(!data.join("postmaster.pid").exists(), "postmaster.pid is still there");
        self.assert_nothing_runs();
    }

    /// That nothing of this folder is left running: a PostgreSQL that has said goodbye may take a moment to be gone.
    pub fn assert_nothing_runs(&self) {
        let began = Instant::now();
        while !self.processes().is_empty() {
            assert!(began.elapsed() < super::PATIENCE, "still there: {:?}", self.processes());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Home {
    /// Stops a PostgreSQL that a failed test left running.
    fn drop(&mut self) {
        for data in ["data/postgres", "data/demo/data/postgres"] {
            let file = self.folder.join(data).join("postmaster.pid");
            let Ok(text) = fs::read_to_string(&file) else { continue };
            let Some(pid) = text.lines().next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw) else {
                continue;
            };
            let process = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
            let line = fs::read(process.join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains(self.folder.to_string_lossy().as_ref())
                && kill_process(pid, Signal::QUIT).is_ok()
            {
                for _ in 0..500 {
                    if !process.exists() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }
}

/// A cgroup with a limit on memory; removed when this goes, after its processes.
#[derive(Debug)]
pub struct MemoryGroup(PathBuf);

impl MemoryGroup {
    fn new(bytes: u64) -> Option<Self> {
        let name = format!("segue-test-{}", std::process::id());
        let kinds = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        kinds.into_iter().find_map(|(parent, limit)| {
            let folder = Path::new(parent).join(&name);
            fs::create_dir(&folder).ok()?;
            let group = Self(folder);
            fs::write(group.0.join(limit), bytes.to_string()).ok()?;
            Some(group)
        })
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// A command line of the program that is not run yet.
#[derive(Debug)]
pub struct Segue(Command);

impl Segue {
    /// With an environment variable set.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    /// The command itself.
    pub fn command(self) -> Command {
        self.0
    }

    /// Runs it to its end.
    pub fn run(self) -> Finished {
        self.start().finish()
    }

    /// Runs it to its end, which must be a success; gives its standard output.
    pub fn succeed(self) -> String {
        let finished = self.run();
        assert_eq!(finished.code, Some(0), "{finished:?}");
        finished.stdout
    }

    /// Starts it.
    pub fn start(mut self) -> Running {
        let mut child = self.0.spawn().expect("the program starts");
        let stdout = Reader::new(child.stdout.take().expect("a pipe"));
        let stderr = Reader::new(child.stderr.take().expect("a pipe"));
        Running { child, stdout, stderr }
    }
}

/// How the program ended.
#[derive(Debug)]
pub struct Finished {
    /// its exit code; none if a signal ended it
    pub code: Option<i32>,
    /// the signal that ended it
    pub signal: Option<i32>,
    /// what it wrote to standard output
    pub stdout: String,
    /// what it wrote to standard error
    pub stderr: String,
}

/// The program while it runs; killed when this goes.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Reader,
    stderr: Reader,
}

impl Running {
    /// Ctrl-C.
    pub fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("it runs");
    }

    /// What a service manager sends first.
    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
    }

    /// What can't be caught; waits until it is gone.
    pub fn kill(mut self) -> Finished {
        self.child.kill().expect("it runs");
        self.finish()
    }

    /// True until it ends.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("its state").is_none()
    }

    /// What it wrote to standard error until now.
    pub fn log(&self) -> String {
        self.stderr.text()
    }

    /// Waits for a piece of text on standard error, and gives what follows it on its line.
    pub fn wait_for_log(&self, text: &str) -> String {
        wait_for(text, PATIENCE, || {
            let log = self.stderr.text();
            let (_, rest) = log.split_once(text)?;
            rest.split_once('\n').map(|(line, _)| line.to_owned())
        })
    }

    /// Waits for a piece of text on standard output; the rest of its line.
    pub fn wait_for_output(&self, text: &str) -> String {
        wait_for(text, PATIENCE, || {
            let output = self.stdout.text();
            let (_, rest) = output.split_once(text)?;
            rest.split_once('\n').map(|(line, _)| line.to_owned())
        })
    }

    /// Where it listens, once it does: `http://127.0.0.1:…`.
    pub fn url(&self) -> String {
        format!("http://{}", self.wait_for_log("listening on http://").trim())
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Finished {
        let status = wait_for("the end of the program", PATIENCE, || self.child.try_wait().expect("its state"));
        Finished {
            code: status.code(),
            signal: status.signal(),
            stdout: self.stdout.finish(),
            stderr: self.stderr.finish(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a pipe as it fills, so that it never does.
#[derive(Debug)]
struct Reader {
    text: Arc<Mutex<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    fn new(mut pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let thread = std::thread::spawn({
            let text = text.clone();
            move || {
                let mut buffer = [0; 4_096];
                while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                    text.lock().expect("no panic").push_str(&String::from_utf8_lossy(&buffer[..length]));
                }
            }
        });
        Self { text, thread: Some(thread) }
    }

    fn text(&self) -> String {
        self.text.lock().expect("no panic").clone()
    }

    fn finish(&mut self) -> String {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
        self.text()
    }
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
