//! `segue keys`.

use crate::support::database::Database;
use crate::support::program::Home;

#[tokio::test]
async fn a_key_is_shown_once_listed_without_its_secret_and_revoked() {
    let (home, database) = (Home::new(), Database::new().await);
    let segue = |arguments: &[&str]| home.segue(&[arguments, &["--database-url", database.url()]].concat());
    let key = segue(&["keys", "create", "--scope", "write", "--name", "backend"]).succeed();
    let (_, secret) = key.trim().strip_prefix("segue_").and_then(|rest| rest.split_once('_')).expect("its form");
    assert!(secret.len() > 40, "{key}");
    let again = segue(&["keys", "create", "--scope", "read", "--name", "backend"]).run();
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.stderr.contains("backend"), "{again:?}");

    let listed = segue(&["keys", "list"]).succeed();
    assert!(listed.contains("backend") && listed.contains("write") && !listed.contains(secret), "{listed}");
    let stored = database.texts("SELECT api_keys::text FROM api_keys").await.join("\n");
    assert!(!stored.contains(secret), "only a hash is stored");

    segue(&["keys", "revoke", "backend"]).succeed();
    let twice = segue(&["keys", "revoke", "backend"]).run();
    assert_eq!(twice.code, Some(1), "{twice:?}");
    let listed: serde_json::Value =
        serde_json::from_str(&segue(&["keys", "list", "--format", "json"]).succeed()).expect("JSON");
    assert!(listed[0]["revoked_at"].is_string(), "{listed}");
}
