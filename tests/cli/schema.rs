//! A database that Segue shares with an app: its schema, the rights of an ordinary role, a pooler in between.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Child, Command, Stdio};

use sqlx::{AssertSqlSafe, Executor};

use crate::support::database::Database;
use crate::support::program::{Home, PATIENCE};
use crate::support::slices::{bare_playlist, bare_tracks, slice, write};
use crate::support::wait_for;

#[tokio::test]
async fn an_apps_own_tables_are_left_alone() {
    let (home, database) = (Home::new(), Database::new().await);
    let mut connection = database.connect().await;
    for table in ["tracks", "users", "playlists", "_sqlx_migrations"] {
        connection.execute(AssertSqlSafe(format!("CREATE TABLE public.{table} (mine text)"))).await.expect("created");
    }
    write(home.path(), "slice.json", slice(&[bare_playlist(1, bare_tracks("t", 3))]));
    for schema in ["segue", "Music & \"more\""] {
        let flags = ["--database-url", database.url(), "--database-schema", schema];
        let flags = if schema == "segue" { &flags[..2] } else { &flags[..] };
        home.segue(&[&["import", "mpd", "slice.json"], flags].concat()).succeed();
    }
    let tables =
        database.texts("SELECT schemaname::text FROM pg_tables WHERE tablename = 'playlist_tracks' ORDER BY 1");
    assert_eq!(tables.await, ["Music & \"more\"", "segue"]);
    assert_eq!(database.texts("SELECT count(*)::text FROM segue.tracks").await, ["3"]);
    assert_eq!(database.texts("SELECT count(*)::text FROM public.tracks").await, ["0"]);
}

#[tokio::test]
async fn an_ordinary_role_gets_the_sql_for_an_administrator_before_anything_is_changed() {
    let (home, database) = (Home::new(), Database::new().await);
    let mut administrator = database.connect().await;
    let role = format!("app_{}", std::process::id());
    administrator.execute(AssertSqlSafe(format!("CREATE ROLE {role} LOGIN"))).await.expect("a role");
    let url = database.url().replacen("segue@", &format!("{role}@"), 1);
    let migrate = ["migrate", "--database-url", url.as_str()];
    let refused = home.segue(&migrate).run();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let serve = home.segue(&["serve", "--listen", "127.0.0.1:0", "--database-url", &url]).run();
    assert_eq!((serve.code, serve.stderr.contains("CREATE EXTENSION")), (Some(1), true), "{serve:?}");
    let statements: Vec<&str> =
        refused.stderr.lines().map(str::trim).filter(|line| line.starts_with("CREATE ")).collect();
    assert_eq!(statements, ["CREATE EXTENSION pg_trgm;", &format!("CREATE SCHEMA segue AUTHORIZATION {role};")]);
    assert_eq!(database.texts("SELECT nspname::text FROM pg_namespace WHERE nspname = 'segue'").await, [""; 0]);
    for statement in statements {
        administrator.execute(AssertSqlSafe(format!("SET search_path TO public; {statement}"))).await.expect("run");
    }
    home.segue(&migrate).succeed();
    write(home.path(), "slice.json", slice(&[bare_playlist(1, bare_tracks("t", 3))]));
    home.segue(&["import", "mpd", "slice.json", "--database-url", &url]).succeed();
    assert_eq!(database.texts("SELECT count(*)::text FROM segue.tracks").await, ["3"]);
}

/// A PgBouncer in front of a database; ends with this.
struct PgBouncer(Child);

impl PgBouncer {
    /// Starts one, and says how to connect; none where it is not installed.
    fn start(home: &Home, database: &Database, mode: &str) -> Option<(Self, String)> {
        let program =
            ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|path| fs::exists(path).unwrap_or(false))?;
        let (base, socket) = database.url().split_once("?host=").expect("a socket");
        let name = base.rsplit_once('/').expect("a database").1;
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        // PgBouncer does not run as root.
        let folder = home.path().join("pgbouncer");
        fs::create_dir_all(&folder).expect("a folder");
        for path in [home.path(), &folder] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("open");
        }
        write(&folder, "users.txt", "\"segue\" \"\"\n");
        let settings = format!(
            "[databases]\n{name} = host={socket} user=segue\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = {mode}\ndefault_pool_size = 20\n",
            folder.join("users.txt").display()
        );
        let file = write(&folder, "pgbouncer.ini", settings);
        let is_root = fs::metadata("/proc/self").expect("/proc").uid() == 0;
        let mut command = if is_root { Command::new("setpriv") } else { Command::new(program) };
        if is_root {
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", program]);
        }
        let child = command.arg(file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        wait_for("PgBouncer", PATIENCE, || TcpStream::connect(("127.0.0.1", port)).ok());
        Some((Self(child), format!("postgres://segue@127.0.0.1:{port}/{name}?sslmode=disable")))
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_pooler_in_session_mode_works_and_one_in_transaction_mode_is_refused_at_the_start() {
    let (home, database) = (Home::new(), Database::new().await);
    write(home.path(), "slice.json", slice(&[bare_playlist(1, bare_tracks("t", 3))]));
    let Some((session, url)) = PgBouncer::start(&home, &database, "session") else {
        return eprintln!("skipped: PgBouncer is not installed");
    };
    home.segue(&["import", "mpd", "slice.json", "--database-url", &url]).succeed();
    let serving = home.segue(&["serve", "--listen", "127.0.0.1:0", "--database-url", &url]).start();
    let found = home.segue(&["healthcheck", "--url", &format!("{}/playlists/1", serving.url())]).succeed();
    assert!(found.starts_with("200"), "{found}");
    drop((serving, session));
    for mode in ["transaction", "statement"] {
        let (_pooler, url) = PgBouncer::start(&home, &database, mode).expect("installed");
        let refused = home.segue(&["serve", "--listen", "127.0.0.1:0", "--database-url", &url]).run();
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("pooler"), "{refused:?}");
    }
}
