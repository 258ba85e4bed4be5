//! `segue openapi`.

use std::fs;
use std::path::Path;

use crate::support::program::{Home, text};

#[test]
fn the_contract_in_the_repository_is_what_the_program_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.yaml");
    let home = Home::new();
    let checked = home.segue(&["openapi", "--check", text(&path)]).run();
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert_eq!(home.segue(&["openapi"]).succeed(), fs::read_to_string(path).expect("openapi.yaml"));
}

#[test]
fn an_altered_contract_is_refused_with_the_line() {
    let home = Home::new();
    let contract = home.segue(&["openapi"]).succeed();
    let path = home.path().join("openapi.yaml");
    fs::write(&path, &contract).expect("written");
    home.segue(&["openapi", "--check", "openapi.yaml"]).succeed();

    let altered = contract.replacen("/health/live:", "/health/alive:", 1);
    let line = 1 + contract.lines().zip(altered.lines()).take_while(|(one, other)| one == other).count();
    for (text, line) in [
        (altered, line),
        (format!("{contract}more: of it\n"), contract.lines().count() + 1),
        (contract.lines().take(10).map(|line| format!("{line}\n")).collect(), 11),
    ] {
        fs::write(&path, text).expect("written");
        let checked = home.segue(&["openapi", "--check", "openapi.yaml"]).run();
        assert_eq!(checked.code, Some(1), "{checked:?}");
        assert!(
            checked.stderr.contains(&format!("openapi.yaml differs from the program from line {line} on")),
            "{checked:?}"
        );
    }
}

#[test]
fn a_contract_that_is_not_there_is_named() {
    let checked = Home::new().segue(&["openapi", "--check", "nowhere.yaml"]).run();
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert!(checked.stderr.contains("nowhere.yaml"), "{checked:?}");
}
