//! The error responses of the contract, derived from what a route takes, and the security scheme.

use std::collections::BTreeMap;

use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Ref, Schema, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{HttpMethod, OpenApi, RefOr, Response};

type Schemas = BTreeMap<String, RefOr<Schema>>;

/// Completes the contract that the handlers declare.
pub fn complete(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
        "A key of `segue keys create`. Not needed if the server listens on a loopback address, or with `--auth off`.",
    ));
    components.add_security_scheme("key", SecurityScheme::Http(scheme.build()));
    for (path, item) in &mut document.paths.paths {
        let operations = [
            (HttpMethod::Get, &mut item.get),
            (HttpMethod::Put, &mut item.put),
            (HttpMethod::Post, &mut item.post),
            (HttpMethod::Patch, &mut item.patch),
            (HttpMethod::Delete, &mut item.delete),
        ];
        for (method, operation) in operations {
            let Some(operation) = operation else { continue };
            if path.starts_with("/health/") {
                operation.security = Some(Vec::new());
                continue;
            }
            let is_read = method == HttpMethod::Get;
            for (status, description) in problems(path, method, operation, &components.schemas) {
                let is_temporary = matches!(status, "429" | "503");
                let response = problem(&description, is_temporary);
                operation.responses.responses.entry(status.to_owned()).or_insert(RefOr::T(response));
            }
            let success = operation.responses.responses.get("200");
            let has_tag = matches!(success, Some(RefOr::T(response)) if response.headers.contains_key("ETag"));
            if has_tag && is_read {
                let description = "The client has the current state: If-None-Match names its entity tag";
                let response = ResponseBuilder::new().description(description).build();
                operation.responses.responses.insert("304".to_owned(), RefOr::T(response));
            }
        }
    }
}

/// Returns status and description of each error that follows from what an operation takes.
fn problems(
    path: &str,
    method: HttpMethod,
    operation: &Operation,
    schemas: &Schemas,
) -> BTreeMap<&'static str, String> {
    let parameters = operation.parameters.iter().flatten();
    let parameters: Vec<&Parameter> = parameters
        .filter_map(|parameter| match parameter {
            RefOr::T(parameter) => Some(parameter),
            RefOr::Ref(_) => None,
        })
        .collect();
    let has = |name: &str| parameters.iter().any(|parameter| parameter.name == name);
    // The id of something that may be new has a schema of its own.
    let has_new_id = parameters.iter().any(|parameter| {
        let has_id = matches!(&parameter.schema, Some(RefOr::Ref(schema)) if schema.ref_location.ends_with("/Id"));
        has_id && parameter.parameter_in == ParameterIn::Path
    });
    let has_query = parameters.iter().any(|parameter| parameter.parameter_in == ParameterIn::Query);
    let has_body = operation.request_body.is_some();
    let creates = method == HttpMethod::Post && operation.responses.responses.contains_key("201");
    let names_version = has("version") || body_names_version(operation, schemas);
    let causes = [
        (has_body, "400", "Malformed JSON"),
        (!parameters.is_empty(), "400", "A path or query that is not UTF-8"),
        (true, "401", "Missing or invalid API key, if the server requires one"),
        (true, "403", "The API key lacks the required scope, or a web page of a foreign origin sent the request"),
        (!has_new_id && path.starts_with("/tracks/{id}"), "404", "Unknown track"),
        (!has_new_id && path.starts_with("/playlists/{id}"), "404", "Unknown playlist"),
        (!has_new_id && path == "/users/{id}", "404", "Unknown user"),
        (path.contains("{kind}"), "404", "Unknown kind of model"),
        (has("cursor"), "404", "Unknown cursor"),
        (names_version, "404", "Unknown model version"),
        (creates, "409", "The id exists already, or a track is not in the catalog"),
        (has("If-Match"), "409", "Another request changed it at the same time, or what the body names does not exist"),
        (names_version, "409", "The model version is damaged, or can't be activated"),
        (has("If-Match") || has("If-None-Match"), "412", "The current state is not the one that the request names"),
        (has_body, "413", "The body is too large"),
        (has_body, "415", "The body is not declared as JSON, or has an unknown encoding"),
        (true, "421", "The request names another host, if the server requires no API key"),
        (has_body, "422", "An invalid field"),
        (has_query, "422", "An invalid query parameter"),
        (has_new_id, "422", "An invalid id"),
        (true, "429", "Rate limit exceeded"),
        (true, "500", "Internal error"),
        (true, "503", "The catalog is unavailable, no model is loaded, or the server is overloaded"),
    ];
    let mut problems: BTreeMap<&str, String> = BTreeMap::new();
    for (_, status, cause) in causes.into_iter().filter(|(applies, ..)| *applies) {
        let description = problems.entry(status).or_default();
        *description += if description.is_empty() { "" } else { "; " };
        *description += cause;
    }
    problems
}

/// Returns whether the body has the field `version`.
fn body_names_version(operation: &Operation, schemas: &Schemas) -> bool {
    let Some(RefOr::T(body)) = &operation.request_body else { return false };
    body.content.values().any(|content| {
        let RefOr::T(content) = content else { return false };
        content.schema.as_ref().is_some_and(|schema| has_version(schema, schemas))
    })
}

fn has_version(schema: &RefOr<Schema>, schemas: &Schemas) -> bool {
    match schema {
        RefOr::Ref(schema) => {
            let name = schema.ref_location.rsplit('/').next().unwrap_or_default();
            schemas.get(name).is_some_and(|schema| has_version(schema, schemas))
        }
        RefOr::T(Schema::OneOf(optional)) => optional.items.iter().any(|schema| has_version(schema, schemas)),
        RefOr::T(Schema::Object(object)) => object.properties.contains_key("version"),
        RefOr::T(_) => false,
    }
}

/// Returns a problem document; a temporary one says when to retry.
fn problem(description: &str, is_temporary: bool) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = ResponseBuilder::new().description(description).content("application/problem+json", content);
    if !is_temporary {
        return response.build();
    }
    let seconds = HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::Integer).build()))
        .description(Some("seconds after which to retry"));
    response.header("Retry-After", seconds.build()).build()
}
