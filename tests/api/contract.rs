//! The contract: `openapi.yaml`, `/openapi.json` and the page to try it on.

use std::collections::BTreeSet;
use std::path::Path;

use reqwest::{Method, Url};
use serde_json::Value;

use crate::support::app::{Answer, TestApp};

/// `GET /tracks/{id}` and so on.
fn routes(document: &Value) -> BTreeSet<String> {
    let mut routes = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for method in operations.as_object().expect("operations").keys() {
            routes.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    routes
}

fn stored() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.yaml");
    serde_yaml_ng::from_str(&std::fs::read_to_string(path).expect("openapi.yaml")).expect("YAML")
}

#[tokio::test]
async fn the_server_publishes_the_contract_that_is_in_the_repository() {
    let app = TestApp::spawn().await;
    let served = app.get("/openapi.json").await.ok();
    assert!(served["openapi"].as_str().is_some_and(|version| version.starts_with("3.")), "{served}");
    assert_eq!(routes(&served), routes(&stored()));
    assert!(routes(&served).contains("POST /playlists/{id}/complete"), "{served}");
    assert_eq!(served["components"], stored()["components"]);
}

#[tokio::test]
async fn every_route_of_the_contract_is_there() {
    let app = TestApp::spawn().await;
    for route in routes(&stored()) {
        let (method, path) = route.split_once(' ').expect("two words");
        let method: Method = method.parse().expect("a method");
        let answer = Answer::to(app.request(method, &path.replace("{id}", "0"))).await;
        assert_ne!(answer.status, 405, "{route}: {answer:?}");
        if answer.status == 404 {
            assert!(answer.json()["type"].as_str().expect("a type").contains(":unknown-"), "{route}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn every_answer_that_the_contract_describes_as_an_error_is_a_problem_document() {
    for (path, operations) in stored()["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            for (status, response) in operation["responses"].as_object().expect("responses") {
                if status == "204" || status == "304" {
                    assert!(response.get("content").is_none(), "{method} {path} {status}");
                    continue;
                }
                let content = response["content"].as_object().expect("content");
                let types: Vec<&String> = content.keys().collect();
                let expected: &[&str] = match status.starts_with('2') {
                    true => &["application/json", "application/x-ndjson", "application/openmetrics-text"],
                    false => &["application/problem+json"],
                };
                assert!(types.len() == 1 && expected.contains(&types[0].as_str()), "{method} {path} {status}");
            }
        }
    }
}

#[tokio::test]
async fn the_page_to_try_it_on_needs_no_other_host() {
    let app = TestApp::spawn().await;
    let page_url = Url::parse(&app.url).expect("a URL").join("/docs/").expect("a URL");
    let page = app.get("/docs/").await;
    assert_eq!(page.status, 200, "{page:?}");
    assert!(page.header("content-type").starts_with("text/html"), "{page:?}");

    let tags: Vec<&str> =
        page.body.split('<').filter(|tag| tag.starts_with("script") || tag.starts_with("link")).collect();
    let mut fetched = Vec::new();
    for tag in &tags {
        for attribute in ["src=\"", "href=\""] {
            let Some((_, rest)) = tag.split_once(attribute) else { continue };
            let target = rest.split('"').next().expect("a value");
            let url = page_url.join(target).expect("a URL");
            assert_eq!(url.origin(), page_url.origin(), "<{tag}");
            let asset = app.get(url.path()).await;
            assert_eq!(asset.status, 200, "{target}: {asset:?}");
            assert!(!asset.body.is_empty(), "{target}");
            fetched.push((url.path().to_owned(), asset.body));
        }
    }
    assert!(fetched.iter().any(|(path, _)| path.ends_with(".js")), "{tags:?}");
    assert!(fetched.iter().any(|(path, _)| path.ends_with(".css")), "{tags:?}");
    let (_, initializer) =
        fetched.iter().find(|(path, _)| path.ends_with("initializer.js")).expect("what says which contract to show");
    assert!(initializer.contains("\"/openapi.json\""), "{initializer}");
    assert!(!initializer.contains("http://") && !initializer.contains("https://"), "{initializer}");
}

#[tokio::test]
async fn the_page_is_found_without_its_last_slash() {
    let app = TestApp::spawn().await;
    let answer = app.get("/docs").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.header("content-type").starts_with("text/html"), "{answer:?}");
}
