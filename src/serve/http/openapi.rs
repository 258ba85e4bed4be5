//! What the contract says of every route alike: answers that come before a handler, or instead of one.

use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Ref, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi, RefOr, Response};

/// Completes the contract that the handlers declare.
pub(crate) fn complete(document: &mut OpenApi) {
    add_keys(document);
    for (path, item) in &mut document.paths.paths {
        let is_health = path.starts_with("/health/");
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            let takes_parameters = path.contains('{') || operation.parameters.is_some();
            if is_health {
                operation.security = Some(Vec::new());
            } else {
                add(operation, "401", "No valid key, where keys are asked for", false);
                add(operation, "403", "The key is good for less", false);
                add(operation, "429", "Too many requests", true);
                add(operation, "500", "The server failed", false);
                add(operation, "503", "The catalog is away, no model, or too busy", true);
            }
            if takes_parameters {
                add(operation, "400", "Not text (UTF-8)", false);
            }
        }
    }
}

/// The scheme of keys.
fn add_keys(document: &mut OpenApi) {
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
        "A key of `segue keys create`. Not asked for where the server listens on a loopback address, or with `--auth off`.",
    ));
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("key", SecurityScheme::Http(scheme.build()));
}

/// Adds the answer unless the handler declares it, and says when to come back.
fn add(operation: &mut Operation, status: &str, description: &str, has_retry_after: bool) {
    let responses = &mut operation.responses.responses;
    let response = responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(problem(description)));
    if let RefOr::T(response) = response
        && has_retry_after
    {
        let seconds = HeaderBuilder::new()
            .schema(Some(ObjectBuilder::new().schema_type(Type::Integer).build()))
            .description(Some("seconds until it is worth another try"));
        response.headers.insert("Retry-After".to_owned(), seconds.build().into());
    }
}

fn problem(description: &str) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new().description(description).content("application/problem+json", content).build()
}
