//! Backup and restore, by the commands that docs/operations.md gives.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use segue::catalog::EmbeddedPostgres;
use serde_json::{Value, json};

use crate::support::postgres_programs;
use crate::support::program::{Home, text};
use crate::support::slices::{generated, slice, write};

/// Instead of Docker: runs in this folder, on the PostgreSQL of `PGHOST`, what would run in a container.
const DOCKER: &str = r#"
docker() {
    case "$2" in
        exec) shift 4; "$@" ;;
        run) while [ "$1" != --entrypoint ]; do shift; done; local program=$2; shift 3; "$program" "$@" ;;
        up | stop) ;;
        *) echo "docker $*" >&2; return 9 ;;
    esac
}
"#;

/// The commands of a section of docs/operations.md.
fn documented(section: &str) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md")).expect("the page");
    let (_, after) = page.split_once(&format!("\n### {section}\n")).expect("the section");
    let (_, block) = after.split_once("\n```sh\n").expect("commands");
    block.split_once("\n```\n").expect("the end of the commands").0.to_owned()
}

/// A home with a PostgreSQL of its own.
struct Site {
    _postgres: EmbeddedPostgres,
    home: Home,
}

impl Site {
    fn new() -> Self {
        let home = Home::new();
        fs::create_dir_all(home.models()).expect("a folder");
        Self { _postgres: EmbeddedPostgres::start(home.path()).expect("a PostgreSQL"), home }
    }

    fn socket(&self) -> PathBuf {
        self.home.path().join("data/postgres")
    }

    /// Runs commands as an operator would type them, up to the first that fails.
    fn run(&self, commands: &str) -> Output {
        let path = format!("{}:{}", postgres_programs().display(), std::env::var("PATH").unwrap_or_default());
        let script = format!("set -eo pipefail\n{DOCKER}\n{commands}");
        let mut bash = Command::new("bash");
        bash.args(["-c", &script]).current_dir(self.home.path());
        bash.env("PATH", path).env("PGHOST", self.socket()).env("PGUSER", "segue").env("PGDATABASE", "segue");
        bash.output().expect("bash")
    }

    /// The output of commands that succeed.
    fn succeed(&self, commands: &str) -> String {
        let output = self.run(commands);
        assert!(output.status.success(), "{commands}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Everything that is in the database, as SQL.
    fn contents(&self) -> String {
        // The lines that newer versions of pg_dump protect a script with differ each time.
        let dump = self.succeed("pg_dump");
        dump.lines().filter(|line| !line.starts_with('\\') || *line == "\\.").collect::<Vec<_>>().join("\n")
    }

    fn url(&self) -> String {
        format!("postgres://segue@localhost/segue?host={}", self.socket().display())
    }

    fn segue(&self, arguments: &[&str]) -> String {
        self.home.segue(&[arguments, &["--database-url", &self.url()]].concat()).succeed()
    }

    /// What a server here answers to `key`.
    fn answers(&self, key: &str) -> Vec<Value> {
        let url = self.url();
        let flags = ["--listen", "127.0.0.1:0", "--auth", "required", "--database-url", &url];
        let server = self.home.segue(&[&["serve"], &flags[..]].concat()).start();
        let ask = async |path: &str| {
            let request = reqwest::Client::new().get(format!("{}{path}", server.url())).bearer_auth(key);
            let response = request.send().await.expect("a response");
            (response.status() == 200).then_some(response).expect("200").json::<Value>().await.expect("JSON")
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut answers = Vec::new();
            for path in ["/tracks/synthetic:track:1/similar", "/playlists/0", "/tracks?q=track", "/models", "/users"] {
                let mut answer = ask(path).await;
                if let Some(loaded) = answer.pointer_mut("/models/0/loaded_at") {
                    *loaded = json!(null);
                }
                answers.push(answer);
            }
            answers
        })
    }
}

#[test]
fn a_backup_is_restored_as_documented_and_a_restore_that_fails_changes_nothing() {
    let site = Site::new();
    write(site.home.path(), "slice.json", slice(&generated(60, 400, 5)));
    site.segue(&["import", "mpd", "slice.json"]);
    site.segue(&["train", "similarity", "--epochs", "1", "--dim", "8"]);
    let key = site.segue(&["keys", "create", "--scope", "read", "--name", "app"]).trim().to_owned();
    let (answers, contents) = (site.answers(&key), site.contents());
    site.succeed(&documented("Back up"));

    // Elsewhere, where nothing is yet.
    let other = Site::new();
    for name in ["catalog.dump", "models.tar"] {
        fs::copy(site.home.path().join(name), other.home.path().join(name)).expect("copied");
    }
    let restore = documented("Restore");
    other.succeed(&restore);
    assert_eq!(other.contents(), contents);
    assert_eq!(other.answers(&key), answers);
    let counts = "psql -Atc 'SELECT count(*) FROM segue.playlist_tracks'";
    assert_eq!(other.succeed(counts), site.succeed(counts));

    // A dump that broke off: what was there before still is, and the next restore works. It has its half: versions from 16
    // repeat the table of contents behind the rows, and do without that.
    let dump = fs::read(site.home.path().join("catalog.dump")).expect("a dump");
    write(other.home.path(), "catalog.dump", &dump[..dump.len() / 2]);
    let failed = other.run(&restore);
    assert!(!failed.status.success(), "{failed:?}");
    assert_eq!(other.contents(), contents);
    write(other.home.path(), "catalog.dump", &dump);
    other.succeed(&restore);
    assert_eq!(other.contents(), contents);

    // The dump of an earlier version, over tables that a later one migrated.
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/0.1.0/catalog.sql");
    other.succeed(&format!(
        "createdb old; psql -qd old --set=ON_ERROR_STOP=1 -f '{}'; pg_dump --format=custom old > catalog.dump",
        text(&old)
    ));
    other.succeed(&restore);
    let tables = "psql -Atc \"SELECT schemaname FROM pg_tables WHERE tablename IN ('tracks', 'popular_tracks')\"";
    assert_eq!(other.succeed(tables), "public\n");
    other.segue(&["migrate"]);
    assert_eq!(other.succeed(tables), "public\npublic\n");
}
